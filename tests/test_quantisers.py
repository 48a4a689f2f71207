"""Quantisers: symbols and vectors, gradients, moving averages, dead codes; and the VQ-VAE made of them."""

from functools import partial
from math import prod
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import bars

from ae_jax import algorithms, networks
from ae_jax.core import Batch, epoch, fit
from ae_jax.distributions import quantisers
from ae_jax.evaluation import codes

H = jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)), jnp.float32)
KEY = jax.random.key(0)
ALL = {
    "moving": quantisers.moving(7),
    "learned": quantisers.learned(7),
    "simvq": quantisers.simvq(7),
    "residual": quantisers.residual_codebooks(5, depth=3),
    "residual_mixed": quantisers.residual([quantisers.simvq(5), quantisers.fsq((5, 3, 4))]),
    "fsq": quantisers.fsq((5, 3, 4)),
    "lfq": quantisers.lfq(3),
    "spherical": quantisers.spherical(3),
}


def np_rotation(h, e):
    """R h |e| / |h| with the matrices of the paper."""
    u, q = h / np.linalg.norm(h), e / np.linalg.norm(e)
    r = (u + q) / np.linalg.norm(u + q)
    return np.linalg.norm(e) / np.linalg.norm(h) * (np.eye(len(h)) - 2 * np.outer(r, r) + 2 * np.outer(q, u))


@pytest.mark.parametrize("name", ALL)
def test_symbols_stand_for_vectors_and_vectors_for_their_symbols(name):
    q = ALL[name]
    params = q.init(KEY, H)
    assert set(params) == {*q.learned, *q.measured}
    for key in (None, jax.random.key(1)):  # a key means training
        found = q.quantise(params, H, key)
        assert found.symbols.shape == (30, len(q.sizes))
        assert (found.symbols >= 0).all()
        assert (found.symbols < jnp.asarray(q.sizes)).all()
        np.testing.assert_array_equal(q.lookup(params, found.symbols), found.vectors)  # bit for bit
        assert found.vectors.dtype == H.dtype
        assert set(found.patch) <= (set() if key is None else set(q.measured))
    if len(q.sizes) == 1 and name != "fsq":  # a sum may be nearer to another; fsq bounds what it is given
        again = q.quantise(params, found.vectors)
        np.testing.assert_array_equal(again.symbols, found.symbols)
        np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-6)


