"""The latent-variable model that VAE and IWAE train: p(z) = N(0, I), p(x | z) by the decoder, and a
diagonal Gaussian q(z | x) by an encoder that emits 2K numbers, its mean and log-variance.

Kingma & Welling (2014), arXiv:1312.6114. Every function is pure and every draw has its own key.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import POSITIVE, check_choice, known
from ..core import Autoencoder, Batch, Heads, Key, Params
from ..distributions.losses import gaussian_nll, sum_examples, takes_logits
from ..distributions.losses import likelihood as likelihood_of
from ..xla import draws
from ..xla.barriers import settled
from .recode import linear_code, of_code_alone

GaussianAutoencoder = Annotated[Autoencoder, Heads(2)]  # a mean and a log-variance
Observation = Literal["bernoulli", "gaussian", "multinomial"]


class LatentModel(NamedTuple):
    """See the module."""

    init: Callable[[Key, Batch], Params]
    groups: tuple[str, ...]  # the groups of params that learn
    posterior: Callable[..., tuple[Array, Array]]  # (params, x, key=None) -> mean, logvar, each [B, K]
    nll: Callable[..., Array]  # (params, z, x, key=None) -> -log p(x | z) in nats, [B]
    encode: Callable[[Params, Array], Array]  # (params, x) -> E[z | x]
    decode: Callable[[Params, Array], Array]  # (params, z) -> E[x | z]
    reconstruct: Callable[[Params, Array], Array]  # (params, x) -> E[x | E[z | x]]
    sample: Callable[[Params, Key, int], Array]  # E[x | z] for n draws of z from the prior
    log_weight: Callable[[Params, Batch, Key], Array]  # log p(x, z) - log q(z | x), [B]
    log_weights: Callable[..., Array]  # (params, batch, key, samples, train=False) -> as many of them, [samples, B]


def reparameterize(key: Key, mean: Array, logvar: Array, samples: tuple[int, ...] = ()) -> Array:
    """z = mean + exp(logvar / 2) * eps with eps ~ N(0, I): draws from q, [*samples, B, K], that gradients pass."""
    return placed(noise(key, mean, samples), mean, logvar)


def noise(key: Key, mean: Array, samples: tuple[int, ...] = ()) -> Array:
    """eps ~ N(0, I), [*samples, B, K]."""
    return draws.normal(key, (*samples, *mean.shape), mean.dtype)


def placed(eps: Array, mean: Array, logvar: Array) -> Array:
    """The draw from q for this noise, mean + exp(logvar / 2) * eps."""
    mean, logvar = (jnp.expand_dims(a, range(eps.ndim - a.ndim)) for a in (mean, logvar))
    return mean + jnp.exp(0.5 * logvar) * eps


def latent_model(net: Autoencoder, likelihood: Observation, sigma: float | None) -> LatentModel:
    """The model on a network whose encoder emits two heads.

    `likelihood`: "bernoulli" (decoder output = logits), "multinomial" (logits of one softmax; x counts words) or
    "gaussian" (output = mean, standard deviation `sigma`; None learns one sigma for all dimensions, in the group
    "likelihood").
    Raises ValueError for another name, a sigma that is not positive or of another likelihood, and
    for a network whose code is not linear, whose output is no logits, or which makes more of an input than its code.
    """
    check_choice("likelihood", likelihood, get_args(Observation))
    POSITIVE.check("sigma", sigma)
    if sigma is not None and likelihood != "gaussian":
        raise ValueError(f"sigma is of the gaussian likelihood; the {likelihood} one has none")
    linear_code(of_code_alone(net))
    if likelihood != "gaussian":
        takes_logits(net, f"the likelihood {likelihood}")
    learned = likelihood == "gaussian" and sigma is None

    def init(key: Key, data: Batch) -> Params:
        params = net.init(key, data)
        return params | {"likelihood": {"logvar": jnp.zeros((), data.x.dtype)}} if learned else params

    def posterior(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        stats = net.encode(params, x, key)
        if stats.shape != (x.shape[0], 2 * net.latents):
            raise ValueError(
                f"the encoder gave {stats.shape}; a Gaussian posterior over {net.latents} latents needs "
                f"{(x.shape[0], 2 * net.latents)}: build the network with heads=2"
            )
        mean, logvar = jnp.split(stats, 2, axis=-1)
        return mean, logvar

    def encode(params: Params, x: Array) -> Array:
        return posterior(params, x)[0]

    def nll(params: Params, z: Array, x: Array, key: Key | None = None) -> Array:
        return explain(params, net.decode(params, z, key), x)

    def explain(params: Params, output: Array, x: Array) -> Array:  # -log p(x | output), [B]
        if likelihood != "gaussian":
            return likelihood_of(likelihood).nll(output, x)
        if sigma is None:
            return gaussian_nll(output, params["likelihood"]["logvar"], x)
        log = math.log if known(sigma) else jnp.log
        return gaussian_nll(output, jnp.asarray(2 * log(sigma), output.dtype), x)

    def decode(params: Params, z: Array) -> Array:
        output = net.decode(params, z)
        return output if likelihood == "gaussian" else likelihood_of(likelihood).mean(output)

    def reconstruct(params: Params, x: Array) -> Array:
        return decode(params, encode(params, x))

    def sample(params: Params, key: Key, n: int) -> Array:
        dtype: Any = jax.tree.leaves(params["decoder"])[0].dtype
        return decode(params, jax.random.normal(key, (n, net.latents), dtype))

    def log_weights(params: Params, batch: Batch, key: Key, samples: int, train: bool = False) -> Array:
        key_z, key_encoder, key_decoder = jax.random.split(key, 3)
        mean, logvar = posterior(params, batch.x, key_encoder if train else None)
        eps = noise(key_z, mean, (samples,))
        z = placed(eps, mean, logvar)
        # One batch of all draws: mapped over draws, the decoder's gradient costs XLA a transposed copy of each layer.
        output = settled(net.decode(params, z.reshape(-1, net.latents), key_decoder if train else None))

        def weigh(eps: Array, z: Array, output: Array) -> Array:  # by one draw for each example
            # log q from the noise, not from z - mean: the z of a narrow posterior is rounded
            log_ratio = 0.5 * sum_examples(jnp.square(eps) + logvar - jnp.square(z))  # log p(z) - log q(z | x)
            return log_ratio - explain(params, output, batch.x)

        return jax.vmap(weigh)(eps, z, output.reshape(samples, *batch.x.shape))

    def log_weight(params: Params, batch: Batch, key: Key) -> Array:
        return log_weights(params, batch, key, 1)[0]

    groups = ("encoder", "decoder") + (("likelihood",) if learned else ())
    return LatentModel(init, groups, posterior, nll, encode, decode, reconstruct, sample, log_weight, log_weights)
