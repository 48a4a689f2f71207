"""A denoising autoencoder against a plain one of the same size: features and restored images.

Vincent et al. (2008, 2010). The network is that of the denoising tutorial on deeplearning.net: 784 inputs, 500
logistic units, tied weights, cross-entropy, 30 % of the pixels masked; here with Adam and batches of 128.
"""

import numpy as np
import optax
from study import Run, experiment, image_rows, mapped, of_seed, part, probe_errors

from ae_jax import corruption, networks
from ae_jax.algorithms import autoencoder, denoising
from ae_jax.core import average
from ae_jax.distributions.sums import squared_error


@experiment(
    title="Denoising against plain autoencoder, {units} units, {data}: codes and restored images",
    source="Vincent, Larochelle, Lajoie, Bengio & Manzagol (2010), JMLR 11",
    seeds=4,
    full={"seeds": 10, "epochs": 15, "labelled": 60000},
    # Written before the first run. Differences are paired: a seed gives both nets the same start and batches.
    claims={
        "plain minus denoising, probe error, %": "a linear classifier does better on the denoising net's codes",
        "plain minus denoising, squared error on masked images": "masked images of the test set are restored better",
        "plain minus denoising, squared error on clean images": "",
    },
    notes=[
        "The probe is a logistic regression on standardised codes of {labelled} training images. "
        "The papers fine-tune a classifier on the whole net instead; they print no number to set beside it."
    ],
)
def main(
    run: Run,
    epochs: int = 6,  # passes over the training set
    units: int = 500,  # size of the code
    level: float = 0.3,  # fraction of the pixels that is masked, in training of the one net and in the test of both
    batch_size: int = 128,  # examples in a step
    labelled: int = 10000,  # training images whose labels the linear classifiers see
):
    train_set, test_set = run.data()
    shape, mask, adam = train_set.x.shape[1:], corruption.masking(level), optax.adam(1e-3)
    net = networks.mlp(shape, units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform")
    some, shown = test_set.x[:10], run.keys("picture")[0]
    rows = {"test image": some, "masked": mask(some, shown)}
    for name, algorithm in {
        "plain": autoencoder(net, adam, likelihood="bernoulli"),
        "denoising": denoising(net, adam, corruption=mask, likelihood="bernoulli"),
    }.items():
        params = run.train(name, algorithm, train_set).params
        restore = lambda params, x, key, a=algorithm: a.reconstruct(params, mask(x, key))
        error = lambda params, d, key, r=restore: {"error": squared_error(r(params, d.x, key), d.x)}
        # the same masks for both nets: a test image's key is the seed's, never the net's
        masked = mapped(lambda of, d, error=error: average(error, of[0], d, of[1])["error"])
        run.metrics |= {
            f"{name}, probe error, %": probe_errors(algorithm, params, part(train_set, labelled), test_set),
            f"{name}, squared error on masked images": np.asarray(masked((params, run.keys("corruption")), test_set)),
            f"{name}, squared error on clean images": run.evaluate(algorithm, params, test_set)["squared_error"],
        }
        rows[name] = restore(of_seed(params), some, shown)
    return lambda: image_rows(rows)
