"""The impure edge of `experiments/`: many seeds as one compiled program, and the record that a run leaves.

An experiment is a function `main(*, seeds: int = 5, epochs: int = 10, ...)` whose keyword arguments are its
whole configuration. It trains with `train`, measures with `mapped` or `over_seeds`, and ends in `record`,
which writes `results/<name>.json`. Nothing here is needed to use the library.
"""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .core import Algorithm, Batch, Key, Memory, Metrics, Params, average, epoch, start
from .evaluation.statistics import summarise

PACKAGES = ("ae-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


class Published(NamedTuple):
    """A published value to stand beside ours."""

    value: float
    where: str  # the place in the paper or repository
    tolerance: float | None = None  # |ours - published| that counts as reproduced; None: no such claim
    note: str = ""


# ------------------------------------------------------------------------------------------------ seeds


def keys(seeds: Sequence[int]) -> Key:
    """`jax.random.key(s)` for each seed. -> [S]."""
    return jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))


def mapped(fn: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
    """`fn(one, *shared)` compiled as `(all, *shared)`: one program over the leading axis of `all`.

    On CPU one after another by `jax.lax.map`, measured faster there than `jax.vmap`, and each member is
    computed as it would be alone; on an accelerator all at once by `jax.vmap`. Data belong in `shared`: what
    a compiled function closes over becomes a constant inside it. `donate` gives up the memory of `all`.
    """

    def run(members: Any, *shared: Any) -> Any:
        one = lambda member: fn(member, *shared)
        return jax.lax.map(one, members) if jax.default_backend() == "cpu" else jax.vmap(one)(members)

    return jax.jit(run, donate_argnums=(0,) if donate else ())


def over_seeds(fn: Callable[..., Any], *args: Any, seeds: Sequence[int]) -> Any:
    """The pure `fn(key, *args)` with `jax.random.key(s)` for each seed, as one compiled program (see `mapped`).

    Every result has a leading axis [S].
    """
    return mapped(fn)(keys(seeds), *args)


def train(
    algorithm: Algorithm, data: Batch, *, seeds: Sequence[int], epochs: int, batch_size: int, what: str
) -> tuple[Params, Metrics]:
    """`core.fit` for every seed, one compiled epoch at a time so that a bar named `what` can show progress.

    Returns the params, each [S, ...], and the history, each metric [S, epochs].
    """
    from tqdm import tqdm

    rule = epoch(algorithm, batch_size)

    def begin(key: Key, data: Batch) -> tuple[Params, Memory, Key]:
        return start(algorithm.init, rule, data, key)

    def one_epoch(run: tuple[Params, Memory, Key], data: Batch, e: Array):
        params, memory, key = run
        params, memory, metrics = rule.update(params, memory, data, jax.random.fold_in(key, e))
        return (params, memory, key), metrics

    runs, history = over_seeds(begin, data, seeds=seeds), []
    step = mapped(one_epoch, donate=True)
    for e in (bar := tqdm(range(epochs), desc=f"{what}, {len(seeds)} seeds", unit="epoch")):
        runs, metrics = step(runs, data, jnp.asarray(e))
        history.append(jax.tree.map(np.asarray, metrics))
        bar.set_postfix({name: f"{values.mean():.4g}" for name, values in history[-1].items()})
    return runs[0], jax.tree.map(lambda *m: np.stack(m, 1), *history)


def test_metrics(algorithm: Algorithm, params: Params, data: Batch, seeds: Sequence[int]) -> Metrics:
    """The algorithm's own metrics, averaged over a dataset, for every seed. -> each [S]."""
    evaluate = mapped(lambda of, data: average(algorithm.evaluate, of[0], data, jax.random.fold_in(of[1], 1)))
    return jax.tree.map(np.asarray, evaluate((params, keys(seeds)), data))


def codes(algorithm: Algorithm, params: Params, x: Array) -> np.ndarray:
    """The deterministic codes of x for every seed. -> [S, N, K]."""
    return np.asarray(mapped(lambda p, x: algorithm.encode(p, x))(params, x))


# ----------------------------------------------------------------------------------------------- record


def record(
    file: str,
    metrics: Mapping[str, Sequence[float] | np.ndarray | Array],
    *,
    title: str,
    source: str,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    seconds: float,
    published: Mapping[str, Published] = {},
    claims: Mapping[str, str] = {},
    notes: Sequence[str] = (),
    out: str | Path = "results",
) -> dict[str, Any]:
    """Writes `<out>/<name>.json`, named after the experiment's file, prints its table, and returns it.

    Args:
        file: the experiment's `__file__`.
        metrics: each metric's value for each seed, [S], under a label that says the unit.
        title: what the experiment shows, in a line.
        source: the paper.
        settings: the bound arguments of `main`.
        seeds: the seeds that ran.
        seconds: wall time, compilation included.
        published: values to stand beside some of the metrics, under the same labels.
        claims: metrics (differences) that were said, before the run, to lie above 0, and what that means. A
            claim holds where the whole 95 % interval over seeds does.
        notes: what a reader should know: where the protocol departs from the paper's, where we fall short.
        out: the folder.
    """
    if unknown := (set(published) | set(claims)) - set(metrics):
        raise ValueError(f"published values or claims name {sorted(unknown)}; the metrics are {sorted(metrics)}")
    summaries = {label: _summary(values, len(seeds)) for label, values in metrics.items()}
    row = {
        "name": Path(file).stem,
        "title": title,
        "source": source,
        "settings": {k: v if isinstance(v, int | float | str | list | tuple) else str(v) for k, v in settings.items()},
        "seeds": list(seeds),
        "metrics": summaries,
        "published": {label: p._asdict() for label, p in published.items()},
        "claims": {label: {"claim": text, "holds": _holds(summaries[label])} for label, text in claims.items()},
        "device": device(),
        "versions": versions(),
        "commit": commit(Path(file).resolve().parent),
        "seconds": round(seconds, 1),
        "notes": list(notes),
    }
    path = Path(out) / f"{row['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(row, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)
    print(table(row), f"\n\n{path}", sep="")
    return row


def table(row: Mapping[str, Any]) -> str:
    """A record as text: one line a metric with its interval, what was published, and whether they agree."""
    lines = [("", "ours", "95 % interval", "published", "")]
    for label, m in row["metrics"].items():
        p, claim = row["published"].get(label), row["claims"].get(label)
        verdict = ""
        if p is not None and p["tolerance"] is not None:
            inside = abs(m["mean"] - p["value"]) <= p["tolerance"]
            verdict = f"within {p['tolerance']:g}" if inside else f"not within {p['tolerance']:g}"
        if claim is not None:
            verdict = {True: "above 0, as claimed", False: "not above 0", None: "one seed: no interval"}[claim["holds"]]
        interval = "" if m["low"] is None else f"{m['low']:.4g} to {m['high']:.4g}"
        lines.append((label, f"{m['mean']:.4g}", interval, "" if p is None else f"{p['value']:g}", verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    body = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return f"{row['title']}\n{len(row['seeds'])} seeds, {row['seconds']:g} s, {row['device']}\n\n{body}"


def _summary(values: Any, count: int) -> dict[str, Any]:
    values = [float(v) for v in np.asarray(values)]
    if len(values) != count:
        raise ValueError(f"a metric has {len(values)} values for {count} seeds")
    if not np.isfinite(values).all():
        raise ValueError(f"a metric has values that are not finite: {values}")
    s = summarise(values)
    return {"values": values, "mean": s.mean, "std": s.std, "low": s.low, "high": s.high}


def _holds(summary: Mapping[str, Any]) -> bool | None:
    return None if summary["low"] is None else summary["low"] > 0


def device() -> str:
    """The accelerator, or the processor and how many cores this process may use."""
    first = jax.devices()[0]
    if first.platform != "cpu":
        return f"{first.device_kind} x {jax.device_count()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU {platform.machine()}, {cores} cores"


def versions() -> dict[str, str]:
    """Of Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout, not installed
            continue
    return found


def commit(folder: Path) -> str | None:
    """The git commit a folder is at, "-dirty" where tracked files were changed since; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
