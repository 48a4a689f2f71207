"""k-sparse autoencoders: how many of 1000 linear units should speak for an image?

Makhzani & Frey (2013), arXiv:1312.5663, section 4.3: a linear layer of 1000 units with tied weights, of which the k
largest are kept; then a logistic regression on the codes of the frozen encoder.
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Run, banded, charted, experiment, feature_grid, features, mapped, panels, part, probed, show

from ae_jax import networks
from ae_jax.algorithms import k_sparse
from ae_jax.app import plots
from ae_jax.evaluation.codes import encode


def picture(ks, errors, raw, shown, units):
    """The curve of errors (k, alpha) -> (validation, test) on test, and features for some k."""
    figure, axes = panels(11, 4.2, 1, 1 + len(shown), width_ratios=[1.6] + [1] * len(shown))
    for alpha in dict.fromkeys(a for _, a in errors):
        at = [k for k in ks if (k, alpha) in errors]
        what = "k" if alpha == 1 else f"{alpha:g} k"
        banded(axes[0], at, np.stack([errors[k, alpha][1] for k in at]), f"codes keep {what} units")
    axes[0].axhline(raw, color=plots.FAINT, linewidth=1, linestyle="--", label="raw pixels")
    names = {"xlabel": "k, units kept in training", "ylabel": "test error, %"}
    charted(axes[0], ks, {}, xscale="log", yscale="log", xticks=ks, xticklabels=ks, **names)
    for a, (k, chosen) in zip(axes[1:], shown.items(), strict=True):
        show(a, feature_grid(chosen), f"k = {k} of {units}: features")
    return figure


@experiment(
    title="k-sparse autoencoders of {units} units, {data}: the error of a linear classifier is U-shaped in k",
    source="Makhzani & Frey (2013), arXiv:1312.5663",
    full={"epochs": 50, "images": 55000},
    # Written before the first run. The best k is the one with the lowest validation error, averaged over seeds.
    claims={
        "smallest k minus best k, test error, %": "few units are worse than the best k: the curve's left arm",
        "all units minus best k, test error, %": "all units are worse than the best k: the curve's right arm",
        "raw pixels minus best k, test error, %": "the best codes are classified better than pixels",
    },
    notes=[
        "Chosen by the error on {held_out} held-out training images, averaged over seeds: k = {best}, and alpha "
        "{chosen}.",
        "Departs from the paper: {images} images and {epochs} epochs with Adam (the paper: the whole training "
        "set, and SGD with momentum for longer), and a classifier with an L2 penalty on standardised codes. "
        "Shorter training and fewer labels are the suspected cause of the distance to the paper's errors.",
        "All units kept is a linear autoencoder, whose codes hold what the pixels hold, and no more for a linear "
        "classifier.",
    ],
)
def main(
    run: Run,
    ks: tuple[int, ...] = (3, 10, 25, 40, 100, 300, 1000),  # numbers of units kept, rising; the last should be all
    units: int = 1000,  # size of the code
    epochs: int = 8,  # passes over the training images; k falls from 100, or k if that is more, in the first half
    images: int = 10000,  # training images, for the autoencoder and, with their labels, for the classifier
    held_out: int = 5000,  # training images after them that choose k and alpha
    alphas: tuple[float, ...] = (1.0, 3.0),  # factors that codes may keep more units by; the validation error chooses
    probe_l2: float = 10.0,  # strength of the classifier's penalty
    batch_size: int = 100,  # examples in a step
):
    whole, test_set = run.data()
    sets = part(whole, images), part(whole, images, images + held_out), test_set
    train_set, labels = sets[0], [d.y for d in sets]
    net = networks.linear(train_set.x.shape[1:], units, tied=True)
    half = epochs * -(-len(train_set.x) // batch_size) // 2
    errors, valid, squared, unused, kernels = {}, {}, {}, {}, {}  # errors: (k, alpha) -> validation and test, each [S]
    for k in ks:
        make = lambda alpha, k=k: k_sparse(
            net, optax.adam(1e-3), k=k, alpha=alpha, start=max(k, min(100, units)), anneal_steps=half
        )
        trained = make(1.0)
        params = run.train(f"k = {k}", trained, train_set).params
        used = mapped(lambda p, x, a=trained: (encode(a, p, x) != 0).any(0).mean())
        error = mapped(lambda p, x, a=trained: jnp.square(a.reconstruct(p, x) - x).sum((1, 2, 3)).mean())
        unused[k] = 100 * (1 - np.asarray(used(params, train_set.x)))
        squared[k] = np.asarray(error(params, test_set.x))
        for alpha in alphas:
            if alpha * k <= units:
                wider = make(alpha)
                z = mapped(lambda p, x, a=wider: encode(a, p, x))
                errors[k, alpha] = probed([z(params, d.x) for d in sets], labels, l2=probe_l2)
                valid[k, alpha] = errors[k, alpha][0].mean()
        kernels[k] = features(params, train_set.x.shape[1:], 64)
    raw = float(probed([d.x.reshape(1, len(d.x), -1) for d in sets], labels, l2=probe_l2)[1, 0])

    alpha_of = {k: min((a for n, a in valid if n == k), key=lambda a, k=k: valid[k, a]) for k in ks}
    best = min(ks, key=lambda k: valid[k, alpha_of[k]])
    test = {k: errors[k, alpha_of[k]][1] for k in ks}
    run.metrics = {f"k = {k}, test error, %": test[k] for k in ks} | {
        "best k, test error, %": test[best],
        "raw pixels, test error, %": raw,
        "smallest k minus best k, test error, %": test[ks[0]] - test[best],
        "all units minus best k, test error, %": test[ks[-1]] - test[best],
        **{f"k = {k}, squared error on test": squared[k] for k in (ks[0], best, ks[-1])},
        **{f"k = {k}, units never kept, %": unused[k] for k in (ks[0], best)},
    }
    run.facts = {"best": best, "chosen": ", ".join(f"{alpha_of[k]:g} for k = {k}" for k in ks)}
    return lambda: picture(ks, errors, raw, {k: kernels[k] for k in (ks[0], best, ks[-1])}, units)
