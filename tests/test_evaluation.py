"""Metrics against scikit-learn, SciPy and closed forms."""

import gzip
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from ae_jax import corruption, evaluation, networks
from ae_jax.algorithms import autoencoder, vae
from ae_jax.core import Algorithm, Batch, Rule, address
from ae_jax.evaluation import aggregate, artefacts, codes, likelihood, logistic_pca, pca, probes, samples, statistics
from ae_jax.objectives.terms import reconstruction

MNIST = Path(__file__).parents[1].parent / "shared" / "data" / "tfds_manual" / "mnist"


@pytest.fixture(scope="module")
def digits() -> tuple[Batch, Batch]:
    data, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(data / 16, jnp.float32).reshape(-1, 8, 8, 1), jnp.asarray(labels, jnp.int32)
    return Batch(x[:1437], y[:1437]), Batch(x[1437:], y[1437:])


@pytest.fixture(scope="module")
def linear_codes(digits) -> tuple[np.ndarray, np.ndarray]:
    train, test = digits
    fitted = pca.fit(train.x, 10)
    return np.asarray(pca.encode(fitted, train.x)), np.asarray(pca.encode(fitted, test.x))


# ------------------------------------------------------------------------------------------------- statistics


def test_summarise_is_students_interval():
    values = [0.31, 0.35, 0.29, 0.4, 0.33]
    got = statistics.summarise(values)
    low, high = scipy.stats.t.interval(0.95, 4, loc=np.mean(values), scale=scipy.stats.sem(values))
    expected = {"values": values, "mean": np.mean(values), "std": np.std(values, ddof=1), "low": low, "high": high}
    assert got.keys() == expected.keys()
    for name in got:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-12)
    assert json.loads(json.dumps(got)) == got


def test_one_seed_has_no_interval():
    got = statistics.summarise(np.float32([2.5]))
    assert got == {"values": [2.5], "mean": 2.5, "std": None, "low": None, "high": None}
    with pytest.raises(ValueError, match="at least one"):
        statistics.summarise([])


def test_paired_difference():
    rng = np.random.default_rng(0)
    seed = rng.normal(size=8)  # what pairs share makes the unpaired test see nothing
    a, b = seed + 0.1 * rng.normal(size=8) + 0.2, seed
    got = statistics.paired_difference(a, b)
    expected = scipy.stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose(
        (got["mean"], got["p"], got["low"], got["high"]),
        ((a - b).mean(), expected.pvalue, interval.low, interval.high),
        rtol=1e-10,
    )
    assert got["p"] < 0.1 < scipy.stats.ttest_ind(a, b).pvalue


def test_paired_difference_at_its_edges():
    assert statistics.paired_difference([1, 2], [1, 2])["p"] == 1
    assert statistics.paired_difference([2, 3], [1, 2])["p"] == 0
    assert statistics.paired_difference([2], [1])["p"] is None
    with pytest.raises(ValueError, match="pairs"):
        statistics.paired_difference([1, 2, 3], [1, 2])


# -------------------------------------------------------------------------------------------------------- PCA


@pytest.mark.parametrize("exact", [True, False])
def test_pca_is_scikit_learns(digits, exact):
    train, test = digits
    flat, flat_test = (np.asarray(b.x, np.float64).reshape(len(b.x), -1) for b in digits)
    reference = PCA(10, svd_solver="full").fit(flat)
    fitted = pca.fit(train.x, 10, exact)
    overlap = np.asarray(fitted.components).reshape(10, -1) @ reference.components_.T
    np.testing.assert_allclose(np.abs(overlap), np.eye(10), atol=2e-3)
    np.testing.assert_allclose(fitted.variances, reference.explained_variance_ * 1436 / 1437, rtol=1e-5)
    x_hat = reference.inverse_transform(reference.transform(flat_test))
    np.testing.assert_allclose(pca.decode(fitted, pca.encode(fitted, test.x)).reshape(360, -1), x_hat, atol=1e-3)
    got, expected = pca.evaluate(fitted, test.x), reconstruction(x_hat, flat_test)
    assert got.keys() == expected.keys()
    for name in got:
        np.testing.assert_allclose(got[name].mean(), expected[name].mean(), rtol=1e-4)


@pytest.mark.parametrize(("k", "published"), [(2, 3.337), (5, 2.206), (10, 1.289), (20, 0.541)])
def test_pca_of_digits_is_as_known(digits, k, published):
    train, test = digits
    np.testing.assert_allclose(pca.evaluate(pca.fit(train.x, k), test.x)["squared_error"].mean(), published, atol=6e-4)


