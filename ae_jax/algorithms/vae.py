"""Auto-Encoding Variational Bayes. Kingma & Welling (2014), arXiv:1312.6114.

beta: Higgins et al. (2017), ICLR. Free bits: Kingma et al. (2016), arXiv:1606.04934, eq. (15). Capacity: Burgess et
al. (2018), arXiv:1804.03599.
"""

from typing import Annotated

import jax.numpy as jnp

from ..checks import (
    NOT_NEGATIVE,
    POSITIVE,
    Amount,
    Count,
    Hyper,
    Updates,
    Weight,
    checked,
    final_value,
    is_concrete,
    needs,
    unless,
)
from ..core import Algorithm, Batch, Key, Loss, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.priors import LearnedName, Prior, learned
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, observed, variational
from ..objectives.schedules import RiseName, risen


@checked
def vae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    sigma: Annotated[float | None, POSITIVE, needs("likelihood", "gaussian")] = None,
    samples: Count = 1,
    prior: LearnedName | Prior = "normal",
    components: Annotated[Count, needs("prior", "gmm")] = 10,
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Updates("the KL's weight at beta"), unless("beta", 0)] = 0,
    warmup: Annotated[RiseName, unless("warmup_steps", 0)] = "linear",
    cycles: Annotated[Count, needs("warmup", "cyclical")] = 4,
    free_bits: Annotated[Amount, unless("beta", 0)] = 0.0,
    capacity: Annotated[Hyper, NOT_NEGATIVE, unless("beta", 0)] = 0.0,
    capacity_steps: Annotated[int, Updates("the KL's capacity at its value"), unless("capacity", 0)] = 0,
) -> Algorithm:
    """The evidence lower bound by reparameterized draws, in nats.

    The KL to N(0, I) has a closed form; the same draws estimate the KL to another prior.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: a name, or a `Likelihood`.
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
        samples: draws of the code of each example, which the bound is averaged over.
        prior: normal, which is N(0, I), or a learned one: gmm, realnvp, maf, or a `Prior` with a log_prob.
        components: number of components of the prior gmm.
        beta: weight of the KL, a number or a schedule.
        warmup_steps: number of updates over which the KL's weight rises from 0 to beta.
        warmup: linear, cyclical (Fu et al., 2019: from 0 to beta in the first half of each cycle) or sigmoid.
        cycles: number of cycles of the cyclical warm-up.
        free_bits: nats of KL, averaged over a batch, that each latent may use without cost (training only).
        capacity: nats of KL, a number or a schedule; training replaces the KL by |mean KL of the batch - capacity|.
        capacity_steps: number of updates over which the capacity rises linearly from 0.
    Raises ValueError for `free_bits` with another prior than normal.
    """
    other = learned(prior, net.latents, components) if isinstance(prior, str) else prior
    model = latent_model(net, observed(likelihood, sigma), prior=None if prior == "normal" else other)
    beta = risen("beta", beta, "warmup_steps", warmup_steps, warmup, cycles)
    bounded = not is_concrete(capacity) or callable(capacity) or capacity > 0
    capacity = risen("capacity", capacity, "capacity_steps", capacity_steps)
    final, free = 1.0 if bounded else final_value(beta), not is_concrete(free_bits) or free_bits
    if free and prior != "normal":
        raise ValueError("free_bits are of each latent, and the KL to this prior is not a sum over latents: give 0")

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, beta, capacity) -> Loss:
        cost = drawn.divergence  # [B], appendix B
        if free and drawn.kl is not None:
            cost = jnp.maximum(drawn.kl.mean(0), free_bits).sum()  # []
        if bounded:
            cost = jnp.abs(cost.mean() - capacity)  # Burgess et al., of the batch's mean
        return Loss(drawn.nll.mean(0) + beta * cost)  # eq. (7)

    evaluated = lambda drawn: {"loss": drawn.nll.mean(0) + final * drawn.divergence}
    return variational(model, optimizer, objective, samples=samples, evaluated=evaluated, beta=beta, capacity=capacity)
