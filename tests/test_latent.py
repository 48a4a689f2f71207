"""Posteriors and priors by their laws, and the bounds that are made of them."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import shaken

from ae_jax import algorithms, networks
from ae_jax.algorithms.beta_tc_vae import log_aggregate
from ae_jax.algorithms.vamp import vamp_prior
from ae_jax.core import Batch, epoch, fit
from ae_jax.distributions import flows, posteriors, priors
from ae_jax.evaluation import clustering
from ae_jax.objectives.latent import latent_model

KEY = jax.random.key(0)
AXIS = np.linspace(-12, 12, 481)
PLANE = jnp.asarray(np.stack(np.meshgrid(AXIS, AXIS), -1), jnp.float32)  # [481, 481, 2]
CELL = (AXIS[1] - AXIS[0]) ** 2


def vamp_of(components=3):
    net = networks.mlp((4,), 2, hidden=(5,), heads=2)
    x = jnp.asarray(np.random.default_rng(0).random((20, 4)), jnp.float32)
    prior = vamp_prior(net, posteriors.gaussian(2), components, True)
    return prior, net.init(KEY, Batch(x)) | prior.init(KEY, Batch(x))


def shaken_of(prior):
    """A prior that learns, away from where it begins."""
    return prior, shaken(prior.init(KEY, Batch(jnp.zeros((1, 2)))))


PRIORS = {
    "normal": (priors.normal(2), {}),
    "normal, scaled": (priors.normal(2, 2.0), {}),
    "mixture": (priors.prior("mixture", 2, 0.5, modes=5), {}),
    "vamp": vamp_of(),
    "gmm": shaken_of(priors.learned("gmm", 2, 3)),
    "gmm, full": shaken_of(priors.mixture(2, 2, full=True)),
    "realnvp": shaken_of(priors.flowed(flows.realnvp(2, 3, 8), 2)),
    "maf": shaken_of(priors.flowed(flows.maf(2, 2, 8), 2)),
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_priors_density_adds_up_to_one_and_its_draws_follow_it(name):
    prior, params = PRIORS[name]
    density = np.exp(np.asarray(prior.log_prob(params, PLANE), np.float64))
    assert density.sum() * CELL == pytest.approx(1, abs=5e-3)
    z = np.asarray(prior.draw(params, jax.random.key(1), 20_000, jnp.float32))
    for power in (1, 2):
        expected = (np.asarray(PLANE, np.float64) ** power * density[..., None]).sum((0, 1)) * CELL
        error = 5 * (z**power).std(0) / np.sqrt(len(z)) + 5e-3
        assert (np.abs((z**power).mean(0) - expected) < error).all()


def test_a_gaussian_posterior_is_normalised_and_its_two_log_densities_agree():
    q = posteriors.gaussian(2)
    stats = jnp.asarray([[0.5, -1.0, 0.3, -1.2], [0.0, 2.0, -0.5, 0.1]])
    z, log_q = q.draw({}, stats, KEY, 20_000, None)
    np.testing.assert_allclose(log_q, q.log_prob({}, stats, z), rtol=1e-3, atol=1e-4)
    for one in range(2):
        density = np.exp(np.asarray(q.log_prob({}, stats[one], PLANE), np.float64))
        assert density.sum() * CELL == pytest.approx(1, abs=1e-3)
    estimate = np.asarray(log_q - q.prior.log_prob({}, z))  # log q - log p, whose mean is the KL
    error = 5 * estimate.std(0) / np.sqrt(len(estimate))
    assert (np.abs(estimate.mean(0) - np.asarray(q.kl({}, stats).sum(-1))) < error).all()
    np.testing.assert_allclose(q.mean({}, stats), stats[:, :2])


def linear_gaussian():
    """A model whose posterior is exact: x = W z + 0.5 noise, and the encoder that Bayes' rule gives."""
    rng = np.random.default_rng(2)
    w, sigma = rng.normal(size=(2, 4)), 0.5
    precision = np.eye(2) + w @ w.T / sigma**2
    w = np.linalg.cholesky(np.linalg.inv(w @ w.T)).T @ w  # rows that are orthogonal: a diagonal posterior
    precision = np.eye(2) * (1 + 1 / sigma**2)
    encoder = (np.linalg.inv(precision) @ w / sigma**2).T
    net = networks.linear((4,), 2, heads=2)
    params = {
        "encoder": {
            "layer_0": {
                "kernel": jnp.asarray(np.concatenate([encoder, np.zeros((4, 2))], 1), jnp.float32),
                "bias": jnp.asarray([0, 0, *-np.log(np.diag(precision))], jnp.float32),
            }
        },
        "decoder": {"layer_0": {"kernel": jnp.asarray(w, jnp.float32), "bias": jnp.zeros(4)}},
    }
    x = jnp.asarray(rng.normal(size=(6, 2)) @ w + sigma * rng.normal(size=(6, 4)), jnp.float32)
    covariance = w.T @ w + sigma**2 * np.eye(4)
    quadratic = np.einsum("bi,ij,bj->b", np.asarray(x), np.linalg.inv(covariance), np.asarray(x))
    log_p = -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + 4 * np.log(2 * np.pi))
    return net, params, x, log_p, sigma


