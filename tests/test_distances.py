"""Distances in float32 against float64, where points lie far from zero and near to one another."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from ae_jax.distributions.distances import (
    by_differences,
    gaussian_kernel,
    in_blocks,
    squared_distances,
    squared_mmd,
)
from ae_jax.evaluation import clustering, retrieval, samples

measure = jax.jit(squared_distances)


def right(a, b):
    """Distances in float64, of the same float32 numbers."""
    return np.square(np.asarray(a, np.float64)[:, None] - np.asarray(b, np.float64)).sum(-1)


def points(n, k, *, seed=0, shift=0.0, apart=0.0, spread=1.0):
    """n points about `shift` in two groups with the distance `apart`, each group with this spread."""
    r = np.random.default_rng(seed)
    x = spread * r.normal(size=(n, k)) + shift
    x[::2] += apart
    return x.astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([1, 3, 16, 17, 40, 64]),
    st.sampled_from([0.0, 1.0, 1e4, -3e5]),
    st.sampled_from([0.0, 100.0, 1e4]),
    st.sampled_from([1e-3, 1.0]),
    st.integers(0, 9),
)
def test_every_distance_is_that_of_float64(k, shift, apart, spread, seed):
    a, b = (points(n, k, seed=seed + i, shift=shift, apart=apart, spread=spread) for i, n in enumerate((13, 7)))
    b[:3] = a[:3]  # 0 exactly
    got = np.asarray(measure(a, b))
    assert (got >= 0).all()
    assert (got[range(3), range(3)] == 0).all()
    np.testing.assert_allclose(got, right(a, b), rtol=1e-4)
    itself = np.asarray(measure(a))
    np.testing.assert_allclose(itself, right(a, a), rtol=1e-4)
    np.testing.assert_array_equal(itself, itself.T)
    assert (np.diag(itself) == 0).all()


def test_distances_within_a_set_are_symmetric_and_0_on_the_diagonal_without_differences_too():
    x = points(50, 64)
    program = str(jax.make_jaxpr(squared_distances)(x))
    assert "dot_general" in program
    found = np.asarray(measure(x))
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 0).all()
    np.testing.assert_allclose(found, right(x, x), rtol=1e-5)


def test_differences_are_taken_where_the_product_cancels_and_only_there():
    """One near pair among 64-dimensional points: without differences its distance is off by a hundredth and more."""
    a, b = points(20, 64), points(10, 64, seed=1)
    b[0] = a[0] + np.float32(1e-4)
    np.testing.assert_allclose(measure(a, b), right(a, b), rtol=1e-5)
    about = a - b.mean(0), b - b.mean(0)
    product = np.square(about[0]).sum(1)[:, None] + np.square(about[1]).sum(1) - 2 * about[0] @ about[1].T
    assert abs(product[0, 0] / right(a, b)[0, 0] - 1) > 0.01


@pytest.mark.parametrize("k", [1, 31, 32, 33, 70])
def test_differences_add_up_in_every_dimension(k):
    a, b = points(5, k), points(4, k, seed=1)
    np.testing.assert_allclose(by_differences(jnp.asarray(a), jnp.asarray(b)), right(a, b), rtol=1e-5)


def test_sixteen_bits_are_computed_in_32():
    a = jnp.asarray(points(5, 20), jnp.bfloat16)
    assert squared_distances(a).dtype == jnp.float32
    np.testing.assert_allclose(squared_distances(a), right(a, a), rtol=1e-4)


@pytest.mark.parametrize("n", [1, 4, 5, 11])
def test_blocks_cover_all_once(n):
    x = jnp.arange(n * 2.0).reshape(n, 2)
    np.testing.assert_array_equal(in_blocks(lambda part: (part * 2,), x, 4)[0], x * 2)


# ---------------------------------------------------------------------------------------------- neighbours


@pytest.mark.parametrize("k", [2, 10, 64])
@pytest.mark.parametrize(("shift", "apart", "spread"), [(0, 0, 1), (1e4, 0, 1), (0, 200, 0.002), (1e4, 100, 0.05)])
def test_the_nearest_are_the_nearest(k, shift, apart, spread):
    base = points(300, k, shift=shift, apart=apart, spread=spread)
    queries = points(40, k, seed=1, shift=shift, apart=apart, spread=spread)
    queries[:5] = base[:5]
    places, distances = map(np.asarray, retrieval.nearest(jnp.asarray(base), jnp.asarray(queries), 6))
    true = np.sqrt(right(queries, base))
    np.testing.assert_allclose(distances, np.sort(true, 1)[:, :6], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(true, places, 1), distances, rtol=1e-5)


def test_of_many_equals_the_earlier_are_found():
    base = np.concatenate([points(3, 10), np.ones((200, 10), np.float32)])
    places, distances = retrieval.nearest(jnp.asarray(base), jnp.ones((2, 10)), 4)
    np.testing.assert_array_equal(places, [[3, 4, 5, 6]] * 2)
    np.testing.assert_array_equal(distances, 0)


def test_by_the_cosine_a_dead_code_comes_last():
    base = jnp.asarray([[0.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [3.0, 0.1], [0.0, 0.0]])
    places, distances = retrieval.by_cosine(base, jnp.asarray([[1.0, 0.0], [1e-30, 0.0]]), 5)
    np.testing.assert_array_equal(places, [[3, 1, 2, 0, 4]] * 2)
    cosine = 3 / np.hypot(3, 0.1)
    np.testing.assert_allclose(distances, [[1 - cosine, 1, 2, 2, 2]] * 2, atol=1e-6)
    np.testing.assert_array_equal(retrieval.by_cosine(base, jnp.zeros((1, 2)), 2)[1], 2)


def test_by_the_cosine_the_length_is_nothing():
    r = np.random.default_rng(0)
    base, queries = r.normal(size=(60, 7)), r.normal(size=(9, 7))
    scaled = base * np.exp(r.normal(size=(60, 1)) * 8)
    places, distances = retrieval.by_cosine(jnp.asarray(scaled, jnp.float32), jnp.asarray(queries, jnp.float32), 60)
    cosine = queries @ base.T / np.linalg.norm(base, axis=1) / np.linalg.norm(queries, axis=1)[:, None]
    np.testing.assert_array_equal(places, np.argsort(-cosine, 1))
    np.testing.assert_allclose(distances, 1 - -np.sort(-cosine, 1), atol=1e-5)


# ------------------------------------------------------------------------------------------------ clusters


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_far_groups_of_near_clusters(shift):
    """Distances between clusters are 1e-4 of those between groups, and an ulp of a point is a part of the spread."""
    r = np.random.default_rng(0)
    unit = 0.03 if shift == 0 else 30.0
    middles = np.array([[-100, 0], [-100, 1 * unit], [100, 0], [100, 1 * unit]]) + shift
    x = np.concatenate([c + unit / 20 * r.normal(size=(100, 2)) for c in middles]).astype(np.float32)
    found = clustering.kmeans(jax.random.key(0), jnp.asarray(x), 4)
    d = right(x, found.centres)
    np.testing.assert_array_equal(found.labels, d.argmin(1))
    np.testing.assert_allclose(found.inertia, d.min(1).sum(), rtol=1e-4)
    known: Any = KMeans(4, n_init=10, random_state=0).fit(x.astype(float))  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(found.inertia, known.inertia_, rtol=1e-2)
    assert clustering.accuracy(np.asarray(found.labels), np.repeat(np.arange(4), 100)) == 1


# ------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_mmd_and_parzen_windows_do_not_see_where_zero_is(shift):
    a, b = points(30, 20, shift=shift), points(25, 20, seed=1, shift=shift, apart=0.5)
    kernel = lambda x, y: np.mean([np.exp(-right(x, y) / (2 * s**2)) for s in (2.0, 5.0)], 0)
    within = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    wanted = within(kernel(a, a)) + within(kernel(b, b)) - 2 * kernel(a, b).mean()
    np.testing.assert_allclose(samples.squared_mmd(a, b, (2.0, 5.0)), wanted, atol=1e-6)
    densities = -right(b, a) / (2 * 0.3**2) - 20 * np.log(0.3 * np.sqrt(2 * np.pi))
    wanted = np.logaddexp.reduce(densities, 1) - np.log(30)
    np.testing.assert_allclose(samples.parzen_log_likelihood(jnp.asarray(a), jnp.asarray(b), 0.3), wanted, rtol=1e-4)
    with pytest.raises(ValueError, match="at least 2 in each"):
        samples.squared_mmd(a[:1], b, (1.0,))
    for scales in ((-1.0,), [0.0, 1.0], np.array([np.nan]), ()):
        with pytest.raises(ValueError, match="positive and finite"):
            samples.squared_mmd(a, b, scales)


def test_mmd_of_a_set_with_its_own_copy_is_below_0_by_what_unbiased_means():
    """1/n of the pairs across are of an example with itself, so that the estimate is -2 (1 - mean within) / n."""
    a = points(40, 20)
    k = np.exp(-right(a, a) / 2 / 25)
    within = (k.sum() - 40) / (40 * 39)
    np.testing.assert_allclose(samples.squared_mmd(a, a, (5.0,)), -2 * (1 - within) / 40, rtol=1e-3)


def test_sets_of_more_than_46341_points_have_a_discrepancy():
    """Their pairs are more than 2^31; a run traces its terms on the whole data set."""
    codes = jax.ShapeDtypeStruct((60_000, 3), jnp.float32)
    kernel = gaussian_kernel((1.0,))
    found = jax.eval_shape(lambda a, b: squared_mmd(a, b, kernel), codes, codes)
    assert (found.shape, found.dtype) == ((), jnp.float32)
