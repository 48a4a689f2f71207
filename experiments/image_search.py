"""Image search: codes of a deep autoencoder against pixels and PCA, on digits and on tiles of photographs.

Krizhevsky & Hinton (2011), "Using very deep autoencoders for content-based image retrieval", ESANN, ask what codes of
an autoencoder find that pixels do not. Digits of the same class are relevant to each other. Photographs are cut in
tiles, and tiles of the same test photograph are relevant to each other; no photograph is in both training and test set.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, codes, experiment, images_of, part

from ae_jax import core, networks
from ae_jax import data as datasets
from ae_jax.algorithms import autoencoder
from ae_jax.app import plots
from ae_jax.distributions.distances import squared_distances
from ae_jax.evaluation import pca, rate, retrieval

CUTS, SHOWN = (1, 10, 100), ("pixels", "PCA", "codes")
# Written before the first run at full size, for digits and for tiles; paired over seeds.
CLAIMS = {
    "codes minus PCA, mean average precision, %": "codes rank better than as many principal components",
    "codes minus PCA, precision at 10, %": "and among the first ten better than as many principal components",
    "codes minus pixels, mean average precision, %": "and better than all the pixels",
    "codes minus pixels, precision at 10, %": "",
}


class Problem(NamedTuple):
    """The images of a search: to train on, to be searched, and to ask for."""

    learned: core.Batch
    held_out: core.Batch  # chooses the epoch
    base: Any  # a Batch; images of one label are relevant to each other
    queries: Any


def digits(loaded: datasets.Dataset, searched: int, queries: int) -> Problem:
    """The first training digits are searched; the first test digits are the queries."""
    learned, held_out = datasets.validation_split(loaded.train, 0.1, seed=0)
    return Problem(learned, held_out, part(loaded.train, searched), part(loaded.test, queries))


def photographs(folder: str, tile: int, count: int, most: int, searched: int, queries: int) -> Problem:
    """Tiles of a grid, which do not overlap; some of each test photograph are searched, others are queries."""
    parts = images_of(folder, colour=True)
    scale = lambda x: jnp.asarray(x.astype(np.float32) / 255)
    held = max(1, len(parts["train"]) // 10) if len(parts["train"]) > 1 else 0  # whole photographs
    learned = datasets.patches(parts["train"][held:], tile, count, seed=0)
    held_out = datasets.patches(parts["train"][: held or None], tile, max(1, count // 10), seed=1)
    base, asking = [], []
    for i, image in enumerate(parts["test"][:most]):
        cut = rate.tiles(image, tile)
        order = np.random.default_rng([0, i]).permutation(len(cut))
        asks = min(queries, len(cut) // 2)
        base.append(cut[order[asks : asks + searched]])
        asking.append(cut[order[:asks]])
    of = lambda lists: np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    labelled = lambda lists: core.Batch(scale(np.concatenate(lists)), jnp.asarray(of(lists)))
    return Problem(core.Batch(scale(learned)), core.Batch(scale(held_out)), labelled(base), labelled(asking))


def ranked(base, queries) -> np.ndarray:
    """The indices of base [N, K] by Euclidean distance from each query [Q, K], nearest first. -> [Q, N]."""
    far = lambda part: np.asarray(jax.jit(squared_distances)(jnp.asarray(part), jnp.asarray(base)))
    parts = (queries[i : i + 500] for i in range(0, len(queries), 500))
    return np.concatenate([np.argsort(far(part), axis=1, kind="stable") for part in parts])


def scores(base, queries, problem: Problem) -> tuple[dict[str, float], np.ndarray]:
    """Measures in %, means over all queries; and the indices of each query's ten nearest, [Q, 10]."""
    totals, first = dict.fromkeys([*(f"precision at {k}" for k in CUTS), "mean average precision"], 0.0), []
    for i in range(0, len(queries), 500):
        order = ranked(base, queries[i : i + 500])
        relevant = np.asarray(problem.base.y)[order] == np.asarray(problem.queries.y)[i : i + 500, None]
        for k in CUTS:
            totals[f"precision at {k}"] += retrieval.precision_at(relevant, min(k, len(base))).sum()
        totals["mean average precision"] += retrieval.average_precision(relevant).sum()
        first.append(order[:, :10])
    return {name: 100 * total / len(queries) for name, total in totals.items()}, np.concatenate(first)


