"""Sparsity makes edges: features of natural images with and without a penalty on mean activation.

Ng, "Sparse autoencoder", CS294A lecture notes and UFLDL tutorial; Olshausen & Field (1996). As there: 8x8 patches
of whitened photographs, normalised to [0.1, 0.9], logistic units, weight decay, and L-BFGS on the whole training
set at once, so that the mean activations in the penalty are exact.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from study import Run, codes, experiment, feature_panels, images_of

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import sparse
from ae_jax.core import Batch

SIDE = 8


def load_patches(folder: str, count: int, cutoff: float) -> tuple[np.ndarray, ...]:
    """Normalised patches of whitened grey photographs, [count, 8, 8, 1] for training and half as many to test."""
    parts = []
    for seed, photographs in enumerate(images_of(folder, colour=False).values()):
        white = [datasets.whiten_spectrum(photograph, cutoff) for photograph in photographs]
        parts.append(datasets.patches(white, SIDE, (count, count // 2)[seed], seed))
    deviation = datasets.patch_deviation(parts[0])  # of the training patches, for both
    return tuple(datasets.normalise_patches(x, deviation) for x in parts)


def orientation(features: np.ndarray, size: int = 32) -> np.ndarray:
    """How much each feature [K, H, W] prefers one orientation, 0 to 1: see the notes in `main`. -> [K]."""
    power = np.square(np.abs(np.fft.fft2(features, s=(size, size))))
    power[:, 0, 0] = 0
    f = np.fft.fftfreq(size)
    angle = np.arctan2(f[:, None], f[None, :])
    return np.abs((power * np.exp(2j * angle)).sum((1, 2))) / power.sum((1, 2))


@experiment(
    title="Sparse autoencoder on natural image patches: mean activation {target:g} and oriented features",
    source="Ng, Sparse autoencoder (CS294A lecture notes; UFLDL); Olshausen & Field (1996), Nature 381",
    data=None,
    # Written before the first full run. The look of features of training patches chose `cutoff` and `weight_l2`.
    claims={"orientation index, sparse minus no penalty": "the penalty, and not the net, makes features oriented"},
    notes=[
        "Orientation index of a feature: |sum P exp(2 i angle)| / sum P over its power spectrum P without the "
        "mean; 1 for a grating, 0 for no preferred orientation; mean over units. Activations are measured on "
        "patches of the test images. The tutorial shows pictures and gives no numbers.",
        "UFLDL asks 0.01 of 25 units with weight decay 1e-4 on Olshausen's ten pictures; cutoff and weight_l2 "
        "here were chosen by the look of features on training patches of these photographs, which are JPEGs.",
    ],
)
def main(
    run: Run,
    iterations: int = 400,  # of L-BFGS, each on all patches
    units: int = 64,  # size of the code
    target: float = 0.05,  # the mean activation that the penalty asks for
    weight: float = 6.0,  # of the penalty; 6 is UFLDL's beta = 3, whose squared error is halved
    weight_l2: float = 5e-4,  # of the squared weights
    cutoff: float = 0.25,  # of the whitening's low-pass filter, in cycles per pixel
    patches: int = 10000,  # how many to train on; half as many to test on
    images: str = "../shared/data/bsds500",  # a folder of photographs with subfolders train and test, such as BSDS500
):
    train_set, test_set = (Batch(jnp.asarray(x)) for x in load_patches(images, patches, cutoff))
    shape, shown = train_set.x.shape[1:], {}
    net = networks.mlp(shape, units, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
    for name, penalty in (("sparse", weight), ("no penalty", 0.0)):
        # a batch is the whole set, so the penalty on mean activations is exact
        how: Any = {"target": target, "weight": penalty, "weight_l2": weight_l2}
        algorithm = sparse(net, optax.lbfgs(), penalty="kl_minibatch", **how)
        params = run.train(name, algorithm, train_set, epochs=iterations, batch_size=patches).params
        rho = codes(algorithm, params, test_set.x).mean(1)  # [S, K]
        kernels = np.asarray(params["encoder"]["layer_0"]["kernel"]).transpose(0, 2, 1)  # [S, K, D]
        features = kernels.reshape(len(run.seeds), units, *shape)
        index = np.array([orientation(f[..., 0]).mean() for f in features])
        run.metrics |= {
            f"orientation index, {name}": index,
            f"mean activation, {name}": rho.mean(1),
            f"unit farthest from {target:g}, {name}": np.abs(rho - target).max(1),
            f"test squared error, {name}": run.evaluate(algorithm, params, test_set)["squared_error"],
        }
        shown[f"{name}, orientation index {index[0]:.2f}"] = features[0]
    return lambda: feature_panels(shown)
