"""Parts without which a run still seems to work: a decoder's noise, a critic, the second draw of a Gibbs step."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import bars, data, flat, params_of, stepped

from ae_jax import algorithms, core, networks
from ae_jax.app.commands import coding, runs
from ae_jax.core import address
from ae_jax.data.checks import check_labels
from ae_jax.objectives import boltzmann, game
from ae_jax.objectives import masks as autoregressive

KEY = jax.random.key(0)
DATA = bars(2)


# --------------------------------------------------------------------------------------------- the chain's law


def states(n):
    return jnp.asarray(np.indices((2,) * n).reshape(n, -1).T, jnp.float32)  # [2^n, n]


def total_variation(chains, steps=60, count=20_000):
    """Distance of the visible units of `chains(machine, params, v, key)` after `steps` steps from the exact law."""
    net = networks.rbm((4,), 4, scale=1.5)
    machine, params = boltzmann.machine(net), net.init(KEY, core.Batch(jnp.zeros((1, 4))))
    exact = jax.nn.softmax(-machine.free_energy(params, states(4)))
    v = machine.visible_noise(params, address(KEY, "begin"), count)
    v = jax.jit(partial(chains, machine), static_argnums=3)(params, v, address(KEY, "chain"), steps)
    index = (np.asarray(v) @ 2 ** np.arange(3, -1, -1)).astype(int)
    return 0.5 * np.abs(np.bincount(index, minlength=16) / count - np.asarray(exact)).sum()


def test_the_chain_has_the_machines_law():
    assert total_variation(lambda machine, *given: machine.gibbs(*given)) < 0.02  # .01 by chance, of 20,000 draws


def test_one_key_for_both_sides_of_a_step_would_be_seen():
    def gibbs(machine, params, v, key, steps):
        def step(t, v):
            one = address(key, t)
            return machine.visible.draw(one, machine.down(params, v, one))

        return jax.lax.fori_loop(0, steps, step, v)

    assert total_variation(gibbs) > 0.03


# ------------------------------------------------------------------------------------------ the decoder's noise


def noisy_decoder(net, level):
    """The network with noise in its decoder alone, in training."""

    def decode(params, z, key=None):
        out = net.decode(params, z)
        return out if key is None else out + level * jax.random.normal(key, out.shape)

    def apply(params, x, key=None):
        key_decoder = None if key is None else address(key, "decoder")
        z = net.encode(params, x)
        return z, decode(params, z, key_decoder)

    return net._replace(decode=decode, apply=apply)


MLP = partial(networks.mlp, (4, 4, 1), hidden=(6,))
SIGMOID = partial(MLP, 6, code_activation="sigmoid")
DECODES = {  # members whose decoder learns; an RBM's is its encoder, and its units are noise enough
    "autoencoder": (algorithms.autoencoder, MLP(4)),
    "denoising": (algorithms.denoising, MLP(4)),
    "sparse": (algorithms.sparse, SIGMOID()),
    "k_sparse": (partial(algorithms.k_sparse, k=2), MLP(6)),
    "dictionary": (partial(algorithms.dictionary, k=2), networks.linear((4, 4, 1), 6)),
    "contractive": (algorithms.contractive, MLP(4)),
    "vae": (algorithms.vae, MLP(4, heads=2)),
    "importance": (partial(algorithms.importance, samples=3), MLP(4, heads=2)),
    "beta_tc_vae": (partial(algorithms.beta_tc_vae, examples=96), MLP(4, heads=2)),
    "factor_vae": (partial(algorithms.factor_vae, critic_widths=(8,)), MLP(4, heads=2)),
    "dip_vae": (algorithms.dip_vae, MLP(4, heads=2)),
    "info_vae": (algorithms.info_vae, MLP(4, heads=2)),
    "vamp": (partial(algorithms.vamp, components=8), MLP(4, heads=2)),
    "vade": (partial(algorithms.vade, clusters=3), MLP(4, heads=2)),
    "vq_vae": (partial(algorithms.vq_vae, size=8), MLP(4)),
    "made": (algorithms.made, networks.mlp((4, 4, 1), 32, hidden=(), code_activation="relu")),
    "dec": (partial(algorithms.dec, clusters=3, weight=0.1), MLP(4)),
    "adversarial": (algorithms.adversarial, MLP(4)),
    "adversarial_labels": (partial(algorithms.adversarial_labels, classes=8), MLP(10)),
    "adversarial_style": (partial(algorithms.adversarial_style, classes=8), MLP(10)),
    "semantic_hashing": (algorithms.semantic_hashing, MLP(4)),
}


def test_every_member_with_a_decoder_is_here():
    assert set(DECODES) == set(algorithms.ALGORITHMS) - {"rbm", "classifier"}  # a classifier's decoder does not learn


@pytest.mark.parametrize("name", DECODES)
def test_noise_in_the_decoder_alone_changes_a_step(name):
    make, net = DECODES[name]

    @jax.jit
    def step(level, key, data):
        algorithm = make(noisy_decoder(net, level), optax.sgd(1.0))
        params = algorithm.init(address(KEY, "init"), data)
        return algorithm.rule.update(params, algorithm.rule.init(params), data, key)[0]["decoder"]

    quiet, noisy, other = (flat(step(v, address(KEY, k), DATA)) for v, k in ((0.0, "a"), (1.0, "a"), (1.0, "b")))
    assert np.abs(noisy - quiet).max() > 1e-3
    assert np.abs(noisy - other).max() > 1e-3


@pytest.mark.parametrize("tied", [False, True])
def test_a_networks_dropout_reaches_its_decoder(tied):
    net = MLP(4, dropout=0.5, tied=tied)
    params = net.init(KEY, DATA)
    z = net.encode(params, DATA.x)
    one, two = (net.decode(params, z, address(KEY, i)) for i in range(2))
    assert np.abs(one - two).max() > 1e-3
    # both halves, by keys of their own: the output is not that of the decoder alone
    code, out = net.apply(params, DATA.x, KEY)
    assert np.abs(out - net.decode(params, code)).max() > 1e-3
    assert np.abs(code - z).max() > 1e-3


# --------------------------------------------------------------------------------------------------- critics


def critics_only(rate):
    """Plain gradient descent of the critics' groups; all others stay."""
    scale = lambda group: -rate if group.endswith("critic") else 0.0
    step = lambda g, s, p=None: ({k: jax.tree.map(lambda a, k=k: scale(k) * a, v) for k, v in g.items()}, s)
    return optax.GradientTransformation(lambda params: (), step)


