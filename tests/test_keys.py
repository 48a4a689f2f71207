"""Keys are addresses: none meets another, and no whole run uses one twice."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax import core
from ae_jax.keys import NAMES, address

KEY = jax.random.key(0)


def data(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_an_address_is_a_fold_for_each_part():
    by_hand = jax.random.fold_in(jax.random.fold_in(KEY, zlib.crc32(b"epoch") | 2**31), 3)
    assert data(address(KEY, "epoch", 3)) == data(by_hand)
    assert data(address(address(KEY, "epoch"), 3)) == data(by_hand)
    assert data(address(KEY)) == data(KEY)
    assert data(jax.jit(lambda e: address(KEY, "epoch", e))(3)) == data(by_hand)


def test_names_meet_neither_numbers_nor_a_split():
    names = [address(KEY, name) for name in ("init", "epoch", "order", "step", "example", "sample", "evaluation")]
    split = jax.random.split(KEY, 1000)
    assert data(split[1]) == data(address(KEY, 1))  # as JAX has it, which is why there are names
    keys = [data(key) for key in (*names, *split)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("number", [-1, NAMES])
def test_a_number_that_could_be_a_names_is_refused(number):
    with pytest.raises(ValueError, match="no number in an address"):
        address(KEY, "epoch", number)
    assert data(address(KEY, NAMES - 1)) == data(jax.random.fold_in(KEY, NAMES - 1))


def test_one_step_of_one_seed_can_be_replayed():
    def draw(params, memory, batch, key):
        return params, memory, {"drawn": jax.random.uniform(key)}

    rule = core.sweep(core.Rule(lambda params: (), draw), 1)
    examples = core.Batch(jnp.zeros((5, 1)))
    _, history = core.fit(lambda key, data: {"w": jax.random.normal(key)}, rule, examples, KEY, 3)
    steps = [[float(jax.random.uniform(address(KEY, "epoch", e, "step", t))) for t in range(5)] for e in range(3)]
    np.testing.assert_allclose(history["drawn"], np.mean(steps, 1), rtol=1e-6)
