"""Hyperparameters are data: any number that a learning rule uses can be swept by jax.vmap, without a loop."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import bars, flat

from ae_jax import algorithms, core, corruption, networks, optimizers
from ae_jax.core import Batch

DATA = Batch(*(a[:8] for a in bars(1)))
# most of the time here is compilation
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SGD = optax.sgd(0.1)
net = partial(networks.mlp, (4, 4, 1), 3, hidden=())
sigmoid = partial(net, code_activation="sigmoid")
LINEAR = partial(networks.linear, (4, 4, 1), 6)
tied = partial(net, tied=True, code_activation="sigmoid")


def of(name, option, net, **options):
    """The algorithm with that hyperparameter left open."""
    return lambda h: algorithms.ALGORITHMS[name](net(), SGD, **{option: h}, **options)


def dropped(make, h):
    return algorithms.autoencoder(make(h), SGD)


def corrupted(kind, h, net=net()):  # noqa: B008
    return algorithms.autoencoder(corruption.corrupted(net, getattr(corruption, kind)(h)), SGD)


GAUSSIAN = {"likelihood": "gaussian"}
GAME = {"critic_widths": (4,)}
STYLE = {"classes": 2, **GAME}

# (algorithm, hyperparameter) -> what it makes of a number, and two numbers
OWN = {
    ("autoencoder", "code_l2"): (of("autoencoder", "code_l2", net), 0.0, 0.5),
    ("autoencoder", "weight_l1"): (of("autoencoder", "weight_l1", net), 0.0, 0.5),
    ("autoencoder", "weight_l2"): (of("autoencoder", "weight_l2", net), 0.0, 0.5),
    ("denoising", "level"): (of("denoising", "level", net), 0.0, 0.5),
    ("denoising", "weight_l2"): (of("denoising", "weight_l2", net), 0.0, 0.5),
    ("sparse", "target"): (of("sparse", "target", sigmoid), 0.1, 0.3),
    ("sparse", "weight"): (of("sparse", "weight", sigmoid), 0.0, 0.5),
    ("sparse", "weight_l2"): (of("sparse", "weight_l2", sigmoid), 0.0, 0.5),
    ("contractive", "weight"): (of("contractive", "weight", tied, penalty="closed"), 0.0, 0.5),
    ("contractive", "higher"): (of("contractive", "higher", tied, penalty="closed"), 0.1, 50.0),
    ("contractive", "higher_noise"): (of("contractive", "higher_noise", tied, penalty="closed", higher=1.0), 0.1, 0.5),
    ("contractive", "weight_l2"): (of("contractive", "weight_l2", tied, penalty="closed"), 0.0, 0.5),
    ("vae", "sigma"): (of("vae", "sigma", partial(net, heads=2), **GAUSSIAN), 0.5, 2.0),
    ("vae", "beta"): (of("vae", "beta", partial(net, heads=2)), 0.0, 2.0),
    ("vae", "free_bits"): (of("vae", "free_bits", partial(net, heads=2)), 0.0, 3.0),
    ("vae", "capacity"): (of("vae", "capacity", partial(net, heads=2)), 0.5, 5.0),
    ("importance", "beta"): (of("importance", "beta", partial(net, heads=2), estimator="ciwae"), 0.1, 0.9),
    ("importance", "sigma"): (of("importance", "sigma", partial(net, heads=2), **GAUSSIAN), 0.5, 2.0),
    ("beta_tc_vae", "alpha"): (of("beta_tc_vae", "alpha", partial(net, heads=2), examples=8), 0.5, 2.0),
    ("beta_tc_vae", "beta"): (of("beta_tc_vae", "beta", partial(net, heads=2), examples=8), 0.5, 2.0),
    ("beta_tc_vae", "gamma"): (of("beta_tc_vae", "gamma", partial(net, heads=2), examples=8), 0.5, 2.0),
    ("factor_vae", "gamma"): (of("factor_vae", "gamma", partial(net, heads=2), **GAME), 0.5, 20.0),
    ("factor_vae", "critic_rate"): (of("factor_vae", "critic_rate", partial(net, heads=2), **GAME), 0.5, 1.0),
    ("dip_vae", "off_diagonal"): (of("dip_vae", "off_diagonal", partial(net, heads=2)), 0.5, 2.0),
    ("dip_vae", "diagonal"): (of("dip_vae", "diagonal", partial(net, heads=2)), 0.5, 2.0),
    ("info_vae", "alpha"): (of("info_vae", "alpha", partial(net, heads=2)), 0.1, 0.9),
    ("info_vae", "weight"): (of("info_vae", "weight", partial(net, heads=2)), 1.0, 20.0),
    ("vamp", "beta"): (of("vamp", "beta", partial(net, heads=2), components=3), 0.5, 2.0),
    ("vq_vae", "commitment"): (of("vq_vae", "commitment", net, size=4), 0.1, 2.0),
    ("vq_vae", "decay"): (of("vq_vae", "decay", net, size=4), 0.5, 0.9),
    ("vq_vae", "least"): (of("vq_vae", "least", net, size=4), 0.1, 2.0),
    ("vq_vae", "drop"): (of("vq_vae", "drop", net, size=4, quantiser="residual"), 0.0, 1.0),
    ("vq_vae", "entropy"): (of("vq_vae", "entropy", net, quantiser="lfq"), 0.0, 1.0),
    ("vq_vae", "sharpness"): (of("vq_vae", "sharpness", net, quantiser="spherical"), 0.5, 2.0),
    ("classifier", "weight_l2"): (of("classifier", "weight_l2", net), 0.0, 0.5),
    ("classifier", "head_l2"): (of("classifier", "head_l2", net), 0.0, 0.5),
    ("dec", "weight"): (of("dec", "weight", net, clusters=2), 0.0, 0.5),
    ("k_sparse", "weight_l2"): (of("k_sparse", "weight_l2", net), 0.0, 0.5),
    ("dictionary", "weight"): (of("dictionary", "weight", LINEAR, form="l1"), 0.1, 2.0),
    ("dictionary", "bandwidth"): (of("dictionary", "bandwidth", LINEAR, form="jumprelu"), 0.1, 0.5),
    ("adversarial", "prior_scale"): (of("adversarial", "prior_scale", net, **GAME), 0.5, 2.0),
    ("adversarial", "critic_rate"): (of("adversarial", "critic_rate", net, **GAME), 0.5, 1.0),
    ("adversarial", "confuse_rate"): (of("adversarial", "confuse_rate", net, **GAME), 0.5, 1.0),
    ("adversarial_labels", "game_rate"): (of("adversarial_labels", "game_rate", net, **STYLE), 0.5, 1.0),
    ("adversarial_style", "game_rate"): (of("adversarial_style", "game_rate", net, **STYLE), 0.5, 1.0),
    ("semantic_hashing", "code_noise"): (of("semantic_hashing", "code_noise", net), 0.0, 4.0),
    ("semantic_hashing", "weight_l2"): (of("semantic_hashing", "weight_l2", net), 0.0, 0.5),
    ("rbm", "weight_l2"): (of("rbm", "weight_l2", partial(networks.rbm, (4, 4, 1), 3)), 0.0, 0.5),
}
WHOLE = {("dictionary", "auxiliary")}  # acts once units are dead, after the first update
WHOLE |= {("k_sparse", "alpha")}  # decides how many, a size; steps and temperatures that do are annotated int

OTHER = {
    "masking": (partial(corrupted, "masking"), 0.0, 0.5),
    "gaussian": (partial(corrupted, "gaussian"), 0.0, 0.5),
    "salt_and_pepper": (partial(corrupted, "salt_and_pepper"), 0.0, 0.5),
    "patches": (partial(corrupted, "patches"), 0.25, 1.0),
    "bar": (partial(corrupted, "bar"), 0.25, 0.5),
    "grey": (partial(corrupted, "grey", net=networks.mlp((4, 2, 2), 3, hidden=())), 0.0, 0.5),
    "dropout": (partial(dropped, lambda h: networks.mlp((4, 4, 1), 3, hidden=(8,), dropout=h)), 0.0, 0.5),
    "code_dropout": (partial(dropped, lambda h: net(code_dropout=h)), 0.3, 0.9),
    "conv_dropout": (partial(dropped, lambda h: networks.conv((4, 4, 1), 3, channels=(2, 2), dropout=h)), 0.0, 0.5),
    "rbm_scale": (partial(dropped, lambda h: networks.rbm((4, 4, 1), 3, scale=h)), 0.01, 0.1),
    "momentum": (lambda h: algorithms.autoencoder(net(), optimizers.momentum(h, 1)), 0.1, 0.2),
    "learning_rate": (lambda h: algorithms.autoencoder(net(), optax.sgd(h)), 0.1, 0.2),
}


OF_THE_START = {"rbm_scale"}
KEY = jax.random.key(0)


def update(make, updates, h, params, data):
    """Params and metrics after so many updates, from the start where there are no params."""
    algorithm = make(h)
    params = algorithm.init(KEY, data) if params is None else params
    memory = algorithm.rule.init(params)
    for t in range(updates):
        params, memory, metrics = algorithm.rule.update(params, memory, data, jax.random.fold_in(KEY, t))
    return params, metrics


# weights only multiply a term; the others were checked, or chose the program, by their value
SLOW = {case for case in OWN if case[1] not in ("level", "target", "sigma", "free_bits", "prior_scale", "code_noise")}
SLOW |= {"conv_dropout", "rbm_scale", "momentum", "learning_rate"}
SLOW -= {("adversarial_style", "game_rate"), ("autoencoder", "weight_l1"), ("contractive", "higher")}
CASES = [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in (*OWN, *OTHER)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case if isinstance(case, str) else "-".join(case))
def test_a_swept_hyperparameter_gives_what_each_value_gives_alone(case):
    make, *values = (OWN | OTHER)[case]
    colour, second = case == "grey", "head_l2" in case  # the head starts at 0
    data = DATA._replace(x=DATA.x.reshape(8, 4, 2, 2)) if colour else DATA
    params = None if case in OF_THE_START else jit(make(values[0]).init)(KEY, data)
    run = partial(update, make, 1 + second)
    both = lambda swept, *given: (jax.vmap(lambda h: run(h, *given))(swept), [run(h, *given) for h in values])
    swept, alone = jit(both)(jnp.asarray(values), params, data)
    for i, one in enumerate(alone):
        np.testing.assert_allclose(flat(jax.tree.map(lambda a: a[i], swept)), flat(one), rtol=1e-4, atol=1e-5)
    assert not np.allclose(flat(alone[0]), flat(alone[1]), rtol=1e-3)  # it matters at all


def plain(kind):
    """An annotation without its range."""
    return kind.__origin__ if hasattr(kind, "__metadata__") else kind


def test_every_number_that_an_algorithm_takes_is_swept():
    numbers = {
        (name, option)
        for name, make in algorithms.ALGORITHMS.items()
        for option, kind in inspect.get_annotations(make, eval_str=True).items()
        if plain(kind) in (float, float | None, core.Hyper, core.Hyper | None)
    }
    assert numbers == set(OWN) | WHOLE


def test_what_decides_a_shape_cannot_be_swept():
    with pytest.raises(ValueError, match="cannot be swept"):
        jax.vmap(lambda h: corruption.low_resolution(h)(DATA.x, jax.random.key(0)))(jnp.asarray([1.0, 2.0]))
