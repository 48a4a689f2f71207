"""Likelihoods of data x given a decoder's raw output, each a record of pure functions.

`likelihood` gives one by its name; a member takes a name or any `Likelihood`. Negative log-likelihoods are in nats, one
number for each example: summed over its dimensions, never averaged.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import gammaln

from ..checks import POSITIVE, check_choice, is_concrete
from ..core import Autoencoder, Batch, Init, Key, Params, address
from .sums import softplus, squared_error, sum_examples

LikelihoodName = Literal[
    "squared",
    "bernoulli",
    "multinomial",
    "gaussian",
    "gaussian_channels",
    "discretised_logistic",
    "categorical",
    "negative_binomial",
]
# the values that x may have: any; in [0, 1]; 0 and above; whole numbers from 0
Support = Literal["real", "unit", "nonnegative", "counts"]


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
    groups: tuple[str, ...] = ()  # the groups of `init` that learn
    measured: tuple[str, ...] = ()  # the groups of `init` that stay
    levels: int | None = None  # number of levels k / (levels - 1) of quantised data; None: values are not quantised
    # (params, output, x) -> E[x | output, total of x], [B, *shape]; None: the mean does not depend on the total
    mean_of_total: Callable[[Params, Array, Array], Array] | None = None

    def reconstruction(self, params: Params, output: Array, x: Array) -> Array:
        """E[x | output], [B, *shape]; also given the total of x, if the likelihood does not model the total."""
        return self.mean(params, output) if self.mean_of_total is None else self.mean_of_total(params, output, x)

    def check(self, x: Any, what: str = "x") -> None:
        """Raises ValueError for data x [N, *shape] outside the support or the levels; traced data pass."""
        if not is_concrete(x) or not x.size:
            return
        x = np.asarray(x)
        low, high = float(x.min()), float(x.max())
        values = f"{what} has values from {low:.4g} to {high:.4g}"
        if self.support == "unit" and not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ValueError(f"this likelihood is of values in [0, 1], and {values}: scale the data, or take another")
        if self.support in ("nonnegative", "counts") and not low >= 0:
            raise ValueError(
                f"this likelihood is of counts, which are not negative, and {values}: give the counts themselves, with "
                "range=as_is, or take another likelihood"
            )
        if self.support == "counts" and (off := _off(x, 1)) is not None:
            raise ValueError(
                f"this likelihood is of counts, whole numbers, and {what} has the value {off:.6g}: give the counts as "
                "they were counted, in an array of int32 or floats with range=as_is, or take another likelihood"
            )
        if self.levels is not None and (off := _off(x, self.levels - 1)) is not None:
            found = levels_of(x)
            advice = "take another likelihood"
            if found:
                advice = (
                    f"they have {found} levels: give likelihood_levels={found} (in Python, levels to the likelihood)"
                )
            raise ValueError(
                f"this likelihood is of {self.levels} levels, k / {self.levels - 1}, and {what} has the value "
                f"{off:.6g}, which is none of them: {advice}"
            )


def _off(x: np.ndarray, steps: int) -> float | None:
    """A value of x that is not k / steps for a whole number k, or None."""
    scaled = x.reshape(-1) * np.asarray(steps, x.dtype)
    rounding = 0 if steps == 1 else 1e-6 * (1 + np.abs(scaled))  # of float32
    far = np.abs(scaled - np.rint(scaled)) > rounding
    return float(x.reshape(-1)[far.argmax()]) if far.any() else None


def levels_of(x: np.ndarray) -> int | None:
    """The least number of levels, 2 to 256, 1024, 4096 or 65536, on which all x in [0, 1] lie; else None."""
    values = np.unique(x)
    fits = lambda n: len(values) <= n and _off(values, n - 1) is None
    return next(filter(fits, (*range(2, 257), 1024, 4096, 65536)), None)


def bernoulli_nll(logits: Array, x: Array) -> Array:
    """-log p(x | logits) in nats; for x strictly inside (0, 1) the cross-entropy. -> [B]."""
    # optax.sigmoid_binary_cross_entropy computes the same number by two softplus, which is twice the work.
    return sum_examples(softplus(logits) - x * logits)


def multinomial_nll(logits: Array, x: Array) -> Array:
    """-sum x log softmax(logits), softmax over all of an example's dimensions. -> [B].

    For word counts x this is -log p(document) in nats without the multinomial coefficient, which has no parameters; for
    word probabilities x it is that number per word. Hinton & Salakhutdinov (2006), supporting text.
    """
    flat = logits.reshape(len(logits), -1)
    return sum_examples(
        jax.nn.logsumexp(flat, -1, keepdims=True) * x.reshape(flat.shape) - flat * x.reshape(flat.shape)
    )


def gaussian_nll(mean: Array, logvar: Array, x: Array) -> Array:
    """-log N(x; mean, exp(logvar)) in nats; `logvar` broadcasts against x. -> [B]."""
    deviations = (x - mean) * jnp.exp(-0.5 * logvar)  # 1 / sigma^2 would overflow where 1 / sigma does not
    return 0.5 * sum_examples(jnp.square(deviations) + logvar + jnp.log(2 * jnp.pi))


def discretised_logistic_nll(mean: Array, log_scale: Array, x: Array, levels: int) -> Array:
    """-log of the probability of x's level under a logistic distribution rounded to the L levels k / (L - 1). -> [B].

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


