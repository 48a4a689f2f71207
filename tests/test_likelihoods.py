"""Likelihoods: probabilities add up to one, means are expectations, draws follow them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ae_jax import algorithms, networks
from ae_jax.core import Batch
from ae_jax.distributions import likelihoods
from ae_jax.distributions.likelihoods import LIKELIHOODS, Likelihood, discretised_logistic, discretised_logistic_nll

LEVELS = 17
GRID = np.arange(LEVELS) / (LEVELS - 1)


def probabilities(mean, log_scale, levels=LEVELS):
    """The probability of each level."""
    x = jnp.arange(levels, dtype=jnp.float32)[:, None] / (levels - 1)
    ones = jnp.ones_like(x)
    return np.exp(-np.asarray(discretised_logistic_nll(mean * ones, log_scale * ones, x, levels), np.float64))


@pytest.mark.parametrize("mean", [-0.7, 0.0, 0.31, 0.97, 1.0, 2.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, -2.0, 0.0, 2.0])
def test_the_levels_of_a_discretised_logistic_add_up_to_one(mean, log_scale):
    assert probabilities(mean, log_scale).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_discretised_logistic_is_the_difference_of_the_distribution_at_the_edges(levels):
    mean, scale = 0.37, 0.08
    edges = (np.arange(1, levels) - 0.5) / (levels - 1)
    below = np.concatenate([[0], stats.logistic.cdf(edges, mean, scale), [1]])
    np.testing.assert_allclose(probabilities(mean, np.log(scale), levels), np.diff(below), rtol=2e-4, atol=1e-7)


def test_a_discretised_logistic_has_its_limits():
    narrow = probabilities(GRID[5], -12.0)
    assert narrow[5] == pytest.approx(1, abs=1e-6)  # nll 0 for the level at the mean
    wide = probabilities(0.5, 12.0)
    np.testing.assert_allclose(wide[[0, -1]], 0.5, atol=1e-4)  # half the mass beyond each end


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_gradients_of_a_discretised_logistic_are_finite_a_thousand_scales_away(x):
    nll = lambda mean, log_scale: discretised_logistic_nll(mean, log_scale, jnp.full((1, 1), x), 256).sum()
    for mean in (x + 1.0, x - 1.0):
        at = jnp.full((1, 1), mean), jnp.full((1, 1), np.log(1e-3))
        assert all(np.isfinite(g).all() for g in jax.grad(nll, (0, 1))(*at))


def test_the_mean_of_a_discretised_logistic_is_the_expectation():
    p, output = discretised_logistic(LEVELS), jnp.asarray(np.random.default_rng(0).normal(size=(5, 3, 2)), jnp.float32)
    x = jnp.asarray(GRID, jnp.float32)
    for b in range(5):
        for d in range(3):
            one = output[b : b + 1, d : d + 1]
            weights = np.exp([-float(p.nll({}, one, jnp.full((1, 1), v))[0]) for v in x])
            assert float(p.mean({}, output)[b, d]) == pytest.approx(weights @ GRID, abs=1e-5)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "discretised_logistic"])
def test_draws_have_the_mean(name):
    p = LIKELIHOODS[name]()
    output = jnp.asarray(np.random.default_rng(1).normal(size=(1, 4) + (2,) * (p.outputs - 1)), jnp.float32)
    params = p.init(jax.random.key(0), Batch(jnp.zeros((1, 4))))
    many = jnp.broadcast_to(output, (40_000, *output.shape[1:]))
    drawn = np.asarray(p.draw(params, many, jax.random.key(2)))
    error = 5 * drawn.std(0) / np.sqrt(len(drawn)) + 1e-6
    assert (np.abs(drawn.mean(0) - np.asarray(p.mean(params, output))[0]) < error).all()


def test_a_likelihood_needs_its_number_of_outputs():
    net = networks.mlp((4,), 2, heads=2)
    with pytest.raises(ValueError, match=r"discretised_logistic needs 2 outputs .* emits 1: build .* outputs=2"):
        algorithms.vae(net, optax.sgd(0.1), likelihood="discretised_logistic")
    with pytest.raises(ValueError, match=r"bernoulli needs 1 outputs .* emits 2"):
        algorithms.vae(networks.mlp((4,), 2, heads=2, outputs=2), optax.sgd(0.1))
    with pytest.raises(ValueError, match="tied weights give 1 output"):
        networks.mlp((4,), 2, outputs=2, tied=True)
    with pytest.raises(ValueError, match="squared is no probability"):
        algorithms.vae(net, optax.sgd(0.1), likelihood="squared")


@pytest.mark.parametrize("make", [networks.mlp, networks.conv])
def test_networks_emit_as_many_outputs_as_asked(make):
    net, x = make((4, 4, 1), 3, outputs=2), jnp.ones((5, 4, 4, 1))
    params = net.init(jax.random.key(0), Batch(x))
    assert net.apply(params, x)[1].shape == net.decode(params, jnp.ones((5, 3))).shape == (5, 4, 4, 1, 2)


def test_a_likelihood_of_ones_own_is_taken_as_a_value():
    laplace = Likelihood(
        nll=lambda params, output, x: jnp.abs(output - x).reshape(len(x), -1).sum(-1) + x[0].size * jnp.log(2.0),
        mean=lambda params, output: output,
    )
    x = jnp.asarray(np.random.default_rng(3).normal(size=(20, 4)), jnp.float32)
    for algorithm in (
        algorithms.autoencoder(networks.mlp((4,), 2), optax.sgd(0.1), likelihood=laplace),
        algorithms.vae(networks.mlp((4,), 2, heads=2), optax.sgd(0.1), likelihood=laplace),
    ):
        params = algorithm.init(jax.random.key(0), Batch(x))
        found = algorithm.evaluate(params, Batch(x), jax.random.key(1))
        nll = found["nll"] if "nll" in found else found["reconstruction"]
        assert nll.shape == (20,)
        assert float(nll.min()) > 0


def test_a_learned_scale_learns_in_every_member_of_reconstruction():
    x = jnp.asarray(np.random.default_rng(4).normal(size=(40, 4)), jnp.float32)
    algorithm = algorithms.autoencoder(networks.mlp((4,), 2), optax.adam(0.05), likelihood="gaussian")
    params = algorithm.init(jax.random.key(0), Batch(x))
    memory = algorithm.rule.init(params)
    after = algorithm.rule.update(params, memory, Batch(x), jax.random.key(1))[0]
    assert float(params["likelihood"]["logvar"]) == 0
    assert float(after["likelihood"]["logvar"]) != 0


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match="likelihood is 'poisson'; it must be one of"):
        likelihoods.likelihood("poisson")  # type: ignore[arg-type]


def test_gaussian_draws_have_their_deviation():
    drawn = likelihoods.gaussian(0.3).draw({}, jnp.ones((20_000, 1)), jax.random.key(5))
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.03)
