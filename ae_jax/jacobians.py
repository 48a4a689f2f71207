"""||J(x)||_F^2 of an encoder's Jacobian J [K, D], exactly or estimated. What contractive penalties are made of.

Every function here takes f(x [B, *shape], *fixed [B, ...]) -> z [B, K], each example by itself, differentiates it in x
alone, and gives [B]. Hutchinson's estimator (1990) is E ||J^T v||^2 = ||J||_F^2 for random signs v.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from .core import Key
from .losses import sum_examples


def exact(f: Callable[..., Array], x: Array, *fixed: Array, group: int = 32) -> Array:
    """By jax.jacfwd, the columns of `group` inputs at a time, computed again for the gradient: bounded memory. -> [B].

    What does not depend on a column, f's own values and slopes, is computed once for all blocks, by jax.linearize.
    All examples go through a block together, so that the tangents of a first affine layer, which are rows of its
    kernel, are computed once for all of them.
    """
    group = min(group, x[0].size)

    def norm(at: Array, *rest: Array) -> Array:
        _, push = jax.linearize(lambda at: f(at[None], *(a[None] for a in rest))[0], at)

        @jax.checkpoint
        def block(first: Array) -> Array:  # inputs first, ..., first + group - 1; those beyond the last have no column
            along = jax.nn.one_hot(first + jnp.arange(group), x[0].size, dtype=x.dtype)  # [group, D]
            moved = lambda step: push((step @ along).reshape(at.shape))
            return jnp.square(jax.jacfwd(moved)(jnp.zeros(group, x.dtype)).T).sum()  # .T: as it lies in memory

        return lax.map(block, jnp.arange(0, x[0].size, group)).sum()

    return jax.vmap(norm)(x, *fixed)


def closed(layer: Callable[..., tuple[Array, Array]], x: Array, *fixed: Array) -> Array:
    """Of one affine layer and an elementwise s: sum_j s'_j^2 ||W_j||^2, Rifai et al. (2011). -> [B].

    `layer(x, *fixed)` gives W [D, K] and s' [B, K], as `Autoencoder.layer` does.
    """
    kernel, slope = layer(x, *fixed)
    return jnp.square(slope) @ jnp.square(kernel).sum(0)


def hutchinson(f: Callable[..., Array], x: Array, *fixed: Array, key: Key, samples: int = 1) -> Array:
    """Unbiased, one backward pass for each of `samples` random vectors. -> [B]."""
    z, pullback = jax.vjp(lambda x: f(x, *fixed), x)
    signs = jax.random.rademacher(key, (samples, *z.shape), z.dtype)
    return jax.vmap(lambda v: sum_examples(jnp.square(pullback(v)[0])))(signs).mean(0)


def square_norm(method: str, *, samples: int = 1, group: int = 32) -> Callable[..., Array]:
    """One of the above by name, as (f, layer, key, x, *fixed) -> [B], of which each uses what it needs.

    Args:
        method: exact, closed or hutchinson.
        samples: that hutchinson averages over.
        group: columns that exact computes at a time.

    Raises:
        ValueError: an unknown name, no samples or no group.
    """
    if samples < 1 or group < 1:
        raise ValueError(f"samples is {samples} and group {group}; both must be at least 1")
    known = {
        "exact": lambda f, layer, key, x, *fixed: exact(f, x, *fixed, group=group),
        "closed": lambda f, layer, key, x, *fixed: closed(layer, x, *fixed),
        "hutchinson": lambda f, layer, key, x, *fixed: hutchinson(f, x, *fixed, key=key, samples=samples),
    }
    if method not in known:
        raise ValueError(f"penalty is {method!r}; it must be one of {sorted(known)}")
    return known[method]
