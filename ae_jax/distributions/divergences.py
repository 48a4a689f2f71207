"""Divergences between distributions, in nats."""

import jax
import jax.numpy as jnp
from jax import Array

from ..xla.barriers import at_least_float32


@jax.custom_jvp
def exp_beyond_linear(v: Array) -> Array:
    """exp(v) - 1 - v, elementwise, never below 0; value and gradient are as precise near 0 as elsewhere."""
    near = jnp.abs(v) < 0.5  # beyond, expm1(v) - v loses only two bits
    terms = 8 if v.dtype.itemsize <= 4 else 15
    inside, series = jnp.where(near, v, 0), jnp.ones_like(v)
    for n in range(terms, 2, -1):  # v^2 / 2 (1 + v / 3 (1 + v / 4 (...)))
        series = 1 + inside / n * series
    return jnp.where(near, 0.5 * jnp.square(inside) * series, jnp.expm1(v) - v)


exp_beyond_linear.defjvps(lambda tangent, _, v: tangent * jnp.expm1(v))


def kl_standard_normal(mean: Array, logvar: Array) -> Array:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each dimension, in nats, never below 0. [B, K] -> [B, K].

    Kingma & Welling (2014), appendix B.
    """
    return 0.5 * (jnp.square(mean) + exp_beyond_linear(logvar))


def bernoulli_kl(rho: float | Array, rho_hat: Array, eps: float = 1e-6) -> Array:
    """KL(rho || rho_hat) of two Bernoulli distributions, elementwise in nats, never below 0. 0 < rho < 1.

    `rho_hat` is clipped to [eps, 1 - eps], in float32 if it has 16 bits.
    """
    q = jnp.clip(at_least_float32(rho_hat), eps, 1 - eps)

    def part(p: float | Array, q: Array, change: Array) -> Array:
        # p log(p / q) + q - p = p (exp(s) - 1 - s) with s = log(q / p); the added terms cancel between the two sides
        near = jnp.abs(change) < 0.5 * p
        s = jnp.where(near, jnp.log1p(jnp.where(near, change, 0) / p), jnp.log(q / p))
        return p * exp_beyond_linear(s)

    return (part(rho, q, q - rho) + part(1 - rho, 1 - q, rho - q)).astype(rho_hat.dtype)
