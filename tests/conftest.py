"""Settings of all tests: how programs are compiled, and which tests need a full run.

Most of a run is compiling. So compiled programs are kept between runs, as `ae-jax` keeps them, and are compiled without
most optimisations, which take half of the time. Tests marked `optimised`, of bits, rounding, speed and memory, compile
as a user does.

Tests marked `full` run only with AE_JAX_FULL=1. Each marker gives the reason:

- test_laws.py: the laws that compile a program of their own (mapped over seeds, evaluation in batches, eight devices)
  on the further forms of an algorithm. Every run tests each algorithm's own form by every law, and each further form by
  the laws that share its compiled epoch.
- test_defaults.py: whole trainings by the defaults, but for two quick members; results/members.json has all members.
"""

import os
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

QUICKLY = "JAX_DISABLE_MOST_OPTIMIZATIONS"  # for subprocesses; `jax.config` has it in small letters


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Chooses how this test, its fixtures and its subprocesses compile."""
    quickly = item.get_closest_marker("optimised") is None
    if os.environ.get(QUICKLY) != str(int(quickly)):
        os.environ[QUICKLY] = str(int(quickly))
        jax.config.update(QUICKLY.lower(), quickly)
        jax.clear_caches()  # programs compiled the other way


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Frees the programs of a file that is through: those of all files together do not fit into memory."""
    if nextitem is not None and nextitem.path != item.path:
        jax.clear_caches()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("AE_JAX_FULL", "0") == "0":
        waiting = [item for item in items if item.get_closest_marker("full")]
        if waiting:
            config.hook.pytest_deselected(items=waiting)
            items[:] = [item for item in items if not item.get_closest_marker("full")]
