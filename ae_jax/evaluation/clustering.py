"""Clusters of codes by k-means or a mixture of Gaussians, and how well clusters agree with labels.

Arthur & Vassilvitskii (2007), SODA: k-means++. Yang et al. (2010), IEEE Trans. Image Processing 19: accuracy by the
best matching of clusters to classes. The other scores are scikit-learn's.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..checks import check_finite, labelled
from ..core import Autoencoder, Batch, Key, Params
from ..distributions.distances import squared_distances
from ..distributions.priors import of_components
from ..xla.barriers import at_least_float32
from .codes import each


class Clusters(NamedTuple):
    """The result of k-means."""

    centres: Array  # [C, K]
    labels: Array  # [N], the number of the nearest centre
    inertia: Array  # [], sum of squared distances to the nearest centre


def kmeans(key: Key, x: Array, clusters: int, *, starts: int = 10, steps: int = 100) -> Clusters:
    """The best of several runs of Lloyd's algorithm, each from k-means++ centres. A pure function of its key.

    Args:
        key: for the random starts.
        x: [N, K].
        clusters: the number of clusters, C.
        starts: the number of independent runs.
        steps: of each run, at most; a run ends when no example changes its cluster.

    Raises:
        ValueError: more clusters than examples, or none, and values that are not finite.
    """
    if not 1 <= clusters <= len(x):
        raise ValueError(f"{clusters} clusters of {len(x)} examples; it must be from 1 to {len(x)}")
    check_finite(x=x)
    return _kmeans(key, x, clusters, starts, steps)


@partial(jax.jit, static_argnames=("clusters", "starts", "steps"))
@jax.default_matmul_precision("highest")
def _kmeans(key: Key, x: Array, clusters: int, starts: int, steps: int) -> Clusters:
    x = at_least_float32(x)

    def plus_plus(key: Key) -> Array:
        """Centres drawn from the data, with probability proportional to the squared distance from earlier centres."""
        key_first, key_rest = jax.random.split(key)
        from_one = lambda centre: jnp.square(x - centre).sum(-1)
        first = x[jax.random.randint(key_first, (), 0, len(x))]

        def draw(far: Array, key: Key):  # far [N], from the nearest centre before
            centre = x[jax.random.categorical(key, jnp.log(far))]
            return jnp.minimum(far, from_one(centre)), centre

        _, rest = lax.scan(draw, from_one(first), jax.random.split(key_rest, clusters - 1))
        return jnp.concatenate([first[None], rest])

    def step(carry: tuple[Array, Array, Array, Array]):
        centres, labels, _, steps_made = carry
        nearest = squared_distances(x, centres).argmin(-1)
        one_hot = jax.nn.one_hot(nearest, clusters, dtype=x.dtype)
        count = one_hot.sum(0)[:, None]
        # Differences from the old centres are small, so their means round little. An empty cluster's centre stays.
        moved = one_hot.T @ (x - centres[nearest]) / jnp.maximum(count, 1)
        return centres + moved, nearest, (nearest != labels).any(), steps_made + 1

    def lloyd(key: Key) -> Clusters:
        begin = plus_plus(key), jnp.full(len(x), -1), jnp.asarray(True), jnp.zeros((), jnp.int32)
        centres, _, _, _ = lax.while_loop(lambda c: c[2] & (c[3] < steps), step, begin)
        labels = squared_distances(x, centres).argmin(-1)
        return Clusters(centres, labels, jnp.square(x - centres[labels]).sum())

    runs = lax.map(lloyd, jax.random.split(key, starts))
    return jax.tree.map(lambda a: a[runs.inertia.argmin()], runs)


@partial(jax.jit, static_argnames=("components", "steps"))
@jax.default_matmul_precision("highest")
def gaussian_mixture(key: Key, x: Array, components: int, *, steps: int = 30) -> dict[str, Array]:
    """A mixture of Gaussians with diagonal covariances, by `steps` steps of EM from the clusters of k-means.

    A pure function of its key. x [N, K] -> "logits" [C], "mean" and "logvar" [C, K], the params of `priors.mixture`.
    Each variance is raised by 1e-5 times the data's mean variance. Dempster, Laird & Rubin (1977), JRSS B 39.
    """
    least = jnp.maximum(1e-5 * x.var(0).mean(), jnp.finfo(x.dtype).tiny)

    def maximised(share: Array) -> dict[str, Array]:  # [N, C], the part of each example in each component
        count = share.sum(0) + jnp.finfo(x.dtype).eps
        mean = share.T @ x / count[:, None]
        within = jax.vmap(lambda part, m: part @ jnp.square(x - m[None]), (1, 0))(share, mean)  # [C, K]
        return {
            "logits": jnp.log(count / len(x)),
            "mean": mean,
            "logvar": jnp.log(within / count[:, None] + least),
        }

    def step(_: Array, own: dict[str, Array]) -> dict[str, Array]:
        return maximised(jax.nn.softmax(of_components({"mixture": own}, x)))

    begun = maximised(jax.nn.one_hot(kmeans(key, x, components).labels, components, dtype=x.dtype))
    return lax.fori_loop(0, steps, step, begun)


def _known(clusters: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and labels of the examples that have a label. Raises ValueError if no example has one."""
    clusters, labels = np.asarray(clusters), np.asarray(labels)
    known = labelled(labels)
    if not known.any():
        raise ValueError(f"none of {len(labels)} examples has a label (all are below 0): give labels from 0")
    return clusters[known], labels[known]


