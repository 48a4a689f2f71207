"""Settings of a run from a file, JSON or TOML, in the layout of config.json: `ae-jax train --config FILE`.

The settings become flags of the command line. Flags that the user gives replace them, and both are checked alike.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ..checks import Needs, annotations_of, defaults_of
from ..errors import RunError, first_line
from . import flags

# entries of a run's config.json that are not settings
FACTS = {"schema", "versions", "device", "commit", "run", "lengths", "seal"}
GROUPS = ("hyper", "network_options", "data_options", "optimizer")
LISTED = ("seeds", "restarts", "start_from", "plugins", "shard_size")  # settings that flags give in another form


class Config(NamedTuple):
    """The settings in a file."""

    algorithm: str
    flags: list[str]
    seeds: tuple[int, ...]  # () where the file has none
    restarts: tuple[tuple[int, int], ...]
    start_from: dict[str, Any] | None


def read(path: Path, algorithm: str | None = None) -> Config:
    """The settings in a file. Loads the plugins that the file names.

    `algorithm` is the algorithm on the command line, if any. Raises RunError for a file that cannot be read, for a file
    of another algorithm, and for keys that are unknown or missing.
    """
    from ..algorithms import ALGORITHMS, FORMER
    from ..training import plugins, settings

    content = _parsed(path)
    if "settings" in content:
        _known(path, "", set(content) - {"settings"}, FACTS)
        content = content["settings"]
    given = {name: value for name, value in content.items() if name not in _of_data()}
    named = given.pop("algorithm", algorithm)
    if not isinstance(named, str):
        near = difflib.get_close_matches("algorithm", list(given), 1)
        hint = f" (is it misspelt as {near[0]}?)" if near else ""
        raise RunError(f"{path} has no algorithm{hint}: add one, or name one, ae-jax train ALGORITHM --config {path}")
    recorded = given.get("plugins", [])
    texts = lambda entry: isinstance(entry, dict) and all(isinstance(entry.get(k), str) for k in ("file", "checksum"))
    if not isinstance(recorded, list) or not all(texts(e) and _is_list(e.get("names"), str) for e in recorded):
        raise RunError(
            f"{path} has plugins = {recorded!r}; wanted: a list of tables, each with file, checksum and names"
        )
    plugins.restore(recorded)
    named = FORMER.get(named, named)
    if named not in ALGORITHMS:
        raise RunError(f"{path} has the algorithm {named!r}, which is not known{_near(named, ALGORITHMS)}")
    if algorithm not in (None, named):
        raise RunError(f"{path} is of the algorithm {named}, and {algorithm} is given: leave one of the two out")
    _known(path, "", given, {f.name for f in fields(settings.Settings)} | {"plugins"})
    for group in GROUPS:
        if not isinstance(given.get(group, {}), dict):
            raise RunError(f"{path} has {group} = {given[group]!r}; it must be a table of options")
    arguments: list[str] = []
    for group, names in _options(named).items():
        options = given if group == "" else given.get(group, {})
        if group:
            _known(path, f"{group}.", options, names)
        for name, value in _effective(named, group, options).items():
            if name in names and value is not None:
                arguments += flag(names[name], value)
    if given.get("shard_size") is not None:
        arguments += ["--stream", *(flag("shard_size", given["shard_size"]) if given["shard_size"] else [])]
    seeds = _integers(path, "seeds", given.get("seeds", []))
    pairs = given.get("restarts", [])
    if not isinstance(pairs, list) or not all(_is_list(pair, int) and len(pair) == 2 for pair in pairs):
        raise RunError(f"{path} has restarts = {pairs!r}; it must be a list of pairs of whole numbers")
    start = given.get("start_from")
    if start is not None and not (isinstance(start, dict) and isinstance(start.get("run"), str)):
        raise RunError(f"{path} has start_from = {start!r}; it must be a table with the run to start from, run")
    if start is not None and not _is_list(start.get("groups", []), str):
        raise RunError(f"{path} has start_from.groups = {start['groups']!r}; it must be a list of names")
    if start is not None and not isinstance(start.get("seed"), int | None):
        raise RunError(f"{path} has start_from.seed = {start['seed']!r}; it must be a whole number")
    _known(path, "start_from.", start or (), ("run", "groups", "seed", "seeds", "epoch", "checksum"))
    return Config(
        algorithm=named,
        flags=arguments,
        seeds=seeds,
        restarts=tuple((at, planned) for at, planned in pairs),
        start_from=start,
    )


def flag(option: str, value: Any) -> list[str]:
    """An option and its value as words of the command line."""
    name = f"--{option.replace('_', '-')}"
    if isinstance(value, bool):
        return [f"{name}={value}"]
    if isinstance(value, list | tuple):
        return [name, *map(str, value)]
    return [f"{name}={value}"]


def _parsed(path: Path) -> dict[str, Any]:
    """The content of the file. Raises RunError if it cannot be read or has changed since ae_jax wrote it."""
    from ..training import run_folder

    try:
        text = path.read_text("utf-8")
        content = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise RunError(f"the config {path} cannot be read ({error.strerror}): give a JSON or TOML file") from None
    except ValueError as error:  # invalid JSON, TOML or UTF-8
        kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
        raise RunError(f"the config {path} is not {kind} ({first_line(error)}): mend it, or name it .toml") from None
    if not isinstance(content, dict) or not isinstance(content.get("settings", {}), dict):
        raise RunError(f"the config {path} holds no table of settings: see the config.json of a run for its layout")
    if not run_folder.intact(content):
        raise RunError(
            f"{path} has changed since it was written, as its seal shows: if you changed it yourself, remove the seal "
            "from it"
        )
    return content


def _of_data() -> tuple[str, ...]:
    """The entries of a run's settings that the run recorded of its data and algorithm."""
    from .commands.runs import RECORDED

    return RECORDED


