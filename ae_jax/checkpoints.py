"""Checkpoints: a folder each, written whole or not at all, with a checksum over every bit that is used later.

`checkpoints/N/` holds `state/`, the arrays as Orbax writes them, and `meta.json`: the schema's version, the epoch, a
CRC-32 of every file and of every array, and one of `meta.json` itself. The files are checked before Orbax reads them,
so a reader knows damage (`Damaged`) from what only keeps it from reading: a full disk, a permission, a lost server.
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

from . import devices
from .disk import TEMPORARY, RunError, flush_folder, is_temporary, strict, write_json

VERSION = 2  # of the layout; 1 had no version, no checksum but one over the arrays, and lay in meta/metadata
CHUNK = 2**20
# An error of a library is of the system, not of the file's content, where it has one of these words.
TOLD = [os.strerror(e) for e in (errno.ESTALE, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)]
TOLD += [
    os.strerror(e) for e in (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT, errno.ESHUTDOWN)
]
TOLD += ["RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "out of memory"]


class Damaged(RunError):
    """A checkpoint whose files do not hold what was written to them."""


def numbers(folder: Path) -> list[int]:
    """The checkpoints of a folder, rising; none where there is no folder. Raises OSError where it cannot be read."""
    try:
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())
    except FileNotFoundError:
        return []


def save(folder: Path, number: int, state: Any, about: dict[str, Any], keep: int, token: str) -> None:
    """Writes checkpoint `number` of a state, and removes all but the newest `keep`.

    Args:
        folder: of all checkpoints.
        number: the checkpoint's name.
        state: a pytree of arrays, over all processes.
        about: what else to keep, as JSON knows it.
        keep: how many checkpoints to leave.
        token: the same in all processes, and no other run's.

    Raises RunError where it cannot be written; the older checkpoints are left as they are.
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
        if place.exists():  # the same bits, by a run that was not kept out
            remove(place)
        os.replace(temporary, place)
        flush_folder(folder)
        for old in numbers(folder)[:-keep]:
            if old != number:
                remove(folder / str(old))

    try:
        said = devices.in_first(lambda: temporary.mkdir(parents=True))
        if said is not None:
            raise RunError(said)
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
            writer.save(temporary / "state", args=ocp.args.StandardSave(state))
        said = devices.in_first(commit)
        if said is not None:
            raise RunError(said)
    except Exception as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        raise RunError(
            f"the checkpoint {place} could not be written ({reason(error)}). The older ones are as they were: put that "
            "right, and start the same command again to go on from them."
        ) from error


