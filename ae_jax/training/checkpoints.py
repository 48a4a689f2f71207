"""Checkpoints: a folder each, written whole or not at all, with checksums over every bit.

`checkpoints/N/` holds `state/`, the arrays as Orbax writes them, and `meta.json`: the schema's version, the epoch, a
CRC-32 of every file and of every array, and one of `meta.json` itself. The files are checked before Orbax reads them,
so a reader can tell damage (`Damaged`) from other obstacles: a full disk, a permission, a lost server.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..data.disk import TEMPORARY, flush_folder, is_temporary, strict, write_json
from ..errors import RunError, first_line
from . import devices

VERSION = 2  # of the layout; version 1 had one checksum of all arrays in meta/metadata, and no version number
CHUNK = 2**20
# A library's error with one of these words comes from the system, not from the file's content.
OBSTACLES = [os.strerror(e) for e in (errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)]
OBSTACLES += [
    os.strerror(e) for e in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ESHUTDOWN)
]
OBSTACLES += ["RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "out of memory"]


class Damaged(RunError):
    """A checkpoint whose files have changed since they were written."""


def numbers(folder: Path) -> list[int]:
    """The checkpoints of a folder, ascending; none without the folder. Raises OSError if it cannot be read."""
    try:
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    except FileNotFoundError:
        return []


def save(folder: Path, number: int, state: Any, about: dict[str, Any], keep: int, token: str) -> None:
    """Writes checkpoint `number` of a state, and removes all but the newest `keep`.

    Args:
        folder: of all checkpoints.
        number: the checkpoint's name.
        state: a pytree of arrays, which may be spread over all processes.
        about: further facts to keep in meta.json, in JSON's types.
        keep: how many checkpoints to leave.
        token: a text that is the same in all processes and differs between runs.

    Raises RunError if the checkpoint cannot be written; older checkpoints stay.
    """
    import orbax.checkpoint as ocp

    quiet()
    leaves = described(devices.host(state))
    temporary, place = folder / token.join(TEMPORARY), folder / str(number)

    def commit() -> None:
        files = [path for path in sorted((temporary / "state").rglob("*")) if path.is_file()]
        crcs = {path.relative_to(temporary).as_posix(): crc_of(path, flush=True) for path in files}
        meta = strict({"version": VERSION, **about, "leaves": leaves, "files": crcs})
        write_json(temporary / "meta.json", meta | {"seal": seal(meta)})
        for path in (temporary / "state").rglob("*"):
            if path.is_dir():
                flush_folder(path)
        flush_folder(temporary / "state")
        flush_folder(temporary)
        if place.exists():  # the same bits, written by another run on a file system without locks
            remove(place)
        os.replace(temporary, place)
        flush_folder(folder)
        for old in numbers(folder)[:-keep]:
            if old != number:
                remove(folder / str(old))

    try:
        devices.run_in_first(lambda: temporary.mkdir(parents=True))
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
            writer.save(temporary / "state", args=ocp.args.StandardSave(state))
        devices.run_in_first(commit)
    except Exception as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise RunError(
            f"the checkpoint {place} could not be written ({first_line(error)}). Older ones are unchanged: mend the "
            "cause, and start the same command again to go on from them."
        ) from error


def remove(place: Path) -> None:
    """Removes a checkpoint. It is renamed first, so no reader finds a half of it."""
    gone = place.with_name(f"{place.name}-gone".join(TEMPORARY))
    os.replace(place, gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean(folder: Path) -> None:
    """Removes the unfinished checkpoints of a killed run. Only the process that holds the folder may call it."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(path.name) or re.fullmatch(r"\d+\.orbax-checkpoint-tmp.*", path.name):
            shutil.rmtree(path, ignore_errors=True)


def checked(place: Path) -> dict[str, Any]:
    """The content of a checkpoint's meta.json, after a check of every bit of its files.

    Raises Damaged for a file that has changed since it was written, OSError for a file that cannot be read now, and
    RunError for a checkpoint of a newer version.
    """
    about = read_meta(place)
    for name, crc in about.get("files", {}).items():
        with broken_where_missing(place / name):
            if crc_of(place / name) != crc:
                raise Damaged(f"{place / name} has changed since it was written")
    return about


