"""An overcomplete code needs sparsity: more units than inputs, with no penalty, with L1, and with KL.

Ng, "Sparse autoencoder", CS294A lecture notes and UFLDL tutorial. MNIST at half its resolution (14x14, the mean of
each four pixels) and 400 logistic units: twice as many as there are inputs, so that reconstruction alone asks nothing
of the code.

    .venv/bin/python experiments/overcomplete.py
    .venv/bin/python experiments/overcomplete.py --full    # all images, 50 epochs, 10 seeds
"""

import time

import jax.numpy as jnp
import numpy as np
import optax
from study import codes, command, evaluate, feature_panels, probe_errors, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import sparse
from ae_jax.core import Batch
from ae_jax.training.loop import train

# Written before the first full run. The penalties' weights were chosen by probe errors on training images that were not
# trained on: l1 from 0.03 and 0.1; kl and target from (0.1, 0.05), (0.3, 0.05), (1, 0.05), (3, 0.05), (0.3, 0.1),
# (1, 0.1) and (0.3, 0.2), of those that leave most units below `ACTIVE`. Differences are paired: a seed gives all nets
# the same start and batches.
CLAIMS = {
    "active units, plain minus L1, %": "L1 leaves most units of an image at rest",
    "active units, plain minus KL, %": "so does the KL penalty",
    "probe error, plain minus L1, %": "a linear classifier does better on L1's codes",
    "probe error, plain minus KL, %": "and on those of KL",
}
ACTIVE = 0.1  # a unit at rest gives less


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 10,
    units: int = 400,
    l1: float = 0.1,
    kl: float = 0.3,
    target: float = 0.05,
    weight_l2: float = 1e-3,
    images: int = 5000,
    batch_size: int = 100,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains an overcomplete autoencoder three ways and compares the codes.

    Args:
        seeds: how many nets of each kind.
        seed: the first of them; its features are the picture.
        epochs: passes over the training images.
        units: size of the code.
        l1: weight of the summed activations.
        kl: weight of the KL penalty on mean activations.
        target: the mean activation that the KL asks for.
        weight_l2: of the squared weights, in all nets: else a small code times large weights evades L1.
        images: how many to train on, and whose labels the linear classifiers see.
        batch_size: examples in a step.
        full: all images, 50 epochs and 10 seeds, whatever the other arguments say.
        data: what `ae_jax.data.load` takes: images of even height and width, with labels.
        out: folder for the record.
    """
    seeds, epochs, images = (10, 50, 60000) if full else (seeds, epochs, images)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = (halved(d) for d in datasets.load(data))
    train_set = Batch(train_set.x[:images], None if train_set.y is None else train_set.y[:images])
    net = networks.mlp(train_set.x.shape[1:], units, hidden=(), code_activation="sigmoid")
    adam = optax.adam(1e-3)
    algorithms = {
        "plain": sparse(net, adam, penalty="l1", weight=0.0, weight_l2=weight_l2),
        "L1": sparse(net, adam, penalty="l1", weight=l1, weight_l2=weight_l2),
        "KL": sparse(net, adam, target=target, weight=kl, weight_l2=weight_l2),
    }
    metrics, shown = {}, {}
    for name, algorithm in algorithms.items():
        print(f"{seeds} nets of {units} units, {name}, {epochs} epochs")
        params = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep).params
        z = codes(algorithm, params, test_set.x)
        metrics |= {
            f"active units, {name}, %": 100 * np.mean(z > ACTIVE, (1, 2)),
            f"mean activation, {name}": z.mean((1, 2)),
            f"probe error, {name}, %": probe_errors(algorithm, params, train_set, test_set),
            f"test squared error, {name}": evaluate(algorithm, params, test_set, sweep)["squared_error"],
        }
        kernel = np.asarray(params["encoder"]["layer_0"]["kernel"][0])  # [D, K]
        shown[name] = kernel.T[:64].reshape(-1, *train_set.x.shape[1:])
    for what in ("active units", "probe error"):
        for name in ("L1", "KL"):
            metrics[f"{what}, plain minus {name}, %"] = metrics[f"{what}, plain, %"] - metrics[f"{what}, {name}, %"]
    return record(
        __file__,
        metrics,
        title=f"Overcomplete codes, {units} units for {train_set.x[0].size} pixels of {data}: plain, L1 and KL",
        source="Ng, Sparse autoencoder (CS294A lecture notes; UFLDL)",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            f"Measured on test images. Active: above {ACTIVE:g}. The probe is a logistic regression on standardised "
            f"codes of {len(train_set.x)} training images. The lecture notes give no numbers.",
        ],
        figure=lambda: feature_panels(shown),
        out=out,
    )


def halved(batch: Batch) -> Batch:
    """Images at half their resolution, the mean of each four pixels. x [N, H, W, C] -> [N, H/2, W/2, C]."""
    n, height, width, channels = batch.x.shape
    return batch._replace(x=jnp.asarray(batch.x).reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4)))


if __name__ == "__main__":
    command(main)
