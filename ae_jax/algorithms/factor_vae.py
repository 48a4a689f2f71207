"""Disentangling by Factorising. Kim & Mnih (2018), arXiv:1802.05983."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import Amount, Weight, Width, checked, needs
from ..core import Algorithm, Batch, Key, Loss, Net, Optimizer, Params, chain
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives.game import at_rate, discriminate, judge_of
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, variational


def permuted(key: Key, z: Array) -> Array:
    """Permutes each column by itself, algorithm 1: columns become independent and keep their marginals. [B, K]."""
    return jnp.take_along_axis(z, jnp.argsort(jax.random.bits(key, z.shape, jnp.uint32), axis=0), axis=0)


@checked
def factor_vae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    gamma: Weight = 10.0,
    critic: Net | None = None,
    critic_widths: Annotated[Width, needs("critic", None)] = (256, 256),
    critic_rate: Amount = 1.0,
) -> Algorithm:
    """-log p(x | z) + KL + gamma TC(z), eq. (2), in nats; TC(z) is a critic's log-odds of codes against permuted codes.

    Algorithm 2: first the model learns on the batch; then the critic learns to tell codes of the batch's first half
    from permuted codes of its second half. The loss of evaluation is the negative ELBO.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer; model and critic each have their own state.
        likelihood: a name, or a `Likelihood`.
        gamma: weight of the total correlation.
        critic: a network of codes, [B, K] -> [B]; None for a perceptron.
        critic_widths: widths of the perceptron's hidden layers.
        critic_rate: the critic's learning rate, as a multiple of the optimizer's.
    """
    model = latent_model(net, likelihood)
    judge = judge_of(critic, critic_widths)

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, gamma) -> Loss:
        odds = judge.apply(params["critic"], drawn.z[0])  # log q(z) - log prod_k q(z_k), eq. (3)
        return Loss(drawn.nll[0] + drawn.divergence + gamma * odds, {"total_correlation": odds})

    def codes(params: Params, x: Array, key: Key) -> Array:
        key_net, key_z = jax.random.split(key)
        return model.posterior.draw(params, net.encode(params, x, key_net), key_z, 1, None)[0][0]

    def of_model(params: Params, batch: Batch, key: Key) -> Array:
        return codes(params, batch.x[: -(-len(batch.x) // 2)], key)

    def of_marginals(params: Params, batch: Batch, key: Key) -> Array:
        key_codes, key_order = jax.random.split(key)
        return permuted(key_order, codes(params, batch.x[len(batch.x) // 2 :], key_codes))

    def init(key: Key, data: Batch) -> Params:
        key_model, key_critic = jax.random.split(key)
        z = jnp.zeros((1, net.latents), data.x.dtype)
        return model.init(key_model, data) | {"critic": judge.init(key_critic, z)}

    base = variational(model, optimizer, objective, compares=True, gamma=gamma)
    critics = discriminate(judge, of_model, of_marginals, at_rate(optimizer, critic_rate))
    return base._replace(init=init, rule=chain(base.rule, critics))
