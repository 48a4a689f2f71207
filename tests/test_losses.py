"""Losses and corruptions against SciPy, closed forms and counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from ae_jax import corruption, networks
from ae_jax.core import Batch
from ae_jax.distributions import divergences, likelihoods, sums
from ae_jax.objectives import terms

rng = np.random.default_rng(0)
X = rng.uniform(size=(5, 4, 3, 2)).astype(np.float32)  # [B, H, W, C]
OUTPUT = rng.normal(size=X.shape).astype(np.float32)


def test_bernoulli_nll_is_scipys_summed_over_pixels_one_number_an_example():
    bits = (X > 0.5).astype(np.float32)
    wanted = -stats.bernoulli.logpmf(bits, special.expit(OUTPUT)).reshape(5, -1).sum(1)
    np.testing.assert_allclose(likelihoods.bernoulli_nll(OUTPUT, bits), wanted, rtol=1e-5)


def test_bernoulli_nll_of_grey_values_and_of_extreme_logits():
    p = special.expit(OUTPUT.astype(np.float64))
    wanted = -(X * np.log(p) + (1 - X) * np.log1p(-p)).reshape(5, -1).sum(1)
    np.testing.assert_allclose(likelihoods.bernoulli_nll(OUTPUT, X), wanted, rtol=1e-5)
    extreme = likelihoods.bernoulli_nll(jnp.asarray([[1e4], [-1e4]]), jnp.asarray([[1.0], [1.0]]))
    np.testing.assert_allclose(extreme, [0.0, 1e4])
    at = jnp.asarray([[0.0, -0.0, 3.0, -3.0, 200.0, -200.0]])  # 0 is a corner of |l|
    slope = jax.grad(lambda logits: likelihoods.bernoulli_nll(logits, jnp.full(at.shape, 0.3)).sum())(at)
    np.testing.assert_allclose(slope, special.expit(np.asarray(at)) - 0.3, rtol=1e-5)


def test_squared_error_and_gaussian_nll():
    np.testing.assert_allclose(sums.squared_error(OUTPUT, X), ((OUTPUT - X) ** 2).reshape(5, -1).sum(1), rtol=1e-5)
    logvar = rng.normal(size=X.shape).astype(np.float32)
    wanted = -stats.norm.logpdf(X, OUTPUT, np.exp(0.5 * logvar)).reshape(5, -1).sum(1)
    np.testing.assert_allclose(likelihoods.gaussian_nll(OUTPUT, logvar, X), wanted, rtol=1e-4)
    shared = -stats.norm.logpdf(X, OUTPUT, np.exp(0.5 * 0.7)).reshape(5, -1).sum(1)
    np.testing.assert_allclose(likelihoods.gaussian_nll(OUTPUT, jnp.asarray(0.7), X), shared, rtol=1e-4)


def test_losses_are_sums_not_means():
    """Twice the pixels, twice the loss: else beta would mean another thing at another size."""
    for name in ("squared", "bernoulli"):
        nll = likelihoods.likelihood(name).nll
        twice = nll({}, np.concatenate([OUTPUT, OUTPUT], 1), np.concatenate([X, X], 1))
        np.testing.assert_allclose(twice, 2 * nll({}, OUTPUT, X), rtol=1e-5)


def test_likelihood_maps_outputs_to_data_space_and_refuses_other_names():
    np.testing.assert_allclose(likelihoods.likelihood("bernoulli").mean({}, OUTPUT), special.expit(OUTPUT), rtol=1e-5)
    np.testing.assert_array_equal(likelihoods.likelihood("squared").mean({}, OUTPUT), OUTPUT)
    with pytest.raises(ValueError, match="'poisson'; it must be one of"):
        likelihoods.likelihood("poisson")  # type: ignore[arg-type]


def test_kl_standard_normal_is_a_difference_of_entropies():
    mean, logvar = rng.normal(size=(2, 6, 3))
    q = stats.norm(mean, np.exp(0.5 * logvar))
    cross = 0.5 * np.log(2 * np.pi) + 0.5 * (mean**2 + np.exp(logvar))  # -E_q log N(z; 0, 1)
    np.testing.assert_allclose(divergences.kl_standard_normal(mean, logvar), cross - q.entropy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(divergences.kl_standard_normal(jnp.zeros(3), jnp.zeros(3)), 0)


def test_bernoulli_kl_is_scipys_and_finite_at_the_ends():
    rho = np.asarray([0.05, 0.3, 0.9])
    wanted = special.rel_entr(0.05, rho) + special.rel_entr(0.95, 1 - rho)
    np.testing.assert_allclose(divergences.bernoulli_kl(0.05, rho), wanted, rtol=1e-4, atol=1e-7)
    ends = jnp.asarray([0.0, 1.0])
    assert np.isfinite(divergences.bernoulli_kl(0.05, ends)).all()
    assert np.isfinite(jax.grad(lambda r: divergences.bernoulli_kl(0.05, r).sum())(ends)).all()


def test_weight_norms_leave_biases_out():
    params = {"a": {"kernel": jnp.asarray([[1.0, -2.0], [3.0, -4.0]]), "bias": jnp.asarray([5.0, 6.0])}}
    assert terms.l1(params) == 10
    assert terms.l2(params) == 30
    assert terms.l1({"bias": jnp.ones(3)}) == 0


def test_the_three_errors_of_a_reconstruction():
    x_hat = special.expit(OUTPUT)
    errors = terms.reconstruction(x_hat, X)
    np.testing.assert_allclose(errors["mse"], ((x_hat - X) ** 2).reshape(5, -1).mean(1), rtol=1e-5)
    np.testing.assert_allclose(errors["squared_error"], 24 * errors["mse"], rtol=1e-5)
    np.testing.assert_allclose(errors["cross_entropy"], likelihoods.bernoulli_nll(OUTPUT, X), rtol=1e-4)
    assert np.isfinite(terms.reconstruction(np.round(x_hat), X)["cross_entropy"]).all()


KEY = jax.random.key(0)
ONES = jnp.full((200, 10, 10, 1), 0.5)


def within(count, total, p):
    """Whether a count of successes is what probability p gives, to five standard deviations."""
    return abs(count - total * p) < 5 * np.sqrt(total * p * (1 - p))


def test_masking_zeroes_its_fraction():
    y = np.asarray(corruption.masking(0.3)(ONES, KEY))
    assert set(np.unique(y)) == {0.0, 0.5}
    assert within((y == 0).sum(), y.size, 0.3)
    np.testing.assert_array_equal(corruption.masking(0.0)(ONES, KEY), ONES)


def test_salt_and_pepper_sets_half_of_its_fraction_each_way():
    y = np.asarray(corruption.salt_and_pepper(0.4)(ONES, KEY))
    assert set(np.unique(y)) == {0.0, 0.5, 1.0}
    assert within((y == 0).sum(), y.size, 0.2)
    assert within((y == 1).sum(), y.size, 0.2)


def test_gaussian_noise_has_its_deviation():
    noise = np.asarray(corruption.gaussian(0.2)(ONES, KEY) - ONES).ravel()
    assert abs(noise.std() - 0.2) < 0.01
    assert stats.kstest(noise / 0.2, "norm").pvalue > 1e-3


def test_patches_erase_one_square_in_varying_places():
    y = np.asarray(corruption.patches(0.25)(ONES, KEY))[..., 0]
    erased = y == 0
    np.testing.assert_array_equal(erased.sum((1, 2)), 25)
    for one in erased:  # a full rectangle: its rows times its columns
        assert np.array_equal(one, one.any(1)[:, None] & one.any(0)[None])
        assert one.any(1).sum() == one.any(0).sum() == 5
    assert len(np.unique(erased.reshape(200, -1), axis=0)) > 20
    assert erased.any(0).all()  # every pixel somewhere, the edges too
    with pytest.raises(ValueError, match=r"images \[B, H, W, C\]"):
        corruption.patches(0.25)(jnp.ones((3, 4)), KEY)


@pytest.mark.parametrize("make", [corruption.masking, corruption.salt_and_pepper, corruption.patches])
def test_fractions_are_fractions(make):
    with pytest.raises(ValueError, match="between 0 and 1"):
        make(1.5)


def test_corruption_by_name_or_function():
    same = lambda x, key: x
    assert corruption.corruption(same) is same
    by_name, function = corruption.corruption("masking", 0.3), corruption.masking(0.3)
    np.testing.assert_array_equal(by_name(ONES, KEY), function(ONES, KEY))
    with pytest.raises(ValueError, match="'snow'; it must be one of"):
        corruption.corruption("snow", 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not be negative"):
        corruption.corruption("gaussian", -0.1)


def test_corrupted_networks_corrupt_in_training_only():
    net = networks.mlp((10, 10, 1), 3, hidden=())
    noisy = corruption.corrupted(net, corruption.masking(0.5))
    params = net.init(KEY, Batch(ONES))
    np.testing.assert_array_equal(noisy.encode(params, ONES), net.encode(params, ONES))
    np.testing.assert_array_equal(noisy.apply(params, ONES)[1], net.apply(params, ONES)[1])
    masked = corruption.masking(0.5)(ONES, jax.random.split(KEY)[0])
    np.testing.assert_allclose(noisy.encode(params, ONES, KEY), net.encode(params, masked), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(noisy.apply(params, ONES, KEY)[1], net.apply(params, masked)[1], rtol=1e-5, atol=1e-6)
