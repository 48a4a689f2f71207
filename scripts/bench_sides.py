"""What scripts/bench.py times: every side of every case, ours in JAX and the rivals in PyTorch, on the same data.

A side's `build` runs in a process of its own, so that nothing here imports JAX or PyTorch before it is asked to.
"""

import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BATCH = 128
EXAMPLES = 100 * BATCH  # of the made-up data set that a training case sweeps once a call


class Work(NamedTuple):
    """What a side does over and over."""

    call: Callable[[], float]  # all of it once, until the device has finished; gives the loss (or 0)
    units: int  # how many (examples, operations, bytes) one call gets through
    cost: Callable[[], dict[str, float]] = dict  # XLA's own count of "flops" and "bytes accessed", a unit


class Side(NamedTuple):
    """One way of doing a case's work, in a process of its own."""

    build: Callable[[str], Work]  # on a device: "cpu" or "gpu"
    needs: str = "jax"  # the module without which it is left out
    gpu: bool = False  # left out elsewhere


class Skip(Exception):
    """Why something is left out."""


def environment() -> dict[str, str]:
    """Variables for other processes: the package on the path, no programs compiled before, a GPU's memory shared."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {"PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


# -------------------------------------------------------------------------------------------------- data


def dataset(shape: tuple[int, ...], examples: int = EXAMPLES):
    """Smooth made-up images in (0, 1), the same for every side. -> float32 [examples, *shape]."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    factors, directions = rng.normal(size=(examples, 10)), rng.normal(size=(10, size))
    x = np.empty((examples, size), np.float32)
    for i in range(0, examples, 100):  # in small pieces, or making the data would be the most memory of many a side
        x[i : i + 100] = 1 / (1 + np.exp(-(factors[i : i + 100] @ directions)))
    return x.reshape(examples, *shape)


# --------------------------------------------------------------------------------------------------- JAX


def counted(step: Any, units: int, *args: Any) -> Callable[[], dict[str, float]]:
    """What XLA's cost analysis says of a compiled `step(*args)` that does `units`: of each. It counts a loop once."""

    def count() -> dict[str, float]:
        import jax

        cost = jax.jit(step).lower(*args).compile().cost_analysis() or {}
        cost = cost[0] if isinstance(cost, list) else cost
        return {name: cost[name] / units for name in ("flops", "bytes accessed") if name in cost}

    return count


def jax_training(
    shape: tuple[int, ...],
    make: Callable[[], Any],
    batch: int = BATCH,
    seeds: int = 0,
    examples: int = EXAMPLES,
    cores: bool = False,
) -> Callable[[str], Work]:
    """An epoch of the algorithm that `make` gives, one compiled program; of so many seeds at once, if any, and those
    spread over the cores, if asked.
    """

    def build(device: str) -> Work:
        import jax

        from ae_jax import core
        from ae_jax.training import compiled, devices

        n = os.cpu_count() or 1
        if cores and (device != "cpu" or seeds % n):
            raise Skip(f"{seeds} seeds cannot be spread over {n} cores, or there is something better")
        if cores:
            devices.of_cores(n)
        data = core.Batch(jax.numpy.asarray(dataset(shape, examples)))
        algorithm = make()
        rule = core.epoch(algorithm, batch)

        def update(params: Any, memory: Any, key: Any, data: Any) -> Any:
            return rule.update(params, memory, data, key)

        key = jax.random.key(0)
        first = data._replace(x=data.x[:batch])
        if seeds:
            keys = jax.random.split(key, seeds)
            state: Any = [*jax.jit(jax.vmap(lambda k: core.start(algorithm.init, rule, data, k)[:2]))(keys)]
            many = lambda p, m, k, data: compiled.map_seeds(lambda p, m, k: update(p, m, k, data))(p, m, k)
            if cores:
                mesh = devices.mesh(n)
                many, data = devices.spread(many, mesh, True, True, True, False), devices.everywhere(data, mesh)
                state = jax.device_put(state, devices.shardings(mesh)[0])
            step = jax.jit(many, donate_argnums=(0, 1))
            key_of = lambda i: jax.random.split(jax.random.fold_in(key, i), seeds)
        else:
            params, memory, key = core.start(algorithm.init, rule, data, key)
            state = [params, memory]
            step = jax.jit(update, donate_argnums=(0, 1))
            key_of = lambda i: jax.random.fold_in(key, i)
        count = iter(range(1 << 30))

        def call() -> float:
            params, memory, metrics = step(*state, key_of(next(count)), data)
            state[:] = params, memory
            return float(jax.block_until_ready(metrics)["loss"].mean())

        def cost() -> dict[str, float]:
            one = algorithm.rule
            params = algorithm.init(key, first)
            return counted(one.update, batch, params, one.init(params), first, key)()

        return Work(call, examples * max(1, seeds), cost)

    return build


