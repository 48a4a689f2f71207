"""One hidden layer, six ways: how contractive a code is goes with how well it classifies.

Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML, tables 1 and 2; CAE+H: Rifai et al. (2011), ECML PKDD. Tied
logistic autoencoders with cross-entropy, trained on 10,000 images; test error of the net with a softmax on top after
supervised fine-tuning, and before it the mean Frobenius norm of the encoder's Jacobian and the fraction of saturated
activations. Not here: the paper's row of RBMs.

    .venv/bin/python experiments/contractive_table.py
    .venv/bin/python experiments/contractive_table.py --full    # the paper's 1000 units and 50,000 images, 50 epochs
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import command, feature_panels, keys, mapped, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder, classifier, contractive, denoising
from ae_jax.core import Algorithm, Autoencoder, Batch, address, average, epoch, fit
from ae_jax.corruption import Corruption, gaussian, masking
from ae_jax.evaluation.codes import encode
from ae_jax.objectives import jacobians
from ae_jax.training.stages import greedy, resume


class Row(NamedTuple):
    """A row of the table: how to pretrain a layer, and the strengths to choose from on validation images."""

    build: Callable[[Autoencoder, float], Algorithm]
    tried: tuple[float, ...] = ()
    like: str = ""  # the row whose strength it takes, where it tries none
    layers: int = 1


ADAM = optax.adam(1e-3)


def closed(net: Autoencoder, weight: float, higher: float = 0.0) -> Algorithm:
    return contractive(net, ADAM, weight=weight, penalty="closed", higher=higher, higher_noise=0.1)


def noisy(corruption: Callable[[float], Corruption]) -> Callable[[Autoencoder, float], Algorithm]:
    return lambda net, level: denoising(net, ADAM, corruption=corruption(level), likelihood="bernoulli")


ROWS = {
    "CAE": Row(closed, (0.03, 0.1, 0.3)),
    "CAE+H": Row(lambda net, weight: closed(net, weight, higher=weight), like="CAE"),
    "DAE-g": Row(noisy(gaussian), (0.15, 0.3, 0.5)),
    "DAE-b": Row(noisy(masking), (0.1, 0.25, 0.4)),
    "AE+wd": Row(lambda net, w: autoencoder(net, ADAM, likelihood="bernoulli", weight_l2=w), (1e-4, 1e-3)),
    "AE": Row(lambda net, _: autoencoder(net, ADAM, likelihood="bernoulli")),
    "CAE-2": Row(closed, like="CAE", layers=2),
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
    epochs: int = 12,
    tuning: int = 12,
    units: int = 300,
    images: int = 10000,
    held_out: int = 5000,
    full: bool = False,
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
        held_out: training images, not trained on, to choose each method's strength by; with 0 the middle one is taken.
        full: 1000 units, 50 epochs, and all but 10,000 of the training images.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    whole, test_set = datasets.load(data)
    if full:
        units, epochs, images = 1000, 50, len(whole.x) - 10000
        settings |= {"units": units, "epochs": epochs, "images": images}  # what was run
    train_set = jax.tree.map(lambda a: jnp.asarray(a[:images]), whole)
    test_set = jax.tree.map(jnp.asarray, test_set)
    choosing = jax.tree.map(lambda a: jnp.asarray(a[images : images + held_out]), whole)
    strength: dict[str, float] = {}
    for name, row in ROWS.items():
        errors = {} if held_out else dict.fromkeys(row.tried[1:2], 0.0)
        for tried in row.tried if held_out else ():
            net = mapped(recipe(row, tried, units, epochs, tuning))(keys(sweep[:1]), train_set, choosing)
            errors[tried] = float(net["test error, %"][0])
            print(f"{name} {tried:g}: validation error {errors[tried]:.2f} %", flush=True)
        strength[name] = min(errors, key=errors.__getitem__) if errors else strength.get(row.like, 0.0)

    found, shown = {}, {}
    for name, row in ROWS.items():
        print(f"{seeds} x {name}: {epochs} epochs a layer, {tuning} of fine-tuning", flush=True)
        result = mapped(recipe(row, strength[name], units, epochs, tuning))(keys(sweep), train_set, test_set)
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
            f"{tuning} of fine-tuning without early stopping.",
            f"Each method's strength, chosen by the first seed's error on {held_out} training images that are not "
            f"trained on: {', '.join(f'{name} {s:g}' for name, s in strength.items() if s)}. CAE+H has one "
            "corruption of standard deviation 0.1 and both weights alike; CAE-2 is two layers, trained one after the "
            "other.",
        ],
        figure=lambda: feature_panels(shown, columns=6, across=3),
        out=out,
    )


def recipe(row: Row, strength: float, units: int, epochs: int, tuning: int, batch_size: int = 50):
    """(key, train, test) -> what the table says of one net, a pure function."""

    def run(key, train: Batch, test: Batch):
        key_layers, key_tuning, key_test = (address(key, name) for name in ("pretraining", "tuning", "evaluation"))
        shapes = [train.x.shape[1:], *[(units,)] * (row.layers - 1)]
        nets = [
            networks.mlp(s, units, hidden=(), code_activation="sigmoid", tied=True, init="sigmoid_uniform")
            for s in shapes
        ]
        layers, _ = greedy(
            [row.build(net, strength) for net in nets], train, key_layers, epochs=epochs, batch_size=batch_size
        )
        stack = networks.stack(nets, between="sigmoid")
        supervised = classifier(stack, ADAM, classes=10)
        params = networks.stacked(layers)
        tuned, _ = fit(resume(supervised.init, params), epoch(supervised, batch_size), train, key_tuning, tuning)
        z = encode(supervised, params, test.x)
        assert nets[0].layer is not None
        first = {
            "Jacobian norm": jnp.sqrt(jacobians.closed(partial(nets[0].layer, layers[0]), test.x)).mean(),
            "saturation, %": 100 * jnp.mean((z < 0.05) | (z > 0.95)),
            "kernel": layers[0]["encoder"]["layer_0"]["kernel"],
        }
        error = {"test error, %": 100 * average(supervised.evaluate, tuned, test, key_test)["error"]}
        return error | (first if row.layers == 1 else {})

    return run


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's, over the rows of each column; 0 where all rows are equal. [R, S], [R, S] -> [S]."""
    from scipy.stats import spearmanr

    pairs = zip(a.T, b.T, strict=True)
    return np.array([0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else spearmanr(x, y)[0] for x, y in pairs])


if __name__ == "__main__":
    command(main)
