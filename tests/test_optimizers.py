"""Several steps of an optimizer in one update."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import flat

from ae_jax import core
from ae_jax.core import Batch, Loss
from ae_jax.optimizers import repeated

X = np.random.default_rng(0).normal(size=(20, 3))


def rosenbrock(params, batch, key):
    x = params["x"]["w"] + batch.x.mean(0)
    return Loss(100 * jnp.square(x[1:] - x[:-1] ** 2).sum() + jnp.square(1 - x[:-1]).sum())


def minimise(optimizer, updates):
    init = lambda key, data: {"x": {"w": jnp.full(3, -1.0, data.x.dtype)}}
    run = jax.jit(partial(core.fit, init, core.descend(rosenbrock, optimizer), epochs=updates))
    return run(Batch(jnp.asarray(X)), jax.random.key(0))


def test_repeated_steps_are_single_steps():
    with jax.enable_x64(True):
        one, single = minimise(optax.lbfgs(), 12)
        many, grouped = minimise(repeated(optax.lbfgs(), 4), 3)
    np.testing.assert_allclose(flat(many), flat(one), rtol=1e-9)
    np.testing.assert_allclose(grouped["loss"], single["loss"][::4], rtol=1e-9)


def test_repeated_evaluates_the_loss_about_half_as_often():
    calls = []

    def counted(params, batch, key):
        jax.debug.callback(lambda: calls.append(1))
        return rosenbrock(params, batch, key)

    def evaluations(optimizer, updates):
        calls.clear()
        init = lambda key, data: {"x": {"w": jnp.full(3, -1.0)}}
        run = jax.jit(partial(core.fit, init, core.descend(counted, optimizer), epochs=updates))
        jax.block_until_ready(run(Batch(jnp.asarray(X)), jax.random.key(0)))
        jax.effects_barrier()
        return len(calls)

    single, grouped = evaluations(optax.lbfgs(), 24), evaluations(repeated(optax.lbfgs(), 24), 1)
    assert single - grouped == 23  # the evaluation that every update but the first can spare


def test_an_update_needs_a_step():
    with pytest.raises(ValueError, match="times is 0"):
        repeated(optax.lbfgs(), 0)
