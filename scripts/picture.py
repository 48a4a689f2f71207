"""README's first picture, made by README's own Python: `python scripts/picture.py`."""

import os
import re
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def snippet() -> str:
    """The Python of README's first screen."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    if found is None:
        raise ValueError("README.md has no Python block")
    return found[1]


def main(out: Path = ROOT / "results" / "readme.png") -> None:
    """Runs the snippet in an empty folder and keeps its picture."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(snippet(), "README.md", "exec"), {})
        finally:
            os.chdir(before)
        shutil.copy(Path(folder) / "samples.png", out)
    print(out)


if __name__ == "__main__":
    main()
