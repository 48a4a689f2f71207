"""Walks through two-dimensional codes: what a penalty on the code's length does to the holes between codes, on MNIST.

Autoencoders without and with `code_l2`, and a variational one (Kingma & Welling, 2014, arXiv:1312.6114), of the same
net; beside them two principal components, and fading from image to image in pixels. A hole is a point of the plane
whose decoded image a classifier of real digits does not recognise.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from study import Run, cosine_adam, experiment, panels, show, tabled

from ae_jax import networks
from ae_jax.algorithms import autoencoder, classifier, vae
from ae_jax.app import plots
from ae_jax.core import Batch
from ae_jax.evaluation import pca
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.retrieval import nearest

THRESHOLD = 0.95  # of the largest probability: fixed before the first run
MASS, WALKS = "recognised of the Gaussian's mass, %", "recognised on interpolations, %"
FAR = "distance to the nearest training image"


def gaussian_of(codes: np.ndarray) -> Any:
    """Maps standard normal points [N, K] to the Gaussian with these codes' mean and covariance."""
    root = np.linalg.cholesky(np.cov(codes.T) + 1e-12 * np.eye(codes.shape[1]))
    return lambda points: codes.mean(0) + points @ root.T


def lattice(side: int) -> np.ndarray:
    """A square grid of equal probability under the standard normal, row by row, the first at the top. [side^2, 2]."""
    from scipy.special import ndtri

    line = ndtri((np.arange(side) + 0.5) / side)
    return np.stack(np.meshgrid(line, -line), -1).reshape(-1, 2)


def picture(grids: dict[str, np.ndarray], walks: dict[str, np.ndarray], recognised: Any) -> Any:
    """The grids side by side, and below them the walks [T, P, *shape], a pair after another."""

    def marked(cells: np.ndarray) -> np.ndarray:  # [R, C, H, W, 1] -> [R, C, H, W, 3], red where not recognised
        x = np.clip(np.asarray(cells, np.float32), 0, 1)
        known = recognised(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], 1, 1, 1)
        back = np.where(known, 0.0, np.array([0.55, 0.0, 0.0]))
        return back + (1 - back) * x

    figure, axes = panels(14, 7, 2, len(walks))
    axes[0, -1].axis("off")
    for a, (name, x) in zip(axes[0], grids.items(), strict=False):
        side = int(len(x) ** 0.5)
        grid = plots.mosaic(marked(x.reshape(side, side, *x.shape[1:])), (0.0, 1.0), gap=0)
        show(a, grid, f"{name}: {100 * recognised(x).mean():.0f} % of the grid recognised")
    for a, (name, x) in zip(axes[1], walks.items(), strict=True):
        show(a, plots.mosaic(marked(np.swapaxes(x, 0, 1)), (0.0, 1.0), gap=1), f"walks, {name}")
    return figure


