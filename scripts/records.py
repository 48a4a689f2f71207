"""Records at the papers' sizes: runs experiments with `--full`, one after another, and skips those with a record.

    scripts/records                 all that are missing, in the order of RECORDS
    scripts/records --list          print what is measured, begun, missing or stale, and run nothing
    scripts/records clustering      this one, even if it has a record
    scripts/records --minutes 50    stop after 50 minutes
    scripts/records --gpu --carry FOLDER    for a machine that is lent for minutes: see below

It may be stopped at any moment, by Ctrl-C or `kill`, or its experiment by `kill -9`: the same command goes on from the
last checkpoints, which are in runs/. A record is stale, and is measured again, if the settings of the experiment's
`--full` have changed. A record by an older version of the experiment's file counts as measured, and `--list` says so.
Experiments run at the lowest priority, so other work on the machine goes first; then their seconds do not measure
speed. `python scripts/table.py` puts the records on the pages.

`--gpu` begins with the runs that gain most from a GPU, and stops after nine minutes. `--carry FOLDER` first takes the
unfinished runs and the records that an earlier call left in FOLDER. At the end it leaves them there, in files of at
most 16 MiB, for the next call on another machine. Only a newer run replaces a run.
"""

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = (  # the experiments, the most important ones for a comparison with the papers first
    "deep_autoencoder",
    "deep_belief",
    "clustering",
    "vade",
    "stacked_denoising",
    "k_sparse",
    "self_taught",
    "stacked_sparse",
    "contractive_table",
    "made",
    "few_labels",
    "adversarial_labels",
    "iwae",
    "vamp_prior",
    "vq_photographs",
    "semantic_hashing",
    "text_search",
    "codes_2d",
)
ON_A_GPU = ("iwae", "clustering", "vade", "vamp_prior", "deep_autoencoder", "deep_belief")  # these first
PART = 16 * 2**20  # bytes of a carried file, at most
NOT_COMPARED = ("seed", "data", "out", "runs")  # settings that do not make a record stale


def wanted(name: str) -> dict[str, Any]:
    """The settings of an experiment at the paper's size, in the form of its record."""
    main: Any = importlib.import_module(name).main
    settings = main.__kwdefaults__ | ({**main.full, "full": True} if main.full else {})
    return json.loads(json.dumps({k: v for k, v in settings.items() if k not in NOT_COMPARED}, default=str))


def place(name: str, results: Path) -> Path:
    """The file of an experiment's record at the paper's size."""
    return results / f"{name}{'-full' if 'full' in wanted(name) else ''}.json"


def state(name: str, results: Path, runs: Path) -> tuple[str, str]:
    """The state of an experiment's record, "measured", "stale", "begun" or "missing"; and a text with details."""
    file = place(name, results)
    begun = [folder.name for folder in sorted(runs.glob(f"{name}-*"))]
    if not file.exists():
        return ("begun", f"in {', '.join(begun)}") if begun else ("missing", "")
    record = json.loads(file.read_text())
    now, then = wanted(name), record["settings"]
    other = [f"{k} was {then.get(k)!r} and is {v!r}" for k, v in now.items() if then.get(k) != v]
    if other:
        return "stale", "; ".join(other) + ("; begun anew" if begun else "")
    about = f"{len(record['seeds'])} seeds, {record['seconds'] / 60:.0f} min, commit {record['commit']}"
    changed = subprocess.run(
        ["git", "diff", "--quiet", str(record["commit"]).partition("-")[0], "--", f"experiments/{name}.py"],
        cwd=ROOT,
        capture_output=True,
    ).returncode
    return "measured", about + ("; the experiment's file has changed since" if changed else "")