def jax_loop(
    shape: tuple[int, ...], make: Callable[[], Any], batch: int = BATCH, examples: int = EXAMPLES
) -> Callable[[str], Work]:
    """The same epoch as a loop in Python over compiled steps, as Flax's tutorials write it."""

    def build(device: str) -> Work:
        import jax

        from ae_jax import core

        data = core.Batch(jax.numpy.asarray(dataset(shape, examples)))
        algorithm = make()
        key = jax.random.key(0)
        params = algorithm.init(key, data._replace(x=data.x[:batch]))
        state = [params, algorithm.rule.init(params)]
        step = jax.jit(algorithm.rule.update, donate_argnums=(0, 1))
        before = algorithm.before and jax.jit(algorithm.before.update)
        count = iter(range(1 << 30))

        def call() -> float:
            key_order, key_steps, key_before = jax.random.split(jax.random.fold_in(key, next(count)), 3)
            order = jax.random.permutation(key_order, examples)
            losses = []
            if before:  # statistics of the whole data set
                state[0] = before(state[0], (), data, key_before)[0]
            for start in range(0, examples, batch):
                picked = core.Batch(data.x[order[start : start + batch]])
                *state[:], metrics = step(*state, picked, jax.random.fold_in(key_steps, start))
                losses.append(metrics["loss"])
            return float(jax.numpy.stack(losses).mean())

        return Work(call, examples)

    return build


def our_vae() -> Any:
    """784-500-20-500-784, rectified, Bernoulli, one draw."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.mlp((784,), 20, hidden=(500,), heads=2, init="uniform")
    return algorithms.vae(net, optax.adam(1e-3))


def our_plain_vae() -> Any:
    """`our_vae` by plain gradient steps: what Adam costs is the difference."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.mlp((784,), 20, hidden=(500,), heads=2, init="uniform")
    return algorithms.vae(net, optax.sgd(1e-3))


def vae_products(weights: Any, x: Any) -> Any:
    """The eleven matrix products of a step of `our_vae`, each fed by the one before: the gradients of its weights."""
    import jax.numpy as jnp

    a, b, c, d = weights
    h = x @ a
    z = (h @ b)[:, :20]
    back = z @ c
    out = back @ d
    to_back = out @ d.T
    to_z = to_back @ c.T
    to_code = jnp.concatenate([to_z, to_z], 1)
    return x.T @ (to_code @ b.T), h.T @ to_code, z.T @ to_back, back.T @ out


