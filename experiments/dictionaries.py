"""Forms of sparse dictionaries at five active units: on features that are known, and on activations of a classifier.

Known features, after Sharkey, Braun & Millidge (2022): each example is a sum of about 5 of 128 random directions in 64
dimensions, with strengths from 0 to 1. Forms with k keep 5 units; the others are trained with several weights, and
their error at five units is interpolated.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, banded, experiment, mapped, panels, part

from ae_jax import core, networks
from ae_jax.algorithms import classifier, dictionary
from ae_jax.core import Batch, Key, address
from ae_jax.evaluation import dictionaries as yardsticks
from ae_jax.objectives.dictionaries import rows
from ae_jax.objectives.sparsity import COUNTED

NAMES = {
    "topk": "TopK", "batch_topk": "BatchTopK", "matryoshka": "Matryoshka", "l1": "L1", "april": "April",
    "gated": "Gated", "jumprelu": "JumpReLU",
}  # fmt: skip
PENALISED = {"l1": 1.0, "april": 1.0, "gated": 1.5, "jumprelu": 0.25}  # form -> what multiplies the weights


def known(form: str, sizes: tuple[int, ...], how: dict[str, Any]) -> Any:
    """Makes a function (key, weight) -> measures of a dictionary of known features."""
    features, dimensions, active, examples, tested = sizes

    def one(given: tuple[Key, Any]) -> dict[str, Any]:
        key, weight = given
        w = jax.random.normal(address(key, "features"), (features, dimensions))
        w = w / jnp.linalg.norm(w, axis=1, keepdims=True)
        key_on, key_strength = jax.random.split(address(key, "examples"))
        on = jax.random.bernoulli(key_on, active / features, (examples + tested, features))
        x = (on * jax.random.uniform(key_strength, on.shape)) @ w
        x = x * jnp.sqrt(dimensions / jnp.square(x[:examples]).sum(1).mean())
        return measures(form, key, weight, x[:examples], x[examples:], w, **how)

    return one


def given(form: str, how: dict[str, Any]) -> Any:
    """Makes a function (key, weight), train [N, D], test [N, D] -> measures of a dictionary of these activations."""
    return lambda given, train, test: measures(form, given[0], given[1], train, test, None, **how)


def measures(
    form: Any,
    key: Key,
    weight: Any,
    train: Any,
    test: Any,
    features: Any,
    *,
    units,
    epochs,
    batch_size,
    rate,
    k,
    **hyper,
) -> dict[str, Any]:
    """Trains a dictionary on train [N, D]; gives L0, FVU and dead units on test, and MMCS if features are known."""
    steps = epochs * -(-len(train) // batch_size)
    adam = optax.adam(optax.cosine_decay_schedule(rate, steps))
    hyper = {"k": k, "dead_after": len(train) // 2, **hyper} if form in COUNTED else {"weight": weight, **hyper}
    algorithm = dictionary(networks.linear(train.shape[1:], units), adam, form=form, **hyper)
    params, _ = core.fit(algorithm.init, core.epoch(algorithm, batch_size), Batch(train), key, epochs)
    z = algorithm.encode(params, test)
    found = {"l0": yardsticks.l0(z), "fvu": yardsticks.fvu(algorithm.decode(params, z), test)}
    found["dead"] = yardsticks.dead(z).mean()
    return found | ({} if features is None else {"mmcs": yardsticks.max_cosine(features, rows(params))})


def swept(run: Run, form: str, weights: tuple[float, ...], stage: str, one: Any, *shared: Any) -> dict[str, np.ndarray]:
    """The measures of a form for all seeds, and all weights if it has one: each [S, W]."""
    each = [0.0] if form in COUNTED else [PENALISED[form] * weight for weight in weights]
    keys = jnp.repeat(run.keys("arm"), len(each))
    pairs = (keys, jnp.tile(jnp.asarray(each), len(run.seeds)))
    found = run.computed(stage, mapped(one), pairs, *shared)
    return {name: np.asarray(values).reshape(len(run.seeds), len(each)) for name, values in found.items()}


def at(found: dict[str, np.ndarray], active: float) -> np.ndarray:
    """FVU at `active` units, interpolated between weights by the logarithm of L0. -> [S]."""
    if found["l0"].shape[1] == 1:
        return found["fvu"][:, 0]
    order = np.argsort(found["l0"], 1)
    l0, fvu = (np.take_along_axis(found[name], order, 1) for name in ("l0", "fvu"))
    return np.asarray([np.interp(np.log(active), np.log(np.maximum(a, 1e-3)), b) for a, b in zip(l0, fvu, strict=True)])


def closest(found: dict[str, np.ndarray], active: float) -> int:
    """The index of the weight whose mean L0 is nearest to `active` units."""
    return int(np.abs(found["l0"].mean(0) - active).argmin())


def activations(run: Run, images: int, hidden: int) -> tuple[Any, Any, float, float]:
    """A classifier's activations on train and test, its test error in %, and how many are above 0 for an image."""
    train, test = run.data(labels=True)
    train = part(train, images)
    net = networks.mlp(train.x.shape[1:], hidden, hidden=(), code_activation="relu")
    algorithm = classifier(net, optax.adam(1e-3), classes=1 + int(np.max(train.y)))
    trained = run.train("classifier", algorithm, train, seeds=[run.settings["seed"]], epochs=5, batch_size=100)
    params, predict = trained.of(run.settings["seed"]), algorithm.predict
    assert predict is not None
    x = [np.asarray(jax.jit(algorithm.encode)(params, jnp.asarray(d.x))) for d in (train, test)]
    wrong = np.asarray(jax.jit(predict)(params, jnp.asarray(test.x))) != test.y
    scale = np.sqrt(hidden / np.square(x[0]).sum(1).mean())
    return x[0] * scale, x[1] * scale, 100 * float(wrong.mean()), float((x[1] > 0).sum(1).mean())


