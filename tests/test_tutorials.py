"""The notebooks of docs/tutorials: executed, of one form, with texts that agree with their outputs, and on the site."""

import base64
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
sys.path.insert(0, str(ROOT / "scripts"))
tutorials = importlib.import_module("tutorials")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def text_of(lines):
    return lines if isinstance(lines, str) else "".join(lines)


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def printed(path):
    """The texts of a notebook's outputs, and its code."""
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    texts = [text_of(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs]
    return "\n".join(texts + [text_of(cell["source"]) for cell in cells(path, "code")])


def unsupported(prose, evidence):
    """The numbers with a point, or of four digits and more, that a text states and no output or code has.

    A number is supported by one that rounds to it.
    """
    number = re.compile(r"(?<![\w.,/-])\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.,/-])\d+\.\d+|(?<![\w.,/-])\d{4,}")
    value = lambda text: float(text.replace(",", ""))
    there = [value(found) for found in re.findall(r"\d[\d,]*\.?\d*", evidence)]
    digits = lambda text: len(text.partition(".")[2])
    prose = re.sub(r"\(\S*\)|`[^`]*`|arXiv:\S+|\(?\b(19|20)\d\d\b\)?", "", prose)
    found = [text.rstrip(",") for text in number.findall(prose)]
    return [text for text in found if not any(abs(v - value(text)) <= 0.500001 * 10 ** -digits(text) for v in there)]


def test_numbers_of_a_text_need_an_output():
    assert unsupported("It is 0.63, of 1,437 images (2014), `1.5`.", "1437 train, 0.62696") == []
    assert unsupported("It is 0.64, of 1,438 images.", "1437 train, 0.62696") == ["0.64", "1,438"]


@each
def test_a_notebook_is_executed_small_and_without_a_place(path):
    content = path.read_text()
    assert len(content) < 400_000
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "executed in order, once"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"], "warnings and errors are in the page"
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2, "pictures are inline"
    assert not re.search(r"\b0x[0-9a-f]{6,}", printed(path)), "an address in memory"
    assert not re.search(r"/(home|root|tmp|work|usr|Users)/|site-packages", printed(path) + content)


@each
def test_texts_state_numbers_that_the_outputs_have(path):
    prose = "\n".join(text_of(cell["source"]) for cell in cells(path, "markdown"))
    assert unsupported(prose, printed(path)) == []


@each
def test_a_notebook_is_on_the_site_and_in_the_list_of_tutorials(path):
    assert f"- tutorials/{path.stem}.md" in (ROOT / "mkdocs.yml").read_text()
    title = text_of(cells(path, "markdown")[0]["source"]).splitlines()[0].removeprefix("# ")
    assert f"[{title}]({path.name})" in (FOLDER / "index.md").read_text()


def test_a_training_is_shortened():
    code = "run(a, train, epochs=100, seeds=5)\n%run -m ae_jax train vae --epochs 30 --seeds 2"
    assert (
        tutorials.shortened(code) == "run(a, train, epochs=2, seeds=5)\n%run -m ae_jax train vae --epochs 2 --seeds 2"
    )


def refused(*arguments, without=""):
    """What the command says as it exits with status 1, without a package."""
    hide = f"import sys; sys.modules[{without!r}] = None; " if without else "import sys; "
    code = (
        f"{hide}sys.argv[1:] = {list(arguments)!r}; sys.path.insert(0, 'scripts'); import tutorials; tutorials.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("package", ["nbclient", "ipykernel"])
def test_without_the_extra_one_sentence_says_how_to_get_it(package):
    said = refused("--check", without=package)
    assert said == f"error: {package} executes notebooks and is not installed: pip install -e '.[tutorials]'\n"


def test_a_tutorial_that_is_not_there_is_refused():
    assert refused("nothing").startswith("error: there is no tutorial 'nothing'; they are ")


def write(path, *sources):
    cells = [dict(cell_type="code", metadata={}, source=s, outputs=[], execution_count=None) for s in sources]
    path.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=4)))
    return path


@pytest.mark.last
def test_an_executed_notebook_has_its_outputs_and_no_place(tmp_path):
    pytest.importorskip("nbclient")
    drawn = "%matplotlib inline\nfrom matplotlib import pyplot\npyplot.plot([1, 2]);"
    path = write(tmp_path / "a.ipynb", "from pathlib import Path\nprint(Path('x').resolve())\nprint(2)", drawn)
    first, second = tutorials.executed(path).cells
    assert [output.text for output in first.outputs] == ["x\n2\n"]
    assert base64.b64decode(second.outputs[0].data["image/png"])[:4] == b"\x89PNG"
    with pytest.raises(Exception, match="ZeroDivisionError"):
        tutorials.executed(write(tmp_path / "b.ipynb", "1 / 0"))


@pytest.mark.last
@each
def test_a_notebook_runs(path):
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason="the extra tutorials is not installed")
    tutorials.executed(path, quick=True)


def test_a_notebook_becomes_a_page(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pages = importlib.import_module("pages")
    png = base64.b64encode(b"picture").decode()
    outputs = [
        dict(output_type="stream", name="stdout", text=["one\n", "two\n"]),
        dict(output_type="display_data", metadata={}, data={"image/png": png, "text/plain": ["<Figure>"]}),
    ]
    content = [
        dict(cell_type="markdown", source=["# Title\n", "text"]),
        dict(cell_type="code", source="print(1)", outputs=outputs),
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(dict(cells=content)))
    page, pictures = pages.notebook(path)
    assert pictures == {"a-0.png": b"picture"}
    assert re.match(r"# Title\n\n<a href=.a.ipynb..*\n\ntext\n\n", page)
    assert page.index("print(1)") < page.index("one\ntwo\n") < page.index("](a-0.png)")
    assert "<Figure>" not in page
    assert pages.place("docs/tutorials/a.ipynb") == "tutorials/a.md"
