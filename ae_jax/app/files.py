"""The user's files: reads inputs of commands, checks where commands may write, and writes files whole or not at all."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..checks import defaults_of
from ..data.disk import kept_by_run, suffix, write_atomically
from ..data.files import PARTS
from ..errors import RunError, warn


def check_shape(x: Any, shape: tuple[int, ...]) -> None:
    """Raises RunError unless x holds examples of that shape."""
    theirs, shape = tuple(x.shape[1:]), tuple(shape)
    if theirs != shape:
        hint = ""
        if len(shape) == 3 and theirs == (shape[2], *shape[:2]):
            hint = ": move their channels to the end, numpy.moveaxis(x, 1, -1)"
        elif np.prod(theirs) == np.prod(shape) and 1 in (len(theirs), len(shape)):  # a reshape would scramble others
            hint = f": reshape them to {(len(x), *shape)}"
        raise RunError(f"the examples have the shape {theirs}; this run was trained on {shape}{hint}")


def read_examples(
    source: str,
    shape: tuple[int, ...],
    vocabulary: Sequence[str] = (),
    resize: bool = False,
    options: dict[str, Any] | None = None,
    standard: data.Standard | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The examples of `source` in the units of the run's data, such as [0, 1], and their names: [N, *shape], N names.

    Args:
        source: a .npy or .npz file, or a folder of .npy files; a table, .csv, .tsv or .parquet, or a folder with
            one for each split (the test table is read; without one, the training table); an image, or a folder of
            images in the order of their names; for documents a text file, a folder of them, or some words; or the
            name of a data set, for its test set. A name wins over a folder of that name, see `data.is_name`.
        shape: of one example.
        vocabulary: the words that x counts, if examples are documents.
        resize: scale images to the shape, after the crop of the options; always so if the run's own images were
            cropped or scaled.
        options: of the run's own data. A data set is read with those options that it takes, arrays with `scale` and
            `range`.
        standard: the run's units of learning, which are not applied here. If they were fitted to values outside
            [0, 1], only arrays and tables are read.

    Raises:
        RunError, DataError: the source does not exist, is broken, or has examples of another shape.
    """
    options = options or {}
    table = data.counts if options.get("count_words") else data.bags  # as in training
    if not source.strip():
        raise RunError("the name is empty: give a file, a folder, the name of a data set or, for documents, words")
    path, name = data.expanded(source), data.is_name(source, options.get("data_dir"))
    there = os.path.exists(path) and not name  # Path.exists raises for words longer than a file's name may be
    path = data.table_of(path) if there else path
    if there and path.is_dir():
        data.tell_left_out(path, "texts" if vocabulary else "images")
    of_arrays = there and path.is_dir() and data.npy_files(path) and data.kind_of(path) == "arrays"
    if there and path.is_dir() and not of_arrays:
        parts = sorted(folder.name for folder in path.iterdir() if folder.is_dir() and data.npy_files(folder))
        if parts and data.kind_of(path) == "arrays":
            raise RunError(f"{path} has its arrays in folders, {', '.join(parts)}: name one, {path / parts[0]}")
    if there and data.is_table(path) and len([*shape]) > 1:
        raise RunError(f"{path} is a table; this run was trained on examples of shape {tuple(shape)}")
    of_arrays = of_arrays or suffix(path) in (".npy", ".npz") or (there and data.is_table(path))
    if standard is not None and not standard.pixels and not of_arrays:
        raise RunError(
            f"{source} is not an array, and this run learned from arrays of values outside [0, 1] (--data-range): give "
            "a .npy, .npz, .csv, .tsv or .parquet file in the units of its training data"
        )
    if of_arrays:
        files = data.npy_files(path) if path.is_dir() else [path]
        of_table = partial(read_rows, columns=options.get("columns", ()), label=options.get("label"))
        read = of_table if data.is_table(path) else read_array
        arrays = [a[None] if a.shape == tuple(shape) else a for a in map(read, files)]  # a single example
        names = [f"{file.name}[{i}]" for file, array in zip(files, arrays, strict=True) for i in range(len(array))]
        if len({array.shape[1:] for array in arrays}) > 1:
            raise RunError(f"the .npy files in {path} hold examples of different shapes")
        x = np.concatenate(arrays)
        # check shapes before values: codes given by mistake lie outside [0, 1]
        check_shape(x[..., None] if x.ndim == 3 else x, shape)
        unit = options.get("range", "unit") == "unit"
        if unit and x.dtype.kind == "f" and x.size and np.isfinite(x).all() and not (x.min() >= 0 and x.max() <= 1):
            raise RunError(
                f"{path} has values from {x.min():.4g} to {x.max():.4g}, and the data of this run lie in [0, 1]: scale "
                "them as the training data were; reconstructions may leave the range, clip these, numpy.clip(x, 0, 1)"
            )
        x = data.unit_interval([x], str(path), options.get("scale"), kind=options.get("range", "unit"))[0]
    elif vocabulary and there:
        files = data.text_files(path) if path.is_dir() else [path]
        if not files:
            raise RunError(f"{path} holds no text files (.txt)")
        read = data.read_texts(files)
        if not read:
            raise RunError(f"{path} holds no words")
        x, names = table(list(read.values()), vocabulary), named(list(read), path)
    elif there:
        files = data.image_files(path) if path.is_dir() else [path]
        image = len(shape) == 3 and shape[2] in (1, 3)
        cut = "pieces of larger images: cut these by ae_jax.evaluation.rate.tiles, see docs/guides/symbols.md"
        if resize and options.get("patch"):
            warn(f"note: --resize scales each whole image to {size_of(shape)}, and this run learned from {cut}")
        resize = resize or bool((options.get("crop") or options.get("resize")) and not options.get("patch"))
        how = {"crop": options.get("crop"), "resize": (shape[0], shape[1])} if resize and image else {}
        images = data.read_images(files, colour=shape[2] == 3 if image else None, deep=True, **how) if files else []
        if not images:
            raise RunError(f"{path} holds no images in a format that Pillow reads (.png, .jpg, ...)")
        sizes = sorted({pixels.shape[:2] for pixels in images})
        if len(sizes) > 1 or (image and sizes != [shape[:2]]):
            some = ", ".join("x".join(map(str, size)) for size in sizes[:3]) + ", ..." * (len(sizes) > 3)
            scaled = ": scale them with --resize (for a search, make the index with it)"
            raise RunError(
                f"{path} has images of the size {some} (height x width), and this run was trained on {size_of(shape)}"
                + (f" {cut}" if options.get("patch") else scaled)
            )
        x, names = data.pixels_to_floats(images), named(files, path)
    elif not name and not (vocabulary and len(source.split()) > 1) and (path.suffix or len(path.parts) > 1):
        raise RunError(f"there is no file or folder {source}")
    elif vocabulary and not name:  # the source is some words: one document
        x, names = table([source], vocabulary), [source]
    else:
        loaded = data.load(source, **data.options_for(source, options))
        check_vocabulary(loaded.vocabulary, vocabulary, source)
        x = np.asarray(loaded.test.x)
        names = [f"{source}[{i}]" for i in range(len(x))]
    check_shape(x, shape)
    if vocabulary and not x.any():
        nothing = "" if there or name else ", and no file or folder has that name"
        raise RunError(f"{source} holds none of the {len(vocabulary)} words of this run or index{nothing}")
    return x, names


