"""Settings that cannot do what they say are refused by their name, before anything is computed."""

import inspect
import json
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Literal, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from probes import required

from ae_jax import algorithms, corruption, data, networks, optimizers
from ae_jax.app.commands import coding, loading, measuring, runs, training
from ae_jax.app.flags import as_flags, parse, settings_of
from ae_jax.checks import PORTION, Needs, Range, annotations_of, asked_of
from ae_jax.core import Batch
from ae_jax.distributions.priors import prior
from ae_jax.errors import RunError
from ae_jax.evaluation import logistic_pca, probes, statistics
from ae_jax.objectives import game
from ae_jax.training import loop
from ae_jax.training.run_folder import Folder
from ae_jax.training.settings import OptimizerSettings, Settings, build, check_options, check_updates, heads, optimizer

NAN, INF = float("nan"), float("inf")
RANGES = {
    (name, option): r for name, make in algorithms.ALGORITHMS.items() for option, r in asked_of(make, Range).items()
}


def net_for(name, **options):
    if heads(name).network == "rbm":
        return networks.rbm((4,), 4)
    return networks.mlp((4,), 4, hidden=(), heads=heads(name).number, code_activation=heads(name).activation, **options)


def made(name, **hyper):
    return algorithms.ALGORITHMS[name](net_for(name), optax.sgd(0.1), **required(name) | hyper)


@pytest.mark.parametrize("case", RANGES, ids="-".join)
def test_a_number_outside_its_range_is_refused_by_name(case):
    name, option = case
    wide = option.endswith("widths")
    for wrong in (-1, 0) if wide else (NAN, INF, -INF, -1, -1e-3, "x", 10**400):
        with pytest.raises(ValueError, match=rf"^{option} is "):
            made(name, **{option: (8, wrong) if wide else wrong})
    if RANGES[case].whole:
        for wrong in (4.5, 4.0, True):
            with pytest.raises(ValueError, match=rf"^{option} is {wrong}; .* whole number"):
                made(name, **{option: (8, wrong) if wide else wrong})
    if RANGES[case].open:
        with pytest.raises(ValueError, match=rf"^{option} is 0"):
            made(name, **{option: 0.0})


