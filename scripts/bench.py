"""Speed, paired with PyTorch in one run: `python scripts/bench.py`, `python scripts/bench.py --cases vae import`.

A case is a row of CASES: sides that do the same work. Each side is a process of its own, with its own thread pool,
allocator and peak memory. The sides take turns, A B C A B C ..., so that changes in the machine's speed affect all
sides alike. The record has for each side the median rate over turns and its quartiles, the peak memory, and the seconds
of the first call (building, tracing, compiling, one run); for the first side of ours, these also with compiled programs
on the disk. It has the ratio to the best rival, turn by turn. Sides whose package (torch, pythae) is not installed are
left out.

`of_ceiling` is a side's rate of operations divided by that of one large float32 product, by JAX or PyTorch, whichever
is faster. Only operations of matrix products count, forwards and backwards: 2 for a multiplication with addition; three
products for a layer, but two for the first layer, whose input needs no gradient; for an exact penalty also the numbers
of the Jacobian. `of_copy` is the rate of the bytes that XLA's cost analysis counts, divided by the rate of one large
copy. It is above 1 if the bytes stay in caches. It is left out for loops, whose body XLA counts once.

The sides are in bench_jax.py and bench_torch.py, their data in bench_data.py.
"""

import argparse
import importlib
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
from bench_data import BATCH  # noqa: E402

from ae_jax.data.disk import write_json  # noqa: E402


class Side(NamedTuple):
    """One way of doing a case's work, in a process of its own."""

    where: str  # the module of the function
    make: str  # the name of the function (device, **options) -> Work
    options: dict[str, Any]
    needs: str = "jax"  # without this package the side is left out
    gpu: bool = False  # whether the side is left out on a CPU


class Goal(NamedTuple):
    """A ratio of two rates, set before measuring."""

    least: float
    ours: str = "ae_jax"  # a side
    to: str = ""  # the start of the other sides' names; "": all sides that are not ours; or CEILING_GOAL


CEILING_GOAL = "one large product"


class Case(NamedTuple):
    """Sides that do the same work. Sides named ae_jax are ours; `ratio` is the first of ours over the best other."""

    title: str
    sides: dict[str, Side]
    flops: int = 0  # operations of the matrix products for one unit of work
    goals: tuple[Goal, ...] = ()
    layer: bool = False  # whether the product of a batch with a layer is timed, too


class Timing(NamedTuple):
    """A command that is timed from its start: each way returns seconds, or raises `Skip`."""

    title: str
    ways: dict[str, Callable[[], float]]
    most: dict[str, float] = {}  # for some ways, the most seconds, set before measuring


class Skip(Exception):
    """The reason why a side or a way is left out."""


# ---------------------------------------------------------------------------------------------- the cases


def jax_side(make: str, **options: Any) -> Side:
    """A side of bench_jax.py."""
    return Side(where="bench_jax", make=make, options=options)


def torch_side(make: str, **options: Any) -> Side:
    """A side of bench_torch.py."""
    return Side(where="bench_torch", make=make, options=options, needs="torch")


CEILING = {
    "a large product, JAX": Side(where="bench_data", make="jax_product", options={}),
    "a large product, PyTorch": torch_side("product"),
}
LAYER = {
    "a product of 128 x 784 x 500, JAX": jax_side("layer"),
    "a product of 128 x 784 x 500, PyTorch": torch_side("layer"),
}
COPY = {"a large copy, JAX": jax_side("copy")}

IN_A_LOOP = "ae_jax, a loop over compiled steps"
ONE_SEED = "ae_jax, 1 seed"
COMPILED = "PyTorch, torch.compile"
JACREV = "torch.func jacrev, 8 at a time"
JAX_JACREV = "jax.vmap of jax.jacrev"
AS_EXAMPLES = "PyTorch eager, as its examples are written"


def epochs(model: str, **more: Any) -> dict[str, Side]:
    """An epoch of ae_jax as one program, and as a loop over compiled steps."""
    return {"ae_jax": jax_side("training", model=model, **more), IN_A_LOOP: jax_side("loop", model=model, **more)}