@pytest.mark.parametrize("samples", [1, 5])
def test_with_the_exact_posterior_every_weight_is_the_likelihood(samples):
    net, params, x, log_p, sigma = linear_gaussian()
    for algorithm, name in (
        (algorithms.vae(net, optax.sgd(0.1), likelihood="gaussian", sigma=sigma), "elbo"),
        (algorithms.iwae(net, optax.sgd(0.1), likelihood="gaussian", sigma=sigma, samples=samples), "bound"),
    ):
        np.testing.assert_allclose(algorithm.log_weight(params, Batch(x), KEY), log_p, atol=2e-5)
        if name == "bound":
            np.testing.assert_allclose(algorithm.evaluate(params, Batch(x), KEY)[name], log_p, atol=2e-5)


def test_a_vamp_prior_of_one_standard_component_is_the_normal_prior():
    """Its encoder ignores x and emits N(0, I): the two bounds differ by the Monte-Carlo KL alone."""
    net = networks.mlp((4,), 2, hidden=(3,), heads=2)
    x = jnp.asarray(np.random.default_rng(3).random((8, 4)), jnp.float32)
    algorithm = algorithms.vamp(net, optax.sgd(0.1), components=1)
    params = algorithm.init(KEY, Batch(x))
    params = params | {"encoder": jax.tree.map(jnp.zeros_like, params["encoder"])}
    found = algorithm.evaluate(params, Batch(x), KEY)
    np.testing.assert_allclose(found["kl"], 0, atol=1e-5)  # q(z | x) is the prior itself
    plain = algorithms.vae(net, optax.sgd(0.1)).evaluate(params, Batch(x), KEY)
    np.testing.assert_allclose(found["elbo"], plain["elbo"], atol=1e-5)


def test_with_the_data_as_pseudo_inputs_the_kl_is_the_information_and_at_most_log_n():
    net = networks.mlp((4,), 2, hidden=(), heads=2)
    x = jnp.asarray(np.eye(4), jnp.float32)
    prior = vamp_prior(net, posteriors.gaussian(2), 4, False)
    params = net.init(KEY, Batch(x)) | {"pseudo": x}
    kernel = jnp.zeros((4, 4)).at[:, :2].set(jnp.asarray([[60.0, 0], [-60, 0], [0, 60], [0, -60]]))  # far apart
    params["encoder"] = {"layer_0": {"kernel": kernel, "bias": jnp.zeros(4)}}
    model = latent_model(net, "bernoulli", posteriors.gaussian(2), prior)
    drawn = model.draw(params, Batch(x), KEY, 50)
    np.testing.assert_allclose(drawn.divergence, np.log(4), atol=1e-4)


def small(heads=2):
    """A network for x of four pixels, and eight examples."""
    net = networks.mlp((4,), 2, hidden=(3,), heads=heads)
    return net, Batch(jnp.asarray(np.random.default_rng(3).random((8, 4)), jnp.float32))


