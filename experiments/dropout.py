"""Dropout in an autoencoder: how its rate changes reconstructions, and a classifier on the codes.

Articles on dropout autoencoders draw two curves over the rate: the reconstruction gets worse, while a classifier on
the codes gets better up to some rate above zero. This experiment tests both curves, for dropout of the hidden layers
(encoder and decoder) and of the code itself, with few labels and with many. Srivastava et al. (2014), JMLR 15.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import optax
from study import Run, charted, codes, experiment, panels, part, probed

from ae_jax import networks
from ae_jax.algorithms import autoencoder

PLACES = ("hidden", "code")  # which units are dropped


def picture(rates, squared, accuracy, few_many):
    """Over the rate: squared error, and accuracy with few and with many labels; bands over seeds."""
    figure, axes = panels(11, 3.6, 1, 1 + len(few_many))
    curves = lambda value: {f"of the {place} units": [value(place, r) for r in rates] for place in PLACES}
    how = {"xlabel": "dropout rate", "title": "reconstruction", "ylabel": "squared error on test images"}
    charted(axes[0], rates, curves(lambda place, r: squared[place][r]), **how)
    for i, (count, a) in enumerate(zip(few_many, axes[1:], strict=True)):
        how |= {"title": f"linear classifier, {count} labels", "ylabel": "test accuracy, %"}
        charted(a, rates, curves(lambda place, r, i=i: accuracy[place][r][i, 1]), **how)
    return figure


@experiment(
    title="Dropout autoencoders, {hidden} hidden units and {latents} codes, {data}: the rate against both ends",
    source="Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), JMLR 15, and articles after it",
    seeds=4,
    full={"seeds": 10, "epochs": 50, "images": 55000, "labelled": (100, 55000)},
    notes=[
        "Rates above zero with the highest accuracy on {valid} held-out training images, averaged over "
        "seeds, among {tried}: {chosen}.",
        "{trained} training images, {epochs} epochs; dropout acts in training only. A logistic "
        "regression on standardised codes; each seed draws its own labelled images, the same at every rate. The "
        "articles give curves, not numbers to set beside these.",
    ],
)
def main(
    run: Run,
    rates: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9),  # of dropout, rising from 0
    hidden: int = 256,  # width of the one hidden layer each way
    latents: int = 64,  # size of the code
    epochs: int = 15,  # passes over the training images
    images: int = 10000,  # training images
    held_out: int = 5000,  # training images after them that choose the best rate above zero
    labelled: tuple[int, int] = (100, 10000),  # how many of them have labels for the classifier: few, and many
    batch_size: int = 100,  # examples in a step
):
    if rates[0] != 0 or len(rates) < 2:
        raise ValueError(f"rates are {rates}; give 0 first, to compare with, and at least one above it")
    whole, test_set = run.data()
    sets = train_set, valid_set, _ = part(whole, images), part(whole, images, images + held_out), test_set
    drawn = np.stack([np.random.default_rng(s).permutation(len(train_set.x)) for s in run.seeds])  # [S, N]
    few_many = [min(count, len(train_set.x)) for count in labelled]

    # place -> rate -> squared error [S], or accuracy [labels, validation or test, S]
    squared, accuracy = defaultdict(dict), defaultdict(dict)
    for rate in rates:
        for place in PLACES:
            if rate == 0 and place != "hidden":  # without dropout both places have the same net
                squared[place][rate], accuracy[place][rate] = squared["hidden"][rate], accuracy["hidden"][rate]
                continue
            drops: Any = {"dropout" if place == "hidden" else "code_dropout": rate}
            net = networks.mlp(train_set.x.shape[1:], latents, hidden=(hidden,), **drops)
            algorithm = autoencoder(net, optax.adam(1e-3), likelihood="bernoulli")
            params = run.train(f"dropout {rate:g} of the {place} units", algorithm, train_set).params
            squared[place][rate] = run.evaluate(algorithm, params, test_set)["squared_error"]
            z, *others = (codes(algorithm, params, d.x) for d in sets)  # each [S, N, K]
            accuracies = []
            for count in few_many:
                chosen = drawn[:, :count]
                labels = [np.asarray(train_set.y)[chosen], valid_set.y, test_set.y]
                first = np.take_along_axis(z, chosen[:, :, None], 1)
                accuracies.append(100 - probed([first, *others], labels))
            accuracy[place][rate] = np.stack(accuracies)

    run.metrics["no dropout, test squared error"] = squared["hidden"][0.0]
    for n, values in zip(few_many, accuracy["hidden"][0.0], strict=True):
        run.metrics[f"no dropout, {n} labels, test accuracy, %"] = values[1]
    chosen_rates, at_the_edge = [], False
    for place in PLACES:
        middle = min(rates[1:], key=lambda r: abs(r - 0.5))
        label = f"{place} dropout {middle:g} minus none, test squared error"
        run.metrics[label] = squared[place][middle] - squared[place][0.0]
        run.claims[label] = "dropout makes reconstructions worse"
        for i, count in enumerate(few_many):
            best = max(rates[1:], key=lambda r: accuracy[place][r][i, 0].mean())
            at_the_edge |= best == rates[-1]
            chosen_rates.append(f"{best:g} ({place}, {count} labels)")
            label = f"best {place} dropout minus none, {count} labels, test accuracy, %"
            run.metrics[f"best {place} dropout, {count} labels, test accuracy, %"] = accuracy[place][best][i, 1]
            run.metrics[label] = accuracy[place][best][i, 1] - accuracy[place][0.0][i, 1]
            run.claims[label] = "the accuracy of a linear classifier on the codes peaks at a rate above zero"
    run.facts = {"valid": len(valid_set.x), "trained": len(train_set.x), "chosen": ", ".join(chosen_rates)}
    run.facts["tried"] = ", ".join(f"{r:g}" for r in rates[1:])
    run.notes = ["A best rate is the highest that was tried: the peak may lie above it."] * at_the_edge
    return lambda: picture(rates, squared, accuracy, few_many)
