"""Priors of codes, each a record of pure functions.

`prior` gives those of the adversarial autoencoder by name: Makhzani et al. (2015), arXiv:1511.05644, figures 2 to 4.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import POSITIVE, check_choice
from ..core import Init, Key, Params
from .likelihoods import nothing

PriorName = Literal["gaussian", "mixture", "swiss_roll"]
LOG_2PI = 1.8378770664093453


class Prior(NamedTuple):
    """A distribution p(z) of codes."""

    # (params, key, n, dtype=float, y=None) -> z [n, K]; labels y [n] name modes, and one that names none gets any
    draw: Callable[..., Array]
    log_prob: Callable[[Params, Array], Array] | None = None  # (params, z [..., K]) -> [...], nats; None: not known
    init: Init = nothing  # params of its own
    groups: tuple[str, ...] = ()  # the groups that `init` makes; all of them learn
    modes: int = 0  # that labels can name


def normal(size: int, scale: float = 1.0) -> Prior:
    """N(0, scale^2 I) over codes of that size. Raises ValueError for a scale that is not positive."""
    POSITIVE.check("the prior's scale", scale)

    def draw(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        z = jax.random.normal(key, (n, size), dtype)
        return z if isinstance(scale, float | int) and scale == 1 else scale * z

    def log_prob(params: Params, z: Array) -> Array:
        return -0.5 * (jnp.square(z / scale) + (LOG_2PI + 2 * jnp.log(jnp.asarray(scale, z.dtype)))).sum(-1)

    return Prior(draw, log_prob)


def prior(name: PriorName, size: int, scale: float = 1.0, modes: int = 10) -> Prior:
    """A prior over codes of that size.

    `gaussian`: N(0, scale^2 I). `mixture`: a flower of `modes` Gaussians in two dimensions, mode c at the angle
    2 pi c / modes and the distance 2 scale, with standard deviations 0.5 scale along its ray and 0.1 scale across.
    `swiss_roll`: the spiral t (cos 2 pi t, sin 2 pi t), t up to 2, times scale, even in area; mode c is the c-th of
    `modes` equally probable pieces of it.

    Labels that name no mode, below 0 or from `modes` on, may be anywhere.

    Raises ValueError for another name, a scale that is not positive, no modes, or a plane's prior where size is not 2.
    """
    check_choice("prior", name, ("gaussian", "mixture", "swiss_roll"))
    if modes < 1:
        raise ValueError(f"modes is {modes}; a prior has at least 1 mode")
    POSITIVE.check("the prior's scale", scale)
    if name == "gaussian":
        return normal(size, scale)
    if size != 2:
        raise ValueError(f"the prior {name} lives in two dimensions, the code has {size}: use latents=2")

    def place(key: Key, n: int, dtype: Any, y: Array | None) -> tuple[Array, Array]:
        """A mode [n] as a number from 0 to `modes`, and noise [n, 2]."""
        key_mode, key_noise = jax.random.split(key)
        any_mode = jax.random.randint(key_mode, (n,), 0, modes)
        mode = any_mode if y is None else jnp.where((y < 0) | (y >= modes), any_mode, y)
        noise = jax.random.normal if name == "mixture" else jax.random.uniform
        return mode.astype(dtype), noise(key_noise, (n, 2), dtype)

    def turned(radius: Array, across: Array | float, angle: Array) -> Array:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return scale * jnp.stack([radius * cos - across * sin, radius * sin + across * cos], -1)

    def flower(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        mode, noise = place(key, n, dtype, y)
        return turned(2 + 0.5 * noise[:, 0], 0.1 * noise[:, 1], 2 * jnp.pi * mode / modes)

    def petals(params: Params, z: Array) -> Array:  # log p of the flower
        angle = 2 * jnp.pi * jnp.arange(modes, dtype=z.dtype) / modes
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        along = (z[..., 0:1] * cos + z[..., 1:2] * sin) / scale  # in the frame of each petal
        across = (z[..., 1:2] * cos - z[..., 0:1] * sin) / scale
        squares = jnp.square((along - 2) / 0.5) + jnp.square(across / 0.1)
        log_each = -0.5 * squares - LOG_2PI - jnp.log(0.05 * jnp.square(jnp.asarray(scale, z.dtype)))
        return jax.nn.logsumexp(log_each, -1) - jnp.log(jnp.asarray(modes, z.dtype))

    def roll(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        mode, noise = place(key, n, dtype, y)
        t = 2 * jnp.sqrt((mode + noise[:, 0]) / modes)
        return turned(t, 0.0, 2 * jnp.pi * t)

    return Prior(flower if name == "mixture" else roll, petals if name == "mixture" else None, modes=modes)
