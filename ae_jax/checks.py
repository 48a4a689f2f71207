"""What can be asked of an argument before anything is computed."""

from typing import Any

from jax.core import Tracer


def known(value: Any) -> bool:
    """Whether it has a value yet, so that its range can be checked and a program chosen by it.

    A hyperparameter that is swept by jax.vmap, or traced by jit or grad, has none: whoever sweeps keeps to its range.
    """
    return not isinstance(value, Tracer)