def size_of(shape: Sequence[int]) -> str:
    """The shape of an example in words."""
    return "x".join(map(str, shape))


def check_vocabulary(theirs: Sequence[str], ours: Sequence[str], source: str) -> None:
    """Raises RunError for bags of words over another vocabulary than the run's."""
    if tuple(theirs) != tuple(ours):
        raise RunError(
            f"{source} counts other words than the documents this run was trained on, so its columns do not fit: "
            "give a folder of texts, and the run's own words are counted in them"
        )


def named(files: Sequence[Path], root: Path) -> list[str]:
    """The names of files, below their folder."""
    return [str(file.relative_to(root)) if root.is_dir() else file.name for file in files]


def cell(name: Any) -> str:
    """A name as a field of a tab-separated table: one line, not blank, and without quotes, which some readers parse."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", str(name)).replace('"', "'").strip() or "(no name)"


def read_rows(path: Path, columns: Sequence[str] = (), label: str | None = None) -> np.ndarray:
    """The numbers of a table's columns, by default all of them but the label: [N, D].

    Raises DataError for a column that is missing or does not hold numbers, and for a missing value.
    """
    table, x, names = data.tables.examples(path, columns, label)
    data.tables.check_complete(table, x, names, "fill them in by ae-jax impute, or leave these rows out")
    return x


def array_name(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of the array of examples or codes among those of a file; None if there is none."""
    # the test part comes first, as for a named data set; without a test part all examples are in the training part
    known = ("x", "codes", *PARTS["test"], *PARTS["validation"], *PARTS["train"])
    return next((n for n in known if n in arrays), next(iter(arrays)) if len(arrays) == 1 else None)


