"""How far samples are from data, or codes from a prior, where no density is known: MMD and Parzen windows."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..distributions.distances import in_blocks, squared_distances


@jax.jit
@jax.default_matmul_precision("highest")
def squared_mmd(a: Array, b: Array, scales: Array | Sequence[float]) -> Array:
    """The squared maximum mean discrepancy by its unbiased estimate, [N, D], [M, D] -> [].

    For two equal distributions it is below 0 about as often as above, since pairs within a set are of different
    examples. The kernel is the mean over `scales` s of exp(-||x - y||^2 / (2 s^2)). Gretton et al. (2012), JMLR 13,
    eq. (3). Raises ValueError for a set of fewer than two.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(
            f"the sets have {n} and {m} examples; give at least 2 in each, as pairs within a set are needed"
        )

    def kernel(x: Array, y: Array | None = None) -> Array:
        distances = squared_distances(x, y)
        widths = jnp.asarray(scales, distances.dtype)
        return jnp.mean(jax.vmap(lambda s: jnp.exp(-distances / (2 * s**2)))(widths), 0)

    within = lambda k, count: (k.sum() - jnp.trace(k)) / (count * (count - 1))
    return within(kernel(a), n) + within(kernel(b), m) - 2 * kernel(a, b).mean()


@jax.jit
@jax.default_matmul_precision("highest")
def parzen_log_likelihood(samples: Array, x: Array, sigma: float | Array) -> Array:
    """log 1/N sum_i N(x; sample_i, sigma^2 I) in nats: [N, ...], [M, ...] -> [M]; 100 of x at once.

    Goodfellow et al. (2014), section 5. It says what samples look like in squared distance, and little of a model.
    """
    samples, x = samples.reshape(len(samples), -1), x.reshape(len(x), -1)
    constant = math.log(len(samples)) + x.shape[1] * (0.5 * math.log(2 * math.pi) + jnp.log(sigma))

    def some(x: Array) -> Array:  # [some, D]
        return jax.nn.logsumexp(-squared_distances(x, samples) / (2 * sigma**2), 1) - constant

    return in_blocks(some, x, 100)


def best_sigma(samples: Array, validation: Array, sigmas: Sequence[float]) -> float:
    """The window width under which validation data are most likely. Never choose it on test data.

    Raises ValueError for no widths, for one that is not positive and finite, and if every likelihood is NaN.
    """
    if not len(sigmas) or not all(0 < s < math.inf for s in sigmas):
        raise ValueError(f"the window widths are {list(sigmas)}; give one or more, each positive and finite")
    means = np.array([float(parzen_log_likelihood(samples, validation, s).mean()) for s in sigmas])
    if np.isnan(means).all():
        raise ValueError(
            "every window width gives a likelihood of NaN: remove samples and validation data that are not finite"
        )
    return float(sigmas[int(np.nanargmax(means))])
