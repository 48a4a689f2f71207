"""The Python and the commands of README and the site run as they stand there, but for few epochs and small data."""

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ae_jax import data
from ae_jax.app import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = ("FOLDER", "PHOTOGRAPHS", "TEXTS")  # a reader's own data in a command


def blocks(page, language):
    """The blocks of a language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page):
    """The commands of ae_jax that a page pastes in order, as lists of words; none for a page with a reader's data."""
    text = "".join(blocks(page, "bash")).replace("\\\n", "")
    lines = re.findall(r"^scripts/ae-jax (.*)", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def identity(page):
    """A page's name for a test."""
    return str(page.relative_to(ROOT))


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
WITH_COMMANDS = [page for page in PAGES if commands(page) and not any(s in page.read_text() for s in SOURCES)]


def execute(code, page, names):
    """Runs a page's Python with few epochs; a block that begins with a file's name is saved there first."""
    assert ("epochs=" in code) == bool(re.search(r"fit\(|[ (]run\(|^train\(", code, re.MULTILINE))
    code = re.sub(r"epochs=\d+", "epochs=2", code)
    if file := re.match(r"# (\w+\.py)\n", code):
        Path(file[1]).write_text(code)
    exec(compile(code, str(page), "exec"), names)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """An empty folder, where MNIST is digits and of `shapes` there are a thousand."""
    monkeypatch.chdir(tmp_path)
    load = data.load

    def few(name, *args, **options):
        least = {"count": min(1000, options.get("count", 1000))} if name == "shapes" else {}
        return load(name.replace("mnist", "digits"), *args, **options | least)

    monkeypatch.setattr(data, "load", few)
    return tmp_path


def short(words):
    """A training command with two epochs, and two steps of a rising capacity."""
    lengths = ("--epochs", "--capacity-steps") if "train" in words else ()
    return [words[0], *("2" if before in lengths else word for before, word in itertools.pairwise(words))]


def test_readme_is_short_and_starts_with_the_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 170
    assert text.index("scripts/ae-jax train") < text.index("```python") < text.index("## Results")
    assert len(blocks(ROOT / "README.md", "python")[0].splitlines()) <= 12


def test_the_pages_have_python_and_commands():
    assert {"README.md", "docs/quickstart.md", "docs/guides/sweeps.md"} <= set(map(identity, WITH_PYTHON))
    assert {"README.md", "docs/quickstart.md", "docs/guides/search.md"} <= set(map(identity, WITH_COMMANDS))


@pytest.mark.parametrize("page", [p for p in WITH_PYTHON if not commands(p)] + [ROOT / "README.md"], ids=identity)
def test_python_of_a_page_runs(page, quick, capsys):
    names = {}
    for block in blocks(page, "python"):
        execute(block, page, names)
        assert len(list(quick.glob("*.png"))) >= block.count("savefig")
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=identity)
def test_commands_and_python_of_a_page_can_be_pasted_in_order(page, quick):
    names = {}
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", page.read_text(), re.DOTALL):
        if language == "python":
            execute(block, page, names)
            continue
        lines = re.findall(r"^(?:timeout .*?)?scripts/ae-jax (.*)", block.replace("\\\n", ""), re.MULTILINE)
        for words in (shlex.split(line, comments=True) for line in lines):
            words = short(words[: words.index("||")] if "||" in words else words)
            if "--devices" in words:  # JAX counts its devices once a process
                subprocess.run([sys.executable, "-m", "ae_jax", *words], check=True)
            else:
                assert not cli.dispatch(words)


@pytest.mark.slow
@pytest.mark.full("trains on photographs for 15 seconds")
def test_the_recipe_for_photographs_restores_what_it_never_saw(tmp_path, monkeypatch):
    """Learned on the left of scikit-learn's two photographs, it makes of the noisy right more than any blur does."""
    from scipy.ndimage import gaussian_filter
    from sklearn.datasets import load_sample_images

    monkeypatch.chdir(tmp_path)
    left, right = np.split(np.concatenate(load_sample_images().images), [400], axis=1)  # one above the other
    for split, part in (("train", left), ("test", right)):
        Path("PHOTOGRAPHS", split).mkdir(parents=True)
        Image.fromarray(part).save(f"PHOTOGRAPHS/{split}/both.png")
    noise = 25.5 * np.random.default_rng(0).standard_normal(right.shape)
    noisy = np.uint8(np.clip(np.round(right + noise), 0, 255))
    Image.fromarray(noisy).save("noisy.jpg", quality=100, subsampling=0)
    page = ROOT / "docs" / "guides" / "commands.md"
    recipe = [words for words in commands(page) if words[:2] == ["train", "denoising"] or words[0] == "restore"]
    assert len(recipe) == 2
    for command in recipe:
        cli.dispatch(command)
    error = lambda x: np.mean((x.astype(float) - right) ** 2)
    blurred = min(error(gaussian_filter(noisy, (s, s, 0))) for s in np.arange(0.5, 2, 0.1))
    assert error(np.asarray(Image.open("restored.png"))) < min(0.9 * blurred, error(noisy) / 3)
