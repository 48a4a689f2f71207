"""Renders the tables of README.md, docs and results/README.md: `python scripts/table.py`; tests run it with `--check`.

A table is between two lines, `<!-- NAME -->` and `<!-- /NAME -->`:

- `members` in README.md: the members of the registry by family, and the experiments that use them; in a page of
  docs/families: the members of that family;
- `results` in README.md: eight published numbers beside ours, from results/<experiment>.json, which
  experiments/study.py writes, or from the record of `--full` if there is one; results/README.md, with every experiment
  and metric, is written as a whole;
- `coverage` in docs/coverage.md: the lists of other libraries (scripts/peers.py) beside ours, and our other members;
- `speed` in README.md and `bench` in docs/speed.md: results/bench-*.json, which scripts/bench.py writes.

No number in these tables is written by hand.
"""

import argparse
import ast
import inspect
import json
import math
import sys
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import peers

ROOT = Path(__file__).resolve().parents[1]
OVERVIEW_HEAD = (
    ("what", "published", "ours, mean and 95 % interval", "claims held", "seeds", "more"),
    ("---", "--:", "---", "---", "---", "---"),
)
EIGHT = {  # the results in README: an experiment -> its metric with a published value
    "vae_pytorch_example": "test loss, nats",
    "linear_members": "linear autoencoder, test squared error",
    "self_taught": "accuracy, features, %",
    "rbm_digits": "our RBM, pseudo-likelihood, moved then split",
    "stacked_sparse": "accuracy after fine-tuning, %",
    "clustering": "DEC, accuracy, %",
    "deep_belief": "pretrained, test squared error",
    "stacked_denoising": "basic, SDAE-3, test error, %",
}
EIGHT_HEAD = (
    ("paper", "experiment and metric", "published", "ours, mean and 95 % interval"),
    ("---", "---", "--:", "---"),
)
FAMILY_HEAD = (("family", "members", "experiments"), ("---", "---", "---"))
FULL = "-full"
MISSED = 2  # missed claims and tolerances shown by name; the page of all metrics has all
LEADS = {  # an experiment -> its leading metric, if its first metric with a published value or claim is a baseline's
    "clustering": "DEC, accuracy, %",
    "embedding_projector": "1-NN accuracy, %: vectors minus PCA",
    "linear_members": "linear autoencoder, test squared error",
    "rbm_digits": "our RBM, accuracy, %, split then moved",
    "semantic_hashing": "32 bits, precision at 100, %: VDSH minus LSA + median",
}
COVERAGE_HEAD = (("theirs", "ours", "difference"), ("---", "---", "---"))
RESULTS_HEAD = (("metric", "published", "ours, mean and 95 % interval", "verdict"), ("---", "---", "---", "---"))
GOALS_HEAD = (
    ("what", "goal", "measured (quartiles)", "", "at the whole ceiling", "device"),
    ("---", "--:", "---", "---", "--:", "---"),
)
MEMBERS_HEAD = (
    ("member", "code", "explained variance", "PCA", "linear probe", "PCA", "k-NN", "PCA", "more", "seconds", "remarks"),
    ("---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "---", "--:", "---"),
)
BENCH_HEAD = (
    (
        "what",
        "ours",
        "best rival",
        "times as fast (quartiles)",
        "of ceiling",
        "of copy",
        "compiling: cold, from disk",
        "first call: cold, from disk",
        "peak memory",
        "device",
    ),
    ("---", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "--:", "---"),
)


def cells(values: tuple[str, ...]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in values) + " |"


def finite(value: Any) -> TypeGuard[float]:
    """A finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def decimals(difference: float, digits: int) -> int:
    """The number of decimals with which a number of that size has `digits` significant digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(difference)))) if difference else 0


def number(value: float, places: int = 0) -> str:
    """12345.678 -> 12,345.7, with `places` decimals."""
    return f"{value:,.{places}f}"


def plain(value: float) -> str:
    """A number with the digits of its publication."""
    return f"{value:,}"


def interval(metric: dict[str, Any]) -> str:
    """The mean with its 95 % interval, if several seeds with different values give one."""
    mean, low, high = metric["mean"], metric.get("low"), metric.get("high")
    if not finite(mean):
        return "**not finite**"
    if not (finite(low) and finite(high)) or high - low <= 1e-4 * abs(mean):
        return number(mean, decimals(mean, 4))
    places = decimals((high - low) / 2, 2)
    return f"{number(mean, places)} ({number(low, places)} to {number(high, places)})"


