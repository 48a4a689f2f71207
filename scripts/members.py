"""Trains every member with no options, `ae-jax train MEMBER --data SET`, and records its metrics and seconds.

    .venv/bin/python scripts/members.py                    # digits and MNIST, members that are not in the record yet
    .venv/bin/python scripts/members.py --data digits --members vae rbm --again

Each command is a process of its own, timed from start to end. A member's record is written to results/members.json as
soon as it is measured; `python scripts/table.py` puts the table on results/README.md. The record notes if the machine
was busy, since the seconds then do not measure the member.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ae_jax.algorithms import ALGORITHMS
from ae_jax.data.disk import write_json

ROOT = Path(__file__).resolve().parents[1]
METRICS = {  # column of the table -> metric
    "explained variance": "test explained_variance",
    "probe": "linear_probe_accuracy",
    "k-NN": "knn_accuracy",
    "PCA, explained variance": "pca explained_variance",
    "PCA, probe": "pca linear_probe_accuracy",
    "PCA, k-NN": "pca knn_accuracy",
    "accuracy": "test accuracy",
    "clustering accuracy": "test clustering_accuracy",
    "NMI": "test nmi",
}


def row(results: dict[str, Any], settings: dict[str, Any], seconds: float, load: float, cores: int) -> dict[str, Any]:
    """The record of one command, from its results.json, its settings, its seconds, and the load by other programs."""
    metrics = {name.partition(" (")[0]: m["mean"] for name, m in results["metrics"].items()}
    return {
        "metrics": {label: metrics[name] for label, name in METRICS.items() if name in metrics},
        "seconds": round(seconds, 1),
        "training_seconds": round(results["seconds"], 1),
        "busy": load > 0.15 * cores,
        "load": round(load, 1),
        "remarks": results.get("remarks", []),
        "settings": {name: settings[name] for name in ("network", "latents", "epochs", "batch_size")},
        **{name: results[name] for name in ("versions", "device", "commit", "parameters")},
    }


def others(seconds: float = 2.0) -> float:
    """The number of cores that other programs keep busy, measured while this program sleeps for some seconds."""

    def ticks() -> tuple[int, int]:  # all, and idle
        spent = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(spent), spent[3] + spent[4]

    spent, idle = ticks()
    time.sleep(seconds)
    later, resting = ticks()
    return (os.cpu_count() or 1) * (1 - (resting - idle) / max(later - spent, 1))


def measure(member: str, data: str) -> dict[str, Any]:
    """Trains one member by its default options. Raises RuntimeError with the command's message if it fails."""
    load, cores = others(), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ae_jax", "train", member, "--data", data, "--workdir", f"{folder}/run"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        read = lambda name: json.loads((Path(folder) / "run" / name).read_text())
        return row(read("results.json"), read("config.json")["settings"], seconds, load, cores)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits", "mnist"], help="data sets (default: digits mnist)")
    parser.add_argument("--members", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS), metavar="MEMBER")
    parser.add_argument("--again", action="store_true", help="measure members again that are in the record")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "members.json")
    args = parser.parse_args()
    failed = []
    for data in args.data:
        for member in args.members:
            record = json.loads(args.out.read_text()) if args.out.exists() else {}
            if member in record.get(data, {}) and not args.again:
                continue
            try:
                found = measure(member, data)
            except RuntimeError as error:
                failed.append(f"{member} on {data}")
                print(error, file=sys.stderr, flush=True)
                continue
            record.setdefault(data, {})[member] = found
            order = {name: i for i, name in enumerate(ALGORITHMS)}
            record[data] = dict(sorted(record[data].items(), key=lambda item: order.get(item[0], len(order))))
            write_json(args.out, record)
            print(f"{member} on {data}: {found['metrics']}, {found['seconds']} s {found['remarks'] or ''}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
