"""Comparing samples with data, or codes with a prior, without a density.

MMD and Parzen windows; on features, the Frechet distance, and precision and recall by balls of nearest neighbours.
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

    Since pairs within a set are of different examples, it may be negative; its expectation is 0 for equal
    distributions. The kernel is the mean over `scales` s of exp(-||x - y||^2 / (2 s^2)). Gretton et al. (2012), JMLR
    13, eq. (3). Raises ValueError for a set of fewer than two, for no scales, and for scales that are not positive and
    finite.
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
    """log 1/N sum_i N(x; sample_i, sigma^2 I) in nats. [N, ...], [M, ...] -> [M]; 100 of x at once.

    Goodfellow et al. (2014), section 5. It compares samples by squared distance, and says little about a model.
    """
    samples, x = samples.reshape(len(samples), -1), x.reshape(len(x), -1)
    constant = math.log(len(samples)) + x.shape[1] * (0.5 * math.log(2 * math.pi) + jnp.log(sigma))

    def some(x: Array) -> Array:  # [some, D]
        return jax.nn.logsumexp(-squared_distances(x, samples) / (2 * sigma**2), 1) - constant

    return in_blocks(some, x, 100)


def best_sigma(samples: Array, validation: Array, sigmas: Sequence[float]) -> float:
    """The window width with the largest mean `parzen_log_likelihood` of validation data. Never use test data for it.

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
    """||m - m'||^2 + tr(S + S' - 2 (S S')^(1/2)), where m, m' and S, S' are the means and covariances of the two sets.

    [N, D], [M, D] -> float, in float64. Dowson & Landau (1982), J. Multivariate Analysis 12. Two sets of N examples
    from one distribution have a distance of about (D (D + 1) / 2 + 2 D) / N, in units of the variance. So compare sets
    of one size, and state the features with the distance.

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
    """The result of `support`. `density` is about 1 for equal distributions; the others are fractions."""

    precision: float  # part of the samples that lie in a ball of some example
    recall: float  # part of the examples that lie in a ball of some sample
    density: float  # mean number of examples' balls that hold a sample, divided by the number of neighbours
    coverage: float  # part of the examples whose ball holds a sample


def support(examples: Any, samples: Any, neighbours: int = 5) -> Support:
    """Whether samples lie near examples, and cover all of them: precision, recall, density and coverage.

    Each point has a ball whose radius is the distance to its k-th nearest neighbour in its own set. [N, D], [M, D] ->
    four numbers, by float64 distances. The surface belongs to the ball, so a set compared with itself has precision,
    recall and coverage 1. Kynkaanniemi et al. (2019), arXiv:1904.06991, use 3 neighbours. Naeem et al. (2020),
    arXiv:2002.09797, add density and coverage, and use 5. For equal distributions precision falls with D, and the
    expected coverage is 1 - prod_{i=1..k} (N - i) / (N + M - i). State the features with the numbers, and use the same
    N and M in all rows of a table.

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

    def radii(x: np.ndarray) -> np.ndarray:  # each point is its own nearest, at place 0
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
