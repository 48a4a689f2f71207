"""Files written whole or not at all, and what is said where a folder or file cannot be used."""

import json
import os
from pathlib import Path
from typing import Any


class RunError(RuntimeError):
    """A run that cannot start or go on, or a file that cannot be used; the message says why and what to do."""


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
