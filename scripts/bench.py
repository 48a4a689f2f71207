"""Speed, paired with PyTorch in one run: `python scripts/bench.py`, `python scripts/bench.py --cases vae import`.

Every side of a case is a process of its own (its own thread pool, allocator and peak memory), kept alive: the
sides take turns, A B C A B C ..., so that a machine whose speed drifts drifts for all alike. A turn repeats the
same work until it has taken long enough, and ends when the device has finished. What is reported is the median
over turns and its spread, the ratio turn by turn, the time of the first call (building, tracing, compiling) and
the peak memory of the process. Where torch is not installed its sides are left out.

PyTorch's loops are the best plain ones we know: data on the device, one shuffled index and no DataLoader, fused
Adam (but where a side says default), no synchronisation within an epoch, and TF32 on a GPU, JAX's default there.

The ceiling is the rate of one large float32 product, by JAX or by PyTorch, whichever is faster, measured in turn
with the rest; `of ceiling` counts the floating point operations of the matrix products (of forward and backward,
no others): 2 a multiplication with addition; three products a layer, but two in the first, whose input needs no
gradient; nothing for activations, losses, Adam or the shuffle.

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
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BATCH = 128
EXAMPLES = 100 * BATCH  # of the made-up data set that a training case sweeps once a call


class Work(NamedTuple):
    """What a side does over and over."""

    call: Callable[[], float]  # all of it once, until the device has finished; gives the loss (or 0)
    units: int  # how many (examples, operations) one call gets through


class Side(NamedTuple):
    """One way of doing a case's work, in a process of its own."""

    build: Callable[[str], Work]  # on a device: "cpu" or "gpu"
    needs: str = "jax"  # the module without which it is left out


class Case(NamedTuple):
    """Sides that do the same work. The first is ours; `ratio` is its rate by the best of `rivals`."""

    title: str
    sides: dict[str, Side]
    flops: int = 0  # of the matrix products, a unit; 0 where the share of the ceiling means nothing
    unit: str = "examples"


class Timing(NamedTuple):
    """A command that is timed from its start: each way gives seconds, or raises `Skip`."""

    title: str
    ways: dict[str, Callable[[], float]]


class Skip(Exception):
    """Why something is left out."""


# -------------------------------------------------------------------------------------------------- data


def dataset(shape: tuple[int, ...]):
    """Smooth made-up images in (0, 1), the same for every side. -> float32 [EXAMPLES, *shape]."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    logits = rng.normal(size=(EXAMPLES, 10)) @ rng.normal(size=(10, size))
    return (1 / (1 + np.exp(-logits))).astype(np.float32).reshape(EXAMPLES, *shape)


# --------------------------------------------------------------------------------------------------- JAX


def jax_training(shape: tuple[int, ...], make: Callable[[], Any]) -> Callable[[str], Work]:
    """An epoch of the algorithm that `make` gives, one compiled program."""

    def build(device: str) -> Work:
        import jax

        from ae_jax import core

        data = core.Batch(jax.numpy.asarray(dataset(shape)))
        algorithm = make()
        rule = core.epoch(algorithm, BATCH)
        params, memory, key = core.start(algorithm.init, rule, data, jax.random.key(0))
        step = jax.jit(rule.update, donate_argnums=(0, 1))
        state = [params, memory, 0]

        def call() -> float:
            params, memory, metrics = step(*state[:2], data, jax.random.fold_in(key, state[2]))
            state[:] = params, memory, state[2] + 1
            return float(jax.block_until_ready(metrics)["loss"])

        return Work(call, EXAMPLES)

    return build


def our_vae() -> Any:
    """784-500-20-500-784, rectified, Bernoulli, one draw."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.mlp((784,), 20, hidden=(500,), heads=2, init="uniform")
    return algorithms.vae(net, optax.adam(1e-3))


