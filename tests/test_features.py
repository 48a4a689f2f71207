"""Features that samples are judged by, and the work of drawing the samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import evaluation, networks
from ae_jax.algorithms import made, vade, vamp
from ae_jax.core import Batch
from ae_jax.distributions import priors
from ae_jax.evaluation import aggregate, features

RNG = np.random.default_rng(0)
Y = np.arange(240) % 3
X = (0.2 * RNG.random((240, 3, 2)) + 0.8 * (np.arange(3) == Y[:, None])[..., None]).astype(np.float32)


def test_the_extractor_is_a_classifier_where_there_are_labels():
    by = features.extractor(X, Y)
    assert by.name == "classifier=64"
    z = by.features(X)
    assert z.shape == (240, 64)
    assert z.min() == 0  # rectified
    centres = np.stack([z[c == Y].mean(0) for c in range(3)])
    assert (np.linalg.norm(z[:, None] - centres, axis=-1).argmin(1) == Y).all()
    assert features.extractor(X, Y).checksum == by.checksum != features.extractor(X, (Y + 1) % 3 // 2).checksum


@pytest.mark.parametrize("y", [None, 0 * Y, RNG.random((240, 2))])
def test_the_extractor_is_pca_without_labels(y):
    by = features.extractor(X, y)
    assert by.name == "pca=6"  # no more than the data have dimensions
    apart = lambda x: np.linalg.norm(x.reshape(len(x), -1)[0] - x.reshape(len(x), -1)[1])
    np.testing.assert_allclose(apart(by.features(X[:2])), apart(X[:2]), rtol=1e-5)


def test_samples_are_judged_beside_training_examples():
    judge = evaluation.judge_of(Batch(jnp.asarray(X), jnp.asarray(Y)), Batch(jnp.asarray(X), jnp.asarray(Y)), 120)
    assert judge.beside["train frechet_distance (classifier=64, n=120)"] == pytest.approx(0, abs=1e-9)
    assert set(judge.beside) == {f"train {n} (classifier=64, n=120)" for n in ("frechet_distance", "squared_mmd")}
    same, other = judge.scores(X[::2]), judge.scores(np.zeros_like(X[::2]))
    assert list(same) == list(other)
    for name in ("sample_precision", "sample_recall", "sample_coverage"):
        assert same[f"{name} (classifier=64, n=120)"] > 0.9
        assert other[f"{name} (classifier=64, n=120)"] == 0
    assert other["squared_mmd (classifier=64, n=120)"] > same["squared_mmd (classifier=64, n=120)"] + 0.1
    assert judge.scores(X[::2] * np.nan) == {}
    assert all(evaluation.describe(name) for name in [*same, *judge.beside])
    assert evaluation.better("sample_recall (classifier=64, n=120)") == "higher"
    few = evaluation.judge_of(Batch(jnp.asarray(X[:50])), Batch(jnp.asarray(X)), 120)
    assert few.by.name == "pca=6"
    assert few.beside == {}


def test_the_work_of_a_program_counts_products_in_loops():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    assert features.work(lambda a, b: a @ b, a, b) == 60
    assert features.work(lambda a, b: jax.lax.map(lambda row: jax.jit(jnp.dot)(row, b), a), a, b) == 60
    assert features.work(lambda b: jax.lax.fori_loop(0, 7, lambda _, v: b.T @ (b @ v), jnp.ones((5, 2))), b) == 560
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 7))
    convolve = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert features.work(convolve, x, kernel) == 2 * 64 * 7 * 27


def test_samples_that_take_long_or_are_few_are_not_judged():
    member = made(networks.mlp((28, 28, 1), 500, hidden=()), optax.sgd(0.1))
    params = jax.eval_shape(member.init, jax.random.key(0), Batch(jnp.zeros((2, 28, 28, 1))))
    assert evaluation.unjudged(member, params, 2000) == "drawing 2,000 takes 2,193 billion multiply-adds"
    assert evaluation.unjudged(member, params, 99) == "99 test examples are too few; 100 are the least"
    small = made(networks.mlp((4, 4), 20, hidden=()), optax.sgd(0.1))
    params = jax.eval_shape(small.init, jax.random.key(0), Batch(jnp.zeros((2, 4, 4))))
    assert evaluation.unjudged(small, params, 360) == ""


def test_samples_are_drawn_in_parts_of_one_size():
    sizes = []

    def sample(params, key, n):
        sizes.append(n)
        return params["scale"] * jax.random.normal(key, (n, 2))

    member: Any = vade(networks.mlp((2,), 2, heads=2), optax.sgd(0.1))._replace(sample=sample)
    drawn = evaluation.drawn(member, {"scale": jnp.asarray(2.0)}, jax.random.key(1), 150)
    assert drawn.shape == (150, 2)
    assert len(np.unique(drawn)) == 300
    assert sizes == [64]  # one program


def test_members_tell_their_prior():
    z = RNG.normal(size=(5, 2)).astype(np.float32)
    standard = priors.normal(2)
    assert aggregate.is_standard(standard.log_prob, {}, 2)
    assert not aggregate.is_standard(priors.normal(2, 1.1).log_prob, {}, 2)
    mixture = {"mixture": {"mean": z, "logvar": 0 * z, "logits": 0 * z[:, 0]}}
    of_vade: Any = vade(networks.mlp((3,), 2, heads=2), optax.sgd(0.1), clusters=5).prior
    np.testing.assert_array_equal(of_vade.centres(mixture), z)
    net = networks.mlp((3,), 2, hidden=(), heads=2)
    of_vamp: Any = vamp(net, optax.sgd(0.1), components=4, likelihood="gaussian").prior
    pseudo = RNG.normal(size=(4, 3)).astype(np.float32)
    params = net.init(jax.random.key(0), Batch(jnp.asarray(pseudo))) | {"pseudo": pseudo}
    np.testing.assert_allclose(of_vamp.centres(params), net.encode(params, pseudo)[:, :2], rtol=1e-6)
