"""Several runs beside one another: the command `compare`."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ... import evaluation
from ...data import DataError, ranges
from ...data.disk import write_atomically
from ...errors import RunError
from ...evaluation.statistics import paired_difference
from ...training import devices
from ..files import check_folder
from ..flags import data_flag, network_flag
from ..plots import number
from ..report import comparison
from ..report.page import measured
from ..report.sections import ordered
from . import runs
from .listing import HEADLINES, Standing, aligned, bare, standing

PAGE, TABLE = "compare.html", "compare.csv"
PLAN = "sweep.json"  # the file in a sweep's folder that names the folders of its runs
BESIDE = 3  # up to this number of runs, runs are columns; more runs are rows
EXAMPLES = 10  # test examples that are reconstructed
# entries of the settings that follow from the data or the algorithm, and are not compared on their own
OF_DATA = ("vocabulary", "standard", "data_checksum", "train_checksum", "scale", "patches", "validated", "plugins")
OF_DATA += ("functions", "examples", "given", "started", "class_names")


class Compared(NamedTuple):
    """A run that is compared."""

    name: str  # of its folder, with parent folders if the name alone is not unique
    run: Standing

    @property
    def data(self) -> tuple[Any, ...]:
        """The settings that determine the test examples: runs with equal settings have the same test examples."""
        known, options = self.run.settings, self.run.settings.get("data_options") or {}
        return (known.get("data_checksum", known.get("data")), known.get("binarise"), options.get("range"))

    @property
    def measured(self) -> tuple[Any, ...]:
        """The test examples and the units of learning, which follow from the training part."""
        return (*self.data, json.dumps(self.run.settings.get("standard")))


class Comparison(NamedTuple):
    """Runs in the order in which they were given; differences are from the first."""

    runs: list[Compared]
    settings: dict[str, list[Any]]  # those that differ, with a value for each run; None: the run has no such setting
    metrics: list[str]
    notes: list[str]

    def difference(self, index: int, name: str) -> dict[str, Any] | None:
        """A metric of run number `index` minus that of the first run, over their common seeds; see `paired_difference`.

        None for a run on other data, with no seed in common, or without the metric; for a metric that is one number of
        all seeds; and if the metric is not finite for a common seed, as the others alone would flatter the run.
        """
        first, other = self.runs[0], self.runs[index]
        if not index or first.measured != other.measured:
            return None
        values = [self._values(one.run, name) for one in (other, first)]
        both = sorted(values[0].keys() & values[1].keys())
        theirs, own = ([of[seed] for seed in both] for of in values)
        return paired_difference(theirs, own) if both and None not in (*theirs, *own) else None

    def differs(self, index: int, names: Sequence[str]) -> bool:
        """Whether `difference` is known for run number `index` and one of these metrics."""
        return any(self.difference(index, name) is not None for name in names)

    @staticmethod
    def _values(run: Standing, name: str) -> dict[int, Any]:
        """The value of each seed, None if it is not finite."""
        values = run.metrics.get(name, {}).get("values") or []
        if len(values) != len(run.seeds):  # one number for all seeds, such as udr
            return {}
        return dict(zip(run.seeds, values, strict=True))

    def headlines(self, most: int) -> list[str]:
        """The first `most` metrics of `HEADLINES`, among the metrics that the largest number of runs has."""
        often = {name: sum(name in one.run.metrics for one in self.runs) for name in self.metrics}
        there = [name for name in self.metrics if often[name] == max(often.values())]
        by_name = {bare(name): name for name in reversed(there) if not name.startswith(("pca ", "denoised "))}
        return [by_name[name] for name in HEADLINES if name in by_name][:most]

    def best_first(self) -> list[int]:
        """The numbers of the runs in order of the first headline, the best first; runs without it come last."""
        name = next(iter(self.headlines(1)), "")
        sign = -1 if evaluation.better(name) == "higher" else 1
        means = [one.run.metrics.get(name, {}).get("mean") for one in self.runs]
        return sorted(range(len(means)), key=lambda i: math.inf if means[i] is None else sign * means[i])


def compare(paths: Sequence[Path], out: Path) -> tuple[Comparison, list[Path]]:
    """Compares runs, and writes `compare.html` and `compare.csv` to the folder `out`.

    A folder of a sweep stands for its runs. Raises RunError for fewer than two runs, and for a folder without a run.
    """
    found = gather(paths)
    check_folder(out, (PAGE, TABLE), *{path for one in found.runs for path in sources(one)})
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / TABLE, as_csv(found).encode())
    page = comparison.write(contents(found), out / PAGE)
    return found, [page, out / TABLE]


def sources(one: Compared) -> list[str]:
    """The source of a run's data, if its settings name one."""
    name = one.run.settings.get("data")
    return [name] if isinstance(name, str) and name else []


