"""Training a run into a folder: the command `train`."""

import json
import os
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ... import data
from ...checks import check_batch_size
from ...core import Algorithm, address
from ...data import ranges
from ...data.disk import strict
from ...errors import RunError, counted, warn
from ...evaluation import diagnosis
from ...training import arguments, compiled, devices, logs, loop, origins, provenance, run_folder
from ...training.settings import (
    Settings,
    as_recorded,
    build,
    check_options,
    check_updates,
    completed,
    of_length,
    with_map_latents,
)
from ...training.sharing import Sharing
from . import measuring, reporting, runs
from .loading import (
    Splits,
    bounded,
    check_classes,
    check_likelihood,
    check_order,
    classes_of,
    drawn_once,
    kind_of,
    load,
    of_patches,
    of_table,
)


def train(
    settings: Settings,
    workdir: Path,
    *,
    every_epochs: int = 10,
    every_minutes: float = 5.0,
    keep: int = 3,
    samples: int | None = None,
    quiet: bool = False,
    restart_schedule: bool = False,
    mesh: Mesh | None = None,
    log: Sequence[logs.LogName] = (),
    splits: Splits | None = None,
    sharing: Sharing | None = None,
    only_check: bool = False,
) -> dict[str, Any]:
    """Trains, evaluates and reports into `workdir`. A run that was stopped goes on, and an ended run for more epochs.

    `restart_schedule` begins the schedule of the learning rate anew if the run goes on for more epochs.
    `mesh` spreads seeds and batches over devices, see `devices`. If several processes train together, the first one
    evaluates and reports, and the others return {}. `samples` is the number of importance samples for the
    log-likelihood, by default `SAMPLES`; `log` names the logs for other programs, see `training.logs`.

    `splits` are the data, if they are loaded already. Runs with the same `sharing` share compiled programs. With
    `only_check` the call ends before anything is written, and returns {}.

    Returns the content of `results.json`. Raises RunError, DataError or ValueError with advice.
    """
    say = print if devices.first() and not quiet else (lambda *_: None)
    arguments.check_seeds(settings.seeds)
    arguments.check_saving(every_epochs, every_minutes, keep)
    logs.check_kinds(log)
    if samples is not None and samples < 1:
        raise ValueError(f"--likelihood-samples is {samples}; it must be at least 1")
    folder = run_folder.Folder(workdir)
    try:
        splits = load(settings) if splits is None else splits
    except data.DataError as error:
        if data.missing(settings.data) and folder.taken():
            raise data.DataError(
                f"{error}; {folder.path} learned from it: if it has moved, give its new place by --data"
            ) from None
        raise
    place, options = data.absolute(settings.data, settings.data_options)
    settings = replace(settings, data=place, data_options=options)
    say(splits)
    settings = of_table(settings, splits.dataset)
    if splits.standard is not None:
        kind = settings.data_options["range"]
        units = "in the data's own units" if kind == "as_is" else f"of {kind} values"
        own = "these, too" if kind == "as_is" else "the data's own"
        say(f"range={kind}: losses and errors are {units}; decode, sample and restore give {own}")
    shape = splits.train.x.shape[1:]
    check_options(settings, shape)
    asked = settings.hyper.get("likelihood")
    learned: Any = splits.streams or splits  # both have train and validation
    examples = len(splits.streams.train.source if splits.streams else splits.train.x)
    settings = completed(with_map_latents(settings, shape), examples, kind_of(splits), classes_of(splits))
    restarts, renew = devices.broadcast(lambda: going_on(settings, folder, restart_schedule, examples))
    settings = replace(settings, restarts=tuple((at, planned) for at, planned in restarts))
    settings, source = starting(settings, folder)
    recorded = settings.to_json() | {
        "shape": list(shape),
        "validated": learned.validation is not None,
        "data_checksum": provenance.checksum(tuple(splits.dataset)),  # for a stream, of its samples in memory
        "scale": splits.dataset.scale,  # the integer that means 1.0 in the run's inputs; None: the dtype decides
        "patches": of_patches(settings, splits.streams),
        "examples": examples,  # of training: schedules are planned for them
    }
    if splits.standard is not None:
        recorded["standard"] = splits.standard.to_json()
    if splits.dataset.classes:
        recorded["class_names"] = list(splits.dataset.classes)
    if splits.dataset.vocabulary:
        recorded["vocabulary"] = list(splits.dataset.vocabulary)
    # All processes write a checkpoint together, so all must agree on when.
    saving = {"every_epochs": every_epochs, "every_minutes": every_minutes, "keep": keep}
    devices.check_agreement(recorded | saving | {"mesh": devices.described(mesh)})
    devices.check(mesh, len(settings.seeds), min(settings.batch_size, examples))  # before a folder is taken
    if mesh is not None and mesh.size == 1:
        say("one device does all the work; on CPU, --devices 2 makes two of the cores")
    if told := check_updates(settings, examples):
        say(told)
    check_likelihood(settings, splits)
    if told := check_order(settings, splits.dataset):
        say(told)
    if settings.batch_size > examples:
        say(f"note: batch_size is {settings.batch_size}, and there are {examples} training examples: a step takes all")
    algorithm = build(settings, shape, examples)
    if asked is not None and not algorithm.decodes and not settings.hyper.get("pretrain_epochs"):
        raise ValueError(
            f"likelihood={asked} has no effect: {settings.algorithm} has it for its pretraining, and pretrain_epochs "
            "is 0. Leave it out, or pretrain"
        )
    drawn = settings.binarise == "dynamic"  # the training pixels are drawn in every step
    arguments.check_data(
        algorithm, train=None if drawn else splits.train, validation=learned.validation, test=splits.test
    )
    measuring.check_samples(algorithm, settings, samples, "likelihood_samples")
    if told := check_classes(algorithm, settings, splits.train.y):
        say(told)
    arguments.check_labels(algorithm, learned.validation)
    if splits.streams is not None:
        learned = splits.streams._replace(train=bounded(splits.streams.train, algorithm, settings))
    # Checks that need no compilation come before anything is written.
    arguments.check_arguments(settings.seeds, settings.patience, learned.validation)
    check_batch_size(min(settings.batch_size, examples), algorithm.compares)
    arguments.traced(algorithm, learned.train)
    start = None
    if source is not None:
        own = jax.eval_shape(algorithm.init, jax.random.key(0), arguments.seen(learned.train))
        given = origins.chosen(source, own, algorithm.statistics)
        start = origins.Start(given, lambda given: build(settings, shape, examples, given))
        say(f"starting from {', '.join(given)} of {source.record['run']}, after its epoch {source.record['epoch']}")
    arguments.check_monitor(algorithm, learned.train, settings.best, validated=learned.validation is not None)
    if settings.best != "loss" and learned.validation is None:
        say(f"note: best is {settings.best}, which chooses among epochs by held-out data alone: give a validation set")

    def known() -> dict[str, Any]:
        """The settings to record. An older run may lack some, which are then not added."""
        if not (folder.path / "config.json").exists():
            return recorded
        before = folder.config()["settings"]
        older = {
            k: v for k, v in recorded.items() if k in before or k not in ("scale", "patches", "examples", "class_names")
        }
        return as_recorded(older, before)

    def found() -> dict[str, Any] | None:
        """The results of a finished run."""
        try:
            results = folder.results()
        except RunError as error:
            warn(f"{error} That is done now.")
            return None
        if results is not None and not folder.whole():
            warn(f"{folder.path} is finished, and its last checkpoint is damaged: its epochs are run again")
            return None
        return results

    if only_check:
        return {}
    assert settings.epochs is not None  # see completed
    held_out = ranges.undo(splits.standard, logs.spread(splits.test.x, logs.CODED))
    pixels = splits.standard is None or splits.standard.pixels
    shown = logs.Examples(ranges.in_data_units(algorithm, splits.standard), held_out, pixels)
    renewed = [*renew, *devices.broadcast(lambda: moved(folder, recorded))]
    with (
        folder.opened(devices.broadcast(known), keep=keep, renew=renewed),
        logs.opened(log, folder, settings.seeds, settings.epochs, shown) as hooks,
    ):
        if (results := devices.broadcast(found)) is not None:
            if not devices.first():
                return {}
            say(f"{folder.path} is finished; here is what it found.")
            if samples is not None:
                say(f"note: nothing is measured again; ae-jax evaluate {folder.path} --samples {samples} does that")
            if not (folder.path / "report.html").exists():
                reporting.decorate(
                    folder, algorithm, runs.open_run(folder.path).params, drawn_once(settings, splits), results
                )
        else:
            say(
                f"training in {folder.path}"
                + ("" if sys.stderr.isatty() else " (log.jsonl there gains a row an epoch)")
            )
            done = folder.reached()
            if devices.first() and (epochs := settings.hyper.get("pretrain_epochs")) and not folder.begun():
                seen = " on the first shard" if splits.streams and splits.streams.train.shards > 1 else ""
                say(f"pretraining an autoencoder for {counted(epochs, 'epoch')}{seen} (--pretrain-epochs)")
            made = compiled.programs
            if mesh is None:
                made = (sharing or Sharing()).programs(settings, shape, examples, learned.train)
            trained = loop.train(
                algorithm,
                learned.train,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                seeds=settings.seeds,
                validation=learned.validation,
                transform=data.dynamic_binarise if settings.binarise == "dynamic" else None,
                monitor=settings.best,
                patience=settings.patience,
                folder=folder,
                every_epochs=every_epochs,
                every_minutes=every_minutes,
                progress=not quiet,
                mesh=mesh,
                start=start,
                on_epoch=hooks.on_epoch,
                on_params=hooks.on_params,
                programs=made,
            )
            if not devices.first():
                return {}
            if "epochs" in renew and len(trained.history) == done < settings.epochs:
                say(f"note: every seed has stopped early (--patience {settings.patience}); more epochs change nothing")
            splits = drawn_once(settings, splits)
            results = measuring.measure(algorithm, trained, splits, samples or measuring.SAMPLES, say)
            results["devices"] = devices.described(mesh)
            results["remarks"] = measuring.diagnose(algorithm, trained, settings, splits, examples, results["metrics"])
            results = strict(results)  # as results.json has them
            run_folder.write_sealed(folder.path / "results.json", results)
            say("writing the report")
            reporting.decorate(folder, algorithm, trained.of(trained.good[0]), splits, results)
    say(measuring.table(results))
    if "confusion" in results:
        say(measuring.confusion_table(results["confusion"]))
    if told := diagnosis.line(results.get("remarks", [])):
        say(told)
    if told := restores_little(algorithm, splits.test.x, results):
        say(told)
    if (page := folder.path / "report.html").exists():
        say(f"report: {page}")
    return results


