"""Checks of arguments before anything is computed, and ranges of hyperparameters in annotations.

`checked` refuses numbers outside the `Range` in the annotation of a parameter.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, ParamSpec, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

LATE = 2**30  # updates; an int32 overflows at 2^31

if TYPE_CHECKING:
    import optax

    Optimizer = optax.GradientTransformation | optax.GradientTransformationExtraArgs
else:
    Optimizer = Any  # not optax's type: a search imports no optax


def is_concrete(value: Any) -> bool:
    """Whether the value is known before the program runs, so that its range can be checked.

    A hyperparameter that jax.vmap maps over, or that jit or grad traces, is not known: nothing checks its range.
    """
    return not isinstance(value, Tracer)


def check_finite(**arrays: Any) -> None:
    """Raises ValueError for an array that holds NaN or an infinite value; a traced array passes."""
    for name, array in arrays.items():
        if not is_concrete(array):
            continue
        values = array if isinstance(array, Array) else np.asarray(array)
        if not jnp.issubdtype(values.dtype, jnp.inexact):
            continue
        with jax.ensure_compile_time_eval():  # also inside a traced program, where the array is a constant
            bad = int((~(jnp if isinstance(values, Array) else np).isfinite(values)).sum())
        if bad:
            raise ValueError(f"{bad} of the {values.size} values of {name} are NaN or infinite; remove these examples")


def check_whole(least: int = 1, **counts: Any) -> None:
    """Raises ValueError for a count that is not a whole number of at least `least`."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
            raise ValueError(f"{name} is {count!r}; it must be a whole number, at least {least}")


def check_choice(
    what: str, chosen: Any, known: Iterable[str], more: str = "", error: type[Exception] = ValueError
) -> None:
    """Raises ValueError, or the error given, unless `chosen` is one of the known names.

    `more` ends the message, with other values that the caller takes.
    """
    if chosen not in (names := tuple(known)):
        raise error(f"{what} is {chosen!r}; it must be one of {', '.join(names)}{more}")


def check_names(what: str, given: Iterable[str], known: Iterable[str], error: type[Exception] = ValueError) -> None:
    """Raises ValueError, or the error given, for names, such as options, that are not among those of `what`."""
    names = tuple(known)
    if unknown := sorted(set(given) - {*names}):
        raise error(f"{what} has no {', '.join(unknown)}; it has {', '.join(names) or 'no options'}")


def final_value(hyper: float | Callable[[Any], Any]) -> float | Array:
    """The last value of a hyperparameter: the number itself, or its schedule after 2^30 updates.

    Raises ValueError for a schedule that never settles, such as a cyclical one.
    """
    if not callable(hyper):
        return hyper
    with jax.ensure_compile_time_eval():
        values = [hyper(jnp.asarray(LATE - back, jnp.int32)) for back in (0, *(3**i for i in range(17)))]
        first = hyper(jnp.asarray(0, jnp.int32))
    if all(map(is_concrete, (first, *values))):
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


def check_batch_size(batch_size: int, compares: bool = False) -> int:
    """The batch size. Raises ValueError unless it is at least 1, and 2 if the loss compares examples."""
    if is_concrete(batch_size) and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; a batch has at least 1 example")
    if compares and is_concrete(batch_size) and batch_size == 1:
        raise ValueError("batch_size is 1, and this algorithm compares the examples of a batch: give at least 2")
    return batch_size


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


Hyper = float | Callable[[Any], Any]  # a hyperparameter: a number, or an optax schedule over update steps

P = ParamSpec("P")
R = TypeVar("R")


