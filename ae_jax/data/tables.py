"""Tables in `.csv`, `.tsv` and `.parquet` files: a row is an example, a column is a feature or the label."""

import csv
import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np

from ..checks import check_choice, needs
from ..errors import counted, warn
from .dataset import DataError, Dataset, expanded, from_parts, make_batch, standardised, tell_rounded, unit_interval
from .disk import suffix
from .ranges import FLOATS, RangeName

SUFFIXES = (".csv", ".tsv", ".parquet")
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))  # cells without a value, in lower case
BOOLS = {"true": 1.0, "false": 0.0}
Missing = Literal["refuse", "drop"]
# the names of a split's folder or table
NAMES = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("valid", "validation", "val")}


class Table(NamedTuple):
    """The columns of a table: float64 [N] with NaN for missing values, or texts [N] if some cell is not a number."""

    path: Path
    columns: dict[str, np.ndarray]
    row: Callable[[int], str]  # the place of row i in the file, in words


def is_table(path: str | Path) -> bool:
    """Whether a file has the name of a table."""
    return suffix(path) in SUFFIXES


def split_of(file: Path) -> str | None:
    """The split in the name of a table, such as test for test.csv; None for other files."""
    name = file.stem.lower()
    return next((split for split, names in NAMES.items() if name in names), None) if is_table(file) else None


def of_splits(files: Sequence[Path]) -> dict[str, Path]:
    """The tables of splits among the files of a folder, by split; {} if there is no table for train.

    Raises DataError for two tables of one split.
    """
    parts: dict[str, Path] = {}
    for file in files:
        if (split := split_of(file)) is None:
            continue
        if split in parts:
            raise DataError(f"{file.parent} has two tables for {split}, {parts[split].name} and {file.name}: leave one")
        parts[split] = file
    return {split: parts[split] for split in NAMES if split in parts} if "train" in parts else {}


