"""A deep autoencoder against PCA with as many components: 784-1000-500-250-30 on MNIST.

Hinton & Salakhutdinov (2006), Science 313:504. Their nets were logistic, pretrained as restricted Boltzmann
machines for 50 epochs a layer and fine-tuned by conjugate gradients for 200. Here: rectified units, no
pretraining, Adam with a cosine schedule; the batch size of their pretraining, and their loss, the cross-entropy.
Both are judged by the squared error summed over pixels.

    .venv/bin/python experiments/deep_autoencoder.py
    .venv/bin/python experiments/deep_autoencoder.py --full    # 200 epochs as published, 5 seeds
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, command, evaluate, last, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.app import plots
from ae_jax.evaluation import pca
from ae_jax.training.loop import train

# Written before the first run. 3.00 took 250 epochs in all; a twentieth of that is expected to end near 4.5.
PUBLISHED = {
    "deep autoencoder, test squared error": Published(
        3.00, "Hinton & Salakhutdinov (2006), caption of fig. 2 B", 0.3, "pretrained, 50 + 200 epochs"
    ),
    "PCA, test squared error": Published(13.87, "Hinton & Salakhutdinov (2006), caption of fig. 2 B", 0.02),
}
CLAIMS = {"PCA minus deep autoencoder": "the deep code keeps more of an unseen image than the linear one"}


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 12,
    latents: int = 30,
    hidden: tuple[int, ...] = (1000, 500, 250),
    learning_rate: float = 1e-3,
    batch_size: int = 100,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains deep autoencoders and compares their test error with that of PCA.

    Args:
        seeds: how many independent runs.
        seed: the first of them.
        epochs: passes over the training set; 100 come nearer to the published error.
        latents: size of the code, and components of the PCA.
        hidden: widths of the encoder's hidden layers.
        learning_rate: Adam's at the start; it falls to 0 along half a cosine.
        batch_size: examples in a step.
        full: 200 epochs and 5 seeds, whatever the other arguments say.
        data: what `ae_jax.data.load` takes.
        out: folder for the record.
    """
    seeds, epochs = (5, 200) if full else (seeds, epochs)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = datasets.load(data)
    net = networks.mlp(train_set.x.shape[1:], latents, hidden=hidden)
    steps = epochs * -(-len(train_set.x) // batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    algorithm = autoencoder(net, optimizer, likelihood="bernoulli")
    print(f"{seeds} deep autoencoders, {epochs} epochs")
    trained = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep)
    test = evaluate(algorithm, trained.params, test_set, sweep)
    linear = pca.fit(jnp.asarray(train_set.x), latents)
    linear_error = float(pca.evaluate(linear, jnp.asarray(test_set.x))["squared_error"].mean())

    shown = jnp.asarray(test_set.x[:10])
    first = jax.tree.map(lambda p: p[0], trained.params)
    deep = algorithm.decode(first, algorithm.encode(first, shown))
    rows = [shown, deep, pca.decode(linear, pca.encode(linear, shown))]
    metrics = {
        "deep autoencoder, test squared error": test["squared_error"],
        "PCA, test squared error": np.full(seeds, linear_error),
        "PCA minus deep autoencoder": linear_error - test["squared_error"],
        "deep autoencoder, test cross-entropy, nats": test["reconstruction"],
        "deep autoencoder, train cross-entropy, nats": last(trained.history, "reconstruction"),
    }
    return record(
        __file__,
        metrics,
        title=f"Deep autoencoder ({latents} numbers) against PCA-{latents} on {data}, squared error an image",
        source="Hinton & Salakhutdinov (2006), Science 313:504",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        published=PUBLISHED if data == "mnist" else {},
        claims=CLAIMS,
        notes=[
            "Rectified units, no pretraining and Adam, where the paper has pretrained logistic units and conjugate "
            f"gradients; {epochs} epochs here, 250 there. PCA has no seed: its value is repeated.",
        ],
        figure=lambda: plots.examples(
            np.stack(rows), (0.0, 1.0), rows=("test image", "deep autoencoder", f"PCA-{latents}")
        ),
        out=out,
    )


if __name__ == "__main__":
    command(main)
