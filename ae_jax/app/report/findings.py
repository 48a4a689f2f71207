"""The findings that a report shows, computed by the trained model."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...checks import labelled
from ...core import Algorithm, Key, Params, address
from ...distributions.sums import squared_error
from ...evaluation import aggregate, diagnosis, dictionaries, drawn, pca, walks
from ...evaluation.diagnosis import Sentence
from ...evaluation.samplers import Fitted
from ...evaluation.samples import frechet_distance
from .. import plots
from .chunks import CHUNK, chunks, spread

FEATURES, COMPARED = 64, 10_000  # for distances of samples: principal components of x, and the most examples
MEASURED = 1000  # examples, at most, that are decoded from fewer of their active units
UNITS = 10  # units of a code, at most, that are shown one by one
STEPS, REACH = 10, 2.0  # of a traversal: pictures, and deviations on both sides of a unit's mean
COMPONENTS = 40  # components of a prior, at most, that are shown
PRIOR = 2000  # codes, at most, and as many draws from the prior


class Ranked(NamedTuple):
    """Examples of the test set in the order of their errors."""

    indices: np.ndarray  # [n], into the test set
    originals: np.ndarray  # [n, *shape]
    reconstructions: np.ndarray  # [n, *shape]


class Walk(NamedTuple):
    """The decoded codes of a grid."""

    pictures: np.ndarray  # [R, C, *shape]; the first row is the end of `up`
    across: plots.Limits  # of the first axis
    up: plots.Limits  # of the second axis; unused if R is 1


class Traversals(NamedTuple):
    """The decoded codes of one example with one unit changed at a time, the most used unit first."""

    pictures: np.ndarray  # [U, STEPS, *shape]
    units: np.ndarray  # [U]
    weights: np.ndarray  # [U], of the units in this order, the largest first
    by: str  # the name of the weights


class Drawn(NamedTuple):
    """Draws from the prior, and codes; these are draws from their posteriors, if the member has posteriors."""

    prior: np.ndarray  # [N, K]
    codes: np.ndarray  # [N, K]


class Components(NamedTuple):
    """The decoded centres of a prior's components, the most used first."""

    pictures: np.ndarray  # [C, *shape]
    shares: np.ndarray  # [C], of the test examples
    number: int  # of all components


class Use(NamedTuple):
    """A symbol of a discrete code at the place where it occurs most."""

    symbol: int
    place: int  # of the vector in a code
    share: float  # of the test examples with this symbol there
    effect: np.ndarray | None  # [*shape], the change of the decoded mean code by the symbol's vector
    examples: np.ndarray  # [n, *shape], with this symbol there; repeated if fewer than n have it


class SymbolFindings(NamedTuple):
    """The symbols of a discrete code over the test set."""

    shares: list[np.ndarray]  # for each of a vector's L symbols, the shares of the values in use, falling
    perplexities: list[float]  # [L], exp of the entropy of these shares
    sizes: tuple[int, ...]  # [L], the size of each alphabet
    uses: list[Use]  # of the commonest values of a vector's first symbol


class Compared(NamedTuple):
    """Samples by several distributions of codes."""

    pictures: Mapping[str, np.ndarray]  # sampler -> [n, *shape]
    distances: Mapping[str, float]  # sampler, or "training examples" -> Frechet distance to the test examples
    features: int  # principal components of the training examples, in which distances are measured
    examples: int  # on each side of a distance


class ActiveUnits(NamedTuple):
    """The active units of sparse codes on the test set."""

    density: np.ndarray  # [K], share of the examples for which a unit is active
    counts: np.ndarray  # [N], active units of an example
    units: np.ndarray  # [M], some of them, from the densest to the rarest
    examples: list[np.ndarray]  # for each of `units`, the indices of the test examples that excite it most
    originals: list[np.ndarray]  # for each of `units`, these examples [n, *shape]
    features: np.ndarray | None  # [M, *shape], the change of the decoded zero code by each of `units`
    kept: np.ndarray  # [P], numbers of units that an example keeps, its largest
    fvu: np.ndarray  # [P], fraction of variance unexplained with so many units; empty if not measured