@pytest.mark.slow
def test_pca_of_mnist_is_as_published():
    # Hinton & Salakhutdinov (2006): 13.87 for 30 components, reconstructions not clipped.
    if not MNIST.exists():
        pytest.skip(f"MNIST's archives are not in {MNIST}")

    def images(name: str) -> np.ndarray:
        raw = gzip.decompress((MNIST / name).read_bytes())
        return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1).astype(np.float32) / 255

    fitted = pca.fit(images("train-images-idx3-ubyte.gz"), 30)
    error = pca.evaluate(fitted, images("t10k-images-idx3-ubyte.gz"))["squared_error"]
    np.testing.assert_allclose(error.mean(), 13.866, atol=6e-4)


def test_more_components_than_dimensions_lose_nothing(digits):
    train, test = digits
    fitted = pca.fit(train.x, 100)
    assert fitted.components.shape == (64, 8, 8, 1)
    assert pca.evaluate(fitted, test.x)["squared_error"].max() < 1e-8
    few = pca.fit(train.x[:5], 100)
    assert few.components.shape == (5, 8, 8, 1)
    assert pca.evaluate(few, train.x[:5])["squared_error"].max() < 1e-8
    with pytest.raises(ValueError, match="0 components"):
        pca.fit(train.x, 0)


def test_explained_variance_is_about_the_mean(digits):
    train, test = digits
    x, fitted = np.asarray(test.x).reshape(360, -1), pca.fit(train.x, 5)
    x_hat = np.asarray(pca.decode(fitted, pca.encode(fitted, test.x))).reshape(360, -1)
    error = np.square(x - x_hat).sum(1)
    expected = 1 - error.sum() / np.square(x - x.mean(0)).sum()
    np.testing.assert_allclose(pca.explained_variance(error, x), expected, rtol=1e-5)
    np.testing.assert_allclose(pca.explained_variance(error, x + 7), expected, rtol=1e-4)  # wherever zero lies
    constant = np.square(x - x.mean(0)).sum(1)
    np.testing.assert_allclose(pca.explained_variance(constant, x), 0, atol=1e-6)
    far = np.float32(1e-3 * x + 1e3)
    spread = np.square(np.float64(far) - np.float64(far).mean(0)).sum(1).mean()
    np.testing.assert_allclose(pca.total_variance(jnp.asarray(far)), spread, rtol=1e-4)


# ----------------------------------------------------------------------------------------------------- probes


@pytest.mark.parametrize("l2", [1.0, 0.02])
@pytest.mark.parametrize("raw", [True, False])
def test_linear_probe_is_scikit_learns(digits, linear_codes, raw, l2):
    train, test = digits
    both = [np.asarray(b.x).reshape(len(b.x), -1) for b in digits] if raw else linear_codes
    scaler = StandardScaler().fit(np.float64(both[0]))
    x, x_test = (scaler.transform(np.float64(z)) for z in both)
    reference = LogisticRegression(C=1 / l2, tol=1e-6, max_iter=5000).fit(x, train.y)

    def objective(weights, bias) -> float:
        logits = x @ weights + bias
        nll = logsumexp(logits, 1) - logits[np.arange(len(x)), train.y]
        return nll.mean() + l2 / (2 * len(x)) * np.square(weights).sum()

    probe = probes.fit_linear(both[0], train.y, 10, l2)
    assert probe.gradient < 1e-6
    best = objective(reference.coef_.T, reference.intercept_)
    np.testing.assert_allclose(objective(np.float64(probe.weights), np.float64(probe.bias)), best, rtol=1e-4)
    if l2 == 1:  # weaker penalties leave directions in which the minimum is too flat to compare places
        np.testing.assert_allclose(probe.weights.T, reference.coef_, atol=5e-3)
        bias, intercept = np.asarray(probe.bias), reference.intercept_
        np.testing.assert_allclose(bias - bias.mean(), intercept - intercept.mean(), atol=5e-3)
    assert np.sum(probes.predict_linear(probe, both[1]) != reference.predict(x_test)) <= (0 if l2 == 1 else 1)
    accuracy = probes.linear_probe(both[0], train.y, both[1], test.y, l2=l2)
    np.testing.assert_allclose(accuracy, reference.score(x_test, test.y), atol=1e-6 if l2 == 1 else 1.1 / 360)


def test_linear_probe_does_not_see_scale_or_dead_units(digits, linear_codes):
    train, _ = digits
    z = linear_codes[0]
    dead = np.full((len(z), 1), 0.1, np.float32) * np.float32([1, 1e4])  # their float32 means differ from them
    other = np.concatenate([z * np.float32(np.geomspace(1e-3, 1e3, 10)) + 3, dead], 1)
    plain, scaled = (probes.fit_linear(c, train.y, 10) for c in (z, other))
    np.testing.assert_allclose(scaled.weights[:10], plain.weights, atol=5e-3)
    np.testing.assert_allclose(scaled.weights[10:], 0, atol=1e-3)
    again = probes.fit_linear(z, train.y, 10)
    np.testing.assert_array_equal(again.weights, plain.weights)


