"""Auto-Encoding Variational Bayes. Kingma & Welling (2014), arXiv:1312.6114.

beta: Higgins et al. (2017), ICLR. Free bits: Kingma et al. (2016), arXiv:1606.04934, eq. (15).
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from ..checks import POSITIVE, Amount, Updates, Weight, checked, known, unless
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params, descend, final
from ..distributions.losses import kl_standard_normal, reconstruction
from ..objectives.latent import GaussianAutoencoder, Observation, latent_model, reparameterize


@checked
def vae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: Observation = "bernoulli",
    sigma: Annotated[float | None, POSITIVE] = None,
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Updates("the KL's weight at beta"), unless("beta", 0)] = 0,
    free_bits: Annotated[Amount, unless("beta", 0)] = 0.0,
) -> Algorithm:
    """The evidence lower bound by one reparameterized draw, the KL in closed form; all in nats.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: bernoulli, gaussian or multinomial (words).
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
        beta: weight of the KL, a number or a schedule.
        warmup_steps: raise the KL's weight linearly from 0 to beta over so many updates.
        free_bits: nats of KL, averaged over a batch, that each latent may use without cost (training only).
    """
    model = latent_model(net, likelihood, sigma)
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps is {warmup_steps}; it must not be negative")
    if warmup_steps:
        if callable(beta):
            raise ValueError("warmup_steps raises a constant beta; the given beta is a schedule already")
        beta = optax.linear_schedule(0.0, beta, warmup_steps)

    settled = final(beta)

    def terms(params: Params, batch: Batch, key: Key, train: bool):
        key_z, key_encoder, key_decoder = jax.random.split(key, 3)
        mean, logvar = model.posterior(params, batch.x, key_encoder if train else None)
        z = reparameterize(key_z, mean, logvar)
        nll = model.nll(params, z, batch.x, key_decoder if train else None)  # [B]
        return mean, nll, kl_standard_normal(mean, logvar)  # KL [B, K], appendix B

    def loss(params: Params, batch: Batch, key: Key, beta) -> Loss:
        _, nll, kl = terms(params, batch, key, train=True)
        free = not known(free_bits) or free_bits
        cost = jnp.maximum(kl.mean(0), free_bits).sum() if free else kl.sum(-1)  # [] or [B]
        return Loss(nll + beta * cost, {"nll": nll, "kl": kl.sum(-1), "elbo": -nll - kl.sum(-1)})  # eq. (7)

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        mean, nll, kl = terms(params, batch, key, train=False)
        kl = kl.sum(-1)
        bound = {"loss": nll + settled * kl, "nll": nll, "kl": kl, "elbo": -nll - kl}
        return bound | reconstruction(model.decode(params, mean), batch.x)

    return Algorithm(
        init=model.init,
        rule=descend(loss, optimizer, wrt=model.groups, beta=beta),
        evaluate=evaluate,
        encode=model.encode,
        decode=model.decode,
        reconstruct=model.reconstruct,
        sample=model.sample,
        log_weight=model.log_weight,
        corrupt=net.corrupt,
    )
