"""Members that make the units of a code independent, against the mathematics, in float64."""

import sys
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import data, flat, params_of, same, stepped

from ae_jax import networks
from ae_jax.algorithms import beta_tc_vae, dip_vae, factor_vae, vae
from ae_jax.algorithms.beta_tc_vae import log_aggregate
from ae_jax.algorithms.dip_vae import covariance_of
from ae_jax.algorithms.factor_vae import permuted
from ae_jax.core import Batch, Net, address, assign, repeat
from ae_jax.objectives import game
from ae_jax.objectives.latent import latent_model

factor_module = sys.modules["ae_jax.algorithms.factor_vae"]  # the package has the member under that name
KEY = jax.random.key(0)
SGD = optax.sgd(1.0)
linear = partial(networks.linear, (4,), 3, heads=2)
pytestmark = pytest.mark.usefixtures("float64")


# ------------------------------------------------------------------------------------------------ capacity


def divergences(params, x):
    mean, logvar = np.split(np.asarray(linear().encode(params, x)), 2, 1)
    return 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(1)


def test_a_capacity_is_compared_with_the_mean_kl_of_the_batch():
    params, batch = params_of(linear()), data()
    kl = divergences(params, batch.x)
    for extreme in (kl.min(), kl.max()):  # some examples lie on one side of it, the batch on the other
        capacity = float((extreme + kl.mean()) / 2)
        _, metrics = stepped(vae(linear(), SGD, beta=5.0, capacity=capacity), params, batch)
        assert metrics["loss"] == pytest.approx(float(metrics["nll"]) + 5 * abs(kl.mean() - capacity), rel=1e-12)
        assert abs(kl.mean() - capacity) < np.abs(kl - capacity).mean() - 1e-3  # the per-example form is another


def test_no_capacity_is_the_plain_weight_and_about_a_capacity_the_pull_changes_its_sign():
    params, batch = params_of(linear()), data()
    after = lambda **options: stepped(vae(linear(), SGD, **options), params, batch)[0]
    none = after(beta=5.0, capacity=optax.constant_schedule(0.0))
    same(none, after(beta=5.0))
    kl = float(divergences(params, batch.x).mean())
    below, above = (after(beta=5.0, capacity=kl + by) for by in (-1e-6, 1e-6))
    same(below, none)
    same(jax.tree.map(lambda a, b: (a + b) / 2, below, above), after(beta=0.0), rtol=1e-9)


def test_the_capacity_rises_linearly_and_evaluation_has_the_bound():
    algorithm = vae(linear(), optax.sgd(0.0), beta=5.0, capacity=8.0, capacity_steps=4)
    params, batch = params_of(linear()), data()
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


# ------------------------------------------------------------------------------------------ total correlation


def batch_of(n=7, units=2, seed=5):
    """A draw from each of n posteriors, and their means and log-variances."""
    r = np.random.default_rng(seed)
    return jnp.asarray(r.normal(size=(n, units))), jnp.asarray(r.normal(size=(n, 2 * units)))


def density(stats, z):
    """q(z | x) of one example."""
    mean, logvar = np.split(np.asarray(stats), 2)
    return np.exp(-0.5 * ((np.asarray(z) - mean) ** 2 / np.exp(logvar) + logvar + np.log(2 * np.pi)).sum())


def test_stratified_weights_are_exact_in_the_mean_over_all_batches():
    z, stats = batch_of()
    exact = np.mean([density(s, z[0]) for s in stats])
    for row in range(4):  # wherever the example stands in its batch: weights of a column would be another estimate
        others = [list(at) for at in combinations(range(1, 7), 3)]
        batches = jnp.asarray([[*at[:row], 0, *at[row:]] for at in others])
        joint, _ = jax.vmap(lambda at: log_aggregate(z[at], stats[at], 7, "stratified"))(batches)
        assert np.exp(joint[:, row]).mean() == pytest.approx(exact, rel=1e-12)


def test_stratified_weights_are_the_papers_averaged_over_the_example_that_gets_the_odd_one():
    z, stats = batch_of(4)
    examples, others = 7, 3
    joint, _ = log_aggregate(z, stats, examples, "stratified")
    of_each = [density(s, z[0]) for s in stats]
    found = []
    for odd in range(1, 4):  # Chen et al., appendix C: 1 / N, one (N - M) / (N M), else 1 / M, with M = B - 1
        weight = np.array([1 / examples] + [1 / others] * others)
        weight[odd] = (examples - others) / (examples * others)
        found.append(weight @ of_each)
    assert np.exp(joint[0]) == pytest.approx(np.mean(found), rel=1e-12)


def test_fewer_examples_than_the_training_data_have_are_refused():
    algorithm = beta_tc_vae(linear(), SGD, examples=5)
    with pytest.raises(ValueError, match="examples is 5, and the training data have 6: give their number"):
        algorithm.init(jax.random.key(0), Batch(jnp.zeros((6, 4))))


