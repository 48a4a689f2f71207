"""Isolating Sources of Disentanglement in VAEs. Chen, Li, Grosse & Duvenaud (2018), arXiv:1802.04942."""

from typing import Annotated, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import Count, Weight, check_choice, checked
from ..core import Algorithm, Batch, Key, Loss, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.posteriors import gaussian, log_each
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, variational
from ..xla.barriers import materialize_draws

Sampling = Literal["stratified", "weighted"]


def log_aggregate(z: Array, stats: Array, examples: int, sampling: Sampling) -> tuple[Array, Array]:
    """Estimates of log q(z), [B], and log q(z_k), [B, K], from a batch; q(z) is the mean posterior of all `examples`.

    z_i is a draw from the posterior of example i. `stratified` gives this posterior the weight 1 / N and each other one
    (1 - 1 / N) / (B - 1), an unbiased estimate of q(z_i) given example i. `weighted` gives each the weight 1 / (N B),
    eq. (S6), and its estimates are off by a constant.

    Args:
        z: a draw from each posterior, [B, K].
        stats: means and log-variances, [B, 2K].
        examples: the number of examples in the training set, N.
        sampling: stratified or weighted.
    """
    each = log_each(stats, materialize_draws(z)[:, None])  # log q(z_i | x_j) of each dimension, [B, B, K]
    size = len(z)
    if sampling == "weighted" or size == 1:
        weight = jnp.full((size, size), -jnp.log(float(examples * size)), z.dtype)
    else:
        own = jnp.eye(size, dtype=z.dtype)
        weight = jnp.log(own / examples + (1 - own) * (1 - 1 / examples) / (size - 1))
    joint = jax.nn.logsumexp(weight + each.sum(-1), axis=1)
    return joint, jax.nn.logsumexp(weight[..., None] + each, axis=1)


@checked
def beta_tc_vae(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    examples: Count,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    alpha: Weight = 1.0,
    beta: Weight = 6.0,
    gamma: Weight = 1.0,
    sampling: Annotated[Sampling, "estimator of q(z)"] = "stratified",
) -> Algorithm:
    """-log p(x | z) + alpha I(x; z) + beta TC(z) + gamma sum_k KL(q(z_k) || p(z_k)), eq. (4), in nats.

    With all three weights 1 it is the negative ELBO, estimated by one draw. The three terms compare examples, so the
    loss of evaluation is the negative ELBO.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        examples: the number of training examples, N.
        likelihood: a name, or a `Likelihood`.
        alpha: weight of the mutual information of x and z.
        beta: weight of the total correlation.
        gamma: weight of the divergence of each dimension.
        sampling: stratified, or weighted as in the paper.
    Raises ValueError for another `sampling`. `init` raises it for more training examples than `examples`.
    """
    check_choice("sampling", sampling, get_args(Sampling))
    model = latent_model(net, likelihood, gaussian(net.latents))

    def init(key: Key, data: Batch) -> Params:
        if len(data.x) > examples:  # a stream's first shard may have fewer
            raise ValueError(f"examples is {examples}, and the training data have {len(data.x)}: give their number")
        return model.init(key, data)

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, alpha, beta, gamma) -> Loss:
        joint, each = log_aggregate(drawn.z[0], drawn.stats, examples, sampling)
        terms = {
            "information": drawn.log_q[0] - joint,
            "total_correlation": joint - each.sum(-1),
            "dimensions": each.sum(-1) - drawn.log_p[0],
        }
        value = alpha * terms["information"] + beta * terms["total_correlation"] + gamma * terms["dimensions"]
        return Loss(drawn.nll[0] + value, terms)

    base = variational(model, optimizer, objective, compares=True, alpha=alpha, beta=beta, gamma=gamma)
    return base._replace(init=init)
