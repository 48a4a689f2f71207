"""Measuring trained autoencoders: plain functions of arrays, and `battery`, which applies all that fit.

Whatever is learned here (PCA, probes) is fitted on train and scored on test; corruption and dropout never act,
but for the metrics whose name begins with "denoised".
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from ..core import Algorithm, Batch, Key, Metrics, Params, average
from ..losses import reconstruction
from . import codes, pca, probes
from .likelihood import log_likelihood
from .statistics import binomial_interval, paired_difference, summarise

DESCRIPTIONS: dict[str, str] = {
    "loss": "what training minimises, with its final weights and without corruption or dropout",
    "mse": "squared error of the reconstruction, averaged over dimensions",
    "squared_error": "squared error of the reconstruction, summed over dimensions",
    "cross_entropy": "cross-entropy of the reconstruction in nats, summed over dimensions",
    "reconstruction": "the loss's reconstruction term, in its units",
    "explained_variance": "part of the test data's variance about its mean that reconstructions keep; 1 is perfect",
    "nll": "-log p(x|z) in nats, z drawn from q(z|x)",
    "kl": "KL(q(z|x) || p(z)) in nats",
    "elbo": "evidence lower bound on log p(x) in nats",
    "log_likelihood": "log p(x) in nats by importance sampling, k samples an example; a lower bound in expectation",
    "linear_probe_accuracy": "of logistic regression from codes to labels, fitted on train, scored on test",
    "knn_accuracy": "of a vote of the k nearest training codes, scored on test",
    "active_units": "count of code units whose variance over the test data exceeds 0.01",
    "mean_activation": "activation averaged over units and test examples",
    "l0": "count of code units awake an example: further than the threshold (0.01) from their resting value (0)",
    "l0_fraction": "l0 as a fraction of all units",
    "jacobian_norm": "Frobenius norm of the encoder's Jacobian, averaged over test examples",
}

_PREFIXES = {
    "test": "on test: {}",
    "pca": "PCA with as many components: {}",
    "denoised": "corrupted test inputs, reconstruction compared with the clean: {}",
}


def describe(name: str) -> str:
    """The unit and meaning of a metric of `battery` in a phrase; "" for one that nothing is known of."""
    bare = name.partition(" (")[0]
    if bare in DESCRIPTIONS:
        return DESCRIPTIONS[bare]
    prefix, _, rest = bare.partition(" ")
    return _PREFIXES[prefix].format(DESCRIPTIONS[rest]) if prefix in _PREFIXES and rest in DESCRIPTIONS else ""


def battery(
    algorithm: Algorithm,
    params: Params,
    train: Batch,
    test: Batch,
    key: Key,
    *,
    samples: int = 100,
    neighbours: int = 5,
    probe_l2: float = 1.0,
    resting: float = 0.0,
    awake: float = 0.01,
    likelihood_examples: int | None = 1000,
    jacobian_examples: int | None = 1000,
    probe_examples: int | None = None,
    baseline: dict[str, float] | None = None,
) -> dict[str, float]:
    """Every metric that applies to one trained seed, by name; `describe` tells what a name means.

    Labels (integers, [N]) bring the probes, `log_weight` the likelihood, `corrupt` the denoising. A name says
    what its number depends on: `(k=...)` the samples or neighbours, `(n=...)` that only so many test examples,
    evenly spaced, were measured. Programs are compiled once an algorithm and reused for its other seeds.

    Args:
        algorithm: what was trained.
        params: of one seed.
        train: for fitting PCA and probes only.
        test: what is measured.
        key: for whatever is drawn.
        samples: of the importance-sampled likelihood, for each example.
        neighbours: that vote.
        probe_l2: strength of the linear probe's penalty, as `probes.fit_linear` has it.
        resting: activation of a unit that says nothing, for `l0`; -1 for sparse tanh units.
        awake: how far from it a unit must be to count in `l0`.
        likelihood_examples: at most so many test examples for the likelihood; None for all.
        jacobian_examples: at most so many for the Jacobian; None for all.
        probe_examples: at most so many training examples for the probes; None for all.
        baseline: what `pca_baseline` gave for this data, so that seeds share it; None computes it here.
    """
    key_test, key_likelihood, key_denoise = jax.random.split(key, 3)
    measured = _on_test(algorithm, params, test, key_test, resting, awake)
    codes_test = measured.pop("codes")
    found: dict[str, Any] = {k: v for k, v in measured.items()}
    if algorithm.corrupt is not None:
        found |= _denoised(algorithm, params, test, key_denoise)
    if algorithm.log_weight is not None:
        few, note = _few(test, likelihood_examples)
        found[f"test log_likelihood (k={samples}{note and ', ' + note})"] = _likelihood(
            algorithm, params, few, key_likelihood, samples
        )
    few, note = _few(test, jacobian_examples)
    found[f"jacobian_norm ({note})" if note else "jacobian_norm"] = _jacobian(algorithm, params, few.x)
    if has_labels(train, test):
        seen, _ = _few(train, probe_examples)
        found |= _probed(_codes(algorithm, params, seen.x), seen.y, codes_test, test.y, neighbours, probe_l2)
    if baseline is None:
        shared: dict[str, Any] = {"neighbours": neighbours, "probe_l2": probe_l2, "probe_examples": probe_examples}
        baseline = pca_baseline(train, test, codes_test.shape[-1], **shared)
    return {name: float(value) for name, value in jax.device_get(found).items()} | baseline


def pca_baseline(
    train: Batch,
    test: Batch,
    latents: int,
    *,
    neighbours: int = 5,
    probe_l2: float = 1.0,
    probe_examples: int | None = None,
) -> dict[str, float]:
    """What PCA with `latents` components achieves under the names of `battery`, each after "pca "."""
    fitted = pca.fit(train.x, latents)
    error = _pca_errors(fitted, test.x)
    if has_labels(train, test):
        seen, _ = _few(train, probe_examples)
        ours, theirs = pca.encode(fitted, seen.x), pca.encode(fitted, test.x)
        error |= _probed(ours, seen.y, theirs, test.y, neighbours, probe_l2)
    return {f"pca {name}": float(value) for name, value in jax.device_get(error).items()}


def has_labels(train: Batch, test: Batch) -> bool:
    """Whether there are labels that a probe can learn: one integer an example, and two or more classes."""
    both = [np.asarray(y) for y in (train.y, test.y) if y is not None]
    integers = all(y.ndim == 1 and np.issubdtype(y.dtype, np.integer) for y in both)
    return len(both) == 2 and integers and len(np.unique(both[0])) > 1


# What follows is compiled, once for each algorithm: it is a tuple of functions, and a static argument.


@partial(jax.jit, static_argnames="algorithm")
def _on_test(algorithm: Algorithm, params: Params, test: Batch, key: Key, resting: float, awake: float) -> Metrics:
    found = {f"test {name}": value for name, value in average(algorithm.evaluate, params, test, key).items()}
    if "test squared_error" in found:
        found["test explained_variance"] = pca.explained_variance(found["test squared_error"], test.x)
    z = codes.encode(algorithm, params, test.x)
    awakened = codes.l0(z, resting, awake).mean()
    return found | {
        "codes": z,
        "active_units": codes.active_units(z),
        "mean_activation": codes.mean_activation(z).mean(),
        "l0": awakened,
        "l0_fraction": awakened / z.shape[-1],
    }


@partial(jax.jit, static_argnames="algorithm")
def _denoised(algorithm: Algorithm, params: Params, test: Batch, key: Key) -> Metrics:
    def errors(params: Params, batch: Batch, key: Key) -> Metrics:
        assert algorithm.corrupt is not None
        x_hat = algorithm.decode(params, algorithm.encode(params, algorithm.corrupt(batch.x, key)))
        return reconstruction(x_hat, batch.x)

    return {f"denoised {name}": value for name, value in average(errors, params, test, key).items()}


@partial(jax.jit, static_argnames=("algorithm", "samples"))
def _likelihood(algorithm: Algorithm, params: Params, test: Batch, key: Key, samples: int) -> Array:
    return log_likelihood(algorithm, params, test, key, samples).mean()


@partial(jax.jit, static_argnames="algorithm")
def _jacobian(algorithm: Algorithm, params: Params, x: Array) -> Array:
    return codes.jacobian_norm(partial(algorithm.encode, params), x).mean()


@partial(jax.jit, static_argnames="algorithm")
def _codes(algorithm: Algorithm, params: Params, x: Array) -> Array:
    return codes.encode(algorithm, params, x)


@jax.jit
def _pca_errors(fitted: pca.PCA, x: Array) -> Metrics:
    errors = pca.evaluate(fitted, x)
    means = {name: value.mean() for name, value in errors.items()}
    return means | {"explained_variance": pca.explained_variance(errors["squared_error"], x)}


def _probed(train: Array, train_y: Any, test: Array, test_y: Any, neighbours: int, l2: float) -> dict[str, Any]:
    neighbours = min(neighbours, len(train))
    return {
        "linear_probe_accuracy": probes.linear_probe(train, train_y, test, test_y, l2=l2),
        f"knn_accuracy (k={neighbours})": probes.knn_accuracy(train, train_y, test, test_y, neighbours=neighbours),
    }


def _few(data: Batch, most: int | None) -> tuple[Batch, str]:
    """At most so many examples, evenly spaced so that sorted data stay represented, and a note if fewer."""
    count = len(data.x)
    if most is None or count <= most:
        return data, ""
    index = np.linspace(0, count - 1, most).astype(int)
    return Batch(data.x[index], None if data.y is None else data.y[index]), f"n={most}"


__all__ = [
    "DESCRIPTIONS",
    "battery",
    "binomial_interval",
    "codes",
    "describe",
    "has_labels",
    "log_likelihood",
    "paired_difference",
    "pca",
    "pca_baseline",
    "probes",
    "summarise",
]
