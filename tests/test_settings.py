"""Settings: what config.json says builds again what was built, and optimizers are what their names say."""

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import required

from ae_jax import networks
from ae_jax.algorithms import ALGORITHMS
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.networks import NETWORKS
from ae_jax.training.settings import OptimizerSettings, Settings, build, heads, optimizer


def settings(**changes):
    given = dict(algorithm="autoencoder", network="mlp", data="digits", latents=3, epochs=2, batch_size=32, seeds=(0,))
    return Settings(**(given | changes))


def test_settings_survive_json():
    chosen = settings(
        network_options={"hidden": (40, 20)},
        data_options={"patch": (8, 6)},
        optimizer=OptimizerSettings(name="sgd", lr=0.1, clip=1.0),
        seeds=(0, 1),
    )
    assert Settings.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    with pytest.raises(RunError, match="not of this version"):
        Settings.from_json(chosen.to_json() | {"colour": "blue"})


def trajectory(chosen, epochs=4, steps=5):
    """Weights and biases under the constant gradient 1, after every step. -> [steps, 2]."""
    o = optimizer(chosen, epochs, steps)
    params = {"w": jnp.ones((1, 1)), "b": jnp.ones((1,))}
    state, rows = o.init(params), []
    for _ in range(epochs * steps):
        updates, state = o.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
        rows.append([float(params["w"][0, 0]), float(params["b"][0])])
    return np.array(rows)


def rates(chosen):
    return -np.diff(np.concatenate([[1.0], trajectory(chosen)[:, 1]]))  # sgd without momentum: its learning rates


def test_schedules_are_what_they_say():
    sgd = dict(name="sgd", lr=0.1, momentum=0.0)
    np.testing.assert_allclose(rates(OptimizerSettings(**sgd)), 0.1, rtol=1e-4)
    t = np.arange(20)
    cosine = 0.05 * (1 + np.cos(np.pi * t / 20))
    np.testing.assert_allclose(rates(OptimizerSettings(**sgd, schedule="cosine")), cosine, atol=1e-6)
    np.testing.assert_allclose(rates(OptimizerSettings(**sgd, schedule="linear")), 0.1 * (1 - t / 20), atol=1e-6)
    warm = rates(OptimizerSettings(**sgd, schedule="linear", warmup_epochs=1))
    np.testing.assert_allclose(warm[:5], 0.1 * t[:5] / 5, atol=1e-6)
    np.testing.assert_allclose(warm[5:], 0.1 * (1 - t[:15] / 15), atol=1e-6)


def test_weight_decay_is_decoupled_and_spares_biases():
    decayed = trajectory(OptimizerSettings(lr=0.01, weight_decay=0.5))
    plain = trajectory(OptimizerSettings(lr=0.01))
    reference = optax.adamw(0.01, weight_decay=0.5, mask={"w": True, "b": False})
    params = {"w": jnp.ones((1, 1)), "b": jnp.ones((1,))}
    updates, _ = reference.update(jax.tree.map(jnp.ones_like, params), reference.init(params), params)
    np.testing.assert_allclose(decayed[0, 0], 1 + updates["w"][0, 0], rtol=1e-6)
    np.testing.assert_allclose(decayed[:, 1], plain[:, 1])
    assert (decayed[:, 0] < plain[:, 0]).all()


