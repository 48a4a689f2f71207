"""Critics of maps: networks that give one number for each example."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax import Array

from ..core import Key, Net
from .common import Activation, ActivationName, activation


class Critic(nn.Module):
    """Convolutions that halve the maps, and a dense layer: [B, h, w, c] -> [B]."""

    channels: Sequence[int]
    kernel: int
    activation: Activation

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, features in enumerate(self.channels):
            x = self.activation(nn.Conv(features, (self.kernel,) * 2, strides=2, name=f"level_{i}")(x))
        return nn.Dense(1, name="odds")(x.reshape(len(x), -1))[:, 0]


def conv_critic(
    shape: tuple[int, int, int],
    *,
    channels: tuple[int, ...] = (32, 64),
    kernel: int = 3,
    activation: ActivationName | Activation = "leaky_relu",
) -> Net:
    """A convolutional critic of inputs [B, h * w * c], or [B, h, w, c], such as codes that are maps. -> [B].

    Args:
        shape: of the maps, (h, w, c).
        channels: of each level; a level halves height and width.
        kernel: side of the kernels.
        activation: of the levels.
    Raises ValueError for a shape that is no map's, no levels, or numbers below 1.
    """
    if len(shape) != 3 or not channels or min(*shape, *channels, kernel) < 1:
        raise ValueError(
            f"shape is {shape}, channels {channels} and kernel {kernel}; wanted: (h, w, c), all at least 1"
        )
    module = Critic(channels, kernel, _activation(activation))

    def init(key: Key, x: Array) -> Any:
        params = module.init(key, x.reshape(len(x), *shape))["params"]
        return jax.tree.map(lambda p: p.astype(x.dtype), params)

    def apply(params: Any, x: Array) -> Array:
        found: Any = module.apply({"params": params}, x.reshape(len(x), *shape))
        return found

    return Net(init, apply)


_activation = activation  # `conv_critic` has a parameter of that name
