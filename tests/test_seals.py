"""Seals: a changed config.json or results.json is refused, whatever bit of it has changed."""

import json

import numpy as np
import pytest

from ae_jax.app.commands import training
from ae_jax.errors import RunError
from ae_jax.training import run_folder
from ae_jax.training.settings import Settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    where = tmp_path_factory.mktemp("run") / "r"
    settings = Settings(
        algorithm="autoencoder",
        network="mlp",
        data="digits",
        latents=2,
        epochs=1,
        batch_size=512,
        seeds=(0,),
        network_options={"hidden": (4,)},
    )
    training.train(settings, where, quiet=True)
    return where


@pytest.mark.parametrize(("name", "read"), [("config.json", "config"), ("results.json", "results")])
def test_no_flipped_bit_gives_another_number_without_a_word(finished, name, read):
    folder, path, rng = run_folder.Folder(finished), finished / name, np.random.default_rng(0)
    content, right, refused = path.read_bytes(), getattr(folder, read)(), 0
    try:
        for place in rng.integers(0, len(content), 200):
            broken = bytearray(content)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(broken))
            try:
                found = getattr(folder, read)()
            except RunError:
                refused += 1
            else:  # white space, or the seal's own name
                assert {key: found[key] for key in right} == right
    finally:
        path.write_bytes(content)
    assert refused > 100
    assert "seal" not in right


def test_a_changed_config_without_its_seal_is_taken(finished):
    path = finished / "config.json"
    before = path.read_text()
    try:
        content = json.loads(before)
        content["settings"]["data"] = "elsewhere"
        path.write_text(json.dumps(content))
        with pytest.raises(RunError, match="remove the seal"):
            run_folder.Folder(finished).config()
        del content["seal"]
        path.write_text(json.dumps(content))
        assert run_folder.Folder(finished).config()["settings"]["data"] == "elsewhere"
    finally:
        path.write_text(before)


@pytest.mark.parametrize("content", ["{}", '{"metrics": {}}', '{"seeds": [0], "metrics": {}}'])
def test_results_that_lack_something_are_damaged(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(RunError, match=r"results\.json is damaged .it lacks"):
        run_folder.Folder(tmp_path).results()


def test_a_row_of_the_log_that_lacks_its_time_is_unreadable(tmp_path):
    row = {"epoch": 1, "seconds": 0.5, "examples_per_second": 10.0, "train": {"loss": [1.0]}}
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + '\n{"epoch": 2}\n{"epoch": 3, "seconds": "x"}\n')
    assert run_folder.Folder(tmp_path).read_log() == ([row], 2)
