"""Samples beside data, by features: values known for equal sets, shifted Gaussians and a missing mode."""

import numpy as np
import pytest

from ae_jax.evaluation import samples

RNG = np.random.default_rng(0)


def test_a_set_beside_itself_is_precise_and_complete():
    x = RNG.normal(size=(300, 8))
    found = samples.support(x, x)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density >= 1
    same = samples.support(np.ones((10, 2)), np.ones((10, 2)), 3)  # every ball has the radius 0, and holds its surface
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


@pytest.mark.parametrize(("size", "precision"), [(2, 1.0), (16, 0.89), (64, 0.72)])
def test_equal_distributions(size, precision):
    n, k = 2000, 5
    found = samples.support(RNG.normal(size=(n, size)), RNG.normal(size=(n, size)), k)
    i = np.arange(1, k + 1)
    assert found.coverage == pytest.approx(1 - np.prod((n - i) / (2 * n - i)), abs=0.015)
    assert found.density == pytest.approx(1, abs=0.06)
    assert found.precision == pytest.approx(precision, abs=0.03)
    assert found.recall == pytest.approx(precision, abs=0.03)


def test_a_generator_of_one_mode_is_precise_and_recalls_half():
    modes = RNG.normal(size=(400, 2)) + np.repeat([[0.0, 0.0], [100.0, 0.0]], 200, 0)
    found = samples.support(modes, RNG.normal(size=(400, 2)), 3)
    assert found.precision > 0.93
    assert found.recall == pytest.approx(0.5, abs=0.03)
    assert 0.4 < found.coverage <= 0.5
    other = samples.support(RNG.normal(size=(400, 2)), modes, 3)
    assert other.precision == pytest.approx(0.5, abs=0.03)
    assert other.recall > 0.93


def test_sets_far_apart_share_nothing():
    assert samples.support(np.eye(6), np.eye(6) + 100, 2) == (0, 0, 0, 0)


def test_four_points_by_hand():
    # one neighbour: balls of radius 1, 1, 1, 1 about 0, 1, 10, 11; the samples' are of radius 0.5, 0.5 and 88
    real, made = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[1.5], [2.0], [90.0]])
    found = samples.support(real, made, 1)
    assert found == pytest.approx((2 / 3, 3 / 4, 2 / 3, 1 / 4))


def test_the_distance_of_shifted_gaussians_is_the_square_of_the_shift():
    x = RNG.normal(size=(500, 3))
    assert samples.frechet_distance(x, x + np.array([1.0, 2.0, 0.0])) == pytest.approx(5, abs=1e-9)
    assert samples.frechet_distance(x, 2 * (x - x.mean(0))) == pytest.approx(
        np.trace(np.cov(x, rowvar=False)) + np.square(x.mean(0)).sum(), abs=1e-9
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value):
    x = RNG.normal(size=(20, 3))
    broken = x.copy()
    broken[0, 0] = value
    for measure in (samples.support, samples.frechet_distance):
        for both in ((x, broken), (broken, x)):
            with pytest.raises(ValueError, match=r"1 of the 60 values of .* are NaN or infinite"):
                measure(*both)


def test_sets_that_do_not_fit_are_refused():
    x = RNG.normal(size=(5, 2))
    with pytest.raises(ValueError, match=r"the sets are \(5, 2\) and \(5, 1\)"):
        samples.support(x, x[:, :1], 3)
    with pytest.raises(ValueError, match="N and M above 5"):
        samples.support(x, x)
    with pytest.raises(ValueError, match="neighbours is 0"):
        samples.support(x, x, 0)
