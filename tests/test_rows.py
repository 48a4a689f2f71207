"""Rows of the log, numbers of addresses and of batches: what is no such thing is refused or left out."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import core, networks, training
from ae_jax.algorithms import autoencoder
from ae_jax.core import Batch, address
from ae_jax.training import arguments, run_folder


def test_a_changed_row_of_the_log_is_unread(tmp_path):
    row = {"epoch": 1, "seconds": 0.5, "examples_per_second": 10.0, "train": {"loss": [3.25]}}
    line = run_folder.sealed(row)
    (tmp_path / "log.jsonl").write_text(line + line.replace("3.25", "3.35") + json.dumps(row | {"epoch": 2}) + "\n")
    rows, unread = run_folder.Folder(tmp_path).read_log()
    assert rows == [row, row | {"epoch": 2}]  # the last one as older versions wrote it
    assert unread == 1


@pytest.mark.parametrize("part", [1.5, True, np.float32(1), jnp.ones(())])
def test_an_address_is_of_names_and_whole_numbers(part):
    with pytest.raises(TypeError, match="a name or a whole number"):
        address(jax.random.key(0), part)


def test_an_address_has_no_number_below_0():
    with pytest.raises(ValueError, match="number -1"):
        address(jax.random.key(0), np.int64(-1))


def test_a_batch_has_an_example():
    with pytest.raises(ValueError, match="batch_size is 0"):
        core.sweep(core.chain(), 0)


def test_seeds_are_whole_numbers():
    with pytest.raises(ValueError, match="whole numbers"):
        arguments.check_seeds([0.5])


OF: Any = Batch
RUN: Any = training.run
TRAIN: Any = training.train
X = np.full((6, 4), 0.5, np.float32)
NET = networks.mlp((4,), 2, hidden=())
PLAIN = autoencoder(NET, optax.adam(1e-3))
HOLED = Batch(np.where(np.arange(24).reshape(6, 4) == 9, np.nan, X))


@pytest.mark.parametrize(
    ("given", "more", "error", "words"),
    [
        ((X,), {}, TypeError, "of type ndarray, not Batch"),
        (("digits",), {}, TypeError, "of type str, not Batch"),
        ((OF([[0.5] * 4]),), {}, TypeError, "x of the train part of the data is of type list"),
        ((OF(X, np.array(["a"] * 6)),), {}, TypeError, "y of the train part of the data is of type <U1"),
        ((HOLED,), {}, ValueError, "x of the train part of the data holds 1 values that are NaN"),
        ((Batch(X), HOLED), {}, ValueError, "x of the test part of the data holds 1 values that are NaN"),
        ((Batch(X[:0]),), {}, ValueError, "at least 1 example"),
        ((Batch(X),), {"seeds": -1}, ValueError, "seeds are -1"),
        ((Batch(X),), {"seeds": None}, ValueError, "seeds are None"),
        ((Batch(X),), {"epochs": 2.5}, ValueError, "epochs is 2.5; it must be a whole number"),
    ],
)
def test_a_run_in_memory_refuses_what_it_cannot_learn_from(given: Any, more: Any, error, words):
    with pytest.raises(error, match=words):
        RUN(PLAIN, *given, **{"epochs": 1} | more)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_run_in_memory_has_a_cross_entropy_of_probabilities_alone(scale):
    data, net = Batch(scale * jnp.eye(4)), networks.mlp((4,), 2, hidden=())
    metrics = training.run(autoencoder(net, optax.sgd(0.1), likelihood="squared"), data, data, epochs=1).metrics
    assert ("cross_entropy" in metrics) == (scale == 1)
    assert "mse" in metrics


def test_a_run_in_memory_takes_numbers_of_numpy():
    few = RUN(PLAIN, Batch(X), epochs=np.int64(1), seeds=np.int64(2))
    assert np.array_equal(few.history["loss"], RUN(PLAIN, Batch(X), epochs=1, seeds=(0, 1)).history["loss"])


def test_other_things_than_an_algorithm_a_folder_and_a_tuple_are_named():
    with pytest.raises(TypeError, match="algorithm is of type Autoencoder"):
        RUN(NET, Batch(X), epochs=1)
    with pytest.raises(TypeError, match="folder is 'runs/x'; give an opened one"):
        TRAIN(PLAIN, Batch(X), epochs=1, folder="runs/x")
    with pytest.raises(TypeError, match="give an opened one"):  # without the lock
        TRAIN(PLAIN, Batch(X), epochs=1, folder=run_folder.Folder("runs/x"))
    for name, wrong in (("shape", {"shape": 64}), ("hidden", {"hidden": 5}), ("hidden_back", {"hidden_back": 5})):
        given: Any = {"shape": (4,), "latents": 2, "hidden": (3,)} | wrong
        with pytest.raises(TypeError, match=f"^{name} is"):
            networks.mlp(**given)