def categorical_nll(logits: Array, x: Array) -> Array:
    """-log softmax(logits) of x's level, of the L levels k / (L - 1); logits [B, *shape, L], x [B, *shape]. -> [B]."""
    level = jnp.round(x * (logits.shape[-1] - 1)).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, level[..., None], -1)[..., 0]
    return sum_examples(jax.nn.logsumexp(logits, -1) - chosen)


def negative_binomial_nll(log_mean: Array, log_size: Array, x: Array) -> Array:
    """-log p(x) of counts x in nats, with mean exp(log_mean) and variance mean + mean^2 / r. -> [B].

    `log_size` is log r, r the inverse dispersion; it broadcasts against x.
    """
    size, odds = jnp.exp(log_size), log_mean - log_size
    ways = gammaln(x + 1) + gammaln(size) - gammaln(x + size)
    return sum_examples(ways + size * softplus(odds) + x * softplus(-odds))


def squared() -> Likelihood:
    """The output is the reconstruction; -log p is its summed squared error: N(output, 1/2) up to a constant."""
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

    return Likelihood(lambda params, output, x: multinomial_nll(output, x), mean, support="nonnegative", logits=True)


def gaussian(sigma: float | None = None, channels: bool = False) -> Likelihood:
    """The output is the mean; the standard deviation is `sigma`, or learned, in the group "likelihood".

    One number is learned for all dimensions; with `channels`, one for each channel, the last axis of x.
    Raises ValueError for a sigma that is not positive, and for a given sigma with `channels`.
    """
    POSITIVE.check("sigma", sigma)
    if channels and sigma is not None:
        raise ValueError(f"sigma is {sigma}, and channels learns one for each channel: give one of the two")

    def logvar(params: Params, output: Array) -> Array:
        if sigma is None:
            learned = params["likelihood"]["logvar"]
            return learned.reshape(*[1] * (output.ndim - 1), -1) if channels else learned
        log = math.log if is_concrete(sigma) else jnp.log
        return jnp.asarray(2 * log(sigma), output.dtype)

    def init(key: Key, data: Batch) -> Params:
        return {"likelihood": {"logvar": jnp.zeros(data.x.shape[-1:] if channels else (), data.x.dtype)}}

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
    """Two outputs for each number: mean and log-scale of a logistic distribution, rounded to `levels` levels of [0, 1].

    It is a probability of quantised data: nll / (log 2 * dimensions) is the code length in bits a dimension.
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

    return Likelihood(nll=nll, mean=mean, draw=draw, outputs=2, support="unit", logits=True, levels=levels)


def categorical(levels: int = 256) -> Likelihood:
    """The outputs for each number are the logits of `levels` levels of [0, 1]; no order of the levels is assumed.

    It is a probability of quantised data, as `discretised_logistic` is. Raises ValueError for fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"levels is {levels}; quantised data have at least 2 levels")

    def mean(params: Params, output: Array) -> Array:
        return jax.nn.softmax(output) @ (jnp.arange(levels, dtype=output.dtype) / (levels - 1))

    def draw(params: Params, output: Array, key: Key) -> Array:
        return jax.random.categorical(key, output).astype(output.dtype) / (levels - 1)

    nll = lambda params, output, x: categorical_nll(output, x)
    return Likelihood(nll=nll, mean=mean, draw=draw, outputs=levels, support="unit", logits=True, levels=levels)


