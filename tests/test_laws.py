"""Every law on every algorithm. The list is in probes.py."""

import functools
import inspect
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import BATCH, EPOCHS, PROBES, bars, build, flat

from ae_jax import core
from ae_jax.algorithms import ALGORITHMS

every = pytest.mark.parametrize("name", PROBES)
DATA = bars()
SEEDS = 3


class Compiled:
    """A probe's functions, compiled once for all laws, and how often its epoch was traced."""

    def __init__(self, name: str):
        self.algorithm = build(name)
        self.rule = core.epoch(self.algorithm, BATCH)
        self.traces = 0

        def counted(*arguments):
            self.traces += 1
            return self.rule.update(*arguments)

        self.update = jax.jit(counted)
        self.start = jax.jit(partial(core.start, self.algorithm.init, self.rule))
        self.average = jax.jit(partial(core.average, self.algorithm.evaluate), static_argnames="batch_size")

    def run(self, seed: int, first: int, last: int, params=None, memory=None):
        """Epochs first to last of a seed's run, from its start or from what is given."""
        fresh, empty, key = self.start(DATA, jax.random.key(seed))
        params, memory = (fresh, empty) if params is None else (params, memory)
        for e in range(first, last):
            params, memory, _ = self.update(params, memory, DATA, jax.random.fold_in(key, e))
        return params, memory


@functools.cache
def compiled(name: str) -> Compiled:
    return Compiled(name)


def test_every_algorithm_has_a_probe():
    assert {probe.of for probe in PROBES.values()} == set(ALGORITHMS)


@every
def test_shapes_and_dtypes_are_kept(name):
    params, memory, key = compiled(name).start(DATA, jax.random.key(0))
    after = jax.eval_shape(compiled(name).rule.update, params, memory, DATA, key)
    kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)
    assert kind(after[:2]) == kind((params, memory))
    assert all(metric.shape == () for metric in after[2].values())


@every
def test_second_call_does_not_retrace(name):
    compiled(name).run(0, 0, 3)
    assert compiled(name).traces == 1


@every
def test_approaches_the_known_optimum_and_does_not_beat_it(name):
    probe, run, key = PROBES[name], compiled(name), jax.random.key(1)
    before = run.average(run.run(0, 0, 0)[0], DATA, key)["loss"]
    after = run.average(run.run(0, 0, EPOCHS)[0], DATA, key)["loss"]
    assert probe.optimum - 0.02 < after < probe.optimum + probe.gap * (before - probe.optimum)


@every
def test_saved_and_restored_is_uninterrupted_bit_for_bit(name, tmp_path):
    saved = compiled(name).run(5, 0, 2)
    leaves, structure = jax.tree.flatten(saved)
    np.savez(tmp_path / "saved.npz", *map(np.asarray, leaves))
    with np.load(tmp_path / "saved.npz") as file:
        params, memory = jax.tree.unflatten(structure, [file[f"arr_{i}"] for i in range(len(leaves))])
    resumed = compiled(name).run(5, 2, 4, params, memory)
    np.testing.assert_array_equal(flat(resumed), flat(compiled(name).run(5, 0, 4)))


@every
def test_same_seed_same_bits_other_seed_other_bits(name):
    first, again, other = (flat(compiled(name).run(seed, 0, 2)[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@every
def test_mapped_over_seeds_is_a_loop_over_seeds(name):
    run = compiled(name)

    def whole(key):
        return core.fit(run.algorithm.init, run.rule, DATA, key, epochs=2)[0]

    keys = jnp.stack([jax.random.key(seed) for seed in range(SEEDS)])
    loop = [flat(run.run(seed, 0, 2)[0]) for seed in range(SEEDS)]
    mapped, vectorised = jax.jit(lambda keys: (jax.lax.map(whole, keys), jax.vmap(whole)(keys)))(keys)
    for seed in range(SEEDS):
        one = lambda tree: flat(jax.tree.map(lambda a: a[seed], tree))
        np.testing.assert_allclose(one(mapped), loop[seed], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one(vectorised), loop[seed], rtol=1e-3, atol=1e-4)


@every
def test_eager_is_jit_and_no_key_is_used_twice(name):
    rule, batch = build(name, optax.sgd(1e-2)).rule, core.Batch(*(a[:7] for a in DATA))
    params, _, key = compiled(name).start(DATA, jax.random.key(0))
    fast, _, _ = jax.jit(rule.update)(params, rule.init(params), batch, key)
    with jax.debug_key_reuse(True):
        slow, _, _ = rule.update(params, rule.init(params), batch, jax.random.fold_in(jax.random.key(0), 1))
        slow, _, _ = rule.update(params, rule.init(params), batch, jax.random.clone(key))
        compiled(name).algorithm.evaluate(params, batch, jax.random.key(0))
    np.testing.assert_allclose(flat(slow), flat(fast), rtol=1e-5, atol=1e-6)
