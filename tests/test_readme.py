"""README's Python runs as it stands there, but for the number of epochs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ae_jax import cli

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_there_are_two_blocks():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("block", BLOCKS, ids=["many seeds", "one run"])
def test_python_of_readme_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "100" in block
    exec(block.replace("epochs=100", "epochs=2").replace(", 100\n", ", 2\n"), {})
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert capsys.readouterr().out


@pytest.mark.slow
def test_the_recipe_of_readme_restores_a_photograph_that_it_never_saw(tmp_path, monkeypatch):
    """Learned from one of scikit-learn's two photographs, of noise on the other it leaves less than a fifth."""
    from scipy.ndimage import gaussian_filter
    from sklearn.datasets import load_sample_images

    monkeypatch.chdir(tmp_path)
    seen, photo = load_sample_images().images
    noise = 25.5 * np.random.default_rng(0).standard_normal(photo.shape)
    noisy = np.uint8(np.clip(np.round(photo + noise), 0, 255))
    for split in ("train", "test"):
        Path("PHOTOGRAPHS", split).mkdir(parents=True)
        Image.fromarray(seen).save(f"PHOTOGRAPHS/{split}/seen.png")
    Image.fromarray(noisy).save("noisy.jpg", quality=100, subsampling=0)
    text = (ROOT / "README.md").read_text().replace("\\\n", "")
    recipe = re.findall(r"^scripts/ae-jax ((?:train denoising|restore) .*)", text, re.MULTILINE)
    assert len(recipe) == 2
    for command in recipe:
        cli.dispatch(shlex.split(command, comments=True))
    error = lambda x: np.mean((x.astype(float) - photo) ** 2)
    blurred = min(error(gaussian_filter(noisy, (s, s, 0))) for s in np.arange(0.6, 1.8, 0.1))
    made = error(np.asarray(Image.open("restored.png")))
    print("ERR", error(noisy), blurred, made)
    assert made < error(noisy) / 5
