"""Likelihoods of data x given a decoder's raw output, each a record of pure functions.

`likelihood` gives one by its name; a member takes the name or a `Likelihood` of one's own. Negative log-likelihoods are
in nats, one number for each example: summed over its dimensions, never averaged.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import POSITIVE, check_choice, is_concrete
from ..core import Autoencoder, Batch, Init, Key, Params, address
from .sums import softplus, squared_error, sum_examples

LikelihoodName = Literal["squared", "bernoulli", "multinomial", "gaussian", "discretised_logistic"]
Support = Literal["real", "unit", "counts"]  # the values that x may have: any; in [0, 1]; 0 and above


def nothing(key: Key, data: Batch) -> Params:
    """The `init` of a distribution without params of its own."""
    return {}


class Likelihood(NamedTuple):
    """p(x | output). An output is [B, *shape], or [B, *shape, outputs] if `outputs` exceeds 1."""

    nll: Callable[[Params, Array, Array], Array]  # (params, output, x [B, *shape]) -> -log p(x | output), [B]
    mean: Callable[[Params, Array], Array]  # (params, output) -> E[x | output], [B, *shape]
    draw: Callable[[Params, Array, Key], Array] | None = None  # (params, output, key) -> x, [B, *shape]
    outputs: int = 1  # numbers that the decoder emits for each number of x
    support: Support = "real"
    logits: bool = False  # the output is logits, so the network may not end in an activation
    init: Init = nothing  # params of its own
    groups: tuple[str, ...] = ()  # the groups that `init` makes; all of them learn


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
    deviations = (x - mean) * jnp.exp(-0.5 * logvar)  # 1 / sigma^2 overflows where 1 / sigma does not
    return 0.5 * sum_examples(jnp.square(deviations) + logvar + jnp.log(2 * jnp.pi))


def discretised_logistic_nll(mean: Array, log_scale: Array, x: Array, levels: int) -> Array:
    """-log of the probability of x's level under a logistic distribution rounded to levels / (levels - 1). -> [B].

    x lies in [0, 1]. The outer levels reach to infinity, so the probabilities of all levels add up to 1.
    Kingma et al. (2016), arXiv:1606.04934; Salimans et al. (2017), arXiv:1701.05517.
    """
    half = 1 / (2 * (levels - 1))
    inverse = jnp.exp(-log_scale)
    above, below = (x + half - mean) * inverse, (x - half - mean) * inverse  # the level's two edges
    # log(sigmoid(above) - sigmoid(below)), without the difference
    width = 2 * half * inverse
    inside = softplus(-above) + softplus(below) - jnp.log(-jnp.expm1(-width))
    nll = jnp.where(x < half, softplus(-above), jnp.where(x > 1 - half, softplus(below), inside))
    return sum_examples(nll)


def squared() -> Likelihood:
    """The output is the reconstruction; -log p is its summed squared error (N(output, 1/2), but for a constant)."""
    return Likelihood(lambda params, output, x: squared_error(output, x), lambda params, output: output)


def bernoulli() -> Likelihood:
    """The output is logits; -log p is the cross-entropy."""
    return Likelihood(
        nll=lambda params, output, x: bernoulli_nll(output, x),
        mean=lambda params, output: jax.nn.sigmoid(output),
        draw=lambda params, output, key: jax.random.bernoulli(key, jax.nn.sigmoid(output)).astype(output.dtype),
        support="unit",
        logits=True,
    )


def multinomial() -> Likelihood:
    """The output is logits of one softmax over all dimensions; x is counts or probabilities of words."""

    def mean(params: Params, output: Array) -> Array:
        return jax.nn.softmax(output.reshape(output.shape[0], -1)).reshape(output.shape)

    return Likelihood(lambda params, output, x: multinomial_nll(output, x), mean, support="counts", logits=True)


def gaussian(sigma: float | None = None) -> Likelihood:
    """The output is the mean; the standard deviation is `sigma`, or one learned number, in the group "likelihood".

    Raises ValueError for a sigma that is not positive.
    """
    POSITIVE.check("sigma", sigma)

    def logvar(params: Params, output: Array) -> Array:
        if sigma is None:
            return params["likelihood"]["logvar"]
        log = math.log if is_concrete(sigma) else jnp.log
        return jnp.asarray(2 * log(sigma), output.dtype)

    def init(key: Key, data: Batch) -> Params:
        return {"likelihood": {"logvar": jnp.zeros((), data.x.dtype)}}

    def draw(params: Params, output: Array, key: Key) -> Array:
        deviation = jnp.exp(0.5 * logvar(params, output))
        return output + deviation * jax.random.normal(key, output.shape, output.dtype)

    return Likelihood(
        nll=lambda params, output, x: gaussian_nll(output, logvar(params, output), x),
        mean=lambda params, output: output,
        draw=draw,
        init=init if sigma is None else nothing,
        groups=("likelihood",) if sigma is None else (),
    )


def discretised_logistic(levels: int = 256) -> Likelihood:
    """Two outputs a number: mean and log-scale of a logistic distribution, rounded to `levels` levels of [0, 1].

    It is a probability of quantised data, so its nats are bits of a code: nll / (log 2 * dimensions) bits a dimension.
    Raises ValueError for fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"levels is {levels}; quantised data have at least 2 levels")
    half = 1 / (2 * (levels - 1))

    def parts(output: Array) -> tuple[Array, Array]:
        mean, log_scale = output[..., 0], output[..., 1]
        return mean + 0.5, log_scale - 2  # an output of 0 is a wide distribution about grey

    def nll(params: Params, output: Array, x: Array) -> Array:
        return discretised_logistic_nll(*parts(output), x, levels)

    def mean(params: Params, output: Array) -> Array:
        centre, log_scale = parts(output)
        # E[x] = sum over k >= 1 of P(x >= level k) / (levels - 1)
        exceeds = lambda k, total: total + jax.nn.sigmoid((centre - ((2 * k - 1) * half)) * jnp.exp(-log_scale))
        return lax.fori_loop(1, levels, exceeds, jnp.zeros_like(centre)) / (levels - 1)

    def draw(params: Params, output: Array, key: Key) -> Array:
        centre, log_scale = parts(output)
        x = centre + jnp.exp(log_scale) * jax.random.logistic(key, centre.shape, centre.dtype)
        return jnp.clip(jnp.round(x * (levels - 1)), 0, levels - 1) / (levels - 1)

    return Likelihood(nll=nll, mean=mean, draw=draw, outputs=2, support="unit", logits=True)


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "squared": squared,
    "bernoulli": bernoulli,
    "multinomial": multinomial,
    "gaussian": gaussian,
    "discretised_logistic": discretised_logistic,
}