def newest(path: Path) -> float:
    """The time of a file, or of the newest file in a folder; 0 if there is none."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max((file.stat().st_mtime for file in files), default=0.0)


def leave(carried: Path, results: Path, runs: Path) -> None:
    """Writes the unfinished runs and the full records as files `carried`/part-NNN of at most PART bytes."""
    carried.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=1) as tar:
            for name in RECORDS:
                for folder in sorted(runs.glob(f"{name}-*")):
                    tar.add(folder, f"runs/{folder.name}")
                for file in sorted(results.glob(f"{name}-full.*")):
                    tar.add(file, f"results/{file.name}")
        whole.seek(0)
        for i, part in enumerate(iter(lambda: whole.read(PART), b"")):
            (carried / f"next-{i:03}").write_bytes(part)
    for old in carried.glob("part-*"):
        old.unlink()
    for file in carried.glob("next-*"):
        file.rename(carried / file.name.replace("next", "part"))


def take(carried: Path, results: Path, runs: Path) -> None:
    """Takes the runs and records that `leave` wrote, if they are newer. Raises ValueError for a damaged part."""
    parts = sorted(carried.glob("part-*"))
    if not parts:
        return
    with tempfile.TemporaryDirectory(dir=runs.parent if runs.parent.is_dir() else None) as place:
        with tempfile.TemporaryFile() as whole:
            for part in parts:
                whole.write(part.read_bytes())
            whole.seek(0)
            try:
                with tarfile.open(fileobj=whole, mode="r:gz") as tar:
                    tar.extractall(place, filter="data")
            except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
                raise ValueError(
                    f"the parts in {carried} are damaged or incomplete ({error}); copy them again, or remove them"
                ) from error
        for kind, home in (("runs", runs), ("results", results)):
            for found in sorted((Path(place) / kind).glob("*")):
                there = home / found.name
                if newest(found) <= newest(there):
                    continue
                home.mkdir(parents=True, exist_ok=True)
                if there.is_dir():
                    shutil.rmtree(there)
                shutil.move(found, there)


def measure(name: str, results: Path, runs: Path, seconds: float | None) -> int | None:
    """Runs an experiment until it has a record, for at most `seconds`. -> its exit status; None if time ran out."""
    given = {"full": True} if "full" in wanted(name) else {}
    given |= {"out": str(results), "runs": str(runs)}
    code = f"import study, {name}; study.in_sentences({name!r}, lambda: {name}.main(**{given}))"  # without tyro
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'experiments'}{os.pathsep}{ROOT}"}
    command = ["nice", "-n", "19", sys.executable, "-u", "-c", code]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:  # if the time ran out or a signal came, the experiment saves at the end of its epoch
        if process.poll() is None:
            process.terminate()
            process.wait()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; all of RECORDS without one")
    parser.add_argument("--list", action="store_true", help="print the state of each, and run nothing")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on later")
    parser.add_argument("--gpu", action="store_true", help="begin with what gains most from a GPU; --minutes is 9 then")
    parser.add_argument("--carry", type=Path, metavar="FOLDER", help="take unfinished runs from there, and leave them")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the records")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the checkpoints")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(RECORDS)):
        parser.error(f"no record is planned of {', '.join(unknown)}; there are: {' '.join(RECORDS)}")
    if args.minutes is not None and not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes:g}; wanted: more than 0")
    sys.path[:0] = [str(ROOT / "experiments"), str(ROOT)]
    minutes = 9 if args.gpu and args.minutes is None else args.minutes
    order = args.names or ((*ON_A_GPU, *(name for name in RECORDS if name not in ON_A_GPU)) if args.gpu else RECORDS)
    try:
        if args.carry is not None:
            take(args.carry, args.results, args.runs)
    except ValueError as error:  # the parts stay as they are
        sys.exit(f"error: {error}")
    try:
        run(order, args, minutes)
    except ValueError as error:
        sys.exit(f"error: {error}")
    finally:
        if args.carry is not None and not args.list:
            leave(args.carry, args.results, args.runs)


def run(order: Sequence[str], args: argparse.Namespace, minutes: float | None) -> None:
    """Measures the experiments without a record, in that order, for at most `minutes`."""
    failed, end = [], None if minutes is None else time.monotonic() + 60 * minutes
    for name in order:
        is_now, more = state(name, args.results, args.runs)
        print(f"{name}: {is_now}{f' ({more})' if more else ''}", flush=True)
        if args.list or (is_now == "measured" and name not in args.names):
            continue
        left = None if end is None else end - time.monotonic()
        status = None if left is not None and left <= 0 else measure(name, args.results, args.runs, left)
        if status is None:
            print(f"{minutes:g} minutes are over; the same command goes on with {name}")
            break
        if status < 0 or status >= 128:
            sys.exit(f"{name} was stopped; the same command goes on")
        if status:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
