"""Small problems with a known optimum. A new algorithm adds its line to `PROBES`, and every law is tested on it."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ae_jax import algorithms, networks
from ae_jax.core import Algorithm, Autoencoder, Batch, Optimizer, Rule
from ae_jax.corruption import corrupted, masking
from ae_jax.distributions.likelihoods import discretised_logistic

ENTROPY = float(np.log(8))  # of the bars, in nats: no bound on their negative log-likelihood is lower


def bars(times: int = 12) -> Batch:
    """The four rows and four columns of a 4x4 image, each equally often. x [8 * times, 4, 4, 1], y which one."""
    rows = np.repeat(np.eye(4)[:, :, None], 4, axis=2)
    images = np.concatenate([rows, rows.swapaxes(1, 2)])[..., None]
    return Batch(jnp.asarray(np.tile(images, (times, 1, 1, 1))), jnp.asarray(np.tile(np.arange(8), times)))


class Probe(NamedTuple):
    """An algorithm on the bars."""

    of: str  # its name in ALGORITHMS
    build: Callable[[Optimizer], Algorithm]
    optimum: float = 0.0  # of the loss that `evaluate` reports; it must not be beaten
    learning_rate: float = 1e-2
    whole: bool = True  # a reconstruction is what its code decodes to
    gap: float = 0.2  # the part of the loss's distance to the optimum that may be left after `EPOCHS`
    descends: bool = True  # the rule descends the metric "loss": not a game's, nor one of no loss at all


BATCH, EPOCHS = 32, 100  # 96 examples in three batches of one size: one more would be compiled for itself
net = partial(networks.mlp, (4, 4, 1), 4, hidden=(16,), activation="tanh")
shallow = partial(networks.mlp, (4, 4, 1), 12, hidden=(), code_activation="sigmoid")
masks_net = partial(networks.mlp, (4, 4, 1), 32, hidden=(), code_activation="relu")

boltzmann = partial(networks.rbm, (4, 4, 1), 16, scale=0.1)

PROBES: dict[str, Probe] = {
    "autoencoder": Probe(
        "autoencoder",
        lambda o: algorithms.autoencoder(net(dropout=0.1, tied=True), o, code_l2=1e-4, weight_l1=1e-4),
    ),
    "denoising": Probe("denoising", lambda o: algorithms.denoising(net(), o, level=0.1, likelihood="bernoulli")),
    "denoising_residual": Probe(
        "denoising",
        lambda o: algorithms.denoising(networks.residual(net()), o, level=0.1),
        whole=False,  # its code says what is to be corrected in x, not x
    ),
    "sparse": Probe("sparse", lambda o: algorithms.sparse(shallow(), o, target=0.2, weight=0.3)),
    "sparse_minibatch": Probe(
        "sparse",
        lambda o: algorithms.sparse(
            shallow(code_activation="tanh"), o, penalty="kl_minibatch", units="tanh", target=0.2, weight=0.3
        ),
    ),
    "k_sparse": Probe(
        "k_sparse",
        lambda o: algorithms.k_sparse(
            networks.mlp((4, 4, 1), 16, hidden=(), tied=True), o, k=4, start=8, anneal_steps=60
        ),
    ),
    "dictionary": Probe(
        "dictionary",
        lambda o: algorithms.dictionary(networks.linear((4, 4, 1), 16), o, k=4, dead_after=200),
        descends=False,  # on the sphere of unit rows: its step is not that of the loss alone
    ),
    "dictionary_of_batches": Probe(
        "dictionary",
        lambda o: algorithms.dictionary(
            networks.linear((4, 4, 1), 16), o, form="matryoshka", k=4, resample=True, dead_after=150
        ),
        gap=0.6,  # its short prefixes cannot reconstruct eight bars
        descends=False,
    ),
    "contractive": Probe("contractive", lambda o: algorithms.contractive(net(), o, weight=1e-3)),
    "contractive_denoising": Probe(
        "contractive",
        lambda o: algorithms.contractive(corrupted(net(), masking(0.1)), o, penalty="hutchinson", weight=1e-3),
    ),
    "contractive_higher": Probe(
        "contractive",
        lambda o: algorithms.contractive(
            shallow(tied=True), o, penalty="closed", weight=1e-3, higher=1e-3, corruptions=2
        ),
    ),
    "vae": Probe("vae", lambda o: algorithms.vae(net(heads=2), o, warmup_steps=50), ENTROPY, gap=0.4),
    "vae_gaussian": Probe(
        "vae",
        lambda o: algorithms.vae(net(heads=2), o, likelihood="gaussian", sigma=0.2, free_bits=0.05),
        optimum=ENTROPY + 8 * float(np.log(2 * np.pi * 0.2**2)),  # eight peaks that do not overlap
    ),
    "made": Probe("made", lambda o: algorithms.made(masks_net(), o, masks=3, direct=False), ENTROPY),
    "made_fresh": Probe(
        "made",
        lambda o: algorithms.made(
            masks_net(hidden=(24,), hidden_back=(), activation="tanh", code_activation="tanh"),
            o,
            masks=2,
            fresh=True,
            conditional=True,
        ),
        ENTROPY,
        whole=False,  # the direct weights tell outputs more than the code does
        gap=0.4,
    ),
    "importance": Probe("importance", lambda o: algorithms.importance(net(heads=2), o, samples=3), ENTROPY, gap=0.4),
    "vae_discretised": Probe(
        "vae",
        lambda o: algorithms.vae(net(heads=2, outputs=2), o, likelihood=discretised_logistic(2)),
        ENTROPY,
        gap=0.4,
    ),
    "beta_tc_vae": Probe(
        "beta_tc_vae",
        lambda o: algorithms.beta_tc_vae(net(heads=2), o, examples=96, beta=1.0),
        ENTROPY,
        gap=0.4,
        descends=False,  # its three terms compare examples; the loss of evaluation is the ELBO
    ),
    # the rest of these losses compares examples, or is a game
    "factor_vae": Probe(
        "factor_vae",
        lambda o: algorithms.factor_vae(net(heads=2), o, gamma=0.5, critic_widths=(16,)),
        ENTROPY,
        gap=0.4,
        descends=False,
    ),
    "dip_vae": Probe(
        "dip_vae",
        lambda o: algorithms.dip_vae(net(heads=2), o, covariance="codes", off_diagonal=0.1),
        ENTROPY,
        gap=0.4,
        descends=False,
    ),
    "info_vae": Probe(
        "info_vae",
        lambda o: algorithms.info_vae(net(heads=2), o, alpha=0.1, weight=2.0),
        ENTROPY,
        gap=0.4,
        descends=False,
    ),
    "info_vae_delta": Probe(
        "info_vae",
        lambda o: algorithms.info_vae(
            net(), o, posterior="delta", likelihood="squared", distance="sliced_wasserstein", weight=0.1, directions=5
        ),
        descends=False,
    ),
    "vamp": Probe("vamp", lambda o: algorithms.vamp(net(heads=2), o, components=8), ENTROPY, gap=0.4),
    "vade": Probe("vade", lambda o: algorithms.vade(net(heads=2), o, clusters=8), ENTROPY, gap=0.4),
    # gradients pass the quantiser straight through: they are not those of the loss
    "vq_vae": Probe("vq_vae", lambda o: algorithms.vq_vae(net(), o, size=16, dimension=2), descends=False),
    "vq_vae_learned": Probe(
        "vq_vae", lambda o: algorithms.vq_vae(net(), o, size=16, dimension=2, quantiser="learned"), descends=False
    ),
    # A machine of 16 units can hold the bars, whose pixels each follow from the rest: then x is certain given h.
    "rbm": Probe("rbm", lambda o: algorithms.rbm(boltzmann(), o, sample_steps=20), gap=0.4, descends=False),
    "rbm_persistent": Probe(
        "rbm",
        lambda o: algorithms.rbm(boltzmann(), o, steps=2, chains=10, weight_l2=1e-5, sample_steps=20),
        gap=0.6,
        descends=False,
    ),
    "rbm_gaussian": Probe(
        "rbm",
        lambda o: algorithms.rbm(boltzmann(), o, hidden_units="gaussian", sample_steps=20),
        gap=0.6,
        descends=False,
    ),
    "classifier": Probe("classifier", lambda o: algorithms.classifier(net(), o, classes=8)),
    "dec": Probe("dec", lambda o: algorithms.dec(net(), o, clusters=4), learning_rate=0.1, gap=0.5),
    "idec": Probe("dec", lambda o: algorithms.dec(net(), o, clusters=4, weight=0.1), learning_rate=0.03),
    "adversarial": Probe(
        "adversarial", lambda o: algorithms.adversarial(net(), o, critic_widths=(16,)), descends=False
    ),
    "adversarial_mixture": Probe(
        "adversarial",
        lambda o: algorithms.adversarial(
            networks.mlp((4, 4, 1), 2, hidden=(16,), dropout=0.1),
            o,
            prior="mixture",
            modes=8,
            conditional=True,
            critic_widths=(16,),
            critic_rate=0.5,
        ),
        gap=0.4,
        descends=False,
    ),
    "adversarial_labels": Probe(
        "adversarial_labels",
        lambda o: algorithms.adversarial_labels(
            networks.mlp((4, 4, 1), 10, hidden=(16,)), o, classes=8, labels=16, critic_widths=(16,)
        ),
        descends=False,
    ),
    "adversarial_style": Probe(
        "adversarial_style",
        lambda o: algorithms.adversarial_style(
            networks.mlp((4, 4, 1), 10, hidden=(16,)), o, classes=8, critic_widths=(16,)
        ),
        descends=False,
    ),
    "semantic_hashing": Probe("semantic_hashing", lambda o: algorithms.semantic_hashing(net(), o, code_noise=1.0)),
    "vae_multinomial": Probe(
        "vae",
        lambda o: algorithms.vae(net(heads=2), o, likelihood="multinomial"),
        optimum=ENTROPY + 4 * float(np.log(4)),  # which bar, and then each of its four pixels among the four
        gap=0.6,
    ),
}


def required(name: str) -> dict[str, int]:
    """The options of an algorithm that have no default: the number of examples, of which the bars have 96."""
    return {"examples": 96} if "examples" in inspect.signature(algorithms.ALGORITHMS[name]).parameters else {}


def build(name: str, optimizer: Optimizer | None = None) -> Algorithm:
    """The probe's algorithm, with Adam at the probe's learning rate unless another optimizer is given.

    Gradients below Adam's eps are rounding alone. With a smaller eps Adam would make a whole step of the order in which
    devices add up a gradient that is zero.
    """
    return PROBES[name].build(optimizer or optax.adam(PROBES[name].learning_rate, eps=1e-6))


def of_functions(encode, decode, /, **changes) -> Algorithm:
    """An algorithm without params that learns nothing: x -> encode(x) -> decode(z)."""
    none = lambda *given: {}
    return Algorithm(
        init=none,
        rule=Rule(none, lambda *given: ({}, (), {})),
        evaluate=none,
        encode=lambda params, x: encode(x),
        decode=lambda params, z: decode(z),
        reconstruct=lambda params, x: decode(encode(x)),
    )._replace(**changes)


def flat(tree) -> np.ndarray:
    """All numbers of a tree of arrays, in one vector."""
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def agrees_over_keys(recipe, data, count: int = 3):
    """Asserts that `recipe(key, data)`, compiled and mapped over keys, equals a call for each key. -> mapped."""
    keys = jax.random.split(jax.random.key(0), count)
    mapped = jax.jit(lambda keys, data: jax.vmap(lambda key: recipe(key, data))(keys))(keys, data)
    for i, key in enumerate(keys):
        alone = recipe(key, data)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5), mapped, alone)
    return mapped


def shaken(tree, size=0.3):
    """The tree with noise on every number: params away from their start."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: a + jnp.asarray(size * rng.normal(size=a.shape), a.dtype), tree)


def data(n: int = 6, seed: int = 0) -> Batch:
    """n examples of four numbers in [0, 1], in float64 under the fixture of that name."""
    return Batch(jnp.asarray(np.random.default_rng(seed).random((n, 4))))


def params_of(net: Autoencoder, seed: int = 1):
    """Random params of a network on `data`, biases and log-variances among them."""
    r = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(r.normal(size=p.shape)), net.init(jax.random.key(0), data()))


def stepped(algorithm: Algorithm, params, batch: Batch, key=None):
    """Params and metrics after one update, not compiled."""
    key = jax.random.key(0) if key is None else key
    params, _, metrics = algorithm.rule.update(params, algorithm.rule.init(params), batch, key)
    return params, metrics


def same(a, b, rtol: float = 1e-12) -> None:
    """Asserts that two trees agree."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12), a, b)


def same_bits(a, b) -> bool:
    """Whether the arrays of two trees are equal."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)
