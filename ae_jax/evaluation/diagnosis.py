"""Remarks and sentences on a training, as pure functions of measured numbers.

A remark is a text on a problem, "" if there is none; `remarks` joins the remarks of several seeds. A `Sentence` says
how one part of the training went, with its evidence; its functions give None if the numbers do not tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import labelled
from ..errors import counted

FEW = 500  # updates; fewer hardly move a network from its start
WORSE = 0.02  # a larger gap to PCA's explained variance gets a remark
ALL = 0.9  # if PCA explains more than this, a code of the same size is not meant for compression
DEAD = 1e-4  # share of the largest variance; a unit with less variance is dead
ACTIVE = 0.01  # variance of a unit's posterior means; a unit with more depends on the example
STUCK = 0.005  # share of examples; a bit that differs in fewer is stuck
LITTLE = 0.05  # explained variance of training examples below which a network has learned little
WHOLE = 0.99  # if PCA explains more than this, it keeps nearly all of the data
COLLAPSED = 0.01  # nats of KL below which a unit has collapsed
OVERFITS, LOOSE = 1.5, 1.15  # unexplained variance of test examples over that of training examples


def reconstruction(explained: float | None, pca: float | None) -> str:
    """A remark on the explained variance, compared with PCA's with as many numbers if `pca` is given."""
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
    """A remark on codes [N, K] of different examples: a constant code, stuck bits, or dead units."""
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
    """Whether codes are bits: all numbers lie in [0, 1], and nine of ten within 0.1 of 0 or 1."""
    z = np.asarray(z)
    return bool(z.min() >= 0 and z.max() <= 1 and (np.abs(z - 0.5) > 0.4).mean() > 0.9 and z.max() > 0.5)


