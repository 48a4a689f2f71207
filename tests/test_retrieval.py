"""Search: neighbours against scikit-learn, balls against brute force, rankings against scikit-learn."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from ae_jax.evaluation import retrieval

RNG = np.random.default_rng(0)


def test_nearest_is_scikit_learns():
    base, queries = RNG.normal(size=(500, 7)) + 100, RNG.normal(size=(20, 7)) + 100  # far from 0: cancellation
    index, distance = retrieval.nearest(jnp.asarray(base, jnp.float32), jnp.asarray(queries, jnp.float32), 10)
    expected, where = NearestNeighbors(n_neighbors=10).fit(base).kneighbors(queries)
    np.testing.assert_array_equal(index, where)
    np.testing.assert_allclose(distance, expected, rtol=1e-4)


def test_nearest_at_unit_length_is_by_the_cosine():
    base, queries = RNG.normal(size=(100, 5)), RNG.normal(size=(4, 5))
    index, distance = retrieval.nearest(retrieval.unit(jnp.asarray(base)), retrieval.unit(jnp.asarray(queries)), 100)
    norms = np.linalg.norm(base, axis=1) * np.linalg.norm(queries, axis=1)[:, None]
    cosine = queries @ base.T / norms
    np.testing.assert_array_equal(index, np.argsort(-cosine, 1))
    np.testing.assert_allclose(1 - np.square(distance) / 2, -np.sort(-cosine, 1), atol=1e-5)
    assert np.isfinite(retrieval.unit(jnp.zeros((1, 5)))).all()


def test_of_equal_distances_the_earlier_comes_first():
    index, _ = retrieval.nearest(jnp.zeros((30, 2)), jnp.ones((1, 2)), 4)
    np.testing.assert_array_equal(index, [[0, 1, 2, 3]])


@pytest.mark.parametrize("search", [retrieval.nearest, retrieval.by_cosine])
def test_codes_that_are_not_finite_are_refused(search):
    codes = jnp.eye(4)
    for value in (jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match="1 of the 16 values of base are NaN or infinite"):
            search(codes.at[1, 2].set(value), codes, 1)
        with pytest.raises(ValueError, match="1 of the 16 values of queries are NaN or infinite"):
            search(codes, codes.at[1, 2].set(value), 1)
    np.testing.assert_array_equal(jax.jit(lambda: search(codes, codes, 1)[0])()[:, 0], range(4))  # constants of it


@pytest.mark.parametrize("k", [0, 6])
def test_as_many_neighbours_as_there_are(k):
    with pytest.raises(ValueError, match="from 1 to 5"):
        retrieval.nearest(jnp.zeros((5, 2)), jnp.zeros((1, 2)), k)


@pytest.mark.parametrize("bits", [1, 7, 8, 20, 64, 130])
def test_hamming_counts_the_bits_that_differ(bits):
    a, b = RNG.random((6, bits)) < 0.5, RNG.random((9, bits)) < 0.5
    packed = retrieval.hamming(retrieval.pack(a), retrieval.pack(b))
    np.testing.assert_array_equal(packed, (a[:, None] != b[None]).sum(-1))


@pytest.mark.parametrize(("bits", "radius"), [(3, 3), (10, 0), (10, 4), (64, 2)])
def test_a_ball_holds_whoever_is_near_enough_nearest_first(bits, radius):
    stored = RNG.random((400, bits)) < 0.5
    query = stored[17].copy()
    query[:1] ^= True
    places, distances = retrieval.within(retrieval.addresses(stored), query, radius)
    true = (stored != query).sum(1)
    np.testing.assert_array_equal(places, [i for r in range(radius + 1) for i in np.flatnonzero(true == r)])
    np.testing.assert_array_equal(distances, np.sort(true[true <= radius]))


def test_an_empty_ball_and_one_too_large():
    table = retrieval.addresses(np.zeros((3, 64), bool))
    places, distances = retrieval.within(table, np.ones(64, bool), 1)
    assert len(places) == len(distances) == 0
    with pytest.raises(ValueError, match="smaller radius"):
        retrieval.within(table, np.ones(64, bool), 8)
    with pytest.raises(ValueError, match="64 bits"):
        retrieval.within(table, np.ones(63, bool), 1)
    with pytest.raises(ValueError, match="at most 64"):
        retrieval.addresses(np.zeros((3, 65), bool))


def test_rankings():
    relevant = RNG.random((5, 40)) < 0.2
    relevant[0] = False
    scores = -np.arange(40)  # in the order retrieved
    expected = [average_precision_score(r, scores) if r.any() else 0 for r in relevant]
    np.testing.assert_allclose(retrieval.average_precision(relevant), expected)
    np.testing.assert_allclose(retrieval.precision_at(relevant, 7), relevant[:, :7].sum(1) / 7)
    with pytest.raises(ValueError, match="precision at 41"):
        retrieval.precision_at(relevant, 41)


def test_medians_split_in_halves():
    codes = RNG.normal(size=(101, 4))
    assert ((codes > retrieval.thresholds(codes)).sum(0) == 50).all()


def test_precision_with_ties_is_the_mean_over_their_orders():
    distances, relevant = RNG.integers(0, 3, (8, 6)), RNG.random((8, 6)) < 0.4
    for k in (1, 3, 6):
        for distance, right, got in zip(
            distances, relevant, retrieval.tied_precision_at(relevant, distances, k), strict=True
        ):
            orders = [list(p) for p in permutations(range(6)) if (np.diff(distance[list(p)]) >= 0).all()]
            assert got == pytest.approx(np.mean([right[order[:k]].mean() for order in orders]))
    with pytest.raises(ValueError, match="precision at 7"):
        retrieval.tied_precision_at(relevant, distances, 7)


def test_hyperplanes_tell_angles():
    """A bit differs with probability angle / pi, Charikar (2002): within four deviations of 20,000 bits."""
    normals = retrieval.hyperplanes(jax.random.key(0), 5, 20000)
    x = jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)
    bits, unit = np.asarray(x @ normals > 0), np.asarray(retrieval.unit(x))
    expected = np.arccos(np.clip(unit @ unit.T, -1, 1)) / np.pi
    np.testing.assert_allclose((bits[:, None] != bits[None]).mean(-1), expected, atol=4 * 0.5 / 20000**0.5)
