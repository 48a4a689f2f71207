"""Walks through two-dimensional codes: what a penalty on the code's length does to the holes between codes, on MNIST.

Autoencoders without and with `code_l2`, and a variational one (Kingma & Welling, 2014, arXiv:1312.6114), of the same
net; beside them two principal components, and fading from image to image in pixels. A point of the plane lies in a
hole where a classifier, trained on real digits, does not recognise what it decodes to.

    .venv/bin/python experiments/latent_walks.py
    .venv/bin/python experiments/latent_walks.py --full    # all of MNIST, a deeper net, 10 seeds
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import command, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder, classifier, vae
from ae_jax.app import plots
from ae_jax.core import Algorithm, Batch, Params
from ae_jax.evaluation import pca
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.retrieval import nearest
from ae_jax.training.loop import train

THRESHOLD = 0.95  # of the largest probability: fixed before the first run
MASS, WALKS = "recognised of the Gaussian's mass, %", "recognised on interpolations, %"
# Written before the first run; paired over seeds.
CLAIMS = {
    f"{MASS}: L2 minus plain": "the penalty closes holes between codes",
    f"{MASS}: variational minus plain": "so does the noise on a variational code",
    f"{MASS}: variational minus L2": "and more than the penalty, which is its KL without the noise",
    f"{MASS}: plain minus PCA": "what two learned numbers decode to is a digit more often than of two linear ones",
    f"{WALKS}: variational minus pixels": "a walk through codes passes more digits than fading in pixels",
    f"{WALKS}: L2 minus plain": "the penalty helps on straight ways between codes too",
}


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    images: int = 20000,
    epochs: int = 15,
    hidden: tuple[int, ...] = (256, 128),
    weight: float = 0.5,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    draws: int = 2000,
    pairs: int = 300,
    between: int = 9,
    side: int = 15,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains three kinds of autoencoder with a 2-D code, and walks over their codes.

    Args:
        seeds: how many runs of each.
        seed: the first of them; its walks are the picture.
        images: how many to train on.
        epochs: passes over them.
        hidden: widths of the encoder's layers before the code.
        weight: of the code's squared length; at 0.5 it is that of the mean in a variational autoencoder's KL.
        learning_rate: Adam's at the start; it falls to 0 along half a cosine.
        batch_size: images in a step.
        draws: points drawn from the Gaussian over the plane.
        pairs: of test images, between which one walks.
        between: points on each walk, its ends left out.
        side: of the grids in the picture.
        full: all of the training set, 784-1000-500-250-2, 30 epochs, 10 seeds.
        data: what `ae_jax.data.load` takes; grey images with labels.
        out: folder for the record.
    """
    if full:
        seeds, images, epochs, hidden = 10, 10**9, 30, (1000, 500, 250)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    loaded = datasets.load(data)
    labels = np.asarray(loaded.train.y)[:images]
    learned = Batch(jnp.asarray(loaded.train.x[:images]), jnp.asarray(labels))
    test_x, shape = jnp.asarray(loaded.test.x), loaded.train.x.shape[1:]
    classes = int(labels.max()) + 1
    steps = epochs * -(-len(learned.x) // batch_size)
    adam = lambda: optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    plan: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}

    print(f"a classifier, {epochs} epochs", flush=True)
    judge = classifier(
        networks.mlp(shape, 64, hidden=(256,), code_activation="relu", dropout=0.2), adam(), classes=classes
    )
    judge_params = train(judge, learned, **plan).of(0)

    @jax.jit
    def sure(x: Any) -> Any:  # [N, *shape] -> [N], the largest probability
        head = judge_params["head"]
        return jax.nn.softmax(judge.encode(judge_params, x) @ head["kernel"] + head["bias"]).max(-1)

    recognised = lambda x: np.asarray(sure(jnp.asarray(x))) > THRESHOLD
    share = lambda x: 100 * float(recognised(x).mean())

    algorithms = {
        "plain": autoencoder(networks.mlp(shape, 2, hidden=hidden), adam(), likelihood="bernoulli"),
        "L2": autoencoder(networks.mlp(shape, 2, hidden=hidden), adam(), likelihood="bernoulli", code_l2=weight),
        "variational": vae(networks.mlp(shape, 2, hidden=hidden, heads=2), adam()),
    }
    draw = np.random.default_rng(seed)
    normal = draw.normal(size=(draws, 2)).astype(np.float32)  # the same for all
    ends = draw.integers(len(test_x), size=(2, pairs))
    t = np.linspace(0, 1, between + 2)[1:-1, None, None]  # the ends are not on the way
    base = learned.x[:10000].reshape(min(10000, len(learned.x)), -1)
    far = lambda x: float(np.mean(nearest(base, jnp.asarray(x).reshape(len(x), -1), 1)[1]))

    own = {"test images": test_x[:draws], "test images with shuffled pixels": shuffled(test_x[:draws], draw)}
    metrics = {f"recognised of {name}, %": np.full(seeds, share(x)) for name, x in own.items()}
    metrics["distance to the nearest training image: test images"] = np.full(seeds, far(own["test images"]))
    fade = (1 - t[..., None, None]) * test_x[ends[0]] + t[..., None, None] * test_x[ends[1]]  # [T, P, *shape]
    metrics[f"{WALKS}: pixels"] = np.full(seeds, share(fade.reshape(-1, *shape)))

    linear = pca.fit(learned.x, 2)
    values: dict[str, list[dict[str, float]]] = {"PCA": []}
    grids, walks = {}, {"pixels": fade[:, :4]}
    for name, algorithm in algorithms.items():
        print(f"{name}: {seeds} runs of {epochs} epochs", flush=True)
        trained = train(algorithm, learned, seeds=sweep, **plan)
        values[name] = []
        for s in sweep:
            plane, found = Plane(algorithm, trained.of(s), learned.x, test_x), {}
            drawn = plane.decode(plane.places(normal))
            way = (1 - t) * plane.tested[ends[0]] + t * plane.tested[ends[1]]  # [T, P, 2]
            walked = plane.decode(way.reshape(-1, 2))
            found[MASS], found[WALKS] = share(drawn), share(walked)
            found["distance to the nearest training image"] = far(drawn)
            if name == "variational":
                found["recognised of the mass of its own prior, %"] = share(plane.decode(normal))
            values[name].append(found)
            if s == seed:
                grids[name] = plane.decode(plane.places(lattice(side)))
                walks[name] = walked.reshape(between, pairs, *shape)[:, :4]
    flat, tested = (np.asarray(pca.encode(linear, x)) for x in (learned.x, test_x))
    rebuilt = lambda z: np.clip(np.asarray(pca.decode(linear, jnp.asarray(z, jnp.float32))), 0, 1)
    drawn = rebuilt(gaussian_of(flat)(normal))
    walked = rebuilt(((1 - t) * tested[ends[0]] + t * tested[ends[1]]).reshape(-1, 2))
    one = {MASS: share(drawn), WALKS: share(walked), "distance to the nearest training image": far(drawn)}
    values["PCA"] = [one] * seeds
    for name, of in values.items():
        metrics |= {f"{what}: {name}": np.array([found[what] for found in of]) for what in of[0]}
    for claim in CLAIMS:
        what, _, difference = claim.rpartition(": ")
        a, b = difference.split(" minus ")
        metrics[claim] = metrics[f"{what}: {a}"] - metrics[f"{what}: {b}"]
    return record(
        __file__,
        metrics,
        title=f"Holes between two-dimensional codes, and walks across them, {data}",
        source="Kingma & Welling (2014), arXiv:1312.6114, fig. 4",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=CLAIMS,
        notes=[
            f"Recognised: a classifier (784-256-64-10 on pixels, dropout, the same training images) gives one class "
            f"more than {THRESHOLD:g}. The Gaussian is fitted to the training codes, mean and covariance, for all "
            "alike: only the variational code has a prior, and the others' scale is anyone's. The mass is that of "
            f"{draws} draws, the same for all. Distances are Euclidean in pixels, to 10,000 training images, and "
            "small for what is blurred: a check, no aim.",
            "PCA and fading in pixels have no seed; their values are repeated. The length of a code alone does not "
            "bind the decoder, which can undo any shrinking by larger weights: where the penalty closes few holes, "
            "that is the suspected cause. In the picture red marks what the classifier does not recognise.",
        ],
        figure=lambda: picture(grids, walks, recognised),
        out=out,
    )


