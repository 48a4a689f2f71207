"""Exact answers: what mathematics says each algorithm must give."""

import inspect
import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxprs import equations
from probes import PROBES, bars, build, flat, required
from scipy import linalg, special, stats
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from ae_jax import core, networks
from ae_jax.algorithms import (
    ALGORITHMS,
    adversarial,
    adversarial_labels,
    adversarial_style,
    autoencoder,
    classifier,
    contractive,
    dec,
    denoising,
    importance,
    k_sparse,
    made,
    sparse,
    vae,
    vamp,
)
from ae_jax.algorithms.k_sparse import largest
from ae_jax.core import Batch
from ae_jax.corruption import corrupted, masking
from ae_jax.distributions import priors
from ae_jax.objectives import labels
from ae_jax.objectives.game import game, perceptron
from ae_jax.objectives.jacobians import square_norm
from ae_jax.training import settings

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
GAUSSIAN = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 6)) + 0.3 * rng.normal(size=(200, 6)) + rng.normal(size=6)
UNIT = Batch(jnp.asarray(rng.uniform(size=(30, 7)), jnp.float32))  # in [0, 1]


def step_by_one(algorithm_with_sgd_of_rate_one, params, batch, key=KEY):
    """The gradient of the loss in the groups that descend, and the metrics."""
    rule = algorithm_with_sgd_of_rate_one.rule
    after, _, metrics = jax.jit(rule.update)(params, rule.init(params), batch, key)
    descended = ("encoder", "decoder", "likelihood")
    return {g: jax.tree.map(jnp.subtract, params[g], after[g]) for g in params if g in descended}, metrics


# ------------------------------------------------------------------------------------------- every algorithm


@pytest.mark.parametrize("name", ALGORITHMS)
def test_hyperparameters_are_keywords_with_defaults_and_documented(name):
    parameters = inspect.signature(ALGORITHMS[name]).parameters
    assert list(parameters)[:2] == ["net", "optimizer"]
    for parameter in list(parameters.values())[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty or parameter.name == "examples"
        assert f"        {parameter.name}: " in (ALGORITHMS[name].__doc__ or "")


@pytest.mark.parametrize("name", [name for name, probe in PROBES.items() if probe.descends])
def test_gradients_are_finite_differences_in_float64(name):
    with jax.enable_x64(True):
        batch = Batch(*(jnp.asarray(a[:9]) for a in bars()))
        batch = batch._replace(x=0.1 + 0.7 * batch.x.astype(jnp.float64))
        algorithm = build(name, optax.sgd(1.0))
        update = jax.jit(algorithm.rule.update, compiler_options={"xla_backend_optimization_level": 0})
        params = algorithm.init(KEY, batch)
        memory = algorithm.rule.init(params)
        after, _, _ = update(params, memory, batch, KEY)
        slopes, expected = [], []
        for seed in range(3):
            draw = np.random.default_rng(seed)
            learned = {g: params[g] for g in params if g not in algorithm.statistics}
            direction = jax.tree.map(lambda p: draw.normal(size=p.shape), learned)
            at = lambda h: params | jax.tree.map(lambda p, d: p + h * d, learned, direction)
            up, down = (update(at(h), memory, batch, KEY)[2]["loss"] for h in (1e-5, -1e-5))
            slopes.append((up - down) / 2e-5)
            gradient = {g: jax.tree.map(jnp.subtract, params[g], after[g]) for g in learned}
            expected.append(flat(gradient) @ flat(direction))
        hint = "Groups of params that are not learned are to be named in Algorithm.statistics."
        np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-8, err_msg=hint)


