"""Quantisers: finite codes, each a record of pure functions from vectors to symbols and back.

A vector h [D] has L symbols: one for most quantisers, one for each level of a residual quantiser. The decoder gets the
vector that the symbols stand for. Each quantiser passes the decoder's gradient to h as its paper says.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..checks import NOT_NEGATIVE, PORTION, Range, check_choice
from ..core import Key, Params, address
from .distances import squared_distances

QuantiserName = Literal["moving", "learned", "simvq", "residual", "fsq", "lfq", "spherical"]
CODEBOOKS = ("moving", "learned", "simvq", "residual")  # quantisers that choose among vectors
SIGNS = ("lfq", "spherical")  # quantisers that keep only signs
GradientName = Literal["straight", "rotation"]
LEVELS = Range(
    low=3,
    high=2**31 - 1,
    open=False,
    wanted="each number has at least 3 levels, a whole number; for signs alone take quantiser=lfq",
    whole=True,
)


class Quantised(NamedTuple):
    """The result of quantising N vectors of dimension D."""

    vectors: Array  # [N, D], the chosen vectors; their gradient is passed on to h
    symbols: Array  # [N, L], integers from 0 to `sizes` - 1
    cost: Array  # [N], to be added to the loss
    patch: Params  # groups of params to overwrite; {} outside training


class Quantiser(NamedTuple):
    """A finite set of vectors, in the params that `init` makes."""

    sizes: tuple[int, ...]  # [L]: number of values of each symbol of a vector
    init: Callable[[Key, Array], Params]  # (key, vectors of data [N, D]) -> its groups
    quantise: Callable[..., Quantised]  # (params, h [N, D], key=None); a key means training
    lookup: Callable[[Params, Array], Array]  # (params, symbols [..., L]) -> vectors [..., D]
    dimension: int = 0  # D; 0: any
    learned: tuple[str, ...] = ()  # the groups that gradient descent learns
    measured: tuple[str, ...] = ()  # the groups that stay, or that `patch` overwrites


def quantiser(name: QuantiserName, **options: Any) -> Quantiser:
    """A quantiser by name. It gets the options that it has and that are not None.

    Raises ValueError for another name.
    """
    check_choice("quantiser", name, QUANTISERS)
    make = QUANTISERS[name]
    known = inspect.signature(make).parameters
    return make(**{name: value for name, value in options.items() if name in known and value is not None})


def of_codes(
    chosen: QuantiserName | Quantiser, latents: int, dimension: int | None = None, **options: Any
) -> Quantiser:
    """A quantiser, given or by name, of whole codes [N, K], each of K / D vectors: symbols [N, K / D L], costs [N].

    D is the quantiser's own dimension, if it has one, or else `dimension`: by default 8, or K if 8 does not divide it.
    Raises ValueError for a dimension that is not the quantiser's, or does not divide the latents.
    """
    wanted = dimension or (8 if latents % 8 == 0 else latents)
    q = chosen if isinstance(chosen, Quantiser) else quantiser(chosen, dimension=wanted, **options)
    own = q.dimension or wanted
    if dimension not in (None, own):
        raise ValueError(f"dimension is {dimension}, and the quantiser's vectors have {own} numbers: leave it out")
    if latents % own:
        more = f"give latents={-(-latents // own) * own}, or other vectors"
        raise ValueError(f"dimension is {own}, which does not divide the code's {latents} latents: {more}")

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        vectors, symbols, cost, patch = q.quantise(params, h.reshape(-1, own), key)
        rows = lambda a: a.reshape(len(h), -1)
        return Quantised(rows(vectors), rows(symbols), rows(cost).sum(-1), patch)

    def lookup(params: Params, symbols: Array) -> Array:
        each = symbols.reshape(len(symbols), -1, len(q.sizes))
        return q.lookup(params, each).reshape(len(symbols), -1)

    init = lambda key, h: q.init(key, h.reshape(-1, own))
    return q._replace(init=init, quantise=quantise, lookup=lookup, dimension=own)


# ------------------------------------------------------------------------------- gradients and measures of symbols


def straight(vectors: Array, h: Array) -> Array:
    """The vectors, whose gradient is that of h: straight through, section 3.2 of arXiv:1711.00937. [N, D]."""
    return lax.stop_gradient(vectors) + (h - lax.stop_gradient(h))  # adds exactly 0


def rotation(vectors: Array, h: Array) -> Array:
    """The vectors e, as h rotated and scaled onto them: dL/dh = |e| / |h| R^T dL/de, with R and the scale constant.

    Fifty et al. (2024), arXiv:2410.06424, section 4.2. R is a product of two reflections, applied without its matrix.
    Where h is 0, the gradient goes straight through. [N, D].
    """
    e, fixed = lax.stop_gradient(vectors), lax.stop_gradient(h)
    size = lambda a: jnp.linalg.norm(a, axis=-1, keepdims=True)
    unit = lambda a: a / jnp.where(size(a) > 0, size(a), 1)
    r = unit(unit(fixed) + unit(e))
    across = h - 2 * (h * r).sum(-1, keepdims=True) * r
    turned = across + 2 * (h * unit(fixed)).sum(-1, keepdims=True) * unit(e)  # R h
    scale = size(e) / jnp.where(size(fixed) > 0, size(fixed), 1)
    return straight(vectors, jnp.where(size(fixed) > 0, scale * turned, h))


GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {"straight": straight, "rotation": rotation}


def nearest(vectors: Array, h: Array) -> Array:
    """The index of the vector [S, D] that is nearest to each row of h [N, D], the first of equals. -> [N]."""
    distances, last = squared_distances(h, vectors), len(vectors) - 1
    least = distances.min(-1, keepdims=True)  # two minima: XLA's argmin takes three times as long on CPU
    return jnp.where(distances == least, jnp.arange(len(vectors)), last).min(-1)


def sums(h: Array, symbols: Array, size: int) -> tuple[Array, Array]:
    """For each of `size` symbols, the number and the sum of the rows of h [N, D] with it. -> [size], [size, D]."""
    rows = jnp.concatenate([jnp.ones((len(h), 1), h.dtype), h], -1)
    scattered = lambda rows, symbols: jax.ops.segment_sum(rows, symbols, size)
    hot = lambda symbols: jax.nn.one_hot(symbols, size, dtype=h.dtype)
    product = lambda rows, symbols: jnp.matmul(hot(symbols).T, rows, precision="highest")
    # a scatter is a hundred times as fast on CPU; on a GPU its order, and so its rounding, would differ from run to run
    found = lax.platform_dependent(rows, symbols, cpu=scattered, default=product)
    return found[:, 0], found[:, 1:]


def perplexity(symbols: Array, size: int | None = None, dtype: Any = jnp.float32) -> Array:
    """exp of the entropy of the symbols' frequencies, from 1 to `size`: the effective number of symbols in use. -> [].

    `size`, the number of symbols, makes it faster; it may be left out.
    """
    s = symbols.ravel()
    if size is not None and size <= 2**16:
        share = jnp.bincount(s, length=size).astype(dtype) / s.size
        return jnp.exp(-(share * jnp.log(jnp.where(share > 0, share, 1))).sum())
    ordered = jnp.sort(s)
    count = jnp.searchsorted(ordered, ordered, side="right") - jnp.searchsorted(ordered, ordered)
    return jnp.exp(-jnp.log(count.astype(dtype) / s.size).mean())


def perplexities(symbols: Array, sizes: Sequence[int | None] = (None,), dtype: Any = jnp.float32) -> Array:
    """The perplexity of each of the L symbols of a vector; those of one vector are adjacent. [..., P L] -> [L]."""
    each = symbols.reshape(-1, len(sizes)).T
    return jnp.stack([perplexity(s, size, dtype) for s, size in zip(each, sizes, strict=True)])


# --------------------------------------------------------------------------------------------------- codebooks


def _checked(size: int, gradient: str, **options: float) -> Callable[[Array, Array], Array]:
    """The gradient by name. Raises ValueError for a size below 2, a negative option or another gradient."""
    if size < 2:
        raise ValueError(f"size is {size}; a codebook has at least 2 vectors")
    for name, value in options.items():
        NOT_NEGATIVE.check(name, value)
    check_choice("gradient", gradient, get_args(GradientName))
    return GRADIENTS[gradient]


def _drawn(key: Key, h: Array, size: int) -> Array:
    """`size` random vectors of h, without repeats if N is large enough. [N, D] -> [size, D]."""
    return jax.random.choice(key, h, (size,), replace=len(h) < size)


def _of_gradients(
    passed: Callable[[Array, Array], Array], commitment: float, vectors: Callable[[Params], Array]
) -> Callable[..., Quantised]:
    """`quantise` by the nearest vector e, with the cost ||sg(h) - e||^2 + commitment ||h - sg(e)||^2."""

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        book = vectors(params)
        symbols = nearest(lax.stop_gradient(book), lax.stop_gradient(h))
        e = book[symbols]
        pull = jnp.square(lax.stop_gradient(h) - e).sum(-1)
        cost = pull + commitment * jnp.square(h - lax.stop_gradient(e)).sum(-1)
        return Quantised(passed(e, h), symbols[:, None], cost, {})

    return quantise


def learned(size: int, commitment: float = 0.25, gradient: GradientName = "straight") -> Quantiser:
    """Vectors e that gradient descent learns, with the cost ||sg(h) - e||^2 + commitment ||h - sg(e)||^2.

    van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937, eq. (3). The symbol of h is its nearest vector.
    """
    passed = _checked(size, gradient, commitment=commitment)
    return Quantiser(
        sizes=(size,),
        init=lambda key, h: {"codebook": _drawn(key, h, size)},
        quantise=_of_gradients(passed, commitment, lambda params: params["codebook"]),
        lookup=lambda params, symbols: params["codebook"][symbols[..., 0]],
        learned=("codebook",),
    )


def simvq(size: int, commitment: float = 0.25, gradient: GradientName = "straight") -> Quantiser:
    """Vectors C W: C is fixed and gradient descent learns W, so every step moves all vectors.

    Zhu et al. (2024), arXiv:2411.02038; the cost is that of `learned`. C is drawn from the data and W starts
    as the identity.
    """
    passed = _checked(size, gradient, commitment=commitment)
    vectors = lambda params: params["codebook"] @ params["basis"]  # [S, D] [D, D]
    return Quantiser(
        sizes=(size,),
        init=lambda key, h: {"codebook": _drawn(key, h, size), "basis": jnp.eye(h.shape[1], dtype=h.dtype)},
        quantise=_of_gradients(passed, commitment, vectors),
        lookup=lambda params, symbols: vectors(params)[symbols[..., 0]],
        learned=("basis",),
        measured=("codebook",),
    )


def moving(
    size: int, commitment: float = 0.25, decay: float = 0.99, least: float = 0.0, gradient: GradientName = "straight"
) -> Quantiser:
    """Vectors that are moving averages of the h that they stand for, appendix A.1 of arXiv:1711.00937.

    Args:
        size: number of vectors.
        commitment: weight of the cost ||h - sg(e)||^2.
        decay: decay of the averages in one step.
        least: a vector whose average count in a batch falls below it is dead, and is replaced by a random h of the
            batch; 0 replaces none.
        gradient: how the decoder's gradient reaches h, see `straight` and `rotation`.
    Raises ValueError for a size below 2, a negative weight, and a decay outside [0, 1].
    """
    passed = _checked(size, gradient, commitment=commitment, least=least)
    PORTION.check("decay", decay)

    def init(key: Key, h: Array) -> Params:
        vectors = _drawn(key, h, size)
        count = jnp.ones((size,), h.dtype)
        return {
            "codebook": {"vectors": vectors, "count": count, "sum": count[:, None] * vectors}
        }  # not one array twice

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        old = params["codebook"]
        symbols = nearest(old["vectors"], lax.stop_gradient(h))
        vectors = old["vectors"][symbols]
        cost = commitment * jnp.square(h - lax.stop_gradient(vectors)).sum(-1)
        found = Quantised(passed(vectors, h), symbols[:, None], cost, {})
        if key is None:
            return found
        fixed = lax.stop_gradient(h)
        number, summed = sums(fixed, symbols, size)
        count = decay * old["count"] + (1 - decay) * number
        total = decay * old["sum"] + (1 - decay) * summed
        tiny = 1e-6  # below it a vector stays where it is
        moved = jnp.where((count > tiny)[:, None], total / jnp.maximum(count, tiny)[:, None], old["vectors"])
        dead = count < least
        fresh = jax.random.choice(key, fixed, (size,))
        new = {
            "vectors": jnp.where(dead[:, None], fresh, moved),
            "count": jnp.where(dead, 1.0, count),
            "sum": jnp.where(dead[:, None], fresh, total),
        }
        return found._replace(patch={"codebook": new})

    return Quantiser(
        sizes=(size,),
        init=init,
        quantise=quantise,
        lookup=lambda params, symbols: params["codebook"]["vectors"][symbols[..., 0]],
        measured=("codebook",),
    )


# ------------------------------------------------------------------------------------- several symbols a vector


def residual(levels: Sequence[Quantiser], drop: float = 0.0, gradient: GradientName = "straight") -> Quantiser:
    """Each level quantises the remainder of h after the levels before it; a vector is the sum over the levels.

    Zeghidour et al. (2021), arXiv:2107.03312, algorithm 1. Every level has its own cost on its own remainder.

    Args:
        levels: one quantiser for each level, at least one.
        drop: probability that a step of training uses only the first n levels, with n drawn from 1 to the number of
            levels - 1 (section III-C), so that the first symbols of a vector are a coarser code.
        gradient: how the decoder's gradient reaches h, see `straight` and `rotation`.
    """
    if not levels:
        raise ValueError("levels is empty; a residual quantiser has at least one level")
    PORTION.check("drop", drop)
    check_choice("gradient", gradient, GRADIENTS)
    depth, ends = len(levels), np.cumsum([len(q.sizes) for q in levels])[:-1]
    name = lambda group, n: f"{group}_{n}"
    own = lambda params, n: {g: params[name(g, n)] for g in (*levels[n].learned, *levels[n].measured)}

    def init(key: Key, h: Array) -> Params:
        made, rest = {}, h
        for n, q in enumerate(levels):
            params = q.init(address(key, "level", n), rest)
            rest = rest - q.quantise(params, rest).vectors
            made |= {name(group, n): value for group, value in params.items()}
        return made

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        used, rest, parts, patch = jnp.asarray(depth), h, [], {}
        if key is not None and depth > 1:
            fewer = jax.random.bernoulli(address(key, "drop"), drop)
            used = jnp.where(fewer, jax.random.randint(address(key, "levels"), (), 1, depth), depth)
        for n, q in enumerate(levels):
            of = own(params, n)
            found = q.quantise(of, rest, None if key is None else address(key, "level", n))
            there = n < used
            e = jnp.where(there, lax.stop_gradient(found.vectors), 0)
            parts.append((e, found.symbols, jnp.where(there, found.cost, 0)))
            kept = jax.tree.map(partial(jnp.where, there), found.patch, {group: of[group] for group in found.patch})
            patch |= {name(group, n): value for group, value in kept.items()}
            rest = rest - e
        vectors, symbols, cost = zip(*parts, strict=True)
        return Quantised(GRADIENTS[gradient](sum(vectors), h), jnp.concatenate(symbols, -1), sum(cost), patch)  # type: ignore[arg-type]

    def lookup(params: Params, symbols: Array) -> Array:
        each = jnp.split(symbols, ends, axis=-1)
        return sum(q.lookup(own(params, n), s) for n, (q, s) in enumerate(zip(levels, each, strict=True)))  # type: ignore[return-value]

    groups = lambda kind: tuple(name(group, n) for n, q in enumerate(levels) for group in getattr(q, kind))
    return Quantiser(
        sizes=tuple(size for q in levels for size in q.sizes),
        init=init,
        quantise=quantise,
        lookup=lookup,
        dimension=max(q.dimension for q in levels),
        learned=groups("learned"),
        measured=groups("measured"),
    )


def residual_codebooks(
    size: int,
    depth: int = 2,
    commitment: float = 0.25,
    decay: float = 0.99,
    least: float = 0.0,
    drop: float = 0.0,
    gradient: GradientName = "straight",
) -> Quantiser:
    """`residual` with `depth` levels, each a `moving` codebook."""
    return residual([moving(size, commitment, decay, least) for _ in range(depth)], drop, gradient)


# ------------------------------------------------------------------------------------------ codes without a codebook


def fsq(levels: tuple[int, ...] = (8, 5, 5, 5)) -> Quantiser:
    """Number d of a vector is bounded and rounded to one of levels[d] values; no cost, no params.

    Mentzer et al. (2023), arXiv:2309.15505, section 3. The gradient is that of the bounded number before rounding. The
    first number is the lowest digit of a symbol. Raises ValueError for no levels, for levels below 3, and for 2^31
    symbols or more.
    """
    if not levels:
        raise ValueError("levels is (): give the levels of each number of a vector, such as (8, 5, 5, 5)")
    LEVELS.check("levels", levels)
    if prod(levels) >= 2**31:
        raise ValueError(f"levels is {levels}: that makes {prod(levels):.3g} symbols, and the most is 2^31 - 1")
    counts = np.asarray(levels)
    below = counts // 2  # levels below 0
    half, offset = (counts - 1) * (1 + 1e-3) / 2, np.where(counts % 2 == 0, 0.5, 0.0)
    shift, place = np.arctanh(offset / half), np.cumprod([1, *levels[:-1]])

    def lookup(params: Params, symbols: Array) -> Array:
        digits = symbols // jnp.asarray(place, symbols.dtype) % jnp.asarray(counts, symbols.dtype)  # [..., D]
        return (digits - jnp.asarray(below, digits.dtype)) / jnp.asarray(below, jnp.float32)

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        of = lambda a: jnp.asarray(a, h.dtype)
        bounded = jnp.tanh(h + of(shift)) * of(half) - of(offset)
        digits = jnp.round(lax.stop_gradient(bounded)).astype(jnp.int32) + jnp.asarray(below, jnp.int32)
        symbols = (digits * jnp.asarray(place, jnp.int32)).sum(-1, keepdims=True)
        vectors = lookup(params, symbols).astype(h.dtype)
        return Quantised(straight(vectors, bounded / of(below)), symbols, jnp.zeros(len(h), h.dtype), {})

    return Quantiser(
        sizes=(prod(levels),),
        init=lambda key, h: {},
        quantise=quantise,
        lookup=lookup,
        dimension=len(levels),
    )


TOGETHER = 20  # the most bits with an exact joint entropy; of more bits, an upper bound: the sum over groups of 20


def _entropy_of_mean(p: Array) -> Array:
    """The entropy, in nats, of the mean over rows of D independent bits with probabilities p [N, D]. -> [].

    The mean of the N joint distributions is a matrix product of two halves of the bits: no array has N 2^D numbers.
    """
    total = jnp.zeros((), p.dtype)
    for group in jnp.split(p, [*range(TOGETHER, p.shape[1], TOGETHER)], axis=1):

        def joint(bits: Array) -> Array:
            """[N, d] -> [N, 2^d]."""
            found = jnp.ones((len(bits), 1), bits.dtype)
            for bit in bits.T:
                found = jnp.concatenate([found * (1 - bit[:, None]), found * bit[:, None]], -1)
            return found

        middle = group.shape[1] // 2
        mean = joint(group[:, :middle]).T @ joint(group[:, middle:]) / len(p)
        total = total - (mean * jnp.log(jnp.where(mean > 0, mean, 1))).sum()
    return total


def lfq(
    dimension: int, commitment: float = 0.01, entropy: float = 0.1, sharpness: float = 1.0, sphere: bool = False
) -> Quantiser:
    """The sign of every number of a vector: 2^D symbols and no codebook.

    Yu et al. (2023), arXiv:2310.05737; on the sphere Zhao, Xiong & Krahenbuhl (2024), arXiv:2406.07548.
    The cost is commitment ||h - sg(c)||^2 + entropy (H(c | h) - H(mean over the batch of c | h)), with p(c | h)
    proportional to exp(2 sharpness h.c), which factorises. The second entropy compares vectors: it is 0 outside
    training.

    Args:
        dimension: numbers in a vector, D, at most 30.
        commitment: weight of the squared distance to the code. A large one keeps the initial signs; trial on MNIST: at
            0.25 codes of 9 bits use a third of their symbols, at 0.01 all.
        entropy: weight of both entropies, in nats.
        sharpness: sharpness of p(c | h).
        sphere: replace h by h / |h|, and use codes of length 1.
    """
    if not 1 <= dimension <= 30:
        raise ValueError(f"dimension is {dimension}; a vector has 1 to 30 signs, each a bit of a symbol")
    for option, value in (("commitment", commitment), ("entropy", entropy), ("sharpness", sharpness)):
        NOT_NEGATIVE.check(option, value)
    size = dimension**-0.5 if sphere else 1.0  # of a code's numbers
    bits = np.arange(dimension)

    def lookup(params: Params, symbols: Array) -> Array:
        on = symbols >> jnp.asarray(bits, symbols.dtype) & 1  # [..., D]
        return jnp.where(on == 1, jnp.float32(size), jnp.float32(-size))

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        square = jnp.square(h).sum(-1, keepdims=True)
        u = h / jnp.sqrt(jnp.where(square > 0, square, 1)) if sphere else h
        symbols = ((u > 0) << jnp.asarray(bits, jnp.int32)).sum(-1, keepdims=True)
        code = lookup(params, symbols).astype(h.dtype)
        logit = 4 * sharpness * size * u  # of the sign being +
        p = jax.nn.sigmoid(logit)
        each = (jax.nn.softplus(logit) - logit * p).sum(-1)  # H(c | h), [N]
        spread = 0 if key is None else _entropy_of_mean(p)
        cost = commitment * jnp.square(u - lax.stop_gradient(code)).sum(-1) + entropy * (each - spread)
        return Quantised(straight(code, u), symbols, cost, {})

    return Quantiser(
        sizes=(2**dimension,),
        init=lambda key, h: {},
        quantise=quantise,
        lookup=lookup,
        dimension=dimension,
    )


def spherical(dimension: int, commitment: float = 0.01, entropy: float = 0.1, sharpness: float = 1.0) -> Quantiser:
    """`lfq` on the sphere."""
    return lfq(dimension, commitment, entropy, sharpness, sphere=True)


QUANTISERS: dict[str, Callable[..., Quantiser]] = {
    "moving": moving,
    "learned": learned,
    "simvq": simvq,
    "residual": residual_codebooks,
    "fsq": fsq,
    "lfq": lfq,
    "spherical": spherical,
}
