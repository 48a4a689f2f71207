"""Data: `train, test = load("mnist")`, from a name, a file or a folder, as float32 in [0, 1].

This package alone knows TensorFlow Datasets, and imports it only for what must be prepared first.
"""

from pathlib import Path
from typing import Any

from . import prepared
from .dataset import DataError, Dataset, validation_split
from .files import arrays
from .images import Crop, Size
from .toys import digits


def load(name: str | Path, **options: Any) -> Dataset:
    """Data by name or path."""
    if name == "digits":
        return digits(**options)
    if Path(name).suffix in (".npz", ".npy"):
        return arrays(name, **options)
    root = prepared.folder(options.pop("data_dir", None))
    path = prepared.find(str(name), root)
    if path is None:
        raise DataError(f"{name} is not in {root}")
    return prepared.read(path, str(name), **options)