SMOOTH = {
    "autoencoder": lambda net: autoencoder(net, optax.sgd(1.0), code_l2=0.1, weight_l1=0.2, weight_l2=0.3),
    "denoising": lambda net: denoising(net, optax.sgd(1.0), corruption=lambda x, key: x, weight_l2=0.3),
    "sparse": lambda net: sparse(net, optax.sgd(1.0), weight_l2=0.3),
    "sparse_l1": lambda net: sparse(net, optax.sgd(1.0), penalty="l1"),
    "contractive": lambda net: contractive(net, optax.sgd(1.0), weight=0.7, weight_l2=0.3),
    "vae": lambda net: vae(net, optax.sgd(1.0), beta=4.0),
    "importance": lambda net: importance(net, optax.sgd(1.0)),
    "made": lambda net: made(net, optax.sgd(1.0)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_training_and_evaluation_weigh_the_terms_alike(name):
    heads = settings.heads(name.removesuffix("_l1")).number
    code = "sigmoid" if heads == 1 else "linear"
    net = networks.mlp((7,), 4 // heads, hidden=(), heads=heads, code_activation=code)
    algorithm = SMOOTH[name](net)
    params = algorithm.init(KEY, UNIT)
    _, metrics = step_by_one(algorithm, params, UNIT)
    evaluated = jax.jit(algorithm.evaluate)(params, UNIT, KEY)
    for metric in metrics:
        np.testing.assert_allclose(metrics[metric], evaluated[metric].mean(), rtol=1e-5)


# -------------------------------------------------------------------------------------- linear autoencoders


@pytest.mark.parametrize("tied", [False, True])
def test_a_linear_autoencoder_finds_the_error_and_the_subspace_of_pca(tied):
    with jax.enable_x64(True):
        data = Batch(jnp.asarray(GAUSSIAN))
        algorithm = autoencoder(networks.linear((6,), 2, tied=tied), optax.lbfgs())
        params, _ = jax.jit(partial(core.fit, algorithm.init, algorithm.rule, epochs=150))(data, KEY)
        pca = PCA(2).fit(GAUSSIAN)
        residual = np.square(GAUSSIAN - pca.inverse_transform(pca.transform(GAUSSIAN))).sum(1)
        error = algorithm.evaluate(params, data, KEY)["squared_error"]
        np.testing.assert_allclose(error, residual, rtol=1e-3, atol=1e-4)
        jacobian = jax.jacfwd(lambda z: algorithm.decode(params, z[None])[0])(jnp.zeros(2))
        assert linalg.subspace_angles(jacobian, pca.components_.T).max() < 1e-3


# ------------------------------------------------------------------------------------------------- denoising


def test_denoising_sees_corrupted_inputs_in_training_and_clean_ones_afterwards():
    net = networks.mlp((7,), 3, hidden=(5,))
    none, much = (denoising(net, optax.sgd(1.0), level=level) for level in (0.0, 0.9))
    params = none.init(KEY, UNIT)
    clean, noisy = (algorithm.evaluate(params, UNIT, KEY) for algorithm in (none, much))
    for metric in clean:
        assert np.allclose(clean[metric], noisy[metric]) == (metric != "denoising")
    np.testing.assert_array_equal(none.encode(params, UNIT.x), much.encode(params, UNIT.x))
    keys = jax.random.split(KEY, (2, 50))
    losses = jax.vmap(lambda key: step_by_one(much, params, UNIT, key)[1]["loss"])(keys[0])
    again = jax.jit(jax.vmap(lambda key: much.evaluate(params, UNIT, key)["denoising"].mean()))(keys[1])
    assert stats.ttest_ind(losses, again).pvalue > 1e-3  # evaluation's metric is what training descends
    assert abs(np.mean(losses) - clean["loss"].mean()) > 10 * stats.sem(losses)


def test_the_best_linear_denoiser_is_the_wiener_filter():
    """At W = S (S + s^2 I)^-1, S the data's second moments, the expected gradient vanishes; elsewhere not."""
    s, x = 0.5, GAUSSIAN - GAUSSIAN.mean(0)
    second = x.T @ x / len(x)
    wiener = np.linalg.solve(second + s**2 * np.eye(6), second)
    algorithm = denoising(networks.linear((6,), 6), optax.sgd(1.0), corruption="gaussian", level=s)
    params = algorithm.init(KEY, Batch(jnp.asarray(x, jnp.float32)))

    @jax.jit
    def gradients(kernel):
        layer = lambda kernel: {"layer_0": {"kernel": kernel, "bias": jnp.zeros(6)}}
        at = params | {"encoder": layer(kernel), "decoder": layer(jnp.eye(6))}
        one = lambda key: step_by_one(algorithm, at, Batch(jnp.asarray(x, jnp.float32)), key)[0]["encoder"]
        return jax.vmap(one)(jax.random.split(KEY, 2000))["layer_0"]["kernel"]

    def deviations(kernel):
        g = gradients(jnp.asarray(kernel, jnp.float32))
        return np.abs(g.mean(0)) / stats.sem(g)

    assert deviations(wiener).max() < 5
    assert deviations(np.eye(6)).max() > 20


def test_labels_that_name_no_mode_are_anywhere():
    of = priors.prior("mixture", 2, modes=3).draw({}, KEY, 400, float, jnp.full(400, 7))
    angles = np.round(np.arctan2(of[:, 1], of[:, 0]) / (2 * np.pi / 3)).astype(int) % 3
    assert set(angles.tolist()) == {0, 1, 2}
    with pytest.raises(ValueError, match="at least 1 mode"):
        priors.prior("mixture", 2, modes=0)


# ------------------------------------------------------------------------------------------------ contractive


def jacobians(net, params, x):
    """By reverse mode: [B, K, D]."""
    rows = jax.jit(jax.vmap(jax.jacrev(lambda x: net.encode(params, x[None])[0])))(x)
    return np.asarray(rows).reshape(len(x), net.latents, -1)


def penalty_of(net, params, batch, key=KEY, **options):
    return jax.jit(contractive(net, optax.sgd(1.0), **options).evaluate)(params, batch, key)["jacobian"]


@pytest.mark.parametrize("group", [1, 3, 7, 100])
def test_one_sigmoid_layers_contractive_penalty_has_a_closed_form(group):
    net = networks.mlp((7,), 4, hidden=(), code_activation="sigmoid")
    params = net.init(KEY, UNIT)
    h, w = np.asarray(net.encode(params, UNIT.x)), np.asarray(params["encoder"]["layer_0"]["kernel"])
    formula = (h * (1 - h)) ** 2 @ np.square(w).sum(0)  # sum_j (h_j (1 - h_j))^2 ||W_j||^2
    for options in ({"penalty": "exact", "group": group}, {"penalty": "closed"}):
        np.testing.assert_allclose(penalty_of(net, params, UNIT, **options), formula, rtol=1e-4)
    exact, closed = (
        step_by_one(contractive(net, optax.sgd(1.0), **options), params, UNIT)[0]
        for options in ({"penalty": "exact", "group": group}, {"penalty": "closed"})
    )
    np.testing.assert_allclose(flat(exact), flat(closed), rtol=1e-3, atol=1e-5)


def test_the_exact_penalty_is_any_encoders_jacobian_and_hutchinson_estimates_it():
    images = Batch(jax.random.uniform(KEY, (6, 3, 2, 2)))
    net = networks.mlp((3, 2, 2), 5, hidden=(8, 6), activation="tanh")
    params = net.init(KEY, images)
    wanted = np.square(jacobians(net, params, images.x)).sum((1, 2))
    np.testing.assert_allclose(penalty_of(net, params, images, penalty="exact"), wanted, rtol=1e-4)
    estimate = jax.vmap(lambda key: penalty_of(net, params, images, key, penalty="hutchinson", samples=2))
    draws = np.asarray(jax.jit(estimate)(jax.random.split(KEY, 1000)))  # [1000, B]
    assert (np.abs(draws.mean(0) - wanted) < 4.5 * stats.sem(draws)).all()
    assert (draws.std(0) > 0).all()


def test_the_exact_penalty_computes_an_encoders_values_once_and_not_with_every_block():
    net = networks.mlp((7,), 4, hidden=(), code_activation="sigmoid")
    params = net.init(KEY, UNIT)

    slope = jax.grad(lambda params: square_norm("exact", group=2)(partial(net.encode, params), None, KEY, UNIT.x).sum())
    found = {(e.primitive.name, times > 1) for e, times in equations(jax.make_jaxpr(slope)(params).jaxpr)}
    assert ("logistic", False) in found
    assert ("dot_general", True) in found
    assert ("logistic", True) not in found


@pytest.mark.optimised
def test_the_exact_penaltys_memory_is_that_of_a_block_and_not_of_the_jacobian():
    net = networks.mlp((784,), 100, hidden=(), code_activation="sigmoid")
    x = jnp.zeros((16, 784))
    params = net.init(KEY, Batch(x))

    def memory(**options):  # bytes, besides arguments and the gradient
        norm = square_norm("exact", **options)
        slope = jax.jit(jax.grad(lambda params, x: norm(partial(net.encode, params), None, KEY, x).sum()))
        return slope.lower(params, x).compile().memory_analysis().temp_size_in_bytes

    assert 5 * memory() < memory(group=784)


def test_the_penalty_is_on_the_deterministic_encoder_at_the_clean_input():
    net = corrupted(networks.mlp((7,), 4, hidden=(5,), dropout=0.5), masking(0.5))
    params = net.init(KEY, UNIT)
    _, metrics = step_by_one(contractive(net, optax.sgd(1.0)), params, UNIT)
    wanted = np.square(jacobians(net, params, UNIT.x)).sum((1, 2)).mean()
    np.testing.assert_allclose(metrics["jacobian"], wanted, rtol=1e-4)


@pytest.mark.parametrize("penalty", ["exact", "closed"])
def test_the_change_of_a_sigmoid_layers_jacobian_is_an_integral_over_one_number(penalty):
    """E ||J(x) - J(x + e)||^2 = sum_j ||W_j||^2 E (s'(a_j) - s'(a_j + noise ||W_j|| t))^2, t standard normal."""
    data = Batch(UNIT.x[:4])
    net = networks.mlp((7,), 5, hidden=(), code_activation="sigmoid", init="sigmoid_uniform")
    params = net.init(KEY, data)
    w, b = (np.asarray(params["encoder"]["layer_0"][name], np.float64) for name in ("kernel", "bias"))
    slope = lambda a: special.expit(a) * special.expit(-a)
    t, weights = np.polynomial.hermite_e.hermegauss(60)
    size, a = np.linalg.norm(w, axis=0), np.asarray(data.x) @ w + b
    moved = a[..., None] + 0.5 * size[:, None] * t
    wanted = (np.square(slope(a)[..., None] - slope(moved)) @ weights / weights.sum()) @ np.square(size)
    algorithm = contractive(
        net,
        optax.sgd(1.0),
        penalty=penalty,
        weight=0.3,
        higher=0.7,
        higher_noise=0.5,
        corruptions=4000,
        likelihood="squared",
    )
    got = jax.jit(algorithm.evaluate)(params, data, KEY)
    np.testing.assert_allclose(got["jacobian_change"], wanted, rtol=0.08)
    total = got["reconstruction"] + 0.3 * got["jacobian"] + 0.7 * got["jacobian_change"]
    np.testing.assert_allclose(got["loss"], total, rtol=1e-5)


@pytest.mark.parametrize("method", ["exact", "hutchinson"])
def test_norms_of_the_jacobian_of_a_difference_are_those_of_the_difference_of_jacobians(method):
    net = networks.mlp((7,), 4, hidden=(6,), activation="tanh")
    params, x = net.init(KEY, UNIT), UNIT.x[:3]
    e = 0.3 * jax.random.normal(jax.random.key(1), x.shape)
    wanted = np.square(jacobians(net, params, x) - jacobians(net, params, x + e)).sum((1, 2))
    change = lambda x, e: net.encode(params, x) - net.encode(params, x + e)
    got = square_norm(method, samples=20000)(change, None, KEY, x, e)
    np.testing.assert_allclose(got, wanted, rtol=0.1 if method == "hutchinson" else 1e-4)


@pytest.mark.parametrize("penalty", ["exact", "closed", "hutchinson"])
def test_a_linear_encoders_jacobian_does_not_change(penalty):
    net = networks.linear((7,), 4)
    params = net.init(KEY, UNIT)
    algorithm = contractive(net, optax.sgd(1.0), penalty=penalty, higher=5.0, corruptions=2)
    assert np.abs(jax.jit(algorithm.evaluate)(params, UNIT, KEY)["jacobian_change"]).max() < 1e-9
    with jax.debug_key_reuse(True):
        algorithm.evaluate(params, UNIT, jax.random.key(1))


# ---------------------------------------------------------------------------------------------------- sparse


def test_the_sparse_loss_is_twice_the_cost_of_the_ufldl_tutorial():
    """Its NumPy code, 1/2 mean ||o - x||^2 + lambda/2 ||W||^2 + beta sum KL with gradients by backpropagation."""
    rho, decay, beta, count = 0.1, 3e-3, 3.0, len(UNIT.x)
    with jax.enable_x64(True):
        data = Batch(jnp.asarray(UNIT.x, jnp.float64))
        net = networks.mlp((7,), 5, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
        algorithm = sparse(net, optax.sgd(1.0), penalty="kl_minibatch", target=rho, weight=2 * beta, weight_l2=decay)
        params = algorithm.init(KEY, data)
        gradient, metrics = step_by_one(algorithm, params, data)
    x = np.asarray(data.x).T
    (w1, b1), (w2, b2) = (
        [np.asarray(params[g]["layer_0"][k], np.float64).T for k in ("kernel", "bias")] for g in ("encoder", "decoder")
    )
    h = special.expit(w1 @ x + b1[:, None])
    o = special.expit(w2 @ h + b2[:, None])
    mean = h.mean(1)
    kl = (rho * np.log(rho / mean) + (1 - rho) * np.log((1 - rho) / (1 - mean))).sum()
    cost = np.square(o - x).sum() / (2 * count) + decay / 2 * (np.square(w1).sum() + np.square(w2).sum()) + beta * kl
    delta_o = (o - x) * o * (1 - o)
    pressure = beta * ((1 - rho) / (1 - mean) - rho / mean)
    delta_h = (w2.T @ delta_o + pressure[:, None]) * h * (1 - h)
    theirs = {
        "encoder": {"kernel": (delta_h @ x.T / count + decay * w1).T, "bias": delta_h.mean(1)},
        "decoder": {"kernel": (delta_o @ h.T / count + decay * w2).T, "bias": delta_o.mean(1)},
    }
    np.testing.assert_allclose(metrics["loss"], 2 * cost, rtol=1e-12)
    for group, layer in theirs.items():
        for name, wanted in layer.items():
            np.testing.assert_allclose(gradient[group]["layer_0"][name], 2 * wanted, rtol=1e-8, atol=1e-13)


def test_the_ufldl_initialisation_is_glorots_but_for_one_bias():
    kernel = networks.mlp((784,), 200, hidden=()).init(KEY, Batch(jnp.zeros((1, 784))))["encoder"]["layer_0"]["kernel"]
    assert float(jnp.abs(kernel).max()) == pytest.approx(np.sqrt(6 / (784 + 200 + 1)), rel=1e-3)


@pytest.mark.parametrize(("units", "batch_size"), [("sigmoid", 30), ("sigmoid", 7), ("tanh", 10)])
def test_minibatches_of_the_sparse_loss_have_the_full_batch_gradient(units, batch_size):
    with jax.enable_x64(True):
        data = Batch(jnp.asarray(UNIT.x, jnp.float64))
        net = networks.mlp((7,), 5, hidden=(), code_activation=units)
        algorithm = sparse(net, optax.sgd(1.0), units=units, target=0.1, weight=2.0, weight_l2=0.01)
        params = net.init(KEY, data) | {"rho": jnp.full(5, 0.9)}
        params, _, _ = algorithm.before.update(params, (), data, KEY)  # the measurement

        def whole(learned):
            h, output = net.apply(learned, data.x)
            rho = (h if units == "sigmoid" else (1 + h) / 2).mean(0)
            kl = 0.1 * jnp.log(0.1 / rho) + 0.9 * jnp.log(0.9 / (1 - rho))
            squares = [jnp.square(learned[g]["layer_0"]["kernel"]).sum() for g in ("encoder", "decoder")]
            return jnp.square(output - data.x).sum(1).mean() + 2 * kl.sum() + 0.01 * sum(squares)

        learned = {g: params[g] for g in ("encoder", "decoder")}
        value, gradient = jax.value_and_grad(whole)(learned)
        total, loss = jax.tree.map(jnp.zeros_like, gradient), 0.0
        step = jax.jit(partial(step_by_one, algorithm))
        for first in range(0, 30, batch_size):
            batch = Batch(data.x[first : first + batch_size])
            part, metrics = step(params, batch)
            share = len(batch.x) / 30
            total = jax.tree.map(lambda t, p: t + share * p, total, part)
            loss += share * metrics["loss"]
        np.testing.assert_allclose(loss, value, rtol=1e-10)
        np.testing.assert_allclose(flat(total), flat(gradient), rtol=1e-9, atol=1e-12)


def test_kl_of_a_minibatch_is_the_kl_of_its_mean():
    net = networks.mlp((7,), 5, hidden=(), code_activation="sigmoid")
    algorithm = sparse(net, optax.sgd(1.0), penalty="kl_minibatch", target=0.1)
    params = algorithm.init(KEY, UNIT)
    rho = np.asarray(net.encode(params, UNIT.x)).mean(0)
    wanted = (special.rel_entr(0.1, rho) + special.rel_entr(0.9, 1 - rho)).sum()
    np.testing.assert_allclose(step_by_one(algorithm, params, UNIT)[1]["penalty"], wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("units", "penalty"), [("sigmoid", "kl"), ("sigmoid", "kl_minibatch"), ("sigmoid", "l1"), ("tanh", "kl")]
)
def test_dead_and_saturated_units_give_finite_numbers(units, penalty):
    net = networks.mlp((7,), 5, hidden=(), code_activation=units)
    algorithm = sparse(net, optax.sgd(1.0), units=units, penalty=penalty)
    params = net.init(KEY, UNIT)
    step = jax.jit(partial(step_by_one, algorithm))
    for saturated in (-1e4, 1e4):
        params["encoder"]["layer_0"]["bias"] = jnp.full(5, saturated)
        if algorithm.before is not None:
            params, _, _ = algorithm.before.update(params, (), UNIT, KEY)
            np.testing.assert_allclose(params["rho"], float(saturated > 0))
        gradient, metrics = step(params, UNIT)
        assert np.isfinite(flat(gradient)).all()
        assert np.isfinite(flat(metrics)).all()


def test_a_code_without_bounds_is_refused_for_the_kl_alone():
    """The refusals themselves are among `WRONG`."""
    for net in (
        networks.mlp((7,), 3, code_activation=jax.nn.sigmoid),
        networks.linear((7,), 3)._replace(activation=None),
    ):
        sparse(net, optax.sgd(1.0))  # nothing is known of it
    sparse(networks.mlp((7,), 3, code_activation="relu"), optax.sgd(1.0), penalty="l1")
    image = networks.conv((4, 4, 1), 3, code_activation="sigmoid")
    sparse(corrupted(image, masking(0.5)), optax.sgd(1.0))
    with pytest.raises(ValueError, match="the code is softplus"):
        sparse(networks.conv((4, 4, 1), 3, code_activation="softplus"), optax.sgd(1.0))


@pytest.mark.parametrize("batch_size", [16, 256])
def test_every_units_mean_activation_over_the_training_set_settles_at_the_target(batch_size):
    x = load_digits().data[: 1500 if batch_size > 100 else 400].astype(np.float32) / 16
    data = Batch(jnp.asarray(x))
    net = networks.mlp((64,), 25, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
    algorithm = sparse(net, optax.adam(1e-2), target=0.05, weight=30.0)
    rule = core.epoch(algorithm, batch_size)
    params, history = jax.jit(partial(core.fit, algorithm.init, rule, epochs=60))(data, KEY)
    activation = np.asarray(algorithm.encode(params, data.x)).mean(0)
    np.testing.assert_allclose(activation, 0.05, atol=0.004)
    np.testing.assert_allclose(params["rho"], activation, atol=0.002)  # it has followed the training
    assert history["reconstruction"][-1] < 0.7 * history["reconstruction"][4]


# ------------------------------------------------------------------------------------------------ variational


def probabilistic_pca(latents=2):
    """scikit-learn's maximum-likelihood model of `GAUSSIAN`, and the linear VAE that is the same model."""
    pca = PCA(latents).fit(GAUSSIAN)
    noise = pca.noise_variance_
    w = pca.components_.T * np.sqrt(pca.explained_variance_ - noise)  # [D, K], columns orthogonal
    precision = (w**2).sum(0) + noise  # diagonal of W^T W + s^2 I: the posterior is a diagonal Gaussian
    kernel = np.concatenate([w / precision, np.zeros_like(w)], 1)  # its mean, and a constant log-variance
    bias = np.concatenate([-pca.mean_ @ w / precision, np.log(noise / precision)])
    params = {
        "encoder": {"layer_0": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}},
        "decoder": {"layer_0": {"kernel": jnp.asarray(w.T), "bias": jnp.asarray(pca.mean_)}},
        "likelihood": {"logvar": jnp.asarray(np.log(noise))},
    }
    return pca, params


linear = partial(networks.linear, (6,), 2, heads=2)
gaussian = partial(vae, linear(), likelihood="gaussian")


def test_at_the_exact_posterior_every_importance_weight_is_the_likelihood_of_probabilistic_pca():
    with jax.enable_x64(True):
        (pca, params), data = probabilistic_pca(), Batch(jnp.asarray(GAUSSIAN))
        log_p = pca.score_samples(GAUSSIAN)
        algorithm = gaussian(optax.sgd(1.0))
        for seed in range(3):  # whatever is drawn: no variance
            np.testing.assert_allclose(algorithm.log_weight(params, data, jax.random.key(seed)), log_p, rtol=1e-9)
        many = importance(linear(), optax.sgd(1.0), likelihood="gaussian", samples=7)
        np.testing.assert_allclose(many.evaluate(params, data, KEY)["bound"], log_p, rtol=1e-9)
        keys = jax.random.split(KEY, 400)
        elbo = jax.jit(jax.vmap(lambda key: algorithm.evaluate(params, data, key)["elbo"]))(keys)  # [400, N]
        assert (np.abs(elbo.mean(0) - log_p) < 5 * stats.sem(elbo)).all()
        assert elbo.std() > 0.1  # its reconstruction is a draw's, its KL is in closed form


def test_a_trained_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    pca, _ = probabilistic_pca()
    data = Batch(jnp.asarray(GAUSSIAN, jnp.float32))
    algorithm = gaussian(optax.adam(optax.cosine_decay_schedule(2e-2, 10_000)))
    params, _ = jax.jit(partial(core.fit, algorithm.init, algorithm.rule, epochs=10_000))(data, KEY)
    elbo = jax.jit(jax.vmap(lambda key: algorithm.evaluate(params, data, key)["elbo"].mean()))(
        jax.random.split(KEY, 500)
    )
    optimum = pca.score(GAUSSIAN)
    assert optimum - 0.05 < elbo.mean() < optimum + 0.02
    np.testing.assert_allclose(np.exp(params["likelihood"]["logvar"]), pca.noise_variance_, rtol=0.05)


def worse_posterior():
    """Probabilistic PCA with an encoder that is wrong: shifted and too wide."""
    pca, params = probabilistic_pca()
    params["encoder"]["layer_0"]["bias"] += jnp.asarray([0.2, -0.1, 0.8, 0.5])
    return pca, params


def importance_weights(params, data, key, k):
    """log p(x, z) - log q(z | x) by SciPy, of the very draws [k, N, 2]."""
    key_z = jax.random.split(key, 3)[0]
    mean, logvar = np.split(np.asarray(linear().encode(params, data.x)), 2, axis=1)
    z = mean + np.exp(0.5 * logvar) * np.asarray(jax.random.normal(key_z, (k, *mean.shape)))
    x_hat = np.stack([linear().decode(params, jnp.asarray(one, data.x.dtype)) for one in z])
    s = np.exp(0.5 * float(params["likelihood"]["logvar"]))
    log_joint = stats.norm.logpdf(GAUSSIAN, x_hat, s).sum(-1) + stats.norm.logpdf(z).sum(-1)
    return log_joint - stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(-1)


def test_importance_weights_are_log_joint_minus_log_posterior():
    """The sign of each of the three terms."""
    (_, params), data = worse_posterior(), Batch(jnp.asarray(GAUSSIAN))
    log_w = gaussian(optax.sgd(1.0)).log_weight(params, data, KEY)
    np.testing.assert_allclose(log_w, importance_weights(params, data, KEY, 1)[0], rtol=1e-3, atol=1e-3)


def test_iwae_uses_exactly_its_samples_and_with_one_is_the_elbo():
    (_, params), data = worse_posterior(), Batch(jnp.asarray(GAUSSIAN))
    for k in (1, 4):
        algorithm = importance(linear(), optax.sgd(1.0), likelihood="gaussian", samples=k)
        metrics = jax.jit(algorithm.evaluate)(params, data, KEY)
        log_w = importance_weights(params, data, KEY, k)
        np.testing.assert_allclose(metrics["bound"], special.logsumexp(log_w, 0) - np.log(k), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(metrics["elbo"], log_w.mean(0), rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(metrics["loss"], -metrics["bound"])
        assert (k == 1) == np.allclose(metrics["bound"], metrics["elbo"])


def test_importance_samples_are_one_batch_of_the_decoder():
    """If the decoder is mapped over samples, a layer's gradient is a sum over two axes, and XLA copies the layer."""
    k, batch = 5, Batch(UNIT.x[:10])
    algorithm = importance(networks.mlp((7,), 3, hidden=(6,), heads=2), optax.sgd(1.0), samples=k)
    params = algorithm.init(KEY, batch)

    def mapped(params):
        log_w = jax.vmap(lambda key: algorithm.log_weight(params, batch, key))(jax.random.split(KEY, k))
        return jax.nn.logsumexp(log_w, 0).mean()

    def products(f, *args):  # the shapes of what is multiplied
        found = (equation for equation, _ in equations(jax.make_jaxpr(f)(*args).jaxpr))
        return [a.aval.shape for e in found if e.primitive.name == "dot_general" for a in e.invars]

    update = products(algorithm.rule.update, params, algorithm.rule.init(params), batch, KEY)
    assert (k * 10, 6) in update
    assert all(len(shape) == 2 for shape in update)
    assert (k, 10, 6) in products(jax.grad(mapped), params)


@pytest.mark.slow
def test_the_bound_rises_with_the_samples_from_the_elbo_towards_the_likelihood():
    (pca, params), data = worse_posterior(), Batch(jnp.asarray(GAUSSIAN))
    keys = jax.random.split(KEY, 100)

    def draws(algorithm, metric):  # the mean over the data set, [100]
        return np.asarray(jax.jit(jax.vmap(lambda key: algorithm.evaluate(params, data, key)[metric].mean()))(keys))

    bounds = [
        draws(importance(linear(), optax.sgd(1.0), likelihood="gaussian", samples=k), "bound") for k in (1, 2, 8, 64)
    ]
    for fewer, more in itertools.pairwise(bounds):
        assert fewer.mean() + 5 * (stats.sem(fewer) + stats.sem(more)) < more.mean()
    assert bounds[-1].mean() < pca.score(GAUSSIAN) + 5 * stats.sem(bounds[-1])
    elbo = draws(gaussian(optax.sgd(1.0)), "elbo")
    assert abs(elbo.mean() - bounds[0].mean()) < 5 * (stats.sem(elbo) + stats.sem(bounds[0]))


def test_the_vaes_loss_is_its_parts():
    net = networks.mlp((7,), 3, hidden=(5,), heads=2)
    batch, free = Batch(UNIT.x[:10]), 0.4
    plain = vae(net, optax.sgd(1.0), beta=2.0)
    params = plain.init(KEY, batch)
    metrics = jax.jit(plain.evaluate)(params, batch, KEY)
    np.testing.assert_allclose(metrics["loss"], metrics["nll"] + 2 * metrics["kl"], rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], -metrics["nll"] - metrics["kl"], rtol=1e-5)
    mean, logvar = np.split(np.asarray(net.encode(params, batch.x)), 2, axis=1)
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar)
    np.testing.assert_allclose(metrics["kl"], kl.sum(1), rtol=1e-4)
    _, trained = step_by_one(vae(net, optax.sgd(1.0), free_bits=free), params, batch)
    wanted = metrics["nll"].mean() + np.maximum(kl.mean(0), free).sum()
    np.testing.assert_allclose(trained["loss"], wanted, rtol=1e-5)


def test_warming_up_raises_the_kls_weight_and_evaluation_uses_its_end():
    net = networks.mlp((7,), 3, hidden=(5,), heads=2)
    algorithm = vae(net, optax.sgd(0.0), beta=3.0, warmup_steps=4)
    params = algorithm.init(KEY, UNIT)
    memory, seen, update = algorithm.rule.init(params), [], jax.jit(algorithm.rule.update)
    for _ in range(6):
        params, memory, metrics = update(params, memory, UNIT, KEY)
        np.testing.assert_allclose(metrics["loss"], metrics["nll"] + metrics["beta"] * metrics["kl"], rtol=1e-5)
        seen.append(float(metrics["beta"]))
    np.testing.assert_allclose(seen, [0, 0.75, 1.5, 2.25, 3, 3])
    evaluated = jax.jit(algorithm.evaluate)(params, UNIT, KEY)
    np.testing.assert_allclose(evaluated["loss"], evaluated["nll"] + 3 * evaluated["kl"], rtol=1e-5)


@pytest.mark.parametrize("make", [vae, vamp])
def test_the_kls_weight_rises_in_cycles_or_as_a_sigmoid(make):
    """The cyclical one by hand: two cycles of eight updates, each at its height from the middle on."""
    net = networks.mlp((7,), 3, hidden=(5,), heads=2)
    of = lambda **chosen: make(net, optax.sgd(0.0), beta=3.0, warmup_steps=16, **chosen)
    first = lambda algorithm, t: algorithm.rule.update(
        params, algorithm.rule.init(params)._replace(step=jnp.asarray(t)), UNIT, KEY
    )[2]["beta"]
    seen = {}
    for name, chosen in (("cyclical", {"cycles": 2}), ("sigmoid", {})):
        algorithm = of(warmup=name, **chosen)
        params = algorithm.init(KEY, UNIT)
        seen[name] = jax.jit(jax.vmap(lambda t, algorithm=algorithm: first(algorithm, t)))(jnp.arange(20))
    cycle = [0, 0.75, 1.5, 2.25, 3, 3, 3, 3]
    np.testing.assert_allclose(seen["cyclical"], [*cycle, *cycle, 3, 3, 3, 3])
    t = np.minimum(np.arange(20), 16) / 16
    logistic = 1 / (1 + np.exp(-10 * (t - 0.5)))
    np.testing.assert_allclose(seen["sigmoid"], 3 * (logistic - logistic[0]) / (logistic[-1] - logistic[0]), atol=1e-6)
    np.testing.assert_allclose(seen["sigmoid"][::8], [0, 1.5, 3], atol=1e-6)
    with pytest.raises(ValueError, match="warmup is 'quadratic'; it must be one of linear, cyclical, sigmoid"):
        of(warmup="quadratic")


# ------------------------------------------------------------------------------------------------------ MADE

BINARY = Batch(jnp.asarray(rng.integers(0, 2, (40, 7)), jnp.float32))
ALL = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=7)))  # every binary vector of 7 elements
DEPTHS = {"one hidden layer": ((), ()), "two": ((11,), ()), "four": ((11, 10), (9,))}


def learned_made(hidden=(), hidden_back=(), shape=(7,), seed=0, **options):
    """A MADE with random weights everywhere, also where they begin at 0."""
    net = networks.mlp(shape, 9, hidden=hidden, hidden_back=hidden_back, code_activation="relu")
    algorithm = made(net, optax.sgd(1.0), **options)
    params = algorithm.init(jax.random.key(seed), BINARY._replace(x=BINARY.x.reshape(-1, *shape)))
    draw = np.random.default_rng(seed)
    weights = jax.tree.map(lambda p: jnp.asarray(0.5 * draw.normal(size=p.shape), p.dtype), params)
    return algorithm, weights | {"degrees": params["degrees"]}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"direct": False}, {"conditional": True}], ids=str)
