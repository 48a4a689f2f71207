"""Posteriors q(z | x) of codes, each a record of pure functions of an encoder's output."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from ..core import Init, Key, Params
from ..xla import draws
from .divergences import kl_standard_normal
from .likelihoods import nothing
from .priors import LOG_2PI, Prior, normal


class Posterior(NamedTuple):
    """q(z | stats), where stats [B, heads * K] is the encoder's output for x."""

    heads: int  # vectors of size K that the encoder emits
    prior: Prior  # the prior of `kl`, and the default one
    # (params, stats, key, samples, joint) -> z [S, B, K], log q(z | stats) [S, B]
    # `joint`, z -> log p(x, z) [S, B], is for posteriors that follow its gradient
    draw: Callable[..., tuple[Array, Array]]
    mean: Callable[[Params, Array], Array]  # (params, stats) -> the deterministic code, [B, K]
    kl: Callable[[Params, Array], Array] | None = None  # (params, stats) -> KL(q || prior) of each dimension, [B, K]
    log_prob: Callable[[Params, Array, Array], Array] | None = None  # (params, stats, z [..., B, K]) -> [..., B]
    # (params, stats) -> mean, log-variance of a Gaussian, [B, 2K]
    moments: Callable[[Params, Array], Array] | None = None
    init: Init = nothing  # params of its own
    groups: tuple[str, ...] = ()  # the groups that `init` makes; all of them learn


def reparameterize(key: Key, mean: Array, logvar: Array, samples: tuple[int, ...] = ()) -> Array:
    """z = mean + exp(logvar / 2) * eps, eps ~ N(0, I): draws from q, [*samples, B, K], through which gradients pass."""
    return placed(noise(key, mean, samples), mean, logvar)


def noise(key: Key, mean: Array, samples: tuple[int, ...] = ()) -> Array:
    """eps ~ N(0, I), [*samples, B, K]."""
    return draws.normal(key, (*samples, *mean.shape), mean.dtype)


def placed(eps: Array, mean: Array, logvar: Array) -> Array:
    """The draw from q for this noise, mean + exp(logvar / 2) * eps."""
    mean, logvar = (jnp.expand_dims(a, range(eps.ndim - a.ndim)) for a in (mean, logvar))
    return mean + jnp.exp(0.5 * logvar) * eps


def log_each(stats: Array, z: Array) -> Array:
    """log N(z_k; mean_k, exp(logvar_k)) of each dimension, for stats [..., 2K] and z [..., K] that broadcast."""
    mean, logvar = (jnp.expand_dims(a, range(z.ndim - a.ndim)) for a in jnp.split(stats, 2, -1))
    return -0.5 * (jnp.square((z - mean) * jnp.exp(-0.5 * logvar)) + logvar + LOG_2PI)


def gaussian(size: int) -> Posterior:
    """N(mean, diag exp(logvar)), the two heads; its prior is N(0, I). Kingma & Welling (2014), arXiv:1312.6114."""

    def draw(params: Params, stats: Array, key: Key, samples: int, joint: Any = None) -> tuple[Array, Array]:
        mean, logvar = jnp.split(stats, 2, -1)
        eps = noise(key, mean, (samples,))
        # log q from the noise, not from z - mean: the z of a narrow posterior is rounded
        return placed(eps, mean, logvar), -0.5 * (jnp.square(eps) + logvar[None] + LOG_2PI).sum(-1)

    return Posterior(
        heads=2,
        prior=normal(size),
        draw=draw,
        mean=lambda params, stats: jnp.split(stats, 2, -1)[0],
        kl=lambda params, stats: kl_standard_normal(*jnp.split(stats, 2, -1)),
        log_prob=lambda params, stats, z: log_each(stats, z).sum(-1),
        moments=lambda params, stats: stats,
    )
