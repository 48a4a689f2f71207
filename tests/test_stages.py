"""Stacks of networks, greedy layer-wise training, and supervised fine-tuning."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import bars
from sklearn.linear_model import LogisticRegression

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, classifier, denoising
from ae_jax.training import stages, train

DATA = bars()
bottom = networks.mlp((4, 4, 1), 6, hidden=(), code_activation="sigmoid", tied=True)
top = networks.mlp((6,), 3, hidden=(5,), code_activation="sigmoid")
both = networks.stack([bottom, top], between="sigmoid")


def test_a_stack_is_its_networks_one_after_the_other():
    params = both.init(jax.random.key(0), DATA)
    low, high = networks.layers_of(params)
    z = top.encode(high, bottom.encode(low, DATA.x))
    np.testing.assert_array_equal(both.encode(params, DATA.x), z)
    x_hat = bottom.decode(low, jax.nn.sigmoid(top.decode(high, z)))
    np.testing.assert_array_equal(both.decode(params, z), x_hat)
    for ours, theirs in zip(both.apply(params, DATA.x), (z, x_hat), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    again = networks.stacked([low, high])
    assert jax.tree.structure(again) == jax.tree.structure(params)


def test_a_stack_drops_out_each_layer_by_its_own_key():
    net = networks.mlp((6,), 6, hidden=(), code_dropout=0.5)
    deep = networks.stack([net, net])
    params = deep.init(jax.random.key(0), core.Batch(jnp.ones((5, 6))))
    with jax.debug_key_reuse(True):
        z, _ = deep.apply(params, jnp.ones((5, 6)), jax.random.key(1))
    assert not np.allclose(z, deep.encode(params, jnp.ones((5, 6))))


@pytest.mark.parametrize(("nets", "told"), [([], "at least one"), ([top, bottom], "takes")])
def test_a_stack_that_does_not_fit_is_refused(nets, told):
    with pytest.raises(ValueError, match=told):
        networks.stack(nets)


def recipe(key, data):
    layers = [denoising(bottom, optax.adam(1e-2), likelihood="bernoulli"), autoencoder(top, optax.adam(1e-2))]
    trained, histories = stages.greedy(layers, data, key, epochs=(3, 2), batch_size=40)
    return networks.stacked(trained), histories[1]["loss"]


def test_greedy_trains_each_layer_alone_on_the_clean_codes_of_the_one_below():
    key = jax.random.key(3)
    params, history = jax.jit(recipe)(key, DATA)
    low, high = networks.layers_of(params)
    first = denoising(bottom, optax.adam(1e-2), likelihood="bernoulli")
    alone, _ = jax.jit(partial(core.fit, first.init, core.epoch(first, 40), epochs=3))(
        DATA, core.address(key, "layer", 0)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), low, alone)
    second = autoencoder(top, optax.adam(1e-2))
    codes = DATA._replace(x=bottom.encode(low, DATA.x))
    alone, _ = jax.jit(partial(core.fit, second.init, core.epoch(second, 40), epochs=2))(
        codes, core.address(key, "layer", 1)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), high, alone)
    assert history.shape == (2,)


def test_a_recipe_maps_over_seeds():
    keys = jnp.stack([jax.random.key(s) for s in range(3)])
    mapped, _ = jax.jit(lambda keys, data: jax.vmap(lambda k: recipe(k, data))(keys))(keys, DATA)
    alone, _ = jax.jit(recipe)(keys[2], DATA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[2], b, rtol=1e-4, atol=1e-5), mapped, alone)


def test_the_best_epoch_is_that_of_the_run_which_ends_there():
    algorithm = classifier(both, optax.adam(1e-2), classes=8)
    rule, key = core.epoch(algorithm, 40), jax.random.key(5)
    # weights grow from zero by Adam's 0.01 a step at most: the score falls and rises again
    score = lambda params: jnp.square(jnp.abs(params["head"]["kernel"]).max() - 0.045)
    best, history = jax.jit(partial(stages.fit_best, algorithm.init, rule, epochs=8, score=score))(DATA, key)
    chosen = int(np.argmin(history["score"]))
    assert 0 < chosen < 7
    shorter, same = jax.jit(partial(core.fit, algorithm.init, rule, epochs=chosen + 1))(DATA, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), best, shorter)
    np.testing.assert_allclose(history["loss"][: chosen + 1], same["loss"], rtol=1e-5)
    assert float(score(best)) == pytest.approx(float(history["score"][chosen]), rel=1e-4, abs=1e-7)


def test_a_best_epoch_is_one_that_was_trained():
    algorithm = autoencoder(bottom, optax.sgd(0.1))
    rule, key = core.epoch(algorithm, 40), jax.random.key(5)
    best = lambda epochs, score: jax.jit(partial(stages.fit_best, algorithm.init, rule, epochs=epochs, score=score))
    after, _ = jax.jit(partial(core.fit, algorithm.init, rule, epochs=1))(DATA, key)
    for score in (lambda params: jnp.nan, lambda params: 3):  # no number; whole numbers, all alike
        params, history = best(3, lambda params, score=score: jnp.asarray(score(params)))(DATA, key)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, after)
        assert history["score"].shape == (3,)
    fewer = lambda params: jnp.round(1e4 * jnp.square(params["encoder"]["layer_0"]["kernel"]).sum()).astype(int)
    params, history = best(3, fewer)(DATA, key)
    assert int(fewer(params)) == history["score"].min()
    with pytest.raises(ValueError, match="epochs is 0"):
        best(0, lambda params: jnp.asarray(0.0))(DATA, key)


def test_greedy_wants_epochs_for_every_layer():
    with pytest.raises(ValueError, match="2 layers and 1"):
        stages.greedy([autoencoder(bottom, optax.sgd(1.0))] * 2, DATA, jax.random.key(0), epochs=[1])


def test_a_layer_whose_input_is_outside_the_range_of_its_likelihood_is_refused():
    lower = autoencoder(bottom._replace(encode=lambda *a: 3 * bottom.encode(*a)), optax.sgd(1e-3))
    upper = lambda likelihood: autoencoder(top, optax.sgd(1e-3), likelihood=likelihood)
    greedy = partial(stages.greedy, data=DATA, key=jax.random.key(0), epochs=1, batch_size=40)
    with pytest.raises(ValueError, match=r"values in \[0, 1\], and the input of layer 1 has values from .* to [12]\."):
        greedy([lower, upper("bernoulli")])
    greedy([lower, upper("squared")])


def test_fine_tuning_starts_from_what_was_pretrained():
    trained = both.init(jax.random.key(1), DATA)
    algorithm = classifier(both, optax.adam(1e-2), classes=8)
    params = stages.resume(algorithm.init, trained)(jax.random.key(2), DATA)
    jax.tree.map(np.testing.assert_array_equal, {g: params[g] for g in trained}, trained)
    assert set(params) == {"encoder", "decoder", "head"}


def test_a_frozen_classifier_is_logistic_regression_on_the_codes():
    algorithm = classifier(bottom, optax.lbfgs(), classes=8, freeze=True, weight_l2=1e-3)
    run = partial(core.fit, algorithm.init, algorithm.rule, epochs=60)
    params, history = jax.jit(run)(DATA, jax.random.key(0))
    start = algorithm.init(core.address(jax.random.key(0), "init"), DATA)
    jax.tree.map(np.testing.assert_array_equal, params["encoder"], start["encoder"])
    codes = np.asarray(bottom.encode(start, DATA.x))
    # its objective is C * sum of nll + ||W||^2 / 2, ours the mean of nll + weight_l2 * ||W||^2
    reference = LogisticRegression(C=1 / (2 * 1e-3 * len(codes)), tol=1e-8, max_iter=5000).fit(codes, DATA.y)
    np.testing.assert_allclose(
        jax.nn.softmax(codes @ params["head"]["kernel"] + params["head"]["bias"]),
        reference.predict_proba(codes),
        atol=2e-3,
    )
    assert history["loss"][-1] < history["loss"][0]


def test_weight_decay_of_the_softmax_alone():
    params = classifier(bottom, optax.sgd(0.1), classes=8).init(jax.random.key(0), DATA)
    kernel = jax.random.normal(jax.random.key(1), (6, 8))
    params["head"]["kernel"] = kernel
    loss = lambda **decay: classifier(bottom, optax.sgd(0.1), classes=8, **decay).evaluate(
        params, DATA, jax.random.key(2)
    )["loss"]
    np.testing.assert_allclose(loss(head_l2=0.1) - loss(), 0.1 * jnp.square(kernel).sum(), rtol=1e-5)
    np.testing.assert_allclose(loss(freeze=True, weight_l2=0.1), loss(head_l2=0.1), rtol=1e-5)


def test_a_classifier_needs_labels():
    algorithm = classifier(bottom, optax.sgd(0.1))
    params = algorithm.init(jax.random.key(0), DATA)
    with pytest.raises(ValueError, match="labels"):
        algorithm.evaluate(params, core.Batch(DATA.x), jax.random.key(0))
    with pytest.raises(ValueError, match="at least 2"):
        classifier(bottom, optax.sgd(0.1), classes=1)


def test_each_seed_goes_on_from_its_own_params():
    algorithm = autoencoder(bottom, optax.adam(1e-2))
    given = jax.vmap(lambda key: algorithm.init(key, DATA))(jax.random.split(jax.random.key(5)))
    begun = stages.resumed(algorithm, given)
    trained = train(algorithm, DATA, epochs=1, batch_size=40, seeds=(0, 1), start=begun, progress=False)
    init = stages.resume(algorithm.init, jax.tree.map(lambda a: a[1], given))
    alone, _ = core.fit(init, core.epoch(algorithm, 40), DATA, jax.random.key(1), 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), trained.of(1), alone)
