"""Many devices, of one process or of many: a mesh with the axes "seeds" and "data".

Seeds are spread over the groups of devices along the first axis; groups do not communicate. Within a group every batch
is split over the second axis, and gradients are summed. Every device has the whole training set, or the whole shard of
a stream, and gathers its batches from it. Batches and keys are those of one device, so the numbers are equal up to the
order of sums.

Many processes run the same program on the same mesh. Only the first process prints and writes; all write checkpoints.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from math import gcd
from typing import Any, Literal, NoReturn, get_args

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..checks import check_choice
from ..data.disk import strict
from ..errors import RunError, first_line, warn

Parallel = Literal["none", "data", "seeds", "both"]

# ------------------------------------------------------------------------------------------- processes

MINUTES = 5  # the time that processes wait for one another at the start


def initialize(coordinator: str | None, processes: int | None = None, process: int | None = None) -> None:
    """Joins this process to the others that train with it. Call it before any computation of JAX.

    Args:
        coordinator: HOST:PORT where process 0 listens; "auto" to take all three arguments from Slurm, Kubernetes,
            Open MPI or the TPU; None for one process by itself.
        processes: the number of processes.
        process: the number of this process, from 0.

    A line on stderr gives the address where the process waits. If the others have not come after `MINUTES`, JAX ends
    the process with a trace of its own, without an exception.

    Raises:
        ValueError: arguments that do not fit, or "auto" without such a cluster.
        RuntimeError: JAX has computed already.
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise ValueError("--processes and --process need --coordinator HOST:PORT, where process 0 listens")
        return
    # A notifier of JAX would catch SIGTERM, and the run would not receive it.
    jax.config.update("jax_enable_preemption_service", False)
    # The others wait at the end, while the first one evaluates and writes the report.
    patience: dict[str, Any] = {"initialization_timeout": 60 * MINUTES, "shutdown_timeout_seconds": 24 * 3600}
    if coordinator == "auto":
        if processes is not None or process is not None:
            raise ValueError("--coordinator auto finds --processes and --process by itself: leave them out")
        warn(f"waiting for the others that the cluster's environment names (about {MINUTES} minutes at most)")
        try:
            return jax.distributed.initialize(**patience)
        except ValueError as error:
            raise ValueError(
                f"--coordinator auto finds no Slurm, Kubernetes, Open MPI or TPU here ({error}): give --coordinator "
                "HOST:PORT --processes N --process I"
            ) from None
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(
            f"--coordinator is {coordinator!r}; it must be HOST:PORT, such as 10.0.0.1:5000, with a port from 1 to "
            "65535, or auto"
        )
    if processes is None or process is None or not 0 <= process < processes:
        raise ValueError(
            f"--processes is {processes} and --process {process}; with --coordinator HOST:PORT give how many there "
            "are, and which one this is, counted from 0"
        )
    warn(f"process {process} of {processes}: waiting at {coordinator} for the others (at most {MINUTES} minutes)")
    # All three are given: a cluster's environment is not read.
    jax.distributed.initialize(coordinator, processes, process, cluster_detection_method="deactivate", **patience)


def together() -> bool:
    """Whether this process trains with others."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def exit_process(status: int, at_once: bool = False) -> NoReturn:
    """Ends this process after an error, without waiting for the other processes, which may wait for this one.

    With `at_once` a single process does not wait for its own computations either.
    """
    if at_once or together():
        sys.stdout.flush()
        sys.stderr.flush()
        if together() and first():
            time.sleep(1)  # the others end as soon as the first process is gone: let them write their messages
        os._exit(status)
    sys.exit(status)


def is_connection_error(error: Exception) -> bool:
    """Whether an error, of any type, comes from the connection between processes."""
    line = str(error).strip().split("\n")[0].lower()
    return together() and any(word in line for word in ("gloo", "collective", "coordination"))


def connection_message(error: Exception) -> str:
    """The message for an error of the connection between processes."""
    return (
        f"process {jax.process_index()} of {jax.process_count()} lost another one, or the way to it "
        f"({first_line(error)}). Start all of them again with the same command: they go on from the last checkpoint."
    )


def first() -> bool:
    """Whether this is process 0, which alone prints and writes; True for a single process."""
    return jax.process_index() == 0


def largest(number: int) -> int:
    """The largest of the processes' numbers, in every process."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.asarray(number, np.int32))))


