"""Sums over the dimensions of each example, and elementwise functions whose gradients are exact."""

import jax
import jax.numpy as jnp
from jax import Array

from ..xla.barriers import materialize


def sum_examples(a: Array) -> Array:
    """Sums over everything but the leading axis. [B, ...] -> [B]."""
    return materialize(a.reshape(a.shape[0], -1).sum(-1))


def squared_error(x_hat: Array, x: Array) -> Array:
    """||x_hat - x||^2, summed over dimensions. [B, ...], [B, ...] -> [B]."""
    return sum_examples(jnp.square(x_hat - x))


@jax.custom_jvp
def softplus(a: Array) -> Array:
    """log(1 + exp(a)), elementwise, as precise as `jax.nn.softplus`; in float32 on CPU it takes a third of the time."""
    if a.dtype.itemsize > 4:
        return jnp.maximum(a, 0) + jnp.log1p(jnp.exp(-jnp.abs(a)))
    s = 1 / (1 + 2 * jnp.exp(jnp.abs(a)))  # log(1 + exp(-|a|)) = 2 artanh(s), and s is at most 1/3:
    series = [2 / (2 * k + 1) for k in reversed(range(7))]  # the terms left out are within 1e-8
    return jnp.maximum(a, 0) + s * jnp.polyval(jnp.asarray(series, a.dtype), jnp.square(s), unroll=8)


softplus.defjvps(lambda t, _, a: t * jax.nn.sigmoid(a))
