"""Importance Weighted Autoencoders. Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import POSITIVE, checked
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params, descend
from ..distributions.losses import reconstruction
from ..objectives.latent import GaussianAutoencoder, Observation, latent_model


@checked
def iwae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: Observation = "bernoulli",
    sigma: Annotated[float | None, POSITIVE] = None,
    samples: int = 5,
) -> Algorithm:
    """The importance-weighted bound: log of the mean of `samples` importance weights, in nats.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: bernoulli, gaussian or multinomial (words).
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
        samples: importance weights an example, k; with 1 the bound is the ELBO.

    Raises:
        ValueError: fewer than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; the bound needs at least 1")
    model = latent_model(net, likelihood, sigma)

    def bounds(params: Params, batch: Batch, key: Key, train: bool) -> tuple[Array, Array]:
        log_w = model.log_weights(params, batch, key, samples, train)  # [samples, B]
        return jax.nn.logsumexp(log_w, axis=0) - jnp.log(samples), log_w.mean(0)  # eq. (8) and the ELBO, each [B]

    def loss(params: Params, batch: Batch, key: Key) -> Loss:
        bound, elbo = bounds(params, batch, key, train=True)
        return Loss(-bound, {"bound": bound, "elbo": elbo})

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        bound, elbo = bounds(params, batch, key, train=False)
        errors = reconstruction(model.reconstruct(params, batch.x), batch.x)
        return {"loss": -bound, "bound": bound, "elbo": elbo} | errors

    return Algorithm(
        init=model.init,
        rule=descend(loss, optimizer, wrt=model.groups),
        evaluate=evaluate,
        encode=model.encode,
        decode=model.decode,
        reconstruct=model.reconstruct,
        sample=model.sample,
        log_weight=model.log_weight,
        corrupt=net.corrupt,
    )
