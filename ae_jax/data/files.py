"""Arrays in `.npy` and `.npz` files."""

from pathlib import Path

import numpy as np

from ..core import Batch
from .dataset import DataError, Dataset, from_parts, make_batch, unit_interval

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


def _first(found: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((found[name] for name in names if name in found), None)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return (
                {key.lower(): file[key] for key in file.files}
                if isinstance(file, np.lib.npyio.NpzFile)
                else {"x": file}
            )
    except Exception as error:
        raise DataError(f"{path} cannot be read as a NumPy file: {error}") from error


def arrays(path: str | Path, *, test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """A `.npy` file, or a `.npz` file with `train` and `test` (and `valid`), or `x_train`, `y_train`, `x_test`...,
    or `x` and `y`, or one array of any name.

    Args:
        path: the file; x [N, D], [N, H, W] or [N, H, W, C], uint8 or floats in [0, 1]; y [N].
        test_fraction: how much to hold out where the file has no test split.
        seed: of that split.

    Raises:
        DataError: unreadable, no such arrays, or values that `unit_interval` refuses.
    """
    path = Path(path).expanduser()
    found = _read(path)
    parts = {part: x for part, names in NAMES.items() if (x := _first(found, names)) is not None}
    labels = {part: _first(found, LABELS[part]) for part in parts}
    if "train" not in parts:
        x = _first(found, ("x", *found)) if len(found) == 1 or "x" in found else None
        if x is None:
            raise DataError(
                f"{path} holds the arrays {sorted(found)}; it must hold train and test, or x_train and x_test, "
                "or x (and y), or a single array"
            )
        parts, labels = {"train": x}, {"train": _first(found, ("y", "label", "labels"))}
    scaled = unit_interval(list(parts.values()), str(path))
    batches: dict[str, Batch] = {}
    for (part, y), x in zip(labels.items(), scaled, strict=True):
        if y is not None and y.shape != (len(x),):
            raise DataError(f"{path} has {len(x)} {part} examples but labels of shape {y.shape}; it must be [{len(x)}]")
        batches[part] = make_batch(x, y)
    return from_parts(path.stem, batches, str(path), test_fraction, seed)