def test_clipping_bounds_the_global_norm():
    clipped = rates(OptimizerSettings(name="sgd", lr=0.1, momentum=0.0, clip=0.5))
    np.testing.assert_allclose(clipped, 0.1 * 0.5 / 2**0.5, rtol=1e-4)  # the gradient (1, 1) has norm sqrt 2


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"lr": 0.0}, "lr is 0"),
        ({"clip": -1.0}, "clip is -1"),
        ({"warmup_epochs": 4.0}, "warmup_epochs is 4"),
        ({"name": "adamant"}, "optimizer is 'adamant'; it must be one of adam,"),
        ({"schedule": "cosin"}, "schedule is 'cosin'; it must be one of .*cosine"),
    ],
)
def test_wrong_optimizers(wrong, match):
    with pytest.raises(ValueError, match=match):
        optimizer(OptimizerSettings(**wrong), 4, 5)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"algorithm": "vea"}, "algorithm is 'vea'; it must be one of .*autoencoder"),
        ({"network": "cnn"}, "network is 'cnn'; it must be one of .*conv"),
        ({"hyper": {"beta": 1.0}}, "autoencoder has no beta"),
        ({"network_options": {"heads_up": 1}}, "mlp has no heads_up"),
        ({"hyper": {"likelihood": "bernoulli"}, "network_options": {"output_activation": "sigmoid"}}, "takes logits"),
        ({"algorithm": "made", "network_options": {"output_activation": "sigmoid"}}, "MADE takes logits"),
        (
            {"algorithm": "rbm", "network_options": {"output_activation": "sigmoid", "tied": True, "hidden": ()}},
            "a Boltzmann machine takes logits",
        ),
        ({"algorithm": "vae", "network_options": {"output_activation": "sigmoid"}}, "bernoulli takes logits"),
        (
            {"hyper": {"likelihood": "multinomial"}, "network_options": {"output_activation": "sigmoid"}},
            "multinomial takes logits",
        ),
        ({"algorithm": "denoising", "noise": "masking"}, "corrupts its input already"),
        ({"algorithm": "sparse", "network": "linear"}, "needs sigmoid codes"),
    ],
)
def test_wrong_settings(changes, match):
    with pytest.raises(ValueError, match=match):
        build(settings(**changes), (8, 8, 1), 100)


def test_a_squared_error_may_have_any_output():
    build(settings(network_options={"output_activation": "sigmoid"}), (6,), 100)
    build(settings(algorithm="dec", network_options={"output_activation": "sigmoid"}), (6,), 100)


USES_APPLY = {"autoencoder", "classifier", "contractive", "dec", "denoising", "sparse"}
RESIDUAL, SWITCH = {"residual": True}, {"down": "pool", "up": "switch"}


@pytest.mark.parametrize("more", [RESIDUAL, SWITCH], ids=["residual", "switch"])
@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"made", "rbm"}))  # these take dense layers alone
def test_who_decodes_codes_alone_takes_no_network_that_makes_more_of_an_input(name, more):
    squared = {"likelihood": "squared"} if name == "contractive" else {}  # in data space, where a residual is added
    network = {"channels": (2,), **more}
    chosen = settings(algorithm=name, network="conv", latents=4, network_options=network, hyper=squared)
    if name in USES_APPLY:
        build(chosen, (4, 4, 1), 50)
    else:
        with pytest.raises(ValueError, match=r"and the .* \((residual|up: switch)\), and this algorithm decodes codes"):
            build(chosen, (4, 4, 1), 50)


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - USES_APPLY))
def test_in_python_they_refuse_it_too(name):
    needs = heads(name)
    net = NETWORKS[needs.network]((4,), 3, heads=needs.number)
    ALGORITHMS[name](net, optax.sgd(0.1), **required(name))
    with pytest.raises(ValueError, match=r"its code and the input \(residual\)"):
        ALGORITHMS[name](networks.residual(net), optax.sgd(0.1), **required(name))


LOGITS = ("adversarial", "adversarial_labels", "adversarial_style", "contractive", "importance", "made", "rbm", "vae")


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("output", ["sigmoid", jax.nn.sigmoid], ids=["name", "function"])
def test_logits_are_asked_for_in_python_too(name, output):
    make, needs = ALGORITHMS[name], heads(name)
    given = {"likelihood": "bernoulli"} if "likelihood" in inspect.signature(make).parameters else {}
    tied = {"hidden": (), "tied": True} if name == "rbm" else {}
    net = networks.mlp((4,), 3, heads=needs.number, output_activation=output, **tied)
    with pytest.raises(ValueError, match=r"the output is sigmoid, and .* takes logits"):
        make(net, optax.sgd(0.1), **given)


@pytest.mark.parametrize(
    "name", ["adversarial_labels", "adversarial_style", "importance", "rbm", "semantic_hashing", "vae"]
)
def test_who_needs_numbers_of_any_sign_for_a_code_refuses_others(name):
    tied = {"hidden": (), "tied": True} if name == "rbm" else {}
    net = networks.mlp((4,), 3, heads=heads(name).number, code_activation="sigmoid", **tied)
    with pytest.raises(ValueError, match="code is sigmoid and must be linear"):
        ALGORITHMS[name](net, optax.sgd(0.1), **required(name))


def test_a_residual_is_added_in_data_space_alone():
    with pytest.raises(ValueError, match="the output is residual"):
        ALGORITHMS["autoencoder"](networks.residual(networks.mlp((4,), 3)), optax.sgd(0.1), likelihood="bernoulli")


