"""One page that shows what a run learned: `gather` looks at the trained model, `write` lays it out.

The page is one self-contained file, opened by double click, without scripts; each picture is also a PNG.
"""

import base64
import html
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import labelled
from ..core import LABELLED, Algorithm, Key, Params
from ..data.disk import write_atomically
from ..distributions.sums import squared_error
from ..errors import first_line
from ..evaluation import METRICS, describe
from . import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK = 500  # examples that go through the network at once

# As training reports them, where `evaluation.describe` does not know them or means another thing.
TRAINING: dict[str, str] = {"loss": "what training minimises", "beta": "weight of the KL in that epoch"}


class Ranked(NamedTuple):
    """Examples of the test set in the order of their errors."""

    indices: np.ndarray  # [n], into the test set
    originals: np.ndarray  # [n, *shape]
    reconstructions: np.ndarray  # [n, *shape]


class Walk(NamedTuple):
    """What codes on a grid decode to."""

    pictures: np.ndarray  # [R, C, *shape]; the first row is the end of `up`
    across: plots.Limits  # of the first axis
    up: plots.Limits  # of the second; unused where R is 1


class Findings(NamedTuple):
    """Everything a report shows. Arrays are on the host, and of the first seed."""

    title: str
    settings: dict[str, Any]  # may be nested
    results: dict[str, Any]  # as in results.json
    history: list[dict[str, Any]]  # as in log.jsonl
    originals: np.ndarray  # [n, *shape], drawn at random from the test set
    codes: np.ndarray  # [N, K]
    # None and {} where the decoder learns nothing, as `walk` is:
    reconstructions: np.ndarray | None = None  # [n, *shape], of `corrupted` where there is one
    errors: np.ndarray | None = None  # [N], ||x_hat - x||^2 of every test example, summed over dimensions
    ranked: Mapping[str, Ranked] = {}  # "worst", "median" and "best" by error
    corrupted: np.ndarray | None = None  # [n, *shape], as training saw them
    samples: np.ndarray | None = None  # [n, *shape]
    walk: Walk | None = None
    labels: np.ndarray | None = None  # [N]
    classes: tuple[str, ...] = ()  # their names, where they have some
    vocabulary: tuple[str, ...] = ()  # of documents [V]: what x counts
    features: np.ndarray | None = None  # [M, *shape] or convolution kernels [M, h, w, C]; the largest
    units: int = 0  # how many there are of them
    activations: np.ndarray | None = None  # [K], the mean over the test set, for units that can rest


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
) -> Findings:
    """Runs one trained model (one seed's `params`) on `dataset.test`, some hundred examples at a time.

    What is drawn at random (examples, corruption, samples) is a function of `key`.
    `classes` names the labels 0, 1, and so on, where they have names; `vocabulary` the words that documents count.
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

    codes, *errors = _chunks(lambda part: look(params, part), x)
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

    sample = None if algorithm.sample is None else jax.jit(algorithm.sample, static_argnums=2)
    features, units = first_layer(params, shape)
    return Findings(
        title=title,
        settings=settings,
        results=results,
        history=history,
        originals=originals,
        codes=codes,
        **(decoded() if algorithm.decodes else {}),
        corrupted=corrupted,
        samples=None if sample is None else np.asarray(sample(params, key_sample, min(8, wide) ** 2)),
        labels=None if y is None or np.ndim(y) != 1 or not labelled(y).any() else np.asarray(y),
        classes=tuple(classes),
        vocabulary=tuple(vocabulary),
        features=features,
        units=units,
        activations=codes.mean(0) if can_rest(codes) else None,
    )


def first_layer(params: Params, shape: Sequence[int]) -> tuple[np.ndarray | None, int]:
    """The features of an encoder's first layer, up to 100 with the largest weights, and how many there are.

    Where the first kernel has a row for each of the D inputs, w_i / ||w_i||: the input of unit norm that excites
    unit i most, [M, *shape] (for an affine layer: maximise w.x subject to ||x|| = 1). For a convolution of grey
    or colour images its kernels, [M, h, w, C]. (None, 0) for anything else.
    """

    def natural(path: Any) -> list[Any]:  # layer_2 before layer_10
        return [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", jax.tree_util.keystr(path))]

    leaves = sorted(jax.tree_util.tree_flatten_with_path(params.get("encoder"))[0], key=lambda leaf: natural(leaf[0]))
    # names tell the order within a kind; an encoder with convolutions begins with one
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
    """Whether the units have a resting value: never negative (0), or within [-1, 1] and down at -1 (tanh)."""
    low, high = codes.min(), codes.max()
    return bool(low >= 0 or (-1 <= low < -0.9 and high <= 1))


def _walk(decode: Callable[[jax.Array], jax.Array], codes: np.ndarray, shape: tuple[int, ...]) -> Walk:
    """From the 2nd to the 98th percentile of the codes along both axes of `plots.plane`."""
    where = plots.plane(codes)
    low, high = np.percentile(where.coordinates(codes), [2, 98], axis=0)
    flat = high - low < 1e-6  # a collapsed direction: a step of one to both sides
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
    (pictures,) = _chunks(lambda part: (decode(part),), grid.reshape(-1, codes.shape[1]))
    return Walk(pictures.reshape(*grid.shape[:2], *shape), (float(low[0]), float(high[0])), up)


def _chunks(fn: Callable[[Any], tuple[jax.Array, ...]], x: Any, size: int = CHUNK) -> tuple[np.ndarray, ...]:
    """`fn` on parts of x of one size, so that it compiles once: the last part overlaps, and is cut."""
    count, parts = len(x), []
    size = min(size, count)
    for first in range(0, count, size):
        start = min(first, count - size)
        parts.append([np.asarray(a)[first - start :] for a in fn(x[start : start + size])])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


# --------------------------------------------------------------------------------------------------- pictures


class Picture(NamedTuple):
    """A figure, the name of its file, and what one sees and should look for."""

    name: str
    draw: Callable[[], "Figure"]
    caption: str
    kind: str = "examples"  # or "chart": charts stand side by side where there is room


class Listing(NamedTuple):
    """A table of words, which says of documents what a picture says of images."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    kind: str = "listing"