@pytest.mark.parametrize(
    ("size", "offset"), [(1.0, 0.0), (1e-3, 1e3), (1e-20, 0.0), (1e20, 0.0), (1e-20, 1e-17)], ids=str
)
def test_units_are_standardised_at_any_size_and_distance_from_zero(size, offset):
    x = np.random.default_rng(0).normal(size=(200, 3)) * [1, 3, 0.5]
    codes = np.float32(size * x + offset)
    reference = StandardScaler().fit(np.float64(codes))
    mean, scale = probes.standardise(jnp.asarray(codes))
    np.testing.assert_allclose(scale, np.float64(codes).std(0), rtol=1e-5)
    np.testing.assert_allclose(mean, reference.mean_, rtol=2e-7, atol=1e-6 * size)


def test_a_unit_that_varies_by_rounding_alone_is_constant():
    ones = np.float32(np.random.default_rng(0).integers(0, 2, 100))
    for value in np.float32([1e3, 1e-20, 1e20, 0.1]):
        steps = np.nextafter(value, np.float32(np.inf)) * ones + value * (1 - ones)
        _, scale = probes.standardise(jnp.asarray(steps[:, None]))
        assert scale[0] == pytest.approx(value, rel=1e-6)
    assert probes.standardise(jnp.zeros((5, 1)))[1][0] == 1


@pytest.mark.parametrize("factor", [1e-20, 1e20])
def test_probes_do_not_see_the_size_of_codes(digits, linear_codes, factor):
    (train, test), small = digits, [np.float32(factor) * z for z in linear_codes]
    for probe in (probes.linear_probe, probes.knn_accuracy):
        plain = probe(linear_codes[0], train.y, linear_codes[1], test.y)
        assert plain > 0.8
        assert abs(probe(small[0], train.y, small[1], test.y) - plain) <= 1.1 / len(test.y)


def test_a_probe_reads_codes_far_from_zero(digits, linear_codes):
    train, test = digits
    both = [np.float32(1e-3 * z + 1e3) for z in linear_codes]
    scaler = StandardScaler().fit(np.float64(both[0]))
    x, x_test = (scaler.transform(np.float64(z)) for z in both)
    reference = LogisticRegression(tol=1e-6, max_iter=5000).fit(x, train.y).score(x_test, test.y)
    assert reference > 0.7
    assert abs(probes.linear_probe(both[0], train.y, both[1], test.y) - reference) <= 2.1 / len(test.y)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("size", "offset"), [(1e-20, 0.0), (1e18, 0.0), (1e-3, 1e3)])
def test_principal_components_do_not_see_size_or_offset(size, offset, exact):
    rng = np.random.default_rng(0)
    x = np.float32(size * (rng.normal(size=(300, 8)) * np.geomspace(1, 0.1, 8)) + offset)
    reference = PCA(3, svd_solver="full").fit(np.float64(x))
    fitted = pca.fit(jnp.asarray(x), 3, exact)
    alike = np.abs((np.asarray(fitted.components) * reference.components_).sum(1))
    np.testing.assert_allclose(alike, 1, atol=1e-4)
    variances = reference.explained_variance_ * (299 / 300)
    if variances.min() > 1e-37:  # smaller ones are 0 in float32
        np.testing.assert_allclose(fitted.variances, variances, rtol=1e-4)
    np.testing.assert_allclose(fitted.mean, reference.mean_, rtol=2e-7, atol=1e-6 * size)


@pytest.mark.parametrize("neighbours", [1, 2, 5])
@pytest.mark.parametrize("offset", [0.0, 1000.0])  # far from zero, |a|^2 + |b|^2 - 2ab would cancel
def test_knn_is_scikit_learns(digits, linear_codes, neighbours, offset):
    train, test = digits
    a, b = (z + np.float32(offset) for z in linear_codes)
    reference = KNeighborsClassifier(neighbours, algorithm="kd_tree").fit(a.astype(np.float64), train.y)
    got = probes.predict_knn(a, train.y, b, neighbours, 10)
    np.testing.assert_array_equal(got, reference.predict(b.astype(np.float64)))
    accuracy = probes.knn_accuracy(a, train.y, b, test.y, neighbours=neighbours)
    np.testing.assert_allclose(accuracy, reference.score(b.astype(np.float64), test.y), atol=1e-6)


def test_knn_finds_the_nearest_among_codes_almost_equal():
    # Differences of 1e-4 at a distance of 30 from the centre: products in float32 cannot tell them apart.
    near = np.float32([[30 + 1e-4 * i, 0] for i in range(5)])
    train = np.concatenate([near, [[-30, 0]] * 5]).astype(np.float32)
    labels = np.arange(10)
    np.testing.assert_array_equal(probes.predict_knn(train, labels, near, 1, 10), np.arange(5))


