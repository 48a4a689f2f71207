"""scripts/trials.py: one or two trials of each kind, and the results that count as wrong."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from ae_jax.training import checkpoints

FILE = Path(__file__).parents[1] / "scripts" / "trials.py"


@pytest.fixture(scope="module")
def trials():
    spec = importlib.util.spec_from_file_location("trials", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["trials"] = module  # its children find it by name, on a path that they are given
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))
        yield module


@pytest.mark.slow
@pytest.mark.parametrize("checked", [True, False])
def test_flips_are_refused_or_harmless_and_would_be_counted(trials, tmp_path, monkeypatch, checked):
    if not checked:  # what is read is whatever is there
        monkeypatch.setattr(checkpoints, "crc_of", lambda path, flush=False: 0)
        monkeypatch.setattr(checkpoints, "described", lambda tree: checkpoints.shapes(tree))
        monkeypatch.setattr(checkpoints, "seal", lambda content: 0)
    found = trials.flips("rbm", tmp_path, 60, random.Random(0))
    assert found["flips"] == 60 == found["refused"] + found["same bits"] + found["other bits"]
    assert (found["other bits"] == 0) == checked
    assert bool(trials.wrong({"rbm": {"flips": found}})) != checked


def test_what_counts_as_wrong(trials):
    right = {
        "kills": {"kills": 3, "runs": 1, "other bits": 0, "errors": 0},
        "full disk": {"trials": 1, "told": 1, "went on to the same bits": 1, "on a tmpfs": 0},
        "read-only folder": {"trials": 0, "told": 0, "unchanged": 0},
        "two processes": {"trials": 1, "refused": 1, "same bits": 1},
    }
    assert trials.wrong({"conv": right}) == []
    for trial, name, value in (
        ("kills", "other bits", 1),
        ("kills", "errors", 1),
        ("full disk", "told", 0),
        ("full disk", "went on to the same bits", 0),
        ("read-only folder", "trials", 1),
        ("two processes", "refused", 0),
        ("two processes", "same bits", 0),
    ):
        assert len(trials.wrong({"conv": right | {trial: right[trial] | {name: value}}})) == 1


@pytest.mark.slow
def test_three_kills_a_full_disk_a_read_only_folder_and_two_processes(trials):
    record = trials.trials(("rbm",), n_kills=3, n_flips=2, epochs=6)
    assert trials.wrong(record) == []
    assert record["rbm"]["kills"]["kills"] == 3
