"""Sparse dictionaries: one linear layer each way, whose decoder's rows are unit vectors.

A code is z = s(W (x - b) + c) and a reconstruction z D + b: b is the decoder's bias, D its kernel. A member chooses s,
the sparsity of a code, and perhaps a penalty.
"""

from collections.abc import Callable
from typing import Annotated

import jax.numpy as jnp
import optax
from jax import Array

from ..core import Autoencoder, Batch, Heads, Key, Params, Rule, assign
from .recode import code_only, linear_code

DictionaryAutoencoder = Annotated[Autoencoder, Heads(1, network="linear")]  # one linear layer each way, not tied


def checked_net(net: Autoencoder) -> Autoencoder:
    """The network itself. Raises ValueError if its code or its output is known to have gone through a function."""
    net = linear_code(code_only(net))
    if net.output not in ("linear", None):
        raise ValueError(f"the output is {net.output}, and a dictionary's is a sum: leave output_activation linear")
    return net


def rows(params: Params) -> Array:
    """The dictionary D, [K, D]. Raises ValueError for params of a network that has none."""
    encoder, decoder = params["encoder"], params["decoder"]
    if set(encoder) != {"layer_0"} or set(decoder) != {"layer_0"}:
        raise ValueError(
            "a dictionary is one linear layer each way, and not tied: build its network by networks.linear(shape, "
            "latents), --network linear on the command line"
        )
    return decoder["layer_0"]["kernel"]


def with_rows(params: Params, change: Callable[[Array], Array]) -> Params:
    """The params with another dictionary, `change` of it."""
    layer = params["decoder"]["layer_0"]
    return params | {"decoder": {"layer_0": {**layer, "kernel": change(rows(params))}}}


def unit(w: Array) -> Array:
    """w with rows of length 1."""
    return w / jnp.linalg.norm(w, axis=-1, keepdims=True)


def centre(params: Params) -> Array:
    """The decoder's bias b, flat: [D]."""
    return params["decoder"]["layer_0"]["bias"]


def before(net: Autoencoder, params: Params, x: Array, key: Key | None = None) -> Array:
    """W (x - b) + c, before the sparsity: [B, K]."""
    return net.encode(params, x - centre(params).reshape(1, *net.shape), key)


def start(net: Autoencoder, key: Key, data: Batch) -> Params:
    """Params with random unit rows, an encoder that is their transpose, and the data's mean for b.

    Beside them are `variance`, the data's mean squared distance from that mean, and `idle`, for each unit the training
    examples since one activated it, [K] int32.
    """
    params = net.init(key, data)
    mean, directions = data.x.mean(0, keepdims=True), unit(rows(params))
    return {
        "encoder": {"layer_0": {**params["encoder"]["layer_0"], "kernel": directions.T}},
        "decoder": {"layer_0": {"kernel": directions, "bias": mean.ravel()}},
        "idle": jnp.zeros(net.latents, jnp.int32),
        "variance": jnp.square(data.x - mean).reshape(len(data.x), -1).sum(-1).mean(),
    }


def tangent() -> optax.GradientTransformation:
    """Takes from the rows' gradient its part along each row, which `unit_rows` would undo. Bricken et al. (2023)."""

    def along(gradient: Params, params: Params) -> Params:
        w = rows(params)
        return with_rows(gradient, lambda g: g - (g * w).sum(-1, keepdims=True) * w)

    return optax.stateless(along)  # pyright: ignore[reportArgumentType]


def unit_rows() -> Rule:
    """Brings every row back to length 1."""
    return assign(lambda params, batch, key: {"decoder": with_rows(params, unit)["decoder"]})
