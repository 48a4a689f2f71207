"""Checks of a run's arguments, before anything is compiled or written."""

import re
import zlib
from collections.abc import Sequence
from typing import Any, get_args

import jax
import numpy as np

from .. import evaluation
from ..checks import check_batch, check_choice, is_concrete, labelled
from ..core import (
    Algorithm,
    Batch,
    Key,
    Metrics,
    epoch,
    start,
)
from ..data.stream import Stream
from ..evaluation import Better
from .provenance import checksum

EXAMPLES = 2**20  # in traced data: enough for members that draw clusters or pseudo-inputs from the data


def check_length(epochs: int, batch_size: int) -> None:
    """Raises ValueError unless both numbers are whole, and at least 1."""
    for name, given in (("epochs", epochs), ("batch_size", batch_size)):
        if not isinstance(given, int | np.integer):
            raise ValueError(f"{name} is {given!r}; it must be a whole number, at least 1")
        if given < 1:
            raise ValueError(f"{name} is {given}; it must be at least 1")


def check_keep(keep: int) -> None:
    """Raises ValueError if no checkpoint would be left."""
    if keep < 1:
        raise ValueError(f"keep is {keep}; a run keeps its last checkpoint: give at least 1")


def check_saving(every_epochs: int, every_minutes: float, keep: int) -> None:
    """Raises ValueError if checkpoints would never be due, or not be kept."""
    check_keep(keep)
    if every_epochs < 1 or not every_minutes >= 0:
        raise ValueError(
            f"every_epochs is {every_epochs} and every_minutes {every_minutes}; wanted: every_epochs at least 1 and "
            "every_minutes at least 0"
        )


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError unless all seeds give different keys: JAX takes a seed modulo 2^32."""
    whole = all(isinstance(seed, int) for seed in seeds)
    if not seeds or not whole or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds are {list(seeds)}; give one or more different whole numbers, none negative")
    if max(seeds) >= 2**32:
        raise ValueError(f"seeds are {list(seeds)}; each must be below 2^32 = {2**32}, where JAX's keys repeat")


def check_examples(data: Any, what: str) -> None:
    """Raises TypeError unless the data are a `Batch` of arrays of numbers, ValueError for NaN and infinite values.

    Values that JAX traces pass.
    """
    check_batch(data)
    for name, a in zip(data._fields, data, strict=True):
        if a is None or not is_concrete(a):
            continue
        if not hasattr(a, "dtype") or np.asarray(a).dtype.kind in "OSU":
            kind = getattr(a, "dtype", type(a).__name__)
            raise TypeError(f"{name} of {what} is of type {kind}; give an array of numbers")
        if bad := int((~np.isfinite(np.asarray(a, a.dtype if a.dtype.kind in "biuf" else np.float32))).sum()):
            raise ValueError(f"{name} of {what} holds {bad} values that are NaN or infinite; remove them")


def traced(algorithm: Algorithm, data: Batch | Stream, validated: bool = False) -> Metrics:
    """The shapes of the metrics of a first pass over the data, or of evaluation if `validated`; compiles nothing.

    Raises the algorithm's own errors for data that it cannot learn from, such as data without labels.
    """

    def measured(data: Batch, key: Key) -> Metrics:
        rule = epoch(algorithm, len(data.x))
        params, memory, key_run = start(algorithm.init, rule, data, key)
        return algorithm.evaluate(params, data, key) if validated else rule.update(params, memory, data, key_run)[2]

    return jax.eval_shape(measured, seen(data), jax.random.key(0))


def seen(data: Batch | Stream) -> Batch:
    """The data that `init` sees; for a stream, the shapes of its first shard."""
    if not isinstance(data, Stream):
        return data
    like = lambda a: jax.ShapeDtypeStruct((data.size(0), *a.shape[1:]), a.dtype)
    return jax.tree.map(like, data.sample(1))


def functions_of(algorithm: Algorithm, shape: Sequence[int], dtype: Any) -> dict[str, int]:
    """CRC-32 of the traced `encode`, `decode` and `evaluate` of an algorithm, with their constants; compiles nothing.

    They distinguish algorithms whose params and metrics have the same names and shapes. The numbers of the same
    function change with the release of JAX and with its code.
    """
    x: Any = jax.ShapeDtypeStruct((EXAMPLES, *shape), dtype)
    data, key = Batch(x, jax.ShapeDtypeStruct((EXAMPLES,), np.int32)), jax.random.key(0)  # type: ignore[arg-type]
    params = jax.eval_shape(algorithm.init, key, data)
    z = jax.eval_shape(algorithm.encode, params, x)
    uses: dict[str, tuple[Any, ...]] = {"encode": (x,), "decode": (z,), "evaluate": (data, key)}
    found = {}
    for name, given in uses.items():
        made = jax.make_jaxpr(getattr(algorithm, name))(params, *given)
        is_key = lambda a: jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key)
        held = [jax.random.key_data(a) if is_key(a) else a for a in map(jax.numpy.asarray, made.consts)]
        text = re.sub("0x[0-9a-f]+", "", str(made.jaxpr))  # without addresses in memory
        found[name] = zlib.crc32(text.encode(), checksum(held))
    return found


def check_data(algorithm: Algorithm, **parts: Any) -> None:
    """Raises ValueError for examples outside the range of the algorithm's likelihood; streams and None pass.

    A part is a `Batch` under its name, such as train.
    """
    for name, part in parts.items():
        if algorithm.check is not None and isinstance(part, Batch):
            algorithm.check(part.x, f"the {name} part of the data")


def check_labels(algorithm: Algorithm, validation: Any) -> None:
    """Raises ValueError if all metrics need labels and no validation example has one; streams and None pass."""
    if not isinstance(validation, Batch) or algorithm.classes is None or algorithm.decodes:
        return
    if validation.y is None or not labelled(validation.y).any():
        raise ValueError(
            f"a classifier is measured by labels, and none of {len(validation.x)} validation examples of the data has "
            "one (-1 is none): hold out more examples (--validation), or none"
        )


def check_monitor(
    algorithm: Algorithm, data: Batch | Stream, monitor: str, better: Better | None = None, validated: bool = False
) -> Better:
    """The direction in which the metric that chooses the best epoch is better.

    Compiles nothing. Raises ValueError for a metric that the run does not measure, for one that has no direction, and
    for another direction than "higher" and "lower".
    """
    if better is not None:
        check_choice("better", better, get_args(Better))
    way = better or evaluation.better(monitor)
    if monitor == "loss":  # every algorithm has it
        return way or "lower"

    names = sorted(traced(algorithm, data, validated))
    useful = [name for name in names if evaluation.better(name)]
    if monitor not in names:
        raise ValueError(f"best is {monitor!r}; this run measures {names}, and {useful} can choose an epoch")
    if way is None:
        raise ValueError(
            f"best is {monitor!r}, a metric without a better direction; choose the best epoch by one of "
            f"{useful}" + ("" if monitor in evaluation.METRICS else ", or give its direction (better)")
        )
    return way


def check_arguments(seeds: Sequence[int], patience: int | None, validation: Any) -> None:
    """Raises ValueError for seeds or a patience that a run cannot have."""
    check_seeds(seeds)
    if patience is not None and patience < 1:
        raise ValueError(f"patience is {patience}; it counts epochs and must be at least 1")
    if patience is not None and validation is None:
        raise ValueError("early stopping (patience) needs held-out data: give a validation set (--validation 0.1)")
