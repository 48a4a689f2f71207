"""What went wrong in a training, in a sentence with its evidence: pure functions of numbers that were measured.

Each function gives a remark, or "" where nothing is wrong; `remarks` puts those of several seeds together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .checks import labelled

FEW = 500  # updates; fewer hardly move a network from where it started
WORSE = 0.02  # explained variance below PCA's that counts
ALL = 0.9  # explained variance from which PCA keeps nearly all: a code as long is there for something else
DEAD = 1e-4  # of the largest unit's variance; a unit below it says nothing
STUCK = 0.005  # share of examples; a bit that differs in fewer is stuck


def reconstruction(explained: float | None, pca: float | None) -> str:
    """Of the explained variance, and of that by PCA with as many numbers, if the two can be compared."""
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
    """Of codes [N, K] of different examples: one that is constant, bits that are stuck, units that are dead."""
    z = np.asarray(z, np.float64)
    variance, size = z.var(0), z.shape[1]
    if len(z) < 2:
        return ""
    if variance.max() <= 1e-10 * np.square(z).mean():
        return f"the code is constant: {len(z):,} test examples have the same"
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


def probe(accuracy: float | None, labels: Any) -> str:
    """Of a linear probe's accuracy on examples with these labels [N]: at chance, the share of the largest class."""
    if accuracy is None:
        return ""
    labels = np.asarray(labels)[labelled(labels)]  # what the accuracy is of
    chance = np.unique(labels, return_counts=True)[1].max() / len(labels)
    if accuracy > chance + 2 * np.sqrt(chance * (1 - chance) / len(labels)):
        return ""
    return (
        f"a linear probe of the code is at chance ({accuracy:.2f}; the largest class is {chance:.2f} of the test set)"
    )


def falling(losses: Sequence[float]) -> str:
    """Of the training loss after each epoch: whether its last tenth fell by more than a twenty-fifth of all, and than
    its own scatter.
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
    """Of a run of `epochs` epochs of `steps` steps."""
    if epochs * steps >= FEW:
        return ""
    more = -(-1000 // steps)
    return f"there were only {epochs * steps} updates ({epochs} epochs of {examples:,} examples): try --epochs {more}"


def stopped(ran: int, epochs: int, best: int) -> str:
    """Of a run that early stopping ended."""
    return f"stopped early at epoch {ran} of {epochs} (the best is {best})" if ran < epochs else ""


def remarks(of_seeds: Mapping[int, Sequence[str]]) -> list[str]:
    """The remarks on each seed, by what they are about (a place in the sequence), as one list: the seeds
    that have one, and that of the first of them.
    """
    found = []
    for about in zip(*of_seeds.values(), strict=True):
        said = {seed: remark for seed, remark in zip(of_seeds, about, strict=True) if remark}
        if said:
            first = next(iter(said.values()))
            which = f"seed{'s' * (len(said) > 1)} {', '.join(map(str, said))}: "
            found.append(first if len(of_seeds) == 1 else which + first)
    return found


def line(found: Sequence[str]) -> str:
    """All remarks in one line; "" of none."""
    return f"note: {'; '.join(found)}" if found else ""
