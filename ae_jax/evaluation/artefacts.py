"""Checkerboard artefacts: the energy that an upsampling decoder adds at the frequencies of its stride.

Odena, Dumoulin & Olah (2016), Distill, "Deconvolution and checkerboard artifacts".
"""

import jax.numpy as jnp
from jax import Array


def stride_energy(x: Array, stride: int = 2) -> Array:
    """The part of each image's energy about its mean that repeats every `stride` pixels down or across. -> [B].

    It is the share of the rows and columns at the multiples of 2 pi / stride in the power spectrum. For a stride of 2
    these hold all that alternates from row to row or from column to column, at any frequency along the other axis. 1
    for a checkerboard or stripes of that period; 0 for an image without them and for a constant image; for white noise,
    the fraction of the spectrum's entries in these rows and columns. x [B, H, W, C] is cut to a multiple of the stride.
    Raises ValueError for other shapes, and for a stride below 2 or larger than the images.
    """
    if x.ndim != 4 or not 2 <= stride <= min(x.shape[1:3]):
        raise ValueError(f"x is {x.shape} and stride {stride}; wanted are images [B, H, W, C] and 2 <= stride <= H, W")
    height, width = (size // stride * stride for size in x.shape[1:3])
    power = jnp.square(jnp.abs(jnp.fft.fft2(x[:, :height, :width], axes=(1, 2)))).sum(-1)  # [B, H, W]
    power = power.at[:, 0, 0].set(0.0)
    repeats = lambda size: (jnp.arange(size) % (size // stride) == 0) & (jnp.arange(size) > 0)
    here = repeats(height)[:, None] | repeats(width)
    total = power.sum((1, 2))
    # an energy below this is rounding: the image is constant
    least = jnp.finfo(x.dtype).eps ** 2 * height * width * jnp.square(x[:, :height, :width]).sum((1, 2, 3)) * 100
    return jnp.where(total > least, (power * here).sum((1, 2)) / jnp.where(total > least, total, 1.0), 0.0)