def test_a_prior_that_begins_at_the_normal_one_gives_the_bound_of_a_plain_vae_and_learns():
    net, data = small()
    plain = algorithms.vae(net, optax.sgd(0.1))
    for name in ("realnvp", "maf"):
        algorithm = algorithms.vae(net, optax.sgd(0.1), prior=name)
        assert algorithm.log_weight is not None
        assert algorithm.sample is not None
        params = algorithm.init(KEY, data)
        expected = plain.log_weight({g: params[g] for g in ("encoder", "decoder")}, data, KEY)  # pyright: ignore[reportOptionalCall]
        np.testing.assert_allclose(jax.jit(algorithm.log_weight)(params, data, KEY), expected, atol=1e-5)
        after = jax.jit(algorithm.rule.update)(params, algorithm.rule.init(params), data, KEY)[0]
        moved = [
            bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (after["flow"], params["flow"])), strict=True)
        ]
        assert any(moved)
        assert algorithm.sample(params, KEY, 3).shape == (3, 4)
    with pytest.raises(ValueError, match="free_bits are of each latent"):
        algorithms.vae(net, optax.sgd(0.1), prior="gmm", free_bits=0.1)


def test_vade_of_one_standard_component_is_the_vae():
    net, data = small()
    one, plain = algorithms.vade(net, optax.sgd(0.1), clusters=1), algorithms.vae(net, optax.sgd(0.1))
    params = one.init(KEY, data)
    params["mixture"] = jax.tree.map(jnp.zeros_like, params["mixture"])
    weights = [a.log_weight(params, data, KEY) for a in (one, plain) if a.log_weight is not None]
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-5)


def test_the_bound_of_vade_is_that_of_its_clusters_one_by_one():
    """E_q(z, c | x)[log p(x, z, c) - log q(z, c | x)] with q(c | x) = p(c | z), at every draw, in float64."""
    with jax.enable_x64(True):
        net = networks.mlp((4,), 2, hidden=(3,), heads=2)
        data = Batch(jnp.asarray(np.random.default_rng(3).random((8, 4))))
        prior = priors.mixture(2, 3)
        model = latent_model(net, "bernoulli", prior=prior)
        params = shaken(model.init(KEY, data), 0.5)
        drawn = jax.jit(lambda params: model.draw(params, data, KEY, 2))(params)
        log_joint = np.asarray(priors.of_components(params, drawn.z))  # log p(c) + log p(z | c), [S, B, C]
        gamma = np.exp(log_joint) / np.exp(log_joint).sum(-1, keepdims=True)
        terms = (gamma * (log_joint - np.log(gamma))).sum(-1) - drawn.log_q - drawn.nll
        np.testing.assert_allclose(drawn.log_weight, terms, rtol=0, atol=1e-10)
        order = jax.tree.map(lambda a: a[jnp.asarray([2, 0, 1])], params["mixture"])
        other = prior.log_prob(params | {"mixture": order}, drawn.z)  # pyright: ignore[reportOptionalCall]
        np.testing.assert_allclose(other, drawn.log_p, atol=1e-12)


def test_vade_begins_at_a_mixture_of_pretrained_codes():
    """Four kinds of x: after pretraining the mixture knows them, and its clusters are they."""
    rng = np.random.default_rng(8)
    kind = np.arange(200) % 4
    x = jnp.asarray(np.clip(np.eye(4)[kind] * 0.8 + 0.1 + 0.05 * rng.normal(size=(200, 4)), 0, 1), jnp.float32)
    net = networks.mlp((4,), 2, hidden=(16,), heads=2)
    vade = algorithms.vade(net, optax.adam(1e-2), clusters=4, pretrain_epochs=60)
    params = jax.jit(vade.init)(KEY, Batch(x))
    assert vade.predict is not None
    assert clustering.accuracy(vade.predict(params, x), kind) > 0.95
    codes = vade.encode(params, x)
    log_p = jax.nn.logsumexp(priors.of_components(params, codes), -1)
    standard = priors.normal(2).log_prob
    assert standard is not None
    assert float(log_p.mean()) > float(standard({}, codes).mean()) + 1


