"""Flows: bijections of codes with known log-determinants, each a record of pure functions.

RealNVP: Dinh, Sohl-Dickstein & Bengio (2017), arXiv:1605.08803. MAF, the masked autoregressive flow: Papamakarios,
Pavlakou & Murray (2017), arXiv:1705.07057. A flow begins as the identity, or as a reversal of the dimensions' order.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import COUNT
from ..core import Key, Params

STEEPEST = 2.0  # the largest log-scale of one layer; the bound is smooth

Map = Callable[[Params, Array], tuple[Array, Array]]


class Flow(NamedTuple):
    """A bijection from noise u to codes z, both [..., K]."""

    init: Callable[[Key, Any], Params]  # (key, dtype) -> params
    forward: Map  # (params, u) -> z, log |det dz/du| [...]
    inverse: Map  # (params, z) -> u, log |det du/dz| [...]


def connections(degrees: Sequence[Array]) -> list[Array]:
    """The masks of an autoregressive network's layers, each [in, out] bool, from the degrees of its units.

    The first degrees are those of the inputs and of the outputs. A unit sees the units below of equal or smaller
    degree, an output only those of smaller degree. Germain et al. (2015), arXiv:1502.03509, eq. (12) and (13).
    """
    keeps = [low[:, None] <= high[None] for low, high in pairwise(degrees)]
    return [*keeps, degrees[-1][:, None] < degrees[0][None]]


def on_rows(fn: Map) -> Map:
    """A map of [N, K] to [N, K] and [N], extended to points of any leading shape."""

    @wraps(fn)
    def on(params: Params, x: Array) -> tuple[Array, Array]:
        y, log_det = fn(params, x.reshape(-1, x.shape[-1]))
        return y.reshape(x.shape), log_det.reshape(x.shape[:-1])

    return on


def layers(key: Key, sizes: Sequence[int], dtype: Any) -> Params:
    """Dense layers of these sizes; the last one is 0."""
    found = {}
    for i, (key_layer, (low, high)) in enumerate(
        zip(jax.random.split(key, len(sizes) - 1), pairwise(sizes), strict=True)
    ):
        scale = 0.0 if i == len(sizes) - 2 else (2 / max(low, 1)) ** 0.5
        kernel = scale * jax.random.normal(key_layer, (low, high), dtype)
        found[f"layer_{i}"] = {"kernel": kernel, "bias": jnp.zeros((high,), dtype)}
    return found


def shift_and_scale(params: Params, x: Array, masks: Sequence[Array] = ()) -> tuple[Array, Array]:
    """A ReLU network of these layers. The halves of its output are a shift and a bounded log-scale. x [N, in]."""
    for i in range(len(params)):
        kernel, bias = params[f"layer_{i}"]["kernel"], params[f"layer_{i}"]["bias"]
        x = (x if i == 0 else jax.nn.relu(x)) @ (kernel * masks[i] if masks else kernel) + bias[None]
    shift, log_scale = jnp.split(x, 2, -1)
    return shift, STEEPEST * jnp.tanh(log_scale / STEEPEST)


def coupling(size: int, width: int) -> Flow:
    """One affine coupling layer of RealNVP: the first half of the dimensions shifts and scales the second."""
    kept = size // 2

    def forward(params: Params, u: Array) -> tuple[Array, Array]:
        shift, log_scale = shift_and_scale(params, u[:, :kept])
        return jnp.concatenate([u[:, :kept], u[:, kept:] * jnp.exp(log_scale) + shift], 1), log_scale.sum(-1)  # eq. (5)

    def inverse(params: Params, z: Array) -> tuple[Array, Array]:
        shift, log_scale = shift_and_scale(params, z[:, :kept])
        u = (z[:, kept:] - shift) * jnp.exp(-log_scale)  # eq. (8)
        return jnp.concatenate([z[:, :kept], u], 1), -log_scale.sum(-1)

    sizes = (kept, width, width, 2 * (size - kept))
    return Flow(lambda key, dtype: layers(key, sizes, dtype), on_rows(forward), on_rows(inverse))


def autoregressive(size: int, width: int) -> Flow:
    """One layer of a MAF: the dimensions before dimension i shift and scale it. The inverse, from codes to noise, takes
    one pass of the network; the forward map takes one pass for each dimension.
    """
    inputs = jnp.arange(1, size + 1)
    hidden = 1 + jnp.round(jnp.linspace(0, max(size - 2, 0), width)).astype(int)  # the last ones see all but one input

    def moved(params: Params, z: Array) -> tuple[Array, Array]:
        *below, last = connections([inputs, hidden, hidden])
        return shift_and_scale(params, z, [*below, jnp.tile(last, (1, 2))])

    def inverse(params: Params, z: Array) -> tuple[Array, Array]:
        shift, log_scale = moved(params, z)
        return (z - shift) * jnp.exp(-log_scale), -log_scale.sum(-1)  # eq. (4) and (5)

    def forward(params: Params, u: Array) -> tuple[Array, Array]:
        def more(z: Array, _: None) -> tuple[Array, None]:  # each pass makes one dimension more exact
            shift, log_scale = moved(params, z)
            return u * jnp.exp(log_scale) + shift, None  # eq. (3)

        z, _ = lax.scan(more, jnp.zeros_like(u), None, length=size)
        return z, moved(params, z)[1].sum(-1)

    sizes = (size, width, width, 2 * size)
    return Flow(lambda key, dtype: layers(key, sizes, dtype), on_rows(forward), on_rows(inverse))


def repeated(layer: Flow, times: int) -> Flow:
    """`times` layers, each with its own params; the order of the dimensions is reversed after each."""

    def forward(params: Params, u: Array) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array], own: Params) -> tuple[tuple[Array, Array], None]:
            z, log_det = layer.forward(own, carry[0])
            return (z[..., ::-1], carry[1] + log_det), None

        return lax.scan(step, (u, jnp.zeros_like(u[..., 0])), params)[0]

    def inverse(params: Params, z: Array) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array], own: Params) -> tuple[tuple[Array, Array], None]:
            u, log_det = layer.inverse(own, carry[0][..., ::-1])
            return (u, carry[1] + log_det), None

        return lax.scan(step, (z, jnp.zeros_like(z[..., 0])), params, reverse=True)[0]

    def init(key: Key, dtype: Any) -> Params:
        return jax.vmap(lambda key: layer.init(key, dtype))(jax.random.split(key, times))

    return Flow(init, forward, inverse)


def whitened(flow: Flow, size: int) -> Flow:
    """The flow followed by z = mean + root u, so that the flow acts on whitened codes.

    The params are {"flow": params of the flow, "mean": [K], "root": [K, K], lower triangular}.
    """

    def init(key: Key, dtype: Any) -> Params:
        return {"flow": flow.init(key, dtype), "mean": jnp.zeros((size,), dtype), "root": jnp.eye(size, dtype=dtype)}

    def log_size(root: Array) -> Array:
        return jnp.log(jnp.abs(jnp.diagonal(root))).sum()

    def forward(params: Params, u: Array) -> tuple[Array, Array]:
        y, log_det = flow.forward(params["flow"], u)
        return params["mean"][None] + y @ params["root"].T, log_det + log_size(params["root"])

    def inverse(params: Params, z: Array) -> tuple[Array, Array]:
        y = jax.scipy.linalg.solve_triangular(params["root"], (z - params["mean"][None]).T, lower=True).T
        u, log_det = flow.inverse(params["flow"], y)
        return u, log_det - log_size(params["root"])

    return Flow(init, on_rows(forward), on_rows(inverse))


def width_of(size: int, width: int | None) -> int:
    """Units of a flow's hidden layers: by default 64, or twice the size of a code if that is more."""
    COUNT.check("width", width)
    return max(64, 2 * size) if width is None else width


def realnvp(size: int, times: int = 6, width: int | None = None) -> Flow:
    """RealNVP over codes [..., size]: `times` coupling layers, each with a network of two hidden layers."""
    COUNT.check("times", times)
    return repeated(coupling(size, width_of(size, width)), times)


def maf(size: int, times: int = 4, width: int | None = None) -> Flow:
    """A MAF over codes [..., size]: `times` autoregressive layers, each with a network of two hidden layers."""
    COUNT.check("times", times)
    return repeated(autoregressive(size, width_of(size, width)), times)
