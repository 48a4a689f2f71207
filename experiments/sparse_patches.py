"""Sparsity makes edges: features of natural images with and without a penalty on mean activation.

Ng, "Sparse autoencoder", CS294A lecture notes and UFLDL tutorial; Olshausen & Field (1996). As there: 8x8 patches
of whitened photographs, normalised to [0.1, 0.9], logistic units, weight decay, and L-BFGS on the whole training
set at once, so that the mean activations in the penalty are exact.

    .venv/bin/python experiments/sparse_patches.py

The defaults are as long as the tutorial's run; the notes of the record tell what differs. There is no larger one.
"""

import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from study import codes, command, evaluate, feature_panels, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import sparse
from ae_jax.core import Batch
from ae_jax.training.loop import train

# Written before the first full run. `cutoff` and `weight_l2` were chosen by looking at features of training patches.
CLAIMS = {"orientation index, sparse minus no penalty": "the penalty, and not the net, makes features oriented"}
SIDE = 8


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    iterations: int = 400,
    units: int = 64,
    target: float = 0.05,
    weight: float = 6.0,
    weight_l2: float = 5e-4,
    cutoff: float = 0.25,
    patches: int = 10000,
    images: str = "../shared/data/bsds500",
    out: str = "results",
):
    """Trains sparse autoencoders on patches of photographs, and the same nets with the penalty's weight at 0.

    Args:
        seeds: how many pairs of runs.
        seed: the first of them; its features are the picture.
        iterations: of L-BFGS, each on all patches.
        units: size of the code.
        target: the mean activation that the penalty asks for.
        weight: of the penalty; 6 is UFLDL's beta = 3, whose squared error is halved.
        weight_l2: of the squared weights.
        cutoff: of the whitening's low-pass filter, in cycles per pixel.
        patches: how many to train on; half as many to test on.
        images: a folder of photographs with subfolders train and test, such as BSDS500.
        out: folder for the record.
    """
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_x, test_x = load_patches(Path(images), patches, cutoff)
    train_set, test_set = Batch(jnp.asarray(train_x)), Batch(jnp.asarray(test_x))
    net = networks.mlp(train_x.shape[1:], units, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
    metrics, shown = {}, {}
    for name, penalty in (("sparse", weight), ("no penalty", 0.0)):
        print(f"{seeds} nets, {name}, {iterations} iterations of L-BFGS")
        # the minibatch form on a batch that is the whole set: the penalty is the full one, exactly
        algorithm = sparse(
            net, optax.lbfgs(), penalty="kl_minibatch", target=target, weight=penalty, weight_l2=weight_l2
        )
        params = train(algorithm, train_set, epochs=iterations, batch_size=patches, seeds=sweep).params
        rho = codes(algorithm, params, test_set.x).mean(1)  # [S, K]
        kernel = np.asarray(params["encoder"]["layer_0"]["kernel"]).transpose(0, 2, 1)  # [S, K, D]
        features = kernel.reshape(seeds, units, *train_x.shape[1:])
        metrics |= {
            f"orientation index, {name}": np.array([orientation(f[..., 0]).mean() for f in features]),
            f"mean activation, {name}": rho.mean(1),
            f"unit farthest from {target:g}, {name}": np.abs(rho - target).max(1),
            f"test squared error, {name}": evaluate(algorithm, params, test_set, sweep)["squared_error"],
        }
        shown[f"{name}, orientation index {orientation(features[0, ..., 0]).mean():.2f}"] = features[0]
    metrics["orientation index, sparse minus no penalty"] = (
        metrics["orientation index, sparse"] - metrics["orientation index, no penalty"]
    )
    return record(
        __file__,
        metrics,
        title=f"Sparse autoencoder on natural image patches: mean activation {target:g} and oriented features",
        source="Ng, Sparse autoencoder (CS294A lecture notes; UFLDL); Olshausen & Field (1996), Nature 381",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            "Orientation index of a feature: |sum P exp(2 i angle)| / sum P over its power spectrum P without the "
            "mean; 1 for a grating, 0 for no preferred orientation; mean over units. Activations are measured on "
            "patches of the test images. The tutorial shows pictures and gives no numbers.",
            "UFLDL asks 0.01 of 25 units with weight decay 1e-4 on Olshausen's ten pictures; cutoff and weight_l2 "
            "here were chosen by the look of features on training patches of these photographs, which are JPEGs.",
        ],
        figure=lambda: feature_panels(shown),
        out=out,
    )


def load_patches(folder: Path, count: int, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Normalised patches of whitened grey photographs, [count, 8, 8, 1] for training and half as many to test."""
    parts = []
    for seed, (part, number) in enumerate({"train": count, "test": count // 2}.items()):
        print(f"{number} patches of {folder / part}")
        photographs = datasets.read_images(folder / part, colour=False)
        white = [datasets.whiten_spectrum(photograph, cutoff) for photograph in photographs]
        parts.append(datasets.patches(white, SIDE, number, seed))
    deviation = datasets.patch_deviation(parts[0])  # of the training patches, for both
    train, test = (datasets.normalise_patches(x, deviation) for x in parts)
    return train, test


def orientation(features: np.ndarray, size: int = 32) -> np.ndarray:
    """How much each feature [K, H, W] prefers one orientation, 0 to 1: see the notes in `main`. -> [K]."""
    power = np.square(np.abs(np.fft.fft2(features, s=(size, size))))
    power[:, 0, 0] = 0
    f = np.fft.fftfreq(size)
    angle = np.arctan2(f[:, None], f[None, :])
    return np.abs((power * np.exp(2j * angle)).sum((1, 2))) / power.sum((1, 2))


if __name__ == "__main__":
    command(main)
