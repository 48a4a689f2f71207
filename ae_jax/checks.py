"""Checks of arguments before anything is computed."""

from collections.abc import Callable, Iterable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

LATE = 2**30  # updates; an int32 overflows at 2^31


def known(value: Any) -> bool:
    """Whether the value is known before the program runs, so that its range can be checked.

    A hyperparameter that jax.vmap maps over, or that jit or grad traces, is not: the caller keeps to its range.
    """
    return not isinstance(value, Tracer)


def check_choice(
    what: str, chosen: Any, known: Iterable[str], more: str = "", error: type[Exception] = ValueError
) -> None:
    """Raises ValueError, or the error given, unless `chosen` is one of the known names.

    `more` ends the sentence, with what else the caller takes.
    """
    if chosen not in (names := tuple(known)):
        raise error(f"{what} is {chosen!r}; it must be one of {', '.join(names)}{more}")


def check_names(what: str, given: Iterable[str], known: Iterable[str], error: type[Exception] = ValueError) -> None:
    """Raises ValueError, or the error given, for names, such as those of options, that `what` lacks."""
    names = tuple(known)
    if unknown := sorted(set(given) - {*names}):
        raise error(f"{what} has no {', '.join(unknown)}; it has {', '.join(names) or 'none'}")


def final(hyper: float | Callable[[Any], Any]) -> float | Array:
    """The last value of a hyperparameter: the number itself, or its schedule after 2^30 updates.

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
                "a schedule of this algorithm never settles; evaluation needs its last value: end it in a constant. "
                "optax.join_schedules([schedule, optax.constant_schedule(1.0)], [10_000]) is 1 after 10,000 updates"
            )
    return values[0]


def check_batch(data: Any) -> None:
    """Raises TypeError unless the data are a `Batch`: for an array, or a dataset instead of its train or test part."""
    if not hasattr(data, "x"):
        part = "its part, data.train or data.test" if hasattr(data, "train") else "Batch(x), or Batch(x, y) with labels"
        raise TypeError(f"the data are of type {type(data).__name__}, not Batch: give {part}")


def check_batch_size(batch_size: int) -> None:
    """Raises ValueError unless a batch has at least one example."""
    if known(batch_size) and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch has at least 1 example")


def check_optimizer(optimizer: Any) -> Any:
    """The optimizer. Raises TypeError for anything else, such as a learning rate."""
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        like = f"optax.adam({optimizer if isinstance(optimizer, float) else 1e-3})"
        raise TypeError(f"the optimizer is {optimizer!r}; give an optax optimizer, such as {like}")
    return optimizer


def check_dtype(params: Any) -> Any:
    """The params. Raises ValueError for float16."""
    if any(leaf.dtype == jnp.float16 for leaf in jax.tree.leaves(params)):
        raise ValueError(
            "the params are float16, as the data are: Adam divides by squares of gradients, and small ones are 0 in "
            "float16. Give the data as float32, or as bfloat16, which has the range of float32"
        )
    return params


def check_loss(name: str, loss: Any) -> Any:
    """The loss. Raises ValueError unless its value and each metric is one number, or one for each example."""
    for of, value in {f"the loss {name!r}": loss.value, **loss.metrics}.items():
        try:
            chex.assert_rank(value, {0, 1})
        except AssertionError:
            raise ValueError(
                f"{of} has the shape {jnp.shape(value)}; wanted: [B], a number for each example, or [], one number: "
                "sum over pixels and units first"
            ) from None
    return loss


def labelled(y: Any) -> np.ndarray:
    """Which examples have a label: a negative one means none, as -1 does in TensorFlow Datasets. [N] -> [N], bool."""
    y = np.asarray(y)
    return y >= 0 if np.issubdtype(y.dtype, np.signedinteger) else np.ones(y.shape, bool)


def length(data: Any) -> int:
    """The number of examples. Raises TypeError unless `data` is a Batch, ValueError for none or for unequal lengths."""
    check_batch(data)
    lengths = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"a batch has lengths {sorted(lengths)}: give at least 1 example, and as many labels")
    return len(data.x)
