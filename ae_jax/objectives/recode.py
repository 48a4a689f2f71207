"""Networks as a code and what is decoded from it, nothing else: another code in place of a network's own."""

from collections.abc import Callable

import jax
from jax import Array

from ..core import Autoencoder, Key, Params


def through(encode: Callable[..., Array], decode: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """`Autoencoder.apply` of those two, each with a key of its own in training."""

    def apply(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        key_encoder, key_decoder = (None, None) if key is None else jax.random.split(key)
        z = encode(params, x, key_encoder)
        return z, decode(params, z, key_decoder)

    return apply


def of_code_alone(net: Autoencoder) -> Autoencoder:
    """The network itself. Raises ValueError if its `apply` makes reconstructions of more than the code.

    For whoever decodes codes without it, drawn ones above all: what is beside the code would be lost silently.
    """
    if net.beside:
        raise ValueError(
            f"this network makes reconstructions of its code and of {net.beside}, and codes are decoded alone here: "
            "take a network without, or another algorithm"
        )
    return net


def linear_code(net: Autoencoder) -> Autoencoder:
    """The network itself. Raises ValueError if its code is known to have gone through a function.

    For whoever needs numbers of any size and sign: logits, a Gaussian's mean and log-variance, natural parameters.
    """
    if net.activation not in ("linear", None):
        raise ValueError(f"this network's code is {net.activation} and must be linear here: leave code_activation so")
    return net


def recoded(net: Autoencoder, encode: Callable[..., Array]) -> Autoencoder:
    """The network with `encode`, (params, x, key=None) -> code, for its own; raises as `of_code_alone`."""
    apply = through(encode, of_code_alone(net).decode)
    return net._replace(encode=encode, apply=apply, layer=None, activation=None)