@pytest.mark.parametrize("name", ["adversarial", "adversarial_labels", "adversarial_style"])
def test_critics_learn_to_tell_codes_from_the_prior(name):
    make, net = DECODES[name]
    algorithm = make(net, critics_only(0.3), critic_widths=(16,))

    @jax.jit
    def run(key, data):
        params = algorithm.init(address(key, "init"), data)
        rule = core.repeat(algorithm.rule, 5)  # means over five draws of the prior
        _, _, first = rule.update(params, rule.init(params), data, address(key, "first"))
        rule = core.repeat(algorithm.rule, 300)
        after, _, _ = rule.update(params, rule.init(params), data, address(key, "epoch"))
        rule = core.repeat(algorithm.rule, 5)
        return params, after, first, rule.update(after, rule.init(after), data, address(key, "last"))[2]

    params, after, first, last = run(KEY, DATA)
    groups = [group for group in params if group.endswith("critic")]
    assert groups
    for group in groups:
        assert np.abs(flat(after[group]) - flat(params[group])).max() > 0.05
        assert last[group] < first[group] - 0.1
        assert last[group] < 2 * np.log(2) - 0.2, "below what a critic that tells nothing has"
        assert last[group.removesuffix("critic") + "confusion"] > np.log(2) + 0.1  # codes are found out
    np.testing.assert_array_equal(flat(after["encoder"]), flat(params["encoder"]))


# ------------------------------------------------------------------------------------------ labels and noise


def encoder_after(algorithm, params, data=DATA, name="step"):
    return flat(algorithm.rule.update(params, algorithm.rule.init(params), data, address(KEY, name))[0]["encoder"])


def test_other_labels_teach_the_encoder_something_else():
    make, net = DECODES["adversarial_labels"]
    algorithm = make(net, optax.sgd(1.0), labels=16)
    params = algorithm.init(KEY, DATA)
    others = params | {"labelled": params["labelled"]._replace(y=(params["labelled"].y + 1) % 8)}
    assert np.abs(encoder_after(algorithm, params) - encoder_after(algorithm, others)).max() > 1e-3


