"""Networks with arithmetic in fewer bits than their params have. Micikevicius et al. (2018), arXiv:1710.03740."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from ..core import Autoencoder, Key, Params

PrecisionName = Literal["float32", "bfloat16"]


def rounded(net: Autoencoder, dtype: Any = jnp.bfloat16) -> Autoencoder:
    """The network with its arithmetic in `dtype`: params and inputs are rounded to it, and codes and outputs are
    converted back to the dtype of the input.

    So params, their gradients, the optimizer's moments and every loss stay in float32. Only the products and the
    activations, also those kept for the backward pass, are in `dtype`. XLA accumulates the sums of a product, and those
    over a batch, in float32 and rounds the result. bfloat16 has float32's range and needs no scaling of losses.
    `layer`, the closed form of the encoder's Jacobian, is unchanged.
    """

    def to(dtype: Any, tree: Any) -> Any:
        return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)

    def within(fn: Callable[..., Any]) -> Callable[..., Any]:
        def call(params: Params, inputs: Array, key: Key | None = None) -> Any:
            return to(inputs.dtype, fn(to(dtype, params), inputs.astype(dtype), key))

        return call

    return net._replace(encode=within(net.encode), decode=within(net.decode), apply=within(net.apply))
