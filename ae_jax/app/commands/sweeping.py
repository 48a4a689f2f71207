"""Many runs over a grid of settings, or over settings drawn at random: the command `sweep`."""

import contextlib
import dataclasses
import difflib
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from ...data.disk import is_run
from ...errors import RunError, counted, warn
from ...training.run_folder import intact, write_sealed
from ...training.settings import Settings
from ...training.sharing import Sharing
from ...training.signals import Interrupted
from .. import flags
from . import comparing, training
from .comparing import PLAN
from .listing import headline, measured
from .loading import Splits, load

DIGITS = 4  # significant digits of a drawn number, few enough to type
DRAWS = 1000  # extra draws for combinations that repeat, as those of whole numbers or names may

HELP = """usage: ae-jax sweep ALGORITHM [--grid NAME=VALUE,...] [--range NAME=LOW..HIGH --samples N] [options of train]

Train a run for each combination of settings, each in its own folder, and compare them. The same command goes on where
a sweep was stopped.

  --grid NAME=VALUE,VALUE,...   values of an option of ae-jax train ALGORITHM; may be given for several options. A value
                                of several numbers has spaces: --grid "net-hidden=64 32,128"
  --samples N                   train N combinations drawn at random, instead of all
  --range NAME=LOW..HIGH        with --samples: draw a number, its logarithm uniform between the two. Whole numbers for
                                an option that counts
  --search-seed S               seed of the draws (default: 0)
  --workdir FOLDER              folder of the sweep; by default a folder under runs/, named by the settings

All other options are those of ae-jax train ALGORITHM, whose --help lists them, and hold for every run. For example:
  ae-jax sweep vae --data digits --grid beta=0.5,1,4 --grid latents=2,10 --seeds 5
  ae-jax sweep vae --data digits --range beta=0.1..10 --range lr=1e-4..1e-2 --samples 20
"""


class Asked(NamedTuple):
    """The options that belong to the sweep and not to train."""

    grids: dict[str, list[str]] = {}  # option -> its values, as typed
    ranges: dict[str, tuple[float, float]] = {}
    samples: int | None = None
    seed: int = 0


class Cell(NamedTuple):
    """One run of a sweep."""

    name: str  # of its folder
    settings: Settings


def asked_of(arguments: Sequence[str]) -> tuple[Asked, list[str]]:
    """The options of the sweep, and the other arguments, for train. Raises ValueError for invalid sweep options."""
    grids: dict[str, list[str]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    counts: dict[str, int] = {}
    rest, given = [], iter(arguments)
    for argument in given:
        flag, equals, value = argument.partition("=")
        if flag not in ("--grid", "--range", "--samples", "--search-seed"):
            rest.append(argument)
            continue
        value = value if equals else next(given, "--")
        if not equals and value.startswith("--"):
            raise ValueError(f"{flag} lacks a value: ae-jax sweep --help has its form")
        if flag in ("--samples", "--search-seed"):
            if not re.fullmatch(r"\d{1,9}", value) or (flag == "--samples" and int(value) < 1):
                least = 1 if flag == "--samples" else 0
                raise ValueError(f"{flag} is {value or 'empty'}; it must be a whole number, at least {least}")
            counts[flag] = int(value)
            continue
        name, _, texts = value.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not name or name in (*grids, *ranges):
            raise ValueError(f"{flag} {value} names {'no option' if not name else f'{name} again'}: give each once")
        if flag == "--grid":
            grids[name] = _values(value, texts)
        else:
            ranges[name] = _range(value, texts)
    asked = Asked(grids, ranges, counts.get("--samples"), counts.get("--search-seed", 0))
    if not grids and not ranges:
        raise ValueError("the sweep has no values: give --grid NAME=VALUE,VALUE, or --range NAME=LOW..HIGH --samples N")
    if ranges and asked.samples is None:
        raise ValueError("--range draws numbers at random: say how many runs, --samples N, or give --grid")
    if asked.samples is None and "--search-seed" in counts:
        raise ValueError("--search-seed has no effect without --samples N: leave it out")
    return asked, rest


def _values(given: str, texts: str) -> list[str]:
    values = [" ".join(text.split()) for text in texts.split(",")]
    if "" in values:
        raise ValueError(f"--grid {given} lacks a value: give NAME=VALUE,VALUE, as in --grid beta=0.5,1,4")
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"--grid {given} has {twice[0]} twice: give each value once")
    return values


