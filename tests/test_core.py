"""The combinators against plain Python, and the layering of the package."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import algorithms, core, networks
from ae_jax.checks import final_value
from ae_jax.core import Batch, Loss, Rule

KEY = jax.random.key(0)
DATA = Batch(jnp.arange(10.0)[:, None], jnp.arange(10))


def collect(params, memory, batch, key):
    """A rule that learns nothing: reports the batch's mean, and counts how often it has seen each example."""
    seen = params["seen"].at[batch.x[:, 0].astype(int)].add(1)
    return {"seen": seen}, memory + 1, {"mean": batch.x.mean()}


counting = Rule(lambda params: jnp.zeros((), jnp.int32), collect)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 10, 64])
def test_sweep_uses_each_example_once_and_weighs_the_short_batch_by_its_size(batch_size):
    params, steps, metrics = core.sweep(counting, batch_size).update({"seen": jnp.zeros(10)}, jnp.zeros(()), DATA, KEY)
    np.testing.assert_array_equal(params["seen"], 1)
    assert steps == -(-10 // batch_size)
    np.testing.assert_allclose(metrics["mean"], 4.5, rtol=1e-6)


def test_sweep_shuffles_by_the_key_and_keeps_labels_with_their_examples():
    def record(params, memory, batch, key):
        return params, memory, {"x": batch.x[:, 0], "y": batch.y}

    rule = Rule(lambda params: (), record)
    orders = [core.sweep(rule, 10).update({}, (), DATA, jax.random.key(seed))[2] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0]["x"], orders[1]["x"])
    assert not np.array_equal(orders[0]["x"], orders[2]["x"])
    assert not np.array_equal(orders[0]["x"], DATA.x[:, 0])
    np.testing.assert_array_equal(orders[0]["x"], orders[0]["y"])


def loss(params, batch, key, scale=1.0):
    error = jnp.square(batch.x[:, 0] - params["a"])  # [B]
    return Loss(scale * error + 0 * params["b"], {"error": error}, {"last": batch.x[-1, 0]})


START = {"a": jnp.asarray(1.0), "b": jnp.asarray(2.0), "last": jnp.asarray(0.0)}


def test_descend_takes_the_mean_descends_what_it_is_told_and_applies_the_patch():
    rule = core.descend(loss, optax.sgd(0.1), wrt=("a",), name="cost")
    params, memory, metrics = rule.update(START, rule.init(START), DATA, KEY)
    np.testing.assert_allclose(params["a"], 1 - 0.1 * 2 * (1 - 4.5), rtol=1e-6)  # d mean (x - a)^2 / d a
    assert params["b"] == 2
    assert params["last"] == 9
    np.testing.assert_allclose(metrics["cost"], np.mean((np.arange(10) - 1) ** 2), rtol=1e-6)
    np.testing.assert_allclose(metrics["error"], metrics["cost"])
    assert memory.step == 1


def test_descend_refuses_groups_that_are_not_there():
    with pytest.raises(ValueError, match=r"wrt names \['critic'\]"):
        core.descend(loss, optax.sgd(0.1), wrt=("critic",)).init(START)


def test_schedules_count_the_rules_own_steps():
    schedule = optax.linear_schedule(0.0, 1.0, 20)
    slow = core.descend(loss, optax.sgd(0.0), name="slow", scale=schedule)
    quick = core.descend(lambda p, b, k, pace: Loss(loss(p, b, k).value), optax.sgd(0.0), name="quick", pace=schedule)
    rule = core.chain(slow, core.repeat(quick, 3))
    params, memory = START, rule.init(START)
    for step in range(4):
        params, memory, metrics = rule.update(params, memory, DATA, KEY)
        np.testing.assert_allclose(metrics["scale"], step / 20, rtol=1e-6)
        np.testing.assert_allclose(metrics["pace"], (3 * step + 1) / 20, rtol=1e-6)  # the mean of three
    assert final_value(schedule) == 1.0
    assert final_value(0.3) == 0.3


def test_lbfgs_solves_a_quadratic():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, vector = root @ root.T + np.eye(6), rng.normal(size=6)

    def quadratic(params, batch, key):
        return Loss(0.5 * params["w"] @ jnp.asarray(matrix) @ params["w"] - jnp.asarray(vector) @ params["w"])

    rule = core.repeat(core.descend(quadratic, optax.lbfgs()), 30)
    params = {"w": jnp.zeros(6)}
    params, _, _ = rule.update(params, rule.init(params), DATA, KEY)
    np.testing.assert_allclose(params["w"], np.linalg.solve(matrix, vector), rtol=1e-3, atol=1e-4)


