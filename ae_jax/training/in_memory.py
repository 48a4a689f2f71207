"""A whole run in one call, without a folder: all seeds and epochs are one compiled program."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import evaluation
from ..checks import is_concrete, length
from ..core import Algorithm, Batch, Key, Metrics, Params, address, average, epoch, fit
from ..xla.programs import compiled
from .arguments import check_data, check_examples, check_length, check_seeds
from .compiled import map_seeds


class Ran(NamedTuple):
    """The result of `run`; every leaf has a leading axis of seeds, S."""

    params: Params
    history: Metrics  # each training metric [S, epochs]
    metrics: Metrics  # of the test set, each [S], cross_entropy only if all values lie in [0, 1]; {} without a test set


def run(
    algorithm: Algorithm,
    train: Batch,
    test: Batch | None = None,
    *,
    epochs: int,
    batch_size: int = 128,
    seeds: int | Sequence[int] = 1,
) -> Ran:
    """Trains every seed of an algorithm, and measures it on a test set.

    A second call with the same algorithm, epochs, batch size and shapes compiles nothing. `training.train` uses the
    same keys, and has a folder, checkpoints and early stopping as well.

    Args:
        algorithm: the algorithm on its network.
        train: the training set.
        test: examples for `Ran.metrics`.
        epochs: passes over the training set.
        batch_size: examples in a step.
        seeds: the number of runs, with the seeds 0 to seeds - 1; or the seeds themselves.

    Raises ValueError for no epochs, no examples in a step, NaN and infinite values, values outside the range of the
    algorithm's likelihood, and invalid seeds (see `check_seeds`). Raises TypeError for an algorithm that is no
    `Algorithm`, and for data that are no `Batch`.
    """
    if not hasattr(algorithm, "rule"):
        given = type(algorithm).__name__
        raise TypeError(
            f"algorithm is of type {given}; wanted: an Algorithm, such as autoencoder(net, optax.adam(1e-3))"
        )
    check_length(epochs, batch_size)
    if isinstance(seeds, int | np.integer):
        if seeds < 1:
            raise ValueError(f"seeds are {seeds}; give a number of runs, at least 1, or the seeds themselves")
        seeds = range(int(seeds))
    elif not isinstance(seeds, Iterable):
        raise ValueError(f"seeds are {seeds!r}; give a number of runs, at least 1, or the seeds themselves")
    seeds = [int(seed) if seed == int(seed) else seed for seed in seeds]
    check_seeds(seeds)
    check_examples(train, "the train part of the data")
    length(train)
    if test is not None:
        check_examples(test, "the test part of the data")
        length(test)
    check_data(algorithm, train=train, test=test)
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    ran = Ran(*_ran(algorithm, keys, train, test, epochs=epochs, batch_size=batch_size))
    if test is not None and is_concrete(train.x) and is_concrete(test.x):
        with jax.ensure_compile_time_eval():  # also inside a program
            within = evaluation.within_unit(train, test)
        if not within:
            ran.metrics.pop("cross_entropy", None)
    return ran


@functools.partial(compiled, static_argnames=("epochs", "batch_size"))
def _ran(algorithm: Algorithm, keys: Key, train: Batch, test: Batch | None, *, epochs: int, batch_size: int):
    rule = epoch(algorithm, batch_size)

    def one(key: Key) -> tuple[Params, Metrics, Metrics]:
        params, history = fit(algorithm.init, rule, train, key, epochs)
        key_test = address(key, "evaluation", "test")
        return params, history, {} if test is None else average(algorithm.evaluate, params, test, key_test)

    return map_seeds(one)(keys)
