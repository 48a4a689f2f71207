"""The cost of streaming in time and memory: `python scripts/streaming.py`.

It makes two measurements, both for `results/streaming-<device>.json`:

- `rate`: examples/s of the VAE 784-500-20 in batches of 128 on MNIST, in memory and streamed in shards of 60 batches
  from a folder of .npy files, in turns A B A B in one process, by `training.loop.train`. The aim is a ratio of 0.85. A
  third side streams TFRECORD, whose PNGs are decoded in every epoch.
- `memory`: the peak resident memory of one epoch on 2 GB and on 20 GB of uint8 images, generated when read. Each size
  is measured in a process of its own. The peak must not grow with the size.

`rate` needs MNIST prepared by TensorFlow Datasets, in ~/tensorflow_datasets or in the folder TFDS_DATA_DIR.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import bench  # noqa: E402  (its description of the machine)

from ae_jax.data.disk import write_json  # noqa: E402

SHARD = 60 * 128  # examples


def rate(train: Any, turns: int, epochs: int, blocks: int | None) -> dict[str, Any]:
    """Examples/s of each side, turn by turn, and the ratio of each stream to data in memory."""
    import optax

    from ae_jax import algorithms, data, networks
    from ae_jax.training import loop
    from ae_jax.xla import cache

    cache.cache_compilations()
    train = replace(train, blocks=train.blocks[:blocks])
    net = networks.mlp((28, 28, 1), 20, hidden=(500,), heads=2, init="uniform")
    algorithm = algorithms.vae(net, optax.adam(1e-3))
    with tempfile.TemporaryDirectory() as folder:
        data.write_shards(train, folder, 10_000)
        arrays = data.npy_source("MNIST as .npy files", data.npy_files(Path(folder)))
        sides: dict[str, Any] = {
            "in memory": data.Stream(arrays, len(arrays)).load(0, 0),
            "streamed, .npy files": data.Stream(arrays, SHARD, seed=0),
            "streamed, TFRECORD": data.Stream(train, SHARD, seed=0),
        }
        rates: dict[str, list[float]] = {side: [] for side in sides}
        loss = {}
        for turn in range(turns + 1):
            for side, what in sides.items():
                rows = loop.train(algorithm, what, epochs=epochs, progress=False).history
                if turn:  # the first turn fills the caches of the disk and the compiler
                    rates[side].append(epochs * len(arrays) / sum(row["seconds"] for row in rows))
                loss[side] = rows[-1]["train"]["loss"][0]
                print(f"  turn {turn}, {side}: {[row['examples_per_second'] for row in rows]} examples/s", flush=True)
    first, *others = rates
    ratios = {side: [a / b for a, b in zip(rates[side], rates[first], strict=True)] for side in others}
    return {
        "title": f"VAE 784-500-20, batch 128, {len(arrays)} MNIST digits, {epochs} epochs a turn",
        "shard_examples": SHARD,
        "rows": [{"side": side, "unit": "examples", **bench.spread(values, 4)} for side, values in rates.items()],
        "ratio_to_memory": {side: bench.spread(values, 3) for side, values in ratios.items()},
        "train_loss": {side: round(value, 3) for side, value in loss.items()},
        "aim": "streamed, .npy files: at least 0.85",
        "met": statistics.median(ratios[others[0]]) >= 0.85,
    }


def resident() -> int:
    """The peak resident memory of this process in MB; `ru_maxrss` is not used, since it includes the parent's peak."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return round(int(found[1]) / 1024) if found else 0


def made_up(gigabytes: float) -> dict[str, Any]:
    """The record of an epoch on made-up images of that size, in this process."""
    import jax
    import optax

    from ae_jax import algorithms, data, networks
    from ae_jax.training import loop
    from ae_jax.xla import cache

    cache.cache_compilations()
    shape, batch_size = (64, 64, 3), 512
    size = shape[0] * shape[1] * shape[2]
    source = data.generated(int(gigabytes * 1e9) // size, shape)
    stream = data.Stream(source, data.shard_size(shape, batch_size), seed=0)
    algorithm = algorithms.autoencoder(networks.mlp(shape, 16, hidden=(), init="uniform"), optax.adam(1e-3))
    before = resident()
    start = time.perf_counter()
    trained = loop.train(algorithm, stream, epochs=1, batch_size=batch_size, progress=False)
    row = trained.history[0]
    return {
        "gigabytes": round(len(source) * size / 1e9, 3),
        "examples": len(source),
        "shards": stream.shards,
        "shard_mb_float32": round(stream.shard_size * size * 4 / 2**20),
        "seconds": round(time.perf_counter() - start, 1),
        "seconds_of_epoch": row["seconds"],
        "examples_per_second": row["examples_per_second"],
        "train_loss": row["train"]["loss"][0],
        "peak_mb_before": before,
        "peak_mb": resident(),
        "device": jax.devices()[0].device_kind,
    }


def memory(sizes: list[float]) -> dict[str, Any]:
    """The record of peak memory for each size; each is measured in a process of its own."""
    rows = []
    for gigabytes in sizes:
        command = [sys.executable, __file__, "--made-up", str(gigabytes)]
        out = subprocess.run(command, check=True, env=bench.environment(), stdout=subprocess.PIPE, text=True).stdout
        rows.append(json.loads(out.splitlines()[-1]))
        print(f"  {rows[-1]}", flush=True)
    title = "one epoch of an autoencoder 12288-16 on made-up 64x64x3 uint8 images, stored nowhere"
    return {"title": title, "rows": rows, "peak_growth_mb": rows[-1]["peak_mb"] - rows[0]["peak_mb"]}


def opened(parser: argparse.ArgumentParser) -> Any:
    """MNIST's training set as a source; exits with a message if it is not prepared."""
    from ae_jax import data

    try:
        return data.open_stream("mnist").train
    except data.DataError as error:
        parser.error(f"{error}. Without it: --only memory")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("rate", "memory"), help="one of the two")
    parser.add_argument("--turns", type=bench.positive, default=5, help="of every side (5)")
    parser.add_argument("--epochs", type=bench.positive, default=3, help="in a turn (3)")
    parser.add_argument("--blocks", type=bench.positive, help="so many blocks of 256 digits only; by default all")
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[2.0, 20.0], help="of made-up images (2 20)")
    parser.add_argument("--out", type=Path, help="the JSON file; results/streaming-<device>.json by default")
    parser.add_argument("--made-up", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.made_up is not None:
        print(json.dumps(made_up(args.made_up)))
        return
    if min(args.gigabytes) < 0.1:
        parser.error(f"--gigabytes is {min(args.gigabytes)}; give 0.1 or more")
    load = bench.load()
    _, machine = bench.describe_machine()
    out: Path = args.out or ROOT / "results" / f"streaming-{bench.slug(machine)}.json"
    cases = bench.known(out, parser)["cases"]
    mnist = None if args.only == "memory" else opened(parser)
    out.parent.mkdir(parents=True, exist_ok=True)
    if busy := load > bench.QUIET:
        print(f"warning: the load average is {load:.2f}: the machine is busy, and the rates below are not to be used")
    made = {"commit": bench.commit(), "load": round(load, 2), "busy": busy, **machine}
    for name, measure in (
        ("rate", lambda: rate(mnist, args.turns, args.epochs, args.blocks)),
        ("memory", lambda: memory(args.gigabytes)),
    ):
        if args.only in (None, name):
            cases[name] = measure() | made
            write_json(out, {**machine, "cases": cases})
    print(f"written to {out}")


if __name__ == "__main__":
    main()
