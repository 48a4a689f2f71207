"""Every law on every algorithm. The list is in probes.py."""

import functools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import BATCH, EPOCHS, PROBES, bars, build, flat

from ae_jax import core
from ae_jax.algorithms import ALGORITHMS


def forms(mark: pytest.MarkDecorator):
    """Every probe, the further forms of an algorithm under a mark."""
    return [name if name in ALGORITHMS else pytest.param(name, marks=mark) for name in PROBES]


# Of one scope, so that pytest runs all laws of a member one after the other.
every = pytest.mark.parametrize("name", forms(pytest.mark.slow), scope="module")
every_compiling = pytest.mark.parametrize(
    "name", forms(pytest.mark.full("compiles programs for this law alone")), scope="module"
)
DATA = bars()
# most of the time here is compilation, and the laws are about meaning, not speed
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Compiled:
    """A probe's functions, compiled once for all laws."""

    def __init__(self, name: str):
        self.algorithm = build(name)
        self.rule = core.epoch(self.algorithm, BATCH)
        self.traced = 0
        self.update = jit(self.counted)
        self.start = jit(partial(core.start, self.algorithm.init, self.rule))
        self.descent = build(name, optax.sgd(1e-2)).rule  # a minibatch's
        self.descend = jit(self.descent.update)
        self.each = jit(partial(core.evaluate_each, self.algorithm.evaluate))

    def counted(self, *given):
        """An epoch's update; counts how often it is traced."""
        self.traced += 1
        return self.rule.update(*given)

    def loss(self, params):
        """The mean loss of evaluation."""
        each = self.each(params, DATA, jax.random.key(1))
        return core.means(each, lambda metric: metric.mean(0))["loss"]

    def run(self, seed: int, first: int, last: int, params=None, memory=None):
        """Epochs first to last of a seed's run, from its start or from what is given."""
        fresh, empty, key = self.start(DATA, jax.random.key(seed))
        params, memory = (fresh, empty) if params is None else (params, memory)
        for e in range(first, last):
            params, memory, _ = self.update(params, memory, DATA, jax.random.fold_in(key, e))
        return params, memory


@pytest.fixture(autouse=True)
def rank_promotion_raises():
    """Implicit rank promotion raises."""
    with jax.numpy_rank_promotion("raise"):
        yield


@functools.cache
def compiled(name: str) -> Compiled:
    return Compiled(name)


def test_every_algorithm_has_a_probe():
    probed = {probe.of for probe in PROBES.values()}
    missing, unknown = sorted(set(ALGORITHMS) - probed), sorted(probed - set(ALGORITHMS))
    assert not missing, f"{missing} have no line in PROBES of tests/probes.py: add a problem of known optimum"
    assert not unknown, f"PROBES of tests/probes.py probes {unknown}, which ALGORITHMS has not"


@every
def test_shapes_and_dtypes_are_kept(name):
    params, memory, key = compiled(name).start(DATA, jax.random.key(0))
    after = compiled(name).update(params, memory, DATA, key)
    kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype, a.weak_type), tree)
    assert kind(after[:2]) == kind((params, memory))
    assert set(compiled(name).algorithm.statistics) <= set(params)
    assert all(metric.shape == () for metric in after[2].values())


@every
def test_float32_data_stay_float32_where_float64_is_on(name):
    """Also with a last batch that is shorter than the others."""
    algorithm = compiled(name).algorithm
    rule = core.epoch(algorithm, 40)

    def everything(data, key):
        params, memory, key = core.start(algorithm.init, rule, data, key)
        params, memory, metrics = rule.update(params, memory, data, key)
        z = algorithm.encode(params, data.x)
        out = params, memory, metrics, z, algorithm.decode(params, z), algorithm.reconstruct(params, data.x)
        more = algorithm.sample(params, key, 3) if algorithm.sample else (), algorithm.evaluate(params, data, key)
        return out, more, algorithm.log_weight(params, data, key) if algorithm.log_weight else ()

    with jax.enable_x64(True):
        leaves = jax.tree.leaves(jax.eval_shape(everything, DATA, jax.random.key(0)))
    assert {a.dtype for a in leaves if jnp.issubdtype(a.dtype, jnp.floating)} == {jnp.dtype("float32")}


@every
def test_second_call_does_not_retrace(name):
    run, key = compiled(name), jax.random.key(0)
    params, memory, _ = run.update(*run.start(DATA, key)[:2], DATA, key)
    before = run.traced
    run.update(params, memory, DATA, key)
    assert run.traced == before > 0


@every
def test_approaches_the_known_optimum_and_does_not_beat_it(name):
    probe, run = PROBES[name], compiled(name)
    before, after = (run.loss(run.run(0, 0, epochs)[0]) for epochs in (0, EPOCHS))
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


@every_compiling
def test_mapped_over_seeds_is_a_loop_over_seeds(name):
    run, seeds = compiled(name), range(3)
    loop = [run.run(seed, 0, 1) for seed in seeds]
    starts = [run.start(DATA, jax.random.key(seed)) for seed in seeds]
    params, memory, keys = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    keys = jax.vmap(partial(jax.random.fold_in, data=0))(keys)
    mapped = jit(jax.vmap(run.rule.update, in_axes=(0, 0, None, 0)))(params, memory, DATA, keys)[:2]
    for seed in seeds:
        one = jax.tree.map(lambda a: a[seed], mapped)
        np.testing.assert_allclose(flat(one), flat(loop[seed]), rtol=1e-3, atol=1e-4)