def test_an_output_of_made_depends_on_the_inputs_before_it_and_on_no_other(depth, options):
    algorithm, params = learned_made(*DEPTHS[depth], masks=3, **options)
    jacobian_of = jax.jit(jax.jacrev(lambda x, params: algorithm.reconstruct(params, x[None])[0]))
    for level in (0.0, 0.3, 1.0):
        order = params["degrees"][0, :7]
        assert sorted(order.tolist()) == [1, 2, 3, 4, 5, 6, 7]
        jacobian = jacobian_of(jnp.full(7, level), params)
        allowed = order[:, None] > order  # [D outputs, D inputs]
        assert (np.asarray(jacobian)[~allowed] == 0).all()
        if options.get("direct", True):  # the direct weights alone join all that may be joined
            assert (np.asarray(jacobian)[allowed] != 0).all()
        params |= {"degrees": jnp.roll(params["degrees"], 1, 0)}
    assert options.get("shuffle", True) != (params["degrees"][:, :7] == jnp.arange(1, 8)).all()


@pytest.mark.parametrize("masks", [1, 4])
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_probabilities_of_all_binary_vectors_sum_to_one(masks, depth):
    algorithm, params = learned_made(*DEPTHS[depth], masks=masks, conditional=True)
    nll = jax.jit(algorithm.evaluate)(params, Batch(ALL), KEY)["nll"]
    np.testing.assert_allclose(np.exp(-np.asarray(nll, np.float64)).sum(), 1, rtol=1e-5)
    assert nll.std() > 0.5


