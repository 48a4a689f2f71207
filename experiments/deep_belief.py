"""What pretraining by RBMs gives a deep autoencoder of logistic units: 784-1000-500-250-30 on MNIST.

Hinton & Salakhutdinov (2006), Science 313:504, with the settings of their released code: four RBMs by CD-1 (weights
from N(0, 0.1^2), rate 0.1, 0.001 for the linear top, decay 0.0002, momentum 0.5 for 5 epochs, then 0.9), unrolled and
fine-tuned by the cross-entropy. They did so by conjugate gradients; here by Adam with a cosine schedule. Judged by the
squared error of an unseen image, summed over its pixels. A seed takes two cores some six minutes; the record in
results/ is of three (--seeds 3).
"""

from functools import partial

import numpy as np
from study import Published, Run, cosine_adam, experiment, of_seed

from ae_jax import networks, optimizers
from ae_jax.algorithms import autoencoder, rbm
from ae_jax.app import plots
from ae_jax.core import Rule, average, epoch, fit
from ae_jax.evaluation import pca
from ae_jax.training import stages

WHERE = "Hinton & Salakhutdinov (2006), caption of fig. 2 B"
TUNED = "pretrained, test squared error"


def machines(shape, sizes, steps):
    """An RBM for each layer, the top one's hidden units linear with noise of variance 1."""
    for i, size in enumerate(sizes):
        top = i == len(sizes) - 1
        optimizer = optimizers.momentum(0.001 if top else 0.1, switch=5 * steps)
        net = networks.rbm(shape, size, scale=0.1)
        yield rbm(net, optimizer, hidden_units="gaussian" if top else "bernoulli", weight_l2=0.0001)
        shape = (size,)


def watched(rule: Rule, error) -> Rule:
    """The rule on datasets, whose only metric is `error(params)` after each pass."""

    def update(params, memory, data, key):
        params, memory, _ = rule.update(params, memory, data, key)
        return params, memory, {"error": error(params)}

    return Rule(rule.init, update)


@experiment(
    title="A deep logistic autoencoder ({latents} numbers) with and without pretraining by RBMs, {data}",
    source="Hinton & Salakhutdinov (2006), Science 313:504",
    seeds=2,
    full={"seeds": 5, "pretraining": 50, "top": 1, "epochs": 200},
    # Written before the run that is recorded; docs/findings.md tells what changed after the first.
    published={
        TUNED: Published(3.00, WHERE, None, "50 + 200 epochs; no claim for the short run"),
        "PCA, test squared error": Published(13.87, WHERE, 0.02),
    },
    claims={
        "PCA minus pretrained, before fine-tuning": "a stack of RBMs, unrolled, keeps more than PCA before any "
        "fine-tuning",
        "4.5 minus pretrained": "after fine-tuning the squared error is below 4.5",
        "logistic, random start, minus PCA": "by the same optimiser and budget, a random start loses to PCA",
        "PCA minus rectified, random start": "rectified units need no pretraining to beat PCA",
    },
    notes=[
        "{pretraining} epochs an RBM ({top} times as many the top one) and {epochs} of fine-tuning by Adam; in "
        "the paper 50, and 200 of conjugate gradients. All nets of a seed see the same batches. PCA has no seed: its "
        "value is repeated.",
        "The paper's net without pretraining made no progress at all; Adam moves it, and leaves it behind PCA.",
    ],
)
def main(
    run: Run,
    pretraining: int = 7,  # epochs of each RBM
    top: int = 2,  # times as many of the small one at the top
    epochs: int = 10,  # of fine-tuning, and of training from a random start
    hidden: tuple[int, ...] = (1000, 500, 250),  # widths of the encoder's hidden layers
    latents: int = 30,  # size of the code, and components of the PCA
    learning_rate: float = 1e-3,  # Adam's at the start
    batch_size: int = 100,  # examples in a step
):
    train_set, test_set = run.data()
    shape, shown = train_set.x.shape[1:], test_set.x[:10]
    adam = cosine_adam(learning_rate, epochs, train_set, batch_size)

    def unrolled(key, train):
        layers, _ = stages.greedy(rbms, train, key, epochs=each, batch_size=batch_size)
        return networks.unrolled(layers)

    def tuned(of, train, test, algorithm):
        key, key_test, given = of
        error = lambda params: average(algorithm.evaluate, params, test, key_test)["squared_error"]
        rule = watched(epoch(algorithm, batch_size), error)
        params, history = fit(stages.resume(algorithm.init, given), rule, train, key, epochs)
        return params, history["error"]

    each = [pretraining] * len(hidden) + [top * pretraining]
    rbms = list(machines(shape, (*hidden, latents), -(-len(train_set.x) // batch_size)))
    deep = lambda activation: networks.mlp(shape, latents, hidden=hidden, activation=activation)
    logistic, rectified = (autoencoder(deep(of), adam, likelihood="bernoulli") for of in ("sigmoid", "relu"))
    start = run.each("pretraining", unrolled, run.keys("pretraining"), train_set)
    before = run.evaluate(logistic, start, test_set)["squared_error"]
    linear = pca.fit(train_set.x, latents)
    linear_error = float(pca.evaluate(linear, test_set.x)["squared_error"].mean())
    stacks, curves = {"unrolled RBMs": (logistic, of_seed(start))}, {}
    for arm, algorithm, given in (
        ("pretrained", logistic, start),
        ("logistic, random start", logistic, {}),
        ("rectified, random start", rectified, {}),
    ):
        of = run.keys(), run.keys("evaluation"), given
        params, curves[arm] = run.each(arm, partial(tuned, algorithm=algorithm), of, train_set, test_set)
        stacks[arm] = algorithm, of_seed(params)
    last = {arm: errors[:, -1] for arm, errors in curves.items()}
    run.metrics = {f"{arm}, test squared error": errors for arm, errors in last.items()} | {
        "pretrained, before fine-tuning, test squared error": before,
        "PCA, test squared error": linear_error,
        "PCA minus pretrained, before fine-tuning": linear_error - before,
        "4.5 minus pretrained": 4.5 - last["pretrained"],
        "logistic, random start, minus PCA": last["logistic, random start"] - linear_error,
        "PCA minus rectified, random start": linear_error - last["rectified, random start"],
    }
    if epochs > 1:
        run.metrics |= {f"{arm}, epoch {epochs // 2}": errors[:, epochs // 2 - 1] for arm, errors in curves.items()}
    if run.settings["full"] and run.published:
        run.published[TUNED] = Published(3.00, WHERE, 0.3, "conjugate gradients")

    rows = {"test image": shown} | {name: algorithm.reconstruct(p, shown) for name, (algorithm, p) in stacks.items()}
    rows[f"PCA-{latents}"] = pca.decode(linear, pca.encode(linear, shown))
    for name, (_, params) in stacks.items():
        kernel = np.asarray(params["encoder"]["layer_0"]["kernel"])[:, :10].T.reshape(-1, *shape)
        rows[f"filters, {name}"] = kernel / np.abs(kernel).max((1, 2, 3), keepdims=True) / 2 + 0.5
    cells = np.stack(list(rows.values())).repeat(2, 2).repeat(2, 3)  # small images would have large names
    return lambda: plots.examples(cells, (0.0, 1.0), rows=tuple(rows))
