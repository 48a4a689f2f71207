"""The autoencoder: undercomplete, deep, tied or linear, as its network is.

Rumelhart, Hinton & Williams (1986); Baldi & Hornik (1989); Hinton & Salakhutdinov (2006), Science 313.
"""

import jax.numpy as jnp

from ..core import Algorithm, Autoencoder, Batch, Hyper, Key, Loss, Metrics, Optimizer, Params, descend, final
from ..losses import LikelihoodName, l1, l2, reconstruction
from ..losses import likelihood as likelihood_of


def autoencoder(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName = "squared",
    code_l2: Hyper = 0.0,
    weight_l1: Hyper = 0.0,
    weight_l2: Hyper = 0.0,
) -> Algorithm:
    """Reconstruction, with optional penalties.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        likelihood: squared (summed squared error) or bernoulli (cross-entropy in nats, summed).
        code_l2: weight of the code's squared length ||z||^2.
        weight_l1: weight of the sum of |w| over all weights (not biases).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    """
    p = likelihood_of(likelihood)

    def terms(params: Params, batch: Batch, key: Key | None, code_l2, weight_l1, weight_l2):
        z, output = net.apply(params, batch.x, key)
        nll = p.nll(output, batch.x)  # [B]
        learned = (params["encoder"], params["decoder"])
        penalty = code_l2 * jnp.square(z).sum(-1) + weight_l1 * l1(learned) + weight_l2 * l2(learned)
        return output, nll, nll + penalty

    def loss(params: Params, batch: Batch, key: Key, **weights) -> Loss:
        _, nll, value = terms(params, batch, key, **weights)
        return Loss(value, {"reconstruction": nll})

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        weights = final(code_l2), final(weight_l1), final(weight_l2)
        output, nll, value = terms(params, batch, None, *weights)
        return {"loss": value, "reconstruction": nll} | reconstruction(p.mean(output), batch.x)

    learn = ("encoder", "decoder")
    return Algorithm(
        init=net.init,
        rule=descend(loss, optimizer, wrt=learn, code_l2=code_l2, weight_l1=weight_l1, weight_l2=weight_l2),
        evaluate=evaluate,
        encode=lambda params, x: net.encode(params, x),
        decode=lambda params, z: p.mean(net.decode(params, z)),
        corrupt=net.corrupt,
    )
