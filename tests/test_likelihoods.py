"""Likelihoods: probabilities add up to one, means are expectations, draws follow them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from ae_jax import algorithms, data, networks, training
from ae_jax.app import cli, flags
from ae_jax.app.commands import loading
from ae_jax.core import Batch
from ae_jax.distributions import likelihoods
from ae_jax.distributions.likelihoods import (
    QUANTISED,
    Likelihood,
    bernoulli_nll,
    categorical,
    categorical_nll,
    discretised_logistic,
    discretised_logistic_nll,
    gaussian,
    gaussian_nll,
    named,
    negative_binomial,
    negative_binomial_nll,
)
from ae_jax.training import settings

KEY = jax.random.key(0)
LEVELS = 17
GRID = np.arange(LEVELS) / (LEVELS - 1)


def probabilities(mean, log_scale, levels=LEVELS):
    """The probability of each level."""
    x = jnp.arange(levels, dtype=jnp.float32)[:, None] / (levels - 1)
    ones = jnp.ones_like(x)
    return np.exp(-np.asarray(discretised_logistic_nll(mean * ones, log_scale * ones, x, levels), np.float64))


@pytest.mark.parametrize("mean", [-0.7, 0.0, 0.31, 0.97, 1.0, 2.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, -2.0, 0.0, 2.0])
def test_the_levels_of_a_discretised_logistic_add_up_to_one(mean, log_scale):
    assert probabilities(mean, log_scale).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_discretised_logistic_is_the_difference_of_the_distribution_at_the_edges(levels):
    mean, scale = 0.37, 0.08
    edges = (np.arange(1, levels) - 0.5) / (levels - 1)
    below = np.concatenate([[0], stats.logistic.cdf(edges, mean, scale), [1]])
    np.testing.assert_allclose(probabilities(mean, np.log(scale), levels), np.diff(below), rtol=2e-4, atol=1e-7)


def test_a_discretised_logistic_has_its_limits():
    narrow = probabilities(GRID[5], -12.0)
    assert narrow[5] == pytest.approx(1, abs=1e-6)  # nll 0 for the level at the mean
    wide = probabilities(0.5, 12.0)
    np.testing.assert_allclose(wide[[0, -1]], 0.5, atol=1e-4)  # half the mass beyond each end


@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_gradients_of_a_discretised_logistic_are_finite_a_thousand_scales_away(x):
    nll = lambda mean, log_scale: discretised_logistic_nll(mean, log_scale, jnp.full((1, 1), x), 256).sum()
    for mean in (x + 1.0, x - 1.0):
        at = jnp.full((1, 1), mean), jnp.full((1, 1), np.log(1e-3))
        assert all(np.isfinite(g).all() for g in jax.grad(nll, (0, 1))(*at))


def test_the_mean_of_a_discretised_logistic_is_the_expectation():
    p, output = discretised_logistic(LEVELS), jnp.asarray(np.random.default_rng(0).normal(size=(5, 3, 2)), jnp.float32)
    x = jnp.asarray(GRID, jnp.float32)
    for b in range(5):
        for d in range(3):
            one = output[b : b + 1, d : d + 1]
            weights = np.exp([-float(p.nll({}, one, jnp.full((1, 1), v))[0]) for v in x])
            assert float(p.mean({}, output)[b, d]) == pytest.approx(weights @ GRID, abs=1e-5)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian_channels", *QUANTISED, "negative_binomial"])
def test_draws_have_the_mean(name):
    p = named(name, LEVELS if name in QUANTISED else None)
    output = jnp.asarray(np.random.default_rng(1).normal(size=(1, 4) + (p.outputs,) * (p.outputs > 1)), jnp.float32)
    params = p.init(jax.random.key(0), Batch(jnp.full((1, 4), 3.0)))
    many = jnp.broadcast_to(output, (40_000, *output.shape[1:]))
    drawn = np.asarray(p.draw(params, many, jax.random.key(2)))
    error = 5 * drawn.std(0) / np.sqrt(len(drawn)) + 1e-6
    assert (np.abs(drawn.mean(0) - np.asarray(p.mean(params, output))[0]) < error).all()


def test_a_likelihood_needs_its_number_of_outputs():
    net = networks.mlp((4,), 2, heads=2)
    with pytest.raises(ValueError, match=r"discretised_logistic needs 2 outputs .* emits 1: build .* outputs=2"):
        algorithms.vae(net, optax.sgd(0.1), likelihood="discretised_logistic")
    with pytest.raises(ValueError, match=r"bernoulli needs 1 outputs .* emits 2"):
        algorithms.vae(networks.mlp((4,), 2, heads=2, outputs=2), optax.sgd(0.1))
    with pytest.raises(ValueError, match="tied weights give 1 output"):
        networks.mlp((4,), 2, outputs=2, tied=True)
    with pytest.raises(ValueError, match=r"squared is no probability.*sigma=0\.7071068 its"):
        algorithms.vae(net, optax.sgd(0.1), likelihood="squared")


@pytest.mark.parametrize("reduced", [lambda a: a.sum(), lambda a: a.mean(), lambda a: a])
def test_a_likelihood_of_ones_own_has_a_number_for_each_example(reduced):
    own = Likelihood(lambda params, output, x: reduced(jnp.abs(output - x)), lambda params, output: output)
    algorithm = algorithms.autoencoder(networks.mlp((4,), 2, hidden=()), optax.sgd(0.1), likelihood=own)
    x = Batch(jnp.zeros((3, 4)))
    params = algorithm.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"nll has the shape .* for 3 examples; wanted: \(3,\), a number for each"):
        algorithm.rule.update(params, algorithm.rule.init(params), x, jax.random.key(0))


@pytest.mark.parametrize("make", [networks.mlp, networks.conv])
def test_networks_emit_as_many_outputs_as_asked(make):
    net, x = make((4, 4, 1), 3, outputs=2), jnp.ones((5, 4, 4, 1))
    params = net.init(jax.random.key(0), Batch(x))
    assert net.apply(params, x)[1].shape == net.decode(params, jnp.ones((5, 3))).shape == (5, 4, 4, 1, 2)


def test_a_likelihood_of_ones_own_is_taken_as_a_value():
    laplace = Likelihood(
        nll=lambda params, output, x: jnp.abs(output - x).reshape(len(x), -1).sum(-1) + x[0].size * jnp.log(2.0),
        mean=lambda params, output: output,
    )
    x = jnp.asarray(np.random.default_rng(3).normal(size=(20, 4)), jnp.float32)
    for algorithm in (
        algorithms.autoencoder(networks.mlp((4,), 2), optax.sgd(0.1), likelihood=laplace),
        algorithms.vae(networks.mlp((4,), 2, heads=2), optax.sgd(0.1), likelihood=laplace),
    ):
        params = algorithm.init(jax.random.key(0), Batch(x))
        found = algorithm.evaluate(params, Batch(x), jax.random.key(1))
        nll = found["nll"] if "nll" in found else found["reconstruction"]
        assert nll.shape == (20,)
        assert float(nll.min()) > 0


def test_a_scale_measured_from_the_data_stays():
    def nll(params, output, x):
        return gaussian_nll(output, x, 2 * jnp.log(params["spread"]["of_data"]))

    spread = lambda key, data: {"spread": {"of_data": data.x.std(0)}}
    own = Likelihood(nll, lambda params, output: output, init=spread, measured=("spread",))
    x = jnp.asarray(np.random.default_rng(5).normal(size=(20, 4)), jnp.float32)
    for algorithm in (
        algorithms.autoencoder(networks.mlp((4,), 2, hidden=()), optax.sgd(0.1), likelihood=own),
        algorithms.vae(networks.mlp((4,), 2, hidden=(), heads=2), optax.sgd(0.1), likelihood=own),
    ):
        params = algorithm.init(jax.random.key(0), Batch(x))
        after = algorithm.rule.update(params, algorithm.rule.init(params), Batch(x), jax.random.key(1))[0]
        assert algorithm.statistics == ("spread",)
        np.testing.assert_array_equal(after["spread"]["of_data"], params["spread"]["of_data"])
        np.testing.assert_allclose(after["spread"]["of_data"], x.std(0), rtol=1e-5)
        assert (after["decoder"]["layer_0"]["kernel"] != params["decoder"]["layer_0"]["kernel"]).any()


def test_a_learned_scale_learns_in_every_member_of_reconstruction():
    x = jnp.asarray(np.random.default_rng(4).normal(size=(40, 4)), jnp.float32)
    algorithm = algorithms.autoencoder(networks.mlp((4,), 2), optax.adam(0.05), likelihood="gaussian")
    params = algorithm.init(jax.random.key(0), Batch(x))
    memory = algorithm.rule.init(params)
    after = algorithm.rule.update(params, memory, Batch(x), jax.random.key(1))[0]
    assert float(params["likelihood"]["logvar"]) == 0
    assert float(after["likelihood"]["logvar"]) != 0


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match="likelihood is 'poisson'; it must be one of"):
        likelihoods.likelihood("poisson")  # type: ignore[arg-type]


def test_gaussian_draws_have_their_deviation():
    drawn = likelihoods.gaussian(0.3).draw({}, jnp.ones((20_000, 1)), jax.random.key(5))
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.03)


# ------------------------------------------------------------------------------------------- categorical


def test_a_categorical_likelihood_is_the_softmax_of_a_level():
    rng = np.random.default_rng(5)
    with jax.enable_x64(True):
        logits, level = jnp.asarray(rng.normal(size=(3, 4, 5))), rng.integers(0, 5, (3, 4))
        x = jnp.asarray(level / 4)
        found = categorical_nll(logits, x)
        share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        chosen = np.take_along_axis(share, level[..., None], -1)
        np.testing.assert_allclose(found, -np.log(chosen).sum((1, 2)), rtol=1e-12)
        np.testing.assert_allclose(categorical_nll(logits + 7.0, x), found, rtol=1e-12)
        gradient = jax.grad(lambda logits: categorical_nll(logits, x).sum())(logits)
        np.testing.assert_allclose(gradient, share - np.eye(5)[level], atol=1e-12)
        flat = categorical_nll(jnp.zeros((3, 4, 256)), jnp.asarray(rng.integers(0, 256, (3, 4)) / 255))
        np.testing.assert_allclose(flat / (4 * np.log(2)), 8, rtol=1e-12)  # bits a dimension
        pair = jnp.asarray(rng.normal(size=(3, 4, 2)))
        bits = jnp.asarray(rng.integers(0, 2, (3, 4)).astype(float))
        difference = pair[..., 1] - pair[..., 0]
        np.testing.assert_allclose(categorical_nll(pair, bits), bernoulli_nll(difference, bits), rtol=1e-12)


# ------------------------------------------------------------------------------------- negative binomial


def test_a_negative_binomial_is_that_of_scipy_and_adds_up_to_one():
    with jax.enable_x64(True):
        x = np.arange(3000.0)
        for mean, size in ((0.3, 0.5), (4.0, 2.0), (20.0, 50.0)):
            logs = jnp.log(jnp.full((3000, 1), mean)), jnp.log(jnp.full((1, 1), size))
            nll = np.asarray(negative_binomial_nll(*logs, jnp.asarray(x[:, None])))
            np.testing.assert_allclose(nll, -stats.nbinom.logpmf(x, size, size / (size + mean)), rtol=1e-9, atol=1e-9)
            mass = np.exp(-nll)
            assert mass.sum() == pytest.approx(1, abs=1e-9)
            assert mass @ x == pytest.approx(mean, rel=1e-6)
            assert mass @ np.square(x - mean) == pytest.approx(mean + mean**2 / size, rel=1e-6)
        nll = negative_binomial_nll(jnp.log(jnp.full((9, 1), 4.0)), jnp.full((1, 1), 18.0), jnp.arange(9.0)[:, None])
        np.testing.assert_allclose(nll, -stats.poisson.logpmf(np.arange(9), 4), rtol=1e-6)  # without overdispersion


def test_the_library_size_is_the_examples_own_total_and_of_a_code_alone_the_training_datas():
    p, rng = negative_binomial(), np.random.default_rng(6)
    x = jnp.asarray(rng.integers(0, 9, (5, 4)), jnp.float32)
    params = p.init(jax.random.key(0), Batch(x))
    output = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    share = np.exp(output) / np.exp(output).sum(1, keepdims=True)
    total = np.asarray(x).sum(1, keepdims=True)
    np.testing.assert_allclose(p.reconstruction(params, output, x), share * total, rtol=1e-5)
    np.testing.assert_allclose(p.mean(params, output), share * total.mean(), rtol=1e-5)
    expected = -stats.nbinom.logpmf(np.asarray(x), 1, 1 / (1 + share * total)).sum(1)  # r = 1 at the start
    np.testing.assert_allclose(p.nll(params, output, x), expected, rtol=1e-4)
    slope = jax.grad(lambda params: p.nll(params, output, x).sum())(params)["likelihood"]
    assert (np.asarray(slope["log_size"]) != 0).all()
    nothing = jnp.zeros((2, 4))
    assert np.isfinite(p.nll(params, output[:2], nothing)).all()  # an example without counts


def test_counts_are_learned_in_a_vae_whose_encoder_sees_their_logs():
    x = jnp.asarray(np.random.default_rng(7).poisson([[1.0, 900.0, 40.0]] * 30), jnp.float32)
    net = networks.mlp((3,), 2, hidden=(), heads=2)
    np.testing.assert_array_equal(
        networks.log_inputs(net).encode(params := net.init(jax.random.key(0), Batch(x)), x),
        net.encode(params, jnp.log1p(x)),
    )
    decaying = optax.adamw(1e-3, weight_decay=0.5)  # of all params that learn, and the total is none
    algorithm = algorithms.vae(networks.log_inputs(net), decaying, likelihood="negative_binomial")
    params = algorithm.init(jax.random.key(0), Batch(x))
    after, _, metrics = algorithm.rule.update(params, algorithm.rule.init(params), Batch(x), jax.random.key(1))
    assert np.isfinite(metrics["loss"])
    assert algorithm.statistics == ("total",)
    np.testing.assert_array_equal(after["total"], x.sum(1).mean())
    np.testing.assert_allclose(algorithm.reconstruct(params, x).sum(1), x.sum(1), rtol=1e-4)


# --------------------------------------------------------------------------------------------- gaussian


def test_a_gaussian_learns_one_scale_or_one_for_each_channel():
    rng = np.random.default_rng(8)
    x, output = (jnp.asarray(rng.normal(size=(2, 3, 3, 2)), jnp.float32) for _ in range(2))
    one, each = gaussian(), named("gaussian_channels")
    assert one.init(jax.random.key(0), Batch(x))["likelihood"]["logvar"].shape == ()
    assert each.init(jax.random.key(0), Batch(x))["likelihood"]["logvar"].shape == (2,)
    params = {"likelihood": {"logvar": jnp.asarray([-1.0, 0.5])}}
    parts = [gaussian_nll(output[..., c], jnp.asarray(v), x[..., c]) for c, v in enumerate((-1.0, 0.5))]
    np.testing.assert_allclose(each.nll(params, output, x), parts[0] + parts[1], rtol=1e-5)
    with pytest.raises(ValueError, match=r"sigma is 0.5, and channels learns one"):
        gaussian(0.5, channels=True)


# -------------------------------------------------------------------------- data that a likelihood cannot have


@pytest.mark.parametrize(
    ("p", "x", "told"),
    [
        (named("bernoulli"), [0.5, 1.5], r"of values in \[0, 1\], and x has values from 0.5 to 1.5"),
        (named("multinomial"), [-1.0, 2.0], r"counts, which are not negative, and x has values from -1 to 2"),
        (negative_binomial(), [1.0, 2.5], r"counts, whole numbers, and x has the value 2.5: .* range=as_is"),
        (negative_binomial(), [-1.0, 2.0], r"which are not negative"),
        (
            categorical(256),
            [1 / 16, 1.0],
            r"of 256 levels, k / 255, and x has the value 0.0625, .* likelihood_levels=17",
        ),
        (discretised_logistic(17), [1 / 255, 1.0], r"of 17 levels, k / 16, .* they have 256 levels"),
        (categorical(256), [0.0, 0.25, 0.75], r"of 256 levels, .* the value 0.25, .* they have 5 levels"),
        (categorical(4), [0.123456, 1.0], r"none of them: take another likelihood"),
        (categorical(2), [0.0, 1.01], r"values in \[0, 1\]"),
    ],
)
def test_data_that_a_likelihood_cannot_have_are_refused(p, x, told):
    with pytest.raises(ValueError, match=told):
        p.check(np.asarray([x], np.float32))


def test_data_that_it_can_have_pass():
    for levels in (2, 17, 256, 65536):
        x = (np.arange(levels, dtype=np.float32) / np.float32(levels - 1))[None]
        categorical(levels).check(x)
        discretised_logistic(levels).check(jnp.asarray(x))
    negative_binomial().check(np.asarray([[0, 7, 123_456]], np.float32))
    named("squared").check(np.asarray([[-3.0, 0.5]]))
    jax.jit(lambda x: named("bernoulli").check(x))(jnp.asarray([[5.0]]))  # traced data are not known


def test_a_run_refuses_them_before_it_compiles():
    x = jnp.full((4, 3), 1.5)
    algorithm = algorithms.vae(networks.mlp((3,), 2, heads=2), optax.sgd(0.1))
    good = Batch(jnp.zeros((4, 3)))
    for start in (
        lambda: training.run(algorithm, Batch(x), epochs=1),
        lambda: training.run(algorithm, good, Batch(x), epochs=1),
        lambda: training.train(algorithm, Batch(x), epochs=1),
        lambda: training.train(algorithm, good, validation=Batch(x), epochs=1),
    ):
        with pytest.raises(ValueError, match=r"this likelihood is of values in \[0, 1\], and the \w+ part of the data"):
            start()


@pytest.mark.parametrize(
    "name", ["autoencoder", "k_sparse", "vq_vae", "adversarial", "importance", "vamp", "beta_tc_vae"]
)
def test_every_member_of_a_likelihood_checks_its_data(name):
    needs = settings.heads(name)
    net = networks.mlp((3,), 8, heads=needs.number)
    given = {"examples": 9} if name == "beta_tc_vae" else {}
    algorithm = algorithms.ALGORITHMS[name](net, optax.sgd(0.1), likelihood="bernoulli", **given)
    with pytest.raises(ValueError, match="of values in"):
        algorithm.check(np.full((4, 3), 1.5), "x")


@pytest.mark.parametrize("name", QUANTISED)
def test_bits_a_dimension_are_the_bound_of_quantised_data(name):
    p = named(name, LEVELS)
    x = jnp.asarray(np.random.default_rng(9).choice(GRID, (6, 4)), jnp.float32)
    net = networks.mlp((4,), 2, hidden=(), heads=2, outputs=p.outputs)
    for algorithm, bound in (
        (algorithms.vae(net, optax.sgd(0.1), likelihood=p, beta=2.0), "elbo"),
        (algorithms.importance(net, optax.sgd(0.1), likelihood=p, samples=3), "bound"),
    ):
        params = algorithm.init(jax.random.key(0), Batch(x))
        found = algorithm.evaluate(params, Batch(x), jax.random.key(1))
        np.testing.assert_allclose(found["bits_dim"], -found[bound] / (4 * np.log(2)), rtol=1e-6)
    plain = algorithms.vae(networks.mlp((4,), 2, hidden=(), heads=2), optax.sgd(0.1))
    assert "bits_dim" not in jax.eval_shape(lambda key: plain.evaluate(plain.init(key, Batch(x)), Batch(x), key), KEY)


# ------------------------------------------------------------------------------------ at the command line


def asked(algorithm, **given):
    own = {"network": "mlp", "latents": 2, "batch_size": 8, "epochs": 1, "network_options": {"hidden": ()}}
    return settings.Settings(**{"algorithm": algorithm, "seeds": (0,), "data": "digits"} | own | given)


def test_levels_are_a_setting_of_the_run():
    made = settings.build(asked("vae", hyper={"likelihood": "categorical"}, likelihood_levels=17), (4,), 9)
    params = jax.eval_shape(lambda key: made.init(key, Batch(jnp.zeros((9, 4)))), jax.random.key(0))
    assert params["decoder"]["layer_0"]["kernel"].shape == (2, 4 * 17)
    with pytest.raises(ValueError, match=r"likelihood_levels=17 has no effect with likelihood='bernoulli'"):
        settings.build(asked("vae", hyper={"likelihood": "bernoulli"}, likelihood_levels=17), (4,), 9)
    with pytest.raises(ValueError, match=r"likelihood_levels=17 has no effect: made takes no likelihood"):
        settings.build(asked("made", likelihood_levels=17), (4,), 9)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("vae --likelihood categorical", r"256 levels, k / 255, .* --likelihood-levels 17"),
        ("vae --likelihood negative_binomial", r"counts, whole numbers, and the train part of the data"),
        ("vae --likelihood gaussian --likelihood-levels 17", r"--likelihood-levels 17 has no effect with --likelihood"),
        ("importance --estimator miwae --groups 2", r"--groups|groups is 2, and the 5 samples"),
    ],
)
def test_the_command_line_refuses_them_before_anything_is_written(arguments, told, tmp_path):
    options = f"{arguments} --data digits --epochs 1 --net-hidden 4 --latents 2 --workdir {tmp_path / 'r'}"
    with pytest.raises(ValueError, match=r"likelihood|groups") as error:
        cli.dispatch(["train", *options.split()])
    assert re.search(told, flags.as_flags(str(error.value)))
    assert not (tmp_path / "r").exists()


def test_logs_of_what_are_no_counts_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(10).normal(size=(20, 4)).astype(np.float32))
    options = f"--data {tmp_path / 'x.npy'} --data-range as_is --net-log-inputs --epochs 1 --workdir {tmp_path / 'r'}"
    with pytest.raises(ValueError, match=r"log_inputs=True takes log\(1 \+ x\) of counts, and .* has values from -"):
        cli.dispatch(["train", "vae", *options.split()])
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_what_a_sample_of_a_stream_does_not_show_is_refused_when_it_is_read(kind, tmp_path):
    """Bytes are read as they lie there, 0 to 255, and learned as 0 to 1."""
    x = np.full((300, 4), 255 if kind is np.uint8 else 1, kind)
    if kind is np.float32:
        x[250] = 0.5
    np.save(tmp_path / "x.npy", x)
    wanted, likelihood = asked("vae", data=str(tmp_path / "x.npy")), named("categorical", 2)
    net = networks.mlp((4,), 2, hidden=(), heads=2, outputs=2)
    algorithm = algorithms.vae(net, optax.sgd(0.1), likelihood=likelihood)
    source = data.open_stream(wanted.data, test_fraction=0.1).train
    stream = loading.bounded(data.Stream(source, len(source)), algorithm, wanted)
    if kind is np.uint8:
        assert float(stream.load(0, 0).x.max()) == 1
    else:
        with pytest.raises(ValueError, match=r"of 2 levels, k / 1, and .*x.npy has the value 0.5"):
            stream.load(0, 0)
