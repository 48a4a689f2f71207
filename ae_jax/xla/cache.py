"""The cache of compiled programs on the disk."""

import errno
import os
import platform
import zlib
from pathlib import Path

import jax

from ..errors import warn


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
        reason = getattr(error, "strerror", None) or error
        warn(f"compiled programs are not kept between runs ({folder or 'no cache folder'}: {reason})")
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
