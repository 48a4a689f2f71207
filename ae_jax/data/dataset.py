"""`Dataset`, the result of `load`, and the conversion of arrays of any dtype to batches of float32."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_names, labelled
from ..core import Batch
from ..errors import DataError, warn
from .ranges import FLOATS, ROUNDING, RangeName, Standard, apply, fit

TEST_FRACTION = 0.2  # the default fraction of examples to hold out if data have no test split


def expanded(path: str | Path) -> Path:
    """A path with ~ replaced by the home folder. Raises DataError if there is no home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: there is no such home folder ({error}); give the whole path") from error


def check_sizes(**sizes: Any) -> None:
    """Raises DataError, with the option's name, for a number of pixels or examples below 1; None and words pass."""
    for name, size in sizes.items():
        numbers = size if isinstance(size, tuple | list) else () if isinstance(size, str) or size is None else (size,)
        if any(n < 1 for n in numbers):
            raise DataError(f"{name}={'x'.join(map(str, numbers))} is too small: {name} must be at least 1")


def options_of(reader: Callable[..., Any]) -> list[str]:
    """The options of a function that reads a source, its keyword-only parameters."""
    return [p.name for p in inspect.signature(reader).parameters.values() if p.kind is p.KEYWORD_ONLY]


def check_options(options: Iterable[str], reader: Callable[..., Any], source: object) -> None:
    """Raises DataError for options that the reader does not take.

    The message has options as NAME=, which the command line turns into flags.
    """
    given, known = ([f"{name}=" for name in names] for names in (options, options_of(reader)))
    what = source if source == reader.__name__ else f"{source}, which {reader.__name__} reads,"
    check_names(str(what), given, known, DataError)


def refuse(bad: Sequence[str]) -> None:
    """Raises one DataError for all bad files, with the first ten of the messages `bad`; nothing if there are none."""
    if not bad:
        return
    if len(bad) == 1:
        raise DataError(bad[0])
    more = [f"and {len(bad) - 10} more"] * (len(bad) > 10)
    raise DataError("\n  ".join([f"{len(bad)} files cannot be used:", *bad[:10], *more]))


@dataclass(frozen=True)
class Dataset:
    """Data on the host, float32. `train, test = load(...)` unpacks it; `str()` describes it.

    Values lie in [0, 1], or are real values in the units of `standard`.
    """

    name: str
    train: Batch  # x [N, H, W, C] or [N, D], y [N] int32 or None; NumPy arrays
    test: Batch
    source: str  # the place or package from which the data came
    validation: Batch | None = None  # the source's own validation split
    classes: tuple[str, ...] = ()  # names of the labels, if they have names
    factors: tuple[np.ndarray, np.ndarray] | None = None  # generative factors of train and test, each [N, F]
    factor_names: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()  # the words that x [N, V] counts, for documents
    test_names: tuple[str, ...] = ()  # the files of the test examples, if each is a file
    train_names: tuple[str, ...] = ()  # the same for the training examples
    validation_names: tuple[str, ...] = ()  # the same for the validation examples
    rows: tuple[np.ndarray, np.ndarray] | None = None  # the rows of train and test in a source without a split
    scale: float | None = None  # the integer that means 1.0, if one was given; None: see `white`
    standard: Standard | None = None  # the units of real values; None: values in [0, 1]
    columns: tuple[str, ...] = ()  # the names of the columns of x [N, D], for a table

    def __iter__(self) -> Iterator[Batch]:
        return iter((self.train, self.test))

    def __str__(self) -> str:
        shape = "x".join(map(str, self.train.x.shape[1:]))
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = " + ".join(f"{len(batch.x)} {split}" for split, batch in splits.items() if batch is not None)
        labels = _labels({split: batch.y for split, batch in splits.items() if batch is not None})
        names = self.factor_names
        listed = " ".join(names) if len(names) < 10 else f"{' '.join(names[:3])} and {len(names) - 3} more"
        factors = f", factors {listed}" if names else ""
        return f"{self.name}: {counts} examples of {shape}, {labels}{factors}, from {self.source}"


def _labels(y: dict[str, Any]) -> str:
    """A text with the number of classes in train, and the number of examples without a label in each split."""
    known = {split: np.asarray(of)[labelled(of)] for split, of in y.items() if of is not None}
    if not any(map(len, known.values())):
        return "no labels"
    without = {split: len(y[split]) - len(of) for split, of in known.items()}
    lacking = " and ".join(f"{count} of {split}" for split, count in without.items() if count)
    learned, met = set(known.get("train", ())), {int(label) for of in known.values() for label in of}
    notes = [f"{len(met - learned)} more in held-out examples alone"] * bool(met - learned)
    notes += [f"{lacking} without a label"] * bool(lacking)
    return f"{len(learned)} classes" + f" ({', '.join(notes)})" * bool(notes)


def make_batch(x: Any, y: Any = None) -> Batch:
    """A `Batch` of NumPy arrays: x as it is, y as int32."""
    return Batch(x, None if y is None else np.asarray(y, np.int32))  # pyright: ignore[reportArgumentType]


