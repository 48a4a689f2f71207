"""What can be asked of an argument before anything is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

LATE = 2**30  # updates; 2^31 - 1 and one more is below 0


def known(value: Any) -> bool:
    """Whether it has a value yet, so that its range can be checked and a program chosen by it.

    A hyperparameter that is swept by jax.vmap, or traced by jit or grad, has none: whoever sweeps keeps to its range.
    """
    return not isinstance(value, Tracer)


def final(hyper: float | Callable[[Any], Any]) -> float | Array:
    """The value that a hyperparameter ends at: itself, or that of its schedule after 2^30 updates.

    Raises ValueError for a schedule that never settles, such as a cyclical one.
    """
    if not callable(hyper):
        return hyper
    with jax.ensure_compile_time_eval():
        values = [hyper(jnp.asarray(LATE - back, jnp.int32)) for back in (0, *(3**i for i in range(17)))]
        first = hyper(jnp.asarray(0, jnp.int32))
    if all(map(known, (first, *values))):
        apart = max(abs(float(v) - float(values[0])) for v in values)
        if apart > 1e-4 * max(abs(float(v)) for v in (first, *values)):
            raise ValueError(
                "a schedule of this algorithm never settles, so evaluation has no value of it to use: let it end in a "
                "constant, as optax.join_schedules([schedule, optax.constant_schedule(1.0)], [10_000]) does after "
                "10,000 updates"
            )
    return values[0]