def read(
    folder: Path, number: int, target: Any = None, about: dict[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """(state, about) of a checkpoint.

    With a `target`, the state has the target's structure, and all processes read it together. Without one, this process
    reads alone, and the state is nested dicts and lists on one of its devices. `about` is the result of `checked`;
    without it the files are checked here.

    Raises:
        Damaged: a file or an array has changed since it was written.
        RunError: the checkpoint is whole, but its structure differs from the target's, a newer version of ae_jax wrote
            it, or it does not fit in memory.
        OSError: a file cannot be read now.
    """
    import orbax.checkpoint as ocp

    quiet()
    place = folder / str(number)
    about = checked(place) if about is None else about
    me = jax.process_index()
    alone = {"primary_host": me, "active_processes": {me}} if target is None else {}  # waits for no other process
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=ocp.options.MultiprocessingOptions(**alone)) as reader:
            tree: Any = reader.metadata(place / "state")
            tree = tree.item_metadata.tree
            if target is None:
                here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # for any number of devices
                wanted = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), tree)
            else:
                wanted = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), target)
                check_structure(place, about.get("leaves") or shapes(tree), wanted)
            state = reader.restore(place / "state", wanted)
    except RunError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise
        obstacle = isinstance(error, MemoryError) or any(word in str(error) for word in OBSTACLES)
        if obstacle or "files" in about:  # every bit of the files is right: the checkpoint is not damaged
            raise RunError(
                f"the checkpoint {place} cannot be read now ({first_line(error)}). It stays in place: mend the cause, "
                "and start the same command again."
            ) from error
        raise Damaged(f"{place} is damaged ({first_line(error)})") from error
    values = devices.host(state)
    if "leaves" in about:
        wrong = sorted(name for name, leaf in described(values).items() if about["leaves"].get(name) != leaf)
        if wrong or len(about["leaves"]) != len(jax.tree.leaves(values)):
            raise Damaged(f"{place} gives other arrays than were written ({', '.join(wrong[:3]) or 'some missing'})")
    return state, about


def read_meta(place: Path) -> dict[str, Any]:
    """The content of a checkpoint's meta.json. Raises Damaged, OSError, or RunError for a newer version."""
    path = place / "meta.json"
    old = not path.exists() and (place / "meta").exists()
    path = place / "meta" / "metadata" if old else path
    with broken_where_missing(path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
        if old:
            if not {"epoch", "checksum"} <= set(content) <= {"epoch", "checksum", "partial"}:
                raise Damaged(f"{path} has changed since it was written")
            return {"partial": {}, **content}
        sealed = content.pop("seal")
        if sealed != seal(content):
            raise Damaged(f"{path} has changed since it was written")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Damaged(f"{path} is damaged ({first_line(error)})") from None
    if content["version"] > VERSION:
        raise RunError(f"{place} is of a newer ae_jax (schema {content['version']}, {VERSION} here): use that version")
    return content


@contextlib.contextmanager
def broken_where_missing(path: Path):
    """Raises Damaged for a missing file of a checkpoint; other errors of the system pass through."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Damaged(f"{path} is missing") from None


def check_structure(place: Path, there: dict[str, Any], target: Any) -> None:
    """Raises RunError, naming the arrays, if those of a checkpoint differ from those of a run's state."""
    there, here = ({name: leaf[:2] for name, leaf in found.items()} for found in (there, shapes(target)))
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if names:
        text = lambda leaf: "nothing" if leaf is None else f"{leaf[0]}{leaf[1]}"
        lines = "".join(f"\n  {name}: {text(there.get(name))} there, {text(here.get(name))} now" for name in names[:5])
        more = f"\n  and {len(names) - 5} more" if len(names) > 5 else ""
        raise RunError(
            f"{place} is whole, but its structure differs from this run's:{lines}{more}\nIt stays in place: go on with "
            "the code that wrote it, or choose another --workdir."
        )


def by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their paths, in containers of any kind: "params/encoder/layer_0/bias"."""
    part = lambda key: str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(part(key).replace("/", "//") for key in path): leaf for path, leaf in leaves}


def shapes(tree: Any) -> dict[str, Any]:
    """[dtype, shape] of every leaf, by name."""
    return {name: [str(np.dtype(leaf.dtype)), list(leaf.shape)] for name, leaf in by_name(tree).items()}


def differing(there: Any, here: Any, of_there: str, of_here: str) -> str:
    """The first array whose shape differs in two trees, named with both shapes; "" where all are the same."""
    shapes = [{name: tuple(leaf.shape) for name, leaf in by_name(tree).items()} for tree in (there, here)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        left, right = (f"{list(of[name])}" if name in of else "missing" for of in shapes)
        if left != right:
            return f"{name} is {left} {of_there} and {right} {of_here}"
    return ""


def described(tree: Any) -> dict[str, Any]:
    """[dtype, shape, CRC-32] of every array on the host, by name."""
    crc = lambda leaf: zlib.crc32(np.ascontiguousarray(leaf).tobytes())
    arrays = by_name(tree)
    return {name: [*shape, crc(arrays[name])] for name, shape in shapes(tree).items()}


def crc_of(path: Path, flush: bool = False) -> int:
    """CRC-32 of a file; `flush` also writes the file to the disk."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
        if flush:
            os.fsync(file.fileno())
    return crc


def seal(content: dict[str, Any]) -> int:
    """CRC-32 of JSON's content, independent of white space."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def quiet() -> None:
    """Silences Orbax's log: ae_jax reports errors itself."""
    import logging

    logging.getLogger("absl").setLevel(logging.CRITICAL)