def read(path: Path) -> Table:
    """The table in a file. The first line of a text file names the columns, unless all its cells are numbers.

    Raises DataError for a file that is damaged or empty or has lines of different lengths, and for two columns of one
    name.
    """
    try:
        table = _parquet(path) if suffix(path) == ".parquet" else _text(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if not table.columns or not len(next(iter(table.columns.values()))):
        raise DataError(f"{path} holds no rows: give a table with a line of names and a line for each example")
    return table


def texts(path: Path) -> dict[str, tuple[str, ...]]:
    """The cells of a text file as they are written, by column; {} for a Parquet file. Raises DataError as `read`."""
    if suffix(path) == ".parquet":
        return {}
    names, cells, _ = _lines(path)
    return {name or f"column {place + 1}": of for place, (name, of) in enumerate(zip(names, cells, strict=True))}


def _lines(path: Path) -> tuple[list[str], list[tuple[str, ...]], list[int]]:
    """The names of a text file's columns, "" where it has none, their cells, and the line of each row.

    The separator is the commonest of comma, semicolon and tab in the first line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = re.sub('"[^"]*"', "", file.readline())  # names in quotes may hold separators
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), skipinitialspace=True, strict=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text in UTF-8 (byte {error.start}): save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not separated values ({error}): save it as CSV, one line a row") from error
    written = [any(cell.strip() for cell in row) for _, row in lines]
    if not any(written):
        raise DataError(f"{path} is empty: give a table with a line of names and a line for each example")
    top = written.index(True)
    width = len(lines[top][1])
    # below the first line, a line of as many empty cells is a row without values; "" is one in a table of one column
    lines = [line for line, there in zip(lines[top:], written[top:], strict=True) if there or len(line[1]) == width]
    head = [cell.strip() for cell in lines[0][1]]
    named = not all(map(_is_number, head)) or _counted(head)
    if all(map(_is_number, head)):
        what = "counts the columns and is read as their names" if named else "has numbers alone and is read as a row"
        warn(f"note: the first line of {path} {what}")
    body = lines[named:]
    if ragged := next((line for line in body if len(line[1]) != len(head)), None):
        wanted = f"the line of names has {len(head)}" if named else f"line {lines[0][0]} has {len(head)}"
        raise DataError(
            f"{path}: line {ragged[0]} has {len(ragged[1])} cells, and {wanted}: mend the line, or put cells with the "
            "separator in quotes"
        )
    cells = list(zip(*(row for _, row in body), strict=True)) or [()] * len(head)
    return head if named else [""] * len(head), cells, [number for number, _ in body]


def _text(path: Path) -> Table:
    names, cells, places = _lines(path)
    return _named(path, names, [_parsed(column) for column in cells], lambda i: f"line {places[i]}")


def _is_number(cell: str) -> bool:
    try:
        return cell.strip().lower() in MISSING - {""} or float(cell) is not None
    except ValueError:
        return False


def _counted(head: Sequence[str]) -> bool:
    """Whether a line counts its cells from 0, three or more, as pandas writes the names of columns without names."""
    return len(head) > 2 and list(head) == [*map(str, range(len(head)))]


def _parsed(cells: Sequence[str]) -> np.ndarray:
    """Cells as float64 with NaN for missing values, or as texts if some cell is not a number."""
    plain = [cell.strip().lower() for cell in cells]
    if (kinds := {cell for cell in plain if cell not in MISSING}) and kinds <= BOOLS.keys():
        return np.array([BOOLS.get(cell, np.nan) for cell in plain])
    try:
        return np.array([np.nan if cell in MISSING else float(cell) for cell in plain], np.float64)
    except ValueError:
        return np.array([cell.strip() for cell in cells])


def _parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{path} needs pyarrow, which is not installed: install it, or save the table as .csv"
        ) from None
    try:
        table = pyarrow.parquet.read_table(path)
    except OSError:
        raise
    except Exception as error:  # pyarrow raises errors of its own
        why = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as a Parquet file ({why}); write it again, or save a .csv") from error
    columns = []
    for column in table.columns:
        cells = column.to_pylist()
        numbers = all(cell is None or isinstance(cell, bool | int | float) for cell in cells)
        columns.append(
            np.array([np.nan if cell is None else cell for cell in cells], np.float64)
            if numbers
            else _parsed(["" if cell is None else str(cell) for cell in cells])  # decimals, or numbers in texts
        )
    return _named(path, table.column_names, columns, lambda i: f"row {i + 1}")


def _named(path: Path, names: Sequence[str], columns: Sequence[np.ndarray], row: Callable[[int], str]) -> Table:
    """The table of columns. A column without a name gets its number as name, and is left out if it numbers the rows.

    Raises DataError for two columns of one name.
    """
    if twice := [name for name, often in Counter(filter(None, names)).items() if often > 1]:
        raise DataError(f"{path} has {names.count(twice[0])} columns called {twice[0]!r}: give each its own name")
    found, counts = {}, any(names)
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        index = (counts and not name) or name == "__index_level_0__"  # as pandas writes its index
        if index and column.dtype.kind == "f" and len(column) > 1 and _numbers_rows(column):
            warn(f"left out: column {place + 1} of {path}, which has no name and numbers the rows")
            continue
        found[name or f"column {place + 1}"] = column
    return Table(path, found, row)


def _numbers_rows(column: np.ndarray) -> bool:
    """Whether all values are whole and different, as in pandas' index, also of rows in another order."""
    return bool((column == np.round(column)).all()) and len(np.unique(column)) == len(column)


def column(table: Table, name: str) -> np.ndarray:
    """A column by name. Raises DataError for an unknown name."""
    if name not in table.columns:
        near = difflib.get_close_matches(name, table.columns, 1) or list(table.columns)[:10]
        raise DataError(f"{table.path} has no column {name!r}; did you mean {', '.join(near)}?")
    return table.columns[name]


def numbers(table: Table, names: Sequence[str], advice: str = "") -> np.ndarray:
    """Columns of numbers, [N, D] float64, with NaN for missing values.

    `advice` replaces the advice in the error for a cell that is not a number, for columns that cannot be left out.

    Raises DataError for an unknown column, for a cell that is not a number, and for an infinite value.
    """
    if lacking := [name for name in names if name not in table.columns]:
        raise DataError(
            f"{table.path} lacks the column {lacking[0]!r}, and {len(lacking)} of {len(names)} in all; its columns are "
            f"{', '.join(list(table.columns)[:10])}{', ...' * (len(table.columns) > 10)}"
        )
    for name in names:
        of = table.columns[name]
        if of.dtype.kind != "f":
            at = next(i for i, cell in enumerate(of) if cell.lower() not in MISSING and not _is_number(cell))
            comma = "; numbers have a decimal point" if re.fullmatch(r"-?\d+,\d+", of[at]) else ""
            word = _word(name)
            usual = f"Leave the column out, drop={word}, name it as the label, label={word}, or write it as numbers"
            raise DataError(
                f"{table.path}: column {name!r} has {str(of[at])!r} in {table.row(at)}, which is no number{comma}. "
                f"{advice or usual}"
            )
        if np.isinf(of).any():
            at = int(np.isinf(of).argmax())
            raise DataError(f"{table.path}: column {name!r} has {of[at]} in {table.row(at)}; values are finite numbers")
    return np.stack([table.columns[name] for name in names], 1)


def check_complete(table: Table, x: np.ndarray, names: Sequence[str], advice: str) -> None:
    """Raises DataError, with the advice, if a value of x [N, D] is missing."""
    missing = np.isnan(x)
    if missing.any():
        i, d = np.argwhere(missing)[0]
        rows = int(missing.any(1).sum())
        raise DataError(
            f"{table.path}: column {names[d]!r} has no value in {table.row(i)}; {rows} of {len(x)} rows lack one or "
            f"more: {advice}"
        )


def labels(table: Table, name: str, classes: Sequence[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels [N], -1 for a missing label, and the sorted names of the classes, which are words or whole numbers.

    With `classes`, label i is class i of these. Raises DataError for an unknown column, for fractions, and for a class
    that is not in `classes`.
    """
    of = column(table, name)
    if of.dtype.kind == "f":
        known = ~np.isnan(of)
        if (odd := known & ((of != np.round(of)) | np.isinf(of))).any():
            at = int(odd.argmax())
            raise DataError(
                f"{table.path}: the label {name!r} has {of[at]:g} in {table.row(at)}; classes are words or whole "
                "numbers. Leave label= out to learn from the column, or drop it"
            )
        of = np.array([str(int(value)) if there else "" for value, there in zip(of, known, strict=True)])
        order: Callable[[Any], Any] = int
    else:
        known = np.array([cell.lower() not in MISSING for cell in of])
        if words := sorted(set(of[~known].tolist()) - {""}):
            warn(f"note: {table.path}: {', '.join(words)} in the label {name!r} is no class: give classes other names")
        order = str
    found = sorted(set(of[known].tolist()), key=order)
    if classes and (new := [cell for cell in found if cell not in classes]):
        at = int((of == new[0]).argmax())
        raise DataError(
            f"{table.path}: the label {name!r} has {str(new[0])!r} in {table.row(at)}; the known classes are "
            f"{', '.join(classes)}: correct the cell, leave the row out, or train with all classes in label_classes="
        )
    place = {cell: i for i, cell in enumerate(classes or found)}
    y = np.array([place[cell] if there else -1 for cell, there in zip(of, known, strict=True)], np.int32)
    return y, tuple(classes or found)


def examples(
    path: Path, columns: Sequence[str] = (), label: str | None = None
) -> tuple[Table, np.ndarray, tuple[str, ...]]:
    """The table in a file, the numbers [N, D] of some columns, with NaN for missing values, and the columns' names.

    The default is all columns but the label. A line on stderr names the columns left out.
    """
    table = read(path)
    names = tuple(columns or (name for name in table.columns if name != label))
    if extra := [name for name in table.columns if name not in (*names, label)]:
        what = f"{counted(len(extra), 'column')} of {path} ({', '.join(extra[:3])}{', ...' * (len(extra) > 3)})"
        warn(f"left out: {what}, which the run does not learn from")
    return table, numbers(table, names, "The run learned from this column: write the cell as a number"), names


def table(
    path: str | Path,
    *,
    label: str | None = None,
    drop: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    label_classes: Annotated[tuple[str, ...], needs("label")] = (),
    missing: Missing = "refuse",
    range: RangeName = "standardised",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A table of numbers, `.csv`, `.tsv` or `.parquet`: a row is an example, a column is a feature. In a folder,
    train.csv, test.csv and valid.csv are the splits; the columns of train.csv are found by name in the others.

    Args:
        path: the file, or a folder of the tables of splits.
        label: the column of classes, words or whole numbers. It is not a feature; only members with labels use it.
        drop: columns to leave out.
        columns: the columns to learn from, in this order; by default all but the label.
        label_classes: the classes in the order of their numbers; by default those in the column, sorted.
        missing: refuse rows that lack a value, or drop them.
        range: of the values: standardised, each column of mean 0 and deviation 1 on train; or unit, normalised, as_is.
        test_fraction: the fraction of the rows to hold out.
        seed: of that split.

    Raises:
        DataError: an unreadable file, a column that is unknown or does not hold numbers, or a missing value.
    """
    check_choice("missing", missing, get_args(Missing), error=DataError)
    if range != FLOATS:
        check_choice("range", range, get_args(RangeName), error=DataError)
    path = expanded(path)
    files = parts_of(path)
    train = read(files["train"])
    for name in (*drop, *(() if label is None else (label,))):
        column(train, name)
    if both := set(drop) & {*columns, label}:
        raise DataError(f"drop leaves out the column {sorted(map(str, both))[0]!r}, which another option names")
    names = columns or tuple(name for name in train.columns if name not in (*drop, label))
    if not names:
        raise DataError(f"{train.path} has no column left to learn from; its columns are {', '.join(train.columns)}")
    x: dict[str, np.ndarray] = {}
    y: dict[str, np.ndarray | None] = {}
    kept: dict[str, list[str]] = {}  # the names of the rows of each split that loses rows
    classes = tuple(label_classes)
    for part, file in files.items():
        found = train if part == "train" else read(file)
        own = numbers(found, names)
        of, classes = (None, ()) if label is None else labels_or_none(found, label, classes)
        whole = ~np.isnan(own).any(1)
        if missing == "refuse":
            worst = _word(names[int(np.isnan(own).sum(0).argmax())])
            check_complete(
                found, own, names, f"leave these rows out, missing=drop, or a column, drop={worst}, or fill them in"
            )
        elif not whole.all():
            warn(f"left out: {(~whole).sum()} of {len(own)} rows of {file}, which lack a value")
            kept[part] = [f"{file.name}[{i}]" for i in np.flatnonzero(whole)]
            if not whole.any():
                raise DataError(f"{file} has no row with all values: leave out the columns that lack most, by drop=")
        x[part], y[part] = own[whole], None if of is None else of[whole]
    if range != "unit":
        tell_rounded(x["train"], str(path), names)
    scaled = unit_interval([*x.values()], str(path), kind=range)
    batches = {part: make_batch(values, y[part]) for part, values in zip(x, scaled, strict=True)}
    about: dict[str, Any] = {"classes": classes, "columns": tuple(names), "names": kept}
    name = path.absolute().name if path.is_dir() else path.stem
    return standardised(from_parts(name, batches, str(path), test_fraction, seed, **about), range)


def parts_of(path: Path) -> dict[str, Path]:
    """The files of a table by split: the tables in a folder, or the file itself as train.

    A line on stderr names other tables in the folder.
    """
    from .folders import some, tables_in  # it imports this module

    if not (files := tables_in(path)):
        return {"train": path}
    if left := [file for file in sorted(path.iterdir()) if is_table(file) and file not in files.values()]:
        warn(f"left out: {counted(len(left), 'table')} of no split ({some(left, path)})")
    return files


def labels_or_none(table: Table, name: str, classes: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """`labels`; for a held-out table without the column, -1 for every row, and a line on stderr."""
    if name in table.columns or not classes:
        return labels(table, name, classes)
    warn(f"note: {table.path} has no column {name!r}, so its rows have no label")
    return np.full(len(next(iter(table.columns.values()))), -1, np.int32), tuple(classes)


def _word(name: str) -> str:
    """The name of a column as typed in an option."""
    return f'"{name}"' if re.search(r"\s", name) else name
