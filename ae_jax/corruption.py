"""Corruptions of inputs, `(x, key) -> x`, and `corrupted`, which puts one in front of a network.

Vincent et al. (2010), JMLR 11, section 5.3: masking, Gaussian and salt-and-pepper noise.
"""

from collections.abc import Callable
from math import inf
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from .checks import NOT_NEGATIVE, PORTION, check_choice, is_concrete
from .core import Autoencoder, Key, Params
from .xla import draws

Corruption = Callable[[Array, Key], Array]  # x [B, ...] -> [B, ...]
CorruptionName = Literal["masking", "gaussian", "salt_and_pepper", "patches", "bar", "grey", "low_resolution"]
FACTOR = 2  # the default of low_resolution


def masking(p: float = 0.25) -> Corruption:
    """Sets each element to 0 with probability p."""
    _probability("masking", p)
    return lambda x, key: x * draws.bernoulli(key, 1 - p, x.shape).astype(x.dtype)


def gaussian(s: float = 0.25) -> Corruption:
    """Adds N(0, s^2) noise to each element; s in units of the data."""
    NOT_NEGATIVE.check("the standard deviation of gaussian noise", s)
    return lambda x, key: x + s * draws.normal(key, x.shape, x.dtype)


def salt_and_pepper(p: float = 0.25) -> Corruption:
    """Sets each element, with probability p, to 0 or 1 by a fair coin."""
    _probability("salt_and_pepper", p)

    def corrupt(x: Array, key: Key) -> Array:
        u = draws.uniform(key, x.shape)  # one number an element: below p / 2 it becomes 0, below p it becomes 1
        return jnp.where(u < p / 2, 0, jnp.where(u < p, 1, x)).astype(x.dtype)

    return corrupt


def patches(fraction: float = 0.25) -> Corruption:
    """Sets to 0 a rectangle at a random place of each image [B, H, W, C], with its proportions, `fraction` its area.

    Raises ValueError for a fraction above 0 whose sides round to 0 pixels; if mapped over, they have at least a pixel.
    """
    _probability("patches", fraction)

    def corrupt(x: Array, key: Key) -> Array:
        _images("patches", x)
        _, height, width, _ = x.shape
        sides = [_side("patches", fraction, size, fraction**0.5) for size in (height, width)]

        def inside(key: Key, size: int, side: int | Array) -> Array:  # [B, size]
            first = jax.random.randint(key, (len(x), 1), 0, size - side + 1)
            place = jnp.arange(size)
            return (place >= first) & (place < first + side)

        key_rows, key_columns = jax.random.split(key)
        rows, columns = inside(key_rows, height, sides[0]), inside(key_columns, width, sides[1])
        return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], 0, x).astype(x.dtype)

    return corrupt


def bar(fraction: float = 0.25) -> Corruption:
    """Sets to 0 an upright bar at a random place of each image [B, H, W, C], `fraction` of its width.

    Raises ValueError for a fraction above 0 that rounds to 0 pixels; if mapped over, it has at least a pixel.
    """
    _probability("bar", fraction)

    def corrupt(x: Array, key: Key) -> Array:
        _images("bar", x)
        width = x.shape[2]
        side = _side("bar", fraction, width, fraction)
        first = jax.random.randint(key, (len(x), 1), 0, width - side + 1)
        inside = (jnp.arange(width) >= first) & (jnp.arange(width) < first + side)  # [B, W]
        return jnp.where(inside[:, None, :, None], 0, x).astype(x.dtype)

    return corrupt


def grey(level: float = 1.0) -> Corruption:
    """Removes `level` (0 to 1) of the colour of each image [B, H, W, C]; 1 leaves the brightness, the mean over C."""
    _probability("grey", level)

    def corrupt(x: Array, key: Key) -> Array:
        _images("grey", x)
        return x + level * (x.mean(-1, keepdims=True) - x)

    return corrupt


def low_resolution(factor: float = FACTOR) -> Corruption:
    """Shrinks each image [B, H, W, C] by `factor`, each pixel the mean of a block, and enlarges it again, bicubically.

    The result is `jax.image.resize(small, x.shape, "cubic")` of the small image, clipped to [0, 1], or to the
    range of an image that goes beyond. Raises ValueError for a factor that is no whole number of at least 1, or that
    does not divide height and width.
    """
    if not is_concrete(factor) or not 1 <= factor < inf or factor != round(factor):
        raise ValueError(
            f"low_resolution was given {factor}; it must be a whole number, such as 2 or 4, and cannot be swept"
        )

    def corrupt(x: Array, key: Key) -> Array:
        _images("low_resolution", x)
        batch, height, width, channels = x.shape
        if height % factor or width % factor:
            raise ValueError(f"images of {height}x{width} cannot be shrunk {factor:g} times in whole blocks")
        blocks = x.reshape(batch, int(height // factor), int(factor), int(width // factor), int(factor), channels)
        low = jnp.minimum(x.min((1, 2, 3), keepdims=True), 0)  # of standardised data, or of counts
        high = jnp.maximum(x.max((1, 2, 3), keepdims=True), 1)
        return jnp.clip(jax.image.resize(blocks.mean((2, 4)), x.shape, "cubic"), low, high)

    return corrupt


def corruption(kind: CorruptionName | Corruption, level: float | None = None) -> Corruption:
    """A corruption by name and level (None: its default), or the function itself.

    Raises ValueError for another name, and for a level of a function.
    """
    kinds = {
        "masking": masking,
        "gaussian": gaussian,
        "salt_and_pepper": salt_and_pepper,
        "patches": patches,
        "bar": bar,
        "grey": grey,
        "low_resolution": low_resolution,
    }
    if callable(kind):
        if level is not None:
            raise ValueError(
                f"level={level} has no effect with a function: leave it out, or give the function its level"
            )
        return kind
    check_choice("corruption", kind, kinds, " or a function (x, key) -> x")
    return kinds[kind]() if level is None else kinds[kind](level)


def corrupted(net: Autoencoder, corrupt: Corruption) -> Autoencoder:
    """The network with its input corrupted in training, which means: whenever a key is given.

    Any algorithm on such a network is its denoising form: the loss compares the output with the clean input.
    Raises ValueError for a network that already corrupts its input.
    """
    if net.corrupt is not None:
        raise ValueError("this network corrupts its input already: make one function (x, key) -> x of the two")

    def before(fn):
        def with_corruption(params: Params, x: Array, key: Key | None = None):
            if key is None:
                return fn(params, x)
            key_corrupt, key_net = jax.random.split(key)
            return fn(params, corrupt(x, key_corrupt), key_net)

        return with_corruption

    return net._replace(encode=before(net.encode), apply=before(net.apply), corrupt=corrupt)


def _images(name: str, x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name} corrupts images [B, H, W, C]; it was given the shape {x.shape}")


def _side(name: str, level: float, size: int, portion: float | Array) -> int | Array:
    """`portion` of `size` pixels, rounded."""
    if not is_concrete(portion):
        return jnp.where(portion > 0, jnp.maximum(jnp.round(size * portion), 1), 0).astype(jnp.int32)
    if portion > 0 and round(size * portion) == 0:
        raise ValueError(f"{name} of {level} rounds to 0 of {size} pixels and would erase nothing: give a larger level")
    return round(size * portion)


def _probability(name: str, p: float) -> None:
    PORTION.check(f"the level of {name}", p)
