"""Sides of scripts/bench.py in JAX. Each function makes the work of one side on JAX's default device."""

import math
import os
from collections.abc import Callable
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import optax
from bench_data import BATCH, EXAMPLES, Work, dataset
from jax import lax

from ae_jax import algorithms, core, networks
from ae_jax.evaluation.likelihood import log_likelihood
from ae_jax.training import compiled, devices

SAME = {"init": "uniform"}  # the initial weights of PyTorch
STRIDED = {"kernel": 3, "down": "stride", "up": "transpose", **SAME}


def _mlp(code: int, *hidden: int, **more: Any) -> Any:
    return networks.mlp((784,), code, hidden=hidden, **SAME, **more)


# name: shape of an example, optimizer -> algorithm; bench_torch.MODELS has the same networks and losses
MODELS: dict[str, tuple[tuple[int, ...], Callable[[Any], core.Algorithm]]] = {
    "vae": ((784,), lambda o: algorithms.vae(_mlp(20, 500, heads=2), o)),
    "deep": ((784,), lambda o: algorithms.autoencoder(_mlp(30, 1000, 500, 250), o, likelihood="bernoulli")),
    "iwae": ((784,), lambda o: algorithms.importance(_mlp(50, 200, heads=2, activation="tanh"), o, samples=50)),
    "sparse": ((784,), lambda o: algorithms.sparse(_mlp(200, code_activation="sigmoid"), o)),
    "rbm": ((784,), lambda o: algorithms.rbm(networks.rbm((784,), 500), optax.sgd(0.1))),
    "beta-tc": ((784,), lambda o: algorithms.beta_tc_vae(_mlp(20, 500, heads=2), o, examples=EXAMPLES)),
    "factor": ((784,), lambda o: algorithms.factor_vae(_mlp(20, 500, heads=2), o)),
    "dip": ((784,), lambda o: algorithms.dip_vae(_mlp(20, 500, heads=2), o)),
    "info": ((784,), lambda o: algorithms.info_vae(_mlp(20, 500, heads=2), o)),
    "vamp": ((784,), lambda o: algorithms.vamp(_mlp(20, 500, heads=2), o)),
    "vq": ((784,), lambda o: algorithms.vq_vae(_mlp(64, 500), o)),
    "fsq": ((784,), lambda o: algorithms.vq_vae(_mlp(64, 500), o, quantiser="fsq", dimension=4)),
    "topk": ((256,), lambda o: algorithms.dictionary(networks.linear((256,), 2048), o, k=32)),
    "conv": (
        (28, 28, 1),
        lambda o: algorithms.autoencoder(networks.conv((28, 28, 1), 32, channels=(32, 64), **STRIDED), o),
    ),
    "conv64": (
        (64, 64, 3),
        lambda o: algorithms.autoencoder(networks.conv((64, 64, 3), 64, channels=(32, 64, 128), **STRIDED), o),
    ),
}


def algorithm_of(model: str, plain: bool = False) -> core.Algorithm:
    """One of MODELS with Adam, or with plain gradient steps."""
    return MODELS[model][1](optax.sgd(1e-3) if plain else optax.adam(1e-3))


def counted(step: Any, units: int, *args: Any) -> dict[str, float]:
    """XLA's cost analysis of a compiled `step(*args)` of `units` units, for one unit. XLA counts a loop's body once."""
    cost = jax.jit(step).lower(*args).compile().cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    return {name: cost[name] / units for name in ("flops", "bytes accessed") if name in cost}


def program(run: Any, units: int, *args: Any, loops: bool = False) -> Work:
    """The work of one compiled program; its loss is the result "loss", or the first number.

    With `loops` XLA's count, which would be wrong, is left out.
    """
    run = jax.jit(run)

    def call() -> float:
        result = jax.block_until_ready(run(*args))
        loss = result["loss"] if isinstance(result, dict) else jax.tree.leaves(result)[0]
        return float(loss.ravel()[0])

    return Work(call, units, dict if loops else lambda: counted(run, units, *args))


# ------------------------------------------------------------------------------------------------ training