def verdict(mean: float, paper: dict[str, Any] | None, claim: dict[str, Any] | None) -> str:
    """A mark on whether the experiment's tolerance or claim was met; "" if it states none."""
    if claim is not None:
        said = {True: "✓ above 0", False: "✗ **not above 0**", None: "one seed, no interval"}
        return f"{said[claim['holds']]}: {claim['claim']}"
    if paper is None or paper.get("tolerance") is None:
        return ""
    off, tolerance = mean - paper["value"], paper["tolerance"]
    if abs(off) <= tolerance:
        return f"✓ within {plain(tolerance)}"
    return f"✗ **{off:+.3g}**, tolerance {plain(tolerance)}"


def source(experiment: dict[str, Any]) -> str:
    """The name of the experiment that wrote a record, without the ending -full of `--full`."""
    return experiment["name"].removesuffix(FULL)


def size(experiment: dict[str, Any]) -> str:
    """The mark of a record of `--full`, whose quick record has the same title."""
    return " (`--full`)" if experiment["name"].endswith(FULL) else ""


def order(experiment: dict[str, Any]) -> list[str]:
    """The metrics of an experiment in their order, those with a published value or a claim first."""
    published, claims = experiment.get("published", {}), experiment.get("claims", {})
    known = [*experiment["metrics"], *(p for p in published if p not in experiment["metrics"])]
    return sorted(known, key=lambda label: label not in published and label not in claims)


def checks(experiment: dict[str, Any]) -> dict[str, bool | None]:
    """Every stated tolerance and claim, by metric: whether it was met, or None for one seed without an interval."""
    metrics, result = experiment["metrics"], {}
    for label, paper in experiment.get("published", {}).items():
        if paper.get("tolerance") is not None and label in metrics:
            result[label] = abs(metrics[label]["mean"] - paper["value"]) <= paper["tolerance"]
    return result | {label: claim["holds"] for label, claim in experiment.get("claims", {}).items()}


def overview(experiments: list[dict[str, Any]]) -> list[str]:
    """A row for each experiment: its leading metric, else its first published value or its first claim."""
    if not experiments:
        return ["No experiment has been run yet: see `experiments/`."]
    rows = [cells(head) for head in OVERVIEW_HEAD]
    for e in experiments:
        published, known = e.get("published", {}), checks(e)
        label = next((p for p in (LEADS.get(source(e)), *published) if p in e["metrics"]), order(e)[0])
        paper = published.get(label)
        there = plain(paper["value"]) if paper else ""
        failed = [f"✗ {label}" for label, holds in known.items() if holds is False]
        more = f" and {len(failed) - MISSED} more" if len(failed) > MISSED else ""
        missed = "; ".join(failed[:MISSED]) + more
        held = f"{sum(map(bool, known.values()))} of {len(known)}" if known else ""
        links = f"[numbers](#{e['name']}), [experiment](../experiments/{source(e)}.py)"
        links += f", [picture]({e['picture']})" if "picture" in e else ""
        cost = f"{len(e['seeds'])} in {number(e['seconds'] / 60, 1)} min"
        what = f"**{e['title']}**{size(e)}: {label}"
        ours = interval(e["metrics"][label]) if label in e["metrics"] else "not measured"
        rows.append(cells((what, there, ours, f"{held}<br>{missed}" if missed else held, cost, links)))
    return rows


def eight(experiments: list[dict[str, Any]]) -> list[str]:
    """The results in README: published values of eight experiments, and ours, from `--full` if that has a record."""
    known = {source(e): e for e in experiments}  # the record of --full comes last and replaces the quick one
    rows = [cells(head) for head in EIGHT_HEAD]
    for name, label in EIGHT.items():
        if name in known:
            e = known[name]
            paper = e["published"][label]
            what = f"[{name}](experiments/{name}.py){size(e)}: {label}"
            rows.append(cells((paper["where"], what, plain(paper["value"]), interval(e["metrics"][label]))))
    return rows


@cache
def uses(path: Path) -> frozenset[str]:
    """The names of ae_jax that a file imports or reads as attributes."""
    tree = list(ast.walk(ast.parse(path.read_text())))
    imported = {a.name for n in tree if isinstance(n, ast.ImportFrom) and "ae_jax" in (n.module or "") for a in n.names}
    read = {n.attr for n in tree if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}
    return frozenset(imported | read)


def experiments_in(root: Path = ROOT) -> list[str]:
    """The experiments, by name."""
    return [file.stem for file in sorted((root / "experiments").glob("*.py")) if file.stem != "study"]


