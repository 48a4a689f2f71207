"""Regularized autoencoders, reconstruction plus a penalty: plain, denoising, sparse and contractive ones share it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import NOT_NEGATIVE, Hyper, final_value
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Metrics, Optimizer, Params, descend
from ..distributions.likelihoods import Likelihood, LikelihoodName, with_likelihood
from ..distributions.likelihoods import likelihood as likelihood_of
from .terms import l2, reconstruction

# (params, x, code [B, K], key, train, **hyper) -> value [B] or [], metrics each [B]
Penalty = Callable[..., Loss]


def decay(weight: float | Array, norm: Callable[[Any], Array], params: Params) -> float | Array:
    """weight * norm, `terms.l1` or `terms.l2`, of encoder and decoder; a weight of plain 0 costs nothing. -> []."""
    if isinstance(weight, int | float) and weight == 0:
        return 0.0
    return weight * norm((params["encoder"], params["decoder"]))


def regularized(
    net: Autoencoder,
    optimizer: Optimizer,
    likelihood: LikelihoodName | Likelihood,
    penalty: Penalty = lambda *_: Loss(jnp.asarray(0.0)),
    *,
    weight_l2: Hyper = 0.0,
    **hyper: Any,
) -> Algorithm:
    """-log p(x | decode(encode(x))) + penalty + weight_l2 * sum of w^2, which trains encoder, decoder and likelihood.

    `hyper`, numbers or schedules, go to the penalty. Training and evaluation compute the same loss, except that in
    training the network gets a key and the penalty gets `train=True`. Raises ValueError for a negative number.
    """
    p = likelihood_of(likelihood, net)
    hyper["weight_l2"] = weight_l2
    for name, h in hyper.items():  # a negative weight would be a reward
        NOT_NEGATIVE.check(name, h)

    final = {name: final_value(h) for name, h in hyper.items()}

    def terms(params: Params, batch: Batch, key: Key, train: bool, weight_l2, **hyper) -> tuple[Array, Loss]:
        key_net, key_penalty = jax.random.split(key)
        z, output = net.apply(params, batch.x, key_net if train else None)
        nll = p.nll(params, output, batch.x)  # [B]
        extra = penalty(params, batch.x, z, key_penalty, train, **hyper)
        value = nll + extra.value + decay(weight_l2, l2, params)
        return output, Loss(value, {"reconstruction": nll, **extra.metrics})

    def loss(params: Params, batch: Batch, key: Key, **hyper) -> Loss:
        return terms(params, batch, key, train=True, **hyper)[1]

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        output, result = terms(params, batch, key, train=False, **final)
        errors = reconstruction(p.reconstruction(params, output, batch.x), batch.x)
        return {"loss": result.value, **result.metrics, **errors}

    return Algorithm(
        init=with_likelihood(net, p).init,
        rule=descend(loss, optimizer, wrt=("encoder", "decoder", *p.groups), **hyper),
        evaluate=evaluate,
        encode=lambda params, x: net.encode(params, x),
        decode=lambda params, z: p.mean(params, net.decode(params, z)),
        reconstruct=lambda params, x: p.reconstruction(params, net.apply(params, x)[1], x),
        check=p.check,
        statistics=p.measured,
        corrupt=net.corrupt,
    )
