"""A denoising autoencoder against a plain one of the same size: better features, and of course less noise.

Vincent et al. (2008, 2010). The network is that of the denoising tutorial on deeplearning.net: 784 inputs, 500
logistic units, tied weights, cross-entropy, 30 % of the pixels masked; here with Adam and batches of 128.

    .venv/bin/python experiments/denoising.py
    .venv/bin/python experiments/denoising.py --full    # the tutorial's 15 epochs, all labels, 10 seeds
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import command, evaluate, keys, mapped, probe_errors, record

from ae_jax import corruption, networks
from ae_jax import data as datasets
from ae_jax.algorithms import autoencoder, denoising
from ae_jax.app import plots
from ae_jax.core import address, average
from ae_jax.distributions.sums import squared_error
from ae_jax.training.loop import train

# Written before the first run. Differences are paired: a seed gives both nets the same start and batches.
CLAIMS = {
    "plain minus denoising, probe error, %": "a linear classifier does better on the denoising net's codes",
    "plain minus denoising, squared error on masked images": "masked images of the test set are restored better",
}


def main(
    *,
    seeds: int = 4,
    seed: int = 0,
    epochs: int = 6,
    units: int = 500,
    level: float = 0.3,
    batch_size: int = 128,
    labelled: int = 10000,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains plain and denoising autoencoders in pairs and compares their codes and what they restore.

    Args:
        seeds: how many pairs of runs.
        seed: the first of them.
        epochs: passes over the training set.
        units: size of the code.
        level: fraction of the pixels that is masked, in training of the denoising net and in the test of both.
        batch_size: examples in a step.
        labelled: training images whose labels the linear classifiers see.
        full: 15 epochs, all labels and 10 seeds, whatever the other arguments say.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    seeds, epochs, labelled = (10, 15, 60000) if full else (seeds, epochs, labelled)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = datasets.load(data)
    net = networks.mlp(
        train_set.x.shape[1:], units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform"
    )
    mask = corruption.masking(level)
    algorithms = {
        "plain": autoencoder(net, optax.adam(1e-3), likelihood="bernoulli"),
        "denoising": denoising(net, optax.adam(1e-3), corruption=mask, likelihood="bernoulli"),
    }
    first = jax.tree.map(lambda a: a[:labelled], train_set)
    some = jax.tree.map(lambda a: jnp.asarray(a[:10]), test_set)
    metrics, restored, shown = {}, {}, address(jax.random.key(seed), "picture")
    masks = keys(sweep, "corruption")
    for name, algorithm in algorithms.items():
        print(f"{seeds} {name} autoencoders, {epochs} epochs")
        params = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep).params

        def restore(params, batch, key, algorithm=algorithm):
            return algorithm.reconstruct(params, mask(batch.x, key))

        def error(params, batch, key, restore=restore):
            return {"error": squared_error(restore(params, batch, key), batch.x)}

        # the same masks for both nets: a test image's key is the seed's, never the net's
        masked = mapped(lambda of, d, error=error: average(error, of[0], d, of[1])["error"])
        print("linear probes and restored images")
        metrics |= {
            f"{name}, probe error, %": probe_errors(algorithm, params, first, test_set),
            f"{name}, squared error on masked images": np.asarray(masked((params, masks), test_set)),
            f"{name}, squared error on clean images": evaluate(algorithm, params, test_set, sweep)["squared_error"],
        }
        restored[name] = restore(jax.tree.map(lambda p: p[0], params), some, shown)
    for what in ("probe error, %", "squared error on masked images", "squared error on clean images"):
        metrics[f"plain minus denoising, {what}"] = metrics[f"plain, {what}"] - metrics[f"denoising, {what}"]

    rows = {"test image": some.x, "masked": mask(some.x, shown), **restored}
    return record(
        __file__,
        metrics,
        title=f"Denoising against plain autoencoder, {units} units, {data}: codes and restored images",
        source="Vincent, Larochelle, Lajoie, Bengio & Manzagol (2010), JMLR 11",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            f"The probe is a logistic regression on standardised codes of {labelled} training images. "
            "The papers fine-tune a classifier on the whole net instead; they print no number to set beside it."
        ],
        figure=lambda: plots.examples(np.stack(list(rows.values())), (0.0, 1.0), rows=tuple(rows)),
        out=out,
    )


if __name__ == "__main__":
    command(main)