class Findings(NamedTuple):
    """The content of a report. Arrays are on the host, and of the first seed."""

    title: str
    settings: dict[str, Any]  # may be nested
    results: dict[str, Any]  # as in results.json
    history: list[dict[str, Any]]  # as in log.jsonl
    originals: np.ndarray  # [n, *shape], drawn at random from the test set
    codes: np.ndarray  # [N, K]
    account: Sequence[Sentence] = ()  # the course of the run in words; see `account`
    codeless: bool = False  # samples are drawn without a code, as by MADE
    of_prior: bool = True  # whether samples are decoded draws of codes from a prior
    moments: bool = False  # whether codes have Gaussian posteriors
    kl: np.ndarray | None = None  # [K], of each unit to the prior N(0, I), in nats
    traversals: Traversals | None = None
    drawn: Drawn | None = None
    components: Components | None = None
    # None or {} if the decoder learns nothing; so is `walk`:
    reconstructions: np.ndarray | None = None  # [n, *shape], of `corrupted` where there is one
    errors: np.ndarray | None = None  # [N], ||x_hat - x||^2 of every test example, summed over dimensions
    ranked: Mapping[str, Ranked] = {}  # "worst", "median" and "best" by error
    corrupted: np.ndarray | None = None  # [n, *shape], as training saw them
    samples: np.ndarray | None = None  # [n, *shape]
    compared: Compared | None = None  # if samplers were fitted
    walk: Walk | None = None
    labels: np.ndarray | None = None  # [N]
    classes: tuple[str, ...] = ()  # the names of the labels, if they have names
    vocabulary: tuple[str, ...] = ()  # of documents [V]: what x counts
    features: np.ndarray | None = None  # [M, *shape] or convolution kernels [M, h, w, C]; the largest
    units: int = 0  # the number of all features of the first layer
    activations: np.ndarray | None = None  # [K], means over the test set, for units with a resting value
    symbols: SymbolFindings | None = None  # of a discrete code
    active: ActiveUnits | None = None  # of sparse codes

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a table's columns; () for other data."""
        return tuple((self.settings.get("data_options") or {}).get("columns") or ())


def gather(
    title: str,
    settings: dict[str, Any],
    results: dict[str, Any],
    history: list[dict[str, Any]],
    algorithm: Algorithm,
    params: Params,
    dataset: Any,
    key: Key,
    classes: Sequence[str] = (),
    vocabulary: Sequence[str] = (),
    samplers: Mapping[Any, Fitted] = {},
) -> Findings:
    """Runs one trained model (the `params` of one seed) on `dataset.test`, some hundred examples at a time.

    `samplers` fitted to its codes are compared with each other and with examples of `dataset.train`. All random choices
    (examples, corruption, samples) are functions of `key`. `classes` names the labels 0, 1, and so on, if they have
    names. `vocabulary` names the words that documents count. Raises ValueError for an empty test set.
    """
    key_choice, key_corrupt, key_sample = jax.random.split(key, 3)
    x, y = dataset.test.x, dataset.test.y
    count, shape = len(x), x.shape[1:]
    if not count:
        raise ValueError("the test set is empty: a report needs at least one example to show")

    @jax.jit
    def look(params: Params, x: jax.Array) -> tuple[jax.Array, ...]:
        z = algorithm.encode(params, x)
        return (z, squared_error(algorithm.reconstruct(params, x), x)) if algorithm.decodes else (z,)

    reconstruct = jax.jit(algorithm.reconstruct)
    decode = jax.jit(algorithm.decode)

    def pick(indices: np.ndarray) -> np.ndarray:
        return np.asarray(x[indices])

    codes, *errors = chunks(lambda part: look(params, part), x)
    wide = plots.columns(shape)
    chosen = np.asarray(jax.random.permutation(key_choice, count)[: 2 * wide])
    originals = pick(chosen)
    corrupted = (
        None if algorithm.corrupt is None else np.asarray(algorithm.corrupt(jnp.asarray(originals), key_corrupt))
    )

    def rank(indices: np.ndarray) -> Ranked:
        return Ranked(indices, pick(indices), np.asarray(reconstruct(params, pick(indices))))

    def decoded() -> dict[str, Any]:
        return {
            "reconstructions": np.asarray(reconstruct(params, originals if corrupted is None else corrupted)),
            "errors": errors[0],
            "ranked": {name: rank(i) for name, i in plots.extremes(errors[0], min(8, wide)).items()},
            "walk": _walk(lambda z: decode(params, z), codes, shape),
        }

    codeless = algorithm.sample is not None and algorithm.sample is algorithm.draw
    symbols = _symbols(algorithm, params, x, codes, decode if algorithm.decodes else None, wide)
    active = None
    if sparse(codes) and symbols is None:
        few = np.unique(np.linspace(0, count - 1, min(count, MEASURED)).astype(int))
        whole = algorithm.decodes and np.allclose(
            decode(params, codes[chosen]), reconstruct(params, originals), rtol=1e-4, atol=1e-4
        )
        run_decoder = lambda z: chunks(lambda part: (decode(params, part),), z)[0]
        active = _active_units(codes, pick, codes[few], pick(few), run_decoder if whole else None)
    stats = None
    if algorithm.moments is not None and np.isfinite(codes).all():
        moments = jax.jit(algorithm.moments)
        (stats,) = chunks(lambda part: (moments(params, part),), spread(x, PRIOR))
    log_prior = None if algorithm.prior is None else algorithm.prior.log_prob
    standard = stats is not None and log_prior is not None and aggregate.is_standard(log_prior, params, codes.shape[1])
    ranges = walks.units(codes, stats, REACH, by_kl=standard)
    units = None
    if algorithm.decodes and not (codeless or symbols or active or diagnosis.binary(codes)) and codes.shape[1] > 2:
        units = _traversals(lambda z: decode(params, z), codes, ranges)
    first, number = first_layer(params, shape)
    compared = compare(algorithm, params, dataset, samplers, address(key, "samplers")) if samplers else None
    found = Findings(
        title=title,
        settings=settings,
        results=results,
        history=history,
        originals=originals,
        codes=codes,
        codeless=codeless,
        of_prior=algorithm.prior is not None,
        moments=stats is not None,
        kl=ranges.worth if ranges.by_kl else None,
        traversals=units,
        drawn=_drawn(algorithm, params, codes, stats, address(key, "prior")),
        components=_components(algorithm, params, x, codes, shape) if algorithm.decodes else None,
        **(decoded() if algorithm.decodes else {}),
        corrupted=corrupted,
        samples=None if algorithm.sample is None else drawn(algorithm, params, key_sample, min(8, wide) ** 2),
        compared=compared,
        labels=None if y is None or np.ndim(y) != 1 or not labelled(y).any() else np.asarray(y),
        classes=tuple(classes),
        vocabulary=tuple(vocabulary),
        features=first,
        units=number,
        activations=codes.mean(0) if can_rest(codes) else None,
        active=active,
        symbols=symbols,
    )
    if codeless:
        found = found._replace(walk=None)
    return found