def experiments_with(member: str, root: Path = ROOT) -> list[str]:
    """The experiments that use a member of the registry."""
    return [name for name in experiments_in(root) if member in uses(root / "experiments" / f"{name}.py")]


def links(experiments: Iterable[str], above: str = "", root: Path = ROOT) -> str:
    """Links to experiments, for a page in a folder from which `above` leads to the root."""
    known = {name: (root / "results" / f"{name}.json").exists() for name in experiments}
    return ", ".join(f"[{e}]({above}experiments/{e}.py){'' if has else ' (no record yet)'}" for e, has in known.items())


def title(page: Path) -> str:
    """The first heading of a page. Raises ValueError for a page without one."""
    for line in page.read_text().splitlines():
        if line.startswith("# "):
            return line.removeprefix("# ")
    raise ValueError(f"{page} has no heading: begin it with '# TITLE'")


def members_table(root: Path = ROOT) -> list[str]:
    """The members of the registry by family, and the experiments that use them.

    The first family has the baseline of most experiments, so it lists only experiments that use no other family.
    """
    from ae_jax.algorithms import MEMBERS

    families: dict[str, list[str]] = {}
    for member in MEMBERS:
        families.setdefault(member.family, []).append(member.make.__name__)
    experiments = {
        family: dict.fromkeys(e for name in names for e in experiments_with(name, root))
        for family, names in families.items()
    }
    baseline, *others = families
    rows = [cells(head) for head in FAMILY_HEAD]
    for family, names in families.items():
        elsewhere = {e for other in others for e in experiments[other]} if family == baseline else set()
        used = [e for e in experiments[family] if e not in elsewhere]
        page = f"docs/families/{family}.md"
        rows.append(
            cells(
                (
                    f"[{title(root / page)}]({page})",
                    ", ".join(f"[`{name}`](ae_jax/algorithms/{name}.py)" for name in names),
                    links(used, "", root),
                )
            )
        )
    return rows


def family_lines(family: str, root: Path = ROOT) -> list[str]:
    """The members of a family for its page in docs/families: the first paragraph of each file, and the experiments."""
    from ae_jax.algorithms import MEMBERS

    lines = [""]
    for member in MEMBERS:
        if member.family == family:
            name = member.make.__name__
            about = " ".join((inspect.getdoc(inspect.getmodule(member.make)) or "").split("\n\n")[0].split())
            used = links(experiments_with(name, root), "../../", root)
            experiments = f" Experiments: {used}." if used else ""
            lines.append(f"- [`{name}`](../../ae_jax/algorithms/{name}.py): {about}{experiments}")
    return [*lines, ""]


def coverage_lines() -> list[str]:
    """The lists of other libraries beside ours, and the members of the registry that are in none of these lists."""
    from ae_jax.algorithms import MEMBERS

    lines: list[str] = []
    for title, read, rows in peers.PEERS:
        lines += ["", f"## {title}", "", f"{read[0].upper()}{read[1:]}. {peers.counted(rows)}.", ""]
        lines += [cells(head) for head in COVERAGE_HEAD]
        for row in rows:
            ours = ", ".join(map(peers.shown, row.ours)) or "not there yet"
            lines.append(cells((f"`{row.theirs}`", ours, row.note)))
    claimed = {peers.member_of(ours) for peer in peers.PEERS for row in peer.rows for ours in row.ours}
    beyond = [m.make.__name__ for m in MEMBERS if m.make.__name__ not in claimed]
    links = ", ".join(map(peers.shown, beyond))
    return [*lines, "", "## Members that none of these lists has", "", f"{links}.", ""]


def section(e: dict[str, Any]) -> list[str]:
    """An experiment's section on the results page: a description, every metric, its notes and its picture."""
    published, claims, name = e.get("published", {}), e.get("claims", {}), e["name"]
    rows = [cells(head) for head in RESULTS_HEAD]
    for label in order(e):
        metric, paper = e["metrics"].get(label), published.get(label)
        note = f" ({paper['note']})" if paper and paper.get("note") else ""
        there = f"{plain(paper['value'])}, {paper['where']}{note}" if paper else ""
        ours = interval(metric) if metric else "not measured"
        rows.append(cells((label, there, ours, verdict(metric["mean"], paper, claims.get(label)) if metric else "")))
    cost = f"{len(e['seeds'])} seeds, {number(e['seconds'] / 60, 1)} minutes on {e['device']}"
    links = f"[experiment](../experiments/{source(e)}.py), [numbers]({name}.json)"
    picture = ["", f"![{e['title']}]({e['picture']})"] if "picture" in e else []
    notes = [f"- {note}" for note in e.get("notes", ())]
    head = ["", f"## {name}", "", f"**{e['title']}**{size(e)}. {e['source']}. {cost}: {links}.", ""]
    return [*head, *rows, *([""] if notes else []), *notes, *picture]


