"""Arrays in `.npy` and `.npz` files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core import Batch
from .dataset import DataError, Dataset, expanded, from_parts, make_batch, unit_interval

# what each part is called in the `.npz` files that people have
NAMES = {
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


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            return {"x": file}
        with file:
            return {key.lower(): file[key] for key in file.files}
    except Exception as error:
        raise DataError(f"{path} cannot be read as a NumPy file: {error}") from error


def arrays(path: str | Path, *, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """A `.npy` file, or a `.npz` file with `train` and `test` (and `valid`), or `x_train`, `y_train`, `x_test`...,
    or `x` and `y`, or one array of any name. Generative `factors` [N, F] and their `factor_names` come along.

    Args:
        path: the file; x [N, D], [N, H, W] or [N, H, W, C], uint8 or floats in [0, 1]; y [N] whole numbers.
        test_fraction: how much to hold out where the file has no test split.
        seed: of that split.

    Raises:
        DataError: unreadable, no such arrays, or values that `unit_interval` refuses.
    """
    path = expanded(path)
    found = _read(path)
    parts = {part: x for part, names in NAMES.items() if (x := _first(found, names)) is not None}
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
    scaled = unit_interval(list(parts.values()), str(path))
    batches: dict[str, Batch] = {}
    for part, x in zip(parts, scaled, strict=True):
        y, f = labels[part], factors[part]
        if y is not None and y.shape != (len(x),):
            raise DataError(
                f"{path} has {len(x)} {part} examples but labels of shape {y.shape}; it must be ({len(x)},)"
            )
        if y is not None and (y.dtype.kind not in "biuf" or (y != y.astype(np.int32)).any()):
            raise DataError(f"{path} has labels that are not whole numbers ({y.dtype}); number the classes from 0")
        if f is not None and (f.ndim != 2 or len(f) != len(x)):
            raise DataError(f"{path} has {len(x)} {part} examples but factors of shape {f.shape}; it must be [N, F]")
        batches[part] = make_batch(x, y)
    known = {part: f.astype(np.float32) for part, f in factors.items() if f is not None}
    names: Sequence[str] = ()
    if len(known) < len(parts):
        known = {}
    else:
        names = (
            found["factor_names"].tolist() if "factor_names" in found else [*map(str, range(len(known["train"][0])))]
        )
    return from_parts(path.stem, batches, str(path), test_fraction, seed, factors=known, factor_names=tuple(names))