def test_the_likelihood_of_several_masks_is_the_mean_of_their_probabilities():
    algorithm, params = learned_made(masks=3)
    p = [np.exp(-algorithm.evaluate(params | {"degrees": d[None]}, BINARY, KEY)["nll"]) for d in params["degrees"]]
    assert np.abs(p[0] - p[1]).max() > 1e-3
    np.testing.assert_allclose(algorithm.evaluate(params, BINARY, KEY)["nll"], -np.log(np.mean(p, 0)), rtol=1e-4)


def test_samples_of_made_are_as_frequent_as_they_are_probable():
    algorithm, params = learned_made(shape=(7, 1), masks=2)
    x = np.asarray(jax.jit(algorithm.sample, static_argnums=2)(params, KEY, 20000))
    assert x.shape == (20000, 7, 1)
    counts = np.bincount((x[..., 0] @ 2.0 ** np.arange(6, -1, -1)).astype(int), minlength=128)
    p = np.exp(-np.asarray(algorithm.evaluate(params, Batch(ALL[..., None]), KEY)["nll"], np.float64))
    seldom = p < np.quantile(p, 0.1)  # in one bin
    observed, expected = ([*a[~seldom], a[seldom].sum()] for a in (counts, 20000 * p / p.sum()))
    assert min(expected) > 5
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert stats.chisquare(counts + 1, np.full(128, 20128 / 128)).pvalue < 1e-6  # this could fail


