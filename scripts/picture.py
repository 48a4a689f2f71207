"""README's pictures: `python scripts/picture.py` makes both, `python scripts/picture.py samples` or `speed` one.

results/readme.png is drawn by the Python code in README; results/speed.png shows the ratios in results/bench-*.json.
"""

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parents[1]


def snippet() -> str:
    """The first Python code in README."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if found is None:
        raise ValueError("README.md has no Python block")
    return found[1]


def samples(out: Path) -> None:
    """Runs README's code in an empty folder, and keeps its picture."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(snippet(), "README.md", "exec"), {})
        finally:
            os.chdir(before)
        shutil.copy(Path(folder) / "samples.png", out)


def speed(out: Path) -> None:
    """Draws a bar for each case, its ratio to the best rival with quartiles. Raises ValueError without a record."""
    from matplotlib.figure import Figure

    machines = table.read(sorted((ROOT / "results").glob("bench-*.json")))
    cases = [case for machine in machines for case in machine["cases"].values() if "ratio" in case]
    if not cases:
        raise ValueError("results/ has no bench-*.json with a rival: run scripts/bench.py")
    cases.sort(key=lambda case: case["ratio"]["median"])
    figure = Figure(figsize=(9, 0.32 * len(cases) + 0.9), layout="constrained")
    axes = figure.subplots()
    for i, case in enumerate(cases):
        r, name = case["ratio"], case["title"].replace("the same,", "MLP VAE 784-500-20,")
        name = name.removesuffix(", training").replace(", value and gradient", "").replace(", batch 128", "")
        spread = [[r["median"] - r["low"]], [r["high"] - r["median"]]]
        axes.barh(
            i, r["median"] - 1, left=1, xerr=spread, color="#3f51b5" if r["median"] > 1 else "#c62828", height=0.7
        )
        axes.text(0.68, i, name, ha="right", va="center", fontsize=9)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(
        xscale="log", xlim=(0.7, None), yticks=[], xlabel="rate of ae_jax / rate of the best rival, quartiles of turns"
    )
    axes.set_xticks([0.7, 1, 2, 5, 10, 20], ["0.7", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(out, dpi=120)


PICTURES = {"samples": (samples, "readme.png"), "speed": (speed, "speed.png")}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PICTURE", help="samples, speed; by default both")
    names = parser.parse_args().names or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        parser.error(f"there is no picture {sorted(unknown)[0]!r}: give {' or '.join(PICTURES)}")
    for name in names:
        draw, file = PICTURES[name]
        draw(ROOT / "results" / file)
        print(ROOT / "results" / file)


if __name__ == "__main__":
    main()
