"""Boltzmann machines against what can be enumerated, NumPy, scikit-learn, and finite differences."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from probes import agrees_over_keys, bars
from sklearn.neural_network import BernoulliRBM

from ae_jax import core, networks, optimizers
from ae_jax.algorithms import autoencoder, rbm
from ae_jax.corruption import corrupted, masking
from ae_jax.evaluation import partition
from ae_jax.objectives import boltzmann
from ae_jax.training import stages

D, K = 5, 3
SMALL = networks.rbm((D,), K, scale=0.8)
SIGMOID = lambda a: 1 / (1 + np.exp(-a))


def random_params(net, key, scale=0.5):
    """Weights as the network draws them, biases that are not zero."""
    params = net.init(key, core.Batch(jnp.zeros((1, *net.shape))))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    moved = [p + scale * jax.random.normal(k, p.shape) * (p.ndim < 2) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def numbers(params):
    """(W [D, K], b [D], c [K]) in NumPy."""
    layer = params["encoder"]["layer_0"]
    return np.asarray(layer["kernel"]), np.asarray(params["decoder"]["bias_0"]), np.asarray(layer["bias"])


def states(n):
    return np.array(list(product([0.0, 1.0], repeat=n)), np.float32)


PARAMS = random_params(SMALL, jax.random.key(0))
W, B, C = numbers(PARAMS)
MACHINE = boltzmann.machine(SMALL)
V, H = states(D), states(K)
ENERGY = -(V @ B)[:, None] - (H @ C)[None] - V @ W @ H.T  # [2^D, 2^K]
LOG_Z = np.log(np.exp(-ENERGY).sum())
X = jnp.asarray(V[[3, 7, 8, 30, 30, 17]])


def test_free_energy_and_partition_function_are_sums_over_all_states():
    np.testing.assert_allclose(MACHINE.free_energy(PARAMS, V), -np.log(np.exp(-ENERGY).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(partition.exact(MACHINE, PARAMS), LOG_Z, rtol=1e-5)  # by the hidden side, the smaller
    wide = networks.rbm((D,), D + 2, scale=0.8)
    params = random_params(wide, jax.random.key(3))
    w, b, c = numbers(params)
    mass = np.exp(V @ b)[:, None] * np.exp(states(D + 2) @ c)[None] * np.exp(V @ w @ states(D + 2).T)
    np.testing.assert_allclose(partition.exact(boltzmann.machine(wide), params), np.log(mass.sum()), rtol=1e-5)
    log_p = partition.log_likelihood(MACHINE, PARAMS, jnp.asarray(V), LOG_Z)
    assert float(jnp.exp(log_p).sum()) == pytest.approx(1, abs=1e-5)


def test_gaussian_units_integrate_to_what_enumeration_of_the_other_side_gives():
    """Hidden: exp(-F(v)) is the integral over h, here by a fine grid. Visible: Z by summing either side first."""
    one = networks.rbm((D,), 1, scale=0.8)
    params = random_params(one, jax.random.key(4))
    w, b, c = numbers(params)
    h = np.linspace(-15, 15, 20001)
    mass = np.exp(V @ b)[:, None] * np.exp((c[0] + V @ w[:, 0])[:, None] * h - h**2 / 2)
    integral = np.log(mass.sum(1) * (h[1] - h[0]))
    machine = boltzmann.machine(one, hidden="gaussian")
    np.testing.assert_allclose(machine.free_energy(params, V), -integral, rtol=1e-5)
    np.testing.assert_allclose(partition.exact(machine, params), np.log(np.exp(integral).sum()), rtol=1e-5)
    line = networks.rbm((1,), K, scale=0.8)
    params = random_params(line, jax.random.key(5))
    machine = boltzmann.machine(line, visible="gaussian")
    v = np.linspace(-15, 15, 20001, dtype=np.float32)[:, None]
    integral = np.log(np.exp(-np.asarray(machine.free_energy(params, v), np.float64)).sum() * (v[1, 0] - v[0, 0]))
    np.testing.assert_allclose(partition.exact(machine, params), integral, rtol=1e-4)


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
def test_annealed_importance_sampling_finds_what_enumeration_finds(hidden):
    net = networks.rbm((8,), 10, scale=0.6)
    params, machine = random_params(net, jax.random.key(1)), boltzmann.machine(net, hidden=hidden)
    exact = partition.exact(machine, params)
    run = jax.jit(partial(partition.ais, machine, chains=500, temperatures=500))
    for base in (jnp.zeros(8), jnp.linspace(-1.0, 1.0, 8)):
        found = run(params, jax.random.key(2), base=base)
        assert found.low < exact < found.high
        assert found.high - found.low < 0.5
        assert found.log_z == pytest.approx(float(exact), abs=0.15)


def test_annealing_from_the_machine_itself_has_no_error():
    """Without weights the base can be the machine: every weight is 1, whatever the chains do."""
    params = jax.tree.map(lambda p: p * (p.ndim < 2), PARAMS)
    params["encoder"]["layer_0"]["bias"] *= 0
    found = partition.ais(MACHINE, params, jax.random.key(0), chains=3, temperatures=4, base=jnp.asarray(B))
    np.testing.assert_allclose(found, float(partition.exact(MACHINE, params)), rtol=1e-5)


def test_pseudo_likelihood_is_the_sum_of_conditionals():
    log_p = dict(zip(map(tuple, V.astype(int)), np.log(np.exp(-ENERGY).sum(1)), strict=True))
    expected = []
    for v in V.astype(int):
        total = 0.0
        for i in range(D):
            flipped = v.copy()
            flipped[i] = 1 - v[i]
            total += log_p[tuple(v)] - np.logaddexp(log_p[tuple(v)], log_p[tuple(flipped)])
        expected.append(total)
    exact = MACHINE.pseudo_likelihood(PARAMS, jnp.asarray(V))
    np.testing.assert_allclose(exact, expected, rtol=1e-4)
    drawn = jax.vmap(lambda k: MACHINE.pseudo_likelihood(PARAMS, jnp.asarray(V), k))(
        jax.random.split(jax.random.key(0), 4000)
    )
    np.testing.assert_allclose(drawn.mean(0), expected, atol=5 * float(drawn.std(0).max()) / 4000**0.5)


def descent(algorithm, params, x, key):
    """The gradient of the objective as plain SGD at rate 1 shows it: params before minus after."""
    rule = algorithm(optax.sgd(1.0)).rule
    after, _, _ = rule.update(params, rule.init(params), core.Batch(x), key)
    return jax.tree.map(jnp.subtract, params, after), after


def test_the_gradient_of_cd_is_the_difference_of_two_correlations():
    key = jax.random.key(7)
    gradient, _ = descent(lambda o: rbm(SMALL, o), PARAMS, X, key)
    key_data, _, _ = jax.random.split(key, 3)
    h = np.asarray(boltzmann.UNITS["bernoulli"].draw(key_data, X @ W + C))  # the one draw
    dream = SIGMOID(h @ W.T + B)
    up, again = SIGMOID(X @ W + C), SIGMOID(dream @ W + C)
    n = len(X)
    for ours, theirs in zip(
        numbers(gradient),
        ((dream.T @ again - X.T @ up) / n, (dream - X).mean(0), (again - up).mean(0)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_updates_are_those_of_the_released_code():
    """Momentum .5, then .9; the decay of weights enters the velocity, biases have none."""
    rate, cost = 0.1, 0.0002
    algorithm = rbm(SMALL, optimizers.momentum(rate, switch=2), weight_l2=cost / 2)
    rule, params = algorithm.rule, PARAMS
    memory = rule.init(params)
    w, b, c = (a.copy() for a in numbers(PARAMS))
    dw, db, dc = 0 * w, 0 * b, 0 * c
    for t in range(4):
        key = jax.random.key(t)
        params, memory, _ = rule.update(params, memory, core.Batch(X), key)
        h = np.asarray(boltzmann.UNITS["bernoulli"].draw(jax.random.split(key, 3)[0], X @ w + c))
        up, dream = SIGMOID(X @ w + c), SIGMOID(h @ w.T + b)
        again, m = SIGMOID(dream @ w + c), 0.5 if t < 2 else 0.9
        dw = m * dw + rate * ((X.T @ up - dream.T @ again) / len(X) - cost * w)
        db = m * db + rate * (X - dream).mean(0)
        dc = m * dc + rate * (up - again).mean(0)
        w, b, c = w + dw, b + db, c + dc
        for ours, theirs in zip(numbers(params), (w, b, c), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def log_likelihood_gradient(params, x):
    """The gradient of -mean log p(x), with Z enumerated."""
    return jax.grad(lambda p: MACHINE.free_energy(p, x).mean() + partition.exact(MACHINE, p))(params)


def test_with_more_gibbs_steps_cd_comes_to_the_gradient_of_the_likelihood():
    exact = np.concatenate([a.ravel() for a in numbers(log_likelihood_gradient(PARAMS, X))])
    many = jnp.tile(X, (3000, 1))

    def distance(steps):
        gradient, _ = descent(lambda o: rbm(SMALL, o, steps=steps, draw_visible=True), PARAMS, many, jax.random.key(1))
        return np.abs(np.concatenate([a.ravel() for a in numbers(gradient)]) - exact).max()

    far, near = distance(1), distance(40)
    assert near < 0.015 < 0.05 < far
    # and persistent chains, which know nothing of the data, come to the same after as many steps
    algorithm = lambda o: rbm(SMALL, o, steps=40, chains=len(many))
    params = PARAMS | {"chains": jnp.zeros((len(many), D))}
    gradient, _ = descent(algorithm, params, X, jax.random.key(2))
    assert np.abs(np.concatenate([a.ravel() for a in numbers(gradient)]) - exact).max() < 0.015


def test_chains_persist_and_are_not_descended():
    algorithm = partial(rbm, SMALL, chains=4)
    params = PARAMS | {"chains": jnp.asarray(V[:4])}
    key = jax.random.key(3)
    _, after = descent(algorithm, params, X, key)
    walked = MACHINE.gibbs(PARAMS, jnp.asarray(V[:4]), jax.random.split(key, 3)[2], 1)
    np.testing.assert_array_equal(after["chains"], walked)
    other, _ = descent(algorithm, params | {"chains": 1 - params["chains"]}, X, key)
    gradient, _ = descent(algorithm, params, X, key)
    assert not np.allclose(numbers(gradient)[0], numbers(other)[0])


def test_the_gap_in_float64_against_finite_differences():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p), jnp.float64), PARAMS)
        x, dream = jnp.asarray(np.asarray(X), jnp.float64), jnp.asarray(V[5:11] * 0.8 + 0.1, jnp.float64)
        for hidden in ("bernoulli", "gaussian"):
            machine = boltzmann.machine(SMALL, hidden=hidden)
            gap = lambda p, m=machine: (m.free_energy(p, x) - m.free_energy(p, dream)).mean()
            check_grads(gap, (params,), order=1, modes=("rev",), atol=1e-7, rtol=1e-7)


def test_the_same_weights_in_scikit_learn_say_the_same():
    reference = BernoulliRBM(n_components=K)
    reference.components_, reference.intercept_visible_, reference.intercept_hidden_ = W.T, B, C
    np.testing.assert_allclose(MACHINE.free_energy(PARAMS, V), reference._free_energy(V), rtol=1e-5)
    algorithm = rbm(SMALL, optax.sgd(0.1))
    np.testing.assert_allclose(algorithm.encode(PARAMS, X), reference.transform(np.asarray(X)), rtol=1e-5)


def test_samples_are_of_the_machine():
    """A long walk of many chains has the marginals that enumeration gives."""
    samples = rbm(SMALL, optax.sgd(0.1), sample_steps=60).sample(PARAMS, jax.random.key(0), 20000)
    np.testing.assert_allclose(samples.mean(0), (np.exp(-ENERGY - LOG_Z).sum(1)[:, None] * V).sum(0), atol=0.01)


def test_pixels_of_any_shape_and_gaussian_ones():
    x = bars().x[:8]
    net = networks.rbm((4, 4, 1), 6, scale=0.1)
    algorithm = rbm(net, optax.sgd(0.1), visible_units="gaussian")
    params = algorithm.init(jax.random.key(0), core.Batch(x))
    metrics = algorithm.evaluate(params, core.Batch(x), jax.random.key(0))
    half = 0.5 * np.square(algorithm.reconstruct(params, x) - x).sum((1, 2, 3)) + 8 * np.log(2 * np.pi)
    np.testing.assert_allclose(metrics["loss"], half, rtol=1e-5)
    assert "pseudo_likelihood" not in metrics
    assert algorithm.sample(params, jax.random.key(0), 3).shape == (3, 4, 4, 1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: rbm(SMALL, optax.sgd(0.1), steps=0), "steps is 0"),
        (lambda: rbm(SMALL, optax.sgd(0.1), visible_units="poisson"), "poisson"),
        (lambda: rbm(SMALL, optax.sgd(0.1), visible_units="gaussian", hidden_units="gaussian"), "both gaussian"),
        (lambda: rbm(corrupted(SMALL, masking(0.1)), optax.sgd(0.1)), "denoising"),
        (lambda: rbm(networks.mlp((D,), 3), optax.sgd(0.1)).init(jax.random.key(0), core.Batch(X)), r"networks\.rbm"),
        (lambda: networks.rbm((D,), 3, heads=2), "one head"),
        (lambda: partition.exact(boltzmann.machine(networks.rbm((30,), 30)), {}), "ais"),
        (lambda: partition.ais(MACHINE, PARAMS, jax.random.key(0), chains=1), "at least 2"),
    ],
)
def test_what_cannot_be_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_an_unrolled_stack_goes_up_and_down_as_the_stack_does():
    """784-1000-500-250-30 in small: three Bernoulli machines and a Gaussian top."""
    sizes, shape, layers, params = (9, 7, 5, 3), (4, 4, 1), [], []
    for i, size in enumerate(sizes):
        net = networks.rbm(shape, size, scale=0.5)
        layers.append(rbm(net, optax.sgd(0.1), hidden_units="gaussian" if i == 3 else "bernoulli"))
        params.append(random_params(net, jax.random.key(i)))
        shape = (size,)
    z = x = bars().x
    for layer, p in zip(layers, params, strict=True):
        z = layer.encode(p, z)
    down = z
    for layer, p in zip(layers[::-1], params[::-1], strict=True):
        down = layer.decode(p, down)
    deep = networks.mlp((4, 4, 1), 3, hidden=sizes[:-1], activation="sigmoid")
    unrolled = networks.unrolled(params)
    fresh = deep.init(jax.random.key(0), core.Batch(x))
    assert jax.tree.map(jnp.shape, unrolled) == jax.tree.map(jnp.shape, fresh)
    algorithm = autoencoder(deep, optax.sgd(0.1), likelihood="bernoulli")
    np.testing.assert_allclose(algorithm.encode(unrolled, x), z, rtol=1e-6)
    np.testing.assert_allclose(algorithm.reconstruct(unrolled, x), down, rtol=1e-6)


def test_pretraining_unrolling_and_fine_tuning_are_one_function_of_a_key_and_map_over_keys():
    """Hinton & Salakhutdinov's whole recipe: machines one on the other, turned into a deep net, descended."""
    machines = [
        rbm(networks.rbm((4, 4, 1), 6), optax.sgd(0.1)),
        rbm(networks.rbm((6,), 3), optax.sgd(0.01), hidden_units="gaussian"),
    ]
    deep = networks.mlp((4, 4, 1), 3, hidden=(6,), activation="sigmoid")
    algorithm = autoencoder(deep, optax.adam(1e-3), likelihood="bernoulli")

    def recipe(key, data):
        key_pretraining, key_tuning = jax.random.split(key)
        layers, _ = stages.greedy(machines, data, key_pretraining, epochs=2, batch_size=8)
        init = stages.resume(algorithm.init, networks.unrolled(layers))
        return core.fit(init, core.epoch(algorithm, 8), data, key_tuning, 2)[0]

    mapped = agrees_over_keys(recipe, bars(2))
    assert not np.allclose(mapped["encoder"]["layer_0"]["kernel"][0], mapped["encoder"]["layer_0"]["kernel"][1])
