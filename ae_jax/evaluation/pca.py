"""Principal components: the best linear code of a given size, and the variance that a code explains.

Jolliffe (2002), Principal Component Analysis. Fitted on train, measured on test.
"""

from functools import partial
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..core import Metrics, address
from ..distributions.distances import exponent
from ..distributions.sums import squared_error
from ..objectives.terms import reconstruction


class PCA(NamedTuple):
    """A fitted PCA; a pytree."""

    mean: Array  # [*shape]
    components: Array  # [K, *shape], orthonormal, by falling variance
    variances: Array  # [K], of the training data along each (1/N)


@partial(jax.jit, static_argnames=("components", "exact"))
@jax.default_matmul_precision("highest")
def fit(x: Array, components: int, exact: bool | None = None) -> PCA:
    """PCA of x [N, *shape] with at most min(N, D) components, where D is the number of dimensions.

    If `exact`, it computes the eigenvectors of the covariance, [D, D]. Otherwise it makes 16 steps of subspace
    iteration with 10 vectors more than components (Halko et al., 2011, SIAM Review 53, algorithm 4.4), which needs no
    such matrix. By default it is exact up to D = 2048. Raises ValueError for no components or no data.
    """
    count, shape = len(x), x.shape[1:]
    size = prod(shape)
    if components < 1 or not count:
        raise ValueError(f"PCA was asked for {components} components of {count} examples; both must be at least 1")
    kept = min(components, count, size)
    moved = x - x[0]  # exact for data far from zero, unlike differences from their rounded mean
    centre = moved.mean(0)
    scale = exponent(moved - centre)  # without it squares of small data round to 0
    flat = jnp.ldexp(moved - centre, -scale).reshape(count, size)
    if size <= 2048 if exact is None else exact:
        variances, vectors = jnp.linalg.eigh(flat.T @ flat / count)
    else:
        start = jax.random.normal(address(jax.random.key(0), "pca"), (size, min(kept + 10, size)), flat.dtype)
        basis = jnp.linalg.qr(start)[0]
        basis = jax.lax.fori_loop(0, 16, lambda _, q: jnp.linalg.qr(flat.T @ (flat @ q))[0], basis)
        inside = flat @ basis
        variances, rotation = jnp.linalg.eigh(inside.T @ inside / count)
        vectors = basis @ rotation
    top = vectors[:, ::-1][:, :kept].T.reshape(kept, *shape)
    return PCA(x[0] + centre, top, jnp.ldexp(jnp.maximum(variances[::-1][:kept], 0), 2 * scale))


@jax.default_matmul_precision("highest")
def encode(pca: PCA, x: Array) -> Array:
    """Codes. [B, *shape] -> [B, K]."""
    return (x - pca.mean).reshape(len(x), -1) @ pca.components.reshape(len(pca.components), -1).T


@jax.default_matmul_precision("highest")
def decode(pca: PCA, z: Array) -> Array:
    """The reconstruction, not clipped to the data's range. [B, K] -> [B, *shape]."""
    return jnp.tensordot(z, pca.components, 1) + pca.mean


def evaluate(pca: PCA, x: Array) -> Metrics:
    """The errors of `objectives.terms.reconstruction`, each [B], to compare with an autoencoder's."""
    return reconstruction(decode(pca, encode(pca, x)), x)


def total_variance(x: Array) -> Array:
    """The mean over examples of ||x - mean||^2, where mean is that of these examples. [N, ...] -> [].

    It is exactly 0 if no dimension varies, because it is computed from differences to the first example.
    """
    moved = x - x[0]
    return squared_error(moved, moved.mean(0)).mean()


def explained_variance(error: Array, x: Array) -> Array:
    """The part of the data's variance that reconstructions keep, 1 - E||x_hat - x||^2 / E||x - mean||^2. -> [].

    `error` is the squared error of each example, or its mean. Predicting the mean of x scores 0, however far from zero
    the mean lies; 1 is perfect, and a reconstruction worse than the mean scores below 0. Data without variance (one
    example, or equal ones) give NaN.
    """
    variance = total_variance(x)
    return jnp.where(variance > 0, 1 - jnp.mean(error) / jnp.where(variance > 0, variance, 1), jnp.nan)