def test_with_the_whole_set_as_batch_both_estimators_are_the_mean_posterior():
    z, stats = batch_of()
    exact = [np.mean([density(s, one) for s in stats]) for one in z]
    parts = [np.stack([stats[:, k], stats[:, 2 + k]], 1) for k in range(2)]
    each = [[np.mean([density(s, one[k : k + 1]) for s in parts[k]]) for k in range(2)] for one in z]
    for sampling, constant in (("stratified", 1.0), ("weighted", 7.0)):  # the latter's weights add up to 1 / N
        joint, of_units = log_aggregate(z, stats, 7, sampling)
        np.testing.assert_allclose(np.exp(joint) * constant, exact, rtol=1e-12)
        np.testing.assert_allclose(np.exp(of_units) * constant, each, rtol=1e-12)


def test_the_terms_telescope_and_constants_leave_the_gradient_alone():
    params, batch = params_of(linear()), data()
    after = {}
    for sampling, examples in (("stratified", 60), ("weighted", 60), ("weighted", 6000)):
        tc = beta_tc_vae(linear(), SGD, examples=examples, beta=3.0, sampling=sampling)
        after[sampling, examples], metrics = stepped(tc, params, batch)
        whole = metrics["information"] + metrics["total_correlation"] + metrics["dimensions"]
        drawn = latent_model(linear(), "bernoulli").draw(params, batch, KEY, train=True)
        assert float(whole) == pytest.approx(float((drawn.log_q - drawn.log_p).mean()), rel=1e-12)
    same(after["weighted", 60], after["weighted", 6000], rtol=1e-9)
    assert np.abs(flat(after["stratified", 60]) - flat(after["weighted", 60])).max() > 1e-3


# --------------------------------------------------------------------------------------------------- a critic


def test_permuted_codes_keep_their_marginals_and_lose_their_rows():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(50, 3)))
    mixed = np.asarray(permuted(KEY, z))
    np.testing.assert_array_equal(np.sort(mixed, 0), np.sort(z, 0))
    orders = [np.argsort(np.argsort(mixed[:, k])) - np.argsort(np.argsort(z[:, k])) for k in range(3)]
    assert not any((order == 0).all() for order in orders)
    together = np.asarray(permuted(KEY, jnp.repeat(z[:, :1], 3, 1)))  # three equal columns become independent
    assert np.abs(np.corrcoef(together, rowvar=False) - np.eye(3)).max() < 0.5


def test_the_critic_compares_one_half_of_the_batch_with_the_permuted_codes_of_the_other(monkeypatch):
    seen = {}

    def discriminate(critic, real, other, *rest):
        seen.update(real=real, other=other)
        return assign(lambda params, batch, key: {})

    monkeypatch.setattr(factor_module, "discriminate", discriminate)
    factor_vae(linear(), SGD)
    kernel = np.zeros((4, 6))
    kernel[:3, :3] = np.eye(3)
    layer = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([0.0] * 3 + [-80.0] * 3)}
    params, batch = params_of(linear()) | {"encoder": {"layer_0": layer}}, data(7)  # codes are the first three inputs
    np.testing.assert_allclose(seen["real"](params, batch, KEY), batch.x[:4, :3], rtol=1e-12)
    other = seen["other"](params, batch, KEY)
    np.testing.assert_allclose(np.sort(other, 0), np.sort(batch.x[3:, :3], 0), rtol=1e-12)
    assert np.abs(other - batch.x[3:, :3]).max() > 1e-3


def test_a_critic_of_other_outputs_and_a_function_are_refused():
    column = Net(lambda key, z: jnp.zeros((z.shape[-1], 1)), lambda w, z: z @ w)
    algorithm, x = factor_vae(linear(), SGD, critic=column), data(4)
    params = algorithm.init(KEY, x)
    with pytest.raises(ValueError, match=r"the critic gave \(4, 1\) for inputs \(4, 3\); wanted: \[B\]"):
        algorithm.rule.update(params, algorithm.rule.init(params), x, KEY)
    with pytest.raises(TypeError, match="critic is a function; wanted: a Net"):
        factor_vae(linear(), SGD, critic=lambda w, z: z)  # type: ignore[arg-type]


def test_without_a_weight_the_model_learns_as_a_vae_and_each_player_leaves_the_other_alone():
    batch = data()
    factor, other = (factor_vae(linear(), SGD, gamma=g, critic_widths=(5,)) for g in (0.0, 2.0))
    params = params_of(linear()) | {"critic": factor.init(KEY, batch)["critic"]}
    plain = vae(linear(), SGD).rule
    learned = plain.update(params, plain.init(params), batch, address(KEY, 0))[0]
    after, metrics = stepped(factor, params, batch)
    weighed, parts = stepped(other, params, batch)
    whole = parts["nll"] + parts["kl"] + 2 * parts["total_correlation"]
    assert float(parts["loss"]) == pytest.approx(float(whole), rel=1e-12)
    for group in ("encoder", "decoder"):
        same(after[group], learned[group])
    same(weighed["decoder"], learned["decoder"])  # the codes are matched by the encoder alone
    assert np.abs(flat(weighed["encoder"]) - flat(after["encoder"])).max() > 1e-3
    assert np.abs(flat(after["critic"]) - flat(params["critic"])).max() > 1e-3
    still = stepped(factor_vae(linear(), SGD, gamma=2.0, critic_widths=(5,), critic_rate=0.0), params, batch)[0]
    same(still["critic"], params["critic"])
    same(still["encoder"], weighed["encoder"])
    assert 0.5 < float(metrics["critic"]) < 5


