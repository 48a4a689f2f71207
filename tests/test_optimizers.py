"""Several steps of an optimizer in one update, and conjugate gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import flat

from ae_jax import core
from ae_jax.core import Batch, Loss
from ae_jax.optimizers import conjugate_gradients, repeated

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


def conjugate(a, b, x, steps):
    """So many steps of linear conjugate gradients for a x = b, which search exactly."""
    residual = b - a @ x
    direction = residual
    for _ in range(steps):
        step = residual @ residual / (direction @ a @ direction)
        x, new = x + step * direction, residual - step * a @ direction
        direction, residual = new + (new @ new) / (residual @ residual) * direction, new
    return x


@pytest.mark.parametrize("searches", [2, 4])
def test_searches_of_a_quadratic_are_linear_conjugate_gradients(searches):
    draw = np.random.default_rng(1)
    a, b, x = draw.normal(size=(4, 4)), draw.normal(size=4), draw.normal(size=4)
    a = a @ a.T + np.eye(4)

    def quadratic(params, batch, key):
        x = params["x"]["w"]
        return Loss(x @ batch.x @ x / 2 - batch.y @ x)

    with jax.enable_x64(True):
        rule = core.descend(quadratic, conjugate_gradients(searches, curvature=1e-7))
        params = {"x": {"w": jnp.asarray(x)}}
        memory = rule.init(params)
        found, _, _ = jax.jit(rule.update)(params, memory, Batch(jnp.asarray(a), jnp.asarray(b)), jax.random.key(0))
    np.testing.assert_allclose(found["x"]["w"], conjugate(a, b, x, searches), rtol=1e-5)
    assert not jax.tree.leaves(memory.optimizer), "a batch remembers nothing of the one before"


@pytest.mark.parametrize(("searches", "curvature"), [(0, 0.5), (3, 0.0), (3, 1.0), (3, float("nan"))])
def test_conjugate_gradients_need_a_search_and_an_end_of_it(searches, curvature):
    with pytest.raises(ValueError, match=f"searches is {searches} and curvature {curvature}"):
        conjugate_gradients(searches, curvature)
