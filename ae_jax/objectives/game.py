"""A critic, and the game that moves codes towards a prior. Goodfellow et al. (2014), arXiv:1406.2661.

The critic is a small multilayer perceptron in plain arrays, for it is part of the loss: nobody asks for another.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ..checks import known
from ..core import Batch, Key, Loss, Optimizer, Params, Rule, chain, descend
from ..distributions.losses import softplus

Draw = Callable[[Params, Batch, Key], Array]  # what the critic looks at, [B, D]


def init(key: Key, size: int, widths: Sequence[int], dtype: Any) -> list[tuple[Array, Array]]:
    """(weights, biases) of each layer, size-widths-1, by He et al. (2015): N(0, 2 / fan_in), biases 0."""
    sizes = [size, *widths, 1]
    keys = jax.random.split(key, len(sizes) - 1)

    def layer(key: Key, fan_in: int, fan_out: int) -> tuple[Array, Array]:
        return (2 / fan_in) ** 0.5 * jax.random.normal(key, (fan_in, fan_out), dtype), jnp.zeros(fan_out, dtype)

    return [layer(*of) for of in zip(keys, sizes[:-1], sizes[1:], strict=True)]


def logit(layers: list[tuple[Array, Array]], z: Array) -> Array:
    """log of the odds that z is a draw from the prior rather than a code. [B, D] -> [B]."""
    for i, (weights, biases) in enumerate(layers):
        z = (jax.nn.relu(z) if i else z) @ weights + biases[None]
    return z[:, 0]


def game(
    prior: Draw,
    codes: Draw,
    optimizer: Optimizer,
    rates: tuple[float, float] = (1.0, 1.0),
    name: str = "",
) -> Rule:
    """Both sides of a game, in nats. The group `<name>critic`, a critic's layers, learns to tell prior from codes;
    then the encoder learns to have codes taken for draws from the prior (by the form that does not saturate).
    `rates` are the learning rates of the critic and of the encoder over the optimizer's.

    Reports `<name>critic` and `<name>confusion`; where nothing is left to tell, they are 2 log 2 and log 2.
    """
    group = f"{name}critic"

    def discriminate(params: Params, batch: Batch, key: Key) -> Loss:
        key_prior, key_codes = jax.random.split(key)
        real = logit(params[group], prior(params, batch, key_prior))
        return Loss(softplus(-real) + softplus(logit(params[group], codes(params, batch, key_codes))))

    def confuse(params: Params, batch: Batch, key: Key) -> Loss:
        return Loss(softplus(-logit(params[group], codes(params, batch, key))))

    scaled = lambda rate: optimizer if known(rate) and rate == 1 else optax.chain(optimizer, optax.scale(rate))
    critic, encoder = map(scaled, rates)
    return chain(
        descend(discriminate, critic, wrt=(group,), name=group),
        descend(confuse, encoder, wrt=("encoder",), name=f"{name}confusion"),
    )