def test_the_noise_of_hashing_acts_on_codes_in_training():
    quiet, noisy = (
        algorithms.semantic_hashing(DECODES["semantic_hashing"][1], optax.sgd(1.0), code_noise=s) for s in (0.0, 4.0)
    )
    params = quiet.init(KEY, DATA)
    np.testing.assert_array_equal(encoder_after(quiet, params), encoder_after(quiet, params, name="other"))
    assert np.abs(encoder_after(quiet, params) - encoder_after(noisy, params)).max() > 1e-3
    assert np.abs(encoder_after(noisy, params) - encoder_after(noisy, params, name="other")).max() > 1e-3


def test_a_hashing_loss_is_the_cross_entropy_of_decoded_bits():
    with jax.enable_x64(True):
        batch = data()
        params = params_of(networks.linear((4,), 3))
        algorithm = algorithms.semantic_hashing(networks.linear((4,), 3), optax.sgd(1.0), code_noise=0.0, weight_l2=0.3)
        (w, b), (v, c) = (
            [np.asarray(params[group]["layer_0"][name]) for name in ("kernel", "bias")]
            for group in ("encoder", "decoder")
        )
        x = np.asarray(batch.x)
        logits = 1 / (1 + np.exp(-(x @ w + b))) @ v + c
        expected = (np.logaddexp(0, logits) - x * logits).sum(1) + 0.3 * (np.square(w).sum() + np.square(v).sum())
        np.testing.assert_allclose(algorithm.evaluate(params, batch, KEY)["loss"], expected, rtol=1e-12)
        np.testing.assert_allclose(stepped(algorithm, params, batch)[1]["loss"], expected.mean(), rtol=1e-12)


def test_a_conditional_critic_is_told_the_label_with_the_prior_and_with_the_code(monkeypatch):
    told = {}

    def played(judge, prior, codes, *rest):
        told.update(prior=prior, codes=codes)
        return core.assign(lambda params, batch, key: {})

    monkeypatch.setattr(game, "game", played)
    algorithm = algorithms.adversarial(
        MLP(2), optax.sgd(0.1), prior="mixture", modes=8, conditional=True, critic_widths=(4,)
    )
    params = algorithm.init(KEY, DATA)
    for draw in told.values():
        np.testing.assert_array_equal(draw(params, DATA, KEY)[:, 2:], np.eye(8)[np.asarray(DATA.y)])


# ------------------------------------------------------------------------------------------ masks and weights


def test_masks_join_equal_degrees_but_for_the_outputs():
    params = networks.mlp((3,), 2, hidden=()).init(KEY, core.Batch(jnp.ones((1, 3))))
    degrees = jnp.asarray([1, 2, 3, 1, 2])  # of three inputs and two units
    kept = autoregressive.masked(jax.tree.map(jnp.ones_like, params), degrees)
    np.testing.assert_array_equal(kept["encoder"]["layer_0"]["kernel"], [[1, 1], [0, 1], [0, 0]])
    np.testing.assert_array_equal(kept["decoder"]["layer_0"]["kernel"], [[0, 1, 1], [0, 0, 1]])


def test_a_contractive_loss_is_its_parts():
    net = SIGMOID()
    algorithm = algorithms.contractive(net, optax.sgd(0.0), weight=0.7)
    params = algorithm.init(KEY, DATA)
    _, _, metrics = algorithm.rule.update(params, algorithm.rule.init(params), DATA, address(KEY, "step"))
    jacobian = jax.vmap(jax.jacrev(lambda x: net.encode(params, x[None])[0]))(DATA.x)
    norm = np.square(np.asarray(jacobian)).reshape(len(DATA.x), -1).sum(1).mean()
    assert float(metrics["loss"] - metrics["reconstruction"]) == pytest.approx(0.7 * norm, rel=1e-3)


def test_labels_stay_as_they_are():
    y = np.array([0, 2, 1, -1])
    np.testing.assert_array_equal(check_labels(y, 4, "the file"), y)


def test_samples_are_of_the_key_that_is_asked(monkeypatch, tmp_path):
    algorithm = SimpleNamespace(sample=lambda params, key, n: jax.random.uniform(key, (n, 4)), draw=None)
    opened = SimpleNamespace(
        algorithm=algorithm,
        in_data_units=algorithm,
        params={},
        sources=[],
        columns=(),
        settings=SimpleNamespace(data="digits", algorithm="vae"),
    )
    monkeypatch.setattr(runs, "open_run", lambda workdir, seed: opened)
    one, again, two = (coding.sample(tmp_path, 3, tmp_path / "x.npy", key=key)[0] for key in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, jax.random.uniform(address(jax.random.key(1), "sampling"), (3, 4)))
    assert not np.allclose(one, two)
