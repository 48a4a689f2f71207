"""Compiled programs are made once for a function, and forgotten with it."""

import gc
import importlib
import pkgutil
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import bars
from study import codes, evaluate, keys, mapped

import ae_jax
from ae_jax import evaluation, networks
from ae_jax.algorithms import autoencoder, denoising
from ae_jax.xla.programs import compiled

DATA = bars(2)


def test_a_function_mapped_twice_is_traced_once():
    traces = []

    def double(x, y):
        traces.append(x)
        return 2 * x + y

    for _ in range(3):
        np.testing.assert_array_equal(mapped(double)(jnp.arange(4.0), 1.0), 2 * np.arange(4.0) + 1)
    assert len(traces) == 1
    kept = weakref.ref(double)
    del double
    gc.collect()
    assert kept() is None


def counted(algorithm):
    """The algorithm, and how often its functions are traced."""
    traces = []

    def evaluated(*args):
        traces.append("evaluate")
        return algorithm.evaluate(*args)

    def encoded(*args):
        traces.append("encode")
        return algorithm.encode(*args)

    return algorithm._replace(evaluate=evaluated, encode=encoded), traces


def test_an_experiment_measures_an_algorithm_by_one_program():
    algorithm, traces = counted(autoencoder(networks.mlp((4, 4, 1), 3, hidden=()), optax.sgd(0.1)))
    params = jax.vmap(lambda key: algorithm.init(key, DATA))(keys((0, 1)))
    once = []
    for _ in range(3):
        evaluate(algorithm, params, DATA, (0, 1))
        codes(algorithm, params, DATA.x)
        once.append(len(traces))
    assert once[0] == once[2] > 0


def test_a_record_of_other_functions_has_another_program():
    program = compiled(lambda algorithm, x: algorithm.encode(None, x))
    base, _ = counted(autoencoder(networks.mlp((2,), 2, hidden=()), optax.sgd(0.1)))
    one, two = (base._replace(encode=lambda params, x, by=by: by * x) for by in (2.0, 3.0))
    assert (program(one, 1.0), program(two, 1.0), program(one, 1.0)) == (2, 3, 2)


@pytest.mark.parametrize("noisy", [False, True])
def test_a_measured_algorithm_is_forgotten_with_its_closures(noisy):
    """All that closes over data or networks is freed once nobody holds the algorithm."""
    net = networks.mlp((4, 4, 1), 3, hidden=())
    algorithm = denoising(net, optax.sgd(0.1)) if noisy else autoencoder(net, optax.sgd(0.1))
    params = algorithm.init(jax.random.key(0), DATA)
    measure = evaluation.all_metrics(algorithm, DATA, DATA, samples=2)
    assert "test loss" in measure(params, jax.random.key(1))
    evaluation.averaged(algorithm, params, DATA, jax.random.key(2), 0)
    kept = [weakref.ref(fn) for fn in (algorithm.evaluate, algorithm.encode, algorithm.reconstruct)]
    algorithm = measure = net = None
    gc.collect()
    assert [ref() for ref in kept] == [None] * 3


def test_a_name_of_the_package_is_found_without_the_disk(monkeypatch):
    ae_jax.__dict__.pop("vae", None)
    assert ae_jax.vae is importlib.import_module("ae_jax.algorithms.vae").vae

    def refused(*args, **kwargs):
        raise AssertionError("the disk is looked at")

    monkeypatch.setattr(importlib, "import_module", refused)
    monkeypatch.setattr(importlib.util, "find_spec", refused)
    monkeypatch.setattr(pkgutil, "iter_modules", refused)
    assert callable(ae_jax.vae)
    with pytest.raises(AttributeError, match="no attribute"):
        ae_jax._nothing  # noqa: B018
