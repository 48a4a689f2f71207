"""The table of coverage: a row claims only what is there, and a member that lands is claimed."""

import importlib

import peers
import pytest
import table

from ae_jax.algorithms import ALGORITHMS
from ae_jax.app.flags import parse, settings_of
from ae_jax.evaluation.samplers import SAMPLERS
from ae_jax.training import settings

ROWS = [row for peer in peers.PEERS for row in peer.rows]
OURS = sorted({ours for row in ROWS for ours in row.ours})


@pytest.mark.parametrize("ours", OURS)
def test_what_a_row_claims_is_there(ours):
    if ours.startswith(peers.SAMPLE):
        assert ours.removeprefix(peers.SAMPLE) in SAMPLERS
    elif name := peers.member_of(ours):
        asked = settings_of(name, parse(name, [*ours.split()[1:], "--epochs", "100000"]))
        settings.build(settings.completed(asked, 100, "unit"), (128,), 100)  # it raises for what the member refuses
    else:
        module, _, function = ours.rpartition(".")
        assert callable(getattr(importlib.import_module(f"ae_jax.{module}"), function))


def test_a_row_without_ours_waits_for_nothing_that_is_there():
    there = {*ALGORITHMS, *SAMPLERS}
    assert not [row.theirs for row in ROWS if row.awaits in there and row.awaits not in " ".join(row.ours)]
    assert [row for row in ROWS if not row.ours], "every row is ours: this test can go"


def test_lists_are_whole_and_name_each_thing_once():
    count = {peer.title: len(peer.rows) for peer in peers.PEERS}
    assert (count["Objectives of pythae"], count["Samplers of pythae"]) == (26, 10)
    for peer in peers.PEERS:
        assert len({row.theirs for row in peer.rows}) == len(peer.rows)


def test_the_page_has_every_row_and_the_members_beyond():
    page = "\n".join(table.coverage_lines())
    assert all(f"\n| `{row.theirs}` | " in page for row in ROWS)
    assert page.count("not there yet") == sum(not row.ours for row in ROWS)
    beyond = page.rpartition("## ")[2]
    assert "[`rbm`](../ae_jax/algorithms/rbm.py)" in beyond
    assert "`vae`" not in beyond
