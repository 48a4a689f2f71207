"""Variational Inference of Disentangled Latent Concepts: DIP-VAE. Kumar, Sattigeri & Balakrishnan (2018),
arXiv:1711.00848.
"""

from typing import Annotated, Any, Literal, get_args

import jax.numpy as jnp
from jax import Array

from ..checks import NOT_NEGATIVE, Hyper, Weight, check_choice, checked
from ..core import Algorithm, Batch, Key, Loss, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, variational

CovarianceName = Literal["means", "codes"]
RATIO = {"means": 10.0, "codes": 1.0}  # default of diagonal / off_diagonal, as in the paper


def covariance_of(stats: Array, of: CovarianceName) -> Array:
    """The covariance of posterior means over the batch, with 1 / B. -> [K, K].

    Args:
        stats: means and log-variances, [B, 2K].
        of: means, or codes drawn from the posteriors, which adds the mean posterior variances to the diagonal.
    """
    mean, logvar = jnp.split(stats, 2, -1)
    centred = mean - mean.mean(0, keepdims=True)
    found = centred.T @ centred / len(mean)
    return found + jnp.diag(jnp.exp(logvar).mean(0)) if of == "codes" else found


@checked
def dip_vae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    covariance: CovarianceName = "means",
    off_diagonal: Weight = 10.0,
    diagonal: Annotated[Hyper | None, NOT_NEGATIVE] = None,
) -> Algorithm:
    """-log p(x | z) + KL + off_diagonal sum_{i != j} C_ij^2 + diagonal sum_i (C_ii - 1)^2, in nats.

    C is the covariance over the batch. The penalty compares examples, so the loss of evaluation is the negative ELBO.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        likelihood: a name, or a `Likelihood`.
        covariance: covariance of the posterior means (DIP-VAE-I), or of codes drawn from the posteriors (DIP-VAE-II).
        off_diagonal: weight of the squared covariances.
        diagonal: weight of (variance - 1)^2; None: 10 times `off_diagonal` for means, `off_diagonal` for codes.
    """
    check_choice("covariance", covariance, get_args(CovarianceName))
    model = latent_model(net, likelihood)
    weights: dict[str, Any] = {"off_diagonal": off_diagonal} | ({} if diagonal is None else {"diagonal": diagonal})

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, off_diagonal, diagonal=None) -> Loss:
        squares = jnp.square(covariance_of(drawn.stats, covariance) - jnp.eye(net.latents, dtype=drawn.stats.dtype))
        on = jnp.trace(squares)
        terms = {"covariances": squares.sum() - on, "variances": on}
        weight = RATIO[covariance] * off_diagonal if diagonal is None else diagonal
        penalty = off_diagonal * terms["covariances"] + weight * terms["variances"]
        return Loss(drawn.nll[0] + drawn.divergence + penalty, terms)

    return variational(model, optimizer, objective, compares=True, **weights)
