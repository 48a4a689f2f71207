"""||J(x)||_F^2 of an encoder's Jacobian J [K, D], exactly or estimated, for contractive penalties.

Every function here takes f(x [B, *shape], *fixed [B, ...]) -> z [B, K], which maps each example by itself. It
differentiates f with respect to x alone and gives [B]. Hutchinson's estimator (1990) is E ||J^T v||^2 = ||J||_F^2 for
random signs v.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import check_choice
from ..core import Key
from ..distributions.sums import sum_examples


def exact(f: Callable[..., Array], x: Array, *fixed: Array, group: int = 32) -> Array:
    """By jax.jacfwd, `group` columns at a time; the gradient computes them again, which bounds the memory. -> [B].

    The Jacobian of f has D columns, one for each input; that of its pullback, v -> J^T v, has K, one for each output.
    The pullback is taken if K <= D / 8, where it was measured to be faster. With more outputs f is faster: its first
    affine layer costs nothing, as the tangents are rows of the kernel.
    """
    outputs = jax.eval_shape(f, x, *fixed).shape[-1]
    return (by_outputs if 8 * outputs <= x[0].size else by_inputs)(f, x, *fixed, group=group)


def by_inputs(f: Callable[..., Array], x: Array, *fixed: Array, group: int = 32) -> Array:
    """`exact` by the columns of the Jacobian of f. -> [B].

    The values and slopes of f, which do not depend on a column, are computed once for all blocks, by jax.linearize.
    All examples go through a block together, so that the tangents of a first affine layer, which are rows of its
    kernel, are computed once for all of them.
    """

    def norm(at: Array, *rest: Array) -> Array:
        _, push = jax.linearize(lambda at: f(at[None], *(a[None] for a in rest))[0], at)

        def block(along: Array) -> Array:
            moved = lambda step: push((step @ along).reshape(at.shape))
            return jnp.square(jax.jacfwd(moved)(jnp.zeros(len(along), x.dtype)).T).sum()  # .T: as it lies in memory

        return in_blocks(block, x[0].size, group, x.dtype)

    return jax.vmap(norm)(x, *fixed)


def by_outputs(f: Callable[..., Array], x: Array, *fixed: Array, group: int = 32) -> Array:
    """`exact` by the columns of the Jacobian of f's pullback. -> [B]."""

    def norm(at: Array, *rest: Array) -> Array:
        z, pull = jax.vjp(lambda at: f(at[None], *(a[None] for a in rest))[0], at)

        def block(along: Array) -> Array:
            back = lambda step: pull(step @ along)[0]
            return jnp.square(jax.jacfwd(back)(jnp.zeros(len(along), z.dtype)).T).sum()  # .T: as it lies in memory

        return in_blocks(block, z.size, group, z.dtype)

    return jax.vmap(norm)(x, *fixed)


def in_blocks(block: Callable[[Array], Array], size: int, group: int, dtype: Any) -> Array:
    """The sum of `block(along)` over blocks of directions, the rows of the identity of that size. A block has at most
    `group` rows; several blocks are computed again for the gradient. Zeros pad the last block.
    """
    group = -(-size // -(-size // group))  # the same number of blocks, as even as possible
    along = lambda first: jax.nn.one_hot(first + jnp.arange(group), size, dtype=dtype)  # [group, size]
    if group == size:
        return block(along(0))
    return lax.map(jax.checkpoint(lambda first: block(along(first))), jnp.arange(0, size, group)).sum(0)


def closed(layer: Callable[..., tuple[Array, Array]], x: Array, *fixed: Array) -> Array:
    """For one affine layer and an elementwise s: sum_j s'_j^2 ||W_j||^2, Rifai et al. (2011). -> [B].

    `layer(x, *fixed)` gives W [D, K] and s' [B, K], as `Autoencoder.layer` does.
    """
    kernel, slope = layer(x, *fixed)
    return jnp.square(slope) @ jnp.square(kernel).sum(0)


def hutchinson(f: Callable[..., Array], x: Array, *fixed: Array, key: Key, samples: int = 1) -> Array:
    """An unbiased estimate by one backward pass for each of `samples` random vectors. -> [B]."""
    z, pullback = jax.vjp(lambda x: f(x, *fixed), x)
    signs = jax.random.rademacher(key, (samples, *z.shape), z.dtype)
    return jax.vmap(lambda v: sum_examples(jnp.square(pullback(v)[0])))(signs).mean(0)


def square_norm(method: str, *, samples: int = 1, group: int = 32) -> Callable[..., Array]:
    """One of the above by name, as (f, layer, key, x, *fixed) -> [B]; each uses the arguments that it needs.

    Args:
        method: exact, closed or hutchinson.
        samples: number of random vectors that hutchinson averages over.
        group: columns that exact computes at a time.

    Raises:
        ValueError: an unknown name, no samples or no group.
    """
    if samples < 1 or group < 1:
        raise ValueError(f"samples is {samples} and group {group}; both must be at least 1")
    known = {
        # one affine layer's tangents are rows of its kernel, so the columns of f are always cheaper
        "exact": lambda f, layer, key, x, *fixed: (exact if layer is None else by_inputs)(f, x, *fixed, group=group),
        "closed": lambda f, layer, key, x, *fixed: closed(layer, x, *fixed),
        "hutchinson": lambda f, layer, key, x, *fixed: hutchinson(f, x, *fixed, key=key, samples=samples),
    }
    check_choice("penalty", method, known)
    return known[method]
