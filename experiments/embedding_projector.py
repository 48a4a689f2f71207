"""What `ae-jax project` writes for TensorBoard's Embedding Projector, read back and measured.

Smilkov et al. (2016), arXiv:1611.05469. An autoencoder is trained as the command line does it; the files of each
seed are parsed as the projector parses them, and the vectors compared with the codes, with pixels and with PCA.
"""

import jax.numpy as jnp
import numpy as np
from study import Run, experiment, panels, scattered, tabled

from ae_jax.app import plots
from ae_jax.app.commands import loading, projecting, runs, training
from ae_jax.evaluation import pca
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.probes import knn_accuracy
from ae_jax.training.settings import Settings

LARGEST = 8192  # side of the largest sprite that the projector takes, in pixels
PRECISION = 5e-6  # half a unit of the sixth digit, the last that is printed


def neighbours(z, y) -> float:
    """Accuracy in % of the nearest neighbour's label, for every second point among the points between."""
    codes = jnp.asarray(z, jnp.float32)
    return 100 * knn_accuracy(codes[::2], y[::2], codes[1::2], y[1::2], neighbours=1)


def wrong_images(sprite: np.ndarray, x: np.ndarray) -> int:
    """How many of the images x [N, H, W, C] are not where the projector looks for them, row by row in a square."""
    height, width = x.shape[1:3]
    columns = sprite.shape[1] // width
    cells = sprite.reshape(-1, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)[: len(x)]
    return int((np.abs(cells / 255 - x) > 0.51 / 255).any((1, 2, 3)).sum()) + len(x) - len(cells)


def picture(sprite: np.ndarray, vectors: np.ndarray, labels: np.ndarray):
    """A corner of the sprite, and the vectors in their two principal directions."""
    figure, (left, right) = panels(10, 5, 1, 2)
    left.imshow(sprite, interpolation="nearest")
    left.set_title("sprite.png, its first 16 rows and columns")
    left.axis("off")
    scattered(right, plots.plane(vectors).coordinates(vectors), labels, title="vectors.tsv by metadata.tsv", size=6)
    right.legend(markerscale=3, fontsize=8)
    return figure


@experiment(
    title="{points} test images of {data} in the Embedding Projector's files",
    source="Smilkov et al. (2016), arXiv:1611.05469",
    full={"epochs": 20, "points": 10000},
    # Written before the run that is recorded; docs/findings.md tells what changed after the first.
    claims={
        "8192 minus the sprite's side, pixels": "the projector can load the sprite",
        "1-NN accuracy, %: vectors minus PCA": "neighbours among the vectors share a label more often than by PCA",
        "1-NN accuracy, %: vectors minus pixels": "",
    },
    notes=[
        "1-NN: the label of each second point from its nearest among the others, in the vectors as they were "
        "written, in pixels, and in PCA of {latents} components fitted to the training set. Pixels and PCA have "
        "no seed; their values are repeated. The picture: a corner of the first seed's sprite, and its vectors in "
        "their two principal directions, as the projector opens them."
    ],
)
def main(
    run: Run,
    epochs: int = 5,  # passes over the training set
    hidden: tuple[int, ...] = (256, 128),  # widths of the encoder's layers before the code
    latents: int = 10,  # size of the code, and of PCA's
    points: int = 2000,  # test images projected
):
    from PIL import Image

    settings = Settings(
        algorithm="autoencoder",
        network="mlp",
        data=run.settings["data"],
        latents=latents,
        epochs=epochs,
        batch_size=128,
        seeds=tuple(run.seeds),
        hyper={"likelihood": "bernoulli"},
        network_options={"hidden": hidden},
    )
    splits, place = loading.load(settings), run.place("run")
    x, y = splits.test.x[:points], np.asarray(splits.test.y)[:points]
    names = np.array([splits.dataset.classes[label] if splits.dataset.classes else str(label) for label in y])
    linear = pca.fit(splits.train.x, latents)
    for name, z in {"pixels": x.reshape(len(x), -1), "PCA": pca.encode(linear, x)}.items():
        run.metrics[f"1-NN accuracy, %: {name}"] = neighbours(z, y)
    training.train(settings, place, quiet=True)
    found, shown = [], None
    for s in run.seeds:
        written = run.place(f"projected {s}")
        projecting.project(place, written, seed=s, n=points)
        vectors = np.loadtxt(written / "vectors.tsv", delimiter="\t", ndmin=2)
        labels = np.array((written / "metadata.tsv").read_text().splitlines())
        sprite = np.asarray(Image.open(written / "sprite.png"))
        opened = runs.open_run(place, s)
        codes = np.asarray(encode(opened.algorithm, opened.params, jnp.asarray(x)), np.float64)
        off = np.abs(vectors - codes) / np.where(codes == 0, 1, np.abs(codes))
        found.append(
            {
                "points": len(vectors),
                "the sprite's side, pixels": max(sprite.shape[:2]),
                "images in the sprite that are not those projected": wrong_images(sprite, np.asarray(x)),
                "labels that are not the test set's": (labels != names).sum(),
                "largest relative difference of a number read back": off.max(),
                "numbers read back that are not the code as printed": (off > PRECISION).sum(),
                "1-NN accuracy, %: vectors": neighbours(vectors, labels),
            }
        )
        shown = shown or (sprite[: 16 * x.shape[1], : 16 * x.shape[1]], vectors, labels)
    run.metrics |= tabled(found)
    run.metrics["8192 minus the sprite's side, pixels"] = LARGEST - run.metrics["the sprite's side, pixels"]
    return lambda: shown and picture(*shown)