def test_training_goes_through_the_masks_or_draws_new_ones():
    algorithm, params = learned_made(masks=3)
    seen = []
    for _ in range(4):
        at_first = algorithm.evaluate(params | {"degrees": params["degrees"][:1]}, BINARY, KEY)["nll"].mean()
        after, metrics = made_step(params, masks=3)
        np.testing.assert_allclose(metrics["nll"], at_first, rtol=1e-5)
        seen.append(float(at_first))
        params = params | {"degrees": after["degrees"]}
    assert len(set(seen[:3])) == 3
    assert seen[3] == pytest.approx(seen[0])
    fresh = [float(made_step(params, key=jax.random.key(i), masks=3, fresh=True)[1]["nll"]) for i in range(5)]
    assert len(set(fresh)) == 5
    kept, _ = made_step(params, masks=3, fresh=True)
    np.testing.assert_array_equal(kept["degrees"], params["degrees"])


def made_step(params, key=KEY, **options):
    net = networks.mlp((7,), 9, hidden=(), code_activation="relu")
    rule = made(net, optax.sgd(0.0), **options).rule
    after, _, metrics = jax.jit(rule.update)(params, rule.init(params), BINARY, key)
    return after, metrics


def test_made_masks_dense_layers_only():
    for net in (networks.mlp((7, 7, 1), 3, tied=True), networks.conv((7, 7, 1), 3)):
        with pytest.raises(ValueError, match="dense layers"):
            jax.eval_shape(made(net, optax.sgd(1.0)).init, KEY, Batch(jnp.zeros((2, 7, 7, 1))))


