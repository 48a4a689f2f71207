"""The loop over epochs: each epoch is one compiled program, and the host does the rest.

The program runs an epoch of every seed: the dataset is its argument, and the state is donated. For a stream the program
runs one pass over a shard, see `shards`. Pass number p has the key of epoch p, so a stream of one shard gives the bits
of a set in memory. After each epoch the host checks the clock, signals and failures, writes a row to `log.jsonl` and,
when due, a checkpoint. Keys are addresses (see `core`), so a checkpoint holds no randomness: a run that was killed at
any moment and started again ends with the bits of an uninterrupted run.
"""

import contextlib
import copy
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ..checks import length
from ..core import (
    Algorithm,
    Batch,
    Key,
    Params,
)
from ..data.disk import write_atomically
from ..data.stream import Stream
from ..errors import RunError, warn
from ..evaluation import Better
from . import devices, provenance
from .arguments import (
    check_arguments,
    check_data,
    check_examples,
    check_labels,
    check_length,
    check_monitor,
    functions_of,
    seen,
)
from .compiled import Plan, State, programs
from .progress import progress_bar
from .run_folder import Folder, append, sealed
from .shards import Sharded, identity, loaded
from .signals import Interrupted, interruptible

if TYPE_CHECKING:
    from .origins import Start

LONG = 10  # seconds; after a start that takes longer, the state is saved


class Trained(NamedTuple):
    """The result of `train`; leaves of params have a leading axis of seeds."""

    params: Params  # of the last epoch; with a validation set, of each seed's best epoch
    seeds: tuple[int, ...]
    history: list[dict[str, Any]]  # the rows of log.jsonl
    best_epoch: list[int]
    failed: dict[int, int] = {}  # seed -> epoch in which its loss or params stopped being finite; its params are NaN

    @property
    def good(self) -> tuple[int, ...]:
        """The seeds that did not fail."""
        return tuple(seed for seed in self.seeds if seed not in self.failed)

    def of(self, seed: int) -> Params:
        """The params of one seed. Raises ValueError for a seed that was not trained, RunError for one that failed."""
        if seed not in self.seeds:
            raise ValueError(f"seed {seed} was not trained; this run has the seeds {list(self.seeds)}")
        if seed in self.failed:
            raise RunError(f"{failures(self.failed, seed)}; choose one of {list(self.good)}")
        return jax.tree.map(lambda a: a[self.seeds.index(seed)], self.params)


def _computed(tree: Any) -> Any:
    """Waits until the arrays are computed. Signal handlers run meanwhile; `jax.block_until_ready` would delay them."""
    ready = lambda leaf: not hasattr(leaf, "is_ready") or leaf.is_ready()
    while not all(map(ready, jax.tree.leaves(tree))):
        time.sleep(0.002)
    return jax.block_until_ready(tree)  # raises what went wrong


