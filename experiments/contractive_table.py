"""One hidden layer, six ways: how contractive a code is goes with how well it classifies.

Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML, tables 1 and 2; CAE+H: Rifai et al. (2011), ECML PKDD. Tied
logistic autoencoders with cross-entropy; the test error is that of the net with a softmax on top after supervised
fine-tuning. Not here: the paper's row of RBMs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, experiment, feature_panels, layers, mapped, part

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


def recipe(row: Row, strength: float, units: int, epochs: int, tuning: int, batch_size: int = 50):
    """(key, train, test) -> what the table says of one net, a pure function."""

    def run(key, train: Batch, test: Batch):
        key_layers, key_tuning, key_test = (address(key, name) for name in ("pretraining", "tuning", "evaluation"))
        options: Any = {"code_activation": "sigmoid", "tied": True, "init": "sigmoid_uniform"}
        nets = layers(train.x.shape[1:], [units] * row.layers, **options)
        rows = [row.build(net, strength) for net in nets]
        trained, _ = greedy(rows, train, key_layers, epochs=epochs, batch_size=batch_size)
        stack = networks.stack(nets, between="sigmoid")
        supervised = classifier(stack, ADAM, classes=10)
        params = networks.stacked(trained)
        tuned, _ = fit(resume(supervised.init, params), epoch(supervised, batch_size), train, key_tuning, tuning)
        z = encode(supervised, params, test.x)
        assert nets[0].layer is not None
        first = {
            "Jacobian norm": jnp.sqrt(jacobians.closed(partial(nets[0].layer, trained[0]), test.x)).mean(),
            "saturation, %": 100 * jnp.mean((z < 0.05) | (z > 0.95)),
            "kernel": trained[0]["encoder"]["layer_0"]["kernel"],
        }
        error = {"test error, %": 100 * average(supervised.evaluate, tuned, test, key_test)["error"]}
        return error | (first if row.layers == 1 else {})

    return run


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's, over the rows of each column; 0 where all rows are equal. [R, S], [R, S] -> [S]."""
    from scipy.stats import spearmanr

    pairs = zip(a.T, b.T, strict=True)
    return np.array([0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else spearmanr(x, y)[0] for x, y in pairs])


@experiment(
    title="Contractive, denoising and plain autoencoders of one layer, {units} units, {images} images of {data}",
    source="Rifai, Vincent, Muller, Glorot & Bengio (2011), ICML, tables 1 and 2",
    full={"units": 1000, "epochs": 50, "images": 50000},
    # Written before the first run. Differences are paired: a seed gives every row the same start and batches.
    claims={
        "test error, AE minus CAE, %": "contraction helps the classifier",
        "test error, AE minus DAE-b, %": "so does masking noise",
        "test error, AE minus DAE-g, %": "so does Gaussian noise",
        "test error, mean of DAEs minus CAE, %": "contraction helps more than noise",
        "Jacobian norm, AE minus CAE": "the contractive code is flatter",
        "saturation, CAE minus AE, %": "and more of its units are saturated",
        "rank correlation of Jacobian norm and error": "over the one-layer rows, the flatter the better",
        "test error, CAE minus CAE-2, %": "a second layer helps",
    },
    notes=[
        "Jacobian norm: mean over the test images of ||J||_F, in code per pixel (both in [0, 1]), before "
        "fine-tuning; the paper prints its norms in a unit of 1e-4 that it does not explain, so only the order is "
        "compared. Saturation: activations below 0.05 or above 0.95, before fine-tuning.",
        "The paper trains 1000 units on 50,000 images by stochastic gradient descent and stops early on "
        "validation images; here {units} units, {images} images, Adam (1e-3), {epochs} epochs and "
        "{tuning} of fine-tuning without early stopping.",
        "Each method's strength, chosen by the first seed's error on {held_out} training images that are not trained "
        "on: {strengths}. CAE+H has one corruption of standard deviation 0.1 and both weights alike; CAE-2 is two "
        "layers, trained one after the other.",
    ],
)
def main(
    run: Run,
    epochs: int = 12,  # of pretraining
    tuning: int = 12,  # epochs of fine-tuning
    units: int = 300,  # size of each layer
    images: int = 10000,  # how many to train on
    held_out: int = 5000,  # training images after them that choose each method's strength; 0: the middle one
):
    whole, test_set = run.data()
    sets = part(whole, images), part(whole, images, images + held_out), test_set
    train_set, choosing, test_set = jax.tree.map(jnp.asarray, sets)
    strength: dict[str, float] = {}
    for name, row in ROWS.items():
        errors = {} if held_out else dict.fromkeys(row.tried[1:2], 0.0)
        for tried in row.tried if held_out else ():
            net = mapped(recipe(row, tried, units, epochs, tuning))
            found = run.computed(f"{name} {tried:g}, tried", net, run.keys()[:1], train_set, choosing)
            errors[tried] = float(found["test error, %"][0])
        strength[name] = min(errors, key=errors.__getitem__) if errors else strength.get(row.like, 0.0)

    shown = {}
    for name, row in ROWS.items():
        net = mapped(recipe(row, strength[name], units, epochs, tuning))
        found = jax.tree.map(np.asarray, run.computed(name, net, run.keys(), train_set, test_set))
        if row.layers == 1:
            kernel = found.pop("kernel")[0]  # [D, K], the first seed's
            title = f"{name}: error {found['test error, %'].mean():.2f} %"
            shown[title] = kernel.T[:36].reshape(-1, *train_set.x.shape[1:])
        run.metrics |= {f"{what}, {name}": values for what, values in found.items()}
    named = lambda what: {name: run.metrics[f"{what}, {name}"] for name in ROWS if f"{what}, {name}" in run.metrics}
    error, norm, saturated = map(named, ("test error, %", "Jacobian norm", "saturation, %"))
    for a, b in (("AE", "CAE"), ("AE", "DAE-b"), ("AE", "DAE-g"), ("CAE", "CAE-2")):
        run.metrics[f"test error, {a} minus {b}, %"] = error[a] - error[b]
    run.metrics |= {
        "test error, mean of DAEs minus CAE, %": (error["DAE-b"] + error["DAE-g"]) / 2 - error["CAE"],
        "saturation, CAE minus AE, %": saturated["CAE"] - saturated["AE"],
        "rank correlation of Jacobian norm and error": rank_correlation(
            *(np.stack([of[name] for name in norm]) for of in (norm, error))
        ),
    }
    run.facts = {"strengths": ", ".join(f"{name} {s:g}" for name, s in strength.items() if s)}
    return lambda: feature_panels(shown, columns=6, across=3)
