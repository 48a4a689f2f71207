"""One page that shows several runs beside one another, in the layout of a report."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...core import LABELLED
from ...data.disk import write_atomically
from ...evaluation import describe
from .. import plots
from .page import Block, Part, Results, Row, Table, drawn, render
from .sections import TRAINING, Listing, Picture, ordered, slug

MOST = 20  # runs, at most, in a picture: the number of colours in a palette


class Rebuilt(NamedTuple):
    """Test examples, and their reconstructions by several runs."""

    data: str
    originals: np.ndarray  # [n, *shape]
    outputs: Mapping[str, np.ndarray]  # run -> [n, *shape]
    columns: tuple[str, ...] = ()  # of a table; its values are in the units of learning


class Contents(NamedTuple):
    """The content of the page. The first row of each table has the names of its columns."""

    title: str
    notes: Sequence[str]
    settings: Sequence[Sequence[str]]
    metrics: Sequence[Sequence[Sequence[str]]]  # tables
    explained: str
    histories: Mapping[str, Sequence[dict[str, Any]]]  # rows of log.jsonl, by run
    reconstructions: Sequence[Rebuilt]
    missing: Sequence[str]  # sentences on pictures that could not be drawn


def write(contents: Contents, path: Path) -> Path:
    """Writes the page, one self-contained file, whole or not at all."""
    parts = [Part("Settings and cost", [_table(contents.settings)])]
    if contents.metrics:
        metrics: list[Block] = [_table(table, describe) for table in contents.metrics]
        parts.append(Part("Metrics", metrics, lead=contents.explained))
    if charts := [drawn(picture) for picture in _curves(contents.histories)]:
        parts.append(Part("Learning", [], charts, "Mean over the seeds at each epoch, the 95% interval shaded."))
    if contents.reconstructions:
        pictures: list[Block] = [drawn(_rebuilt(one)) for one in contents.reconstructions]
        parts.append(Part("Reconstruction", pictures, lead="The same test examples, by the first seed of each run."))
    if said := [*contents.notes, *contents.missing]:
        parts.insert(0, Part("Notes", [Listing(["note"], [[line] for line in said], "")]))
    write_atomically(path, render(contents.title, "", parts).encode(errors="backslashreplace"))
    return path


def _table(rows: Sequence[Sequence[str]], meaning: Callable[[str], str] = lambda name: "") -> Results:
    """A table; `meaning` explains the name of a row."""
    head, *others = rows
    return Results(
        table=Table(head, [Row(name, values, meaning(name.removeprefix("test "))) for name, *values in others])
    )


def _curves(histories: Mapping[str, Sequence[dict[str, Any]]]) -> list[Picture]:
    """A chart for each metric and part of the data (train, validation) that at least two runs have."""
    found = []
    rows = [row for history in histories.values() for row in history]
    for part in ("train", "validation"):
        for metric in ordered({name for row in rows for name in row.get(part) or {}} - {LABELLED}):
            series = {}
            for name, history in histories.items():
                there = [(row["epoch"], (row.get(part) or {}).get(metric)) for row in history]
                known = [(epoch, values) for epoch, values in there if values is not None]
                if known:
                    epochs, values = zip(*known, strict=True)
                    series[name] = (epochs, np.array(values, float))  # [E, S]
            if len(series) < 2:
                continue
            meaning = TRAINING.get(metric) or describe(metric)
            caption = f"{metric} on {part}" + (f": {meaning}." if meaning else ".")
            draw = partial(plots.curves, series, f"{metric}, {part}", list(histories))
            found.append(Picture(f"curve_{part}_{slug(metric)}", draw, caption, "chart"))
    return found


def _rebuilt(found: Rebuilt) -> Picture:
    """The examples in the first row, and the reconstructions of each run in a row below."""
    cells = np.stack([found.originals, *found.outputs.values()])  # [1 + runs, n, *shape]
    rows, bounds = ["test example", *found.outputs], plots.limits(found.originals)
    names = [name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}" for name in rows]
    if found.columns or plots.is_image(found.originals.shape[1:]):
        draw = partial(plots.examples, cells, bounds, rows=names, named=found.columns)
    else:
        flat = {"": cells.reshape(-1, *cells.shape[2:])}
        draw = partial(plots.lines, flat, cells.shape[1], bounds, rows=names)
    return Picture(
        f"reconstructions_{slug(found.data)}", draw, f"Of {found.data}: a row a run, in the order {', '.join(rows)}."
    )