def gather(paths: Sequence[Path]) -> Comparison:
    """The comparison of the runs in these folders. Raises as `compare` does."""
    folders = [folder for path in paths for folder in expanded(path)]
    found, seen = [], []
    for path in folders:
        if (place := path.resolve()) in seen:
            raise RunError(f"{path} is given twice: give each run once")
        seen.append(place)
        found.append(standing(path))
    if len(found) < 2:
        raise RunError(f"compare takes two runs or more, and {len(found)} {'is' if found else 'are'} given")
    compared = [Compared(name, run) for name, run in zip(names(seen), found, strict=True)]
    metrics = list(dict.fromkeys(name for run in found for name in run.metrics))
    settings = differing(found)
    return Comparison(
        runs=compared,
        settings=settings,
        metrics=ordered(metrics),
        notes=notes(compared),
    )


def expanded(path: Path) -> list[Path]:
    """The folder itself, or the folders of the runs of a sweep."""
    if (path / "config.json").exists() or not (path / PLAN).is_file():
        return [path]
    cells = [config.parent for config in sorted(path.glob("*/config.json"))]
    if not cells:
        raise RunError(f"no run of the sweep {path} has begun: start its command again")
    return cells


def names(paths: Sequence[Path]) -> list[str]:
    """For each path its shortest ending that no other path shares. The paths must differ."""

    def short(path: Path) -> str:
        ends = (path.parts[-depth:] for depth in range(1, len(path.parts) + 1))
        return "/".join(next(end for end in ends if sum(other.parts[-len(end) :] == end for other in paths) == 1))

    return list(map(short, paths))


def differing(found: Sequence[Standing]) -> dict[str, list[Any]]:
    """The settings that differ between runs, by the names of their flags."""

    def flag(path: str) -> str:
        group, _, name = path.rpartition(".")
        kinds = {"network_options": network_flag, "data_options": data_flag, "hyper": str}
        if group == "optimizer":
            return "optimizer" if name == "name" else name
        return kinds[group](name) if group in kinds else path

    each = [devices.flat({k: v for k, v in run.settings.items() if k not in OF_DATA}) for run in found]
    paths = dict.fromkeys(path for one in each for path in one)
    rows = {flag(path): [one.get(path) for one in each] for path in paths}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def notes(compared: Sequence[Compared]) -> list[str]:
    """Sentences on differences between runs that limit their comparison."""
    found, first = [], compared[0]
    if others := [one.name for one in compared if one.measured != first.measured]:
        found.append(
            f"Runs of different data are compared: {', '.join(others)} did not learn from the data of {first.name}, "
            "or not in the same units, so they have no difference by seed."
        )
    if many := [one.name for one in compared if one.run.results is None]:
        found.append(f"Without metrics, as training has not ended: {', '.join(many)}.")
    if first.run.results is not None and any(
        one.measured == first.measured and one.run.seeds and not set(one.run.seeds) & set(first.run.seeds)
        for one in compared
    ):
        found.append("Some runs share no seed with the first one: their difference by seed is not known.")
    if len({(one.run.settings.get("hyper") or {}).get("likelihood") for one in compared}) > 1:
        found.append(
            "The likelihoods p(x|z) differ: the log-likelihoods and bounds (elbo, nll) of these runs are of different "
            "kinds, and do not compare."
        )
    where = {str((one.run.results or {}).get("device")) for one in compared if one.run.results}
    if len(where) > 1:
        found.append(f"Times are of different devices: {', '.join(sorted(where))}.")
    return found


# ------------------------------------------------------------------------------------------------------- tables


def shown(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, list | tuple):
        whole = all(type(part) is int for part in value)
        if len(value) > 2 and whole and list(value) == list(range(value[0], value[0] + len(value))):
            return f"{value[0]}-{value[-1]}"
        return " ".join(map(shown, value)) or "none"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def changed(summary: dict[str, Any] | None) -> str:
    """A difference with its interval."""
    if summary is None or summary["mean"] is None:
        return "-"
    low, high = summary["low"], summary["high"]
    if low is None:
        return f"{summary['mean']:+.4g}"
    return f"{summary['mean']:+.4g} ({low:.3g} to {high:.3g})"


