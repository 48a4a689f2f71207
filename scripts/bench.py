"""Speed, paired with PyTorch in one run: `python scripts/bench.py`, `python scripts/bench.py --cases vae import`.

Every side of a case is a process of its own (its own thread pool, allocator and peak memory), kept alive: the
sides take turns, A B C A B C ..., so that a machine whose speed drifts drifts for all alike. A turn repeats the
same work until it has taken long enough, and ends when the device has finished. What is reported is the median
over turns and its spread, the ratio turn by turn, the time of the first call (building, tracing, compiling, a run),
once more with what it compiled on the disk, and the peak memory of the process. Where torch or pythae is not installed
its sides are left out.

PyTorch's loops are the best plain ones we know: data on the device, one shuffled index and no DataLoader, fused
Adam (but where a side says as it comes), no synchronisation within an epoch, and TF32 on a GPU, JAX's default there;
then the same with the loss compiled by torch.compile.

The ceilings are the rates of one large float32 product, by JAX or by PyTorch, whichever is faster, and of one large
copy, measured in turn with the rest; in two cases beside them the product of a batch with a layer. `of ceiling` counts
the floating point operations of the matrix products (of forward and backward, no others): 2 a multiplication with
addition; three products a layer, but two in the first, whose input needs no gradient; nothing for activations,
losses, Adam or the shuffle; for an exact penalty also the Jacobian's numbers, each scaled by a slope and squared, and
as many again twice for the gradient. Beside it stand the operations and bytes of one compiled step as XLA's cost
analysis counts them, and what share of the copy's rate those bytes are (`of_copy`; more than 1 where they never leave
the caches); it counts a loop once, and is left out where a side is one. `of_copy_by_hand` is the same of bytes
counted by hand, the least that goes between one pass and the next (`moved`). `--recount` counts by hand anew, by the
rates that are in the file, and measures nothing. JAX's large product has no options of ours for the compiler, and so
is the faster of two libraries' here; all other sides of JAX have them.

`compile_seconds` is what XLA took to compile all programs of a side's first call (its start, keys and numbers too), and
`trace_seconds` what JAX took to write them down; `from_cache` is the same with what was compiled before on the disk.
A loop is a step's compiled program called from Python, batch after batch. The contractive cases are one step each, a
compiled program and no more.

Another case is another entry of CASES.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import bench_sides as sides  # noqa: E402
from bench_sides import BATCH, Side, Skip, environment  # noqa: E402

from ae_jax.data.disk import write_json  # noqa: E402


class Goal(NamedTuple):
    """A ratio of two rates that was asked for before it was measured."""

    least: float
    ours: str = "ae_jax"  # a side
    to: str = ""  # how the names of others begin; if none, all that are not ours; or CEILING_GOAL


CEILING_GOAL = "one large product"


class Cost(NamedTuple):
    """How many times the time or the memory of one seed several may take, as was asked before it was measured."""

    most: float
    ours: str  # a side, of `seeds` seeds
    seeds: int
    of: str  # "time" or "memory"
    one: str  # the side of one seed


class Case(NamedTuple):
    """Sides that do the same work. Those named ae_jax are ours, and `ratio` is the first of them by the best other."""

    title: str
    sides: dict[str, Side]
    flops: int = 0  # of the matrix products, a unit, by hand
    bytes: int = 0  # that are moved, a unit, by hand
    unit: str = "examples"
    goals: tuple[Goal, ...] = ()
    costs: tuple[Cost, ...] = ()
    layer: bool = False  # whether the product of a batch with a layer is timed beside it


class Timing(NamedTuple):
    """A command that is timed from its start: each way gives seconds, or raises `Skip`."""

    title: str
    ways: dict[str, Callable[[], float]]
    most: dict[str, float] = {}  # seconds that were asked for before, of some ways


# ----------------------------------------------------------------------------------------------- the list

CEILING = {
    "a large product, JAX": Side(sides.jax_product),
    "a large product, PyTorch": Side(sides.torch_product, "torch"),
}
LAYER = {
    "a product of 128 x 784 x 500, JAX": Side(sides.jax_layer),
    "a product of 128 x 784 x 500, PyTorch": Side(sides.torch_layer, "torch"),
}
COPY = {"a large copy, JAX": Side(sides.jax_copy)}

# Multiplications of the layers, an example.
VAE_PRODUCTS = 784 * 500 + 500 * 40 + 20 * 500 + 500 * 784
VAE_FLOPS = 2 * (3 * VAE_PRODUCTS - 784 * 500)
DEEP_PRODUCTS = 2 * (784 * 1000 + 1000 * 500 + 500 * 250 + 250 * 30)
CONV_FIRST = 14 * 14 * 32 * 9
CONV_PRODUCTS = 2 * CONV_FIRST + 2 * (7 * 7 * 64 * 9 * 32) + 2 * (7 * 7 * 64 * 32)
CONV64_FIRST = 32 * 32 * 32 * 9 * 3
CONV64_PRODUCTS = 2 * (CONV64_FIRST + 16 * 16 * 64 * 9 * 32 + 8 * 8 * 128 * 9 * 64 + 8 * 8 * 128 * 64)

PENALISED = 784 * 500, 500 * 250  # of the encoders that are penalised
# An exact penalty: the value and the gradient of the code, the tangents of a second layer, and the Jacobian's numbers.
JACOBIAN_PRODUCTS = 2 * PENALISED[0] + 3 * 2 * 784 * 500
DEEP_JACOBIAN_PRODUCTS = 2 * PENALISED[0] + 3 * PENALISED[1] + 3 * (784 * PENALISED[1] + 784 * 500 + 2 * 784 * 250)
# Of a short code: the code and its gradient, and as many pullbacks as it has numbers, with theirs.
THIN_JACOBIAN_PRODUCTS = 2 * 784 * 512 + 3 * 512 * 10 + 3 * 10 * (784 * 512 + 512 * 10)
# An estimate: the code, a vector back through it, and of both the gradients; of the last backwards nothing to x.
HUTCHINSON_PRODUCTS = 5 * PENALISED[0]
DEEP_HUTCHINSON_PRODUCTS = 5 * PENALISED[0] + 6 * PENALISED[1]
SPARSE_PRODUCTS = 784 * 200 * (1 + 2 + 3 + 1)  # rho; the code and back; their gradients; the second look


def affine(*widths: int) -> int:
    """Weights and biases of affine layers, one after another."""
    return sum((a + 1) * b for a, b in pairwise(widths))


def moved(params: int, outputs: int, inputs: int = 784, batch: int = BATCH, passes: int = 10, touches: int = 5) -> int:
    """Bytes an example, float32, by hand: the least that goes between one pass over numbers and the next.

    A batch is read where it lies and written. Params are read by the forward and the backward pass; params, gradient
    and Adam's two moments are each read and written: ten passes, shared by a batch. An output of a layer is written,
    read by the next, and once more backwards; its gradient is written and read: five touches.
    """
    return round(4 * (passes * params / batch + 2 * inputs + touches * outputs))


VAE_SIZE = affine(784, 500, 40) + affine(20, 500, 784), 500 + 40 + 20 + 500 + 784  # params; outputs an example
DEEP_SIZE = affine(784, 1000, 500, 250, 30, 250, 500, 1000, 784), 2 * (1000 + 500 + 250) + 30 + 784
CONV_SIZE = (
    affine(9, 32) + affine(9 * 32, 64) + affine(3136, 32, 3136) + affine(9 * 64, 32) + affine(9 * 32, 1),
    2 * (14 * 14 * 32 + 3136) + 32 + 784,
)
CONV64_SIZE = (
    affine(9 * 3, 32)
    + affine(9 * 32, 64)
    + affine(9 * 64, 128)
    + affine(8192, 64, 8192)
    + affine(9 * 128, 64)
    + affine(9 * 64, 32)
    + affine(9 * 32, 3),
    2 * (32 * 32 * 32 + 16 * 16 * 64 + 8192) + 64 + 64 * 64 * 3,
)
IWAE_SIZE = affine(784, 200, 100) + affine(50, 200, 784), 200 + 100 + 50 * (50 + 200 + 784)
PENALTY = {"passes": 3}  # without an optimizer params are read twice, and their gradient is written
# A Jacobian's numbers of one layer need not be written; of two those of either are.
DEEP_JACOBIAN_OUTPUTS = 500 + 250 + 784 * (500 + 250)
THIN_JACOBIAN_OUTPUTS = 512 + 10 + 10 * (512 + 784)

FLAT, IMAGE = (784,), (1, 28, 28)
IN_A_LOOP = "ae_jax, a loop over compiled steps"
ONE_SEED = "ae_jax, 1 seed"
COMPILED = "PyTorch, torch.compile"
JACREV = "torch.func jacrev, 8 at a time"
JAX_JACREV = "jax.vmap of jax.jacrev"
AS_EXAMPLES = "PyTorch eager, as its examples are written"


def rivals(
    shape: tuple[int, ...], make: Callable[..., Any], channels_last: bool = False, **more: Any
) -> dict[str, Side]:
    """PyTorch's loop as it is, and with its compiler."""
    ways = {"PyTorch eager": Side(sides.torch_training(shape, make, **more), "torch")}
    last = lambda: make(True)
    if channels_last:
        ways["PyTorch eager, channels last"] = Side(sides.torch_training(shape, last, **more), "torch")
    ways[COMPILED] = Side(sides.torch_training(shape, make, compiled="default", **more), "torch")
    if channels_last:
        compiled = sides.torch_training(shape, last, compiled="default", **more)
        ways[f"{COMPILED}, channels last"] = Side(compiled, "torch")
    graphs = sides.torch_training(shape, make, compiled="reduce-overhead", **more)
    return ways | {"PyTorch, torch.compile, CUDA graphs": Side(graphs, "torch", gpu=True)}


