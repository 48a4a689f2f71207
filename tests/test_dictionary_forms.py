"""The forms of dictionaries, each exact where mathematics gives the result, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import core, networks
from ae_jax.algorithms import dictionary
from ae_jax.core import Batch, address
from ae_jax.objectives import dictionaries, sparsity

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(24, 6)) + 3
NET = networks.linear((6,), 10)
FORMS = (*sparsity.COUNTED, *sparsity.WEIGHED)
pytestmark = pytest.mark.usefixtures("float64")


def started(form, optimizer=None, **hyper):
    hyper = ({"k": 3} if form in sparsity.COUNTED else {}) | hyper
    algorithm = dictionary(NET, optimizer or optax.adam(1e-2), form=form, **hyper)
    params = algorithm.init(address(KEY, "init"), Batch(jnp.asarray(X)))
    return algorithm, params


def stepped(algorithm, params, steps=1, x=X, memory=None):
    memory = algorithm.rule.init(params) if memory is None else memory
    for t in range(steps):
        params, memory, metrics = algorithm.rule.update(params, memory, Batch(jnp.asarray(x)), address(KEY, "step", t))
    return params, memory, metrics


def before(params, x=X):
    """W (x - b) + c by NumPy."""
    layer = params["encoder"]["layer_0"]
    return (x - dictionaries.centre(params)) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def moved(params, seed=1):
    """The learned params with noise, the rows of length 1."""
    keys = iter(jax.random.split(address(KEY, "moved", seed), 99))
    noisy = lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape, leaf.dtype)
    groups = {group: jax.tree.map(noisy, params[group]) for group in ("encoder", "decoder")}
    return dictionaries.with_rows(params | groups, dictionaries.unit)


# ------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("form", FORMS)
def test_one_step_keeps_dtypes_and_the_rows_length_and_moves_all_that_is_learned(form):
    algorithm, params = started(form, resample=form == "l1", dead_after=10**6)
    after, _, metrics = stepped(algorithm, params, 2)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), params)
    lengths = np.linalg.norm(dictionaries.rows(after), axis=1)
    assert (np.abs(lengths - 1).max() < 1e-12) == (form != "april")
    learned = {"gated": ("gate",), "jumprelu": ("threshold",)}.get(form, ())
    for group in ("encoder", "decoder", *learned):
        for leaf, old in zip(jax.tree.leaves(after[group]), jax.tree.leaves(params[group]), strict=True):
            assert not np.allclose(leaf, old)
    assert np.isfinite(metrics["loss"])


@pytest.mark.parametrize("form", FORMS)
def test_a_code_depends_on_its_example_alone(form):
    algorithm, params = started(form)
    params = moved(params)
    alone = np.concatenate([algorithm.encode(params, x[None]) for x in jnp.asarray(X)])
    np.testing.assert_allclose(algorithm.encode(params, jnp.asarray(X)), alone, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "hyper", "change"),
    [
        ("topk", {"k": 10}, {}),
        ("l1", {}, {}),
        ("april", {}, {}),
        ("batch_topk", {}, {"threshold": jnp.zeros(())}),
        ("jumprelu", {}, {"threshold": jnp.zeros(10)}),
        ("gated", {}, None),
    ],
)
def test_without_its_sparsity_each_form_is_a_relu(form, hyper, change):
    algorithm, params = started(form, **hyper)
    params = moved(params)
    if change is None:  # r = 0 and the bias of the gates
        change = {"gate": {"scale": jnp.zeros(10), "bias": params["encoder"]["layer_0"]["bias"]}}
    z = algorithm.encode(params | change, jnp.asarray(X))
    np.testing.assert_allclose(z, np.maximum(before(params), 0), atol=1e-12)


def test_a_weight_of_0_leaves_the_squared_error():
    for form in ("l1", "april", "jumprelu"):
        algorithm, params = started(form, weight=0.0)
        found = algorithm.evaluate(moved(params), Batch(jnp.asarray(X)), KEY)
        np.testing.assert_array_equal(found["loss"], found["reconstruction"])
        x_hat = algorithm.reconstruct(moved(params), jnp.asarray(X))
        np.testing.assert_allclose(found["loss"], np.square(X - x_hat).sum(1))


def test_a_weight_may_rise_over_the_steps():
    algorithm, params = started("l1", weight=optax.linear_schedule(0.0, 1.0, 10))
    _, memory, metrics = stepped(algorithm, params)
    assert metrics["weight"] == 0
    assert stepped(algorithm, params, memory=memory)[2]["weight"] == pytest.approx(0.1)
    found = algorithm.evaluate(params, Batch(jnp.asarray(X)), KEY)
    np.testing.assert_allclose(found["loss"], found["reconstruction"] + found["penalty"])


# --------------------------------------------------------------------------------------------- L1, April


def test_the_april_form_cannot_be_evaded_by_longer_rows():
    c = np.linspace(0.5, 2, 10)

    def scaled(params):
        layer = {name: leaf / c for name, leaf in params["encoder"]["layer_0"].items()}
        return dictionaries.with_rows(params | {"encoder": {"layer_0": layer}}, lambda w: w * c[:, None])

    for form, same in (("april", True), ("l1", False)):
        algorithm, params = started(form)
        a, b = (
            algorithm.evaluate(p, Batch(jnp.asarray(X)), KEY)["loss"] for p in (moved(params), scaled(moved(params)))
        )
        assert np.allclose(a, b, rtol=1e-12) == same


def test_l1_is_the_sum_of_the_code():
    algorithm, params = started("l1")
    found = algorithm.evaluate(moved(params), Batch(jnp.asarray(X)), KEY)
    np.testing.assert_allclose(found["penalty"], np.maximum(before(moved(params)), 0).sum(1))


# ------------------------------------------------------------------------------------------------- Gated


def test_the_gates_own_reconstruction_teaches_no_decoder():
    _, params = started("gated")
    params, form = moved(params), sparsity.form_of("gated", 10, 1, (), 0.05)
    x = jnp.asarray(X)

    def beside(params):
        a = dictionaries.before(NET, params, x)
        return form.beside(params, a, a, x).sum()

    gradient = jax.grad(beside, allow_int=True)(params)
    # b teaches through the encoder's input alone: W^T times what the gates get
    assert not np.asarray(dictionaries.rows(gradient)).any()
    assert np.asarray(gradient["encoder"]["layer_0"]["kernel"]).any()
    fixed = jax.grad(lambda d: form.beside(params | {"decoder": d}, before(params), None, x).sum())(params["decoder"])
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(fixed))


def test_a_gated_loss_is_error_gates_and_their_reconstruction():
    algorithm, params = started("gated", weight=0.7)
    params = moved(params) | {"gate": {"scale": jnp.full(10, 0.2), "bias": jnp.full(10, -0.1)}}
    p, c = before(params), np.asarray(params["encoder"]["layer_0"]["bias"])
    z = (p > 0) * np.maximum(np.exp(0.2) * (p - c) - 0.1, 0)
    np.testing.assert_allclose(algorithm.encode(params, jnp.asarray(X)), z, atol=1e-12)
    decode = lambda z: z @ dictionaries.rows(params) + dictionaries.centre(params)
    error = np.square(X - decode(z)).sum(1)
    gate = np.maximum(p, 0)
    wanted = error + 0.7 * gate.sum(1) + np.square(X - decode(gate)).sum(1)
    np.testing.assert_allclose(algorithm.evaluate(params, Batch(jnp.asarray(X)), KEY)["loss"], wanted)


# --------------------------------------------------------------------------------------------- BatchTopK


def test_a_batch_has_k_units_on_average_and_a_batch_of_one_has_k():
    algorithm, params = started("batch_topk")
    params = moved(params)
    _, _, metrics = stepped(algorithm, params)
    assert metrics["nonzero_units"] == 3
    batch, top = (sparsity.form_of(name, 10, 3, (), 0.05) for name in ("batch_topk", "topk"))
    a = jnp.asarray(before(params, X[:1]))
    np.testing.assert_array_equal(batch.code(params, a, True), top.code(params, a, True))


def test_a_batch_without_an_active_unit_leaves_the_threshold():
    algorithm, params = started("batch_topk")
    after, _, metrics = stepped(algorithm, silent(params, np.arange(10)))
    assert after["threshold"] == params["threshold"]
    assert metrics["nonzero_units"] == 0


def test_the_threshold_is_a_moving_mean_of_the_least_kept_and_starts_there():
    algorithm, params = started("batch_topk")
    least = lambda params: np.sort(np.maximum(before(params), 0).ravel())[-3 * len(X)]
    np.testing.assert_allclose(params["threshold"], least(params))
    other = params | {"threshold": jnp.asarray(0.5)}
    after, _, _ = stepped(algorithm, other)
    np.testing.assert_allclose(after["threshold"], 0.95 * 0.5 + 0.05 * least(other))
    z = algorithm.encode(other, jnp.asarray(X))
    np.testing.assert_allclose(z, np.where(before(params) > 0.5, before(params), 0))


def test_matryoshka_with_one_prefix_is_batch_topk_and_a_prefix_teaches_its_own_units():
    one, params = started("matryoshka", widths=(10,))
    other, _ = started("batch_topk")
    a, b = (stepped(algorithm, moved(params)) for algorithm in (one, other))
    jax.tree.map(np.testing.assert_array_equal, a[0], b[0])
    nested, _ = started("matryoshka", widths=(2, 5, 10))
    params = moved(params)
    found = nested.evaluate(params, Batch(jnp.asarray(X)), KEY)
    z, w = np.asarray(nested.encode(params, jnp.asarray(X))), np.asarray(dictionaries.rows(params))
    errors = [np.square(X - z[:, :m] @ w[:m] - dictionaries.centre(params)).sum(1) for m in (2, 5, 10)]
    np.testing.assert_allclose(found["loss"], np.sum(errors, 0))
    np.testing.assert_allclose(found["reconstruction"], errors[2])
    form = sparsity.form_of("matryoshka", 10, 3, (2, 5), 0.05)
    inner = jax.grad(lambda d: form.beside(params | {"decoder": d}, z, jnp.asarray(z), jnp.asarray(X)).sum())
    reached = np.abs(inner(params["decoder"])["layer_0"]["kernel"]).max(1) > 0
    np.testing.assert_array_equal(reached, (z[:, :10] > 0).any(0) & (np.arange(10) < 5))
    assert sparsity.checked_widths((), 512) == (32, 64, 128, 256)


# ---------------------------------------------------------------------------------------------- JumpReLU


def test_the_pseudo_gradients_of_jumprelu_are_those_of_the_paper():
    a, t, w = jnp.asarray([-1.0, 0.99, 1.04, 2.0]), jnp.full(4, 1.0), 0.1
    values = lambda fn: (
        fn(a, t, w),
        jax.grad(lambda a: fn(a, t, w).sum())(a),
        jax.grad(lambda t: fn(a, t, w).sum())(t),
    )
    jump, by_a, by_t = values(sparsity.jump)
    np.testing.assert_array_equal(jump, [0, 0, 1.04, 2])
    np.testing.assert_array_equal(by_a, [0, 0, 1, 1])
    np.testing.assert_allclose(by_t, [0, -10, -10, 0])  # -t / w, from the activation before the jump
    step, by_a, by_t = values(sparsity.step)
    np.testing.assert_array_equal(step, [0, 0, 1, 1])
    assert not by_a.any()
    np.testing.assert_allclose(by_t, [0, -10, -10, 0])  # -1 / w
    np.testing.assert_allclose(jax.grad(lambda t: sparsity.jump(a, 2 * t, w).sum())(t), [0, 0, 0, -2 * 2 / w])


def test_the_pseudo_gradient_of_l0_is_the_derivative_of_its_mean():
    a = jnp.asarray(np.random.default_rng(0).normal(size=200_000))
    slope = jax.grad(lambda t: sparsity.step(a, t, 0.05).mean())(jnp.asarray(0.4))
    density = np.exp(-(0.4**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(slope, -density, rtol=0.05)


def test_a_learned_threshold_stays_at_0_or_more():
    algorithm, params = started("jumprelu", optax.sgd(0.0))
    given = jnp.linspace(-1, 1, 10)
    after, _, _ = stepped(algorithm, params | {"threshold": given})
    np.testing.assert_array_equal(after["threshold"], np.maximum(given, 0))


# --------------------------------------------------------------------------------------------- dead units


def silent(params, units):
    layer = params["encoder"]["layer_0"]
    loud = {"encoder": {"layer_0": {**layer, "bias": layer["bias"].at[jnp.asarray(units)].set(-1e6)}}}
    return params | loud


@pytest.mark.parametrize("form", ["l1", "gated", "jumprelu"])
def test_dead_units_start_anew_with_their_moments_and_no_other_does(form):
    make = partial(started, form, dead_after=48)
    algorithm, params = make(resample=True)
    plain, _ = make()
    _, lively, _ = stepped(plain, params, 1)  # moments of all units
    params = silent(params, [2, 7])
    was, memory, _ = stepped(plain, params, 1, memory=lively)
    (before_, old, _), key = stepped(plain, was, 1, memory=memory), address(KEY, "step", 0)
    assert set(np.flatnonzero(before_["idle"] >= 48)) == {2, 7}
    amended = algorithm.rule.init(params)
    now, state, _ = algorithm.rule.update(was, (memory[0], amended[1]), Batch(jnp.asarray(X)), key)
    others = np.delete(np.arange(10), [2, 7])
    np.testing.assert_array_equal(
        now["encoder"]["layer_0"]["kernel"][:, others], before_["encoder"]["layer_0"]["kernel"][:, others]
    )
    np.testing.assert_array_equal(dictionaries.rows(now)[others], dictionaries.rows(before_)[others])
    np.testing.assert_array_equal(now["idle"][jnp.asarray([2, 7])], 0)
    new = np.asarray(dictionaries.rows(now))[[2, 7]]
    from_b = dictionaries.unit(jnp.asarray(X) - dictionaries.centre(now)[None])
    which = np.abs(new @ from_b.T).argmax(1)
    np.testing.assert_allclose(new, from_b[which], atol=1e-12)  # directions of examples from b
    assert which[0] != which[1]
    size = 0.2 * np.linalg.norm(now["encoder"]["layer_0"]["kernel"][:, others], axis=0).mean()
    np.testing.assert_allclose(now["encoder"]["layer_0"]["kernel"][:, jnp.asarray([2, 7])], size * new.T, atol=1e-12)
    assert not np.asarray(now["encoder"]["layer_0"]["bias"])[[2, 7]].any()
    assert (np.asarray(algorithm.encode(now, jnp.asarray(X)))[:, [2, 7]] > 0).any(0).all()
    for moment in ("mu", "nu"):
        of = lambda state: optax.tree_utils.tree_get(state, moment)
        for group in of(old[0]):
            for a, b in zip(jax.tree.leaves(of(state[0])[group]), jax.tree.leaves(of(old[0])[group]), strict=True):
                axis = next((i for i, n in enumerate(a.shape) if n == 10), None)
                if axis is None:  # the decoder's bias
                    np.testing.assert_array_equal(a, b)
                    continue
                a, b = np.moveaxis(np.asarray(a), axis, 0), np.moveaxis(np.asarray(b), axis, 0)
                assert not a[[2, 7]].any()
                assert b[[2, 7]].any() or group not in ("encoder", "decoder")
                np.testing.assert_array_equal(a[others], b[others])
                assert a[others].any()


def test_an_example_is_drawn_by_the_square_of_its_error():
    algorithm, params = started("l1", optax.sgd(0.0), resample=True, dead_after=1)
    x = jnp.asarray([[5.0, 0, 0, 0, 0, 0], [0, 10, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    params = silent(params, np.arange(10)) | {
        "decoder": {"layer_0": {"kernel": jnp.eye(10)[:, :6] + jnp.eye(10)[:, 4:], "bias": jnp.zeros(6)}}
    }
    params = params | {"idle": jnp.zeros(10, jnp.int32).at[0].set(5)}
    draw = lambda key: algorithm.rule.update(params, algorithm.rule.init(params), Batch(x), key)[0]
    drawn = jax.jit(jax.vmap(lambda key: dictionaries.rows(draw(key))[0]))(jax.random.split(KEY, 4000))
    share = float((drawn[:, 1] == 1).mean())
    assert share == pytest.approx(100**2 / (100**2 + 25**2), abs=0.01)  # by the error itself: 0.8


def test_more_dead_units_than_examples_wait_for_the_next_batch():
    algorithm, params = started("l1", resample=True, dead_after=1)
    params = silent(params, np.arange(10)) | {"idle": jnp.full(10, 5, jnp.int32)}
    after, _, _ = stepped(algorithm, params, x=X[:4])
    np.testing.assert_array_equal(after["idle"] == 0, np.arange(10) < 4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    assert len(np.unique(np.round(dictionaries.rows(after)[:4], 9), axis=0)) == 4  # no two alike


# --------------------------------------------------------------------------------------------- transcoders


@pytest.mark.parametrize("form", ["topk", "gated", "matryoshka"])
def test_a_transcoder_reads_its_inputs_and_gives_the_others(form):
    algorithm, params = started(form, inputs=4, dead_after=30, **({"resample": True} if form == "gated" else {}))
    params, _, _ = stepped(algorithm, silent(params, [1]), 3)
    x, other = jnp.asarray(X), jnp.asarray(X).at[:, 4:].add(1.0)
    np.testing.assert_array_equal(algorithm.encode(params, x), algorithm.encode(params, other))
    assert not np.asarray(params["encoder"]["layer_0"]["kernel"])[4:].any()
    assert not np.asarray(dictionaries.rows(params))[:, :4].any()
    np.testing.assert_allclose(np.linalg.norm(dictionaries.rows(params), axis=1), 1, atol=1e-12)
    x_hat = algorithm.reconstruct(params, x)
    np.testing.assert_array_equal(x_hat[:, :4], x[:, :4])
    found = algorithm.evaluate(params, Batch(x), KEY)
    np.testing.assert_allclose(found["reconstruction"], np.square(X - x_hat)[:, 4:].sum(1))
    _, start = started(form, inputs=4)
    np.testing.assert_allclose(start["variance"], np.square(X - X.mean(0))[:, 4:].sum(1).mean())


# ------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("hyper", "told"),
    [
        (
            {"form": "topp"},
            "form is 'topp'; it must be one of topk, batch_topk, matryoshka, l1, april, gated, jumprelu",
        ),
        ({"form": "l1", "k": 3}, "k=3 has no effect with form='l1'"),
        ({"form": "topk", "weight": 2.0}, r"weight=2.0 has no effect with form='topk'"),
        ({"form": "gated", "bandwidth": 0.1}, "bandwidth=0.1 has no effect with form='gated'"),
        ({"form": "matryoshka", "widths": (4, 2)}, r"widths are \(4, 2\); they must rise"),
        ({"form": "matryoshka", "widths": (4, 12)}, "at most the code's 10 units"),
        ({"form": "jumprelu", "weight": -1.0}, "weight is -1.0; it must not be negative"),
        ({"inputs": 6}, "inputs is 6, and an example has 6 numbers"),
    ],
)
def test_it_refuses(hyper, told):
    with pytest.raises(ValueError, match=told):
        dictionary(NET, optax.sgd(1.0), **hyper)


# ---------------------------------------------------------------------------------------------- what it finds


def test_the_threshold_keeps_k_units_on_held_out_examples():
    features = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    draw = np.random.default_rng(2)
    data = jnp.asarray(((draw.random((4096, 12)) < 0.2) * draw.uniform(1, 2, (4096, 12))) @ features)
    algorithm = dictionary(networks.linear((12,), 24), optax.adam(3e-3), form="batch_topk", k=2)
    rule = core.epoch(algorithm, 64)
    params, _ = jax.jit(lambda data, key: core.fit(algorithm.init, rule, data, key, 20))(Batch(data[:2048]), KEY)
    count = (algorithm.encode(params, data[2048:]) > 0).sum(1).mean()
    assert count == pytest.approx(2, rel=0.05)