def _range(given: str, texts: str) -> tuple[float, float]:
    try:
        low, high = map(float, texts.split(".."))
    except ValueError:
        raise ValueError(f"--range {given} is no range: give NAME=LOW..HIGH, as in --range beta=0.1..10") from None
    if not 0 < low < high < np.inf:
        raise ValueError(f"--range {given} is no range: LOW must be above 0 and below HIGH, for logarithms are drawn")
    return low, high


def planned(algorithm: str, asked: Asked, rest: Sequence[str]) -> tuple[list[Cell], Any]:
    """The runs of a sweep, and the options of all its runs that are not settings (`flags.RunOptions`).

    Raises ValueError for names and values that train refuses, and for a sweep of a single run.
    """
    parsed = flags.parse(algorithm, list(rest), prog=f"ae-jax sweep {algorithm}")
    groups = {field.name: group for group, part in vars(parsed).items() for field in dataclasses.fields(part)}
    for name in (*asked.grids, *asked.ranges):
        _check_name(algorithm, name, groups, rest)
    typed = {
        name: [_typed(algorithm, groups[name], name, value, rest) for value in values]
        for name, values in asked.grids.items()
    }
    kinds = {name: _kind(parsed, groups[name], name) for name in asked.ranges}
    if asked.samples is None:
        chosen: Iterator[dict[str, Any]] = (
            dict(zip(typed, values, strict=True)) for values in itertools.product(*typed.values())
        )
    else:
        chosen = drawn(asked, typed, kinds)
    cells = {}
    for values in chosen:
        parts = {group: part for group, part in vars(parsed).items()}
        for name, value in values.items():
            parts[groups[name]] = dataclasses.replace(parts[groups[name]], **{name: value})
        settings = flags.settings_of(algorithm, dataclasses.replace(parsed, **parts))
        cells[named(values)] = settings
    if len(cells) < 2:
        raise ValueError(f"the sweep has one run, {next(iter(cells))}: give more values, or use ae-jax train")
    return [Cell(name, settings) for name, settings in cells.items()], parsed.run


def _check_name(algorithm: str, name: str, groups: dict[str, str], rest: Sequence[str]) -> None:
    flag = f"--{name.replace('_', '-')}"
    if groups.get(name) == "run":
        raise ValueError(f"{name} is no setting that a sweep varies: give {flag} for all its runs")
    if name not in groups:
        varied = [option for option, group in groups.items() if group != "run"]
        near = difflib.get_close_matches(name, varied, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"{algorithm} has no option {name}.{hint} ae-jax train {algorithm} --help lists its options")
    if any(argument.partition("=")[0].replace("_", "-") in (flag, f"--no{flag[1:]}") for argument in rest):
        raise ValueError(f"{name} is given as {flag} and as a setting that varies: leave one of the two out")


def _typed(algorithm: str, group: str, name: str, value: str, rest: Sequence[str]) -> Any:
    """The value of an option, parsed as by train."""
    arguments = [*rest, f"--{name.replace('_', '-')}", *value.split()]
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return getattr(getattr(flags.parse(algorithm, arguments), group), name)
    except SystemExit:
        flag = f"--{name.replace('_', '-')}"
        raise ValueError(
            f"{name} takes no {value!r}: ae-jax train {algorithm} --help has the values of {flag}"
        ) from None


def _kind(parsed: Any, group: str, name: str) -> type:
    """The type of an option, int or float. Raises ValueError for an option of another type."""
    types = {field.name: field.type for field in dataclasses.fields(getattr(parsed, group))}
    plain = flags.plain(types[name])
    members = get_args(plain) or (plain,)
    if found := next((kind for kind in (float, int) if kind in members), None):
        return found
    raise ValueError(f"{name} is no number, and --range draws numbers: give --grid {name}=VALUE,VALUE")


def drawn(asked: Asked, typed: dict[str, list[Any]], kinds: dict[str, type]) -> Iterator[dict[str, Any]]:
    """`asked.samples` different combinations: ranges are drawn uniformly in the logarithm, grids among their values.

    Combination i does not depend on the number of samples, and a setting's draws do not depend on other settings.
    """
    draws = {name: np.random.default_rng([asked.seed, zlib.crc32(name.encode())]) for name in (*typed, *kinds)}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(DRAWS + asked.samples if asked.samples else 0):
        values: dict[str, Any] = {name: of[draws[name].integers(len(of))] for name, of in typed.items()}
        for name, kind in kinds.items():
            low, high = asked.ranges[name]
            number = float(f"{np.exp(draws[name].uniform(np.log(low), np.log(high))):.{DIGITS}g}")
            values[name] = kind(min(max(round(number) if kind is int else number, low), high))
        found.setdefault(named(values), values)
        if len(found) == asked.samples:
            break
    else:
        raise ValueError(f"the sweep has {len(found)} different runs, fewer than --samples {asked.samples}: give fewer")
    yield from found.values()