def our_products(device: str) -> Work:
    """An epoch of `vae_products`, one after another, and nothing between them."""
    import jax
    from jax import lax

    import ae_jax  # noqa: F401  the options for the compiler that the whole step has

    data = jax.numpy.asarray(dataset((784,)))
    sizes = ((784, 500), (500, 40), (20, 500), (500, 784))
    weights = [jax.random.normal(jax.random.key(i), size) / size[0] ** 0.5 for i, size in enumerate(sizes)]

    def step(weights: Any, t: Any) -> Any:
        gradients = vae_products(weights, lax.dynamic_slice_in_dim(data, t * BATCH, BATCH))
        # one number of each is used, or XLA would leave it out
        return [w.at[0, 0].add(1e-30 * g[0, 0]) for w, g in zip(weights, gradients, strict=True)], None

    run = jax.jit(lambda weights: lax.scan(step, weights, jax.numpy.arange(EXAMPLES // BATCH))[0])
    return Work(lambda: 0.0 * float(jax.block_until_ready(run(weights))[0][0, 0]), EXAMPLES)


def our_conv() -> Any:
    """28x28x1, 32 and 64 maps of strided 3x3 convolutions, a code of 32, and back; summed squared error."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.conv((28, 28, 1), 32, channels=(32, 64), kernel=3, down="stride", up="transpose", init="uniform")
    return algorithms.autoencoder(net, optax.adam(1e-3))


def our_deep() -> Any:
    """784-1000-500-250-30 and back, rectified, Bernoulli."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.mlp((784,), 30, hidden=(1000, 500, 250), init="uniform")
    return algorithms.autoencoder(net, optax.adam(1e-3), likelihood="bernoulli")


def our_conv64() -> Any:
    """64x64x3, 32, 64 and 128 maps of strided 3x3 convolutions, a code of 64, and back; summed squared error."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.conv(
        (64, 64, 3), 64, channels=(32, 64, 128), kernel=3, down="stride", up="transpose", init="uniform"
    )
    return algorithms.autoencoder(net, optax.adam(1e-3))


def our_sparse() -> Any:
    """784-200 sigmoid units, KL to 0.05 over the whole data set, squared error."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.mlp((784,), 200, hidden=(), code_activation="sigmoid", init="uniform")
    return algorithms.sparse(net, optax.adam(1e-3))  # pyright: ignore


def our_rbm() -> Any:
    """784-500, CD-1, plain steps of 0.1."""
    import optax

    from ae_jax import algorithms, networks

    return algorithms.rbm(networks.rbm((784,), 500), optax.sgd(0.1))  # pyright: ignore


def our_iwae() -> Any:
    """784-200-50-200-784, tanh, 50 importance weights."""
    import optax

    from ae_jax import algorithms, networks

    net = networks.mlp((784,), 50, hidden=(200,), heads=2, activation="tanh", init="uniform")
    return algorithms.importance(net, optax.adam(1e-3), samples=50)


def our_contraction(penalty: str, hidden: tuple[int, ...] = (), size: int = 500) -> Callable[[str], Work]:
    """Value and gradient of the mean penalty of a batch, by `algorithms.contractive`."""

    def build(device: str) -> Work:
        import jax
        import optax

        from ae_jax import algorithms, core, networks

        net = networks.mlp((784,), size, hidden=hidden, activation="sigmoid", code_activation="sigmoid", init="uniform")
        algorithm = algorithms.contractive(net, optax.sgd(0.1), penalty=penalty)  # pyright: ignore
        batch = core.Batch(jax.numpy.asarray(dataset((784,))[:BATCH]))
        key = jax.random.key(0)
        params = algorithm.init(key, batch)

        @jax.jit
        def run(params: Any, batch: Any) -> Any:
            return jax.value_and_grad(lambda p: algorithm.evaluate(p, batch, key)["jacobian"].mean())(params)

        cost = dict if penalty == "exact" else counted(run, BATCH, params, batch)  # a loop, which XLA counts once
        return Work(lambda: float(jax.block_until_ready(run(params, batch))[0]), BATCH, cost)

    return build


def jax_jacrev(hidden: tuple[int, ...], size: int) -> Callable[[str], Work]:
    """The same value and gradient by `jax.vmap` of `jax.jacrev`, as one writes it."""

    def build(device: str) -> Work:
        import jax

        from ae_jax import core, networks

        net = networks.mlp((784,), size, hidden=hidden, activation="sigmoid", code_activation="sigmoid", init="uniform")
        x = jax.numpy.asarray(dataset((784,))[:BATCH])
        params = net.init(jax.random.key(0), core.Batch(x))

        @jax.jit
        def run(params: Any, x: Any) -> Any:
            def penalty(params: Any) -> Any:
                slopes = jax.vmap(jax.jacrev(lambda one: net.encode(params, one[None])[0]))(x)
                return jax.numpy.square(slopes).sum((1, 2)).mean()

            return jax.value_and_grad(penalty)(params)

        return Work(lambda: float(jax.block_until_ready(run(params, x))[0]), BATCH, counted(run, BATCH, params, x))

    return build


def our_likelihood(device: str) -> Work:
    """log p(x) of 100 examples by 500 importance samples each, of `our_vae` untrained."""
    import jax

    from ae_jax import core
    from ae_jax.evaluation.likelihood import log_likelihood

    data = core.Batch(jax.numpy.asarray(dataset((784,))[:100]))
    algorithm, key = our_vae(), jax.random.key(0)
    params = algorithm.init(key, data)
    run = jax.jit(lambda params, data: log_likelihood(algorithm, params, data, key, 500).mean())
    return Work(lambda: float(jax.block_until_ready(run(params, data))), 100)


def jax_likelihood_loop(device: str) -> Work:
    """The same as a loop in Python over compiled steps of 50 samples, as `torch_likelihood` is one."""
    import math

    import jax

    from ae_jax import core

    data = core.Batch(jax.numpy.asarray(dataset((784,))[:100]))
    algorithm, key = our_vae(), jax.random.key(0)
    params = algorithm.init(key, data)
    assert algorithm.log_weight is not None
    step = jax.jit(jax.vmap(algorithm.log_weight, (None, None, 0)))

    def call() -> float:
        parts = [step(params, data, jax.random.split(jax.random.fold_in(key, i), 50)) for i in range(10)]
        log_w = jax.numpy.concatenate(parts)  # [500, 100]
        return float((jax.nn.logsumexp(log_w, 0) - math.log(500)).mean())

    def cost() -> dict[str, float]:  # of all ten steps
        one = counted(step, 100, params, data, jax.random.split(key, 50))()
        return {name: 10 * value for name, value in one.items()}

    return Work(call, 100, cost)


def jax_evaluation_loop(device: str) -> Work:
    """`our_evaluation` as a loop in Python over compiled steps of 1000 examples, as `torch_evaluation` is one."""
    import jax

    from ae_jax import core

    data = jax.numpy.asarray(dataset((784,)))
    algorithm, key = our_vae(), jax.random.key(0)
    params = algorithm.init(key, core.Batch(data))
    step = jax.jit(lambda p, x, key: jax.tree.map(lambda m: m.sum(0), algorithm.evaluate(p, core.Batch(x), key)))

    def call() -> float:
        totals = [step(params, data[i : i + 1000], jax.random.fold_in(key, i)) for i in range(0, EXAMPLES, 1000)]
        return float(jax.numpy.stack([t["loss"] for t in totals]).sum()) / EXAMPLES

    return Work(call, EXAMPLES, counted(step, 1000, params, data[:1000], key))


def our_evaluation(device: str) -> Work:
    """The mean of every metric over the data set, of `our_vae`."""
    import jax

    from ae_jax import core

    data = core.Batch(jax.numpy.asarray(dataset((784,))))
    algorithm, key = our_vae(), jax.random.key(0)
    params = algorithm.init(key, data)
    run = jax.jit(lambda params, data: core.average(algorithm.evaluate, params, data, key))
    return Work(lambda: float(jax.block_until_ready(run(params, data))["loss"]), EXAMPLES)


def jax_copy(device: str) -> Work:
    """A large array read and written once; counted in bytes, both ways."""
    import jax

    import ae_jax  # noqa: F401  the options for the compiler that training has

    n = (64 if device == "cpu" else 1024) * 2**20
    a = jax.numpy.ones(n // 4)
    run = jax.jit(lambda a: a + 1)
    return Work(lambda: 0.0 * float(jax.block_until_ready(run(a))[0]), 2 * n)


def jax_product(device: str) -> Work:
    """One square float32 product by JAX as it comes, without ae_jax's options for it; counted in operations."""
    import jax

    n = 2048 if device == "cpu" else 8192
    a, b = jax.random.normal(jax.random.key(0), (2, n, n))
    run = jax.jit(jax.numpy.matmul)
    return Work(lambda: 0.0 * float(jax.block_until_ready(run(a, b))[0, 0]), 2 * n**3)


LAYERS = 50  # products in one call of `jax_layer` and of `torch_layer`


def jax_layer(device: str) -> Work:
    """The product of a batch of 128 with a layer 784-500, again and again in one program; counted in operations."""
    import jax

    import ae_jax  # noqa: F401  the options for the compiler that training has

    a, b = jax.random.normal(jax.random.key(0), (BATCH, 784)), jax.random.normal(jax.random.key(1), (784, 500))

    def again(_: Any, carry: Any) -> Any:  # each needs the one before, or one would be enough
        a, b, product = carry
        product = a @ b
        return a.at[0, 0].add(1e-30 * product[0, 0]), b, product

    run = jax.jit(lambda a, b: jax.lax.fori_loop(0, LAYERS, again, (a, b, a[:, :1] * b[:1])))
    return Work(lambda: 0.0 * float(jax.block_until_ready(run(a, b))[2][0, 0]), LAYERS * 2 * BATCH * 784 * 500)


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


def torch_training(
    shape: tuple[int, ...],
    make: Callable[[], Any],
    fused: bool = True,
    batch: int = BATCH,
    examples: int = EXAMPLES,
    compiled: str = "",
    loader: bool = False,
) -> Callable[[str], Work]:
    """An epoch in a plain loop; `make` gives the modules and a loss (x) -> mean over the batch. `loader`: as PyTorch's
    examples write it, with a DataLoader, and with every loss read.

    `compiled` is a mode of torch.compile for the loss, forwards and backwards: "default", or "reduce-overhead", which
    on a GPU replays CUDA graphs.
    """

    def build(device: str) -> Work:
        import torch
        from torch.utils.data import DataLoader, TensorDataset

        where = torch_device(device)
        data = torch.from_numpy(dataset(shape, examples)).to(where)
        model, loss_of = make()
        model.to(where)
        if compiled:
            loss_of = torch.compile(loss_of, mode=compiled)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused or None)  # None is its default
        loaded = DataLoader(TensorDataset(data.cpu()), batch_size=batch, shuffle=True)

        def call() -> float:
            order = torch.randperm(examples, device=where)
            total = torch.zeros((), device=where)
            batches = (data[order[start : start + batch]] for start in range(0, examples, batch))
            for x in (x.to(where) for (x,) in loaded) if loader else batches:
                loss = loss_of(x)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += loss.item() if loader else loss.detach()
            return float(total) * batch / examples

        return Work(call, examples)

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


def torch_reconstruction(model: Any, channels_last: bool) -> Any:
    """A convolutional model in a memory layout, and its summed squared error."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)  # pyright: ignore

    def loss(x: Any) -> Any:
        x = x.contiguous(memory_format=layout)
        return (model(x) - x).square().sum() / len(x)

    return model, loss


def torch_conv(channels_last: bool = False) -> Any:
    """The network and loss of `our_conv`; PyTorch starts transposed layers larger, and so falls sooner."""
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
    return torch_reconstruction(model, channels_last)


def torch_deep() -> Any:
    """The network and loss of `our_deep`."""
    from torch import nn
    from torch.nn import functional as F

    widths = (784, 1000, 500, 250, 30, 250, 500, 1000, 784)
    layers: list[Any] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), *([nn.ReLU()] if b not in (30, 784) else [])]
    model = nn.Sequential(*layers)
    return model, lambda x: F.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / len(x)


def torch_conv64(channels_last: bool = False) -> Any:
    """The network and loss of `our_conv64`."""
    from torch import nn

    model = nn.Sequential(
        *(part for a, b in ((3, 32), (32, 64), (64, 128)) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())),
        nn.Flatten(),
        nn.Linear(128 * 8 * 8, 64),
        nn.Linear(64, 128 * 8 * 8),
        nn.ReLU(),
        nn.Unflatten(1, (128, 8, 8)),
        nn.ConvTranspose2d(128, 64, 3, 2, 1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 3, 3, 2, 1, output_padding=1),
    )
    return torch_reconstruction(model, channels_last)


def torch_iwae() -> Any:
    """The network and loss of `our_iwae`."""
    import math

    import torch
    from torch import nn
    from torch.nn import functional as F

    encoder = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 100))
    decoder = nn.Sequential(nn.Linear(50, 200), nn.Tanh(), nn.Linear(200, 784))

    def loss(x: Any) -> Any:
        mean, logvar = encoder(x).chunk(2, -1)
        e = torch.randn((50, *mean.shape), device=x.device)
        z = mean + torch.exp(0.5 * logvar) * e
        logits = decoder(z)  # [50, B, 784]
        nll = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        log_w = -nll - 0.5 * (z.square() - e.square() - logvar).sum(-1)
        return -(torch.logsumexp(log_w, 0) - math.log(50)).mean()

    return nn.ModuleList([encoder, decoder]), loss


def torch_sparse(compiled: bool = False) -> Callable[[str], Work]:
    """As `our_sparse`: rho over the whole set before the pass, in a minibatch the KL that is linear about it, and rho
    moved by what the step changed. The second look at the batch is the price of that, here as there.
    """

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        data = torch.from_numpy(dataset((784,))).to(where)
        encoder, decoder = torch.nn.Linear(784, 200).to(where), torch.nn.Linear(200, 784).to(where)
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
        code = lambda x: torch.sigmoid(encoder(x))

        def loss_of(x: Any, rho: Any) -> Any:
            h, r = code(x), rho.clamp(1e-4, 1 - 1e-4)
            kl = 0.05 * torch.log(0.05 / r) + 0.95 * torch.log(0.95 / (1 - r))
            penalty = (kl + (r - 0.05) / (r * (1 - r)) * (h - rho)).sum(-1)
            return ((decoder(h) - x).square().sum(-1) + 3.0 * penalty).mean(), h.detach().mean(0)

        if compiled:
            loss_of = torch.compile(loss_of)

        def call() -> float:
            with torch.no_grad():
                rho = torch.stack([code(part).sum(0) for part in data.split(1000)]).sum(0) / EXAMPLES
            order, total = torch.randperm(EXAMPLES, device=where), torch.zeros((), device=where)
            for start in range(0, EXAMPLES, BATCH):
                x = data[order[start : start + BATCH]]
                loss, before = loss_of(x, rho)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    rho = code(x).mean(0) + 0.99 * (rho - before)
                    total += loss
            return float(total) * BATCH / EXAMPLES

        return Work(call, EXAMPLES)

    return build


def torch_rbm(compiled: bool = False) -> Callable[[str], Work]:
    """As `our_rbm`, the statistics by hand and without autograd."""

    def build(device: str) -> Work:
        import torch
        from torch.nn import functional as F

        where = torch_device(device)
        data = torch.from_numpy(dataset((784,))).to(where)
        weights, hidden, visible = (torch.zeros(size, device=where) for size in ((784, 500), (500,), (784,)))
        weights.normal_(0, 0.01)

        def learn(v: Any) -> Any:
            h = torch.sigmoid(v @ weights + hidden)
            logits = torch.bernoulli(h) @ weights.T + visible
            dream = torch.sigmoid(logits)
            again = torch.sigmoid(dream @ weights + hidden)
            weights.add_(v.T @ h - dream.T @ again, alpha=0.1 / BATCH)
            hidden.add_((h - again).mean(0), alpha=0.1)
            visible.add_((v - dream).mean(0), alpha=0.1)
            return F.binary_cross_entropy_with_logits(logits, v, reduction="sum")

        if compiled:
            learn = torch.compile(learn)

        def call() -> float:
            order, total = torch.randperm(EXAMPLES, device=where), torch.zeros((), device=where)
            with torch.no_grad():
                for start in range(0, EXAMPLES, BATCH):
                    total += learn(data[order[start : start + BATCH]])
            return float(total) / EXAMPLES

        return Work(call, EXAMPLES)

    return build


def torch_likelihood(compiled: bool = False) -> Callable[[str], Work]:
    """As `our_likelihood`: 50 samples of all examples at a time."""

    def build(device: str) -> Work:
        import math

        import torch
        from torch.nn import functional as F

        where = torch_device(device)
        x = torch.from_numpy(dataset((784,))[:100]).to(where)
        (encoder, decoder), _ = torch_vae()
        for part in (encoder, decoder):
            part.to(where)

        def log_weights(mean: Any, logvar: Any) -> Any:
            e = torch.randn((50, *mean.shape), device=where)
            z = mean + torch.exp(0.5 * logvar) * e
            logits = decoder(z)
            nll = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
            return -nll - 0.5 * (z.square() - e.square() - logvar).sum(-1)

        if compiled:
            log_weights = torch.compile(log_weights)

        def call() -> float:
            with torch.no_grad():
                mean, logvar = encoder(x).chunk(2, -1)
                parts = [log_weights(mean, logvar) for _ in range(10)]
                return float((torch.logsumexp(torch.cat(parts), 0) - math.log(500)).mean())

        return Work(call, 100)

    return build


def torch_evaluation(compiled: bool = False) -> Callable[[str], Work]:
    """The loss of `torch_vae` and the errors of its reconstructions over the data set, 1000 examples at a time."""

    def build(device: str) -> Work:
        import torch
        from torch.nn import functional as F

        where = torch_device(device)
        data = torch.from_numpy(dataset((784,))).to(where)
        (encoder, decoder), _ = torch_vae()
        for part in (encoder, decoder):
            part.to(where)

        def metrics(x: Any) -> Any:  # those of ours: all have the code's mean decoded, besides the draw of the loss
            mean, logvar = encoder(x).chunk(2, -1)
            z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
            nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum()
            output = torch.sigmoid(decoder(mean))
            squared, p = (output - x).square().sum(-1), output.clip(1e-6, 1 - 1e-6)
            entropy = -(x * p.log() + (1 - x) * torch.log1p(-p)).sum(-1)
            return torch.stack([(nll + kl) / len(x), squared.mean(), squared.mean() / 784, entropy.mean()])

        if compiled:
            metrics = torch.compile(metrics)

        def call() -> float:
            with torch.no_grad():
                return float(torch.stack([metrics(part) * len(part) for part in data.split(1000)]).sum(0)[0]) / EXAMPLES

        return Work(call, EXAMPLES)

    return build


def pythae_vae(device: str) -> Work:
    """An epoch of pythae's own trainer, its VAE with the networks and the likelihood of `our_vae`."""
    import logging

    import torch
    from pythae.data.datasets import BaseDataset  # pyright: ignore
    from pythae.models import VAE, VAEConfig  # pyright: ignore
    from pythae.models.base.base_utils import ModelOutput  # pyright: ignore
    from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore
    from torch import nn

    logging.disable(logging.CRITICAL)
    torch_device(device)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.heads = nn.Sequential(nn.Linear(784, 500), nn.ReLU()), nn.Linear(500, 40)

        def forward(self, x: Any) -> Any:
            mean, logvar = self.heads(self.hidden(x.reshape(len(x), -1))).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=logvar)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(20, 500), nn.ReLU(), nn.Linear(500, 784), nn.Sigmoid())

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=self.layers(z).reshape(len(z), 1, 28, 28))

    data = torch.from_numpy(dataset((1, 28, 28)))
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    folder = tempfile.mkdtemp()  # it wants one, and with no step for saving leaves it as it is
    training = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        no_cuda=device == "cpu",
    )
    model = VAE(config, Encoder(), Decoder())
    trainer = BaseTrainer(model, BaseDataset(data, torch.zeros(len(data))), training_config=training)
    trainer.prepare_training()
    return Work(lambda: float(trainer.train_step(1)), EXAMPLES)


