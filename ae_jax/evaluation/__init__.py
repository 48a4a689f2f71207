"""Measuring trained autoencoders: plain functions of arrays, and `all_metrics`, which applies all that fit.

PCA and probes are fitted on train and scored on test. Evaluation has no dropout and no corruption, with two exceptions:
metrics whose name begins with "denoised", and the metric "denoising" of an algorithm.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..checks import labelled as has_label
from ..core import LABELLED, Algorithm, Batch, Key, Metrics, Params, address, average
from ..distributions.posteriors import reparameterize
from ..objectives.terms import reconstruction
from ..xla.programs import compiled
from . import (
    aggregate,
    artefacts,
    clustering,
    codes,
    disentanglement,
    features,
    logistic_pca,
    partition,
    pca,
    probes,
    retrieval,
    samples,
)
from .likelihood import log_likelihood
from .statistics import paired_difference, summarise

Better = Literal["higher", "lower"]


class Metric(NamedTuple):
    """The meaning of a metric, and the direction in which it is better."""

    meaning: str
    better: Better | None = None  # None: neither direction, or not by itself


METRICS: dict[str, Metric] = {
    "loss": Metric(
        "what training minimises, with its final weights, without corruption, dropout or terms that compare examples",
        "lower",
    ),
    "reconstruction": Metric("the loss's reconstruction term, in its units", "lower"),
    "mse": Metric("squared error of the reconstruction, averaged over dimensions", "lower"),
    "squared_error": Metric("squared error of the reconstruction, summed over dimensions", "lower"),
    "cross_entropy": Metric("cross-entropy of the reconstruction in nats, summed over dimensions", "lower"),
    "explained_variance": Metric(
        "part of the test data's variance about its mean that reconstructions keep; 1 is perfect", "higher"
    ),
    "penalty": Metric("the regulariser, before its weight"),
    "auxiliary": Metric(
        "squared error of the dead units' fit to the others' residual, over its variance in the batch; 0 without dead "
        "units",
        "lower",
    ),
    "nonzero_units": Metric("count of code units above 0"),
    "fvu": Metric(
        "fraction of variance unexplained: squared error over the training data's variance about their mean; 1 is what "
        "that mean scores",
        "lower",
    ),
    "dead_share": Metric("part of the units that no recent training example activated", "lower"),
    "classification": Metric("cross-entropy of the classes in nats, of the examples that have a label", "lower"),
    "error": Metric("fraction of examples whose most probable class is another", "lower"),
    "labelled": Metric("fraction of examples that have a label; the loss and its parts are means over these"),
    "clustering": Metric("KL(P || Q) of soft assignments to clusters from their sharpened ones, in nats"),
    "denoising": Metric("the loss's reconstruction term from a corrupted input, compared with the clean one", "lower"),
    "nll": Metric("-log p(x|z) in nats, z drawn from q(z|x); -log p(x) where there is no z", "lower"),
    "kl": Metric("KL(q(z|x) || p(z)) in nats"),
    "elbo": Metric("evidence lower bound on log p(x) in nats", "higher"),
    "bound": Metric("importance-weighted lower bound on log p(x) in nats, with the samples of training", "higher"),
    "group_bound": Metric("lower bound on log p(x) in nats, with the weights of each group of draws apart", "higher"),
    "bits_dim": Metric("upper bound on -log2 p(x) a dimension, bits, of data that have levels", "lower"),
    "log_likelihood": Metric(
        "log p(x) in nats by importance sampling, k samples an example; a lower bound in expectation", "higher"
    ),
    "free_energy": Metric("-log of the unnormalised probability of an example under a Boltzmann machine, in nats"),
    "pseudo_likelihood": Metric(
        "sum over pixels of log p(pixel | all others) in nats, by one pixel drawn for each example", "higher"
    ),
    "gap": Metric("free energy of the examples minus that of the chains; training descends its gradient"),
    "critic": Metric(
        "loss of the critic that tells codes from the prior's draws, or from permuted codes, in nats; 2 log 2 where it "
        "cannot tell"
    ),
    "confusion": Metric("loss of the encoder against the critic, in nats; log 2 where the critic cannot tell"),
    "class_critic": Metric("loss of the critic of the classes, in nats; 2 log 2 where it cannot tell"),
    "class_confusion": Metric("loss of the encoder against the critic of the classes, in nats"),
    "style_critic": Metric("loss of the critic of the styles, in nats; 2 log 2 where it cannot tell"),
    "style_confusion": Metric("loss of the encoder against the critic of the styles, in nats"),
    "accuracy": Metric("part of the examples whose class is predicted right", "higher"),
    "clustering_accuracy": Metric(
        "part of the examples in the right cluster, under the best one-to-one matching with classes", "higher"
    ),
    "nmi": Metric(
        "mutual information of predicted classes, or clusters, and labels, over the mean of their entropies", "higher"
    ),
    "linear_probe_accuracy": Metric(
        "of logistic regression from codes to labels, fitted on train, scored on test", "higher"
    ),
    "knn_accuracy": Metric("of a vote of the k nearest training codes, scored on test", "higher"),
    "mig": Metric(
        "mutual information gap: how much more one code unit tells of a factor than any other; 1 is perfect", "higher"
    ),
    "sap": Metric(
        "gap of the two units that tell most of a factor, a mean over factors: by squared correlation, or for labels, "
        "which have no order, by the accuracy of a linear classifier of one unit",
        "higher",
    ),
    "dci_disentanglement": Metric("how far each code unit tells of one factor, by importances of trees", "higher"),
    "dci_completeness": Metric("how far one code unit tells of each factor, by importances of trees", "higher"),
    "dci_informativeness": Metric("part of the factors' variance that trees predict from codes", "higher"),
    "factor_vae_score": Metric(
        "part of the votes in which the unit that varies least tells the factor held; 1 / factors for noise", "higher"
    ),
    "beta_vae_score": Metric(
        "part of the points from which a linear classifier tells the factor shared; 1 / factors for noise", "higher"
    ),
    "modularity": Metric("how far each code unit tells of one factor alone; about 0.66 for noise", "higher"),
    "explicitness": Metric("2 AUC - 1 of the factors' levels by softmax regression of codes; 0 for noise", "higher"),
    "irs": Metric(
        "how little each code unit moves while the best factor for it is held fixed; above 0 for noise", "higher"
    ),
    "udr": Metric("how far the code units of all seeds are the same, in any order: one number of them", "higher"),
    "symbols_used": Metric("count of symbols that stand for some part of a test example"),
    "perplexity": Metric("exp of the entropy of the symbols' frequencies over the whole test set"),
    "batch_perplexity": Metric("exp of the entropy of the symbols' frequencies in a batch, a mean over levels"),
    "commitment": Metric("cost of codes for their distance from the quantiser's vectors, with its entropies", "lower"),
    "mutual_information": Metric("estimate of I(x; z) over n examples, in nats; at most log n"),
    "aggregate_kl": Metric("KL of the mean of n examples' posteriors to the prior, in nats", "lower"),
    "aggregate_total_correlation": Metric("total correlation of the mean of n examples' posteriors, in nats"),
    "gaussian_total_correlation": Metric(
        "total correlation, in nats, of a Gaussian with the covariance of n examples' drawn codes"
    ),
    "frechet_distance": Metric(
        "Frechet distance of the features of n samples from those of n test examples; it falls with n", "lower"
    ),
    "squared_mmd": Metric(
        "squared maximum mean discrepancy of the features of n samples and n test examples; 0 for equal distributions, "
        "where estimates may be negative",
        "lower",
    ),
    "sample_precision": Metric("fraction of n samples whose features lie among those of test examples", "higher"),
    "sample_recall": Metric("fraction of n test examples whose features lie among those of samples", "higher"),
    "sample_density": Metric("density of test examples around samples, by features; near 1 for equal distributions"),
    "sample_coverage": Metric("fraction of n test examples with a sample among their nearest, by features", "higher"),
    "information": Metric("estimate of the mutual information of x and z, in nats"),
    "total_correlation": Metric("estimate of the total correlation of the code's units, in nats"),
    "dimensions": Metric("estimate of the sum of the KL of each code unit to its prior, in nats"),
    "covariances": Metric("sum of the squared covariances of pairs of code units, over a batch"),
    "variances": Metric("sum of the squared distances of the code units' variances from 1, over a batch"),
    "distance": Metric("estimate of the distance between codes and draws of the prior, over a batch"),
    "undecided": Metric(
        "fraction of code units that are between 0.1 and 0.9, and lose by being rounded to bits", "lower"
    ),
    "active_units": Metric("count of code units whose variance over the test data exceeds 0.01"),
    "mean_activation": Metric("activation of code units, averaged over units and test examples"),
    "activation": Metric("activation of code units on a scale from 0, at rest, to 1; averaged over units and examples"),
    "l0": Metric("count of code units awake for an example: further from rest than `awake`, 0.01 by default"),
    "l0_fraction": Metric("l0 as a fraction of all units"),
    "jacobian_norm": Metric("Frobenius norm of the encoder's Jacobian, averaged over test examples"),
    "jacobian": Metric("squared Frobenius norm of the encoder's Jacobian"),
    "jacobian_change": Metric("squared Frobenius norm of the Jacobian's change under small noise on the input"),
    "code_l2": Metric("half the squared norm of the code, before its weight"),
    "weight_l1": Metric("sum of the weights' magnitudes, before its weight"),
    "weight_l2": Metric("half the sum of the weights' squares, before its weight"),
}

_PREFIXES = {
    "test": "on test: {}",
    "pca": "PCA with as many components: {}",
    "train": "training examples in place of samples: {}",
    "denoised": "corrupted test inputs, reconstruction compared with the clean: {}",
}


def describe(name: str) -> str:
    """The unit, meaning and better direction of a metric in a phrase; "" for an unknown metric."""
    bare = name.partition(" (")[0]
    prefix, _, rest = bare.rpartition(" ")
    metric = METRICS.get(rest)
    if metric is None:
        return ""
    way = f"; {metric.better} is better" if metric.better else ""
    return _PREFIXES.get(prefix, "{}").format(metric.meaning) + way


def better(name: str) -> Better | None:
    """The direction in which a metric is better. Its name may have a prefix ("test mse") or a note ("(k=5)").

    None if the metric is unknown, or if it has no better direction by itself.
    """
    metric = METRICS.get(name.partition(" (")[0].rpartition(" ")[2])
    return None if metric is None else metric.better


def all_metrics(
    algorithm: Algorithm,
    train: Batch,
    test: Batch,
    *,
    factors: Any = None,
    samples: int = 100,
    neighbours: int = 5,
    probe_l2: float = 1.0,
    resting: float = 0.0,
    awake: float = 0.01,
    likelihood_examples: int | None = 1000,
    jacobian_examples: int | None = 1000,
    probe_examples: int | None = None,
    aggregate_examples: int | None = 2000,
    judge: features.Judge | None = None,
) -> Callable[[Params, Key], dict[str, float]]:
    """Every metric that applies, as a function: (params of one seed, key) -> metrics by name.

    Labels (integers, [N]) add the probes, and factors add the scores of disentanglement. The algorithm's `log_weight`
    adds the likelihood, `symbols` their use, `corrupt` the denoising; a judge adds the scores of samples. Codes that
    are not finite have no probes, and data outside [0, 1] have no cross-entropy of reconstructions. A name states the
    number of samples or neighbours, `(k=...)`. It also states the number of test examples if not all are measured,
    `(n=...)`: these are evenly spaced, or have a label from 0 on. `describe` explains a name. PCA depends on no seed
    and is fitted once, in this call; all seeds share compiled programs.

    Args:
        algorithm: the trained algorithm.
        train: for fitting PCA and probes only.
        test: the examples to measure.
        factors: the generative factors of the test examples, [N, F]; None where they are not known.
        samples: draws for each example, for the importance-sampled likelihood.
        neighbours: the number of nearest codes that vote.
        probe_l2: strength of the linear probe's penalty, as in `probes.fit_linear`.
        resting: activation of a unit at rest, for `l0`; -1 for sparse tanh units.
        awake: distance from rest from which a unit counts in `l0`.
        likelihood_examples: at most so many test examples for the likelihood; None for all.
        jacobian_examples: at most so many test examples for the Jacobian; None for all.
        probe_examples: at most so many training examples for the probes; None for all.
        aggregate_examples: at most so many test examples for the aggregate posterior; None for all.
        judge: gives the scores of samples, see `judge_of`; None for none.
    """
    train, test = jax.tree.map(jnp.asarray, (train, test))
    if algorithm.classes is not None and test.y is None:
        test = test._replace(y=jnp.full(len(test.x), -1))
    labelled = has_labels(train, test)
    seen = few(train, probe_examples)
    known = _known(test) if labelled else test
    counted = _note(known, test, "n={}")  # only so many test examples have a label
    noted = lambda name: f"{name} ({counted})" if counted else name
    weighed, moved = few(test, likelihood_examples), few(test, jacobian_examples)
    pooled = few(test, aggregate_examples)
    likelihood_name = f"test log_likelihood (k={samples}{_note(weighed, test, ', n={}')})"
    jacobian_name = f"jacobian_norm{_note(moved, test, ' (n={})')}"
    within = within_unit(train, test)

    def probed(train_codes: Array, test_codes: Array) -> dict[str, float]:
        if not labelled or not all(bool(jnp.isfinite(z).all()) for z in (train_codes, test_codes)):
            return {}
        k, both = min(neighbours, len(_known(seen).x)), (train_codes, seen.y, test_codes, test.y)
        return {
            noted("linear_probe_accuracy"): probes.linear_probe(*both, l2=probe_l2),
            f"knn_accuracy (k={k}{counted and ', '}{counted})": probes.knn_accuracy(*both, neighbours=k),
        }

    start = lambda x: algorithm.encode(algorithm.init(jax.random.key(0), train), x)
    linear = pca.fit(train.x, jax.eval_shape(start, test.x[:1]).shape[-1])
    errors = _floats(_pca_errors(linear, test.x)) if algorithm.decodes else {}
    baseline = errors | probed(pca.encode(linear, seen.x), pca.encode(linear, test.x))

    def measure(params: Params, key: Key) -> dict[str, float]:
        key_test = address(key, "test")
        found, test_codes = _on_test(algorithm, params, test, key_test, resting, awake)
        found = of_known(found, len(test.x))
        if float(test_codes.min()) < resting:  # units with activations below `resting` do not rest there
            for name in ("mean_activation", "l0", "l0_fraction"):
                del found[name]
        if not bool(jnp.isfinite(test_codes).all()):  # NaN is above no threshold, and would count as a unit at rest
            found |= dict.fromkeys(("active_units", "l0", "l0_fraction") & found.keys(), np.nan)
        if algorithm.corrupt is not None and algorithm.decodes:
            found |= _denoised(algorithm, params, test, address(key, "denoised"))
        if algorithm.log_weight is not None:
            key_likelihood = address(key, "likelihood")
            found[likelihood_name] = _likelihood(algorithm, params, weighed, key_likelihood, samples=samples)
        if algorithm.moments is not None:
            found |= {
                f"{name} (n={len(pooled.x)})": value
                for name, value in _aggregate(algorithm, params, pooled.x, address(key, "aggregate")).items()
            }
        if judge is not None and algorithm.sample is not None:
            found |= judge.scores(drawn(algorithm, params, address(key, "samples"), len(judge.real)))
        if factors is not None:
            seed = np.asarray(jax.random.key_data(address(key, "factors"))).tolist()
            found |= disentanglement.battery(test_codes, factors, test.y, seed)
        if algorithm.symbols is not None:
            found |= codes.usage(_symbols(algorithm, params, test.x), max(1, len(algorithm.alphabet)))
        if labelled and algorithm.predict is not None:
            predicted = assignments(algorithm, params, test.x)
            agree = clustering.agreement(predicted, test.y, supervised=algorithm.classes is not None)
            found |= {noted(name): value for name, value in agree.items()}
        found[jacobian_name] = _jacobian(algorithm, params, moved.x)
        reading = probed(coded(algorithm, params, seen.x), test_codes) if labelled else {}
        every = _in_order(_floats(found) | reading) | ({} if judge is None else judge.beside)
        every |= {f"pca {name}": value for name, value in baseline.items()}
        return {name: value for name, value in every.items() if within or not _is_cross_entropy(name)}

    return measure


def judge_of(train: Batch, test: Batch, most: int | None = 2000) -> features.Judge:
    """The judge of samples: it compares them with at most `most` test examples, by features fitted to train."""
    seen = _known(train) if has_labels(train, train) else train._replace(y=None)
    real = few(test, most)
    return features.judge(seen.x, seen.y, real.x, few(train, len(real.x)).x)


def unjudged(algorithm: Algorithm, params: Params, count: int) -> str:
    """The reason not to judge `count` samples, which are too few or too slow to draw; "" if there is none."""
    assert algorithm.sample is not None
    if count < features.FEWEST:
        return f"{count} test examples are too few; {features.FEWEST} are the least"
    sample = lambda params, key: algorithm.sample(params, key, count)  # type: ignore[misc]
    work = features.work(sample, params, jax.random.key(0))
    if work > features.WORK:
        return f"drawing {count:,} takes {work / 1e9:,.0f} billion multiply-adds"
    return ""


def within_unit(*parts: Batch) -> bool:
    """Whether all values lie in [0, 1]. Only then does a cross-entropy of reconstructions have a meaning."""
    return all(float(part.x.min()) >= 0 and float(part.x.max()) <= 1 for part in parts)


def _is_cross_entropy(name: str) -> bool:
    """Whether a metric is a cross-entropy of reconstructions."""
    return name.partition(" (")[0].endswith(" cross_entropy")


def of_known(metrics: dict[str, Any], count: int) -> dict[str, Any]:
    """Metrics of `count` test examples, with the number of labelled examples, "(n=...)", where a mean is over these.

    The metric `core.LABELLED` says that the means with the prefix "test" are over labelled examples; it is left out. If
    all examples have a label, names stay as they are. If none has one, these means are left out.
    """
    name = f"test {LABELLED}"
    if name not in metrics:
        return metrics
    n, metrics = round(float(metrics[name]) * count), {k: m for k, m in metrics.items() if k != name}
    if n == count:
        return metrics
    kept = {k: m for k, m in metrics.items() if not k.startswith("test ")}
    return kept | {f"{k} (n={n})": m for k, m in metrics.items() if k not in kept and n}


def assignments(algorithm: Algorithm, params: Params, x: Array) -> np.ndarray:
    """The class or cluster of each example, by an algorithm with `predict`. [N, *shape] -> [N] integers."""
    return np.asarray(_assignments(algorithm, params, x))


def has_labels(train: Batch, test: Batch) -> bool:
    """Whether a probe can learn the labels: they are one integer for each example, and train has two or more classes.

    A label below 0 means that the example has none; test needs at least one label.
    """
    both = [np.asarray(y) for y in (train.y, test.y) if y is not None]
    if len(both) < 2 or not all(y.ndim == 1 and np.issubdtype(y.dtype, np.integer) for y in both):
        return False
    learned, scored = (y[has_label(y)] for y in both)
    return len(np.unique(learned)) > 1 and len(scored) > 0


def _known(data: Batch) -> Batch:
    """The examples that have a label."""
    at = np.flatnonzero(has_label(data.y))
    return data if len(at) == len(data.x) else jax.tree.map(lambda a: a[at], data)


def _in_order(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics in the order of METRICS; those that METRICS lacks come after the loss."""
    known = list(METRICS)

    def place(name: str) -> int:
        bare = name.partition(" (")[0].rpartition(" ")[2]
        return known.index(bare) if bare in known else 0

    return dict(sorted(metrics.items(), key=lambda item: place(item[0])))


