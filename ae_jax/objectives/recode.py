"""Networks whose code is replaced by another, and checks of a network's code."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Autoencoder, Key, Params


def composed(encode: Callable[..., Array], decode: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """`Autoencoder.apply` as `decode` after `encode`; each gets a key of its own in training."""

    def apply(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        key_encoder, key_decoder = (None, None) if key is None else jax.random.split(key)
        z = encode(params, x, key_encoder)
        return z, decode(params, z, key_decoder)

    return apply


def code_only(net: Autoencoder) -> Autoencoder:
    """The network itself. Raises ValueError if its `apply` decodes more than the code.

    For algorithms that decode codes alone, such as drawn ones, and would lose the rest silently.
    """
    if net.side_information:
        raise ValueError(
            f"this network reconstructs from its code and {net.side_information}, and this algorithm decodes codes "
            "alone: take another network, or another algorithm"
        )
    return net


def linear_code(net: Autoencoder) -> Autoencoder:
    """The network itself. Raises ValueError if its code is known to have an activation.

    For algorithms whose code is any real number: logits, a Gaussian's mean and log-variance, natural parameters.
    """
    if net.activation not in ("linear", None):
        raise ValueError(f"this network's code is {net.activation} and must be linear here: leave code_activation so")
    return net


def recoded(net: Autoencoder, encode: Callable[..., Array]) -> Autoencoder:
    """The network with another `encode`, (params, x, key=None) -> code. Raises ValueError as `code_only` does."""
    apply = composed(encode, code_only(net).decode)
    return net._replace(encode=encode, apply=apply, layer=None, activation=None)


def largest(z: Array, k: int | Array, most: int) -> Array:
    """z with all but its k largest entries 0; of equals, the first are kept. [B, K] -> [B, K].

    k may be traced; it is at most `most`.
    """
    _, index = lax.top_k(lax.stop_gradient(z), most)  # [B, most]
    kept = jnp.broadcast_to(jnp.arange(index.shape[1]) < k, index.shape)
    return jnp.where(jnp.put_along_axis(jnp.zeros(z.shape, bool), index, kept, axis=1, inplace=False), z, 0)
