"""Two numbers an image: the codes of a 784-1000-500-250-2 autoencoder against the first two principal components.

Hinton & Salakhutdinov (2006), Science 313:504, fig. 3, which shows the two maps; here they are also measured. Their net
was logistic and pretrained; here: rectified units, a random start, Adam.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from study import Run, codes, cosine_adam, experiment, panels, scattered

from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.evaluation import pca
from ae_jax.evaluation.probes import knn_accuracy


@experiment(
    title="Two-dimensional codes of a deep autoencoder against PCA-2 on {data}",
    source="Hinton & Salakhutdinov (2006), Science 313:504, fig. 3",
    full={"seeds": 5, "epochs": 200},
    # Written before the first run. The paper gives fig. 3 no numbers.
    claims={
        "PCA-2 minus autoencoder, test squared error": "two learned numbers keep more of an unseen image than PCA's",
        "PCA-2 minus autoencoder, 1-NN test error, %": "the learned map separates the classes better than PCA's",
    },
    notes=["PCA has no seed: its values are repeated. The nearest neighbour is sought among all training images."],
)
def main(
    run: Run,
    epochs: int = 10,  # passes over the training set
    hidden: tuple[int, ...] = (1000, 500, 250),  # widths of the encoder's hidden layers
    learning_rate: float = 1e-3,  # Adam's at the start; it falls to 0 along half a cosine
    batch_size: int = 100,  # examples in a step
):
    train_set, test_set = run.data(labels=True)
    net = networks.mlp(train_set.x.shape[1:], 2, hidden=hidden)
    algorithm = autoencoder(net, cosine_adam(learning_rate, epochs, train_set, batch_size), likelihood="bernoulli")
    params = run.train("autoencoder", algorithm, train_set).params
    linear, sets = pca.fit(train_set.x, 2), (train_set, test_set)
    ours = [codes(algorithm, params, d.x) for d in sets]  # each [S, N, 2]
    theirs = [np.asarray(pca.encode(linear, d.x)) for d in sets]
    error = lambda a, b: 100 * (1 - knn_accuracy(jnp.asarray(a), train_set.y, jnp.asarray(b), test_set.y, neighbours=1))
    run.metrics = {
        "autoencoder, test squared error": run.evaluate(algorithm, params, test_set)["squared_error"],
        "PCA-2, test squared error": float(pca.evaluate(linear, test_set.x)["squared_error"].mean()),
        "autoencoder, 1-NN test error, %": np.array([error(a, b) for a, b in zip(*ours, strict=True)]),
        "PCA-2, 1-NN test error, %": error(*theirs),
    }

    def picture():
        figure, all_axes = panels(9, 4.4, 1, 2)
        for axes, (name, z) in zip(all_axes, {"PCA": theirs[1], "autoencoder": ours[1][0]}.items(), strict=True):
            (left, right), (low, high) = (np.percentile(c, (1, 99)) for c in z.T)  # a few lie far out
            width, height = 0.1 * (right - left), 0.1 * (high - low)
            limits: Any = {"xlim": (left - width, right + width), "ylim": (low - height, high + height)}
            scattered(axes, z[:3000], np.asarray(test_set.y)[:3000], title=name, **limits)
        all_axes[1].legend(markerscale=4, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        return figure

    return picture