def add(amount):
    return core.assign(lambda params, batch, key: {"a": params["a"] + amount})


def test_a_loss_with_a_metric_of_the_means_name_is_refused():
    loss = lambda params, batch, key: Loss(batch.x, {"loss": batch.x})
    rule = core.descend(loss, optax.sgd(1.0))
    with pytest.raises(ValueError, match=r"two metrics are called \['loss'\]: give one another name"):
        rule.update({"w": jnp.zeros(())}, rule.init({"w": jnp.zeros(())}), Batch(jnp.ones(3)), KEY)


def test_a_schedule_ends_where_it_has_settled():
    warm = lambda t: jnp.minimum((t + 1) / 100, 1.0)
    assert final_value(warm) == 1
    assert final_value(optax.cosine_decay_schedule(1.0, 100, 0.25)) == 0.25
    assert final_value(0.3) == 0.3
    assert final_value(optax.exponential_decay(1.0, 100, 0.9)) == 0
    assert final_value(lambda t: 1 / (1 + t)) < 1e-9
    traced = jax.jit(lambda end: final_value(optax.linear_schedule(0.0, end, 10)))
    assert traced(0.5) == 0.5


@pytest.mark.parametrize("cycle", [64, 1000, 4096, 12345])
def test_a_schedule_without_an_end_is_refused(cycle):
    cyclical = lambda t: (t % cycle) / cycle
    net = networks.mlp((2,), 1, hidden=(), heads=2)
    with pytest.raises(ValueError, match="never settles"):
        algorithms.vae(net, optax.sgd(0.1), beta=cyclical)
    ended = optax.join_schedules([cyclical, optax.constant_schedule(1.0)], [10_000])  # as the message says
    assert final_value(ended) == 1
    algorithms.vae(net, optax.sgd(0.1), beta=ended)


@pytest.mark.parametrize("data", [Batch(jnp.ones((4, 2)), jnp.zeros(3)), Batch(jnp.ones((0, 2)))])
def test_data_that_do_not_fit_are_refused(data):
    count = Rule(lambda p: (), lambda p, m, batch, key: (p, m, {"n": jnp.asarray(len(batch.x))}))
    with pytest.raises(ValueError, match=rf"a batch has lengths \[.*{len(data.x)}\]"):
        core.sweep(count, 2).update({}, (), data, KEY)
    with pytest.raises(ValueError, match=rf"a batch has lengths \[.*{len(data.x)}\]"):
        core.average(lambda p, batch, key: {"x": batch.x}, {}, data, KEY)
    with pytest.raises(ValueError, match="the number of updates is 0; it must be at least 1"):
        core.repeat(count, 0).update({}, (), data, KEY)


def test_assign_overwrites_and_keeps_the_rest():
    params, _, metrics = add(2.0).update(START, (), DATA, KEY)
    assert (params["a"], params["b"], metrics) == (3.0, 2.0, {})


def test_chain_acts_in_order_each_with_its_own_key():
    double = core.assign(lambda params, batch, key: {"a": 2 * params["a"]})
    draw = core.assign(lambda params, batch, key: {f"draw{len(params)}": jax.random.uniform(key)})
    rule = core.chain(add(1.0), double, draw, draw)
    params, memory, _ = rule.update(START, rule.init(START), DATA, KEY)
    assert params["a"] == 4.0
    assert params["draw3"] == jax.random.uniform(jax.random.fold_in(KEY, 2))
    assert params["draw4"] == jax.random.uniform(jax.random.fold_in(KEY, 3))
    assert len(memory) == 4


def test_chain_refuses_two_metrics_of_one_name():
    rule = core.chain(core.descend(loss, optax.sgd(0.1)), core.descend(loss, optax.sgd(0.1), name="other"))
    with pytest.raises(ValueError, match=r"two metrics are called \['error'\]"):
        rule.update(START, rule.init(START), DATA, KEY)


def test_augment_gives_the_rule_another_batch_and_fresh_keys():
    def record(params, memory, batch, key):
        return params, memory, {"x": batch.x.sum(), "key": jax.random.uniform(key)}

    rule = core.augment(Rule(lambda params: (), record), lambda batch, key: Batch(batch.x + jax.random.uniform(key)))
    _, _, metrics = rule.update({}, (), DATA, KEY)
    noise = (metrics["x"] - DATA.x.sum()) / 10
    np.testing.assert_allclose(noise, jax.random.uniform(jax.random.split(KEY)[0]), rtol=1e-4)
    assert abs(noise - metrics["key"]) > 1e-3