def read_array(path: Path) -> np.ndarray:
    """The numbers of a .npy file, or of one array of a .npz file, see `array_name`.

    Raises RunError for a file without such an array.
    """
    if not path.is_file() or suffix(path) not in (".npy", ".npz"):
        raise RunError(f"{path} is not a .npy or .npz file" + ("" if path.exists() else ": it does not exist"))
    try:
        arrays = data.read_arrays(path)
    except data.DataError as error:
        raise RunError(str(error)) from None
    name = array_name(arrays)
    if name is None:
        raise RunError(f"{path} has the arrays {', '.join(arrays)}; it needs one called x, codes, x_test or x_train")
    if arrays[name].ndim == 0:
        raise RunError(f"{path} holds a single value; examples are [N, ...] and codes [N, K]")
    return arrays[name]


def check_codes(codes: np.ndarray, latents: int, source: str) -> np.ndarray:
    """The codes [N, K] as float32. Raises RunError for another shape, and for values that are not finite numbers."""
    if codes.ndim != 2 or codes.shape[1] != latents or not len(codes):
        raise RunError(f"{source} has the shape {codes.shape}; codes of this run are [N, {latents}], N at least 1")
    if codes.dtype.kind not in "biuf":
        raise RunError(f"{source} holds {codes.dtype}; codes are numbers: save them as float32")
    with np.errstate(over="ignore"):
        codes = codes.astype(np.float32)
    if bad := int((~np.isfinite(codes)).sum()):
        raise RunError(f"{source} holds {bad} values that are NaN or infinite in float32; codes are finite numbers")
    return codes


def check_output(out: Path, *sources: str | Path) -> None:
    """Raises RunError, before any work is done, for a file that cannot or must not be written.

    A command must not overwrite its input (one of `sources` or a file in their folders, by any path or link), must not
    overwrite a file of a run, and must not add a file to a folder of data.
    """
    check_place(out)
    if kept := kept_by_run(out):
        raise RunError(f"{out} would overwrite {kept}, which belongs to the run there; write to another place")
    _check_sources(out, *sources)


def _check_sources(out: Path, *sources: str | Path) -> None:
    """Raises RunError for an output that is, or would become, a file of the sources, and for an empty source name."""
    if any(source == "" for source in sources):
        raise RunError('the name of the input is empty (""): give the name of a data set, or a path')
    for named, path in ((source, path) for source in sources for path in data.paths_of(source)):
        there = out.exists()
        if there and any(os.path.exists(file) and os.path.samefile(file, out) for file in data.files_read(path)):
            raise RunError(f"{out} is an input ({named}) and would be overwritten; write to another place")
        if data.would_read(path, out):
            among = f"as one of the data in {path}" if path.is_dir() else f"as the labels of {path}"
            raise RunError(
                f"{out} would be read {among} from then on; write to a folder without data, such as "
                f"{path.resolve().parent if path.is_dir() else 'that of the run'}"
            )


