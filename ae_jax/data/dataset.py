"""What `load` gives back, and how arrays of any kind become batches in [0, 1]."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Batch


class DataError(ValueError):
    """Data that cannot be found, read, or used as it is; the message says what to do."""


def expanded(path: str | Path) -> Path:
    """A path with ~ replaced by the home folder. Raises DataError where that cannot be known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: there is no such home folder ({error}); give the whole path") from error


def no_option(unknown: Sequence[str], known: Sequence[str]) -> str:
    """What is said of options that a source has not; written as arguments, which the command line turns to flags."""
    takes = f"it takes {', '.join(f'{name}=' for name in known)}" if known else "it takes none"
    return f"no option {', '.join(f'{name}=' for name in unknown)}; {takes}"


def refuse(bad: Sequence[str]) -> None:
    """Raises DataError that tells what is wrong with files, with all of them at once (ten of more); not of none."""
    if not bad:
        return
    if len(bad) == 1:
        raise DataError(bad[0])
    more = [f"and {len(bad) - 10} more"] * (len(bad) > 10)
    raise DataError("\n  ".join([f"{len(bad)} files cannot be used:", *bad[:10], *more]))


@dataclass(frozen=True)
class Dataset:
    """Data on the host, float32 in [0, 1]. `train, test = load(...)` unpacks it; `str()` says what it is."""

    name: str
    train: Batch  # x [N, H, W, C] or [N, D], y [N] int32 or None; NumPy arrays
    test: Batch
    source: str  # where it came from
    validation: Batch | None = None  # where the source has its own
    classes: tuple[str, ...] = ()  # names of the labels, where they have names
    factors: tuple[np.ndarray, np.ndarray] | None = None  # generative factors of train and test, each [N, F]
    factor_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()  # the words that x [N, V] counts, for documents
    test_names: tuple[str, ...] = ()  # what the test examples are called, where each is a file

    def __iter__(self) -> Iterator[Batch]:
        return iter((self.train, self.test))

    def __str__(self) -> str:
        shape = "x".join(map(str, self.train.x.shape[1:]))
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = " + ".join(f"{len(batch.x)} {split}" for split, batch in splits.items() if batch is not None)
        labels = "no labels" if self.train.y is None else f"{len(np.unique(np.asarray(self.train.y)))} classes"
        names = self.factor_names
        listed = " ".join(names) if len(names) < 10 else f"{' '.join(names[:3])} and {len(names) - 3} more"
        factors = f", factors {listed}" if names else ""
        return f"{self.name}: {counts} examples of {shape}, {labels}{factors}, from {self.source}"


def make_batch(x: Any, y: Any = None) -> Batch:
    """A `Batch` of NumPy arrays: x as it is, y as int32."""
    return Batch(x, None if y is None else np.asarray(y, np.int32))  # pyright: ignore[reportArgumentType]


def unit_interval(arrays: Sequence[np.ndarray], what: str) -> list[np.ndarray]:
    """The splits of one source as float32 in [0, 1], all scaled alike.

    uint8 is divided by 255, unless no value exceeds 1: then it is binary, and kept, as bool is. Floats must
    lie in [0, 1] already. Arrays of images [N, H, W] gain a channel axis.

    Raises:
        DataError: values outside [0, 1], NaN, another integer type, no examples, or examples of other shapes.
    """
    if any(a.ndim not in (2, 3, 4) for a in arrays):
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise DataError(f"{what} has the shape {shapes}; it must be [N, D], [N, H, W] or [N, H, W, C]")
    if len(shapes := {a.shape[1:] for a in arrays}) > 1:
        raise DataError(f"{what} has examples of different shapes in its splits: {sorted(shapes)}")
    if any(a.size == 0 for a in arrays):
        raise DataError(f"{what} holds no examples in one of its splits: {[a.shape for a in arrays]}")
    dtype = np.result_type(*arrays)
    if np.issubdtype(dtype, np.bool_) or np.issubdtype(dtype, np.floating):
        scale = 1.0
    elif np.issubdtype(dtype, np.integer):
        low, high = min(int(a.min()) for a in arrays), max(int(a.max()) for a in arrays)
        if dtype != np.uint8 and not (low >= 0 and high <= 1):
            raise DataError(
                f"{what} is {dtype} with values from {low} to {high}, and what 1.0 is cannot be known; "
                "save it as uint8 (0 to 255), or divide it yourself and save it as float32 in [0, 1]"
            )
        scale = 255.0 if high > 1 else 1.0
    else:
        raise DataError(f"{what} holds {dtype}; it must be uint8, bool or floating point")
    scaled = [a.astype(np.float32) for a in arrays]
    for a in scaled:
        if scale != 1:
            np.divide(a, np.float32(scale), out=a)
        if not np.isfinite(a).all():
            raise DataError(f"{what} holds {int((~np.isfinite(a)).sum())} values that are NaN or infinite; remove them")
        if a.min() < 0 or a.max() > 1:
            raise DataError(
                f"{what} has values from {a.min():g} to {a.max():g}, outside [0, 1]; scale it before saving: "
                "x / 255 for bytes kept as floats, (x - x.min()) / (x.max() - x.min()) otherwise"
            )
    return [a[..., None] if a.ndim == 3 else a for a in scaled]


def shuffled(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two disjoint parts of `count` examples, `fraction` of them (at least one) in the second."""
    if not 0 < fraction < 1:
        raise DataError(f"the fraction to split off is {fraction}; it must lie strictly between 0 and 1")
    if count < 2:
        raise DataError(f"{count} example cannot be split in two; give a source with its own train and test parts")
    held = min(max(1, round(fraction * count)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def take(batch: Batch, index: Any) -> Batch:
    """The examples of a batch at `index`."""
    return Batch(batch.x[index], None if batch.y is None else batch.y[index])


def validation_split(batch: Batch, fraction: float, seed: int) -> tuple[Batch, Batch]:
    """(train, validation): `fraction` of the examples, drawn without replacement by `seed`, in the second."""
    train, validation = shuffled(len(batch.x), fraction, seed)
    return take(batch, train), take(batch, validation)


def from_parts(
    name: str,
    parts: dict[str, Batch],
    source: str,
    test_fraction: float,
    seed: int,
    *,
    classes: tuple[str, ...] = (),
    factors: dict[str, np.ndarray] | None = None,
    factor_names: tuple[str, ...] = (),
    vocabulary: tuple[str, ...] = (),
    names: dict[str, list[str]] | None = None,
) -> Dataset:
    """A dataset from the splits its source has: "train", and perhaps "test" and "validation".

    Without a test split the validation split is the test; without either, `test_fraction` of train is.
    """
    parts, factors, names = dict(parts), dict(factors or {}), dict(names or {})
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        if factors:
            factors["test"] = factors.pop("validation")
        if names:
            names["test"] = names.pop("validation")
        source += ", its validation split as test"
    if "test" not in parts:
        train, test = shuffled(len(parts["train"].x), test_fraction, seed)
        parts["train"], parts["test"] = take(parts["train"], train), take(parts["train"], test)
        if factors:
            factors["train"], factors["test"] = factors["train"][train], factors["train"][test]
        if names:
            names["test"] = [names["train"][i] for i in test]
        source += f", {test_fraction:g} of it as test by seed {seed}"
    return Dataset(
        name,
        parts["train"],
        parts["test"],
        source,
        parts.get("validation"),
        classes,
        (factors["train"], factors["test"]) if factor_names else None,
        factor_names,
        vocabulary,
        tuple(names.get("test", ())),
    )