def our_conv() -> Any:
    """28x28x1, 32 and 64 maps of strided 3x3 convolutions, a code of 32, and back; summed squared error."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.conv((28, 28, 1), 32, channels=(32, 64), kernel=3, down="stride", up="transpose", init="uniform")
    return algorithms.autoencoder(net, optax.adam(1e-3))


def our_contraction(penalty: str) -> Callable[[str], Work]:
    """Value and gradient of the mean penalty of a batch, by `algorithms.contractive`."""

    def build(device: str) -> Work:
        import jax
        import optax

        from ae_jax import algorithms, core, networks

        net = networks.mlp((784,), 500, hidden=(), code_activation="sigmoid", init="uniform")
        algorithm = algorithms.contractive(net, optax.sgd(0.1), penalty=penalty)  # pyright: ignore
        batch = core.Batch(jax.numpy.asarray(dataset((784,))[:BATCH]))
        key = jax.random.key(0)
        params = algorithm.init(key, batch)

        @jax.jit
        def run(params: Any, batch: Any) -> Any:
            return jax.value_and_grad(lambda p: algorithm.evaluate(p, batch, key)["jacobian"].mean())(params)

        return Work(lambda: float(jax.block_until_ready(run(params, batch))[0]), BATCH)

    return build


def jax_product(device: str) -> Work:
    """One square float32 product; counted in operations."""
    import jax

    n = 2048 if device == "cpu" else 8192
    a, b = jax.random.normal(jax.random.key(0), (2, n, n))
    run = jax.jit(jax.numpy.matmul)
    return Work(lambda: 0.0 * float(jax.block_until_ready(run(a, b))[0, 0]), 2 * n**3)


# ----------------------------------------------------------------------------------------------- PyTorch


def torch_device(device: str) -> Any:
    """Sets PyTorch up as JAX is by default, and gives its device."""
    import torch

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU; nothing on a CPU
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda" if device == "gpu" else "cpu")


def torch_wait(device: str) -> None:
    """Waits for the device."""
    if device == "gpu":
        import torch

        torch.cuda.synchronize()


def torch_training(shape: tuple[int, ...], make: Callable[[], Any], fused: bool = True) -> Callable[[str], Work]:
    """An epoch in a plain loop; `make` gives the modules and a loss (x) -> mean over the batch."""

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        data = torch.from_numpy(dataset(shape)).to(where)
        model, loss_of = make()
        model.to(where)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused or None)  # None is its default

        def call() -> float:
            order = torch.randperm(EXAMPLES, device=where)
            total = torch.zeros((), device=where)
            for start in range(0, EXAMPLES, BATCH):
                loss = loss_of(data[order[start : start + BATCH]])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.detach()
            return float(total) * BATCH / EXAMPLES

        return Work(call, EXAMPLES)

    return build


def torch_vae() -> Any:
    """The network and loss of `our_vae`."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    encoder = nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 40))
    decoder = nn.Sequential(nn.Linear(20, 500), nn.ReLU(), nn.Linear(500, 784))

    def loss(x: Any) -> Any:
        mean, logvar = encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
        return (nll + kl) / len(x)

    return nn.ModuleList([encoder, decoder]), loss


def torch_conv(channels_last: bool = False) -> Any:
    """The network and loss of `our_conv`; PyTorch starts transposed layers larger, and so falls sooner."""
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 32),
        nn.Linear(32, 64 * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 1, 3, 2, 1, output_padding=1),
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)  # pyright: ignore

    def loss(x: Any) -> Any:
        x = x.contiguous(memory_format=layout)
        return (model(x) - x).square().sum() / len(x)

    return model, loss


def torch_contraction(jacobian: str, chunk: int | None = None) -> Callable[[str], Work]:
    """Value and gradient of the mean penalty of a batch, by `torch.func`."""

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        x = torch.from_numpy(dataset((784,))[:BATCH]).to(where)
        layer = torch.nn.Linear(784, 500).to(where)
        params = {name: p.detach() for name, p in layer.named_parameters()}
        of = getattr(torch.func, jacobian)

        def penalty(params: Any) -> Any:
            def encode(x: Any) -> Any:
                return torch.sigmoid(torch.func.functional_call(layer, params, (x,)))

            return torch.func.vmap(lambda x: of(encode)(x).square().sum(), chunk_size=chunk)(x).mean()

        run = torch.func.grad_and_value(penalty)

        def call() -> float:
            _, value = run(params)
            torch_wait(device)
            return float(value)

        return Work(call, BATCH)

    return build