def few(data: Batch, most: int | None) -> Batch:
    """At most `most` examples, evenly spaced, since data may be sorted."""
    if most is None or len(data.x) <= most:
        return data
    index = np.linspace(0, len(data.x) - 1, most).astype(int)
    return jax.tree.map(lambda a: a[index], data)


def _note(part: Batch, whole: Batch, note: str) -> str:
    return "" if len(part.x) == len(whole.x) else note.format(len(part.x))


def _floats(metrics: Metrics) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


# The functions below with `compiled` are compiled once for each algorithm, see `xla.programs`.


@compiled
def _on_test(
    algorithm: Algorithm, params: Params, test: Batch, key: Key, resting: float, awake: float
) -> tuple[Metrics, Array]:
    found = {f"test {name}": value for name, value in average(algorithm.evaluate, params, test, key).items()}
    if "test squared_error" in found:
        found["test explained_variance"] = pca.explained_variance(found["test squared_error"], test.x)
    z = codes.encode(algorithm, params, test.x)
    found["active_units"] = codes.active_units(z)
    found["mean_activation"] = codes.mean_activation(z).mean()
    found["l0"] = codes.l0(z, resting, awake).mean()
    found["l0_fraction"] = found["l0"] / z.shape[-1]
    return found, z


@compiled
def averaged(algorithm: Algorithm, params: Params, data: Batch, key: Key, first: Any = 0) -> Metrics:
    """The algorithm's own metrics, averaged over data whose first example has the number `first`."""
    return average(algorithm.evaluate, params, data, key, first=first)


