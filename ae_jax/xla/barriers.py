"""Barriers against XLA's fusions that slow CPU programs down."""

import jax
import jax.numpy as jnp
from jax import Array, lax


@jax.custom_jvp
def materialize(sums: Array) -> Array:
    """The sums [B], unchanged: XLA computes them before their mean.

    Without it XLA fuses the mean and the sums into one sum over all elements, which runs in one thread.
    """
    return lax.optimization_barrier(sums)


materialize.defjvps(lambda tangent, _, sums: tangent)


@jax.custom_jvp
def materialize_gradient(rows: Array) -> Array:
    """The rows [N, K], unchanged: XLA computes their gradient as rows before it uses it.

    Put it where rows are reshaped to images, or to draws of many examples. Without it XLA sums a bias's gradient over
    all axes of the reshaped array, in one thread with strided reads, which takes ten times as long. Only the order of
    summation differs.
    """
    return rows


materialize_gradient.defjvps(lambda tangent, _, rows: lax.optimization_barrier(tangent))


def materialize_draws(z: Array) -> Array:
    """The draws [..., K], unchanged: XLA computes each draw once, even if it is used B times.

    Without it XLA fuses a draw into its uses, and evaluates the inverse error function of its noise B times. The
    barrier is a matrix product with the identity: XLA removes optimization barriers before it fuses, but keeps this.
    """
    return jnp.matmul(z, jnp.eye(z.shape[-1], dtype=z.dtype), precision="highest")


def at_least_float32(a: Array) -> Array:
    """The array in float32 or wider. In 16 bits a probability near 1 rounds to 1, and log(1 - p) is -inf."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