def torch_closed(device: str) -> Work:
    """The penalty's closed form for one sigmoid layer, by autograd."""
    import torch

    where = torch_device(device)
    x = torch.from_numpy(dataset((784,))[:BATCH]).to(where)
    layer = torch.nn.Linear(784, 500).to(where)

    def call() -> float:
        layer.zero_grad(set_to_none=True)
        h = torch.sigmoid(layer(x))
        value = ((h * (1 - h)).square() @ layer.weight.square().sum(1)).mean()
        value.backward()
        torch_wait(device)
        return float(value.detach())

    return Work(call, BATCH)


def torch_product(device: str) -> Work:
    """One square float32 product; counted in operations."""
    import torch

    where = torch_device(device)
    n = 2048 if device == "cpu" else 8192
    a, b = torch.randn((2, n, n), device=where)

    def call() -> float:
        product = a @ b
        torch_wait(device)
        return 0.0 * float(product[0, 0])

    return Work(call, 2 * n**3)


# ---------------------------------------------------------------------------------------------- commands


def seconds_of(code: str) -> Callable[[], float]:
    """How long a fresh Python takes for a statement, start of the interpreter included."""

    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment(), stdin=subprocess.DEVNULL)
        return time.perf_counter() - start

    return measure


def first_epoch(arguments: tuple[str, ...], cache: str) -> Callable[[], float]:
    """From the command to the first row of its log; a cold compilation cache is a new, empty one."""

    def measure() -> float:
        if importlib.util.find_spec("ae_jax.cli") is None:
            raise Skip("this version has no command line")
        with tempfile.TemporaryDirectory() as folder:
            kept = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache", "XDG_CACHE_HOME": f"{folder}/home"}
            work = Path(folder) / "work"
            command = [sys.executable, "-m", "ae_jax", "train", *arguments, "--workdir", str(work)]
            env = environment() | (kept if cache == "cold" else {})
            start = time.perf_counter()
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            try:
                while not ((log := work / "log.jsonl").exists() and log.stat().st_size):
                    if process.poll() is not None:
                        reason = (process.stderr.read() if process.stderr else "").strip()[-300:]
                        raise Skip(f"the command ended with {process.returncode} before an epoch: {reason}")
                    time.sleep(0.01)
                return time.perf_counter() - start
            finally:
                process.kill()
                process.communicate()

    return measure


# ----------------------------------------------------------------------------------------------- the list

CEILING = {"a large product, JAX": Side(jax_product), "a large product, PyTorch": Side(torch_product, "torch")}
# Multiplications of the layers, an example.
VAE_PRODUCTS = 784 * 500 + 500 * 40 + 20 * 500 + 500 * 784
CONV_FIRST = 14 * 14 * 32 * 9
CONV_PRODUCTS = 2 * CONV_FIRST + 2 * (7 * 7 * 64 * 9 * 32) + 2 * (7 * 7 * 64 * 32)

TORCH_JACOBIANS = {
    "torch.func jacrev": Side(torch_contraction("jacrev"), "torch"),
    "torch.func jacfwd": Side(torch_contraction("jacfwd"), "torch"),
    "torch.func jacrev, 8 at a time": Side(torch_contraction("jacrev", 8), "torch"),
    "torch.func jacfwd, 8 at a time": Side(torch_contraction("jacfwd", 8), "torch"),
}

