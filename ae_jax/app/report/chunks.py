"""Applies functions to many examples in parts, and takes a few of many examples."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

CHUNK = 500  # examples that go through the network at once


def spread(x: Any, most: int) -> np.ndarray:
    """At most `most` of the examples, evenly spaced: a set that is sorted by class gives all classes."""
    return np.asarray(x[np.unique(np.linspace(0, len(x) - 1, min(len(x), most)).astype(int))])


def chunks(fn: Callable[[Any], tuple[jax.Array, ...]], x: Any, size: int = CHUNK) -> tuple[np.ndarray, ...]:
    """`fn` on parts of x of equal size, so that it compiles once.

    The last part begins early enough to have that size; the results of its repeated examples are dropped.
    """
    count, parts = len(x), []
    size = min(size, count)
    for first in range(0, count, size):
        start = min(first, count - size)
        parts.append([np.asarray(a)[first - start :] for a in fn(x[start : start + size])])
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
