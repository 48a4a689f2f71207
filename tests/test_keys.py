"""Keys are addresses: none meets another, and no whole run uses one twice."""

import ast
import importlib.util
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import key_walk
import numpy as np
import optax
import pytest
from probes import PROBES, bars, build, required

from ae_jax import core, networks
from ae_jax.algorithms import ALGORITHMS, classifier, dec, denoising, sparse, vade
from ae_jax.core import NAMES, address
from ae_jax.data.binary import dynamic_binarise
from ae_jax.evaluation import samplers
from ae_jax.evaluation.likelihood import log_likelihood
from ae_jax.objectives import boltzmann
from ae_jax.training import compiled, stages
from ae_jax.training.settings import heads

KEY = jax.random.key(0)


def data(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_an_address_is_a_fold_for_each_part():
    by_hand = jax.random.fold_in(jax.random.fold_in(KEY, zlib.crc32(b"epoch") | 2**31), 3)
    assert data(address(KEY, "epoch", 3)) == data(by_hand)
    assert data(address(address(KEY, "epoch"), 3)) == data(by_hand)
    assert data(address(KEY)) == data(KEY)
    assert data(jax.jit(lambda e: address(KEY, "epoch", e))(3)) == data(by_hand)


def test_names_meet_neither_numbers_nor_a_split():
    names = [address(KEY, name) for name in ("init", "epoch", "order", "step", "example", "sample", "evaluation")]
    split = jax.random.split(KEY, 1000)
    assert data(split[1]) == data(address(KEY, 1))  # as JAX has it, which is why there are names
    keys = [data(key) for key in (*names, *split)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("number", [-1, NAMES])
def test_a_number_that_could_be_a_names_is_refused(number):
    with pytest.raises(ValueError, match="the address has the number"):
        address(KEY, "epoch", number)
    assert data(address(KEY, NAMES - 1)) == data(jax.random.fold_in(KEY, NAMES - 1))


def test_one_step_of_one_seed_can_be_replayed():
    def draw(params, memory, batch, key):
        return params, memory, {"drawn": jax.random.uniform(key)}

    rule = core.sweep(core.Rule(lambda params: (), draw), 1)
    examples = core.Batch(jnp.zeros((5, 1)))
    _, history = core.fit(lambda key, data: {"w": jax.random.normal(key)}, rule, examples, KEY, 3)
    steps = [[float(jax.random.uniform(address(KEY, "epoch", e, "step", t))) for t in range(5)] for e in range(3)]
    np.testing.assert_allclose(history["drawn"], np.mean(steps, 1), rtol=1e-6)


# --------------------------------------------------------------------------------------------- whole runs

DATA = core.Batch(*(a[:17] for a in bars()))  # two batches, the last a short one


def whole(algorithm):
    """A run from its start to its samples, of one key."""

    def run(key, data):
        params, history = core.fit(algorithm.init, core.epoch(algorithm, 10), data, key, 2)
        held_out = core.average(algorithm.evaluate, params, data, address(key, "validation"))
        measured = core.average(algorithm.evaluate, params, data, address(key, "evaluation"), 4)
        found = [history, held_out, measured]
        if algorithm.log_weight is not None:
            found.append(log_likelihood(algorithm, params, data, address(key, "likelihood"), 3, 2))
        if algorithm.sample is not None:
            found.append(algorithm.sample(params, address(key, "sampling"), 3))
        return found

    return run


@pytest.mark.parametrize("name", PROBES)
def test_no_whole_run_uses_a_key_twice(name):
    found = key_walk.uses(whole(build(name)), KEY, DATA)
    assert sum(what == "draw" for what, *_ in found) > 2
    assert not key_walk.reused(found)


def retrained(key, data):
    """A recipe of two stages by one key, as README has it."""
    nets = [networks.mlp(shape, 5, hidden=(), code_dropout=0.5) for shape in ((4, 4, 1), (5,))]
    layers = [denoising(net, optax.adam(1e-2)) for net in nets]
    trained, _ = stages.greedy(layers, data, key, epochs=1, batch_size=4)
    tuned = classifier(networks.stack(nets), optax.adam(1e-2), classes=8)
    start = stages.resume(tuned.init, networks.stacked(trained))
    score = lambda params: core.average(tuned.evaluate, params, data, key)["error"]
    return stages.fit_best(start, core.epoch(tuned, 4), data, key, 2, score)


pretrains = pytest.mark.parametrize(
    "member", [partial(dec, clusters=3), partial(classifier, classes=8), partial(vade, clusters=3)]
)


@pretrains
def test_pretraining_within_the_start_shares_no_key_with_what_follows(member):
    net = networks.mlp((4, 4, 1), 3, hidden=(4,), dropout=0.5, heads=heads(member.func.__name__).number)
    algorithm = member(net, optax.adam(1e-2), pretrain_epochs=2)
    found = key_walk.uses(whole(algorithm), KEY, DATA)
    without = member(net, optax.adam(1e-2))
    assert len(found) > len(key_walk.uses(whole(without), KEY, DATA))
    assert not key_walk.reused(found)


@pytest.mark.parametrize("name", ["vae", "vamp", "vq_vae", "dec"])
def test_encoder_and_decoder_drop_out_by_keys_of_their_own(name):
    net = networks.mlp((4, 4, 1), 4, hidden=(5,), dropout=0.5, heads=heads(name).number)
    algorithm = ALGORITHMS[name](net, optax.adam(1e-2), **required(name))
    params = jax.eval_shape(algorithm.init, KEY, DATA)
    memory = jax.eval_shape(algorithm.rule.init, params)

    def step(key, params, memory, data):
        return algorithm.rule.update(params, memory, data, key)

    found = key_walk.uses(step, KEY, params, memory, DATA)
    assert sum(use.what == "draw" for use in found) > 1
    assert not key_walk.reused(found)


def test_the_fit_of_a_sampler_and_its_draws_use_no_key_twice():
    def fitted(key, codes):
        trained = samplers._trained(codes[:20], codes[20:], address(key, "fit"), 2)
        own = {"flow": {"flow": trained, "mean": jnp.zeros(3), "root": jnp.eye(3)}}
        return samplers.prior_of("maf", 3).draw(own, address(key, "draw"), 4, jnp.float32)

    found = key_walk.uses(fitted, KEY, jnp.ones((24, 3)))
    assert sum(what == "draw" for what, *_ in found) > 2
    assert not key_walk.reused(found)


def test_stages_and_the_run_after_them_may_have_one_key():
    found = key_walk.uses(retrained, KEY, DATA)
    assert sum(use.what == "draw" for use in found) > 10
    assert not key_walk.reused(found)


def test_the_programs_of_a_run_use_no_key_twice():
    """With a transform, statistics and held-out examples."""
    net = networks.mlp((4, 4, 1), 5, hidden=(), code_activation="sigmoid", code_dropout=0.5)
    algorithm = sparse(net, optax.adam(1e-2), target=0.2)
    begin, advance, *_ = compiled.programs(algorithm, compiled.Plan(4, dynamic_binarise, validated=True))

    def started(e, keys, data):
        return advance(begin(data, keys), keys, e, data, data)

    drawn, keys = [], jax.random.split(KEY, 2)
    for e in (1, 2):  # each by itself: the noise of held-out examples is the same after every epoch
        found = key_walk.uses(partial(started, e), keys, DATA)
        assert not key_walk.reused(found)
        drawn.append({use.key for use in found if use.what == "draw"})
    assert len(drawn[0]) == len(drawn[1]) > 15
    start = key_walk.uses(lambda keys, data: begin(data, keys), keys, DATA)
    at_start = {use.key for use in start if use.what == "draw"}
    assert drawn[0] & drawn[1] == at_start


ROOT = Path(__file__).parents[1]


def experiment(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def test_the_recipe_of_an_experiment_uses_no_key_twice():
    few = experiment("few_labels").recipe("sigmoid", (4, 4, 1), (6, 3), 8, 1e-2, 0.1, 4, 1)

    def labels(key, data):
        below = []
        for pretrain in few.layers:
            below = [*below, pretrain((address(key, "pretraining"), below), data)]
        tuned = few.tune(address(key, "tuning"), networks.stacked(below), data, data, 8, 2)
        return tuned, few.init(address(key, "init"), data)

    found = key_walk.uses(labels, KEY, DATA)
    assert sum(use.what == "draw" for use in found) > 5
    assert not key_walk.reused(found)


@pytest.mark.parametrize("folder", ["ae_jax", "experiments"])
def test_keys_are_derived_in_one_place(folder):
    """Nothing but `address` folds numbers, and below a seed's own key a name comes first."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "fold_in":
                assert path.name == "core.py", f"{path}:{node.lineno} folds a number"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("address"):
                root, first = ast.unparse(node.args[0]), node.args[1]
                number = isinstance(first, ast.Constant) and not isinstance(first.value, str)
                assert not (root.startswith("jax.random.key(") and number), f"{path}:{node.lineno} has no name"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("jax.random.", "draws.")):
                drawn = [ast.unparse(argument) for argument in node.args[:1]]
                direct = any(root.startswith("jax.random.key(") for root in drawn) and "key_data" not in ast.unparse(
                    node.func
                )
                assert not direct, f"{path}:{node.lineno} draws with a seed's own key"


def test_a_key_used_twice_is_found():
    algorithm = build("vae")
    assert algorithm.sample is not None

    def as_before(key, data):  # split, and then the run's key folded by number, as other places fold the seed's
        key_init, key_run = jax.random.split(key)
        params = algorithm.init(key_init, data)
        update = core.epoch(algorithm, 4).update
        params, _, _ = update(params, algorithm.rule.init(params), data, address(key_run, 0))
        return algorithm.sample(params, address(key, 1), 3)

    def shared(key, data):  # hidden and visible units by one key
        machine = boltzmann.machine(networks.rbm((4, 4, 1), 3))
        params = machine.net.init(address(key, "init"), data)
        a = machine.down(params, data.x, address(key, "step"))
        return machine.visible.draw(address(key, "step"), a)

    def measured(key, data):
        params, _ = core.fit(algorithm.init, core.epoch(algorithm, 4), data, key, 1)
        return algorithm.sample(params, address(key, "epoch", 0, "order"), 3)

    for planted in (as_before, shared, measured):
        assert key_walk.reused(key_walk.uses(planted, KEY, DATA)), planted.__name__