def per_second(row: dict[str, Any]) -> str:
    """A row's rate or time."""
    return f"{row['median']:.3g} s" if row["unit"] == "seconds" else f"{row['median']:,.0f} {row['unit']}/s"


def busy(record: dict[str, Any]) -> str:
    """A remark if the machine had other work during the measurement; else ""."""
    return f" (machine busy, load {record['load']})" if record.get("busy") else ""


def bench_rows(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for a comparison, or a row for each way of a timing."""
    device = f"{case['device']}, {case['cpus']} CPUs, jax {case['versions']['jax']}{busy(case)}"
    sides = {row["side"]: row for row in case["rows"]}
    if "ours" not in case:  # the timing of a command
        return [(f"{case['title']}, {s}", per_second(row), *[""] * 7, device) for s, row in sides.items()]
    if case["ours"] not in sides:
        return []
    ours = sides[case["ours"]]
    rival, times, share = "", "", case.get("of_ceiling", {}).get(ours["side"])
    if ratio := case.get("ratio"):
        rival = f"{per_second(sides[ratio['to']])}, {ratio['to']}"
        times = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    ceiling = f"{share:.0%}" if share is not None else ""
    of_copy = case.get("of_copy", {}).get(ours["side"])
    copy = "" if of_copy is None else f"{of_copy:.0%}"
    memory = f"{ours['peak_mb']:,} MB"
    first, compiling = f"{ours['first_call_seconds']} s", f"{ours['compile_seconds']} s"
    if cached := ours.get("from_cache"):
        first += f", {cached['first_call_seconds']} s"
        compiling += f", {cached['compile_seconds']} s"
    rate = per_second(ours) + ours["side"].removeprefix("ae_jax")
    return [(case["title"], rate, rival, times, ceiling, copy, compiling, first, memory, device)]


def goal_rows(case: dict[str, Any]) -> list[tuple[str, ...]]:
    """The goals of a case, set before measuring, and the results."""
    rows, sides = [], {row["side"]: row for row in case["rows"]}
    top = max((row["median"] for side, row in sides.items() if side.startswith("a large product")), default=0)
    for goal in case.get("goals", ()):
        of = goal["ours"].removeprefix("ae_jax").removeprefix(", ")
        what = f"{case['title']}{f': {of}' if of else ''}, times {goal['to']}"
        measured = f"{goal['median']:.3g} ({goal['low']:.3g} to {goal['high']:.3g})"
        mark = "✓" if goal["median"] >= goal["least"] else "✗"
        rival = sides[goal["rival"]]
        of_the_work = rival["unit"] != "FLOP"  # else the goal is a share of the ceiling itself
        most = f"{top / (case['flops'] * rival['median']):.3g}" if top and of_the_work else ""
        rows.append((what, f"at least {goal['least']:.3g}", measured, mark, most))
    for way, most in case.get("most", {}).items():
        seconds, what = sides[way]["median"], f"{case['title']}, {way}"
        rows.append((what, f"at most {most:g} s", f"{seconds:.3g} s", "✓" if seconds <= most else "✗", ""))
    return rows


def bench_table(machines: list[dict[str, Any]]) -> list[str]:
    """All cases of all machines, and their goals."""
    rows = [row for machine in machines for case in machine["cases"].values() for row in bench_rows(case)]
    if not rows:
        return ["Nothing has been measured yet: `python scripts/bench.py`."]
    goals = [
        (*row, f"{case['device']}, {case['cpus']} CPUs")
        for machine in machines
        for case in machine["cases"].values()
        for row in goal_rows(case)
    ]
    about = [
        "",
        "Goals were set before measuring. Where two rows have one measurement, the milder goal is the older one. At",
        "the whole ceiling: the ratio of a program whose products all ran at the rate of one large product, and that",
        "did nothing else; where a rival gets there by other products, as `torch.func` does, the column only says how",
        "far apart they are.",
        "",
    ]
    about += [*(cells(head) for head in GOALS_HEAD), *map(cells, goals)]
    return [*(cells(head) for head in BENCH_HEAD), *map(cells, rows), *(about if goals else [])]


def unlike(cases: list[dict[str, Any]]) -> str:
    """A sentence with the number of cases in which JAX's large product is over 1.8 times as fast as PyTorch; or ""."""

    def ratio(case: dict[str, Any]) -> float:
        rates = {row["side"]: row["median"] for row in case["rows"]}
        return rates.get("a large product, JAX", 1) / rates.get("a large product, PyTorch", math.inf)

    count = sum(ratio(case) > 1.8 for case in cases)
    return (
        f"In {count} of them JAX's large matrix product alone has about twice the rate of PyTorch's. " if count else ""
    )


def speed_lines(machines: list[dict[str, Any]]) -> list[str]:
    """README's sentences about speed: the ratios to the best rival, over the cases of every machine."""
    lines = []
    for machine in machines:
        cases = [case for case in machine["cases"].values() if "ratio" in case]
        if not cases:
            continue
        first, ratios = cases[0], sorted(case["ratio"]["median"] for case in cases)
        ours = next(row for row in first["rows"] if row["side"] == first["ours"])
        r, faster = first["ratio"], sum(ratio > 1 for ratio in ratios)
        name = first["title"].removesuffix(", training")
        text = (
            f"On {first['device']} with {first['cpus']} CPUs, training the {name} runs at {per_second(ours)}, "
            f"{r['median']:.2f} times the rate of the best rival, {r['to']} (quartiles {r['low']:.2f} to "
            f"{r['high']:.2f}). Over {len(ratios)} cases ae_jax has {ratios[0]:.2f} to {ratios[-1]:.0f} times the rate "
            f"of the best rival, {ratios[len(ratios) // 2]:.2f} at the median, and is the faster in {faster}. "
            f"{unlike(cases)}"
            "[Speed](docs/speed.md) has every measured case and its goal; no GPU was measured."
        )
        lines += textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)
    return lines


