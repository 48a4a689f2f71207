"""That the installed compiler computes what is written: jaxlib 0.10.2 did not, on CPU (jax-ml/jax#39103)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax import jacobians


@pytest.mark.parametrize("count", [1000, 33_000])  # large arrays took another way through the compiler
def test_squares_of_products_are_summed_as_numpy_does(count):
    rows = np.stack([np.arange(count), np.ones(count), np.zeros(count)], 1).astype(np.float32)
    matrix = np.array([[1, 2, 0], [0, 1, 3], [1, 0, 1]], np.float32)
    norm = lambda row: jnp.square(jnp.asarray(matrix) @ row).sum()
    wanted = np.square(rows.astype(np.float64) @ matrix.T).sum(1)
    np.testing.assert_allclose(jax.jit(jax.vmap(norm))(rows), wanted, rtol=1e-5)


@pytest.mark.parametrize("size", [16, 400])
def test_compiled_jacobians_are_those_of_a_loop(size):
    """Small and large: the penalty is a sum of squares over inputs and units, of products with shared rows."""
    key_x, key_w = jax.random.split(jax.random.key(0))
    x, w = jax.random.normal(key_x, (96, size)), jax.random.normal(key_w, (size, 300)) / size**0.5
    encode = lambda x: jnp.tanh(x @ w)
    slope = 1 - np.tanh(np.asarray(x, np.float64) @ np.asarray(w, np.float64)) ** 2  # [B, K]
    wanted = (slope**2 * (np.asarray(w, np.float64) ** 2).sum(0)).sum(1)
    np.testing.assert_allclose(jax.jit(lambda x: jacobians.exact(encode, x))(x), wanted, rtol=1e-4)