def test_em_finds_the_mixture_that_data_come_from():
    rng = np.random.default_rng(9)
    mean, deviation = np.asarray([[0.0, 5], [10, 0], [-8, -8]]), np.asarray([[1, 0.2], [0.5, 2], [1, 1]])
    kind = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])
    x = jnp.asarray(mean[kind] + deviation[kind] * rng.normal(size=(3000, 2)), jnp.float32)
    own = clustering.gaussian_mixture(KEY, x, 3)
    order = [int(np.square(np.asarray(own["mean"]) - m).sum(1).argmin()) for m in mean]
    np.testing.assert_allclose(np.asarray(own["mean"])[order], mean, atol=0.3)
    np.testing.assert_allclose(np.exp(0.5 * np.asarray(own["logvar"]))[order], deviation, rtol=0.15)
    np.testing.assert_allclose(np.exp(np.asarray(own["logits"]))[order], [0.5, 0.3, 0.2], atol=0.05)


def test_the_three_terms_of_beta_tc_add_up_to_the_kl_by_one_draw():
    net = networks.mlp((4,), 2, hidden=(5,), heads=2)
    x = jnp.asarray(np.random.default_rng(4).random((7, 4)), jnp.float32)
    model = latent_model(net, "bernoulli")
    params = net.init(KEY, Batch(x))
    drawn = model.draw(params, Batch(x), KEY)
    for sampling in ("stratified", "weighted"):
        joint, each = log_aggregate(drawn.z[0], drawn.stats, 70, sampling)
        terms = drawn.log_q[0] - joint + (joint - each.sum(-1)) + (each.sum(-1) - drawn.log_p[0])
        np.testing.assert_allclose(terms, drawn.log_q[0] - drawn.log_p[0], atol=1e-4)


def test_the_stratified_estimate_is_unbiased_for_the_aggregate():
    """All batches of 4 that hold a given one of 7 examples: the mean of q(z) is the exact one."""
    rng = np.random.default_rng(5)
    stats = jnp.asarray(rng.normal(size=(7, 4)), jnp.float32)
    z = jnp.asarray(rng.normal(size=(7, 2)), jnp.float32)
    q = posteriors.gaussian(2)
    exact = np.exp(np.asarray(jax.vmap(lambda s: q.log_prob({}, s, z[0]))(stats))).mean()
    found = []
    for others in combinations(range(1, 7), 3):
        at = jnp.asarray([*others[:2], 0, others[2]])  # in its own row, its posterior is the third
        found.append(np.exp(float(log_aggregate(z[at], stats[at], 7, "stratified")[0][2])))
    assert np.mean(found) == pytest.approx(exact, rel=1e-5)
    whole = np.exp(float(log_aggregate(z, stats, 7, "stratified")[0][0]))
    assert whole == pytest.approx(exact, rel=1e-5)  # a batch of all examples


def test_with_all_weights_one_beta_tc_descends_the_elbo_by_one_draw():
    net, x = (
        networks.mlp((4,), 2, hidden=(5,), heads=2),
        jnp.asarray(np.random.default_rng(6).random((7, 4)), jnp.float32),
    )
    tc = algorithms.beta_tc_vae(net, optax.sgd(1.0), examples=70, beta=1.0)
    params = tc.init(KEY, Batch(x))
    model = latent_model(net, "bernoulli")

    def bound(params):
        drawn = model.draw(params, Batch(x), KEY, train=True)
        return (drawn.nll[0] + drawn.log_q[0] - drawn.log_p[0]).mean()

    after = tc.rule.update(params, tc.rule.init(params), Batch(x), KEY)[0]
    expected = jax.tree.map(lambda p, g: p - g, params, jax.grad(bound)(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), after, expected)


def test_total_correlation_falls_with_its_weight():
    """Two inputs that say the same: a heavy weight on the total correlation makes codes less dependent."""
    rng = np.random.default_rng(7)
    u = rng.random((256, 2))
    x = jnp.asarray(np.stack([u[:, 0], u[:, 0] + u[:, 1], u[:, 1], u[:, 0] - u[:, 1]], 1) / 2 + 0.25, jnp.float32)
    found = {}
    for beta in (1.0, 8.0):
        algorithm = algorithms.beta_tc_vae(
            networks.mlp((4,), 2, hidden=(16,), heads=2), optax.adam(3e-3), examples=256, beta=beta
        )
        run = jax.jit(lambda key, a=algorithm: fit(a.init, epoch(a, 128), Batch(x), key, 60)[1])
        found[beta] = float(run(KEY)["total_correlation"][-5:].mean())
    assert found[8.0] < found[1.0]


