"""Disentanglement of codes: how each factor of variation is spread over the units of a code.

Measures of whole sets: functions of all codes and factors, in NumPy.
"""

from typing import Any

import numpy as np

BINS = 20  # of a unit's range


def binned(codes: Any, bins: int = BINS) -> np.ndarray:
    """The bin of each number among `bins` equal bins of its unit's range. [N, K] -> [N, K], integers from 0."""
    codes = np.asarray(codes, np.float64)
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1)
    return np.minimum((bins * ((codes - low) / width)).astype(np.int64), bins - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """The plug-in estimate of I(a; b) in nats, for integers a [N] and b [N]."""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    joint = counts / len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / independent[some])).sum())


def information(codes: Any, factors: Any, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """(I(c_k; v_j) in nats of binned codes and factors, [K, F]; the entropies H(v_j), [F]).

    Args:
        codes: [N, K].
        factors: [N, F], integers: the level of each factor.
        bins: of each unit's range.
    Raises ValueError for shapes that do not fit.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not len(codes):
        raise ValueError(
            f"codes have the shape {codes.shape} and factors {factors.shape}; wanted: [N, K] and [N, F] of the same N"
        )
    if not bins >= 2:
        raise ValueError(f"bins is {bins}; it must be at least 2")
    places = binned(codes, bins)
    shared = [[mutual_information(unit, factor) for factor in factors.T] for unit in places.T]
    return np.array(shared), np.array([mutual_information(factor, factor) for factor in factors.T])


def mig(codes: Any, factors: Any, bins: int = BINS) -> float:
    """The mutual information gap: the mean over factors of (I(c_1; v) - I(c_2; v)) / H(v).

    c_1 and c_2 are the two units that tell most of the factor v. Factors without variation do not count. It is 0 where
    each unit occurs twice. Chen et al. (2018), arXiv:1802.04942, eq. (6), with the plug-in estimate on binned codes of
    Locatello et al. (2019), arXiv:1811.12359. Arguments and errors are those of `information`; NaN if no factor varies.
    """
    shared, entropies = information(codes, factors, bins)
    vary = entropies > 0
    if not vary.any():
        return float("nan")
    ordered = np.sort(shared, axis=0)[::-1]
    second = ordered[1] if len(ordered) > 1 else np.zeros_like(ordered[0])
    return float(((ordered[0] - second)[vary] / entropies[vary]).mean())