def rivals(model: str, last: bool = False, **more: Any) -> dict[str, Side]:
    """PyTorch's loop in eager mode, with its compiler, and with CUDA graphs; with `last`, also with channels last."""
    side = lambda **options: torch_side("training", model=model, **options, **more)
    ways = {
        "PyTorch eager": side(),
        **({"PyTorch eager, channels last": side(last=True)} if last else {}),
        COMPILED: side(compiled="default"),
        **({f"{COMPILED}, channels last": side(compiled="default", last=True)} if last else {}),
    }
    return ways | {"PyTorch, torch.compile, CUDA graphs": side(compiled="reduce-overhead")._replace(gpu=True)}


def both(make: str, **options: Any) -> dict[str, Side]:
    """A side of PyTorch in eager mode, and with its compiler."""
    return {"PyTorch eager": torch_side(make, **options), COMPILED: torch_side(make, compiled=True, **options)}


def jacobians(*widths: int) -> dict[str, Side]:
    """The ways of `torch.func` to the exact penalty; the ways by rows also run with torch.compile."""
    return {
        f"torch.func {way}{f', {chunk} at a time' * bool(chunk)}{', torch.compile' * compiled}": torch_side(
            "contraction", way=way, chunk=chunk, widths=widths, compiled=compiled
        )
        for way, compiled in (("jacrev", False), ("jacfwd", False), ("jacrev", True))
        for chunk in (None, 8)
    }


def penalty(name: str, *hidden: int, size: int = 500) -> dict[str, Side]:
    """The contractive penalty of ae_jax."""
    return {f"ae_jax, {name}": jax_side("contraction", penalty=name, hidden=hidden, size=size)}


def estimates(*widths: int) -> dict[str, Side]:
    """Hutchinson's estimate of the penalty, by ae_jax and by PyTorch."""
    func = {"torch.func": torch_side("hutchinson_func", widths=widths)}
    func["torch.func, torch.compile"] = torch_side("hutchinson_func", widths=widths, compiled=True)
    eager = {"PyTorch eager": torch_side("hutchinson", widths=widths)}
    return penalty("hutchinson", *widths[1:-1], size=widths[-1]) | eager | func


def dense(*widths: int) -> int:
    """The number of multiplications in a chain of affine layers."""
    return sum(a * b for a, b in pairwise(widths))


def trained(products: int, first: int) -> int:
    """Operations of training, forwards and backwards, for `products` multiplications, `first` in the first layer."""
    return 2 * (3 * products - first)


