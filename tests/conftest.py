"""Settings of all tests: how programs are compiled, and which tests need a full run.

Compilation takes most of a run. So compiled programs are kept between runs, as `ae-jax` keeps them. They are compiled
without most optimisations, which take half of the time, and with the older of XLA's two emitters of fusions, which
halves the rest. Tests marked `optimised` compile as a user does, which takes several times as long: tests of the bits
of different programs, of rounding, speed and memory.

Tests marked `last` run only with `-m last`, as `.ci/run` does at its end: the notebooks of docs/tutorials, executed,
and the wheel on a bare machine.

Tests marked `full` run only with AE_JAX_FULL=1. Each marker gives the reason:

- test_laws.py: the laws that compile programs of their own (mapped over seeds, evaluation in batches, eight devices,
  each operation by itself) on the further forms of an algorithm. Every run tests each algorithm's own form by every
  law, and each further form by the laws that share its compiled epoch.
- test_devices.py: two processes that are killed within a stream, which needs a third pair of them. Every run kills two
  in memory, and breaks a stream within an epoch on eight devices and in one process.
- test_defaults.py: whole trainings by the defaults, but for two quick members; results/members.json has all members.
- test_readme.py: the documented recipe for photographs, a training of 15 seconds. Every run parses and restores with
  small networks in test_uses.py.
- test_algorithms.py: sparse units on natural images, a training of 10 seconds. Every run tests on digits that units
  settle at the target.
- test_install.py: the wheel in a clean environment, into which every dependency is installed. Every run reads what the
  wheel and pyproject.toml hold.
- test_variants.py: all of MNIST on photographs, 62,000 images. Every run tests each property on digits.
"""

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import pytest

from ae_jax.xla.compiler import set_compiler_flags

QUICKLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"  # for subprocesses; `jax.config` has it in small letters
# Fusions by the older emitters, and a module in one part.
FLAGS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}


def known() -> bool:
    """Whether this release of JAX has the flags; an unknown flag would end a subprocess."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=FLAGS).lower(1.0).compile()
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError):
        return False
    return True


set_compiler_flags()  # before JAX first computes
USED = FLAGS if jax.default_backend() == "cpu" and known() else {}
AS_A_USER = os.environ.get("XLA_FLAGS", "")
AS_A_TEST = " ".join([AS_A_USER, *(f"--{name}={str(value).lower()}" for name, value in USED.items())]).strip()


def compile_with_flags() -> None:
    """Makes `jax.jit` compile with `USED`, except in tests marked `optimised`. JAX has no setting for that."""
    try:
        from jax._src import compiler

        options = compiler.get_compile_options
    except (ImportError, AttributeError):  # of another release: compiled all the same, and slower
        return

    def with_flags(*args: Any, **kwargs: Any) -> Any:
        made = options(*args, **kwargs)
        if os.environ.get(QUICKLY) == "1":
            given = dict(made.env_option_overrides)
            made.env_option_overrides = list((USED | given).items())
        return made

    compiler.get_compile_options = with_flags


compile_with_flags()


def share_contexts() -> None:
    """Makes each thread lower 100 programs in one MLIR context: making one takes a sixth of a small program's time.

    A hundred and not all, because a context keeps the constants of its programs.
    """
    try:
        from jax._src.interpreters import mlir

        make = mlir.make_ir_context
    except (ImportError, AttributeError):  # of another release: each program in one of its own
        return

    mine = threading.local()

    def lowering() -> bool:
        try:
            return mlir.ir.Context.current is not None
        except ValueError:
            return False

    def shared() -> Any:
        if lowering():  # a program within another: in one context its module would become a part of the outer one
            return make()
        left = getattr(mine, "left", 0)
        if not left:
            mine.context = make()
        mine.left = (left or 100) - 1
        return mine.context

    mlir.make_ir_context = shared


share_contexts()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Chooses how this test, its fixtures and its subprocesses compile."""
    quickly = item.get_closest_marker("optimised") is None
    if os.environ.get(QUICKLY) != str(int(quickly)):
        os.environ[QUICKLY] = str(int(quickly))
        os.environ["XLA_FLAGS"] = AS_A_TEST if quickly else AS_A_USER
        jax.config.update(QUICKLY.lower(), quickly)
        jax.clear_caches()  # programs compiled the other way


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Frees the programs of a finished file, because the programs of all files do not fit into memory."""
    if nextitem is not None and nextitem.path != item.path:
        jax.clear_caches()


def pytest_collection_finish() -> None:
    """Collects garbage less often than JAX's tracing would, and never among the imported modules, which stay."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {"full"} if os.environ.get("AE_JAX_FULL", "0") == "0" else set()
    left_out |= {"last"} if "last" not in config.option.markexpr else set()
    waiting = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if waiting:
        config.hook.pytest_deselected(items=waiting)
        items[:] = [item for item in items if item not in waiting]


@pytest.fixture(autouse=True)
def plugins_are_forgotten():
    """A plugin that a test loads is forgotten after it: other tests walk the registries."""
    yield
    plugins = sys.modules.get("ae_jax.training.plugins")
    for known in list(plugins._loaded.values()) if plugins else ():
        plugins._forget(known)


@pytest.fixture
def float64():
    """Numbers have 64 bits within the test: for answers that are exact, `pytestmark = usefixtures("float64")`."""
    with jax.enable_x64(True):
        yield
