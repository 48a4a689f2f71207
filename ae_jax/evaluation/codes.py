"""Properties of codes: how many units are in use, how sparse codes are, and how much they change with the input."""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Algorithm, Params
from ..distributions.quantisers import perplexities


def each(fn: Callable[[Params, Array], Array], params: Params, x: Array, batch_size: int = 500) -> Array:
    """`fn(params, x)` of a whole dataset, `batch_size` examples at once. `fn` gets one example at a time, [1, *shape].

    [N, *shape] -> [N, ...].
    """
    return lax.map(lambda one: fn(params, one[None])[0], x, batch_size=min(batch_size, len(x)))


def encode(algorithm: Algorithm, params: Params, x: Array, batch_size: int = 1000) -> Array:
    """The deterministic codes of a whole dataset, `batch_size` examples at once. [N, *shape] -> [N, K]."""
    return each(algorithm.encode, params, x, batch_size)


def active_units(codes: Array, threshold: float = 0.01) -> Array:
    """How many units have a variance over the data above `threshold`. Codes [N, K], posterior means for a VAE. -> [].

    Burda et al. (2016), arXiv:1509.00519, section 5.2.
    """
    return jnp.sum(jnp.var(codes, 0) > threshold)


def mean_activation(codes: Array) -> Array:
    """The mean of each unit over the data; sparse autoencoders hold it near rho. [N, K] -> [K]."""
    return codes.mean(0)


def l0(codes: Array, resting: float = 0.0, threshold: float = 0.01) -> Array:
    """How many units of each code are awake: |activation - resting| > threshold. [N, K] -> [N].

    `resting` is the value of an inactive unit: 0 for sigmoid, rectified and linear units, -1 for tanh units that are
    trained to be sparse. Divide by K for the fraction.
    """
    return jnp.sum(jnp.abs(codes - resting) > threshold, -1)


def usage(symbols: Array, levels: int = 1) -> dict[str, Array]:
    """How many symbols occur, and the perplexity of their frequencies, over a whole set of examples. [N, P] -> each [].

    If each vector has several symbols, `levels` adjacent ones, each level has its own codebook and its own metrics,
    named "(level=1)", "(level=2)", ...
    """
    each = jnp.sort(symbols.reshape(-1, levels), 0)
    used = 1 + (each[1:] != each[:-1]).sum(0)
    found = {"symbols_used": used, "perplexity": perplexities(symbols, (None,) * levels)}
    note = lambda n: f" (level={n + 1})" if levels > 1 else ""
    return {f"{name}{note(n)}": values[n] for name, values in found.items() for n in range(levels)}


def jacobian_norm(encode: Callable[[Array], Array], x: Array, batch_size: int | None = None) -> Array:
    """||dz/dx||, the Frobenius norm of the encoder's Jacobian at each example. [N, *shape] -> [N].

    `encode` maps [B, *shape] to [B, K], each example by itself. The Jacobian is exact, by forward or reverse mode,
    whichever takes fewer passes. By default as many examples at once as have 64 MiB of Jacobians. Rifai et al. (2011),
    ICML, eq. (1), penalises the square of the norm.
    """
    one = lambda example: encode(example[None])[0]
    inputs, outputs = prod(x.shape[1:]), jax.eval_shape(one, x[0]).size
    derivative = jax.jacrev(one) if outputs < inputs else jax.jacfwd(one)
    at_once = min(len(x), batch_size or max(1, 2**24 // (inputs * outputs)))
    return lax.map(lambda example: jnp.sqrt(jnp.square(derivative(example)).sum()), x, batch_size=at_once)
