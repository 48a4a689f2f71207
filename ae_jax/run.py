"""The impure edge: a run as a folder. Epochs in Python, everything inside one compiled.

An epoch of every seed is one program: the dataset is an argument, the state is donated. For a stream a program is one
pass over a shard, see `shards`; pass number p has the key of epoch p, so a set in one shard gives the bits of a set in
memory. After an epoch the host looks at a clock, a signal and a few numbers, writes a row to `log.jsonl` and, when due,
a checkpoint. Since keys are addresses (see `core`), a checkpoint holds no randomness: a run that was killed at any
moment and started again ends with the bits of an uninterrupted one.
"""

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from . import checkpoints, devices, evaluation
from .core import (
    Algorithm,
    Batch,
    Descent,
    Key,
    Memory,
    Metrics,
    Params,
    address,
    augment,
    average,
    epoch,
    length,
    start,
)
from .data.dataset import expanded
from .data.stream import Stream
from .disk import ASIDE, LOCK, clean, is_temporary, strict, write_atomically, write_json
from .errors import RunError, warn
from .evaluation import Better
from .shards import Sharded, loaded

SEEN = 35  # seconds until all processes must see a file; network file systems cache a folder's content for 30
LONG = 10  # seconds of a start from which its state is saved
SCHEMA = 2  # of config.json; 1 did not record it
# results.json has at least these
MEASURED = ("seeds", "metrics", "parameters", "seconds", "examples_per_second", "device")


class State(NamedTuple):
    """One seed's run between two epochs; in a sweep every leaf has a leading axis of seeds."""

    params: Params
    memory: Memory
    best: Params  # of the best epoch so far, by the monitored metric; {} without a validation set
    best_value: Array  # [] the monitored metric in that epoch
    best_epoch: Array  # [] int32
    active: Array  # [] bool, False once early stopping or a failure ended this seed
    failed: Array  # [] int32, the epoch in which its loss or params stopped being finite; 0: none


class Trained(NamedTuple):
    """The result of `train`; leaves of params have a leading axis of seeds."""

    params: Params  # of the last epoch, or of the best one with a validation set
    seeds: tuple[int, ...]
    history: list[dict[str, Any]]  # the rows of log.jsonl
    best_epoch: list[int]
    failed: dict[int, int] = {}  # seed -> epoch in which its loss or params stopped being finite; its params are NaN

    @property
    def good(self) -> tuple[int, ...]:
        """The seeds that did not fail."""
        return tuple(seed for seed in self.seeds if seed not in self.failed)

    def of(self, seed: int) -> Params:
        """The params of one seed. Raises ValueError for a seed that was not trained, RunError for one that failed."""
        if seed not in self.seeds:
            raise ValueError(f"seed {seed} was not trained; this run has the seeds {list(self.seeds)}")
        if seed in self.failed:
            raise RunError(f"{failures(self.failed, seed)}; choose one of {list(self.good)}")
        return jax.tree.map(lambda a: a[self.seeds.index(seed)], self.params)


