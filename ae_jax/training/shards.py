"""Epochs of a stream, a shard at a time, while a thread reads the next shard.

Each of several processes reads its own part of every shard. The main thread joins the parts on all devices, since all
processes must communicate in the same order.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..core import LABELLED, Algorithm, Batch, Key, Metrics, Params, of_labelled, shares
from ..data.stream import Stream, prefetched
from ..errors import RunError
from ..evaluation import averaged
from . import devices
from .provenance import checksum

SAMPLE = 32  # examples in the checksum of a stream


def identity(stream: Stream) -> dict[str, Any]:
    """The numbers by which a resumed run knows its stream: its shards, their order, and a checksum of some examples."""
    return {
        "shard_size": stream.shard_size,
        "seed": stream.seed,
        "binarise": stream.binarise,
        "sample_checksum": checksum(stream.sample(SAMPLE)),
    }


def loaded(stream: Stream, wanted: Iterable[tuple[int, int]], mesh: Mesh | None = None) -> Generator[Batch, None, None]:
    """The shards (e, s) of a stream that are wanted, in order, each whole on every device; a thread reads one ahead."""
    parts = 1 if mesh is None else jax.process_count()
    part = jax.process_index() if parts > 1 else 0

    def read(at: tuple[int, int]) -> Any:
        return stream.read(*at, part, parts)

    def place(index: np.ndarray, raw: Batch) -> Any:
        return stream.ready(index, devices.assembled(raw, mesh))

    load = read if parts > 1 else lambda at: place(*read(at))
    with contextlib.closing(prefetched(load, wanted)) as feed:
        for _, found in feed:
            yield place(*found) if parts > 1 else found
            del found  # frees its memory before the shard after the next is loaded


class Sharded:
    """Epochs of a stream, a shard at a time. The counterpart for data in memory is `advance` of `compiled.programs`."""

    def __init__(
        self,
        programs: Sequence[Any],
        stream: Stream,
        held_out: Batch | Stream | None,
        state: Any,
        keys: Key,
        epochs: tuple[int, int],  # the number done, and the number of the whole run
        place: dict[str, Any],  # within the first epoch, from a checkpoint, as `between` got it; {} at its start
        between: Callable[[int, Any, dict[str, Any]], None],
        mesh: Mesh | None = None,
    ):
        """Calls `between(e, state, place)` between two shards of epoch e; it may save the state, and may raise."""
        learn, measure, self._judge = programs
        self._stream, self._held_out, self._keys, self._done = stream, held_out, keys, epochs[0]
        self._place, self._between, self._mesh = place, between, mesh
        where = None if mesh is None else NamedSharding(mesh, P())

        def compiled(program: Any, data: Batch | Stream | None) -> dict[int, Any]:
            """The program for each size that a shard of the data has."""
            if data is None:
                return {}
            sizes = {data.size(0), data.size(data.shards - 1)} if isinstance(data, Stream) else {len(data.x)}
            some = data.sample(1) if isinstance(data, Stream) else data
            like = lambda a, n: jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype, sharding=where)
            spec = lambda n: jax.tree.map(partial(like, n=n), some)
            return {n: program.lower(state, keys, np.uint32(0), spec(n)).compile() for n in sizes}

        self._learn, self._measure = compiled(learn, stream), compiled(measure, held_out)
        first = place.get("shard", 0)
        wanted = ((e, s) for e in range(*epochs) for s in range(first if e == epochs[0] else 0, stream.shards))
        self._feed = loaded(stream, wanted, mesh)

    def close(self) -> None:
        """Ends the thread."""
        self._feed.close()

    def epoch(self, e: int, state: Any) -> tuple[Any, dict[str, Metrics]]:
        """Runs epoch e, counted from 1, or the rest of it: (state, metrics by seed). Ends early if all seeds fail."""
        stream, place = self._stream, self._place if e == self._done + 1 else {}
        total = {k: np.asarray(m, np.float64) for k, m in place.get("sums", {}).items()}  # None: NaN
        began, alive = time.perf_counter() - place.get("seconds", 0.0), devices.host(state.failed) == 0
        finite = np.asarray(place.get("finite", alive), bool)  # in all shards so far
        for s in range(place.get("shard", 0), stream.shards):
            shard = next(self._feed)
            number = np.uint32((e - 1) * stream.shards + s)
            state, (metrics, so_far) = self._learn[len(shard.x)](state, self._keys, number, shard)
            total = _added(total, metrics, len(shard.x))
            del shard  # frees its memory before the shard after the next is loaded
            finite = finite & np.asarray(so_far)
            if not (finite & alive).any():
                break
            if s + 1 < stream.shards:
                sums = {k: m.tolist() for k, m in total.items()}
                seconds = time.perf_counter() - began
                here = {"shard": s + 1, "sums": sums, "seconds": seconds, "finite": finite.tolist()}
                self._between(e, state, here)
        rows = {"train": _mean(total, len(stream.source))}
        if self._held_out is not None:
            rows["validation"] = self._measured(state, self._held_out)
        return self._judge(state, self._keys, np.int32(e), rows, finite), rows

    def _measured(self, state: Any, held_out: Batch | Stream) -> Metrics:
        """The held-out metrics, each [seeds]."""
        total, first = {}, 0
        for shard in in_order(held_out, self._mesh) if isinstance(held_out, Stream) else [held_out]:
            metrics = self._measure[len(shard.x)](state, self._keys, np.uint32(first), shard)
            total, first = _added(total, metrics, len(shard.x)), first + len(shard.x)
        means = _mean(total, first)
        if LABELLED in means and (means[LABELLED] == 0).all():
            raise RunError(f"none of {first} validation examples has a label (-1 is none): hold out more, or none")
        return means


def in_order(stream: Stream, mesh: Mesh | None = None) -> Generator[Batch, None, None]:
    """The shards of a stream's first epoch."""
    return loaded(stream, ((0, s) for s in range(stream.shards)), mesh)


def _added(total: dict[str, Any], metrics: Metrics, n: int) -> dict[str, Any]:
    """Sums over examples: a mean times n, in float64, which gives the same float32 mean when it is divided by n."""
    metrics = shares({k: np.asarray(m, np.float64) for k, m in metrics.items()})
    return {k: total.get(k, 0.0) + n * m for k, m in metrics.items()}


def _mean(total: dict[str, Any], n: int) -> Any:
    return {k: np.asarray(m, np.float32) for k, m in of_labelled({k: m / n for k, m in total.items()}).items()}


def average_stream(algorithm: Algorithm, stream: Stream, params: Params, key: Key) -> Metrics:
    """`core.average` of an algorithm's own metrics over a stream that is not shuffled, a shard at a time.

    Example i has the key that it has in memory. This process alone reads the stream.
    """
    total: dict[str, Any] = {}
    for s, shard in enumerate(in_order(stream)):
        found = averaged(algorithm, params, shard, key, np.int32(s * stream.shard_size))
        total = _added(total, found, len(shard.x))
    return _mean(total, len(stream.source))
