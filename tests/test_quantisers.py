"""Quantisers: symbols and vectors, moving averages, dead codes; and the VQ-VAE made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import bars

from ae_jax import algorithms, networks
from ae_jax.core import Batch, epoch, fit
from ae_jax.distributions import quantisers

H = jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)), jnp.float32)


@pytest.mark.parametrize("kind", ["moving", "learned"])
def test_symbols_are_of_the_nearest_vectors_and_vectors_are_their_own(kind):
    q = quantisers.codebook(7, kind)
    params = q.init(jax.random.key(0), H)
    found = q.quantise(params, H)
    vectors = np.asarray(q.lookup(params, jnp.arange(7)))
    expected = ((np.asarray(H)[:, None] - vectors) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(found.symbols, expected)
    np.testing.assert_array_equal(found.vectors, vectors[expected])
    again = q.quantise(params, q.lookup(params, jnp.arange(7)))  # symbols -> vectors -> symbols
    np.testing.assert_array_equal(again.symbols, np.arange(7))
    assert found.patch == {}
    np.testing.assert_allclose(
        found.cost, (1.25 if kind == "learned" else 0.25) * ((H - found.vectors) ** 2).sum(-1), rtol=1e-5
    )


def test_moving_vectors_with_decay_zero_are_the_means_of_what_they_stand_for():
    q = quantisers.moving(4, decay=0.0)
    params = q.init(jax.random.key(1), H)
    found = q.quantise(params, H, jax.random.key(2))
    for s in range(4):
        of = np.asarray(H)[np.asarray(found.symbols) == s]
        expected = of.mean(0) if len(of) else params["codebook"]["vectors"][s]
        np.testing.assert_allclose(found.patch["codebook"]["vectors"][s], expected, rtol=1e-5)
        assert float(found.patch["codebook"]["count"][s]) == len(of)


def test_moving_averages_are_those_of_the_paper():
    q = quantisers.moving(4, decay=0.9)
    params = q.init(jax.random.key(1), H)
    old, found = params["codebook"], q.quantise(params, H, jax.random.key(2))
    hot = np.eye(4)[np.asarray(found.symbols)]
    count = 0.9 * np.asarray(old["count"]) + 0.1 * hot.sum(0)
    total = 0.9 * np.asarray(old["sum"]) + 0.1 * hot.T @ np.asarray(H)
    np.testing.assert_allclose(found.patch["codebook"]["vectors"], total / count[:, None], rtol=1e-5)


def test_a_dead_vector_is_drawn_anew_from_the_batch_and_a_living_one_is_not():
    q = quantisers.moving(3, decay=0.5, least=0.6)
    params = q.init(jax.random.key(0), H)
    far = params["codebook"]["vectors"].at[2].set(100.0)
    params = {"codebook": params["codebook"] | {"vectors": far, "sum": far}}
    book = q.quantise(params, H, jax.random.key(3)).patch["codebook"]
    assert (np.asarray(H) == np.asarray(book["vectors"][2])).all(1).any()
    assert not (np.asarray(H) == np.asarray(book["vectors"][0])).all(1).any()


def test_what_a_codebook_cannot_be_is_refused():
    with pytest.raises(ValueError, match="size is 1; a codebook has at least 2 vectors"):
        quantisers.moving(1)
    with pytest.raises(ValueError, match="codebook is 'fixed'; it must be one of"):
        quantisers.codebook(4, "fixed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="decay"):
        quantisers.moving(4, decay=1.5)
    with pytest.raises(ValueError, match="dimension is 3, which does not divide the code's 4 latents"):
        algorithms.vq_vae(networks.mlp((4, 4, 1), 4), optax.sgd(0.1), dimension=3)


@pytest.mark.parametrize("kind", ["moving", "learned"])
def test_a_vq_vae_stores_the_bars_in_symbols(kind):
    data = bars()
    net = networks.mlp((4, 4, 1), 4, hidden=(16,), activation="tanh")
    algorithm = algorithms.vq_vae(net, optax.adam(1e-2), size=8, dimension=2, codebooks=kind)
    params, history = jax.jit(lambda key: fit(algorithm.init, epoch(algorithm, 32), data, key, 150))(jax.random.key(0))
    assert algorithm.symbols is not None
    assert algorithm.lookup is not None
    symbols = algorithm.symbols(params, data.x[:8])
    assert symbols.shape == (8, 2)
    assert len({tuple(s) for s in np.asarray(symbols).tolist()}) == 8  # each bar has symbols of its own
    z = algorithm.encode(params, data.x)
    np.testing.assert_allclose(z, algorithm.lookup(params, algorithm.symbols(params, data.x)), atol=1e-5)
    assert float(algorithm.evaluate(params, data, jax.random.key(1))["reconstruction"].mean()) < 1.0
    assert 1 <= float(history["batch_perplexity"][-1]) <= 8


def test_gradients_pass_the_quantiser_unchanged():
    net = networks.mlp((4,), 2, hidden=())
    algorithm = algorithms.vq_vae(net, optax.sgd(1.0), size=4, dimension=2, commitment=0.0, likelihood="squared")
    x = jnp.asarray(np.random.default_rng(5).random((6, 4)), jnp.float32)
    params = algorithm.init(jax.random.key(0), Batch(x))
    after = algorithm.rule.update(params, algorithm.rule.init(params), Batch(x), jax.random.key(1))[0]
    z, decoder = np.asarray(algorithm.encode(params, x)), params["decoder"]["layer_0"]
    slope = (
        2
        * (z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"]) - np.asarray(x))
        @ np.asarray(decoder["kernel"]).T
    )
    expected = np.asarray(params["encoder"]["layer_0"]["kernel"]) - np.asarray(x).T @ slope / len(x)
    np.testing.assert_allclose(after["encoder"]["layer_0"]["kernel"], expected, rtol=1e-4, atol=1e-5)
