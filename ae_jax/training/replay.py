"""One step of a run again, alone: its batch, its key and the params after it.

Keys are addresses (see `core`), so the batch and the key of step t of epoch e are functions of the seed. The params
before the step are computed from the start or from a checkpoint, by running the steps in between.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Algorithm, Batch, Key, Memory, Metrics, Params, address, batches, check_batch_size, start
from ..core import epoch as epoch_of
from ..errors import RunError, warn
from ..xla.programs import compiled
from . import provenance
from .arguments import check_seeds
from .compiled import Plan, programs, transformed
from .run_folder import Folder


class Step(NamedTuple):
    """A step of a run, see `step`."""

    key: Key
    batch: Batch  # the examples of the step, before `transform`
    before: Params
    params: Params  # after it
    memory: Memory  # after it
    metrics: Metrics


def step(
    algorithm: Algorithm,
    seed: int,
    epoch: int,
    t: int,
    data: Batch,
    *,
    batch_size: int = 128,
    transform: Callable[[Batch, Key], Batch] | None = None,
    since: Folder | tuple[int, Params, Memory] | None = None,
) -> Step:
    """Step t of epoch `epoch`, both counted from 0, of the run of a seed.

    Learned params have the bits of `training.train` on CPU; statistics of the set (`Algorithm.statistics`) agree to
    rounding.

    Args:
        algorithm: the algorithm on its network.
        seed: the seed of the run.
        epoch: the number of the pass over the data, counted from 0.
        t: the number of the step in that pass, counted from 0.
        data: the training set.
        batch_size: examples in a step of the run.
        transform: the run's (batch, key) -> batch.
        since: the state to begin from: (passes done, params, memory) of this seed; or the run's folder, for its last
            checkpoint up to that epoch; by default the start of the run. The steps from there to this one run again.

    Raises ValueError for an epoch or a step that the run does not have, and for another batch size than the folder's,
    or a transform where it has none, or none where it has one; RunError for a folder without such a seed, of a stream,
    of other data, or of a run that began with given params and has no checkpoint up to that epoch.
    """
    check_batch_size(batch_size)
    check_seeds([seed])
    steps = -(-len(data.x) // batch_size)
    if epoch < 0 or not 0 <= t < steps:
        raise ValueError(
            f"epoch is {epoch} and t {t}; both count from 0, and a pass over {len(data.x)} examples in batches of "
            f"{batch_size} has the steps 0 to {steps - 1}"
        )
    key = jax.random.key(seed)
    begun = (
        _checkpoint(since, algorithm, seed, epoch, data, batch_size, transform) if isinstance(since, Folder) else since
    )
    if begun is None:
        begun = (0, *_started(algorithm, data, key, batch_size=batch_size, transform=transform))
    done, params, memory = begun
    if done > epoch:
        raise ValueError(f"since is after {done} passes, and epoch {epoch} begins after {epoch}: give an earlier one")
    for e in range(done, epoch):
        key_epoch = address(key, "epoch", e)
        params, memory = _passed(algorithm, params, memory, data, key_epoch, batch_size=batch_size, transform=transform)
    short = t == steps - 1 and bool(len(data.x) % min(batch_size, len(data.x)))
    key_epoch = address(key, "epoch", epoch)
    return Step(
        *_stepped(
            algorithm, params, memory, data, key_epoch, t, batch_size=batch_size, short=short, transform=transform
        )
    )


_compiled = functools.partial(compiled, static_argnames=("batch_size", "short", "transform"))


def _learning(algorithm: Algorithm, transform: Callable[[Batch, Key], Batch] | None) -> Algorithm:
    return algorithm if transform is None else transformed(algorithm, transform)


@_compiled
def _started(algorithm: Algorithm, data: Batch, key: Key, *, batch_size: int, transform: Any) -> tuple[Params, Memory]:
    algorithm = _learning(algorithm, transform)
    return start(algorithm.init, epoch_of(algorithm, batch_size), data, key)[:2]


@_compiled
def _passed(
    algorithm: Algorithm, params: Params, memory: Memory, data: Batch, key: Key, *, batch_size: int, transform: Any
) -> tuple[Params, Memory]:
    return epoch_of(_learning(algorithm, transform), batch_size).update(params, memory, data, key)[:2]


@_compiled
def _stepped(
    algorithm: Algorithm,
    params: Params,
    memory: Memory,
    data: Batch,
    key: Key,
    t: Array,
    *,
    batch_size: int,
    short: bool,
    transform: Any,
) -> tuple[Any, ...]:
    """The fields of a `Step`, after the statistics and the first t steps of a pass."""
    algorithm = _learning(algorithm, transform)
    rule, first = algorithm.rule, ()
    if algorithm.before is not None:  # as `core.epoch` chains them
        params, counted, _ = algorithm.before.update(params, memory[0], data, address(key, 0))
        first, memory, key = (counted,), memory[1], address(key, 1)
    batch, size, _, rest = batches(data, key, batch_size)
    # The number of steps is traced, so XLA keeps a loop, and compiles its step as it does in an epoch.

    def update(t: Array, held: Any) -> Any:
        return rule.update(held[0], held[1], batch(t, size), address(key, "step", t))

    shapes = jax.eval_shape(lambda: update(t, (params, memory)))[2]
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    before: Any = lax.fori_loop(0, t, update, (params, memory, nothing))
    last = batch(t, rest if short else size)
    key_step = address(key, "step", t)
    if short:
        params, memory, metrics = rule.update(before[0], before[1], last, key_step)
    else:
        params, memory, metrics = lax.fori_loop(t, t + 1, update, before)
    return key_step, last, before[0], params, (*first, memory) if first else memory, metrics


def _checkpoint(
    folder: Folder, algorithm: Algorithm, seed: int, epoch: int, data: Batch, batch_size: int, transform: Any
) -> tuple[int, Params, Memory] | None:
    """(passes done, params, memory) of a seed in a folder's last checkpoint up to an epoch; None without one."""
    known = folder.recorded()
    if known.get("shard_size") is not None or ("shape" in known and not {"data_checksum", "train_checksum"} & {*known}):
        raise RunError(
            f"{folder.path} learned from a stream, whose steps depend on its shards: they cannot be replayed"
        )
    if (wanted := known.get("batch_size", batch_size)) != batch_size:
        raise ValueError(
            f"batch_size is {batch_size}, and the run in {folder.path} has {wanted}: give batch_size={wanted}"
        )
    transforms = known.get("given", {}).get("transform", known.get("binarise") == "dynamic" or None)
    if transforms not in (None, transform is not None):
        told = "transforms its batches: give its own transform" if transforms else "has no transform: leave it out"
        raise ValueError(f"transform is {transform}, and the run in {folder.path} {told}")
    if "data_checksum" in known and "train_checksum" not in known:
        warn(f"{folder.path} is of an older version and has no checksum of its training set: give that very set")
    checksum = provenance.checksum(data)
    if known.get("train_checksum", checksum) != checksum:
        raise RunError(f"the data are not those that the run in {folder.path} learned from: give its training set")
    seeds = known.get("seeds", [seed])
    if seed not in seeds:
        raise RunError(f"{folder.path} has no seed {seed}; it was trained with {seeds}")
    if not (numbers := [n for n in folder.saved() if n <= epoch]):
        if known.get("start_from") or known.get("started"):
            raise RunError(
                f"{folder.path} began with params of another run, and no checkpoint up to epoch {epoch} is left to "
                "begin from: give a later epoch, or since=(0, params, memory) of its start"
            )
        return None
    keys = jax.eval_shape(lambda: jnp.stack([jax.random.key(s) for s in seeds]))
    begin = programs(algorithm, Plan(batch_size, transform, validated=bool(known.get("validated"))))[0]
    place = jnp.zeros(()).sharding
    like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place)
    done, state = folder.read(max(numbers), jax.tree.map(like, jax.eval_shape(begin, data, keys)))
    one = lambda tree: jax.tree.map(lambda a: a[seeds.index(seed)], tree)
    return done, one(state.params), one(state.memory)
