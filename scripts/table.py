"""README's tables, rendered from what was measured: `python scripts/table.py`, or with `--check` in the tests.

Between `<!-- results -->` and `<!-- /results -->` come the experiments (results/<name>.json, which
`ae_jax.experiment` writes), between `<!-- bench -->` and `<!-- /bench -->` the speeds (results/bench-*.json,
which scripts/bench.py writes). No number in these tables is written by hand.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, TypeGuard

ROOT = Path(__file__).resolve().parents[1]
RESULTS_HEAD = (
    ("what", "published", "ours, mean and 95 % interval", "seeds", "device", "minutes", "how and what"),
    ("---", "---", "---", "--:", "---", "--:", "---"),
)
BENCH_HEAD = (
    ("what", "ours", "best rival", "times as fast (quartiles)", "of ceiling", "first call", "peak memory", "device"),
    ("---", "--:", "--:", "--:", "--:", "--:", "--:", "---"),
)


def cells(values: tuple[str, ...]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in values) + " |"


def finite(value: Any) -> TypeGuard[float]:
    """A number that says something."""
    return isinstance(value, int | float) and math.isfinite(value)


def decimals(difference: float, digits: int) -> int:
    """How many decimals show a number of that size to so many digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(difference)))) if difference else 0


def number(value: float, places: int = 0) -> str:
    """12345.678 -> 12,345.7, with `places` decimals."""
    return f"{value:,.{places}f}"


def plain(value: float) -> str:
    """As it was published: no digits added, none taken."""
    return f"{value:,}"


def interval(metric: dict[str, Any]) -> str:
    """The mean, and its 95 % interval where there are seeds enough for one and they differ."""
    mean, low, high = metric["mean"], metric.get("low"), metric.get("high")
    if not finite(mean):
        return "**not finite**"
    if not (finite(low) and finite(high)) or high - low <= 1e-4 * abs(mean):
        return number(mean, decimals(mean, 4))
    places = decimals((high - low) / 2, 2)
    return f"{number(mean, places)} ({number(low, places)} to {number(high, places)})"


def verdict(mean: float, paper: dict[str, Any] | None, claim: dict[str, Any] | None) -> str:
    """Whether the experiment's own tolerance or claim was met; nothing where it makes none."""
    if claim is not None:
        said = {True: "✓ above 0, as said before", False: "✗ **not above 0**", None: "one seed, no interval"}
        return f" {said[claim['holds']]}: {claim['claim']}"
    if paper is None or paper.get("tolerance") is None:
        return ""
    off, tolerance = mean - paper["value"], paper["tolerance"]
    if abs(off) <= tolerance:
        return f" ✓ within {plain(tolerance)}"
    return f" ✗ **{off:+.3g}**, tolerance {plain(tolerance)}"


class Footnotes:
    """Numbered in the order they are first met; a text met twice has one number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str | None) -> str:
        """The mark for a text, or nothing for none."""
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f" <sup>{self.texts.index(text) + 1}</sup>"

    def lines(self) -> list[str]:
        """The texts, to go below the table."""
        return ["", *(f"<sup>{i + 1}</sup> {text}  " for i, text in enumerate(self.texts))] if self.texts else []


def results_table(experiments: list[dict[str, Any]]) -> list[str]:
    """One row a metric; the experiment's title, seeds and minutes stand in its first row."""
    if not experiments:
        return ["No experiment has been run yet: see `experiments/`."]
    notes = Footnotes()
    rows = [cells(head) for head in RESULTS_HEAD]
    for e in experiments:
        name = e["name"]
        links = f"[experiment](experiments/{name}.py), [numbers](results/{name}.json)"
        links += f", [picture](results/{e['picture']})" if "picture" in e else ""
        title = f"**{e['title']}**, {e['source']}{''.join(map(notes.mark, e.get('notes', ())))}"
        rest = (str(len(e["seeds"])), e["device"], number(e["seconds"] / 60, 1), links)
        published, claims = e.get("published", {}), e.get("claims", {})
        for i, label in enumerate([*e["metrics"], *(p for p in published if p not in e["metrics"])]):
            metric, paper = e["metrics"].get(label), published.get(label)
            there = f"{plain(paper['value'])}, {paper['where']}{notes.mark(paper.get('note'))}" if paper else ""
            ours = interval(metric) + verdict(metric["mean"], paper, claims.get(label)) if metric else "not measured"
            what = f"{title}: {label}" if i == 0 else f"· {label}"
            rows.append(cells((what, there, ours, *(rest if i == 0 else ("",) * 4))))
    marks = (
        "✓ and ✗: whether the tolerance or claim that the experiment itself states was met; no mark: it states none."
    )
    return [*rows, "", marks, *notes.lines()]


def per_second(row: dict[str, Any]) -> str:
    """A row's rate or time."""
    return f"{row['median']:.3g} s" if row["unit"] == "seconds" else f"{row['median']:,.0f} {row['unit']}/s"


def bench_rows(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for a comparison; one for each way of a timing."""
    load = f" (machine busy, load {case['load']})" if case.get("busy") else ""
    device = f"{case['device']}, {case['cpus']} CPUs, jax {case['versions']['jax']}{load}"
    sides = {row["side"]: row for row in case["rows"]}
    if "ours" not in case:  # the timing of a command
        return [(f"{case['title']}, {s}", per_second(row), "", "", "", "", "", device) for s, row in sides.items()]
    if case["ours"] not in sides:
        return []
    ours = sides[case["ours"]]
    rival, times, share = "", "", case.get("of_ceiling", {}).get(ours["side"])
    if ratio := case.get("ratio"):
        rival = f"{per_second(sides[ratio['to']])}, {ratio['to']}"
        times = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    ceiling = f"{share:.0%}" if share is not None else ""
    memory = f"{ours['peak_mb']:,} MB"
    return [(case["title"], per_second(ours), rival, times, ceiling, f"{ours['first_call_seconds']} s", memory, device)]


def bench_table(machines: list[dict[str, Any]]) -> list[str]:
    """All cases of all machines."""
    rows = [row for machine in machines for case in machine["cases"].values() for row in bench_rows(case)]
    if not rows:
        return ["Nothing has been measured yet: `python scripts/bench.py`."]
    return [*(cells(head) for head in BENCH_HEAD), *map(cells, rows)]


def read(files: list[Path]) -> list[dict[str, Any]]:
    """The files, parsed. Raises ValueError that names a broken one."""
    loaded = []
    for file in files:
        try:
            loaded.append(json.loads(file.read_text()))
        except ValueError as error:
            raise ValueError(f"{file} is not JSON: {error}; write it anew, or remove it") from error
    return loaded


def render(text: str, results: Path) -> str:
    """README's text with its tables as the files in `results` have it. Raises ValueError without the markers."""
    bench = sorted(results.glob("bench-*.json"))
    experiments = read(sorted(set(results.glob("*.json")) - set(bench)))
    tables = {"results": results_table(experiments), "bench": bench_table(read(bench))}
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"there is no {begin} ... {end} in README.md; the table goes between these two lines")
        text = "\n".join([before + begin, *lines, end + after])
    return text


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if README.md is not up to date"
    )
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    args = parser.parse_args()
    text = args.readme.read_text()
    try:
        new = render(text, args.results)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if new == text:
        return
    if args.check:
        sys.exit(f"error: the tables of {args.readme} are not what {args.results} holds; run: python scripts/table.py")
    args.readme.write_text(new)


if __name__ == "__main__":
    main()
