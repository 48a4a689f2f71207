"""How far samples are from data, or codes from a prior, where no density is known: MMD, Parzen windows, and, of
features, the Frechet distance and the balls of nearest neighbours.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..checks import COUNT, POSITIVE, check_finite, is_concrete
from ..distributions import distances
from ..distributions.distances import in_blocks, squared_distances


def squared_mmd(a: Array, b: Array, scales: Array | Sequence[float]) -> Array:
    """The squared maximum mean discrepancy by its unbiased estimate, [N, D], [M, D] -> [].

    For two equal distributions it is below 0 about as often as above, since pairs within a set are of different
    examples. The kernel is the mean over `scales` s of exp(-||x - y||^2 / (2 s^2)). Gretton et al. (2012), JMLR 13,
    eq. (3). Raises ValueError for a set of fewer than two, and for scales that are not positive and finite, or none.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(
            f"the sets have {n} and {m} examples; give at least 2 in each, as pairs within a set are needed"
        )
    if not len(scales):
        raise ValueError("scales is empty; give one or more, each positive and finite")
    if all(map(is_concrete, jax.tree.leaves(scales))):
        POSITIVE.check("scales", tuple(scales))
    return _squared_mmd(a, b, scales)


@jax.jit
@jax.default_matmul_precision("highest")
def _squared_mmd(a: Array, b: Array, scales: Array | Sequence[float]) -> Array:
    widths = jnp.asarray(scales, jnp.result_type(a, jnp.float32))
    return distances.squared_mmd(a, b, distances.gaussian_kernel(jnp.square(widths))) / len(widths)


@jax.jit
@jax.default_matmul_precision("highest")
def parzen_log_likelihood(samples: Array, x: Array, sigma: float | Array) -> Array:
    """log 1/N sum_i N(x; sample_i, sigma^2 I) in nats: [N, ...], [M, ...] -> [M]; 100 of x at once.

    Goodfellow et al. (2014), section 5. It judges samples by squared distance, and tells little about a model.
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


def frechet_distance(a: Any, b: Any) -> float:
    """||m - m'||^2 + tr(S + S' - 2 (S S')^(1/2)), of the Gaussians with the sets' means and covariances.

    [N, D], [M, D] -> float, in float64. Dowson & Landau (1982), J. Multivariate Analysis 12. Two samples of N from one
    distribution are apart by about (D (D + 1) / 2 + 2 D) / N, in units of its variance: compare sets of one size, and
    name the features beside the distance.

    Raises ValueError for sets of fewer than two, of different features, or not finite.
    """
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    if min(len(a), len(b)) < 2 or a.ndim != 2 or a.shape[1:] != b.shape[1:]:
        raise ValueError(f"the sets are {a.shape} and {b.shape}; give features [N, D] and [M, D], N and M at least 2")
    check_finite(a=a, b=b)
    covariances = [np.cov(x, rowvar=False).reshape(x.shape[1], -1) for x in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    apart = np.square(a.mean(0) - b.mean(0)).sum() + sum(np.trace(s) for s in covariances) - 2 * common
    return max(float(apart), 0.0)


class Support(NamedTuple):
    """See `support`; each is a fraction but `density`, which is about 1 for equal distributions."""

    precision: float  # part of the samples that lie in a ball of some example
    recall: float  # part of the examples that lie in a ball of some sample
    density: float  # examples' balls that a sample lies in, a mean over samples, over the number of neighbours
    coverage: float  # part of the examples whose ball holds a sample


def support(examples: Any, samples: Any, neighbours: int = 5) -> Support:
    """How far samples keep to where examples are, and reach all of it, by balls about each to its k-th neighbour.

    [N, D], [M, D] -> four numbers, by float64 distances. A ball holds its surface, so that a set has precision, recall
    and coverage 1 beside itself. Kynkaanniemi et al. (2019), arXiv:1904.06991, use 3 neighbours; Naeem et al. (2020),
    arXiv:2002.09797, who add density and coverage, 5. For equal distributions precision falls with D; coverage is
    1 - prod_{i=1..k} (N - i) / (N + M - i). Name the features beside the numbers, and
    give all rows of a table the same N and M.

    Raises ValueError for sets of different features, for values that are not finite, and unless both have more examples
    than `neighbours`.
    """
    from scipy.spatial.distance import cdist

    COUNT.check("neighbours", neighbours)
    real, made = (np.asarray(x, np.float64) for x in (examples, samples))
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1] or min(len(real), len(made)) <= neighbours:
        raise ValueError(
            f"the sets are {real.shape} and {made.shape}; give features [N, D] and [M, D], N and M above {neighbours}"
        )
    check_finite(examples=real, samples=made)
    block = max(1, 2**23 // max(len(real), len(made)))  # 64 MiB of distances

    def radii(x: np.ndarray) -> np.ndarray:  # each is its own nearest
        parts = range(0, len(x), block)
        return np.concatenate([np.partition(cdist(x[i : i + block], x), neighbours, 1)[:, neighbours] for i in parts])

    of_real, of_made = radii(real), radii(made)
    held, recalled, covered = np.zeros(len(made), int), np.zeros(len(real), bool), np.zeros(len(real), bool)
    for i in range(0, len(made), block):
        apart = cdist(made[i : i + block], real)  # [M, N]
        inside = apart <= of_real
        held[i : i + block] = inside.sum(1)
        covered |= inside.any(0)
        recalled |= (apart <= of_made[i : i + block, None]).any(0)
    return Support(
        precision=float((held > 0).mean()),
        recall=float(recalled.mean()),
        density=float(held.mean() / neighbours),
        coverage=float(covered.mean()),
    )