# ----------------------------------------------------------------------------------------- composing, refusing


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if settings.heads(name).network == "mlp"])
def test_any_algorithm_composes_with_dropout_corruption_and_weight_decay(name):
    needs = settings.heads(name)
    plain = networks.mlp((7,), 32, hidden=(8,), heads=needs.number, dropout=0.3, code_activation=needs.activation)
    net = plain if name == "denoising" else corrupted(plain, masking(0.25))
    algorithm = ALGORITHMS[name](net, optax.adamw(1e-2, weight_decay=0.1), **required(name))
    data = UNIT._replace(y=jnp.arange(len(UNIT.x)) % 10)
    params = jax.jit(algorithm.init)(KEY, data)
    update = jax.jit(algorithm.rule.update)
    memory = algorithm.rule.init(params)
    first, second = (flat(update(params, memory, data, key)[0]) for key in jax.random.split(KEY))
    assert (first != second).any()  # training is random
    np.testing.assert_array_equal(algorithm.encode(params, UNIT.x), algorithm.encode(params, UNIT.x))
    assert algorithm.corrupt is not None
    assert algorithm.corrupt(UNIT.x, KEY).shape == UNIT.x.shape


one, two = networks.mlp((7,), 3), networks.mlp((7,), 3, heads=2)
WRONG = [
    (lambda: autoencoder(one, optax.sgd(1.0), likelihood="poisson"), "likelihood is 'poisson'"),
    (lambda: denoising(one, optax.sgd(1.0), corruption="snow"), "corruption is 'snow'"),
    (lambda: denoising(one, optax.sgd(1.0), level=2.0), "between 0 and 1"),
    (lambda: sparse(one, optax.sgd(1.0), penalty="l3"), "penalty is 'l3'"),
    (lambda: sparse(one, optax.sgd(1.0), units="relu"), "units is 'relu'"),
    (lambda: sparse(one, optax.sgd(1.0), target=0.0), "target is 0.0"),
    (lambda: sparse(networks.mlp((7,), 3, code_activation="relu"), optax.sgd(1.0)), "the code is relu"),
    (lambda: sparse(networks.stack([one]), optax.sgd(1.0), penalty="kl_minibatch"), "the code is linear"),
    (lambda: sparse(networks.mlp((7,), 3, code_activation="tanh"), optax.sgd(1.0)), "make it sigmoid"),
    (lambda: contractive(one, optax.sgd(1.0), penalty="closed"), "one affine layer"),
    (lambda: contractive(one, optax.sgd(1.0), penalty="full"), "penalty is 'full'"),
    (lambda: contractive(one, optax.sgd(1.0), penalty="hutchinson", samples=0), "samples is 0"),
    (lambda: contractive(one, optax.sgd(1.0), higher=1.0, corruptions=0), "corruptions is 0"),
    (lambda: vae(two, optax.sgd(1.0), likelihood="squared"), "likelihood squared is no probability"),
    (lambda: vae(two, optax.sgd(1.0), sigma=0.0), "sigma is 0.0"),
    (lambda: vae(two, optax.sgd(1.0), beta=optax.constant_schedule(1.0), warmup_steps=3), "a schedule already"),
    (lambda: vae(one, optax.sgd(1.0)).encode(one.init(KEY, UNIT), UNIT.x), "heads=2"),
    (lambda: importance(two, optax.sgd(1.0), samples=0), "samples is 0"),
    (lambda: made(one, optax.sgd(1.0), masks=0), "masks is 0"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_bad_input_is_refused_with_what_was_given(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------------------ natural images

PHOTOGRAPHS = Path(__file__).parents[1].parent / "shared" / "data" / "bsds500" / "train"


@pytest.mark.slow
@pytest.mark.full("trains on photographs for 10 seconds")
@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs of BSDS500 are not beside the checkout")
def test_sparse_units_on_natural_images_are_oriented():
    """UFLDL: 8x8 patches without their mean, cut at three deviations, in [.1, .9]; 25 sigmoid units."""
    from PIL import Image

    draw, patches = np.random.default_rng(0), []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg"))[:100]:
        image = np.asarray(Image.open(path).convert("L"), np.float64)
        for top, left in zip(
            draw.integers(0, image.shape[0] - 8, 200), draw.integers(0, image.shape[1] - 8, 200), strict=True
        ):
            patches.append(image[top : top + 8, left : left + 8].ravel())
    x = np.stack(patches)
    x -= x.mean(1, keepdims=True)
    x = (np.clip(x / (3 * x.std()), -1, 1) + 1) * 0.4 + 0.1
    data = Batch(jnp.asarray(x, jnp.float32))
    net = networks.mlp((64,), 25, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
    algorithm = sparse(net, optax.adam(1e-2), target=0.05, weight=6.0, weight_l2=1e-4)
    rule = core.epoch(algorithm, 256)
    params, _ = jax.jit(partial(core.fit, algorithm.init, rule, epochs=150))(data, KEY)
    activation = np.asarray(algorithm.encode(params, data.x)).mean(0)
    np.testing.assert_allclose(activation, 0.05, atol=0.01)

    def orientation(features):  # coherence of the gradients' structure tensor: 1 for a straight edge. [K]
        gy, gx = np.gradient(features, axis=(1, 2))
        a, b, c = ((g * h).sum((1, 2)) for g, h in ((gx, gx), (gx, gy), (gy, gy)))
        return np.hypot(a - c, 2 * b) / (a + c)

    features = np.asarray(params["encoder"]["layer_0"]["kernel"]).T.reshape(25, 8, 8)
    start = np.asarray(algorithm.init(KEY, data)["encoder"]["layer_0"]["kernel"]).T.reshape(25, 8, 8)
    assert np.median(orientation(features)) > 2 * np.median(orientation(start))


# -------------------------------------------------------------------------------------------------- k-sparse


@pytest.mark.parametrize("k", [1, 3, 8])
def test_exactly_the_k_largest_are_kept_even_of_equals(k):
    z = np.random.default_rng(0).integers(-4, 5, (200, 8)).astype(np.float32)  # many ties
    place = np.argsort(np.argsort(-z, 1, kind="stable"), 1)  # 0 for the largest; of equals the first
    expected = np.where(place < k, z, 0)
    np.testing.assert_array_equal(largest(jnp.asarray(z), k, k), expected)
    traced = jax.jit(lambda z, k: largest(z, k, 8))(jnp.asarray(z), jnp.float32(k))
    np.testing.assert_array_equal(traced, expected)
    slope = jax.grad(lambda z: (largest(z, k, k) * jnp.arange(1, 9)).sum())(jnp.asarray(z))
    np.testing.assert_array_equal(slope, np.where(place < k, np.arange(1, 9), 0))


def test_a_k_sparse_step_is_the_papers_by_hand():
    """Tied weights W, biases b and c: x_hat = s W^T + c with s the k largest of xW + b, and nothing else learns."""
    k, net = 2, networks.linear((7,), 5, tied=True)
    algorithm = k_sparse(net, optax.sgd(1.0), k=k, alpha=1.5, weight_l2=0.3)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(KEY, p.shape), algorithm.init(KEY, UNIT))
    gradient, metrics = step_by_one(algorithm, params, UNIT)
    x, layer = np.asarray(UNIT.x, float), params["encoder"]["layer_0"]
    w, b, c = (np.asarray(a, float) for a in (layer["kernel"], layer["bias"], params["decoder"]["bias_0"]))
    z = x @ w + b
    kept = np.argsort(np.argsort(-z, 1), 1) < k
    s = z * kept
    error = s @ w.T + c - x
    back = 2 * error @ w * kept  # d loss_i / d z_i
    np.testing.assert_allclose(metrics["loss"], np.square(error).sum(1).mean() + 0.3 * np.square(w).sum(), rtol=1e-5)
    expected = (x.T @ back + 2 * error.T @ s) / len(x) + 0.6 * w
    np.testing.assert_allclose(gradient["encoder"]["layer_0"]["kernel"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient["encoder"]["layer_0"]["bias"], back.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient["decoder"]["bias_0"], 2 * error.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal((np.asarray(algorithm.encode(params, UNIT.x)) != 0).sum(1), 3)  # alpha k
    np.testing.assert_allclose(algorithm.reconstruct(params, UNIT.x), s @ w.T + c, rtol=1e-4, atol=1e-5)


def test_k_falls_linearly_and_with_all_units_it_is_the_plain_autoencoder():
    net = networks.linear((7,), 6, tied=True)
    algorithm = k_sparse(net, optax.sgd(1e-2), k=2, start=6, anneal_steps=4)
    params = algorithm.init(KEY, UNIT)
    memory, ks, rule = algorithm.rule.init(params), [], jax.jit(algorithm.rule.update)
    for _ in range(6):
        params, memory, metrics = rule(params, memory, UNIT, KEY)
        ks.append(float(metrics["k"]))
    assert ks == [6, 5, 4, 3, 2, 2]
    whole, plain = k_sparse(net, optax.sgd(1.0), k=6), autoencoder(net, optax.sgd(1.0))
    all_units, dense = (flat(step_by_one(one, params, UNIT)[0]) for one in (whole, plain))
    np.testing.assert_allclose(all_units, dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"k": 0}, "k is 0; it must be"),
        ({"k": 7}, "k is 7, start None, alpha"),
        ({"k": 3, "start": 2}, "k is 3, start 2, alpha"),
        ({"k": 3, "alpha": 3.0}, "k is 3, start None, alpha 3"),
        ({"alpha": 0.5, "k": 2}, "k is 2, start None, alpha 0.5"),
    ],
)
def test_k_sparse_refuses(bad, told):
    with pytest.raises(ValueError, match=told):
        k_sparse(networks.linear((7,), 6), optax.sgd(1.0), **bad)


# ----------------------------------------------------------------------------------------------- adversarial


def test_both_sides_of_a_game_descend_their_own_group_by_their_own_loss():
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(9, 3)))
        layers = perceptron((5,)).init(KEY, jnp.zeros((1, 3)))
        params = {"encoder": jnp.asarray(rng.normal(size=(3, 3))), "decoder": jnp.ones(2), "critic": layers}
        params["critic"] = jax.tree.map(lambda p: p + 0.1, params["critic"])
        coded = lambda params, batch, key: batch.x @ params["encoder"]
        drawn = lambda params, batch, key: jnp.cos(batch.x)

        def step(rates, params):
            rule = game(perceptron((5,)), drawn, coded, optax.sgd(1.0), rates)
            after, _, metrics = rule.update(params, rule.init(params), Batch(x), KEY)
            return jax.tree.map(jnp.subtract, params, after), metrics

        def by_hand(params):  # -log of the probability of being right; then of being taken in
            def chance(z):
                (w, b), (v, c) = params["critic"]
                return special.expit(np.maximum(np.asarray(z) @ w + b, 0) @ v + c)[:, 0]

            real, fake = chance(np.cos(x)), chance(x @ params["encoder"])
            return {"critic": -np.log(real * (1 - fake)).mean(), "confusion": -np.log(fake).mean()}

        for rates, group, loss in (((1.0, 0.0), "critic", "critic"), ((0.0, 1.0), "encoder", "confusion")):
            gradient, metrics = step(rates, params)
            assert float(metrics[loss]) == pytest.approx(by_hand(params)[loss])
            direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params[group])
            at = lambda h: params | {group: jax.tree.map(lambda p, d: p + h * d, params[group], direction)}
            slope = (by_hand(at(1e-5))[loss] - by_hand(at(-1e-5))[loss]) / 2e-5
            assert flat(gradient[group]) @ flat(direction) == pytest.approx(slope, rel=1e-6)
            assert not any(flat(gradient[other]).any() for other in params if other != group)


