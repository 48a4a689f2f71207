"""Losses and divergences, each [B]: summed over an example's dimensions, never averaged over examples.

Units are nats for likelihoods and divergences. The mean over examples is taken by `core.descend` alone.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import check_choice
from ..core import Autoencoder, Metrics
from ..xla.barriers import computed, single

LikelihoodName = Literal["squared", "bernoulli", "multinomial"]


def sum_examples(a: Array) -> Array:
    """Sums over everything but the leading axis. [B, ...] -> [B]."""
    return computed(a.reshape(a.shape[0], -1).sum(-1))


def squared_error(x_hat: Array, x: Array) -> Array:
    """||x_hat - x||^2, summed over dimensions. [B, ...], [B, ...] -> [B]."""
    return sum_examples(jnp.square(x_hat - x))


@jax.custom_jvp
def softplus(a: Array) -> Array:
    """log(1 + exp(a)), elementwise, as precise as `jax.nn.softplus`; in float32 it takes CPUs a third of the time."""
    if a.dtype.itemsize > 4:
        return jnp.maximum(a, 0) + jnp.log1p(jnp.exp(-jnp.abs(a)))
    s = 1 / (1 + 2 * jnp.exp(jnp.abs(a)))  # log(1 + exp(-|a|)) = 2 artanh(s), and s is at most 1/3:
    series = [2 / (2 * k + 1) for k in reversed(range(7))]  # what these terms leave out is within 1e-8
    return jnp.maximum(a, 0) + s * jnp.polyval(jnp.asarray(series, a.dtype), jnp.square(s), unroll=8)


softplus.defjvps(lambda t, _, a: t * jax.nn.sigmoid(a))


def bernoulli_nll(logits: Array, x: Array) -> Array:
    """-log p(x | logits) in nats; for x strictly inside (0, 1) the cross-entropy. -> [B]."""
    # optax.sigmoid_binary_cross_entropy is the same number by two softplus; this one is half the transcendentals.
    return sum_examples(softplus(logits) - x * logits)


def multinomial_nll(logits: Array, x: Array) -> Array:
    """-sum x log softmax(logits), softmax over all of an example's dimensions. -> [B].

    For counts of words x this is -log p(document) in nats, but for the multinomial coefficient, which no parameter
    enters; for their probabilities, the same per word. Hinton & Salakhutdinov (2006), supporting text.
    """
    flat = logits.reshape(len(logits), -1)
    return sum_examples(
        jax.nn.logsumexp(flat, -1, keepdims=True) * x.reshape(flat.shape) - flat * x.reshape(flat.shape)
    )


def gaussian_nll(mean: Array, logvar: Array, x: Array) -> Array:
    """-log N(x; mean, exp(logvar)) in nats; `logvar` broadcasts against x. -> [B]."""
    deviations = (x - mean) * jnp.exp(
        -0.5 * logvar
    )  # before the square: 1 / sigma^2 overflows where 1 / sigma does not
    return 0.5 * sum_examples(jnp.square(deviations) + logvar + jnp.log(2 * jnp.pi))


@jax.custom_jvp
def exp_beyond_linear(v: Array) -> Array:
    """exp(v) - 1 - v, elementwise: never below 0; it and its gradient are as precise near 0 as elsewhere."""
    near = jnp.abs(v) < 0.5  # beyond, expm1(v) - v loses only two bits
    terms = 8 if v.dtype.itemsize <= 4 else 15
    inside, series = jnp.where(near, v, 0), jnp.ones_like(v)
    for n in range(terms, 2, -1):  # v^2 / 2 (1 + v / 3 (1 + v / 4 (...)))
        series = 1 + inside / n * series
    return jnp.where(near, 0.5 * jnp.square(inside) * series, jnp.expm1(v) - v)


exp_beyond_linear.defjvps(lambda tangent, _, v: tangent * jnp.expm1(v))


def kl_standard_normal(mean: Array, logvar: Array) -> Array:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each dimension, in nats, never below 0. [B, K] -> [B, K].

    Kingma & Welling (2014), appendix B.
    """
    return 0.5 * (jnp.square(mean) + exp_beyond_linear(logvar))


