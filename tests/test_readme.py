"""README's Python runs as it stands there, but for the number of epochs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ae_jax.app import cli

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


@pytest.mark.slow
def test_the_recipe_of_readme_restores_what_it_never_saw(tmp_path, monkeypatch):
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
    text = (ROOT / "README.md").read_text().replace("\\\n", "")
    recipe = re.findall(r"^scripts/ae-jax ((?:train denoising|restore) .*)", text, re.MULTILINE)
    assert len(recipe) == 2
    for command in recipe:
        cli.dispatch(shlex.split(command, comments=True))
    error = lambda x: np.mean((x.astype(float) - right) ** 2)
    blurred = min(error(gaussian_filter(noisy, (s, s, 0))) for s in np.arange(0.5, 2, 0.1))
    assert error(np.asarray(Image.open("restored.png"))) < min(0.9 * blurred, error(noisy) / 3)