class Plane:
    """A trained 2-D autoencoder, the Gaussian over its training codes, and its test codes."""

    def __init__(self, algorithm: Algorithm, params: Params, train_x: Any, test_x: Any):
        self._decode = jax.jit(lambda z: algorithm.decode(params, z))
        self.places = gaussian_of(np.asarray(encode(algorithm, params, train_x)))
        self.tested = np.asarray(encode(algorithm, params, test_x))

    def decode(self, z: Any) -> np.ndarray:
        """[N, 2] -> images [N, *shape]."""
        return np.asarray(self._decode(jnp.asarray(z, jnp.float32)))


def gaussian_of(codes: np.ndarray) -> Any:
    """Maps standard normal points [N, K] to the Gaussian with these codes' mean and covariance."""
    root = np.linalg.cholesky(np.cov(codes.T) + 1e-12 * np.eye(codes.shape[1]))
    return lambda points: codes.mean(0) + points @ root.T


def lattice(side: int) -> np.ndarray:
    """A square grid of equal probability under the standard normal, row by row, the first at the top. [side^2, 2]."""
    from scipy.special import ndtri

    line = ndtri((np.arange(side) + 0.5) / side)
    return np.stack(np.meshgrid(line, -line), -1).reshape(-1, 2)


def shuffled(x: Any, draw: np.random.Generator) -> np.ndarray:
    """Each image's pixels in an order of its own: what no classifier should be sure of."""
    flat = np.asarray(x).reshape(len(x), -1)
    return draw.permuted(flat, axis=1).reshape(np.shape(x))


