"""README's Python runs as it stands there, but for the number of epochs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
NAMES = ["many seeds", "one run", "a grid", "own network"]


def test_there_are_four_blocks():
    assert len(BLOCKS) == len(NAMES)


@pytest.mark.parametrize("block", BLOCKS, ids=NAMES[: len(BLOCKS)])
def test_python_of_readme_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ("100" in block) == ("fit" in block)
    exec(block.replace("epochs=100", "epochs=2").replace(", 100\n", ", 2\n"), {})
    assert len(list(tmp_path.glob("*.png"))) == block.count("savefig")
    assert capsys.readouterr().out
