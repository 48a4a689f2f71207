"""A run's folder: what it accepts, what it refuses, and its messages about damage."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import autoencoder, data, evaluation, networks
from ae_jax.app.commands import loading, measuring, reporting, runs, training
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.training import arguments, compiled, loop, provenance, run_folder
from ae_jax.training.settings import OptimizerSettings, Settings, build
from ae_jax.xla import cache

DATA = Batch(jnp.asarray(np.random.default_rng(0).random((20, 4)), jnp.float32))


def go(folder, epochs=4, **options):
    algorithm = autoencoder(networks.linear((4,), 2), optax.sgd(0.1))
    return loop.train(algorithm, DATA, epochs=epochs, batch_size=20, folder=folder, progress=False, **options)


# -------------------------------------------------------------------------------------- whose folder it is


def test_with_no_checkpoint_there_is_nothing_to_protect(tmp_path, capsys):
    folder = run_folder.Folder(tmp_path / "run")
    with folder.opened({"lr": 1e30}):
        (folder.path / "log.jsonl").write_text('{"epoch": 1}\n')
    with folder.opened({"lr": 0.1}):
        go(folder, 2)
    assert "no checkpoint" in (said := capsys.readouterr().err)
    assert "lr: 1e+30 there, 0.1 now" in said
    assert folder.config()["settings"] == {"lr": 0.1}
    assert [row["epoch"] for row in folder.log()] == [1, 2]
    with pytest.raises(RunError, match=r"lr: 0\.1 there, 0\.2 now"), folder.opened({"lr": 0.2}):
        pass
    shutil.rmtree(folder.path / "checkpoints")
    (folder.path / "damaged-checkpoint-2").mkdir()  # learned once, and perhaps to be had back
    with pytest.raises(RunError, match="other settings"), folder.opened({"lr": 0.2}):
        pass


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "[]", '{"settings": 3}', "3", '"x"', "null"])
def test_another_programs_config_is_refused_and_nothing_is_written(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    for use in (lambda: run_folder.Folder(tmp_path).opened({}).__enter__(), run_folder.Folder(tmp_path).params):
        with pytest.raises(RunError, match=r"not a run of ae-jax.*another program's"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.parametrize("content", [b'{"settings": {', b"\xff\xfe\x00", b""])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        run_folder.Folder(tmp_path).config()


@pytest.mark.parametrize("content", [b'{"seeds": [', b"[]", b"\xff", b""])
def test_a_cut_results_file_is_named_with_what_to_do(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(RunError, match=r"results\.json is damaged.*Start the training command again"):
        run_folder.Folder(tmp_path).results()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said_in_a_line(tmp_path, monkeypatch, capsys, number):
    def none(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    folder = run_folder.Folder(tmp_path / "run")
    with folder.opened({}):
        go(folder, 1)
    said = capsys.readouterr().err.strip().split("\n")
    assert len(said) == 1
    assert f"{folder.path} cannot be locked ({os.strerror(number)})" in said[0]


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def refusing(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refusing)
    with pytest.raises(RunError, match=r"run cannot be written to \(Read-only file system\).*--workdir"):
        run_folder.Folder(tmp_path / "run").opened({}).__enter__()


# ---------------------------------------------------------------------------------------------------- log


def test_a_bad_line_of_the_log_costs_that_line_alone(tmp_path, capsys):
    folder = run_folder.Folder(tmp_path / "run")
    with folder.opened({}):
        go(folder, 5)
    log = folder.path / "log.jsonl"
    lines = log.read_bytes().split(b"\n")
    lines[2:3] = [b'"epoch": 3}', b"\xff\xfe", b"[]", b'{"epoch": null}', b"\x00" * 40]
    log.write_bytes(b"\n".join(lines))
    assert [row["epoch"] for row in folder.log()] == [1, 2, 4, 5]
    with folder.opened({}):
        go(folder, 7)
    assert "5 lines could not be read" in capsys.readouterr().err
    assert [row["epoch"] for row in folder.log()] == [1, 2, 4, 5, 6, 7]
    with folder.opened({}):
        go(folder, 7)
    assert "could not be read" not in capsys.readouterr().err


def test_a_log_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(RunError, match=r"log\.jsonl cannot be written to \(Is a directory\).*last checkpoint"):
        run_folder.append(tmp_path / "log.jsonl", "{}\n")


# -------------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize("seeds", [(0, 2**32), (2**32,), (2**63,), (2**70,), (-1,)])
def test_seeds_that_jax_would_wrap_are_refused(seeds):
    with pytest.raises(ValueError, match=r"seeds are \["):
        go(None, seeds=seeds)


def test_the_largest_seed_is_a_seed():
    arguments.check_seeds((0, 2**32 - 1))
    different = [jax.random.key_data(jax.random.key(s)).tolist() for s in (0, 2**32 - 1)]
    assert different[0] != different[1]


# ------------------------------------------------------------------------------------- circumstances: git


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package's place in somebody's repository, made with git."""

    def place(at, tracked):
        here = tmp_path / at
        here.mkdir(parents=True)
        (here / "provenance.py").write_text("")
        (tmp_path / "other.py").write_text("")
        identity = ("-c", "user.name=me", "-c", "user.email=me@here")
        added = "." if tracked else "other.py"
        for command in (["init", "-q"], ["add", added], [*identity, "commit", "-qm", "all"]):
            subprocess.run(["git", *command], cwd=tmp_path, check=True)
        monkeypatch.setattr(provenance, "__file__", str(here / "provenance.py"))

    return place