# the number that means 1.0 in integer types whose range says it, in any byte order
WHITE = {"u1": 255, "u2": 65535}


def ranged(dtype: Any) -> bool:
    """Whether the type is uint8 or uint16, in which the largest number means 1.0."""
    return np.dtype(dtype).str[1:] in WHITE


def white(dtype: Any, scale: float | None = None) -> float:
    """The number that means 1.0 in an array of that type: 255 in uint8, 65535 in uint16, 1 in all other types.

    `scale` replaces this number for integers; for bool and floats it has no effect.
    """
    dtype = np.dtype(dtype)
    return (scale or WHITE.get(dtype.str[1:], 1)) if dtype.kind in "iu" else 1


def check_scale(scale: float | None) -> None:
    """Raises DataError unless the scale is positive and finite."""
    if scale is not None and not 0 < scale < np.inf:
        raise DataError(f"scale={scale}: the integer that means 1.0 must be positive and finite, such as 1 or 255")


def tell_nearly_black(dtype: Any, what: str, seen: str = "") -> None:
    """Prints a line on stderr for uint8 or uint16 data without a value above 1, which are read as nearly black."""
    warn(
        f"note: no value{seen} of {what} exceeds 1, and {dtype} is read as 0 to {white(dtype):g}, so all is nearly "
        "black. If 1 means 1.0, save the data as bool, or train with scale=1 (--data-scale 1)"
    )


def tell_idle_scale(dtype: Any, what: str, scale: float | None) -> None:
    """Prints a line on stderr if a scale is given and the data are not integers."""
    if scale is not None and np.dtype(dtype).kind not in "iu":
        note = (
            f"note: scale={scale:g} (--data-scale) is the integer that means 1.0, and changes nothing in {what}, which"
        )
        warn(f"{note} is {dtype}")