def page(pages: dict[str, tuple[Problem, dict[str, np.ndarray]]], side: int, asked: int = 4):
    """Queries, evenly spaced, each with its ten neighbours by each method; wrong neighbours are framed in red."""

    def framed(image: np.ndarray, right: bool) -> np.ndarray:  # [H, W, C] -> [side, side, 3]
        edge = np.full((side, side, 3), (1, 1, 1) if right else (0.85, 0.1, 0.1), np.float32)
        top, left = ((side - n) // 2 for n in image.shape[:2])
        edge[top : top + image.shape[0], left : left + image.shape[1]] = np.clip(image, 0, 1)
        return edge

    rows, names = [], []
    for name, (problem, ways) in pages.items():
        base, asking = np.asarray(problem.base.x), np.asarray(problem.queries.x)
        for i in np.linspace(0, len(asking) - 1, asked + 2).astype(int)[1:-1]:
            for way, order in ways.items():
                right = np.asarray(problem.base.y)[order[i]] == problem.queries.y[i]
                rows.append([framed(asking[i], True), *map(framed, base[order[i]], right)])
                names.append(f"{name}, {way}")
    return plots.examples(np.array(rows), (0.0, 1.0), rows=names, group=len(SHOWN))


@experiment(
    title="Image search: a deep autoencoder's codes against pixels and principal components",
    source="Krizhevsky & Hinton (2011), ESANN",
    full={
        "epochs": 30,
        "searched": 60000,
        "queries": 10000,
        "patches": 60000,
        "photographs_used": 200,
        "tiles_searched": 1000,
        "tiles_asking": 20,
    },
    claims={f"{name}, {of}": text for name in ("digits", "photographs") for of, text in CLAIMS.items()},
    notes=[
        "All rankings are by Euclidean distance; codes and PCA have {latents} numbers of a digit and "
        "{latents_of_tiles} of a tile, learned without labels from training images alone. Pixels, PCA and mean colour "
        "have no seed: their values are repeated. Relevant to a tile is another of the same photograph, which is all "
        "that is known of it; tiles with nothing in them but their photograph's colour are told by that, so mean "
        "colour, three numbers, stands beside.",
        "Digits' default of 10 numbers was chosen among 10 and 30 on held-out training digits: at 30 codes and PCA "
        "ranked about alike there.",
        "The picture's queries are evenly spaced among all, not chosen; a red frame marks what is not relevant.",
    ],
)
def main(
    run: Run,
    epochs: int = 10,  # passes over the training set; a tenth of it, held out, chooses the best
    latents: int = 10,  # size of the digits' codes, and number of principal components
    latents_of_tiles: int = 30,  # the same for tiles
    hidden: tuple[int, ...] = (500, 250),  # widths of the digits' encoder before the code
    channels: tuple[int, ...] = (16, 32, 64),  # feature maps of the tiles' encoder
    searched: int = 10000,  # how many training digits are searched
    queries: int = 2000,  # how many test digits are queries
    patches: int = 6000,  # how many patches of the training photographs to learn from
    tile: int = 32,  # side of a tile, pixels
    photographs_used: int = 100,  # how many test photographs
    tiles_searched: int = 60,  # tiles of each photograph that are searched
    tiles_asking: int = 5,  # other tiles of each photograph, the queries
    images: str = "../shared/data/bsds500",  # a folder of photographs with folders train and test in it
):
    tiles = photographs(images, tile, patches, photographs_used, tiles_searched, tiles_asking)
    problems = {
        "digits": (digits(run.data(labels=True), searched, queries), latents),
        "photographs": (tiles, latents_of_tiles),
    }
    pages = {}
    for name, (problem, size) in problems.items():
        shape, both = problem.base.x.shape[1:], (problem.base.x, problem.queries.x)
        if name == "digits":
            net = networks.mlp(shape, size, hidden=hidden, output_activation="sigmoid")
        else:
            net = networks.conv(shape, size, channels=channels)
        algorithm = autoencoder(net, optax.adam(1e-3), likelihood="squared")
        params = run.train(name, algorithm, problem.learned, batch_size=64, validation=problem.held_out).params
        basis = pca.fit(jnp.asarray(problem.learned.x), size)
        ways = {
            "pixels": [[np.asarray(x).reshape(len(x), -1) for x in both]],
            "PCA": [[np.asarray(pca.encode(basis, x)) for x in both]],
            "mean colour": [[np.asarray(x).mean((1, 2)) for x in both]],
            "codes": list(zip(*(codes(algorithm, params, x) for x in both), strict=True)),
        }
        if shape[-1] != 3:
            del ways["mean colour"]
        first = {}
        for way, pairs in ways.items():
            found = [scores(base, asking, problem) for base, asking in pairs]
            first[way] = found[0][1]
            for score in found[0][0]:
                values = [measured[score] for measured, _ in found]
                run.metrics[f"{name}, {way}, {score}, %"] = np.array(values) if way == "codes" else values[0]
        pages[name] = problem, {way: first[way] for way in SHOWN}
    return lambda: page(pages, 4 + max(max(problem.base.x.shape[1:3]) for problem, _ in problems.values()))