class Section(NamedTuple):
    """A part of the page."""

    heading: str
    lead: str  # a sentence that holds for all its pictures
    pictures: Iterable[Picture | Listing]


def sections(f: Findings) -> list[Section]:
    """The report's pictures by section; each is made when it is iterated over."""
    seeds = f.results.get("seeds") or [0]
    of = f"Of seed {seeds[0]}, on the test set." if len(seeds) > 1 else "On the test set."
    curves = "Mean over the seeds at each epoch, the 95% interval of that mean shaded." if len(seeds) > 1 else ""
    return [
        Section("Learning", curves, _learning(f)),
        Section("Reconstruction", of, _reconstruction(f)),
        Section("Samples", "", _samples(f)),
        Section("The code", of, _code(f)),
        Section("Features", "", _features(f)),
    ]


def _learning(f: Findings) -> Iterator[Picture]:
    seeds = len(f.results.get("seeds") or [0])
    parts = [part for part in ("train", "validation") if any(row.get(part) for row in f.history)]
    for metric in _ordered({name for row in f.history for part in parts for name in row.get(part) or {}} - {LABELLED}):
        series = {}
        for part in parts:
            rows = [(row.get(part) or {}).get(metric) for row in f.history]
            if any(row is not None for row in rows):
                values = [np.full(seeds, np.nan) if row is None else np.broadcast_to(row, seeds) for row in rows]
                series[part] = np.array(values, float)  # [E, S]
        meaning = TRAINING.get(metric) or describe(metric)
        caption = f"{metric}: {meaning}." if meaning else f"{metric}."
        draw = partial(plots.curve, [row["epoch"] for row in f.history], series, metric)
        yield Picture(f"curve_{_file(metric)}", draw, caption, "chart")


