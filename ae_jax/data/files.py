"""Arrays in `.npy` and `.npz` files."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..checks import check_choice
from ..core import Batch
from ..errors import warn
from .checks import check_channels, check_labels
from .dataset import (
    DataError,
    Dataset,
    expanded,
    from_parts,
    make_batch,
    standardised,
    tell_idle_scale,
    tell_rounded,
    unit_interval,
)
from .disk import suffix
from .ranges import FLOATS, RangeName

# common names of each part's examples in .npz files
PARTS = {
    "train": ("train", "x_train", "train_x", "train_images"),
    "test": ("test", "x_test", "test_x", "test_images"),
    "validation": ("valid", "validation", "val", "x_valid", "x_validation", "x_val", "valid_x"),
}
LABELS = {
    "train": ("y_train", "train_y", "train_labels"),
    "test": ("y_test", "test_y", "test_labels"),
    "validation": ("y_valid", "y_validation", "y_val", "valid_y", "valid_labels"),
}
FACTORS = {"train": ("factors_train",), "test": ("factors_test",), "validation": ("factors_valid",)}


def _first(found: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((found[name] for name in names if name in found), None)


def header(path: Path) -> np.memmap:
    """The array of a .npy file, mapped but not read. Raises ValueError for another length than its header says."""
    mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    size, wanted = path.stat().st_size, mapped.offset + mapped.nbytes
    if size != wanted:
        raise ValueError(f"it has {size} bytes, and its header says {wanted}")
    return mapped


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, or the array of a .npy file as "x".

    Raises DataError for a file of another format, of another length than its header says, or with a wrong checksum.
    """
    try:
        if not zipfile.is_zipfile(path):
            header(path)
            return {"x": np.load(path, allow_pickle=False)}
        found = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    array = name.endswith(".npy")
                    if array:
                        found[name.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                    if file.read() and array:  # zipfile compares the checksum at the end
                        raise ValueError(f"{name} in it is longer than its header says")
        return found
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes raise errors of many kinds: tokenize.TokenError, zlib.error, ...
        why = "it holds Python objects, or is damaged" if "pickle" in str(error) else str(error) or type(error).__name__
        wanted = "write it again, with numpy.save and an array of numbers"
        raise DataError(f"{path} cannot be read as a NumPy file ({why}); {wanted}") from error


def arrays(
    path: str | Path,
    *,
    range: RangeName = "unit",
    scale: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A `.npy` file, or a `.npz` file with `train` and `test` (and `valid`), or `x_train`, `y_train`, `x_test`...,
    or `x` and `y`, or one array of any name. Generative `factors` [N, F] and their `factor_names` come along. The
    labels of NAME.npy are in NAME.labels.npy beside it.

    Args:
        path: the file; x [N, D], [N, H, W] or [N, H, W, C]; y [N] whole numbers. 255 in uint8 and 65535 in uint16 mean
            1.0; bool, floats and other integers are unchanged.
        range: of the values: unit, which refuses values outside [0, 1]; or any real values, learned standardised (each
            dimension of mean 0 and deviation 1 on train), normalised (a mean squared norm of D) or as_is.
        scale: the integer that means 1.0, in any integer type: 1 for zeros and ones saved as uint8.
        test_fraction: the fraction to hold out if the file has no test split.
        seed: of that split.

    Raises:
        DataError: an unreadable file, one without these arrays, or values that `unit_interval` refuses.
    """
    if range != FLOATS:
        check_choice("range", range, get_args(RangeName), error=DataError)
    path = expanded(path)
    stored = read_arrays(path)
    found = {name.lower(): array for name, array in stored.items()}
    if len(found) < len(stored):
        raise DataError(f"{path} holds names that differ only in capitals, {sorted(stored)}: leave one of each")
    parts = {part: x for part, names in PARTS.items() if (x := _first(found, names)) is not None}
    labels, factors = ({part: _first(found, names[part]) for part in parts} for names in (LABELS, FACTORS))
    if "train" not in parts:
        x = found.get("x", next(iter(found.values())) if len(found) == 1 else None)
        if x is None:
            raise DataError(
                f"{path} holds the arrays {sorted(found)}; it must hold train and test, or x_train and x_test, "
                "or x (and y), or a single array"
            )
        parts, labels = {"train": x}, {"train": _first(found, ("y", "label", "labels"))}
        factors = {"train": found.get("factors")}
        beside = path.with_suffix(".labels.npy")
        if suffix(path) == ".npy" and beside.is_file():  # as a stream reads it
            labels = {"train": read_arrays(beside)["x"]}
    for part, x in parts.items():
        check_channels(x.shape, f"{path}, in {part},")
    if range != "unit":
        tell_rounded(parts["train"], str(path))
    scaled = unit_interval(list(parts.values()), str(path), scale, kind=range)
    tell_idle_scale(parts["train"].dtype, str(path), scale)
    batches: dict[str, Batch] = {}
    for part, x in zip(parts, scaled, strict=True):
        y, f = labels[part], factors[part]
        y = None if y is None else check_labels(y, len(x), f"{path}, in {part},")
        if f is not None and (f.ndim != 2 or len(f) != len(x)):
            raise DataError(f"{path} has {len(x)} {part} examples but factors of shape {f.shape}; it must be [N, F]")
        if f is not None and f.dtype.kind not in "biuf":
            raise DataError(f"{path} has factors of {f.dtype}; they must be numbers: save names as factor_names")
        if f is not None and (bad := int((~np.isfinite(f)).sum())):
            raise DataError(f"{path} has {bad} {part} factors that are NaN or infinite; factors are finite numbers")
        batches[part] = make_batch(x, y)
    used = [id(a) for of in (parts, labels, factors) for a in of.values()] + [id(found.get("factor_names"))]
    unused = [f"the array {name} {a.shape}" for name, a in found.items() if id(a) not in used]
    known = {part: f.astype(np.float32) for part, f in factors.items() if f is not None}
    names: Sequence[str] = ()
    if len(known) < len(parts):
        unused += [f"the factors of {part}, as other splits have none" for part in known]
        known = {}
    else:
        names = (
            found["factor_names"].tolist()
            if "factor_names" in found
            else [str(i) for i, _ in enumerate(known["train"][0])]
        )
    if unused:
        warn(f"left out: {'; '.join(unused)}")
    whole = from_parts(
        path.stem, batches, str(path), test_fraction, seed, factors=known, factor_names=tuple(names), scale=scale
    )
    return standardised(whole, range)