def test_the_best_critic_of_two_gaussians_is_their_log_ratio():
    """N(m, I) against N(-m, I): 2 m z; and where nothing is to tell, the losses are 2 log 2 and log 2."""
    m = jnp.array([0.5, -0.3])
    drawn = lambda params, batch, key: m + jax.random.normal(key, (2000, 2))
    coded = lambda params, batch, key: params["encoder"] + jax.random.normal(key, (2000, 2))
    rule = core.repeat(game(perceptron(()), drawn, coded, optax.sgd(0.3), (1.0, 0.0)), 300)
    params = {"encoder": -m, "critic": [(jnp.ones((2, 1)), jnp.ones(1))]}
    (learned,) = jax.jit(rule.update)(params, rule.init(params), UNIT, KEY)[0]["critic"]
    np.testing.assert_allclose(learned[0][:, 0], 2 * m, atol=0.06)
    np.testing.assert_allclose(learned[1], 0, atol=0.06)
    even = {"encoder": m, "critic": [(jnp.zeros((2, 1)), jnp.zeros(1))]}
    metrics = rule.update(even, rule.init(even), UNIT, KEY)[2]
    assert float(metrics["critic"]) == pytest.approx(2 * np.log(2), abs=1e-3)
    assert float(metrics["confusion"]) == pytest.approx(np.log(2), abs=2e-3)


@pytest.mark.parametrize("mode", [0, 3, 9])
def test_priors_have_the_modes_they_say(mode):
    y = jnp.full(20000, mode)
    z = np.asarray(priors.prior("mixture", 2, scale=3.0).draw({}, KEY, 20000, float, y)) / 3
    angle = 2 * np.pi * mode / 10
    ray, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    for direction, mean, deviation in ((ray, 2.0, 0.5), (across, 0.0, 0.1)):
        assert stats.kstest((z @ direction - mean) / deviation, "norm").pvalue > 1e-3
    z = np.asarray(priors.prior("swiss_roll", 2, scale=3.0).draw({}, KEY, 20000, float, y)) / 3
    t = np.hypot(*z.T)
    np.testing.assert_allclose(z, t[:, None] * np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], 1), atol=1e-4)
    assert stats.kstest((t / 2) ** 2 * 10 - mode, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("y", [None, -1])
def test_without_a_label_any_mode_is_drawn_equally_often(y):
    draw = priors.prior("mixture", 2).draw
    z = np.asarray(draw({}, KEY, 20000, float, None if y is None else jnp.full(20000, y)))
    mode = np.round(np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi / 10)) % 10
    assert stats.chisquare(np.bincount(mode.astype(int), minlength=10)).pvalue > 1e-3
    gaussian = np.asarray(priors.prior("gaussian", 3, scale=5.0).draw({}, KEY, 5000))
    assert stats.kstest(gaussian.ravel() / 5, "norm").pvalue > 1e-3