def _reconstruction(f: Findings) -> Iterator[Picture | Listing]:
    made, errors = f.reconstructions, f.errors
    if made is None or errors is None:
        return
    if f.vocabulary:
        yield from _rewritten(f, made, errors)
        yield _spread(errors)
        return
    shape = f.originals.shape[1:]
    image = plots.is_image(shape)
    bounds = plots.limits(f.originals)
    scale = "" if bounds == (0.0, 1.0) or not image else f" Mid-grey is zero; black and white are ∓{bounds[1]:.3g}."
    how = "above" if image else "under"
    if f.corrupted is None:
        caption = f"Test examples, drawn at random, {how} what the network makes of them from their codes."
    else:
        caption = (
            f"Test examples, drawn at random; the same, corrupted as in training; and {'below' if image else 'over'} "
            "them what the network makes of the corrupted ones. Look for what it removes, and what it invents."
        )
    draw = partial(plots.reconstructions, f.originals, made, f.corrupted, bounds)
    yield Picture("reconstructions", draw, caption + scale)
    clean = "" if f.corrupted is None else " The inputs here are clean."
    draw = partial(
        plots.ranked,
        {name: group.originals for name, group in f.ranked.items()},
        {name: group.reconstructions for name, group in f.ranked.items()},
        {name: errors[group.indices] for name, group in f.ranked.items()},
        bounds,
    )
    yield Picture(
        "worst_median_best",
        draw,
        f"The worst, the median and the best of all {len(errors):,} test examples by squared error summed over an "
        f"example{', written below each pair' if image else ''}.{clean} The worst show what the code has no room "
        f"for: {'rare shapes, ' if image else 'rare, '}mislabelled or broken data.",
    )
    yield _spread(errors)


def _spread(errors: np.ndarray) -> Picture:
    """How the errors of the test set are distributed."""
    marks = {"median": float(np.median(errors)), "mean": float(np.mean(errors))}
    return Picture(
        "errors",
        partial(plots.histogram, errors, "error of each test example", "squared error, summed over an example", marks),
        "How errors spread over the test set. A long tail means that a few examples are hardly coded at all.",
        "chart",
    )


def words(vocabulary: Sequence[str], x: np.ndarray, most: int = 8) -> str:
    """The words that x [V] gives the most weight, in that order; those of weight 0 or less are no words of it."""
    order = np.argsort(-x, kind="stable")[:most]
    return ", ".join(str(vocabulary[i]) for i in order if x[i] > 0) or "(none)"


def _rewritten(f: Findings, made: np.ndarray, errors: np.ndarray) -> Iterator[Listing]:
    """Documents by their commonest words, beside the likeliest ones of what is made of their codes."""
    tell = lambda x: words(f.vocabulary, x)
    seen = [f.originals] if f.corrupted is None else [f.originals, f.corrupted]
    rows = [[tell(x) for x in row] for row in zip(*seen, made, strict=True)][:10]
    head = ["document", *(["as training saw it"] if f.corrupted is not None else []), "reconstruction"]
    yield Listing(head, rows, "Test documents, drawn at random: their commonest words, and the likeliest of each code.")
    rows = [
        [name, plots.number(float(errors[i])), tell(x), tell(x_hat)]
        for name, group in f.ranked.items()
        for i, x, x_hat in list(zip(*group, strict=True))[:3]
    ]
    told = f"The worst, the median and the best of all {len(errors):,} test documents by squared error summed over "
    yield Listing(
        ["", "error", "document", "reconstruction"],
        rows,
        f"{told}words. The worst show what the code has no room for: documents of few words, or of rare ones.",
    )


def _walked(f: Findings, walk: Walk, what: str) -> Listing:
    """At most five by five of a walk's cells, by their likeliest words."""
    rows, columns = (np.linspace(0, n - 1, min(n, 5)).round().astype(int) for n in walk.pictures.shape[:2])
    cells = [[words(f.vocabulary, walk.pictures[r, c], 4) for c in columns] for r in rows]
    head = [plots.number(v, 3) for v in np.linspace(*walk.across, walk.pictures.shape[1])[columns]]
    return Listing(
        head,
        cells,
        f"A walk in equal steps over {what}, from the 2nd to the 98th percentile of the test set's codes, decoded: the "
        "likeliest words. Columns go along the first axis, rows from top to bottom down the second.",
    )


