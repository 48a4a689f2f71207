"""Semantic hashing: noise before a sigmoid makes codes binary. Salakhutdinov & Hinton (2009), Int. J. Approximate
Reasoning 50: only large inputs of code units survive the noise, so inputs grow and the units become 0 or 1.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import Amount, Weight, checked
from ..core import Algorithm, Autoencoder, Key, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives.recode import linear_code, recoded
from ..objectives.regularized import regularized
from ..xla import draws


@checked
def semantic_hashing(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    code_noise: Amount = 4.0,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    weight_l2: Weight = 0.0,
) -> Algorithm:
    """Reconstruction from sigmoid(encode(x) + code_noise * e), with e ~ N(0, I) in training and no noise afterwards.

    Codes lie in [0, 1], mostly near 0 or 1; compared with their medians or 1/2 they are bits. The metric `undecided`
    is the share of units between 0.1 and 0.9.

    Args:
        net: the network, one head, its code linear.
        optimizer: an optax optimizer.
        code_noise: standard deviation of the noise before the sigmoid; the paper's variance of 16 is 4.
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    Raises ValueError for negative noise.
    """

    def encode(params: Params, x: Array, key: Key | None = None) -> Array:
        if key is None:
            return jax.nn.sigmoid(net.encode(params, x))
        key_net, key_noise = jax.random.split(key)
        before = net.encode(params, x, key_net)
        return jax.nn.sigmoid(before + code_noise * draws.normal(key_noise, before.shape, before.dtype))

    base = regularized(recoded(linear_code(net), encode), optimizer, likelihood, weight_l2=weight_l2)

    def evaluate(params: Params, batch, key: Key):
        z = encode(params, batch.x)
        return {**base.evaluate(params, batch, key), "undecided": (jnp.abs(z - 0.5) < 0.4).mean(-1)}

    return base._replace(evaluate=evaluate)
