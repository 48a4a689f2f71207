"""Fully connected autoencoders of any depth and width, tied or not, with dropout; also purely linear ones."""

from collections.abc import Sequence
from math import prod
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ..checks import NOT_NEGATIVE, check_used, is_concrete, unless
from ..core import Autoencoder, Key, Params, address
from ..objectives.recode import composed
from .common import (
    ACTIVATIONS,
    Activation,
    ActivationName,
    Dropout,
    Initializer,
    InitName,
    activation,
    check_code,
    check_rates,
    initializers,
    pair,
)
from .common import log_inputs as _log_inputs


class MLP(nn.Module):
    """Dense layers: `activation` and dropout after all but the last, `last` and `last_dropout` after it."""

    widths: Sequence[int]
    activation: Activation
    last: Activation
    scheme: InitName | Initializer
    dropout: float = 0.0
    last_dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        h = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.widths):
            end = i == len(self.widths) - 1
            kernel_init, bias_init = initializers(self.scheme, h.shape[-1])
            h = nn.Dense(width, kernel_init=kernel_init, bias_init=bias_init, name=f"layer_{i}")(h)
            h = (self.last if end else self.activation)(h)
            h = Dropout(self.last_dropout if end else self.dropout)(h, train)
        return h


class TiedDecoder(nn.Module):
    """The encoder's layers backwards, through the transposes of their kernels; the decoder has its own biases."""

    widths: Sequence[int]
    activation: Activation
    last: Activation
    dropout: float

    @nn.compact
    def __call__(self, z: Array, kernels: Sequence[Array] | None = None, train: bool = False) -> Array:
        h = z
        for i, width in enumerate(self.widths):
            end = i == len(self.widths) - 1
            bias = self.param(f"bias_{i}", nn.initializers.zeros, (width,))
            h = (jnp.zeros((h.shape[0], width), h.dtype) if kernels is None else h @ kernels[i]) + bias[None]
            h = (self.last if end else self.activation)(h)
            h = Dropout(0.0 if end else self.dropout)(h, train)
        return h


HIDDEN = (unless("hidden", ()), unless("hidden_back", None, ()))  # an option of hidden layers needs at least one


def mlp(
    shape: tuple[int, ...],
    latents: int,
    *,
    hidden: tuple[int, ...] = (512,),
    hidden_back: tuple[int, ...] | None = None,
    heads: int = 1,
    activation: Annotated[ActivationName | Activation, *HIDDEN] = "relu",
    code_activation: ActivationName | Activation = "linear",
    output_activation: ActivationName | Activation = "linear",
    tied: bool = False,
    dropout: Annotated[float, *HIDDEN] = 0.0,
    code_dropout: float = 0.0,
    init: InitName | Initializer = "glorot",
    log_inputs: bool = False,
    outputs: int = 1,
) -> Autoencoder:
    """A fully connected autoencoder, by default symmetric: D-hidden-K-hidden reversed-D.

    Args:
        shape: shape of one example; the encoder flattens it, and the reconstruction has it again.
        latents: size of the code, K.
        hidden: widths of the encoder's hidden layers, such as (1000, 500, 250); () for one layer each way.
        hidden_back: widths of the decoder's hidden layers; by default the encoder's, reversed.
        heads: vectors of size K that the encoder emits: 1, or 2 for a Gaussian's mean and log-variance.
        activation: activation of hidden layers.
        code_activation: activation of the code.
        output_activation: activation of the output; leave it linear for a Bernoulli likelihood, which takes logits.
        tied: the decoder's weights are the encoder's, transposed (its biases are its own).
        dropout: dropout rate of hidden layers, in encoder and decoder.
        code_dropout: dropout rate of the code.
        init: initializer of the weights, by name or as a function (key, shape, dtype) -> kernel.
        log_inputs: the encoder gets log(1 + x), for counts.
        outputs: numbers that the decoder emits for each number of an example, see `Likelihood`.

    Raises:
        ValueError: an unknown name, no latents, a rate outside [0, 1), dropout without hidden layers, or tied weights
            with several heads or outputs or with another `hidden_back`.
        TypeError: a number in place of a tuple.
    """
    for name, sizes in {"shape": shape, "hidden": hidden, "hidden_back": hidden_back}.items():
        if sizes is not None and not isinstance(sizes, Sequence):
            raise TypeError(f"{name} is {sizes!r}; give a tuple, such as ({sizes!r},)")
    back = tuple(reversed(hidden)) if hidden_back is None else hidden_back
    if latents < 1 or any(width < 1 for width in (*hidden, *back)):
        raise ValueError(f"latents is {latents} and hidden {hidden}, {back}; every width must be at least 1")
    if tied and back != tuple(reversed(hidden)):
        raise ValueError(f"tied weights go back as they came: with hidden {hidden}, hidden_back cannot be {back}")
    if tied and heads != 1:
        raise ValueError(f"tied weights need one head, this algorithm's encoder emits {heads}: use tied=False")
    if tied and outputs != 1:
        raise ValueError(f"tied weights give 1 output for each number of x, and outputs is {outputs}: use tied=False")
    check_rates(dropout=dropout, code_dropout=code_dropout)
    # An activation without hidden layers passes here: code that serves any depth gives one.
    check_used(mlp, {"hidden": hidden, "hidden_back": hidden_back, "dropout": dropout}, {"dropout": 0.0})
    inner, code, out = map(_activation, (activation, code_activation, output_activation))
    encoder = MLP((*hidden, heads * latents), inner, code, init, dropout, code_dropout)
    backwards = (*back, outputs * prod(shape))

    def layer(params: Params, x: Array) -> tuple[Array, Array]:
        kernel, bias = params["encoder"]["layer_0"]["kernel"], params["encoder"]["layer_0"]["bias"]
        before = x.reshape(x.shape[0], -1) @ kernel + bias[None]
        return kernel, jax.jvp(code, (before,), (jnp.ones_like(before),))[1]

    net = pair(
        encoder,
        TiedDecoder(backwards, inner, out, dropout) if tied else MLP(backwards, inner, out, init, dropout),
        tuple(shape),
        latents,
        layer=layer if not hidden and _elementwise(code, heads * latents) else None,
        code_activation=code_activation,
        output_activation=output_activation,
        outputs=outputs,
    )
    if tied:
        net = _tie(net, TiedDecoder(backwards, inner, out, dropout), len(hidden) + 1)
    return _log_inputs(net) if log_inputs else net