def starting(settings: Settings, folder: run_folder.Folder) -> tuple[Settings, origins.Origin | None]:
    """The settings with a record of the run that this one starts from, and that run's params.

    A run that has begun keeps its record and needs no params. Raises RunError if the other run has changed since.
    """
    asked = settings.start_from
    if asked is None:
        return settings, None
    wanted = lambda start: (start["run"], list(start.get("groups") or ()), start.get("seed"))
    asked |= {"run": os.path.abspath(os.path.expanduser(asked["run"])), "groups": list(asked.get("groups") or ())}
    if folder.taken() and (folder.path / "config.json").exists():
        before = folder.config()["settings"].get("start_from")
        if before is not None and wanted(before) == wanted(asked):
            asked = before
            if folder.begun():
                return replace(settings, start_from=before), None
    source = origins.read(asked["run"], settings.seeds, asked["groups"], asked.get("seed"))
    if asked.get("seeds") == source.record["seeds"] and asked.get("checksum") not in (None, source.record["checksum"]):
        raise RunError(
            f"{asked['run']} has changed since params of its epoch {asked.get('epoch')} were recorded to start from: "
            "restore it, or start from it as it is in another --workdir"
        )
    return replace(settings, start_from=source.record), source


def moved(folder: run_folder.Folder, recorded: dict[str, Any]) -> list[str]:
    """The settings to renew if the same data are in another place than config.json says; a line on stderr says so."""
    if not folder.taken() or not (folder.path / "config.json").exists():
        return []
    before = folder.config()["settings"]
    if before.get("data_checksum") != recorded["data_checksum"] or "data_options" not in before:
        return []
    now, then = json.loads(json.dumps(recorded["data_options"])), before["data_options"]
    if not {name for name in now | then if now.get(name) != then.get(name)} <= {*data.PLACES}:
        return []
    place, was = recorded["data"], before["data"]
    if place != was and not os.path.isabs(place):
        return []
    if place not in (was, os.path.abspath(was)):
        warn(f"the data of {folder.path} were in {was}; they are the same, and read from {place} from now on")
    return ["data", "data_options"]