def gather_texts(text: str) -> list[str]:
    """The text of each process, in the order of processes, in every process."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    encoded = text.encode(errors="replace")
    size = largest(len(encoded)) or 1  # rows of an array are equally long
    rows = multihost_utils.process_allgather(np.frombuffer(encoded.ljust(size, b"\0"), np.uint8))
    return [bytes(row).rstrip(b"\0").decode() for row in np.asarray(rows, np.uint8)]


def run_in_first(fn: Callable[[], Any]) -> None:
    """Runs `fn` in the first process while the others wait. An error ends all: the first raises it, the others raise
    RunError with its message.
    """
    if jax.process_count() == 1:
        fn()
        return
    from jax.experimental import multihost_utils

    error, text = None, b""
    if first():
        try:
            fn()
        except Exception as raised:
            error, text = raised, (str(raised).encode() or type(raised).__name__.encode())[:4096]
    received = multihost_utils.broadcast_one_to_all(np.frombuffer(text.ljust(4096, b"\0"), np.uint8))
    if error is not None:
        raise error
    if message := bytes(np.asarray(received, np.uint8)).rstrip(b"\0").decode(errors="replace"):
        raise RunError(message)


def broadcast(fn: Callable[[], Any]) -> Any:
    """Calls `fn` in the first process alone, and gives its value to every process, in JSON's types.

    Use it for decisions that depend on a shared folder, where one process may see a file a moment before another. For
    errors see `run_in_first`.
    """
    found: list[Any] = []
    run_in_first(lambda: found.append(fn()))
    return json.loads(gather_texts(json.dumps(strict(found[0])) if found else "")[0])


def flat(settings: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Settings within settings by their paths: {"a": {"b": 1}} is {"a.b": 1}."""
    parts = [flat(v, f"{path}{k}.") if isinstance(v, dict) else {path + k: v} for k, v in settings.items()]
    return {name: value for part in parts for name, value in part.items()}