def training(
    device: str,
    model: str,
    batch: int = BATCH,
    examples: int = EXAMPLES,
    plain: bool = False,
    seeds: int = 0,
    cores: bool = False,
) -> Work:
    """An epoch as one compiled program, with one or several seeds, optionally spread over the cores."""
    n = os.cpu_count() or 1
    if cores:
        if device != "cpu" or seeds % n:
            raise ValueError(f"{seeds} seeds cannot be spread over {n} cores, or there is something better")
        devices.of_cores(n)
    data = core.Batch(jnp.asarray(dataset(MODELS[model][0], examples)))
    algorithm = algorithm_of(model, plain)
    rule, key, first = core.epoch(algorithm, batch), jax.random.key(0), data._replace(x=data.x[:batch])
    update = lambda p, m, k, data: rule.update(p, m, data, k)
    start = lambda k: core.start(algorithm.init, rule, data, k)
    if seeds:
        state: Any = [*jax.jit(jax.vmap(lambda k: start(k)[:2]))(jax.random.split(key, seeds))]
        step: Any = lambda p, m, k, data: compiled.map_seeds(lambda p, m, k: update(p, m, k, data))(p, m, k)
        if cores:
            mesh = devices.mesh(n)
            step, data = devices.spread(step, mesh, True, True, True, False), devices.everywhere(data, mesh)
            state = jax.device_put(state, devices.shardings(mesh)[0])
        key_of = lambda i: jax.random.split(jax.random.fold_in(key, i), seeds)
    else:
        params, memory, key = start(key)
        state, step, key_of = [params, memory], update, lambda i: jax.random.fold_in(key, i)
    step, epochs = jax.jit(step, donate_argnums=(0, 1)), count()

    def call() -> float:
        params, memory, metrics = step(*state, key_of(next(epochs)), data)
        state[:] = params, memory
        return float(jax.block_until_ready(metrics)["loss"].mean())

    def cost() -> dict[str, float]:
        one, params = algorithm.rule, algorithm.init(key, first)
        return counted(one.update, batch, params, one.init(params), first, key)

    return Work(call, examples * max(1, seeds), cost)


def loop(device: str, model: str, batch: int = BATCH, examples: int = EXAMPLES) -> Work:
    """The same epoch as a loop in Python over compiled steps, as Flax's tutorials write it."""
    data = core.Batch(jnp.asarray(dataset(MODELS[model][0], examples)))
    algorithm, key, epochs = algorithm_of(model), jax.random.key(0), count()
    params = algorithm.init(key, data._replace(x=data.x[:batch]))
    state = [params, algorithm.rule.init(params)]
    step = jax.jit(algorithm.rule.update, donate_argnums=(0, 1))
    before = algorithm.before and jax.jit(algorithm.before.update)

    def call() -> float:
        key_order, key_steps, key_before = jax.random.split(jax.random.fold_in(key, next(epochs)), 3)
        order = jax.random.permutation(key_order, examples)
        losses = []
        if before:  # the statistics of the whole data set
            state[0] = before(state[0], (), data, key_before)[0]
        for at in range(0, examples, batch):
            picked = core.Batch(data.x[order[at : at + batch]])
            *state[:], metrics = step(*state, picked, jax.random.fold_in(key_steps, at))
            losses.append(metrics["loss"])
        return float(jnp.stack(losses).mean())

    return Work(call, examples)


def vae_products(weights: Any, x: Any) -> Any:
    """The eleven matrix products of a step of the VAE, in a chain, which give the gradients of its weights."""
    a, b, c, d = weights
    h = x @ a
    z = (h @ b)[:, :20]
    back = z @ c
    out = back @ d
    to_back = out @ d.T
    to_code = jnp.tile(to_back @ c.T, 2)
    return x.T @ (to_code @ b.T), h.T @ to_code, z.T @ to_back, back.T @ out


def products(device: str) -> Work:
    """An epoch of `vae_products` in sequence, without other work."""
    data = jnp.asarray(dataset((784,)))
    sizes = ((784, 500), (500, 40), (20, 500), (500, 784))
    weights = [jax.random.normal(jax.random.key(i), size) / size[0] ** 0.5 for i, size in enumerate(sizes)]

    def step(weights: Any, x: Any) -> Any:  # uses one number of each gradient, else XLA drops the product
        gradients = vae_products(weights, x)
        return [w.at[0, 0].add(1e-30 * g[0, 0]) for w, g in zip(weights, gradients, strict=True)], None

    run = lambda weights, x: lax.scan(step, weights, x.reshape(-1, BATCH, 784))[0]
    return program(run, EXAMPLES, weights, data, loops=True)