CASES: dict[str, Case | Timing] = {
    "vae": Case(
        "MLP VAE 784-500-20, batch 128, training",
        {
            "ae_jax": Side(jax_training((784,), our_vae)),
            "PyTorch eager": Side(torch_training((784,), torch_vae), "torch"),
        },
        flops=2 * (3 * VAE_PRODUCTS - 784 * 500),
    ),
    "vae-plain": Case(
        "the same, PyTorch's Adam as it comes, not fused",
        {
            "ae_jax": Side(jax_training((784,), our_vae)),
            "PyTorch eager, default Adam": Side(torch_training((784,), torch_vae, fused=False), "torch"),
        },
        flops=2 * (3 * VAE_PRODUCTS - 784 * 500),
    ),
    "conv": Case(
        "convolutional AE 28x28, 32-64 maps, batch 128, training",
        {
            "ae_jax": Side(jax_training((28, 28, 1), our_conv)),
            "PyTorch eager": Side(torch_training((1, 28, 28), torch_conv), "torch"),
            "PyTorch eager, channels last": Side(torch_training((1, 28, 28), lambda: torch_conv(True)), "torch"),
        },
        flops=2 * (3 * CONV_PRODUCTS - CONV_FIRST),
    ),
    "contractive": Case(
        "contractive penalty 784-500, any encoder, by jax.jacfwd, batch 128, value and gradient",
        {"ae_jax, exact": Side(our_contraction("exact")), **TORCH_JACOBIANS},
    ),
    "contractive-columns": Case(
        "contractive penalty 784-500, any encoder, by columns, batch 128, value and gradient",
        {"ae_jax, columns": Side(our_contraction("columns")), **TORCH_JACOBIANS},
    ),
    "contractive-closed": Case(
        "contractive penalty 784-500, closed form of one layer, batch 128, value and gradient",
        {
            "ae_jax, closed": Side(our_contraction("closed")),
            "PyTorch eager, closed": Side(torch_closed, "torch"),
        },
    ),
    "import": Timing(
        "a fresh Python: import",
        {"ae_jax": seconds_of("import ae_jax"), "jax, flax, optax": seconds_of("import jax, flax.linen, optax")},
    ),
    "first-epoch": Timing(
        "from the command to the first epoch, VAE on digits",
        {
            "nothing compiled before": first_epoch(("vae", "--data", "digits"), "cold"),
            "compiled before": first_epoch(("vae", "--data", "digits"), "warm"),
        },
    ),
}

# --------------------------------------------------------------------------------------------- measuring


def environment() -> dict[str, str]:
    """Variables for other processes: the package on the path, no programs compiled before, a GPU's memory shared."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def all_sides(case: Case) -> dict[str, Side]:
    """The case's own, and the ceiling where there are operations to compare with it."""
    return case.sides | (CEILING if case.flops else {})