@pytest.mark.parametrize(
    ("at", "tracked", "own"),
    [
        ("ae_jax/training", True, True),
        ("ae_jax/training", False, False),
        ("venv/lib/site-packages/ae_jax/training", False, False),
        ("venv/lib/site-packages/ae_jax/training", True, False),
    ],
)
def test_only_the_packages_own_commit_is_recorded(installed, at, tracked, own):
    installed(at, tracked)
    assert (provenance.commit() is not None) == own


def test_the_repository_of_a_hook_is_not_the_packages(installed, tmp_path, monkeypatch):
    installed("ae_jax/training", True)
    before = provenance.commit()
    subprocess.run(["git", "init", "-q", "other"], cwd=tmp_path, check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert provenance.commit() == before is not None


@pytest.mark.parametrize("what", ["no git", "one that may not be run"])
def test_without_git_there_is_no_commit(tmp_path, monkeypatch, what):
    if what != "no git":
        (tmp_path / "git").write_text("")
        (tmp_path / "git").chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.circumstances()["commit"] is None


# -------------------------------------------------------------------------------------------------- caches


@pytest.fixture
def config(monkeypatch):
    """The settings that JAX is given."""
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return told


def test_without_a_home_nothing_is_cached_and_one_line_says_so(monkeypatch, capsys, config):
    import pwd

    def nobody(_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    cache.cache_compilations()
    assert config == {"jax_enable_compilation_cache": False}
    assert len(capsys.readouterr().err.strip().split("\n")) == 1


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"])
def test_a_cache_that_cannot_be_made_costs_one_line(tmp_path, monkeypatch, capsys, config, name):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(name, str(tmp_path / "file" / "below"))
    cache.cache_compilations()
    assert config == {"jax_enable_compilation_cache": False}
    assert "Not a directory" in capsys.readouterr().err


def test_a_cache_is_made_where_it_can_be(tmp_path, monkeypatch, capsys, config):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.cache_compilations()
    assert Path(config["jax_compilation_cache_dir"]).is_relative_to(tmp_path / "ae_jax")
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------------------- the training command

SETTINGS = dict(
    algorithm="vae", network="mlp", data="digits", latents=2, epochs=3, batch_size=64, seeds=(4, 1, 6),
    network_options={"hidden": (4,)},
)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "options", "match"),
    [
        ({}, {"keep": 0}, "keep is 0"),
        ({}, {"keep": -3}, "keep is -3"),
        ({}, {"every_epochs": 0}, "every_epochs is 0"),
        ({}, {"every_minutes": float("nan")}, "every_minutes nan"),
        ({}, {"samples": 0}, "likelihood-samples is 0"),
        ({"seeds": (2**32,)}, {}, "below 2"),
        ({"best": "kl", "validation": 0.2}, {}, "a metric without a better direction"),
        ({"best": "accuracy"}, {}, "this run measures"),
        ({"patience": 3}, {}, "needs held-out data"),
        ({"patience": 0, "validation": 0.2}, {}, "patience is 0"),
        ({"hyper": {"nonsense": 1}}, {}, "has no nonsense"),
        ({"noise": "low_resolution", "noise_level": 100}, {}, "cannot be shrunk 100 times"),
        ({"algorithm": "adversarial_style", "data": "photos", "latents": 4}, {}, "these data have none"),
        ({"algorithm": "dec", "hyper": {"clusters": 2000, "pretrain_epochs": 1}}, {}, "2000 clusters of 1437"),
        ({"optimizer": OptimizerSettings(momentum=0.5)}, {}, "momentum=0.5 has no effect with name='adam'"),
        ({"hyper": {"free_bits": 0.5, "beta": 0.0}}, {}, "free_bits=0.5 has no effect with beta=0.0"),
        (
            {"network_options": {"hidden": (), "activation": "tanh"}},
            {},
            "activation='tanh' has no effect",
        ),
        ({"noise_level": 0.5}, {}, "noise_level=0.5 has no effect with noise=None"),
        ({"noise": "grey"}, {}, "digits has none: take another corruption"),
        ({"algorithm": "autoencoder"}, {"samples": 100}, "likelihood_samples=100 has no effect: autoencoder has no"),
        ({"optimizer": OptimizerSettings(warmup_epochs=0.01)}, {}, "warmup_epochs=0.01 is no update of the run"),
        ({"validation": 1.5}, {}, "validation=1.5 is not a fraction of the training set: give at least 0"),
        ({"validation": 0.0005}, {}, "validation=0.0005 would hold out less than 1 of 1437 examples"),
        ({"validation": 0.9999}, {}, "validation=0.9999 would leave to train on less than 1 of 1437"),
    ],
)
def test_what_can_be_found_wrong_early_is_found_before_anything_is_written(tmp_path, settings, options, match):
    with pytest.raises((ValueError, RunError), match=match):
        training.train(Settings(**SETTINGS | settings), tmp_path / "run", quiet=True, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def partly(tmp_path):
    """A finished run of three seeds, the first of which failed in epoch 2; made by hand, and never trained."""
    settings = Settings(**SETTINGS | {"best": "elbo", "validation": 0.2})
    algorithm = build(settings, (8, 8, 1), 100)
    start = Batch(jnp.zeros((2, 8, 8, 1)))
    params = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(algorithm.init(jax.random.key(s), start) for s in settings.seeds)
    )
    fields = {"params": params, "memory": (), "best": params, "best_value": -jnp.ones(3)}
    fields |= {"best_epoch": jnp.array([1, 2, 3]), "active": jnp.array([False, True, True])}
    folder = run_folder.Folder(tmp_path / "run")
    content = {"shape": (8, 8, 1), "validated": True, "data_checksum": 0}
    with folder.opened(settings.to_json() | content):
        folder.save(3, compiled.State(**fields, failed=jnp.array([2, 0, 0])))
    part = lambda e: {"loss": [None if e > 1 else 9.0, 2.0, 3.0]}
    rows = [{"epoch": e, "seconds": 1.0, "examples_per_second": 5.0, "train": part(e)} for e in (1, 2, 3)]
    (folder.path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, algorithm


def test_a_failed_seed_is_refused_by_name_and_another_is_the_first(partly, capsys):
    folder, _ = partly
    opened = runs.open_run(folder.path)
    assert opened.seed == 1
    assert "seed 4 failed in epoch 2" in capsys.readouterr().err
    assert runs.open_run(folder.path, 6).seed == 6
    with pytest.raises(RunError, match=r"seed 4 failed in epoch 2 .*choose one of \[1, 6\]"):
        runs.open_run(folder.path, 4)


def test_a_run_that_has_saved_its_start_alone_says_so(partly, capsys):
    folder, _ = partly
    state = folder.params()[1]
    shutil.rmtree(folder.path / "checkpoints" / "3")
    folder.save(0, state._replace(failed=0 * state.failed))
    assert runs.open_run(folder.path).epoch == 0
    assert "has not ended its first epoch" in capsys.readouterr().err


def test_results_say_which_seeds_their_means_are_over(partly, monkeypatch):
    folder, algorithm = partly
    monkeypatch.setattr(evaluation, "all_metrics", lambda *_, **__: lambda params, key: {"test elbo": -5.0})
    few = Batch(np.zeros((2, 8, 8, 1), np.float32))
    trained = runs.open_run(folder.path).trained
    results = measuring.measure(
        algorithm, trained, loading.Splits(data.Dataset("few", few, few, "here"), few, None, few), 1, lambda *_: None
    )
    assert results["seeds"] == [1, 6]
    assert results["failed"] == {"4": 2}
    assert results["best_epoch"] == [2, 3]  # not the newest, of either
    assert results["metrics"]["test elbo"]["n"] == len(results["metrics"]["test elbo"]["values"]) == 2
    last = measuring.table(results).split("\n")[-1]
    assert last.startswith("2 seeds (seed 4 failed in epoch 2), ")
    shown = reporting.of_seeds(folder.log(), [4, 1, 6], results["seeds"])
    assert [row["train"]["loss"] for row in shown] == [[2.0, 3.0]] * 3


def test_a_finished_run_whose_checkpoint_is_damaged_is_not_taken_for_whole(partly):
    folder, _ = partly
    assert folder.whole()
    path = folder.path / "checkpoints" / "3" / "meta.json"
    path.write_bytes(path.read_bytes()[:-30])
    assert not folder.whole()
    os.replace(folder.path / "checkpoints" / "3", folder.path / "damaged-checkpoint-3")
    assert not folder.whole()


def test_what_messages_advise_arrives(tmp_path, monkeypatch, capsys):
    """A finished run, of which something is damaged or gone, is made whole by its own command."""
    drawn = []
    monkeypatch.setattr(reporting, "decorate", lambda folder, *_: drawn.append((folder.path / "report.html").touch()))
    digits = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", digits)
    settings = Settings(**SETTINGS | {"algorithm": "autoencoder", "data": str(tmp_path / "x.npy"), "seeds": (0,)})
    where, told = tmp_path / "run", []

    def go():
        results = training.train(settings, where, every_epochs=1, quiet=True)
        told.append(capsys.readouterr().err)
        return results["metrics"]

    right = go()
    assert json.loads((where / "results.json").read_text())["metrics"] == right
    assert (go(), len(drawn)) == (right, 1)
    assert told[-1] == ""

    path = where / "checkpoints" / "3" / "meta.json"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RunError, match="Start the training command again"):
        runs.open_run(where)
    assert go() == right
    assert "its last checkpoint is damaged" in told[-1]
    assert runs.open_run(where).epoch == 3

    (where / "results.json").write_bytes((where / "results.json").read_bytes()[:50])
    with pytest.raises(RunError, match=r"results\.json.*Start the training command again"):
        run_folder.Folder(where).results()
    assert go() == right
    assert go() == right
    assert told[-1] == ""

    (where / "report.html").unlink()
    trained = [path.stat().st_mtime_ns for path in (where / "checkpoints").iterdir()]
    assert go() == right
    assert (where / "report.html").exists()
    assert [path.stat().st_mtime_ns for path in (where / "checkpoints").iterdir()] == trained


def test_a_run_that_begins_at_the_same_moment_is_not_taken_for_a_strange_folder(tmp_path, monkeypatch):
    """Its config.json appears between two looks at the folder."""
    where = tmp_path / "run"
    where.mkdir()
    with run_folder.Folder(tmp_path / "other").opened({"a": 1}):
        content = (tmp_path / "other" / "config.json").read_bytes()
    listed = type(where).iterdir

    def appears(path):
        (where / "config.json").write_bytes(content)
        return listed(path)

    monkeypatch.setattr(type(where), "iterdir", appears)
    with run_folder.Folder(where).opened({"a": 1}):
        pass