def train(
    algorithm: Algorithm,
    data: Batch | Stream,
    *,
    epochs: int,
    batch_size: int = 128,
    seeds: Sequence[int] = (0,),
    validation: Batch | Stream | None = None,
    transform: Callable[[Batch, Key], Batch] | None = None,
    monitor: str = "loss",
    better: Better | None = None,
    patience: int | None = None,
    folder: Folder | None = None,
    every_epochs: int = 10,
    every_minutes: float = 5.0,
    progress: bool = True,
    mesh: Mesh | None = None,
    start: "Start | None" = None,
    on_epoch: Callable[[dict[str, Any]], Any] | None = None,
    on_params: Callable[[int, Params], Any] | None = None,
    programs: Callable[..., Any] = programs,
) -> Trained:
    """Trains one run a seed, all seeds in one compiled program.

    A seed whose loss or params stop being finite fails, and `Trained.failed` names it. The others go on, and end
    with the bits that they have alone.

    Args:
        algorithm: the algorithm on its network.
        data: the training set, or a stream of its shards. With a stream `init` sees the first shard, and statistics
            (`Algorithm.before`) are measured on each shard before the sweep over it. All seeds get the same shards,
            and each seed has its own order within a shard. Each of several processes reads its own part of a shard.
        epochs: passes over the data.
        batch_size: examples in a step.
        seeds: one independent run each; a seed has the same result alone and among others.
        validation: held-out examples, measured after every epoch.
        transform: (batch, key) -> batch, fresh in every step: dynamic binarisation, crops.
        monitor: the metric that chooses the best epoch, on the validation set if there is one, else on the training
            set.
        better: the direction in which `monitor` is better, "higher" or "lower"; by default that of
            `evaluation.METRICS`.
        patience: stop a seed after so many epochs without a better `monitor`.
        folder: an opened `Folder` for the log and checkpoints; the run resumes from its last checkpoint. A start that
            takes long, such as one with pretraining, is saved as epoch 0, so that it is not repeated.
        every_epochs: a checkpoint is due after so many epochs, and always at the end.
        every_minutes: a checkpoint is also due after so many minutes.
        progress: show a bar (on a terminal only).
        start: params of another run to begin with, see `origins`; for one network, `networks.trained` is simpler.
        mesh: devices to spread seeds and batches over, see `devices.mesh`; by default one device.
        on_epoch: gets a copy of each new row of the log, after the row is written: see `logs.scalars`. Of several
            processes the first calls it. A resumed run gives the epochs after its last checkpoint. An error in it ends
            the run.
        on_params: gets the number of each epoch, and the params of all seeds after it. The next epoch overwrites these
            arrays. Of several processes the first calls it.
        programs: makes the compiled programs; `sharing` has one for programs that runs share.

    Returns a `Trained`.

    Raises:
        RunError: the loss or the params of every seed stopped being finite; `monitor` on the validation set was
            never finite; all checkpoints are damaged; or the folder has a run of other seeds, data or batches, or has
            done more epochs.
        Interrupted: SIGINT or SIGTERM came; the state is saved if there is a folder.
        ValueError: arguments that do not fit.
        TypeError: a `folder` that is no `Folder`, or a hook that is no function.
    """
    check_length(epochs, batch_size)
    if folder is not None and not getattr(folder, "held", False):
        raise TypeError(f"folder is {folder!r}; give an opened one: with Folder(path).opened(settings) as folder")
    for name, hook in (("on_epoch", on_epoch), ("on_params", on_params)):
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} is {hook!r}; give a function, or None")
    seeds = [int(s) if s == int(s) else s for s in seeds]
    check_arguments(seeds, patience, validation)
    if isinstance(data, Batch) and transform is None:
        check_examples(data, "the train part of the data")
    if isinstance(validation, Batch):
        check_examples(validation, "the validation part of the data")
        check_labels(algorithm, validation)
    check_data(algorithm, train=None if transform else data, validation=validation)
    if isinstance(validation, Stream) and not isinstance(data, Stream):
        raise ValueError("the validation set is a stream and the training set a Batch: give both as one kind")
    stream, examples = (data, len(data.source)) if isinstance(data, Stream) else (None, length(data))
    shards, given_size, batch_size = 1 if stream is None else stream.shards, batch_size, min(batch_size, examples)
    devices.check(mesh, len(seeds), batch_size)
    validated = validation is not None
    better = check_monitor(algorithm, data, monitor, better, validated)
    make, given = (None, None) if start is None else (start.make, devices.host(start.params))
    plan = Plan(
        batch_size=batch_size,
        transform=transform,
        monitor=monitor,
        better=better,
        patience=patience,
        mesh=mesh,
        validated=validated,
        make=make,
    )
    begin, advance, *sharded = programs(algorithm, plan)
    if folder is not None:
        folder.shards = shards
        facts = functools.partial(_facts, seeds, data, validation, given_size, transform)
        more = functools.partial(_more, algorithm, data, start)
        devices.run_in_first(
            lambda: (folder.check_epochs(epochs), folder.check_shards(), folder.describe(facts(), more))
        )
    held_out = validation if isinstance(validation, Stream) else devices.everywhere(validation, mesh)
    data = data if stream else devices.everywhere(data, mesh)
    numbers = np.stack([jax.random.key_data(jax.random.key(s)) for s in seeds])
    where = None if mesh is None else devices.shardings(mesh)[0]
    keys = jax.jit(jax.random.wrap_key_data, out_shardings=where)(numbers)
    progress, writes = progress and devices.first(), devices.first()

    done, history, state = 0, [], None
    if folder is not None:
        where = where or jnp.zeros(()).sharding
        like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where)
        if (found := folder.restore(jax.tree.map(like, jax.eval_shape(begin, seen(data), keys, given)))) is not None:
            done, state = found
            if progress:
                part = f" and {folder.partial['shard']} of {shards} shards of the next" if folder.partial else ""
                warn(f"going on after epoch {done} of {epochs}{part}")
        history, unread = devices.broadcast(folder.read_log)
        history = [row for row in history if row["epoch"] <= done]
        if unread and writes:
            lines = f"{unread} line{'s' * (unread > 1)}"
            warn(f"log.jsonl: {lines} could not be read and will be dropped; the rest stays")
        if writes:
            write_atomically(folder.path / "log.jsonl", "".join(map(sealed, history)).encode())

    if state is None:
        began = time.perf_counter()
        with interruptible("the start, with its pretraining if it has one") as signals:
            state = _computed(begin(next(loaded(stream, [(0, 0)], mesh)) if stream else data, keys, given))
        stop = devices.largest(signals[0] if signals else 0)
        if folder is not None and devices.largest(stop or time.perf_counter() - began >= LONG):
            folder.save(0, state)
        if stop:
            kept = f"saved in {folder.path}. Start the same command again to go on from there" if folder else None
            raise Interrupted(f"Stopped at the end of the start, before epoch 1; {kept or 'nothing is saved'}.", stop)

    def between_shards(e: int, state: State, place: dict[str, Any]) -> None:
        """Between two shards of epoch e: saves if that is due or a signal came, and stops for the signal."""
        nonlocal saved_at
        stop = devices.largest(signals[0] if signals else 0)
        due = devices.largest(time.monotonic() - saved_at >= 60 * every_minutes)
        if folder is not None and (due or stop):
            folder.save(e - 1, state, place)
            saved_at = time.monotonic()
        if stop:
            where = f"Stopped in epoch {e}, after {place['shard']} of {shards} shards; "
            kept = folder and f"saved in {folder.path}. Start the same command again to go on from there."
            raise Interrupted(where + (kept or "nothing is saved."), stop)

    if done < epochs:  # compile before the loop, so that no epoch's time includes it
        if progress and sys.stderr.isatty():
            print("compiling an epoch ...", end="\r", file=sys.stderr, flush=True)
        if stream is not None:
            place = folder.partial if folder is not None else {}
            advance = Sharded(sharded, stream, held_out, state, keys, (done, epochs), place, between_shards, mesh)
        else:
            advance = advance.lower(state, keys, np.int32(0), data, held_out).compile()
    saved, saved_at = done, time.monotonic()
    ending = contextlib.closing(advance) if isinstance(advance, Sharded) else contextlib.nullcontext()
    with ending, interruptible("the epoch") as signals, progress_bar(epochs, done, progress) as bar:
        for e in range(done + 1, epochs + 1):
            running = devices.host(state.active)
            if not running.any():
                break
            began = time.perf_counter()
            if isinstance(advance, Sharded):
                state, rows = advance.epoch(e, state)
            else:
                state, rows = advance(state, keys, np.int32(e), data, held_out)  # donates state
            gone = devices.host(state.failed)
            if writes and (gone == e).any() and not gone.all():
                now = {seed: e for seed, at in zip(seeds, gone, strict=True) if at == e}
                warn(f"{failures(now)}; the others go on")
            seconds = time.perf_counter() - began
            if stream is not None and folder is not None and e == done + 1:
                seconds += folder.partial.get("seconds", 0.0)  # of the shards before the stop
            row = {
                "epoch": e,
                "seconds": round(seconds, 4),
                "examples_per_second": round(examples * int(running.sum()) / seconds, 1),
                **jax.tree.map(
                    lambda m: [None if at else _number(v) for v, at in zip(np.asarray(m), gone, strict=True)], rows
                ),
            }
            if gone.all():
                if folder is not None:
                    if writes:  # a row without numbers tells the failure
                        append(folder.path / "log.jsonl", sealed(row))
                    folder.forget_start()
                raise RunError(_not_finite(e, seeds, saved, folder))
            history.append(row)
            bar(row)
            if writes and folder is not None:
                append(folder.path / "log.jsonl", sealed(row))
            if on_params is not None:
                after = state.params if mesh is None else devices.host(state.params)
                if writes:
                    on_params(e, after)
            if on_epoch is not None and writes:
                on_epoch(copy.deepcopy(row))
            last = e == epochs or not devices.host(state.active).any()
            stop = devices.largest(signals[0] if signals else 0)  # the signal, if any process received one
            if folder is None:
                if stop:
                    raise Interrupted(f"Stopped after epoch {e} of {epochs}; nothing is saved.", stop)
                continue
            due = e - saved >= every_epochs or devices.largest(time.monotonic() - saved_at >= 60 * every_minutes)
            if last or due or stop:
                folder.save(e, state)
                saved, saved_at = e, time.monotonic()
            if stop and not last:
                raise Interrupted(
                    f"Stopped after epoch {e} of {epochs}; saved in {folder.path}. Start the same command again "
                    "to go on from there.",
                    stop,
                )
    if validated:
        _check_chosen(state, seeds, monitor, writes)
    chosen = state.best if validated else state.params
    if mesh is not None:  # one process alone uses the params from here on
        chosen = jax.tree.map(jnp.asarray, devices.host(chosen))
    return trained(state, chosen, seeds, history)