def linear(shape: tuple[int, ...], latents: int, *, heads: int = 1, tied: bool = False) -> Autoencoder:
    """A purely linear autoencoder (with biases), whose optimum spans the principal subspace.

    Args:
        shape: shape of one example.
        latents: size of the code, K.
        heads: vectors of size K that the encoder emits.
        tied: the decoder's weights are the encoder's, transposed.
    """
    return mlp(shape, latents, hidden=(), heads=heads, tied=tied)


def rbm(shape: tuple[int, ...], latents: int, *, heads: int = 1, scale: float = 0.01) -> Autoencoder:
    """The two sides of a restricted Boltzmann machine: one tied linear layer, with initial weights N(0, scale^2).

    Args:
        shape: shape of one example.
        latents: number of hidden units, K.
        heads: 1.
        scale: standard deviation of the initial weights: 0.01 (Hinton, 2010), or 0.1 (2006).

    Raises:
        ValueError: more than one head.
    """
    if heads != 1:
        raise ValueError(f"the network rbm is tied and has one head, this algorithm's encoder emits {heads}: use mlp")
    NOT_NEGATIVE.check("scale", scale)
    return mlp(shape, latents, hidden=(), heads=heads, tied=True, init=nn.initializers.normal(scale))


def _tie(net: Autoencoder, decoder: TiedDecoder, depth: int) -> Autoencoder:
    def decode(params: Params, z: Array, key: Key | None = None) -> Array:
        check_code(z, net.latents)
        kernels = [params["encoder"][f"layer_{i}"]["kernel"].T for i in reversed(range(depth))]
        rngs = None if key is None else {"dropout": key}
        variables = {"params": params["decoder"]}
        flat: Any = decoder.apply(variables, z, kernels, train=key is not None, rngs=rngs)
        return flat.reshape(z.shape[0], *net.shape)

    return net._replace(decode=decode, apply=composed(net.encode, decode))


def _elementwise(s: Activation, size: int) -> bool:
    """Whether each of `size` outputs depends only on the input at the same place, by the Jacobian at one point."""
    if s in ACTIVATIONS.values():
        return True
    with jax.ensure_compile_time_eval():
        at = jax.random.normal(address(jax.random.key(0), "slope"), (1, size))
        slopes = jax.jacfwd(s)(at).reshape(-1, size)
        return is_concrete(slopes) and slopes.shape == (size, size) and not (slopes * (1 - jnp.eye(size))).any()


_activation = activation  # `mlp` has a parameter of that name
