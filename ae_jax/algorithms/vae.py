"""Auto-Encoding Variational Bayes. Kingma & Welling (2014), arXiv:1312.6114.

beta: Higgins et al. (2017), ICLR. Free bits: Kingma et al. (2016), arXiv:1606.04934, eq. (15). Capacity: Burgess et
al. (2018), arXiv:1804.03599.
"""

from typing import Annotated

import jax.numpy as jnp
import optax

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
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, observed, variational


@checked
def vae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    sigma: Annotated[float | None, POSITIVE, needs("likelihood", "gaussian")] = None,
    samples: Count = 1,
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Updates("the KL's weight at beta"), unless("beta", 0)] = 0,
    free_bits: Annotated[Amount, unless("beta", 0)] = 0.0,
    capacity: Annotated[Hyper, NOT_NEGATIVE, unless("beta", 0)] = 0.0,
    capacity_steps: Annotated[int, Updates("the KL's capacity at its value"), unless("capacity", 0)] = 0,
) -> Algorithm:
    """The evidence lower bound by reparameterized draws, the KL in closed form; all in nats.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: a name, or a `Likelihood`.
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
        samples: draws of the code of each example, whose errors are averaged.
        beta: weight of the KL, a number or a schedule.
        warmup_steps: raise the KL's weight linearly from 0 to beta over so many updates.
        free_bits: nats of KL, averaged over a batch, that each latent may use without cost (training only).
        capacity: nats of KL, a number or a schedule; beta weighs the distance of the batch's mean KL from it (training
            only).
        capacity_steps: raise the capacity linearly from 0 over so many updates.
    """
    model = latent_model(net, observed(likelihood, sigma))
    beta = risen("beta", beta, "warmup_steps", warmup_steps)
    bounded = not is_concrete(capacity) or callable(capacity) or capacity > 0
    capacity = risen("capacity", capacity, "capacity_steps", capacity_steps)
    final, free = 1.0 if bounded else final_value(beta), not is_concrete(free_bits) or free_bits

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, beta, capacity) -> Loss:
        kl = drawn.kl  # [B, K], appendix B
        assert kl is not None  # a Gaussian posterior, and its own prior
        cost = jnp.maximum(kl.mean(0), free_bits).sum() if free else kl.sum(-1)  # [] or [B]
        if bounded:
            cost = jnp.abs(cost.mean() - capacity)  # Burgess et al., of the batch's mean
        return Loss(drawn.nll.mean(0) + beta * cost)  # eq. (7)

    evaluated = lambda drawn: {"loss": drawn.nll.mean(0) + final * drawn.divergence}
    return variational(model, optimizer, objective, samples=samples, evaluated=evaluated, beta=beta, capacity=capacity)


def risen(name: str, value: Hyper, option: str, steps: int) -> Hyper:
    """The number reached linearly from 0 in so many updates; 0 updates: as given. ValueError for a schedule."""
    if steps < 0:
        raise ValueError(f"{option} is {steps}; it must not be negative")
    if steps and callable(value):
        raise ValueError(f"{option} raises a constant {name}; the given {name} is a schedule already")
    return optax.linear_schedule(0.0, value, steps) if steps and not callable(value) else value
