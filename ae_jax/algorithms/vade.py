"""Variational deep embedding. Jiang, Zheng, Tan, Tang & Zhou (2017), IJCAI, arXiv:1611.05148."""

import jax.numpy as jnp
from jax import Array

from ..checks import Count, checked
from ..core import Algorithm, Batch, Key, Loss, Optimizer, Params, address
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.priors import mixture, of_components
from ..evaluation.clustering import codes_of, gaussian_mixture
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, variational
from ..objectives.pretraining import pretrained
from ..objectives.recode import recoded


@checked
def vade(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    clusters: Count = 10,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    pretrain_epochs: int = 0,
) -> Algorithm:
    """The evidence lower bound with a Gaussian mixture as prior, a component a cluster; one draw estimates the KL.

    With q(c | x) = p(c | z), eq. (16), the paper's bound is E[log p(x | z) + log p(z) - log q(z | x)], where p(z) =
    sum_c p(c) N(z; m_c, s_c^2) has the clusters summed out. An example's cluster is argmax_c p(c | mean of z).

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer, of pretraining, too: a schedule begins anew after it.
        clusters: number of clusters, C.
        likelihood: a name, or a `Likelihood`.
        pretrain_epochs: passes of plain reconstruction, after which a mixture is fitted to the codes; with 0 the
            clusters begin at random.
    """
    prior = mixture(net.latents, clusters)
    model = latent_model(net, likelihood, prior=prior)

    def mean(params: Params, x: Array, key: Key | None = None) -> Array:
        return jnp.split(net.encode(params, x, key), 2, -1)[0]

    coded = recoded(net, mean)
    begin = pretrained(coded, optimizer, likelihood, pretrain_epochs)

    def init(key: Key, data: Batch) -> Params:
        if pretrain_epochs == 0 and not net.trained:
            return model.init(key, data)
        params = model.init(key, data) | begin(address(key, "pretraining"), data)
        codes = codes_of(coded, params, data.x)
        return params | {"mixture": gaussian_mixture(address(key, "clusters"), codes, clusters)}

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key) -> Loss:
        return Loss(drawn.nll[0] + drawn.divergence)

    def predict(params: Params, x: Array) -> Array:
        return of_components(params, mean(params, x)).argmax(-1)  # eq. (16)

    return variational(model, optimizer, objective)._replace(init=init, predict=predict)
