"""Samples of an autoencoder and of a VAE, by priors fitted to their codes.

Ghosh, Sajjadi, Vergari, Black & Schoelkopf (2020), arXiv:1903.12436: a mixture of Gaussians on the codes of a plain
autoencoder draws better images than a VAE's own prior. The measure is the Frechet distance of 10,000 samples from the
10,000 test images, on the 64 rectified units of a classifier of our own (seed 0), which is trained on the same images.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, codes, experiment, image_rows, of_seed, part

from ae_jax import networks
from ae_jax.algorithms import autoencoder, classifier, vae
from ae_jax.core import Batch, address
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.samplers import SAMPLERS
from ae_jax.evaluation.samples import frechet_distance
from ae_jax.training.provenance import checksum


@experiment(
    title="Samples by priors fitted to codes: {images} images, {data}, Frechet distance of {count} samples",
    source="Ghosh, Sajjadi, Vergari, Black & Schoelkopf (2020), arXiv:1903.12436",
    full={"seeds": 10, "images": 60000},
    # Written before the first run; paired over seeds.
    claims={
        "autoencoder normal minus autoencoder gmm, distance": "a plain autoencoder's codes are not N(0, I)",
        "autoencoder gaussian minus autoencoder gmm, distance": "a mixture fits its codes better than one Gaussian",
        "vae normal minus vae gmm, distance": "a mixture fitted afterwards betters a VAE's own prior",
        "vae normal minus autoencoder gmm, distance": "an autoencoder with a mixture draws better than the VAE",
    },
    notes=[
        "Features: the {features} units of a classifier of ours, trained from seed 0 on the same images; the checksum "
        "of its params is {extractor}. Two samples of {count} from one distribution are apart by the distance of the "
        "training images.",
        "The networks are our own, so no published distance is comparable.",
    ],
)
def main(
    run: Run,
    images: int = 10000,  # of the training set
    epochs: int = 20,  # passes of both models
    latents: int = 16,  # numbers in a code
    hidden: tuple[int, ...] = (300, 300),  # widths of the layers between image and code
    features: int = 64,  # units of the classifier that measures the distance
    count: int = 10000,  # samples, and test images, at most
    batch_size: int = 128,  # examples in a step
):
    train, test = run.data(labels=True)
    train = part(train, images)
    shape, number, adam = train.x.shape[1:], min(count, len(test.x), len(train.x)), optax.adam(1e-3)
    judge = classifier(networks.mlp(shape, features, hidden=(256,), code_activation="relu"), adam, classes=10)
    own = run.train("classifier", judge, train, seeds=[0], epochs=10).of(0)
    run.facts |= {"count": number, "extractor": checksum(own)}
    seen = lambda x: np.asarray(encode(judge, own, jnp.asarray(x)))
    real, rows = seen(test.x[:number]), {}
    net = lambda heads: networks.mlp(shape, latents, hidden=hidden, heads=heads)
    for name, algorithm in {
        "autoencoder": autoencoder(net(1), adam, likelihood="bernoulli"),
        "vae": vae(net(2), adam),
    }.items():
        params, decode = run.train(name, algorithm, Batch(train.x)).params, jax.jit(algorithm.decode)
        of_train = codes(algorithm, params, train.x)
        for sampler, fit in SAMPLERS.items():
            distances = []
            for i, key in enumerate(run.keys(name, sampler)):
                fitted, prior = fit(of_train[i], address(key, "fit"))
                z = prior.draw(fitted, address(key, "draw"), number, jnp.float32)
                x = np.asarray(decode(of_seed(params, i), z))
                distances.append(frechet_distance(seen(x), real))
                rows.setdefault(f"{name} {sampler}", x[:12])
            run.metrics[f"{name} {sampler}, distance"] = distances
    run.metrics["training images, distance"] = frechet_distance(seen(train.x[:number]), real)
    return lambda: image_rows(rows | {"training images": np.asarray(train.x[:12])})