def streaming_lines(machines: list[dict[str, Any]]) -> list[str]:
    """The record of scripts/streaming.py, with a sentence for each measurement."""
    lines, least = [], 0.85
    for machine in machines:
        about = f"{machine['device']}, {machine['cpus']} CPUs"
        if rate := machine["cases"].get("rate"):
            ratios = [(name, r["median"]) for name, r in rate["ratio_to_memory"].items()]
            shares = "; ".join(f"{name}, {ratio:.2f} {'✓' if ratio >= least else '✗'}" for name, ratio in ratios)
            lines.append(
                f"- Examples/s of a stream over those of data in memory ({about}{busy(rate)}; goal: {least}): {shares}."
            )
        if memory := machine["cases"].get("memory"):
            sizes = " and ".join(f"{row['gigabytes']:g} GB: {row['peak_mb']:,} MB" for row in memory["rows"])
            lines.append(f"- Peak memory of an epoch on made-up images, stored nowhere ({about}): {sizes}.")
    return lines


def growth_lines(files: list[Path]) -> list[str]:
    """The record of scripts/growth.py, with a sentence and a picture for each machine."""
    lines = []
    for file, machine in zip(files, read(files), strict=True):
        slopes = ", ".join(f"{name} {curve['slope']:.2f}" for name, curve in machine["curves"].items())
        about = f"{machine['device']}, {machine['cpus']} CPUs{busy(machine)}"
        lines.append(f"- Slope of an epoch's time on log-log axes ({about}): {slopes}; 1 is proportional.")
        lines += ["", f"![Seconds an epoch against images, width, seeds and latents](../results/{file.stem}.png)"]
    return lines


def member_lines(record: dict[str, Any]) -> list[str]:
    """The record of scripts/members.py: a table for each data set, a row for each member."""
    lines = []
    for data, members in record.items():
        rows = [cells(head) for head in MEMBERS_HEAD]
        for name, m in members.items():
            value = lambda label, m=m: f"{m['metrics'][label]:.2f}" if finite(m["metrics"].get(label)) else ""
            pairs = [
                value(before + label) for label in ("explained variance", "probe", "k-NN") for before in ("", "PCA, ")
            ]
            more = [f"{label} {value(label)}" for label in ("accuracy", "clustering accuracy", "NMI") if value(label)]
            seconds = f"{m['seconds']:.0f}{' (busy)' if m['busy'] else ''}"
            rows.append(
                cells((name, str(m["settings"]["latents"]), *pairs, ", ".join(more), seconds, "; ".join(m["remarks"])))
            )
        lines += ["", f"### {data}", "", *rows]
    if not lines:
        return []
    busy = any(m["busy"] for members in record.values() for m in members.values())
    head = [
        "",
        "## Every member with no options",
        "",
        "One seed of `ae-jax train MEMBER --data SET` on the test set, beside PCA with as many numbers as the",
        "code has; seconds are of the whole command, data, compilation, measuring and report included.",
        *["Where it says busy, the machine had other work, and the seconds say little."] * busy,
        "Written by `python scripts/members.py`.",
    ]
    return head + lines