def test_repeat_is_a_loop_and_its_metrics_are_means():
    rule = core.descend(loss, optax.sgd(0.1), wrt=("a",))
    params, memory, values = START, rule.init(START), []
    for t in range(4):
        params, memory, metrics = rule.update(params, memory, DATA, jax.random.fold_in(KEY, t))
        values.append(metrics["loss"])
    repeated, remembered, metrics = core.repeat(rule, 4).update(START, rule.init(START), DATA, KEY)
    np.testing.assert_allclose(repeated["a"], params["a"], rtol=1e-6)
    assert remembered.step == memory.step == 4
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-6)


def noisy(params, batch, key):
    """A metric [B] of the example and its noise."""
    return {"value": batch.x[:, 0] + jax.random.normal(key, (len(batch.x),)), "label": batch.y * 1.0}


@pytest.mark.parametrize("batch_size", [1, 3, 10, 500])
def test_each_and_average_do_not_depend_on_the_batch_size(batch_size):
    metrics = core.evaluate_each(noisy, {}, DATA, KEY, batch_size)
    noise = [jax.random.normal(core.address(KEY, "example", i), (1,))[0] for i in range(10)]
    np.testing.assert_allclose(metrics["value"], np.arange(10) + np.asarray(noise), rtol=1e-6)
    np.testing.assert_array_equal(metrics["label"], np.arange(10))
    average = core.average(noisy, {}, DATA, KEY, batch_size)
    np.testing.assert_allclose(average["value"], metrics["value"].mean(), rtol=1e-6)


def test_average_without_labels():
    value = core.average(lambda params, batch, key: {"x": batch.x[:, 0]}, {}, Batch(DATA.x), KEY, 4)["x"]
    np.testing.assert_allclose(value, 4.5)


def init(key, data):
    return START | {"a": jax.random.normal(key)}


def test_fit_is_a_loop_of_epochs_and_maps_over_seeds():
    def jitter(params, batch, key):
        return Loss(loss(params, batch, key).value * jax.random.uniform(key))

    rule = core.sweep(core.descend(jitter, optax.adam(0.1), wrt=("a",)), 4)
    keys = jax.random.split(KEY, 3)
    update = jax.jit(rule.update)
    run = jax.jit(lambda data, key: core.fit(init, rule, data, key, epochs=5))
    mapped = jax.jit(lambda data, keys: jax.lax.map(partial(core.fit, init, rule, data, epochs=5), keys))
    all_params, all_history = mapped(DATA, keys)
    for seed, key in enumerate(keys):
        params, memory, key_run = core.start(init, rule, DATA, key)
        losses = []
        for e in range(5):
            params, memory, metrics = update(params, memory, DATA, jax.random.fold_in(key_run, e))
            losses.append(metrics["loss"])
        fitted, history = run(DATA, key)
        np.testing.assert_allclose(fitted["a"], params["a"], rtol=1e-5)
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
        np.testing.assert_allclose(all_params["a"][seed], params["a"], rtol=1e-5)
        np.testing.assert_allclose(all_history["loss"][seed], losses, rtol=1e-5)


@pytest.mark.parametrize(("value", "metric"), [((5, 3), ()), ((5,), (5, 3))])
def test_a_loss_is_a_number_for_each_example(value, metric):
    """The mean over examples would silently average a value for each pixel, too."""
    loss = lambda params, batch, key: core.Loss(params["a"] * jnp.ones(value), {"term": jnp.ones(metric)})
    rule, params = core.descend(loss, optax.sgd(1.0)), {"a": jnp.ones(())}
    told = r"(the loss 'loss'|term) has the shape \(5, 3\); wanted: \[B\], a number for each example"
    with pytest.raises(ValueError, match=told):
        rule.update(params, rule.init(params), DATA, KEY)


def test_the_statistics_of_an_algorithm_come_before_its_pass():
    order = core.assign(lambda params, batch, key: {"size": jnp.asarray(len(batch.x))})
    algorithm = core.Algorithm(init, counting, noisy, jnp.add, jnp.add, jnp.add, before=order)
    rule = core.epoch(algorithm._replace(rule=core.assign(lambda p, b, k: {"twice": 2 * p["size"]})), 5)
    params, _, _ = rule.update(START | {"size": jnp.asarray(0), "twice": jnp.asarray(0)}, rule.init(START), DATA, KEY)
    assert (params["size"], params["twice"]) == (10, 20)
    assert core.epoch(algorithm._replace(before=None), 5).init({}) == 0
