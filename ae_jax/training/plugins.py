"""Plugins: members and networks from a Python file outside the package.

A member is a function `(net, optimizer, *, ...) -> Algorithm`, a network a function `(shape, latents, *, heads=1, ...)
-> Autoencoder`; the keyword-only parameters are options on the command line. A plugin offers every such function that
it defines, or those in its tuples `MEMBERS` (functions, or `algorithms.Member` with defaults) and `NETWORKS`.

`ae-jax --plugin FILE train mine` registers them for the process. The run keeps the plugin's path and SHA-256 checksum,
and opening the run executes the plugin again: open only runs of people whose programs you would run.
"""

import contextlib
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ..algorithms import ALGORITHMS, DEFAULTS, Member
from ..errors import RunError, first_line, tracebacks, warn
from ..networks import NETWORKS


class Plugin(NamedTuple):
    """A loaded file."""

    file: Path
    checksum: str  # SHA-256 of its content, without the modules that it imports
    members: dict[str, Member | Callable[..., Any]]
    networks: dict[str, Callable[..., Any]]


_loaded: dict[Path, Plugin] = {}  # the registry of this process


def load(path: Path | str) -> Plugin:
    """Executes a plugin and registers its members and networks; a changed file replaces its earlier version.

    Raises ValueError for a file that is missing, fails, offers nothing, or offers a name that is taken.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"the plugin {file} is not there: give the path of a Python file")
    checksum = _checksum(file)
    if (known := _loaded.get(file)) is not None and known.checksum == checksum:
        return known
    module = _executed(file, checksum)
    own = [fn for name, fn in vars(module).items() if inspect.isfunction(fn) and not name.startswith("_")]
    own = [fn for fn in own if fn.__module__ == module.__name__]
    members = getattr(module, "MEMBERS", [fn for fn in own if _begins(fn, "net", "optimizer")])
    networks = getattr(module, "NETWORKS", [fn for fn in own if _begins(fn, "shape", "latents")])
    plugin = Plugin(file, checksum, _named(file, members), _named(file, networks))
    if not plugin.members and not plugin.networks:
        raise ValueError(
            f"the plugin {file} offers nothing: it needs a function (net, optimizer, *, ...) that makes an Algorithm, "
            "or a function (shape, latents, *, heads=1, ...) that makes an Autoencoder"
        )
    old = known.members.keys() | known.networks.keys() if known else set()
    for what, names, registry in (("member", plugin.members, ALGORITHMS), ("network", plugin.networks, NETWORKS)):
        if taken := sorted(set(names) & set(registry) - old):
            raise ValueError(f"the plugin {file} has a {what} {taken[0]}, and that name is taken: choose another")
    for name, one in (*plugin.members.items(), *plugin.networks.items()):
        _check_options(file, name, one.make if isinstance(one, Member) else one)
    for name, make in plugin.networks.items():
        if "heads" not in inspect.signature(make).parameters:
            raise ValueError(f"the network {name} of {file} has no parameter heads, the codes that the encoder emits")
    if known is not None:
        _forget(known)
    for name, member in plugin.members.items():
        ALGORITHMS[name] = member.make if isinstance(member, Member) else member
        if isinstance(member, Member):
            DEFAULTS[name] = member.defaults
    NETWORKS.update(plugin.networks)
    _loaded[file] = plugin
    return plugin


def used(algorithm: str, network: str) -> list[dict[str, Any]]:
    """The plugins that define an algorithm and a network, by their names, as config.json keeps them."""
    found = [(p, [n for n in (algorithm, network) if n in p.members or n in p.networks]) for p in _loaded.values()]
    return [{"file": str(p.file), "checksum": p.checksum, "names": names} for p, names in found if names]


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Turns an error in the block into a ValueError with a plugin's file, if a plugin defines `name`.

    A ValueError stays as it is. So do all errors if AE_JAX_TRACEBACK asks for tracebacks.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        files = [p.file for p in _loaded.values() if name in p.members or name in p.networks]
        if not files or tracebacks():
            raise
        _, line = _place(error) or (None, 0)
        raise ValueError(
            f"{name} of the plugin {files[0]}{f', line {line},' * (line > 0)} {_failure(error)}"
        ) from error


def tell_place(error: Exception) -> None:
    """If the error arose in a plugin, raises a ValueError with the plugin's file and line.

    A ValueError that the plugin or the package raised says what is wrong, so nothing is raised for it; nor for errors
    of the system and of the device.
    """
    if isinstance(error, OSError | MemoryError | RunError | jax.errors.JaxRuntimeError) or tracebacks():
        return
    if (place := _place(error)) is None:
        return
    inner = [Path(frame.f_code.co_filename) for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    own = inner in _loaded or inner.is_relative_to(Path(__file__).parents[1])
    if not (isinstance(error, ValueError) and own):
        raise ValueError(f"the plugin {place[0]}, line {place[1]}, {_failure(error)}") from error


def _place(error: Exception) -> tuple[Path, int] | None:
    """The file of a plugin, and the line in it, where an error arose; None for an error elsewhere."""
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return next((place for place in reversed(frames) if place[0] in _loaded), None)


def _failure(error: Exception) -> str:
    kind = type(error).__name__
    return f"fails: {kind}: {first_line(error)}; with AE_JAX_TRACEBACK=1 the same command shows the traceback"


def restore(recorded: Iterable[dict[str, Any]]) -> None:
    """Loads the plugins that a run recorded, see `used`, unless they are loaded.

    If a file is missing or changed, a loaded plugin with the recorded names takes its place, with a warning. Raises
    RunError if no loaded plugin has these names.
    """
    for entry in recorded:
        file, names = Path(entry["file"]), entry["names"]
        if any(plugin.checksum == entry["checksum"] for plugin in _loaded.values()):
            continue
        there = file.is_file()
        if there and _checksum(file) == entry["checksum"]:
            for other in [p for p in _loaded.values() if any(n in p.members or n in p.networks for n in names)]:
                _forget(other)
            load(file)
            continue
        state = "has changed since" if there else "is no longer there"
        lost = f"{' and '.join(names)} came from the plugin {file}, which {state}"
        if not all(name in ALGORITHMS or name in NETWORKS for name in names):
            raise RunError(f"{lost}: restore it, or give one in its place by ae-jax --plugin FILE (plugins.load(FILE))")
        warn(f"warning: {lost}; the plugin given now takes its place")


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _executed(file: Path, checksum: str) -> Any:
    """The module of a plugin, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"ae_jax_plugin_{file.stem}_{checksum[:8]}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"the plugin {file} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        if tracebacks():
            raise
        raise ValueError(f"the plugin {file} fails: {type(error).__name__}: {error}") from error
    return module