@pytest.mark.parametrize("kind", ["moving", "learned"])
def test_symbols_are_of_the_nearest_vectors(kind):
    q = ALL[kind]
    params = q.init(KEY, H)
    found = q.quantise(params, H)
    vectors = np.asarray(q.lookup(params, jnp.arange(7)[:, None]))
    expected = ((np.asarray(H)[:, None] - vectors) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(found.symbols[:, 0], expected)
    np.testing.assert_array_equal(found.vectors, vectors[expected])
    weight = 1.25 if kind == "learned" else 0.25
    np.testing.assert_allclose(found.cost, weight * ((H - found.vectors) ** 2).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("levels", [(8, 6, 5), (3, 3), (7,)])
def test_every_symbol_of_rounded_numbers_has_one_vector_and_back(levels):
    q = quantisers.fsq(levels)
    every = jnp.arange(prod(levels))[:, None]
    vectors = np.asarray(q.lookup({}, every))
    assert len(np.unique(vectors, axis=0)) == prod(levels)
    assert np.abs(vectors).max() == 1
    for d, count in enumerate(levels):  # an even number of levels has none at 1, an odd one has 0
        steps = (np.arange(count) - count // 2) / (count // 2)
        np.testing.assert_allclose(np.unique(vectors[:, d]), steps, atol=1e-7)
    half = (np.array(levels) - 1) * 1.001 / 2
    offset = np.where(np.array(levels) % 2 == 0, 0.5, 0)
    before = np.arctanh((vectors * (np.array(levels) // 2) + offset) / half) - np.arctanh(offset / half)
    np.testing.assert_array_equal(q.quantise({}, jnp.asarray(before, jnp.float32)).symbols, every)
    ends = jnp.full((2, len(levels)), 50.0).at[0].multiply(-1)
    np.testing.assert_array_equal(q.quantise({}, ends).symbols, [[0], [prod(levels) - 1]])


@pytest.mark.parametrize("sphere", [False, True])
def test_every_symbol_of_signs_has_one_vector_and_back(sphere):
    q = quantisers.lfq(6, sphere=sphere)
    vectors = q.lookup({}, jnp.arange(64)[:, None])
    assert len(np.unique(vectors, axis=0)) == 64
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1 if sphere else 6**0.5, rtol=1e-6)
    np.testing.assert_array_equal(q.quantise({}, 3.7 * vectors).symbols[:, 0], np.arange(64))


# ------------------------------------------------------------------------------------------------- gradients


def slope(q, params, h, towards):
    """The gradient in h of vectors.towards, and the slopes that the decoder gives."""
    return jax.grad(lambda h: (q.quantise(params, h).vectors * towards).sum())(h)


TOWARDS = jnp.asarray(np.random.default_rng(1).normal(size=(30, 3)), jnp.float32)


@pytest.mark.parametrize("name", ["moving", "learned", "simvq", "residual", "residual_mixed", "lfq"])
def test_the_decoders_gradient_is_that_of_the_code(name):
    q = ALL[name]
    params = q.init(KEY, H)
    np.testing.assert_array_equal(slope(q, params, H, TOWARDS), TOWARDS)
    book = jax.grad(lambda params: (q.quantise(params, H).vectors * TOWARDS).sum())(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(book))  # none of it reaches a codebook


def test_the_gradient_of_rounded_numbers_is_that_of_the_bounded_ones():
    levels = np.array((5, 3, 4))
    half, offset = (levels - 1) * 1.001 / 2, np.where(levels % 2 == 0, 0.5, 0)
    bounded = lambda h: (jnp.tanh(h + np.arctanh(offset / half)) * half - offset) / (levels // 2)
    expected = jax.grad(lambda h: (bounded(h) * TOWARDS).sum())(H)
    np.testing.assert_allclose(slope(ALL["fsq"], {}, H, TOWARDS), expected, rtol=1e-5, atol=1e-7)


def test_the_gradient_of_signs_on_the_sphere_is_that_of_the_unit_vector():
    unit = lambda h: h / jnp.linalg.norm(h, axis=-1, keepdims=True)
    expected = jax.grad(lambda h: (unit(h) * TOWARDS).sum())(H)
    np.testing.assert_allclose(slope(ALL["spherical"], {}, H, TOWARDS), expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(slope(ALL["spherical"], {}, 0 * H, TOWARDS)).all()


@pytest.mark.parametrize("name", ["moving", "learned", "simvq", "residual"])
def test_the_rotations_gradient_is_that_of_a_held_rotation(name):
    make = quantisers.QUANTISERS[name]
    q, plain = make(size=7, gradient="rotation"), make(size=7)
    params = q.init(KEY, H)
    found = q.quantise(params, H)
    np.testing.assert_array_equal(found.vectors, plain.quantise(params, H).vectors)
    turns = np.stack([np_rotation(*pair) for pair in zip(*map(np.asarray, (H, found.vectors)), strict=True)])
    np.testing.assert_allclose(np.einsum("nij,nj->ni", turns, H), found.vectors, rtol=1e-4, atol=1e-5)  # R h is e
    expected = jax.grad(lambda h: (jnp.einsum("nij,nj->ni", turns, h) * TOWARDS).sum())(H)
    np.testing.assert_allclose(slope(q, params, H, TOWARDS), expected, rtol=1e-3, atol=1e-4)


def test_the_rotation_is_finite_where_it_is_not_defined():
    h = jnp.asarray([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    e = jnp.asarray([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0]])  # of no code, its opposite, no vector
    one = lambda h: (quantisers.rotation(e, h) * TOWARDS[:3]).sum()
    gradient = jax.grad(one)(h)
    np.testing.assert_array_equal(quantisers.rotation(e, h), e)
    np.testing.assert_allclose(gradient[0], TOWARDS[0])
    np.testing.assert_allclose(gradient[1], TOWARDS[1] * jnp.asarray([-1, 1, 1]), rtol=1e-6)
    np.testing.assert_array_equal(gradient[2], 0)


def test_a_learned_codebook_goes_to_the_means_of_what_it_stands_for():
    q = ALL["learned"]
    params = q.init(KEY, H)
    found = q.quantise(params, H)
    gradient = jax.grad(lambda params: q.quantise(params, H).cost.sum())(params)["codebook"]
    for s in range(7):
        of = np.asarray(H)[np.asarray(found.symbols[:, 0]) == s]
        expected = 2 * len(of) * (params["codebook"][s] - of.mean(0)) if len(of) else 0  # 2 n (e - mean h)
        np.testing.assert_allclose(gradient[s], expected, atol=1e-5)


def test_a_fixed_basis_moves_as_one():
    q = quantisers.simvq(7, commitment=0.0)
    params = q.init(KEY, H)
    np.testing.assert_array_equal(q.lookup(params, jnp.arange(7)[:, None]), params["codebook"])  # starts as the data
    twice = params | {"basis": 2 * params["basis"]}
    np.testing.assert_allclose(q.lookup(twice, jnp.arange(7)[:, None]), 2 * params["codebook"], rtol=1e-6)
    gradient = jax.grad(lambda params: q.quantise(params, H).cost.sum())(twice)
    rest = np.asarray(q.lookup(twice, q.quantise(twice, H).symbols) - H)
    used = np.asarray(params["codebook"])[np.asarray(q.quantise(twice, H).symbols[:, 0])]
    np.testing.assert_allclose(gradient["basis"], 2 * used.T @ rest, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------- moving codebooks


def test_moving_vectors_with_decay_zero_are_the_means_of_what_they_stand_for():
    q = quantisers.moving(4, decay=0.0)
    params = q.init(jax.random.key(1), H)
    found = q.quantise(params, H, jax.random.key(2))
    for s in range(4):
        of = np.asarray(H)[np.asarray(found.symbols[:, 0]) == s]
        expected = of.mean(0) if len(of) else params["codebook"]["vectors"][s]
        np.testing.assert_allclose(found.patch["codebook"]["vectors"][s], expected, rtol=1e-5)
        assert float(found.patch["codebook"]["count"][s]) == len(of)


def test_moving_averages_are_those_of_the_paper():
    q = quantisers.moving(4, decay=0.9)
    params = q.init(jax.random.key(1), H)
    old, found = params["codebook"], q.quantise(params, H, jax.random.key(2))
    hot = np.eye(4)[np.asarray(found.symbols[:, 0])]
    count = 0.9 * np.asarray(old["count"]) + 0.1 * hot.sum(0)
    total = 0.9 * np.asarray(old["sum"]) + 0.1 * hot.T @ np.asarray(H)
    np.testing.assert_allclose(found.patch["codebook"]["vectors"], total / count[:, None], rtol=1e-5)


def test_a_vector_without_use_does_not_move():
    q = quantisers.moving(3, decay=0.9)
    far = {"vectors": jnp.full((3, 3), 50.0).at[0].set(0), "count": jnp.ones(3), "sum": jnp.full((3, 3), 50.0)}
    step = jax.jit(lambda params, key: params | q.quantise(params, H, key).patch)
    params = {"codebook": far}
    for t in range(200):  # its count falls below 1e-6 on the way
        params = step(params, jax.random.key(t))
    np.testing.assert_allclose(params["codebook"]["vectors"][1:], 50, rtol=1e-5)


def test_a_dead_vector_is_drawn_anew_from_the_batch_and_a_living_one_is_not():
    q = quantisers.moving(3, decay=0.5, least=0.6)
    params = q.init(KEY, H)
    far = params["codebook"]["vectors"].at[2].set(100.0)
    params = {"codebook": params["codebook"] | {"vectors": far, "sum": far}}
    book = q.quantise(params, H, jax.random.key(3)).patch["codebook"]
    assert (np.asarray(H) == np.asarray(book["vectors"][2])).all(1).any()
    assert not (np.asarray(H) == np.asarray(book["vectors"][0])).all(1).any()


# --------------------------------------------------------------------------------------------------- residual


def test_one_level_is_the_quantiser_itself():
    one, plain = quantisers.residual([quantisers.moving(5)]), quantisers.moving(5)
    params = one.init(KEY, H)
    a = one.quantise(params, H, jax.random.key(1))
    b = plain.quantise({"codebook": params["codebook_0"]}, H, jax.random.key(2))
    np.testing.assert_array_equal(a.vectors, b.vectors)
    np.testing.assert_array_equal(a.cost, b.cost)
    jax.tree.map(np.testing.assert_array_equal, a.patch["codebook_0"], b.patch["codebook"])


def test_what_is_left_does_not_grow_with_depth():
    """With a zero vector in each codebook no example's remainder grows; here the mean remainder falls at each level."""
    error, depth = [], 4
    q = quantisers.residual_codebooks(8, depth=depth)
    params = q.init(KEY, H)
    for n in range(depth):
        book = params[f"codebook_{n}"]
        params |= {f"codebook_{n}": book | {"vectors": book["vectors"].at[0].set(0)}}
    found = q.quantise(params, H)
    total = 0
    for n in range(depth):
        total = total + params[f"codebook_{n}"]["vectors"][found.symbols[:, n]]
        error.append(np.asarray(jnp.square(H - total).sum(-1)))
    assert (np.diff(error, axis=0) <= 1e-6).all()
    assert (np.diff(np.mean(error, 1)) < 0).all()
    np.testing.assert_allclose(found.vectors, total, atol=1e-6)
    np.testing.assert_allclose(found.cost, 0.25 * np.sum(error, 0), rtol=1e-4)  # commitment at every level
    held = jax.grad(lambda h: q.quantise(params, h).cost.sum())(H)
    rests = [H - sum(params[f"codebook_{n}"]["vectors"][found.symbols[:, n]] for n in range(m)) for m in range(1, 5)]
    np.testing.assert_allclose(held, 0.5 * sum(rests), rtol=1e-3, atol=1e-5)  # of every level, not of the first alone


def test_a_step_with_fewer_levels_leaves_the_others_alone():
    q = quantisers.residual_codebooks(4, depth=3, drop=1.0)
    params = q.init(KEY, H)
    whole = q.quantise(params, H)
    depths = set()
    for seed in range(8):
        found = q.quantise(params, H, jax.random.key(seed))
        moved = [bool((found.patch[g]["vectors"] != params[g]["vectors"]).any()) for g in q.measured]
        used = sum(moved)
        assert moved == [n < used for n in range(3)]
        coarse = sum(params[f"codebook_{n}"]["vectors"][found.symbols[:, n]] for n in range(used))
        np.testing.assert_allclose(found.vectors, coarse, atol=1e-6)
        np.testing.assert_array_equal(found.symbols[:, :used], whole.symbols[:, :used])
        depths.add(used)
    assert depths == {1, 2}  # never all


# -------------------------------------------------------------------------------------------- entropies of signs


@pytest.mark.parametrize("sphere", [False, True])
def test_entropies_of_signs_are_those_of_all_codes(sphere):
    d, sharpness = 6, 0.7
    q = quantisers.lfq(d, commitment=0.0, entropy=1.0, sharpness=sharpness, sphere=sphere)
    h = jnp.asarray(np.random.default_rng(2).normal(size=(20, d)), jnp.float32)
    every = np.asarray(q.lookup({}, jnp.arange(2**d)[:, None]), float)
    u = np.asarray(h, float) / (np.linalg.norm(h, axis=1, keepdims=True) if sphere else 1)
    p = np.exp(2 * sharpness * u @ every.T)
    p /= p.sum(1, keepdims=True)  # [N, 2^D]
    entropy = lambda p: -(p * np.log(p)).sum(-1)
    each, of_mean = entropy(p), entropy(p.mean(0))
    np.testing.assert_allclose(q.quantise({}, h).cost, each, rtol=1e-4)
    np.testing.assert_allclose(q.quantise({}, h, KEY).cost, each - of_mean, rtol=1e-3, atol=1e-4)
    sure = quantisers.lfq(d, commitment=0.0, entropy=1.0, sharpness=1e4, sphere=sphere)
    np.testing.assert_allclose(sure.quantise({}, h).cost, 0, atol=1e-3)


def test_the_entropy_of_more_bits_is_bounded_by_groups(monkeypatch):
    p = jnp.asarray(np.random.default_rng(3).random((5, 6)), jnp.float32)
    exact = quantisers._entropy_of_mean(p)
    monkeypatch.setattr(quantisers, "TOGETHER", 4)
    groups = quantisers._entropy_of_mean(p)
    monkeypatch.undo()
    parts = quantisers._entropy_of_mean(p[:, :4]) + quantisers._entropy_of_mean(p[:, 4:])
    np.testing.assert_allclose(groups, parts, rtol=1e-6)
    assert exact < groups


# ---------------------------------------------------------------------------------------------------- measures


def test_usage_and_perplexity():
    even = jnp.arange(12)[:, None] % 4
    assert codes.usage(even)["symbols_used"] == 4
    np.testing.assert_allclose(codes.usage(even)["perplexity"], 4, rtol=1e-6)
    assert codes.usage(jnp.full((5, 2), 9)) == {"symbols_used": 1, "perplexity": 1}
    skewed = jnp.asarray([0, 0, 0, 1, 5, 5])
    share = np.array([3, 1, 2]) / 6
    for size in (None, 7):
        expected = np.exp(-(share * np.log(share)).sum())
        np.testing.assert_allclose(quantisers.perplexity(skewed, size), expected, rtol=1e-6)
    two = codes.usage(jnp.asarray([[0, 3], [0, 4], [0, 5], [0, 3]]), levels=2)
    assert (two["symbols_used (level=1)"], two["symbols_used (level=2)"]) == (1, 3)
    assert two["perplexity (level=1)"] == 1 < two["perplexity (level=2)"]


def test_what_a_quantiser_cannot_be_is_refused():
    net = networks.mlp((4, 4, 1), 4)
    make, wrong = partial(algorithms.vq_vae, net, optax.sgd(0.1)), cast(Any, "fixed")
    for refused, told in (
        (lambda: quantisers.moving(1), "size is 1; a codebook has at least 2 vectors"),
        (lambda: quantisers.quantiser(wrong), "quantiser is 'fixed'; it must be one of moving, learned"),
        (lambda: quantisers.moving(4, decay=1.5), "decay"),
        (lambda: quantisers.residual([]), "at least one level"),
        (lambda: quantisers.learned(4, gradient=wrong), "gradient is 'fixed'"),
        (lambda: quantisers.fsq(()), r"levels is \(\): give the levels of each number"),
        (lambda: quantisers.fsq((8, 2)), "levels is 2; each number has at least 3 levels"),
        (lambda: quantisers.fsq((100,) * 6), "levels is .*1e.12 symbols"),
        (lambda: quantisers.lfq(31), "dimension is 31; a vector has 1 to 30 signs"),
        (lambda: make(dimension=3), "dimension is 3, which does not divide the code's 4 latents: give latents=6"),
        (lambda: make(quantiser="fsq", levels=(8, 6, 5)), "dimension is 3, .* give latents=6, or other vectors"),
        (lambda: make(quantiser="fsq", dimension=2), "dimension is 2, and the quantiser's vectors have 4 numbers"),
        (lambda: make(quantiser=quantisers.lfq(2), size=8), "size=8 has no effect with quantiser="),
    ):
        with pytest.raises(ValueError, match=told):
            refused()


# ------------------------------------------------------------------------------------------------- the VQ-VAE


@pytest.mark.parametrize("kind", ["residual", "fsq", "lfq"])
def test_a_vq_vae_stores_the_bars_in_symbols(kind):
    data = bars()
    net = networks.mlp((4, 4, 1), 4, hidden=(16,), activation="tanh")
    chosen = quantisers.fsq((4, 4)) if kind == "fsq" else kind
    size: dict[str, Any] = {"size": 4, "dimension": 2} if kind == "residual" else {}
    algorithm = algorithms.vq_vae(net, optax.adam(1e-2), quantiser=chosen, **size)
    params, history = jax.jit(lambda key: fit(algorithm.init, epoch(algorithm, 32), data, key, 150))(KEY)
    assert algorithm.symbols is not None
    assert algorithm.lookup is not None
    symbols = algorithm.symbols(params, data.x[:8])
    vectors = {"lfq": 1}.get(kind, 2)
    assert symbols.shape == (8, vectors * len(algorithm.alphabet))
    assert len({tuple(s) for s in np.asarray(symbols).tolist()}) == 8  # each bar has symbols of its own
    z = algorithm.encode(params, data.x)
    np.testing.assert_array_equal(z, algorithm.lookup(params, algorithm.symbols(params, data.x)))
    assert float(algorithm.evaluate(params, data, jax.random.key(1))["reconstruction"].mean()) < 1.0
    assert 1.2 < float(history["batch_perplexity"][-1]) <= max(algorithm.alphabet) + 1e-3


def test_a_step_gives_the_encoder_the_decoders_gradient():
    net = networks.mlp((4,), 2, hidden=())
    algorithm = algorithms.vq_vae(net, optax.sgd(1.0), size=4, dimension=2, commitment=0.0, likelihood="squared")
    x = jnp.asarray(np.random.default_rng(5).random((6, 4)), jnp.float32)
    params = algorithm.init(KEY, Batch(x))
    update = lambda x: algorithm.rule.update(params, algorithm.rule.init(params), Batch(x), jax.random.key(1))[0]
    after = jax.jit(update)(x)
    z, decoder = np.asarray(algorithm.encode(params, x)), params["decoder"]["layer_0"]
    slope = (
        2
        * (z @ np.asarray(decoder["kernel"]) + np.asarray(decoder["bias"]) - np.asarray(x))
        @ np.asarray(decoder["kernel"]).T
    )
    expected = np.asarray(params["encoder"]["layer_0"]["kernel"]) - np.asarray(x).T @ slope / len(x)
    np.testing.assert_allclose(after["encoder"]["layer_0"]["kernel"], expected, rtol=1e-4, atol=1e-5)
    moved = jax.jit(update)(jnp.concatenate([x, x]))  # everything twice is the same step
    np.testing.assert_allclose(
        moved["encoder"]["layer_0"]["kernel"], after["encoder"]["layer_0"]["kernel"], rtol=1e-5, atol=1e-6
    )


def test_a_learned_codebook_pulls_vectors_to_codes_and_codes_to_vectors_by_their_weights():
    q = quantisers.learned(4, commitment=0.1)
    params = q.init(jax.random.key(1), H)
    slope, pull = jax.grad(lambda h, params: q.quantise(params, h).cost.sum(), (0, 1))(H, params)
    found = q.quantise(params, H)
    np.testing.assert_allclose(slope, 0.2 * (H - found.vectors), rtol=1e-5, atol=1e-6)  # eq. (3), its last term
    apart, hot = 2 * np.asarray(found.vectors - H), np.eye(4)[np.asarray(found.symbols)[:, 0]]
    np.testing.assert_allclose(pull["codebook"], hot.T @ apart, rtol=1e-4, atol=1e-5)
