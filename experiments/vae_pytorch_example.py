"""The VAE of the PyTorch examples: the losses that its log shows after ten epochs of MNIST.

784-400-20-400-784 with ReLU, grey values under a Bernoulli likelihood, batches of 128, Adam at 1e-3, and
PyTorch's initialisation. Kingma & Welling (2014), arXiv:1312.6114; github.com/pytorch/examples, vae/main.py.

    .venv/bin/python experiments/vae_pytorch_example.py

The defaults are the published protocol; there is no larger one.
"""

import time

import optax
from study import Published, command, evaluate, last, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import vae
from ae_jax.training.loop import train

# Written before the first run. Three runs of the PyTorch code were seen to end at 105.31 to 105.67.
PUBLISHED = {
    "test loss, nats": Published(105.589, "pytorch/examples, vae: log of epoch 10, seed 1", 0.4),
    "train loss, nats": Published(106.311, "pytorch/examples, vae: log of epoch 10, seed 1", 0.4),
}


def main(
    *,
    seeds: int = 5,
    seed: int = 0,
    epochs: int = 10,
    latents: int = 20,
    hidden: int = 400,
    batch_size: int = 128,
    data: str = "mnist",
    out: str = "results",
):
    """Trains the VAE of the PyTorch examples and compares its losses with those published.

    Args:
        seeds: how many independent runs.
        seed: the first of them.
        epochs: passes over the training set.
        latents: size of the code.
        hidden: width of the hidden layers.
        batch_size: examples in a step.
        data: what `ae_jax.data.load` takes.
        out: folder for the record.
    """
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = datasets.load(data)
    net = networks.mlp(train_set.x.shape[1:], latents, hidden=(hidden,), heads=2, init="uniform")
    algorithm = vae(net, optax.adam(1e-3))
    print(f"{seeds} VAEs, {epochs} epochs")
    trained = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep)
    test = evaluate(algorithm, trained.params, test_set, sweep)
    metrics = {
        "test loss, nats": test["loss"],
        "train loss, nats": last(trained.history, "loss"),
        "test KL, nats": test["kl"],
        "test reconstruction, nats": test["nll"],
    }
    return record(
        __file__,
        metrics,
        title=f"VAE as in the PyTorch examples, {data}: negative evidence lower bound after {epochs} epochs",
        source="Kingma & Welling (2014), arXiv:1312.6114",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        published=PUBLISHED if data == "mnist" else {},
        notes=["One draw of z an image in training and in test, as in the PyTorch code; grey values, not binarised."],
        out=out,
    )


if __name__ == "__main__":
    command(main)
