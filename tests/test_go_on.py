"""Going on: a run of more epochs, and one from another run's params."""

import json
import shutil

import jax
import numpy as np
import pytest
from test_cli import without_report

import ae_jax
from ae_jax import data
from ae_jax.app import cli
from ae_jax.app.commands import runs
from ae_jax.errors import RunError
from ae_jax.training import run_folder, settings
from ae_jax.training.settings import OptimizerSettings, optimizer


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A file of 40 examples of 4 numbers with labels."""
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("points") / "x.npz"
    np.savez(file, x=rng.random((40, 4)).astype(np.float32), y=rng.permutation(np.arange(40) % 3))
    return file


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    without_report(monkeypatch)


def train(name, points, where, *options):
    small = ["--net-hidden", "5", "--latents", "2", "--batch-size", "8", "--quiet"]
    cli.dispatch(["train", name, "--data", str(points), "--workdir", str(where), *small, *map(str, options)])


def config(where):
    return json.loads((where / "config.json").read_text())


def same_bits(one, other):
    state = lambda where: run_folder.Folder(where).params()[1]
    jax.tree.map(np.testing.assert_array_equal, state(one), state(other))
    rows = lambda where: [row["train"] for row in run_folder.Folder(where).log()]
    assert rows(one) == rows(other)


def test_a_finished_run_goes_on_to_the_bits_of_an_unbroken_one(points, tmp_path):
    train("vae", points, tmp_path / "parts", "--epochs", 2, "--seeds", 2)
    train("vae", points, tmp_path / "parts", "--epochs", 5, "--seeds", 2)
    train("vae", points, tmp_path / "whole", "--epochs", 5, "--seeds", 2)
    same_bits(tmp_path / "parts", tmp_path / "whole")
    results = lambda where: json.loads((where / "results.json").read_text())["metrics"]
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    kept = config(tmp_path / "parts")
    assert kept["lengths"] == [{"epochs": 2, "reached": 2}]
    assert kept["settings"]["epochs"] == 5
    assert (tmp_path / "parts" / "results-2.json").exists()
    assert runs.open_run(tmp_path / "parts").epoch == 5
    before = kept, run_folder.Folder(tmp_path / "parts").log()
    with pytest.raises(RunError, match=r"has done 5 epochs of 5, and epochs=3 asks for fewer: give epochs=5"):
        train("vae", points, tmp_path / "parts", "--epochs", 3, "--seeds", 2)
    with pytest.raises(RunError, match=r"holds a run with other settings:\n  optimizer.lr: 0.001 there, 0.01 now"):
        train("vae", points, tmp_path / "parts", "--epochs", 9, "--seeds", 2, "--lr", 0.01)
    with pytest.raises(ValueError, match=r"restart_schedule=True has no effect: the learning rate is constant"):
        train("vae", points, tmp_path / "parts", "--epochs", 9, "--seeds", 2, "--restart-schedule")
    assert (config(tmp_path / "parts"), run_folder.Folder(tmp_path / "parts").log()) == before


def test_a_schedule_of_another_length_is_refused_and_restarts_where_asked(points, tmp_path):
    falling, where = ["--schedule", "cosine", "--optimizer", "sgd"], tmp_path / "run"
    with pytest.raises(ValueError, match=r"restart_schedule=True has no effect: .* holds no run to go on"):
        train("autoencoder", points, where, *falling, "--epochs", 2, "--restart-schedule")
    train("autoencoder", points, where, *falling, "--epochs", 2)
    before = config(where)
    with pytest.raises(RunError, match=r"2 epochs, and with schedule=cosine its .*give --restart-schedule .* epoch 2"):
        train("autoencoder", points, where, *falling, "--epochs", 4)
    assert config(where) == before
    train("autoencoder", points, where, *falling, "--epochs", 4, "--restart-schedule")
    assert config(where)["settings"]["restarts"] == [[2, 2]]
    params = runs.open_run(where).params
    for given in ([], ["--restart-schedule"]):  # the same command again, and without the flag
        train("autoencoder", points, where, *falling, "--epochs", 4, *given)
    jax.tree.map(np.testing.assert_array_equal, runs.open_run(where).params, params)


def test_a_schedule_begins_anew_after_the_epochs_of_its_restarts():
    chosen = OptimizerSettings(name="sgd", lr=1.0, momentum=0.0, schedule="linear", warmup_epochs=0.5)

    def rates(epochs, *restarts):
        update = optimizer(chosen, epochs, 4, restarts)
        state, found = update.init({"w": np.zeros(1)}), []
        for _ in range(4 * epochs):
            step, state = update.update({"w": np.ones(1)}, state)
            found.append(-float(step["w"][0]))
        return found

    stopped, rest = rates(3), rates(2)
    np.testing.assert_allclose(rates(3, (1, 3)), stopped[:4] + rest, rtol=1e-6)  # a run of 3 epochs, stopped after 1
    np.testing.assert_allclose(rates(6, (1, 3), (3, 3)), stopped[:4] + rest + stopped, rtol=1e-6)


@pytest.mark.parametrize(
    ("chosen", "lengths", "told"),
    [
        ({}, (2, 4), ""),
        ({"warmup_epochs": 1.0}, (2, 4), ""),
        ({"warmup_epochs": 1.9}, (2, 4), "warmup_epochs=1.9"),  # a run of 2 epochs ends the warm-up an update earlier
        ({"schedule": "exponential"}, (2, 4), "schedule=exponential"),
    ],
)
def test_what_of_a_learning_rate_depends_on_the_length(chosen, lengths, told):
    assert settings.of_length(OptimizerSettings(**chosen), lengths, 4) == told


# --------------------------------------------------------------------------------------------- data that moved


def test_data_that_have_moved_are_named_anew(points, tmp_path, monkeypatch, capsys):
    (place := tmp_path / "here").mkdir()
    shutil.copy(points, place / "x.npz")
    monkeypatch.chdir(tmp_path)
    where, small = tmp_path / "run", ["--epochs", 1]
    train("autoencoder", "here/x.npz", where, *small)
    assert config(where)["settings"]["data"] == str(place / "x.npz")
    monkeypatch.chdir(place)  # the place is known from everywhere
    assert len(runs.load_own(runs.open_run(where)).train.x)
    monkeypatch.chdir(tmp_path)
    place.rename(tmp_path / "there")
    told = r"were in .*here/x\.npz, and nothing is there now: .* report and project take --data PLACE"
    for command in (["evaluate", where, "--quiet"], ["report", where], ["project", where, tmp_path / "projector"]):
        with pytest.raises(RunError, match=told):
            cli.dispatch(list(map(str, command)))
    with pytest.raises(data.DataError, match=r"here/x\.npz.* learned from it: if it has moved, give its new place by"):
        train("autoencoder", "here/x.npz", where, *small)
    cli.dispatch(["project", str(where), str(tmp_path / "projector"), "--data", "there/x.npz"])
    assert len(ae_jax.load_run(where, data="there/x.npz").data.train.x)
    np.savez(tmp_path / "other.npz", x=np.ones((40, 4), np.float32))
    with pytest.raises(RunError, match="other settings:\n  data: "):
        train("autoencoder", "other.npz", where, *small)
    with pytest.raises(RunError, match="changed since this run was trained"):
        cli.dispatch(["project", str(where), str(tmp_path / "projector"), "--data", "other.npz"])
    capsys.readouterr()
    train("autoencoder", "there/x.npz", where, *small)
    assert f"read from {tmp_path / 'there' / 'x.npz'} from now on" in capsys.readouterr().err
    assert len(runs.load_own(runs.open_run(where)).train.x)
    older = config(where)
    older["settings"]["data"] = "there/x.npz"  # as older versions recorded it
    del older["seal"]
    (where / "config.json").write_text(json.dumps(older))
    train("autoencoder", "there/x.npz", where, *small)
    assert config(where)["settings"]["data"] == str(tmp_path / "there" / "x.npz")
    assert capsys.readouterr().err == ""
