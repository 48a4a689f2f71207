"""Runs as folders: the same bits however a run is cut up, and nothing good lost when something goes wrong."""

import json
import os
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import same_bits

from ae_jax import networks
from ae_jax.algorithms import autoencoder, sparse, vae
from ae_jax.core import Batch, epoch, fit
from ae_jax.errors import RunError
from ae_jax.training import compiled, loop, provenance, run_folder, signals

X = jnp.asarray(np.random.default_rng(0).random((90, 6)), jnp.float32)
DATA = Batch(X)


def algorithm(hidden=(8,), dropout=0.1):
    net = networks.mlp((6,), 2, hidden=hidden, heads=2, dropout=dropout)
    return vae(net, optax.adam(1e-2), warmup_steps=10)


@pytest.mark.optimised  # the bits of several programs, compiled as a user's are
def test_a_seed_gives_the_same_bits_alone_in_a_sweep_and_in_fit():
    sweep = loop.train(algorithm(), DATA, epochs=3, batch_size=32, seeds=(0, 3, 5), progress=False)
    alone = loop.train(algorithm(), DATA, epochs=3, batch_size=32, seeds=(3,), progress=False)
    a = algorithm()
    params, history = jax.jit(lambda data, key: fit(a.init, epoch(a, 32), data, key, 3))(DATA, jax.random.key(3))
    assert same_bits(sweep.of(3), alone.of(3))
    assert same_bits(params, alone.of(3))
    assert not same_bits(sweep.of(0), sweep.of(5))
    assert [row["train"]["loss"][0] for row in alone.history] == [float(v) for v in history["loss"]]


def test_stopping_and_going_on_gives_the_bits_of_an_unbroken_run(tmp_path):
    def go(where, epochs_before_stop):
        folder = run_folder.Folder(tmp_path / where)
        if epochs_before_stop:
            with pytest.raises(signals.Interrupted), folder.opened({"a": 1}):
                stop_after(folder, epochs_before_stop)
        with folder.opened({"a": 1}):
            return loop.train(
                algorithm(), DATA, epochs=6, batch_size=32, seeds=(0, 1), folder=folder, every_epochs=2, progress=False
            )

    def stop_after(folder, e):
        save = folder.save

        def then_interrupt(now, state):
            save(now, state)
            if now == e:
                os.kill(os.getpid(), signal.SIGTERM)

        folder.save = then_interrupt
        try:
            loop.train(
                algorithm(), DATA, epochs=6, batch_size=32, seeds=(0, 1), folder=folder, every_epochs=2, progress=False
            )
        finally:
            del folder.save

    unbroken, broken = go("unbroken", 0), go("broken", 2)
    assert same_bits(unbroken.params, broken.params)
    strip = lambda rows: [{k: v for k, v in r.items() if k in ("epoch", "train")} for r in rows]
    assert strip(unbroken.history) == strip(broken.history)
    assert strip(run_folder.Folder(tmp_path / "broken").log()) == strip(unbroken.history)


def test_a_conflict_of_settings_is_told_in_a_few_words(tmp_path):
    folder = run_folder.Folder(tmp_path / "run")
    words = [f"word{i}" for i in range(2000)]
    with folder.opened({"lr": 0.1, "vocabulary": words}, keep=1):
        (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)  # something was learned
    with (
        pytest.raises(RunError, match=r"lr: 0\.1 there, 0\.2 now") as told,
        folder.opened({"lr": 0.2, "vocabulary": words[1:]}, keep=1),
    ):
        pass
    assert "(2000 long) there" in str(told.value)
    assert "(1999 long) now" in str(told.value)
    assert len(str(told.value)) < 600


def test_a_damaged_checkpoint_is_moved_aside_and_its_epochs_run_again(tmp_path, capsys):
    def go(where, epochs):
        folder = run_folder.Folder(tmp_path / where)
        with folder.opened({}):
            few = Batch(X[:20])
            return loop.train(
                algorithm(), DATA, epochs=epochs, validation=few, folder=folder, every_epochs=2, progress=False
            )

    unbroken = go("whole", 6)
    assert same_bits(unbroken.params, run_folder.Folder(tmp_path / "whole").params()[1].best)
    go("damaged", 4)
    for path in (tmp_path / "damaged" / "checkpoints" / "4").rglob("*"):
        if path.is_file() and path.stat().st_size > 0:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RunError, match="damaged"):
        run_folder.Folder(tmp_path / "damaged").params()
    again = go("damaged", 6)
    assert same_bits(unbroken.params, again.params)
    assert "epoch 4 is damaged" in capsys.readouterr().err
    assert (tmp_path / "damaged" / "damaged-checkpoint-4").is_dir()


