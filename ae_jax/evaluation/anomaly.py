"""Scores of how unusual examples are, by a trained autoencoder and by baselines: higher is more unusual.

An and Cho (2015), "Variational autoencoder based anomaly detection using reconstruction probability", SNU Data Mining
Center; Liu, Ting and Zhou (2008), "Isolation forest", ICDM, pp. 413-422.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..checks import check_choice, check_whole
from ..core import Algorithm, Batch, Key, Params, address
from . import pca
from .likelihood import log_likelihood

MEASURES = {
    "error": "squared error of the reconstruction, averaged over dimensions",
    "elbo": "negative evidence lower bound on log p(x), in nats",
    "log_p": "-log p(x), in nats",
}
Measure = Literal["error", "elbo", "log_p"]


def exact(algorithm: Algorithm, params: Params, batch: Batch) -> bool:
    """Whether the algorithm's metric nll is -log p(x) itself, as for an autoregressive model, which has no code."""
    if algorithm.log_weight is not None:
        return False
    return "nll" in jax.eval_shape(algorithm.evaluate, params, jax.tree.map(lambda a: a[:1], batch), jax.random.key(0))


def scores(algorithm: Algorithm, params: Params, data: Batch, measure: Measure, key: Key, samples: int = 100) -> Array:
    """The score of every example, [N]; higher is more unusual.

    Args:
        algorithm: the trained algorithm.
        params: its params.
        data: the examples.
        measure: a name of `MEASURES`, which gives its meaning and unit.
        key: for the draws of elbo and log_p; example i has `address(key, "example", i)`.
        samples: draws of the code of each example; not used if the algorithm computes log p(x) exactly.

    Raises ValueError for a measure that the algorithm does not have, and for no samples.
    """
    check_choice("measure", measure, MEASURES)
    check_whole(samples=samples)
    if measure == "error":
        if not algorithm.decodes:
            raise ValueError("this algorithm's decoder learns nothing, so it has no error of reconstructions")
        one = lambda x: jnp.square(algorithm.reconstruct(params, x[None])[0] - x).mean()
        return lax.map(one, data.x, batch_size=min(500, len(data.x)))
    if exact(algorithm, params, data):
        nll = lambda example: algorithm.evaluate(params, _alone(example), key)["nll"][0]
        return lax.map(nll, data, batch_size=min(500, len(data.x)))
    if algorithm.log_weight is None:
        raise ValueError(f"this algorithm has no bound on log p(x), so it has no {measure}: take error")
    if measure == "log_p":
        return -log_likelihood(algorithm, params, data, key, samples)
    log_weight = algorithm.log_weight

    def bound(numbered: tuple[Array, Batch]) -> Array:
        keys = jax.vmap(lambda s: address(key, "example", numbered[0], "sample", s))(jnp.arange(samples))
        return jax.vmap(lambda k: log_weight(params, _alone(numbered[1]), k)[0])(keys).mean()

    return -lax.map(bound, (jnp.arange(len(data.x)), data), batch_size=min(100, len(data.x)))


def _alone(example: Batch) -> Batch:
    """An example, with its label if it has one, as a batch of one. [...] -> [1, ...]."""
    return jax.tree.map(lambda a: jnp.asarray(a)[None], example)


def quantiles(train: Any, found: Any) -> np.ndarray:
    """For each found score [N], the fraction of the training scores [M] that are not above it. -> [N], from 0 to 1."""
    return np.searchsorted(np.sort(np.asarray(train)), np.asarray(found), side="right") / len(train)


def auc(found: Any, anomalous: Any) -> float:
    """The area under the ROC curve: the probability that an anomaly scores above a normal example; ties count half.

    Scores [N], and which examples are anomalous, [N] booleans.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(anomalous, bool), np.asarray(found)))


def baselines(train: Any, x: Any, components: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Scores [N] of examples x [N, *shape] by methods without a network, fitted to train [M, *shape].

    The isolation forest is scikit-learn's with its defaults. PCA's score is the squared error of its reconstruction,
    averaged over dimensions, with `components` components, but fewer than the data have dimensions.
    """
    from sklearn.ensemble import IsolationForest

    flat = lambda a: np.asarray(a).reshape(len(a), -1)
    forest = IsolationForest(random_state=seed).fit(flat(train))
    kept = max(1, min(components, flat(train).shape[1] - 1))
    model = pca.fit(jnp.asarray(flat(train)), kept)
    error = pca.evaluate(model, jnp.asarray(flat(x)))["mse"]
    return {"isolation forest": -forest.score_samples(flat(x)), f"PCA error (k={kept})": np.asarray(error)}