def _symbols(
    algorithm: Algorithm, params: Params, x: Any, codes: np.ndarray, decode: Callable[..., Any] | None, wide: int
) -> SymbolFindings | None:
    """The frequencies of symbols, and the uses of the commonest ones; None for a code that is not discrete.

    The effect of a symbol at a place is the change of the decoded mean code when that place gets the symbol's vector.
    If vectors have several symbols, this is the mean of the vectors with this first symbol.
    """
    of = algorithm.symbols
    if of is None or not (levels := len(algorithm.alphabet)):
        return None
    look = jax.jit(of)
    (symbols,) = chunks(lambda part: (look(params, part),), x)  # [N, P L]
    each = [np.unique(symbols[:, n::levels], return_counts=True) for n in range(levels)]
    shares = [np.sort(count)[::-1] / count.sum() for _, count in each]
    first, (known, count) = symbols[:, ::levels], each[0]
    vectors, uses = codes.reshape(*first.shape, -1), []  # [N, P, D]
    for symbol in known[np.argsort(-count, kind="stable")[:8]]:
        there = first == symbol
        place = int(there.sum(0).argmax())
        users = np.flatnonzero(there[:, place])
        effect = None
        if decode is not None:
            mean = vectors.mean(0)
            changed = mean.copy()
            changed[place] = vectors[users, place].mean(0)
            both = np.asarray(decode(params, np.stack([changed, mean]).reshape(2, -1)))
            effect = both[0] - both[1]
        shown = np.resize(users[np.linspace(0, len(users) - 1, min(wide, len(users))).astype(int)], wide)
        share, users_shown = len(users) / len(first), np.asarray(x[shown])
        uses.append(Use(symbol=int(symbol), place=place, share=share, effect=effect, examples=users_shown))
    even = [float(np.exp(-(s * np.log(s)).sum())) for s in shares]
    return SymbolFindings(shares=shares, perplexities=even, sizes=algorithm.alphabet, uses=uses)


def _traversals(decode: Callable[[jax.Array], jax.Array], codes: np.ndarray, found: walks.Units) -> Traversals:
    """Traversals of the most used units over their ranges, from the example whose code is nearest to the mean code."""
    order = found.order[:UNITS]
    base = codes[np.square(codes - codes.mean(0)).sum(1).argmin()]
    grid = np.stack([walks.along(base, k, np.linspace(found.low[k], found.high[k], STEPS)) for k in order])
    (pictures,) = chunks(lambda part: (decode(part),), grid.reshape(-1, codes.shape[1]))
    shape = (len(order), STEPS, *pictures.shape[1:])
    by = "KL" if found.by_kl else "variance"
    return Traversals(pictures=pictures.reshape(shape), units=order, weights=found.worth[order], by=by)


