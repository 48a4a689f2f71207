"""Going on: a run of more epochs, and one from another run's params."""

import json
import shutil

import jax
import numpy as np
import optax
import pytest
from test_cli import without_report

import ae_jax
from ae_jax import algorithms, core, data, networks, training
from ae_jax.app import cli
from ae_jax.app.commands import measuring, runs
from ae_jax.errors import RunError
from ae_jax.evaluation import clustering
from ae_jax.training import provenance, run_folder, settings, step
from ae_jax.training.settings import OptimizerSettings, optimizer


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A file of 40 examples of 4 numbers with labels."""
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("points") / "x.npz"
    np.savez(file, x=rng.random((40, 4)).astype(np.float32), y=rng.permutation(np.arange(40) % 3))
    return file


NOTHING = {"seeds": [0], "metrics": {}, "parameters": 0, "seconds": 0.0, "examples_per_second": 0.0, "device": ""}


def train_alone(patch):
    """Runs are neither measured nor reported, which takes longer than they do."""
    without_report(patch)
    patch.setattr(measuring, "measure", lambda *args: dict(NOTHING))
    patch.setattr(measuring, "diagnose", lambda *args: [])


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    train_alone(monkeypatch)


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
    older = config(tmp_path / "parts")
    del older["settings"]["examples"], older["seal"]
    run_folder.write_sealed(tmp_path / "parts" / "config.json", older)
    train("vae", points, tmp_path / "parts", "--epochs", 5, "--seeds", 2)
    train("vae", points, tmp_path / "whole", "--epochs", 5, "--seeds", 2)
    same_bits(tmp_path / "parts", tmp_path / "whole")
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
    opened = ae_jax.load_run(where)  # has the schedule of the run, which depends on the number of its examples
    data = opened.data.train
    last = -(-len(data.x) // 8) - 1
    again = step(opened.algorithm, 0, 3, last, data, batch_size=8)
    jax.tree.map(np.testing.assert_array_equal, again.params, params)


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


# --------------------------------------------------------------------------------------- from another run's params

STILL = ["--optimizer", "sgd", "--lr", 1e-30, "--epochs", 1]  # only zeros change by such a step


def equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-25), one, other)


@pytest.fixture(scope="module")
def source(points, tmp_path_factory):
    """A plain autoencoder of two seeds."""
    where = tmp_path_factory.mktemp("source") / "run"
    with pytest.MonkeyPatch.context() as patch:
        train_alone(patch)
        train("autoencoder", points, where, "--epochs", 2, "--seeds", 2)
    return where


def test_a_run_starts_from_another_runs_params_seed_by_seed(points, source, tmp_path):
    there, where = ae_jax.load_run(source), tmp_path / "run"
    train("autoencoder", points, where, *STILL, "--seeds", 2, "--from", source)
    here = ae_jax.load_run(where)
    for seed in (0, 1):
        equal(here.of(seed), there.of(seed))
    record = config(where)["settings"]["start_from"]
    assert record == {
        "run": str(source), "groups": [], "seed": None, "seeds": [0, 1], "epoch": 2,
        "checksum": provenance.checksum(there.trained.params),
    }  # fmt: skip
    train("autoencoder", points, where, *STILL, "--seeds", 2, "--from", source)  # is finished, by the same command
    with pytest.raises(RunError, match=r"other settings:\n  start_from\.groups"):
        train("autoencoder", points, where, *STILL, "--seeds", 2, "--from", f"{source}:decoder")
    train(
        "autoencoder", points, tmp_path / "part", *STILL, "--seeds", 2, "--from", f"{source}:decoder", "--from-seed", 1
    )
    part, fresh = ae_jax.load_run(tmp_path / "part"), build_init(tmp_path / "part")
    for seed in (0, 1):
        equal(part.of(seed)["decoder"], there.of(1)["decoder"])
        equal(part.of(seed)["encoder"], fresh(seed)["encoder"])


def build_init(where):
    """The params that a run's seed would begin with, without another run."""
    opened = runs.open_run(where)
    start = lambda seed: opened.algorithm.init(core.address(jax.random.key(seed), "init"), runs.load_own(opened).train)
    return jax.jit(start, static_argnums=0)


