"""Draws are those of `jax.random`, bit for bit, and no loop; barriers change nothing but the program."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax.xla import draws
from ae_jax.xla.barriers import materialize, materialize_draws, materialize_gradient

pytestmark = pytest.mark.optimised  # bits

KEY = jax.random.key(7)
DRAWS = {
    "normal": (draws.normal, jax.random.normal),
    "uniform": (draws.uniform, jax.random.uniform),
    "bernoulli": (
        lambda key, shape: draws.bernoulli(key, 0.3, shape),
        lambda key, s: jax.random.bernoulli(key, 0.3, s),
    ),
}
each = pytest.mark.parametrize(("ours", "theirs"), DRAWS.values(), ids=DRAWS)


@each
@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (128, 20), (4, 0)])
def test_numbers_are_jaxs(ours, theirs, shape):
    np.testing.assert_array_equal(ours(KEY, shape), theirs(KEY, shape))


@each
def test_in_float64_too(ours, theirs):
    with jax.enable_x64(True):
        wanted = theirs(KEY, (50,))
        np.testing.assert_array_equal(ours(KEY, (50,)), wanted)
        assert ours(KEY, (50,)).dtype == wanted.dtype


@each
def test_compiled_and_mapped_over_keys(ours, theirs):
    keys = jax.random.split(KEY, 4)
    mapped = jax.jit(jax.vmap(lambda key: ours(key, (6, 2))))(keys)
    np.testing.assert_array_equal(mapped, jax.vmap(lambda key: theirs(key, (6, 2)))(keys))


def test_a_chance_for_each_element_gives_the_shape():
    p = jnp.linspace(0, 1, 12).reshape(3, 4)
    np.testing.assert_array_equal(draws.bernoulli(KEY, p), jax.random.bernoulli(KEY, p))


@pytest.mark.parametrize("width", [8, 16, 32])
def test_bits_splits_and_addresses_are_jaxs(width):
    ours, of = draws.unrolled(KEY), f"uint{width}"
    np.testing.assert_array_equal(jax.random.bits(ours, (9,), of), jax.random.bits(KEY, (9,), of))
    data = jax.random.key_data
    np.testing.assert_array_equal(data(jax.random.split(ours, 3)), data(jax.random.split(KEY, 3)))
    np.testing.assert_array_equal(data(jax.random.fold_in(ours, 5)), data(jax.random.fold_in(KEY, 5)))


def test_threefry_is_that_of_the_paper():
    """Salmon et al.'s own vectors for 20 rounds, from Random123's kat_vectors."""
    ones, digits = 0xFFFFFFFF, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)  # those of pi
    for key, counter, wanted in [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ones, ones), (ones, ones), (0x1CB996FC, 0xBB002BE7)),
        (digits[2:], digits[:2], (0xC4923A9C, 0x483DF7A0)),
    ]:
        word = partial(jnp.asarray, dtype=jnp.uint32)
        assert tuple(map(int, draws.threefry(word(key), *map(word, counter)))) == wanted


def test_a_checker_of_keys_sees_every_draw():
    def twice(key):
        return draws.normal(key, (3,)) + draws.uniform(key, (3,))

    twice(KEY)
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        twice(jax.random.clone(KEY))


def test_other_generators_are_left_alone():
    key = jax.random.key(0, impl="rbg")
    assert draws.unrolled(key) is key
    np.testing.assert_array_equal(draws.normal(key, (5,)), jax.random.normal(key, (5,)))
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(draws.normal(KEY, (5,)), jax.random.normal(KEY, (5,)))


def test_there_is_no_loop_in_the_program():
    lowered = jax.jit(lambda key: draws.normal(key, (100,))).lower(KEY).as_text()
    assert "while" not in lowered
    assert "threefry" not in lowered  # nor a call of JAX's own


def test_more_numbers_than_counters_are_refused():
    with pytest.raises(ValueError, match="split the key"):
        jax.jit(lambda key: draws.uniform(key, (2**17, 2**16))).lower(KEY)


@pytest.mark.parametrize("same", [materialize, materialize_gradient, materialize_draws])
def test_barriers_are_the_identity_with_every_derivative(same):
    x, t = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), jnp.asarray([[0.5, 0.0], [1.0, 2.0]])
    value, tangent = jax.jvp(same, (x,), (t,))
    np.testing.assert_array_equal(value, x)
    np.testing.assert_array_equal(tangent, t)
    square = lambda x: jnp.square(same(x)).sum()
    np.testing.assert_array_equal(jax.jit(jax.grad(square))(x), 2 * x)
    np.testing.assert_array_equal(jax.hessian(square)(x).reshape(4, 4), 2 * np.eye(4))
    np.testing.assert_array_equal(jax.vmap(jax.grad(square))(x[:, None])[:, 0], 2 * x)
