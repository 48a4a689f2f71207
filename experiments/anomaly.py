"""Unusual rows of tables: scores of an autoencoder and a VAE against PCA and an isolation forest.

An and Cho (2015), SNU Data Mining Center; Liu, Ting and Zhou (2008), ICDM. Scikit-learn has three tables with classes;
the rarest class of each counts as unusual (malignant cells, wines of class 2, the digit 8). The members learn from half
of the usual rows, which alone set the standardisation. The other half and all unusual rows are scored. Each seed has
its own halves. Neither learning nor the choice of settings uses an unusual row or a label.
"""

import jax.numpy as jnp
import numpy as np
import optax
import sklearn.datasets
from study import Run, experiment, seeds_of_arms

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, vae
from ae_jax.core import Batch, address
from ae_jax.data import ranges
from ae_jax.evaluation import anomaly

TABLES = {"cells": "breast_cancer", "wine": "wine", "digits": "digits"}


def halves(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to learn from, rows to score, and which of these are unusual."""
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    odd = y == np.bincount(y).argmin()
    usual = np.random.default_rng(seed).permutation(x[~odd])
    train, rest = np.split(usual, [len(usual) // 2])
    standard = ranges.fit("standardised", [train])
    scored = np.concatenate([rest, x[odd]])
    of = lambda x: np.asarray(ranges.apply(standard, x), np.float32)
    return of(train), of(scored), np.arange(len(scored)) >= len(rest)


def recipe(steps: int, batch_size: int, hidden: int, latents: int):
    """Makes a function (key, train [M, D], scored [N, D]) -> every score of both members, [N] each."""

    def whole(member):
        key, train, scored = member
        shape, epochs, found = train.shape[1:], -(-steps * batch_size // len(train)), {}
        net = lambda heads: networks.mlp(shape, latents, hidden=(hidden,), heads=heads)
        arms: dict[str, tuple[core.Algorithm, list[anomaly.Measure]]] = {
            "autoencoder": (autoencoder(net(1), optax.adam(1e-3), likelihood="squared"), ["error"]),
            "VAE": (vae(net(2), optax.adam(1e-3), likelihood="gaussian"), ["error", "log_p"]),
        }
        for name, (algorithm, measures) in arms.items():
            params, _ = core.fit(algorithm.init, core.epoch(algorithm, batch_size), Batch(train), key, epochs)
            for measure in measures:
                key_scores = address(key, "score")
                found[f"{name} {measure}"] = anomaly.scores(algorithm, params, Batch(scored), measure, key_scores)
        return found

    return whole


@experiment(
    title="Unusual rows of three tables, by their scores",
    source="An and Cho (2015), SNU Data Mining Center; Liu, Ting and Zhou (2008), ICDM",
    seeds=10,
    data=None,
    # Written before the first run, in points of area under the ROC curve; paired over seeds.
    claims={
        f"{left} minus {right}, {table}, AUC, %": text
        for table in TABLES
        for left, right, text in (
            ("autoencoder error", "PCA error", "a code that is not linear betters PCA's of as many numbers"),
            ("VAE log_p", "isolation forest", "the VAE's probability betters an isolation forest"),
            ("VAE log_p", "VAE error", "its probability betters its error"),
        )
    },
    notes=[
        "The code of a table of D columns has D / 4 numbers, at least 2, and so has PCA's. The isolation forest has "
        "scikit-learn's defaults. log_p is an estimate by 100 importance samples.",
        "The picture shows each seed, and the mean over seeds as a line.",
    ],
)
def main(
    run: Run,
    tables: tuple[str, ...] = ("cells", "wine", "digits"),  # of scikit-learn: breast cancer, wine and digits
    steps: int = 3000,  # updates of each training
    batch_size: int = 50,  # examples in a step
    hidden: int = 64,  # units of the hidden layer on both sides
):
    arms = []
    for table in tables:
        parts = [halves(TABLES[table], seed) for seed in run.seeds]
        train, scored, odd = map(np.stack, zip(*parts, strict=True))
        latents = max(2, train.shape[-1] // 4)
        whole = recipe(steps, batch_size, hidden, latents)
        found = run.each(table, whole, (run.keys(table), jnp.asarray(train), jnp.asarray(scored)))
        rivals = [anomaly.baselines(a, b, latents, seed) for seed, (a, b, _) in zip(run.seeds, parts, strict=True)]
        known = [name.partition(" (")[0] for name in rivals[0]]  # without PCA's number of components
        found |= {n: np.stack([list(r.values())[i] for r in rivals]) for i, n in enumerate(known)}
        arms = list(found)
        for arm, scores in found.items():
            areas = [100 * anomaly.auc(of, which) for of, which in zip(scores, odd, strict=True)]
            run.metrics[f"{arm}, {table}, AUC, %"] = np.array(areas)
    return lambda: seeds_of_arms(run.metrics, tables, arms, "AUC, %", "area under the ROC curve, %")
