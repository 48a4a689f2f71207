"""Growth of time: `python scripts/growth.py` times an epoch of the VAE against data, width, seeds and code size.

One of the four varies at a time; the others are those of one run (784-500-20, 12,800 images, batch 128, one seed). The
record has the median of repeats after warm-up, and the slope of the larger half of each curve on log-log axes: 1 is
growth in proportion, 0 is no growth. Writes results/growth-<device>.json, and a picture beside it.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import bench  # noqa: E402
from bench_data import BATCH, dataset  # noqa: E402

from ae_jax.data.disk import write_json, written  # noqa: E402

BASE = {"images": 12_800, "width": 500, "seeds": 1, "latents": 20}
CURVES: dict[str, tuple[int, ...]] = {
    "images": (1280, 2560, 5120, 12_800, 25_600, 51_200),
    "width": (64, 125, 250, 500, 1000, 2000),
    "seeds": (1, 2, 4, 8, 16),
    "latents": (2, 8, 20, 64, 128, 256),
}
ON_GPU = {"seeds": (1, 2, 4, 8, 16, 32, 64, 128), "width": (64, 125, 250, 500, 1000, 2000, 4000)}


def seconds(images: int, width: int, seeds: int, latents: int, repeats: int) -> list[float]:
    """The seconds of an epoch of all seeds for each of `repeats`, after a first one that compiles."""
    import jax
    import optax

    from ae_jax import algorithms, core, networks
    from ae_jax.training import compiled

    data = core.Batch(jax.numpy.asarray(dataset((784,), images)))
    algorithm = algorithms.vae(networks.mlp((784,), latents, hidden=(width,), heads=2), optax.adam(1e-3))
    rule = core.epoch(algorithm, BATCH)
    keys = jax.random.split(jax.random.key(0), seeds)
    state = jax.jit(lambda keys, data: compiled.map_seeds(lambda k: core.start(algorithm.init, rule, data, k))(keys))
    params, memory, keys = state(keys, data)
    many = lambda p, m, k, data: compiled.map_seeds(lambda p, m, k: rule.update(p, m, data, k))(p, m, k)
    step = jax.jit(many, donate_argnums=(0, 1))
    taken = []
    for i in range(repeats + 1):
        fresh = jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys)
        began = time.perf_counter()
        params, memory, _ = jax.block_until_ready(step(params, memory, fresh, data))
        taken.append(time.perf_counter() - began)
    return taken[1:]


def slope(sizes: list[int], times: list[float]) -> float:
    """The slope of the larger half of a curve on log-log axes, by least squares."""
    import numpy as np

    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(times[half:]), 1)[0])


def picture(curves: dict[str, Any], title: str) -> Any:
    """A figure with a panel for each curve, on log-log axes; a dotted line shows proportional growth."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    times_of = [seconds for curve in curves.values() for seconds in curve["seconds"]]
    figure = Figure(figsize=(11, 2.9), dpi=100, facecolor="white", layout="constrained")
    for axes, (name, curve) in zip(figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True):
        sizes, times = curve["sizes"], curve["seconds"]
        axes.loglog(sizes, times, marker="o", markersize=4, linewidth=1.4)
        axes.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], ":", color="#999999", linewidth=1)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=name, ylim=(min(times_of) / 2, max(times_of) * 2), title=f"slope {curve['slope']:.2f}")
        axes.grid(True, color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("seconds an epoch")
    figure.suptitle(title, fontsize=10)
    return figure


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=bench.positive, default=3, help="epochs that are timed at each point (3)")
    parser.add_argument("--points", type=bench.positive, help="only the first so many points of each curve, 2 or more")
    parser.add_argument("--out", type=Path, help="the JSON file; results/growth-<device>.json by default")
    args = parser.parse_args()
    if args.points == 1:
        parser.error("--points is 1; a slope needs 2")
    device, machine = bench.describe_machine()
    out: Path = args.out or ROOT / "results" / f"growth-{bench.slug(machine)}.json"
    if out.is_dir():
        parser.error(f"--out {out} is a folder; name a file in it")
    about = {"commit": bench.commit(), "load": round(bench.load(), 2), "busy": bench.load() > bench.QUIET, **machine}
    curves: dict[str, Any] = {}
    for name, sizes in (CURVES | (ON_GPU if device == "gpu" else {})).items():
        sizes = list(sizes[: args.points])
        times = []
        for size in sizes:
            taken = seconds(**BASE | {name: size}, repeats=args.repeats)
            times.append(statistics.median(taken))
            print(f"{name} {size}: {times[-1]:.3g} s an epoch", flush=True)
        curves[name] = {"sizes": sizes, "seconds": times, "slope": round(slope(sizes, times), 3)}
        print(f"{name}: slope {curves[name]['slope']}")
    out.parent.mkdir(parents=True, exist_ok=True)
    title = f"MLP VAE on {machine['device']}, {machine['cpus']} CPUs; dotted: proportional to the last point"
    write_json(out, {**about, "base": BASE, "batch": BATCH, "curves": curves})  # before the picture, which may fail
    with written(out.with_suffix(".png")) as file:
        picture(curves, title).savefig(file, format="png")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
