"""The installed compiler computes right sums; that of JAX 0.10 needs a flag (see ae_jax/xla/compiler.py)."""

import os
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax.objectives import jacobians
from ae_jax.xla import compiler

pytestmark = pytest.mark.optimised  # sums that a compiler gets wrong

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


OLD, NEW = "flags\t\t: fpu avx2 avx512f avx512bw", "flags\t\t: fpu avx2 avx512f avx512_bf16"


def told(monkeypatch, tmp_path, flags, jaxlib="0.10.2", processor=OLD):
    """What XLA_FLAGS says after the import, on another machine and before JAX is imported."""
    (tmp_path / "cpuinfo").write_text(f"model name\t: a processor\n{processor}\n\n{OLD}\n")
    monkeypatch.setattr(compiler, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(metadata, "version", lambda name: jaxlib)
    monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", None)
    monkeypatch.setenv("XLA_FLAGS", flags)
    compiler.set_compiler_flags()
    return dict(part.split("=", 1) for part in os.environ["XLA_FLAGS"].split())


LIBRARY, WIDTH = f"--{compiler.LIBRARY}", f"--{compiler.WIDTH}"


def test_flags_are_kept_and_a_choice_of_ones_own_stands(monkeypatch, tmp_path):
    flags = partial(told, monkeypatch, tmp_path)
    assert flags("--xla_dump_to=there") == {"--xla_dump_to": "there", LIBRARY: ""}
    assert flags(f"{LIBRARY}=reduce {WIDTH}=256", processor=NEW) == {LIBRARY: "reduce", WIDTH: "256"}


def test_wide_vectors_are_for_processors_that_do_well_with_them(monkeypatch, tmp_path):
    flags = partial(told, monkeypatch, tmp_path, "")
    assert flags() == {LIBRARY: ""}
    assert flags(processor=NEW) == {LIBRARY: "", WIDTH: "512"}
    assert flags(jaxlib="0.12.1", processor=NEW) == {WIDTH: "512"}
    assert flags(jaxlib="0.12.1") == {}
    monkeypatch.setattr(compiler, "CPUINFO", tmp_path / "nowhere")
    assert not compiler.wide_vectors()


def test_releases_that_are_not_known_are_left_as_they_are(monkeypatch, tmp_path):
    assert told(monkeypatch, tmp_path, "", jaxlib="0.13.0", processor=NEW) == {}


def test_the_installed_release_takes_the_flags_and_computes_the_same_bits():
    code = (
        "import jax, ae_jax; x = jax.random.normal(jax.random.key(0), (300, 70)); print(repr((x @ x.T).sum().item()))"
    )
    run = lambda **env: subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, cwd=ROOT, check=True
    )
    library = f"{LIBRARY}= " if metadata.version("jaxlib").startswith("0.10.") else ""
    narrow, wide = (run(XLA_FLAGS=f"{library}{WIDTH}={bits}").stdout for bits in (256, 512))
    assert narrow == wide


@pytest.mark.skipif(not metadata.version("jaxlib").startswith("0.10."), reason="other compilers need no flag")
def test_an_import_that_comes_too_late_warns():
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = lambda code: subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=ROOT)
    assert run("import jax, ae_jax; jax.numpy.zeros(3)").stderr == ""
    assert "import ae_jax first" in run("import jax; jax.numpy.zeros(3); import ae_jax").stderr
