"""The exact penalty by the columns of the encoder and by those of its pullback: one number, one gradient, and the
thinner side is the one that is taken.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax import networks
from ae_jax.core import Batch
from ae_jax.objectives import jacobians

KEY = jax.random.key(5)


def encoder(inputs, size, **options):
    net = networks.mlp((inputs,), size, activation="tanh", code_activation="sigmoid", **{"hidden": (9,)} | options)
    x = jax.random.uniform(KEY, (6, inputs))
    return net, net.init(KEY, Batch(x)), x


@pytest.mark.parametrize("group", [1, 2, 100])
@pytest.mark.parametrize(("inputs", "size"), [(12, 3), (4, 7), (5, 5)])
def test_both_sides_are_the_jacobians_norm_with_its_gradient(inputs, size, group):
    net, params, x = encoder(inputs, size)

    def plain(params, x):
        slopes = jax.vmap(jax.jacrev(lambda one: net.encode(params, one[None])[0]))(x)
        return jnp.square(slopes).sum((1, 2))

    mean = lambda norm: jax.value_and_grad(lambda params, x: (norm(params, x) * jnp.arange(1, 7)).mean(), (0, 1))
    value, gradient = mean(plain)(params, x)
    for side in (jacobians.by_inputs, jacobians.by_outputs, jacobians.exact):
        found = jax.jit(mean(lambda params, x, side=side: side(partial(net.encode, params), x, group=group)))
        got, slope = found(params, x)
        np.testing.assert_allclose(got, value, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_images_and_fixed_arguments_go_through_the_pullback():
    net = networks.mlp((4, 4, 2), 3, hidden=(6,), activation="tanh")
    x = jax.random.uniform(KEY, (5, 4, 4, 2))
    params, e = net.init(KEY, Batch(x)), 0.1 * jax.random.normal(KEY, x.shape)
    change = lambda x, e: net.encode(params, x) - net.encode(params, x + e)
    a, b = (side(change, x, e, group=2) for side in (jacobians.by_inputs, jacobians.by_outputs))
    assert a.shape == (5,)
    np.testing.assert_allclose(a, b, rtol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "size", "taken"), [(32, 4, "by_outputs"), (32, 5, "by_inputs"), (4, 32, "by_inputs")]
)
def test_the_side_is_chosen_by_shape(inputs, size, taken, monkeypatch):
    net, params, x = encoder(inputs, size)
    seen = []
    for name in ("by_inputs", "by_outputs"):
        side = getattr(jacobians, name)
        monkeypatch.setattr(jacobians, name, lambda *a, name=name, side=side, **k: seen.append(name) or side(*a, **k))
    jax.eval_shape(lambda x: jacobians.exact(partial(net.encode, params), x), x)
    assert seen == [taken]


def test_one_affine_layer_goes_by_its_inputs_whatever_its_size(monkeypatch):
    net, params, x = encoder(64, 2, hidden=())
    monkeypatch.setattr(jacobians, "by_outputs", None)
    norm = jacobians.square_norm("exact")
    layer = partial(net.layer, params)
    got = norm(partial(net.encode, params), layer, KEY, x)
    np.testing.assert_allclose(got, jacobians.closed(layer, x), rtol=1e-4)


def test_the_memory_of_the_pullback_is_that_of_a_block():
    net = networks.mlp((2048,), 256, hidden=(16,), activation="tanh")
    x = jnp.zeros((16, 2048))
    params = net.init(KEY, Batch(x))

    def memory(group):
        norm = lambda params, x: jacobians.exact(partial(net.encode, params), x, group=group).sum()
        return jax.jit(jax.grad(norm)).lower(params, x).compile().memory_analysis().temp_size_in_bytes

    assert 3 * memory(16) < memory(256)