def _drawn(algorithm: Algorithm, params: Params, codes: np.ndarray, stats: np.ndarray | None, key: Key) -> Drawn | None:
    """Draws from the prior, and codes; None for a member without a prior."""
    if algorithm.prior is None:
        return None
    key_prior, key_posterior = address(key, "draws"), address(key, "posterior")
    count = min(len(codes), PRIOR)
    prior = np.asarray(algorithm.prior.draw(params, key_prior, count, jnp.float32))
    if stats is None:
        return Drawn(prior, spread(codes, PRIOR))
    mean, logvar = np.split(stats, 2, -1)
    noise = np.asarray(jax.random.normal(key_posterior, mean.shape))
    return Drawn(prior, mean + np.exp(0.5 * logvar) * noise)


def _components(
    algorithm: Algorithm, params: Params, x: Any, codes: np.ndarray, shape: tuple[int, ...]
) -> Components | None:
    """The decoded centres of a prior's components, with their shares of the test examples; None without centres.

    A test example belongs to its predicted cluster, or to the centre nearest to its code.
    """
    if algorithm.prior is None or algorithm.prior.centres is None:
        return None
    centres = np.asarray(algorithm.prior.centres(params))
    if algorithm.predict is not None and algorithm.classes is None:
        (own,) = chunks(lambda part: (jax.jit(algorithm.predict)(params, part),), x)  # type: ignore[arg-type]
    else:
        own = np.concatenate(
            [
                np.square(part[:, None] - centres).sum(-1).argmin(1)
                for part in np.array_split(codes, -(-len(codes) // CHUNK))
            ]
        )
    shares = np.bincount(own, minlength=len(centres)) / len(own)
    order = np.argsort(-shares, kind="stable")[:COMPONENTS]
    (pictures,) = chunks(lambda part: (jax.jit(algorithm.decode)(params, part),), centres[order])
    return Components(pictures=pictures, shares=shares[order], number=len(centres))


def compare(
    algorithm: Algorithm, params: Params, dataset: Any, samplers: Mapping[Any, Fitted], key: Key
) -> Compared | None:
    """Samples by the member's own prior, if it has one, and by each sampler, with their distances to the test set.

    None if there are fewer than two examples, or if the decoder learns nothing.
    """
    train, test = (spread(part.x, COMPARED) for part in (dataset.train, dataset.test))
    count = min(len(train), len(test))
    if count < 2 or not algorithm.decodes:
        return None
    fitted = pca.fit(jnp.asarray(train), FEATURES)
    project = jax.jit(lambda x: pca.encode(fitted, x))
    features = lambda x: chunks(lambda part: (project(part),), x)[0]
    decode, made = jax.jit(algorithm.decode), {}
    if algorithm.sample is not None:
        own = jax.jit(algorithm.sample, static_argnums=2)
        parts = [own(params, address(key, "own", i), min(CHUNK, count)) for i in range(-(-count // CHUNK))]
        made["its own prior"] = np.concatenate([np.asarray(x) for x in parts])[:count]
    for name, (of_sampler, prior) in samplers.items():
        draw = jax.jit(lambda own, key, prior=prior: prior.draw(own, key, count, jnp.float32))
        z = draw(of_sampler, address(key, "sampler", name))
        (made[name],) = chunks(lambda part: (decode(params, part),), z)
    seen = features(spread(test, count))
    made["training examples"] = spread(train, count)  # the reference for samplers
    distances = {name: frechet_distance(features(x), seen) for name, x in made.items()}
    wide = plots.columns(test.shape[1:])
    return Compared(
        pictures={name: spread(x, wide) for name, x in made.items()},
        distances=distances,
        features=len(fitted.components),
        examples=count,
    )


def sparse(codes: np.ndarray) -> bool:
    """Whether codes are sparse: no number is negative, more than half are 0, and there are more than two values."""
    return bool(codes.min() >= 0 and 0 < (codes > 0).mean() < 0.5 and len(np.unique(codes[:100])) > 2)


def _active_units(
    codes: np.ndarray,
    pick: Callable[[np.ndarray], np.ndarray],
    z: np.ndarray,
    x: np.ndarray,
    decode: Callable[[Any], np.ndarray] | None,
) -> ActiveUnits:
    """The active units of `codes`. `pick` gives test examples by index; `z` and `x` are the codes and examples for FVU.

    Without `decode` no effects of units and no FVU are measured.
    """
    share = (codes > 0).mean(0)
    alive = np.argsort(-share, kind="stable")[: int((share > 0).sum())]
    units = alive[np.unique(np.linspace(0, len(alive) - 1, min(len(alive), UNITS)).astype(int))]
    examples = [dictionaries.most_active(codes, unit) for unit in units]
    counts = (codes > 0).sum(1)
    most = int(counts.max())
    effects = None
    if decode is not None:
        alone = np.zeros((len(units) + 1, codes.shape[1]), codes.dtype)
        alone[np.arange(len(units)), units] = codes[:, units].max(0)
        pictures = decode(alone)
        effects = pictures[:-1] - pictures[-1]
    kept = np.unique(np.geomspace(1, most, 12).round().astype(int))
    return ActiveUnits(
        density=share,
        counts=counts,
        units=units,
        examples=examples,
        originals=[pick(index) for index in examples],
        features=effects,
        kept=kept if decode else np.empty(0, int),
        fvu=dictionaries.fvu_of_largest(decode, z, x, kept) if decode else np.empty(0),
    )


def first_layer(params: Params, shape: Sequence[int]) -> tuple[np.ndarray | None, int]:
    """The features of an encoder's first layer, up to 100 with the largest weights, and the number of all features.

    For a kernel [D, K] of the D inputs, features [M, *shape] are w_i / ||w_i||, the input of unit norm that excites
    unit i most (for an affine layer: maximise w.x subject to ||x|| = 1). For a convolution of grey or colour images,
    features are its kernels [M, h, w, C]. For other layers the result is (None, 0).
    """

    def natural(path: Any) -> list[Any]:  # layer_2 before layer_10
        return [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", jax.tree_util.keystr(path))]

    leaves = sorted(jax.tree_util.tree_flatten_with_path(params.get("encoder"))[0], key=lambda leaf: natural(leaf[0]))
    # names give the order within a kind of layer; an encoder with convolutions begins with a convolution
    kernels = [np.asarray(w) for d in (4, 2) for _, w in leaves if w.ndim == d]
    if not kernels:
        return None, 0
    kernel = kernels[0]
    if kernel.ndim == 2 and len(kernel) == np.prod(shape):
        norms = np.linalg.norm(kernel, axis=0)
        rows = (kernel / np.where(norms == 0, 1, norms)).T.reshape(-1, *shape)
    elif kernel.ndim == 4 and plots.is_image(shape) and kernel.shape[2] == shape[-1]:
        rows = kernel.transpose(3, 0, 1, 2)
        norms = np.linalg.norm(rows.reshape(len(rows), -1), axis=1)
    else:
        return None, 0
    small = plots.is_image(rows.shape[1:]) and max(rows.shape[1:3]) <= 32
    most = 100 if small else 5 * plots.columns(rows.shape[1:])
    return rows[np.argsort(-norms, kind="stable")[:most]], len(rows)


def can_rest(codes: np.ndarray) -> bool:
    """Whether units have a resting value: 0 if no number is negative, or -1 for numbers in [-1, 1] (tanh)."""
    low, high = codes.min(), codes.max()
    return bool(low >= 0 or (-1 <= low < -0.9 and high <= 1))


def _walk(decode: Callable[[jax.Array], jax.Array], codes: np.ndarray, shape: tuple[int, ...]) -> Walk:
    """Decoded codes of a grid, from the 2nd to the 98th percentile of the codes along both axes of `plots.plane`."""
    where = plots.plane(codes)
    low, high = np.percentile(where.coordinates(codes), [2, 98], axis=0)
    flat = high - low < 1e-6  # a collapsed direction: extend it by 1 on both sides
    low, high = np.where(flat, low - 1, low), np.where(flat, high + 1, high)
    small = plots.is_image(shape) and max(shape[:2]) <= 32
    side = 12 if small else min(8, plots.columns(shape))
    across = np.linspace(low[0], high[0], side)
    if codes.shape[1] == 1:
        z, up = across[None, :, None], (0.0, 0.0)
    else:
        z = np.stack(np.meshgrid(across, np.linspace(high[1], low[1], side)), -1)  # [R, C, 2]
        up = (float(low[1]), float(high[1]))
    grid = where.codes(z).astype(codes.dtype)
    (pictures,) = chunks(lambda part: (decode(part),), grid.reshape(-1, codes.shape[1]))
    return Walk(pictures.reshape(*grid.shape[:2], *shape), (float(low[0]), float(high[0])), up)