def test_knn_ties_and_labels():
    train, labels = np.float32([[-1], [1], [5], [6]]), np.array(["b", "a", "b", "b"])
    reference = KNeighborsClassifier(2).fit(train, labels)
    assert reference.predict([[0]])[0] == "a"  # one vote each: the smallest class
    assert probes.knn_accuracy(train, labels, np.float32([[0]]), np.array(["a"]), neighbours=2) == 1
    unseen = np.array(["a", "c"])  # no classifier can be right about a class that train lacks
    assert probes.knn_accuracy(train, labels, np.float32([[1], [6]]), unseen, neighbours=1) == 0.5
    with pytest.raises(ValueError, match="5 neighbours of 4"):
        probes.knn_accuracy(train, labels, train, labels, neighbours=5)
    with pytest.raises(ValueError, match=r"\[N\]"):
        probes.linear_probe(train, np.zeros((4, 2)), train, labels)
    for measure in (probes.knn_accuracy, probes.linear_probe):
        for both in ((train, train * np.nan), (train * np.inf, train)):
            with pytest.raises(ValueError, match="4 of the 4 values of codes are NaN or infinite"):
                measure(both[0], labels, both[1], labels)


# ------------------------------------------------------------------------------------------------- likelihood


def weighing(log_weight) -> Algorithm:
    """An algorithm that knows nothing but how to weigh."""
    nothing = Rule(lambda params: (), lambda params, memory, batch, key: (params, memory, {}))
    return Algorithm(
        init=lambda key, data: {},
        rule=nothing,
        evaluate=lambda params, batch, key: {},
        encode=lambda params, x: x,
        decode=lambda params, z: z,
        reconstruct=lambda params, x: x,
        log_weight=log_weight,
    )


@pytest.mark.parametrize(("samples", "chunk"), [(1, 50), (7, 3), (100, 7), (101, 50), (5, 1)])
def test_exactly_as_many_samples_as_asked(samples, chunk):
    """Weights of one: the estimate is log(drawn / asked), for any number drawn but not asked is not zero."""
    algorithm = weighing(lambda params, batch, key: jnp.zeros(len(batch.x)))
    got = likelihood.log_likelihood(algorithm, {}, Batch(jnp.zeros((3, 2))), jax.random.key(0), samples, chunk)
    np.testing.assert_allclose(got, np.zeros(3), atol=2e-6)


@pytest.mark.parametrize(("chunk", "batch_size"), [(50, 100), (4, 2), (10, 3)])
def test_likelihood_is_logsumexp_over_keys_of_their_own(chunk, batch_size):
    def log_weight(params, batch, key):
        return params["scale"] * jax.random.normal(key, (len(batch.x),)) + batch.x.sum(-1)

    x, key = jnp.arange(10.0).reshape(5, 2), jax.random.key(3)
    run = jax.jit(partial(likelihood.log_likelihood, weighing(log_weight)), static_argnums=(3, 4, 5))
    got = run({"scale": 30.0}, Batch(x, jnp.arange(5)), key, 11, chunk, batch_size)
    keys = [[address(key, "example", i, "sample", s) for s in range(11)] for i in range(5)]
    log_w = np.array([[30 * float(jax.random.normal(k, (1,))[0]) for k in row] for row in keys]) + x.sum(-1)[:, None]
    assert len(np.unique(log_w - x.sum(-1)[:, None])) == 55
    np.testing.assert_allclose(got, logsumexp(log_w, 1) - np.log(11), rtol=1e-5)


def probabilistic_pca(spread: float):
    """A linear Gaussian VAE with posteriors exact but for `spread` added to their log-variance, and log p(x)."""
    sigma, size, latents = 0.5, 6, 2
    rng = np.random.default_rng(1)
    loadings = np.linalg.qr(rng.normal(size=(size, latents)))[0] * [2.0, 0.7]  # [D, K], orthogonal: q is diagonal
    bias = rng.normal(size=size)
    variance = 1 / (1 + np.square(loadings).sum(0) / sigma**2)  # [K], Tipping & Bishop (1999), eq. (9)
    kernel = loadings / sigma**2 * variance
    encoder = {
        "kernel": np.concatenate([kernel, np.zeros_like(kernel)], 1),
        "bias": np.concatenate([-bias @ kernel, np.log(variance) + spread]),
    }
    params = {"encoder": {"layer_0": encoder}, "decoder": {"layer_0": {"kernel": loadings.T, "bias": bias}}}
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    algorithm = vae(networks.linear((size,), latents, heads=2), optax.sgd(0.1), likelihood="gaussian", sigma=sigma)
    marginal = scipy.stats.multivariate_normal(bias, loadings @ loadings.T + sigma**2 * np.eye(size))
    x = marginal.rvs(40, random_state=rng)
    return algorithm, params, Batch(jnp.asarray(x, jnp.float32)), marginal.logpdf(x)