def strided(size: int, *maps: int, code: int) -> int:
    """Operations of training a convolutional autoencoder of strided 3x3 layers."""
    levels = [(size // 2 ** (i + 1)) ** 2 * 9 * a * b for i, (a, b) in enumerate(pairwise(maps))]
    flat = (size // 2 ** len(levels)) ** 2 * maps[-1]
    return trained(2 * (sum(levels) + flat * code), levels[0])


VAE_FLOPS = trained(dense(784, 500, 40) + dense(20, 500, 784), 784 * 500)
PENALISED = 784 * 500, 500 * 250  # multiplications of the penalised encoders' layers
PENALTY = "contractive penalty {}, batch 128, value and gradient"
FEW: dict[str, Any] = {"examples": 10 * BATCH}


def imported(code: str) -> Callable[[], float]:
    """The seconds that a new Python process takes for a statement, with the start of the interpreter."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment(), stdin=subprocess.DEVNULL)
        return time.perf_counter() - start

    return measure


def first_epoch(cold: bool) -> Callable[[], float]:
    """The seconds from the command to the first row of its log; if `cold`, with an empty compilation cache."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            env, log = environment(), Path(folder) / "work" / "log.jsonl"
            if cold:
                env |= {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache", "XDG_CACHE_HOME": f"{folder}/home"}
            command = [sys.executable, "-m", "ae_jax", "train", "vae", "--data", "digits", "--workdir", str(log.parent)]
            start = time.perf_counter()
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            try:
                while not (log.exists() and log.stat().st_size):
                    if process.poll() is not None:
                        reason = (process.stderr.read() if process.stderr else "").strip()[-300:]
                        raise Skip(f"the command ended with {process.returncode} before an epoch: {reason}")
                    time.sleep(0.01)
                return time.perf_counter() - start
            finally:
                process.kill()
                process.communicate()

    return measure


CASES: dict[str, Case | Timing] = {
    "vae": Case(
        "MLP VAE 784-500-20, batch 128, training",
        {
            **epochs("vae"),
            **rivals("vae"),
            "PyTorch eager, Adam as it comes": torch_side("training", model="vae", fused=False),
            AS_EXAMPLES: torch_side("training", model="vae", fused=False, loader=True),
            "pythae's trainer": torch_side("pythae_vae")._replace(needs="pythae"),
            "ae_jax, plain steps for Adam's": jax_side("training", model="vae", plain=True),
            "ae_jax, its eleven products alone": jax_side("products"),
        },
        flops=VAE_FLOPS,
        goals=(Goal(2.0, to=AS_EXAMPLES), Goal(2.5), Goal(0.85, to=CEILING_GOAL)),
        layer=True,
    ),
    "vae-1024": Case(
        "the same, batch 1024", {**epochs("vae", batch=1024), **rivals("vae", batch=1024)}, flops=VAE_FLOPS
    ),
    "seeds": Case(
        "many seeds of the VAE at once, examples of all of them",
        {
            **{f"ae_jax, {n} seeds": jax_side("training", model="vae", seeds=n) for n in (64, 8)},
            ONE_SEED: jax_side("training", model="vae", seeds=1),
            "ae_jax, 8 seeds over the cores": jax_side("training", model="vae", seeds=8, cores=True),
            f"{IN_A_LOOP}, one seed after another": jax_side("loop", model="vae"),
            **{f"{name}, one seed after another": side for name, side in rivals("vae").items()},
        },
        flops=VAE_FLOPS,
        goals=tuple(  # at most 8.2 times the time of one seed
            Goal(8 / 8.2, side, ONE_SEED) for side in ("ae_jax, 8 seeds", "ae_jax, 8 seeds over the cores")
        ),
    ),
    "deep": Case(
        "deep AE 784-1000-500-250-30, batch 128, training",
        {**epochs("deep"), **rivals("deep")},
        flops=trained(2 * dense(784, 1000, 500, 250, 30), 784 * 1000),
    ),
    "conv": Case(
        "convolutional AE 28x28, 32-64 maps, batch 128, training",
        {**epochs("conv"), **rivals("conv", last=True)},
        flops=strided(28, 1, 32, 64, code=32),
        goals=(Goal(1.5),),
    ),
    "conv64": Case(
        "convolutional AE 64x64x3, 32-64-128 maps, batch 128, training",
        {**epochs("conv64", **FEW), **rivals("conv64", last=True, **FEW)},
        flops=strided(64, 3, 32, 64, 128, code=64),
        goals=(Goal(1.5),),
    ),
    "contractive": Case(
        PENALTY.format("784-500, exact, any encoder"),
        {**penalty("exact"), **jacobians(784, 500)},
        flops=2 * (2 * PENALISED[0] + 3 * 2 * PENALISED[0]),  # the code and its gradient; the Jacobian's numbers
        goals=(Goal(2.5, "ae_jax, exact"), Goal(8.0, "ae_jax, exact")),
    ),
    "contractive-deep": Case(
        PENALTY.format("784-500-250, exact, any encoder"),
        {**penalty("exact", 500, size=250), **jacobians(784, 500, 250)},
        flops=2 * (2 * PENALISED[0] + 3 * PENALISED[1] + 3 * (784 * PENALISED[1] + 784 * 500 + 2 * 784 * 250)),
    ),
    "contractive-thin": Case(
        PENALTY.format("784-512-10, exact, any encoder"),
        {
            **penalty("exact", 512, size=10),
            JAX_JACREV: jax_side("contraction", penalty="jacrev", hidden=(512,), size=10),
            **jacobians(784, 512, 10),
        },
        # the code with its gradient, and a pullback with its gradient for each number of the code
        flops=2 * (2 * 784 * 512 + 3 * 512 * 10 + 3 * 10 * dense(784, 512, 10)),
        goals=(Goal(1.0, "ae_jax, exact", JAX_JACREV),),
    ),
    # An estimate: the code, a vector pulled back through it, and the gradients of both, without the gradient to x.
    "contractive-hutchinson": Case(
        PENALTY.format("784-500, estimated"), estimates(784, 500), flops=2 * 5 * PENALISED[0]
    ),
    "contractive-hutchinson-deep": Case(
        PENALTY.format("784-500-250, estimated"),
        estimates(784, 500, 250),
        flops=2 * (5 * PENALISED[0] + 6 * PENALISED[1]),
    ),
    "contractive-closed": Case(
        PENALTY.format("784-500, closed form of one layer"),
        {
            **penalty("closed"),
            **both("closed"),
            **{name: side for name, side in jacobians(784, 500).items() if name.startswith(JACREV)},
        },
        flops=2 * 2 * PENALISED[0],
        goals=(Goal(200.0, "ae_jax, closed", "torch.func"),),
    ),
    "sparse": Case(
        "sparse AE 784-200, KL over the whole set, batch 128, training",
        {**epochs("sparse"), **both("sparse")},
        flops=2 * 784 * 200 * (1 + 2 + 3 + 1),  # rho; code and reconstruction; their gradients; code again
        goals=(Goal(2.0),),
    ),
    "rbm": Case(
        "RBM 784-500 by CD-1, batch 128, training",
        {**epochs("rbm"), **both("rbm")},
        flops=2 * 5 * 784 * 500,
        goals=(Goal(2.0),),
        layer=True,
    ),
    "iwae": Case(
        "IWAE 784-200-50, 50 weights, batch 128, training",
        {**epochs("iwae", **FEW), **rivals("iwae", **FEW)},
        flops=trained(dense(784, 200, 100) + 50 * dense(50, 200, 784), 784 * 200),
        goals=(Goal(2.0),),
    ),
    **{
        name: Case(
            f"{title}, MLP 784-500-20, batch 128, training",
            {**epochs(name), **rivals(name)},
            flops=VAE_FLOPS + more,
            goals=(Goal(1.0),),
        )
        for name, title, more in (
            # only matrix products count, and the pairs of a batch are none
            ("beta-tc", "beta-TC-VAE, stratified", 0),
            # the critic: forwards and back to the codes for the VAE, then forwards and backwards for its own loss
            ("factor", "FactorVAE, critic 256-256", 2 * (2 + 3) * dense(20, 256, 256, 1)),
            ("dip", "DIP-VAE-I", 2 * 3 * 20 * 20),
            ("info", "InfoVAE, multiquadric MMD", 0),
            # the encoder of 500 pseudo-inputs for each batch, whose inputs need gradients
            ("vamp", "VampPrior, 500 pseudo-inputs", 2 * 3 * dense(784, 500, 40) * 500 // BATCH),
        )
    },
    "vq": Case(
        "VQ-VAE 784-500-64, 8 vectors of 8, 256 moving, batch 128, training",
        {
            **epochs("vq"),
            **rivals("vq"),
            "vector-quantize-pytorch": torch_side("training", model="vq-library")._replace(
                needs="vector_quantize_pytorch"
            ),
        },
        flops=trained(dense(784, 500, 64) + dense(64, 500, 784), 784 * 500) + 2 * 2 * 8 * 256 * 8,  # distances; sums
        goals=(Goal(1.0),),
    ),
    "fsq": Case(
        "VQ-VAE 784-500-64, 16 vectors of 4 rounded numbers, batch 128, training",
        {**epochs("fsq"), **rivals("fsq")},
        flops=trained(dense(784, 500, 64) + dense(64, 500, 784), 784 * 500),
        goals=(Goal(1.0),),
    ),
    "topk": Case(
        "dictionary 256-2048, TopK of 32, batch 1024, training",
        {
            **epochs("topk", batch=1024),
            **rivals("topk", batch=1024),
            "dictionary_learning's trainer": torch_side("dictionary_learning", batch=1024)._replace(
                needs="dictionary_learning"
            ),
        },
        flops=trained(2 * dense(256, 2048), 0),  # dense products; the bias of the input needs a gradient
        goals=(Goal(1.0),),
    ),
    "likelihood": Case(
        "log-likelihood by 500 importance samples, VAE 784-500-20",
        {"ae_jax": jax_side("likelihood"), IN_A_LOOP: jax_side("likelihood", steps=True), **both("likelihood")},
        flops=2 * (dense(784, 500, 40) + 500 * dense(20, 500, 784)),
    ),
    "evaluation": Case(
        "an evaluation pass, VAE 784-500-20",
        {"ae_jax": jax_side("evaluation"), IN_A_LOOP: jax_side("evaluation", steps=True), **both("evaluation")},
        flops=2 * (dense(784, 500, 40) + 2 * dense(20, 500, 784)),  # decodes a draw and the mean
    ),
    "import": Timing(
        "a fresh Python: import",
        {
            "ae_jax": imported("import ae_jax"),  # loads no submodule
            "ae_jax, all that is its own": imported("import ae_jax; ae_jax.vae"),
            "jax, flax, optax": imported("import jax, flax.linen, optax"),
        },
        {"ae_jax": 1.0, "ae_jax, all that is its own": 1.0},
    ),
    "first-epoch": Timing(
        "from the command to the first epoch, VAE on digits",
        {"nothing compiled before": first_epoch(cold=True), "compiled before": first_epoch(cold=False)},
        {"nothing compiled before": 15.0, "compiled before": 8.0},
    ),
}


# --------------------------------------------------------------------------------------------- measuring


def environment() -> dict[str, str]:
    """The environment of other processes: the package on the path, no cache of programs, no GPU memory in advance."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def all_sides(case: Case) -> dict[str, Side]:
    """The sides of a case, and those that measure the machine's limits."""
    return case.sides | (CEILING if case.flops else {}) | (LAYER if case.layer else {}) | COPY


def worker(case: str, name: str, device: str) -> None:
    """Runs a side in this process: answers each line `n` of stdin by a JSON line with the seconds of n calls."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keeps output of libraries out of the answers

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")

    chosen = CASES[case]
    assert isinstance(chosen, Case)
    side = all_sides(chosen)[name]
    spent = compiler_times() if side.needs == "jax" else {}
    start = time.perf_counter()
    try:
        work = getattr(importlib.import_module(side.where), side.make)(device, **side.options)
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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        answer(seconds=taken, cores=busy / taken, loss=loss, peak_mb=round(peak), device_peak_mb=device_peak(device))


def compiler_times() -> dict[str, float]:
    """The seconds that this process has spent on tracing and on compiling; a listener of JAX updates them."""
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
    """The process of a `worker`, for the process that times it."""

    def __init__(self, case: str, name: str, device: str, cache: Path | None = None):
        command = [sys.executable, __file__, "--worker", case, name, device]
        pipe = subprocess.PIPE
        # stderr is shared, which shows warnings of libraries and the traceback of a failing side
        env = environment() | (cached_in(cache) if cache else {})
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env)
        self.ready = self.receive()

    def receive(self) -> dict[str, Any]:
        """The next answer. Raises Skip if the process has failed."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        fields = json.loads(line) if line else {"error": f"its process ended with {self.process.wait()}"}
        if "error" in fields:
            raise Skip(fields["error"])
        return fields

    def turn(self, calls: int | str) -> dict[str, Any]:
        """The answer to a number of calls, or to "cost", the counts of XLA's cost analysis."""
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
    """The seconds of a side's first call, and of JAX's tracing and compiling in it."""
    times = {"first_call_seconds": process.ready["first"]} | process.ready["spent"]
    return {name: round(seconds, 2) for name, seconds in times.items()}


def spread(values: list[float], digits: int) -> dict[str, Any]:
    """Median, quartiles and values, rounded to `digits` significant digits."""

    def short(value: float) -> float:
        return float(f"{value:.{digits}g}")

    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    middle = statistics.median(values)
    return {"median": short(middle), "low": short(low), "high": short(high), "values": [short(v) for v in values]}


def cached_in(folder: Path) -> dict[str, str]:
    """Environment variables for a process that keeps all its compiled programs in a folder."""
    folder.mkdir(exist_ok=True)
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def ours_in(case: Case) -> list[str]:
    """The names of our sides."""
    return [name for name in case.sides if name.startswith("ae_jax")]


def paired(name: str, case: Case, device: str, repeats: int, seconds: float) -> dict[str, Any]:
    """The record of a case: all sides in turns, then our first side again with compiled programs from the disk."""
    with tempfile.TemporaryDirectory() as cache:
        result = in_turns(name, case, device, repeats, seconds, cache)
        if (first := next((row for row in result["rows"] if row["side"] == result["ours"]), None)) is not None:
            again = Process(name, result["ours"], device, Path(cache) / "0")
            again.end()
            first["from_cache"] = first_call(again)
    return result


def in_turns(name: str, case: Case, device: str, repeats: int, seconds: float, cache: str) -> dict[str, Any]:
    """The record of all sides of a case, in turns A B C A B C ...; each of ours keeps its programs in one folder."""
    processes: dict[str, Process] = {}
    skipped: dict[str, str] = {}
    rates: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    last: dict[str, dict[str, Any]] = {}
    try:
        for side, row in all_sides(case).items():
            if row.gpu and device != "gpu":
                continue
            if importlib.util.find_spec(row.needs) is None:
                skipped[side] = f"{row.needs} is not installed"
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
        early = {side: answer["loss"] for side, answer in last.items()}  # after three calls of each side
        for _ in range(repeats):
            for side, process in processes.items():
                time.sleep(0.2)  # spinning threads of the side before go to sleep
                last[side] = process.turn(calls[side])
                rates[side].append(calls[side] * process.ready["units"] / last[side]["seconds"])
        costs = {side: processes[side].turn("cost")["cost"] for side in ours_in(case) if side in processes}
    finally:
        for process in processes.values():
            process.end()

    rows = []
    for side, values in rates.items():
        unit = "FLOP" if side in CEILING | LAYER else "B" if side in COPY else "examples"
        row = {"side": side, "unit": unit, **spread(values, 4)}
        row |= first_call(processes[side])
        row |= {"cores_busy": round(last[side]["cores"], 2)}  # mean over the last turn
        row |= {key: last[side][key] for key in ("peak_mb", "device_peak_mb")}
        row |= {"counted_by_xla": costs[side]} if costs.get(side) else {}
        rows.append(row | ({} if unit in ("FLOP", "B") else {"loss_after_3": float(f"{early[side]:.5g}")}))
    known = {"title": case.title, "ours": ours_in(case)[0], "rows": rows, "skipped": skipped}
    return known | compared(case, rates) | {"of_copy": of_copy(costs, rates), "goals": reached(case, rates)}


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
        result["flops"] = case.flops
        result["of_ceiling"] = {
            name: round(statistics.median(rates[name]) * case.flops / top, 3) for name in case.sides if name in rates
        }
    return result


def reached(case: Case, rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """The goals of this case and their ratios, turn by turn, for the goals whose sides ran."""
    found = []
    for least, ours, to in case.goals:
        if to == CEILING_GOAL:
            others = {name: [v / case.flops for v in rates[name]] for name in CEILING if name in rates}
        else:
            others = {
                n: rates[n] for n in case.sides if n in rates and n.startswith(to) and (to or n not in ours_in(case))
            }
        if ours in rates and others:
            best = max(others, key=lambda name: statistics.median(others[name]))
            ratio = spread([a / b for a, b in zip(rates[ours], others[best], strict=True)], 3)
            known = to if to in (best, CEILING_GOAL) else f"the best rival, {best}" if not to else f"the best, {best}"
            found.append({"ours": ours, "to": known, "rival": best, "least": least, **ratio})
    return found


def of_copy(costs: dict[str, dict[str, float]], rates: dict[str, list[float]]) -> dict[str, float]:
    """For each side, the bytes per second by XLA's count, divided by those of a large copy."""
    rate = {side: statistics.median(values) for side, values in rates.items()}
    (copy,) = (rate.get(name) for name in COPY)
    counted = {side: cost["bytes accessed"] for side, cost in costs.items() if "bytes accessed" in cost}
    return {side: round(rate[side] * b / copy, 3) for side, b in counted.items()} if copy else {}


def timed(case: Timing, repeats: int) -> dict[str, Any]:
    """The record of a timing: all its ways in turns, after a first turn that does not count."""
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
    """The platform, "cpu" or "gpu", and the device, versions and flags. Another process asks JAX for them."""
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
    """The processor's name from the kernel, without trademark signs."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return re.sub(r"\((R|TM)\)| (Processor|CPU)\b", "", name)


def commit() -> str:
    """The commit that is checked out, with a mark if files differ from it; "unknown" outside of git."""
    if shutil.which("git") is None:
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", "ae_jax", "scripts"], capture_output=True, text=True)
    return (head.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


QUIET = 0.5  # with a load average above this, times are not to be trusted


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def slug(machine: dict[str, Any]) -> str:
    """The machine's name in the form of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['device']} {machine['cpus']} cpus".lower()).strip("-")


def positive(text: str) -> int:
    """An argument as a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def known(out: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The record in a file; without the file, one without cases. Exits with a message for a file of another kind."""
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
    """A number as text, such as 12,300 or 0.512."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(result: dict[str, Any]) -> str:
    """The record of a case as text for the terminal."""
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
        ordered = {n: cases[n] for n in [*CASES, *cases] if n in cases}  # keeps cases that were not run now
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, {**machine, "cases": ordered})
    print(f"written to {out}")


if __name__ == "__main__":
    main()
