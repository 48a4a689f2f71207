"""Walks through codes: along each unit, and between two codes."""

from typing import NamedTuple

import numpy as np

from .aggregate import unit_kl


class Units(NamedTuple):
    """The units of a code in the order of their worth, and the range of each over a set of examples."""

    order: np.ndarray  # [K], the numbers of the units, largest worth first
    worth: np.ndarray  # [K], of unit k: its KL in nats, or the variance of its codes
    low: np.ndarray  # [K]
    high: np.ndarray  # [K]
    by_kl: bool  # whether `worth` is the KL


def units(codes: np.ndarray, stats: np.ndarray | None = None, width: float = 3.0, by_kl: bool = True) -> Units:
    """The units by their mean KL to N(0, 1) if the posteriors are Gaussian, else by the variance of their codes.

    The range of a unit is its mean -+ `width` standard deviations. With posteriors it is the deviation of the aggregate
    posterior q(z_k), which is near 1 if q(z_k) matches a prior N(0, 1). Without posteriors it is the deviation of the
    codes, and the range is clipped to their least and largest value.

    Args:
        codes: the codes of a set of examples, [N, K].
        stats: mean and log-variance of each Gaussian posterior, [N, 2K]; None for codes without a posterior.
        width: half of the range, in standard deviations.
        by_kl: False to order by the variance of the posterior means, if the prior is not N(0, I).
    """
    codes = np.asarray(codes, np.float64)
    mean, variance, noise = codes.mean(0), codes.var(0), np.zeros(codes.shape[1])
    if stats is not None:
        noise = np.exp(np.split(np.asarray(stats, np.float64), 2, -1)[1]).mean(0)
    reach = width * np.sqrt(variance + noise)  # Var z = Var E[z | x] + E Var[z | x]
    low, high = mean - reach, mean + reach
    if stats is None:
        low, high = np.maximum(low, codes.min(0)), np.minimum(high, codes.max(0))
    by_kl = by_kl and stats is not None
    worth = unit_kl(stats) if by_kl else variance
    return Units(order=np.argsort(-worth, kind="stable"), worth=worth, low=low, high=high, by_kl=by_kl)


def along(code: np.ndarray, unit: int, values: np.ndarray) -> np.ndarray:
    """The code with one unit set to each of the values. [K], [T] -> [T, K]."""
    walked = np.repeat(np.asarray(code)[None], len(values), 0)
    walked[:, unit] = values
    return walked


def straight(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Codes on the line from a to b, both included. [K], [K] -> [steps, K]."""
    t = np.linspace(0, 1, steps)[:, None]
    return ((1 - t) * a + t * b).astype(np.asarray(a).dtype)


def spherical(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Codes on the great circle from a to b, both included; norms change linearly. [K], [K] -> [steps, K].

    Shoemake (1985); for codes, White (2016), arXiv:1609.04468. Raises ValueError if a code is 0, or if the two are
    opposite, as no great circle is then the shortest.
    """
    long_a, long_b = (float(np.linalg.norm(np.asarray(z, np.float64))) for z in (a, b))
    if not long_a or not long_b:
        raise ValueError("a code is 0 and has no direction: take the straight path")
    u, v = np.asarray(a, np.float64) / long_a, np.asarray(b, np.float64) / long_b
    # Kahan's formula by half-chords: exact to rounding for all angles
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    if np.pi - angle < 1e-6:
        raise ValueError("the two codes are opposite, and no great circle is the shortest: take the straight path")
    t = np.linspace(0, 1, steps)[:, None]
    if angle < 1e-6:
        direction = (1 - t) * u + t * v
    else:
        direction = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
    return (direction * ((1 - t) * long_a + t * long_b)).astype(np.asarray(a).dtype)
