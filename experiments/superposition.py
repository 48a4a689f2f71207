"""Toy models of superposition: two units represent two features, or five where features are rare.

Elhage et al. (2022), "Toy models of superposition": x_hat = relu(W^T W x + b) of n features by m units. Features are 0
with probability S and else between 0 and 1; the error of feature i has the weight 0.9^i. The most important dense
features get a direction each, the others none. Rare features share the units: four as two pairs of opposites, five as
a pentagon.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, experiment, mapped, panels

from ae_jax import core
from ae_jax.app import plots
from ae_jax.core import Batch, Key, Loss, address, descend

WHERE = "Elhage et al. (2022), section 2, read off a figure"


def toy(features: int, units: int, steps: int, batch_size: int, rate: float) -> Any:
    """(key, S) -> W [m, n] of the trained model."""
    importance = 0.9 ** jnp.arange(features)

    def loss(params: Any, batch: Batch, key: Key) -> Loss:
        x_hat = jax.nn.relu(batch.x @ params["w"].T @ params["w"] + params["b"][None])
        return Loss((importance[None] * jnp.square(batch.x - x_hat)).sum(-1))

    def one(given: tuple[Key, Any]) -> Any:
        key, rarity = given

        def fresh(batch: Batch, key: Key) -> Batch:
            key_on, key_strength = jax.random.split(key)
            on = jax.random.bernoulli(key_on, 1 - rarity, batch.x.shape)
            return Batch(on * jax.random.uniform(key_strength, batch.x.shape))

        rule = core.repeat(core.augment(descend(loss, optax.adam(rate)), fresh), steps)
        w = jax.nn.initializers.glorot_normal()(address(key, "init"), (units, features))
        params = {"w": w, "b": jnp.zeros(features)}
        shape = Batch(jnp.zeros((batch_size, features)))
        return rule.update(params, rule.init(params), shape, address(key, "steps"))[0]["w"]

    return one


def picture(w: np.ndarray, rarities: tuple[float, ...]) -> Any:
    """The columns of W in the plane of the first two units, for each rarity."""
    figure, all_axes = panels(2.4 * len(rarities), 2.7, 1, len(rarities), squeeze=False)
    for axes, of, rarity in zip(all_axes[0], w, rarities, strict=True):
        for i, (x, y) in enumerate(of[:2].T):
            axes.plot([0, x], [0, y], color=plots.BLUE, linewidth=1.5)
            axes.plot(x, y, "o", color=plots.BLUE, markersize=3)
            axes.annotate(str(i), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
        axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xticks=[], yticks=[])
        axes.set_title(f"S = {rarity:g}", fontsize=9)
    return figure


@experiment(
    title="Superposition: {features} features in {units} units, by how rare they are",
    source="Elhage et al. (2022), Toy models of superposition",
    seeds=5,
    data=None,
    full={"seeds": 10, "steps": 10_000, "batch_size": 1024},
    # Written before the first run.
    claims={
        "features represented, S = 0.9 minus S = 0": "rare features share two units",
        "sum of squares of W, S = 0.9 minus S = 0": "and are longer in all",
    },
    notes=["A feature is represented if its column of W is longer than 0.5. The picture has one seed's columns of W."],
)
def main(
    run: Run,
    features: int = 5,  # n
    units: int = 2,  # m
    rarities: tuple[float, ...] = (0.0, 0.8, 0.9, 0.97),  # S, probabilities that a feature is 0; with 0 and 0.9
    steps: int = 5_000,  # of Adam
    batch_size: int = 512,  # fresh examples in a step
    rate: float = 3e-3,  # of Adam
):
    one = toy(features, units, steps, batch_size, rate)
    members = (jnp.repeat(run.keys("toy"), len(rarities)), jnp.tile(jnp.asarray(rarities), len(run.seeds)))
    w = np.asarray(run.computed("toy", mapped(one), members))
    w = w.reshape(len(run.seeds), len(rarities), units, features)
    for i, rarity in enumerate(rarities):
        lengths = np.linalg.norm(w[:, i], axis=1)  # [S, n]
        run.metrics[f"features represented, S = {rarity:g}"] = (lengths > 0.5).sum(1).astype(float)
        run.metrics[f"sum of squares of W, S = {rarity:g}"] = np.square(lengths).sum(1)
    if (features, units) == (5, 2):
        for rarity, count in {0.0: 2, 0.8: 4, 0.9: 5}.items():
            if rarity in rarities:
                run.published[f"features represented, S = {rarity:g}"] = Published(count, WHERE, 0.7)
    return lambda: picture(w[0], rarities)