def _matched(clusters: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """(distinct labels, distinct clusters, joint counts [labels, clusters], rows and columns of the best matching).

    The matching is one to one, and has the largest sum of counts.
    """
    from scipy.optimize import linear_sum_assignment

    rows, true = np.unique(labels, return_inverse=True)
    columns, found = np.unique(clusters, return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), int)
    np.add.at(counts, (true, found), 1)
    return rows, columns, counts, linear_sum_assignment(counts, maximize=True)


def accuracy(clusters: Any, labels: Any) -> float:
    """The largest part of examples in the right cluster, over one-to-one matchings with classes. [N], [N] -> float.

    If there are more clusters than classes, the clusters left over count as wrong. A label below 0 means none: such an
    example counts in no score. Raises ValueError if no example has a label.
    """
    _, _, counts, pairs = _matched(*_known(clusters, labels))
    return float(counts[pairs].sum() / counts.sum())


def scores(clusters: Any, labels: Any) -> dict[str, float]:
    """`accuracy`, normalised mutual information (arithmetic mean) and adjusted Rand index. [N], [N]."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    clusters, labels = _known(clusters, labels)
    return {
        "accuracy": accuracy(clusters, labels),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }


def agreement(predicted: Any, labels: Any, supervised: bool) -> dict[str, float]:
    """The agreement of predictions with labels, [N], [N]: "test nmi", and an accuracy.

    `supervised` predictions are classes and give "test accuracy"; others are clusters and give "test
    clustering_accuracy", see `accuracy`.
    """
    from sklearn.metrics import normalized_mutual_info_score

    predicted, labels = _known(predicted, labels)
    right = {"test accuracy": float((predicted == labels).mean())}
    matched = lambda: {"test clustering_accuracy": accuracy(predicted, labels)}
    return (right if supervised else matched()) | {"test nmi": float(normalized_mutual_info_score(labels, predicted))}


def confusion(predicted: Any, labels: Any) -> tuple[list[int], list[int], list[list[int]]]:
    """(labels of the rows, classes or clusters of the columns, counts of examples) of the confusion matrix. [N], [N].

    The columns are in the order of the labels that the best one-to-one matching gives them; those left over come last.
    """
    rows, columns, counts, (_, matched) = _matched(*_known(predicted, labels))
    order = [*matched, *sorted(set(range(len(columns))) - set(matched))]
    return rows.tolist(), columns[order].tolist(), counts[:, order].tolist()


def codes_of(net: Autoencoder, params: Params, x: Array, at_once: int = 256) -> Array:
    """The codes of all examples, computed `at_once` at a time. [N, *shape] -> [N, K]."""
    return each(net.encode, params, x, at_once)


def centres(net: Autoencoder, params: Params, data: Batch, key: Key, clusters: int, by_kmeans: bool) -> Array:
    """Centres of clusters: from k-means on the codes, or the codes of random examples. -> [clusters, K]."""
    if by_kmeans:
        return kmeans(key, codes_of(net, params, data.x), clusters).centres
    some = jax.random.choice(key, data.x, (clusters,), replace=len(data.x) < clusters)
    return net.encode(params, some)
