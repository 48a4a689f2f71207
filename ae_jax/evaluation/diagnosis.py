"""Remarks on a training that went wrong, each with its evidence: pure functions of measured numbers.

Each function gives a remark, or "" if nothing is wrong; `remarks` joins the remarks of several seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import labelled
from ..errors import counted

FEW = 500  # updates; fewer hardly move a network from its start
WORSE = 0.02  # the least remarkable gap to PCA's explained variance
ALL = 0.9  # PCA's explained variance from which a code of this size has another purpose than compression
DEAD = 1e-4  # of the largest unit's variance; a unit below it is dead
ACTIVE = 0.01  # variance of a unit's posterior means from which it tells of the example
STUCK = 0.005  # share of examples; a bit that differs in fewer is stuck


def reconstruction(explained: float | None, pca: float | None) -> str:
    """On the explained variance, beside PCA's with as many numbers, if the two can be compared."""
    if explained is None or not np.isfinite(explained):
        return ""
    if explained < 0:
        return f"reconstructions are worse than the mean example (explained variance {explained:.2f})"
    if pca is not None and explained < pca - WORSE and pca < ALL:
        return (
            f"reconstructions are worse than PCA's with as many numbers (explained variance {explained:.2f}, {pca:.2f})"
        )
    return ""


def code(z: np.ndarray) -> str:
    """On codes [N, K] of different examples: a constant code, stuck bits, dead units."""
    z = np.asarray(z, np.float64)
    variance, size = z.var(0), z.shape[1]
    if len(z) < 2:
        return ""
    if variance.max() <= 1e-10 * np.square(z).mean():
        return f"the code is constant: all {len(z):,} test examples have the same code"
    if binary(z):
        share = (z > 0.5).mean(0)
        stuck = int((np.minimum(share, 1 - share) < STUCK).sum())
        return f"{stuck} of {size} bits are stuck: the same for {1 - STUCK:.1%} of the test examples" if stuck else ""
    dead = int((variance < DEAD * variance.max()).sum())
    return f"{dead} of {size} code units are dead: they hardly vary over the test examples" if 2 * dead > size else ""


def binary(z: np.ndarray) -> bool:
    """Whether codes are bits: in [0, 1], and nine of ten numbers within 0.1 of an end."""
    z = np.asarray(z)
    return bool(z.min() >= 0 and z.max() <= 1 and (np.abs(z - 0.5) > 0.4).mean() > 0.9 and z.max() > 0.5)


def collapse(z: np.ndarray, own: float, other: float) -> str:
    """On the posterior means [N, K] of different examples and the squared error of what they decode to, beside that of
    another example's code: whether a variational member's code tells of the example.
    """
    size, active = z.shape[1], int((np.asarray(z, np.float64).var(0) > ACTIVE).sum())
    if active < max(1, size / 10):
        return f"posterior collapse: {active} of {size} code units are active (variance of their means above {ACTIVE})"
    if other <= own:
        return (
            f"posterior collapse: decoding another example's code is no worse (squared error {other:.4g}, its own "
            f"{own:.4g})"
        )
    return ""


def probe(accuracy: float | None, labels: Any) -> str:
    """On a linear probe's accuracy for labels [N]: whether it is at chance, the share of the largest class."""
    if accuracy is None:
        return ""
    labels = np.asarray(labels)[labelled(labels)]  # the accuracy is of the labelled alone
    chance = np.unique(labels, return_counts=True)[1].max() / len(labels)
    if accuracy > chance + 2 * np.sqrt(chance * (1 - chance) / len(labels)):
        return ""
    return (
        f"a linear probe of the code is at chance ({accuracy:.2f}; the largest class is {chance:.2f} of the test set)"
    )


def falling(losses: Sequence[float]) -> str:
    """On the training loss of each epoch: whether it still fell in the last tenth of the epochs, by more than a
    twenty-fifth of its whole fall and by more than its scatter.
    """
    values = np.asarray([v for v in losses if v is not None], np.float64)
    if len(values) < 3:
        return ""
    n = max(len(values) // 10, 1)
    before, last = values[-2 * n : -n], values[-n:]
    drop, whole = before.mean() - last.mean(), values[0] - last.mean()
    scatter = np.sqrt((before.var() + last.var()) / n)
    if not (whole > 0 and drop > max(0.04 * whole, 2 * scatter)):
        return ""
    return f"the loss is still falling (by {drop:.3g} in the last {n} of {len(values)} epochs): train longer"


def updates(epochs: int, steps: int, examples: int) -> str:
    """On too few updates, for a run of `epochs` epochs of `steps` steps."""
    if epochs * steps >= FEW:
        return ""
    more = -(-1000 // steps)
    made = f"only {counted(epochs * steps, 'update')} ({counted(epochs, 'epoch')} of {counted(examples, 'example')})"
    return f"there {'was' if epochs * steps == 1 else 'were'} {made}: try --epochs {more}"


def stopped(ran: int, epochs: int, best: int) -> str:
    """On a run that early stopping ended."""
    return f"stopped early at epoch {ran} of {epochs} (the best is {best})" if ran < epochs else ""


def remarks(of_seeds: Mapping[int, Sequence[str]]) -> list[str]:
    """The remarks of all seeds as one list. Each place of a seed's remarks is for one subject; the list names the seeds
    with a remark on it, and gives the first remark.
    """
    found = []
    for about in zip(*of_seeds.values(), strict=True):
        remarked = {seed: remark for seed, remark in zip(of_seeds, about, strict=True) if remark}
        if remarked:
            first = next(iter(remarked.values()))
            which = f"seed{'s' * (len(remarked) > 1)} {', '.join(map(str, remarked))}: "
            found.append(first if len(of_seeds) == 1 else which + first)
    return found


def line(found: Sequence[str]) -> str:
    """All remarks in one line; "" if there are none."""
    return f"note: {'; '.join(found)}" if found else ""
