"""What a deep autoencoder of logistic units gains from pretraining by RBMs: 784-1000-500-250-30 on MNIST.

Hinton & Salakhutdinov (2006), Science 313:504, with the settings of their released code. Four RBMs are trained by CD-1
(weights from N(0, 0.1^2), rate 0.1, 0.001 for the linear top, decay 0.0002, momentum 0.5 for 5 epochs, then 0.9). They
are unrolled and fine-tuned by the cross-entropy: by Adam with a cosine schedule, and with `--searched` also by the
paper's conjugate gradients, with 3 line searches on each batch of 1,000. The measure is the squared error of an image,
summed over its pixels.
"""

import numpy as np
from study import Published, Run, cosine_adam, experiment, of_seed

from ae_jax import networks, optimizers
from ae_jax.algorithms import autoencoder, rbm
from ae_jax.app import plots
from ae_jax.evaluation import pca
from ae_jax.training import stages

WHERE = "Hinton & Salakhutdinov (2006), caption of fig. 2 B"
TABLE = "Sutskever, Martens, Dahl & Hinton (2013), table 1"
SEARCHED = "pretrained, conjugate gradients"
TUNED = "pretrained, test squared error"


def machines(shape, sizes, steps):
    """An RBM for each layer, the top one's hidden units linear with noise of variance 1."""
    for i, size in enumerate(sizes):
        top = i == len(sizes) - 1
        optimizer = optimizers.momentum(0.001 if top else 0.1, switch=5 * steps)
        net = networks.rbm(shape, size, scale=0.1)
        yield rbm(net, optimizer, hidden_units="gaussian" if top else "bernoulli", weight_l2=0.0001)
        shape = (size,)


def unrolled(run: Run, train_set, sizes, pretraining: int, top: int, batch_size: int):
    """The start of a deep net for each seed: RBMs, each trained on the codes of the one below; params [S, ...]."""
    rbms = list(machines(train_set.x.shape[1:], sizes, -(-len(train_set.x) // batch_size)))
    passes = [pretraining] * (len(sizes) - 1) + [top * pretraining]

    def trained(key, data):
        return networks.unrolled(stages.greedy(rbms, data, key, epochs=passes, batch_size=batch_size)[0])

    return run.each("pretraining", trained, run.keys("pretraining"), train_set)


@experiment(
    title="A deep logistic autoencoder ({latents} numbers) with and without pretraining by RBMs, {data}",
    source="Hinton & Salakhutdinov (2006), Science 313:504",
    seeds=2,
    full={"seeds": 3, "pretraining": 50, "top": 1, "epochs": 200},
    # Written before the run that is recorded; docs/findings.md tells what changed after the first.
    published={
        TUNED: Published(3.00, WHERE, None, "50 + 200 epochs, conjugate gradients; no claim for the short run"),
        "PCA, test squared error": Published(13.87, WHERE, 0.02),
        "pretrained, train squared error": Published(1.4, TABLE, None, "Martens' Hessian-free, no pretraining"),
        "logistic, random start, train squared error": Published(
            0.73, TABLE, None, "Nesterov's momentum from a sparse start, 750,000 updates"
        ),
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
        "The paper's net without pretraining made no progress at all. Adam moves it: it is behind PCA after 10 epochs, "
        "and ahead of PCA after 200 (--full).",
    ],
)
def main(
    run: Run,
    pretraining: int = 7,  # epochs of each RBM
    top: int = 2,  # the small RBM at the top has so many times these epochs
    epochs: int = 10,  # epochs of fine-tuning, and of training from a random start
    searched: int = 0,  # epochs of fine-tuning by conjugate gradients, in an arm of its own; 0 for no such arm
    hidden: tuple[int, ...] = (1000, 500, 250),  # widths of the encoder's hidden layers
    latents: int = 30,  # size of the code, and components of the PCA
    learning_rate: float = 1e-3,  # Adam's at the start
    batch_size: int = 100,  # examples in a step
):
    train_set, test_set = run.data()
    shape, shown = train_set.x.shape[1:], test_set.x[:10]
    adam = cosine_adam(learning_rate, epochs, train_set, batch_size)
    deep = lambda activation, optimizer: autoencoder(
        networks.mlp(shape, latents, hidden=hidden, activation=activation), optimizer, likelihood="bernoulli"
    )
    logistic, rectified = deep("sigmoid", adam), deep("relu", adam)
    start = unrolled(run, train_set, (*hidden, latents), pretraining, top, batch_size)
    before = run.evaluate(logistic, start, test_set)["squared_error"]
    linear = pca.fit(train_set.x, latents)
    linear_error = float(pca.evaluate(linear, test_set.x)["squared_error"].mean())
    trained = {
        "pretrained": run.train("pretrained", logistic, train_set, start=stages.resumed(logistic, start)).params,
        "logistic, random start": run.train("logistic, random start", logistic, train_set).params,
        "rectified, random start": run.train("rectified, random start", rectified, train_set).params,
    }
    nets = dict.fromkeys(trained, logistic) | {"rectified, random start": rectified}
    if searched:
        nets[SEARCHED] = deep("sigmoid", optimizers.conjugate_gradients(3))
        begun = stages.resumed(nets[SEARCHED], start)
        of = run.train(SEARCHED, nets[SEARCHED], train_set, epochs=searched, batch_size=10 * batch_size, start=begun)
        trained[SEARCHED] = of.params
    errors = {arm: run.evaluate(nets[arm], params, test_set)["squared_error"] for arm, params in trained.items()}
    run.metrics = {f"{arm}, test squared error": error for arm, error in errors.items()}
    run.metrics |= {
        f"{arm}, train squared error": run.evaluate(nets[arm], params, train_set)["squared_error"]
        for arm, params in trained.items()
    }
    run.metrics |= {
        "pretrained, before fine-tuning, test squared error": before,
        "PCA, test squared error": linear_error,
        "PCA minus pretrained, before fine-tuning": linear_error - before,
        "4.5 minus pretrained": 4.5 - errors["pretrained"],
        "logistic, random start, minus PCA": errors["logistic, random start"] - linear_error,
        "PCA minus rectified, random start": linear_error - errors["rectified, random start"],
    }
    if run.settings["full"] and run.published:
        run.published[TUNED] = Published(3.00, WHERE, 0.3, "conjugate gradients")
    if (pretraining, searched, run.settings["data"]) == (50, 200, "mnist"):
        run.published[f"{SEARCHED}, test squared error"] = Published(3.00, WHERE, 0.3, "50 + 200 epochs")

    stacks = {"unrolled RBMs": start} | trained
    rows = {"test image": shown}
    for name, params in stacks.items():
        rows[name] = nets.get(name, logistic).reconstruct(of_seed(params), shown)
    rows[f"PCA-{latents}"] = pca.decode(linear, pca.encode(linear, shown))
    for name, params in stacks.items():
        kernel = np.asarray(params["encoder"]["layer_0"]["kernel"][0])[:, :10].T.reshape(-1, *shape)
        rows[f"filters, {name}"] = kernel / np.abs(kernel).max((1, 2, 3), keepdims=True) / 2 + 0.5
    cells = np.stack(list(rows.values())).repeat(2, 2).repeat(2, 3)  # beside small images the names are too large
    return lambda: plots.examples(cells, (0.0, 1.0), rows=tuple(rows))
