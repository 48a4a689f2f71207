"""A run's folder: config, log, checkpoints and results, held by one process at a time."""

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import (
    Descent,
)
from ..data.dataset import expanded
from ..data.disk import ASIDE, LOCK, clean, is_temporary, strict, write_json
from ..errors import RunError, counted, warn
from . import checkpoints, devices
from .arguments import check_keep
from .compiled import State
from .provenance import checksum, circumstances

if TYPE_CHECKING:
    from .settings import Settings

SEEN = 35  # seconds after which all processes must see a file; network file systems cache a folder's content for 30 s
SCHEMA = 2  # of config.json; files of schema 1 do not record their schema
# results.json has at least these keys
MEASURED = ("seeds", "metrics", "parameters", "seconds", "examples_per_second", "device")


class Folder:
    """A run's folder: its config, log, checkpoints and results, held by one process at a time."""

    def __init__(self, path: Path | str):
        self.path = expanded(path).resolve()  # orbax wants it absolute
        self._keep = 3
        self.held = False  # within `opened`
        self.shards = 1  # in an epoch; checkpoints are numbered by shards
        self.partial: dict[str, Any] = {}  # sums over the shards done in the epoch of the restored checkpoint

    @contextlib.contextmanager
    def opened(
        self, settings: "dict[str, Any] | Settings", *, keep: int = 3, renew: Sequence[str] = ()
    ) -> Iterator["Folder"]:
        """Holds the folder for a run with these settings: a dict of JSON's types, or `settings.Settings`.

        A run with `Settings` whose algorithm `settings.build` makes can be opened by every command, and by
        `ae_jax.load_run` with its algorithm and data.

        The folder of a run that failed before its first checkpoint takes other settings. `keep` is the number of
        checkpoints to leave. `renew` names the settings whose new values replace those in config.json, such as "epochs"
        if learning does not depend on their number. config.json keeps the earlier numbers under "lengths", and the
        results of the shorter run are kept as results-EPOCHS.json. If several processes train together, the first one
        holds the folder for all, and all must see it.

        Raises RunError if another process holds the folder, if the folder has other settings, or if it is not a run's.
        Raises ValueError for a `keep` below 1.
        """
        check_keep(keep)
        settings = settings if isinstance(settings, dict) else settings.to_json()
        token = devices.gather_texts(secrets.token_hex(8))[0]
        with contextlib.ExitStack() as stack:
            devices.run_in_first(lambda: stack.enter_context(self._held(settings, token, renew)))
            self._seen(token)
            self._keep, self.held = keep, True
            stack.callback(setattr, self, "held", False)
            yield self

    @contextlib.contextmanager
    def _held(self, settings: dict[str, Any], token: str, renew: Sequence[str]) -> Iterator[None]:
        config = self.path / "config.json"
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; a run needs a folder: choose another --workdir")
        if self.path.exists():
            known = {LOCK}  # left by a run that was killed before it wrote anything
            found = sorted({p.name for p in self.path.iterdir() if not is_temporary(p.name)} - known)
            if found and not config.exists():  # in this order: another run may be writing its first files
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
            renewed = {name: settings[name] for name in renew if name in settings and self.taken()}
            changed = self._changed(settings, set(renewed)) if config.exists() else None
            if changed == "" and renewed:
                self._renew(renewed)
            if changed:
                if self.taken():
                    raise RunError(
                        f"{self.path} holds a run with other settings:\n{changed}\n"
                        "Give the same settings to go on (--epochs alone may be more); for others choose another "
                        "--workdir."
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

    def taken(self) -> bool:
        """Whether the folder holds anything that a run has learned."""
        return self.begun() or (self.path / "results.json").exists() or bool(self._aside())

    def _renew(self, settings: dict[str, Any]) -> None:
        """Replaces settings in config.json. Results of another number of epochs are renamed first."""
        content = self.config()
        before, settings = content["settings"], json.loads(json.dumps(settings))
        if all(name in before and before[name] == value for name, value in settings.items()):
            return
        if settings.get("epochs", before.get("epochs")) != before.get("epochs"):
            self.check_epochs(settings["epochs"])
            content["lengths"] = [*content.get("lengths", ()), {"epochs": before["epochs"], "reached": self.reached()}]
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path / "results.json", unused(self.path / f"results-{before['epochs']}.json"))
        write_sealed(self.path / "config.json", content | {"settings": before | settings})

    def reached(self) -> int:
        """The epochs of the newest undamaged checkpoint, an unfinished one included; 0 without a checkpoint."""
        _, about = self._newest()
        return about["epoch"] + bool(about["partial"])

    def _newest(self) -> tuple[int, dict[str, Any]]:
        """(number, content of its meta.json) of the newest undamaged checkpoint; (0, epoch 0) without a checkpoint."""
        for number in reversed(self._numbers()):
            with contextlib.suppress(checkpoints.Damaged), self._readable(number) as place:
                return number, checkpoints.read_meta(place)
        return 0, {"epoch": 0, "partial": {}}

    def check_epochs(self, epochs: int) -> None:
        """Raises RunError for fewer epochs than are done."""
        if epochs < (reached := self.reached()):
            raise RunError(
                f"{self.path} has done {counted(reached, 'epoch')}, and epochs={epochs} asks for fewer: give at least "
                f"epochs={reached}, or train in another folder"
            )

    def check_shards(self) -> None:
        """Raises RunError if checkpoints count another number of shards in an epoch than `shards`."""
        number, about = self._newest()
        if about["epoch"] * self.shards + about["partial"].get("shard", 0) != number:
            raise RunError(
                f"{self.path} holds a run of other shards: its checkpoint {number}, counted in shards, is not one of "
                f"{self.shards} an epoch. Give the same stream to go on, or train in another folder"
            )

    def _aside(self) -> list[Path]:
        """Damaged checkpoints that were moved aside."""
        return sorted(self.path.glob(f"{ASIDE}*"))

    def _seen(self, token: str) -> None:
        """Raises RunError in all processes unless each finds the token of the first in its own folder.

        All processes write the checkpoints, so all need one folder.
        """

        def sees() -> bool:
            with contextlib.suppress(OSError, UnicodeError):
                return (self.path / "lock").read_text() == token
            return False

        until = time.monotonic() + SEEN
        while not (seen := devices.first() or sees()) and time.monotonic() < until:
            time.sleep(0.1)
        here = f"{self.path} on {platform.node()}"
        taken = devices.gather_texts(here)[0]
        lines = [f"\n  process {i}: {its}" for i, its in enumerate(devices.gather_texts("" if seen else here)) if its]
        if lines:
            raise RunError(
                f"all processes must write one folder: process 0 wrote to {taken}, and these processes do not see its "
                f"file:{''.join(lines)}\nGive all the same --workdir, on a file system that all share."
            )

    def _changed(self, settings: dict[str, Any], free: Collection[str]) -> str:
        """The settings that differ from those in config.json, a line each; `free` ones may differ."""
        kept = lambda given: devices.flat({name: value for name, value in given.items() if name not in free})
        before, now = kept(self.config()["settings"]), kept(json.loads(json.dumps(settings)))
        differ = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        return "\n".join(f"  {k}: {_brief(before.get(k))} there, {_brief(now.get(k))} now" for k in differ)

    def config(self) -> dict[str, Any]:
        """The content of config.json. Raises RunError if there is none, or if it is damaged or another program's."""
        path = self.path / "config.json"
        try:
            content = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            lacks = "it has no config.json" if self.path.exists() else "it does not exist"
            raise RunError(f"{self.path} is not a run of ae-jax: {lacks}") from None
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

    def recorded(self) -> dict[str, Any]:
        """The settings in config.json, and the facts that `describe` added."""
        content = self.config()
        facts: dict[str, Any] = content.get("run", {})
        return content["settings"] | facts

    def describe(self, facts: dict[str, Any], more: Callable[[], dict[str, Any]]) -> None:
        """Adds facts of a run to config.json under "run": its seeds, its data, its batches; and `more()`.

        They are kept apart from the settings, because a resumed run compares the settings with its own. Of a run of the
        command line, they are those that its settings lack, without `more`. A fact that an older folder lacks is added.
        Raises RunError if the folder has checkpoints of a run with other `facts`.
        """
        content = self.config()
        settings, before, begun = content["settings"], content.get("run", {}), self.begun()
        recorded = "shape" in settings  # as the command line does
        facts = json.loads(json.dumps({k: v for k, v in facts.items() if not recorded or k not in settings}))
        there, now = ({**known, **known.get("given", {})} for known in (before, facts))
        differ = [name for name in now if name != "given" and name in there and there[name] != now[name]]
        if begun and differ:
            lines = "\n".join(f"  {name}: {_brief(there[name])} there, {_brief(now[name])} now" for name in differ)
            raise RunError(
                f"{self.path} holds a run of other seeds, data or batches:\n{lines}\n"
                "Give the same to go on, or train in another folder."
            )
        kept = before if begun and before else {} if recorded else more()
        if kept | facts != before:
            write_sealed(self.path / "config.json", content | {"run": kept | facts})

    def log(self) -> list[dict[str, Any]]:
        """The rows of log.jsonl that can be read."""
        return self.read_log()[0]

    def read_log(self) -> tuple[list[dict[str, Any]], int]:
        """(rows, the number of unreadable lines) of log.jsonl; a crash may leave an unreadable line at the end."""
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
        """Writes a checkpoint, whole or not at all: after epoch e, or within the next epoch if `partial` is given.

        `partial` holds the number of shards done in that epoch, and their sums. Raises RunError if the checkpoint
        cannot be written.
        """
        partial = partial or {}
        number, about = e * self.shards + partial.get("shard", 0), {"epoch": e, "partial": partial}
        token = devices.gather_texts(secrets.token_hex(8))[0]
        checkpoints.save(self.path / "checkpoints", number, state._asdict(), about, self._keep, token)

    def restore(self, target: State) -> tuple[int, State] | None:
        """(epoch, state) of the newest undamaged checkpoint; None if there is no checkpoint.

        A damaged checkpoint is moved aside, with a warning; its epochs run again, to the same bits. Raises RunError if
        all checkpoints are damaged. If something else prevents reading (a full disk, a permission, another structure),
        RunError is raised and nothing is moved.
        """
        folder = self.path / "checkpoints"

        def together(number: int, read: Callable[[], Any]) -> tuple[Any, RunError | None]:
            """(the result of `read`, None); or (None, this process's damage or None) if any process finds damage."""
            found = wrong = None
            try:
                found = read()
            except RunError as error:
                wrong = error
            bad = devices.largest(0 if wrong is None else 1 if isinstance(wrong, checkpoints.Damaged) else 2)
            if bad == 2:
                raise wrong or RunError(f"another process cannot read the checkpoint {folder / str(number)} now")
            return None if bad else found, wrong

        steps = sorted(devices.broadcast(self._numbers), reverse=True)
        self.partial = {}
        for number in steps:
            # Reading waits for all processes, so they read only a checkpoint whose files each has found whole.
            found, wrong = together(number, functools.partial(self._about, number))
            if found is not None:
                found, wrong = together(number, functools.partial(self._read, number, target, found))
            if found is not None:
                e, state, self.partial = found
                return e, state
            aside = unused(self.path / f"{ASIDE}{number}")
            devices.run_in_first(lambda: os.replace(folder / str(number), aside))
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

    def saved(self) -> list[int]:
        """The numbers of the checkpoints: epochs, or for a stream shards."""
        return self._numbers()

    def read(self, number: int, target: State) -> tuple[int, State]:
        """(epoch, state) of a checkpoint, see `saved`. Raises RunError if it is damaged or cannot be read."""
        return self._read(number, target)[:2]

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

    def forget_start(self) -> None:
        """Removes the checkpoint of the start if there is no other, so that the folder takes other settings.

        For a run whose loss or params stopped being finite: the same settings would fail again.
        """
        if devices.broadcast(self._numbers) == [0]:
            devices.run_in_first(lambda: checkpoints.remove(self.path / "checkpoints" / "0"))

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
            old = "checksum" in about  # schema 1, where the failure of one seed ended the run
            wanted = None if target is None else {k: v for k, v in target._asdict().items() if not old or k != "failed"}
            tree, about = checkpoints.read(place.parent, number, wanted, about)
        if old:
            fields = tuple(tree[name] for name in State._fields if name != "failed")
            if about["checksum"] != checksum(devices.host(as_written(fields))):
                raise checkpoints.Damaged("its checksum does not match its contents")
            tree["failed"] = 0 * tree["best_epoch"]
        return about["epoch"], State(**tree), about["partial"]


def as_written(tree: Any) -> Any:
    """A tree that was read as nested dicts, with its `Descent`s: a checksum of schema 1 depends on their order."""
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
    """Whether the content of a JSON file matches its seal, which it removes. Older files have no seal, and match."""
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
