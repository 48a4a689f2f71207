"""The aggregate posterior: information, divergence and total correlation where they are known."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.app.commands import measuring
from ae_jax.core import Batch
from ae_jax.evaluation import aggregate, diagnosis

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("float64")


def stats_of(mean, logvar):
    return jnp.asarray(np.concatenate([mean, np.broadcast_to(logvar, np.shape(mean))], 1))


def drawn(stats):
    mean, logvar = np.split(np.asarray(stats), 2, 1)
    return jnp.asarray(mean + np.exp(logvar / 2) * RNG.normal(size=mean.shape))


def test_separate_posteriors_tell_which_example_and_equal_ones_nothing():
    apart = stats_of(100 * np.arange(50)[:, None] * [1.0, -1.0], np.log(0.1))
    found = aggregate.decomposition(apart, drawn(apart))
    assert float(found["information"]) == pytest.approx(np.log(50), abs=1e-12)
    assert float(found["total_correlation"]) == pytest.approx(np.log(50), abs=1e-12)  # a unit tells all of the other
    equal = stats_of(np.ones((50, 2)), np.log(0.5))
    found = aggregate.decomposition(equal, drawn(equal))
    assert float(found["information"]) == pytest.approx(0, abs=1e-12)
    assert float(found["total_correlation"]) == pytest.approx(0, abs=1e-12)


def test_the_parts_add_up_to_the_mean_divergence_of_the_draws():
    stats = stats_of(RNG.normal(size=(70, 3)), RNG.normal(size=(70, 3)))
    z = drawn(stats)
    mean, logvar = jnp.split(stats, 2, 1)
    log_q = norm.logpdf(z, mean, jnp.exp(logvar / 2)).sum(1)
    found = aggregate.decomposition(stats, z)
    whole = float((log_q - norm.logpdf(z).sum(1)).mean())
    assert float(found["information"] + found["aggregate"]) == pytest.approx(whole, abs=1e-10)
    assert float(found["total_correlation"] + found["dimensions"]) == pytest.approx(
        float(found["aggregate"]), abs=1e-10
    )
    log_p = norm.logpdf(z, 1.0, 2.0).sum(1)
    other = aggregate.decomposition(stats, z, log_p)
    assert float(other["information"] + other["aggregate"]) == pytest.approx(float((log_q - log_p).mean()), abs=1e-10)
    assert "dimensions" not in other


def test_a_linear_gaussian_channel_has_its_capacity():
    # z = x + e with x ~ N(0, I) and e ~ N(0, 1/3 I): I = K / 2 log 4, and q(z) = N(0, 4/3 I)
    stats = stats_of(RNG.normal(size=(2000, 2)), np.log(1 / 3))
    found = aggregate.decomposition(stats, drawn(stats))
    assert float(found["information"]) == pytest.approx(np.log(4), abs=0.08)
    assert float(found["aggregate"]) == pytest.approx(1 / 3 - np.log(4 / 3), abs=0.08)
    assert float(found["total_correlation"]) == pytest.approx(0, abs=0.03)


def test_the_divergence_of_each_unit():
    stats = stats_of(np.array([[1.0, 0.0], [-3.0, 0.0]]), np.array([0.0, np.log(4)]))
    np.testing.assert_allclose(aggregate.unit_kl(stats), [2.5, 0.5 * (3 - np.log(4))], rtol=1e-12)


def test_the_total_correlation_of_a_gaussian():
    z = RNG.normal(size=(500, 2))
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z, rowvar=False)), (z - z.mean(0)).T).T
    codes = np.c_[z @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T, np.full(500, 2.0)] * [5, 0.1, 1]
    assert aggregate.gaussian_total_correlation(codes) == pytest.approx(0.2231, abs=1e-4)
    assert aggregate.gaussian_total_correlation(z) == pytest.approx(0, abs=1e-12)
    assert aggregate.gaussian_total_correlation(codes[:, 1:]) == 0
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="1 of the 1000 values of codes are NaN or infinite"):
            aggregate.gaussian_total_correlation(np.where(z == z[0, 0], value, z))


def test_the_wasserstein_correlation_of_a_gaussian():
    z = RNG.normal(size=(500, 2))
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z, rowvar=False)), (z - z.mean(0)).T).T
    of = aggregate.gaussian_wasserstein_correlation
    mixed = z @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T
    exact = 2 - np.sqrt(1.6) - np.sqrt(0.4)  # the eigenvalues of the correlation matrix are 1.6 and 0.4
    assert of(mixed) == pytest.approx(exact, abs=1e-12)
    assert of(7 * mixed + 3) == pytest.approx(exact, abs=1e-12)
    assert of(np.c_[mixed, np.full(500, 2.0)]) == pytest.approx(exact, abs=1e-12)
    assert of(z) == pytest.approx(0, abs=1e-12)
    assert of(np.c_[z[:, 0], z[:, 0]]) == pytest.approx(2 - np.sqrt(2), abs=1e-7)  # singular: one number twice
    assert of(np.ones((9, 3))) == 0
    with pytest.raises(ValueError, match="1 of the 1000 values of codes are NaN or infinite"):
        of(np.where(z == z[0, 0], np.nan, z))


def test_the_correlation_of_no_more_codes_than_units_is_singular():
    codes = np.random.default_rng(0).normal(size=(6, 6))
    assert np.isnan(aggregate.gaussian_total_correlation(codes[:5]))
    assert np.isnan(aggregate.gaussian_total_correlation(codes))
    assert np.isfinite(aggregate.gaussian_total_correlation(codes[:, :4]))


def test_a_collapsed_posterior_is_told():
    z = RNG.normal(size=(300, 20))
    assert diagnosis.collapse(z, 3.0, 9.0) == ""
    assert diagnosis.collapse(z * np.r_[1, 1, [0.01] * 18], 3.0, 9.0) == ""
    few = diagnosis.collapse(z * np.r_[1, [0.01] * 19], 3.0, 9.0)
    assert few == "posterior collapse: 1 of 20 code units are active (variance of their means above 0.01)"
    assert diagnosis.collapse(0.01 * z[:, :2], 3.0, 3.0).startswith("posterior collapse: 0 of 2 code units")
    assert diagnosis.collapse(z, 3.0, 3.0).startswith("posterior collapse: decoding another example's code is no worse")


@pytest.mark.parametrize("within", [True, False])
def test_the_exact_metrics_of_a_stream_have_a_cross_entropy_where_those_in_memory_do(monkeypatch, within):
    means = {"mse": 2.0, "cross_entropy": 3.0}
    monkeypatch.setattr(measuring.shards, "average_stream", lambda *given: means)
    stream = SimpleNamespace(source=range(9))
    splits: Any = SimpleNamespace(
        streams=SimpleNamespace(test=stream, train=stream), test=Batch(np.ones((4, 1))), train=Batch(np.ones((5, 1)))
    )
    found = {"test mse": 1.0, "l0": 0.5} | ({"test cross_entropy": 1.0} if within else {})
    exact = measuring.exactly(None, splits, None, jax.random.key(0), found)  # type: ignore[arg-type]
    more = {"test cross_entropy": 3.0} if within else {}
    assert exact == {"test mse": 2.0, "l0 (of 5 + 4)": 0.5} | more


def test_a_run_ranks_its_seeds_and_looks_for_collapse():
    x = jnp.asarray(RNG.normal(size=(40, 2)))
    same = autoencoder(networks.mlp((2,), 2, hidden=()), optax.sgd(0.1))._replace(
        encode=lambda params, x: x * params,
        decode=lambda params, z: z / params,
        moments=lambda params, x: jnp.concatenate([x * params, 0 * x - 4], 1),
    )
    trained: Any = SimpleNamespace(good=(3, 5), of={3: jnp.asarray(1.0), 5: jnp.asarray(-2.0)}.get)
    one: Any = SimpleNamespace(good=(3,), of=trained.of)
    splits: Any = SimpleNamespace(test=Batch(x))
    ranked = lambda member, trained: measuring.agreement(measuring.posteriors(member, trained, splits))
    (found,) = ranked(same, trained).values()
    rank = np.argsort(np.argsort(np.asarray(x), 0), 0)
    rho = abs(np.corrcoef(*rank.T).item(1))
    np.testing.assert_allclose(found, [1 / (1 + rho)], rtol=1e-9)  # one number of both seeds
    assert not ranked(same, one)
    trained.of = {3: jnp.asarray(1.0), 5: jnp.asarray(jnp.nan)}.get  # a seed without finite codes has no rank
    assert not ranked(same, trained)
    trained.of = one.of
    assert not ranked(same._replace(moments=None), trained)
    z = np.asarray(x)
    assert measuring.collapse(same, trained.of(3), x, z) == ""
    deaf = same._replace(decode=lambda params, z: 0 * z)
    assert "another example's code is no worse" in measuring.collapse(deaf, trained.of(3), x, z)
    assert measuring.collapse(deaf._replace(moments=None), trained.of(3), x, z) == ""
