"""The yardsticks of dictionaries, on codes and reconstructions whose values are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from ae_jax.evaluation import dictionaries as d

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)) * [1, 2, 3, 4] + [0, 0, 7, 0]
Z = np.asarray([[0, 1, 2, 0], [0, 0, 3, 0], [0, 4, 0, 0], [0, 0, 1, 0]])
pytestmark = pytest.mark.usefixtures("float64")


def test_counts_of_active_units():
    assert d.l0(jnp.asarray(Z)) == 5 / 4
    np.testing.assert_array_equal(d.density(jnp.asarray(Z)), [0, 0.5, 0.75, 0])
    np.testing.assert_array_equal(d.dead(jnp.asarray(Z)), [True, False, False, True])


def test_fvu_is_0_for_x_1_for_its_mean_and_sees_an_offset():
    assert d.fvu(X, X) == 0
    assert d.fvu(np.broadcast_to(X.mean(0), X.shape), X) == pytest.approx(1)
    c = np.asarray([1.0, 0, 2, 0])
    variance = np.square(X - X.mean(0)).sum(1).mean()
    assert d.fvu(X + c, X) == pytest.approx(5 / variance)
    # sums over the set, not the mean of batches' fractions
    noisy = X + RNG.normal(size=X.shape)
    parts = np.mean([d.fvu(a, b) for a, b in zip(np.split(noisy, 10), np.split(X, 10), strict=True)])
    assert abs(float(d.fvu(noisy, X)) - parts) > 1e-3


def test_a_reconstruction_of_another_number_of_examples_is_refused():
    with pytest.raises(ValueError, match=r"x_hat has the shape \(1, 4\) and x \(50, 4\)"):
        d.fvu(X[:1], X)


def test_loss_recovered_is_1_for_x_and_0_for_nothing():
    loss = lambda a: np.square(a - X).sum(1) + 3
    assert d.loss_recovered(loss, X, X) == 1
    assert d.loss_recovered(loss, X, np.zeros_like(X)) == 0
    assert d.loss_recovered(loss, X, X / 2) == pytest.approx(0.75)
    mean = X.mean(0)
    assert d.loss_recovered(loss, X, mean + (X - mean) / 2, ablated=mean) == pytest.approx(0.75)
    assert d.loss_recovered(lambda a: float(np.square(a - X).sum()), X, X / 2) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="there is none to recover"):
        d.loss_recovered(lambda a: np.ones(len(a)), X, X)


def test_the_largest_units_alone_explain_what_they_should():
    w = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    z = np.abs(RNG.normal(size=(30, 4)))
    x = z @ w
    found = d.fvu_of_largest(lambda z: z @ w, z, x, (0, 1, 3, 4))
    spread = np.square(x - x.mean(0)).sum()
    left = np.cumsum(np.sort(np.square(z), axis=1), axis=1).sum(0)  # of the 1, 2, 3, 4 smallest
    np.testing.assert_allclose(found, [left[3] / spread, left[2] / spread, left[0] / spread, 0], atol=1e-12)


def test_the_examples_that_excite_a_unit_most():
    np.testing.assert_array_equal(d.most_active(Z, 2, 2), [1, 0])
    np.testing.assert_array_equal(d.most_active(Z, 1), [2, 0])
    assert not len(d.most_active(Z, np.int64(0)))
    for unit, told in ((-1, "unit is -1; it must be a whole number, at least 0"), (4, "the units 0 to 3")):
        with pytest.raises(ValueError, match=told):
            d.most_active(Z, unit)
    with pytest.raises(ValueError, match="n is -1"):
        d.most_active(Z, 1, -1)


def test_max_cosine_is_1_for_a_permutation_and_0_for_nothing_shared():
    features = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    assert float(d.max_cosine(features, 3 * features[::-1])) == pytest.approx(1, abs=1e-12)
    assert float(d.max_cosine(features[:4], features[4:])) == pytest.approx(0, abs=1e-12)