@pytest.mark.parametrize(
    ("name", "hyper", "told"),
    [
        ("vae", {"sigma": 0.1}, "sigma=0.1 has no effect with likelihood"),
        ("importance", {"sigma": 0.1, "likelihood": "multinomial"}, "sigma=0.1 has no effect with likelihood"),
        ("vae", {"warmup_steps": -1}, "must not be negative"),
        ("k_sparse", {"k": 1, "start": 3}, "anneal_steps 0; .*give both or neither"),
        ("k_sparse", {"k": 1, "start": 3, "anneal_steps": -5}, "anneal_steps is -5"),
    ],
)
def test_what_would_be_ignored_is_refused(name, hyper, told):
    net = networks.mlp((4,), 3, heads=heads(name).number)
    with pytest.raises(ValueError, match=told):
        ALGORITHMS[name](net, optax.sgd(0.1), **required(name), **hyper)


@pytest.mark.parametrize("hyper", [{"weight": -0.1}, {"higher": -1.0}, {"weight_l2": -1e-4}])
def test_a_penalty_that_would_reward_is_refused(hyper):
    with pytest.raises(ValueError, match="must not be negative"):
        ALGORITHMS["contractive"](networks.mlp((4,), 3), optax.sgd(0.1), **hyper)


@pytest.mark.parametrize("optimizer", [{"schedule": "cosine"}, {"warmup_epochs": 0.5}])
def test_pretraining_has_a_constant_learning_rate(optimizer):
    data = Batch(jax.random.uniform(jax.random.key(0), (300, 6)), jnp.zeros(300, int))  # three steps a pass
    made = {"algorithm": "dec", "epochs": 1, "batch_size": 300, "hyper": {"pretrain_epochs": 2, "clusters": 3}}
    begun = lambda **given: build(settings(**made, optimizer=OptimizerSettings(**given)), (6,), 300).init(
        jax.random.key(1), data
    )
    for a, b in zip(jax.tree.leaves(begun()), jax.tree.leaves(begun(**optimizer)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_warmed_up_for_most_of_its_epochs_is_opened_again():
    chosen = settings(epochs=1, optimizer=OptimizerSettings(warmup_epochs=0.6))
    build(chosen, (6,), 1000)
    build(chosen, (6,), 1)  # as `runs.open_run` does, which has no data
    with pytest.raises(ValueError, match=r"warmup_epochs is 1.*; the run has 1 epoch$"):
        build(settings(epochs=1, optimizer=OptimizerSettings(warmup_epochs=1.0)), (6,), 1000)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_gets_the_codes_it_needs(name):
    network = heads(name).network
    algorithm = build(settings(algorithm=name, network=network), (6,), 100)
    x = jnp.asarray(np.random.default_rng(0).random((5, 6)), jnp.float32)
    from ae_jax.core import Batch

    params = algorithm.init(jax.random.key(0), Batch(x, jnp.arange(5) % 2))
    kernel = params["encoder"]["layer_1" if network == "mlp" else "layer_0"]["kernel"]
    assert kernel.shape[1] == 3 * heads(name).number
    assert algorithm.encode(params, x).shape == (5, 3)
    if heads(name).activation == "sigmoid":
        assert (np.asarray(algorithm.encode(params, x)) > 0).all()


def test_noise_is_seen_in_training_only():
    noisy = build(settings(noise="masking", noise_level=0.5), (6,), 100)
    clean = build(settings(), (6,), 100)
    from ae_jax.core import Batch

    batch = Batch(jnp.ones((4, 6)))
    params = clean.init(jax.random.key(0), batch)
    key = jax.random.key(1)
    step = lambda a: a.rule.update(params, a.rule.init(params), batch, key)[2]["loss"]
    assert step(noisy) != step(clean)
    assert noisy.evaluate(params, batch, key)["loss"][0] == clean.evaluate(params, batch, key)["loss"][0]
    assert noisy.corrupt is not None


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}])
def test_a_run_has_epochs_and_batches(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is 0; it must be at least 1"):
        Settings(
            **(
                {"algorithm": "vae", "network": "mlp", "data": "digits", "latents": 2, "epochs": 1}
                | {"batch_size": 8, "seeds": (0,), **wrong}
            )
        )
