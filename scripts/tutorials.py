"""Executes notebooks of docs/tutorials: `python scripts/tutorials.py [NAME ...]`; without a name, all of them.

Each runs in an empty folder and a kernel of its own. Its new outputs are written to its file, without times and without
paths of this machine. `--check` executes with two epochs for each training, and writes nothing.
"""

import argparse
import importlib.util
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "tutorials"
SECONDS = 600  # for one cell
COLOURS = 256  # enough for drawn pictures, but not for photographs


def shortened(code: str) -> str:
    """The code with two epochs for each training."""
    return re.sub(r"(\bepochs=|--epochs )\d+", r"\g<1>2", code)


def executed(path: Path, quick: bool = False) -> Any:
    """The notebook with the outputs of a new run, and only the metadata that Jupyter needs.

    Raises CellExecutionError, with the traceback, for a cell that fails.
    """
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if quick and cell.cell_type == "code":
            cell.source = shortened(cell.source)
    with tempfile.TemporaryDirectory(prefix="tutorial-") as place:
        folder = Path(place).resolve() / "notebook"
        folder.mkdir()
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
            config=Config(ConnectionFileMixin={"transport": "ipc", "connection_file": f"{place}/kernel"}),  # no port
        )
        client.execute(env=os.environ | {"IPYTHONDIR": f"{place}/ipython"})  # without the user's own settings
        for number, cell in enumerate(notebook.cells):
            cell.id, cell.metadata = f"cell-{number}", {}
            if cell.cell_type == "code":
                cell.outputs = [kept(output, folder) for output in joined(cell.outputs)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def joined(outputs: list[Any]) -> list[Any]:
    """Outputs in which neighbouring texts are joined."""
    found = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream" and output.name == found[-1].name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def kept(output: Any, folder: Path) -> Any:
    """An output as written: paths below the notebook's folder are relative, and drawn pictures have few colours."""
    within = lambda text: text.replace(f"{folder}{os.sep}", "")
    if output.output_type == "stream":
        output.text = within(output.text)
        return output
    output.metadata = {}
    for kind, content in output.data.items():
        output.data[kind] = small(content) if kind == "image/png" else within(content)
    return output


def small(png: str) -> str:
    """A PNG in base64, with at most 256 colours if that halves its size."""
    import base64
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    found = base64.b64encode(buffer.getvalue()).decode()
    return found if len(found) < len(png) / 2 else png.strip()


def chosen(names: list[str]) -> list[Path]:
    """The notebooks of these names; without names, all. Exits for an unknown name."""
    there = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    for name in names:
        if name not in there:
            sys.exit(f"error: there is no tutorial {name!r}; they are {', '.join(there)}")
    return [there[name] for name in names] or list(there.values())


def main() -> None:
    """Executes the chosen notebooks, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as first-run; all without a name")
    parser.add_argument("--check", action="store_true", help="two epochs a training, and no file is written")
    given = parser.parse_args()
    paths = chosen(given.names)
    for package in ("nbclient", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            sys.exit(f"error: {package} executes notebooks and is not installed: pip install -e '.[tutorials]'")
    import nbformat
    from nbclient.exceptions import CellExecutionError

    for path in paths:
        began = time.monotonic()
        try:
            notebook = executed(path, quick=given.check)
        except CellExecutionError as error:
            sys.exit(f"error: {path.relative_to(ROOT)} fails\n{error}")
        if not given.check:
            nbformat.write(notebook, path)
        size = path.stat().st_size // 1000
        print(f"{path.stem}: {time.monotonic() - began:.0f} s, {size} kB", flush=True)


if __name__ == "__main__":
    main()