def _samples(f: Findings) -> Iterator[Picture | Listing]:
    if f.samples is None:
        return
    if f.vocabulary:
        rows = [[words(f.vocabulary, x)] for x in f.samples[:10]]
        yield Listing(["new documents"], rows, "Codes drawn from the prior and decoded: the likeliest words of each.")
        return
    side = int(len(f.samples) ** 0.5)
    cells = f.samples[: side * side].reshape(side, side, *f.samples.shape[1:])
    bounds = plots.limits(f.originals) if plots.is_image(f.samples.shape[1:]) else None
    yield Picture(
        "samples",
        partial(plots.examples, cells, bounds),
        "New examples: codes drawn from the prior and decoded (the mean of p(x | z), no pixel noise). "
        "Look for variety and for shapes that belong to no class; compare with the test examples above.",
    )


def _code(f: Findings) -> Iterator[Picture | Listing]:
    size = f.codes.shape[1]
    what = {1: "the latent", 2: "the two latents"}.get(size, "the plane of the codes' two principal directions")
    if f.walk is not None and f.vocabulary:
        yield _walked(f, f.walk, what)
    elif f.walk is not None:
        bounds = plots.limits(f.originals)
        names = plots.axis_names(size)
        ends = [plots.number(v, 3) for v in (*f.walk.across, *f.walk.up)]
        axes = f" From {ends[0]} (left) to {ends[1]} (right)" + (
            f", {ends[2]} (bottom) to {ends[3]} (top)" * (size > 1)
        )
        axes = "" if plots.is_image(f.originals.shape[1:]) else f"{axes}."  # a picture of images has them on its axes
        yield Picture(
            "walk",
            partial(plots.walk, f.walk.pictures, f.walk.across, f.walk.up, names, bounds),
            f"A walk in equal steps over {what}, from the 2nd to the 98th percentile of the test set's codes, decoded."
            f"{axes} Neighbours should change smoothly; blurred or broken cells lie where there are no data.",
        )
    outline = None if f.walk is None or size == 1 else (f.walk.across, f.walk.up)
    labels = (
        ", coloured by label: classes that keep apart can be told apart from the code" if f.labels is not None else ""
    )
    if size == 1 and f.labels is not None:
        labels = ", each at the height of its label (spread a little so that points do not hide each other)"
    without = 0 if f.labels is None else int((~labelled(f.labels)).sum())
    labels += f"; {without:,} of {len(f.codes):,} have no label" * bool(without)
    seen = f"The codes of {min(len(f.codes), 5000):,} test examples{labels}."
    seen += "" if outline is None else " The dashed rectangle is what the walk covers."
    seen += "" if size <= 2 else " What looks mixed in two dimensions may be apart in the others."
    yield Picture("codes", partial(plots.scatter, f.codes, f.labels, outline, f.classes), seen, "chart")
    if f.activations is not None:
        yield Picture(
            "activations",
            partial(
                plots.histogram,
                f.activations,
                f"mean activation of the {size} units",
                "mean over the test set",
                {"mean": float(f.activations.mean())},
            ),
            "How active each unit of the code is on average. In a sparse code the bars crowd near the target; "
            "units at the resting value (0, or -1 for tanh) never fire and are dead.",
            "chart",
        )


def _features(f: Findings) -> Iterator[Picture | Listing]:
    if f.features is None:
        return
    dense = f.features.shape[1:] == f.originals.shape[1:]
    if f.vocabulary:
        rows = [[words(f.vocabulary, w), words(f.vocabulary, -w)] for w in f.features[:20]]
        told = f"Of {len(rows)} units of the first layer, those with the largest weights, of {f.units:,}"
        yield Listing(["excited by", "inhibited by"], rows, f"{told}: the words with the largest weights.")
        return
    shown = f"the {len(f.features)} with the largest weights of {f.units:,}" if len(f.features) < f.units else "all"
    what = "For each unit of the first layer, the input of unit norm that excites it most (w / ‖w‖)"
    image = plots.is_image(f.features.shape[1:])
    strokes = "Strokes, edges and spots are features of the data. " if image else ""
    scale = " Each is scaled by itself, mid-grey is zero." if image else " Each is scaled by itself."
    yield Picture(
        "features",
        partial(plots.features, f.features),
        f"{what if dense else 'The kernels of the first convolution'}; {shown}.{scale} "
        f"{strokes}What looks like noise has learned little.",
    )


