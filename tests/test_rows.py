"""Rows of the log, numbers of addresses and of batches: what is no such thing is refused or left out."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax import core
from ae_jax.core import address
from ae_jax.training import arguments, run_folder


def test_a_changed_row_of_the_log_is_unread(tmp_path):
    row = {"epoch": 1, "seconds": 0.5, "examples_per_second": 10.0, "train": {"loss": [3.25]}}
    line = run_folder.sealed(row)
    (tmp_path / "log.jsonl").write_text(line + line.replace("3.25", "3.35") + json.dumps(row | {"epoch": 2}) + "\n")
    rows, unread = run_folder.Folder(tmp_path).read_log()
    assert rows == [row, row | {"epoch": 2}]  # the last one as older versions wrote it
    assert unread == 1


@pytest.mark.parametrize("part", [1.5, True, np.float32(1), jnp.ones(())])
def test_an_address_is_of_names_and_whole_numbers(part):
    with pytest.raises(TypeError, match="a name or a whole number"):
        address(jax.random.key(0), part)


def test_an_address_has_no_number_below_0():
    with pytest.raises(ValueError, match="number -1"):
        address(jax.random.key(0), np.int64(-1))


def test_a_batch_has_an_example():
    with pytest.raises(ValueError, match="batch_size is 0"):
        core.sweep(core.chain(), 0)


def test_seeds_are_whole_numbers():
    with pytest.raises(ValueError, match="whole numbers"):
        arguments.check_seeds([0.5])