def going_on(
    settings: Settings, folder: run_folder.Folder, restart: bool, examples: int
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """The `Settings.restarts` with which a run goes on in a folder, and the names of the settings that may change.

    The number of epochs may change if the learning rate does not depend on it, or if its schedule is to `restart`.

    Raises RunError for fewer epochs than are done, and for another number of epochs on which the schedule depends.
    Raises ValueError if there is nothing to restart.
    """
    exists = (folder.path / "config.json").exists()
    before = folder.config()["settings"] if exists else {}
    earlier, epochs = before.get("epochs"), settings.epochs
    assert epochs is not None  # see completed
    if earlier is None or not folder.taken():
        if restart:
            raise ValueError(f"restart_schedule=True has no effect: {folder.path} holds no run to go on; leave it out")
        return settings.restarts, ()
    restarts = tuple((int(at), int(planned)) for at, planned in before.get("restarts", ()))
    if earlier == epochs or settings.restarts not in ((), restarts):
        return settings.restarts or restarts, ()
    if epochs < (reached := folder.reached()):
        raise RunError(
            f"{folder.path} has done {counted(reached, 'epoch')} of {earlier}, and epochs={epochs} asks for fewer: "
            f"give epochs={earlier} to go on or to see its results, or choose another --workdir"
        )
    begun = restarts[-1][0] if restarts else 0
    steps = -(-examples // settings.batch_size)
    matters = of_length(settings.optimizer, (earlier - begun, epochs - begun), steps)
    if not restart:
        if matters:
            raise RunError(
                f"{folder.path} was to have {counted(earlier, 'epoch')}, and with {matters} its learning rate depends "
                f"on that number: give --restart-schedule to begin the schedule anew after epoch {reached}, or choose "
                "another --workdir"
            )
    elif not matters and not settings.optimizer.warmup_epochs:
        raise ValueError("restart_schedule=True has no effect: the learning rate is constant; leave it out")
    elif reached > begun:
        restarts = (*restarts, (reached, earlier))
    return restarts, ("epochs", "restarts")


def restores_little(algorithm: Algorithm, x: Any, results: dict[str, Any]) -> str:
    """A warning if restored test images are hardly nearer to the clean ones than the corrupted images; else ""."""
    name = next((name for name in results["metrics"] if name.startswith("denoised mse")), None)
    if algorithm.corrupt is None or name is None or x.ndim != 4:
        return ""
    x = np.asarray(x[:1000])
    corrupted = algorithm.corrupt(jnp.asarray(x), address(jax.random.key(0), "corruption"))
    before = float(np.mean((np.asarray(corrupted) - x) ** 2))
    after = results["metrics"][name]["mean"]
    # for a run that copies its input the two differ by a few percent, from different draws of the noise
    if after is None or after < 0.95 * before:
        return ""
    return (
        f"warning: this run restores little or nothing: the mse of corrupted test images is {before:.4g}, and "
        f"{after:.4g} after restoration. To restore images, widen the bottleneck (--network conv --no-net-dense "
        "--net-residual), or train longer"
    )


def default_workdir(settings: Settings) -> Path:
    """runs/ALGORITHM-DATA-DIGEST: equal settings have the same folder, different settings have different folders."""
    later = ("restarts", "start_from")  # newer settings, left out if empty: older runs' folders keep their names
    named = {name: value for name, value in settings.to_json().items() if value or name not in later}
    digest = zlib.crc32(json.dumps(named, sort_keys=True).encode())
    name = Path(os.path.abspath(settings.data)).stem  # also for a folder given as .
    return Path("runs") / f"{settings.algorithm}-{name}-{digest:08x}"