def _check_chosen(state: State, seeds: Sequence[int], monitor: str, tells: bool) -> None:
    """Names seeds without a best epoch, as their held-out `monitor` was never finite; RunError if all are such."""
    good = devices.host(state.failed) == 0
    none = good & ~np.isfinite(devices.host(state.best_value))
    if not none.any():
        return
    which = ", ".join(str(seed) for seed, bad in zip(seeds, none, strict=True) if bad)
    told = f"the validation {monitor} of seed {which} was infinite or not a number after every epoch"
    if (none == good).all():
        raise RunError(
            f"{told}, so no epoch is the best: choose by another metric (--best; in Python monitor), or train without "
            "validation data"
        )
    if tells:
        warn(f"{told}, so no epoch is its best: its params are those of epoch 1")


def _facts(
    seeds: Sequence[int], data: Batch | Stream, validation: Batch | Stream | None, batch_size: int, transform: Any
) -> dict[str, Any]:
    """The facts in which a resumed run must agree with its folder: see `Folder.describe`."""
    of = lambda part: identity(part) if isinstance(part, Stream) else provenance.checksum(part)
    streamed = isinstance(data, Stream)
    return {
        "seeds": list(seeds),
        "shape": list(seen(data).x.shape[1:]),
        "examples": len(data.source) if isinstance(data, Stream) else len(data.x),
        "validated": validation is not None,
        "batch_size": batch_size,
        **({} if streamed else {"train_checksum": of(data)}),
        "given": {
            "stream": of(data) if streamed else None,
            "validation": None if validation is None else of(validation),
            "transform": transform is not None,
        },
    }