@compiled
def _denoised(algorithm: Algorithm, params: Params, test: Batch, key: Key) -> Metrics:
    def errors(params: Params, batch: Batch, key: Key) -> Metrics:
        assert algorithm.corrupt is not None
        x_hat = algorithm.reconstruct(params, algorithm.corrupt(batch.x, key))
        return reconstruction(x_hat, batch.x)

    return {f"denoised {name}": value for name, value in average(errors, params, test, key).items()}


@partial(compiled, static_argnames="samples")
def _likelihood(algorithm: Algorithm, params: Params, test: Batch, key: Key, samples: int) -> Array:
    return log_likelihood(algorithm, params, test, key, samples).mean()


def _aggregate(algorithm: Algorithm, params: Params, x: Array, key: Key) -> Metrics:
    parts, z = _decomposed(algorithm, params, moments(algorithm, params, x), key)
    return {
        "mutual_information": parts["information"],
        "aggregate_kl": parts["aggregate"],
        "aggregate_total_correlation": parts["total_correlation"],
        "gaussian_total_correlation": aggregate.gaussian_total_correlation(z) if np.isfinite(z).all() else np.nan,
    }


@compiled
def _decomposed(algorithm: Algorithm, params: Params, stats: Array, key: Key) -> tuple[Metrics, Array]:
    mean, logvar = jnp.split(stats, 2, -1)
    z = reparameterize(key, mean, logvar)
    return aggregate.decomposition(stats, z, algorithm.prior.log_prob(params, z)), z