def test_exact_posterior_gives_the_exact_likelihood():
    algorithm, params, data, exact = probabilistic_pca(spread=0.0)
    got = likelihood.log_likelihood(algorithm, params, data, jax.random.key(0), 3)
    np.testing.assert_allclose(got, exact, atol=2e-4)


def test_likelihood_rises_to_the_exact_one():
    algorithm, params, data, exact = probabilistic_pca(spread=1.0)
    run = jax.jit(partial(likelihood.log_likelihood, algorithm), static_argnums=3)
    few, many = (np.asarray(run(params, data, jax.random.key(0), k)) - exact for k in (10, 2000))
    keys = jax.random.split(jax.random.key(1), 50)
    elbo = jax.jit(jax.vmap(lambda key: algorithm.evaluate(params, data, key)["elbo"].mean()))(keys).mean()
    # KL(q || posterior) of two Gaussians whose log-variances differ by 1, in two dimensions: e - 2
    np.testing.assert_allclose(elbo - exact.mean(), 2 - np.e, atol=0.15)
    assert 2 - np.e + 0.3 < few.mean() < -0.01
    np.testing.assert_allclose(many, 0, atol=0.15)  # each by itself
    assert abs(many.mean()) < 0.02


def test_memory_does_not_grow_with_samples():
    algorithm, params, data, _ = probabilistic_pca(spread=1.0)
    run = jax.jit(partial(likelihood.log_likelihood, algorithm), static_argnums=3)
    memory = run.lower(params, data, jax.random.key(0), 100_000).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1_000_000  # where 40 x 100,000 log-weights would take 16 MB


def test_likelihood_refuses():
    data = Batch(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="no log_weight"):
        likelihood.log_likelihood(weighing(None), {}, data, jax.random.key(0), 5)
    with pytest.raises(ValueError, match="samples is 0"):
        likelihood.log_likelihood(weighing(lambda p, b, k: b.x.sum(-1)), {}, data, jax.random.key(0), 0)


# ------------------------------------------------------------------------------------------------------ codes


def test_active_units_and_sparsity():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 4)) * np.sqrt([0.0, 0.008, 0.012, 3.0]) + [5.0, 0.0, -2.0, 0.0]
    assert codes.active_units(jnp.asarray(z)) == 2  # whatever their means
    assert codes.active_units(jnp.asarray(z), threshold=0.005) == 3
    h = np.array([[0.0, 0.5, 1.0], [-1.0, -0.995, 0.2]])
    np.testing.assert_array_equal(codes.l0(h), [2, 3])
    np.testing.assert_array_equal(codes.l0(h, resting=-1), [3, 1])
    np.testing.assert_array_equal(codes.l0(h, threshold=0.7), [1, 2])
    np.testing.assert_allclose(codes.mean_activation(h), h.mean(0))


@pytest.mark.parametrize("units", [5, 90])  # fewer than inputs, and more: the two modes
@pytest.mark.parametrize("batch_size", [None, 7])
def test_jacobian_of_a_sigmoid_layer(digits, units, batch_size):
    _, test = digits
    net = networks.mlp((8, 8, 1), units, hidden=(), code_activation="sigmoid")
    params = net.init(jax.random.key(0), test)
    x = test.x[:30]
    h = np.asarray(net.encode(params, x), np.float64)
    squares = np.square(np.asarray(params["encoder"]["layer_0"]["kernel"], np.float64)).sum(0)
    expected = np.sqrt((np.square(h * (1 - h)) * squares).sum(1))  # Rifai et al. (2011), section 3
    got = codes.jacobian_norm(partial(net.encode, params), x, batch_size)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- battery


def principal(train: Batch, corrupt=None, traced: list | None = None):
    """A linear autoencoder whose weights are the principal components: every metric must be PCA's."""
    net = networks.linear((8, 8, 1), 10)
    if corrupt is not None:
        net = corruption.corrupted(net, corrupt)
    fitted = pca.fit(train.x, 10)
    w = fitted.components.reshape(10, -1)  # [K, D]
    mean = fitted.mean.reshape(-1)
    encoder, decoder = {"kernel": w.T, "bias": -w @ mean}, {"kernel": w, "bias": mean}
    algorithm = autoencoder(net, optax.sgd(0.1))

    def encode(params, x):
        if traced is not None:
            traced.append(x.shape)
        return algorithm.encode(params, x)

    return algorithm._replace(encode=encode), {"encoder": {"layer_0": encoder}, "decoder": {"layer_0": decoder}}


