"""A trained run, opened for use."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import data
from ...core import Algorithm, Params, Rule
from ...data import ranges
from ...errors import RunError, warn
from ...training import loop, provenance, run_folder
from ...training.settings import Settings, build, of_examples
from ..files import data_options as data_options
from ..files import standard_of as standard_of
from .loading import Splits, load, of_patches

# entries of the settings in config.json that come from the data and the algorithm
RECORDED = ("shape", "validated", "data_checksum", "train_checksum", "vocabulary", "scale", "patches", "standard")
RECORDED += ("functions", "examples", "given", "started", "class_names")
# the settings, with types, that a run's config.json must have
KEPT = {"shape": list, "validated": bool, "optimizer": dict, "algorithm": str, "network": str, "data": str}
KEPT |= {"latents": int, "batch_size": int, "seeds": list}
KEPT |= {"hyper": dict, "network_options": dict, "data_options": dict}


class OpenRun(NamedTuple):
    """A trained run, ready for use."""

    folder: run_folder.Folder
    settings: Settings
    seed: int
    shape: tuple[int, ...]
    algorithm: Algorithm  # in the units of learning, see `standard`; for some older runs see `unlearning`
    params: Params  # of one seed
    epoch: int
    vocabulary: tuple[str, ...]  # of documents
    trained: loop.Trained  # of all seeds
    patches: bool  # whether its examples are, or may be, pieces of larger images
    standard: data.Standard | None  # the units of learning for real values; None: values in [0, 1]

    @property
    def in_data_units(self) -> Algorithm:
        """The algorithm that takes and gives examples in the units of the run's data."""
        return ranges.in_data_units(self.algorithm, self.standard)

    @property
    def sources(self) -> list[Path]:
        """The user's files and folders from which the run's data are read."""
        return data.paths_of(self.settings.data, self.settings.data_options)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of a table; () for a run on other data."""
        return tuple(self.settings.data_options.get("columns", ()))

    def drawable(self, x: np.ndarray) -> np.ndarray:
        """Examples [..., *shape] to draw: rows of a table in the units of learning, other examples unchanged."""
        if not self.columns:
            return x
        return np.asarray(ranges.apply(self.standard, x.reshape(-1, *self.shape))).reshape(x.shape)


def lacking(folder: run_folder.Folder, content: dict[str, Any]) -> str:
    """Why the settings of a run (see `Folder.recorded`) do not describe its algorithm; "" if they do."""
    if not (missing := [name for name in KEPT if name not in content]):
        return ""
    return (
        f"{folder.path} was trained by training.train in Python: its settings lack {', '.join(missing[:3])}, so its "
        f"network cannot be built here. Use it in Python: run = ae_jax.load_run({str(folder.path)!r}, "
        "algorithm=algorithm), where algorithm is the one that it trained; run.params are the params of its first seed"
    )


def open_run(workdir: Path, seed: int | None = None) -> OpenRun:
    """Opens one seed of a run, by default the first that did not fail. Raises RunError if it cannot be opened."""
    if workdir.is_file():
        raise RunError(f"{workdir} is a file; a run is a folder, the --workdir of its training")
    folder = run_folder.Folder(workdir)
    content = folder.recorded()
    if missing := lacking(folder, content):
        raise RunError(missing)
    whole = lambda name, least: all(isinstance(n, int) and n >= least for n in content[name]) and content[name]
    wrong = [name for name, kind in KEPT.items() if not isinstance(content[name], kind)]
    wrong = wrong or [name for name, least in (("shape", 1), ("seeds", 0)) if not whole(name, least)]
    examples = content.get("examples")  # older runs do not record their number
    if examples is not None and not (isinstance(examples, int) and examples >= 1):
        wrong = [*wrong, "examples"]
    if wrong:
        shown = f"its {wrong[0]} is {content[wrong[0]]!r}"
        raise RunError(f"{folder.path / 'config.json'} is damaged ({shown}); restore it or train anew")
    shape = tuple(content["shape"])
    content.update(data_options=data_options(content))
    settings = Settings.from_json({k: v for k, v in content.items() if k not in RECORDED})
    if seed is not None and seed not in settings.seeds:
        raise RunError(f"{folder.path} has no seed {seed}; it was trained with {list(settings.seeds)}")
    epoch, state = folder.params()
    if epoch == 0:
        warn(f"{folder.path} has not ended its first epoch: its parameters are those of a checkpoint before that")
    chosen = state.best if content["validated"] else state.params
    trained = loop.trained(state, jax.tree.map(jnp.asarray, chosen), settings.seeds, folder.log())
    if seed is None:
        seed = trained.good[0]
        if seed != settings.seeds[0]:
            warn(f"{loop.failures(trained.failed)}; seed {seed} is used")
    try:
        algorithm = build(settings, shape, examples or 1)
    except ValueError as error:
        written = folder.config().get("commit") or "an older one"
        raise RunError(
            f"{folder.path} was trained with settings that this version of ae_jax refuses ({error}): open it with the "
            f"version that trained it, commit {written}, or train anew"
        ) from None
    if examples is None and (why := of_examples(settings)):
        algorithm = unlearning(algorithm, folder.path, why)
    return OpenRun(
        folder=folder,
        settings=settings,
        seed=seed,
        shape=shape,
        algorithm=algorithm,
        params=trained.of(seed),
        epoch=epoch,
        vocabulary=tuple(content.get("vocabulary", ())),
        trained=trained,
        patches=content.get("patches", of_patches(settings)),  # older runs do not record it
        standard=standard_of(content),
    )


def unlearning(algorithm: Algorithm, path: Path, why: str) -> Algorithm:
    """The algorithm of a run without a record of the number of its examples; its `rule` raises RunError."""

    def refuse(*_: Any) -> Any:
        raise RunError(
            f"{path} does not record the number N of its training examples, on which its learning depends ({why}): to "
            "replay or to train, build the algorithm by ae_jax.training.settings.build(run.opened.settings, "
            "run.opened.shape, N), where run is that of load_run"
        )

    return algorithm._replace(rule=Rule(refuse, refuse))


def load_own(opened: OpenRun, place: str | Path | None = None) -> Splits:
    """The data of a run's training, read from `place` if they have moved.

    Raises RunError if they are missing or have changed.
    """
    content, settings = opened.folder.recorded(), opened.settings
    if place is not None:
        settings = replace(settings, data=str(place))
    elif data.missing(settings.data):
        where = opened.folder.path
        raise RunError(
            f"the data of {where} were in {settings.data}, and nothing is there now: if they have moved, ae-jax train "
            f"--config {where / 'config.json'} --workdir {where} --data PLACE records the new place; evaluate, report "
            "and project take --data PLACE"
        )
    name = settings.data

    def same(splits: Splits) -> bool:
        if "data_checksum" in content:
            return provenance.checksum(tuple(splits.dataset)) == content["data_checksum"]
        known = content.get("train_checksum")  # of a run in Python; a stream has none
        return known is None or provenance.checksum(splits.train) == known

    splits = load(settings, opened.standard)
    if not same(splits) and "scale" not in content:
        # Older runs record no scale, and read uint8 data up to 1 as zeros and ones. The checksum decides.
        with contextlib.suppress(data.DataError):  # values exceed 1, or the data take no scale
            splits = load(replace(settings, data_options=settings.data_options | {"scale": 1}))
    if not same(splits):
        raise RunError(
            f"{name} has changed since this run was trained on it, so its test set may hold training examples: "
            f"restore the data, or measure on the changed data by evaluate with --data {name}"
        )
    return splits


def check_decodes(opened: OpenRun, workdir: Path, instead: str) -> None:
    """Raises RunError for a run whose decoder learned nothing; `instead` is the advice in the message."""
    if not opened.algorithm.decodes:
        raise RunError(
            f"{workdir} learned to classify, not to reconstruct, and the decoder of {opened.settings.algorithm} "
            f"learns nothing: {instead}"
        )


def in_chunks(fn: Callable[[Params, Any], Any], params: Params, x: np.ndarray, size: int = 1000) -> np.ndarray:
    """`fn(params, x)` over the leading axis of x, `size` examples at a time."""
    fn = jax.jit(fn)
    return np.concatenate([np.asarray(fn(params, x[i : i + size])) for i in range(0, len(x), size)])
