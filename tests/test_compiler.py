"""That the installed compiler computes what is written: JAX 0.10's does not by itself (see ae_jax/compiler.py)."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax import jacobians
from ae_jax.compiler import FLAG, without_ynnpack

ROOT = Path(__file__).parents[1]


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


@pytest.mark.parametrize("width", [33, 300])
def test_ones_are_counted_after_a_reshape(width):
    ones = np.ones((10, 1000, width), np.int32)
    counted = jax.jit(lambda ones: ones.reshape(-1, width).astype(jnp.float32).sum())(ones)
    assert counted == ones.size


def test_flags_are_kept_and_a_choice_of_ones_own_stands(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.10.2")
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", None)  # as before jax is imported
    flags = lambda: dict(part.split("=", 1) for part in os.environ["XLA_FLAGS"].split())
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    without_ynnpack()
    assert flags() == {"--xla_dump_to": "there", f"--{FLAG}": ""}
    monkeypatch.setenv("XLA_FLAGS", f"--{FLAG}=reduce")
    without_ynnpack()
    assert flags() == {f"--{FLAG}": "reduce"}


def test_later_releases_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "0.12.0")
    monkeypatch.setenv("XLA_FLAGS", "")
    without_ynnpack()
    assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.skipif(not metadata.version("jaxlib").startswith("0.10."), reason="other compilers need no flag")
def test_an_import_that_comes_too_late_warns():
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = lambda code: subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=ROOT)
    assert run("import jax, ae_jax; jax.numpy.zeros(3)").stderr == ""
    assert "import ae_jax first" in run("import jax; jax.numpy.zeros(3); import ae_jax").stderr