def torch_gradient(penalty: Callable[[Any], Any], params: Any, device: str, compiled: bool) -> Work:
    """Value and gradient of a penalty of one batch in its params, by `torch.func`."""
    import torch

    run = torch.func.grad_and_value(penalty)
    if compiled:
        run = torch.compile(run)

    def call() -> float:
        _, value = run(params)
        torch_wait(device)
        return float(value)

    return Work(call, BATCH)


def torch_encoder(widths: tuple[int, ...]) -> Any:
    """Affine layers, each with its sigmoid."""
    import torch

    layers = [(torch.nn.Linear(a, b), torch.nn.Sigmoid()) for a, b in itertools.pairwise(widths)]
    return torch.nn.Sequential(*(part for layer in layers for part in layer))


def torch_contraction(
    jacobian: str, chunk: int | None = None, widths: tuple[int, ...] = (784, 500), compiled: bool = False
) -> Callable[[str], Work]:
    """Value and gradient of the mean penalty of a batch, by `torch.func`."""

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        x = torch.from_numpy(dataset((784,))[:BATCH]).to(where)
        net = torch_encoder(widths).to(where)
        params = {name: p.detach() for name, p in net.named_parameters()}
        of = getattr(torch.func, jacobian)

        def penalty(params: Any) -> Any:
            def encode(x: Any) -> Any:
                return torch.func.functional_call(net, params, (x,))

            return torch.func.vmap(lambda x: of(encode)(x).square().sum(), chunk_size=chunk)(x).mean()

        return torch_gradient(penalty, params, device, compiled)

    return build


