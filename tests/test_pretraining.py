"""Pretraining within `init`: a pure function of key and data, which a run computes once and goes on from."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, classifier, dec
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.evaluation import clustering
from ae_jax.objectives import pretraining
from ae_jax.training import loop, provenance, run_folder, signals

KEY = jax.random.key(3)
ADAM = optax.adam(3e-3)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    middles = np.array([[0.1, 0.2, 0.9, 0.5], [0.9, 0.8, 0.1, 0.4], [0.5, 0.1, 0.2, 0.9]])
    return Batch(jnp.asarray(np.clip(middles[y] + 0.04 * rng.normal(size=(240, 4)), 0, 1), jnp.float32), jnp.asarray(y))


def net():
    return networks.mlp((4,), 2, hidden=(8,))


def test_it_is_a_fit_of_the_plain_autoencoder_and_nothing_without_epochs(data):
    plain = net()
    assert pretraining.pretrained(plain, ADAM, "squared", 0) is plain.init
    begin = jax.jit(pretraining.pretrained(plain, ADAM, "squared", 40))
    error = lambda params: float(jnp.square(plain.apply(params, data.x)[1] - data.x).sum(-1).mean())
    assert error(begin(KEY, data)) < 0.3 * error(plain.init(KEY, data))
    for a, b in zip(*(jax.tree.leaves(begin(key, data)) for key in (KEY, jax.random.key(4))), strict=True):
        assert (a != b).any()
    with pytest.raises(ValueError, match="pretrain_epochs is -1"):
        pretraining.pretrained(plain, ADAM, "squared", -1)


def test_dec_begins_with_kmeans_on_pretrained_codes_and_finds_the_clusters(data):
    algorithm = dec(net(), ADAM, clusters=3, pretrain_epochs=60)
    params = jax.jit(algorithm.init)(KEY, data)
    z = algorithm.encode(params, data.x)
    nearest = jnp.square(z[:, None] - params["centres"]).sum(-1).argmin(-1)
    means = jnp.stack([z[nearest == c].mean(0) for c in range(3)])
    np.testing.assert_allclose(params["centres"], means, atol=1e-4)  # where k-means stands still
    assert clustering.accuracy(algorithm.predict(params, data.x), data.y) == 1.0


def test_a_classifier_learns_on_its_pretrained_encoder(data):
    algorithm = classifier(net(), ADAM, classes=3, pretrain_epochs=30)
    params = jax.jit(algorithm.init)(KEY, data)
    plain = pretraining.pretrained(net(), ADAM, "squared", 30)(KEY, data)
    for a, b in zip(jax.tree.leaves(params["encoder"]), jax.tree.leaves(plain["encoder"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # jit or not
    params, _ = jax.jit(lambda key: core.fit(algorithm.init, core.epoch(algorithm, 32), data, key, 30))(KEY)
    assert float((algorithm.predict(params, data.x) == data.y).mean()) > 0.95


def test_a_run_with_pretraining_goes_on_with_the_same_bits(data, tmp_path):
    def train(folder, epochs):
        algorithm = dec(net(), ADAM, clusters=3, pretrain_epochs=3)
        with run_folder.Folder(folder).opened({}) as opened:
            return loop.train(algorithm, data, epochs=epochs, batch_size=64, folder=opened, progress=False).params

    train(tmp_path / "stopped", 1)
    a, b = train(tmp_path / "stopped", 3), train(tmp_path / "whole", 3)
    assert provenance.checksum(a) == provenance.checksum(b)


class Killed(BaseException):
    """Stops a run without any cleaning up."""


def started(at_start, folder, data, kill_at=None):
    """dec on data, and `at_start()` wherever its start is computed; killed once epoch `kill_at` is saved."""
    algorithm = dec(net(), ADAM, clusters=3, pretrain_epochs=3)

    def init(key, data):
        jax.debug.callback(at_start)
        return algorithm.init(key, data)

    def save(e, state, partial=None):
        run_folder.Folder.save(opened, e, state, partial)
        if e == kill_at:
            raise Killed

    with run_folder.Folder(folder).opened({}) as opened:
        opened.save = save
        member = algorithm._replace(init=init)
        return loop.train(member, data, epochs=3, batch_size=64, folder=opened, every_epochs=1, progress=False).params


def test_a_long_start_is_saved_and_never_repeated(data, tmp_path, monkeypatch):
    starts, folder = [], run_folder.Folder(tmp_path / "killed")
    whole = started(lambda: None, tmp_path / "whole", data)
    monkeypatch.setattr(loop, "LONG", 0)
    for e in (0, 1):
        with pytest.raises(Killed):
            started(lambda e=e: starts.append(e), folder.path, data, kill_at=e)
        assert folder.params()[0] == e
        assert len(folder.log()) == e
    assert provenance.checksum(started(lambda: starts.append(2), folder.path, data)) == provenance.checksum(whole)
    assert starts == [0]
    assert [row["epoch"] for row in folder.log()] == [1, 2, 3]


def test_a_signal_during_the_start_ends_the_run_at_its_end_with_its_state_saved(data, tmp_path, capsys):
    sent, folder = [], tmp_path / "stopped"

    def stop():
        sent.append(os.kill(os.getpid(), signal.SIGINT))

    with pytest.raises(
        signals.Interrupted, match=r"end of the start, before epoch 1; saved in .*Start the same command"
    ):
        started(stop, folder, data)
    assert "Finishing the start, with its pretraining" in capsys.readouterr().err
    assert run_folder.Folder(folder).params()[0] == 0
    broken = started(stop, folder, data)
    assert len(sent) == 1
    assert provenance.checksum(broken) == provenance.checksum(started(lambda: None, tmp_path / "whole", data))


def test_agreement_with_labels():
    labels = [0, 0, 1, 1, 2, 2]
    found = clustering.agreement([1, 1, 2, 2, 0, 0], labels, supervised=False)
    assert found["test clustering_accuracy"] == 1.0
    assert found["test nmi"] == pytest.approx(1.0)
    found = clustering.agreement([1, 1, 2, 2, 0, 2], labels, supervised=True)
    assert found["test accuracy"] == pytest.approx(1 / 6)


def test_confusion_has_a_row_a_label_and_its_largest_counts_on_the_diagonal():
    rows, columns, counts = clustering.confusion([5, 5, 7, 7, 6, 7, 8], [0, 0, 1, 1, 2, 2, 1])
    assert rows == [0, 1, 2]
    assert columns == [5, 7, 6, 8]
    assert counts == [[2, 0, 0, 0], [0, 2, 0, 1], [0, 1, 1, 0]]
    rows, columns, counts = clustering.confusion([4, 4, 4], [0, 0, 1])  # fewer clusters than labels
    assert (rows, columns, counts) == ([0, 1], [4], [[2], [1]])


def test_the_folder_of_a_run_that_failed_takes_other_settings_though_its_start_was_saved(data, tmp_path, monkeypatch):
    """As the advice in its message says: a lower learning rate."""
    monkeypatch.setattr(loop, "LONG", 0)
    folder = run_folder.Folder(tmp_path / "run")

    def run(rate):
        with folder.opened({"lr": rate}) as opened:
            return loop.train(autoencoder(net(), optax.sgd(rate)), data, epochs=1, folder=opened, progress=False)

    with pytest.raises(RunError, match="Nothing is saved, so the same folder takes other settings"):
        run(float("inf"))
    assert not folder.begun()
    run(1e-3)
    assert folder.saved() == [0, 1]
    with pytest.raises(RunError, match="holds a run with other settings"):
        run(1e-2)
