"""Distances between codes and prior, and the members that descend them, against closed forms and enumeration."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import data, flat, params_of, same, stepped

from ae_jax import networks
from ae_jax.algorithms import adversarial, autoencoder, info_vae, vae
from ae_jax.algorithms.info_vae import distance_of
from ae_jax.core import Batch, address
from ae_jax.distributions.distances import gaussian_kernel, multiquadric_kernel, sliced_wasserstein, squared_mmd
from ae_jax.distributions.sums import softplus

KEY = jax.random.key(0)
SGD = optax.sgd(1.0)
one_head, two_heads = (partial(networks.linear, (4,), 3, heads=heads) for heads in (1, 2))
pytestmark = pytest.mark.usefixtures("float64")


def normal(n, k, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, k)))


# -------------------------------------------------------------------------------------------------- distances


def test_kernels_are_their_formulas():
    d = np.array([0.0, 0.3, 4.0, 1e4])
    np.testing.assert_allclose(gaussian_kernel([0.5, 2.0])(jnp.asarray(d)), np.exp(-d) + np.exp(-d / 4), rtol=1e-12)
    np.testing.assert_allclose(multiquadric_kernel([0.5, 2.0])(jnp.asarray(d)), 1 / (1 + d) + 4 / (4 + d), rtol=1e-12)


def test_the_named_distances_have_the_papers_kernels():
    a, b = normal(5, 3), normal(5, 3, seed=1)
    of = lambda x, y: np.square(np.asarray(x)[:, None] - np.asarray(y)).sum(-1)
    scales = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
    kernels = {
        "multiquadric_mmd": lambda d: (2 * 3 * scales / (2 * 3 * scales + d[..., None])).sum(-1),
        "gaussian_mmd": lambda d: np.exp(-d / (2 * 3)),  # |z - z'|^2 is 2 K in the mean under the prior
    }
    for name, kernel in kernels.items():
        within = sum((kernel(of(x, x)).sum() - 5 * kernel(np.zeros(()))) / (5 * 4) for x in (a, b))
        expected = within - 2 * kernel(of(a, b)).mean()
        assert float(distance_of(name, 3, None, 0)(a, b, KEY)) == pytest.approx(expected, rel=1e-10)


def test_the_squared_mmd_is_unbiased():
    """Over all samples of two from each of two distributions on three points, its mean is the exact one."""
    p, q, kernel = normal(3, 2), 0.5 * normal(3, 2, seed=1) + 0.3, multiquadric_kernel([0.5, 2.0])
    k = lambda x, y: np.asarray(kernel(jnp.square(x[:, None] - y).sum(-1))).mean()
    exact = k(p, p) + k(q, q) - 2 * k(p, q)
    pairs = jnp.asarray(list(product(range(3), repeat=2)))  # [9, 2]
    of = lambda i, j: squared_mmd(p[i], q[j], kernel)
    found = jax.vmap(lambda i: jax.vmap(lambda j: of(i, j))(pairs))(pairs)
    assert float(found.mean()) == pytest.approx(exact, rel=1e-10)
    itself = jax.vmap(lambda i: jax.vmap(lambda j: squared_mmd(p[i], p[j], kernel))(pairs))(pairs)
    assert float(itself.mean()) == pytest.approx(0, abs=1e-12)
    assert float(itself.min()) < 0 < float(itself.max())


def test_the_squared_mmd_of_two_gaussians_is_the_closed_form():
    width, t, m = 2.0, 0.6, jnp.asarray([0.4, -0.2])  # a kernel of that variance; N(0, I) and N(m, t^2 I)
    mean = lambda v, shift: (width / (width + v)) ** (2 / 2) * np.exp(-shift / (2 * (width + v)))
    exact = mean(2.0, 0) + mean(2 * t**2, 0) - 2 * mean(1 + t**2, float(jnp.square(m).sum()))
    z = normal(3000, 2)
    found = float(jax.jit(squared_mmd, static_argnums=2)(z[:1500], m + t * z[1500:], gaussian_kernel([width])))
    assert found == pytest.approx(exact, abs=0.005)
    assert exact > 0.02


def test_equal_points_have_a_finite_gradient():
    z = jnp.ones((4, 3))
    for name in ("multiquadric_mmd", "gaussian_mmd", "sliced_wasserstein"):
        assert np.isfinite(jax.grad(distance_of(name, 3, None, 7))(z, z, KEY)).all()


def test_the_sliced_distance_pairs_points_in_order():
    a, b = normal(9, 1), 2 * normal(9, 1, seed=1) + 1  # on a line: the exact squared distance
    exact = np.square(np.sort(a, 0) - np.sort(b, 0)).mean()
    assert float(sliced_wasserstein(a, b, KEY)) == pytest.approx(exact, rel=1e-12)
    z, w = normal(9, 3), normal(9, 3, seed=2)
    assert float(sliced_wasserstein(z, w, KEY)) == pytest.approx(float(sliced_wasserstein(z[::-1], w, KEY)), rel=1e-12)
    assert float(sliced_wasserstein(z, z[::-1], KEY)) == 0
    m, t = jnp.asarray([0.5, -0.4, 0.2]), 0.6
    z = (z - z.mean(0)) @ jnp.linalg.inv(jnp.linalg.cholesky(jnp.cov(z, rowvar=False, bias=True))).T
    exact = float(jnp.square(m).sum()) / 3 + (1 - t) ** 2  # of z and m + t z, for z of covariance I
    assert float(sliced_wasserstein(z, m + t * z, KEY, 20_000)) == pytest.approx(exact, rel=0.02)


# ---------------------------------------------------------------------------------------------------- members

NAMES = ("multiquadric_mmd", "gaussian_mmd", "sliced_wasserstein")


@pytest.mark.parametrize("distance", NAMES)
def test_a_weight_of_one_and_no_alpha_is_the_vae(distance):
    params, batch = params_of(two_heads()), data()
    info = info_vae(two_heads(), SGD, alpha=0.0, weight=1.0, distance=distance)
    same(stepped(info, params, batch)[0], stepped(vae(two_heads(), SGD), params, batch)[0])


def test_a_delta_posterior_without_a_weight_is_the_autoencoder_to_the_bit():
    params, batch = params_of(one_head()), data()
    wae = info_vae(one_head(), SGD, posterior="delta", likelihood="squared", weight=0.0)
    plain = stepped(autoencoder(one_head(), SGD), params, batch)[0]
    np.testing.assert_array_equal(flat(stepped(wae, params, batch)[0]), flat(plain))


def test_the_loss_is_its_parts_and_a_narrow_posterior_is_a_delta():
    batch, apart = data(), lambda z, prior, key: (z**4).mean()  # a distance of one's own
    delta, params = params_of(one_head()), params_of(two_heads())
    layer = delta["encoder"]["layer_0"]
    wide = {"kernel": jnp.zeros((4, 6)).at[:, :3].set(layer["kernel"])}
    narrow = wide | {"bias": jnp.concatenate([layer["bias"], jnp.full(3, -80.0)])}
    wae = info_vae(one_head(), SGD, posterior="delta", weight=7.0, distance=apart)
    loss = stepped(wae, delta, batch)[1]
    assert float(loss["loss"]) == pytest.approx(float(loss["reconstruction"] + 7 * loss["distance"]), rel=1e-12)
    info = info_vae(two_heads(), SGD, alpha=1.0, weight=7.0, distance=apart)
    narrow = stepped(info, {"encoder": {"layer_0": narrow}, "decoder": delta["decoder"]}, batch)[1]
    assert float(narrow["loss"]) == pytest.approx(float(loss["loss"]), rel=1e-10)
    some = stepped(info_vae(two_heads(), SGD, alpha=0.25, weight=7.0, distance=apart), params, batch)[1]
    expected = some["nll"] + 0.75 * some["kl"] + 6.25 * some["distance"]
    assert float(some["loss"]) == pytest.approx(float(expected), rel=1e-12)


def test_codes_are_compared_with_draws_of_the_prior_that_change():
    seen = []

    def spy(z, prior, key):
        seen.append((prior, key))
        return jnp.zeros(())

    algorithm = info_vae(one_head(), SGD, posterior="delta", distance=spy)
    for t in range(2):
        stepped(algorithm, params_of(one_head()), data(2000), address(KEY, t))
    (first, _), (second, _) = seen
    assert first.shape == (2000, 3)
    assert np.abs(first - second).max() > 0.1
    assert float(jnp.square(first).mean()) == pytest.approx(1, abs=0.1)


def test_evaluation_compares_no_examples_and_a_batch_of_one_has_no_distance():
    batch = data()
    for options, net in (({"posterior": "delta"}, one_head()), ({}, two_heads())):
        algorithm = info_vae(net, SGD, **options)
        params = params_of(net)
        found = algorithm.evaluate(params, batch, KEY)
        assert found["loss"].shape == (6,)
        assert "distance" not in found
        _, metrics = stepped(algorithm, params, Batch(batch.x[:1]))
        assert float(metrics["distance"]) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"distance": "wasserstein"},
            "distance is 'wasserstein'; it must be one of multiquadric_mmd, .* or a function",
        ),
        ({"posterior": "flow"}, "posterior is 'flow'; it must be one of gaussian, delta"),
        ({"alpha": 0.2, "weight": 0.5}, r"alpha \+ weight is 0.7; below 1 codes would be drawn away"),
        ({"alpha": 1.5}, "alpha is 1.5; it must be a fraction"),
        ({"scales": (1.0, -1.0)}, "scales is -1"),
        ({"scales": ()}, "scales is empty"),
        (
            {"weight": optax.linear_schedule(0.0, 100.0, 10)},
            r"alpha \+ weight is 0.5; below 1 codes would be drawn away",
        ),
        ({"likelihood": "squared"}, "likelihood squared is no probability"),
    ],
)
def test_options_without_sense_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        info_vae(two_heads(), SGD, **options).init(KEY, data())


def test_the_adversarial_member_is_the_wasserstein_autoencoder_with_a_critic():
    """Its three steps are one step of squared error + weight * softplus(-critic(z)) to first order in the rate."""
    weight, batch = 3.0, data()
    make = lambda rate: adversarial(
        one_head(), optax.sgd(rate), likelihood="squared", confuse_rate=weight, critic_widths=(4,)
    )
    params = make(1.0).init(KEY, batch)
    net, critic = one_head(), params["critic"]

    def objective(encoder):
        z, x_hat = net.apply(params | {"encoder": encoder}, batch.x)
        (w, b), (v, c) = critic
        odds = (jax.nn.relu(z @ w + b[None]) @ v + c[None])[:, 0]
        return (jnp.square(x_hat - batch.x).sum(1) + weight * softplus(-odds)).mean()

    gradient = flat(jax.grad(objective)(params["encoder"]))
    away = lambda rate: np.abs(
        (flat(params["encoder"]) - flat(stepped(make(rate), params, batch)[0]["encoder"])) / rate - gradient
    ).max()
    assert away(1e-4) < 1e-2 * np.abs(gradient).max()
    assert away(1e-4) < 0.15 * away(1e-3)  # the rest is of second order
