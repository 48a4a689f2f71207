"""Parts of papers' protocols in experiments/: optimizers, nets, corpora and machines against their formulas."""

import iwae
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import semantic_hashing
import text_search
import vamp_prior

from ae_jax import networks
from ae_jax.core import Batch, Rule

KEY = jax.random.key(0)


def test_the_rates_of_iwae_fall_in_eight_stages_of_three_times_as_many_epochs():
    rates = [1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4]
    ends = np.cumsum([3**i for i in range(8)])
    assert ends[-1] == iwae.epochs_of(8) == 3280
    for i, end in enumerate(ends):
        np.testing.assert_allclose(iwae.rate_at(jnp.asarray([end - 3**i, end - 1])), rates[i], rtol=1e-6)


def test_adam_of_iwae_begins_with_second_moments_of_1_and_moves_by_the_moments_before():
    gradients = np.random.default_rng(0).normal(size=(4, 3))
    rule, at = iwae.authors_adam(steps=2), np.zeros(3)
    memory, params = rule.init({"w": jnp.zeros(3)}), {"w": jnp.zeros(3)}
    m, v = np.zeros(3), np.ones(3)
    for t, g in enumerate(gradients, 1):
        alpha = (1e-3 if t <= 2 else 7.2e-4) * np.sqrt(1 - 0.999**t) / (1 - 0.99**t)
        at = at - alpha * m / (np.sqrt(v) + 1e-4)
        m, v = 0.99 * m + 0.01 * g, 0.999 * v + 0.001 * g**2
        updates, memory = rule.update({"w": jnp.asarray(g)}, memory, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["w"], at, rtol=2e-4, atol=1e-9)
    assert np.abs(at).max() > 0


def test_the_net_of_iwae_emits_log_sigma_and_begins_at_the_mean_image():
    pixels = jnp.asarray([[0.0, 0.3], [0.5, 1.0]])
    net = iwae.authors_net(2, (3,), pixels)
    params = net.init(KEY, Batch(pixels[None]))
    plain = networks.mlp((2, 2), 2, hidden=(3,), heads=2, activation="tanh")
    mean, log_sigma = jnp.split(plain.encode(params, pixels[None]), 2, -1)
    np.testing.assert_allclose(net.encode(params, pixels[None]), jnp.concatenate([mean, 2 * log_sigma], -1), rtol=1e-6)
    flat = jax.tree.map(jnp.zeros_like, params["decoder"]["layer_0"])
    zeroed = params | {"decoder": params["decoder"] | {"layer_0": flat}}
    np.testing.assert_allclose(
        jax.nn.sigmoid(net.decode(zeroed, jnp.ones((1, 2))))[0], [[0.001, 0.3], [0.5, 0.999]], rtol=1e-4
    )


def test_a_pass_of_iwae_goes_through_images_in_their_own_order():
    note = lambda params, memory, batch, key: ({"n": 10 * params["n"] + batch.x.sum()}, memory, {"loss": params["n"]})
    plain = iwae.importance(networks.mlp((1,), 1, heads=2), optax.sgd(0.1))
    member = iwae.in_order(plain._replace(rule=Rule(lambda params: (), note)), 1)
    x = jnp.asarray([1.0, 0.0, 1.0, 1.0, 0.0])[:, None]  # certain pixels, which a draw does not change
    order = jnp.asarray([3, 0, 4, 2, 1])
    params, *_ = member.rule.update({"n": jnp.zeros(())}, (), Batch(x[order], order), KEY)
    assert params["n"] == 10110