def test_few_labels_are_even_distinct_and_drawn_by_the_key():
    y = rng.permutation(np.repeat([0, 1, 2, -1], [50, 30, 4, 500]))
    data = Batch(jnp.arange(len(y)), jnp.asarray(y))
    some = labels.draw_labelled(data, KEY, 24, 3)
    np.testing.assert_array_equal(np.bincount(some.y), [10, 10, 4])  # the third class has no more
    assert len(np.unique(some.x)) == 24
    np.testing.assert_array_equal(y[some.x], some.y)
    assert set(np.asarray(labels.draw_labelled(data, jax.random.key(1), 24, 3).x)) != set(np.asarray(some.x))
    with pytest.raises(ValueError, match="without labels"):
        labels.draw_labelled(Batch(data.x), KEY, 3, 3)
    with pytest.raises(ValueError, match="of 584"):
        labels.draw_labelled(data, KEY, 600, 3)
    beyond = labels.draw_labelled(
        Batch(data.x, jnp.asarray(y + 1)), KEY, 84, 3
    )  # of labels 0 to 3, 3 is none: the four last
    assert set(np.asarray(beyond.y).tolist()) == {0, 1, 2}


def test_labels_that_are_no_class_teach_nothing():
    logits = jnp.asarray(rng.normal(size=(5, 3)))
    y = jnp.asarray([0, -1, 2, 3, 1])
    loss, slope = jax.value_and_grad(lambda h: labels.cross_entropy(h, y).sum())(logits)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(p[[0, 2, 4], [0, 2, 1]]).sum(), rtol=1e-5)
    np.testing.assert_array_equal(slope[jnp.asarray([1, 3])], 0)
    np.testing.assert_allclose(slope[0], p[0] - [1, 0, 0], rtol=1e-4, atol=1e-6)


def test_a_classifier_decodes_as_its_pretraining_did():
    data = Batch(jnp.asarray(rng.uniform(size=(7, 6)), jnp.float32), jnp.zeros(7, int))
    net = networks.mlp((6,), 2, hidden=(5,))
    pretrained = autoencoder(net, optax.sgd(1.0), likelihood="bernoulli")
    tuned = classifier(net, optax.sgd(1.0), classes=2, likelihood="bernoulli")
    params = pretrained.init(KEY, data)
    np.testing.assert_array_equal(tuned.reconstruct(params, data.x), pretrained.reconstruct(params, data.x))
    z = tuned.encode(params, data.x)
    np.testing.assert_array_equal(tuned.decode(params, z), pretrained.decode(params, z))


def test_dec_alone_leaves_the_decoder_to_itself():
    data = Batch(jnp.asarray(rng.uniform(size=(8, 6)), jnp.float32))
    net = networks.mlp((6,), 2, hidden=(5,))
    for weight, moves in ((0.0, False), (0.1, True)):
        algorithm = dec(net, optax.adamw(0.1), clusters=2, weight=weight)
        params = algorithm.init(KEY, data)
        new, _, _ = algorithm.rule.update(params, algorithm.rule.init(params), data, KEY)
        same = jax.tree.map(lambda a, b: bool((a == b).all()), params["decoder"], new["decoder"])
        assert all(jax.tree.leaves(same)) != moves


def test_l1_is_l1_whatever_else_lies_in_the_params():
    data = Batch(jnp.asarray(rng.uniform(size=(8, 6)), jnp.float32))
    net = networks.mlp((6,), 3, hidden=(), code_activation="sigmoid")
    algorithm = sparse(net, optax.sgd(1.0), penalty="l1", weight=0.5)
    params = algorithm.init(KEY, data)
    loss = lambda p: np.asarray(algorithm.evaluate(p, data, KEY)["loss"])
    np.testing.assert_array_equal(loss(params), loss(params | {"rho": jnp.full(3, 0.1)}))


def test_codes_with_classes_are_probabilities_and_a_style_and_use_no_other_labels():
    net = networks.mlp((4, 4, 1), 11, hidden=(8,))
    algorithm = adversarial_labels(net, optax.sgd(0.0), classes=8, labels=16, critic_widths=(4,))
    params = algorithm.init(KEY, bars())
    z = np.asarray(algorithm.encode(params, bars().x))
    h = np.asarray(net.encode(params, bars().x), float)
    np.testing.assert_allclose(z[:, :8], special.softmax(h[:, :8], 1), rtol=1e-5)
    np.testing.assert_allclose(z[:, 8:], h[:, 8:], rtol=1e-5)
    np.testing.assert_array_equal(np.bincount(params["labelled"].y), 2 * np.ones(8))
    update = jax.jit(lambda batch, key: algorithm.rule.update(params, algorithm.rule.init(params), batch, key)[2])
    other = bars()._replace(y=jnp.zeros(len(bars().x), jnp.int32))  # labels of batches are not looked at
    assert update(bars(), KEY) == update(other, KEY)
    h = np.asarray(net.encode(params, params["labelled"].x), float)  # a drawn batch's mean is near that of all
    expected = -special.log_softmax(h[:, :8], 1)[np.arange(16), params["labelled"].y]
    drawn = [update(bars(), jax.random.key(seed))["classification"] for seed in range(50)]
    assert np.mean(drawn) == pytest.approx(expected.mean(), abs=4 * expected.std() / (50 * 16) ** 0.5)


def test_a_style_is_decoded_with_the_label_that_was_told():
    net, data = networks.mlp((4, 4, 1), 11, hidden=(8,)), bars()
    algorithm = adversarial_style(net, optax.sgd(0.0), classes=8, critic_widths=(4,))
    params = algorithm.init(KEY, data)
    h = np.asarray(net.encode(params, data.x), float)
    told = np.concatenate([np.eye(8)[data.y], h[:, 8:]], 1)
    logits = np.asarray(net.decode(params, jnp.asarray(told, jnp.float32)), float)
    nll = (np.logaddexp(0, logits) - np.asarray(data.x) * logits).sum((1, 2, 3))
    metrics = algorithm.rule.update(params, algorithm.rule.init(params), data, KEY)[2]
    assert metrics["reconstruction"] == pytest.approx(nll.mean(), rel=1e-5)
    error = -special.log_softmax(h[:, :8], 1)[np.arange(len(h)), data.y].mean()
    assert metrics["classification"] == pytest.approx(error, rel=1e-5)
    z = np.asarray(algorithm.encode(params, data.x))  # without a label, the encoder's own opinion
    np.testing.assert_allclose(z, np.concatenate([special.softmax(h[:, :8], 1), h[:, 8:]], 1), rtol=1e-5)
    changed = algorithm.rule.update(params, algorithm.rule.init(params), data._replace(y=data.y * 0), KEY)[2]
    assert changed["reconstruction"] != metrics["reconstruction"]


def test_adversarial_samples_are_decoded_draws_of_the_prior():
    algorithm = adversarial(networks.mlp((7,), 2), optax.sgd(1.0), prior="mixture", prior_scale=2.0)
    params = algorithm.init(KEY, UNIT)
    drawn = priors.prior("mixture", 2, 2.0).draw({}, KEY, 5, jnp.float32)
    np.testing.assert_allclose(algorithm.sample(params, KEY, 5), algorithm.decode(params, drawn), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: adversarial(net, optax.sgd(1.0), prior="cauchy"), "prior is 'cauchy'"),
        (lambda net: adversarial(net, optax.sgd(1.0), prior="mixture"), "two dimensions, the code has 3"),
        (lambda net: adversarial(net, optax.sgd(1.0), prior_scale=0.0), "scale is 0.0"),
        (lambda net: adversarial(net, optax.sgd(1.0), conditional=True), "with modes for labels"),
        (lambda net: adversarial_labels(net, optax.sgd(1.0), classes=3), "3 classes in a code of 3"),
        (lambda net: adversarial_style(net, optax.sgd(1.0), classes=0), "0 classes in a code of 3"),
        (lambda net: adversarial_style(net, optax.sgd(1.0)).init(KEY, UNIT._replace(y=None)), "these data have none"),
    ],
)
def test_adversarial_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make(networks.mlp((7,), 3))
