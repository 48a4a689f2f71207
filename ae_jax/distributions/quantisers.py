"""Quantisers: finite codes, each a record of pure functions from vectors to symbols and back."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import NOT_NEGATIVE, PORTION, check_choice
from ..core import Key, Params
from .distances import squared_distances

CodebookName = Literal["moving", "learned"]


class Quantised(NamedTuple):
    """The result of quantising N vectors of dimension D."""

    vectors: Array  # [N, D], those that stand for them
    symbols: Array  # [N], integers from 0 to size - 1
    cost: Array  # [N], to be added to the loss
    patch: Params  # groups of params to overwrite; {} outside training


class Quantiser(NamedTuple):
    """A finite set of vectors, in the params that `init` makes."""

    size: int  # how many symbols there are
    init: Callable[[Key, Array], Params]  # (key, vectors of data [N, D]) -> its groups
    quantise: Callable[..., Quantised]  # (params, h [N, D], key=None); a key means training
    lookup: Callable[[Params, Array], Array]  # (params, symbols [...]) -> vectors [..., D]
    groups: tuple[str, ...]  # the groups that `init` makes
    learned: bool  # whether gradient descent learns them; else `patch` overwrites them


def codebook(size: int, kind: CodebookName = "moving", **options: float) -> Quantiser:
    """A codebook by the name of its learning rule: see `moving` and `learned`. Raises ValueError for another name."""
    check_choice("codebook", kind, get_args(CodebookName))
    return {"moving": moving, "learned": learned}[kind](size, **options)


def _checked(size: int, **options: float) -> None:
    if size < 2:
        raise ValueError(f"size is {size}; a codebook has at least 2 vectors")
    for name, value in options.items():
        NOT_NEGATIVE.check(name, value)


def nearest(vectors: Array, h: Array) -> Array:
    """The place of the nearest of the vectors [S, D] to each row of h [N, D]. -> [N]."""
    return jnp.argmin(squared_distances(h, vectors), -1)


def perplexity(symbols: Array, size: int | None = None, dtype: Any = jnp.float32) -> Array:
    """exp of the entropy of the symbols' frequencies: the number of symbols in even use, from 1 to `size`. -> [].

    `size`, how many symbols there are, may be left out where the program is not traced.
    """
    share = jnp.bincount(symbols.ravel(), length=size).astype(dtype) / symbols.size
    return jnp.exp(-(share * jnp.log(jnp.where(share > 0, share, 1))).sum())


def _drawn(key: Key, h: Array, size: int) -> Array:
    """`size` of the vectors h, as few of them twice as possible. [N, D] -> [size, D]."""
    return jax.random.choice(key, h, (size,), replace=len(h) < size)


def learned(size: int, commitment: float = 0.25) -> Quantiser:
    """Vectors that gradient descent moves: cost ||sg(h) - e||^2 + commitment ||h - sg(e)||^2.

    van den Oord, Vinyals & Kavukcuoglu (2017), arXiv:1711.00937, eq. (3). Symbols are of the nearest vectors.
    """
    _checked(size, commitment=commitment)

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        symbols = nearest(lax.stop_gradient(params["codebook"]), lax.stop_gradient(h))
        vectors = params["codebook"][symbols]
        pull = jnp.square(lax.stop_gradient(h) - vectors).sum(-1)
        cost = pull + commitment * jnp.square(h - lax.stop_gradient(vectors)).sum(-1)
        return Quantised(vectors, symbols, cost, {})

    return Quantiser(
        size=size,
        init=lambda key, h: {"codebook": _drawn(key, h, size)},
        quantise=quantise,
        lookup=lambda params, symbols: params["codebook"][symbols],
        groups=("codebook",),
        learned=True,
    )


def moving(size: int, commitment: float = 0.25, decay: float = 0.99, least: float = 0.0) -> Quantiser:
    """Vectors that are moving averages of what they stand for, appendix A.1 of arXiv:1711.00937.

    Args:
        size: how many vectors there are.
        commitment: weight of the cost ||h - e||^2.
        decay: of the averages in one step.
        least: a vector whose average count in a batch falls below it is dead, and becomes a vector of the batch; 0
            revives none.
    Raises ValueError for a size below 2, a negative weight, and a decay outside [0, 1].
    """
    _checked(size, commitment=commitment, least=least)
    PORTION.check("decay", decay)

    def init(key: Key, h: Array) -> Params:
        vectors = _drawn(key, h, size)
        count = jnp.ones((size,), h.dtype)
        return {"codebook": {"vectors": vectors, "count": count, "sum": vectors}}

    def quantise(params: Params, h: Array, key: Key | None = None) -> Quantised:
        old = params["codebook"]
        symbols = nearest(old["vectors"], lax.stop_gradient(h))
        vectors = old["vectors"][symbols]
        cost = commitment * jnp.square(h - lax.stop_gradient(vectors)).sum(-1)
        if key is None:
            return Quantised(vectors, symbols, cost, {})
        fixed = lax.stop_gradient(h)
        hot = jax.nn.one_hot(symbols, size, dtype=h.dtype)
        count = decay * old["count"] + (1 - decay) * hot.sum(0)
        total = decay * old["sum"] + (1 - decay) * hot.T @ fixed
        tiny = 1e-6  # below it a vector stays where it is
        moved = jnp.where((count > tiny)[:, None], total / jnp.maximum(count, tiny)[:, None], old["vectors"])
        dead = count < least
        fresh = jax.random.choice(key, fixed, (size,))
        new = {
            "vectors": jnp.where(dead[:, None], fresh, moved),
            "count": jnp.where(dead, 1.0, count),
            "sum": jnp.where(dead[:, None], fresh, total),
        }
        return Quantised(vectors, symbols, cost, {"codebook": new})

    return Quantiser(
        size=size,
        init=init,
        quantise=quantise,
        lookup=lambda params, symbols: params["codebook"]["vectors"][symbols],
        groups=("codebook",),
        learned=False,
    )