def bernoulli_kl(rho: float | Array, rho_hat: Array, eps: float = 1e-6) -> Array:
    """KL(rho || rho_hat) between two coins, elementwise in nats, never below 0. 0 < rho < 1.

    `rho_hat` is clipped to [eps, 1 - eps], in float32 if it has 16 bits.
    """
    q = jnp.clip(single(rho_hat), eps, 1 - eps)

    def part(p: float | Array, q: Array, change: Array) -> Array:
        # p log(p / q) + q - p = p (exp(s) - 1 - s) with s = log(q / p); the added terms cancel between the two sides
        near = jnp.abs(change) < 0.5 * p
        s = jnp.where(near, jnp.log1p(jnp.where(near, change, 0) / p), jnp.log(q / p))
        return p * exp_beyond_linear(s)

    return (part(rho, q, q - rho) + part(1 - rho, 1 - q, rho - q)).astype(rho_hat.dtype)


NOT_WEIGHTS = (
    "bias",
    "centres",
    "likelihood",
)  # groups and names of params without decay, of any shape


def is_weight(params: Any) -> Any:
    """A tree of bools, True for weights: matrices and kernels, but neither biases nor points among the codes."""

    def decays(path: tuple[Any, ...], leaf: Array) -> bool:
        return leaf.ndim >= 2 and not any(getattr(entry, "key", None) in NOT_WEIGHTS for entry in path)

    return jax.tree_util.tree_map_with_path(decays, params)


def weights(params: Any) -> list[Array]:
    """The leaves that are weights, see `is_weight`."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(is_weight(params)), strict=True)
    return [leaf for leaf, decays in pairs if decays]


def l1(params: Any) -> Array:
    """Sum of |w| over all weights (not biases). -> []."""
    return sum((jnp.abs(w).sum() for w in weights(params)), start=jnp.asarray(0.0))  # of any dtype


def l2(params: Any) -> Array:
    """Sum of w^2 over all weights (not biases). -> []."""
    return sum((jnp.square(w).sum() for w in weights(params)), start=jnp.asarray(0.0))


class Likelihood(NamedTuple):
    """How a network's raw output explains the data."""

    nll: Callable[[Array, Array], Array]  # (output, x) -> [B]
    mean: Callable[[Array], Array]  # output -> data space


def takes_logits(net: Autoencoder, what: str) -> None:
    """Raises ValueError if a network's output is known to be no logits, which `what` (named to the user) takes."""
    if net.output not in ("linear", None):
        raise ValueError(
            f"the output is {net.output}, and {what} takes logits, any numbers: leave output_activation linear"
        )


def likelihood(name: LikelihoodName, net: Autoencoder | None = None) -> Likelihood:
    """`squared`: the output is the reconstruction, the loss its summed squared error.
    `bernoulli`: the output is logits, the loss the cross-entropy in nats.
    `multinomial`: the output is logits of one softmax over all dimensions, x counts or probabilities of words.

    Raises ValueError for another name, and where the network is given whose output it cannot be.
    """
    known = {
        "squared": Likelihood(squared_error, lambda output: output),
        "bernoulli": Likelihood(bernoulli_nll, jax.nn.sigmoid),
        "multinomial": Likelihood(
            multinomial_nll, lambda output: jax.nn.softmax(output.reshape(output.shape[0], -1)).reshape(output.shape)
        ),
    }
    check_choice("likelihood", name, known)
    if net is not None and name != "squared":
        takes_logits(net, f"the likelihood {name}")
    return known[name]


def reconstruction(x_hat: Array, x: Array, eps: float = 1e-6) -> Metrics:
    """The three common errors of a reconstruction in data space, each [B] and each under its own name.

    `mse`: squared error averaged over dimensions. `squared_error`: summed over dimensions.
    `cross_entropy`: nats, summed over dimensions, x_hat clipped to [eps, 1 - eps], in float32 if it has 16 bits.
    """
    error = squared_error(x_hat, x)
    p = jnp.clip(single(x_hat), eps, 1 - eps)
    entropy = -sum_examples(x * jnp.log(p) + (1 - x) * jnp.log1p(-p))
    return {"mse": error / x[0].size, "squared_error": error, "cross_entropy": entropy.astype(x_hat.dtype)}