def check_agreement(settings: dict[str, Any]) -> None:
    """Raises ValueError in every process unless all have the settings of the first one; the message names the processes
    that differ, and their settings. Values are compared as JSON writes them.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    mine = json.dumps(settings, default=str).encode()
    size = largest(len(mine))
    sent = multihost_utils.broadcast_one_to_all(np.frombuffer(mine.ljust(size), np.uint8))
    theirs, own = flat(json.loads(bytes(np.asarray(sent, np.uint8)))), flat(json.loads(mine))
    names = sorted(name for name in theirs.keys() | own.keys() if theirs.get(name) != own.get(name))
    short = lambda value: repr(value)[:200]
    differ = "".join(f"\n  {name}: {short(own.get(name))}, not {short(theirs.get(name))}" for name in names)
    different: dict[str, list[str]] = {}  # processes with the same differences share a message
    for process, lines in enumerate(gather_texts(differ)):
        if lines:
            different.setdefault(lines, []).append(str(process))
    if different:
        whose = lambda who: f"process {who[0]} has" if len(who) == 1 else f"processes {', '.join(who)} have"
        wrong = [f"{whose(who)} other settings or data than process 0:{lines}" for lines, who in different.items()]
        raise ValueError("\n".join([*wrong, "Give all the same command."]))


# ------------------------------------------------------------------------------------------------ mesh


def mesh(seeds: int = 1, data: int = 1) -> Mesh:
    """A mesh of `seeds` groups of `data` devices: seeds are spread over groups, batches over a group's devices.

    Raises ValueError if there are fewer devices, and if several processes do not use all their devices.
    """
    there = jax.devices()
    if min(seeds, data) < 1 or seeds * data > len(there):
        raise ValueError(f"a mesh of {seeds} x {data} devices was asked for; there are {len(there)}{_more(there)}")
    if seeds * data < len(there) and jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes have {len(there)} devices, and {seeds * data} are asked for: use all"
        )
    chosen, axes, types = there[: seeds * data], ("seeds", "data"), (AxisType.Auto, AxisType.Auto)
    try:
        return jax.make_mesh((seeds, data), axes, types, devices=chosen)  # in an order that suits a TPU's wiring
    except (NotImplementedError, ValueError):  # a shape that does not fit the wiring, or many slices: any order will do
        return Mesh(np.asarray(chosen).reshape(seeds, data), axes, axis_types=types)


def _more(there: list[Any]) -> str:
    return "" if there[0].platform != "cpu" else " (JAX_NUM_CPU_DEVICES=8 makes eight of a machine's cores)"


def of_cores(devices: int | None) -> None:
    """Sets the number of JAX's CPU devices, at most one a core, unless JAX has started or its settings give the number.

    CPU devices share the threads of all cores, but do not wait for one another. If a step is too small to keep all
    cores busy, seeds spread over devices take less time than one after another, and have the same bits.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    fixed = getattr(jax.config, "jax_num_cpu_devices", -1) > 0 or "xla_force_host_platform_device_count" in flags
    if fixed or devices is None or not 1 <= devices <= (os.cpu_count() or 1):
        return
    with contextlib.suppress(RuntimeError):  # JAX has started; `layout` says what there is
        jax.config.update("jax_num_cpu_devices", devices)