def collapse(z: np.ndarray, own: float, other: float) -> str:
    """A remark on posterior collapse: whether the code of a variational member depends on the example.

    z [N, K] are the posterior means of different examples. `own` is the squared error of a reconstruction from an
    example's own code, `other` that from another example's code.
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
    """A remark on a linear probe's accuracy for labels [N] if it is at chance, which is the largest class's share."""
    if accuracy is None:
        return ""
    labels = np.asarray(labels)[labelled(labels)]  # the accuracy is of the labelled alone
    chance = np.unique(labels, return_counts=True)[1].max() / len(labels)
    if accuracy > chance + 2 * np.sqrt(chance * (1 - chance) / len(labels)):
        return ""
    return (
        f"a linear probe of the code is at chance ({accuracy:.2f}; the largest class is {chance:.2f} of the test set)"
    )


def falling(losses: Sequence[float | None]) -> str:
    """A remark on the training loss of each epoch if it still fell in the last tenth of the epochs.

    The fall must exceed 4 % of the whole fall, and two standard errors.
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
    """A remark on too few updates, for a run of `epochs` epochs of `steps` steps."""
    if epochs * steps >= FEW:
        return ""
    more = -(-1000 // steps)
    made = f"only {counted(epochs * steps, 'update')} ({counted(epochs, 'epoch')} of {counted(examples, 'example')})"
    return f"there {'was' if epochs * steps == 1 else 'were'} {made}: try --epochs {more}"


def stopped(ran: int, epochs: int, best: int) -> str:
    """A remark on a run that early stopping ended."""
    return f"stopped early at epoch {ran} of {epochs} (the best is {best})" if ran < epochs else ""


class Sentence(NamedTuple):
    """A sentence on one part of a training, and its evidence."""

    text: str
    evidence: str


def course(losses: Sequence[float | None], most: int = 0, best: int = 0, few: bool = False) -> Sentence | None:
    """Says whether the training loss of the epochs falls, rises or has converged.

    `most` is the number of epochs in the settings. `best` is the epoch that early stopping kept. `few` says that there
    were few updates: then a loss that changes little is not called converged.
    """
    values = np.asarray([v for v in losses if v is not None], np.float64)
    if len(values) < most:
        return Sentence("Training stopped early.", f"at epoch {len(values)} of {most}; the best is {best}")
    if len(values) < 3:
        return None
    if told := falling(losses):
        return Sentence("The loss is still falling.", told.partition("(")[2].replace(")", ""))
    n = max(len(values) // 10, 1)
    before, last = values[-2 * n : -n].mean(), values[-n:].mean()
    least, whole = values.min(), values[0] - values.min()
    over = f"in the last {n} of {len(values)} epochs"
    if last - least > max(0.1 * whole, 2 * values[-n:].std()):
        return Sentence("The loss has risen.", f"it is {last:.4g} {over}, and was {least:.4g} at the least")
    return Sentence(
        "The loss changed little at the end." if few else "The loss has converged.",
        f"it changed by {last - before:+.2g} {over}, and by {last - values[0]:+.3g} in all",
    )


def fit(train: float, test: float, pca: float | None = None) -> Sentence | None:
    """Says whether the network overfits or underfits, by the explained variance of training and test examples.

    `pca` is PCA's explained variance, if it can be compared.
    """
    if not np.isfinite([train, test]).all() or train >= 1:
        return None
    both = f"explained variance {train:.3f} of training examples, {test:.3f} of test examples"
    ratio = (1 - test) / (1 - train)
    if train < LITTLE:
        return Sentence("It has learned little: reconstructions are about as far off as the mean example.", both)
    if ratio > OVERFITS:
        return Sentence("It overfits.", f"{both}: give it more examples, a smaller network, or early stopping")
    if ratio > LOOSE:
        return Sentence("It reconstructs training examples a little better than others.", both)
    if pca is not None and train < pca - WORSE and pca < ALL:
        return Sentence("It underfits, or its penalty holds it back.", f"{both}; PCA keeps {pca:.3f}")
    return Sentence("It does not overfit.", both)


def fit_classes(train: float, test: float, examples: int) -> Sentence:
    """Compares the error rate of a classifier on training examples with that on test examples.

    `examples` is the number of test examples.
    """
    both = f"error {train:.2%} of training examples, {test:.2%} of test examples"
    chance = 2 * np.sqrt(test * (1 - test) / examples)
    if test - train > max(0.02, chance):
        return Sentence("It classifies training examples better than others.", both)
    return Sentence("It classifies test examples about as well as training examples.", both)


def held_out(losses: Sequence[float | None]) -> Sentence | None:
    """Says that the validation loss has risen since its best epoch, if so. `losses` has None for epochs without one."""
    at = [e for e, v in enumerate(losses) if v is not None and np.isfinite(v)]
    if len(at) < 3:
        return None
    values = np.asarray([v for e, v in enumerate(losses) if e in at], np.float64)
    best = int(values.argmin())
    fall, rise = values[0] - values[best], values[-1] - values[best]
    if rise <= 0.04 * fall or best == len(values) - 1:
        return None
    return Sentence(
        f"Learning overfits from epoch {at[best] + 1} on.",
        f"the validation loss rises from {values[best]:.4g} to {values[-1]:.4g}; the params are those of the best "
        "epoch",
    )


def units(kl: Any) -> Sentence:
    """Says how many units have collapsed, by the KL of each unit to the prior in nats, [K]."""
    kl = np.asarray(kl, np.float64)
    gone = int((kl < COLLAPSED).sum())
    if gone:
        rest = f"; the others have {kl[kl >= COLLAPSED].min():.2g} to {kl.max():.3g}" if gone < len(kl) else ""
        have = "has" if gone == 1 else "have"
        return Sentence(f"{gone} of {counted(len(kl), 'unit')} {have} collapsed.", f"a KL below {COLLAPSED} nats{rest}")
    if len(kl) == 1:
        return Sentence("The unit is in use.", f"a KL of {kl[0]:.3g} nats")
    return Sentence(f"All {len(kl)} units are in use.", f"{kl.min():.2g} to {kl.max():.3g} nats of KL each")


def codes(z: np.ndarray) -> Sentence | None:
    """Says whether the units of codes [N, K] of different examples vary; see `code`."""
    if len(z) < 2:
        return None
    if told := code(z):
        head, _, rest = told.partition(": ")
        return Sentence(f"{head[0].upper()}{head[1:]}.", rest)
    least, most = np.sqrt([z.var(0, dtype=np.float64).min(), z.var(0, dtype=np.float64).max()])
    return Sentence("The code's units vary.", f"{z.shape[1]} units, standard deviations {least:.2g} to {most:.3g}")


def usage(used: Sequence[int], sizes: Sequence[int], perplexities: Sequence[float]) -> Sentence:
    """Says whether most symbols are used.

    Each alphabet has the number of symbols in use over a whole test set, its size, and its perplexity.
    """
    few = any(2 * n < size for n, size in zip(used, sizes, strict=True))
    of = ", ".join(f"{n} of {size}" for n, size in zip(used, sizes, strict=True))
    even = ", ".join(f"{p:.3g}" for p in perplexities)
    text = "Most symbols are never used." if few else "Most symbols are in use."
    return Sentence(text, f"{of} occur in the test set; perplexity {even}")


def dictionary(density: np.ndarray) -> Sentence:
    """Says how many units of a sparse code are dead, by the share of examples that each is active for, [K]."""
    dead = int((density == 0).sum())
    text = f"{dead} of {len(density)} units {'is' if dead == 1 else 'are'} dead." if dead else "No unit is dead."
    return Sentence(text, f"an example has {density.sum():.3g} active units on average")


def beside_pca(explained: float | None, pca: float | None) -> Sentence | None:
    """Compares the explained variance of test examples with PCA's with as many numbers.

    None if PCA keeps nearly all.
    """
    if explained is None or pca is None or not np.isfinite([explained, pca]).all() or pca > WHOLE:
        return None
    both = f"explained variance {explained:.3f}, PCA's with as many numbers {pca:.3f}"
    if explained < 0:
        return Sentence("Reconstructions are worse than the mean example.", both)
    gap = explained - pca
    how = "about as good as" if abs(gap) < WORSE / 4 else "better than" if gap > 0 else "worse than"
    return Sentence(f"Reconstructions are {how} PCA's.", both)


def last_run(loss: Mapping[str, Any], other: Mapping[str, Any], name: str) -> Sentence | None:
    """Compares the test loss of this run with that of another run of the same settings, which has the name `name`.

    Each loss has "values", one for each seed.
    """
    here, there = (np.asarray([v for v in m.get("values") or [] if v is not None], np.float64) for m in (loss, other))
    if not len(here) or not len(there):
        return None
    both = f"test loss {here.mean():.5g}, in {name} {there.mean():.5g}"
    if np.array_equal(here, there):
        return Sentence("It repeats the last run of these settings.", both)
    spread = [v.var(ddof=1) / len(v) for v in (here, there) if len(v) > 1]
    margin = 2 * np.sqrt(sum(spread)) if len(spread) == 2 else 0.01 * max(abs(here.mean()), abs(there.mean()))
    gap = here.mean() - there.mean()
    how = "about as good as" if abs(gap) <= margin else "better than" if gap < 0 else "worse than"
    return Sentence(f"It is {how} the last run of these settings.", both)


def remarks(of_seeds: Mapping[int, Sequence[str]]) -> list[str]:
    """The remarks of all seeds as one list.

    Place i of every seed's remarks is about the same subject. The list has an entry for each subject with a remark: the
    seeds that have one, and the remark of the first of them.
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
