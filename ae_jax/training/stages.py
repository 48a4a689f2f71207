"""Recipes of several stages. Like any run, a recipe is a pure function of a key: it compiles, and maps over seeds.

`greedy` is layer-wise training: Bengio et al. (2007), NIPS; Vincent et al. (2010), JMLR 11. Other stages are plain
Python: call `core.fit` again, with an init that takes the params of an earlier stage (`resume`).
"""

from collections.abc import Sequence

from ..core import Algorithm, Batch, Init, Key, Metrics, Params, address, epoch, fit
from ..evaluation.codes import encode
from ..objectives.pretraining import fit_best as fit_best
from .origins import Start


def greedy(
    layers: Sequence[Algorithm], data: Batch, key: Key, *, epochs: int | Sequence[int], batch_size: int = 128
) -> tuple[list[Params], list[Metrics]]:
    """Trains each layer on the clean codes of the layer below. The run of layer i has `address(key, "layer", i)`.

    The codes are those of `Algorithm.encode`. A `networks.stack` of the layers has the networks' own `encode`, which
    gives the same codes unless an algorithm changes them, as `k_sparse` keeps the k largest.

    Args:
        layers: an algorithm for each layer, bottom first; the first learns from the data itself.
        data: the training set.
        key: the key of the whole recipe.
        epochs: the epochs of each layer, or one number for all.
        batch_size: examples in a step.

    Returns:
        the layers' params, for `networks.stacked`, and their histories, each metric [epochs].

    Raises:
        ValueError: the numbers of layers and of epochs differ; or the input of a layer is outside the range of its
            likelihood, such as rectified codes below a Bernoulli likelihood. Under `jax.jit` values are unknown and
            pass.
    """
    passes = [epochs] * len(layers) if isinstance(epochs, int) else list(epochs)
    if len(passes) != len(layers):
        raise ValueError(f"there are {len(layers)} layers and {len(passes)} numbers of epochs: give one for each")
    trained, histories = [], []
    for i, (algorithm, times) in enumerate(zip(layers, passes, strict=True)):
        if algorithm.check is not None:
            algorithm.check(data.x, f"the input of layer {i}")
        params, history = fit(algorithm.init, epoch(algorithm, batch_size), data, address(key, "layer", i), times)
        trained.append(params)
        histories.append(history)
        if i + 1 < len(layers):
            data = data._replace(x=encode(algorithm, params, data.x))
    return trained, histories


def resume(init: Init, given: Params) -> Init:
    """An init that draws params by `init` and replaces groups of them by those of an earlier stage, `given`."""
    return lambda key, data: init(key, data) | given


def resumed(algorithm: Algorithm, given: Params) -> Start:
    """A start for `training.train`: each seed begins with its own params of an earlier stage, `given` [S, ...]."""
    return Start(given, lambda own: algorithm._replace(init=resume(algorithm.init, own)))