def torch_hutchinson(widths: tuple[int, ...]) -> Callable[[str], Work]:
    """One random vector an example through the encoder, back, and the gradient of that, by autograd."""

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        x = torch.from_numpy(dataset((784,))[:BATCH]).to(where).requires_grad_()
        net = torch_encoder(widths).to(where)

        def call() -> float:
            net.zero_grad(set_to_none=True)
            z = net(x)
            signs = torch.randint(0, 2, z.shape, device=where) * 2.0 - 1
            (back,) = torch.autograd.grad(z, x, signs, create_graph=True)
            value = back.square().sum() / BATCH
            value.backward(inputs=list(net.parameters()))
            torch_wait(device)
            return float(value.detach())

        return Work(call, BATCH)

    return build


def torch_hutchinson_func(widths: tuple[int, ...], compiled: bool = False) -> Callable[[str], Work]:
    """As `torch_hutchinson`, by `torch.func`: torch.compile refuses gradients of autograd's gradients."""

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        x = torch.from_numpy(dataset((784,))[:BATCH]).to(where)
        net = torch_encoder(widths).to(where)
        params = {name: p.detach() for name, p in net.named_parameters()}

        def penalty(params: Any) -> Any:
            z, back, *_ = torch.func.vjp(lambda x: torch.func.functional_call(net, params, (x,)), x)
            return back(torch.randint(0, 2, z.shape, device=where) * 2.0 - 1)[0].square().sum() / BATCH

        return torch_gradient(penalty, params, device, compiled)

    return build