def ours(shape: tuple[int, ...], make: Callable[[], Any], **more: Any) -> dict[str, Side]:
    """An epoch as one program, and as a loop over compiled steps."""
    loop = Side(sides.jax_loop(shape, make, **more))
    return {"ae_jax": Side(sides.jax_training(shape, make, **more)), IN_A_LOOP: loop}


def jacobians(widths: tuple[int, ...]) -> dict[str, Side]:
    """`torch.func`'s ways to the exact penalty, and those by rows with torch.compile."""
    return {
        f"torch.func {way}{f', {chunk} at a time' * bool(chunk)}{', torch.compile' * compiled}": Side(
            sides.torch_contraction(way, chunk, widths, compiled), "torch"
        )
        for way, compiled in (("jacrev", False), ("jacfwd", False), ("jacrev", True))
        for chunk in (None, 8)
    }


def penalties(*names: str, hidden: tuple[int, ...] = (), size: int = 500) -> dict[str, Side]:
    """Ours."""
    return {f"ae_jax, {name}": Side(sides.our_contraction(name, hidden, size)) for name in names}


def estimates(hidden: tuple[int, ...], size: int) -> dict[str, Side]:
    """Hutchinson's, ours and PyTorch's."""
    widths = (784, *hidden, size)
    return {
        **penalties("hutchinson", hidden=hidden, size=size),
        "PyTorch eager": Side(sides.torch_hutchinson(widths), "torch"),
        "torch.func": Side(sides.torch_hutchinson_func(widths), "torch"),
        "torch.func, torch.compile": Side(sides.torch_hutchinson_func(widths, compiled=True), "torch"),
    }