def tell_rounded(x: np.ndarray, what: str, names: Sequence[str] = ()) -> None:
    """Prints a line on stderr for dimensions of real values [N, ...] that vary too little about their mean for float32.

    `names` are those of the dimensions, if they have names. Of large data some examples are looked at, evenly spaced.
    """
    if x.ndim < 2 or not x.size or np.can_cast(x.dtype, np.float32):
        return
    flat = x.reshape(len(x), -1)[:: -(-x.size // 2**24)].astype(np.float64)
    with np.errstate(invalid="ignore"):  # values that are not finite are refused later
        mean, deviation = np.abs(flat.mean(0)), flat.std(0)
    lost = np.flatnonzero((1e-12 * mean < deviation) & (deviation <= ROUNDING * mean))
    if len(lost):
        at = lost[0]
        which = f"column {names[at]!r}" if names else f"dimension {at}"
        more = f", and {len(lost) - 1} more," * (len(lost) > 1)
        about = f"deviates by {deviation[at]:.3g} from its mean {flat[:, at].mean():.3g}"
        warn(f"note: {which} of {what}{more} {about}, and float32 rounds that away: subtract the mean before saving it")


def tell_idle_split(what: str, test_fraction: float, seed: int) -> None:
    """Prints a line on stderr for options of a random split that have no effect, since the data have splits."""
    given = {"test_fraction": (test_fraction, TEST_FRACTION), "seed": (seed, 0)}
    if idle := [f"{name}={value:g}" for name, (value, default) in given.items() if value != default]:
        warn(f"note: {what} has held-out examples of its own, and no use for {' and '.join(idle)}")


def unit_interval(
    arrays: Sequence[np.ndarray],
    what: str,
    scale: float | None = None,
    tell: bool = True,
    kind: RangeName = "unit",
) -> list[np.ndarray]:
    """The splits of one source as float32 in [0, 1], each divided by the `white` of its type.

    uint8 is divided by 255 and uint16 by 65535, or integers of any type by `scale`. Bool, floats and other integers are
    unchanged. Arrays of images [N, H, W] get a channel axis. With `tell`, a line on stderr reports integers that are
    nearly black. With another `kind` of range than "unit", the quotients may be any finite numbers.

    Raises:
        DataError: values outside [0, 1], NaN, another type, no examples, or examples of different shapes.
    """
    check_scale(scale)
    if any(a.ndim not in (2, 3, 4) for a in arrays):
        if any(a.dtype.kind in "US" for a in arrays):
            raise DataError(f"{what} holds texts; an array must hold numbers: give texts as a folder of .txt files")
        shapes = ", ".join(str(a.shape) for a in arrays)
        raise DataError(f"{what} has the shape {shapes}; it must be [N, D], [N, H, W] or [N, H, W, C]")
    if len(shapes := {a.shape[1:] for a in arrays}) > 1:
        raise DataError(f"{what} has examples of different shapes in its splits: {sorted(shapes)}")
    if any(a.size == 0 for a in arrays):
        raise DataError(f"{what} holds no examples in one of its splits: {[a.shape for a in arrays]}")
    if tell and scale is None and kind == "unit" and all(ranged(a.dtype) and a.max() <= 1 for a in arrays):
        tell_nearly_black(arrays[0].dtype, what)
    scaled = [_scaled(a, what, scale, kind) for a in arrays]
    return [a[..., None] if a.ndim == 3 else a for a in scaled]


REAL = "range=standardised, normalised or as_is"  # the advice for real values


def _scaled(a: np.ndarray, what: str, scale: float | None, kind: RangeName) -> np.ndarray:
    """One array as float32: in [0, 1], or finite for a kind other than "unit". Raises DataError for other values."""
    if a.dtype.kind not in "biuf":
        raise DataError(f"{what} holds {a.dtype}; it must hold integers, bool or floats")
    if kind in ("normalised", FLOATS) and a.dtype.kind != "f":
        raise DataError(
            f"{what} holds {a.dtype}, and range=normalised is for activations, which are real numbers: save them as "
            "float32 or float16, or take another range"
        )
    one = white(a.dtype, scale)
    with np.errstate(over="ignore"):  # a value beyond the largest float32 is outside [0, 1]
        x = a.astype(np.float32)
    if one != 1:
        np.divide(x, np.float32(one), out=x)
    if x.min() >= 0 and x.max() <= 1:
        return x
    if a.dtype.kind == "f" and (bad := int((~np.isfinite(a)).sum())):
        raise DataError(f"{what} holds {bad} values that are NaN or infinite; remove them")
    if kind != "unit":
        if bad := int((~np.isfinite(x)).sum()):
            raise DataError(f"{what} holds {bad} values beyond float32, whose largest is 3.4e38; scale them down")
        return x
    short = lambda value: f"{value:g}" if a.dtype.type(f"{value:g}") == value else str(value)  # 1, but 1.0000001
    found = f"values from {short(a.min())} to {short(a.max())}"
    if a.dtype.kind == "f":
        raise DataError(
            f"{what} has {found}, outside [0, 1]; scale it before saving: "
            "x / 255 for bytes stored as floats, (x - x.min()) / (x.max() - x.min()) otherwise. "
            f"If they are real values, train with {REAL}"
        )
    if scale is None:
        raise DataError(
            f"{what} is {a.dtype} with {found}, and this type does not say which number means 1.0: train with "
            "scale=255, save it as uint8 (0 to 255), or divide it yourself and save it as float32 in [0, 1]. "
            f"If they are real values, train with {REAL}"
        )
    raise DataError(f"{what} is {a.dtype} with {found}, outside 0 to {scale:g}, the range of scale={scale:g}")


def shuffled(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two disjoint parts of `count` examples; the second has `fraction` of them, at least one.

    Raises DataError for a fraction outside (0, 1), and for fewer than two examples.
    """
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
    """(train, validation): the second has `fraction` of the examples, drawn without replacement by `seed`."""
    train, validation = shuffled(len(batch.x), fraction, seed)
    return take(batch, train), take(batch, validation)


def standardised(dataset: Dataset, kind: RangeName) -> Dataset:
    """The dataset scaled by a `Standard` that is fitted to its training examples, see `ranges.fit`.

    For "unit" the dataset is unchanged.
    """
    standard = fit(kind, [np.asarray(dataset.train.x)])
    if standard is None:
        return dataset
    on = lambda batch: None if batch is None else batch._replace(x=apply(standard, batch.x))
    parts = {name: on(getattr(dataset, name)) for name in ("train", "test", "validation")}
    return replace(dataset, **parts, standard=standard)


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
    scale: float | None = None,
    columns: tuple[str, ...] = (),
) -> Dataset:
    """A dataset from the splits of its source: "train", and perhaps "test" and "validation".

    Without a test split, the validation split becomes the test split; without both, `test_fraction` of train does.
    """
    parts, factors, names = dict(parts), dict(factors or {}), dict(names or {})
    if parts.keys() & {"test", "validation"}:
        tell_idle_split(source, test_fraction, seed)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        if factors:
            factors["test"] = factors.pop("validation")
        if "validation" in names:
            names["test"] = names.pop("validation")
        source += ", its validation split as test"
    rows = None
    if "test" not in parts:
        rows = train, test = shuffled(len(parts["train"].x), test_fraction, seed)
        parts["train"], parts["test"] = take(parts["train"], train), take(parts["train"], test)
        if factors:
            factors["train"], factors["test"] = factors["train"][train], factors["train"][test]
        if names:
            names["train"], names["test"] = ([names["train"][i] for i in part] for part in rows)
        source += f", {test_fraction:g} of it as test by seed {seed}"
    return Dataset(
        name=name,
        train=parts["train"],
        test=parts["test"],
        source=source,
        validation=parts.get("validation"),
        classes=classes,
        factors=(factors["train"], factors["test"]) if factor_names else None,
        factor_names=factor_names,
        vocabulary=vocabulary,
        test_names=tuple(names.get("test", ())),
        train_names=tuple(names.get("train", ())),
        validation_names=tuple(names.get("validation", ())),
        rows=rows,
        scale=scale,
        columns=columns,
    )
