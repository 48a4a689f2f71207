"""The codes of a whole set: the aggregate posterior q(z) = 1/N sum_n q(z | x_n) of Gaussian posteriors.

Hoffman & Johnson (2016), "ELBO surgery". All numbers are in nats.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..distributions.posteriors import LOG_2PI, log_each


@jax.jit
def decomposition(stats: Array, z: Array) -> dict[str, Array]:
    """The three parts of the mean KL(q(z | x) || N(0, I)) over a set, each []; 64 examples at once.

    `information` is I(x; z), at most log N; `total_correlation` KL(q(z) || prod_k q(z_k)); `dimensions` the sum of
    KL(q(z_k) || p(z_k)). The last two add up to KL(q(z) || p(z)). Chen et al. (2018), arXiv:1802.04942, eq. (2).

    Args:
        stats: means and log-variances of all posteriors, [N, 2K].
        z: a draw of each, [N, K].
    """
    log_n = jnp.log(jnp.asarray(len(z), z.dtype))

    def densities(z: Array) -> tuple[Array, Array]:  # log q(z) [], log q(z_k) [K]
        each = log_each(stats, z[None])
        return jax.nn.logsumexp(each.sum(-1)) - log_n, jax.nn.logsumexp(each, 0) - log_n

    joint, marginals = lax.map(densities, z, batch_size=min(64, len(z)))
    log_q, log_p = log_each(stats, z).sum(-1), -0.5 * (jnp.square(z) + LOG_2PI).sum(-1)
    return {
        "information": (log_q - joint).mean(),
        "total_correlation": (joint - marginals.sum(-1)).mean(),
        "dimensions": (marginals.sum(-1) - log_p).mean(),
    }


def gaussian_total_correlation(codes: Array | np.ndarray) -> float:
    """The total correlation of a Gaussian with the covariance of the codes: -1/2 log det of their correlation.

    It is a lower bound of the codes' own where marginals are Gaussian, and not elsewhere. Units that do not vary do not
    count.
    """
    codes = np.asarray(codes, np.float64)
    moving = codes[:, codes.std(0) > 1e-6 * np.abs(codes).max(initial=1e-300)]
    if moving.shape[1] < 2:
        return 0.0
    return float(-0.5 * np.linalg.slogdet(np.corrcoef(moving, rowvar=False))[1])
