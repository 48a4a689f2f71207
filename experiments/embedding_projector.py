"""What `ae-jax project` writes for TensorBoard's Embedding Projector, read back and measured.

Smilkov et al. (2016), arXiv:1611.05469. An autoencoder is trained as the command line does it; the files of each
seed are parsed as the projector parses them, and the vectors compared with the codes, with pixels and with PCA.

    .venv/bin/python experiments/embedding_projector.py
    .venv/bin/python experiments/embedding_projector.py --full    # 20 epochs, all test images
"""

import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from study import command, record

from ae_jax.app.commands import loading, projecting, runs, training
from ae_jax.evaluation import pca
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.probes import knn_accuracy
from ae_jax.training.settings import Settings

LARGEST = 8192  # pixels a side of a sprite, for the projector
PRECISION = 5e-6  # half a unit of the sixth digit, the last that is printed
# Written before the run that is recorded; docs/findings.md tells what changed after the first.
CLAIMS = {
    "8192 minus the sprite's side, pixels": "the projector can load the sprite",
    "1-NN accuracy, %: vectors minus PCA": "neighbours among the vectors share a label more often than by PCA",
}


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 5,
    hidden: tuple[int, ...] = (256, 128),
    latents: int = 10,
    points: int = 2000,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains, projects, and reads back.

    Args:
        seeds: how many runs.
        seed: the first of them; what it projects is the picture.
        epochs: passes over the training set.
        hidden: widths of the encoder's layers before the code.
        latents: size of the code, and of PCA's.
        points: test images projected.
        full: 20 epochs and 10,000 test images, whatever the other arguments say.
        data: what `ae_jax.data.load` takes; images with labels.
        out: folder for the record.
    """
    from PIL import Image

    epochs, points = (20, 10000) if full else (epochs, points)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    run = Settings(
        algorithm="autoencoder",
        network="mlp",
        data=data,
        latents=latents,
        epochs=epochs,
        batch_size=128,
        seeds=tuple(sweep),
        hyper={"likelihood": "bernoulli"},
        network_options={"hidden": hidden},
    )
    splits = loading.load(run)
    x, y = np.asarray(splits.test.x[:points]), np.asarray(splits.test.y)[:points]
    linear = pca.fit(jnp.asarray(splits.train.x), latents)
    flat = {"pixels": x.reshape(len(x), -1), "PCA": np.asarray(pca.encode(linear, jnp.asarray(x)))}
    metrics = {f"1-NN accuracy, %: {name}": np.full(seeds, neighbours(z, y)) for name, z in flat.items()}
    rows, shown = [], None
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        training.train(run, where / "run", quiet=True)
        for s in sweep:
            print(f"projecting seed {s}", flush=True)
            projecting.project(where / "run", where / str(s), seed=s, n=points)
            vectors = np.loadtxt(where / str(s) / "vectors.tsv", delimiter="\t", ndmin=2)
            labels = np.array((where / str(s) / "metadata.tsv").read_text().splitlines())
            sprite = np.asarray(Image.open(where / str(s) / "sprite.png"))
            opened = runs.open_run(where / "run", s)
            codes = np.asarray(encode(opened.algorithm, opened.params, jnp.asarray(x)), np.float64)
            off = np.abs(vectors - codes) / np.where(codes == 0, 1, np.abs(codes))
            rows.append(
                {
                    "points": len(vectors),
                    "the sprite's side, pixels": max(sprite.shape[:2]),
                    "images in the sprite that are not those projected": wrong_images(sprite, x),
                    "labels that are not the test set's": int((labels != names_of(splits.dataset.classes, y)).sum()),
                    "largest relative difference of a number read back": off.max(),
                    "numbers read back that are not the code as printed": int((off > PRECISION).sum()),
                    "1-NN accuracy, %: vectors": neighbours(vectors, labels),
                }
            )
            shown = shown or (sprite, vectors, labels)
    metrics |= {label: np.array([row[label] for row in rows], float) for label in rows[0]}
    metrics["8192 minus the sprite's side, pixels"] = LARGEST - metrics["the sprite's side, pixels"]
    for name in flat:
        metrics[f"1-NN accuracy, %: vectors minus {name}"] = (
            metrics["1-NN accuracy, %: vectors"] - metrics[f"1-NN accuracy, %: {name}"]
        )
    return record(
        __file__,
        metrics,
        title=f"{points} test images of {data} in the Embedding Projector's files",
        source="Smilkov et al. (2016), arXiv:1611.05469",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            "1-NN: the label of each second point from its nearest among the others, in the vectors as they were "
            f"written, in pixels, and in PCA of {latents} components fitted to the training set. Pixels and PCA have "
            "no seed; their values are repeated. The picture: a corner of the first seed's sprite, and its vectors in "
            "their two principal directions, as the projector opens them."
        ],
        figure=None if shown is None else lambda: picture(*shown, x.shape[1]),
        out=out,
    )


def names_of(classes: tuple[str, ...], y: np.ndarray) -> np.ndarray:
    """Labels as they are called."""
    return np.array([classes[label] if classes else str(label) for label in y])


def neighbours(z: np.ndarray, y: np.ndarray) -> float:
    """Percentage of every second point whose nearest among the others has its label."""
    codes = jnp.asarray(z, jnp.float32)
    return 100 * knn_accuracy(codes[::2], y[::2], codes[1::2], y[1::2], neighbours=1)


def wrong_images(sprite: np.ndarray, x: np.ndarray) -> int:
    """How many of the images x [N, H, W, C] are not where the projector looks for them, row by row in a square."""
    height, width = x.shape[1:3]
    columns = sprite.shape[1] // width
    cells = sprite.reshape(-1, height, columns, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)[: len(x)]
    return int((np.abs(cells / 255 - x) > 0.51 / 255).any((1, 2, 3)).sum()) + len(x) - len(cells)


def picture(sprite: np.ndarray, vectors: np.ndarray, labels: np.ndarray, side: int):
    """A corner of the sprite, and the vectors in their two principal directions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(sprite[: 16 * side, : 16 * side], interpolation="nearest")
    left.set_title("sprite.png, its first 16 rows and columns")
    left.axis("off")
    centred = vectors - vectors.mean(0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    for i, name in enumerate(np.unique(labels)):
        of = plane[labels == name]
        right.scatter(of[:, 0], of[:, -1], s=6, color=f"C{i % 10}", label=name, linewidths=0)
    right.legend(markerscale=3, fontsize=8)
    right.set(title="vectors.tsv by metadata.tsv", xticks=[], yticks=[])
    return figure


if __name__ == "__main__":
    command(main)