def test_a_trained_critic_finds_the_total_correlation_of_a_gaussian():
    """-1/2 log(1 - .6^2) = .2231 nats."""
    with jax.enable_x64(False):
        judge = game.perceptron((32,))

        def codes(params, batch, key):
            z = jax.random.normal(key, (500, 2))
            return z.at[:, 1].set(0.6 * z[:, 0] + 0.8 * z[:, 1])

        def marginals(params, batch, key):
            key_z, key_order = jax.random.split(key)
            return permuted(key_order, codes(params, batch, key_z))

        rule = game.discriminate(judge, codes, marginals, optax.adam(optax.cosine_decay_schedule(2e-2, 400)))
        params = {"critic": judge.init(KEY, jnp.zeros((1, 2)))}
        run = jax.jit(lambda p: repeat(rule, 400).update(p, rule.init(p), Batch(jnp.zeros((1, 1))), KEY)[0])
        after = run(params)
        z = jnp.concatenate([codes(after, None, address(KEY, "test", i)) for i in range(40)])
        assert float(judge.apply(after["critic"], z).mean()) == pytest.approx(0.2231, abs=0.03)


# ------------------------------------------------------------------------------------------------ covariances


def test_the_covariance_is_of_the_batch_with_one_over_b():
    _, stats = batch_of(6, 3)
    mean, logvar = np.split(np.asarray(stats), 2, 1)
    expected = np.cov(mean, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance_of(stats, "means"), expected, rtol=1e-12)
    codes = expected + np.diag(np.exp(logvar).mean(0))
    np.testing.assert_allclose(covariance_of(stats, "codes"), codes, rtol=1e-12)
    shifted = stats.at[:, :3].add(jnp.asarray([5.0, -2.0, 1.0]))[::-1]
    for of in ("means", "codes"):
        np.testing.assert_allclose(covariance_of(shifted, of), covariance_of(stats, of), atol=1e-12)
    weights = np.random.default_rng(1).normal(size=(4, 3))  # a linear encoder: W^T Cov(x) W
    x = np.asarray(data().x)
    stats = jnp.concatenate([jnp.asarray(x @ weights), jnp.zeros((6, 3))], 1)
    closed = weights.T @ np.cov(x, rowvar=False, bias=True) @ weights
    np.testing.assert_allclose(covariance_of(stats, "means"), closed, atol=1e-12)


@pytest.mark.parametrize(("of", "ratio"), [("means", 10.0), ("codes", 1.0)])
def test_a_dip_loss_is_its_parts(of, ratio):
    params, batch = params_of(linear()), data()
    mean, logvar = np.split(np.asarray(linear().encode(params, batch.x)), 2, 1)
    c = np.cov(mean, rowvar=False, bias=True) + (of == "codes") * np.diag(np.exp(logvar).mean(0))
    on, off = ((np.diag(c) - 1) ** 2).sum(), (c**2).sum() - (np.diag(c) ** 2).sum()
    for diagonal in (None, 0.25):
        algorithm = dip_vae(linear(), SGD, covariance=of, off_diagonal=3.0, diagonal=diagonal)
        metrics = stepped(algorithm, params, batch)[1]
        penalty = 3 * off + (3 * ratio if diagonal is None else diagonal) * on
        assert float(metrics["loss"] - metrics["nll"] - metrics["kl"]) == pytest.approx(penalty, rel=1e-9)


def test_whitened_means_cost_nothing_and_only_the_second_form_sees_variances():
    r = np.random.default_rng(0)
    mean = r.normal(size=(9, 3))
    mean = (mean - mean.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(mean, rowvar=False, bias=True))).T
    stats = jnp.concatenate([jnp.asarray(mean), jnp.asarray(r.normal(size=(9, 3)))], 1)
    np.testing.assert_allclose(covariance_of(stats, "means"), np.eye(3), atol=1e-12)
    cost = lambda s, of: jnp.square(covariance_of(s, of) - jnp.eye(3)).sum()
    assert np.abs(jax.grad(cost)(stats, "means")[:, 3:]).max() == 0
    assert np.abs(jax.grad(cost)(stats, "codes")[:, 3:]).min() > 0


def test_without_weights_dip_is_the_vae():
    params, batch = params_of(linear()), data()
    same(
        stepped(dip_vae(linear(), SGD, off_diagonal=0.0), params, batch)[0],
        stepped(vae(linear(), SGD), params, batch)[0],
    )


def test_an_unknown_covariance_is_refused():
    with pytest.raises(ValueError, match="covariance is 'draws'; it must be one of means, codes"):
        dip_vae(linear(), SGD, covariance="draws")  # type: ignore[arg-type]