def _more(algorithm: Algorithm, data: Batch | Stream, start: "Start | None") -> dict[str, Any]:
    """The other facts that a run's folder keeps: whether it has a start of its own, and checksums of its functions."""
    x = seen(data).x
    facts: dict[str, Any] = {"started": start is not None}
    with contextlib.suppress(Exception):  # a user's algorithm may raise any error, and the run does not need these
        facts["functions"] = functions_of(algorithm, x.shape[1:], x.dtype)
    return facts


def read(folder: Folder) -> tuple[int, Trained]:
    """(epoch, the result) of a run's newest checkpoint, without its algorithm.

    Raises RunError for a folder that is no run's, or that has no checkpoint to read.
    """
    content = folder.recorded()
    epoch, state = folder.params()
    history = folder.log()
    seeds = content.get("seeds", range(len(state.active)))  # older runs do not record them
    validated = content.get("validated", any("validation" in row for row in history))
    chosen = jax.tree.map(jnp.asarray, state.best if validated else state.params)
    return epoch, trained(state, chosen, tuple(seeds), history)


def trained(state: State, chosen: Params, seeds: Sequence[int], history: list[dict[str, Any]]) -> Trained:
    """The result of a run: the chosen params of its last state, NaN for failed seeds."""
    failed = {seed: int(e) for seed, e in zip(seeds, devices.host(state.failed), strict=True) if e}
    if failed:
        gone = jnp.asarray([seed in failed for seed in seeds])
        mark = lambda a: jnp.where(gone.reshape(-1, *[1] * (a.ndim - 1)), jnp.nan, a)
        chosen = jax.tree.map(lambda a: mark(a) if jnp.issubdtype(a.dtype, jnp.floating) else a, chosen)
    return Trained(
        params=chosen,
        seeds=tuple(seeds),
        history=history,
        best_epoch=[int(b) for b in devices.host(state.best_epoch)],
        failed=failed,
    )


def failures(failed: Mapping[int, int], seed: int | None = None) -> str:
    """The failed seeds, or one of them, with their epochs: "seed 3 failed in epoch 5 (its loss ...)"."""
    named = failed if seed is None else {seed: failed[seed]}
    seeds = ", ".join(f"seed {one} failed in epoch {e}" for one, e in named.items())
    return f"{seeds} ({'its' if len(named) == 1 else 'their'} loss or parameters became infinite or not a number)"


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None  # JSON has no NaN; None marks a stopped seed


def _not_finite(e: int, seeds: Sequence[int], saved: int, folder: Folder | None) -> str:
    which = ", ".join(map(str, seeds))
    last = (
        "Nothing is saved, so the same folder takes other settings."
        if folder is not None and not folder.begun()
        else "Nothing is saved."
        if folder is None
        else f"The checkpoint of epoch {saved} in {folder.path / 'checkpoints'} is still good."
    )
    return (
        f"in epoch {e} the loss or the parameters of seed {which} became infinite or not a number. {last} "
        "Likely causes: a learning rate that is too high (try a tenth of it), gradients that explode (try "
        "--clip 1), data outside [0, 1] under a Bernoulli likelihood, large counts as they are (try --net-log-inputs), "
        "or a variance that shrinks to 0."
    )
