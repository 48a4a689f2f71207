"""Contractive autoencoders: a penalty on the encoder's Jacobian. Rifai et al. (2011), ICML.

CAE+H also penalises changes of the Jacobian near x: Rifai et al. (2011), ECML PKDD.
"""

from functools import partial
from typing import Annotated, Any, Literal

import jax
from jax import Array

from ..checks import Amount, Weight, checked, needs, unless
from ..core import Algorithm, Autoencoder, Key, Loss, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives import jacobians
from ..objectives.regularized import regularized
from ..xla import draws


@checked
def contractive(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    weight: Weight = 0.1,
    penalty: Literal["exact", "closed", "hutchinson"] = "exact",
    samples: Annotated[int, needs("penalty", "hutchinson")] = 1,
    group: Annotated[int, needs("penalty", "exact")] = 32,
    higher: Weight = 0.0,
    higher_noise: Annotated[Amount, unless("higher", 0)] = 0.1,
    corruptions: Annotated[int, unless("higher", 0)] = 1,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    weight_l2: Weight = 0.0,
) -> Algorithm:
    """Reconstruction plus weight * ||J(x)||_F^2, where J [K, D] is the Jacobian of the deterministic encoder at x.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        weight: weight of the squared Frobenius norm, a number or a schedule.
        penalty: exact (jax.jacfwd of any encoder or, for a short code, of its pullback), closed (the same value for one
            affine layer and an elementwise activation, by far the fastest) or hutchinson (an unbiased estimate, one
            backward pass a sample).
        samples: number of random vectors that hutchinson averages over.
        group: columns of the Jacobian, or of the pullback's Jacobian, that exact computes at a time.
        higher: weight of E ||J(x) - J(x + e)||_F^2 for Gaussian e, the H of CAE+H; a number or a schedule.
        higher_noise: standard deviation of e.
        corruptions: number of draws of e that estimate the expectation.
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    Raises ValueError for closed with any other encoder, and for `samples`, `group` or `corruptions` below 1.
    """
    if penalty == "closed" and net.layer is None:
        raise ValueError(
            "the closed form needs an encoder of one affine layer and an elementwise activation; use exact"
        )
    if corruptions < 1:
        raise ValueError(f"corruptions is {corruptions}; CAE+H averages over at least 1")
    square_norm = jacobians.square_norm(penalty, samples=samples, group=group)

    def cost(params: Params, x: Array, z: Array, key: Key, train: bool, weight, higher) -> Loss:
        encode = partial(net.encode, params)
        layer: Any = net.layer and partial(net.layer, params)
        key_norm, key_noise, key_bend = jax.random.split(key, 3)
        norm = square_norm(encode, layer, key_norm, x)  # [B], eq. (1)
        if isinstance(higher, int | float) and higher == 0:
            return Loss(weight * norm, {"jacobian": norm})

        def bend(draw: tuple[Array, Key]) -> Array:  # J(x) - J(x + e) is the Jacobian of f(x) - f(x + e)
            change = lambda x, e: encode(x) - encode(x + e)
            slopes = lambda x, e: (layer(x)[0], layer(x)[1] - layer(x + e)[1])
            return square_norm(change, slopes, draw[1], x, draw[0])

        e = higher_noise * draws.normal(key_noise, (corruptions, *x.shape), x.dtype)
        change = jax.lax.map(bend, (e, jax.random.split(key_bend, corruptions))).mean(0)  # [B]
        return Loss(weight * norm + higher * change, {"jacobian": norm, "jacobian_change": change})

    return regularized(net, optimizer, likelihood, cost, weight=weight, higher=higher, weight_l2=weight_l2)