def check_folder(path: Path, names: Sequence[str] = (), *sources: str | Path) -> None:
    """Raises RunError for an output folder that cannot be made, or in which `check_output` refuses one of the names."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; name a folder to write to")
    there = next(p for p in (path.resolve(), *path.resolve().parents) if p.exists())
    if not there.is_dir():
        raise RunError(f"the folder {path} cannot be made: {there} is a file")
    _check_access(there)
    for name in names:
        if path.exists():
            check_output(path / name, *sources)
        else:
            _check_sources(path / name, *sources)


def check_suffix(path: Path, allowed: tuple[str, ...]) -> None:
    """Raises RunError for an output file with another suffix."""
    if suffix(path) not in allowed:
        raise RunError(f"{path} ends in {path.suffix or 'nothing'!r}; this command writes {', '.join(allowed)}")


def check_place(path: Path) -> None:
    """Raises RunError, before any work is done, for an output file that is a folder or whose folder does not exist."""
    try:
        os.stat(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # a file in place of a folder, a cycle of links, a name that is too long
        raise RunError(f"{path} cannot be written ({error.strerror}); choose another name") from None
    folder = path.resolve().parent
    if path.is_dir():
        raise RunError(f"{path} is a folder; name a file to write to")
    if not folder.is_dir():
        raise RunError(f"the folder {folder} does not exist; make it first")
    _check_access(folder)


def _check_access(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise RunError(f"you may not write to the folder {folder}; choose another")


def save_array(path: Path, array: np.ndarray, name: str) -> None:
    """A .npy, or a .npz with one array of that name; whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: array}) if suffix(path) == ".npz" else np.save(buffer, array)
    write_atomically(path, buffer.getvalue())


def read_codes(path: Path, latents: int) -> np.ndarray:
    """The codes in a .npy or .npz file, see `read_array`, or in the columns z0, z1, ... of a table: [N, K].

    Raises RunError or DataError for a file without codes.
    """
    if not data.is_table(path):
        return read_array(path)
    if not path.is_file():
        raise RunError(f"there is no file {path}")
    return data.tables.numbers(data.tables.read(path), [f"z{k}" for k in range(latents)], "Codes are numbers")