def remove(place: Path) -> None:
    """Removes a checkpoint; one that is half removed is never taken for a whole one."""
    gone = place.with_name(f"{place.name}-gone".join(TEMPORARY))
    os.replace(place, gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean(folder: Path) -> None:
    """Removes what a run that was killed had not finished to write. For the one process that holds the folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(path.name) or re.fullmatch(r"\d+\.orbax-checkpoint-tmp.*", path.name):
            shutil.rmtree(path, ignore_errors=True)


def read(folder: Path, number: int, target: Any = None) -> tuple[Any, dict[str, Any]]:
    """(state, about) of a checkpoint: the state like `target`, or as nested dicts and lists on this process's device.

    Raises:
        Damaged: a file or an array is not what was written.
        RunError: it is whole, and of another structure than the target, of a newer version of ae_jax, or too large.
        OSError: a file cannot be read now.
    """
    import orbax.checkpoint as ocp

    quiet()
    place = folder / str(number)
    about = read_meta(place)
    for name, crc in about.get("files", {}).items():
        with broken_where_missing(place / name):
            if crc_of(place / name) != crc:
                raise Damaged(f"{place / name} is not what was written")
    try:
        with ocp.StandardCheckpointer() as reader:
            tree: Any = reader.metadata(place / "state")
            tree = tree.item_metadata.tree
            if target is None:
                here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # however many it was trained on
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
        told = isinstance(error, MemoryError) or any(word in str(error) for word in TOLD)
        if told or "files" in about:  # every bit is as it was written: it is not the checkpoint's fault
            raise RunError(
                f"the checkpoint {place} cannot be read now ({reason(error)}). It is left as it is: put that right, "
                "and start the same command again."
            ) from error
        raise Damaged(f"{place} is damaged ({reason(error)})") from error
    values = devices.host(state)
    if "leaves" in about:
        wrong = sorted(name for name, leaf in described(values).items() if about["leaves"].get(name) != leaf)
        if wrong or len(about["leaves"]) != len(jax.tree.leaves(values)):
            raise Damaged(f"{place} does not give the arrays that were written ({', '.join(wrong[:3]) or 'some lack'})")
    return state, about


def read_meta(place: Path) -> dict[str, Any]:
    """What meta.json of a checkpoint says. Raises Damaged, RunError where it is of a newer version, or OSError."""
    path = place / "meta.json"
    old = not path.exists() and (place / "meta").exists()
    path = place / "meta" / "metadata" if old else path
    with broken_where_missing(path):
        text = path.read_bytes()
    try:
        content = json.loads(text)
        if old:
            if not {"epoch", "checksum"} <= set(content) <= {"epoch", "checksum", "partial"}:
                raise Damaged(f"{path} is not what was written")
            return {"partial": {}, **content}
        sealed = content.pop("seal")
        if sealed != seal(content):
            raise Damaged(f"{path} is not what was written")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Damaged(f"{path} is damaged ({reason(error)})") from None
    if content["version"] > VERSION:
        raise RunError(f"{place} was written by a newer ae_jax (schema {content['version']}, {VERSION} here): use that")
    return content


@contextlib.contextmanager
def broken_where_missing(path: Path):
    """A file that a checkpoint had and has not is damage; other errors of the system are themselves."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Damaged(f"{path} is missing") from None


def check_structure(place: Path, there: dict[str, Any], target: Any) -> None:
    """Raises RunError where a checkpoint has other arrays than a run's state, and says which."""
    there, here = ({name: leaf[:2] for name, leaf in found.items()} for found in (there, shapes(target)))
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    if names:
        told = lambda leaf: "nothing" if leaf is None else f"{leaf[0]}{leaf[1]}"
        lines = "".join(f"\n  {name}: {told(there.get(name))} there, {told(here.get(name))} now" for name in names[:5])
        more = f"\n  and {len(names) - 5} more" if len(names) > 5 else ""
        raise RunError(
            f"{place} is whole, and of another structure than this run:{lines}{more}\nIt is left as it is: go on with "
            "the code that wrote it, or choose another --workdir."
        )


def by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their paths, whichever containers hold them: "params/encoder/layer_0/bias"."""
    part = lambda key: str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(part(key).replace("/", "//") for key in path): leaf for path, leaf in leaves}


def shapes(tree: Any) -> dict[str, Any]:
    """[dtype, shape] of every leaf, by name."""
    return {name: [str(np.dtype(leaf.dtype)), list(leaf.shape)] for name, leaf in by_name(tree).items()}


def described(tree: Any) -> dict[str, Any]:
    """[dtype, shape, CRC-32] of every array on the host, by name."""
    crc = lambda leaf: zlib.crc32(np.ascontiguousarray(leaf).tobytes())
    arrays = by_name(tree)
    return {name: [*shape, crc(arrays[name])] for name, shape in shapes(tree).items()}


def crc_of(path: Path, flush: bool = False) -> int:
    """CRC-32 of a file; with `flush` the disk has it afterwards."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
        if flush:
            os.fsync(file.fileno())
    return crc


def seal(content: dict[str, Any]) -> int:
    """CRC-32 of JSON's content, whatever its white space."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def reason(error: BaseException) -> str:
    """An error's first line, at most 200 characters of it."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def quiet() -> None:
    """Has Orbax say nothing: what goes wrong is said by us."""
    import logging

    logging.getLogger("absl").setLevel(logging.CRITICAL)
