"""Data: `train, test = load("mnist")`, from a name, a file or a folder, as float32: in [0, 1], or real values.

Data are loaded once, on the host, with NumPy; only `dynamic_binarise` belongs in a compiled step. No other package of
ae_jax imports TensorFlow Datasets; this one does for sets that are not on the disk or not in TFRECORD files.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from ..checks import needs
from ..errors import warn
from . import tables
from .binary import binarise, dynamic_binarise
from .dataset import DataError, Dataset, check_options, expanded, options_of, unit_interval, validation_split
from .disk import suffix
from .files import arrays, read_arrays
from .folders import files_read, kind_of, table_of, tables_in, tell_left_out, text_files, would_read
from .images import Crop, Size, folder, image_files, pixels_to_floats, read_images, scaled
from .ranges import RangeName, Standard, in_data_units
from .sprites import render, shapes
from .stream import (
    Source,
    Sources,
    Stream,
    fitted,
    generated,
    npy_files,
    npy_source,
    open_stream,
    prefetched,
    shard_size,
    split,
    stream_options_for,
    write_shards,
)
from .tables import is_table, table
from .text import bags, counts, read_texts, reuters, texts, tokens
from .tfds import WITHOUT, find, known_names, prepared, prepared_in
from .toys import digits, photos, red_and_blue
from .variants import Variant, variant
from .whitening import (
    normalise_patches,
    patch_deviation,
    patches,
    whiten_spectrum,
)


def variants(
    *,
    of: str = "mnist",
    kind: Variant = "rot",
    photographs: Annotated[str | None, needs("kind", "bg_img", "bg_img_rot")] = None,
    count: int = 10000,
    validation_count: int | None = None,
    test_count: int | None = None,
    seed: int = 0,
) -> Dataset:
    """A harder form of a set of digits, as Larochelle et al. (2007) made of MNIST: see `variant`.

    Args:
        of: a source of `load`: grey images with labels.
        kind: basic, rot (turned), bg_rand (on noise), bg_img (on photographs) or bg_img_rot (turned, on photographs).
        photographs: a folder of photographs, with folders train and test in it, for bg_img and bg_img_rot.
        count: how many to train on.
        validation_count: how many to validate on; a fifth of `count` by default.
        test_count: how many to test on; five times `count` by default.
        seed: of the split, the angles and the backgrounds.
    """
    return variant(
        load(of),
        kind,
        photographs=photographs,
        count=count,
        validation_count=validation_count,
        test_count=test_count,
        seed=seed,
    )


NAMED: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "photos": photos,
    "shapes": shapes,
    "red_and_blue": red_and_blue,
    "variants": variants,
    "reuters": reuters,
}

# every function with options for `load` and the command line, whose help shows the first text of an option
OPTIONS: dict[str, Callable[..., Dataset]] = {
    "photos": photos,
    "shapes": shapes,
    "red_and_blue": red_and_blue,
    "variants": variants,
    "TensorFlow Datasets": prepared,
    "arrays": arrays,
    "tables": table,
    "folder": folder,
    "texts": texts,
    "reuters": reuters,
}

# the sources of `load`, each with a line of description
SOURCES = {
    "digits": "scikit-learn's handwritten digits: 1437 + 360 of 8x8, 10 classes",
    "photos": "patches of scikit-learn's two sample photographs, grey or colour, any size",
    "shapes": "procedural squares, ellipses and hearts with known generative factors, grey or colour, any size",
    "red_and_blue": "a toy for colorization: red circles and blue squares that have the same grey, any size",
    "variants": "digits turned, on noise or on photographs: the harder forms of MNIST, or of any grey images",
    "mnist, fashion_mnist, cifar10, ...": "any image set of TensorFlow Datasets, from TFDS_DATA_DIR or downloaded",
    "FILE.npy, FILE.npz": "arrays: one; x and y; train and test; or x_train, y_train, x_test, y_test",
    "FILE.csv, FILE.tsv, FILE.parquet": "tables: a row an example, a column of numbers a feature, one column the label",
    "FOLDER of train.csv and test.csv": "a table for each split, with valid.csv if there, in any format of tables",
    "FOLDER of .npy files": "arrays in parts, with train/ and test/ if there, of any size: only by --stream",
    "reuters": "Reuters-21578 by NLTK: 7769 + 3019 news items as words' probabilities, 90 topics",
    "FOLDER of .txt files": "documents, as probabilities of the commonest words, with train/ and test/ if there",
    "FOLDER": "images in any format, with train/ and test/ and a folder per class if there; whole or as patches",
}


def load(source: str | Path, **options: Any) -> Dataset:
    """Data by name or path, float32. The result unpacks as train and test, and `print` describes it.

    Values lie in [0, 1], except in tables, counts of words, and arrays that are loaded with another `range`.

    A word is looked up as a name of `SOURCES`, as a prepared set of TensorFlow Datasets, as a file or folder, and as a
    set to download, in this order. A source that looks like a path is a path (see `is_name`). Options are the keyword
    arguments of the source's own function: `digits`, `photos`, `shapes`, `red_and_blue`, `variants`, `reuters`,
    `prepared` (TensorFlow Datasets), `arrays` (.npy, .npz), `table` (.csv, .tsv, .parquet), `folder` (images), `texts`
    (a folder of text files).

    Args:
        source: a name or a path.
        **options: as that function takes them, such as `patch=12` for photos or a folder.

    Raises:
        DataError: no such data, data that cannot be used as it is, or an option that does not apply to it.
    """
    reader, arguments = _reader(source, options.get("data_dir"))
    tell_shadowed(source, options.get("data_dir"))
    check_options(options, reader, source)
    if isinstance(seed := options.get("seed", 0), int) and seed < 0:
        raise DataError(f"seed={seed} is negative: give a whole number, at least 0")
    return reader(*arguments, **options)


def options_for(source: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the source takes, out of `options`. Raises DataError for unknown data."""
    known = options_of(_reader(source, options.get("data_dir"))[0])
    return {name: value for name, value in options.items() if name in known}


