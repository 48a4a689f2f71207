"""Squared Euclidean distances of pairs, precise for points at any distance from 0; distances of sets of points.

|a|^2 + |b|^2 - 2 a.b is one matrix product, but it cancels for points nearer to one another than to the origin: the
result is then the rounding error of |a|^2. Here the mean of the points is the origin, and the distances of pairs that
are still near are computed by differences.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Key
from ..xla.barriers import at_least_float32

Kernel = Callable[[Array], Array]  # of squared distances, elementwise

NARROW = 16  # dimensions; up to this number, differences cost no more than the product
NEAR = 2.0**-7  # |a - b|^2 over |a|^2 + |b|^2; below this, the product has lost seven bits
UNROLLED = 32  # dimensions added in one pass over the sums


def exponent(x: Array) -> Array:
    """The exponent e, [] int32, for which the largest |x| / 2^e is in [0.5, 1); 0 for zeros.

    The largest square of `jnp.ldexp(x, -e)` neither underflows nor overflows, and the scaling is exact.
    """
    return jnp.frexp(jnp.abs(x).max())[1]


def in_blocks(f: Callable[[Array], Any], x: Array, size: int) -> Any:
    """f, a function of [size, ...], applied to x [N, ...] one block after another; results [N, ...].

    Copies of the last example pad the last block.
    """
    size = min(size, len(x))
    blocks = -(-len(x) // size)
    filled = jnp.concatenate([x, jnp.broadcast_to(x[-1:], (blocks * size - len(x), *x.shape[1:]))])
    made = lax.map(f, filled.reshape(blocks, size, *x.shape[1:]))
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: len(x)], made)


def by_differences(a: Array, b: Array) -> Array:
    """sum_k (a_ik - b_jk)^2, without cancellation. [N, K], [M, K] -> [N, M]."""
    a, b = at_least_float32(a).T, at_least_float32(b).T  # [K, N], [K, M]

    def add(total: Array, a: Array, b: Array) -> Array:
        for at, to in zip(a, b, strict=True):  # one pass over the sums
            total = total + jnp.square(at[:, None] - to[None])
        return total

    whole = len(a) // UNROLLED * UNROLLED
    total = add(jnp.zeros((a.shape[1], b.shape[1]), a.dtype), a[whole:], b[whole:])
    if whole:
        parts = jax.tree.map(lambda c: c[:whole].reshape(-1, UNROLLED, c.shape[1]), (a, b))
        total, _ = lax.scan(lambda total, part: (add(total, *part), None), total, parts)
    return total


@jax.default_matmul_precision("highest")
def squared_distances(a: Array, b: Array | None = None) -> Array:
    """||a_i - b_j||^2 of every pair, never below 0, with a relative error below 1e-4. [N, K], [M, K] -> [N, M].

    Without b the pairs are those within a: symmetric, and 0 on the diagonal. Data of 16 bits are computed in float32.
    """
    a, to = at_least_float32(a), at_least_float32(a if b is None else b)
    if a.shape[1] <= NARROW:
        return by_differences(a, to)
    centre = to.mean(0)
    from_centre, to_centre = a - centre, to - centre
    bound = jnp.square(from_centre).sum(-1)[:, None] + jnp.square(to_centre).sum(-1)
    by_product = bound - 2 * from_centre @ to_centre.T
    near = by_product < NEAR * bound
    itself = jnp.eye(len(a), dtype=bool) if b is None else None
    near = near if itself is None else near & ~itself
    found = lax.cond(near.any(), lambda: by_differences(a, to), lambda: by_product)
    return found if itself is None else jnp.where(itself, 0, (found + found.T) / 2)


def summed(kernel: Callable[[Array, Array], Array], variances: Sequence[float] | Array) -> Kernel:
    """sum_v kernel(d, v) of a squared distance d. Raises ValueError for no variances."""
    if not len(variances):
        raise ValueError("scales is empty; give one or more, each positive and finite")

    def of(d: Array) -> Array:
        v = jnp.asarray(variances, d.dtype).reshape(*[1] * d.ndim, -1)
        return kernel(d[..., None], v).sum(-1)

    return of


def gaussian_kernel(variances: Sequence[float] | Array) -> Kernel:
    """sum_v exp(-d / (2 v)) of a squared distance d."""
    return summed(lambda d, v: jnp.exp(-d / (2 * v)), variances)


def multiquadric_kernel(variances: Sequence[float] | Array) -> Kernel:
    """The inverse multiquadric sum_v 2 v / (2 v + d) of a squared distance d; its tails are heavy."""
    return summed(lambda d, v: 2 * v / (2 * v + d), variances)


def squared_mmd(a: Array, b: Array, kernel: Kernel) -> Array:
    """The squared maximum mean discrepancy of two sets, [N, K], [M, K] -> [].

    The unbiased estimate, which leaves out the pairs of a point with itself. For two equal distributions its mean is 0,
    so it can be below 0. Gretton et al. (2012), JMLR 13, eq. (3). NaN for a set of one point.
    """
    cross = kernel(squared_distances(a, b)).mean()

    def within(x: Array) -> Array:
        of_pairs = kernel(squared_distances(x))
        return (of_pairs.sum() - jnp.trace(of_pairs)) / float(len(x) * (len(x) - 1))  # an int may pass 2^31

    return within(a) + within(b) - 2 * cross


@jax.default_matmul_precision("highest")
def sliced_wasserstein(a: Array, b: Array, key: Key, directions: int = 50) -> Array:
    """The squared 2-Wasserstein distance of two sets on a line, averaged over random directions. [N, K] each -> [].

    Kolouri et al. (2019), arXiv:1804.01947: on a line the optimal transport pairs the sorted points.
    """
    theta = jax.random.normal(key, (a.shape[1], directions), a.dtype)
    theta = theta / jnp.linalg.norm(theta, axis=0, keepdims=True)
    return jnp.square(jnp.sort(a @ theta, axis=0) - jnp.sort(b @ theta, axis=0)).mean()