class Range(NamedTuple):
    """In the annotation of a parameter: its finite range."""

    low: float
    high: float
    open: bool  # whether `low` and `high` are excluded
    wanted: str  # the end of the message
    whole: bool = False  # whole numbers only

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError unless the value is a number in the range, finite in float32, and whole if `whole` is set.

        None, a schedule and a traced value pass. Each number of a tuple is checked.
        """
        if value is None or callable(value) or not is_concrete(value):
            return
        if isinstance(value, tuple):
            for one in value:
                self.check(name, one)
            return
        try:
            given = np.asarray(np.nan if isinstance(value, str) else value)
            given = given if not self.whole or given.dtype.kind in "iuO" else np.asarray(np.nan)  # O: above 2^64
            number = given.astype(float)
        except (TypeError, ValueError, OverflowError):
            number = np.asarray(np.nan)
        ends = (number == self.low) | (number == self.high)
        finite = np.abs(number) <= np.finfo(np.float32).max
        if not np.all((self.low <= number) & (number <= self.high) & finite & ~(self.open & ends)):
            raise ValueError(f"{name} is {value}; {self.wanted}")


NOT_NEGATIVE = Range(low=0, high=inf, open=False, wanted="it must not be negative, and must be finite")
POSITIVE = Range(low=0, high=inf, open=True, wanted="it must be positive and finite")
PORTION = Range(low=0, high=1, open=False, wanted="it must be a fraction between 0 and 1")
INSIDE = Range(low=0, high=1, open=True, wanted="it must lie between 0 and 1, and be neither")


class Updates(NamedTuple):
    """In the annotation of a number of updates: a run needs more updates, or its schedule never reaches its end."""

    what: str  # the schedule's quantity and its end, such as "the units kept at k"


PLAIN = (bool, int, float, str, tuple, type(None))  # types whose == gives one bool, also while JAX traces


class Needs(NamedTuple):
    """In the annotation of a parameter: the values of another parameter, `option`, with which it has an effect.

    If a parameter has several `Needs`, one of them must be met. See `needs` and `unless`.
    """

    option: str
    values: tuple[Any, ...]
    among: bool  # True: these values; False: all others

    def met(self, options: Mapping[str, Any]) -> bool:
        """Whether the options meet the need; a schedule or a traced value equals none of the values."""
        given = options[self.option]
        return (isinstance(given, PLAIN) and given in self.values) == self.among

    def __str__(self) -> str:
        if self.among:
            return "give " + " or ".join(f"{self.option}={value!r}" for value in self.values)
        return f"{'give' if self.values == (None,) else 'change'} {self.option}="


def needs(option: str, *values: Any) -> Needs:
    """A parameter with this annotation has an effect only if `option` has one of the values."""
    return Needs(option, values, True)


def unless(option: str, *values: Any) -> Needs:
    """A parameter with this annotation has no effect if `option` has one of the values."""
    return Needs(option, values, False)


Weight = Annotated[Hyper, NOT_NEGATIVE]  # weight of a penalty; a negative one would be a reward
Amount = Annotated[float, NOT_NEGATIVE]
Positive = Annotated[float, POSITIVE]
Inside = Annotated[float, INSIDE]
COUNT = Range(low=1, high=2**31 - 1, open=False, wanted="it must be a whole number, at least 1", whole=True)
Count = Annotated[int, COUNT]
Width = Annotated[
    tuple[int, ...],
    Range(low=1, high=inf, open=False, wanted="a layer has at least 1 unit, a whole number", whole=True),
]


def annotations_of(make: Callable[..., Any], kind: type[R]) -> dict[str, list[R]]:
    """All annotations of type `kind` of each parameter of a function, or of each field of a dataclass, by name."""
    annotations = inspect.get_annotations(make, eval_str=True)
    kept = {name: getattr(annotation, "__metadata__", ()) for name, annotation in annotations.items()}
    return {name: [m for m in metadata if isinstance(m, kind)] for name, metadata in kept.items()}


def asked_of(make: Callable[..., Any], kind: type[R]) -> dict[str, R]:
    """The last annotation of type `kind`, `Range` or `Updates`, of each parameter that has one, by name."""
    return {name: found[-1] for name, found in annotations_of(make, kind).items() if found}


def defaults_of(make: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function's parameters, or of a dataclass's fields."""
    return {name: p.default for name, p in inspect.signature(make).parameters.items() if p.default is not p.empty}


def unused(make: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, list[Needs]]:
    """The given options of a function that have no effect with the other options, and the needs of each."""
    options = defaults_of(make) | dict(given)
    wanted = {name: found for name, found in annotations_of(make, Needs).items() if found and name in given}
    return {name: found for name, found in wanted.items() if not any(need.met(options) for need in found)}


def used(make: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options of a function that have an effect."""
    idle = unused(make, given)
    return {name: value for name, value in given.items() if name not in idle}


def check_used(make: Callable[..., Any], given: Mapping[str, Any], *spared: Mapping[str, Any]) -> None:
    """Raises ValueError for a given option that has no effect with the other options.

    None passes, and so does a value that the option also has in `spared`, such as its default.
    """
    options = defaults_of(make) | dict(given)
    for name, wanted in unused(make, given).items():
        value = given[name]
        same = isinstance(value, PLAIN) and any(name in some and some[name] == value for some in spared)
        if value is None or same:
            continue
        stated = " and ".join(f"{need.option}={_shown(options[need.option])}" for need in wanted)
        raise ValueError(
            f"{name}={value!r} has no effect with {stated}: leave it out, or {' or '.join(map(str, wanted))}"
        )


def _shown(value: Any) -> str:
    """The text of the value; for a record or a function, whose text is long, its type."""
    return repr(value) if type(value) in PLAIN else f"a {type(value).__name__}"


def checked(make: Callable[P, R]) -> Callable[P, R]:
    """The function with checks of its arguments.

    It raises ValueError for an argument outside the `Range` in its annotation, and for an argument that has no effect
    with the others (see `Needs`) and is not the default. It raises TypeError for a `net` that is no `Autoencoder`.
    If it makes an algorithm, the algorithm's `sample` and `draw` refuse a number of examples below 1.
    """
    ranges, signature, defaults = asked_of(make, Range), inspect.signature(make), defaults_of(make)

    @wraps(make)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments = signature.bind(*args, **kwargs).arguments
        for name, given in arguments.items():
            if name in ranges:
                ranges[name].check(name, given)
            elif isinstance(given, int) and abs(given) >= 2**31:
                raise ValueError(f"{name} is {given}; a whole number here is at most 2^31 - 1")
        if "net" in arguments and not hasattr(arguments["net"], "encode"):
            given = type(arguments["net"]).__name__
            raise TypeError(f"net is a {given}; wanted: an Autoencoder, such as networks.mlp(shape, 10)")
        check_used(make, arguments, defaults)
        made: Any = make(*args, **kwargs)
        drawn = {fn for fn in (getattr(made, "sample", None), getattr(made, "draw", None)) if fn is not None}
        counting = {fn: _counting(fn) for fn in drawn}  # `sample` and `draw` stay one function if they are one
        return made._replace(sample=counting.get(made.sample), draw=counting.get(made.draw)) if drawn else made

    return with_checks


def _counting(draw: Callable[..., R]) -> Callable[..., R]:
    """`draw(params, key, n)`, which raises ValueError unless n is a whole number of at least 1."""

    @wraps(draw)
    def with_check(params: Any, key: Any, n: int) -> R:
        check_whole(n=n)
        return draw(params, key, n)

    return with_check
