"""The package as it is released: versions, extras, the wheel, and a start on a bare machine."""

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import ae_jax
from ae_jax.app import cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_place_tells_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] == ae_jax.__version__ == citation["version"] == changes[0]
    assert f"ae_jax-{ae_jax.__version__}-py3" in (ROOT / "docs" / "guides" / "install.md").read_text()
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_version_tells_what_results_depend_on(capsys):
    cli.dispatch(["--version"])
    told = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert told["ae-jax"] == ae_jax.__version__
    assert {"python", "jax", "jaxlib", "flax", "optax", "numpy", "device"} <= set(told)


def test_the_page_names_every_extra():
    page = (ROOT / "docs" / "guides" / "install.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE)
    extras = PROJECT["optional-dependencies"]
    assert sorted(name for name, _ in rows) == sorted(extras)
    (own,) = (Requirement(text) for text in extras["dev"] if text.startswith("ae-jax"))
    assert all(extra in dict(rows)["dev"] for extra in own.extras)


def test_the_log_of_tensorboard_names_its_extra():
    assert [Requirement(text).name for text in PROJECT["optional-dependencies"]["tensorboard"]] == ["tensorboardX"]


# Nothing but the interpreter: no git, no compiler, no locale, and no home folder that can be written to.
BARE = {"HOME": "/proc/none", "LC_ALL": "C"}


def wheel_of(folder):
    """The wheel of this tree."""
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder))
    return wheel


def trains_and_encodes(python, where):
    """The commands of a first run, by an environment's own interpreter, in a folder with a name beyond ASCII."""
    folder = where / "größe"
    folder.mkdir()
    (where / "bin").mkdir()
    for name in ("python", "ae-jax"):
        (where / "bin" / name).symlink_to(python.with_name(name))
    train = ["ae-jax", "train", "vae", "--data", "digits", "--epochs", "2", "--workdir", "läuft"]
    for words in (train, ["ae-jax", "--version"], ["ae-jax", "encode", "läuft", "digits", "codes.csv"]):
        words[0] = str(python.with_name(words[0]))
        done = subprocess.run(words, cwd=folder, env=BARE | {"PATH": str(where / "bin")}, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert (folder / "läuft" / "report.html").is_file()
    assert len((folder / "codes.csv").read_text().splitlines()) == 361


@pytest.mark.last
def test_a_wheel_starts_on_a_bare_machine(tmp_path):
    """In an environment of its own, outside the repository, with the packages of this one."""
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "of_this.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel_of(tmp_path / "dist")], check=True)
    own = subprocess.run([python, "-c", "import ae_jax; print(ae_jax.__file__)"], cwd=tmp_path, capture_output=True)
    assert str(packages).encode() in own.stdout
    trains_and_encodes(python, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.full("installs every dependency into a clean environment")
def test_a_wheel_trains_on_a_bare_machine(tmp_path):
    """As above, with every dependency installed anew."""
    from hatchling.builders.sdist import SdistBuilder

    wheel = wheel_of(tmp_path / "dist")
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path / "dist"))
    shutil.unpack_archive(sdist, tmp_path / "source")
    (source,) = (tmp_path / "source").iterdir()
    assert all((source / name).is_file() for name in ("LICENSE", "CITATION.cff", "CHANGELOG.md", "ae_jax/core.py"))
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, wheel], check=True)
    trains_and_encodes(python, tmp_path)
