"""The runs below a folder, and how far each came: the command `runs`."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...data.disk import LOCK, is_run
from ...errors import RunError
from ...training.run_folder import Folder
from ..report.page import measured

# The headline of a run is the first of these metrics that it has.
HEADLINES = ("log_likelihood", "elbo", "bound", "pseudo_likelihood", "accuracy", "error", "clustering_accuracy")
HEADLINES += ("explained_variance", "nll", "mse", "loss")


class Standing(NamedTuple):
    """The content of a run's folder."""

    folder: Folder
    settings: dict[str, Any]  # of config.json, with the run's records of its data
    history: list[dict[str, Any]]  # the rows of log.jsonl
    results: dict[str, Any] | None  # None if the run has not ended, or if results.json is damaged
    state: str

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of results.json; {} before the end."""
        return {} if self.results is None else self.results["metrics"]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the metrics; [] before the end."""
        return [] if self.results is None else self.results["seeds"]


def standing(path: Path | str) -> Standing:
    """The run in a folder, and its state. Raises RunError for a folder without a run, or with damaged settings."""
    folder = Folder(path)
    if folder.path.is_file():
        raise RunError(f"{path} is a file; a run is a folder, the --workdir of its training")
    settings, history = folder.recorded(), folder.log()
    try:
        results = folder.results()
        state = _state(folder, settings, history, results)
    except RunError:
        results, state = None, "results damaged"
    return Standing(folder=folder, settings=settings, history=history, results=results, state=state)


def _state(folder: Folder, settings: Mapping[str, Any], history: Sequence[dict[str, Any]], results: Any) -> str:
    epochs = settings.get("epochs")
    reached = f"epoch {history[-1]['epoch'] if history else 0}" + (f" of {epochs}" if epochs else "")
    if in_use(folder.path):
        return f"training, {reached}"
    if results is not None:
        failed = results.get("failed") or {}
        return "finished" + "".join(f", seed {seed} failed in epoch {e}" for seed, e in failed.items())
    if history and gone(history[-1]):
        return f"failed in {reached}"
    return "trained, not measured" if history and history[-1]["epoch"] == epochs else f"stopped at {reached}"


def gone(row: Mapping[str, Any]) -> bool:
    """Whether no seed had finite metrics in the epoch of this row of a log."""
    values = [value for part in row.values() if isinstance(part, dict) for of in part.values() for value in of]
    return bool(values) and all(value is None for value in values)


def in_use(folder: Path) -> bool:
    """Whether a process holds the lock of a run's folder; False if the file system has no locks."""
    try:
        with open(folder / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: listings do not block each other
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def bare(name: str) -> str:
    """The name of a metric without "test" and without its note: mse for "test mse (n=10)"."""
    return name.partition(" (")[0].removeprefix("test ")


def headline(metrics: Mapping[str, Any]) -> str:
    """The name of the headline among the metrics of a run, see `HEADLINES`; "" without any."""
    by_name = {bare(name): name for name in reversed(list(metrics))}
    return next((by_name[name] for name in HEADLINES if name in by_name), "")


def touched(folder: Path) -> float:
    """The time of a run's last change, in seconds since 1970."""
    files = (folder / name for name in ("results.json", "log.jsonl", "config.json"))
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def below(root: Path) -> Iterator[Path]:
    """The folders of runs at or below a folder; folders inside a run are not searched."""
    for here, folders, _ in os.walk(root):
        if is_run(Path(here)):
            folders.clear()
            yield Path(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def runs(root: Path) -> str:
    """The runs below a folder as a table, the newest first. Raises RunError where there is no such folder."""
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise RunError(f"the folder {root} {found}: name one that holds runs, such as the --workdir of a training")
    rows: list[tuple[str, ...]] = [("run", "member", "data", "seeds", "state", "measured on test", "changed")]
    for path in sorted(below(root), key=touched, reverse=True):
        name = os.path.relpath(path, root) if path != root else path.name
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(touched(path)))
        rows.append((name, *_row(path), when))
    return aligned(rows) if len(rows) > 1 else f"{root} holds no runs"


def _row(path: Path) -> tuple[str, ...]:
    try:
        found = standing(path)
    except (RunError, OSError, KeyError, TypeError, ValueError) as error:
        return ("-", "-", "-", f"damaged: {str(error).partition(';')[0]}"[:80], "-")
    settings, metrics = found.settings, found.metrics
    seeds, known = settings.get("seeds"), headline(metrics)
    return (
        str(settings.get("algorithm", "-")),
        str(settings.get("data", "-")),
        str(len(seeds)) if isinstance(seeds, list) else "-",
        found.state,
        f"{known.removeprefix('test ')} {measured(metrics[known])}" if known else "-",
    )


def aligned(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Rows of texts as a table with a rule under the first row; `numbers` aligns later columns to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    put = lambda text, i: f"{text:>{widths[i]}}" if numbers and i else f"{text:<{widths[i]}}"
    lines = ["  ".join(put(text, i) for i, text in enumerate(row)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
