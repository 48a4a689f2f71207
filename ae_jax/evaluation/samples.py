"""How far samples are from data, or codes from a prior, where no density is known: MMD and Parzen windows."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


def squared_distances(a: Array, b: Array) -> Array:
    """||a_i - b_j||^2 by one matrix product, about a's mean against cancellation, never below 0. -> [N, M]."""
    centre = a.mean(0)
    a, b = a - centre, b - centre
    return jnp.maximum(jnp.square(a).sum(-1)[:, None] + jnp.square(b).sum(-1) - 2 * a @ b.T, 0)


@jax.jit
@jax.default_matmul_precision("highest")
def squared_mmd(a: Array, b: Array, scales: Array | Sequence[float]) -> Array:
    """The squared maximum mean discrepancy, unbiased, so that it may fall below 0. [N, D], [M, D] -> [].

    The kernel is the mean over `scales` s of exp(-||x - y||^2 / (2 s^2)). Gretton et al. (2012), JMLR 13, eq. (3).
    """
    n, m = len(a), len(b)

    def kernel(x: Array, y: Array) -> Array:
        distances = squared_distances(x, y)
        widths = jnp.asarray(scales, distances.dtype)
        return jnp.mean(jax.vmap(lambda s: jnp.exp(-distances / (2 * s**2)))(widths), 0)

    within = lambda k, count: (k.sum() - jnp.trace(k)) / (count * (count - 1))
    return within(kernel(a, a), n) + within(kernel(b, b), m) - 2 * kernel(a, b).mean()


@jax.jit
@jax.default_matmul_precision("highest")
def parzen_log_likelihood(samples: Array, x: Array, sigma: float | Array) -> Array:
    """log 1/N sum_i N(x; sample_i, sigma^2 I) in nats: [N, ...], [M, ...] -> [M]; 100 of x at once.

    Goodfellow et al. (2014), section 5. It says what samples look like in squared distance, and little of a model.
    """
    samples, x = samples.reshape(len(samples), -1), x.reshape(len(x), -1)
    constant = math.log(len(samples)) + x.shape[1] * (0.5 * math.log(2 * math.pi) + jnp.log(sigma))
    centre = samples.mean(0)  # taken off once: distances stay as they are
    samples = samples - centre
    half = 0.5 * jnp.square(samples).sum(-1)

    def one(x: Array) -> Array:
        x = x - centre
        return jax.nn.logsumexp(-jnp.maximum(half - samples @ x + 0.5 * x @ x, 0) / sigma**2) - constant

    return lax.map(one, x, batch_size=min(100, len(x)))


def best_sigma(samples: Array, validation: Array, sigmas: Sequence[float]) -> float:
    """Of these window widths, the one under which validation data are most likely. Never choose it on test data.

    Raises ValueError for no widths, one that is not positive and finite, and where no likelihood is a number.
    """
    if not len(sigmas) or not all(0 < s < math.inf for s in sigmas):
        raise ValueError(f"the window widths are {list(sigmas)}; give one or more, each positive and finite")
    means = np.array([float(parzen_log_likelihood(samples, validation, s).mean()) for s in sigmas])
    if np.isnan(means).all():
        raise ValueError(
            "no window width gives a likelihood that is a number: samples or validation data are not finite"
        )
    return float(sigmas[int(np.nanargmax(means))])