CASES: dict[str, Case | Timing] = {
    "vae": Case(
        "MLP VAE 784-500-20, batch 128, training",
        {
            **ours(FLAT, sides.our_vae),
            **rivals(FLAT, sides.torch_vae),
            "PyTorch eager, Adam as it comes": Side(sides.torch_training(FLAT, sides.torch_vae, fused=False), "torch"),
            AS_EXAMPLES: Side(sides.torch_training(FLAT, sides.torch_vae, fused=False, loader=True), "torch"),
            "pythae's trainer": Side(sides.pythae_vae, "pythae"),
            "ae_jax, plain steps for Adam's": Side(sides.jax_training(FLAT, sides.our_plain_vae)),
            "ae_jax, its eleven products alone": Side(sides.our_products),
        },
        flops=VAE_FLOPS,
        bytes=moved(*VAE_SIZE),
        goals=(Goal(2.0, to=AS_EXAMPLES), Goal(2.5), Goal(0.85, to=CEILING_GOAL)),
        layer=True,
    ),
    "vae-1024": Case(
        "the same, batch 1024",
        {
            **ours(FLAT, sides.our_vae, batch=1024),
            **rivals(FLAT, sides.torch_vae, batch=1024),
        },
        flops=VAE_FLOPS,
        bytes=moved(*VAE_SIZE, batch=1024),
    ),
    "seeds": Case(
        "many seeds of the VAE at once, examples of all of them",
        {
            **{f"ae_jax, {n} seeds": Side(sides.jax_training(FLAT, sides.our_vae, seeds=n)) for n in (64, 8)},
            ONE_SEED: Side(sides.jax_training(FLAT, sides.our_vae, seeds=1)),
            "ae_jax, 8 seeds over the cores": Side(sides.jax_training(FLAT, sides.our_vae, seeds=8, cores=True)),
            f"{IN_A_LOOP}, one seed after another": Side(sides.jax_loop(FLAT, sides.our_vae)),
            **{f"{name}, one seed after another": side for name, side in rivals(FLAT, sides.torch_vae).items()},
        },
        flops=VAE_FLOPS,
        bytes=moved(*VAE_SIZE),
        costs=tuple(
            Cost(most=most, ours=side, seeds=8, of=of, one=ONE_SEED)
            for side in ("ae_jax, 8 seeds", "ae_jax, 8 seeds over the cores")
            for most, of in ((8.2, "time"), (8.0, "memory"))
        ),
    ),
    "deep": Case(
        "deep AE 784-1000-500-250-30, batch 128, training",
        {**ours(FLAT, sides.our_deep), **rivals(FLAT, sides.torch_deep)},
        flops=2 * (3 * DEEP_PRODUCTS - 784 * 1000),
        bytes=moved(*DEEP_SIZE),
    ),
    "conv": Case(
        "convolutional AE 28x28, 32-64 maps, batch 128, training",
        {
            **ours((28, 28, 1), sides.our_conv),
            **rivals(IMAGE, sides.torch_conv, channels_last=True),
        },
        flops=2 * (3 * CONV_PRODUCTS - CONV_FIRST),
        bytes=moved(*CONV_SIZE),
        goals=(Goal(1.5),),
    ),
    "conv64": Case(
        "convolutional AE 64x64x3, 32-64-128 maps, batch 128, training",
        {
            **ours((64, 64, 3), sides.our_conv64, examples=10 * BATCH),
            **rivals((3, 64, 64), sides.torch_conv64, channels_last=True, examples=10 * BATCH),
        },
        flops=2 * (3 * CONV64_PRODUCTS - CONV64_FIRST),
        bytes=moved(*CONV64_SIZE, inputs=64 * 64 * 3),
        goals=(Goal(1.5),),
    ),
    "contractive": Case(
        "contractive penalty 784-500, exact, any encoder, batch 128, value and gradient",
        {**penalties("exact"), **jacobians((784, 500))},
        flops=2 * JACOBIAN_PRODUCTS,
        bytes=moved(affine(784, 500), 500, **PENALTY),
        goals=(Goal(2.5, "ae_jax, exact"), Goal(8.0, "ae_jax, exact")),
    ),
    "contractive-deep": Case(
        "contractive penalty 784-500-250, exact, any encoder, batch 128, value and gradient",
        {**penalties("exact", hidden=(500,), size=250), **jacobians((784, 500, 250))},
        flops=2 * DEEP_JACOBIAN_PRODUCTS,
        bytes=moved(affine(784, 500, 250), DEEP_JACOBIAN_OUTPUTS, **PENALTY),
    ),
    "contractive-thin": Case(
        "contractive penalty 784-512-10, exact, any encoder, batch 128, value and gradient",
        {
            **penalties("exact", hidden=(512,), size=10),
            JAX_JACREV: Side(sides.jax_jacrev((512,), 10)),
            **jacobians((784, 512, 10)),
        },
        flops=2 * THIN_JACOBIAN_PRODUCTS,
        bytes=moved(affine(784, 512, 10), THIN_JACOBIAN_OUTPUTS, **PENALTY),
        goals=(Goal(1.0, "ae_jax, exact", JAX_JACREV),),
    ),
    "contractive-hutchinson": Case(
        "contractive penalty 784-500, estimated, batch 128, value and gradient",
        estimates((), 500),
        flops=2 * HUTCHINSON_PRODUCTS,
        bytes=moved(affine(784, 500), 500 + 784, **PENALTY),
    ),
    "contractive-hutchinson-deep": Case(
        "contractive penalty 784-500-250, estimated, batch 128, value and gradient",
        estimates((500,), 250),
        flops=2 * DEEP_HUTCHINSON_PRODUCTS,
        bytes=moved(affine(784, 500, 250), 2 * 500 + 250 + 784, **PENALTY),
    ),
    "contractive-closed": Case(
        "contractive penalty 784-500, closed form of one layer, batch 128, value and gradient",
        {
            **penalties("closed"),
            "PyTorch eager": Side(sides.torch_closed(), "torch"),
            COMPILED: Side(sides.torch_closed(compiled=True), "torch"),
            **{name: side for name, side in jacobians((784, 500)).items() if name.startswith(JACREV)},
        },
        flops=2 * 2 * PENALISED[0],
        bytes=moved(affine(784, 500), 500, **PENALTY),
        goals=(Goal(200.0, "ae_jax, closed", "torch.func"),),
    ),
    "sparse": Case(
        "sparse AE 784-200, KL over the whole set, batch 128, training",
        {
            **ours(FLAT, sides.our_sparse),
            "PyTorch eager": Side(sides.torch_sparse(), "torch"),
            COMPILED: Side(sides.torch_sparse(compiled=True), "torch"),
        },
        flops=2 * SPARSE_PRODUCTS,
        bytes=moved(affine(784, 200, 784), 200 + 784) + 4 * (784 + 200),  # and rho
        goals=(Goal(2.0),),
    ),
    "rbm": Case(
        "RBM 784-500 by CD-1, batch 128, training",
        {
            **ours(FLAT, sides.our_rbm),
            "PyTorch eager": Side(sides.torch_rbm(), "torch"),
            COMPILED: Side(sides.torch_rbm(compiled=True), "torch"),
        },
        flops=2 * 5 * 784 * 500,
        bytes=moved(affine(784, 500) + 784, 500 + 784 + 500, passes=7, touches=3),  # plain steps, nothing backwards
        goals=(Goal(2.0),),
        layer=True,
    ),
    "iwae": Case(
        "IWAE 784-200-50, 50 weights, batch 128, training",
        {
            **ours(FLAT, sides.our_iwae, examples=10 * BATCH),
            **rivals(FLAT, sides.torch_iwae, examples=10 * BATCH),
        },
        flops=2 * (2 * 784 * 200 + 3 * 200 * 100 + 50 * 3 * (50 * 200 + 200 * 784)),
        bytes=moved(*IWAE_SIZE),
        goals=(Goal(2.0),),
    ),
    "likelihood": Case(
        "log-likelihood by 500 importance samples, VAE 784-500-20",
        {
            "ae_jax": Side(sides.our_likelihood),
            IN_A_LOOP: Side(sides.jax_likelihood_loop),
            "PyTorch eager": Side(sides.torch_likelihood(), "torch"),
            COMPILED: Side(sides.torch_likelihood(compiled=True), "torch"),
        },
        flops=2 * (784 * 500 + 500 * 40 + 500 * (20 * 500 + 500 * 784)),
        bytes=moved(0, 500 + 40 + 500 * (20 + 500 + 784), touches=2),
    ),
    "evaluation": Case(
        "an evaluation pass, VAE 784-500-20",
        {
            "ae_jax": Side(sides.our_evaluation),
            IN_A_LOOP: Side(sides.jax_evaluation_loop),
            "PyTorch eager": Side(sides.torch_evaluation(), "torch"),
            COMPILED: Side(sides.torch_evaluation(compiled=True), "torch"),
        },
        flops=2 * (784 * 500 + 500 * 40 + 2 * (20 * 500 + 500 * 784)),  # a draw decoded, and the mean
        bytes=moved(VAE_SIZE[0], 500 + 40 + 2 * (20 + 500 + 784), batch=500, passes=1, touches=2),
    ),
    "import": Timing(
        "a fresh Python: import",
        {
            "ae_jax": sides.seconds_of("import ae_jax"),  # which loads nothing yet
            "ae_jax, all that is its own": sides.seconds_of("import ae_jax; ae_jax.vae"),
            "jax, flax, optax": sides.seconds_of("import jax, flax.linen, optax"),
        },
        {"ae_jax": 1.0, "ae_jax, all that is its own": 1.0},
    ),
    "first-epoch": Timing(
        "from the command to the first epoch, VAE on digits",
        {
            "nothing compiled before": sides.first_epoch(("vae", "--data", "digits"), "cold"),
            "compiled before": sides.first_epoch(("vae", "--data", "digits"), "warm"),
        },
        {"nothing compiled before": 15.0, "compiled before": 8.0},
    ),
}

