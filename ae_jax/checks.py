"""What can be asked of an argument before anything is computed."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
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


def check_batch(data: Any) -> None:
    """Raises TypeError for what is no `Batch`: an array, or a dataset of which no part was chosen."""
    if not hasattr(data, "x"):
        part = "its part, data.train or data.test" if hasattr(data, "train") else "Batch(x), or Batch(x, y) with labels"
        raise TypeError(f"the data are {type(data).__name__}, not a Batch: give {part}")


def check_optimizer(optimizer: Any) -> Any:
    """The optimizer. Raises TypeError for what is none, a learning rate say."""
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        like = f"optax.adam({optimizer if isinstance(optimizer, float) else 1e-3})"
        raise TypeError(f"the optimizer is {optimizer!r}; give one of optax, {like} say")
    return optimizer


def check_range(params: Any) -> Any:
    """The params. Raises ValueError for those of float16."""
    if any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(params)):
        raise ValueError(
            "the params, which follow the data, are float16, where squares of small gradients are 0 and Adam "
            "divides by them: give the data as float32, or as bfloat16, which has the range of float32"
        )
    return params


def check_loss(name: str, loss: Any) -> Any:
    """The loss. Raises ValueError unless its value and each metric is one number, or one for each example."""
    for of, value in {f"the loss {name!r}": loss.value, **loss.metrics}.items():
        try:
            chex.assert_rank(value, {0, 1})
        except AssertionError:
            raise ValueError(
                f"{of} has the shape {jnp.shape(value)}; wanted: a number for each example, [B], or one for all, []: "
                "sum over pixels and units first"
            ) from None
    return loss


def labelled(y: Any) -> np.ndarray:
    """Which examples have a label: below 0 is none, as TensorFlow Datasets says by -1. [N] -> [N], bool."""
    y = np.asarray(y)
    return y >= 0 if np.issubdtype(y.dtype, np.signedinteger) else np.ones(y.shape, bool)