# --------------------------------------------------------------------------------------------------- the page

STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --faint: #666c76; --paper: #fff; --line: #e2e4e8; --link: #1c5fa8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6ea; --faint: #9aa1ac; --paper: #16181c; --line: #33373f; --link: #7db4f0 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 58rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; -webkit-text-size-adjust: 100% }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .8rem; padding-top: .7rem; border-top: 1px solid var(--line) }
p { margin: .4rem 0; max-width: 44rem }
small, .faint, figcaption { color: var(--faint) }
nav { margin: .8rem 0 0 } nav a { margin-right: 1rem; white-space: nowrap }
a { color: var(--link) }
.scroll { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; min-width: 7.5rem } thead th { min-width: 0; color: var(--faint); font-weight: 500 }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr:has(+ .phrase) > * { border-bottom: 0; padding-bottom: 0 }
.phrase td { padding-top: 0; color: var(--faint); font-size: .82rem; line-height: 1.35 }
.phrase span { display: block; position: sticky; left: 0; max-width: calc(100vw - 2.2rem) }
td { overflow-wrap: anywhere } td.number { overflow-wrap: normal }
h2 + p { margin-bottom: .8rem }
details { margin: .8rem 0 } summary { cursor: pointer; color: var(--link) }
figure { margin: 0 0 1.4rem }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; padding: 8px;
  border: 1px solid var(--line) }
figcaption { font-size: .88rem; line-height: 1.45; margin-top: .45rem; max-width: 44rem }
.examples img { width: 42rem }
.charts { display: grid; gap: 0 1.6rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)) }
.charts img { width: 100%; max-width: 30rem }
@media print { body { max-width: none } figure { break-inside: avoid } }
"""


def write(findings: Findings, folder: str | os.PathLike[str], tell: Callable[[str], None] | None = None) -> Path:
    """Writes `report.html` and `pictures/*.png` under the folder, each whole or not at all; returns the page's path.

    With `tell`, an error in a part of the page becomes a line for `tell`, and the page has the other parts; without it
    the first error is raised.
    """
    folder = Path(folder)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    failed: dict[str, list[str]] = {}  # by reason

    def attempt(what: str, make: Callable[[], str]) -> str:
        """A part of the page, or the reason why it is missing."""
        try:
            return make()
        except Exception as error:  # drawing libraries raise errors of any kind
            if tell is None:
                raise
            reason = explained(error)
            failed.setdefault(reason, []).append(what)
            return f'<p class="faint">{_text(what)} could not be drawn: {_text(reason)}</p>'

    def shown(part: Picture | Listing) -> str:
        if isinstance(part, Listing):
            return _listing(part)
        png = _png(part.draw())
        write_atomically(folder / "pictures" / f"{part.name}.png", png)
        return _figure(part, png)

    path = folder / "report.html"
    write_atomically(path, page(findings, shown, attempt).encode(errors="backslashreplace"))
    for reason, parts in failed.items():
        assert tell is not None
        tell(f"{path} lacks {', '.join(parts)}, which could not be drawn: {reason}")
    return path


def explained(error: BaseException) -> str:
    """An error as one line."""
    said, kind = first_line(error), type(error).__name__
    return said if said == kind else f"{kind}: {said}"


def page(
    f: Findings, shown: Callable[[Picture | Listing], str], attempt: Callable[[str, Callable[[], str]], str]
) -> str:
    """The page as text. `shown` makes a picture's HTML; `attempt(name, make)` makes a part of the page by `make()`."""
    parts: list[tuple[str, str]] = [("Results", attempt("Results", lambda: _results(f.results)))]
    for section in sections(f):
        charts: list[str] = []
        others: list[str] = []

        def fill(section: Section = section, charts: list[str] = charts, others: list[str] = others) -> str:
            for picture in section.pictures:
                name = picture.name if isinstance(picture, Picture) else section.heading
                (charts if picture.kind == "chart" else others).append(attempt(name, partial(shown, picture)))
            return ""

        missing = attempt(section.heading, fill)
        if charts:
            others.append(f'<div class="charts">{"".join(charts)}</div>')
        if text := "\n".join(part for part in (*others, missing) if part):
            lead = f'<p class="faint">{_text(section.lead)}</p>\n' if section.lead else ""
            parts.append((section.heading, lead + text))
    versions = lambda: _settings(f.results.get("versions") or {}, "Versions")
    parts.append(("Settings", attempt("Settings", lambda: _settings(f.settings)) + attempt("Versions", versions)))
    links = " ".join(f'<a href="#{_file(heading)}">{_text(heading)}</a>' for heading, _ in parts)
    told = attempt("the summary", lambda: f'<p class="faint">{_text(summary(f.results, len(f.history)))}</p>')
    top = [f"<h1>{_text(f.title)}</h1>", told, f"<nav>{links}</nav>"]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(f.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join([*top, *(part for heading, text in parts for part in (_heading(heading), text))])
        + "\n</body>\n</html>\n"
    )


