"""Places where float32 cancels, rounds to 1 or divides by zero: against float64 and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from ae_jax import autoencoder, epoch, fit, iwae, networks, vae
from ae_jax.core import Batch
from ae_jax.distributions import divergences, likelihoods
from ae_jax.evaluation import likelihood, pca, samples
from ae_jax.objectives import terms
from ae_jax.training.settings import OptimizerSettings, optimizer

# ------------------------------------------------------------------------------------------- divergences


def right_kl(mean, logvar):
    """The KL in float64, by a series where exp(v) - 1 - v cancels in float64, too."""
    v = np.asarray(logvar, np.float64)
    series = v**2 / 2 * (1 + v / 3 * (1 + v / 4 * (1 + v / 5)))
    return 0.5 * (np.square(np.asarray(mean, np.float64)) + np.where(np.abs(v) < 1e-3, series, np.expm1(v) - v))


def test_the_kl_of_a_collapsed_posterior_is_precise_and_never_below_0():
    v = np.concatenate([s * np.geomspace(1e-12, 80, 400) for s in (-1, 1)]).astype(np.float32)
    got = np.asarray(divergences.kl_standard_normal(jnp.zeros_like(v), jnp.asarray(v)))
    assert (got >= 0).all()
    np.testing.assert_allclose(got, right_kl(0, v), rtol=1e-5)
    slope = jax.vmap(jax.grad(lambda v: divergences.kl_standard_normal(jnp.zeros(()), v)))(jnp.asarray(v))
    np.testing.assert_allclose(slope, 0.5 * np.expm1(v.astype(np.float64)), rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.floats(-20, 20, width=32), st.floats(-30, 30, width=32))
def test_the_kl_to_the_prior_is_that_of_float64(mean, logvar):
    got = divergences.kl_standard_normal(jnp.asarray([mean], jnp.float32), jnp.asarray([logvar], jnp.float32))
    np.testing.assert_allclose(got, right_kl([mean], [logvar]), rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("rho", [0.05, 0.3, 0.5])
def test_the_kl_of_coins_that_are_nearly_alike_is_precise_and_never_below_0(rho):
    q = np.unique(np.float32(rho) + np.concatenate([s * np.geomspace(1e-7, 0.04, 200) for s in (-1, 1)]).astype("f4"))
    q = np.concatenate([q, np.geomspace(2e-6, 0.9, 50)]).astype(np.float32)
    p = np.float64(np.float32(rho))
    d = q.astype(np.float64) - p
    right = -p * np.log1p(d / p) - (1 - p) * np.log1p(-d / (1 - p))
    got = np.asarray(divergences.bernoulli_kl(jnp.float32(rho), jnp.asarray(q)))
    assert (got >= 0).all()
    np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-15)
    slope = jax.vmap(jax.grad(lambda q: divergences.bernoulli_kl(jnp.float32(rho), q)))(jnp.asarray(q))
    np.testing.assert_allclose(slope, d / (q.astype(np.float64) * (1 - q.astype(np.float64))), rtol=1e-4, atol=1e-7)


# ------------------------------------------------------------------------------------------ narrow posteriors


def fixed(mean: float, logvar: float, latents: int = 2):
    """A network whose posterior is N(mean, exp(logvar)) for every x, and whose decoder says 1/2 of three pixels."""

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return jnp.tile(jnp.array([mean] * latents + [logvar] * latents), (len(x), 1)) + 0 * x[:, :1]

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, z, train=False):
            return jnp.zeros((len(z), 3))

    return networks.pair(Encoder(), Decoder(), (3,), latents)


@pytest.mark.parametrize(("mean", "logvar"), [(0.5, 0.3), (3.0, -10.0), (3.0, -40.0), (0.0, -90.0), (100.0, -170.0)])
@pytest.mark.parametrize("make", [vae, iwae])
def test_log_weights_of_a_narrow_posterior_have_the_elbo_for_their_mean(make, mean, logvar):
    """The draws' spread about it is (2 / 2)^0.5 nats, so that a thousand come within 0.2 of it."""
    algorithm, x = make(fixed(mean, logvar), optax.sgd(0.1)), Batch(jnp.full((1000, 3), 0.5))
    params = algorithm.init(jax.random.key(0), x)
    assert algorithm.log_weight is not None
    weights = np.asarray(algorithm.log_weight(params, x, jax.random.key(1)), np.float64)
    elbo = -3 * np.log(2) - 2 * right_kl(mean, logvar)
    assert abs(weights.mean() - elbo) < 0.2 + 3e-7 * abs(elbo)
    found = likelihood.log_likelihood(algorithm, params, Batch(x.x[:3]), jax.random.key(2), 20)
    assert (np.abs(found - elbo) < 5 + 3e-7 * abs(elbo)).all()


def test_a_log_weight_is_the_densities_difference_at_the_draw_where_nothing_cancels():
    algorithm, x = vae(fixed(0.5, 0.3), optax.sgd(0.1)), Batch(jnp.full((4, 3), 0.5))
    params = algorithm.init(jax.random.key(0), x)
    key = jax.random.key(7)
    eps = np.asarray(jax.random.normal(jax.random.split(key, 3)[0], (1, 4, 2)), np.float64)[0]
    z = 0.5 + np.exp(0.15) * eps
    density = lambda z, m, s: (-0.5 * ((z - m) / s) ** 2 - np.log(s * np.sqrt(2 * np.pi))).sum(-1)
    assert algorithm.log_weight is not None
    right = density(z, 0, 1) - density(z, 0.5, np.exp(0.15)) - 3 * np.log(2)
    np.testing.assert_allclose(algorithm.log_weight(params, x, key), right, rtol=1e-5)


