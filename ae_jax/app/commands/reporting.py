"""The report of a run: the command `report`."""

from pathlib import Path
from typing import Any

import jax

from ...core import Algorithm, Params, address
from ...data import ranges
from ...errors import RunError, tracebacks, warn
from ...training import run_folder
from .. import report
from . import runs, sampling
from .loading import Splits, drawn_once


def write_report(folder: run_folder.Folder, algorithm: Algorithm, params: Params, splits: Splits, results: Any) -> Path:
    """Writes report.html and its pictures, in the units of the data. A table's columns have different units, so its
    values are in the units of learning.
    """
    settings = folder.recorded()
    if not splits.dataset.columns:
        algorithm = ranges.in_data_units(algorithm, splits.standard)
        undone = lambda part: part._replace(x=ranges.undo(splits.standard, part.x))
        splits = splits._replace(train=undone(splits.train), test=undone(splits.test))
    title = f"{settings['algorithm']} on {settings['data']}"
    key = address(jax.random.key(results["seeds"][0]), "report")
    names = splits.dataset.classes, splits.dataset.vocabulary
    history = of_seeds(folder.log(), settings["seeds"], results["seeds"])
    samplers = sampling.kept(folder, results["seeds"][0], params, settings.get("latents", 0))
    findings = report.gather(
        title, settings, results, history, algorithm, params, splits, key, *names, samplers=samplers
    )
    last = last_alike(folder)
    findings = findings._replace(account=report.account(findings, algorithm, params, splits, last))
    tell = None if tracebacks() else lambda line: warn(f"warning: {line}")
    return report.write(findings, folder.path, tell)


def last_alike(folder: run_folder.Folder, most: int = 100) -> tuple[str, dict[str, Any]] | None:
    """The name and the results of the newest other run with the same settings in the parent folder. Seeds may differ.

    Only the newest `most` runs are considered.
    """
    alike = lambda other: {k: v for k, v in other.config()["settings"].items() if k != "seeds"}
    found = [
        path for path in folder.path.resolve().parent.glob("*/results.json") if path.parent != folder.path.resolve()
    ]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:most]:
        other = run_folder.Folder(path.parent)
        try:
            if alike(other) == alike(folder) and (results := other.results()) is not None:
                return path.parent.name, results
        except (RunError, OSError):  # another program's folder, or a damaged run
            continue
    return None


def of_seeds(history: list[dict[str, Any]], seeds: list[int], kept: list[int]) -> list[dict[str, Any]]:
    """The rows of log.jsonl with the metrics of the `kept` seeds only."""
    index = [seeds.index(seed) for seed in kept]
    pick = lambda part: {name: [values[i] for i in index] for name, values in part.items()}
    return [{name: pick(v) if isinstance(v, dict) else v for name, v in row.items()} for row in history]


def decorate(folder: run_folder.Folder, algorithm: Algorithm, params: Params, splits: Splits, results: Any) -> None:
    """`write_report` for a run whose results are on the disk: an error becomes a line on stderr."""
    try:
        write_report(folder, algorithm, params, splits, results)
    except Exception as error:  # drawing libraries raise errors of any kind, and results do not depend on drawing
        if tracebacks():
            raise
        warn(
            f"warning: the report could not be written ({report.explained(error)}); results.json is whole. "
            f"ae-jax report {folder.path} writes the report again"
        )


def make_report(workdir: Path, place: str | None = None) -> Path:
    """Writes the report of a run again, also during training. `place` is the new place of its data, if these moved."""
    opened = runs.open_run(workdir)
    splits = drawn_once(opened.settings, runs.load_own(opened, place))
    results = opened.folder.results()
    if results is None:
        failed = {str(seed): e for seed, e in opened.trained.failed.items()}
        results = {"seeds": list(opened.trained.good), "failed": failed, "metrics": {}}
    return write_report(opened.folder, opened.algorithm, opened.params, splits, results)
