"""Auto-Encoding Variational Bayes. Kingma & Welling (2014), arXiv:1312.6114.

beta: Higgins et al. (2017), ICLR. Free bits: Kingma et al. (2016), arXiv:1606.04934, eq. (15).
"""

from typing import Annotated

import jax.numpy as jnp
import optax

from ..checks import POSITIVE, Amount, Updates, Weight, checked, final_value, is_concrete, needs, unless
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
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Updates("the KL's weight at beta"), unless("beta", 0)] = 0,
    free_bits: Annotated[Amount, unless("beta", 0)] = 0.0,
) -> Algorithm:
    """The evidence lower bound by one reparameterized draw, the KL in closed form; all in nats.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: a name, or a `Likelihood`.
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
        beta: weight of the KL, a number or a schedule.
        warmup_steps: raise the KL's weight linearly from 0 to beta over so many updates.
        free_bits: nats of KL, averaged over a batch, that each latent may use without cost (training only).
    """
    model = latent_model(net, observed(likelihood, sigma))
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps is {warmup_steps}; it must not be negative")
    if warmup_steps:
        if callable(beta):
            raise ValueError("warmup_steps raises a constant beta; the given beta is a schedule already")
        beta = optax.linear_schedule(0.0, beta, warmup_steps)
    final, free = final_value(beta), not is_concrete(free_bits) or free_bits

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, beta) -> Loss:
        kl = drawn.kl  # [B, K], appendix B
        assert kl is not None  # a Gaussian posterior, and its own prior
        cost = jnp.maximum(kl.mean(0), free_bits).sum() if free else kl.sum(-1)  # [] or [B]
        return Loss(drawn.nll[0] + beta * cost)  # eq. (7)

    evaluated = lambda drawn: {"loss": drawn.nll[0] + final * drawn.divergence}
    return variational(model, optimizer, objective, evaluated=evaluated, beta=beta)