def negative_binomial() -> Likelihood:
    """Counts with more variance than a Poisson distribution's, such as those of genes in cells.

    The output is logits of one softmax over all dimensions, the proportions. The mean is the proportions times the
    total of the example, its library size; for a code alone, times the mean total of the training data. The inverse
    dispersion of each dimension is learned, in the group "likelihood". Lopez et al. (2018), Nature Methods 15, without
    the zero inflation. The total of an example without counts is taken as 1.
    """

    def log_share(output: Array) -> Array:
        return jax.nn.log_softmax(output.reshape(len(output), -1)).reshape(output.shape)

    def total_of(x: Array) -> Array:  # [B, 1, ...]
        return jnp.maximum(x.sum(tuple(range(1, x.ndim)), keepdims=True), 1)

    def nll(params: Params, output: Array, x: Array) -> Array:
        log_mean = jnp.log(total_of(x)) + log_share(output)
        return negative_binomial_nll(log_mean, params["likelihood"]["log_size"][None], x)

    def mean(params: Params, output: Array) -> Array:
        return params["total"] * jnp.exp(log_share(output))

    def draw(params: Params, output: Array, key: Key) -> Array:
        key_rate, key_count = jax.random.split(key)
        size = jnp.broadcast_to(jnp.exp(params["likelihood"]["log_size"][None]), output.shape)
        rate = jax.random.gamma(key_rate, size, dtype=output.dtype) * mean(params, output) / size
        return jax.random.poisson(key_count, rate).astype(output.dtype)

    def init(key: Key, data: Batch) -> Params:
        log_size = jnp.zeros(data.x.shape[1:], data.x.dtype)
        return {"likelihood": {"log_size": log_size}, "total": total_of(data.x).mean()}

    return Likelihood(
        nll=nll,
        mean=mean,
        draw=draw,
        support="counts",
        logits=True,
        init=init,
        groups=("likelihood",),
        measured=("total",),
        mean_of_total=lambda params, output, x: total_of(x) * jnp.exp(log_share(output)),
    )


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "squared": squared,
    "bernoulli": bernoulli,
    "multinomial": multinomial,
    "gaussian": gaussian,
    "gaussian_channels": partial(gaussian, channels=True),
    "discretised_logistic": discretised_logistic,
    "categorical": categorical,
    "negative_binomial": negative_binomial,
}
QUANTISED = tuple(name for name, make in LIKELIHOODS.items() if "levels" in inspect.signature(make).parameters)


def named(name: str, levels: int | None = None) -> Likelihood:
    """A likelihood by name; `levels` sets the number of levels of one of quantised data.

    Raises ValueError for another name, and for levels of another likelihood.
    """
    check_choice("likelihood", name, LIKELIHOODS)
    if levels is None:
        return LIKELIHOODS[name]()
    if name not in QUANTISED:
        raise ValueError(
            f"likelihood_levels={levels} has no effect with likelihood={name!r}: leave it out, or give "
            + " or ".join(f"likelihood={of!r}" for of in QUANTISED)
        )
    return LIKELIHOODS[name](levels)


def _of_each(nll: Callable[[Params, Array, Array], Array]) -> Callable[[Params, Array, Array], Array]:
    """The nll, which raises ValueError unless it gives one number for each example."""

    @wraps(nll)
    def with_check(params: Params, output: Array, x: Array) -> Array:
        value = nll(params, output, x)
        if jnp.shape(value) != x.shape[:1]:
            raise ValueError(
                f"this likelihood's nll has the shape {jnp.shape(value)} for {len(x)} examples; wanted: {x.shape[:1]}, "
                "a number for each: sum over its dimensions, and not over the batch"
            )
        return value

    return with_check


def likelihood(which: LikelihoodName | Likelihood, net: Autoencoder | None = None) -> Likelihood:
    """A likelihood by name, or the one given.

    Raises ValueError for another name, and for a network that does not fit: one whose output is no logits, or one with
    another number of `outputs`.
    """
    if isinstance(which, Likelihood):
        found, what = which._replace(nll=_of_each(which.nll)), "this likelihood"
    else:
        found, what = named(which), f"the likelihood {which}"
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
    if not (p.groups or p.measured):
        return net
    return net._replace(init=lambda key, data: net.init(key, data) | p.init(address(key, "likelihood"), data))


def takes_logits(net: Autoencoder, what: str) -> None:
    """Raises ValueError if a network's output is known to be no logits. `what`, for the message, takes logits."""
    if net.output not in ("linear", None):
        raise ValueError(
            f"the output is {net.output}, and {what} takes logits, any numbers: leave output_activation linear"
        )
