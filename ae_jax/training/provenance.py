"""Provenance of a run: the checksum of its data, versions, device and commit."""

import os
import platform
import subprocess
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np


def checksum(tree: Any) -> int:
    """CRC-32 of the bits of all leaves, in order."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    return crc


def circumstances() -> dict[str, Any]:
    """Versions, device and commit. Results depend on these and on the settings."""
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
    if top is None or Path(top).resolve() != here.parents[2] or git("ls-files", "--error-unmatch", here.name) is None:
        return None
    found = git("describe", "--always")
    tables = ("results", "README.md", "docs/speed.md")  # new records, and their tables, change no measurement
    if found and git("status", "--porcelain", "-uno", "--", ":/", *(f":(top,exclude){path}" for path in tables)):
        found += "-dirty"
    return found