def named(values: dict[str, Any]) -> str:
    """The name of a run's folder, such as beta=0.5,latents=2."""
    text = ",".join(f"{name}={flags.shown(value).replace(' ', '-')}" for name, value in values.items())
    safe = re.sub(r"[^\w.,=+-]", "_", text)
    return safe if safe == text and len(safe) <= 150 else f"{safe[:140]}-{zlib.crc32(text.encode()):08x}"


def default_workdir(cells: Sequence[Cell]) -> Path:
    """runs/sweep-ALGORITHM-DATA-DIGEST: equal sweeps have the same folder, different sweeps have different folders."""
    first = training.default_workdir(cells[0].settings)
    content = json.dumps([(cell.name, cell.settings.to_json()) for cell in cells], sort_keys=True)
    return first.parent / f"sweep-{first.name.rpartition('-')[0]}-{zlib.crc32(content.encode()):08x}"


def check_folder(folder: Path, cells: Sequence[Cell]) -> None:
    """Raises RunError unless the folder is new or empty, or holds this sweep or a part of it."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; a sweep needs a folder: choose another --workdir")
    if is_run(folder):
        raise RunError(f"{folder} is the folder of a run; a sweep needs one of its own: choose another --workdir")
    plan = folder / PLAN
    if not plan.exists():
        if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise RunError(f"{folder} is not empty and holds no sweep: choose another --workdir")
        return
    try:
        content = json.loads(plan.read_bytes())
        before = set(content["cells"]) if intact(content) else None
    except (ValueError, KeyError, TypeError):
        before = None
    if before is None:
        raise RunError(f"{plan} is damaged: remove it, and start the same command again; runs that ended are kept")
    if missing := sorted(before - {cell.name for cell in cells}):
        raise RunError(
            f"{folder} holds another sweep, with {missing[0]}: give its values too, or choose another --workdir"
        )


def sweep(
    cells: Sequence[Cell], folder: Path, varied: Sequence[str], *, quiet: bool = False, **options: Any
) -> comparing.Comparison:
    """Trains each run of a sweep in a folder of its own, and compares them. A stopped sweep goes on.

    Every run is checked before anything is written. Runs that differ only in numbers that are arguments of a program
    (`training/sharing.py`) share compiled programs. `options` go to `training.train` for every run. Raises RunError,
    after the last run, if a run failed.
    """
    say: Any = (lambda *_, **__: None) if quiet else print
    check_folder(folder, cells)
    sharing, known = Sharing(), {}

    def splits_of(settings: Settings) -> Splits:
        """The data of a run, read once for all runs with the same data."""
        size = settings.batch_size if settings.shard_size is not None else None
        parts = (
            settings.data,
            settings.data_options,
            settings.validation,
            settings.binarise,
            settings.shard_size,
            size,
        )
        if repr(parts) not in known:
            known[repr(parts)] = load(settings)
        return known[repr(parts)]

    def run(cell: Cell, **more: Any) -> dict[str, Any]:
        """The results of a run."""
        own = {"quiet": True, "splits": splits_of(cell.settings), "sharing": sharing}
        return training.train(cell.settings, folder / cell.name, **options, **own, **more)

    for cell in cells:
        run(cell, only_check=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(folder / PLAN, {"schema": 1, "varied": list(varied), "cells": [cell.name for cell in cells]})
    say(f"{len(cells)} runs of {counted(len(cells[0].settings.seeds), 'seed')} in {folder}")
    failed = []
    for i, cell in enumerate(cells):
        try:
            results = run(cell)
        except Interrupted:  # a signal stops the whole sweep
            raise
        except RunError as error:
            warn(f"{i + 1} of {len(cells)}  {cell.name}: {error}")
            failed.append(cell.name)
            continue
        name = headline(results["metrics"])
        say(f"{i + 1} of {len(cells)}  {cell.name}  {name} {measured(results['metrics'][name]) if name else ''}")
        failed += [cell.name] * bool(results.get("failed"))
    done = [folder / cell.name for cell in cells if (folder / cell.name / "config.json").exists()]
    found, files = comparing.compare(done, folder)
    say("", comparing.text(found), *files, sep="\n")
    if failed:
        raise RunError(
            f"{len(failed)} of {counted(len(cells), 'run')} failed, or some of their seeds: {', '.join(failed)}"
        )
    return found