def test_battery_on_pca_is_pca(digits):
    train, test = digits
    traced = []
    algorithm, params = principal(train, traced=traced)
    measure = evaluation.all_metrics(algorithm, train, test)
    got = measure(params, jax.random.key(0))
    for name in ("mse", "squared_error", "cross_entropy", "explained_variance"):
        np.testing.assert_allclose(got[f"test {name}"], got[f"pca {name}"], rtol=1e-4)
    for name in ("linear_probe_accuracy", "knn_accuracy (k=5)"):
        np.testing.assert_allclose(got[name], got[f"pca {name}"], atol=1.1 / 360)
    np.testing.assert_allclose(got["test loss"], 1.289, atol=1e-3)
    np.testing.assert_allclose(got["test squared_error"], 64 * got["test mse"], rtol=1e-5)
    np.testing.assert_allclose(got["jacobian_norm"], 10**0.5, rtol=1e-5)  # of orthonormal rows
    z = np.asarray(algorithm.encode(params, test.x))
    assert not {"mean_activation", "l0", "l0_fraction"} & set(got)  # units that go below 0 do not rest there
    rest = float(z.min())
    sparse = evaluation.all_metrics(algorithm, train, test, resting=rest, awake=1.0)(params, jax.random.key(0))
    np.testing.assert_allclose(sparse["mean_activation"], z.mean(), atol=1e-5)
    np.testing.assert_allclose(sparse["l0"], (np.abs(z - rest) > 1.0).sum(1).mean(), atol=0.02)
    np.testing.assert_allclose(sparse["l0_fraction"], sparse["l0"] / 10, rtol=1e-6)
    assert got["active_units"] == (z.var(0) > 0.01).sum()
    assert all(evaluation.describe(name) for name in got)
    assert all(isinstance(value, float) for value in got.values())
    assert not any(part in name for name in got for part in ("log_likelihood", "denoised", "aggregate"))

    before = len(traced)
    other = measure(jax.tree.map(lambda p: 2 * p, params), jax.random.key(1))
    assert len(traced) == before, "a second seed was compiled again"
    assert other["test squared_error"] > got["test squared_error"]
    assert other["pca squared_error"] == got["pca squared_error"]
    lost = measure(jax.tree.map(lambda p: jnp.nan * p, params), jax.random.key(1))
    assert np.isnan(lost["test mse"])
    assert np.isnan([lost["active_units"], lost["l0"]]).all()  # not 0
    assert [name for name in lost if "accuracy" in name] == ["pca linear_probe_accuracy", "pca knn_accuracy (k=5)"]


def test_battery_corrupts_only_what_says_so(digits):
    train, test = digits
    bare = {"likelihood_examples": 50, "jacobian_examples": 50}
    without = Batch(test.x)
    clean, noisy = (
        evaluation.all_metrics(algorithm, Batch(train.x), without, **bare)(params, jax.random.key(0))
        for algorithm, params in (principal(train), principal(train, corruption.gaussian(0.3)))
    )
    assert noisy.keys() - clean.keys() == {"denoised mse", "denoised squared_error", "denoised cross_entropy"}
    assert {name: noisy[name] for name in clean} == clean
    # E ||P (x + n - m) + m - x||^2 = ||P (x - m) + m - x||^2 + K s^2; the tolerance is four deviations
    np.testing.assert_allclose(noisy["denoised squared_error"] - clean["test squared_error"], 10 * 0.09, atol=0.09)
    assert not any("accuracy" in name for name in clean)
    assert "jacobian_norm (n=50)" in clean


def test_battery_has_a_cross_entropy_for_data_between_0_and_1_alone(digits):
    bare = {"likelihood_examples": 50, "jacobian_examples": 50}
    train, test = (Batch(data.x[:50]) for data in digits)
    algorithm, params = principal(train, corruption.gaussian(0.3))
    parts = ("test", "pca", "denoised")
    for scale, shift in ((1, 0), (2, 0), (1, -0.5)):
        both = (Batch(scale * data.x + shift) for data in (train, test))
        got = evaluation.all_metrics(algorithm, *both, **bare)(params, jax.random.key(0))
        wanted = {f"{part} cross_entropy" for part in parts} if (scale, shift) == (1, 0) else set()
        assert {name for name in got if "cross_entropy" in name} == wanted
        assert np.isfinite([got[f"{part} squared_error"] for part in parts]).all()


