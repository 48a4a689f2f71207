"""Statistics over seeds: means with confidence intervals, and tests of the difference of two methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import INSIDE


def summarise(values: Sequence[float] | np.ndarray, level: float = 0.95) -> dict[str, Any]:
    """One metric over independent seeds: its `values`, `mean`, `std` (n - 1 in the denominator), `low` and `high`.

    `low` and `high` are Student's confidence interval for the mean, mean -+ t std / sqrt(n). With one value the spread
    is unknown, and `std`, `low` and `high` are None. If a value is not finite, neither are the other statistics. The
    result has JSON's types. Raises ValueError for no values, and unless 0 < level < 1.
    """
    from scipy.stats import t

    INSIDE.check("level", level)
    array = _vector("values", values)
    count = len(array)
    equal = bool((array == array[0]).all())  # sum / count of equal values may round to another value
    with np.errstate(invalid="ignore"):  # inf - inf
        summary: dict[str, Any] = {"values": array.tolist(), "mean": float(array[0] if equal else array.mean())}
        if count == 1:
            return summary | {"std": None, "low": None, "high": None}
        std = 0.0 if equal and np.isfinite(array[0]) else float(array.std(ddof=1))
    half = float(t.ppf((1 + level) / 2, count - 1)) * std / count**0.5
    return summary | {"std": std, "low": summary["mean"] - half, "high": summary["mean"] + half}


def paired_difference(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95
) -> dict[str, Any]:
    """`summarise(a - b)` and `p`, the two-sided p value of the paired t test that the mean difference is 0.

    a[i] and b[i] must share everything random (seed, split). `p` is None for one pair. If all differences are equal,
    `p` is the test's limit: 1 if they are zero, else 0. Raises ValueError for unequal lengths and the errors of
    `summarise`.
    """
    from scipy.stats import t

    a, b = _vector("a", a), _vector("b", b)
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b {len(b)}; pairs need one of each")
    summary = summarise(a - b, level)
    mean, std = summary["mean"], summary["std"]
    if std is None:
        return summary | {"p": None}
    if std == 0:
        return summary | {"p": 1.0 if mean == 0 else 0.0}
    return summary | {"p": float(2 * t.sf(abs(mean) / (std / len(a) ** 0.5), len(a) - 1))}


def _vector(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} has the shape {array.shape}; it must be a list of at least one number")
    return array