@every_compiling
def test_eager_is_jit_and_no_key_is_used_twice(name):
    """Of the keys of whole runs, of all probes, see test_keys.py."""
    rule, batch = compiled(name).descent, core.Batch(*(a[:7] for a in DATA))
    params, _, key = compiled(name).start(DATA, jax.random.key(0))
    with jax.debug_key_reuse(True):
        slow, _, _ = rule.update(params, rule.init(params), batch, jax.random.clone(key))
    fast, _, _ = compiled(name).descend(params, rule.init(params), batch, key)
    np.testing.assert_allclose(flat(slow), flat(fast), rtol=1e-5, atol=1e-6)


@every
def test_no_array_is_twice_in_the_start(name):
    """A jitted step that donates params and memory refuses one buffer in two places."""
    algorithm = compiled(name).algorithm
    start = partial(core.start, algorithm.init, compiled(name).rule)
    variables = jax.make_jaxpr(start)(DATA, jax.random.key(0)).jaxpr.outvars
    made = [
        id(variable) for variable in variables if not hasattr(variable, "val")
    ]  # literals become arrays of their own
    assert len(set(made)) == len(made)


@every
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_gradients_are_finite_at_the_start(name, level):
    rule, batch = compiled(name).descent, core.Batch(jnp.full((7, 4, 4, 1), level), DATA.y[:7])
    params, _, key = compiled(name).start(DATA, jax.random.key(0))
    stepped, _, metrics = compiled(name).descend(params, rule.init(params), batch, key)
    chex.assert_tree_all_finite((stepped, metrics))


@every_compiling
def test_evaluation_has_no_corruption_and_needs_no_particular_batch_size(name):
    run = compiled(name)
    params, _, key = run.start(DATA, jax.random.key(0))
    few = jit(partial(core.evaluate_each, run.algorithm.evaluate, batch_size=4))
    few, many = few(params, jax.tree.map(lambda a: a[:20], DATA), key), run.each(params, DATA, key)
    for metric in few:
        assert few[metric].shape == (20,)
        np.testing.assert_allclose(few[metric], many[metric][:20], rtol=1e-4, atol=1e-5)
    if run.algorithm.log_weight is None:  # the loss of these is a function of x alone: equal images, equal values
        metric = next(m for m in ("reconstruction", "nll", "loss") if m in few)  # the term without a penalty
        np.testing.assert_allclose(few[metric][:8], few[metric][8:16], rtol=1e-5)


@every
def test_codes_reconstructions_and_samples_fit_together(name):
    algorithm, batch = compiled(name).algorithm, core.Batch(*(a[:8] for a in DATA))
    params, _, key = compiled(name).start(DATA, jax.random.key(0))

    @jit
    def uses(params, batch, key):
        z = algorithm.encode(params, batch.x)
        samples = algorithm.sample(params, key, 3) if algorithm.sample else None
        decoded, x_hat = algorithm.decode(params, z), algorithm.reconstruct(params, batch.x)
        return z, decoded, x_hat, samples, algorithm.evaluate(params, batch, key)

    z, decoded, x_hat, samples, metrics = uses(params, batch, key)
    assert len(z) == 8
    assert decoded.shape == x_hat.shape == batch.x.shape
    if PROBES[name].whole:
        np.testing.assert_allclose(x_hat, decoded, rtol=1e-5, atol=1e-6)
    assert ("squared_error" in metrics) == algorithm.decodes
    if algorithm.decodes:
        np.testing.assert_allclose(metrics["squared_error"], np.square(x_hat - batch.x).sum((1, 2, 3)), rtol=1e-4)
    if algorithm.sample is not None:
        assert samples.shape == (3, 4, 4, 1)


EIGHT = """
import sys
import jax, numpy as np
from functools import partial
from probes import BATCH, bars, build, flat
from ae_jax import core

assert len(jax.devices()) == 8
mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
data, result = bars(), {}
for name in sys.argv[2:]:
    algorithm = build(name)
    rule = core.epoch(algorithm, BATCH, sharding)
    params, memory, key = jit(partial(core.start, algorithm.init, rule))(data, jax.random.key(0))
    compiled = jit(rule.update).lower(params, memory, data, key).compile()
    assert "all-reduce" in compiled.as_text(), name
    result[name] = flat(compiled(params, memory, data, jax.random.fold_in(key, 0))[0])
np.savez(sys.argv[1], **result)
"""


QUICK = ("autoencoder", "sparse", "adversarial", "rbm_persistent")  # a loss, statistics, a game, and chains
OWN = [name for name in ALGORITHMS if name not in QUICK]
FURTHER = [name for name in PROBES if name not in {*QUICK, *OWN}]
FULL = pytest.mark.full("compiles programs for this law alone")


@pytest.mark.parametrize("names", [QUICK, pytest.param(OWN, marks=pytest.mark.slow), pytest.param(FURTHER, marks=FULL)])
def test_eight_devices_are_one(names, tmp_path):
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    run = [sys.executable, "-c", EIGHT, str(tmp_path / "eight.npz"), *names]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "eight.npz") as eight:
        for name in names:
            one = flat(compiled(name).run(0, 0, 1)[0])
            np.testing.assert_allclose(eight[name], one, rtol=1e-3, atol=1e-4, err_msg=name)