def worker(case: str, name: str, device: str) -> None:
    """A side in its own process: answers each line `n` with the seconds that n calls take, as JSON lines."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print is no answer

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")

    chosen = CASES[case]
    assert isinstance(chosen, Case)
    start = time.perf_counter()
    try:
        work = all_sides(chosen)[name].build(device)
        loss = work.call()
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")
        raise
    answer(first=time.perf_counter() - start, units=work.units)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = work.call()
        taken = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
        answer(seconds=taken, loss=loss, peak_mb=round(peak), device_peak_mb=device_peak(device))


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

    def __init__(self, case: str, name: str, device: str):
        command = [sys.executable, __file__, "--worker", case, name, device]
        pipe = subprocess.PIPE
        # stderr is ours: what a library warns of, and a failing side's traceback, shall be seen
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment())
        self.ready = self.receive()

    def receive(self) -> dict[str, Any]:
        """The next answer. Raises Skip when the process cannot."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        fields = json.loads(line) if line else {"error": f"its process ended with {self.process.wait()}"}
        if "error" in fields:
            raise Skip(fields["error"])
        return fields

    def turn(self, calls: int) -> dict[str, Any]:
        """`calls` calls."""
        assert self.process.stdin
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return self.receive()

    def end(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def spread(values: list[float], digits: int) -> dict[str, Any]:
    """Median, quartiles and the values themselves, to so many significant digits."""

    def short(value: float) -> float:
        return float(f"{value:.{digits}g}")

    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    middle = statistics.median(values)
    return {"median": short(middle), "low": short(low), "high": short(high), "values": [short(v) for v in values]}


def paired(name: str, case: Case, device: str, repeats: int, seconds: float) -> dict[str, Any]:
    """All sides of a case, in turns."""
    processes: dict[str, Process] = {}
    skipped: dict[str, str] = {}
    rates: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    last: dict[str, dict[str, Any]] = {}
    try:
        for side, (_, needs) in all_sides(case).items():
            if importlib.util.find_spec(needs) is None:
                skipped[side] = f"{needs} is not installed"
                continue
            try:
                process = Process(name, side, device)
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
    finally:
        for process in processes.values():
            process.end()

    rows = []
    for side, values in rates.items():
        row = {"side": side, "unit": "FLOP" if side in CEILING else case.unit, **spread(values, 4)}
        row["first_call_seconds"] = round(processes[side].ready["first"], 2)
        row |= {key: last[side][key] for key in ("peak_mb", "device_peak_mb")}
        rows.append(row | ({} if side in CEILING else {"loss_after_3": float(f"{early[side]:.5g}")}))
    return {"title": case.title, "ours": next(iter(case.sides)), "rows": rows, "skipped": skipped} | compared(
        case, rates
    )


def compared(case: Case, rates: dict[str, list[float]]) -> dict[str, Any]:
    """The ratio to the best rival, turn by turn, and the share of the ceiling."""
    ours, *rivals = case.sides
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
    return {"title": case.title, "rows": rows, "skipped": skipped}


# --------------------------------------------------------------------------------------------- reporting


def describe_machine() -> tuple[str, dict[str, Any]]:
    """("cpu" or "gpu", name and versions), asked of JAX in a process that ends."""
    code = "import jax, json; d = jax.devices()[0]; print(json.dumps([jax.default_backend(), d.device_kind]))"
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    backend, kind = json.loads(out.stdout.decode().splitlines()[-1])
    if backend == "cpu":
        kind = cpu_name()
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
    versions = {name: metadata.version(name) for name in packages if importlib.util.find_spec(name)}
    cpus = len(os.sched_getaffinity(0))
    machine = {"device": kind, "platform": backend, "cpus": cpus, "python": platform.python_version()}
    return ("cpu" if backend == "cpu" else "gpu"), machine | {"versions": versions}


def cpu_name() -> str:
    """As the kernel calls it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def commit() -> str:
    """The commit that is checked out, marked where files differ from it; "unknown" outside of git."""
    if shutil.which("git") is None:
        return "unknown"
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "--", "ae_jax", "scripts"], capture_output=True, text=True)
    return (head.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def short(value: float) -> str:
    """A number for people: 12,300 or 0.512."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(result: dict[str, Any]) -> str:
    """One case for the terminal."""
    lines = [result["title"]]
    for row in result["rows"]:
        if row["unit"] == "FLOP":
            rate = f"{row['median'] / 1e9:.3g} GFLOP/s"
        else:
            rate = f"{short(row['median'])} {row['unit']}" + ("" if row["unit"] == "seconds" else "/s")
        parts = [f"  {row['side']:32} {rate:>24}  (quartiles {row['low']:.4g} to {row['high']:.4g})"]
        if row["side"] in result.get("of_ceiling", {}):
            parts.append(f"{100 * result['of_ceiling'][row['side']]:.0f} % of ceiling")
        if "peak_mb" in row:
            parts.append(f"first call {row['first_call_seconds']} s, {row['peak_mb']} MB")
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
    parser.add_argument("--repeats", type=int, default=7, help="turns of every side (7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a turn takes at least, about (1.5)")
    parser.add_argument("--out", type=Path, help="the JSON file; results/bench-<device>.json by default")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(*args.worker)
    if args.repeats < 1 or args.seconds <= 0:
        parser.error("--repeats must be at least 1, and --seconds more than 0")

    load = os.getloadavg()[0]
    sys.path.insert(0, str(ROOT))
    device, machine = describe_machine()
    slug = re.sub(r"[^a-z0-9]+", "-", f"{machine['device']} {machine['cpus']} cpus".lower()).strip("-")
    out: Path = args.out or ROOT / "results" / f"bench-{slug}.json"
    print(f"{machine['device']}, {machine['cpus']} CPUs; {machine['versions']}")
    if busy := load > 0.5:
        print(f"warning: the load average is {load:.2f}: the machine is busy, and the numbers below are not to be used")
    known = json.loads(out.read_text())["cases"] if out.exists() else {}
    made = {"commit": commit(), "load": round(load, 2), "busy": busy, "repeats": args.repeats, **machine}
    for name in args.cases:
        case = CASES[name]
        if isinstance(case, Case):
            result = paired(name, case, device, args.repeats, args.seconds)
        else:
            result = timed(case, args.repeats)
        print(table(result), flush=True)
        known[name] = result | made
        ordered = {n: known[n] for n in [*CASES, *known] if n in known}  # cases not run this time stay
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**machine, "cases": ordered}, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