def picture(grids: dict[str, np.ndarray], walks: dict[str, np.ndarray], recognised: Any) -> Any:
    """The grids side by side, and below them the walks [T, P, *shape], a pair after another."""
    from matplotlib.figure import Figure

    def marked(x: np.ndarray) -> np.ndarray:  # [N, H, W, 1] -> [N, H, W, 3], red where a digit is not recognised
        x = np.clip(np.asarray(x, np.float32), 0, 1)
        back = np.where(recognised(x)[:, None, None, None], 0.0, np.array([0.55, 0.0, 0.0]))
        return back + (1 - back) * x

    figure = Figure(figsize=(12, 8.2), dpi=100, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(4.2, 4))
    top, bottom = parts
    top.suptitle("grids of equal probability, and walks; red: not recognised", fontsize=10)  # else titles are cut
    for axes, (name, x) in zip(top.subplots(1, len(grids)), grids.items(), strict=True):
        side = int(len(x) ** 0.5)
        axes.imshow(plots.mosaic(marked(x).reshape(side, side, *x.shape[1:3], 3), (0.0, 1.0), gap=0))
        axes.set_title(f"{name}: {100 * recognised(x).mean():.0f} % of the grid recognised")
        axes.axis("off")
    for axes, (name, x) in zip(bottom.subplots(2, 2).ravel(), walks.items(), strict=True):
        rows = np.swapaxes(np.asarray(x), 0, 1)  # [P, T, *shape]
        cells = marked(rows.reshape(-1, *rows.shape[2:])).reshape(*rows.shape[:4], 3)
        axes.imshow(plots.mosaic(cells, (0.0, 1.0), gap=1))
        axes.set_title(f"walks, {name}")
        axes.axis("off")
    return figure


if __name__ == "__main__":
    command(main)
