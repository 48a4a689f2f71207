"""Terms that objectives share: norms of weights, and errors of reconstructions."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..core import Metrics, Params
from ..distributions.sums import squared_error, sum_examples
from ..xla.barriers import at_least_float32

NOT_WEIGHTS = (
    "bias",
    "centres",
    "codebook",
    "likelihood",
    "mixture",
    "pseudo",
)  # groups and names of params without decay, of any shape


def is_weight(params: Any) -> Any:
    """A tree of bools, True for weights: leaves with two axes or more, except those under a name of NOT_WEIGHTS."""

    def decays(path: tuple[Any, ...], leaf: Array) -> bool:
        return leaf.ndim >= 2 and not any(getattr(entry, "key", None) in NOT_WEIGHTS for entry in path)

    return jax.tree_util.tree_map_with_path(decays, params)


def weights(params: Any) -> list[Array]:
    """The leaves that are weights, see `is_weight`."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(is_weight(params)), strict=True)
    return [leaf for leaf, decays in pairs if decays]


def dtype_of(params: Params) -> Any:
    """The dtype of the decoder's params, which drawn codes take."""
    return jax.tree.leaves(params["decoder"])[0].dtype


def l1(params: Any) -> Array:
    """Sum of |w| over all weights (not biases). -> []."""
    return sum((jnp.abs(w).sum() for w in weights(params)), start=jnp.asarray(0.0))  # of any dtype


def l2(params: Any) -> Array:
    """Sum of w^2 over all weights (not biases). -> []."""
    return sum((jnp.square(w).sum() for w in weights(params)), start=jnp.asarray(0.0))


def reconstruction(x_hat: Array, x: Array, eps: float = 1e-6) -> Metrics:
    """The three common errors of a reconstruction in data space, each [B] and each under its own name.

    `mse`: squared error averaged over dimensions. `squared_error`: summed over dimensions.
    `cross_entropy`: nats, summed over dimensions, x_hat clipped to [eps, 1 - eps], in float32 if it has 16 bits.
    """
    error = squared_error(x_hat, x)
    p = jnp.clip(at_least_float32(x_hat), eps, 1 - eps)
    entropy = -sum_examples(x * jnp.log(p) + (1 - x) * jnp.log1p(-p))
    return {"mse": error / x[0].size, "squared_error": error, "cross_entropy": entropy.astype(x_hat.dtype)}
