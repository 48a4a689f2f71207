"""Bounds on log p(x) by several weighted draws of the code: IWAE and related bounds.

Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519; `objectives.estimators` cites the other papers.
"""

from typing import Annotated

from ..checks import COUNT, PORTION, POSITIVE, Count, checked, needs
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives import estimators
from ..objectives.estimators import GROUPED, EstimatorName
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, observed, variational


@checked
def importance(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    estimator: EstimatorName = "iwae",
    samples: Count = 5,
    groups: Annotated[int | None, COUNT, needs("estimator", *GROUPED)] = None,
    beta: Annotated[float, PORTION, needs("estimator", "ciwae")] = 0.05,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    sigma: Annotated[float | None, POSITIVE, needs("likelihood", "gaussian")] = None,
) -> Algorithm:
    """A bound on log p(x) by `samples` draws of the code of each example, in nats.

    The bound of elbo and stl is the mean of the log-weights; that of iwae, dreg and piwae is the log of the mean
    weight. miwae averages this log over groups of draws; ciwae mixes elbo and iwae. The gradient is that of the bound,
    with two exceptions: the encoder of stl and dreg learns through the draws alone, and that of piwae by miwae.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        estimator: the bound and its gradient.
        samples: draws of the code of each example, S; with 1, every bound is the ELBO.
        groups: miwae and piwae: the number of groups M, each of S / M draws.
        beta: ciwae: the weight of elbo; iwae has the weight 1 - beta.
        likelihood: a name, or a `Likelihood`.
        sigma: standard deviation of the Gaussian likelihood; None learns one for all dimensions.
    Raises ValueError for groups that do not divide the samples.
    """
    model = latent_model(net, observed(likelihood, sigma))
    row = estimators.estimator(estimator, samples, groups, beta)
    beside = estimators.estimator("miwae", samples, groups).value if estimator == "piwae" else None

    def bounds(drawn: Drawn) -> Metrics:
        log_w = drawn.log_weight  # [S, B]
        of_groups = {} if beside is None else {"group_bound": beside(log_w)}
        return {"bound": drawn.bound, "elbo": log_w.mean(0), **of_groups}

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key) -> Loss:
        assert drawn.bound is not None
        return Loss(-drawn.bound, bounds(drawn))

    def evaluated(drawn: Drawn) -> Metrics:
        found = bounds(drawn)
        return {"loss": -found["bound"], **found}

    return variational(model, optimizer, objective, samples=samples, estimator=row, evaluated=evaluated)
