"""Walks through two-dimensional codes: what a penalty on the code's length does to the holes between codes, on MNIST.

Autoencoders without and with `code_l2`, and a variational one (Kingma & Welling, 2014, arXiv:1312.6114), of the same
net; beside them two principal components, and fading from image to image in pixels. A point of the plane lies in a
hole where a classifier, trained on real digits, does not recognise what it decodes to.

    .venv/bin/python experiments/latent_walks.py
    .venv/bin/python experiments/latent_walks.py --full    # all of MNIST, a deeper net, 10 seeds
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from study import Run, command, cosine_adam, experiment

from ae_jax import networks
from ae_jax.algorithms import autoencoder, classifier, vae
from ae_jax.app import plots
from ae_jax.core import Algorithm, Batch, Params
from ae_jax.evaluation import pca
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.retrieval import nearest

THRESHOLD = 0.95  # of the largest probability: fixed before the first run
MASS, WALKS = "recognised of the Gaussian's mass, %", "recognised on interpolations, %"
FAR = "distance to the nearest training image"
# Written before the first run; paired over seeds.
CLAIMS = {
    f"{MASS}: L2 minus plain": "the penalty closes holes between codes",
    f"{MASS}: variational minus plain": "so does the noise on a variational code",
    f"{MASS}: variational minus L2": "and more than the penalty, which is its KL without the noise",
    f"{MASS}: plain minus PCA": "what two learned numbers decode to is a digit more often than of two linear ones",
    f"{WALKS}: variational minus pixels": "a walk through codes passes more digits than fading in pixels",
    f"{WALKS}: L2 minus plain": "the penalty helps on straight ways between codes too",
}


@experiment(
    title="Holes between two-dimensional codes, and walks across them, {data}",
    source="Kingma & Welling (2014), arXiv:1312.6114, fig. 4",
    seeds=3,
    full={"seeds": 10, "images": 10**9, "epochs": 30, "hidden": (1000, 500, 250)},
    claims=CLAIMS,
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
    *,
    images: int = 20000,  # how many to train on
    epochs: int = 15,  # passes over them
    hidden: tuple[int, ...] = (256, 128),  # widths of the encoder's layers before the code
    weight: float = 0.5,  # of the code's squared length; at 0.5 that of the mean in a variational autoencoder's KL
    learning_rate: float = 1e-3,  # Adam's at the start; it falls to 0 along half a cosine
    batch_size: int = 128,  # images in a step
    draws: int = 2000,  # points drawn from the Gaussian over the plane
    pairs: int = 300,  # of test images, between which one walks
    between: int = 9,  # points on each walk, its ends left out
    side: int = 15,  # of the grids in the picture
):
    """Trains three kinds of autoencoder with a 2-D code, and walks over their codes."""
    loaded, seed, same = run.data(), run.seeds[0], np.ones(len(run.seeds))
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
    t = np.linspace(0, 1, between + 2)[1:-1, None, None]  # the ends are not on the way
    walk = lambda of, t: (1 - t) * of[ends[0]] + t * of[ends[1]]
    base = learned.x[:10000].reshape(min(10000, len(learned.x)), -1)
    far = lambda x: float(np.mean(nearest(base, jnp.asarray(x).reshape(len(x), -1), 1)[1]))

    own = {"test images": test_x[:draws], "test images with shuffled pixels": shuffled(test_x[:draws], draw)}
    run.metrics = {f"recognised of {name}, %": same * share(x) for name, x in own.items()}
    run.metrics[f"{FAR}: test images"] = same * far(own["test images"])
    fade = walk(test_x, t[..., None, None])  # [T, P, *shape]
    run.metrics[f"{WALKS}: pixels"] = same * share(fade.reshape(-1, *shape))

    values, grids, walks = {"PCA": []}, {}, {"pixels": fade[:, :4]}
    for name, algorithm in {
        "plain": autoencoder(networks.mlp(shape, 2, hidden=hidden), adam, likelihood="bernoulli"),
        "L2": autoencoder(networks.mlp(shape, 2, hidden=hidden), adam, likelihood="bernoulli", code_l2=weight),
        "variational": vae(networks.mlp(shape, 2, hidden=hidden, heads=2), adam),
    }.items():
        trained, values[name] = run.train(name, algorithm, learned), []
        for s in run.seeds:
            plane = Plane(algorithm, trained.of(s), learned.x, test_x)
            drawn = plane.decode(plane.places(normal))
            walked = plane.decode(walk(plane.tested, t).reshape(-1, 2))
            found = {MASS: share(drawn), WALKS: share(walked), FAR: far(drawn)}
            if name == "variational":
                found["recognised of the mass of its own prior, %"] = share(plane.decode(normal))
            values[name].append(found)
            if s == seed:
                grids[name] = plane.decode(plane.places(lattice(side)))
                walks[name] = walked.reshape(between, pairs, *shape)[:, :4]
    linear = pca.fit(learned.x, 2)
    flat, tested = (np.asarray(pca.encode(linear, x)) for x in (learned.x, test_x))
    rebuilt = lambda z: np.clip(np.asarray(pca.decode(linear, jnp.asarray(z, jnp.float32))), 0, 1)
    drawn, walked = rebuilt(gaussian_of(flat)(normal)), rebuilt(walk(tested, t).reshape(-1, 2))
    values["PCA"] = [{MASS: share(drawn), WALKS: share(walked), FAR: far(drawn)}] * len(run.seeds)
    for name, of in values.items():
        run.metrics |= {f"{what}: {name}": np.array([found[what] for found in of]) for what in of[0]}
    return lambda: picture(grids, walks, recognised)


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