def picture(made: dict[str, Any], active: int) -> Any:
    """FVU against L0 of all forms, and how well L1 and the others find the features."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (left, right) = panels(9, 4, 1, 2)
    for form, found in made.items():
        for axes, what in ((left, "fvu"), (right, "mmcs")):
            banded(axes, found["l0"].mean(0), found[what].T, NAMES[form])
    for axes in (left, right):
        axes.axvline(active, color="0.7", linewidth=1, linestyle="--")
        axes.set(xscale="log", xlabel="L0, active units of an example")
    left.set(yscale="log", ylabel="FVU, fraction of variance unexplained")
    right.set(ylabel="MMCS, largest cosine with a true feature")
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    right.legend(frameon=False, fontsize=8)
    return figure


@experiment(
    title="Sparse dictionaries at {active} active units of {units}: seven forms on known features",
    source="Gao et al. (2024), arXiv:2406.04093; Sharkey, Braun & Millidge (2022); Rajamanoharan et al. (2024)",
    full={"seeds": 5, "examples": 200_000, "epochs": 25, "weights": (0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)},
    # Written before the first run with three seeds. Differences are paired: a seed gives all forms the same features,
    # examples, start and batches. The weights were chosen by one run of seed 9, so that they bracket five units.
    claims={
        "FVU at 5 units, L1 minus TopK": "TopK explains more than L1 at as many units",
        "FVU at 5 units, L1 minus BatchTopK": "so does BatchTopK",
        "FVU at 5 units, L1 minus Gated": "so does Gated",
        "FVU at 5 units, L1 minus JumpReLU": "so does JumpReLU",
        "MMCS, best weight of L1, minus 0.99": "some weight of L1 finds the features",
        "dead units of 1024, without AuxK minus with it, %": "AuxK leaves fewer dead units",
        # written after the first record, in which dead units had nothing left to find
        "dead units of 1024 for 1024 features, without AuxK minus with it, %": "and where features are left to find",
        "FVU of activations, L1 minus TopK": "of a classifier's activations, TopK explains more than L1",
    },
    notes=[
        "Examples are scaled to a mean squared norm of {dimensions}; errors are summed over dimensions; L0 and FVU are "
        "of {tested} examples that were not trained on. FVU of a form with a weight is interpolated at {active} "
        "units by the logarithm of L0.",
        "The activations are those of {hidden} rectified units of a classifier of {images} images, of which {on} are "
        "active for an image; it is wrong for {error:.1f} % of the test images.",
        "No number of these papers can be repeated without a language model's activations.",
    ],
)
def main(
    run: Run,
    features: int = 128,  # directions that make the data
    dimensions: int = 64,  # of an example
    active: int = 5,  # features in an example, on average, and units that the forms with k keep
    examples: int = 20_000,  # to train on
    tested: int = 4_000,  # examples that are measured
    units: int = 128,  # of a dictionary
    weights: tuple[float, ...] = (1.0, 2.0, 3.0, 4.5),  # of the penalties; gated has 1.5 of each, jumprelu a quarter
    bandwidth: float = 0.5,  # of jumprelu, whose examples have strengths up to 6
    epochs: int = 16,  # passes over the examples
    batch_size: int = 256,  # examples in a step
    rate: float = 1e-2,  # of Adam, which falls to 0 along half a cosine
    images: int = 10_000,  # whose activations the second dictionaries learn from
    hidden: int = 64,  # units of the classifier whose activations these are
):
    how = {"units": units, "epochs": epochs, "batch_size": batch_size, "rate": rate, "k": active}
    sizes = (features, dimensions, active, examples, tested)
    made = {}
    for form in NAMES:
        print(f"{NAMES[form]}: known features", flush=True)
        own = {"bandwidth": bandwidth} if form == "jumprelu" else {}
        made[form] = swept(run, form, weights, f"known {form}", known(form, sizes, how | own))
    for form, found in made.items():
        name = NAMES[form]
        run.metrics[f"FVU at {active} units, {name}"] = at(found, active)
        best = found["mmcs"].mean(0).argmax() if form == "l1" else closest(found, active)
        run.metrics[f"MMCS, {'best weight of L1' if form == 'l1' else name}"] = found["mmcs"][:, best]
        if form in COUNTED:
            run.metrics[f"L0, {name}"] = found["l0"][:, 0]
    run.metrics["MMCS, best weight of L1, minus 0.99"] = run.metrics["MMCS, best weight of L1"] - 0.99
    many = 8 * features
    wide = how | {"units": many, "epochs": max(1, epochs // 4)}
    for of, stage, there in (("", "wide", features), (f" for {many} features", "as many", many)):
        for name, auxiliary in {"without AuxK": 0.0, "with it": 1 / 32}.items():
            print(f"{many} units{of}, {name}", flush=True)
            one = known("topk", (there, *sizes[1:]), wide | {"auxiliary": auxiliary})
            found = swept(run, "topk", weights, f"{stage} {name}", one)
            run.metrics[f"dead units of {many}{of}, {name}, %"] = 100 * found["dead"][:, 0]

    train, test, error, on = activations(run, images, hidden)
    for form in ("l1", "topk"):
        print(f"{NAMES[form]}: activations", flush=True)
        found = swept(run, form, weights, f"activations {form}", given(form, how), train, test)
        run.metrics[f"FVU of activations, {NAMES[form]}"] = at(found, active)
        run.notes.append(f"L0 of activations, {NAMES[form]}: {', '.join(f'{l0:.1f}' for l0 in found['l0'].mean(0))}.")
    run.facts = {"error": error, "on": f"{on:.0f}"}
    run.claims = {
        of.replace("5 units", f"{active} units").replace("1024", str(many)): text for of, text in run.claims.items()
    }
    return lambda: picture(made, active)
