"""Two numbers an image: the codes of a 784-1000-500-250-2 autoencoder against the first two principal components.

Hinton & Salakhutdinov (2006), Science 313:504, fig. 3. The paper shows the two maps; here they are also
measured, by squared error and by whether an image's nearest neighbour on the map is of its own class. Their net was
logistic and pretrained; here: rectified units, a random start, Adam.

    .venv/bin/python experiments/codes_2d.py
    .venv/bin/python experiments/codes_2d.py --full    # 200 epochs, as many as theirs of fine-tuning; 5 seeds
"""

import time

import jax.numpy as jnp
import numpy as np
import optax
from study import codes, command, evaluate, record, with_labels

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.evaluation import pca
from ae_jax.evaluation.probes import knn_accuracy
from ae_jax.training.loop import train

# Written before the first run. The paper gives fig. 3 no numbers.
CLAIMS = {
    "PCA-2 minus autoencoder, test squared error": "two learned coordinates keep more of an unseen image than PCA's",
    "PCA-2 minus autoencoder, 1-NN test error, %": "the learned map separates the classes better than PCA's",
}


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 10,
    hidden: tuple[int, ...] = (1000, 500, 250),
    learning_rate: float = 1e-3,
    batch_size: int = 100,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains autoencoders with a 2-D code and compares the map of test images with that of PCA.

    Args:
        seeds: how many independent runs.
        seed: the first of them; its map is the picture.
        epochs: passes over the training set.
        hidden: widths of the encoder's hidden layers.
        learning_rate: Adam's at the start; it falls to 0 along half a cosine.
        batch_size: examples in a step.
        full: 200 epochs and 5 seeds, whatever the other arguments say.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    seeds, epochs = (5, 200) if full else (seeds, epochs)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = with_labels(datasets.load(data))
    net = networks.mlp(train_set.x.shape[1:], 2, hidden=hidden)
    steps = epochs * -(-len(train_set.x) // batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    algorithm = autoencoder(net, optimizer, likelihood="bernoulli")
    print(f"{seeds} autoencoders with a 2-D code, {epochs} epochs")
    trained = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep)

    print("maps of the test images, and their nearest neighbours in training")
    test = evaluate(algorithm, trained.params, test_set, sweep)["squared_error"]
    maps = codes(algorithm, trained.params, train_set.x), codes(algorithm, trained.params, test_set.x)
    nn = np.array([nearest_error(a, train_set.y, b, test_set.y) for a, b in zip(*maps, strict=True)])
    linear = pca.fit(jnp.asarray(train_set.x), 2)
    linear_error = float(pca.evaluate(linear, jnp.asarray(test_set.x))["squared_error"].mean())
    linear_maps = [np.asarray(pca.encode(linear, jnp.asarray(x))) for x in (train_set.x, test_set.x)]
    linear_nn = nearest_error(linear_maps[0], train_set.y, linear_maps[1], test_set.y)
    metrics = {
        "autoencoder, test squared error": test,
        "PCA-2, test squared error": np.full(seeds, linear_error),
        "PCA-2 minus autoencoder, test squared error": linear_error - test,
        "autoencoder, 1-NN test error, %": nn,
        "PCA-2, 1-NN test error, %": np.full(seeds, linear_nn),
        "PCA-2 minus autoencoder, 1-NN test error, %": linear_nn - nn,
    }
    return record(
        __file__,
        metrics,
        title=f"Two-dimensional codes of a deep autoencoder against PCA-2 on {data}",
        source="Hinton & Salakhutdinov (2006), Science 313:504, fig. 3",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=["PCA has no seed: its values are repeated. The nearest neighbour is sought among all training images."],
        figure=lambda: side_by_side({"PCA": linear_maps[1], "autoencoder": maps[1][0]}, test_set.y),
        out=out,
    )


def nearest_error(train_codes, train_y, test_codes, test_y) -> float:
    """Percentage of test codes whose nearest training code has another label."""
    arrays = jnp.asarray(train_codes), train_y, jnp.asarray(test_codes), test_y
    return 100 * (1 - knn_accuracy(*arrays, neighbours=1))


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
