"""The examples that `encode` and `index` read: all examples of a source, or a part of it as training reads it."""

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ... import data
from ...checks import labelled
from ...data.checks import check_labels
from ...data.disk import suffix
from ...data.files import LABELS, PARTS
from ...errors import DataError, RunError, counted, warn
from ..files import array_name, check_shape, check_vocabulary, read_examples
from . import runs
from .loading import range_of

Part = Literal["train", "validation", "test"]
AT_ONCE = 10_000  # examples read from a stream at once


class Examples(NamedTuple):
    """Examples, their names and their labels."""

    x: np.ndarray  # [N, *shape], in the units of the run's data
    names: list[str]  # [N]: a file, or a row of a file
    labels: np.ndarray | None = None  # [N] int32, -1 for none
    classes: tuple[str, ...] = ()  # names of the labels, if they have names


def read(opened: runs.OpenRun, source: str, resize: bool = False, part: Part | None = None) -> Examples:
    """The examples of a source for a run: a part, as `train` reads it, or all, as `files.read_examples` reads them.

    Raises RunError or DataError for a source that cannot be read in this way, and for examples of another shape.
    """
    options = opened.settings.data_options
    if (how := opened.settings.binarise) is not None:
        warn(f"note: pixels are taken as they are; the run learned from pixels drawn as 0 or 1 (binarise={how})")
    if part is not None:
        if resize:
            raise RunError("--resize has no effect on a part, which is read as in training: leave one of the two out")
        found = _part(opened, source, part)
        check_shape(found.x, opened.shape)
        return found
    named = data.is_name(source, options.get("data_dir"))
    if resize and (opened.vocabulary or named or suffix(source) in (".npy", ".npz")):
        raise RunError(f"--resize has no effect: {source} is not read as files of images; leave it out")
    if named and (opened.standard is None or opened.standard.pixels):  # `read_examples` refuses it for other units
        found = _of_dataset(opened, source, data.load(source, **data.options_for(source, options)), "test", source)
        check_shape(found.x, opened.shape)
        return found
    x, names = read_examples(source, opened.shape, opened.vocabulary, resize, options, opened.standard)
    return Examples(x, names, *_beside(source, len(x), options))


def _known(y: Any) -> np.ndarray | None:
    return None if y is None or not labelled(y).any() else np.asarray(y)


def _beside(source: str, count: int, options: dict[str, Any]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels of the examples that `read_examples` reads, from a .npz, a table, or the file beside a .npy; and the
    names of the classes.
    """
    path = data.table_of(data.expanded(source))
    try:
        if data.is_table(path) and options.get("label"):
            table = data.tables.read(path)
            known = options["label"] in table.columns
            return (
                data.tables.labels(table, options["label"], options.get("label_classes", ())) if known else (None, ())
            )
        if suffix(path) == ".npy" and (beside := path.with_suffix(".labels.npy")).is_file():
            y = data.read_arrays(beside)["x"]
        elif suffix(path) == ".npz":
            arrays = data.read_arrays(path)
            chosen = array_name(arrays)
            part = next((part for part, names in PARTS.items() if chosen in names), None)
            names = LABELS[part] if part else ("y", "label", "labels")
            y = next((arrays[name] for name in names if name in arrays), None)
        else:
            return None, ()
        return None if y is None else _known(check_labels(y, count, str(path))), ()
    except DataError as error:  # codes do not need labels
        warn(f"the labels are left out: {error}")
        return None, ()


def options_of(opened: runs.OpenRun) -> dict[str, Any]:
    """The options of a run's data, for reading other data in its units.

    A run that learned from values in [0, 1] has no other units, so that a table's own range is not taken.
    """
    return opened.settings.data_options | ({"range": "unit"} if opened.standard is None else {})


def _part(opened: runs.OpenRun, source: str, part: Part) -> Examples:
    settings = opened.settings
    path, stem = data.expanded(source), source if data.is_name(source) else data.expanded(source).name
    _, options = range_of(replace(settings, data=source, data_options=options_of(opened)), opened.standard)
    if path.is_dir() and not data.is_name(source) and data.kind_of(path) == "arrays":
        sources = data.open_stream(source, **_taken(data.stream_options_for(source, options), options))
        stream = getattr(sources, part)
        if stream is None:
            raise _without(source, part)
        rows = np.concatenate([np.arange(first, end) for first, end in stream.blocks])
        read = [stream.raw(rows[i : i + AT_ONCE]) for i in range(0, len(rows), AT_ONCE)]
        x = np.concatenate([np.asarray(stream.floats(batch).x) for batch in read])
        y = None if read[0].y is None else np.concatenate([batch.y for batch in read])
        return Examples(x, [f"{stem} {part}[{i}]" for i in rows], _known(y), sources.classes)
    dataset = data.load(source, **_taken(data.options_for(source, options), options))
    whole = dataset.rows is not None  # one array or folder, split at random
    return _of_dataset(opened, source, dataset, part, stem if whole else f"{stem} {part}")


def _of_dataset(opened: runs.OpenRun, source: str, dataset: data.Dataset, part: Part, where: str) -> Examples:
    """A part of a dataset. The examples are named by their files, or by their rows in `where`."""
    if opened.vocabulary:
        check_vocabulary(dataset.vocabulary, opened.vocabulary, source)
    batch = getattr(dataset, part)
    if batch is None:
        raise _without(source, part)
    files = getattr(dataset, f"{part}_names")
    rows = range(len(batch.x)) if dataset.rows is None else dataset.rows[part == "test"]
    return Examples(
        x=np.asarray(batch.x),
        names=list(files) or [f"{where}[{i}]" for i in rows],
        labels=_known(batch.y),
        classes=dataset.classes,
    )


def _taken(known: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """`known`, the options that a source takes. A line on stderr names the run's other options."""
    if left := sorted(options.keys() - known.keys() - {"range"}):
        warn(f"note: {counted(len(left), 'option')} of the run's data not taken by this source: {', '.join(left)}")
    return known


def _without(source: str, part: str) -> RunError:
    return RunError(
        f"{source} has no {part} part of its own; --part train has every example that training and its validation use"
    )