@experiment(
    title="Holes between two-dimensional codes, and walks across them, {data}",
    source="Kingma & Welling (2014), arXiv:1312.6114, fig. 4",
    full={"seeds": 10, "images": 10**9, "epochs": 30, "hidden": (1000, 500, 250)},
    # Written before the first run; paired over seeds.
    claims={
        f"{MASS}: L2 minus plain": "the penalty closes holes between codes",
        f"{MASS}: variational minus plain": "so does the noise on a variational code",
        f"{MASS}: variational minus L2": "and more than the penalty, which is its KL without the noise",
        f"{MASS}: plain minus PCA": "what two learned numbers decode to is a digit more often than of two linear ones",
        f"{WALKS}: variational minus pixels": "a walk through codes passes more digits than fading in pixels",
        f"{WALKS}: L2 minus plain": "the penalty helps on straight ways between codes too",
    },
    notes=[
        "Recognised: a classifier (784-256-64-10 on pixels, dropout, the same training images) gives one class "
        f"more than {THRESHOLD:g}. The Gaussian is fitted to the training codes, mean and covariance, for all "
        "alike: only the variational code has a prior, and the others' scale is anyone's. The mass is that of "
        "{draws} draws, the same for all. Distances are Euclidean in pixels, to 10,000 training images, and "
        "small for what is blurred: a check, no aim.",
        "PCA and fading in pixels have no seed; their values are repeated. The length of a code alone does not "
        "bind the decoder, which can undo any shrinking by larger weights: where the penalty closes few holes, "
        "that is the suspected cause. In the picture red marks what the classifier does not recognise.",
    ],
)
def main(
    run: Run,
    images: int = 20000,  # how many to train on
    epochs: int = 15,  # passes over them
    hidden: tuple[int, ...] = (256, 128),  # widths of the encoder's layers before the code
    weight: float = 0.5,  # of the code's squared length; the KL of a variational autoencoder has 0.5 for its mean
    learning_rate: float = 1e-3,  # Adam's at the start; it falls to 0 along half a cosine
    batch_size: int = 128,  # images in a step
    draws: int = 2000,  # points drawn from the Gaussian over the plane
    pairs: int = 300,  # pairs of test images, the ends of the walks
    between: int = 9,  # points on each walk, its ends left out
    side: int = 15,  # of the grids in the picture
):
    loaded, seed = run.data(), run.seeds[0]
    labels = np.asarray(loaded.train.y)[:images]
    learned = Batch(jnp.asarray(loaded.train.x[:images]), jnp.asarray(labels))
    test_x, shape = jnp.asarray(loaded.test.x), loaded.train.x.shape[1:]
    adam = cosine_adam(learning_rate, epochs, learned, batch_size)
    pixels = networks.mlp(shape, 64, hidden=(256,), code_activation="relu", dropout=0.2)
    judge = classifier(pixels, adam, classes=int(labels.max()) + 1)
    judge_params = run.train("classifier", judge, learned, seeds=(0,)).of(0)

    @jax.jit
    def sure(x: Any) -> Any:  # [N, *shape] -> [N], the largest probability
        head = judge_params["head"]
        return jax.nn.softmax(judge.encode(judge_params, x) @ head["kernel"] + head["bias"]).max(-1)

    recognised = lambda x: np.asarray(sure(jnp.asarray(x))) > THRESHOLD
    share = lambda x: 100 * float(recognised(x).mean())
    draw = np.random.default_rng(seed)
    normal = draw.normal(size=(draws, 2)).astype(np.float32)  # the same for all
    ends = draw.integers(len(test_x), size=(2, pairs))
    t = np.linspace(0, 1, between + 2)[1:-1, None, None]  # without the ends
    walk = lambda of, t: (1 - t) * of[ends[0]] + t * of[ends[1]]
    base = learned.x[:10000].reshape(min(10000, len(learned.x)), -1)
    far = lambda x: float(np.mean(nearest(base, jnp.asarray(x).reshape(len(x), -1), 1)[1]))

    some = np.asarray(test_x[:draws])
    mixed = draw.permuted(some.reshape(len(some), -1), axis=1).reshape(some.shape)  # images that are no digits
    own = {"test images": some, "test images with shuffled pixels": mixed}
    run.metrics = {f"recognised of {name}, %": share(x) for name, x in own.items()}
    run.metrics[f"{FAR}: test images"] = far(own["test images"])
    fade = walk(test_x, t[..., None, None])  # [T, P, *shape]
    run.metrics[f"{WALKS}: pixels"] = share(fade.reshape(-1, *shape))

    def looked(encode, decode):
        """What is recognised over the plane of codes, the grid of the picture, and its walks."""
        places, tested = gaussian_of(np.asarray(encode(learned.x))), np.asarray(encode(test_x))
        decoded = lambda z: np.asarray(decode(jnp.asarray(z, jnp.float32)))
        drawn, walked = decoded(places(normal)), decoded(walk(tested, t).reshape(-1, 2))
        found = {MASS: share(drawn), WALKS: share(walked), FAR: far(drawn)}
        own = {"recognised of the mass of its own prior, %": share(decoded(normal))}
        return found, own, decoded(places(lattice(side))), walked.reshape(between, pairs, *shape)[:, :4]

    linear = pca.fit(learned.x, 2)
    found, *_ = looked(partial(pca.encode, linear), lambda z: jnp.clip(pca.decode(linear, z), 0, 1))
    run.metrics |= {f"{what}: PCA": value for what, value in found.items()}
    grids, walks = {}, {"pixels": np.asarray(fade[:, :4])}
    for name, algorithm in {
        "plain": autoencoder(networks.mlp(shape, 2, hidden=hidden), adam, likelihood="bernoulli"),
        "L2": autoencoder(networks.mlp(shape, 2, hidden=hidden), adam, likelihood="bernoulli", code_l2=weight),
        "variational": vae(networks.mlp(shape, 2, hidden=hidden, heads=2), adam),
    }.items():
        trained, decode, rows = run.train(name, algorithm, learned), jax.jit(algorithm.decode), []
        for i, params in enumerate(map(trained.of, run.seeds)):
            found, own, grid, walked = looked(partial(encode, algorithm, params), partial(decode, params))
            rows.append(found | (own if name == "variational" else {}))
            if not i:
                grids[name], walks[name] = grid, walked
        run.metrics |= tabled(rows, f"{{}}: {name}")
    return lambda: picture(grids, walks, recognised)