def summary(results: Mapping[str, Any], epochs: int) -> str:
    """One line: seeds, epochs, size, time and where."""
    seeds = results.get("seeds") or []
    parts = [
        f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}" if seeds else "",
        ", ".join(f"seed {seed} failed in epoch {e}" for seed, e in (results.get("failed") or {}).items()),
        f"{epochs:,} epochs" if epochs > 1 else "1 epoch" if epochs else "",
        f"{int(results['parameters']):,} parameters" if results.get("parameters") else "",
        _duration(results["seconds"]) if results.get("seconds") else "",
        f"{float(results['examples_per_second']):,.0f} examples/s" if results.get("examples_per_second") else "",
        str(results.get("device") or ""),
    ]
    return " · ".join(part for part in parts if part)


def _results(results: Mapping[str, Any]) -> str:
    metrics, seeds = results.get("metrics") or {}, results.get("seeds") or []
    if not metrics:
        return "<p>No metrics were measured yet.</p>"
    many = len(seeds) > 1
    pca = {name.removeprefix("pca "): m for name, m in metrics.items() if name.startswith("pca ")}
    beside = {name: pca.get(name.removeprefix("test ")) for name in metrics}  # PCA stands beside what it is compared to
    alone = [name for name in metrics if not (name.startswith("pca ") and pca[name[4:]] in beside.values())]
    rows, single = [], []
    for name in _ordered(alone):
        m, other = metrics[name], beside[name]
        values = [_measured(m)]
        if pca:
            values.append("" if other is None else _number(other.get("mean")))
        if many:
            values.append(_number(m.get("std"), 2))
        rows.append(_row(name, values, describe(name.removeprefix("test ")) or TRAINING.get(name, "")))
        single.append(_row(name, [_number(v) for v in m.get("values") or []]))
    head = ["metric", "mean ± 95%" if many else "value", *(["PCA"] if pca else []), *(["std"] if many else [])]
    notes = [
        "Mean over seeds ± its 95% confidence interval by Student's t; std is the standard deviation between seeds."
        if many
        else "One seed, so no interval: train several to see what is luck."
    ]
    if pca:
        notes.append("PCA: the same measure for principal component analysis with as many components as the code.")
    table = _table(head, rows) + f"<p><small>{_text(' '.join(notes))}</small></p>"
    each = _table(["metric", *(f"seed {s}" for s in seeds)], single)
    each = f"<details><summary>Each seed's values</summary>{each}</details>" if many else ""
    return _remarks(results.get("remarks") or []) + table + each + _confusion(results.get("confusion"))


