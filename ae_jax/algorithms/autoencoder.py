"""The autoencoder: undercomplete, deep, tied or linear, depending on its network.

Rumelhart, Hinton & Williams (1986); Baldi & Hornik (1989); Hinton & Salakhutdinov (2006), Science 313.
"""

import jax.numpy as jnp
from jax import Array

from ..checks import Weight, checked
from ..core import Algorithm, Autoencoder, Key, Loss, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives.regularized import decay, regularized
from ..objectives.terms import l1


@checked
def autoencoder(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "squared",
    code_l2: Weight = 0.0,
    weight_l1: Weight = 0.0,
    weight_l2: Weight = 0.0,
) -> Algorithm:
    """Reconstruction, with optional penalties.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
        code_l2: weight of the code's squared length ||z||^2.
        weight_l1: weight of the sum of |w| over all weights (not biases).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    """

    def penalty(params: Params, x: Array, z: Array, key: Key, train: bool, code_l2, weight_l1) -> Loss:
        return Loss(code_l2 * jnp.square(z).sum(-1) + decay(weight_l1, l1, params))

    weights = {"code_l2": code_l2, "weight_l1": weight_l1, "weight_l2": weight_l2}
    return regularized(net, optimizer, likelihood, penalty, **weights)
