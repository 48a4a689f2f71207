"""Two numbers an image: the codes of a 784-1000-500-250-2 autoencoder against the first two principal components.

Hinton & Salakhutdinov (2006), Science 313:504, fig. 3, which shows the two maps; here they are also measured. The
paper's net has logistic units and is pretrained by RBMs. Beside it stands a net of rectified units from a random start.
Adam trains both.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from deep_belief import unrolled
from study import Run, codes, cosine_adam, experiment, panels, scattered

from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.evaluation import pca
from ae_jax.evaluation.probes import knn_accuracy
from ae_jax.training import stages


@experiment(
    title="Two-dimensional codes of a deep autoencoder against PCA-2 on {data}",
    source="Hinton & Salakhutdinov (2006), Science 313:504, fig. 3",
    full={"seeds": 5, "pretraining": 50, "top": 1, "epochs": 200},
    # Written before the first run; those of the pretrained net before its first run. The paper gives fig. 3 no numbers.
    claims={
        "PCA-2 minus pretrained, test squared error": "two learned numbers keep more of an unseen image than PCA's",
        "PCA-2 minus pretrained, 1-NN test error, %": "the learned map separates the classes better than PCA's",
        "PCA-2 minus rectified, test squared error": "so do two numbers of rectified units without pretraining",
        "PCA-2 minus rectified, 1-NN test error, %": "and their map separates the classes better, too",
    },
    notes=[
        "PCA has no seed: its values are repeated. The nearest neighbour is sought among all training images.",
        "Each RBM has {pretraining} epochs, the top one {top} times as many, and Adam {epochs}; in the paper RBMs have "
        "50, and conjugate gradients 200. The picture shows the first 500 training images of each class, as fig. 3.",
    ],
)
def main(
    run: Run,
    epochs: int = 10,  # passes over the training set
    pretraining: int = 5,  # epochs of each RBM before them
    top: int = 2,  # the small RBM at the top has so many times these epochs
    hidden: tuple[int, ...] = (1000, 500, 250),  # widths of the encoder's hidden layers
    learning_rate: float = 1e-3,  # Adam's at the start; it falls to 0 along half a cosine
    batch_size: int = 100,  # examples in a step
):
    train_set, test_set = run.data(labels=True)
    adam = cosine_adam(learning_rate, epochs, train_set, batch_size)
    logistic, rectified = (
        autoencoder(
            networks.mlp(train_set.x.shape[1:], 2, hidden=hidden, activation=units), adam, likelihood="bernoulli"
        )
        for units in ("sigmoid", "relu")
    )
    start = unrolled(run, train_set, (*hidden, 2), pretraining, top, batch_size)
    arms = {
        "pretrained": (logistic, run.train("pretrained", logistic, train_set, start=stages.resumed(logistic, start))),
        "rectified": (rectified, run.train("rectified", rectified, train_set)),
    }
    linear = pca.fit(train_set.x, 2)
    maps = {"PCA-2": [np.asarray(pca.encode(linear, d.x))[None] for d in (train_set, test_set)]}  # each [S, N, 2]
    maps |= {arm: [codes(net, of.params, d.x) for d in (train_set, test_set)] for arm, (net, of) in arms.items()}
    error = lambda a, b: 100 * (1 - knn_accuracy(jnp.asarray(a), train_set.y, jnp.asarray(b), test_set.y, neighbours=1))
    run.metrics["PCA-2, test squared error"] = float(pca.evaluate(linear, test_set.x)["squared_error"].mean())
    for arm, (net, of) in arms.items():
        run.metrics[f"{arm}, test squared error"] = run.evaluate(net, of.params, test_set)["squared_error"]
    for name, (known, asked) in maps.items():
        errors = [error(a, b) for a, b in zip(known, asked, strict=True)]
        run.metrics[f"{name}, 1-NN test error, %"] = errors if name in arms else errors[0]

    def picture():
        labels = np.asarray(train_set.y)
        shown = np.concatenate([np.flatnonzero(labels == label)[:500] for label in np.unique(labels)])
        figure, all_axes = panels(13, 4.4, 1, 3)
        for axes, (name, (known, _)) in zip(all_axes, maps.items(), strict=True):
            z = known[0][shown]
            (left, right), (low, high) = (np.percentile(c, (1, 99)) for c in z.T)  # a few lie far out
            width, height = 0.1 * (right - left), 0.1 * (high - low)
            limits: Any = {"xlim": (left - width, right + width), "ylim": (low - height, high + height)}
            scattered(axes, z, labels[shown], title=name, **limits)
        all_axes[-1].legend(markerscale=4, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return figure

    return picture
