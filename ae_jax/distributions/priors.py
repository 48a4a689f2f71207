"""Priors of codes, each a record of pure functions.

`learned` gives the priors that learn with a model, by name. `prior` gives those of the adversarial autoencoder:
Makhzani et al. (2015), arXiv:1511.05644, figures 2 to 4.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import COUNT, POSITIVE, check_choice
from ..core import Batch, Init, Key, Params
from . import flows
from .likelihoods import nothing

PriorName = Literal["gaussian", "mixture", "swiss_roll"]
LearnedName = Literal["normal", "gmm", "realnvp", "maf"]
LOG_2PI = 1.8378770664093453


class Prior(NamedTuple):
    """A distribution p(z) of codes."""

    # (params, key, n, dtype=float, y=None) -> z [n, K]; labels y [n] choose modes; a label that is no mode gets any
    draw: Callable[..., Array]
    log_prob: Callable[[Params, Array], Array] | None = None  # (params, z [..., K]) -> [...], nats; None: not known
    init: Init = nothing  # params of its own
    groups: tuple[str, ...] = ()  # the groups that `init` makes; all of them learn
    modes: int = 0  # number of modes that labels can choose
    centres: Callable[[Params], Array] | None = None  # params -> centres of the components of a mixture, [C, K]


def normal(size: int, scale: float = 1.0) -> Prior:
    """N(0, scale^2 I) over codes of that size. Raises ValueError for a scale that is not positive."""
    POSITIVE.check("the prior's scale", scale)

    def draw(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        z = jax.random.normal(key, (n, size), dtype)
        return z if isinstance(scale, float | int) and scale == 1 else scale * z

    def log_prob(params: Params, z: Array) -> Array:
        return -0.5 * (jnp.square(z / scale) + (LOG_2PI + 2 * jnp.log(jnp.asarray(scale, z.dtype)))).sum(-1)

    return Prior(draw, log_prob)


def of_components(params: Params, z: Array) -> Array:
    """log p(c) + log p(z | c) of every component of a `mixture`, in nats. z [..., K] -> [..., C]."""
    own = params["mixture"]
    moved = z.reshape(-1, 1, z.shape[-1]) - own["mean"][None]  # [N, C, K]
    if "root" in own:
        solve = lambda root, d: jax.scipy.linalg.solve_triangular(root, d.T, lower=True).T
        scaled = jax.vmap(solve, (0, 1), 1)(own["root"], moved)
        log_size = jnp.log(jnp.abs(jnp.diagonal(own["root"], axis1=1, axis2=2))).sum(-1)  # [C]
    else:
        scaled, log_size = moved * jnp.exp(-0.5 * own["logvar"])[None], 0.5 * own["logvar"].sum(-1)
    log_each = -0.5 * (jnp.square(scaled) + LOG_2PI).sum(-1) + (jax.nn.log_softmax(own["logits"]) - log_size)[None]
    return log_each.reshape(*z.shape[:-1], -1)


def mixture(size: int, components: int = 10, full: bool = False) -> Prior:
    """A learned mixture of Gaussians over codes of that size, sum_c p(c) N(m_c, S_c). Labels choose components.

    The group "mixture" holds "logits" [C], "mean" [C, K] and the covariances: "logvar" [C, K], or with `full` "root"
    [C, K, K], lower triangular with S_c = root root^T.
    """
    COUNT.check("components", components)

    def draw(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        key_part, key_noise = jax.random.split(key)
        own, noise = params["mixture"], jax.random.normal(key_noise, (n, size), dtype)
        part = jax.random.categorical(key_part, own["logits"], shape=(n,))
        part = part if y is None else jnp.where((y < 0) | (y >= len(own["logits"])), part, y)
        if "root" in own:
            noise = lax.map(lambda root: noise @ jnp.tril(root).T, own["root"])[part, jnp.arange(n)]
        else:
            noise = jnp.exp(0.5 * own["logvar"])[part] * noise
        return (own["mean"][part] + noise).astype(dtype)

    def init(key: Key, data: Batch) -> Params:
        shape, dtype = (components, size), data.x.dtype
        spread = {"root": jnp.tile(jnp.eye(size, dtype=dtype), (components, 1, 1))}
        spread = spread if full else {"logvar": jnp.zeros(shape, dtype)}
        mean = jax.random.normal(key, shape, dtype)
        return {"mixture": {"logits": jnp.zeros((components,), dtype), "mean": mean, **spread}}

    def log_prob(params: Params, z: Array) -> Array:
        return jax.nn.logsumexp(of_components(params, z), -1)

    return Prior(
        draw=draw,
        log_prob=log_prob,
        init=init,
        groups=("mixture",),
        modes=components,
        centres=lambda params: params["mixture"]["mean"],
    )


def flowed(flow: flows.Flow, size: int) -> Prior:
    """The distribution of flow(u), u ~ N(0, I): log p(z) = log N(u; 0, I) + log |det du/dz|, with params in "flow"."""
    base = normal(size)

    def draw(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        return flow.forward(params["flow"], base.draw({}, key, n, dtype))[0].astype(dtype)

    def log_prob(params: Params, z: Array) -> Array:
        u, log_det = flow.inverse(params["flow"], z)
        return -0.5 * (jnp.square(u) + LOG_2PI).sum(-1) + log_det

    init = lambda key, data: {"flow": flow.init(key, data.x.dtype)}
    return Prior(draw=draw, log_prob=log_prob, init=init, groups=("flow",))


def learned(name: LearnedName, size: int, components: int = 10) -> Prior:
    """A prior over codes of that size whose params learn with the model.

    `normal`: N(0, I), without params. `gmm`: a `mixture` of `components`, each with its own variances. `realnvp` and
    `maf`: the `flows` of these names, which begin at N(0, I). Raises ValueError for another name, for no components,
    and for `realnvp` over one dimension.
    """
    check_choice("prior", name, get_args(LearnedName))
    if name == "gmm":
        return mixture(size, components)
    if name == "realnvp" and size < 2:  # its networks would have params of size 0, which no checkpoint holds
        raise ValueError(
            f"prior realnvp is over codes of {size} latent; one half of them moves the other, which needs at least 2: "
            "take more latents, or the prior maf or gmm"
        )
    return normal(size) if name == "normal" else flowed({"realnvp": flows.realnvp, "maf": flows.maf}[name](size), size)


def prior(name: PriorName, size: int, scale: float = 1.0, modes: int = 10) -> Prior:
    """A prior over codes of that size.

    `gaussian`: N(0, scale^2 I). `mixture`: a flower of `modes` Gaussians in two dimensions. Mode c has the angle
    2 pi c / modes and the distance 2 scale; its standard deviations are 0.5 scale along its ray and 0.1 scale across.
    `swiss_roll`: the spiral scale t (cos 2 pi t, sin 2 pi t) in two dimensions, with t^2 uniform from 0 to 4; mode c is
    the c-th of `modes` equally probable pieces.

    A label that is no mode, below 0 or from `modes` on, gets any mode.

    Raises ValueError for another name, a scale that is not positive, no modes, or a two-dimensional prior where size is
    not 2.
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
