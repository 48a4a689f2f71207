"""One hidden layer, six ways: how contractive a code is goes with how well it classifies.

Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML, tables 1 and 2; CAE+H: Rifai et al. (2011), ECML PKDD. Tied
logistic autoencoders with cross-entropy, trained on 10,000 images; test error of the net with a softmax on top after
supervised fine-tuning, and before it the mean Frobenius norm of the encoder's Jacobian and the fraction of saturated
activations. Not here: the paper's row of RBMs.

Run it: python experiments/contractive_table.py (with --full the paper's 1000 units, 50 epochs, all of MNIST;
with --choose it prints validation errors over the grid that the settings below were chosen from)
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ae_jax import data as datasets
from ae_jax import jacobians, networks
from ae_jax.algorithms import autoencoder, classifier, contractive, denoising
from ae_jax.core import Algorithm, Autoencoder, Batch, average, epoch, fit
from ae_jax.corruption import gaussian, masking
from ae_jax.evaluation.codes import encode
from ae_jax.experiment import feature_panels, mapped, record
from ae_jax.stages import greedy, resume


class Row(NamedTuple):
    """A row of the table: how to pretrain a layer, its one hyperparameter, and what was tried for it."""

    build: Callable[[Autoencoder, float], Algorithm]
    setting: float
    tried: tuple[float, ...] = ()
    layers: int = 1


ADAM = optax.adam(1e-3)


def closed(net: Autoencoder, weight: float, **more: float) -> Algorithm:
    return contractive(net, ADAM, weight=weight, penalty="closed", **more)  # pyright: ignore[reportArgumentType]


ROWS = {
    "CAE": Row(closed, 0.1, (0.03, 0.1, 0.3)),
    "CAE+H": Row(lambda net, higher: closed(net, 0.1, higher=higher, noise=0.1), 0.1),
    "DAE-g": Row(
        lambda net, s: denoising(net, ADAM, corruption=gaussian(s), likelihood="bernoulli"), 0.3, (0.15, 0.3, 0.5)
    ),
    "DAE-b": Row(
        lambda net, p: denoising(net, ADAM, corruption=masking(p), likelihood="bernoulli"), 0.25, (0.1, 0.25, 0.4)
    ),
    "AE+wd": Row(
        lambda net, weight: autoencoder(net, ADAM, likelihood="bernoulli", weight_l2=weight), 1e-3, (1e-4, 1e-3)
    ),
    "AE": Row(lambda net, _: autoencoder(net, ADAM, likelihood="bernoulli"), 0.0),
    "CAE-2": Row(closed, 0.1, layers=2),
}
ONE_LAYER = [name for name, row in ROWS.items() if row.layers == 1]

# Written before the first run. Differences are paired: a seed gives every row the same start and batches.
CLAIMS = {
    "test error, AE minus CAE, %": "contraction helps the classifier",
    "test error, AE minus DAE-b, %": "so does masking noise",
    "test error, AE minus DAE-g, %": "so does Gaussian noise",
    "test error, mean of DAEs minus CAE, %": "contraction helps more than noise",
    "Jacobian norm, AE minus CAE": "the contractive code is flatter",
    "saturation, CAE minus AE, %": "and more of its units are saturated",
    "rank correlation of Jacobian norm and error": "over the one-layer rows, the flatter the better",
    "test error, CAE minus CAE-2, %": "a second layer helps",
}


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 15,
    tuning: int = 15,
    units: int = 300,
    images: int = 10000,
    full: bool = False,
    choose: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Pretrains one layer by each method, measures its code, and fine-tunes it as a classifier.

    Args:
        seeds: how many nets of each kind.
        seed: the first of them; its filters are the picture.
        epochs: of pretraining.
        tuning: epochs of fine-tuning.
        units: size of each layer.
        images: how many to train on.
        full: 1000 units, 50 epochs, and all but 10,000 of the training images.
        choose: only print errors on validation images over the grid, with one seed; nothing is recorded.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    whole, test_set = datasets.load(data)
    if full:
        units, epochs, images = 1000, 50, len(whole.x) - 10000
    train_set = jax.tree.map(lambda a: jnp.asarray(a[:images]), whole)
    test_set = jax.tree.map(jnp.asarray, test_set)
    pairs = jnp.stack([jax.random.split(jax.random.key(s)) for s in sweep])
    if choose:
        held_out = jax.tree.map(lambda a: jnp.asarray(a[images : images + 5000]), whole)
        for name, row in ROWS.items():
            for setting in row.tried:
                found = mapped(recipe(row, setting, units, epochs, tuning))(pairs, train_set, held_out)
                print(f"{name:6s} {setting:g}: validation error {np.mean(found['test error, %']):.2f} %", flush=True)
        return None

    found, shown = {}, {}
    for name, row in ROWS.items():
        print(f"{seeds} x {name}: {epochs} epochs a layer, {tuning} of fine-tuning", flush=True)
        result = mapped(recipe(row, row.setting, units, epochs, tuning))(pairs, train_set, test_set)
        found[name] = jax.tree.map(np.asarray, result)
        if row.layers == 1:
            kernel = found[name].pop("kernel")[0]  # [D, K], the first seed's
            title = f"{name}: error {found[name]['test error, %'].mean():.2f} %"
            shown[title] = kernel.T[:36].reshape(-1, *train_set.x.shape[1:])
    metrics = {f"{what}, {name}": v for name, result in found.items() for what, v in result.items()}
    error = {name: result["test error, %"] for name, result in found.items()}
    norms = np.stack([found[name]["Jacobian norm"] for name in ONE_LAYER])  # [rows, S]
    metrics |= {
        "test error, AE minus CAE, %": error["AE"] - error["CAE"],
        "test error, AE minus DAE-b, %": error["AE"] - error["DAE-b"],
        "test error, AE minus DAE-g, %": error["AE"] - error["DAE-g"],
        "test error, mean of DAEs minus CAE, %": (error["DAE-b"] + error["DAE-g"]) / 2 - error["CAE"],
        "Jacobian norm, AE minus CAE": found["AE"]["Jacobian norm"] - found["CAE"]["Jacobian norm"],
        "saturation, CAE minus AE, %": found["CAE"]["saturation, %"] - found["AE"]["saturation, %"],
        "rank correlation of Jacobian norm and error": rank_correlation(
            norms, np.stack([error[name] for name in ONE_LAYER])
        ),
        "test error, CAE minus CAE-2, %": error["CAE"] - error["CAE-2"],
    }
    return record(
        __file__,
        metrics,
        title=f"Contractive, denoising and plain autoencoders of one layer, {units} units, {images} images of {data}",
        source="Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML, tables 1 and 2",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            "Jacobian norm: mean over the test images of ||J||_F, in code per pixel (both in [0, 1]), before "
            "fine-tuning; the paper prints its norms in a unit of 1e-4 that it does not explain, so only the order is "
            "compared. Saturation: activations below 0.05 or above 0.95, before fine-tuning.",
            "The paper trains 1000 units on 50,000 images by stochastic gradient descent and stops early on "
            f"validation images; here {units} units, {images} images, Adam (1e-3), {epochs} epochs and "
            f"{tuning} of fine-tuning without early stopping. Each method's strength was chosen on 5,000 training "
            "images that are not trained on, with one seed (--choose); the paper's on validation images of its own.",
            "CAE+H has one corruption of standard deviation 0.1; CAE-2 is two layers, trained one after the other.",
        ],
        figure=feature_panels(shown, columns=6),
        out=out,
    )


def recipe(row: Row, setting: float, units: int, epochs: int, tuning: int, batch_size: int = 50):
    """(keys [2], train, test) -> what the table says of one net, a pure function."""

    def run(keys, train: Batch, test: Batch):
        shapes = [train.x.shape[1:], *[(units,)] * (row.layers - 1)]
        nets = [
            networks.mlp(s, units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform")
            for s in shapes
        ]
        layers, _ = greedy(
            [row.build(net, setting) for net in nets], train, keys[0], epochs=epochs, batch_size=batch_size
        )
        stack = networks.stack(nets, between="sigmoid")
        supervised = classifier(stack, ADAM, classes=10)
        params = networks.stacked(layers)
        tuned, _ = fit(resume(supervised.init, params), epoch(supervised, batch_size), train, keys[1], tuning)
        z = encode(supervised, params, test.x)
        assert nets[0].layer is not None
        first = {
            "Jacobian norm": jnp.sqrt(jacobians.closed(partial(nets[0].layer, layers[0]), test.x)).mean(),
            "saturation, %": 100 * jnp.mean((z < 0.05) | (z > 0.95)),
            "kernel": layers[0]["encoder"]["layer_0"]["kernel"],
        }
        error = {"test error, %": 100 * average(supervised.evaluate, tuned, test, keys[1])["error"]}
        return error | (first if row.layers == 1 else {})

    return run


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's, over the rows of each column. [R, S], [R, S] -> [S]."""
    from scipy.stats import spearmanr

    return np.array([spearmanr(*pair)[0] for pair in zip(a.T, b.T, strict=True)])


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
