"""A critic, and the game that moves codes towards a prior. Goodfellow et al. (2014), arXiv:1406.2661.

A critic is any `Net` that gives a number for each example: `perceptron` here, or one of `networks`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ..checks import is_concrete
from ..core import Batch, Key, Loss, Net, Optimizer, Params, Rule, chain, descend
from ..distributions.sums import softplus

Draw = Callable[[Params, Batch, Key], Array]  # the inputs of the critic, [B, D]


def perceptron(widths: Sequence[int]) -> Net:
    """A critic of relu layers of these widths, whose output is the log-odds that z is a draw from the prior.

    Its params are (weights, biases) of each layer. Weights start at N(0, 2 / fan_in), He et al. (2015), biases at 0.
    """

    def init(key: Key, z: Array) -> list[tuple[Array, Array]]:
        sizes = [z.shape[-1], *widths, 1]
        keys = jax.random.split(key, len(sizes) - 1)

        def layer(key: Key, fan_in: int, fan_out: int) -> tuple[Array, Array]:
            scale = (2 / fan_in) ** 0.5
            return scale * jax.random.normal(key, (fan_in, fan_out), z.dtype), jnp.zeros(fan_out, z.dtype)

        return [layer(*of) for of in zip(keys, sizes[:-1], sizes[1:], strict=True)]

    def apply(layers: list[tuple[Array, Array]], z: Array) -> Array:  # [B, D] -> [B]
        for i, (weights, biases) in enumerate(layers):
            z = (jax.nn.relu(z) if i else z) @ weights + biases[None]
        return z[:, 0]

    return Net(init, apply)


def judge_of(critic: Net | None, widths: Sequence[int]) -> Net:
    """The critic, or a perceptron of these widths for None.

    Raises TypeError unless the critic is a `Net`. Its `apply` raises ValueError unless it gives one number for each
    example.
    """
    if critic is None:
        return perceptron(widths)
    if not (hasattr(critic, "init") and hasattr(critic, "apply")):
        raise TypeError(
            f"critic is a {type(critic).__name__}; wanted: a Net(init, apply), such as game.perceptron((8,))"
        )

    def apply(params: Params, z: Array) -> Array:
        odds = critic.apply(params, z)
        if odds.shape != z.shape[:1]:
            raise ValueError(f"the critic gave {odds.shape} for inputs {z.shape}; wanted: [B], a number for each")
        return odds

    return critic._replace(apply=apply)


def at_rate(optimizer: Optimizer, rate: float) -> Optimizer:
    """The optimizer with its updates multiplied by `rate`."""
    return optimizer if is_concrete(rate) and rate == 1 else optax.chain(optimizer, optax.scale(rate))


def discriminate(critic: Net, real: Draw, other: Draw, optimizer: Optimizer, group: str = "critic") -> Rule:
    """The critic, with its params in `group`, learns the log-odds that z is a draw of `real` and not of `other`.

    The metric called `group` is its cross-entropy in nats: 2 log 2 if the critic cannot tell the two apart.
    """

    def loss(params: Params, batch: Batch, key: Key) -> Loss:
        key_real, key_other = jax.random.split(key)
        odds = critic.apply(params[group], real(params, batch, key_real))
        return Loss(softplus(-odds) + softplus(critic.apply(params[group], other(params, batch, key_other))))

    return descend(loss, optimizer, wrt=(group,), name=group)


def game(
    critic: Net,
    prior: Draw,
    codes: Draw,
    optimizer: Optimizer,
    rates: tuple[float, float] = (1.0, 1.0),
    name: str = "",
) -> Rule:
    """Both sides of a game, in nats. The critic, in the group `<name>critic`, learns to tell draws of the prior from
    codes. Then the encoder learns codes that the critic takes for draws (by the loss that does not saturate).
    `rates` are the learning rates of the critic and of the encoder, as a multiple of the optimizer's.

    Reports the losses `<name>critic` and `<name>confusion`: 2 log 2 and log 2 if codes look like draws.
    """
    group = f"{name}critic"

    def confuse(params: Params, batch: Batch, key: Key) -> Loss:
        return Loss(softplus(-critic.apply(params[group], codes(params, batch, key))))

    of_critic, of_encoder = (at_rate(optimizer, rate) for rate in rates)
    return chain(
        discriminate(critic, prior, codes, of_critic, group),
        descend(confuse, of_encoder, wrt=("encoder",), name=f"{name}confusion"),
    )