@partial(compiled, static_argnames="n")
def _sampled(algorithm: Algorithm, params: Params, key: Key, n: int) -> Array:
    assert algorithm.sample is not None
    return algorithm.sample(params, key, n)


def drawn(algorithm: Algorithm, params: Params, key: Key, count: int, at_once: int = 64) -> np.ndarray:
    """`count` new examples by `algorithm.sample`, `at_once` at a time. [count, *shape]."""
    size = min(count, at_once)
    parts = [_sampled(algorithm, params, address(key, i), n=size) for i in range(-(-count // size))]
    return np.concatenate(jax.device_get(parts))[:count]


@compiled
def moments(algorithm: Algorithm, params: Params, x: Array) -> Array:
    """Means and log-variances of an algorithm's Gaussian posteriors. [N, *shape] -> [N, 2K]."""
    assert algorithm.moments is not None
    return codes.each(algorithm.moments, params, x)


@compiled
def _jacobian(algorithm: Algorithm, params: Params, x: Array) -> Array:
    return codes.jacobian_norm(partial(algorithm.encode, params), x).mean()


@compiled
def _assignments(algorithm: Algorithm, params: Params, x: Array) -> Array:
    assert algorithm.predict is not None
    return codes.each(algorithm.predict, params, x)


@compiled
def _symbols(algorithm: Algorithm, params: Params, x: Array) -> Array:
    assert algorithm.symbols is not None
    return codes.each(algorithm.symbols, params, x)


@compiled
def coded(algorithm: Algorithm, params: Params, x: Array) -> Array:
    """`codes.encode`, compiled once for each algorithm. [N, *shape] -> [N, K]."""
    return codes.encode(algorithm, params, x)


@jax.jit
def _pca_errors(fitted: pca.PCA, x: Array) -> Metrics:
    errors = pca.evaluate(fitted, x)
    means = {name: value.mean() for name, value in errors.items()}
    return means | {"explained_variance": pca.explained_variance(errors["squared_error"], x)}


__all__ = [
    "METRICS",
    "Metric",
    "aggregate",
    "all_metrics",
    "artefacts",
    "assignments",
    "averaged",
    "better",
    "clustering",
    "coded",
    "codes",
    "describe",
    "disentanglement",
    "drawn",
    "features",
    "has_labels",
    "judge_of",
    "log_likelihood",
    "logistic_pca",
    "moments",
    "of_known",
    "paired_difference",
    "partition",
    "pca",
    "probes",
    "retrieval",
    "samples",
    "summarise",
    "unjudged",
]