# --------------------------------------------------------------------------------------------- measuring


def all_sides(case: Case) -> dict[str, Side]:
    """The case's own, and the machine's limits."""
    return case.sides | (CEILING if case.flops else {}) | (LAYER if case.layer else {}) | COPY


def worker(case: str, name: str, device: str) -> None:
    """A side in its own process: answers each line `n` with the seconds that n calls take, as JSON lines."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print is no answer

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")

    chosen = CASES[case]
    assert isinstance(chosen, Case)
    side = all_sides(chosen)[name]
    spent = compiler_times() if side.needs == "jax" else {}
    start = time.perf_counter()
    try:
        work = side.build(device)
        loss = work.call()
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        raise
    answer(first=time.perf_counter() - start, units=work.units, spent=spent)
    for line in sys.stdin:
        if line == "cost\n":
            answer(cost=work.cost())
            continue
        start, busy = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            loss = work.call()
        taken, busy = time.perf_counter() - start, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
        answer(seconds=taken, cores=busy / taken, loss=loss, peak_mb=round(peak), device_peak_mb=device_peak(device))


def compiler_times() -> dict[str, float]:
    """Seconds that JAX will have spent in this process on tracing and on compiling, kept up to date by JAX itself."""
    import jax

    spent = {"trace_seconds": 0.0, "compile_seconds": 0.0}
    stages = {"jaxpr_trace": "trace", "jaxpr_to_mlir_module": "trace", "backend_compile": "compile"}
    known = {f"/jax/core/compile/{stage}_duration": f"{name}_seconds" for stage, name in stages.items()}

    def note(event: str, duration_secs: float, **about: Any) -> None:
        if event in known:
            spent[known[event]] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(note)
    return spent


def device_peak(device: str) -> int | None:
    """The most memory this process has held on its GPU, MB; None on a CPU."""
    if device == "cpu":
        return None
    if "torch" in sys.modules:
        return round(sys.modules["torch"].cuda.max_memory_allocated() / 2**20)
    stats = sys.modules["jax"].devices()[0].memory_stats() or {}
    return round(stats["peak_bytes_in_use"] / 2**20) if "peak_bytes_in_use" in stats else None


class Process:
    """A worker seen from the run that times it."""

    def __init__(self, case: str, name: str, device: str, cache: Path | None = None):
        command = [sys.executable, __file__, "--worker", case, name, device]
        pipe = subprocess.PIPE
        # stderr is ours: what a library warns of, and a failing side's traceback, shall be seen
        env = environment() | (cached_in(cache) if cache else {})
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        self.ready = self.receive()

    def receive(self) -> dict[str, Any]:
        """The next answer. Raises Skip when the process cannot."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        fields = json.loads(line) if line else {"error": f"its process ended with {self.process.wait()}"}
        if "error" in fields:
            raise Skip(fields["error"])
        return fields

    def turn(self, calls: int | str) -> dict[str, Any]:
        """So many calls, or "cost": what XLA counts."""
        assert self.process.stdin
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return self.receive()

    def end(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def first_call(process: Process) -> dict[str, float]:
    """What a side's first call took: all of it, and of that JAX's tracing and compiling."""
    times = {"first_call_seconds": process.ready["first"]} | process.ready["spent"]
    return {name: round(seconds, 2) for name, seconds in times.items()}


def spread(values: list[float], digits: int) -> dict[str, Any]:
    """Median, quartiles and the values themselves, to so many significant digits."""

    def short(value: float) -> float:
        return float(f"{value:.{digits}g}")

    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    middle = statistics.median(values)
    return {"median": short(middle), "low": short(low), "high": short(high), "values": [short(v) for v in values]}


def cached_in(folder: Path) -> dict[str, str]:
    """Variables for a process that keeps compiled programs in a folder, however small."""
    folder.mkdir(exist_ok=True)
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def ours_in(case: Case) -> list[str]:
    """The sides that are ours."""
    return [name for name in case.sides if name.startswith("ae_jax")]


def paired(name: str, case: Case, device: str, repeats: int, seconds: float) -> dict[str, Any]:
    """All sides of a case, in turns; then the first of ours once more, to see what the disk's cache saves."""
    with tempfile.TemporaryDirectory() as cache:
        result = in_turns(name, case, device, repeats, seconds, cache)
        if (first := next((row for row in result["rows"] if row["side"] == result["ours"]), None)) is not None:
            again = Process(name, result["ours"], device, Path(cache) / "0")
            again.end()
            first["from_cache"] = first_call(again)
    return result


def in_turns(name: str, case: Case, device: str, repeats: int, seconds: float, cache: str) -> dict[str, Any]:
    """All sides of a case, A B C A B C ...; ours keep their compiled programs in folders, one each."""
    processes: dict[str, Process] = {}
    skipped: dict[str, str] = {}
    rates: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    last: dict[str, dict[str, Any]] = {}
    try:
        for side, (_, needs, gpu) in all_sides(case).items():
            if gpu and device != "gpu":
                continue
            if importlib.util.find_spec(needs) is None:
                skipped[side] = f"{needs} is not installed"
                continue
            try:
                kept = Path(cache) / str(ours_in(case).index(side)) if side in ours_in(case) else None
                process = Process(name, side, device, kept)
                warm = process.turn(2)
            except Skip as why:
                skipped[side] = str(why)
                continue
            processes[side], last[side] = process, warm
            calls[side] = max(1, round(2 * seconds / warm["seconds"]))
            rates[side] = []
        early = {side: answer["loss"] for side, answer in last.items()}  # all have made three calls
        for _ in range(repeats):
            for side, process in processes.items():
                time.sleep(0.2)  # the threads of the one before, if they spin, have gone to sleep
                last[side] = process.turn(calls[side])
                rates[side].append(calls[side] * process.ready["units"] / last[side]["seconds"])
        costs = {side: processes[side].turn("cost")["cost"] for side in ours_in(case) if side in processes}
    finally:
        for process in processes.values():
            process.end()

    rows = []
    for side, values in rates.items():
        unit = "FLOP" if side in CEILING | LAYER else "B" if side in COPY else case.unit
        row = {"side": side, "unit": unit, **spread(values, 4)}
        row |= first_call(processes[side])
        row |= {"cores_busy": round(last[side]["cores"], 2)}  # of the processor, on average over the last turn
        row |= {key: last[side][key] for key in ("peak_mb", "device_peak_mb")}
        row |= {"counted_by_xla": costs[side]} if costs.get(side) else {}
        rows.append(row | ({} if unit in ("FLOP", "B") else {"loss_after_3": float(f"{early[side]:.5g}")}))
    known = {"title": case.title, "ours": ours_in(case)[0], "rows": rows, "skipped": skipped}
    peaks = {side: answer["device_peak_mb"] or answer["peak_mb"] for side, answer in last.items()}
    asked = {"goals": reached(case, rates), "costs": seeds_cost(case, rates, peaks)}
    return known | compared(case, rates) | bytes_share(case, costs, rates) | asked


def compared(case: Case, rates: dict[str, list[float]]) -> dict[str, Any]:
    """The ratio to the best rival, turn by turn, and the share of the ceiling."""
    ours = ours_in(case)[0]
    rivals = [name for name in case.sides if name not in ours_in(case)]
    result: dict[str, Any] = {}
    if ours not in rates:
        return result
    if known := [rival for rival in rivals if rival in rates]:
        best = max(known, key=lambda rival: statistics.median(rates[rival]))
        result["ratio"] = {"to": best, **spread([a / b for a, b in zip(rates[ours], rates[best], strict=True)], 3)}
    if products := [rates[name] for name in CEILING if name in rates]:
        top = max(statistics.median(values) for values in products)
        result |= {"flops": case.flops, "bytes": case.bytes}
        result["of_ceiling"] = {
            name: round(statistics.median(rates[name]) * case.flops / top, 3) for name in case.sides if name in rates
        }
    return result


def reached(case: Case, rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """What was asked of this case and what came out, turn by turn, for the goals whose sides ran."""
    found = []
    for least, ours, to in case.goals:
        if to == CEILING_GOAL:
            others = {name: [v / case.flops for v in rates[name]] for name in CEILING if name in rates}
        else:
            others = {n: rates[n] for n in case.sides if n in rates and n.startswith(to) and n not in ours_in(case)}
        if ours in rates and others:
            best = max(others, key=lambda name: statistics.median(others[name]))
            ratio = spread([a / b for a, b in zip(rates[ours], others[best], strict=True)], 3)
            known = to if to in (best, CEILING_GOAL) else f"the best rival, {best}" if not to else f"the best, {best}"
            found.append({"ours": ours, "to": known, "rival": best, "least": least, **ratio})
    return found


def seeds_cost(case: Case, rates: dict[str, list[float]], peaks: dict[str, float]) -> list[dict[str, Any]]:
    """What was asked of seeds' cost and what came out: time turn by turn, the process's peak memory."""
    found = []
    for cost in case.costs:
        if cost.ours in rates and cost.one in rates:
            if cost.of == "time":
                times = [cost.seeds * b / a for a, b in zip(rates[cost.ours], rates[cost.one], strict=True)]
            else:
                times = [peaks[cost.ours] / peaks[cost.one]]
            found.append({"ours": cost.ours, "of": cost.of, "to": cost.one, "most": cost.most, **spread(times, 3)})
    return found


def bytes_share(
    case: Case, costs: dict[str, dict[str, float]], rates: dict[str, list[float]]
) -> dict[str, dict[str, float]]:
    """How the bytes that XLA counts, and those by hand, a second, compare with those of a large copy."""
    (copy,) = COPY
    if copy not in rates:
        return {}
    counted = {side: cost["bytes accessed"] for side, cost in costs.items() if "bytes accessed" in cost}
    by_hand = {side: case.bytes for side in case.sides if side in rates}
    share = lambda side, b: round(statistics.median(rates[side]) * b / statistics.median(rates[copy]), 3)
    shares = lambda known: {side: share(side, b) for side, b in known.items()}
    return {"of_copy": shares(counted), "of_copy_by_hand": shares(by_hand)}


def recounted(case: Case, known: dict[str, Any]) -> dict[str, Any]:
    """A case's record with what is counted by hand counted anew: nothing else is changed."""
    rates = {row["side"]: row["values"] for row in known["rows"]}
    shares = bytes_share(case, {}, rates)
    return known | {"bytes": case.bytes, "of_copy_by_hand": shares.get("of_copy_by_hand", {})}


def timed(case: Timing, repeats: int) -> dict[str, Any]:
    """Every way of a timing, in turns, after one that does not count."""
    skipped: dict[str, str] = {}
    values: dict[str, list[float]] = {}
    for turn in range(repeats + 1):
        for name, measure in case.ways.items():
            if name in skipped:
                continue
            try:
                seconds = measure()
            except Skip as why:
                skipped[name] = str(why)
                continue
            if turn:
                values.setdefault(name, []).append(seconds)
    rows = [{"side": name, "unit": "seconds", **spread(v, 3)} for name, v in values.items() if name not in skipped]
    most = {name: seconds for name, seconds in case.most.items() if name in values}
    return {"title": case.title, "rows": rows, "skipped": skipped, "most": most}


# --------------------------------------------------------------------------------------------- reporting


def describe_machine() -> tuple[str, dict[str, Any]]:
    """("cpu" or "gpu", name, versions and flags), asked of JAX in a process that ends."""
    code = (
        "import ae_jax, jax, json, os; d = jax.devices()[0]; "
        "print(json.dumps([jax.default_backend(), d.device_kind, os.environ.get('XLA_FLAGS')]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    backend, kind, flags = json.loads(out.stdout.decode().splitlines()[-1])
    if backend == "cpu":
        kind = cpu_name()
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "pythae")
    versions = {name: metadata.version(name) for name in packages if importlib.util.find_spec(name)}
    versions |= {"XLA_FLAGS": flags} if flags else {}
    cpus = len(os.sched_getaffinity(0))
    machine = {"device": kind, "platform": backend, "cpus": cpus, "python": platform.python_version()}
    return ("cpu" if backend == "cpu" else "gpu"), machine | {"versions": versions}


def cpu_name() -> str:
    """As the kernel calls it, without the marks."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return re.sub(r"\((R|TM)\)| (Processor|CPU)\b", "", name)


def commit() -> str:
    """The commit that is checked out, marked where files differ from it; "unknown" outside of git."""
    if shutil.which("git") is None:
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", "ae_jax", "scripts"], capture_output=True, text=True)
    return (head.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


QUIET = 0.5  # a load average above which times are not to be trusted


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def slug(machine: dict[str, Any]) -> str:
    """The machine's name, for a file."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['device']} {machine['cpus']} cpus".lower()).strip("-")


def positive(text: str) -> int:
    """An argument: a whole number that is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def known(out: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """What the file has already, no case where it is not there; ends with a message where it is no such file."""
    if not out.exists():
        return {"cases": {}}
    try:
        record = json.loads(out.read_text())
        return record | {"cases": dict(record["cases"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(
            f"--out {out} is there and is no record of this script ({error!r}): remove it or name another file"
        )


def short(value: float) -> str:
    """A number for people: 12,300 or 0.512."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(result: dict[str, Any]) -> str:
    """One case for the terminal."""
    lines = [result["title"]]
    for row in result["rows"]:
        if row["unit"] in ("FLOP", "B"):
            rate = f"{row['median'] / 1e9:.3g} G{row['unit']}/s"
        else:
            rate = f"{short(row['median'])} {row['unit']}" + ("" if row["unit"] == "seconds" else "/s")
        parts = [f"  {row['side']:32} {rate:>24}  (quartiles {row['low']:.4g} to {row['high']:.4g})"]
        if row["side"] in result.get("of_ceiling", {}):
            parts.append(f"{100 * result['of_ceiling'][row['side']]:.0f} % of ceiling")
        if "peak_mb" in row:
            parts.append(f"first call {row['first_call_seconds']} s, {row['peak_mb']} MB")
        if "compile_seconds" in row:
            parts.append(f"compiling {row['compile_seconds']} s")
        if "from_cache" in row:
            parts.append(f"{row['from_cache']['compile_seconds']} s from the disk's cache")
        lines.append(", ".join(parts))
    if ratio := result.get("ratio"):
        lines.append(
            f"  {ratio['median']:.3g} times {ratio['to']} (quartiles {ratio['low']:.3g} to {ratio['high']:.3g})"
        )
    return "\n".join(lines + [f"  {side}: left out, {why}" for side, why in result["skipped"].items()])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--repeats", type=positive, default=7, help="turns of every side (7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a turn takes at least, about (1.5)")
    parser.add_argument("--out", type=Path, help="the JSON file; results/bench-<device>.json by default")
    parser.add_argument(
        "--recount", action="store_true", help="measure nothing; count by hand anew what is in the file"
    )
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(*args.worker)
    if args.seconds <= 0:
        parser.error("--seconds must be more than 0")

    device, machine = describe_machine()
    out: Path = args.out or ROOT / "results" / f"bench-{slug(machine)}.json"
    record = known(out, parser)
    cases = record["cases"]
    if args.recount:
        if not cases:
            parser.error(f"there is nothing in {out}: measure first, without --recount")
        for name, case in CASES.items():
            if name in cases and isinstance(case, Case):
                cases[name] = recounted(case, cases[name])
        write_json(out, record)
        return print(f"counted anew in {out}")
    print(f"{machine['device']}, {machine['cpus']} CPUs; {machine['versions']}")
    if busy := (at_start := load()) > QUIET:
        print(f"warning: load average {at_start:.2f}: the machine is busy, and the numbers below are not to be used")
    made = {"commit": commit(), "load": round(at_start, 2), "busy": busy, "repeats": args.repeats, **machine}
    for name in args.cases:
        case = CASES[name]
        if isinstance(case, Case):
            result = paired(name, case, device, args.repeats, args.seconds)
        else:
            result = timed(case, args.repeats)
        print(table(result), flush=True)
        cases[name] = result | made
        ordered = {n: cases[n] for n in [*CASES, *cases] if n in cases}  # cases not run this time stay
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {**machine, "cases": ordered})
    print(f"written to {out}")


if __name__ == "__main__":
    main()
