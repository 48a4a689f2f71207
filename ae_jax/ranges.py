"""Ranges of hyperparameters, in the annotations of parameters; `checked` refuses numbers outside."""

import inspect
from collections.abc import Callable
from functools import wraps
from math import inf
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeVar

import numpy as np

from .checks import known
from .core import Hyper

P = ParamSpec("P")
R = TypeVar("R")


class Range(NamedTuple):
    """In the annotation of a parameter: its finite range."""

    low: float
    high: float
    open: bool  # neither `low` nor `high` itself
    wanted: str

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError unless the value is a number inside the range and finite in float32.

        None, a schedule and a traced value pass. Each number of a tuple is checked.
        """
        if value is None or callable(value) or not known(value):
            return
        if isinstance(value, tuple):
            for one in value:
                self.check(name, one)
            return
        try:
            number = np.asarray(np.nan if isinstance(value, str) else value).astype(float)
        except (TypeError, ValueError, OverflowError):
            number = np.asarray(np.nan)
        ends = (number == self.low) | (number == self.high)
        finite = np.abs(number) <= np.finfo(np.float32).max
        if not np.all((self.low <= number) & (number <= self.high) & finite & ~(self.open & ends)):
            raise ValueError(f"{name} is {value}; {self.wanted}")


NOT_NEGATIVE = Range(0, inf, False, "it must not be negative, and must be finite")
POSITIVE = Range(0, inf, True, "it must be positive and finite")
PORTION = Range(0, 1, False, "it must be a fraction between 0 and 1")
INSIDE = Range(0, 1, True, "it must lie between 0 and 1, and be neither")


class Updates(NamedTuple):
    """In the annotation of a number of updates: a run must have more, or its schedule never arrives."""

    what: str  # the schedule's quantity and its end, such as "the units kept at k"


Weight = Annotated[Hyper, NOT_NEGATIVE]  # of a penalty; a negative one would be a reward
Amount = Annotated[float, NOT_NEGATIVE]
Positive = Annotated[float, POSITIVE]
Inside = Annotated[float, INSIDE]
Count = Annotated[int, Range(1, 2**31 - 1, False, "it must be a whole number, at least 1")]
Width = Annotated[tuple[int, ...], Range(1, inf, False, "a layer has at least 1 unit")]


def asked_of(make: Callable[..., Any], kind: type[R]) -> dict[str, R]:
    """The annotations of a function's parameters of one kind, `Range` or `Updates`, by parameter."""
    annotations = inspect.get_annotations(make, eval_str=True)
    kept = {name: getattr(annotation, "__metadata__", ()) for name, annotation in annotations.items()}
    return {name: m for name, metadata in kept.items() for m in metadata if isinstance(m, kind)}


def checked(make: Callable[P, R]) -> Callable[P, R]:
    """The function with checks of its arguments.

    It raises ValueError for an argument outside the `Range` in its annotation, and TypeError for a `net` that is not an
    `Autoencoder`.
    """
    ranges, signature = asked_of(make, Range), inspect.signature(make)

    @wraps(make)
    def with_checks(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments = signature.bind(*args, **kwargs).arguments
        for name, given in arguments.items():
            if name in ranges:
                ranges[name].check(name, given)
            elif isinstance(given, int) and abs(given) >= 2**31:
                raise ValueError(f"{name} is {given}; nothing is counted beyond 2^31 - 1 here")
        if "net" in arguments and not hasattr(arguments["net"], "encode"):
            given = type(arguments["net"]).__name__
            raise TypeError(f"net is a {given}; wanted: an Autoencoder, such as networks.mlp(shape, 10)")
        return make(*args, **kwargs)

    return with_checks
