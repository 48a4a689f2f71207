"""Missing values of tables: a VAE's posterior and reconstructions against the mean, neighbours and linear regressions.

Rezende, Mohamed and Wierstra (2014), arXiv:1401.4082, appendix F. Scikit-learn's three tables of measurements. The
members learn from 7 of 10 rows, of which no value is hidden and which alone set the standardisation. A fifth of the
values of the other rows is hidden at random and filled in. Each seed has its own split and hidden values.
"""

import warnings

import jax.numpy as jnp
import numpy as np
import optax
import sklearn.datasets
from study import Run, experiment, seeds_of_arms

from ae_jax import core, networks
from ae_jax.algorithms import autoencoder, vae
from ae_jax.core import Batch, address
from ae_jax.data import ranges
from ae_jax.evaluation import imputation

TABLES = {"cells": "breast_cancer", "wine": "wine", "diabetes": "diabetes"}


def split(name: str, seed: int, hidden: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to learn from, other rows, and which of their values are missing."""
    x = getattr(sklearn.datasets, f"load_{name}")().data
    draw = np.random.default_rng(seed)
    train, test = np.split(draw.permutation(x), [7 * len(x) // 10])
    standard = ranges.fit("standardised", [train])
    of = lambda x: np.asarray(ranges.apply(standard, x), np.float32)
    return of(train), of(test), draw.random(test.shape) < hidden


def recipe(steps: int, batch_size: int, units: int, latents: int):
    """Makes a function (key, train [M, D], test [N, D], missing [N, D]) -> test filled in by each arm, [N, D]."""

    def whole(member):
        key, train, test, missing = member
        shape, epochs = train.shape[1:], -(-steps * batch_size // len(train))
        net = lambda heads: networks.mlp(shape, latents, hidden=(units,), heads=heads)
        plain = autoencoder(net(1), optax.adam(1e-3), likelihood="squared")
        variational = vae(net(2), optax.adam(1e-3), likelihood="gaussian")
        guess = jnp.where(missing, 0, test)  # the training mean

        def trained(algorithm):
            return core.fit(algorithm.init, core.epoch(algorithm, batch_size), Batch(train), key, epochs)[0]

        of_vae, key_chain, bounds = trained(variational), address(key, "chain"), (train.min(0), train.max(0))
        found = {
            "autoencoder": imputation.by_reconstruction(plain, trained(plain), guess, missing),
            "VAE reconstruction": imputation.by_reconstruction(variational, of_vae, guess, missing),
            "VAE posterior": imputation.by_posterior(variational, of_vae, guess, missing, key_chain, bounds=bounds),
        }
        return {name: filled.x for name, filled in found.items()}

    return whole


def baselines(train: np.ndarray, test: np.ndarray, missing: np.ndarray) -> dict[str, np.ndarray]:
    """Test filled in by methods without a network, with scikit-learn's defaults, fitted to the same rows."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    holes = np.where(missing, np.nan, test)
    makers = {"mean": SimpleImputer(), "neighbours": KNNImputer()}
    makers["regressions"] = IterativeImputer(random_state=0)
    with warnings.catch_warnings():  # the regressions warn that they stop after ten rounds
        warnings.simplefilter("ignore")
        return {name: made.fit(train).transform(holes) for name, made in makers.items()}


@experiment(
    title="A fifth of the values of three tables, hidden and filled in",
    source="Rezende, Mohamed and Wierstra (2014), ICML, arXiv:1401.4082",
    seeds=10,
    data=None,
    # Written before the first run: root mean square errors of hidden values, in standard deviations; paired over seeds.
    claims={
        f"{left} minus VAE posterior, {table}, error": text
        for table in TABLES
        for left, text in (
            ("mean", "the VAE's posterior betters the training mean"),
            ("neighbours", "it betters the mean of five nearest neighbours"),
            ("autoencoder", "it betters an autoencoder's repeated reconstructions"),
            ("VAE reconstruction", ""),
            ("regressions", ""),
        )
    },
    notes=[
        "The code of a table of D columns has D / 4 numbers, at least 2. The chain has 1,000 steps after 100, "
        "within the range of the training rows; "
        "reconstructions are repeated until no row changes by more than 0.0001, or 1,000 times, and each row keeps the "
        "step at which its known values were reconstructed best. Neighbours and "
        "regressions are scikit-learn's KNNImputer and IterativeImputer with their defaults.",
        "The picture shows each seed, and the mean over seeds as a line.",
    ],
)
def main(
    run: Run,
    tables: tuple[str, ...] = ("cells", "wine", "diabetes"),  # of scikit-learn: breast cancer, wine and diabetes
    steps: int = 3000,  # updates of each training
    batch_size: int = 50,  # examples in a step
    units: int = 64,  # of the hidden layer on both sides
    hidden: float = 0.2,  # the part of the values that is hidden
):
    arms = []
    for table in tables:
        parts = [split(TABLES[table], seed, hidden) for seed in run.seeds]
        members = tuple(jnp.asarray(np.stack(of)) for of in zip(*parts, strict=True))
        latents = max(2, members[0].shape[-1] // 4)
        found = run.each(table, recipe(steps, batch_size, units, latents), (run.keys(table), *members))
        rivals = [baselines(*of) for of in parts]
        found = {name: np.stack([of[name] for of in rivals]) for name in rivals[0]} | found
        arms = list(found)
        for arm, filled in found.items():
            errors = [np.square((f - x)[hole]).mean() ** 0.5 for f, (_, x, hole) in zip(filled, parts, strict=True)]
            run.metrics[f"{arm}, {table}, error"] = np.array(errors)
    return lambda: seeds_of_arms(run.metrics, tables, arms, "error", "error, standard deviations")
