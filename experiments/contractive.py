"""A contractive autoencoder against a plain one of the same size: a code that stays put when the input is jostled.

Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML. The network is that of the contractive tutorial on
deeplearning.net: 784 inputs, 500 logistic units, tied weights, cross-entropy, contraction 0.1; here with Adam
and batches of 128.

    .venv/bin/python experiments/contractive.py
    .venv/bin/python experiments/contractive.py --full    # the tutorial's 20 epochs, all labels, 10 seeds
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import codes, command, evaluate, feature_panels, keys, mapped, probe_errors, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder, contractive
from ae_jax.core import Algorithm
from ae_jax.evaluation.codes import encode, jacobian_norm
from ae_jax.training.loop import train

# Written before the first run. Differences are paired: a seed gives both nets the same start and batches.
CLAIMS = {
    "plain minus contractive, Jacobian norm": "the penalty makes the encoder flatter on test images",
    "plain minus contractive, code shift by noise": "the code moves less, measured by the spread of codes",
    "plain minus contractive, probe error, %": "a linear classifier does better on the contractive net's codes",
}


def main(
    *,
    seeds: int = 4,
    seed: int = 0,
    epochs: int = 6,
    units: int = 500,
    weight: float = 0.1,
    noise: float = 0.1,
    batch_size: int = 128,
    labelled: int = 10000,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains plain and contractive autoencoders in pairs and compares their codes.

    Args:
        seeds: how many pairs of runs.
        seed: the first of them.
        epochs: passes over the training set.
        units: size of the code.
        weight: of the squared Frobenius norm of the encoder's Jacobian.
        noise: standard deviation, in units of the pixels' range, of the noise that tries the codes.
        batch_size: examples in a step.
        labelled: training images whose labels the linear classifiers see.
        full: 20 epochs, all labels and 10 seeds, whatever the other arguments say.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    seeds, epochs, labelled = (10, 20, 60000) if full else (seeds, epochs, labelled)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = datasets.load(data)
    net = networks.mlp(
        train_set.x.shape[1:], units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform"
    )
    algorithms = {
        "plain": autoencoder(net, optax.adam(1e-3), likelihood="bernoulli"),
        "contractive": contractive(net, optax.adam(1e-3), weight=weight, penalty="closed"),
    }
    first = jax.tree.map(lambda a: a[:labelled], train_set)
    metrics, shown = {}, {}
    for name, algorithm in algorithms.items():
        print(f"{seeds} {name} autoencoders, {epochs} epochs")
        params = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep).params
        print("linear probes, Jacobians and shifted codes")
        encoded = codes(algorithm, params, test_set.x)
        norm = mapped(lambda p, x, a=algorithm: jacobian_norm(lambda x: a.encode(p, x), x).mean())
        moved = mapped(lambda of, x, a=algorithm: shift(a, of[0], of[1], x, noise))
        metrics |= {
            f"{name}, Jacobian norm": np.asarray(norm(params, test_set.x[:1000])),
            f"{name}, code shift by noise": np.asarray(moved((params, keys(sweep, "noise")), test_set.x)),
            f"{name}, probe error, %": probe_errors(algorithm, params, first, test_set),
            f"{name}, saturated units, %": 100 * np.mean((encoded < 0.05) | (encoded > 0.95), (1, 2)),
            f"{name}, test squared error": evaluate(algorithm, params, test_set, sweep)["squared_error"],
        }
        kernel = np.asarray(params["encoder"]["layer_0"]["kernel"][0])  # [D, K], the first seed's
        shown[name] = kernel.T[:36].reshape(-1, *train_set.x.shape[1:])
    for what in ("Jacobian norm", "code shift by noise", "probe error, %"):
        metrics[f"plain minus contractive, {what}"] = metrics[f"plain, {what}"] - metrics[f"contractive, {what}"]
    return record(
        __file__,
        metrics,
        title=f"Contractive against plain autoencoder, {units} units, {data}: how codes bear small noise",
        source="Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            "Jacobian norm: mean Frobenius norm over 1000 test images (other measures: the whole test set). Code "
            f"shift: ||f(x + e) - f(x)|| for Gaussian noise of standard deviation {noise:g}, root mean square, over "
            "the codes' root mean square distance from their mean. Saturated: below 0.05 or above 0.95.",
            f"The probe is a logistic regression on standardised codes of {labelled} training images; the paper "
            "fine-tunes a classifier instead, so its error rates stand for another protocol.",
        ],
        figure=lambda: feature_panels(shown, columns=6),
        out=out,
    )


def shift(algorithm: Algorithm, params, key, x, noise: float):
    """How far Gaussian noise on the input moves the code, as a fraction of the codes' own spread. -> []."""
    z = encode(algorithm, params, x)
    noisy = encode(algorithm, params, x + noise * jax.random.normal(key, x.shape, x.dtype))
    mean_square = lambda d: jnp.square(d).sum(-1).mean()
    return jnp.sqrt(mean_square(noisy - z) / mean_square(z - z.mean(0)))


if __name__ == "__main__":
    command(main)