def layout(parallel: Parallel, seeds: int, devices: int | None = None) -> Mesh | None:
    """The mesh for a value of --parallel; None for "none", which is one device.

    "data" splits every batch over all devices, "seeds" spreads the seeds over them. "both" spreads the seeds over
    groups of devices and splits batches within a group; the number of groups is gcd(devices, seeds).

    Args:
        parallel: the value of --parallel.
        seeds: the number of seeds.
        devices: the number of devices to use; all by default.

    Raises:
        ValueError: another value, more devices than there are, or processes with different arguments.
    """
    check_choice("parallel", parallel, get_args(Parallel))
    check_agreement({"parallel": parallel, "seeds": seeds, "devices": devices})  # before one alone raises
    if parallel == "none":
        if devices not in (None, 1):
            raise ValueError(f"--devices is {devices}: add --parallel data, seeds or both, how they share the work")
        if jax.process_count() > 1:
            raise ValueError(f"{jax.process_count()} processes train together: add --parallel data, seeds or both")
        return None
    n = jax.device_count() if devices is None else devices
    if n < 1:
        raise ValueError(f"--devices is {n}; it must be at least 1")
    if n > jax.device_count():
        raise ValueError(f"--devices is {n}; there are {jax.device_count()}{_more(jax.devices())}")
    groups = {"data": 1, "seeds": n, "both": gcd(n, seeds)}[parallel]
    return mesh(groups, n // groups)


def check(mesh: Mesh | None, seeds: int, batch_size: int) -> None:
    """Raises ValueError where seeds or batches cannot be shared evenly."""
    if mesh is None:
        return
    groups, split = mesh.shape["seeds"], mesh.shape["data"]
    if seeds % groups:
        raise ValueError(
            f"{seeds} seed{'s' * (seeds > 1)} cannot be spread evenly over {groups} devices: train a multiple of "
            f"{groups}, take fewer devices (--devices {gcd(seeds, groups)}), or let each seed have several "
            "(--parallel both)"
        )
    if batch_size % split:
        raise ValueError(
            f"a batch of {batch_size} examples cannot be split evenly over {split} devices: make --batch-size a "
            f"multiple of {split}, or take fewer devices (--devices)"
        )


# ------------------------------------------------------------------------------------------ over a mesh


def batches(mesh: Mesh | None) -> Any:
    """How a group's batch is split over its devices: the argument `sharding` of `core.epoch`."""
    return None if mesh is None else P("data")  # not of the mesh: inside `spread` there is no axis "seeds"


def spread(fn: Callable[..., Any], mesh: Mesh, *of_seeds: bool) -> Callable[..., Any]:
    """`fn`, computed by each group of devices on its own seeds.

    `of_seeds` has a bool for each argument: True for a leading axis of seeds, False for an argument that all groups
    share. The results of `fn` have a leading axis of seeds.
    """
    specs = tuple(P("seeds") if axis else P() for axis in of_seeds)
    return jax.shard_map(
        fn, mesh=mesh, in_specs=specs, out_specs=P("seeds"), axis_names={"seeds"}, check_vma=False
    )  # "data" is left to the compiler


def shardings(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """(for arrays with a leading axis of seeds, for arrays that are the same on all devices)."""
    return NamedSharding(mesh, P("seeds")), NamedSharding(mesh, P())


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
    """Puts host arrays, equal in all processes, on every device of the mesh; arrays on several devices stay there."""
    if mesh is None:
        return jax.tree.map(jax.numpy.asarray, tree)
    whole = NamedSharding(mesh, P())

    def put(a: Any) -> jax.Array:
        if isinstance(a, jax.Array) and len(a.sharding.device_set) > 1:
            return a
        a = np.asarray(a)
        return jax.make_array_from_callback(a.shape, whole, lambda index: a[index])

    return jax.tree.map(put, tree)


def assembled(part: Any, mesh: Mesh | None) -> Any:
    """Joins the rows [n_i, ...] that each process i has read, in that order: [sum n_i, ...], on every device.

    Leaves are NumPy arrays; processes may have different numbers of rows.
    """
    if mesh is None or jax.process_count() == 1:
        return everywhere(part, mesh)
    from jax.experimental import multihost_utils

    flat = Mesh(np.asarray(jax.devices()), ("rows",), axis_types=(AxisType.Auto,))
    of_processes = np.argsort([device.process_index for device in flat.devices], kind="stable")

    def gather(a: np.ndarray) -> jax.Array:
        counts = np.ravel(multihost_utils.process_allgather(np.asarray(len(a), np.int32)))
        size = -(-int(counts.max()) // jax.local_device_count())  # rows of a device, the same everywhere
        padded = np.concatenate([a, np.zeros((size * jax.local_device_count() - len(a), *a.shape[1:]), a.dtype)])
        parts = jax.make_array_from_process_local_data(NamedSharding(flat, P("rows")), padded)
        rows = (of_processes[:, None] * size + np.arange(size)).reshape(len(counts), -1)  # the rows of each process
        index = np.concatenate([of_process[:n] for of_process, n in zip(rows, counts, strict=True)])
        return _take(mesh)(parts, index)

    return jax.tree.map(gather, part)


@lru_cache
def _take(mesh: Mesh) -> Callable[[jax.Array, np.ndarray], jax.Array]:
    whole = NamedSharding(mesh, P())
    return jax.jit(lambda rows, index: jax.lax.with_sharding_constraint(rows, whole)[index], out_shardings=whole)


def host(tree: Any) -> Any:
    """The whole arrays as NumPy arrays, in every process. All processes must call it."""

    def get(a: Any) -> np.ndarray:
        if not isinstance(a, jax.Array) or a.is_fully_addressable or a.is_fully_replicated:
            return np.asarray(a)
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(a, tiled=True))

    return jax.tree.map(get, tree)


def described(mesh: Mesh | None) -> dict[str, int]:
    """The numbers of devices and processes that share the work, for a record."""
    shape = {"seeds": 1, "data": 1} if mesh is None else dict(mesh.shape)
    return {**shape, "processes": jax.process_count()}
