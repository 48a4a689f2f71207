"""The range of a dataset's values: [0, 1], real values as they are, or real values scaled by training statistics.

`fit` computes a `Standard` from training data. `apply` scales examples to the units of learning, `undo` scales them
back, and `in_data_units` gives an algorithm whose inputs and outputs are in the data's own units.
"""

from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from ..core import Algorithm, Batch
from ..errors import DataError

RangeName = Literal["unit", "standardised", "normalised", "as_is"]
FLOATS = "floats"  # as_is that refuses integers: a run reads activations so, and normalises them afterwards
ROUNDING = 1e-6  # of the mean; smaller deviations are rounding in float32
ROWS = 2**14  # examples that `fit` converts to float64 at once


class Standard(NamedTuple):
    """x -> (x - mean) / scale, fitted to training data. The fields are arrays, so that it can be saved and compiled."""

    mean: Any  # [*shape] of one example, or []
    scale: Any  # of the same shape, positive
    pixels: bool = False  # the training data lie in [0, 1], as images do

    def of_batches(self) -> tuple[Any, Any]:
        """Mean and scale with an axis for the examples of a batch, or as single numbers."""
        mean, scale = (a[None] if np.ndim(a) else a for a in self[:2])
        return mean, scale

    def to_json(self) -> dict[str, Any]:
        """The record in JSON's types; `from_json` reads it, with the same float32."""
        return {name: np.asarray(value).tolist() for name, value in self._asdict().items()}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Standard":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for other content."""
        mean, scale = (np.asarray(content[name], np.float32) for name in ("mean", "scale"))
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("its mean or scale is not finite, or a scale is not positive")
        return Standard(mean, scale, bool(content["pixels"]))


AS_IS = Standard(np.zeros((), np.float32), np.ones((), np.float32))


def apply(standard: Standard | None, x: Any) -> Any:
    """Examples [N, *shape] in the units of learning; x itself for None. NumPy or JAX arrays."""
    if standard is None:
        return x
    mean, scale = standard.of_batches()
    return (x - mean) / scale


def undo(standard: Standard | None, x: Any) -> Any:
    """The inverse of `apply`."""
    if standard is None:
        return x
    mean, scale = standard.of_batches()
    return x * scale + mean


def fit(kind: RangeName | str, parts: Iterable[np.ndarray]) -> Standard | None:
    """The `Standard` of training data in parts [n, *shape], which are read once, in float64; None for "unit".

    standardised: each dimension minus its mean, divided by its standard deviation; a constant dimension is not divided.
    normalised: all dimensions divided by one number, which makes the mean squared norm the number of dimensions D.
    as_is: unchanged.

    Raises DataError for "normalised" if all values are 0.
    """
    if kind == "unit":
        return None
    if kind in ("as_is", FLOATS):
        return AS_IS
    count, mean, squares, power, low, high = 0, np.zeros(()), np.zeros(()), 0.0, np.inf, -np.inf
    for part in _slices(parts):
        x, n = np.asarray(part, np.float64), len(part)
        low, high, power = min(low, x.min()), max(high, x.max()), power + np.square(x).sum()
        # Chan, Golub & LeVeque (1983): joins the sums of squared deviations of two parts
        own = x.mean(0)
        apart, total = own - mean, count + n
        squares = squares + np.square(x - own).sum(0) + np.square(apart) * (count * n / total)
        mean, count = mean + apart * (n / total), total
    pixels = bool(low >= 0 and high <= 1)
    if kind == "normalised":
        if not power:
            raise DataError("all training values are 0: they cannot be normalised; take range=as_is")
        scale = np.sqrt(power / (count * prod(mean.shape)))
        return Standard(np.zeros((), np.float32), np.asarray(scale, np.float32), pixels)
    deviation = np.sqrt(squares / count)
    least = np.maximum(ROUNDING * np.abs(mean), np.finfo(np.float32).tiny)
    constant = deviation <= least
    scale = np.where(constant, 1, deviation)
    return Standard(mean.astype(np.float32), scale.astype(np.float32), pixels)


def _slices(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for part in parts:
        for first in range(0, len(part), ROWS):
            yield part[first : first + ROWS]


def in_data_units(algorithm: Algorithm, standard: Standard | None) -> Algorithm:
    """The algorithm with inputs and outputs in the data's own units, for use after training.

    Losses and metrics stay in the units of learning.
    """
    if standard is None:
        return algorithm

    def taking(fn: Callable[..., Any] | None, gives: bool = False) -> Any:
        """`fn(params, x)` for examples in the data's units; with `gives`, its results are examples, too."""
        if fn is None:
            return None
        back = (lambda out: undo(standard, out)) if gives else lambda out: out
        return lambda params, x: back(fn(params, apply(standard, x)))

    def giving(fn: Callable[..., Any] | None) -> Any:
        return None if fn is None else lambda *given: undo(standard, fn(*given))

    def moving(fn: Callable[..., Any] | None) -> Any:
        if fn is None:
            return None
        return lambda params, x, key: tuple(undo(standard, out) for out in fn(params, apply(standard, x), key))

    def measuring(fn: Callable[..., Any] | None) -> Any:
        if fn is None:
            return None
        return lambda params, batch, key: fn(params, Batch(apply(standard, batch.x), batch.y), key)

    corrupt, sample = algorithm.corrupt, giving(algorithm.sample)
    return algorithm._replace(
        evaluate=measuring(algorithm.evaluate),
        encode=taking(algorithm.encode),
        decode=giving(algorithm.decode),
        reconstruct=taking(algorithm.reconstruct, gives=True),
        sample=sample,
        draw=sample if algorithm.draw is algorithm.sample else giving(algorithm.draw),
        transition=moving(algorithm.transition),
        log_weight=measuring(algorithm.log_weight),
        moments=taking(algorithm.moments),
        corrupt=None if corrupt is None else lambda x, key: undo(standard, corrupt(apply(standard, x), key)),
        predict=taking(algorithm.predict),
        symbols=taking(algorithm.symbols),
    )
