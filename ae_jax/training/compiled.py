"""The compiled programs of a run: its start, an epoch, and the parts of an epoch in shards."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from ..core import (
    Algorithm,
    Batch,
    Key,
    Memory,
    Metrics,
    Params,
    address,
    augment,
    average,
    epoch,
    start,
)
from ..evaluation import Better
from . import devices


class State(NamedTuple):
    """One seed's run between two epochs; in a sweep every leaf has a leading axis of seeds."""

    params: Params
    memory: Memory
    best: Params  # of the best epoch so far, by the monitored metric; {} without a validation set
    best_value: Array  # [] the monitored metric in that epoch
    best_epoch: Array  # [] int32
    active: Array  # [] bool, False once early stopping or a failure ended this seed
    failed: Array  # [] int32, the epoch in which its loss or params stopped being finite; 0: none


def map_seeds(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` over a leading axis of its arguments, one entry a seed, in one program.

    On CPU the seeds run one after another (`lax.map`), which was measured faster there; each seed has the bits that it
    has alone. On an accelerator all seeds run at once (`vmap`).
    """
    if jax.default_backend() == "cpu":
        return lambda *args: lax.map(lambda one: fn(*one), args)
    return jax.vmap(fn)


def transformed(algorithm: Algorithm, transform: Callable[[Batch, Key], Batch]) -> Algorithm:
    """The algorithm that learns from `transform(batch, key)`: in every step, in its statistics, and at the start."""
    before = None if algorithm.before is None else augment(algorithm.before, transform)
    init = lambda key, data: algorithm.init(key, transform(data, address(key, "transform")))
    return algorithm._replace(init=init, rule=augment(algorithm.rule, transform), before=before)


class Plan(NamedTuple):
    """The choices that the compiled programs of a run depend on; see `loop.train`."""

    batch_size: int
    transform: Callable[[Batch, Key], Batch] | None = None
    monitor: str = "loss"
    better: Better = "lower"
    patience: int | None = None
    mesh: Mesh | None = None
    validated: bool = False  # the state keeps the best params
    make: Callable[[Params], Algorithm] | None = None  # params -> the algorithm whose `init` begins with them


def functions(algorithm: Algorithm, plan: Plan):
    """(begin, advance, learn_shard, measure_shard, judge_epoch), each a function of all seeds.

    `begin` makes the states of the start; it also takes the given params of each seed if the plan has a `make`.
    `advance` is an epoch on data in memory. The last three are its parts, for an epoch in shards.
    """
    batch_size, transform, monitor, better, patience, mesh, validated, make = plan
    changed = lambda algorithm: algorithm if transform is None else transformed(algorithm, transform)
    algorithm = changed(algorithm)
    begun = lambda own: algorithm.init if make is None or own is None else changed(make(own)).init
    rule = epoch(algorithm, batch_size, devices.batches(mesh))
    worst = jnp.inf if better == "lower" else -jnp.inf

    def begin(data: Batch, keys: Key, given: Params | None = None) -> State:
        def one(key: Key, own: Params | None) -> State:
            params, memory, _ = start(begun(own), rule, data, key)
            none = jnp.zeros((), jnp.int32)
            return State(
                params=params,
                memory=memory,
                best=params if validated else {},
                best_value=jnp.asarray(worst, jnp.float32),
                best_epoch=none,
                active=jnp.asarray(True),
                failed=none,
            )

        return map_seeds(one)(keys, given)

    def learn(state: State, key_seed: Key, number: Array, data: Batch):
        """Pass `number`, counted from 0, over data: a whole training set, or a shard of one."""
        key = address(key_seed, "epoch", number)
        params, memory, metrics = rule.update(state.params, state.memory, data, key)
        floats = [leaf for leaf in jax.tree.leaves((params, metrics)) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in floats]).all()
        return state._replace(params=params, memory=memory), (metrics, finite)

    def measure(state: State, key_seed: Key, held_out: Batch, first: Any = 0):
        key = address(key_seed, "validation")
        return state, average(algorithm.evaluate, state.params, held_out, key, first=first)

    def judge(state: State, e: Array, rows: dict[str, Metrics], finite: Array) -> State:
        """After epoch e, counted from 1: notes whether the seed failed, the epoch is the best, and the seed goes on."""
        value = rows.get("validation", rows["train"])[monitor].astype(jnp.float32)
        value = jnp.where(jnp.isnan(value), worst, value)
        failed = jnp.where((state.failed == 0) & ~finite, e, state.failed)
        good = failed == 0
        ahead = value < state.best_value if better == "lower" else value > state.best_value
        ahead = good & (ahead | (e == 1))
        choose = lambda new, old: jax.tree.map(lambda n, o: jnp.where(ahead, n, o), new, old)
        best_epoch = choose(e, state.best_epoch)
        return state._replace(
            best=choose(state.params, state.best) if validated else {},
            best_value=choose(value, state.best_value),
            best_epoch=best_epoch,
            active=good if patience is None else good & (e - best_epoch < patience),
            failed=failed,
        )

    def while_active(go: Callable[[State, Key], tuple[State, Any]], state: State, key_seed: Key):
        """`go(state, key_seed)`; with a patience, a seed that has ended keeps its state and gives metrics of NaN."""
        if patience is None:
            return go(state, key_seed)
        silent = lambda s: jnp.full(s.shape, jnp.nan if jnp.issubdtype(s.dtype, jnp.floating) else True, s.dtype)
        nothing = jax.tree.map(silent, jax.eval_shape(go, state, key_seed)[1])
        return lax.cond(state.active, go, lambda state, _: (state, nothing), state, key_seed)

    def advance(states: State, keys: Key, e: Array, data: Batch, held_out: Batch | None):
        def go(state: State, key_seed: Key):  # epoch e, counted from 1, has the key of fit's epoch e - 1
            state, (metrics, finite) = learn(state, key_seed, e - 1, data)
            rows = {"train": metrics}
            if held_out is not None:
                rows["validation"] = measure(state, key_seed, held_out)[1]
            return judge(state, e, rows, finite), rows

        return map_seeds(lambda state, key: while_active(go, state, key))(states, keys)

    # The three parts of `advance`, for an epoch in shards.

    def learn_shard(states: State, keys: Key, number: Array, data: Batch):
        go = lambda state, key: learn(state, key, number, data)
        return map_seeds(lambda state, key: while_active(go, state, key))(states, keys)

    def measure_shard(states: State, keys: Key, first: Array, held_out: Batch):
        go = lambda state, key: measure(state, key, held_out, first)
        return map_seeds(lambda state, key: while_active(go, state, key)[1])(states, keys)

    def judge_epoch(states: State, keys: Key, e: Array, rows: dict[str, Metrics], finite: Array):
        def one(state: State, key: Key, rows: dict[str, Metrics], finite: Array) -> State:
            return while_active(lambda state, _: (judge(state, e, rows, finite), ()), state, key)[0]

        return map_seeds(one)(states, keys, rows, finite)

    return begin, advance, learn_shard, measure_shard, judge_epoch


def programs(algorithm: Algorithm, plan: Plan):
    """`functions`, each compiled, and spread over a mesh if there is one."""
    begin, advance, learn_shard, measure_shard, judge_epoch = functions(algorithm, plan)
    mesh = plan.mesh
    if mesh is None:
        whole, sharded = jax.jit(advance, donate_argnums=0), jax.jit(learn_shard, donate_argnums=0)
        return jax.jit(begin), whole, sharded, jax.jit(measure_shard), jax.jit(judge_epoch, donate_argnums=0)
    of_seeds, everywhere = devices.shardings(mesh)
    begin = devices.spread(begin, mesh, False, True, True)
    advance = devices.spread(advance, mesh, True, True, False, False, False)
    learn_shard = devices.spread(learn_shard, mesh, True, True, False, False)
    measure_shard = devices.spread(measure_shard, mesh, True, True, False, False)
    judge_epoch = devices.spread(judge_epoch, mesh, True, True, False, True, True)
    out = (of_seeds, everywhere)  # every device holds the rows, which the host reads
    return (
        jax.jit(begin, out_shardings=of_seeds),
        jax.jit(advance, donate_argnums=0, out_shardings=out),
        jax.jit(learn_shard, donate_argnums=0, out_shardings=out),
        jax.jit(measure_shard, out_shardings=everywhere),
        jax.jit(judge_epoch, donate_argnums=0, out_shardings=of_seeds),
    )
