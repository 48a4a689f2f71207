"""Importance Weighted Autoencoders. Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519."""

from typing import Annotated

import jax
import jax.numpy as jnp

from ..checks import POSITIVE, Count, checked, needs
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, observed, variational


@checked
def iwae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    sigma: Annotated[float | None, POSITIVE, needs("likelihood", "gaussian")] = None,
    samples: Count = 5,
) -> Algorithm:
    """The importance-weighted bound: log of the mean of `samples` importance weights, in nats.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: a name, or a `Likelihood`.
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
        samples: importance weights an example, k; with 1 the bound is the ELBO.
    """
    model = latent_model(net, observed(likelihood, sigma))

    def bounds(drawn: Drawn) -> Metrics:
        log_w = drawn.log_weight  # [samples, B]
        bound = jax.nn.logsumexp(log_w, axis=0) - jnp.log(samples)  # eq. (8)
        return {"bound": bound, "elbo": log_w.mean(0)}

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key) -> Loss:
        found = bounds(drawn)
        return Loss(-found["bound"], found)

    def evaluated(drawn: Drawn) -> Metrics:
        found = bounds(drawn)
        return {"loss": -found["bound"], **found}

    return variational(model, optimizer, objective, samples=samples, evaluated=evaluated)
