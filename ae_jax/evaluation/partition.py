"""Partition functions of restricted Boltzmann machines: by enumeration, and by annealed importance sampling.

Salakhutdinov & Murray (2008), ICML; Neal (2001). log p(x) = -F(x) - log Z.
"""

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Key, Params, address
from ..distributions.sums import sum_examples
from ..objectives.boltzmann import UNITS, Machine

MOST = 24  # units that can be enumerated


class Estimate(NamedTuple):
    """log Z in nats, by the mean weight of the chains; `low` and `high` are three standard errors of the mean away."""

    log_z: Array
    low: Array
    high: Array


def exact(machine: Machine, params: Params) -> Array:
    """log Z in nats, by enumerating the states of the smaller side whose units are Bernoulli. -> [].

    Raises ValueError if that side has more than 24 units.
    """
    sizes = {
        side: count
        for side, units, count in (
            ("visible", machine.visible, prod(machine.net.shape)),
            ("hidden", machine.hidden, machine.net.latents),
        )
        if units is UNITS["bernoulli"]
    }
    side = min(sizes, key=lambda s: sizes[s])
    if (count := sizes[side]) > MOST:
        raise ValueError(f"the smaller Bernoulli side has {count} units, at most {MOST} can be enumerated: use ais")
    bias = machine.visible_bias(params)
    chunk = min(2**count, 1024)

    def states(i: Array) -> Array:  # the states of the numbers i, as bits
        return (i[:, None] >> jnp.arange(count) & 1).astype(bias.dtype)

    def visible(i: Array) -> Array:
        return -machine.free_energy(params, states(i).reshape(-1, *machine.net.shape))

    def hidden(i: Array) -> Array:  # log mass of hidden states: minus their free energy
        h = states(i)
        c = machine.net.encode(params, jnp.zeros_like(bias))[0]
        return h @ c + sum_examples(machine.visible.partition(machine.net.decode(params, h)))

    log_mass = visible if side == "visible" else hidden

    def add(total: Array, first: Array) -> tuple[Array, None]:
        return jnp.logaddexp(total, jax.nn.logsumexp(log_mass(first + jnp.arange(chunk)))), None

    return lax.scan(add, jnp.full((), -jnp.inf, bias.dtype), jnp.arange(0, 2**count, chunk))[0]


def ais(
    machine: Machine,
    params: Params,
    key: Key,
    *,
    chains: int = 100,
    temperatures: int = 1000,
    base: Array | None = None,
) -> Estimate:
    """log Z by annealing from independent visible units to the machine. Section 4.1, with their eq. (18).

    Args:
        machine: a Boltzmann machine.
        params: its params.
        key: for the draws of the chains.
        chains: the number of independent chains, whose weights are averaged.
        temperatures: steps from the base to the machine, evenly spaced.
        base: natural parameters of the independent visible units, [*shape]; 0 by default. Those of the data's mean give
            a better estimate.

    Raises:
        ValueError: fewer than two chains, which have no spread, or no temperatures.
    """
    if chains < 2 or temperatures < 1:
        raise ValueError(f"chains is {chains} and temperatures {temperatures}; at least 2 and 1 are needed")
    bias = machine.visible_bias(params)
    start = jnp.zeros_like(bias) if base is None else base[None].astype(bias.dtype)

    def log_mass(v: Array, beta: Array) -> Array:  # unnormalised log p_beta(v), [chains]
        linear = v * ((1 - beta) * start + beta * bias)
        return sum_examples(linear - machine.visible.base(v)) + machine.hidden.partition(
            beta * machine.net.encode(params, v)
        ).sum(-1)

    def step(carry: tuple[Array, Array], t: Array):
        v, weight = carry
        before, beta = ((t + s).astype(bias.dtype) / temperatures for s in (0, 1))
        weight += log_mass(v, beta) - log_mass(v, before)
        key_hidden, key_visible = jax.random.split(address(key_walk, t))
        h = machine.hidden.draw(key_hidden, beta * machine.net.encode(params, v))
        v = machine.visible.draw(key_visible, (1 - beta) * start + beta * machine.net.decode(params, h))
        return (v, weight), None

    key_begin, key_walk = jax.random.split(key)
    begin = machine.visible.draw(key_begin, jnp.broadcast_to(start, (chains, *machine.net.shape)))
    zero = jnp.zeros(chains, bias.dtype)
    (_, weight), _ = lax.scan(step, (begin, zero), jnp.arange(temperatures))
    at_base = machine.visible.partition(start).sum() + machine.net.latents * machine.hidden.partition(
        jnp.zeros((), bias.dtype)
    )
    top = weight.max()
    ratio = jnp.exp(weight - top)
    error = 3 * ratio.std(ddof=1) / chains**0.5
    at = lambda mean: at_base + top + jnp.log(jnp.maximum(mean, 0))
    return Estimate(at(ratio.mean()), at(ratio.mean() - error), at(ratio.mean() + error))


def log_likelihood(machine: Machine, params: Params, x: Array, log_z: Array | float) -> Array:
    """log p(x) in nats, given log Z. [B, *shape] -> [B]."""
    return -machine.free_energy(params, x) - log_z
