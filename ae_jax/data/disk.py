"""Files written whole or not at all, and the names of a run's own files."""

import contextlib
import errno
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY = (".ae_jax-", ".tmp")  # start and end of an unfinished file's name; kill -9 can leave such a file
# a run's own files and folders, written by training or afterwards; other files in its folder belong to the user
LOCK = "lock"
LEARNED = ("config.json", LOCK, "log.jsonl", "checkpoints", "results.json")
CSV_LOG, EVENTS = "log.csv", "tensorboard"  # of `train --log`
OF_RUN = (*LEARNED, "report.html", "pictures", "samplers", CSV_LOG, EVENTS)
ASIDE = "damaged-checkpoint-"  # start of the name of a checkpoint that was moved aside
PROJECTED = ("vectors.tsv", "metadata.tsv", "sprite.png", "projector_config.pbtxt")  # for the Embedding Projector
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}  # of file systems that cannot flush a folder


def suffix(path: str | os.PathLike[str]) -> str:
    """The suffix of a file's name, in lower case: ".npy" of X.NPY."""
    return os.path.splitext(os.fspath(path))[1].lower()


def is_temporary(name: str) -> bool:
    """Whether this is the name of an unfinished file of `written`."""
    return name.startswith(TEMPORARY[0]) and name.endswith(TEMPORARY[1])


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of ae_jax: it has a config.json, and another file that training writes."""
    config, *others = LEARNED
    return (folder / config).is_file() and any((folder / name).exists() for name in others)


def is_projected(folder: Path) -> bool:
    """Whether a folder holds codes for the Embedding Projector."""
    return (folder / PROJECTED[-1]).is_file()


def kept_by_run(path: Path) -> str:
    """The file or folder of a run that writing to this path would change; "" if none."""
    path = path.resolve()
    for folder in path.parents:
        first = path.relative_to(folder).parts[0]
        if (first in OF_RUN or first.startswith(ASIDE)) and is_run(folder):
            return first
    return ""


def clean(folder: Path) -> None:
    """Removes unfinished files of killed processes that are older than an hour."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if is_temporary(path.name) and path.is_file() and time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def strict(content: Any) -> Any:
    """The content in the types of JSON: None for numbers that are not finite, lists for tuples and arrays."""
    if isinstance(content, dict):
        return {name: strict(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [strict(value) for value in content]
    if hasattr(content, "tolist"):  # NumPy's and JAX's arrays, and their scalars
        return strict(content.tolist())
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all; numbers that are not finite become null."""
    write_atomically(path, (json.dumps(strict(content), indent=1, allow_nan=False) + "\n").encode())


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all, and returns when it is on the disk. See `written`."""
    with written(path) as file:
        file.write(content)


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A temporary file that replaces `path` when the block ends, and is removed if the block raises.

    The temporary file is beside the target and has a unique name, so writers do not collide. If `path` is a symbolic
    link, its target is replaced. An existing file keeps its permissions; a new file gets those of the umask. A target
    that is not a regular file (/dev/stdout, a pipe) is written to directly.

    Raises OSError, with the name `path`, if it cannot be written.
    """
    named, path = os.fspath(path), os.path.realpath(path)
    folder = os.path.dirname(path)
    temporary, made = os.path.join(folder, secrets.token_hex(8).join(TEMPORARY)), False
    try:
        mode = os.stat(path).st_mode if os.path.exists(path) else None
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode is not None and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if mode is not None and not stat.S_ISREG(mode):
            with open(path, "wb") as file:
                yield file
            return
        with open(temporary, "xb") as file:
            made = True
            yield file
            file.flush()
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            os.fsync(file.fileno())
        os.replace(temporary, path)
        made = False
        flush_folder(folder)
    except OSError as error:
        # report the name that the user gave
        if error.errno is not None and error.filename in (None, path, temporary):
            error.filename, error.filename2 = named, None
        raise
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Flushes a folder's entries to the disk, unless the file system cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