def read(files: list[Path]) -> list[dict[str, Any]]:
    """The content of JSON files. Raises ValueError with the name of a broken file."""
    loaded = []
    for file in files:
        try:
            loaded.append(json.loads(file.read_text()))
        except ValueError as error:
            raise ValueError(f"{file} is not JSON: {error}; write it anew, or remove it") from error
    return loaded


def experiments_of(results: Path) -> list[dict[str, Any]]:
    """The records of experiments in a folder, sorted by name, the record of `--full` after the quick one."""
    other = {file for kind in ("bench", "streaming", "growth") for file in results.glob(f"{kind}-*.json")}
    other |= {results / f"{name}.json" for name in ("members", "mutation", "trials")}
    files = set(results.glob("*.json")) - other
    return read(sorted(files, key=lambda file: (file.stem.removesuffix(FULL), file.stem)))


def full(results: Path) -> str:
    """The page with every metric of every experiment that has a record, and the names of the others."""
    experiments = experiments_of(results)
    head = """# Results

`python scripts/table.py` writes this page from the records beside it. Before it runs, each experiment states tolerances
to published values, and claims that a difference is above 0; ✓ and ✗ say whether they were met, and no mark means that
the experiment states none. The [findings](../docs/findings.md) go through those that were not met.

## Every experiment
"""
    unmeasured = [name for name in experiments_in() if not (results / f"{name}.json").exists()]
    named = ", ".join(f"[{e}](../experiments/{e}.py)" for e in unmeasured)
    missing = ["", f"No record yet: {named}."] if unmeasured else []
    members = [line for record in read(list(results.glob("members.json"))) for line in member_lines(record)]
    sections = [line for e in experiments for line in section(e)]
    return "\n".join([head, *overview(experiments), *missing, *members, *sections, ""])


def tables(results: Path) -> dict[str, list[str]]:
    """Every table by name."""
    bench = read(sorted(results.glob("bench-*.json")))
    streaming, growth = (sorted(results.glob(f"{kind}-*.json")) for kind in ("streaming", "growth"))
    more = streaming_lines(read(streaming)) + growth_lines(growth)
    return {
        "members": members_table(),
        "results": eight(experiments_of(results)),
        "speed": speed_lines(bench),
        "bench": bench_table(bench) + ["", *more] * bool(more),
    }


def render(text: str, names: tuple[str, ...], results: Path) -> str:
    """A page's text with the named tables, rendered from the files in `results`. Raises ValueError without markers."""
    known = tables(results)
    return filled(text, {name: known[name] for name in names})


def filled(text: str, known: dict[str, list[str]]) -> str:
    """A page's text with the lines of each name between its markers. Raises ValueError without markers."""
    for name, lines in known.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the page has no {begin} ... {end}: write these two lines where the table goes")
        text = "\n".join([before + begin, *lines, end + after])
    return text


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page is not up to date")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--speed", type=Path, default=ROOT / "docs" / "speed.md")
    parser.add_argument("--coverage", type=Path, default=ROOT / "docs" / "coverage.md")
    parser.add_argument("--families", type=Path, default=ROOT / "docs" / "families")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    args = parser.parse_args()
    pages = {args.readme: ("members", "results", "speed"), args.speed: ("bench",)}
    for option, file in (("--readme", args.readme), ("--speed", args.speed), ("--coverage", args.coverage)):
        if not file.is_file():
            parser.error(f"{option} {file} is not a file")
    try:
        after = {file: render(file.read_text(), names, args.results) for file, names in pages.items()}
        after[args.results / "README.md"] = full(args.results)
        after[args.coverage] = filled(args.coverage.read_text(), {"coverage": coverage_lines()})
        for page in sorted(args.families.glob("*.md")):
            after[page] = filled(page.read_text(), {"members": family_lines(page.stem)})
    except ValueError as error:
        sys.exit(f"error: {error}")
    for file, text in after.items():
        if file.exists() and file.read_text() == text:
            continue
        if args.check:
            sys.exit(f"error: the tables of {file} are not what {args.results} holds; run: python scripts/table.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
