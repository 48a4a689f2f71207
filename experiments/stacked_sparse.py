"""A stack of sparse autoencoders under a softmax, before and after fine-tuning the whole.

UFLDL tutorial, exercise "Implement deep networks for digit classification": 784-200-200, each layer a sparse
autoencoder (mean activation 0.1, weight decay 3e-3, beta 3) trained by L-BFGS on the codes of the one below; softmax
regression on the second layer's features; then everything below the softmax and the softmax together.

    .venv/bin/python experiments/stacked_sparse.py
    .venv/bin/python experiments/stacked_sparse.py --full    # the tutorial's 400 iterations on all 60,000 images
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, command, feature_panels, keys, mapped, record, with_labels

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import classifier, sparse
from ae_jax.core import Batch, average, epoch, fit
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.probes import fit_linear
from ae_jax.optimizers import repeated
from ae_jax.training.stages import greedy, resume

# Written before the first run. The tolerances are for the tutorial's protocol (--full).
CLAIMS = {"accuracy, fine-tuned minus before, %": "fine-tuning the whole stack helps, as the tutorial finds"}
PUBLISHED = {
    "accuracy before fine-tuning, %": Published(87.7, "UFLDL, exercise on deep networks, step 5", 1.5),
    "accuracy after fine-tuning, %": Published(97.6, "UFLDL, the same page", 0.3),
}
# `sparse` is twice the tutorial's cost, whose squared error and weight decay are halved: see self_taught.py
BETA, LAMBDA = 3.0, 3e-3
SOFTMAX_LAMBDA = 1e-4  # of the softmax alone, before fine-tuning


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    iterations: int = 100,
    units: tuple[int, ...] = (200, 200),
    images: int = 10000,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains a stack of sparse autoencoders layer by layer, a softmax on it, and then all of it.

    Args:
        seeds: how many stacks.
        seed: the first of them; its features are the picture.
        iterations: of L-BFGS for each layer, and for the whole.
        units: size of each layer, bottom first.
        images: how many to train on.
        full: the tutorial's protocol: 400 iterations on all images.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    whole, test_set = with_labels(datasets.load(data))
    iterations, images = (400, len(whole.x)) if full else (iterations, images)
    updates, at_once = max(1, iterations // 10), min(10, iterations)
    iterations = updates * at_once
    settings |= {"iterations": iterations, "images": min(images, len(whole.x))}  # what was run
    train_set, test_set = (jax.tree.map(jnp.asarray, d) for d in (jax.tree.map(lambda a: a[:images], whole), test_set))
    size, classes = len(train_set.x), int(np.max(np.asarray(whole.y))) + 1
    lbfgs = repeated(optax.lbfgs(memory_size=20), at_once)

    below = [train_set.x.shape[1:], *((k,) for k in units)]
    nets = [
        networks.mlp(shape, k, hidden=(), code_activation="sigmoid", output_activation="sigmoid")
        for shape, k in zip(below, units, strict=False)
    ]
    # the minibatch form on a batch that is the whole set: the penalty is the full one, exactly
    layers = [sparse(net, lbfgs, penalty="kl_minibatch", target=0.1, weight=2 * BETA, weight_l2=LAMBDA) for net in nets]
    # the tutorial's fine-tuning decays the softmax's weights alone
    whole_net = classifier(networks.stack(nets), lbfgs, classes=classes, head_l2=LAMBDA / 2)

    def pretrain(key, data: Batch) -> dict[str, Any]:
        trained, _ = greedy(layers, data, key, epochs=updates, batch_size=size)
        params = networks.stacked(trained)
        z = encode(whole_net, params, data.x)
        softmax = fit_linear(z, data.y, classes, l2=SOFTMAX_LAMBDA * size, max_steps=100, standard=False)
        return params | {"head": {"kernel": softmax.weights, "bias": softmax.bias}}

    def finetune(of, data: Batch) -> tuple[dict[str, Any], Any]:
        params, key = of
        return fit(resume(whole_net.init, params), epoch(whole_net, size), data, key, updates)

    def accuracy(params, data: Batch):
        measured = mapped(lambda p, d: average(whole_net.evaluate, p, d, jax.random.key(0))["error"])
        return 100 * (1 - np.asarray(measured(params, data)))

    print(f"{seeds} stacks layer by layer, {iterations} iterations of L-BFGS each on {size} images")
    before = mapped(pretrain)(keys(sweep, "pretraining"), train_set)
    start = accuracy(before, test_set)
    print(f"fine-tuning the whole, {iterations} iterations; accuracy before it {np.round(start, 2)} %")
    after, _ = mapped(finetune)((before, keys(sweep, "tuning")), train_set)
    end = accuracy(after, test_set)
    metrics = {
        "accuracy before fine-tuning, %": start,
        "accuracy after fine-tuning, %": end,
        "accuracy, fine-tuned minus before, %": end - start,
        "accuracy after fine-tuning on the training set, %": accuracy(after, train_set),
    }
    kernels = [[np.asarray(p["encoder"][i]["layer_0"]["kernel"][0]) for i in ("0", "1")] for p in (before, after)]
    image = lambda kernel: kernel.T[:64].reshape(-1, *train_set.x.shape[1:])
    return record(
        __file__,
        metrics,
        title=f"Stacked sparse autoencoder {'-'.join(map(str, units))} before and after fine-tuning, {data}",
        source="UFLDL tutorial, exercise Implement deep networks for digit classification",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        published=PUBLISHED if data == "mnist" else {},
        claims=CLAIMS,
        notes=[
            f"{iterations} iterations of L-BFGS a stage on {size} training images; the tutorial runs 400 on 60,000 "
            "(--full), and its tolerances are for that.",
            "Weight decay 3e-3 in fine-tuning is on the softmax alone, as in the tutorial's code. The softmax has a "
            "bias, which there it has not. Pictured: the inputs that excite units of the first layer, and of the "
            "second as sums of the first's.",
        ],
        figure=lambda: feature_panels(
            {
                "first layer, pretrained": image(kernels[0][0]),
                "second layer, pretrained": image(kernels[0][0] @ kernels[0][1]),
                "first layer, fine-tuned": image(kernels[1][0]),
            }
        ),
        out=out,
    )


if __name__ == "__main__":
    command(main)