# -------------------------------------------------------------------------------------- one program each


def contraction(device: str, penalty: str, hidden: tuple[int, ...] = (), size: int = 500) -> Work:
    """Value and gradient of the mean contractive penalty of a batch; "jacrev" is written in plain JAX."""
    net = _mlp(size, *hidden, activation="sigmoid", code_activation="sigmoid")
    batch, key = core.Batch(jnp.asarray(dataset((784,), BATCH))), jax.random.key(0)
    algorithm = algorithms.contractive(net, optax.sgd(0.1), penalty="exact" if penalty == "jacrev" else penalty)  # pyright: ignore

    def ours(params: Any, batch: core.Batch) -> Any:
        return algorithm.evaluate(params, batch, key)["jacobian"].mean()

    def plain(params: Any, batch: core.Batch) -> Any:
        slopes = jax.vmap(jax.jacrev(lambda one: net.encode(params, one[None])[0]))(batch.x)
        return jnp.square(slopes).sum((1, 2)).mean()

    run = jax.value_and_grad(plain if penalty == "jacrev" else ours)
    return program(run, BATCH, algorithm.init(key, batch), batch, loops=penalty == "exact")


def likelihood(device: str, steps: bool = False) -> Work:
    """log p(x) of 100 examples by 500 importance samples of the untrained VAE; `steps`: a loop of 10 times 50."""
    data, key, algorithm = core.Batch(jnp.asarray(dataset((784,), 100))), jax.random.key(0), algorithm_of("vae")
    params = algorithm.init(key, data)
    if not steps:
        run = lambda params, data: log_likelihood(algorithm, params, data, key, 500).mean()
        return program(run, 100, params, data, loops=True)
    assert algorithm.log_weight is not None
    step = jax.jit(jax.vmap(algorithm.log_weight, (None, None, 0)))
    keys = lambda i: jax.random.split(jax.random.fold_in(key, i), 50)

    def call() -> float:
        log_w = jnp.concatenate([step(params, data, keys(i)) for i in range(10)])  # [500, 100]
        return float((jax.nn.logsumexp(log_w, 0) - math.log(500)).mean())

    cost = lambda: {name: 10 * value for name, value in counted(step, 100, params, data, keys(0)).items()}
    return Work(call, 100, cost)


def evaluation(device: str, steps: bool = False) -> Work:
    """The mean of every metric of the VAE over the data; `steps`: a loop with 1,000 examples each."""
    data, key, algorithm = core.Batch(jnp.asarray(dataset((784,)))), jax.random.key(0), algorithm_of("vae")
    params = algorithm.init(key, data)
    if not steps:
        return program(lambda p, d: core.average(algorithm.evaluate, p, d, key), EXAMPLES, params, data, loops=True)
    step = jax.jit(lambda p, x, key: jax.tree.map(lambda m: m.sum(0), algorithm.evaluate(p, core.Batch(x), key)))

    def call() -> float:
        parts = range(0, EXAMPLES, 1000)
        totals = [step(params, data.x[i : i + 1000], jax.random.fold_in(key, i)) for i in parts]
        return float(jnp.stack([t["loss"] for t in totals]).sum()) / EXAMPLES

    return Work(call, EXAMPLES, lambda: counted(step, 1000, params, data.x[:1000], key))


# ----------------------------------------------------------------------------------- the machine's limits


LAYERS = 50  # products in one call of `layer`


def layer(device: str) -> Work:
    """The product of a batch of 128 with a layer 784-500, repeated in one program; the unit is an operation."""
    a, b = jax.random.normal(jax.random.key(0), (BATCH, 784)), jax.random.normal(jax.random.key(1), (784, 500))

    def again(_: Any, carry: Any) -> Any:  # each product needs the one before, else XLA would run one
        a, b, product = carry
        product = a @ b
        return a.at[0, 0].add(1e-30 * product[0, 0]), b, product

    run = lambda a, b: lax.fori_loop(0, LAYERS, again, (a, b, a[:, :1] * b[:1]))[2]
    return program(run, LAYERS * 2 * BATCH * 784 * 500, a, b, loops=True)


def copy(device: str) -> Work:
    """A large array, read and written once; the unit is a byte, read or written."""
    n = (64 if device == "cpu" else 1024) * 2**20
    return program(lambda a: a + 1, 2 * n, jnp.ones(n // 4), loops=True)
