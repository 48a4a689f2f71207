"""The TopK dictionary: exact where mathematics gives the result, and on data that a dictionary made."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import core, networks
from ae_jax.algorithms import dictionary
from ae_jax.core import Batch, address
from ae_jax.corruption import corrupted
from ae_jax.evaluation.dictionaries import max_cosine
from ae_jax.objectives import dictionaries

KEY = jax.random.key(0)
DATA = Batch(jax.random.normal(address(KEY, "data"), (32, 6)) + 3)
NET = networks.linear((6,), 10)


def started(**hyper):
    algorithm = dictionary(NET, optax.adam(1e-2), **{"k": 3, "dead_after": 64, **hyper})
    params = algorithm.init(address(KEY, "init"), DATA)
    return algorithm, params, algorithm.rule.init(params)


def stepped(algorithm, params, memory, data=DATA, steps=1):
    update = jax.jit(algorithm.rule.update)
    metrics = {}
    for t in range(steps):
        params, memory, metrics = update(params, memory, data, address(KEY, "step", t))
    return params, memory, metrics


def loud(params, bias):
    """The params with these biases of the encoder."""
    layer = params["encoder"]["layer_0"]
    return params | {"encoder": {"layer_0": {**layer, "bias": jnp.asarray(bias, jnp.float32)}}}


def test_a_code_has_at_most_k_units_and_their_values_are_relus():
    algorithm, params, _ = started()
    z = algorithm.encode(params, DATA.x)
    w, c = params["encoder"]["layer_0"]["kernel"], params["encoder"]["layer_0"]["bias"]
    a = np.maximum((DATA.x - DATA.x.mean(0, keepdims=True)) @ w + c[None], 0)
    order = np.sort(a, 1)[:, ::-1]
    assert (np.sum(z > 0, 1) == np.minimum(np.sum(a > 0, 1), 3)).all()
    np.testing.assert_allclose(np.sort(z, 1)[:, ::-1][:, :3], order[:, :3], atol=1e-5)
    np.testing.assert_allclose(np.asarray(z)[z > 0], a[z > 0], atol=1e-5)
    whole, _, _ = started(k=10)
    np.testing.assert_allclose(whole.encode(params, DATA.x), a, atol=1e-5)


def test_it_starts_at_the_mean_with_unit_rows_and_their_transpose():
    _, params, _ = started()
    rows = dictionaries.rows(params)
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(params["encoder"]["layer_0"]["kernel"], rows.T)
    np.testing.assert_allclose(dictionaries.centre(params), DATA.x.mean(0), rtol=1e-6)


def test_rows_keep_their_length_and_their_gradient_is_orthogonal_to_them():
    algorithm, params, memory = started()
    after, _, _ = stepped(algorithm, params, memory, steps=5)
    np.testing.assert_allclose(jnp.linalg.norm(dictionaries.rows(after), axis=1), 1, atol=1e-6)
    some = jax.tree.map(jnp.ones_like, {"encoder": params["encoder"], "decoder": params["decoder"]})
    turned, _ = dictionaries.tangent().update(some, optax.EmptyState(), params)
    np.testing.assert_allclose((dictionaries.rows(turned) * dictionaries.rows(params)).sum(1), 0, atol=1e-6)
    np.testing.assert_array_equal(turned["decoder"]["layer_0"]["bias"], 1)


def test_without_dead_units_auxk_is_0_and_changes_no_step():
    one, params, memory = started()
    other, _, _ = started(auxiliary=0.0)
    (a, _, metrics), (b, _, _) = stepped(one, params, memory), stepped(other, params, memory)
    assert metrics["auxiliary"] == metrics["dead_share"] == 0
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_auxk_is_what_dead_units_leave_of_the_error_and_moves_them_alone():
    algorithm, params, _ = started(auxiliary_k=2)
    params = params | {"idle": jnp.zeros(10, jnp.int32).at[:4].set(64)}
    params = loud(params, np.where(np.arange(10) < 4, -1e-3, 5.0))  # the live ones win
    z, x_hat = algorithm.encode(params, DATA.x), algorithm.reconstruct(params, DATA.x)
    assert not np.asarray(z[:, :4]).any()
    w, c = params["encoder"]["layer_0"]["kernel"], params["encoder"]["layer_0"]["bias"]
    a = np.maximum((DATA.x - dictionaries.centre(params)[None]) @ w + c[None], 0)
    a[:, 4:] = 0
    a[a < np.sort(a, 1)[:, -2:-1]] = 0
    rest = np.asarray(DATA.x - x_hat)
    spread = np.square(rest - rest.mean(0)).sum(1).mean()
    wanted = (np.square(rest - a @ dictionaries.rows(params)).sum(1) / spread).mean()
    np.testing.assert_allclose(algorithm.evaluate(params, DATA, KEY)["dead_share"], 0.4)
    plain, _, _ = started(auxiliary=0.0)
    (moved, _, found), (still, _, _) = (stepped(one, params, one.rule.init(params)) for one in (algorithm, plain))
    np.testing.assert_allclose(found["auxiliary"], wanted, rtol=1e-4)
    np.testing.assert_allclose(found["loss"], found["reconstruction"] + params["variance"] * wanted / 32, rtol=1e-5)
    changed = np.abs(dictionaries.rows(moved) - dictionaries.rows(params)).max(1)
    assert (changed[:4][a[:, :4].any(0)] > 1e-4).all()
    np.testing.assert_allclose(dictionaries.rows(still)[:4], dictionaries.rows(params)[:4], atol=1e-6)


def test_a_unit_waits_by_examples_until_one_activates_it():
    algorithm, params, memory = started()
    never = loud(params, np.where(np.arange(10) < 2, -1e6, 0.0))
    after, _, metrics = stepped(algorithm, never, memory, steps=3)
    assert after["idle"].dtype == jnp.int32
    np.testing.assert_array_equal(after["idle"][:2], 96)
    np.testing.assert_allclose(metrics["dead_share"], 0.2)  # before the third step they had waited 64
    assert (np.asarray(after["idle"][2:]) < 96).any()


def test_all_units_at_rest_score_an_fvu_of_1_and_an_error_of_0_is_no_nan():
    algorithm, params, memory = started()
    rest = loud(params, np.full(10, -1e6)) | {"idle": jnp.full(10, 64, jnp.int32)}
    found = algorithm.evaluate(rest, DATA, KEY)
    np.testing.assert_allclose(found["fvu"].mean(), 1, rtol=1e-5)
    assert not found["nonzero_units"].any()
    mean = Batch(jnp.broadcast_to(dictionaries.centre(rest)[None], (5, 6)))
    assert not algorithm.evaluate(rest, mean, KEY)["loss"].any()
    after, _, found = stepped(algorithm, rest, memory, mean)
    assert not found["auxiliary"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def test_shifting_data_and_their_centre_together_changes_no_code():
    algorithm, params, _ = started()
    shifted = jax.tree.map(lambda a: a, params)
    layer = params["decoder"]["layer_0"]
    shifted = params | {"decoder": {"layer_0": {**layer, "bias": layer["bias"] + 2}}}
    np.testing.assert_allclose(algorithm.encode(shifted, DATA.x + 2), algorithm.encode(params, DATA.x), atol=1e-5)


def sums(key, features, count, active):
    """Sums of about `active` of the features, with strengths from 0 to 1."""
    key_which, key_strength = jax.random.split(key)
    shape = (count, len(features))
    on = jax.random.bernoulli(key_which, active / len(features), shape)
    return (on * jax.random.uniform(key_strength, shape)) @ features


def test_it_finds_the_features_that_made_the_data():
    features = jax.random.normal(address(KEY, "features"), (32, 16))
    features = features / jnp.linalg.norm(features, axis=1, keepdims=True)
    data = Batch(sums(address(KEY, "sums"), features, 8192, 2))
    algorithm = dictionary(networks.linear((16,), 48), optax.adam(3e-3), k=3, dead_after=4096)
    rule = core.epoch(algorithm, 256)
    params, history = jax.jit(lambda data, key: core.fit(algorithm.init, rule, data, key, 50))(data, KEY)
    before = algorithm.init(address(KEY, "init"), data)
    assert max_cosine(features, dictionaries.rows(before)) < 0.8
    assert max_cosine(features, dictionaries.rows(params)) > 0.9
    held_out = Batch(sums(address(KEY, "held out"), features, 1000, 2))
    found = core.average(algorithm.evaluate, params, held_out, KEY)
    assert found["fvu"] < 0.15
    assert found["nonzero_units"] <= 3
    assert history["dead_share"][-1] < 0.2


@pytest.mark.parametrize(
    ("net", "hyper", "told"),
    [
        (NET, {"k": 11}, "k is 11; it must be at most the code's 10 units"),
        (NET, {"k": 2, "auxiliary_k": 12}, "auxiliary_k is 12; it must be at most the code's 10 units"),
        (networks.mlp((6,), 10, hidden=(), code_activation="relu"), {"k": 2}, "code is relu and must be linear"),
        (networks.mlp((6,), 10, hidden=(), output_activation="sigmoid"), {"k": 2}, "the output is sigmoid"),
        (networks.residual(NET), {"k": 2}, "decodes codes alone"),
        (NET, {"k": 0}, "k is 0"),
        (NET, {"auxiliary_k": 0}, "auxiliary_k is 0"),
    ],
)
def test_it_refuses(net, hyper, told):
    with pytest.raises(ValueError, match=told):
        dictionary(net, optax.sgd(1.0), **hyper)


@pytest.mark.parametrize("net", [networks.mlp((6,), 10, hidden=(8,)), networks.linear((6,), 10, tied=True)])
def test_it_refuses_another_network_before_it_learns(net):
    with pytest.raises(
        ValueError, match=r"one linear layer each way, and not tied: build its network by networks\.linear"
    ):
        dictionary(net, optax.sgd(1.0), k=2).init(KEY, DATA)


def test_a_step_turns_rows_by_the_gradient_across_them():
    algorithm, params, _ = started(auxiliary=0.0)
    algorithm = dictionary(NET, optax.sgd(0.05), k=3, auxiliary=0.0)
    after, _, _ = stepped(algorithm, params, algorithm.rule.init(params))
    z, w = np.asarray(algorithm.encode(params, DATA.x)), np.asarray(dictionaries.rows(params))
    error = z @ w + np.asarray(dictionaries.centre(params)) - np.asarray(DATA.x)
    slope = 2 * z.T @ error / len(z)  # [K, D]
    across = slope - (slope * w).sum(1, keepdims=True) * w
    assert np.abs(slope - across).max() > 0.1
    moved = w - 0.05 * across
    wanted = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(dictionaries.rows(after), wanted, rtol=1e-4, atol=1e-5)


def test_noise_corrupts_the_input_itself_and_not_its_distance_from_the_centre():
    plain, params, _ = started()
    noisy = dictionary(corrupted(NET, lambda x, key: jnp.zeros_like(x)), optax.sgd(1.0), k=3)  # masks every number
    memory, key = noisy.rule.init(params), address(KEY, "step")
    _, _, metrics = noisy.rule.update(params, memory, DATA, key)
    error = jnp.square(plain.reconstruct(params, jnp.zeros_like(DATA.x)) - DATA.x).sum(-1).mean()
    np.testing.assert_allclose(metrics["reconstruction"], error, rtol=1e-5)
    np.testing.assert_allclose(noisy.encode(params, DATA.x), plain.encode(params, DATA.x), atol=1e-5)
