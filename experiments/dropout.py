"""Dropout in an autoencoder: its rate against the reconstruction, and against what the codes are good for.

Articles on dropout autoencoders draw two curves over the rate: the reconstruction gets worse, while a classifier on
the codes gets better up to some rate above zero. Whether it does is found out here, for dropout of the hidden layers
(both ways) and of the code itself, with few labels and with many. Srivastava et al. (2014), JMLR 15.

    .venv/bin/python experiments/dropout.py
    .venv/bin/python experiments/dropout.py --full    # all images and labels, 50 epochs, 10 seeds
"""

import time

import jax
import numpy as np
import optax
from study import banded, codes, command, evaluate, probed, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.training.loop import train

PLACES = ("hidden", "code")  # which units are dropped


def main(
    *,
    seeds: int = 4,
    seed: int = 0,
    rates: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9),
    hidden: int = 256,
    latents: int = 64,
    epochs: int = 15,
    images: int = 10000,
    held_out: int = 5000,
    labelled: tuple[int, int] = (100, 10000),
    batch_size: int = 100,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains autoencoders with dropout at several rates, and classifies their codes with few labels and many.

    Args:
        seeds: how many runs at each rate; a seed has the same start, batches and labels at every rate.
        seed: the first of them.
        rates: of dropout, rising from 0.
        hidden: width of the one hidden layer each way.
        latents: size of the code.
        epochs: passes over the training images.
        images: training images.
        held_out: training images after them that choose the best rate above zero.
        labelled: how many of the training images have labels for the classifier: few, and many.
        batch_size: examples in a step.
        full: 55,000 images, all of them labelled in the second set, 50 epochs, 10 seeds.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    if rates[0] != 0 or len(rates) < 2:
        raise ValueError(f"rates are {rates}; give 0 first, to compare with, and at least one above it")
    if full:
        seeds, epochs, images, labelled = 10, 50, 55000, (labelled[0], 55000)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    whole, test_set = datasets.load(data)
    train_set = jax.tree.map(lambda a: a[:images], whole)
    valid_set = jax.tree.map(lambda a: a[images : images + held_out], whole)
    sets = train_set, valid_set, test_set
    drawn = np.stack([np.random.default_rng(s).permutation(len(train_set.x)) for s in sweep])  # [S, N]
    few_many = [min(count, len(train_set.x)) for count in labelled]

    # place -> rate -> squared error, or (labels, validation or test) -> accuracy; each [S]
    squared: dict[str, dict[float, np.ndarray]] = {place: {} for place in PLACES}
    accuracy: dict[str, dict[float, np.ndarray]] = {place: {} for place in PLACES}
    for rate in rates:
        for place in PLACES:
            if rate == 0 and place != "hidden":  # without dropout there is but one net
                squared[place][rate], accuracy[place][rate] = squared["hidden"][rate], accuracy["hidden"][rate]
                continue
            print(f"{seeds} autoencoders, dropout {rate:g} of the {place} units, {epochs} epochs")
            of = {name: rate * (name == place) for name in PLACES}
            shape = train_set.x.shape[1:]
            net = networks.mlp(shape, latents, hidden=(hidden,), dropout=of["hidden"], code_dropout=of["code"])
            algorithm = autoencoder(net, optax.adam(1e-3), likelihood="bernoulli")
            params = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep).params
            squared[place][rate] = np.asarray(evaluate(algorithm, params, test_set, sweep)["squared_error"])
            z, *others = (codes(algorithm, params, s.x) for s in sets)  # each [S, N, K]
            accuracies = []
            for count in few_many:
                chosen = drawn[:, :count]
                first = np.take_along_axis(z, chosen[:, :, None], 1)
                labels = [np.asarray(train_set.y)[chosen], valid_set.y, test_set.y]
                accuracies.append(100 - probed([first, *others], labels))
            accuracy[place][rate] = np.stack(accuracies)  # [labels, validation or test, S]
            print("  accuracy on held-out images, %:", accuracy[place][rate][:, 0].mean(-1).round(2))

    metrics = {
        "no dropout, test squared error": squared["hidden"][0.0],
        **{f"no dropout, {n} labels, test accuracy, %": accuracy["hidden"][0.0][i, 1] for i, n in enumerate(few_many)},
    }
    claims, chosen_rates, at_the_edge = {}, [], False
    for place in PLACES:
        middle = min(rates[1:], key=lambda r: abs(r - 0.5))
        label = f"{place} dropout {middle:g} minus none, test squared error"
        metrics[label] = squared[place][middle] - squared[place][0.0]
        claims[label] = "dropout makes reconstructions worse"
        for i, count in enumerate(few_many):
            best = max(rates[1:], key=lambda r: accuracy[place][r][i, 0].mean())
            at_the_edge |= best == rates[-1]
            chosen_rates.append(f"{best:g} ({place}, {count} labels)")
            label = f"best {place} dropout minus none, {count} labels, test accuracy, %"
            metrics[f"best {place} dropout, {count} labels, test accuracy, %"] = accuracy[place][best][i, 1]
            metrics[label] = accuracy[place][best][i, 1] - accuracy[place][0.0][i, 1]
            claims[label] = "the accuracy of a linear classifier on the codes peaks at a rate above zero"
    return record(
        __file__,
        metrics,
        title=f"Dropout autoencoders, {hidden} hidden units and {latents} codes, {data}: the rate against both ends",
        source="Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), JMLR 15, and articles after it",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=claims,
        notes=[
            f"Rates above zero with the highest accuracy on {len(valid_set.x)} held-out training images, averaged over "
            f"seeds, among {', '.join(f'{r:g}' for r in rates[1:])}: {', '.join(chosen_rates)}.",
            f"{len(train_set.x)} training images, {epochs} epochs; dropout acts in training only. A logistic "
            "regression on standardised codes; each seed draws its own labelled images, the same at every rate. The "
            "articles give curves, not numbers to set beside these.",
            *["A best rate is the highest that was tried: the peak may lie above it."] * at_the_edge,
        ],
        figure=lambda: picture(rates, squared, accuracy, few_many),
        out=out,
    )


def picture(rates, squared, accuracy, few_many):
    """Over the rate: squared error, and accuracy with few and with many labels; bands over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots(1, 1 + len(few_many))
    for place in PLACES:
        banded(axes[0], rates, np.stack([squared[place][r] for r in rates]), f"of the {place} units")
        for i, a in enumerate(axes[1:]):
            banded(a, rates, np.stack([accuracy[place][r][i, 1] for r in rates]), f"of the {place} units")
    axes[0].set_ylabel("squared error on test images")
    for count, a in zip(few_many, axes[1:], strict=True):
        a.set_title(f"linear classifier, {count} labels", fontsize=10)
        a.set_ylabel("test accuracy, %")
    axes[0].set_title("reconstruction", fontsize=10)
    for a in axes:
        a.set_xlabel("dropout rate")
        a.grid(True, color="#e4e4e4", linewidth=0.6)
        a.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    command(main)