def likelihood(which: LikelihoodName | Likelihood, net: Autoencoder | None = None) -> Likelihood:
    """A likelihood by name, or the one given.

    Raises ValueError for another name, and for a network whose output the likelihood cannot take: one that is no
    logits, or that has another number of `outputs`.
    """
    if isinstance(which, Likelihood):
        found, what = which, "this likelihood"
    else:
        check_choice("likelihood", which, LIKELIHOODS)
        found, what = LIKELIHOODS[which](), f"the likelihood {which}"
    if net is not None:
        if found.logits:
            takes_logits(net, what)
        if found.outputs != net.outputs:
            raise ValueError(
                f"{what} needs {found.outputs} outputs for each number of x, and this network emits {net.outputs}: "
                f"build the network with outputs={found.outputs}"
            )
    return found


def with_likelihood(net: Autoencoder, p: Likelihood) -> Autoencoder:
    """The network, whose `init` makes the params of the likelihood as well."""
    if not p.groups:
        return net
    return net._replace(init=lambda key, data: net.init(key, data) | p.init(address(key, "likelihood"), data))


def takes_logits(net: Autoencoder, what: str) -> None:
    """Raises ValueError if a network's output is known to be no logits, which `what` (named to the user) takes."""
    if net.output not in ("linear", None):
        raise ValueError(
            f"the output is {net.output}, and {what} takes logits, any numbers: leave output_activation linear"
        )
