"""The codes of a whole set: the aggregate posterior q(z) = 1/N sum_n q(z | x_n) of Gaussian posteriors.

Hoffman & Johnson (2016), "ELBO surgery". All numbers are in nats.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..checks import check_finite
from ..distributions.posteriors import LOG_2PI, log_each


@jax.jit
def decomposition(stats: Array, z: Array, log_p: Array | None = None) -> dict[str, Array]:
    """The parts of the mean KL(q(z | x) || p(z)) over a set, each [], estimated by a draw of each posterior.

    `information` is I(x; z), at most log N, and `aggregate` is KL(q(z) || p(z)): the two add up to the mean KL.
    `total_correlation` is KL(q(z) || prod_k q(z_k)), and `dimensions` is the sum of KL(q(z_k) || p(z_k)), given for the
    prior N(0, I) only: the two add up to `aggregate`. Chen et al. (2018), arXiv:1802.04942, eq. (2). 64 examples at
    once.

    Args:
        stats: means and log-variances of all posteriors, [N, 2K].
        z: a draw of each posterior, [N, K].
        log_p: log p(z) of the draws, [N]; None: the prior is N(0, I).
    """
    log_n = jnp.log(jnp.asarray(len(z), z.dtype))

    def densities(z: Array) -> tuple[Array, Array]:  # log q(z) [], log q(z_k) [K]
        each = log_each(stats, z[None])
        return jax.nn.logsumexp(each.sum(-1)) - log_n, jax.nn.logsumexp(each, 0) - log_n

    joint, marginals = lax.map(densities, z, batch_size=min(64, len(z)))
    log_q, normal = log_each(stats, z).sum(-1), -0.5 * (jnp.square(z) + LOG_2PI).sum(-1)
    found = {
        "information": (log_q - joint).mean(),
        "aggregate": (joint - (normal if log_p is None else log_p)).mean(),
        "total_correlation": (joint - marginals.sum(-1)).mean(),
    }
    return found | ({} if log_p is not None else {"dimensions": (marginals.sum(-1) - normal).mean()})


def unit_kl(stats: Any) -> np.ndarray:
    """The mean over examples of KL(q(z_k | x) || N(0, 1)) of each unit, in float64. [N, 2K] -> [K]."""
    mean, logvar = np.split(np.asarray(stats, np.float64), 2, -1)
    return 0.5 * (np.square(mean) + np.exp(logvar) - 1 - logvar).mean(0)


def is_standard(log_prob: Any, params: Any, size: int) -> bool:
    """Whether `log_prob(params, z)` of codes with `size` units is that of N(0, I), checked on 8 codes."""
    z = np.random.default_rng(0).normal(size=(8, size)).astype(np.float32)
    normal = -0.5 * (np.square(z) + LOG_2PI).sum(-1)
    return bool(np.allclose(log_prob(params, jnp.asarray(z)), normal, rtol=1e-4, atol=1e-4))


def gaussian_total_correlation(codes: Array | np.ndarray) -> float:
    """The total correlation of a Gaussian with the covariance of the codes: -1/2 log det of their correlation.

    In nats, a float; codes [N, K]. If the marginals are Gaussian, it is a lower bound of the codes' own total
    correlation; otherwise it is none. Units that do not vary do not count. NaN unless there are more examples than
    units, since the correlation is singular. Raises ValueError for codes that are not finite.
    """
    check_finite(codes=codes)
    codes = np.asarray(codes, np.float64)
    moving = codes[:, codes.std(0) > 1e-6 * np.abs(codes).max(initial=1e-300)]
    if moving.shape[1] < 2:
        return 0.0
    if len(codes) <= moving.shape[1]:
        return float("nan")
    return float(-0.5 * np.linalg.slogdet(np.corrcoef(moving, rowvar=False))[1])


def gaussian_wasserstein_correlation(codes: Array | np.ndarray) -> float:
    """W2^2 between a Gaussian with the codes' covariance S and the product of its marginals, divided by the trace of S.

    2 - 2 tr((D^(1/2) S D^(1/2))^(1/2)) / tr S, where D is the diagonal of S; a float, codes [N, K]. It is 0 for
    uncorrelated units and for units that do not vary. Unlike the total correlation, it is finite if S is singular.
    Locatello et al. (2019), arXiv:1811.12359. Raises ValueError for codes that are not finite.
    """
    check_finite(codes=codes)
    codes = np.asarray(codes, np.float64)
    covariance = np.cov(codes, rowvar=False, bias=True).reshape(codes.shape[1], -1)
    variance = np.diag(covariance)
    if not variance.any():
        return 0.0
    root = np.sqrt(variance)
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root[:, None] * covariance * root), 0)).sum()
    return max(float(2 - 2 * common / variance.sum()), 0.0)
