"""Weights that rise from 0 over the updates of a run.

Linear, and the sigmoid: Bowman et al. (2016), arXiv:1511.06349. Cyclical: Fu et al. (2019),
arXiv:1903.10145.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ..checks import Hyper, check_choice, check_whole

RiseName = Literal["linear", "cyclical", "sigmoid"]
STEEP = 10.0  # slope of the sigmoid, which goes from sigmoid(-5) to sigmoid(5)


def risen(name: str, value: Hyper, option: str, steps: int, shape: RiseName = "linear", cycles: int = 4) -> Hyper:
    """A schedule that rises from 0 to `value` in `steps` updates and stays there; for 0 steps the value as given.

    Args:
        name: name of the value, for messages.
        value: the value.
        option: name of `steps`, for messages.
        steps: number of updates of the rise.
        shape: linear; cyclical, in which each of `cycles` cycles rises from 0 in its first half and is at the value in
            its second (Fu et al., R = 0.5); or sigmoid, a logistic curve from 0 to the value.
        cycles: number of cycles of the cyclical rise.

    Raises ValueError for negative steps, and for a value that is a schedule already.
    """
    check_choice("warmup", shape, get_args(RiseName))
    check_whole(cycles=cycles)
    if steps < 0:
        raise ValueError(f"{option} is {steps}; it must not be negative")
    if not steps or callable(value):
        if steps:
            raise ValueError(f"{option} raises a constant {name}; the given {name} is a schedule already")
        return value
    if shape == "linear":
        return optax.linear_schedule(0.0, value, steps)

    def risen_at(t: Array) -> Array:
        u = jnp.clip(t / steps, 0, 1)
        if shape == "cyclical":
            part = jnp.where(u < 1, u * cycles % 1, 1)  # of the cycle
            return value * jnp.minimum(2 * part, 1)
        low, high = jax.nn.sigmoid(-STEEP / 2), jax.nn.sigmoid(STEEP / 2)
        return value * (jax.nn.sigmoid(STEEP * (u - 0.5)) - low) / (high - low)

    return risen_at