def save_table(out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of cells as a .csv file, whole or not at all."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values(), strict=True))
    write_atomically(out, text.getvalue().encode(errors="backslashreplace"))


def check_rows(path: Path, columns: Sequence[str]) -> None:
    """Raises RunError for a .csv output of a run without `columns`, which did not learn from a table."""
    if suffix(path) == ".csv" and not columns:
        raise RunError(f"{path} is for rows of a table, and this run learned from no table: write to .npy or .npz")


def save_examples(path: Path, x: np.ndarray, columns: Sequence[str] = ()) -> None:
    """Writes examples by the suffix of `path`: an array, a .csv table with these columns, or a .png grid of images."""
    if suffix(path) == ".csv":
        return save_table(path, {name: [f"{v:.7g}" for v in of] for name, of in zip(columns, x.T, strict=True)})
    if suffix(path) != ".png":
        return save_array(path, x, "x")
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise RunError(f"examples of shape {x.shape[1:]} are not images; write them to .npy or .npz")
    write_atomically(path, image_bytes(tile(x)))


def image_bytes(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """The bytes of an image file by Pillow, from pixels uint8 [H, W, 1 or 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, kind)
    return buffer.getvalue()


def tile(x: np.ndarray, gap: int = 1) -> np.ndarray:
    """Images [N, H, W, C] in [0, 1] in a nearly square grid: uint8 [height, width, 3].

    Small images are enlarged by a whole factor, so that the grid is at most 500 pixels wide.
    """
    n, height, width, channels = x.shape
    columns = int(np.ceil(n**0.5))
    rows = -(-n // columns)
    grid = np.ones((rows * (height + gap) + gap, columns * (width + gap) + gap, 3))
    for i, image in enumerate(np.clip(x, 0, 1)):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        grid[top : top + height, left : left + width] = np.broadcast_to(image, (height, width, max(channels, 3)))
    scale = max(1, 500 // grid.shape[1])
    return np.round(255 * grid).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)


def places_for(files: Sequence[Path], source: Path, out: Path, *learned: str | Path) -> list[Path]:
    """The output files for the images of a source: `out` for one image, and .png files in the folder `out` otherwise.

    If two output names would be equal, as for a.jpg and a.png, the .png keeps its name and the other becomes a.jpg.png.
    Raises RunError for an output that cannot be written, that is one of the images, or that would become a file of the
    training data `learned`.
    """
    if source.is_dir() and out.suffix and not out.is_dir():
        raise RunError(f"{source} is a folder and {out} looks like a file; name a folder to write to")
    if source.is_dir() or out.is_dir():
        check_folder(out)
        names = [Path(name) for name in named(files, source)]
        often = Counter(name.with_suffix("") for name in names)
        alone = lambda name: suffix(name) == ".png" or often[name.with_suffix("")] == 1
        paths = [out / (name.with_suffix(".png") if alone(name) else f"{name}.png") for name in names]
    else:
        check_suffix(out, (".png", ".jpg", ".jpeg"))
        check_place(out)
        paths = [out]
    for path in {path.parent: path for path in paths}.values():
        _check_sources(path, *learned)
    identity = lambda path: (path.stat().st_dev, path.stat().st_ino)
    read, often = {identity(file) for file in files}, Counter(paths)
    for path in paths:
        if path.exists() and identity(path) in read:
            raise RunError(f"{path} is an input and would be overwritten; write to another place")
        if kept := kept_by_run(path):
            raise RunError(f"{path} would overwrite {kept}, which belongs to the run there; write to another place")
        if often[path] > 1:
            raise RunError(f"several images of {source} would be written to {path}; rename all of them but one")
    return paths


def sprite(x: np.ndarray, largest: int = 8192) -> np.ndarray:
    """Images [N, H, W, C] row by row in a square grid without gaps: uint8 [height, width, 3].

    Raises RunError for a side of more than `largest` pixels; 8192 is the limit of the Embedding Projector.
    """
    n, height, width, channels = x.shape
    side = int(np.ceil(n**0.5))
    if side * max(height, width) > largest:
        raise RunError(f"{n} images of {height}x{width} make a sprite wider than {largest} pixels; take fewer (-n)")
    grid = np.ones((side * side, height, width, max(channels, 3)))
    grid[:n] = np.clip(x, 0, 1)
    rows = grid.reshape(side, side, height, width, -1).swapaxes(1, 2).reshape(side * height, side * width, -1)
    return np.round(255 * rows).astype(np.uint8)


def data_options(content: dict[str, Any]) -> dict[str, Any]:
    """The options for reading a run's data and its later inputs, out of the settings in its config.json."""
    scale = content.get("scale")  # may be the data set's own
    cut = {"patch": defaults_of(data.photos)["patch"]} if content.get("data") == "photos" else {}  # the default
    return cut | content["data_options"] | ({} if scale is None else {"scale": scale})


def standard_of(content: dict[str, Any]) -> data.Standard | None:
    """The units of learning, out of the settings in a run's config.json; None for values in [0, 1].

    Raises RunError for an invalid record.
    """
    try:
        return None if content.get("standard") is None else data.Standard.from_json(content["standard"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"the settings in config.json are damaged: standard is not valid ({error!r}); restore it or train anew"
        ) from None