def test_battery_of_a_generative_model(digits):
    train, test = digits
    net = networks.mlp((8, 8, 1), 3, hidden=(16,), heads=2)
    algorithm = vae(net, optax.adam(1e-3))
    params, key = algorithm.init(jax.random.key(0), train), jax.random.key(5)
    test = Batch(test.x)  # without labels
    got = evaluation.all_metrics(algorithm, train, test, samples=4, likelihood_examples=10)(params, key)
    assert all(evaluation.describe(name) for name in got)
    np.testing.assert_allclose(got["test elbo"], -got["test nll"] - got["test kl"], rtol=1e-5)
    names = ("mutual_information", "aggregate_kl", "aggregate_total_correlation", "gaussian_total_correlation")
    assert all(f"{name} (n=360)" in got for name in names)
    np.testing.assert_allclose(
        aggregate.unit_kl(evaluation.moments(algorithm, params, test.x)).sum(), got["test kl"], rtol=1e-4
    )
    tenth = np.linspace(0, 359, 10).astype(int)
    part = Batch(test.x[tenth])
    expected = likelihood.log_likelihood(algorithm, params, part, address(key, "likelihood"), 4).mean()
    np.testing.assert_allclose(got["test log_likelihood (k=4, n=10)"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("y", "labelled"),
    [
        (None, False),
        (np.arange(6) % 2, True),
        (np.zeros(6, int), False),
        (np.ones((6, 5), int), False),
        (np.ones(6), False),
    ],
)
def test_labels_that_a_probe_can_learn(y, labelled):
    data = Batch(np.zeros((6, 2)), y)
    assert evaluation.has_labels(data, data) is labelled
    assert not evaluation.has_labels(data, Batch(data.x))


def test_descriptions():
    assert evaluation.describe("test mse").startswith("on test: squared error")
    assert evaluation.describe("pca knn_accuracy (k=5)").startswith("PCA with as many components: of a vote")
    assert evaluation.describe("l0") == evaluation.METRICS["l0"].meaning
    assert evaluation.describe("test something_new") == ""


# --------------------------------------------------------------------------------------------------- samples


def test_squared_mmd_is_the_double_sum_over_pairs():
    draw = np.random.default_rng(0)
    a, b, scales = draw.normal(size=(13, 3)) + 20, draw.normal(size=(9, 3)) * 2 + 20, [0.5, 2.0]
    k = lambda x, y: np.mean([np.exp(-np.square(x - y).sum() / (2 * s**2)) for s in scales])
    pairs = lambda x: np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
    expected = pairs(a) + pairs(b) - 2 * np.mean([k(x, y) for x in a for y in b])
    got = samples.squared_mmd(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), scales)
    assert float(got) == pytest.approx(expected, rel=1e-4)


def test_squared_mmd_is_0_on_average_for_equal_distributions_and_as_calculated_for_gaussians():
    """For N(0, I) and N(m, I) in D dimensions: 2 (s^2 / (s^2 + 2))^(D/2) (1 - exp(-|m|^2 / (2 (s^2 + 2))))."""
    s, dims, shift = 1.5, 2, 1.2

    @jax.vmap
    def both(key):
        a, b = jax.random.normal(key, (2, 200, dims))
        moved = b + jnp.array([shift, 0.0])
        return samples.squared_mmd(a, b, [s]), samples.squared_mmd(a, moved, [s])

    same, moved = both(jax.random.split(jax.random.key(0), 200))
    expected = 2 * (s**2 / (s**2 + 2)) ** (dims / 2) * (1 - np.exp(-(shift**2) / (2 * (s**2 + 2))))
    assert abs(same.mean()) < 4 * scipy.stats.sem(same)
    assert abs(moved.mean() - expected) < 4 * scipy.stats.sem(moved)
    assert moved.mean() > 50 * scipy.stats.sem(moved)


def test_parzen_windows_are_a_mixture_of_gaussians():
    draw = np.random.default_rng(0)
    drawn, x, sigma = draw.uniform(size=(31, 2, 3)), draw.uniform(size=(150, 2, 3)), 0.3
    logs = scipy.stats.norm.logpdf(x[:, None], drawn[None], sigma).sum((2, 3))
    got = samples.parzen_log_likelihood(jnp.asarray(drawn, jnp.float32), jnp.asarray(x, jnp.float32), sigma)
    np.testing.assert_allclose(got, logsumexp(logs, 1) - np.log(31), rtol=1e-4)
    means = [float(samples.parzen_log_likelihood(drawn, x, s).mean()) for s in (0.01, 0.2, 5.0)]
    assert samples.best_sigma(drawn, x, [0.01, 0.2, 5.0]) == 0.2
    assert np.argmax(means) == 1


