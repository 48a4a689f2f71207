"""Records at the papers' sizes: runs experiments by `--full`, one after another, and skips what is measured already.

    scripts/records                 everything that is missing, in the order of RECORDS
    scripts/records --list          what is measured, begun, missing or stale, and run nothing
    scripts/records clustering      this one, though it has a record
    scripts/records --minutes 50    stop after so many minutes

Stop it at any moment, by Ctrl-C, `kill` or `kill -9`: the same command goes on from the last checkpoints, which lie in
runs/. A record is stale if the experiment's `--full` has other values now; then it is measured again. A record that an
older version of the experiment's file wrote is only listed as such. Experiments run at the lowest priority, so that
other work on the machine goes first; their seconds are no measure of speed then. `python scripts/table.py` puts the
records on the pages.
"""

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = (  # the experiments in the order of their weight for a reader who compares with the papers
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
    "estimators",
    "vamp_prior",
    "vq_photographs",
    "semantic_hashing",
    "text_search",
    "codes_2d",
)
RUNS_FREELY = ("seed", "data", "out")  # settings that do not make a record stale


def wanted(name: str) -> dict[str, Any]:
    """The settings by which an experiment runs at the paper's size, as its record has them."""
    main: Any = importlib.import_module(name).main
    settings = main.__kwdefaults__ | ({**main.full, "full": True} if main.full else {})
    return json.loads(json.dumps({k: v for k, v in settings.items() if k not in (*RUNS_FREELY, "runs")}, default=str))


def place(name: str, results: Path) -> Path:
    """The file of an experiment's record at the paper's size."""
    return results / f"{name}{'-full' if 'full' in wanted(name) else ''}.json"


def state(name: str, results: Path, runs: Path) -> tuple[str, str]:
    """("measured", "stale", "begun" or "missing", and more about it) of an experiment's record."""
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


def measure(name: str, results: Path, runs: Path, seconds: float | None) -> int | None:
    """Runs an experiment to its record, or for so many seconds. -> its exit status, None if the time ran out."""
    full = ["--full"] if "full" in wanted(name) else []
    folders = ["--out", str(results), "--runs", str(runs)]
    command = ["nice", "-n", "19", sys.executable, "-u", str(ROOT / "experiments" / f"{name}.py"), *full, *folders]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:  # the time ran out, or a signal came: the experiment saves at the end of its epoch
        if process.poll() is None:
            process.terminate()
            process.wait()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments; all of RECORDS without one")
    parser.add_argument("--list", action="store_true", help="tell the state of each, and run nothing")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on later")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the records")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of the checkpoints")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(RECORDS)):
        parser.error(f"no record is planned of {', '.join(unknown)}; there are: {' '.join(RECORDS)}")
    if args.minutes is not None and not args.minutes > 0:
        parser.error(f"--minutes is {args.minutes:g}; wanted: more than 0")
    sys.path.insert(0, str(ROOT / "experiments"))
    failed, end = [], None if args.minutes is None else time.monotonic() + 60 * args.minutes
    for name in args.names or RECORDS:
        is_now, more = state(name, args.results, args.runs)
        print(f"{name}: {is_now}{f' ({more})' if more else ''}", flush=True)
        if args.list or (is_now == "measured" and name not in args.names):
            continue
        left = None if end is None else end - time.monotonic()
        status = None if left is not None and left <= 0 else measure(name, args.results, args.runs, left)
        if status is None:
            print(f"{args.minutes:g} minutes are over; the same command goes on with {name}")
            break
        if status < 0 or status >= 128:
            sys.exit(f"{name} was stopped; the same command goes on")
        if status:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