def _remarks(found: Sequence[str]) -> str:
    """The remarks of `diagnosis` on what went wrong."""
    items = "".join(f"<li>{_text(remark)}</li>" for remark in found)
    return f"<p>Remarks on this training:</p><ul>{items}</ul>" if found else ""


def _confusion(found: Mapping[str, Any] | None) -> str:
    """The confusion matrix of `measuring.confusion`, if there is one."""
    if not found:
        return ""
    rows = [_row(name, list(map(str, row))) for name, row in zip(found["labels"], found["counts"], strict=True)]
    said = "Test examples by label (rows) and by the class or cluster that the first seed predicts (columns)."
    return _table(["label", *found["told"]], rows) + f"<p><small>{said}</small></p>"


def _row(name: str, values: Sequence[str], phrase: str = "") -> str:
    """A name and its numbers; what it is stands under them, over the whole width."""
    cells = "".join(f'<td class="number">{_text(v)}</td>' for v in values)
    row = f'<tr><th scope="row">{_text(name).replace("_", "_<wbr>")}</th>{cells}</tr>'
    return (
        row + f'<tr class="phrase"><td colspan="{len(values) + 1}"><span>{_text(phrase)}</span></td></tr>'
        if phrase
        else row
    )


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    first, *others = head
    names = f'<th scope="col">{_text(first)}</th>' + "".join(
        f'<th scope="col" class="number">{_text(name)}</th>' for name in others
    )
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _settings(settings: Mapping[str, Any], title: str = "") -> str:
    def flat(nested: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in nested.items():
            if isinstance(value, Mapping) and value:
                yield from flat(value, f"{path}{name}.")
            else:
                yield f"{path}{name}", value

    def shown(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return ", ".join(map(shown, value)) or "none"
        return {"None": "none", "True": "yes", "False": "no", "": "none", "{}": "none"}.get(str(value), str(value))

    rows = [
        f'<tr><th scope="row">{_text(name)}</th><td>{_text(shown(value))}</td></tr>' for name, value in flat(settings)
    ]
    if not rows:
        return ""
    table = f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>'
    return f"<details><summary>{_text(title)}</summary>{table}</details>" if title else table


def _figure(picture: Picture, png: bytes) -> str:
    data, kind = (png, "png") if len(png) <= 300_000 else (_jpeg(png), "jpeg")  # photographs: the page stays light
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")  # PNG's header, IHDR
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    name = _text(picture.name.replace("_", " "))
    return (
        f'<figure class="{picture.kind}"><img src="{source}" width="{width}" height="{height}" alt="{name}">'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    )


def _listing(listing: Listing) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in listing.head)
    rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in listing.rows)
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f'<figure class="listing">{table}<figcaption>{_text(listing.caption)}</figcaption></figure>'


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=plots.DPI, metadata={"Software": None})
    return buffer.getvalue()


def _jpeg(png: bytes) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()


def _heading(title: str) -> str:
    return f'<h2 id="{_file(title)}">{_text(title)}</h2>'


def _ordered(metrics: Iterable[str]) -> list[str]:
    """As `evaluation.METRICS` has them; those it does not know behind, by name."""
    known = list(METRICS)

    def place(name: str) -> tuple[bool, int, str]:
        bare = name.partition(" (")[0]
        first = bare.removeprefix("test ")
        return (first not in known, known.index(first) if first in known else 0, name)

    return sorted(metrics, key=place)


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _file(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_") or "picture"


def _number(value: Any, digits: int = 4) -> str:
    return "-" if value is None else plots.number(value, digits)


def _measured(metric: Mapping[str, Any]) -> str:
    """Mean -+ half its interval, with as many decimals as the interval supports: two digits of the half."""
    value, low, high = (metric.get(which) for which in ("mean", "low", "high"))
    if value is None or low is None or high is None or not np.isfinite([value, low, high]).all():
        return _number(value)
    half = (high - low) / 2
    decimals = max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 8
    short = decimals <= 7
    return f"{value:.{decimals}f} ± {half:.{decimals}f}" if short else f"{_number(value)} ± {_number(half, 2)}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(float(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{float(seconds):.3g} s"