def verdict(name: str, summary: dict[str, Any] | None) -> str:
    """The word better or worse if the interval of a difference excludes 0 and the metric has a direction; else "".

    A loss has no verdict: it depends on the settings that are compared.
    """
    way = None if bare(name) == "loss" else evaluation.better(name)
    if summary is None or way is None or summary["low"] is None or summary["low"] <= 0 <= summary["high"]:
        return ""
    return "better" if (summary["mean"] > 0) == (way == "higher") else "worse"


def judged(name: str, summary: dict[str, Any] | None) -> str:
    """A difference with its interval and its verdict."""
    return " ".join(filter(None, (changed(summary), verdict(name, summary))))


def costs(run: Standing) -> dict[str, str]:
    """How far a run came, and its cost."""
    results = run.results or {}
    seconds = results.get("seconds", sum(row["seconds"] for row in run.history))
    return {
        "state": run.state,
        "epochs run": str(run.history[-1]["epoch"]) if run.history else "0",
        "training, s": number(seconds, 3),
        "parameters": f"{results['parameters']:,}" if results else "-",
        "examples/s": f"{results['examples_per_second']:,.0f}" if results else "-",
    }


def settings_rows(found: Comparison) -> list[list[str]]:
    """A row for each run: its name, the settings that differ, and its cost. The first row has the headings."""
    head = ["run", *found.settings, *costs(found.runs[0].run)]
    return [head] + [
        [one.name, *(shown(values[i]) for values in found.settings.values()), *costs(one.run).values()]
        for i, one in enumerate(found.runs)
    ]


def metric_rows(found: Comparison, names: Sequence[str]) -> list[list[str]]:
    """A row for each metric: each run's mean with half of its interval, and each difference from the first run."""
    others = range(1, len(found.runs))
    first = found.runs[0].name
    paired = [i for i in others if found.differs(i, names)]
    head = ["metric", *(one.name for one in found.runs), *(f"{found.runs[i].name} - {first}" for i in paired)]
    return [head] + [
        [
            name,
            *(measured(one.run.metrics.get(name, {})) for one in found.runs),
            *(judged(name, found.difference(i, name)) for i in paired),
        ]
        for name in names
    ]


def ranked_rows(found: Comparison, names: Sequence[str], order: Sequence[int]) -> list[list[str]]:
    """A row for each run, in that order: each metric, and its difference from the first run."""
    paired = {name for name in names if any(found.differs(i, [name]) for i in order)}
    head = ["run", *(part for name in names for part in (name, *["difference"] * (name in paired)))]
    rows = [head]
    for i in order:
        rows.append([found.runs[i].name])
        for name in names:
            rows[-1].append(measured(found.runs[i].run.metrics.get(name, {})))
            if name in paired:
                rows[-1].append(judged(name, found.difference(i, name)) if i else "")
    return rows


