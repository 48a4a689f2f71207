"""Ratios of times that must not get worse, measured in turn in this process, with room for a busy machine."""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from ae_jax import algorithms, core, networks
from ae_jax.distributions import sums
from ae_jax.networks import image_ops
from ae_jax.training import compiled
from ae_jax.xla import draws

pytestmark = [pytest.mark.slow, pytest.mark.optimised]
DATA = core.Batch(jnp.asarray(np.random.default_rng(0).random((2000, 784)), jnp.float32))
KEY = jax.random.key(0)


def holds(claim, *calls, turns=40):
    """Whether `claim` is true of the least seconds of each call, taken in turn, after all are compiled.

    Other work on the machine only lengthens times. So turns are added until the claim is true, at most `turns`.
    """
    for call in calls:
        jax.block_until_ready(call())
    least = [float("inf")] * len(calls)
    for turn in range(turns):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            jax.block_until_ready(call())
            least[i] = min(least[i], time.perf_counter() - start)
        if turn >= 4 and claim(*least):
            return True
    print("least seconds of each:", *least)
    return False


def vae():
    return algorithms.vae(networks.mlp((784,), 20, hidden=(200,), heads=2), optax.adam(1e-3))


def test_an_epoch_is_no_slower_than_its_steps_one_by_one():
    algorithm = vae()
    params, memory, key = core.start(algorithm.init, algorithm.rule, DATA, KEY)
    epoch, step = jax.jit(core.epoch(algorithm, 20).update), jax.jit(algorithm.rule.update)

    def loop():
        key_order, key_steps = core.address(key, "order"), core.address(key, "step")
        order, state = jax.random.permutation(key_order, 2000), (params, memory)
        for i in range(100):
            batch = core.Batch(DATA.x[order[20 * i : 20 * i + 20]])
            *state, _ = step(*state, batch, jax.random.fold_in(key_steps, i))
        return state

    claim = lambda whole, by_steps: whole < by_steps  # by_steps is 1.9 to 2.4 times whole, on a busy machine, too
    assert holds(claim, lambda: epoch(params, memory, DATA, key), loop)


def test_eight_seeds_together_take_about_as_long_as_one_by_one():
    algorithm = vae()
    rule = core.epoch(algorithm, 100)

    def call(seeds):
        keys = jax.random.split(KEY, seeds)
        state = jax.jit(compiled.map_seeds(lambda k: core.start(algorithm.init, rule, DATA, k)))(keys)
        go = jax.jit(compiled.map_seeds(lambda params, memory, key: rule.update(params, memory, DATA, key)))
        return partial(go, *state)

    one, eight = call(1), call(8)
    one_by_one = lambda: [one() for _ in range(8)]  # as long as the other, so as open to interruption
    assert holds(lambda together, apart: together < 1.5 * apart, eight, one_by_one)


on_cpu = pytest.mark.skipif("jax.default_backend() != 'cpu'", reason="elsewhere there is no such difference")


@on_cpu
def test_draws_and_softplus_are_one_pass_over_memory():
    x = jax.random.normal(KEY, (500, 784))
    drawn = lambda draw: jax.jit(lambda key, x: draw(key, x.shape))
    softened = lambda softplus: jax.jit(lambda key, x: softplus(x))
    for ours, theirs in (
        (drawn(draws.uniform), drawn(jax.random.uniform)),
        (softened(sums.softplus), softened(jax.nn.softplus)),
    ):
        claim = lambda fast, slow: 1.2 * fast < slow  # 1.9 and 2.9 were seen
        assert holds(claim, partial(ours, KEY, x), partial(theirs, KEY, x))


@on_cpu
def test_convolutions_within_a_scan_are_matrix_products():
    x = jnp.asarray(np.random.default_rng(0).random((32, 14, 14, 32)), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 32, 32)), jnp.float32) / 17

    def native(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def training(conv):
        loss = lambda kernel: jnp.square(conv(x, kernel)).mean()
        return jax.jit(lambda k: lax.scan(lambda k, _: (k - 0.1 * jax.grad(loss)(k), None), k, length=10)[0])

    ours, theirs = (partial(training(conv), kernel) for conv in (image_ops.convolve, native))
    assert holds(lambda fast, slow: 2 * fast < slow, ours, theirs)


def test_the_contractive_penalties_keep_their_order():
    x = DATA._replace(x=DATA.x[:32])
    net = networks.mlp((784,), 200, hidden=(), code_activation="sigmoid")

    def call(penalty):
        algorithm = algorithms.contractive(net, optax.sgd(0.1), penalty=penalty)
        params = algorithm.init(KEY, x)
        mean = lambda p, x: algorithm.evaluate(p, x, KEY)["jacobian"].mean()
        return partial(jax.jit(jax.grad(mean)), params, x)

    def by_rows(params, x):
        norm = lambda at: jnp.square(jax.jacrev(lambda at: net.encode(params, at[None])[0])(at)).sum()
        return jax.vmap(norm)(x.x).mean()

    rows = partial(jax.jit(jax.grad(by_rows)), net.init(KEY, x), x)
    claim = lambda exact, closed, reverse: 10 * closed < exact and 2 * exact < reverse
    assert holds(claim, call("exact"), call("closed"), rows)