def torch_closed(compiled: bool = False) -> Callable[[str], Work]:
    """The penalty's closed form for one sigmoid layer, by autograd."""

    def build(device: str) -> Work:
        import torch

        where = torch_device(device)
        x = torch.from_numpy(dataset((784,))[:BATCH]).to(where)
        layer = torch.nn.Linear(784, 500).to(where)

        def penalty(x: Any) -> Any:
            h = torch.sigmoid(layer(x))
            return ((h * (1 - h)).square() @ layer.weight.square().sum(1)).mean()

        if compiled:
            penalty = torch.compile(penalty)

        def call() -> float:
            layer.zero_grad(set_to_none=True)
            value = penalty(x)
            value.backward()
            torch_wait(device)
            return float(value.detach())

        return Work(call, BATCH)

    return build


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


def torch_layer(device: str) -> Work:
    """As `jax_layer`."""
    import torch

    where = torch_device(device)
    a, b = torch.randn((BATCH, 784), device=where), torch.randn((784, 500), device=where)
    product = torch.empty((BATCH, 500), device=where)

    def call() -> float:
        for _ in range(LAYERS):
            torch.mm(a, b, out=product)
        torch_wait(device)
        return 0.0 * float(product[0, 0])

    return Work(call, LAYERS * 2 * BATCH * 784 * 500)


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
        if importlib.util.find_spec("ae_jax.app.cli") is None:
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