def _begins(fn: Callable[..., Any], *names: str) -> bool:
    return tuple(inspect.signature(fn).parameters)[: len(names)] == names


def _check_options(file: Path, name: str, make: Callable[..., Any]) -> None:
    """Raises ValueError for an option that the command line cannot take from the signature.

    Such an option is positional, has no type or no default, or has a default that can change, such as a list.
    """
    try:
        types = inspect.get_annotations(make, eval_str=True)
    except Exception as error:  # an annotation is any expression
        raise ValueError(f"the annotations of {name} in {file} cannot be read ({error}): mend them") from error
    for place, (option, parameter) in enumerate(inspect.signature(make).parameters.items()):
        given = option in ("heads", "outputs", "examples")  # by the settings
        if place > 1 and not given and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            raise ValueError(f"the option {option} of {name} in {file} is positional: write a * before the options")
        if isinstance(parameter.default, list | dict | set):
            kind = type(parameter.default).__name__
            raise ValueError(
                f"the default of {option} of {name} in {file} is a {kind}, which can change: write a tuple"
            )
        if parameter.kind is not parameter.KEYWORD_ONLY or given:
            continue
        if (typed := option in types) and parameter.default is not parameter.empty:
            continue
        lacks = "default" if typed else "type"
        raise ValueError(
            f"the option {option} of {name} in {file} has no {lacks}: write both, such as {option}: float = 0.5"
        )


def _named(file: Path, offered: Iterable[Any]) -> dict[str, Any]:
    """The functions and members that a plugin offers, by the function's name."""
    found = {}
    for one in offered:
        make = one.make if isinstance(one, Member) else one
        if not callable(make) or not hasattr(make, "__name__"):
            raise ValueError(f"the plugin {file} offers {make!r}: MEMBERS and NETWORKS are tuples of functions")
        found[make.__name__] = one
    return found


def _forget(plugin: Plugin) -> None:
    """Takes a plugin's names out of the registries."""
    for name in plugin.members:
        ALGORITHMS.pop(name, None)
        DEFAULTS.pop(name, None)
    for name in plugin.networks:
        NETWORKS.pop(name, None)
    _loaded.pop(plugin.file, None)