def map_seeds(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` over a leading axis of its arguments, one entry a seed, in one program.

    On CPU one seed after another (`lax.map`: measured faster there, and each seed has the bits that it has
    alone); on an accelerator all at once (`vmap`).
    """
    if jax.default_backend() == "cpu":
        return lambda *args: lax.map(lambda one: fn(*one), args)
    return jax.vmap(fn)


# ----------------------------------------------------------------------------------- the compiled part


def transformed(algorithm: Algorithm, transform: Callable[[Batch, Key], Batch]) -> Algorithm:
    """The algorithm that learns from `transform(batch, key)`: in every step, in its statistics, and at the start."""
    before = None if algorithm.before is None else augment(algorithm.before, transform)
    init = lambda key, data: algorithm.init(key, transform(data, address(key, "transform")))
    return algorithm._replace(init=init, rule=augment(algorithm.rule, transform), before=before)


def _programs(
    algorithm: Algorithm,
    batch_size: int,
    transform: Callable[[Batch, Key], Batch] | None,
    monitor: str,
    better: Better,
    patience: int | None,
    mesh: Mesh | None = None,
    validated: bool = False,
):
    """(begin, advance) and the three parts of `advance` for an epoch in shards, each compiled for all seeds at once and
    spread over a mesh if there is one. The state keeps the best params only if `validated`.
    """
    if transform is not None:
        algorithm = transformed(algorithm, transform)
    rule = epoch(algorithm, batch_size, devices.batches(mesh))
    worst = jnp.inf if better == "lower" else -jnp.inf

    def begin(data: Batch, keys: Key) -> State:
        def one(key: Key) -> State:
            params, memory, _ = start(algorithm.init, rule, data, key)
            none = jnp.zeros((), jnp.int32)
            return State(
                params=params,
                memory=memory,
                best=params if validated else {},
                best_value=jnp.asarray(worst, jnp.float32),
                best_epoch=none,
                active=jnp.asarray(True),
                failed=none,
            )

        return map_seeds(one)(keys)

    def learn(state: State, key_seed: Key, number: Array, data: Batch):
        """Pass `number`, counted from 0, over data: a whole training set, or a shard of one."""
        key = address(key_seed, "epoch", number)
        params, memory, metrics = rule.update(state.params, state.memory, data, key)
        floats = [leaf for leaf in jax.tree.leaves((params, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all()
        return state._replace(params=params, memory=memory), (metrics, finite)

    def measure(state: State, key_seed: Key, held_out: Batch, first: Any = 0):
        key = address(key_seed, "validation")
        return state, average(algorithm.evaluate, state.params, held_out, key, first=first)

    def judge(state: State, e: Array, rows: dict[str, Metrics], finite: Array) -> State:
        """After epoch e, counted from 1: notes whether the seed failed, the epoch is the best, and the seed goes on."""
        value = rows.get("validation", rows["train"])[monitor].astype(jnp.float32)
        value = jnp.where(jnp.isnan(value), worst, value)
        failed = jnp.where((state.failed == 0) & ~finite, e, state.failed)
        good = failed == 0
        ahead = value < state.best_value if better == "lower" else value > state.best_value
        ahead = good & (ahead | (e == 1))
        choose = lambda new, old: jax.tree.map(lambda n, o: jnp.where(ahead, n, o), new, old)
        best_epoch = choose(e, state.best_epoch)
        return state._replace(
            best=choose(state.params, state.best) if validated else {},
            best_value=choose(value, state.best_value),
            best_epoch=best_epoch,
            active=good if patience is None else good & (e - best_epoch < patience),
            failed=failed,
        )

    def while_active(go: Callable[[State, Key], tuple[State, Any]], state: State, key_seed: Key):
        """`go`, or for a seed that early stopping ended its unchanged state, and NaN."""
        if patience is None:
            return go(state, key_seed)
        silent = lambda s: jnp.full(s.shape, jnp.nan if jnp.issubdtype(s.dtype, jnp.floating) else True, s.dtype)
        nothing = jax.tree.map(silent, jax.eval_shape(go, state, key_seed)[1])
        return lax.cond(state.active, go, lambda state, _: (state, nothing), state, key_seed)

    def advance(states: State, keys: Key, e: Array, data: Batch, held_out: Batch | None):
        def go(state: State, key_seed: Key):  # epoch e, counted from 1, has the key of fit's epoch e - 1
            state, (metrics, finite) = learn(state, key_seed, e - 1, data)
            rows = {"train": metrics}
            if held_out is not None:
                rows["validation"] = measure(state, key_seed, held_out)[1]
            return judge(state, e, rows, finite), rows

        return map_seeds(lambda state, key: while_active(go, state, key))(states, keys)

    # An epoch in shards: the same, in three.

    def learn_shard(states: State, keys: Key, number: Array, data: Batch):
        go = lambda state, key: learn(state, key, number, data)
        return map_seeds(lambda state, key: while_active(go, state, key))(states, keys)

    def measure_shard(states: State, keys: Key, first: Array, held_out: Batch):
        go = lambda state, key: measure(state, key, held_out, first)
        return map_seeds(lambda state, key: while_active(go, state, key)[1])(states, keys)

    def judge_epoch(states: State, keys: Key, e: Array, rows: dict[str, Metrics], finite: Array):
        def one(state: State, key: Key, rows: dict[str, Metrics], finite: Array) -> State:
            return while_active(lambda state, _: (judge(state, e, rows, finite), ()), state, key)[0]

        return map_seeds(one)(states, keys, rows, finite)

    if mesh is None:
        whole, sharded = jax.jit(advance, donate_argnums=0), jax.jit(learn_shard, donate_argnums=0)
        return jax.jit(begin), whole, sharded, jax.jit(measure_shard), jax.jit(judge_epoch, donate_argnums=0)
    of_seeds, everywhere = devices.shardings(mesh)
    begin = devices.spread(begin, mesh, False, True)
    advance = devices.spread(advance, mesh, True, True, False, False, False)
    learn_shard = devices.spread(learn_shard, mesh, True, True, False, False)
    measure_shard = devices.spread(measure_shard, mesh, True, True, False, False)
    judge_epoch = devices.spread(judge_epoch, mesh, True, True, False, True, True)
    out = (of_seeds, everywhere)  # every device holds the rows, which the host reads
    return (
        jax.jit(begin, out_shardings=of_seeds),
        jax.jit(advance, donate_argnums=0, out_shardings=out),
        jax.jit(learn_shard, donate_argnums=0, out_shardings=out),
        jax.jit(measure_shard, out_shardings=everywhere),
        jax.jit(judge_epoch, donate_argnums=0, out_shardings=of_seeds),
    )


# ------------------------------------------------------------------------------------------- the folder


class Folder:
    """A run's folder: its config, log, checkpoints and results, held by one process at a time."""

    def __init__(self, path: Path | str):
        self.path = expanded(path).resolve()  # orbax wants it absolute
        self._keep = 3
        self.shards = 1  # in an epoch; checkpoints are numbered by shards
        self.partial: dict[str, Any] = {}  # sums over the shards done in the epoch of the restored checkpoint

    @contextlib.contextmanager
    def opened(self, settings: dict[str, Any], *, keep: int = 3) -> Iterator["Folder"]:
        """Holds the folder for a run with these settings.

        The folder of a run that failed before its first checkpoint takes other settings. `keep` is the number of
        checkpoints to leave. If many processes train together, the first one holds the folder for all, and all must
        see it.

        Raises RunError if another process holds the folder, or if it has other settings or is not a run's; ValueError
        for a `keep` below 1.
        """
        check_keep(keep)
        token = devices.told(secrets.token_hex(8))[0]
        with contextlib.ExitStack() as stack:
            devices.in_first(lambda: stack.enter_context(self._held(settings, token)))
            self._seen(token)
            self._keep = keep
            yield self

    @contextlib.contextmanager
    def _held(self, settings: dict[str, Any], token: str) -> Iterator[None]:
        config = self.path / "config.json"
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; a run needs a folder: choose another --workdir")
        if self.path.exists() and not config.exists():
            known = {LOCK}  # left by a run that was killed before it wrote anything
            if found := sorted({p.name for p in self.path.iterdir() if not is_temporary(p.name)} - known):
                raise RunError(
                    f"{self.path} is not empty and not a run of ae-jax (it has {', '.join(found[:3])} and no "
                    "config.json): choose another --workdir"
                )
        if config.exists():
            self.config()  # refuses another program's config.json before anything is written
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / "lock", "a")  # noqa: SIM115
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written to ({error.strerror}), and a run keeps its log and checkpoints there: "
                "choose another --workdir"
            ) from None
        with lock:
            locked = self._lock(lock)
            lock.truncate(0)
            lock.write(token)
            lock.flush()
            os.fsync(lock.fileno())
            changed = self._changed(settings) if config.exists() else None
            if changed:
                if self.begun() or self._finished() or self._aside():
                    raise RunError(
                        f"{self.path} holds a run with other settings:\n{changed}\n"
                        "Give the same settings to go on; for others (more epochs, too) choose another --workdir."
                    )
                warn(
                    f"{self.path} has other settings and no checkpoint: the run there learned nothing, and the new "
                    f"settings replace its own.\n{changed}"
                )
            if changed != "":
                write_sealed(config, {"schema": SCHEMA, "settings": settings, **circumstances()})
            if locked:
                checkpoints.clean(self.path / "checkpoints")
                clean(self.path)
            yield

    def _lock(self, lock: Any) -> bool:
        """Whether this process holds the folder alone; False, and a line on stderr, if the file system has no locks."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{self.path} is in use by another run: wait for it, or choose another --workdir") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            warn(f"{self.path} cannot be locked ({error.strerror}): make sure that no other run uses it.")
            return False
        return True

    def _finished(self) -> bool:
        return (self.path / "results.json").exists()

    def _aside(self) -> list[Path]:
        """Damaged checkpoints that were moved aside."""
        return sorted(self.path.glob(f"{ASIDE}*"))

    def _seen(self, token: str) -> None:
        """Raises RunError in all processes unless each finds the first one's token in its own folder: all write the
        checkpoints, and need one folder for them.
        """

        def sees() -> bool:
            with contextlib.suppress(OSError, UnicodeError):
                return (self.path / "lock").read_text() == token
            return False

        until = time.monotonic() + SEEN
        while not (seen := devices.first() or sees()) and time.monotonic() < until:
            time.sleep(0.1)
        here = f"{self.path} on {platform.node()}"
        taken = devices.told(here)[0]
        lines = [f"\n  process {i}: {its}" for i, its in enumerate(devices.told("" if seen else here)) if its]
        if lines:
            raise RunError(
                f"all processes must write one folder: process 0 wrote to {taken}, and these processes do not see its "
                f"file:{''.join(lines)}\nGive all the same --workdir, on a file system that all share."
            )

    def _changed(self, settings: dict[str, Any]) -> str:
        """The settings that differ from those in config.json, a line each."""
        before, now = devices.flat(self.config()["settings"]), devices.flat(json.loads(json.dumps(settings)))
        differ = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        return "\n".join(f"  {k}: {_brief(before.get(k))} there, {_brief(now.get(k))} now" for k in differ)

    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises RunError if there is none, or if it is damaged or another program's."""
        path = self.path / "config.json"
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.path} is not a run of ae-jax: it has no config.json") from None
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}); restore it or train anew") from None
        if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
            raise RunError(
                f"{self.path} is not a run of ae-jax: its config.json is another program's, as it has no settings of a "
                "run. Give the folder of a run, or another --workdir to train in"
            )
        schema = content.get("schema", 1)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise RunError(f"{path} was written by a newer ae_jax (schema {schema}, {SCHEMA} here): use that version")
        if not intact(content):
            raise RunError(
                f"{path} has changed since it was written, as its seal shows: restore it or train anew. If you "
                "changed it yourself, remove the seal from it"
            )
        return content

    def log(self) -> list[dict[str, Any]]:
        """The rows of log.jsonl that can be read."""
        return self.read_log()[0]

    def read_log(self) -> tuple[list[dict[str, Any]], int]:
        """(rows, the number of unreadable lines) of log.jsonl; a crash may leave such a line at the end."""
        rows, unread, path = [], 0, self.path / "log.jsonl"
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            if not line:
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            numbers = ("epoch", "seconds", "examples_per_second")
            if isinstance(row, dict) and intact(row) and all(isinstance(row.get(n), int | float) for n in numbers):
                rows.append(row)
            else:
                unread += 1
        return rows, unread

    def results(self) -> dict[str, Any] | None:
        """The content of results.json, or None if the run has not ended. Raises RunError if the file is damaged."""
        path = self.path / "results.json"
        try:
            content = json.loads(path.read_bytes())
            if not isinstance(content, dict):
                raise ValueError("it is not an object")
            if not intact(content):
                raise ValueError("it has changed since it was written")
            if missing := [name for name in MEASURED if name not in content]:
                raise ValueError(f"it lacks {', '.join(missing[:3])}")
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(
                f"{path} is damaged ({error}). Start the training command again: it measures the run anew."
            ) from None
        return content

    def save(self, e: int, state: State, partial: dict[str, Any] | None = None) -> None:
        """Writes the checkpoint of epoch e, or of the shards after it that `partial` counts; whole or not at all.

        Raises RunError if it cannot be written.
        """
        partial = partial or {}
        number, about = e * self.shards + partial.get("shard", 0), {"epoch": e, "partial": partial}
        token = devices.told(secrets.token_hex(8))[0]
        checkpoints.save(self.path / "checkpoints", number, state._asdict(), about, self._keep, token)

    def restore(self, target: State) -> tuple[int, State] | None:
        """(epoch, state) of the newest undamaged checkpoint; None if there is no checkpoint.

        A damaged one is moved aside, with a warning; its epochs run again, to the same bits. Raises RunError if all are
        damaged. Raises it also for any other obstacle to reading (a full disk, a permission, another structure), and
        then moves nothing.
        """
        folder = self.path / "checkpoints"

        def together(number: int, read: Callable[[], Any]) -> tuple[Any, RunError | None]:
            """(what `read` gives, None), or (None, the damage or None) where any process finds damage."""
            found = wrong = None
            try:
                found = read()
            except RunError as error:
                wrong = error
            if (bad := devices.worst(0 if wrong is None else 1 if isinstance(wrong, checkpoints.Damaged) else 2)) == 2:
                raise wrong or RunError(f"another process cannot read the checkpoint {folder / str(number)} now")
            return None if bad else found, wrong

        steps = sorted(devices.decided(self._numbers), reverse=True)
        self.partial = {}
        for number in steps:
            # To read is to wait for the other processes, so all read where each has found the files whole.
            found, wrong = together(number, functools.partial(self._about, number))
            if found is not None:
                found, wrong = together(number, functools.partial(self._read, number, target, found))
            if found is not None:
                e, state, self.partial = found
                return e, state
            aside = unused(self.path / f"{ASIDE}{number}")
            devices.in_first(lambda: os.replace(folder / str(number), aside))
            if wrong is not None:
                e = number // self.shards
                warn(f"The checkpoint of epoch {e} is damaged ({wrong}); moved to {aside}.")
        if steps:
            raise RunError(
                f"every checkpoint in {self.path} is damaged (moved aside as {ASIDE}*). "
                "Start the same command again to train from the beginning."
            )
        return None

    def params(self) -> tuple[int, State]:
        """(epoch, state) of the newest checkpoint; needs no settings. Raises RunError if there is none to read."""
        self.config()
        for _ in range(5):  # a run in progress may remove the checkpoint while it is read
            if not (steps := self._numbers()):
                raise RunError(f"{self.path} has no checkpoint yet: wait for one, or start its training command again")
            try:
                e, state, _ = self._read(steps[-1], None)
            except checkpoints.Damaged as error:
                if steps[-1] not in self._numbers():
                    continue
                raise RunError(
                    f"the checkpoint {self.path / 'checkpoints' / str(steps[-1])} is damaged ({error}). Start the "
                    "training command again: it goes on from the one before."
                ) from None
            return e, state
        raise RunError(f"{self.path} removes its checkpoints faster than they can be read: try again, or --keep more")

    def whole(self) -> bool:
        """Whether the newest checkpoint is undamaged, or there never was one."""
        steps = self._numbers()
        try:
            if steps:
                self._read(steps[-1], None)
        except checkpoints.Damaged:
            return False
        except RunError:  # the checkpoint is not damaged
            pass
        return bool(steps) or not self._aside()

    def begun(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self._numbers())

    def _numbers(self) -> list[int]:
        try:
            return checkpoints.numbers(self.path / "checkpoints")
        except OSError as error:
            raise RunError(f"{self.path / 'checkpoints'} cannot be read now ({error.strerror})") from error

    def _about(self, number: int) -> dict[str, Any]:
        """`checkpoints.checked`, with a RunError for an OSError."""
        with self._readable(number) as place:
            return checkpoints.checked(place)

    @contextlib.contextmanager
    def _readable(self, number: int) -> Iterator[Path]:
        """The place of a checkpoint; raises RunError for an OSError."""
        place = self.path / "checkpoints" / str(number)
        try:
            yield place
        except OSError as error:
            raise RunError(
                f"the checkpoint {place} cannot be read now ({error.strerror or error}). It stays in place: mend the "
                "cause, and start the same command again."
            ) from error

    def _read(
        self, number: int, target: State | None, about: dict[str, Any] | None = None
    ) -> tuple[int, State, dict[str, Any]]:
        """(epoch, state, place within the next epoch) of a checkpoint, with every bit checked.

        Raises Damaged, or RunError if something else prevents reading.
        """
        with self._readable(number) as place:
            about = checkpoints.checked(place) if about is None else about
            old = "checksum" in about  # schema 1, where one failure ended all
            wanted = None if target is None else {k: v for k, v in target._asdict().items() if not old or k != "failed"}
            tree, about = checkpoints.read(place.parent, number, wanted, about)
        if old:
            fields = tuple(tree[name] for name in State._fields if name != "failed")
            if about["checksum"] != checksum(devices.host(as_written(fields))):
                raise checkpoints.Damaged("its checksum does not match its contents")
            tree["failed"] = 0 * tree["best_epoch"]
        return about["epoch"], State(**tree), about["partial"]


def as_written(tree: Any) -> Any:
    """A tree read as nested dicts, with its `Descent`s restored: a checksum of schema 1 depends on their order."""
    if isinstance(tree, dict):
        parts = {name: as_written(part) for name, part in tree.items()}
        return Descent(**parts) if parts.keys() == set(Descent._fields) else parts
    if isinstance(tree, list) or type(tree) is tuple:
        return [as_written(part) for part in tree]
    return tree if not hasattr(tree, "_fields") else type(tree)(*map(as_written, tree))


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file whole or not at all, with a checksum of its content under "seal". See `intact`."""
    content = json.loads(json.dumps(strict(content)))
    write_json(path, content | {"seal": checkpoints.seal(content)})


def sealed(row: dict[str, Any]) -> str:
    """A row as a line of log.jsonl, with its checksum under "seal". See `intact`."""
    return json.dumps(row | {"seal": checkpoints.seal(row)}) + "\n"


def intact(content: dict[str, Any]) -> bool:
    """Whether the content of a JSON file matches its seal, which is removed; older files have none, and match."""
    sealed = content.pop("seal", None)
    return sealed is None or sealed == checkpoints.seal(content)


def append(path: Path, line: str) -> None:
    """Adds a line to a run's file. Raises RunError if the file cannot be written."""
    try:
        with open(path, "a") as file:
            file.write(line)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written to ({error.strerror}). Mend the cause, and start the same command again: it "
            "goes on from the last checkpoint."
        ) from error


def unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that is free."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{i}") for i in itertools.count(2)))
    return next(name for name in names if not name.exists())


def _brief(value: Any) -> str:
    """A setting, shortened if its text is longer than 80 characters."""
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:40]}... ({len(value)} long)"


def checksum(tree: Any) -> int:
    """CRC-32 of all leaves in order, of their bits."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    return crc


def circumstances() -> dict[str, Any]:
    """Versions, device and commit: results depend on these and on the settings."""
    from importlib.metadata import version

    device = jax.devices()[0]
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = {"XLA_FLAGS": os.environ["XLA_FLAGS"]} if os.environ.get("XLA_FLAGS") else {}
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}} | flags,
        "device": f"{cores} CPU cores ({platform.machine()})" if device.platform == "cpu" else device.device_kind,
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the package's own repository, with "-dirty" if code has changed; None if it lies in no repository.

    A repository that merely contains an installed copy of the package does not count.
    """
    here = Path(__file__).resolve()
    # A git hook or alias sets GIT_* variables, which name its own repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        command, options = ["git", *arguments], {"capture_output": True, "text": True, "errors": "replace"}
        try:
            done = subprocess.run(command, cwd=here.parent, env=environment, **options)  # type: ignore[call-overload]
        except OSError:  # git is missing, or not executable
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != here.parents[1] or git("ls-files", "--error-unmatch", here.name) is None:
        return None
    found = git("describe", "--always")
    # new records in results/, and README's table of them, do not change the next measurement
    if found and git("status", "--porcelain", "-uno", "--", ":/", ":(top,exclude)results", ":(top,exclude)README.md"):
        found += "-dirty"
    return found


def cache_compilations() -> None:
    """Keeps compiled programs on disk between runs, in JAX_COMPILATION_CACHE_DIR or a folder of the user's cache.

    If the folder cannot be written to, a line on stderr says so, and every process compiles its programs.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        if not folder:
            root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ae_jax"
            # One folder for each kind of processor: a program compiled for another may not run here.
            folder = str(root / f"{platform.machine()}-{_processor():08x}")
        if "://" not in folder:  # JAX handles the address of a bucket
            os.makedirs(folder, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        told = getattr(error, "strerror", None) or error
        warn(f"compiled programs are not kept between runs ({folder or 'no cache folder'}: {told})")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def _processor() -> int:
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        flags = platform.processor()
    return zlib.crc32(flags.encode())


# --------------------------------------------------------------------------------------------- training


@contextlib.contextmanager
def _interruptible(what: str) -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM; a second signal of either kind has its usual effect.

    A line on stderr says that `what` will be finished.
    """
    seen: list[int] = []
    before = {}

    def handler(number: int, frame: Any) -> None:
        seen.append(number)
        for n, old in before.items():
            signal.signal(n, old)
        warn(f"\nFinishing {what}, then saving; once more stops at once.")

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, handler)
    except ValueError:  # only the main thread may handle signals
        pass
    try:
        yield seen
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _computed(tree: Any) -> Any:
    """The arrays, once they are computed. Handlers of signals run meanwhile, which `jax.block_until_ready` delays."""
    ready = lambda leaf: not hasattr(leaf, "is_ready") or leaf.is_ready()
    while not all(map(ready, jax.tree.leaves(tree))):
        time.sleep(0.002)
    return jax.block_until_ready(tree)  # raises what went wrong


class Interrupted(RunError):
    """A signal stopped the run, at the end of an epoch or a shard."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.number = number


def train(
    algorithm: Algorithm,
    data: Batch | Stream,
    *,
    epochs: int,
    batch_size: int = 128,
    seeds: Sequence[int] = (0,),
    validation: Batch | Stream | None = None,
    transform: Callable[[Batch, Key], Batch] | None = None,
    monitor: str = "loss",
    better: Better | None = None,
    patience: int | None = None,
    folder: Folder | None = None,
    every_epochs: int = 10,
    every_minutes: float = 5.0,
    progress: bool = True,
    mesh: Mesh | None = None,
) -> Trained:
    """Trains one run a seed, all seeds in one compiled program.

    A seed whose loss or params stop being finite fails, and `Trained.failed` names it. The others go on, to the bits
    that they have alone.

    Args:
        algorithm: the algorithm on its network.
        data: the training set, or a stream of shards of it. With a stream `init` sees the first shard, and statistics
            (`Algorithm.before`) are measured on each shard before the sweep over it. All seeds get the same shards,
            each in its own order. Each of many processes reads its own part of every shard.
        epochs: passes over the data.
        batch_size: examples in a step.
        seeds: one independent run each; seed s has the same result alone and among others.
        validation: held-out examples, measured after every epoch.
        transform: (batch, key) -> batch, fresh in every step: dynamic binarisation, crops.
        monitor: the metric that chooses the best epoch, on the validation set if there is one, else on the training
            set.
        better: the direction in which `monitor` is better, "higher" or "lower"; by default that of
            `evaluation.METRICS`.
        patience: stop a seed after so many epochs without a better `monitor`.
        folder: an opened `Folder` for the log and checkpoints; the run resumes from its last checkpoint. A start that
            takes long, such as one with pretraining, is saved as epoch 0, so that it is not repeated.
        every_epochs: checkpoint after so many epochs,
        every_minutes: or after so many minutes, whichever comes first; and always at the end.
        progress: show a bar (on a terminal only).
        mesh: devices to spread seeds and batches over, see `devices.mesh`; by default one device.

    Returns the params of the last epoch, or with a validation set those of each seed's best one.

    Raises:
        RunError: the loss or the params of every seed stopped being finite, or all checkpoints are damaged.
        Interrupted: SIGINT or SIGTERM came; the state is saved if there is a folder.
        ValueError: arguments that do not fit.
    """
    check_length(epochs, batch_size)
    seeds = [int(s) if s == int(s) else s for s in seeds]
    check_arguments(seeds, patience, validation)
    if isinstance(validation, Stream) and not isinstance(data, Stream):
        raise ValueError("the validation set is a stream and the training set a Batch: give both as one kind")
    stream, examples = (data, len(data.source)) if isinstance(data, Stream) else (None, length(data))
    shards, batch_size = 1 if stream is None else stream.shards, min(batch_size, examples)
    devices.check(mesh, len(seeds), batch_size)
    validated = validation is not None
    better = check_monitor(algorithm, data, monitor, better, validated)
    begin, advance, *sharded = _programs(algorithm, batch_size, transform, monitor, better, patience, mesh, validated)
    if folder is not None:
        folder.shards = shards
    held_out = validation if isinstance(validation, Stream) else devices.everywhere(validation, mesh)
    data = data if stream else devices.everywhere(data, mesh)
    numbers = np.stack([jax.random.key_data(jax.random.key(s)) for s in seeds])
    where = None if mesh is None else devices.shardings(mesh)[0]
    keys = jax.jit(jax.random.wrap_key_data, out_shardings=where)(numbers)
    progress, writes = progress and devices.first(), devices.first()

    done, history, state = 0, [], None
    if folder is not None:
        where = where or jnp.zeros(()).sharding
        like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where)
        if (found := folder.restore(jax.tree.map(like, jax.eval_shape(begin, seen(data), keys)))) is not None:
            done, state = found
            if progress:
                part = f" and {folder.partial['shard']} of {shards} shards of the next" if folder.partial else ""
                warn(f"going on after epoch {done} of {epochs}{part}")
        history, unread = devices.decided(folder.read_log)
        history = [row for row in history if row["epoch"] <= done]
        if unread and writes:
            lines = f"{unread} line{'s' * (unread > 1)}"
            warn(f"log.jsonl: {lines} could not be read and will be dropped; the rest stays")
        if writes:
            write_atomically(folder.path / "log.jsonl", "".join(map(sealed, history)).encode())

    if state is None:
        began = time.perf_counter()
        with _interruptible("the start, with its pretraining if it has one") as signals:
            state = _computed(begin(next(loaded(stream, [(0, 0)], mesh)) if stream else data, keys))
        stop = devices.worst(signals[0] if signals else 0)
        if folder is not None and devices.worst(stop or time.perf_counter() - began >= LONG):
            folder.save(0, state)
        if stop:
            kept = f"saved in {folder.path}. Start the same command again to go on from there" if folder else None
            raise Interrupted(f"Stopped at the end of the start, before epoch 1; {kept or 'nothing is saved'}.", stop)

    def between(e: int, state: State, place: dict[str, Any]) -> None:
        """Between two shards of epoch e: saves if that is due or a signal came, and stops for the signal."""
        nonlocal saved_at
        stop = devices.worst(signals[0] if signals else 0)
        due = devices.worst(time.monotonic() - saved_at >= 60 * every_minutes)
        if folder is not None and (due or stop):
            folder.save(e - 1, state, place)
            saved_at = time.monotonic()
        if stop:
            where = f"Stopped in epoch {e}, after {place['shard']} of {shards} shards; "
            kept = folder and f"saved in {folder.path}. Start the same command again to go on from there."
            raise Interrupted(where + (kept or "nothing is saved."), stop)

    if done < epochs:  # compile before the loop, so that no epoch's time includes it
        if progress and sys.stderr.isatty():
            print("compiling an epoch ...", end="\r", file=sys.stderr, flush=True)
        if stream is not None:
            place = folder.partial if folder is not None else {}
            advance = Sharded(sharded, stream, held_out, state, keys, (done, epochs), place, between, mesh)
        else:
            advance = advance.lower(state, keys, np.int32(0), data, held_out).compile()
    saved, saved_at = done, time.monotonic()
    ending = contextlib.closing(advance) if isinstance(advance, Sharded) else contextlib.nullcontext()
    with ending, _interruptible("the epoch") as signals, _bar(epochs, done, progress) as bar:
        for e in range(done + 1, epochs + 1):
            running = devices.host(state.active)
            if not running.any():
                break
            began = time.perf_counter()
            if isinstance(advance, Sharded):
                state, rows = advance.epoch(e, state)
            else:
                state, rows = advance(state, keys, np.int32(e), data, held_out)  # donates state
            gone = devices.host(state.failed)
            if gone.all():
                raise RunError(_not_finite(e, seeds, saved, folder))
            if writes and (gone == e).any():
                now = {seed: e for seed, at in zip(seeds, gone, strict=True) if at == e}
                warn(f"{failures(now)}; the others go on")
            seconds = time.perf_counter() - began
            if stream is not None and folder is not None and e == done + 1:
                seconds += folder.partial.get("seconds", 0.0)  # of the shards before the stop
            row = {
                "epoch": e,
                "seconds": round(seconds, 4),
                "examples_per_second": round(examples * int(running.sum()) / seconds, 1),
                **jax.tree.map(
                    lambda m: [None if at else _number(v) for v, at in zip(np.asarray(m), gone, strict=True)], rows
                ),
            }
            history.append(row)
            bar(row)
            last = e == epochs or not devices.host(state.active).any()
            stop = devices.worst(signals[0] if signals else 0)  # the signal, in whichever process it came
            if folder is None:
                if stop:
                    raise Interrupted(f"Stopped after epoch {e} of {epochs}; nothing is saved.", stop)
                continue
            if writes:
                append(folder.path / "log.jsonl", sealed(row))
            due = e - saved >= every_epochs or devices.worst(time.monotonic() - saved_at >= 60 * every_minutes)
            if last or due or stop:
                folder.save(e, state)
                saved, saved_at = e, time.monotonic()
            if stop and not last:
                raise Interrupted(
                    f"Stopped after epoch {e} of {epochs}; saved in {folder.path}. Start the same command again "
                    "to go on from there.",
                    stop,
                )
    chosen = state.best if validated else state.params
    if mesh is not None:  # one process alone uses the params from here on
        chosen = jax.tree.map(jnp.asarray, devices.host(chosen))
    return trained(state, chosen, seeds, history)


def trained(state: State, chosen: Params, seeds: Sequence[int], history: list[dict[str, Any]]) -> Trained:
    """The result of a run: the chosen params of its last state, NaN for failed seeds."""
    failed = {seed: int(e) for seed, e in zip(seeds, devices.host(state.failed), strict=True) if e}
    if failed:
        gone = jnp.asarray([seed in failed for seed in seeds])
        mark = lambda a: jnp.where(gone.reshape(-1, *[1] * (a.ndim - 1)), jnp.nan, a)
        chosen = jax.tree.map(lambda a: mark(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, chosen)
    return Trained(chosen, tuple(seeds), history, [int(b) for b in devices.host(state.best_epoch)], failed)


def failures(failed: Mapping[int, int], seed: int | None = None) -> str:
    """The failed seeds, or one of them, with their epochs: "seed 3 failed in epoch 5 (its loss ...)"."""
    named = failed if seed is None else {seed: failed[seed]}
    told = ", ".join(f"seed {one} failed in epoch {e}" for one, e in named.items())
    return f"{told} ({'its' if len(named) == 1 else 'their'} loss or parameters became infinite or not a number)"


def check_length(epochs: int, batch_size: int) -> None:
    """Raises ValueError for a run without epochs or examples."""
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs is {epochs} and batch_size {batch_size}; both must be at least 1")


def check_keep(keep: int) -> None:
    """Raises ValueError if no checkpoint would be left."""
    if keep < 1:
        raise ValueError(f"keep is {keep}; a run keeps its last checkpoint: give at least 1")


def check_saving(every_epochs: int, every_minutes: float, keep: int) -> None:
    """Raises ValueError if checkpoints would never be due, or not be kept."""
    check_keep(keep)
    if every_epochs < 1 or not every_minutes >= 0:
        raise ValueError(
            f"every_epochs is {every_epochs} and every_minutes {every_minutes}; wanted: every_epochs at least 1 and "
            "every_minutes at least 0"
        )


def check_seeds(seeds: Sequence[int]) -> None:
    """Raises ValueError unless all seeds give different keys: JAX takes a seed modulo 2^32."""
    whole = all(isinstance(seed, int) for seed in seeds)
    if not seeds or not whole or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds are {list(seeds)}; give one or more different whole numbers, none negative")
    if max(seeds) >= 2**32:
        raise ValueError(f"seeds are {list(seeds)}; each must be below 2^32 = {2**32}, where JAX's keys repeat")


def traced(algorithm: Algorithm, data: Batch | Stream, validated: bool = False) -> Metrics:
    """The shapes of the metrics of a first pass over the data, or of evaluation if `validated`; compiles nothing.

    Raises the algorithm's own errors for data that it cannot learn from, such as data without labels.
    """

    def measured(data: Batch, key: Key) -> Metrics:
        rule = epoch(algorithm, len(data.x))
        params, memory, key_run = start(algorithm.init, rule, data, key)
        return algorithm.evaluate(params, data, key) if validated else rule.update(params, memory, data, key_run)[2]

    return jax.eval_shape(measured, seen(data), jax.random.key(0))


def seen(data: Batch | Stream) -> Batch:
    """The data that `init` sees; of a stream the shapes of its first shard."""
    if not isinstance(data, Stream):
        return data
    like = lambda a: jax.ShapeDtypeStruct((data.size(0), *a.shape[1:]), a.dtype)
    return jax.tree.map(like, data.sample(1))


def check_monitor(
    algorithm: Algorithm, data: Batch | Stream, monitor: str, better: Better | None = None, validated: bool = False
) -> Better:
    """The direction in which the metric that chooses the best epoch is better.

    Compiles nothing. Raises ValueError for a metric that the run does not measure, or that has no direction.
    """
    way = better or evaluation.better(monitor)
    if monitor == "loss":  # every algorithm has it
        return way or "lower"

    names = sorted(traced(algorithm, data, validated))
    useful = [name for name in names if evaluation.better(name)]
    if monitor not in names:
        raise ValueError(f"best is {monitor!r}; this run measures {names}, and {useful} can choose an epoch")
    if way is None:
        raise ValueError(
            f"best is {monitor!r}, a metric without a better direction; choose the best epoch by one of "
            f"{useful}" + ("" if monitor in evaluation.METRICS else ", or give its direction (better)")
        )
    return way


def check_arguments(seeds: Sequence[int], patience: int | None, validation: Any) -> None:
    """Raises ValueError for seeds or a patience that a run cannot have."""
    check_seeds(seeds)
    if patience is not None and patience < 1:
        raise ValueError(f"patience is {patience}; it counts epochs and must be at least 1")
    if patience is not None and validation is None:
        raise ValueError("early stopping (patience) needs held-out data: give a validation set (--validation 0.1)")


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None  # JSON has no NaN; None marks a stopped seed


def _not_finite(e: int, seeds: Sequence[int], saved: int, folder: Folder | None) -> str:
    which = ", ".join(map(str, seeds))
    last = (
        "Nothing was saved yet."
        if folder is None or not folder.begun()
        else f"The checkpoint of epoch {saved} in {folder.path / 'checkpoints'} is still good."
    )
    return (
        f"in epoch {e} the loss or the parameters of seed {which} became infinite or not a number. {last} "
        "Likely causes: a learning rate that is too high (try a tenth of it), gradients that explode (try "
        "--clip 1), data outside [0, 1] under a Bernoulli likelihood, or a variance that shrinks to 0."
    )


@contextlib.contextmanager
def _bar(epochs: int, done: int, progress: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    from tqdm import tqdm

    with tqdm(total=epochs, initial=done, unit="epoch", disable=None if progress else True, dynamic_ncols=True) as bar:

        def show(row: dict[str, Any]) -> None:
            mean = {
                part: np.mean([v for v in row[part]["loss"] if v is not None])
                for part in ("train", "validation")
                if "loss" in row.get(part, {})
            }
            losses = {part: f"{value:.4g}" for part, value in mean.items()}
            bar.set_postfix({**losses, "examples/s": f"{row['examples_per_second']:,.0f}"}, refresh=False)
            bar.update()

        yield show
