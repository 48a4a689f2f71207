"""A stack of sparse autoencoders under a softmax, before and after fine-tuning the whole.

UFLDL tutorial, exercise "Implement deep networks for digit classification": each layer is trained on the codes of the
layer below, and softmax regression on the second layer's features. Then all layers and the softmax train together.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, experiment, feature_panels, layers, mapped, part

from ae_jax import networks
from ae_jax.algorithms import classifier, sparse
from ae_jax.core import Batch, average, epoch, fit
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.probes import fit_linear
from ae_jax.optimizers import repeated
from ae_jax.training.stages import resumed

# `sparse` is twice the tutorial's cost, whose squared error and weight decay are halved: see self_taught.py
BETA, LAMBDA = 3.0, 3e-3
SOFTMAX_LAMBDA = 1e-4  # of the softmax alone, before fine-tuning
TUNING = 1000  # added to a seed for fine-tuning: no key of pretraining is used again


@experiment(
    title="Stacked sparse autoencoder {layers} before and after fine-tuning, {data}",
    source="UFLDL tutorial, exercise Implement deep networks for digit classification",
    full={"seeds": 5, "iterations": 400, "images": 60000},
    published={
        "accuracy before fine-tuning, %": Published(87.7, "UFLDL, exercise on deep networks, step 5", 1.5),
        "accuracy after fine-tuning, %": Published(97.6, "UFLDL, exercise on deep networks, step 5", 0.3),
    },
    # Written before the first run. The tolerances are for the tutorial's protocol (--full).
    claims={"accuracy, fine-tuned minus before, %": "fine-tuning the whole stack helps, as the tutorial finds"},
    notes=[
        "{iterations} iterations of L-BFGS a stage on {images} training images; the tutorial runs 400 on 60,000 "
        "(--full), and its tolerances are for that.",
        "Weight decay 3e-3 in fine-tuning is on the softmax alone, as in the tutorial's code. The softmax has a "
        "bias, which there it has not. Pictured: the inputs that excite units of the first layer, and of the "
        "second as sums of the first's.",
    ],
)
def main(
    run: Run,
    iterations: int = 100,  # of L-BFGS for each layer, and for the whole
    units: tuple[int, ...] = (200, 200),  # size of each layer, bottom first
    images: int = 10000,  # how many to train on
):
    whole, test_set = run.data(labels=True)
    train_set, test_set = jax.tree.map(jnp.asarray, (part(whole, images), test_set))
    size, classes = len(train_set.x), int(np.max(np.asarray(whole.y))) + 1
    updates, at_once = max(1, iterations // 10), min(10, iterations)
    run.settings |= {"iterations": updates * at_once, "images": size}  # what is run
    run.facts = {"layers": "-".join(map(str, units))}
    lbfgs = repeated(optax.lbfgs(memory_size=20), at_once)
    nets = layers(train_set.x.shape[1:], units, code_activation="sigmoid", output_activation="sigmoid")
    # a batch is the whole set, so the penalty on mean activations is exact
    each = [sparse(net, lbfgs, penalty="kl_minibatch", target=0.1, weight=2 * BETA, weight_l2=LAMBDA) for net in nets]
    # the tutorial's fine-tuning decays the softmax's weights alone
    whole_net = classifier(networks.stack(nets), lbfgs, classes=classes, head_l2=LAMBDA / 2)

    def layer(of, data: Batch, i: int) -> dict[str, Any]:
        key, below = of
        x = data.x
        for algorithm, params in zip(each, below, strict=False):
            x = encode(algorithm, params, x)
        return fit(each[i].init, epoch(each[i], size), data._replace(x=x), key, updates)[0]

    def with_softmax(params, data: Batch) -> dict[str, Any]:
        z = encode(whole_net, params, data.x)
        softmax = fit_linear(z, data.y, classes, l2=SOFTMAX_LAMBDA * size, max_steps=100, standard=False)
        return params | {"head": {"kernel": softmax.weights, "bias": softmax.bias}}

    # the first layer and fine-tuning take longest, and continue from checkpoints
    how = {"epochs": updates, "batch_size": size}
    trained = [run.train("layer 1", each[0], train_set, **how).params]
    for i in range(1, len(units)):
        of = run.keys("layer", i), trained
        trained = [*trained, run.each(f"layer {i + 1}", partial(layer, i=i), of, train_set)]
    before = run.each("softmax", with_softmax, networks.stacked(trained), train_set)
    seeds = [TUNING + seed for seed in run.seeds]
    after = run.train("fine-tuning", whole_net, train_set, seeds=seeds, start=resumed(whole_net, before), **how).params

    error = mapped(lambda p, d: average(whole_net.evaluate, p, d, jax.random.key(0))["error"])
    accuracy = lambda params, data: 100 * (1 - np.asarray(error(params, data)))
    begun, end = accuracy(before, test_set), accuracy(after, test_set)
    run.metrics = {
        "accuracy before fine-tuning, %": begun,
        "accuracy after fine-tuning, %": end,
        "accuracy, fine-tuned minus before, %": end - begun,
        "accuracy after fine-tuning on the training set, %": accuracy(after, train_set),
    }
    kernels = [[np.asarray(p["encoder"][i]["layer_0"]["kernel"][0]) for i in ("0", "1")] for p in (before, after)]
    image = lambda kernel: kernel.T[:64].reshape(-1, *train_set.x.shape[1:])
    shown = {
        "first layer, pretrained": image(kernels[0][0]),
        "second layer, pretrained": image(kernels[0][0] @ kernels[0][1]),
        "first layer, fine-tuned": image(kernels[1][0]),
    }
    return lambda: feature_panels(shown)