def is_name(source: str | Path, data_dir: str | Path | None = None) -> bool:
    """Whether a source is a known name: one of `NAMED`, or a prepared set of TensorFlow Datasets.

    Every command prefers such a name to a file or folder of the same name. A `Path`, a text that begins with . or ~, a
    name with the suffix of a data file, and an existing path with a separator are paths, not names. Several words are
    not a name.
    """
    name = str(source)
    if len(name.split()) != 1 or _looks_like_path(source) or (os.sep in name and os.path.exists(name)):
        return False
    return name in NAMED or find(name, prepared_in(data_dir)) is not None


def paths_of(source: str | Path, options: dict[str, Any] | None = None) -> list[Path]:
    """The user's files and folders from which a source is read: none for a name, except in options of `variants`."""
    options = options or {}
    if is_name(source, options.get("data_dir")):
        photographs = [Path(options["photographs"])] if options.get("photographs") else []
        return [path for part in (options.get("of"), *photographs) if part for path in paths_of(part)]
    path = expanded(source)
    return [path] * os.path.exists(path)  # Path.exists raises for words longer than a file's name may be


PLACES = ("of", "photographs", "data_dir", "manual_dir")  # options that may be files and folders


def absolute(source: str | Path, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The source and its options with absolute paths for existing files and folders; names are unchanged."""
    full = lambda given: os.path.abspath(expanded(given)) if os.path.exists(expanded(given)) else str(given)
    named = lambda given: is_name(given, options.get("data_dir"))
    places = {name: options[name] for name in PLACES if options.get(name)}
    placed = {name: str(of) if name == "of" and named(of) else full(of) for name, of in places.items()}
    return str(source) if named(source) else full(source), options | placed


def missing(source: str | Path) -> bool:
    """Whether a source is written as a path that does not exist."""
    name = str(source)
    return (_looks_like_path(source) or os.sep in name) and not (os.path.exists(expanded(source)) or is_name(source))


def tell_shadowed(source: str | Path, data_dir: str | Path | None = None) -> None:
    """Prints a line on stderr if a name hides a file or folder of the same name."""
    if is_name(source, data_dir) and os.path.exists(source):
        kind = "folder" if os.path.isdir(source) else "file"
        warn(f"{source}: the set of that name; for the {kind} write .{os.sep}{source}")


def _looks_like_path(source: str | Path) -> bool:
    name = str(source)
    known = (".npy", ".npz", *tables.SUFFIXES)
    return isinstance(source, Path) or name.startswith((".", "~", os.sep)) or suffix(name) in known


def default_range(source: str | Path) -> RangeName:
    """The range of a source's values if the user gives none."""
    of_tables = is_table(source) or (not is_name(source) and bool(tables_in(expanded(source))))
    return "standardised" if of_tables else "unit"


def _reader(source: str | Path, data_dir: str | Path | None) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
    """The function that reads a source, and its positional arguments."""
    name, path = str(source), expanded(source)
    if not name:
        raise DataError(f"no name and no path was given; known are {', '.join(NAMED)} and others by ae-jax list")
    if is_name(source, data_dir):
        return (NAMED[name], ()) if name in NAMED else (prepared, (name,))
    if path.is_dir():
        if (kind := kind_of(path)) == "arrays":
            raise DataError(f"{path} holds .npy files, which are streamed: add --stream (in Python, data.open_stream)")
        return {"texts": texts, "tables": table}.get(kind, folder), (path,)
    if path.is_file() and suffix(path) in (".npy", ".npz"):
        return arrays, (path,)
    if path.is_file() and is_table(path):
        return table, (path,)
    if path.exists():
        raise DataError(f"{path} is neither a folder of images nor a .npy, .npz, .csv, .tsv or .parquet file")
    if _looks_like_path(source):
        raise DataError(f"there is no file or folder {path.absolute()}")
    base, names = name.partition(":")[0].partition("/")[0], [*NAMED, *known_names(data_dir)]
    if base not in names:
        near = difflib.get_close_matches(base, names, 3)
        meant = f"; did you mean {' or '.join(near)}?" if near else "."
        raise DataError(
            f"there is no data called {name!r}, nor a file or folder{meant} "
            f"Known are {', '.join(NAMED)}, the names of TensorFlow Datasets (such as mnist), .npy, .npz, .csv and "
            ".parquet files and folders of images."
        )
    return prepared, (name,)


__all__ = [
    "OPTIONS",
    "PLACES",
    "SOURCES",
    "WITHOUT",
    "Crop",
    "DataError",
    "Dataset",
    "RangeName",
    "Size",
    "Source",
    "Sources",
    "Standard",
    "Stream",
    "Variant",
    "absolute",
    "arrays",
    "bags",
    "binarise",
    "counts",
    "default_range",
    "digits",
    "dynamic_binarise",
    "files_read",
    "fitted",
    "folder",
    "generated",
    "image_files",
    "in_data_units",
    "is_name",
    "is_table",
    "kind_of",
    "load",
    "missing",
    "normalise_patches",
    "npy_files",
    "npy_source",
    "open_stream",
    "options_for",
    "patch_deviation",
    "patches",
    "paths_of",
    "photos",
    "pixels_to_floats",
    "prefetched",
    "prepared",
    "read_arrays",
    "read_images",
    "read_texts",
    "red_and_blue",
    "render",
    "reuters",
    "scaled",
    "shapes",
    "shard_size",
    "split",
    "stream_options_for",
    "table",
    "table_of",
    "tables",
    "tables_in",
    "tell_left_out",
    "text_files",
    "texts",
    "tokens",
    "unit_interval",
    "validation_split",
    "variant",
    "variants",
    "whiten_spectrum",
    "would_read",
    "write_shards",
]
