"""k-means against scikit-learn, scores against brute force."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import agrees_over_keys, bars
from sklearn.cluster import KMeans

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, dec
from ae_jax.algorithms.dec import soft_assignment
from ae_jax.evaluation import clustering
from ae_jax.training import stages

RNG = np.random.default_rng(0)


def test_kmeans_finds_what_scikit_learn_finds():
    x = np.concatenate([RNG.normal(m, 1.0, (80, 3)) for m in (-4, 0, 5, 100)]).astype(np.float32)
    ours = clustering.kmeans(jax.random.key(0), jnp.asarray(x), 4)
    theirs = KMeans(4, n_init=10, random_state=0).fit(x)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-4)
    assert clustering.accuracy(ours.labels, theirs.labels_) == 1
    order = np.argsort(np.asarray(ours.centres)[:, 0])
    np.testing.assert_allclose(
        np.asarray(ours.centres)[order], theirs.cluster_centers_[np.argsort(theirs.cluster_centers_[:, 0])], rtol=1e-3
    )


def test_kmeans_is_a_function_of_its_key_and_maps_over_keys():
    x = jnp.asarray(RNG.normal(size=(60, 2)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 3)
    mapped = jax.lax.map(lambda k: clustering.kmeans(k, x, 3, starts=2).labels, keys)
    np.testing.assert_array_equal(mapped[2], clustering.kmeans(keys[2], x, 3, starts=2).labels)


def test_as_many_clusters_as_examples_and_no_more():
    x = jnp.arange(5.0)[:, None]
    assert float(clustering.kmeans(jax.random.key(0), x, 5).inertia) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="6 clusters of 5"):
        clustering.kmeans(jax.random.key(0), x, 6)
    with pytest.raises(ValueError, match="1 of the 5 values of x are NaN or infinite"):
        clustering.kmeans(jax.random.key(0), x.at[2, 0].set(jnp.nan), 2)  # all would be in cluster 0


def test_accuracy_is_that_of_the_best_matching():
    labels, clusters = RNG.integers(0, 4, 50), RNG.integers(0, 4, 50)
    best = max(np.mean(np.array(p)[clusters] == labels) for p in permutations(range(4)))
    assert clustering.accuracy(clusters, labels) == pytest.approx(best)
    assert clustering.scores(labels + 7, labels) == {"accuracy": 1.0, "nmi": 1.0, "ari": 1.0}
    assert clustering.accuracy(np.arange(50), np.zeros(50)) == pytest.approx(1 / 50)


def test_dec_descends_the_gradient_of_its_paper():
    """A step of SGD on the centres moves them by eq. (5), with P from eq. (3), both transcribed here."""
    net = networks.mlp((4, 4, 1), 2, hidden=())
    algorithm = dec(net, optax.sgd(1.0), clusters=3)
    data = bars(2)
    params = algorithm.init(jax.random.key(0), data)
    params["encoder"] = jax.tree.map(lambda p: 3 * p, params["encoder"])
    assert algorithm.before is not None
    params, _, _ = algorithm.before.update(params, (), data, jax.random.key(1))
    z, mu = np.asarray(net.encode(params, data.x), float), np.asarray(params["centres"], float)
    kernel = 1 / (1 + np.square(z[:, None] - mu).sum(-1))  # [N, C]
    q = kernel / kernel.sum(1, keepdims=True)
    np.testing.assert_allclose(soft_assignment(jnp.asarray(z), jnp.asarray(mu)), q, rtol=1e-5)
    p = q**2 / q.sum(0)
    p /= p.sum(1, keepdims=True)
    stepped, _, metrics = algorithm.rule.update(params, algorithm.rule.init(params), data, jax.random.key(2))
    gradient = -2 * np.einsum("nc,nc,nck->ck", kernel, p - q, z[:, None] - mu) / len(z)
    np.testing.assert_allclose(stepped["centres"], mu - gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], (p * np.log(p / q)).sum(1).mean(), rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, stepped["decoder"], params["decoder"])  # DEC discards it


def test_a_pass_fixes_its_targets():
    algorithm = dec(networks.mlp((4, 4, 1), 2, hidden=()), optax.sgd(1.0), clusters=3)
    params, memory, key = core.start(algorithm.init, core.epoch(algorithm, 5), bars(2), jax.random.key(0))
    after, _, _ = core.epoch(algorithm, 5).update(params, memory, bars(2), key)
    np.testing.assert_array_equal(after["target"]["centres"], params["centres"])
    assert not np.allclose(after["centres"], params["centres"])
    np.testing.assert_allclose(after["target"]["frequency"].sum(), 16, rtol=1e-5)


def test_embedded_clustering_is_one_function_of_a_key_and_maps_over_keys():
    """The paper's whole recipe: an autoencoder, k-means on its codes, then both drawn together."""
    net = networks.mlp((4, 4, 1), 2, hidden=())
    plain, clusters = autoencoder(net, optax.adam(1e-2)), dec(net, optax.sgd(0.1), clusters=3)

    def recipe(key, data):
        key_net, key_means, key_clusters = jax.random.split(key, 3)
        pretrained, _ = core.fit(plain.init, core.epoch(plain, 8), data, key_net, 2)
        means = clustering.kmeans(key_means, plain.encode(pretrained, data.x), 3, starts=2)
        init = stages.resume(clusters.init, pretrained | {"centres": means.centres})
        return core.fit(init, core.epoch(clusters, 8), data, key_clusters, 2)[0]

    mapped = agrees_over_keys(recipe, bars(2))
    assert not np.allclose(mapped["centres"][0], mapped["centres"][1])