def transposed(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def text(found: Comparison) -> str:
    """The comparison as text: settings that differ and costs, then metrics."""
    few = len(found.runs) <= BESIDE
    head, *of_runs = settings_rows(found)
    rows = [head, *([name, *map(brief, values)] for name, *values in of_runs)]
    parts = [aligned(transposed(rows) if few else rows, numbers=True)]
    if few and found.metrics:
        own = [name for name in found.metrics if not name.startswith(("pca ", "train "))]
        parts.append(aligned(metric_rows(found, own), numbers=True))
    elif known := found.headlines(2):
        parts.append(aligned(ranked_rows(found, known, found.best_first()), numbers=True))
    if found.metrics:
        parts.append(explained(found))
    return "\n\n".join(parts + found.notes)


def brief(value: str, most: int = 40) -> str:
    """A setting as text; the middle of a long one, such as the names of all columns, is left out."""
    half = (most - 5) // 2
    return value if len(value) <= most else f"{value[:half]} ... {value[-half:]}"


def explained(found: Comparison) -> str:
    """Sentences on how to read the metrics and, if there are any, the differences."""
    said = "Means over seeds ± half of their 95% interval by Student's t."
    pairs = [found.difference(i, name) for i in range(1, len(found.runs)) for name in found.metrics]
    pairs = [pair for pair in pairs if pair is not None]
    if not pairs:
        return said
    said += f" Differences are from {found.runs[0].name}, paired by seed"
    if all(pair["low"] is None for pair in pairs):
        return f"{said}; one pair of seeds has no interval."
    return (
        f"{said}, with their 95% interval; better or worse: it excludes 0. One in twenty intervals excludes 0 where "
        "there is no difference."
    )


def as_csv(found: Comparison) -> str:
    """A row for each metric of each run."""
    own = ("run", "folder", "state", "epochs", "seconds", "parameters")
    of_metric = ("metric", "better", "n", "mean", "std", "low", "high")
    of_pair = ("difference", "difference_low", "difference_high", "p")
    fixed = {*own, *of_metric, *of_pair}
    columns = [name if name not in fixed else f"setting {name}" for name in found.settings]
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([*own, *columns, *of_metric, *of_pair])
    for i, one in enumerate(found.runs):
        run, results = one.run, one.run.results or {}
        epochs = run.history[-1]["epoch"] if run.history else 0
        seconds = results.get("seconds", round(sum(row["seconds"] for row in run.history), 3))
        about = [one.name, run.folder.path, run.state, epochs, seconds, results.get("parameters")]
        about += [
            " ".join(map(str, v)) if isinstance(v, list) else v for v in (of[i] for of in found.settings.values())
        ]
        for name in [name for name in found.metrics if name in run.metrics] or [""]:
            metric, pair = run.metrics.get(name, {}), found.difference(i, name) or {}
            numbers = [metric.get(key) for key in of_metric[2:]] + [
                pair.get(key) for key in ("mean", "low", "high", "p")
            ]
            rows.writerow([*about, name, evaluation.better(name), *numbers])
    return out.getvalue()


# --------------------------------------------------------------------------------------------------------- page


def contents(found: Comparison) -> comparison.Contents:
    """The contents of the page."""
    few, order = len(found.runs) <= BESIDE, found.best_first()[: comparison.MOST]
    order = sorted(order) if len(order) == len(found.runs) else order
    settings = settings_rows(found)
    if few:
        tables = [metric_rows(found, found.metrics)] if found.metrics else []
    else:
        tables = [ranked_rows(found, found.metrics, found.best_first())] if found.metrics else []
    left_out = len(found.runs) - len(order)
    said = found.notes + (
        [f"Pictures are of the {len(order)} best runs; {left_out} others have none."] * (left_out > 0)
    )
    drawn, missing = reconstructions([found.runs[i] for i in order])
    return comparison.Contents(
        title=f"{len(found.runs)} runs compared",
        notes=said,
        settings=transposed(settings) if few else settings,
        metrics=tables,
        explained=explained(found) if found.metrics else "",
        histories={found.runs[i].name: history(found.runs[i].run) for i in order},
        reconstructions=drawn,
        missing=missing,
    )


def history(run: Standing) -> list[dict[str, Any]]:
    """The rows of a run's log, with the metrics of the seeds that did not fail."""
    seeds, kept = run.settings.get("seeds"), run.seeds
    if not isinstance(seeds, list) or not set(kept) <= set(seeds) or not kept:
        return run.history
    index = [seeds.index(seed) for seed in kept]
    pick = lambda part: {name: [values[i] for i in index] for name, values in part.items()}
    return [{k: pick(v) if isinstance(v, dict) else v for k, v in row.items()} for row in run.history]


def reconstructions(compared: Sequence[Compared]) -> tuple[list[comparison.Rebuilt], list[str]]:
    """Reconstructions of the same test examples by the first seed of each run; one picture for each data set.

    The second list names the runs without a picture, with the reasons.
    """
    drawn, missing = [], []
    for data in dict.fromkeys(one.data for one in compared):
        originals, outputs, first = None, {}, None
        for one in (one for one in compared if one.data == data):
            try:
                opened = runs.open_run(one.run.folder.path)
                if not opened.algorithm.decodes:
                    raise RunError("its decoder learns nothing")
                if opened.vocabulary:
                    raise RunError("documents have no pictures")
                if originals is None:
                    splits = runs.load_own(opened)
                    x, first = ranges.undo(splits.standard, np.asarray(splits.test.x)), opened
                    originals = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), EXAMPLES)).astype(int))]
                rebuilt = jax.jit(opened.in_data_units.reconstruct)(opened.params, originals)
                outputs[one.name] = np.asarray(rebuilt)
            except (RunError, DataError, ValueError, OSError) as error:
                missing.append(f"{one.name} shows no reconstructions: {error}")
        if originals is not None and first is not None and outputs:
            outputs = {name: first.drawable(x) for name, x in outputs.items()}
            known = str(first.settings.data)
            drawn.append(comparison.Rebuilt(known, first.drawable(originals), outputs, first.columns))
    return drawn, missing
