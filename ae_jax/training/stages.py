"""Recipes of several stages. Like any run, a recipe is a pure function of a key: it compiles, and maps over seeds.

Bengio et al. (2007), NIPS; Vincent et al. (2010), JMLR 11: greedy layer-wise training. Further stages are plain
Python: `core.fit` again, from params that an earlier stage has left (`resume`).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Algorithm, Batch, Init, Key, Metrics, Params, Rule, address, epoch, fit, start
from ..evaluation.codes import encode


def greedy(
    layers: Sequence[Algorithm], data: Batch, key: Key, *, epochs: int | Sequence[int], batch_size: int = 128
) -> tuple[list[Params], list[Metrics]]:
    """Trains each layer on the clean codes of the one below it; layer i's run has `address(key, "layer", i)`.

    The codes are those of `Algorithm.encode`. A `networks.stack` of the layers has the networks' own `encode`, which
    gives the same codes unless an algorithm changes them, as `k_sparse` keeps the k largest.

    Args:
        layers: an algorithm for each layer, bottom first, the first on the data itself.
        data: the training set.
        key: of the whole recipe.
        epochs: of each layer, or one number for all.
        batch_size: examples in a step.

    Returns:
        the layers' params, to go into `networks.stacked`, and their histories, each metric [epochs].

    Raises:
        ValueError: where the numbers of layers and of epochs differ.
    """
    each = [epochs] * len(layers) if isinstance(epochs, int) else list(epochs)
    if len(each) != len(layers):
        raise ValueError(f"there are {len(layers)} layers and {len(each)} numbers of epochs: give one for each")
    trained, histories = [], []
    for i, (algorithm, times) in enumerate(zip(layers, each, strict=True)):
        params, history = fit(algorithm.init, epoch(algorithm, batch_size), data, address(key, "layer", i), times)
        trained.append(params)
        histories.append(history)
        if i + 1 < len(layers):
            data = data._replace(x=encode(algorithm, params, data.x))
    return trained, histories


def resume(init: Init, given: Params) -> Init:
    """An init that draws params by `init` and replaces groups of them by those of an earlier stage, `given`."""
    return lambda key, data: init(key, data) | given


def fit_best(
    init: Init, rule: Rule, data: Batch, key: Key, epochs: int, score: Callable[[Params], Array]
) -> tuple[Params, Metrics]:
    """`core.fit`, returning the params of the epoch with the lowest score, the first of equals.

    A score of NaN is never the lowest; if all are NaN, the first epoch's params are returned.

    Args:
        init: as `fit` takes it.
        rule: on datasets, see `core.epoch`.
        data: the training set.
        key: of the run.
        epochs: passes over the data, at least 1.
        score: params -> [], an error on a validation set, computed after every epoch.

    Returns:
        the params of that epoch, and the metrics of all, [epochs] each, with `score` among them.

    Raises:
        ValueError: no epochs.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    params, memory, key_epochs = start(init, rule, data, key)

    def step(carry, e: Array):
        params, memory, best, least = carry
        params, memory, metrics = rule.update(params, memory, data, address(key_epochs, e))
        value = score(params).astype(least.dtype)
        better = (value < least) | (e == 0)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, best)
        return (params, memory, best, jnp.fmin(value, least)), {**metrics, "score": value}

    least = jnp.full((), jnp.inf, jnp.promote_types(jax.eval_shape(score, params).dtype, jnp.float32))
    (_, _, best, _), history = lax.scan(step, (params, memory, params, least), jnp.arange(epochs))
    return best, history