# ------------------------------------------------------------------------------------------------ checkerboards


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_stride_energy_is_one_of_what_repeats_and_nought_of_what_does_not(stride):
    rows, columns = np.mgrid[:24, :24]
    share = lambda image: float(artefacts.stride_energy(jnp.asarray(image, jnp.float32)[None, ..., None], stride)[0])
    board = (
        (rows // (stride - 1) + columns // (stride - 1)) % 2 if stride == 2 else (rows % stride) * (columns % stride)
    )
    assert share(0.3 + board) == pytest.approx(1, abs=1e-4)
    assert share(rows % stride == 0) == pytest.approx(1, abs=1e-4)
    for constant in (0.0, 0.7, 1e3):
        assert share(np.full((24, 24), constant)) == 0
    wave = np.sin(2 * np.pi * (rows + 2 * columns) / 24)
    assert share(wave) == pytest.approx(0, abs=1e-5)
    # orthogonal parts, energies 24^2 / 2 and 24^2 / 8 times the stripe's 2 / 1
    stripe = np.cos(2 * np.pi * rows / stride) * (1 if stride == 2 else 2**0.5)
    assert share(2**0.5 * wave + 0.5 * stripe + 5) == pytest.approx(0.2, abs=1e-3)


def test_stride_energy_of_white_noise_is_the_share_of_the_frequencies():
    noise = jax.random.normal(jax.random.key(0), (300, 17, 20, 2))  # cut to 16 x 20: (16 + 20 - 1) of 319 are looked at
    assert float(artefacts.stride_energy(noise).mean()) == pytest.approx(35 / 319, rel=0.03)


@pytest.mark.parametrize(("shape", "stride"), [((2, 8, 8), 2), ((2, 8, 8, 1), 1), ((2, 8, 3, 1), 4)])
def test_stride_energy_refuses(shape, stride):
    with pytest.raises(ValueError, match="stride"):
        artefacts.stride_energy(jnp.zeros(shape), stride)


# ------------------------------------------------------------------------------------------------ logistic PCA


def coins(count=300, size=12, latents=2):
    """Draws from a logistic PCA."""
    draw = np.random.default_rng(1)
    z, v, bias = draw.normal(size=(count, latents)), 2 * draw.normal(size=(latents, size)), draw.normal(size=size)
    p = 1 / (1 + np.exp(-(z @ v + bias)))
    return (draw.random(p.shape) < p).astype(float)


def test_codes_of_logistic_pca_are_logistic_regressions():
    with jax.enable_x64(True):
        draw = np.random.default_rng(0)
        v, x = 3 * draw.normal(size=(3, 40)), draw.integers(0, 2, (5, 40))
        model = logistic_pca.LogisticPCA(jnp.zeros(40), jnp.asarray(v), jnp.asarray(0.1))
        z = jax.jit(logistic_pca.encode)(model, jnp.asarray(x, float))
        for code, bits in zip(z, x, strict=True):
            fitted = LogisticRegression(C=10.0, fit_intercept=False, tol=1e-10).fit(v.T, bits)
            np.testing.assert_allclose(code, fitted.coef_[0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_logistic_pca_is_where_neither_codes_nor_components_can_better_it():
    with jax.enable_x64(True):
        x, ridge = jnp.asarray(coins(100)).reshape(-1, 4, 3), 0.05
        fit = jax.jit(partial(logistic_pca.fit, components=2, ridge=ridge, iterations=150))
        model = fit(x, key=jax.random.key(0))
        z = jax.jit(logistic_pca.encode)(model, x)  # of which `fit` knows nothing

        def whole(z, v, bias):
            nll = jnp.logaddexp(0, bias + jnp.tensordot(z, v, 1)) - x * (bias + jnp.tensordot(z, v, 1))
            return nll.sum() / 100 + ridge / 2 * (jnp.square(z).sum() / 100 + jnp.square(v).sum())

        slopes = jax.grad(whole, (0, 1, 2))(z, model.components, model.bias)
        assert max(jnp.abs(slope).max() for slope in slopes) < 1e-5
        other = fit(x, key=jax.random.key(1))
        at = [float(whole(jax.jit(logistic_pca.encode)(m, x), m.components, m.bias)) for m in (model, other)]
        assert at[0] == pytest.approx(at[1], rel=1e-6)  # whatever the start
        errors = [logistic_pca.evaluate(model, x), pca.evaluate(pca.fit(x, 2), x)]
        assert errors[0]["cross_entropy"].mean() < errors[1]["cross_entropy"].mean() - 0.3


def test_logistic_pca_under_a_great_ridge_is_the_mean():
    x = jnp.asarray(coins(), jnp.float32)
    model = jax.jit(partial(logistic_pca.fit, components=2, ridge=100.0, iterations=30))(x, key=jax.random.key(0))
    x_hat = logistic_pca.decode(model, logistic_pca.encode(model, x[:4]))
    np.testing.assert_allclose(x_hat, np.tile(x.mean(0), (4, 1)), atol=1e-3)
    for wrong in ({"components": 0}, {"components": 2, "ridge": 0.0}):
        with pytest.raises(ValueError, match="logistic PCA was asked for"):
            logistic_pca.fit(x, key=jax.random.key(0), **wrong)