def test_dec_begins_at_the_clusters_of_another_runs_codes(points, source, tmp_path):
    train("dec", points, tmp_path / "dec", *STILL, "--clusters", 3, "--from", source, "--from-seed", 1)
    run = ae_jax.load_run(tmp_path / "dec")
    assert run.settings["hyper"]["pretrain_epochs"] == 0
    given = ae_jax.load_run(source).of(1)
    equal(run.params["encoder"], given["encoder"])
    for epoch, changed, told in (
        (0, run.data.train, "began with params"),
        (1, run.data.test, "the data are not those"),
    ):
        with pytest.raises(RunError, match=told):
            training.step(run.algorithm, 0, epoch, 0, changed, batch_size=8, since=run.folder)
    codes = run.algorithm.encode(given, run.data.train.x)
    key = jax.random.split(core.address(jax.random.key(0), "init"))[1]
    np.testing.assert_allclose(run.params["centres"], clustering.kmeans(key, codes, 3).centres, rtol=1e-5)
    assert run.algorithm.encode(run.params, run.data.train.x).shape == (32, 2)
    with pytest.raises(ValueError, match="pretrain_epochs=3 has no effect with --from"):
        train("classifier", points, tmp_path / "c", *STILL, "--from", source, "--from-seed", 1, "--pretrain-epochs", 3)
    with pytest.raises(RunError, match=r"encoder/layer_1/bias is \[2\] there and \[4\] here\. Give the same network"):
        train("vade", points, tmp_path / "v", *STILL, "--from", source, "--from-seed", 1)
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "v").exists()


def test_members_of_stages_begin_after_them_on_a_trained_network():
    """In Python: vade's clusters are a mixture of the given encoder's codes, and the classifier keeps the encoder."""
    data, key = core.Batch(jax.random.uniform(jax.random.key(1), (30, 4)), np.arange(30) % 3), jax.random.key(0)
    net = networks.mlp((4,), 2, hidden=(5,), heads=2)
    given = jax.tree.map(lambda a: a + 0.5, net.init(jax.random.key(7), data))
    begun = networks.trained(net, given)
    member = algorithms.vade(begun, optax.sgd(0.1), clusters=3)
    params = member.init(key, data)
    equal({group: params[group] for group in given}, given)
    mixture = clustering.gaussian_mixture(core.address(key, "clusters"), member.encode(given, data.x), 3)
    for name, value in mixture.items():
        np.testing.assert_allclose(params["mixture"][name], value, rtol=1e-4, atol=1e-5)
    one = networks.trained(networks.mlp((4,), 2, hidden=(5,)), {"encoder": 0})
    assert one.trained
    assert not networks.trained(net, {"decoder": 0}).trained
    begins = algorithms.classifier(one, optax.sgd(0.1), classes=3, pretrain_epochs=5).init(key, data)
    assert begins["encoder"] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--from", "{source}", "--latents", 3], r"do not fit this run: decoder/.* there and .* here"),
        (["--from", "{source}:head"], "has no group 'head' of params; it has decoder, encoder"),
        (["--from", "{source}:encoder,"], "names no run or an empty group"),
        (["--from", "{source}", "--seed", 5], r"has no seed 5 to start from; it has the seeds \[0, 1\]"),
        (["--from", "{source}/lost"], "is not a run of ae-jax: it does not exist"),
        (["--from-seed", 1], "--from-seed 1 has no effect without --from RUN"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_anything_is_written(points, source, tmp_path, options, told):
    given = [str(option).replace("{source}", str(source)) for option in options]
    with pytest.raises((RunError, ValueError), match=told):
        train("autoencoder", points, tmp_path / "run", *STILL, *given)
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_needs_its_origin_no_more(points, source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    given = ["--seeds", 2, "--from", tmp_path / "source", "--optimizer", "sgd"]
    train("autoencoder", points, tmp_path / "run", *given, "--epochs", 1)
    train("autoencoder", points, tmp_path / "source", "--epochs", 3, "--seeds", 2)  # goes on, and is another origin
    again = ["train", "--config", str(tmp_path / "run" / "config.json"), "--quiet", "--workdir"]
    with pytest.raises(RunError, match="has changed since params of its epoch 2 were recorded to start from"):
        cli.dispatch([*again, str(tmp_path / "again")])
    train("autoencoder", points, tmp_path / "run", *given, "--epochs", 2)
    assert config(tmp_path / "run")["settings"]["start_from"]["epoch"] == 2
    shutil.rmtree(tmp_path / "source")
    train("autoencoder", points, tmp_path / "run", *given, "--epochs", 3)
    assert runs.open_run(tmp_path / "run").epoch == 3