def _options(algorithm: str) -> dict[str, dict[str, str]]:
    """For each table of settings in the file: key -> option of the command line. "" holds the keys outside tables."""
    from .. import data
    from ..networks import NETWORKS
    from ..training import settings

    shared = settings.options()
    of_optimizer = {f.name: settings.FLAGS.get(f.name, f.name) for f in fields(settings.OptimizerSettings)}
    return {
        "": {name: name for name in shared if name not in of_optimizer.values() and name not in LISTED},
        "hyper": {name: name for name in flags.hyperparameters(algorithm)},
        "network_options": {name: flags.network_flag(name) for name in flags.merged(NETWORKS)},
        "data_options": {name: flags.data_flag(name) for name in flags.merged(data.OPTIONS)},
        "optimizer": of_optimizer,
    }


def _effective(algorithm: str, group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without defaults of options that depend on others (`Needs`): as flags they could be refused."""
    from ..algorithms import ALGORITHMS
    from ..training import settings

    makers = {"hyper": ALGORITHMS[algorithm], "optimizer": settings.OptimizerSettings, "": settings.Settings}
    if group not in makers:
        return dict(options)
    usual = defaults_of(makers[group]) | (dict(settings.defaults(algorithm).hyper) if group == "hyper" else {})
    needing = {name for name, found in annotations_of(makers[group], Needs).items() if found}
    plain = json.loads(json.dumps({name: usual[name] for name in needing & options.keys()}, default=str))
    return {name: value for name, value in options.items() if name not in plain or value != plain[name]}


def _known(path: Path, where: str, given: Any, known: Any) -> None:
    """Raises RunError for an unknown key, and suggests the nearest known key."""
    for name in sorted(set(given) - set(known)):
        raise RunError(f"{path} has {where}{name}, which is no setting{_near(name, known, where)}")


def _near(name: str, known: Any, where: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {where}{near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _is_list(given: Any, kind: type) -> bool:
    """Whether a value is a list of values of a type; True and False are no numbers."""
    return isinstance(given, list) and all(isinstance(n, kind) and not isinstance(n, bool) for n in given)


def _integers(path: Path, name: str, given: Any) -> tuple[int, ...]:
    if not _is_list(given, int):
        raise RunError(f"{path} has {name} = {given!r}; it must be a list of whole numbers")
    return tuple(given)