def test_a_flipped_bit_is_found_by_the_checksum():
    tree = {"a": jnp.arange(3.0), "b": (jnp.ones(2), jnp.zeros((), jnp.int32))}
    other = {**tree, "a": tree["a"].at[1].set(jnp.nextafter(1.0, 2.0))}
    assert (
        provenance.checksum(tree) == provenance.checksum(jax.tree.map(np.asarray, tree)) != provenance.checksum(other)
    )


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path):
    # A learning rate that explodes after 4 steps of good epochs: 3 batches an epoch.
    rate = optax.join_schedules([optax.constant_schedule(1e-3), optax.constant_schedule(1e30)], [7])
    net = networks.mlp((6,), 2, hidden=(8,))
    folder = run_folder.Folder(tmp_path / "r")
    with folder.opened({}), pytest.raises(RunError, match=r"epoch 3 .* seed 0, 1 .* epoch 2.*learning rate"):
        loop.train(
            autoencoder(net, optax.sgd(rate)),
            DATA,
            epochs=9,
            batch_size=32,
            seeds=(0, 1),
            folder=folder,
            every_epochs=1,
            progress=False,
        )
    e, state = folder.params()
    assert e == 2
    assert state.best == {}  # no validation set chooses
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert [row["epoch"] for row in folder.log()] == [1, 2, 3]  # the last without numbers


@pytest.mark.optimised
def test_early_stopping_stops_each_seed_by_itself_and_keeps_its_best():
    held_out = Batch(jnp.asarray(np.random.default_rng(1).random((40, 6)), jnp.float32))
    settings = dict(epochs=200, batch_size=16, validation=held_out, patience=4, progress=False)
    small = algorithm(hidden=(), dropout=0.0)
    both = loop.train(small, DATA, seeds=(0, 1), **settings)
    losses = np.array([[np.nan if v is None else v for v in r["validation"]["loss"]] for r in both.history])
    for i, seed in enumerate((0, 1)):
        mine = losses[:, i][~np.isnan(losses[:, i])]
        assert both.best_epoch[i] == np.argmin(mine) + 1  # the first best
        assert len(mine) == min(200, both.best_epoch[i] + 4)  # and exactly `patience` epochs after it
        alone = loop.train(small, DATA, seeds=(seed,), **settings)
        assert same_bits(alone.of(seed), both.of(seed))
    to_best = loop.train(small, DATA, seeds=(1,), **(settings | {"epochs": both.best_epoch[1], "patience": None}))
    assert same_bits(to_best.of(1), both.of(1))


def test_folders_refuse_what_would_mix_runs(tmp_path):
    folder = run_folder.Folder(tmp_path / "r")
    other = run_folder.Folder(tmp_path / "r")
    with folder.opened({"lr": 1.0}), pytest.raises(RunError, match="in use"), other.opened({"lr": 1.0}):
        pass
    (tmp_path / "r" / "checkpoints" / "1").mkdir(parents=True)  # something was learned
    with pytest.raises(RunError, match=r"lr: 1.0 there, 2.0 now"), folder.opened({"lr": 2.0}):
        pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(RunError, match="not a run"), run_folder.Folder(tmp_path / "photos").opened({}):
        pass
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"), run_folder.Folder(tmp_path / "file").opened({}):
        pass
    with pytest.raises(RunError, match=r"no config\.json"):
        run_folder.Folder(tmp_path / "photos").params()
    with folder.opened({"lr": 1.0}):  # freed, and as before
        assert json.loads((tmp_path / "r" / "config.json").read_text())["settings"] == {"lr": 1.0}


