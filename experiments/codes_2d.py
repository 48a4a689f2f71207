"""Two numbers an image: the codes of a 784-1000-500-250-2 autoencoder against the first two principal components.

Hinton & Salakhutdinov (2006), Science 313:504, fig. 3. The paper shows the two maps; here they are also
measured, by squared error and by whether an image's nearest neighbour on the map is of its own class. Their net was
logistic and pretrained; here: rectified units, a random start, Adam.

    .venv/bin/python experiments/codes_2d.py
    .venv/bin/python experiments/codes_2d.py --full    # 200 epochs, as many as theirs of fine-tuning; 5 seeds
"""

import jax.numpy as jnp
import numpy as np
from study import Run, codes, command, cosine_adam, experiment

from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.evaluation import pca
from ae_jax.evaluation.probes import knn_accuracy

# Written before the first run. The paper gives fig. 3 no numbers.
CLAIMS = {
    "PCA-2 minus autoencoder, test squared error": "two learned coordinates keep more of an unseen image than PCA's",
    "PCA-2 minus autoencoder, 1-NN test error, %": "the learned map separates the classes better than PCA's",
}


@experiment(
    title="Two-dimensional codes of a deep autoencoder against PCA-2 on {data}",
    source="Hinton & Salakhutdinov (2006), Science 313:504, fig. 3",
    seeds=3,
    full={"seeds": 5, "epochs": 200},
    claims=CLAIMS,
    notes=["PCA has no seed: its values are repeated. The nearest neighbour is sought among all training images."],
)
def main(
    run: Run,
    *,
    epochs: int = 10,  # passes over the training set
    hidden: tuple[int, ...] = (1000, 500, 250),  # widths of the encoder's hidden layers
    learning_rate: float = 1e-3,  # Adam's at the start; it falls to 0 along half a cosine
    batch_size: int = 100,  # examples in a step
):
    """Trains autoencoders with a 2-D code and compares the map of test images with that of PCA."""
    train_set, test_set = run.data(labels=True)
    net = networks.mlp(train_set.x.shape[1:], 2, hidden=hidden)
    algorithm = autoencoder(net, cosine_adam(learning_rate, epochs, train_set, batch_size), likelihood="bernoulli")
    params = run.train("autoencoder", algorithm, train_set).params
    linear, sets = pca.fit(jnp.asarray(train_set.x), 2), (train_set, test_set)
    ours = [codes(algorithm, params, d.x) for d in sets]  # each [S, N, 2]
    theirs = [np.asarray(pca.encode(linear, jnp.asarray(d.x))) for d in sets]
    error = lambda a, b: 100 * (1 - knn_accuracy(jnp.asarray(a), train_set.y, jnp.asarray(b), test_set.y, neighbours=1))
    same = np.ones(len(run.seeds))
    run.metrics = {
        "autoencoder, test squared error": run.evaluate(algorithm, params, test_set)["squared_error"],
        "PCA-2, test squared error": same
        * float(pca.evaluate(linear, jnp.asarray(test_set.x))["squared_error"].mean()),
        "autoencoder, 1-NN test error, %": np.array([error(a, b) for a, b in zip(*ours, strict=True)]),
        "PCA-2, 1-NN test error, %": same * error(*theirs),
    }
    return lambda: side_by_side({"PCA": theirs[1], "autoencoder": ours[1][0]}, test_set.y)


def side_by_side(maps: dict[str, np.ndarray], labels):
    """The maps [N, 2] as scatter plots in one figure, coloured by label."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=3, foreground="white")]
    figure = Figure(figsize=(9, 4.4), dpi=100, layout="constrained")
    labels, colours = np.asarray(labels), colormaps["tab10"]
    for axes, (name, points) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        for label in np.unique(labels):
            x, y = points[labels == label][:300].T
            axes.scatter(x, y, s=5, color=colours(int(label) % 10), linewidths=0)
            place = np.median(x), np.median(y)
            axes.annotate(str(label), place, weight="bold", ha="center", va="center", path_effects=outline)
        (left, right), (low, high) = (np.percentile(c, (1, 99)) for c in points.T)  # a few lie far out
        width, height = 0.1 * (right - left), 0.1 * (high - low)
        limits = {"xlim": (left - width, right + width), "ylim": (low - height, high + height)}
        axes.set(title=name, xticks=[], yticks=[], **limits)
    return figure


if __name__ == "__main__":
    command(main)
