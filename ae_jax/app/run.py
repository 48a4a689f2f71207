"""A trained run in Python: `ae_jax.load_run`."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..core import Algorithm, Batch, Params
from ..data import ranges
from ..errors import RunError, first_line, warn
from ..training import arguments, loop, run_folder
from ..training.checkpoints import differing
from .commands.loading import Splits
from .commands.runs import OpenRun, lacking, load_own, open_run
from .files import standard_of


@dataclass(frozen=True)
class Run:
    """A trained run, as `load_run` gives it.

    `algorithm` and `data` are in the units of learning. With --data-range these differ from the units of the user's
    files; `in_data_units` takes and gives examples in the files' units, as the commands do.
    """

    folder: run_folder.Folder
    settings: dict[str, Any]  # of config.json, with the run's records of its data
    trained: loop.Trained  # the params of all seeds, and a row of the log for each epoch
    seed: int  # the seed of `params`
    epoch: int  # of the checkpoint
    lacks: str = ""  # why the settings do not describe algorithm and data; "" if they do
    opened: OpenRun | None = None
    given: Algorithm | None = None
    place: Path | str | None = None  # of the data, if they have moved

    @property
    def params(self) -> Params:
        """The params of `seed`; `of(seed)` gives those of another seed."""
        return self.of(self.seed)

    def of(self, seed: int) -> Params:
        """The params of a seed. Raises ValueError for a seed that was not trained, RunError for a seed that failed."""
        return self.trained.of(seed)

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm on its network, in the units of learning.

        Raises RunError where the settings describe no algorithm and none was given.
        """
        if self.given is not None:
            return self.given
        if self.opened is None:
            raise RunError(self.lacks)
        return self.opened.algorithm

    @property
    def in_data_units(self) -> Algorithm:
        """The algorithm that takes and gives examples in the units of the run's files. Raises as `algorithm` does."""
        return ranges.in_data_units(self.algorithm, standard_of(self.settings))

    @functools.cached_property
    def data(self) -> Splits:
        """The data of the run, loaded when first asked for: `train`, `validation`, `test` and the whole `dataset`.

        The three parts are in the units of learning; `dataset` is in the units of the files.

        Raises RunError for data that have changed, and for settings that do not name the data.
        """
        if self.opened is None:
            raise RunError(f"{self.folder.path} does not say which data it learned from: {self.lacks}")
        return load_own(self.opened, self.place)


def load_run(
    folder: Path | str,
    seed: int | None = None,
    algorithm: Algorithm | None = None,
    data: Path | str | None = None,
) -> Run:
    """A run of `ae-jax train` or of `training.train`, from its newest checkpoint.

    Args:
        folder: of the run.
        seed: the seed of `Run.params`; by default the first that did not fail.
        algorithm: the trained algorithm, for a run of `training.train` whose settings are the caller's own dict. The
            settings of other runs describe it.
        data: the new place of the run's data, if they have moved.

    Raises RunError for a folder without a run, for a damaged run, and for a run without a checkpoint or the seed; and
    for an `algorithm` whose params or metrics differ from those of the run. A line on stderr names functions that
    differ from the trained ones, for example by another activation or weight.
    """
    held = run_folder.Folder(folder)
    content = held.recorded()
    if not (why := lacking(held, content)):
        opened = open_run(held.path, seed)
        if algorithm is not None:
            check_algorithm(algorithm, held, content, opened.params, opened.trained.history)
        return Run(
            folder=held,
            settings=content,
            trained=opened.trained,
            seed=opened.seed,
            epoch=opened.epoch,
            opened=opened,
            given=algorithm,
            place=data,
        )
    epoch, trained = loop.read(held)
    if seed is None:
        seed = trained.good[0]
    elif seed not in trained.seeds:
        raise RunError(f"{held.path} has no seed {seed}; it was trained with {list(trained.seeds)}")
    if algorithm is not None:
        check_algorithm(algorithm, held, content, trained.of(seed), trained.history)
    return Run(folder=held, settings=content, trained=trained, seed=seed, epoch=epoch, lacks=why, given=algorithm)


def check_algorithm(
    algorithm: Algorithm,
    folder: run_folder.Folder,
    content: dict[str, Any],
    params: Params,
    history: list[dict[str, Any]],
) -> None:
    """Raises RunError for an algorithm whose params or training metrics differ from those of the run; compiles nothing.

    Runs of older versions that do not record the shape of their data pass.
    """
    if "shape" not in content:
        return
    dtype = next(a.dtype for a in jax.tree.leaves(params) if jnp.issubdtype(a.dtype, jnp.floating))
    x: Any = jax.ShapeDtypeStruct((arguments.EXAMPLES, *content["shape"]), dtype)
    y: Any = jax.ShapeDtypeStruct((arguments.EXAMPLES,), jnp.int32)
    data = Batch(x, y)
    name = f" ({content['algorithm']})" if isinstance(content.get("algorithm"), str) else ""
    where = f"the algorithm given for {folder.path} is not the one that it trained{name}"
    try:
        own = jax.eval_shape(algorithm.init, jax.random.key(0), data)
        metrics = set(arguments.traced(algorithm, data))
    except (TypeError, ValueError) as error:
        raise RunError(f"{where}: it cannot learn from data of that shape, {first_line(error)}") from error
    learned = lambda tree: {group: tree[group] for group in tree if group not in algorithm.statistics}
    if told := differing(learned(params), learned(own), "in the run", "in the one given"):
        raise RunError(f"{where}: {told}")
    logged = {metric for row in history[:1] for metric in row.get("train", {})}
    if logged and (others := logged ^ metrics):
        raise RunError(f"{where}: of {', '.join(sorted(others)[:3])} only one of the two is a metric")
    if content.get("functions") and folder.config().get("versions", {}).get("jax") == jax.__version__:
        now = arguments.functions_of(algorithm, content["shape"], dtype)
        if changed := [name for name, given in content["functions"].items() if now.get(name) != given]:
            warn(
                f"note: {' and '.join(changed)} of the algorithm given for {folder.path} "
                f"{'computes' if len(changed) == 1 else 'compute'} something else than in training: give the "
                "algorithm that was trained, unless its code has changed since"
            )