def test_a_folder_goes_on_with_its_own_data_and_batches_alone(tmp_path):
    folder = run_folder.Folder(tmp_path)

    def go(data=DATA, settings=(), renew=(), **changed):
        how = {"epochs": 2, "batch_size": 32, "validation": Batch(X[:20]), "seeds": (0, 1), "progress": False}
        with folder.opened(dict(settings), renew=renew):
            return loop.train(algorithm(), data, folder=folder, **how | changed)

    learned = go(settings={"epochs": 2})
    config = json.loads((tmp_path / "config.json").read_text())
    other = Batch(X.at[0, 0].add(0.1))
    held = r"(?s)holds a run of other seeds, data or batches:\n  {}.* there, .* now\nGive the same"
    for told, changed in (
        ("train_checksum", {"data": other}),
        ("validation", {"validation": other}),
        ("validated: True", {"validation": None}),
        ("batch_size: 32", {"batch_size": 16}),
        ("transform: False", {"transform": lambda batch, key: batch}),
        (r"seeds: \[0, 1\]", {"seeds": (0, 2)}),
    ):
        with pytest.raises(RunError, match=held.format(told)):
            go(settings={"epochs": 2}, **changed)
    fewer = r"has done 2 epochs, and epochs=1 asks for fewer: give at least epochs=2"
    for settings in ({"epochs": 2}, {"epochs": 1}):
        with pytest.raises(RunError, match=fewer):
            go(settings=settings, renew=("epochs",), epochs=1)
    assert json.loads((tmp_path / "config.json").read_text()) == config
    older = json.loads(json.dumps(config))
    older["run"] = {name: older["run"][name] for name in ("seeds", "shape", "validated", "functions")}
    del older["seal"]
    (tmp_path / "config.json").write_text(json.dumps(older))  # as older versions recorded it
    assert same_bits(go(settings={"epochs": 2}).params, learned.params)
    with pytest.raises(RunError, match=held.format("train_checksum")):
        go(other, settings={"epochs": 2})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "different"),
        ({"patience": 3}, "validation"),
        ({"monitor": "accuracy"}, "accuracy.*loss"),
    ],
)
def test_bad_arguments(wrong, match):
    with pytest.raises(ValueError, match=match):
        loop.train(algorithm(), DATA, **({"epochs": 1, "progress": False} | wrong))


def test_transform_acts_afresh_in_every_step_and_only_in_training():
    seen = []

    def transform(batch, key):
        seen.append(batch.x.shape)
        return batch._replace(x=jax.random.bernoulli(key, batch.x).astype(batch.x.dtype))

    kwargs = dict(epochs=2, batch_size=32, seeds=(0,), progress=False)
    with_it = loop.train(algorithm(), DATA, transform=transform, **kwargs)
    assert not same_bits(with_it.params, loop.train(algorithm(), DATA, **kwargs).params)
    assert set(seen) == {(90, 6), (32, 6), (26, 6)}  # at the start, and in steps


def test_statistics_and_the_start_see_what_the_transform_makes():
    """Of inputs that are all turned to ones: a unit's mean activation is what it says to ones, from the start on."""
    ones = lambda batch, key: batch._replace(x=jnp.ones_like(batch.x))
    net = networks.mlp((6,), 3, hidden=(), code_activation="sigmoid")
    learner = compiled.transformed(sparse(net, optax.sgd(0.0), target=0.2), ones)
    params, _ = fit(learner.init, epoch(learner, 32), DATA, jax.random.key(0), 2)
    for found in (learner.init(jax.random.key(0), DATA), params):
        expected = learner.encode(found, jnp.ones((1, 6)))[0]
        np.testing.assert_allclose(found["rho"], expected, rtol=1e-5)


def test_a_commit_is_dirty_where_code_has_changed_and_not_for_records(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "ae_jax" / "training" / "provenance.py"))
    files = [
        tmp_path / name for name in ("ae_jax/training/provenance.py", "results/vae.json", "README.md", "docs/speed.md")
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("before")
    assert provenance.circumstances()["commit"] is None
    identity = ("-c", "user.name=me", "-c", "user.email=me@here")
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    commit = provenance.circumstances()["commit"]
    assert len(commit) >= 7
    assert not commit.endswith("-dirty")
    for file in files[1:]:
        file.write_text("after")
    (tmp_path / "results" / "new.json").touch()
    assert provenance.circumstances()["commit"] == commit
    files[0].write_text("after")
    assert provenance.circumstances()["commit"] == f"{commit}-dirty"