def choices(annotation):
    """The names among the values of an annotation; () if it has none."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((names for part in get_args(annotation) if (names := choices(part))), ())


NAMES = [
    (name, option)
    for name, make in algorithms.ALGORITHMS.items()
    for option, annotation in inspect.get_annotations(make, eval_str=True).items()
    if choices(annotation)
]


@pytest.mark.parametrize("case", NAMES, ids="-".join)
def test_another_name_than_those_of_an_option_is_refused_in_python_too(case):
    name, option = case
    beside = IDLE[case][2] if case in IDLE else {}
    with pytest.raises(ValueError, match=rf"^{option.removesuffix('_units')} is 'nameless'; it must be one of "):
        made(name, **{option: "nameless"}, **beside)


def test_every_member_that_decays_or_weighs_has_its_ranges():
    """A number without a range is found by the signature."""
    for name, make in algorithms.ALGORITHMS.items():
        for option, parameter in inspect.signature(make).parameters.items():
            if isinstance(parameter.default, float):
                assert (name, option) in RANGES


def test_schedules_and_swept_values_pass():
    made("vae", beta=optax.linear_schedule(0.0, 1.0, 5))
    made("autoencoder", weight_l2=np.float32(0.5), code_l2=jnp.asarray(0.1))
    jax.vmap(lambda h: (made("vae", free_bits=h), h)[1])(jnp.asarray([-1.0, 1.0]))  # whoever sweeps keeps to the range
    with pytest.raises(TypeError, match="net is a Dense; wanted: an Autoencoder"):
        algorithms.vae(linen.Dense(3), optax.sgd(0.1))  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [NAN, INF, -INF, -1.0])
@pytest.mark.parametrize("kind", ["masking", "gaussian", "salt_and_pepper", "patches", "bar", "grey", "low_resolution"])
def test_a_level_without_sense_is_refused_by_name(kind, level):
    with pytest.raises(ValueError, match=kind):
        corruption.corruption(kind, level)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lr": NAN}, "lr"),
        ({"lr": INF}, "lr"),
        ({"lr": 0.0}, "lr"),
        ({"clip": NAN}, "clip"),
        ({"clip": 0.0}, "clip"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": NAN}, "weight_decay"),
        ({"momentum": NAN}, "momentum"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"warmup_epochs": NAN}, "warmup_epochs"),
        ({"warmup_epochs": INF}, "warmup_epochs"),
        ({"warmup_epochs": 3.0}, "warmup_epochs"),
    ],
)
def test_an_optimizers_settings_are_checked(given, told):
    with pytest.raises(ValueError, match=told):
        optimizer(OptimizerSettings(**given), 3, 5)


def test_a_priors_scale_and_a_networks_are_checked():
    for scale in (0.0, -1.0, NAN, INF):
        with pytest.raises(ValueError, match="scale"):
            prior("gaussian", 2, scale)
    for wrong in (NAN, -0.1, 1.1, INF):
        with pytest.raises(ValueError, match="dropout"):
            networks.mlp((4,), 2, dropout=wrong)


def test_a_range_tells_what_was_given_and_what_is_wanted():
    PORTION.check("p", 0)
    PORTION.check("p", 1)
    PORTION.check("p", None)
    with pytest.raises(ValueError, match=r"^p is 1\.5; it must be a fraction between 0 and 1$"):
        PORTION.check("p", 1.5)


# --------------------------------------------------------------------------------------------- of the whole run

RUN = Settings(algorithm="vae", network="mlp", data="digits", latents=4, epochs=3, batch_size=10, seeds=(0,))


@pytest.mark.parametrize(("name", "option"), [("vae", "warmup_steps"), ("k_sparse", "anneal_steps")])
def test_a_schedule_that_outlasts_the_run_is_refused(name, option):
    run = lambda steps: replace(RUN, algorithm=name, hyper={option: steps})
    check_updates(run(14), 45)  # 3 epochs of 5 steps: the last of 15 updates is at the end of it
    check_updates(run(None), 45)
    for steps in (15, 1_000_000):
        with pytest.raises(ValueError, match=rf"{option} is {steps}, and the run has 15 updates \(3 epochs of 5\)"):
            check_updates(run(steps), 45)


def test_the_last_update_of_a_warm_up_that_is_taken_has_the_whole_weight():
    algorithm = made("vae", warmup_steps=14)
    x = Batch(jnp.full((4, 4), 0.5))
    params = algorithm.init(jax.random.key(0), x)
    memory = algorithm.rule.init(params)._replace(step=jnp.asarray(14))  # of updates 0 to 14
    *_, metrics = algorithm.rule.update(params, memory, x, jax.random.key(1))
    assert metrics["beta"] == 1


def test_annealing_without_a_start_and_no_labels_among_labels_are_refused():
    with pytest.raises(ValueError, match=r"start is None and anneal_steps 5; .*: give both or neither"):
        made("k_sparse", k=1, anneal_steps=5)
    for labels in (0, -1):
        with pytest.raises(ValueError, match=f"labels is {labels}; give at least 1"):
            made("adversarial_labels", labels=labels)
    made("adversarial_labels", labels=None)


def splits(x, words=None):
    batch = Batch(jnp.asarray(x, jnp.float32))
    dataset = data.Dataset("some", batch, batch, "made")
    return loading.Splits(replace(dataset, vocabulary=words) if words else dataset, batch, None, batch)


IMAGES, COUNTS = np.full((3, 2, 2, 1), 0.5), np.array([[0, 3], [2, 1]])


@pytest.mark.parametrize(
    ("algorithm", "hyper", "given", "told"),
    [
        ("vae", {"likelihood": "multinomial"}, splits(IMAGES), "multinomial wants counts of words, and .* images"),
        (
            "vae",
            {"likelihood": "multinomial"},
            splits(-COUNTS),
            "counts of words, and .* values from -3",
        ),
        ("vae", {"likelihood": "bernoulli"}, splits(COUNTS), "has values from 0 to 3"),
        ("made", {}, splits(COUNTS), "has values from 0 to 3"),
        ("rbm", {"visible_units": "bernoulli"}, splits(COUNTS), "has values from 0 to 3"),
        ("vae", {"likelihood": "bernoulli"}, splits(COUNTS / 3, ("a", "b")), "bits, and documents are counts"),
        ("vae", {"likelihood": "bernoulli"}, splits(IMAGES), None),  # grey values as probabilities
        ("vae", {"likelihood": "multinomial"}, splits(COUNTS), None),
        ("vae", {"likelihood": "multinomial"}, splits(COUNTS / 3, ("a", "b")), None),
        ("rbm", {"visible_units": "gaussian"}, splits(COUNTS), None),
        ("autoencoder", {"likelihood": "squared"}, splits(COUNTS), None),
    ],
)
def test_a_likelihood_that_is_not_the_datas_is_refused(algorithm, hyper, given, told):
    check = partial(loading.check_likelihood, replace(RUN, algorithm=algorithm, hyper=hyper), given)
    if told is None:
        check()
    else:
        with pytest.raises(ValueError, match=told):
            check()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: made("vae", warmup_steps=10**30), "warmup_steps is 10+; a whole number here is at most"),
        (lambda: made("rbm", steps=10**30), "steps is 10+; a whole number here is at most"),
        (lambda: made("dec", measured=0), "measured is 0; it must be a whole number"),
        (lambda: made("vae", beta=1e39), r"beta is 1e\+39; it must not be negative, and must be finite"),
        (lambda: made("vae", beta="1"), "beta is 1; it must not"),
        (lambda: networks.rbm((4,), 2, scale=NAN), "scale is nan"),
        (lambda: networks.rbm((4,), 2, scale=-1.0), "scale is -1"),
        (lambda: optimizers.momentum(NAN, 1), "learning_rate is nan"),
        (lambda: optimizers.momentum(0.1, -1), "switch is -1"),
        (lambda: optimizers.momentum(0.1, 1, after=1.0), "after 1"),
        (lambda: probes.linear_probe(jnp.ones((4, 2)), [0, 1, 0, 1], jnp.ones((2, 2)), [0, 1], l2=-1.0), "l2 is -1"),
        (lambda: statistics.summarise([1.0, 2.0], 1.5), "level is 1"),
        (lambda: logistic_pca.fit(jnp.full((4, 2), 0.5), 1, jax.random.key(0), ridge=INF), "ridge inf"),
    ],
)
def test_other_numbers_without_sense_are_refused_by_name(call, told):
    with pytest.raises(ValueError, match=told):
        call()


# ------------------------------------------------------------------------------------ options without effect

# (algorithm, option): a value; others with which it has no effect, and with which it has one
IDLE = {
    ("adversarial", "modes"): (5, {}, {"prior": "mixture"}),
    ("contractive", "samples"): (3, {"penalty": "closed"}, {"penalty": "hutchinson"}),
    ("contractive", "group"): (3, {"penalty": "hutchinson"}, {"penalty": "exact"}),
    ("contractive", "higher_noise"): (0.5, {"higher": 0.0}, {"higher": 0.5}),
    ("contractive", "corruptions"): (3, {}, {"higher": optax.linear_schedule(0.0, 1.0, 5)}),
    ("rbm", "draw_visible"): (True, {"chains": 4}, {"chains": 0}),
    ("vae", "sigma"): (0.5, {}, {"likelihood": "gaussian"}),
    ("importance", "sigma"): (0.5, {}, {"likelihood": "gaussian"}),
    ("importance", "groups"): (5, {}, {"estimator": "miwae"}),
    ("importance", "beta"): (0.5, {}, {"estimator": "ciwae"}),
    ("vq_vae", "size"): (8, {"quantiser": "fsq"}, {}),
    ("vq_vae", "commitment"): (0.5, {"quantiser": "fsq"}, {"quantiser": "lfq"}),
    ("vq_vae", "gradient"): ("rotation", {"quantiser": "lfq"}, {"quantiser": "simvq"}),
    ("vq_vae", "decay"): (0.5, {"quantiser": "learned"}, {}),
    ("vq_vae", "least"): (0.5, {"quantiser": "learned"}, {"quantiser": "residual"}),
    ("vq_vae", "depth"): (3, {}, {"quantiser": "residual"}),
    ("vq_vae", "drop"): (0.5, {}, {"quantiser": "residual"}),
    ("vq_vae", "levels"): ((7, 5), {}, {"quantiser": "fsq"}),
    ("vq_vae", "entropy"): (0.5, {}, {"quantiser": "lfq"}),
    ("vq_vae", "sharpness"): (0.5, {}, {"quantiser": "spherical"}),
    ("sparse", "target"): (0.2, {"penalty": "l1"}, {"penalty": "kl_minibatch"}),
    ("vae", "free_bits"): (0.5, {"beta": 0}, {"beta": 0.5}),
    ("vae", "warmup_steps"): (5, {"beta": 0.0}, {}),
    ("vae", "warmup"): ("sigmoid", {}, {"warmup_steps": 5}),
    ("vae", "cycles"): (3, {}, {"warmup": "cyclical", "warmup_steps": 5}),
    ("vamp", "warmup_steps"): (5, {"beta": 0.0}, {}),
    ("vamp", "warmup"): ("sigmoid", {}, {"warmup_steps": 5}),
    ("vamp", "cycles"): (3, {}, {"warmup": "cyclical", "warmup_steps": 5}),
    ("info_vae", "alpha"): (0.25, {"posterior": "delta"}, {}),
    ("info_vae", "scales"): ((2.0,), {"distance": "sliced_wasserstein"}, {}),
    ("info_vae", "directions"): (9, {}, {"distance": "sliced_wasserstein"}),
    ("vae", "capacity"): (5.0, {"beta": 0.0}, {}),
    ("vae", "capacity_steps"): (5, {}, {"capacity": 5.0}),
    ("vae", "components"): (5, {}, {"prior": "gmm"}),
    ("dictionary", "k"): (1, {"form": "l1"}, {}),
    ("dictionary", "weight"): (0.5, {}, {"form": "l1"}),
    ("dictionary", "bandwidth"): (0.5, {}, {"form": "jumprelu"}),
    ("dictionary", "widths"): ((1,), {}, {"form": "matryoshka"}),
    ("dictionary", "auxiliary"): (0.5, {"form": "l1"}, {}),
    ("dictionary", "auxiliary_k"): (1, {"form": "l1"}, {}),
}


def test_the_table_of_options_without_effect_is_whole():
    kept = {name: annotations_of(make, Needs) for name, make in algorithms.ALGORITHMS.items()}
    found = {(name, option) for name, options in kept.items() for option, needs in options.items() if needs}
    assert found - {(name, "critic_widths") for name in ("adversarial", "factor_vae")} == {
        *IDLE
    }  # a critic is a value of Python: see below


def test_widths_of_a_critic_that_is_given_are_refused():
    net, critic = networks.mlp((4,), 2), game.perceptron((4,))
    with pytest.raises(ValueError, match=r"critic_widths=\(8,\) has no effect with critic=a Net: leave it out"):
        algorithms.adversarial(net, optax.sgd(0.1), critic=critic, critic_widths=(8,))
    algorithms.adversarial(net, optax.sgd(0.1), critic=critic)


def member(name, **hyper):
    if name == "adversarial":  # whose mixture is in two dimensions
        return algorithms.adversarial(networks.mlp((4,), 2), optax.sgd(0.1), **hyper)
    return made(name, **hyper)


@pytest.mark.parametrize("case", IDLE, ids="-".join)
def test_an_option_without_effect_is_refused_where_it_is_given(case):
    name, option = case
    value, without, beside = IDLE[case]
    told = rf"^{option}={re.escape(repr(value))} has no effect with \w+=.*: leave it out, or "
    with pytest.raises(ValueError, match=told):
        member(name, **{option: value}, **without)
    member(name, **{option: value}, **beside)
    default = inspect.signature(algorithms.ALGORITHMS[name]).parameters[option].default
    member(name, **{option: default}, **without)  # as records of runs have it


@pytest.mark.parametrize("case", IDLE, ids="-".join)
def test_a_run_with_an_option_without_effect_is_opened(case):
    name, option = case
    value, without, _ = IDLE[case]
    chosen = replace(RUN, algorithm=name, network=heads(name).network, hyper={option: value, **without})
    options = {} if name == "contractive" else chosen.network_options
    if without.get("penalty") == "closed":
        options = {"hidden": (), "code_activation": "sigmoid"}
    chosen = replace(chosen, network_options=options)
    build(chosen, (4,), 1)
    with pytest.raises(ValueError, match=f"{option}={re.escape(repr(value))} has no effect"):
        check_options(chosen, (4,))


@pytest.mark.parametrize(
    "older",
    [
        {"noise_level": 0.25},
        {"network_options": {"hidden": (), "dropout": 0.5, "activation": "tanh"}},
        {"optimizer": OptimizerSettings(momentum=0.5)},
    ],
)
def test_older_settings_without_effect_are_opened_and_not_taken_anew(older):
    build(replace(RUN, **older), (4,), 1)
    with pytest.raises(ValueError, match="has no effect"):
        check_options(replace(RUN, **older), (4,))


def test_dropout_needs_hidden_layers():
    for back in (None, ()):
        with pytest.raises(ValueError, match=r"^dropout=0\.5 has no effect with hidden=\(\) and hidden_back="):
            networks.mlp((4,), 2, hidden=(), hidden_back=back, dropout=0.5)
    networks.mlp((4,), 2, hidden=(), hidden_back=(3,), dropout=0.5)
    networks.mlp((4,), 2, hidden=(), activation="tanh")  # as code for any depth gives it


def typed(name, *flags):
    return settings_of(name, parse(name, list(flags)))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("adversarial --modes 10", "--modes 10 has no effect with --prior gaussian: leave it out, or change --prior$"),
        ("contractive --samples 1", "--samples 1 has no effect .* or give --penalty hutchinson$"),
        ("contractive --higher-noise 0.1", "--higher-noise 0.1 has no effect with --higher 0.0"),
        ("sparse --penalty l1 --target 0.1", "--target 0.1 has no effect"),
        ("rbm --chains 4 --draw-visible", "--draw-visible has no effect with --chains 4"),
        ("vae --momentum 0.9", "--momentum 0.9 has no effect with --optimizer adam: .* give --optimizer sgd$"),
        (
            "vae --noise-level 0.25",
            "--noise-level 0.25 has no effect with --noise None: .* give --noise$",
        ),
        (
            "sparse --net-activation tanh",
            r"--net-activation tanh has no effect with --net-hidden \(\) and --net-hidden-back None",
        ),
        ("sparse --net-dropout 0.5", "--net-dropout 0.5 has no effect with"),
        (
            "vae --data variants --data-kind rot --data-photographs x",
            "--data-photographs x .* give --data-kind bg_img or --data-kind bg_img_rot",
        ),
    ],
)
def test_a_flag_without_effect_is_refused_even_at_its_default(flags, told):
    with pytest.raises(ValueError, match="has no effect") as refused:
        typed(*flags.split())
    assert re.search(told, as_flags(str(refused.value)))


def test_settings_hold_the_defaults_of_options_without_effect():
    assert typed("adversarial").hyper["modes"] == 10
    assert typed("adversarial", "--prior", "mixture", "--modes", "4").hyper["modes"] == 4
    assert typed("sparse", "--penalty", "l1").hyper["target"] == 0.1  # the member's default
    assert typed("rbm", "--chains", "4").hyper["draw_visible"] is False
    assert typed("vae").optimizer == OptimizerSettings()
    assert typed("vae", "--optimizer", "sgd").optimizer.momentum == 0.9
    assert typed("semantic_hashing", "--net-hidden", "()").network_options == {"activation": "sigmoid", "hidden": ()}
    for name in algorithms.ALGORITHMS:
        check_options(typed(name), (8, 8, 1))


def test_a_patience_that_no_run_reaches_is_told():
    run = lambda patience: replace(RUN, epochs=10, patience=patience)
    assert check_updates(run(8), 45) == check_updates(run(None), 45) == ""
    for patience in (9, 100):  # at the earliest, the second to tenth epochs are worse than the first
        assert f"patience is {patience}, so no seed stops early in a run of 10" in check_updates(run(patience), 45)


def test_samples_of_a_likelihood_that_is_not_sampled_are_refused(monkeypatch, tmp_path):
    opened = SimpleNamespace(algorithm=made("autoencoder"), settings=replace(RUN, algorithm="autoencoder"))
    monkeypatch.setattr(runs, "open_run", lambda workdir: opened)
    with pytest.raises(ValueError, match=r"^samples=100 has no effect: autoencoder has no log-likelihood"):
        measuring.evaluate(tmp_path, samples=100)


@pytest.mark.parametrize(("source", "words"), [("x.npy", ()), ("digits", ()), ("some words", ("some", "words"))])
def test_a_resize_of_what_is_no_image_is_refused(monkeypatch, tmp_path, source, words):
    opened = SimpleNamespace(vocabulary=words, settings=RUN, sources=())
    monkeypatch.setattr(runs, "open_run", lambda workdir, seed: opened)
    with pytest.raises(RunError, match=f"--resize has no effect: {source} is not read as files of images"):
        coding.encode(tmp_path, source, tmp_path / "z.npy", resize=True)


def test_a_level_of_a_function_is_refused():
    with pytest.raises(ValueError, match=r"level=0\.5 has no effect with a function"):
        made("denoising", corruption=lambda x, key: x, level=0.5)


def test_a_factor_of_codes_below_one_is_refused():
    """ceil(0.9 * 5) is 5."""
    with pytest.raises(ValueError, match=r"alpha 0\.9.*k at most start and alpha \* k"):
        algorithms.k_sparse(networks.mlp((4,), 8), optax.sgd(0.1), k=5, alpha=0.9)


def test_seeds_that_agree_have_no_spread():
    """The mean of three times 0.1, summed and divided, is another number, about which they would spread."""
    found = statistics.summarise([0.1, 0.1, 0.1])
    assert (found["mean"], found["std"], found["low"], found["high"]) == (0.1, 0.0, 0.1, 0.1)
    assert statistics.paired_difference([0.4, 0.4, 0.4], [0.3, 0.3, 0.3])["p"] == 0.0
    assert statistics.summarise([2.0])["std"] is None
    assert all(np.isnan(statistics.summarise([INF, 1.0])[name]) for name in ("std", "low", "high"))
    with pytest.raises(ValueError, match="at least one number"):
        statistics.summarise([])


def test_a_likelihood_of_pretraining_is_refused_without_pretraining(tmp_path):
    chosen = replace(RUN, algorithm="classifier", hyper={"likelihood": "bernoulli", "pretrain_epochs": 0})
    with pytest.raises(ValueError, match=r"likelihood=bernoulli has no effect: .* pretrain_epochs is 0") as refused:
        training.train(chosen, tmp_path / "run", quiet=True)
    assert as_flags(str(refused.value)).startswith("--likelihood bernoulli has no effect")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("older", "told"),
    [
        ({"network_options": {"dropout": 1.0}}, "dropout is 1.0"),
        ({"algorithm": "k_sparse", "hyper": {"k": 2, "alpha": 0.75}}, "k is 2, start None, alpha 0.75"),
    ],
)
def test_a_run_of_older_settings_that_are_refused_now_says_so(tmp_path, older, told):
    chosen = replace(RUN, algorithm="autoencoder", epochs=1)
    train = Batch(jnp.full((10, 4), 0.5))
    with Folder(tmp_path).opened(chosen) as folder:
        loop.train(build(chosen, (4,), 10), train, epochs=1, batch_size=10, folder=folder, progress=False)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"] |= older
    del config["seal"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=rf"settings that this version of ae_jax refuses .{told}.* commit"):
        runs.open_run(tmp_path)
