"""Masks that make a network of dense layers autoregressive: output d depends only on inputs before it in an order.

Germain et al. (2015), arXiv:1502.03509. Every unit has a degree. That of an input is its place in the order, 1 to D.
That of a hidden unit is a number m from 1 to D - 1: the unit sees only units whose degree is at most m. The masked
network is the network itself on masked weights, and the masks are functions of the degrees alone.
"""

from collections.abc import Callable
from itertools import accumulate
from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Autoencoder, Heads, Key, Params, address
from ..distributions.flows import connections

ReluAutoencoder = Annotated[Autoencoder, Heads(1, "relu")]  # a code that is one hidden layer of several


def layers(params: Params) -> list[tuple[str, str]]:
    """(group, name) of every dense layer, from the input to the output.

    Raises ValueError unless all layers of the network are dense and not tied.
    """
    found = [(group, f"layer_{i}") for group in ("encoder", "decoder") for i in range(len(params[group]))]
    if any(name not in params[group] or params[group][name]["kernel"].ndim != 2 for group, name in found):
        raise ValueError("only dense layers that are not tied can be masked: build the network with networks.mlp")
    return found


def draw_degrees(key: Key, params: Params, shuffle: bool = True) -> Array:
    """Degrees of the inputs and then of every hidden layer's units. -> [D + H] int32.

    The order of the inputs is drawn uniformly; without `shuffle` it is 1 to D. The degree of a hidden unit is drawn
    uniformly from the least degree in the layer below to D - 1, so that every unit has an input.
    """
    key_order, key_hidden = jax.random.split(key)
    kernels = [params[group][name]["kernel"] for group, name in layers(params)]
    size = kernels[0].shape[0]
    order = jnp.arange(1, size + 1, dtype=jnp.int32)
    degrees = [jax.random.permutation(key_order, order) if shuffle else order]
    for i, kernel in enumerate(kernels[:-1]):
        key_layer, least = address(key_hidden, i), degrees[-1].min()
        degrees.append(jax.random.randint(key_layer, kernel.shape[1:], least, max(size, 2), jnp.int32))
    return jnp.concatenate(degrees)


def before(order: Array) -> Array:
    """Whether the input of a row is before that of a column in the order. [D] -> [D, D] bool."""
    return order[:, None] < order[None]


def unseen(params: Params) -> Params:
    """The initial group "connectivity" of `masked`, all 0."""
    return {f"{group}_{name}": jnp.zeros_like(params[group][name]["kernel"]) for group, name in layers(params)}


def masked(params: Params, degrees: Array) -> Params:
    """The params with masked weights; other groups as they are. degrees [D + H] -> the params.

    A group "connectivity" has weights like the network's own (see `unseen`). They are masked too and act on a constant
    input of 1 in every layer, which shows units how they are connected.
    """
    names = layers(params)
    widths = [params[group][name]["kernel"].shape[0] for group, name in names]
    parts = jnp.split(degrees, list(accumulate(widths))[:-1])
    keeps = connections(parts)
    after = params | {group: dict(params[group]) for group, _ in names}
    for (group, name), keep in zip(names, keeps, strict=True):
        layer = params[group][name]
        shift = (params["connectivity"][f"{group}_{name}"] * keep).sum(0) if "connectivity" in params else 0
        after[group][name] = {"kernel": layer["kernel"] * keep, "bias": layer["bias"] + shift}
    return after


def ancestral(
    logits: Callable[[Params, Array, Array], Array], params: Params, shape: tuple[int, ...], key: Key, n: int
) -> Array:
    """n draws of binary x, each by a random row of the group "degrees" [M, D + H], input after input. -> [n, *shape].

    `logits`: (params, x [1, *shape], row [D + H]) -> the logits of every p(x_d = 1 | x_<d).
    """
    group, name = layers(params)[0]
    dtype = params[group][name]["kernel"].dtype

    def one(key: Key) -> Array:
        key_row, key_u = jax.random.split(key)
        row, u = jax.random.choice(key_row, params["degrees"]), jax.random.uniform(key_u, shape, dtype)
        place = row[: u.size].reshape(shape)

        def step(x: Array, d: Array) -> tuple[Array, None]:
            return jnp.where(place == d, u < jax.nn.sigmoid(logits(params, x[None], row)[0]), x), None

        return lax.scan(step, jnp.zeros_like(u), jnp.arange(1, u.size + 1))[0]

    return lax.map(one, jax.random.split(key, n))
