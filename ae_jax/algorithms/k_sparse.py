"""k-sparse autoencoders keep only a code's k largest activations. Makhzani & Frey (2013), arXiv:1312.5663.
Backpropagation treats the choice of units as constant, so only the kept units learn from an example (section 2.1).
"""

import math
from typing import Annotated

import jax.numpy as jnp
import optax
from jax import Array

from ..checks import COUNT, NOT_NEGATIVE, Positive, Updates, Weight, checked, final_value
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Metrics, Optimizer, Params, descend
from ..distributions import likelihoods
from ..objectives.recode import largest, recoded
from ..objectives.regularized import decay
from ..objectives.terms import l2, reconstruction


@checked
def k_sparse(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    k: Annotated[int | None, COUNT] = None,
    alpha: Positive = 1.0,
    start: Annotated[int | None, COUNT] = None,
    anneal_steps: Annotated[int, NOT_NEGATIVE, Updates("the units kept at k")] = 0,
    likelihood: likelihoods.LikelihoodName | likelihoods.Likelihood = "squared",
    weight_l2: Weight = 0.0,
) -> Algorithm:
    """Reconstruction from the k largest activations.

    Args:
        net: the network, one head; the paper's is one linear layer with tied weights.
        optimizer: an optax optimizer.
        k: number of units of a code that are kept (the paper: 25 of 1000); None for a tenth of them.
        alpha: after training, codes (not reconstructions) keep alpha * k units; the paper finds more than 1 better.
        start: units kept in the first step, more than k so that all units learn; None for k.
        anneal_steps: updates over which the kept units fall linearly from start to k; the paper takes half of all.
        likelihood: squared (summed squared error) or bernoulli (cross-entropy in nats, summed).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    Raises ValueError for k above start or alpha * k, for too many units, and for only one of start and anneal_steps.
    """
    k = math.ceil(net.latents / 10) if k is None else k
    first, coded = k if start is None else start, math.ceil(alpha * k)
    if not k <= min(first, alpha * k) or max(first, coded) > net.latents:
        raise ValueError(
            f"k is {k}, start {start}, alpha {alpha}; wanted: k at most start and alpha * k, and none above the code's "
            f"{net.latents} units"
        )
    if (start is None) != (anneal_steps == 0):
        given = f"start is {start} and anneal_steps {anneal_steps}"
        raise ValueError(f"{given}; the units kept fall from start to k in anneal_steps updates: give both or neither")
    p, final = likelihoods.likelihood(likelihood, net), final_value(weight_l2)
    keeping = lambda k, most: recoded(net, lambda *given: largest(net.encode(*given), k, most))

    def losses(params: Params, x: Array, key: Key | None, kept: int | Array, most: int, decay_by):
        output = keeping(kept, most).apply(params, x, key)[1]
        nll = p.nll(params, output, x)  # [B]
        return output, Loss(nll + decay(decay_by, l2, params), {"reconstruction": nll})

    def loss(params: Params, batch: Batch, key: Key, k: float | Array, weight_l2: float | Array) -> Loss:
        return losses(params, batch.x, key, jnp.round(k), first, weight_l2)[1]

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        output, (value, metrics, _) = losses(params, batch.x, None, k, k, final)
        return {"loss": value, **metrics, **reconstruction(p.reconstruction(params, output, batch.x), batch.x)}

    falling = optax.linear_schedule(first, k, anneal_steps) if anneal_steps else k
    return Algorithm(
        init=likelihoods.with_likelihood(net, p).init,
        rule=descend(loss, optimizer, wrt=("encoder", "decoder", *p.groups), k=falling, weight_l2=weight_l2),
        evaluate=evaluate,
        encode=keeping(coded, coded).encode,
        decode=lambda params, z: p.mean(params, net.decode(params, z)),
        reconstruct=lambda params, x: p.reconstruction(params, keeping(k, k).apply(params, x)[1], x),
        check=p.check,
        corrupt=net.corrupt,
        statistics=p.measured,
    )
