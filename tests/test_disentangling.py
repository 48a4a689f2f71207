"""Members that make the units of a code independent, against the mathematics, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import networks
from ae_jax.algorithms import vae
from ae_jax.core import Batch, address

KEY = jax.random.key(0)
SGD = optax.sgd(1.0)
linear = partial(networks.linear, (4,), 3, heads=2)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def data(n=6, seed=0):
    return Batch(jnp.asarray(np.random.default_rng(seed).random((n, 4)), jnp.float64))


def params_of(net=None, seed=1):
    """Random weights and biases, the log-variances among them."""
    r = np.random.default_rng(seed)
    start = (linear() if net is None else net).init(KEY, data())
    return jax.tree.map(lambda p: jnp.asarray(r.normal(size=p.shape)), start)


def stepped(algorithm, params, batch, key=KEY):
    """Params and metrics after one update, not compiled."""
    params, _, metrics = algorithm.rule.update(params, algorithm.rule.init(params), batch, key)
    return params, metrics


def same(a, b, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), a, b)


# ------------------------------------------------------------------------------------------------ capacity


def divergences(params, x):
    mean, logvar = np.split(np.asarray(linear().encode(params, x)), 2, 1)
    return 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(1)


def test_a_capacity_is_compared_with_the_mean_kl_of_the_batch():
    params, batch = params_of(), data()
    kl = divergences(params, batch.x)
    for extreme in (kl.min(), kl.max()):  # some examples lie on one side of it, the batch on the other
        capacity = float((extreme + kl.mean()) / 2)
        _, metrics = stepped(vae(linear(), SGD, beta=5.0, capacity=capacity), params, batch)
        assert metrics["loss"] == pytest.approx(float(metrics["nll"]) + 5 * abs(kl.mean() - capacity), rel=1e-12)
        assert abs(kl.mean() - capacity) < np.abs(kl - capacity).mean() - 1e-3  # the per-example form is another


def test_no_capacity_is_the_plain_weight_and_about_a_capacity_the_pull_changes_its_sign():
    params, batch = params_of(), data()
    after = lambda **options: stepped(vae(linear(), SGD, **options), params, batch)[0]
    none = after(beta=5.0, capacity=optax.constant_schedule(0.0))
    same(none, after(beta=5.0))
    kl = float(divergences(params, batch.x).mean())
    below, above = (after(beta=5.0, capacity=kl + by) for by in (-1e-6, 1e-6))
    same(below, none)
    same(jax.tree.map(lambda a, b: (a + b) / 2, below, above), after(beta=0.0), rtol=1e-9)


def test_the_capacity_rises_linearly_and_evaluation_has_the_bound():
    algorithm = vae(linear(), optax.sgd(0.0), beta=5.0, capacity=8.0, capacity_steps=4)
    params, batch = params_of(), data()
    memory, seen = algorithm.rule.init(params), []
    for t in range(6):
        params, memory, metrics = algorithm.rule.update(params, memory, batch, address(KEY, t))
        seen.append(float(metrics["capacity"]))
    np.testing.assert_allclose(seen, [0, 2, 4, 6, 8, 8])
    found = algorithm.evaluate(params, batch, KEY)
    np.testing.assert_allclose(found["loss"], -found["elbo"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"capacity": -1.0}, "capacity is -1"),
        ({"capacity": 3.0, "capacity_steps": -2}, "capacity_steps is -2; it must not be negative"),
        ({"capacity": optax.constant_schedule(1.0), "capacity_steps": 2}, "the given capacity is a schedule already"),
        ({"capacity_steps": 5}, "capacity_steps=5 has no effect with capacity=0.0"),
        ({"beta": 0.0, "capacity": 3.0}, "capacity=3.0 has no effect with beta=0.0"),
    ],
)
def test_capacities_without_sense_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        vae(linear(), SGD, **options)