def test_gated_layers_and_bounded_log_variances_of_the_vamp_prior():
    net = vamp_prior.gated((4,), 2, (3,))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    params = net.init(KEY, Batch(x))
    kernels = [params["encoder"][f"layer_{i}"]["kernel"] for i in range(2)]
    assert kernels[0].shape == (4, 6)
    h = (x @ kernels[0][:, :3]) * jax.nn.sigmoid(x @ kernels[0][:, 3:])
    wanted = h @ (50 * kernels[1])
    params["encoder"]["layer_1"]["kernel"] = 50 * kernels[1]  # far beyond the bounds
    stats = net.encode(params, x)
    np.testing.assert_allclose(stats[:, :2], wanted[:, :2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(stats[:, 2:], np.clip(wanted[:, 2:], -6, 2), rtol=1e-4, atol=1e-4)
    assert {-6.0, 2.0} <= {*np.asarray(stats[:, 2:]).ravel().tolist()}


def test_normalised_adam_sees_the_direction_of_each_array_alone():
    gradient = {"a": jnp.asarray([3.0, 4.0]), "b": jnp.asarray([[1.0, -2.0]])}
    rule, adam = vamp_prior.normalised_adam(0.1), optax.adam(0.1)
    params = jax.tree.map(jnp.zeros_like, gradient)
    unit = {"a": jnp.asarray([0.6, 0.8]), "b": jnp.asarray([[1.0, -2.0]]) / 5**0.5}
    ours, theirs = rule.init(params), adam.init(params)
    for scale in (1.0, 1e-3):  # the second gradient, normalised, is the first
        u, ours = rule.update(jax.tree.map(lambda g, s=scale: s * g, gradient), ours, params)
        w, theirs = adam.update(unit, theirs, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), u, w)


def test_the_corpus_of_vdsh_has_frequent_words_common_topics_and_no_short_documents():
    counts = np.zeros((6, 4))
    counts[:, 0] = 9  # in every document: too common
    counts[:3, 1] = [7, 6, 5]
    counts[2:6, 2] = [1, 8, 600, 3]
    counts[0, 3] = 9  # in one document: too rare
    topics = np.eye(6, 25, dtype=bool)
    topics[3] = False  # of no topic
    topics[0, 24] = True
    (train, known), (test, asked) = semantic_hashing.selected([counts, counts[:3]], [topics, topics[:3]])
    np.testing.assert_array_equal(train, [[7, 0], [6, 0], [5, 1]])  # the others: no topic, too long, too short
    np.testing.assert_array_equal(test, [[7, 0], [5, 1]])  # every second one
    assert known.shape == (3, 20)
    np.testing.assert_array_equal(known[[0, 2]], asked)


def test_vdsh_pays_for_the_words_that_are_there_whatever_their_weight():
    net, member = semantic_hashing.vdsh_model(5, 2, (3,), 10)
    x = jnp.asarray([[0.2, 0.0, 0.7, 0.0, 0.1], [0.0, 0.9, 0.0, 0.0, 0.0]])
    params = member.init(KEY, Batch(x))
    stats = net.encode(params, x)
    assert ((stats[:, 2:] > 0) & (stats[:, 2:] < 1)).all()  # a sigmoid
    logits = jnp.asarray([[0.3, -1.0, 2.0, 0.0, -90.0]])
    nll = lambda logits: semantic_hashing.words_there().nll({}, logits, x[:1]).sum()
    log_p = jax.nn.log_softmax(logits)[0]
    wanted = -(log_p[0] + log_p[2] + np.log(0.2 * 0.7) + np.log(1e-10))  # the last word is too unlikely to count
    np.testing.assert_allclose(nll(logits), wanted, rtol=1e-5)
    pull = 2 * jax.nn.softmax(logits)[0] - jnp.asarray([1.0, 0.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(jax.grad(nll)(logits)[0], pull, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_machine_of_words_is_that_of_contrastive_divergence():
    """<n h> of the data minus that of the reconstruction, whose words are as many as the document's."""
    net = networks.rbm((4,), 3, scale=0.3)
    machine = text_search.words_machine(net, optax.sgd(1.0), 0.0)
    x = jnp.asarray([[2.0, 0.0, 1.0, 0.0], [0.0, 5.0, 1.0, 1.0]])
    params = machine.init(KEY, Batch(x))
    after, _, _ = machine.rule.update(params, machine.rule.init(params), Batch(x), KEY)
    W, c, b = params["encoder"]["layer_0"]["kernel"], params["encoder"]["layer_0"]["bias"], params["decoder"]["bias_0"]
    h = jax.nn.sigmoid(x @ W + c)
    draw = text_search.machine(net).hidden.draw(KEY, net.encode(params, x))
    dream = x.sum(-1, keepdims=True) * jax.nn.softmax(draw @ W.T + b)
    np.testing.assert_allclose(dream.sum(-1), x.sum(-1), rtol=1e-5)
    again = jax.nn.sigmoid(dream @ W + c)
    step = after["encoder"]["layer_0"]["kernel"] - W
    np.testing.assert_allclose(step, (x.T @ h - dream.T @ again) / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after["decoder"]["bias_0"] - b, (x - dream).mean(0), rtol=1e-4, atol=1e-5)


def test_iwae_refuses_stages_that_the_schedule_has_not():
    with pytest.raises(ValueError, match="1 to 8"):
        iwae.main(stages=9)
