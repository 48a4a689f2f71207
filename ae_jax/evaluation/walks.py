"""Walks through codes: along each unit, and between two codes."""

from typing import NamedTuple

import numpy as np

from .aggregate import unit_kl


class Units(NamedTuple):
    """The units of a code, in the order of their use, and the range of each over a set of examples."""

    order: np.ndarray  # [K], the most used first
    worth: np.ndarray  # [K], of unit k: its KL in nats, or the variance of its codes
    low: np.ndarray  # [K]
    high: np.ndarray  # [K]
    by_kl: bool


def units(codes: np.ndarray, stats: np.ndarray | None = None, width: float = 3.0, by_kl: bool = True) -> Units:
    """The units by their mean KL to N(0, 1) if the posteriors are Gaussian, else by the variance of their codes.

    Each ranges over `width` deviations on both sides of its mean: deviations of the aggregate posterior q(z_k), near 1
    where it matches a prior N(0, 1); or of the codes, within their least and largest value.

    Args:
        codes: of a set of examples, [N, K].
        stats: mean and log-variance of each Gaussian posterior, [N, 2K]; None: codes without a posterior.
        width: of the range, in deviations.
        by_kl: False: by the variance of the posterior means, where the prior is not N(0, I).
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
    """Codes on the great circle from a to b, both included; lengths change evenly. [K], [K] -> [steps, K].

    Shoemake (1985); White (2016), arXiv:1609.04468, for codes. Raises ValueError where a code is 0 or the two are
    opposite, so that no circle is the shortest.
    """
    long_a, long_b = (float(np.linalg.norm(np.asarray(z, np.float64))) for z in (a, b))
    if not long_a or not long_b:
        raise ValueError("a code is 0 and has no direction: take the straight path")
    u, v = np.asarray(a, np.float64) / long_a, np.asarray(b, np.float64) / long_b
    # the angle by the half-chords, which is exact to rounding for all angles: Kahan
    angle = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    if np.pi - angle < 1e-6:
        raise ValueError("the two codes are opposite, and no great circle is the shortest: take the straight path")
    t = np.linspace(0, 1, steps)[:, None]
    if angle < 1e-6:
        direction = (1 - t) * u + t * v
    else:
        direction = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
    return (direction * ((1 - t) * long_a + t * long_b)).astype(np.asarray(a).dtype)
