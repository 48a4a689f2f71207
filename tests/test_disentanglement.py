"""Disentanglement: known values of known codes."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from ae_jax.evaluation import disentanglement

RNG = np.random.default_rng(0)
N = 10_000
FACTORS = np.stack([RNG.integers(0, levels, N) for levels in (3, 6, 40, 32, 32)], 1)  # as `shapes` has
TRUTH = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)


def test_mutual_information_is_that_of_scikit_learn():
    a, b = RNG.integers(0, 5, 500), RNG.integers(-3, 4, 500)
    assert disentanglement.mutual_information(a, b) == pytest.approx(mutual_info_score(a, b), abs=1e-12)
    assert disentanglement.mutual_information(a, a) == pytest.approx(mutual_info_score(a, a), abs=1e-12)


@pytest.mark.parametrize(("bins", "expected"), [(20, 0.896), (40, 0.988)])
def test_the_factors_themselves_have_the_gap_that_the_bins_allow(bins, expected):
    assert disentanglement.mig(TRUTH, FACTORS, bins) == pytest.approx(expected, abs=0.003)


def test_rotated_factors_and_noise_have_little_gap():
    rotations = [np.linalg.qr(RNG.normal(size=(5, 5)))[0] for _ in range(10)]
    assert 0.02 < np.mean([disentanglement.mig(TRUTH @ rotation, FACTORS) for rotation in rotations]) < 0.2
    assert disentanglement.mig(RNG.normal(size=(N, 5)), FACTORS) < 0.005


def test_each_unit_twice_has_no_gap():
    assert disentanglement.mig(np.concatenate([TRUTH, TRUTH], 1), FACTORS) == 0


def test_the_gap_knows_no_scale_shift_or_order_of_units_and_no_constant_unit():
    found = disentanglement.mig(TRUTH, FACTORS)
    assert disentanglement.mig(3 * TRUTH[:, ::-1] - 100, FACTORS) == pytest.approx(found, abs=1e-9)
    assert disentanglement.mig(np.c_[TRUTH, np.ones(N)], FACTORS) == pytest.approx(found, abs=1e-9)


def test_a_factor_that_does_not_vary_does_not_count():
    still = np.c_[FACTORS, np.zeros(N, int)]
    assert disentanglement.mig(TRUTH, still) == disentanglement.mig(TRUTH, FACTORS)
    assert np.isnan(disentanglement.mig(TRUTH, np.zeros((N, 1), int)))


def test_codes_and_factors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"codes have the shape \(10000, 5\) and factors \(9, 5\)"):
        disentanglement.mig(TRUTH, FACTORS[:9])