def test_a_prior_without_a_density_is_refused():
    with pytest.raises(ValueError, match="this prior has no log_prob"):
        latent_model(networks.mlp((4,), 2, heads=2), "bernoulli", prior=priors.prior("swiss_roll", 2))


@pytest.mark.parametrize("other", [priors.normal(3), priors.mixture(3, 2), priors.learned("maf", 3)])
def test_a_prior_of_another_size_than_the_codes_is_refused_before_training(other):
    algorithm = algorithms.vae(networks.mlp((4,), 2, hidden=(), heads=2), optax.sgd(0.1), prior=other)
    with pytest.raises(ValueError, match=r"codes of the shape \(3,\), and the network's are \(2,\): make"):
        algorithm.init(KEY, Batch(jnp.zeros((3, 4))))


def test_a_prior_without_one_number_for_each_code_is_refused_and_so_is_a_function():
    net = networks.mlp((4,), 2, hidden=(), heads=2)
    of_dimensions = priors.normal(2)._replace(log_prob=lambda params, z: -jnp.square(z))
    with pytest.raises(ValueError, match=r"log_prob gives \(2, 3, 2\) for codes \(2, 3, 2\); wanted: \(2, 3\)"):
        algorithms.vae(net, optax.sgd(0.1), prior=of_dimensions).init(KEY, Batch(jnp.zeros((3, 4))))
    with pytest.raises(TypeError, match="prior is a function; wanted: a Prior"):
        algorithms.vae(net, optax.sgd(0.1), prior=priors.mixture)  # type: ignore[arg-type]


def test_pseudo_inputs_begin_at_examples_and_learn():
    net = networks.linear((4,), 2, heads=2)
    x = jnp.asarray(np.random.default_rng(8).uniform(0.1, 0.9, (8, 4)), jnp.float32)
    algorithm = algorithms.vamp(net, optax.sgd(1.0), components=5)
    params = algorithm.init(KEY, Batch(x))
    start = np.asarray(jax.nn.sigmoid(params["pseudo"]))
    assert (np.abs(start[:, None] - np.asarray(x)[None]).max(-1).min(1) < 1e-5).all()
    after = jax.jit(algorithm.rule.update)(params, algorithm.rule.init(params), Batch(x), KEY)[0]
    assert (np.abs(after["pseudo"] - params["pseudo"]).max(1) > 1e-6).all()


def test_a_vamp_prior_encodes_pseudo_inputs_as_examples():
    prior, params = vamp_of()
    net, q = networks.mlp((4,), 2, hidden=(5,), heads=2), posteriors.gaussian(2)
    stats = net.encode(params, jax.nn.sigmoid(params["pseudo"]))  # [C, 4]
    z = jnp.asarray([[0.3, -0.2], [2.0, 1.0]])
    density = np.mean([np.exp(q.log_prob(params, one[None], z)) for one in stats], 0)
    np.testing.assert_allclose(prior.log_prob(params, z), np.log(density), rtol=1e-4)


def test_each_term_of_beta_tc_has_its_own_weight():
    net = networks.linear((4,), 2, heads=2)
    x = jnp.asarray(np.random.default_rng(9).random((7, 4)), jnp.float32)
    algorithm = algorithms.beta_tc_vae(net, optax.sgd(0.1), examples=70, alpha=2.0, beta=3.0, gamma=5.0)
    params = algorithm.init(KEY, Batch(x))
    found = jax.jit(algorithm.rule.update)(params, algorithm.rule.init(params), Batch(x), KEY)[2]
    weighed = 2 * found["information"] + 3 * found["total_correlation"] + 5 * found["dimensions"]
    np.testing.assert_allclose(found["loss"], found["nll"] + weighed, rtol=1e-5)
