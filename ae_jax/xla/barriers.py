"""Where XLA shall keep to what is written, as its own way takes CPUs longer."""

import jax
import jax.numpy as jnp
from jax import Array, lax


@jax.custom_jvp
def computed(sums: Array) -> Array:
    """The sums [B] themselves, which are computed before anything is done with them.

    XLA would make a mean of them another sum over all that they are sums of, by one thread.
    """
    return lax.optimization_barrier(sums)


computed.defjvps(lambda tangent, _, sums: tangent)


@jax.custom_jvp
def settled(rows: Array) -> Array:
    """The rows [N, K] themselves, whose gradient is computed as rows before it goes on.

    To be put where rows become images, or draws of many examples. XLA would make a bias's gradient, a sum over rows,
    one over all of the axes that rows became: by one thread and in leaps about memory, ten times as long. Numbers
    differ by the order of summation alone.
    """
    return rows


settled.defjvps(lambda tangent, _, rows: lax.optimization_barrier(tangent))


def single(a: Array) -> Array:
    """The numbers in float32 at least: in 16 bits a probability near 1 rounds to 1, whose complement has no log."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