def test_a_gaussian_likelihood_with_a_tiny_deviation_is_finite_where_the_output_is_right():
    nll = likelihoods.gaussian_nll(jnp.ones((1, 4)), jnp.asarray(-100.0), jnp.ones((1, 4)))
    np.testing.assert_allclose(nll, [0.5 * 4 * (np.log(2 * np.pi) - 100)], rtol=1e-6)


# -------------------------------------------------------------------------------------------------- variance


@pytest.mark.parametrize("n", [1, 6, 7])
@pytest.mark.parametrize("value", [0.5, 0.1, 1e4 / 3])
def test_the_explained_variance_of_equal_examples_is_nan(n, value):
    same = jnp.full((n, 8, 8, 1), value, jnp.float32)
    measure = jax.jit(lambda x: pca.explained_variance(jnp.full(len(x), 16.8), x))
    assert np.isnan(measure(same))
    assert pca.total_variance(same) == 0


def test_the_explained_variance_counts_from_the_mean():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    about = np.square(x - x.mean(0)).sum(1)
    np.testing.assert_allclose(pca.explained_variance(jnp.asarray(about), jnp.asarray(x)), 0, atol=1e-6)
    np.testing.assert_allclose(pca.explained_variance(jnp.asarray(about / 4), jnp.asarray(x)), 0.75, atol=1e-6)


# ---------------------------------------------------------------------------------------------- window widths


def test_the_best_window_width_is_a_number_and_a_width():
    r = np.random.default_rng(0)
    a, held = (jnp.asarray(r.normal(size=(n, 4)), jnp.float32) for n in (50, 20))
    found = samples.best_sigma(a, held, [0.1, 0.3, 1.0])
    assert (
        found == [0.1, 0.3, 1.0][np.argmax([samples.parzen_log_likelihood(a, held, s).mean() for s in (0.1, 0.3, 1)])]
    )
    for wrong in ([0.0, 0.3], [-1.0], [float("nan"), 1.0], [float("inf")], []):
        with pytest.raises(ValueError, match="window widths"):
            samples.best_sigma(a, held, wrong)
    with pytest.raises(ValueError, match="not finite"):
        samples.best_sigma(a, held.at[0, 0].set(jnp.nan), [0.3, 1.0])


# ------------------------------------------------------------------------------------------------ sixteen bits


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_clipping_holds_in_sixteen_bits(dtype):
    x = jnp.asarray([[1.0, 0.0, 0.5]], dtype)
    entropy = terms.reconstruction(x, x)["cross_entropy"]
    assert entropy.dtype == x.dtype
    np.testing.assert_allclose(np.asarray(entropy, np.float32), np.log(2), rtol=4e-3)
    ends = jnp.asarray([0.0, 1.0], dtype)
    kl = divergences.bernoulli_kl(0.05, ends)
    right = [special.rel_entr(0.05, q) + special.rel_entr(0.95, 1 - q) for q in (1e-6, 1 - 1e-6)]
    assert kl.dtype == ends.dtype
    np.testing.assert_allclose(np.asarray(kl, np.float32), right, rtol=8e-3)


def test_sixteen_bits_train_in_bfloat16_and_are_refused_in_float16():
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(32, 6)), jnp.bfloat16)
    algorithm = autoencoder(networks.mlp((6,), 2, hidden=(4,)), optax.adam(1e-3))
    _, history = fit(algorithm.init, epoch(algorithm, 16), Batch(x), jax.random.key(0), 2)
    assert np.isfinite(np.asarray(history["loss"], np.float32)).all()
    with pytest.raises(ValueError, match=r"float16.*bfloat16"):
        fit(algorithm.init, epoch(algorithm, 16), Batch(x.astype(jnp.float16)), jax.random.key(0), 2)


# ------------------------------------------------------------------------------------------------ weight decay


def test_weights_decay_and_biases_and_centres_do_not():
    decayed = optimizer(OptimizerSettings(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.5), 1, 1)
    params = {
        "encoder": {"layer_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}},
        "decoder": {"bias": jnp.ones((4, 4, 1))},  # a bias of an image has three axes
        "centres": jnp.ones((3, 2)),
        "critic": [(jnp.ones((2, 1)), jnp.ones(1))],
        "likelihood": {"logvar": jnp.ones((2, 2))},
    }
    moved, _ = decayed.update(jax.tree.map(jnp.zeros_like, params), decayed.init(params), params)
    by = jax.tree.map(lambda a: round(float(a.ravel()[0]), 6), moved)
    assert by["encoder"]["layer_0"] == {"kernel": -0.05, "bias": 0}
    assert by["critic"] == [(-0.05, 0)]
    assert (by["decoder"]["bias"], by["centres"], by["likelihood"]["logvar"]) == (0, 0, 0)
    assert terms.l2(params) == 4 + 2
