"""What the command line does, as functions: train a run into a folder, and use the folder afterwards."""

import contextlib
import functools
import inspect
import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from . import corruption, data, devices, diagnosis, evaluation, index, report, restoration, retrieval, run, shards
from .algorithms import ALGORITHMS
from .checks import labelled
from .core import Algorithm, Batch, Key, Params, address
from .disk import PROJECTED, strict, suffix
from .errors import tracebacks, warn
from .evaluation.statistics import summarise
from .files import (
    cell,
    check_codes,
    check_folder,
    check_output,
    check_shape,
    check_suffix,
    check_vocabulary,
    image_bytes,
    places_for,
    read_array,
    read_examples,
    save_array,
    save_examples,
    sprite,
)
from .settings import DataKind, Settings, build, check_options, check_updates, completed, sized

# what config.json keeps among the settings, found in the data
RECORDED = ("shape", "validated", "data_checksum", "vocabulary", "scale", "patches")


# ------------------------------------------------------------------------------------------------- train


class Streams(NamedTuple):
    """The splits of data that are read in shards."""

    sources: data.Sources
    train: data.Stream
    validation: data.Stream | None
    test: data.Stream


class Splits(NamedTuple):
    """A run's data as it is used. Of a stream, train and test are some examples, evenly spaced."""

    dataset: data.Dataset
    train: Batch
    validation: Batch | None
    test: Batch
    streams: Streams | None = None

    def __str__(self) -> str:
        return str(self.dataset if self.streams is None else self.streams.sources)


SAMPLED = 10_000  # examples of a stream, at most, for what needs them in memory: probes, PCA, pictures


def load_streams(settings: Settings) -> Splits:
    """`load` where the settings say that data are streamed.

    Pixels that are drawn once, not in every step, are each example's own draw, other than those in memory.
    """
    sources = data.open_stream(settings.data, **settings.data_options)
    train, validation = sources.train, sources.validation
    check_validation(settings, validation, len(train))
    if settings.validation:
        train, validation = data.split(train, settings.validation, seed=0)
    size = data.shard_size(train.shape, settings.batch_size, settings.shard_size)

    def stream(source: data.Source, part: int) -> data.Stream:
        drawn = settings.binarise == "static" or (part and settings.binarise)
        return data.Stream(source, size, None if part else 0, part if drawn else None)

    held_out = None if validation is None else stream(validation, 2)
    streams = Streams(sources, stream(train, 0), held_out, stream(sources.test, 1))
    few = min(SAMPLED, size)
    seen, test = (jax.tree.map(np.asarray, of.sample(few)) for of in (streams.train, streams.test))
    dataset = data.Dataset(sources.name, seen, test, sources.source, None, sources.classes, scale=sources.scale)
    return Splits(dataset, seen, None, test, streams)


def load(settings: Settings) -> Splits:
    """The data of a run: loaded, split and binarised as its settings say."""
    if settings.shard_size is not None:
        return load_streams(settings)
    dataset = data.load(settings.data, **settings.data_options)
    train, test = dataset
    validation = dataset.validation
    check_validation(settings, validation, len(train.x))
    if settings.validation:
        # One split for all seeds: they differ in learning, not in data.
        train, validation = data.validation_split(train, settings.validation, seed=0)
    if settings.binarise is not None:  # held-out data are always binarised once: their numbers must repeat
        test = _binarised(test, 1)
        validation = validation and _binarised(validation, 2)
    if settings.binarise == "static":
        train = _binarised(train, 0)
    return Splits(dataset, train, validation, test)


def check_validation(settings: Settings, own: Any, examples: int) -> None:
    """Raises DataError for a fraction to hold out of data that have a validation split.

    And for one of which less than one example would be held out, or left to train on.
    """
    if settings.validation and own is not None:
        count = len(own.x if isinstance(own, Batch) else own)
        raise data.DataError(
            f"{settings.data} has a validation split of {count} examples: leave validation= out to use it"
        )
    if 0 < settings.validation < 1 and min(settings.validation, 1 - settings.validation) * examples < 1:
        side = "hold out" if settings.validation < 0.5 else "leave to train on"
        raise data.DataError(
            f"validation={settings.validation:g} would {side} less than 1 of {examples} examples: give another fraction"
        )


def _binarised(batch: Batch, seed: int) -> Batch:
    return batch._replace(x=data.binarise(np.asarray(batch.x), seed=seed))


def kind_of(splits: Splits) -> DataKind:
    """The kind of the values of examples, which chooses the default likelihood."""
    if splits.dataset.vocabulary:
        return "words"
    x = splits.train.x
    return "unit" if x.min() >= 0 and x.max() <= 1 else "real"


def check_likelihood(settings: Settings, splits: Splits) -> None:
    """Raises ValueError for a likelihood that does not fit the data.

    Bernoulli of values outside [0, 1] or of counted words, and multinomial of images or negative values.
    """
    x, words = splits.train.x, bool(splits.dataset.vocabulary) and settings.binarise is None
    chosen = settings.hyper.get("likelihood")
    coins = settings.algorithm == "made" or "bernoulli" in (chosen, settings.hyper.get("visible_units"))
    low, high = float(x.min()), float(x.max())
    if chosen == "multinomial" and (x.ndim > 2 or low < 0):
        given = "images" if x.ndim > 2 else f"values from {low:.3g}"
        raise ValueError(f"likelihood multinomial wants counts of words, and {settings.data} has {given}: take another")
    if coins and (low < 0 or high > 1):
        raise ValueError(
            f"{settings.algorithm} wants values in [0, 1], probabilities of a 1, and {settings.data} has values from "
            f"{low:.3g} to {high:.3g}: choose another likelihood or member, or scale the data to lie in [0, 1]"
        )
    if chosen == "bernoulli" and words:
        raise ValueError(
            "likelihood bernoulli wants bits, and documents are counts of words: use likelihood=multinomial, or "
            "binarise=static, which draws words by their probability"
        )


def check_classes(algorithm: Algorithm, settings: Settings, y: Any) -> str:
    """A note where the labels y exceed the number of classes that the algorithm took by default, or "".

    Raises ValueError where they exceed a number of classes that the user gave or that cannot change, and where fewer
    examples have a label than the algorithm learns from.
    """
    if y is not None and algorithm.classes is not None:
        known, wanted = int(labelled(y).sum()), settings.hyper.get("labels") or 1
        if known < wanted and settings.shard_size is None:
            raise ValueError(
                f"{settings.algorithm} learns from {wanted} labels, and {known} of {len(y)} training examples of "
                f"{settings.data} have one (-1 is none): "
                + (f"give --labels {known} or fewer" if known else "choose data with labels")
            )
    return "" if y is None else check_labels(algorithm, settings, y)


def check_labels(algorithm: Algorithm, settings: Settings, y: Any) -> str:
    """The note and the first ValueError of `check_classes`, for labels y."""
    if algorithm.classes is None or (there := 1 + int(np.max(y))) <= algorithm.classes:
        return ""
    # by default the classes are half of a code that has them as a part: see labels.class_and_style
    option = inspect.signature(ALGORITHMS[settings.algorithm]).parameters.get("classes")
    coded = option is not None and option.default is None
    half = f", half of a code of {settings.latents}" if coded and settings.hyper.get("classes") is None else ""
    beyond = f"{settings.data} has labels up to {there - 1} and {settings.algorithm} {algorithm.classes} classes{half}"
    if half and "labels" not in settings.hyper:
        return f"note: {beyond}: images of the others teach no class (to change it: --classes {there}, more --latents)"
    raise ValueError(f"{beyond}: give {there} classes" + (f" and more than {there} latents" if coded else ""))


def bounded(stream: data.Stream, algorithm: Algorithm, settings: Settings) -> data.Stream:
    """The stream; reading raises the error of `check_labels`, since a sample need not hold the largest label."""
    read = stream.source.read

    def checked(index: np.ndarray) -> Batch:
        batch = read(index)
        if batch.y is not None:
            check_labels(algorithm, settings, batch.y)
        return batch

    return replace(stream, source=replace(stream.source, read=checked))


def classes_of(splits: Splits) -> int | None:
    """The number of classes in the training labels: 1 + the largest; of a stream, of a sample or as its source tells.

    None without labels.
    """
    y = splits.train.y
    told = (splits.streams.train.source.classes or 0) if splits.streams else 0
    return max(1 + int(np.max(y)), told) if y is not None and labelled(y).any() else None


def check_validation_labels(algorithm: Algorithm, settings: Settings, validation: Any) -> None:
    """Raises ValueError where the metrics need labels, and no validation example has one."""
    if not isinstance(validation, Batch) or algorithm.classes is None or algorithm.decodes:
        return
    if validation.y is None or not labelled(validation.y).any():
        raise ValueError(
            f"{settings.algorithm} is measured by labels, and none of {len(validation.x)} validation examples of "
            f"{settings.data} has one (-1 is none): hold out more examples (--validation), or none"
        )


SAMPLES = 100  # importance samples for the log-likelihood, by default


def check_samples(algorithm: Algorithm, settings: Settings, samples: int | None, name: str) -> None:
    """Raises ValueError for importance samples, given by an option of that name, of an algorithm that draws none."""
    if samples is not None and algorithm.log_weight is None:
        raise ValueError(
            f"{name}={samples} has no effect: {settings.algorithm} has no log-likelihood by importance sampling; "
            "leave it out"
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
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and reports into `workdir`; goes on where an earlier call was stopped.

    `mesh` spreads seeds and batches over devices, see `devices`. Of many processes that train together the first one
    evaluates and reports; the others return nothing. `samples` are for the log-likelihood, `SAMPLES` by default.

    Returns what `results.json` holds. Raises RunError, DataError or ValueError with what to do.
    """
    say = print if devices.first() and not quiet else (lambda *_: None)
    run.check_seeds(settings.seeds)
    run.check_saving(every_epochs, every_minutes, keep)
    if samples is not None and samples < 1:
        raise ValueError(f"--likelihood-samples is {samples}; it must be at least 1")
    splits = load(settings)
    say(splits)
    shape = splits.train.x.shape[1:]
    check_options(settings, shape)
    learned: Any = splits.streams or splits  # both have train and validation
    examples = len(splits.streams.train.source if splits.streams else splits.train.x)
    settings = completed(sized(settings, shape), examples, kind_of(splits), classes_of(splits))
    recorded = settings.to_json() | {
        "shape": list(shape),
        "validated": learned.validation is not None,
        "data_checksum": run.checksum(tuple(splits.dataset)),  # of a stream, of the examples in memory
        "scale": splits.dataset.scale,  # the integer that means 1.0 in the run's inputs; None: the dtype decides
        "patches": of_patches(settings, splits.streams),
    }
    if splits.dataset.vocabulary:
        recorded["vocabulary"] = list(splits.dataset.vocabulary)
    # A checkpoint is written by all processes, so all must think it due.
    saving = {"every_epochs": every_epochs, "every_minutes": every_minutes, "keep": keep}
    devices.agree(recorded | saving | {"mesh": devices.described(mesh)})
    devices.check(mesh, len(settings.seeds), min(settings.batch_size, examples))  # before a folder is taken
    if mesh is not None and mesh.size == 1:
        say("one device does all the work; on CPU, --devices 2 makes two of the cores")
    if told := check_updates(settings, examples):
        say(told)
    check_likelihood(settings, splits)
    if settings.batch_size > examples:
        say(f"note: batch_size is {settings.batch_size}, and there are {examples} training examples: a step takes all")
    algorithm = build(settings, shape, examples)
    check_samples(algorithm, settings, samples, "likelihood_samples")
    if told := check_classes(algorithm, settings, splits.train.y):
        say(told)
    check_validation_labels(algorithm, settings, learned.validation)
    if splits.streams is not None:
        learned = splits.streams._replace(train=bounded(splits.streams.train, algorithm, settings))
    # Checks that need no compilation come before anything is written.
    run.check_arguments(settings.seeds, settings.patience, learned.validation)
    run.traced(algorithm, learned.train)
    run.check_monitor(algorithm, learned.train, settings.best, validated=learned.validation is not None)
    if settings.best != "loss" and learned.validation is None:
        say(f"note: best is {settings.best}, which chooses among epochs by held-out data alone: give a validation set")
    folder = run.Folder(workdir)

    def known() -> dict[str, Any]:
        """The settings to record; those of an older run lack some."""
        if not (folder.path / "config.json").exists():
            return recorded
        before = folder.config()["settings"]
        return {k: v for k, v in recorded.items() if k in before or k not in ("scale", "patches")}

    def found() -> dict[str, Any] | None:
        """The results of a finished run."""
        try:
            results = folder.results()
        except run.RunError as error:
            warn(f"{error} That is done now.")
            return None
        if results is not None and not folder.whole():
            warn(f"{folder.path} is finished, and its last checkpoint is damaged: its epochs are run again")
            return None
        return results

    with folder.opened(devices.decided(known), keep=keep):
        if (results := devices.decided(found)) is not None:
            if not devices.first():
                return {}
            say(f"{folder.path} is finished; here is what it found.")
            if not (folder.path / "report.html").exists():
                decorate(folder, algorithm, open_run(folder.path).params, splits, results)
        else:
            say(
                f"training in {folder.path}"
                + ("" if sys.stderr.isatty() else " (log.jsonl there gains a row an epoch)")
            )
            assert settings.epochs is not None  # see completed
            if devices.first() and (epochs := settings.hyper.get("pretrain_epochs")) and not folder.begun():
                seen = " on the first shard" if splits.streams and splits.streams.train.shards > 1 else ""
                say(f"pretraining an autoencoder for {epochs} epochs{seen} (--pretrain-epochs)")
            trained = run.train(
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
            )
            if not devices.first():
                return {}
            results = measure(algorithm, trained, splits, samples or SAMPLES, say)
            results["devices"] = devices.described(mesh)
            results["remarks"] = diagnose(algorithm, trained, settings, splits, examples, results["metrics"])
            results = strict(results)  # as results.json has them
            run.write_sealed(folder.path / "results.json", results)
            say("writing the report")
            decorate(folder, algorithm, trained.of(trained.good[0]), splits, results)
    say(table(results))
    if "confusion" in results:
        say(confusion_table(results["confusion"]))
    if told := diagnosis.line(results.get("remarks", [])):
        say(told)
    if told := restores_little(algorithm, splits.test.x, results):
        say(told)
    if (page := folder.path / "report.html").exists():
        say(f"report: {page}")
    return results


def restores_little(algorithm: Algorithm, x: Any, results: dict[str, Any]) -> str:
    """A warning where restoration brings corrupted test images hardly nearer to the clean ones, or ""."""
    name = next((name for name in results["metrics"] if name.startswith("denoised mse")), None)
    if algorithm.corrupt is None or name is None or x.ndim != 4:
        return ""
    x = np.asarray(x[:1000])
    corrupted = algorithm.corrupt(jnp.asarray(x), address(jax.random.key(0), "corruption"))
    before = float(np.mean((np.asarray(corrupted) - x) ** 2))
    after = results["metrics"][name]["mean"]
    if (
        after is None or after < 0.95 * before
    ):  # a run that copies its input comes within a few hundredths, by the draw of the noise
        return ""
    return (
        f"warning: this run restores little or nothing: the mse of corrupted test images is {before:.4g}, and "
        f"{after:.4g} after restoration. To restore images, widen the bottleneck (--network conv --dense False "
        "--residual True), or train longer"
    )


def measure(
    algorithm: Algorithm,
    trained: run.Trained,
    splits: Splits,
    samples: int,
    say: Callable[..., Any] = print,
) -> dict[str, Any]:
    """Every metric of `evaluation`, of every seed that did not fail, and the cost of training.

    For a stream the algorithm's own metrics are means over the whole test set; the names of others end in the number of
    examples that they saw.
    """
    battery = evaluation.battery(algorithm, splits.train, splits.test, samples=samples)
    values: dict[str, list[float]] = {}
    for i, seed in enumerate(trained.good):
        say(f"evaluating seed {seed} ({i + 1} of {len(trained.good)})")
        key = address(jax.random.key(seed), "evaluation")
        found = battery(trained.of(seed), key)
        if splits.streams is not None:
            found = exactly(algorithm, splits, trained.of(seed), key, found)
        for name, value in found.items():
            values.setdefault(name, []).append(value)
    speed = [row["examples_per_second"] for row in trained.history]
    told = confusion(algorithm, trained.of(trained.good[0]), splits)
    best = dict(zip(trained.seeds, trained.best_epoch, strict=True))
    return {
        "seeds": list(trained.good),  # of every mean
        **({"failed": {str(seed): e for seed, e in trained.failed.items()}} if trained.failed else {}),
        "metrics": {name: {"n": len(v), **summarise(v)} for name, v in values.items()},
        "best_epoch": [best[seed] for seed in trained.good],
        "parameters": count_parameters(algorithm, trained.of(trained.good[0])),
        "seconds": round(sum(row["seconds"] for row in trained.history), 3),
        "examples_per_second": float(np.median(speed)) if speed else 0.0,
        **({} if told is None else {"confusion": told}),
        **run.circumstances(),
    }


def diagnose(
    algorithm: Algorithm,
    trained: run.Trained,
    settings: Settings,
    splits: Splits,
    examples: int,
    metrics: dict[str, Any],
) -> list[str]:
    """Remarks on what went wrong in a training, see `diagnosis`."""
    test, steps = splits.test, -(-examples // settings.batch_size)
    x = jnp.asarray(test.x[:SAMPLED])
    of_seeds = {}
    for i, seed in enumerate(trained.good):  # as the metrics' values are
        at = trained.seeds.index(seed)

        def value(name: str, i: int = i) -> float | None:  # a stream's names end in the number of examples seen
            found = next((m for known, m in metrics.items() if known.partition(" (")[0] == name), None)
            return None if found is None else found["values"][i]

        z = np.asarray(evaluation.coded(algorithm, trained.of(seed), x))
        pca = None if diagnosis.binary(z) else value("pca explained_variance")  # bits hold less than PCA's real numbers
        losses = [row["train"]["loss"][at] for row in trained.history if "loss" in row["train"]]
        ran = sum(loss is not None for loss in losses) or len(trained.history)
        of_seeds[seed] = (
            diagnosis.reconstruction(value("test explained_variance"), pca),
            diagnosis.code(z),
            "" if test.y is None else diagnosis.probe(value("linear_probe_accuracy"), test.y),
            diagnosis.updates(ran, steps, examples),
            diagnosis.falling(losses),
            diagnosis.stopped(ran, settings.epochs or ran, trained.best_epoch[at]),
        )
    return diagnosis.remarks(of_seeds)


def confusion(algorithm: Algorithm, params: Params, splits: Splits) -> dict[str, Any] | None:
    """The confusion matrix of labels and predicted classes or clusters, None for an algorithm that predicts neither."""
    if algorithm.predict is None or not evaluation.has_labels(splits.train, splits.test):
        return None
    predicted = evaluation.assignments(algorithm, params, jnp.asarray(splits.test.x))
    rows, columns, counts = evaluation.clustering.confusion(predicted, splits.test.y)
    names = splits.dataset.classes
    named = lambda y: names[y] if 0 <= y < len(names) else str(y)
    supervised = algorithm.classes is not None
    if supervised:  # keep the order of the classes
        order = np.argsort(columns)
        columns, counts = [columns[i] for i in order], np.asarray(counts)[:, order].tolist()
    told = [named(c) if supervised else f"cluster {c}" for c in columns]
    return {"labels": [named(y) for y in rows], "told": told, "counts": counts}


def confusion_table(found: dict[str, Any]) -> str:
    """The confusion matrix as text: a row a label, a column a class or cluster."""
    head = ["", *(name.removeprefix("cluster ") for name in found["told"])]
    rows = [head] + [[name, *map(str, row)] for name, row in zip(found["labels"], found["counts"], strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    kind = "cluster" if found["told"][0].startswith("cluster ") else "class"
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"test examples by label (rows) and predicted {kind} (columns):", *lines])


def exactly(
    algorithm: Algorithm, splits: Splits, params: Params, key: Key, found: dict[str, float]
) -> dict[str, float]:
    """What was found on some examples of a stream, with what can be had of all in its place."""
    assert splits.streams is not None
    means = shards.average_stream(algorithm, splits.streams.test, params, address(key, "test"))
    exact = {f"test {name}": float(value) for name, value in means.items()}
    exact = evaluation.of_known(exact, len(splits.streams.test.source))
    whole = {name.partition(" (")[0]: name for name in exact}
    seen, note = (len(splits.test.x), len(splits.train.x)), ""
    if seen != (len(splits.streams.test.source), len(splits.streams.train.source)):
        note = f"of {seen[1]} + {seen[0]}"

    def named(name: str) -> str:
        return name if not note else f"{name[:-1]}, {note})" if name.endswith(")") else f"{name} ({note})"

    names = {name: whole.get(name.partition(" (")[0]) or named(name) for name in found}
    return {names[name]: exact.get(names[name], value) for name, value in found.items()} | exact


def count_parameters(algorithm: Algorithm, params: Params) -> int:
    """Numbers that are learned, of one seed."""
    return sum(leaf.size for leaf in jax.tree.leaves({g: params[g] for g in params if g not in algorithm.statistics}))


def table(results: dict[str, Any]) -> str:
    """The metrics as text: mean, and the 95 % interval of the mean over seeds."""
    rows = [("metric", "mean", "95 % interval" if len(results["seeds"]) > 1 else "")]
    for name, m in results["metrics"].items():
        interval = "" if m["low"] in (None, m["high"]) else f"{m['low']:.4g} to {m['high']:.4g}"
        rows.append((name, "-" if m["mean"] is None else f"{m['mean']:.5g}", interval))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
    many = "s" if len(results["seeds"]) > 1 else ""
    failed = "".join(f" (seed {seed} failed in epoch {e})" for seed, e in results.get("failed", {}).items())
    tail = (
        f"{len(results['seeds'])} seed{many}{failed}, {results['parameters']:,} parameters, "
        f"{results['seconds']:.1f} s of training, {results['examples_per_second']:,.0f} examples/s "
        f"on {results['device']}"
    )
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], tail])


# --------------------------------------------------------------------------------------- a run's folder


# the settings that config.json must have for a run to be opened, and their types
KEPT = {"shape": list, "validated": bool, "optimizer": dict, "algorithm": str, "network": str, "data": str}
KEPT |= {"latents": int, "batch_size": int, "seeds": list}
KEPT |= {"hyper": dict, "network_options": dict, "data_options": dict}


class Opened(NamedTuple):
    """A trained run, ready for use."""

    folder: run.Folder
    settings: Settings
    seed: int
    shape: tuple[int, ...]
    algorithm: Algorithm
    params: Params  # of one seed
    epoch: int
    vocabulary: tuple[str, ...]  # of documents
    trained: run.Trained  # of all seeds
    patches: bool  # whether its examples are, or may be, pieces of larger images

    @property
    def sources(self) -> list[Path]:
        """The user's files and folders that its data are read from."""
        return data.paths_of(self.settings.data, self.settings.data_options)


def data_options(content: dict[str, Any]) -> dict[str, Any]:
    """The options for reading a run's data and its later inputs, out of the settings in its config.json."""
    scale = content.get("scale")  # the set's own, where the user gave none
    return content["data_options"] | ({} if scale is None else {"scale": scale})


def open_run(workdir: Path, seed: int | None = None) -> Opened:
    """One seed of a run, by default the first that did not fail. Raises RunError where it cannot be opened."""
    if workdir.is_file():
        raise run.RunError(f"{workdir} is a file; a run is a folder, the --workdir of its training")
    folder = run.Folder(workdir)
    content = folder.config()["settings"]
    if missing := [name for name in KEPT if name not in content]:
        raise run.RunError(
            f"{folder.path} was not trained by ae-jax train, but by run.train in Python: its settings lack "
            f"{', '.join(missing[:3])}, so its network cannot be built here. Use it in Python: "
            f"epoch, state = run.Folder({str(folder.path)!r}).params() loads it; jax.tree.map(lambda leaf: leaf[0], "
            "state.params) gives the params of its first seed, for the algorithm's functions"
        )
    whole = lambda name, least: all(isinstance(n, int) and n >= least for n in content[name]) and content[name]
    wrong = [name for name, kind in KEPT.items() if not isinstance(content[name], kind)]
    wrong = wrong or [name for name, least in (("shape", 1), ("seeds", 0)) if not whole(name, least)]
    if wrong:
        shown = f"its {wrong[0]} is {content[wrong[0]]!r}"
        raise run.RunError(f"{folder.path / 'config.json'} is damaged ({shown}); restore it or train anew")
    shape = tuple(content["shape"])
    content = content | {"data_options": data_options(content)}
    settings = Settings.from_json({k: v for k, v in content.items() if k not in RECORDED})
    if seed is not None and seed not in settings.seeds:
        raise run.RunError(f"{folder.path} has no seed {seed}; it was trained with {list(settings.seeds)}")
    epoch, state = folder.params()
    if epoch == 0:
        warn(f"{folder.path} has not ended its first epoch: its parameters are those of a checkpoint before that")
    chosen = state.best if content["validated"] else state.params
    trained = run.trained(state, jax.tree.map(jnp.asarray, chosen), settings.seeds, folder.log())
    if seed is None:
        seed = trained.good[0]
        if seed != settings.seeds[0]:
            warn(f"{run.failures(trained.failed)}; seed {seed} is used")
    return Opened(
        folder=folder,
        settings=settings,
        seed=seed,
        shape=shape,
        algorithm=build(settings, shape, 1),
        params=trained.of(seed),
        epoch=epoch,
        vocabulary=tuple(content.get("vocabulary", ())),
        trained=trained,
        patches=content.get("patches", of_patches(settings)),  # older runs do not record it
    )


def write_report(folder: run.Folder, algorithm: Algorithm, params: Params, splits: Splits, results: Any) -> Path:
    """report.html and its pictures."""
    settings = folder.config()["settings"]
    title = f"{settings['algorithm']} on {settings['data']}"
    key = address(jax.random.key(results["seeds"][0]), "report")
    names = splits.dataset.classes, splits.dataset.vocabulary
    history = of_seeds(folder.log(), settings["seeds"], results["seeds"])
    findings = report.gather(title, settings, results, history, algorithm, params, splits, key, *names)
    tell = None if tracebacks() else lambda line: warn(f"warning: {line}")
    return report.write(findings, folder.path, tell)


def of_seeds(history: list[dict[str, Any]], seeds: list[int], kept: list[int]) -> list[dict[str, Any]]:
    """The rows of log.jsonl, with the metrics of some seeds only."""
    index = [seeds.index(seed) for seed in kept]
    pick = lambda part: {name: [values[i] for i in index] for name, values in part.items()}
    return [{name: pick(v) if isinstance(v, dict) else v for name, v in row.items()} for row in history]


def decorate(folder: run.Folder, algorithm: Algorithm, params: Params, splits: Splits, results: Any) -> None:
    """`write_report` for a run whose results are on the disk: an error becomes a line on stderr."""
    try:
        write_report(folder, algorithm, params, splits, results)
    except Exception as error:  # drawing libraries raise errors of any kind, and results do not depend on drawing
        if tracebacks():
            raise
        warn(
            f"warning: the report could not be written ({report.explained(error)}); results.json is whole. "
            f"ae-jax report {folder.path} writes the report again"
        )


def load_own(opened: Opened) -> Splits:
    """The data that a run was trained on. Raises RunError where they are no longer the same."""
    content, settings, name = opened.folder.config()["settings"], opened.settings, opened.settings.data
    same = lambda splits: run.checksum(tuple(splits.dataset)) == content["data_checksum"]
    splits = load(settings)
    if not same(splits) and "scale" not in content:
        # Older runs keep no scale and took uint8 up to 1 for zeros and ones. The checksum shows whether this one did.
        with contextlib.suppress(data.DataError):  # values exceed 1, or the data take no scale
            splits = load(replace(settings, data_options=settings.data_options | {"scale": 1}))
    if not same(splits):
        raise run.RunError(
            f"{name} has changed since this run was trained on it, so its test set may hold training examples: "
            f"restore the data, or measure on the changed data by evaluate with --data {name}"
        )
    return splits


def make_report(workdir: Path) -> Path:
    """Writes the report of a run again, also while it trains."""
    opened = open_run(workdir)
    splits = load_own(opened)
    results = opened.folder.results()
    if results is None:
        failed = {str(seed): e for seed, e in opened.trained.failed.items()}
        results = {"seeds": list(opened.trained.good), "failed": failed, "metrics": {}}
    return write_report(opened.folder, opened.algorithm, opened.params, splits, results)


def evaluate(
    workdir: Path, source: str | None = None, samples: int | None = None, quiet: bool = False, out: Path | None = None
) -> dict[str, Any]:
    """Every metric of every seed, on the run's own data or on another source of the same shape; also as JSON in `out`.

    Another source is read with the run's options (resize, patch, ...), as far as it has them.
    """
    if samples is not None and samples < 1:
        raise run.RunError(f"samples is {samples}; the log-likelihood needs at least 1")
    if out is not None:
        check_output(out, *([] if source is None else [source]))
    opened = open_run(workdir)
    settings = opened.settings
    check_samples(opened.algorithm, settings, samples, "samples")
    if out is not None:
        check_output(out, *opened.sources)
    if source is not None:
        shards = settings.shard_size
        try:
            read = data.options_for if shards is None else data.stream_options_for
            options = read(source, settings.data_options)
        except data.DataError:  # a streamed run may be evaluated on data in memory
            shards, options = None, data.options_for(source, settings.data_options)
        settings = replace(settings, data=source, data_options=options, shard_size=shards)
    splits = load_own(opened) if source is None else load(settings)
    check_shape(splits.test.x, opened.shape)
    check_vocabulary(splits.dataset.vocabulary, opened.vocabulary, str(settings.data))
    results = measure(
        opened.algorithm, opened.trained, splits, samples or SAMPLES, (lambda *_: None) if quiet else warn
    )
    results = strict(results | {"data": str(splits)})
    if out is not None:
        run.write_json(out, results)
    return results


def encode(workdir: Path, source: str, out: Path, seed: int | None = None, resize: bool = False) -> np.ndarray:
    """Codes [N, K] of every example of a source (see `read_examples`), in its order, written to .npy or .npz."""
    check_suffix(out, (".npy", ".npz"))
    check_output(out, source)
    opened = open_run(workdir, seed)
    check_output(out, *opened.sources)
    named = data.is_name(source, opened.settings.data_options.get("data_dir"))
    if resize and (opened.vocabulary or named or suffix(source) in (".npy", ".npz")):
        raise run.RunError(f"--resize has no effect: {source} is not read as files of images; leave it out")
    x, _ = read_examples(source, opened.shape, opened.vocabulary, resize, opened.settings.data_options)
    codes = in_chunks(opened.algorithm.encode, opened.params, x)
    save_array(out, codes, "codes")
    return codes


def decode(workdir: Path, source: str, out: Path, seed: int | None = None) -> np.ndarray:
    """Examples [N, *shape] of codes in a .npy or .npz file, written to .npy, .npz or a .png grid."""
    check_suffix(out, (".npy", ".npz", ".png"))
    check_output(out, source)
    opened = open_run(workdir, seed)
    check_output(out, *opened.sources)
    check_decodes(opened, workdir, "train another member, such as autoencoder")
    codes, indexed = read_array(Path(source)), index.about(Path(source))
    if indexed is not None:
        theirs = indexed["run"]["settings"]
        if theirs != opened.folder.config()["settings"]:
            raise run.RunError(
                f"{source} is an index of codes that another run made ({theirs['algorithm']} on {theirs['data']}): "
                "this run's decoder cannot read them"
            )
        if indexed.get("seed", opened.seed) != opened.seed:
            raise run.RunError(f"{source} is an index of seed {indexed['seed']}: give --seed {indexed['seed']}")
    codes = check_codes(codes, opened.settings.latents, source)
    x = in_chunks(opened.algorithm.decode, opened.params, codes)
    save_examples(out, x)
    return x


def sample(workdir: Path, n: int, out: Path, seed: int | None = None, key: int = 0) -> np.ndarray:
    """n new examples [n, *shape], written to .npy, .npz or a .png grid; the same `key` draws the same ones."""
    check_suffix(out, (".npy", ".npz", ".png"))
    check_output(out)
    opened = open_run(workdir, seed)
    check_output(out, *opened.sources)
    if n < 1:
        raise run.RunError(f"n is {n}; it must be at least 1")
    if not 0 <= key < 2**32:
        raise run.RunError(f"key is {key}; it must be a number from 0 to 2^32 - 1 = {2**32 - 1}")
    if opened.algorithm.sample is None:
        raise run.RunError(
            f"{opened.settings.algorithm} is not a generative model: it has no distribution of codes. "
            "To draw samples, train vae, iwae, made, rbm or an adversarial member."
        )
    key_sampling = address(jax.random.key(key), "sampling")
    x = np.asarray(jax.jit(opened.algorithm.sample, static_argnums=2)(opened.params, key_sampling, n))
    save_examples(out, x)
    return x


def export(workdir: Path, out: Path, seed: int | None = None) -> list[Path]:
    """The encoder, and a decoder that learned, as StableHLO: parameters inside, batch size open, for cpu, cuda and tpu.

    `jax.export.deserialize(open(path, "rb").read()).call(x)` runs one without this package.
    """
    opened = open_run(workdir, seed)
    check_folder(out, ("encoder.stablehlo", "decoder.stablehlo", "signature.json"))
    parts: dict[str, Any] = {"encoder": (opened.algorithm.encode, opened.shape)}
    if opened.algorithm.decodes:
        parts["decoder"] = (opened.algorithm.decode, (opened.settings.latents,))
    programs = {n: exported(functools.partial(fn, opened.params), shape) for n, (fn, shape) in parts.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        run.write_atomically(out / f"{name}.stablehlo", program)
    code, example = ["b", opened.settings.latents], ["b", *opened.shape]
    ends = {"encoder": {"in": example, "out": code}, "decoder": {"in": code, "out": example}}
    signature = {
        **{name: {**ends[name], "dtype": "float32"} for name in programs},
        "use": "jax.export.deserialize(open('encoder.stablehlo', 'rb').read()).call(x)",
        "jax": jax.__version__,
        "run": opened.folder.config(),
    }
    run.write_json(out / "signature.json", signature)
    return [*(out / f"{name}.stablehlo" for name in programs), out / "signature.json"]


def exported(fn: Callable[[Any], Any], shape: tuple[int, ...]) -> bytes:
    """A function of float32 [b, *shape], b left open, as StableHLO for cpu, cuda and tpu."""
    from jax import export as jax_export

    (b,) = jax_export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((b, *shape), jnp.float32)
    made = lambda fn: jax_export.export(jax.jit(fn), platforms=("cpu", "cuda", "tpu"))(spec)
    try:
        program = made(fn)
    except Exception:  # fn reads the size of the batch, len(x): export it for one example, mapped over the batch
        program = made(jax.vmap(lambda x: fn(x[None])[0]))
    return bytes(program.serialize())


# ----------------------------------------------------------------------------------------------- search


def make_index(workdir: Path, source: str, out: Path, seed: int | None = None, resize: bool = False) -> index.Index:
    """An index over the examples of a source, written to a .npz file; see `read_examples` for what a source is."""
    check_suffix(out, (".npz",))
    check_output(out, source)
    opened = open_run(workdir, seed)
    check_output(out, *opened.sources)
    x, names = read_examples(source, opened.shape, opened.vocabulary, resize, opened.settings.data_options)
    program = exported(functools.partial(opened.algorithm.encode, opened.params), opened.shape)
    codes = in_chunks(opened.algorithm.encode, opened.params, x)
    about = {
        "shape": list(opened.shape),
        "resize": resize,
        "seed": opened.seed,
        "vocabulary": list(opened.vocabulary),
        "run": opened.folder.config(),
    }
    made = index.Index(program, codes, np.array(names), about)
    index.save(made, out)
    return made


class Found(NamedTuple):
    """The result of a search."""

    searched: index.Index
    names: list[str]  # of the queries
    hits: list[list[index.Hit]]  # of each query
    sizes: list[int]  # for each query, the number of codes in its Hamming ball, or in the index
    seconds: float  # for one query


def search(
    path: Path, source: str, k: int = 10, radius: int | None = None, metric: index.Metric | None = None
) -> Found:
    """The examples of an index nearest to each query of a source.

    Without a radius every code is compared, by Euclidean distance if no metric is given. With a radius only the
    addresses in a Hamming ball are; distance is then a number of bits, and a metric is refused.
    """
    if k < 1:
        raise run.RunError(f"k is {k}; it must be at least 1")
    if radius is not None and radius < 0:
        raise run.RunError(f"radius is {radius}; it counts bits and must be at least 0")
    if radius is not None and metric is not None:
        raise run.RunError(
            f"--radius and --metric {metric} exclude each other, as a radius counts differing bits: give one of the two"
        )
    opened = index.load(path)
    if radius is not None and opened.codes.shape[1] > retrieval.LONGEST:
        raise run.RunError(
            f"the codes of {path} have {opened.codes.shape[1]} numbers, and --radius takes addresses of at most "
            f"{retrieval.LONGEST} bits: leave --radius out to compare every code"
        )
    about = opened.about
    x, names = read_examples(
        source, opened.shape, about["vocabulary"], about["resize"], data_options(about["run"]["settings"])
    )
    codes = index.encode(opened, x)

    def find() -> tuple[list[list[index.Hit]], list[int]]:
        if radius is None:
            return index.search(opened, codes, k, metric or "euclidean"), [len(opened.codes)] * len(codes)
        return index.search_ball(opened, codes, k, radius)

    find()  # compiles; the second call is timed
    began = time.perf_counter()
    hits, sizes = find()
    return Found(opened, names, hits, sizes, (time.perf_counter() - began) / len(codes))


# ------------------------------------------------------------------------------------- images and pictures


def restore(
    workdir: Path, source: Path, out: Path, seed: int | None = None, scale: int | None = None, batch_size: int = 256
) -> tuple[list[Path], list[str]]:
    """Images of any size, reconstructed tile by tile without seams (`restoration.tiled`).

    Returns the files written and, for a folder, the reasons for images left out. Raises RunError for a single image
    that cannot be restored, and for a run that never learned to restore. A grey image goes to a run of colour as three
    equal channels; transparent pixels become white. `scale` enlarges first, bicubically; see `enlargement`.
    """
    from PIL import Image

    opened = open_run(workdir, seed)
    check_restores(opened, workdir)
    scale = enlargement(opened.settings, scale)
    if not source.exists():
        raise run.RunError(f"there is no image or folder {source}")
    files = [source] if source.is_file() else data.image_files(source)
    if source.resolve() in out.resolve().parents:
        below = {file for file in files if out.resolve() in file.resolve().parents}
        if below:
            warn(f"{out} is in the input folder: the {len(below)} images in it are left out")
        files = [file for file in files if file not in below]
    if not files:
        raise run.RunError(f"{source} holds no images in a format that Pillow reads (.png, .jpg, ...)")
    paths = places_for(files, source, out, *opened.sources)
    reconstruct = functools.partial(jax.jit(opened.algorithm.reconstruct), opened.params)
    height, width, channels = opened.shape
    written, refused = [], []
    for file, path in zip(files, paths, strict=True):
        try:
            (image,) = data.read_images([file], colour=True if channels == 3 else None, deep=True)
        except data.DataError as error:
            refused.append(str(error))
            continue
        if scale > 1 and image.shape[2] <= channels:
            image = data.scaled(image, (scale * image.shape[0], scale * image.shape[1]), Image.Resampling.BICUBIC)
        if why := unfit(image, opened):
            refused.append(f"{file} has {why}")
            continue
        restored = restoration.tiled(reconstruct, data.pixels_to_floats([image])[0], (height, width), batch_size)
        pixels = np.round(255 * np.clip(restored, 0, 1)).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        run.write_atomically(path, image_bytes(pixels, "PNG" if suffix(path) == ".png" else "JPEG"))
        written.append(path)
    if refused and not source.is_dir():
        raise run.RunError(refused[0])
    return written, refused


def check_restores(opened: Opened, workdir: Path) -> None:
    """Raises RunError for a run that did not learn from images, or did not learn to undo a corruption."""
    if len(opened.shape) != 3 or opened.shape[2] not in (1, 3):
        raise run.RunError(f"{workdir} was trained on examples of {opened.shape}, not on images")
    if opened.algorithm.corrupt is None:
        raise run.RunError(
            f"{workdir} never saw corrupted images, so it has not learned to restore any: train denoising, or any "
            "algorithm with --noise"
        )
    check_decodes(opened, workdir, "train denoising")


def check_decodes(opened: Opened, workdir: Path, instead: str) -> None:
    """Raises RunError for a run whose decoder learned nothing; `instead` is the advice."""
    if not opened.algorithm.decodes:
        raise run.RunError(
            f"{workdir} learned to classify, not to reconstruct, and the decoder of {opened.settings.algorithm} "
            f"learns nothing: {instead}"
        )


def unfit(image: np.ndarray, opened: Opened) -> str:
    """The property of an image [H, W, C] for which a run cannot restore it, or ""."""
    height, width, channels = opened.shape
    size, least = ("x".join(map(str, of)) for of in (image.shape[:2], opened.shape[:2]))
    if image.shape[2] > channels:
        return "colour, and this run was trained on grey images: make it grey, or train with --data-colour True"
    if image.shape[0] < height or image.shape[1] < width:
        return f"{size} pixels (height x width); this run restores images of at least {least}"
    if image.shape[:2] != (height, width) and not opened.patches:
        return (
            f"{size} pixels (height x width); this run was trained on whole images and restores {least} only: "
            "for other sizes, train on patches of a folder of images (--data FOLDER --data-patch 8)"
        )
    return ""


def of_patches(settings: Settings, streams: Streams | None = None) -> bool:
    """Whether a run's examples are pieces of larger images; those of arrays may be."""
    arrays = suffix(settings.data) in (".npy", ".npz") or (streams is not None and streams.sources.arrays)
    return arrays or settings.data == "photos" or settings.data_options.get("patch") is not None


def enlargement(settings: Settings, scale: int | None) -> int:
    """How many times images are enlarged before a run sharpens them. The default is the factor in its settings.

    Raises RunError for a factor other than the learned one or 1, and for one above 1 in a run that learned none.
    """
    kinds = {settings.noise: settings.noise_level}
    kinds |= {settings.hyper.get("corruption"): settings.hyper.get("level")}
    sharpens = "low_resolution" in kinds
    learned = int(kinds["low_resolution"] or corruption.FACTOR) if sharpens else 1
    if scale not in (None, 1, learned):
        does = f"learned to sharpen images enlarged {learned} times" if sharpens else "did not learn to enlarge images"
        raise run.RunError(f"scale is {scale} and this run {does}: leave --scale out")
    return learned if scale is None else scale


def project(workdir: Path, out: Path, seed: int | None = None, n: int = 2000) -> list[Path]:
    """Codes of the first n test examples as TensorBoard's Embedding Projector reads them: the files written.

    vectors.tsv, metadata.tsv (labels and names of files, where there are any), sprite.png (for images) and
    projector_config.pbtxt; projector.tensorflow.org loads the first two by hand.
    """
    opened = open_run(workdir, seed)
    check_folder(out, PROJECTED, *opened.sources)
    if n < 1:
        raise run.RunError(f"{n} examples are asked for; project at least 1 (-n)")
    splits = load_own(opened)
    x, y = np.asarray(splits.test.x[:n]), splits.test.y
    codes = in_chunks(opened.algorithm.encode, opened.params, x)
    out.mkdir(parents=True, exist_ok=True)
    written = {"vectors.tsv": "".join("\t".join(f"{v:.6g}" for v in code) + "\n" for code in codes).encode()}
    config = 'embeddings {\n  tensor_path: "vectors.tsv"\n'
    columns: dict[str, list[str]] = {}
    if y is not None and labelled(y).any():
        classes = splits.dataset.classes
        named = lambda label: classes[label] if 0 <= label < len(classes) else label if label >= 0 else "no label"
        columns["label"] = [cell(named(label)) for label in np.asarray(y[:n])]
    if splits.dataset.test_names:
        columns["name"] = [cell(name) for name in splits.dataset.test_names[:n]]
    if columns:
        heading = [tuple(columns)] * (len(columns) > 1)  # one column has none
        rows = [*heading, *zip(*columns.values(), strict=True)]
        written["metadata.tsv"] = "".join("\t".join(row) + "\n" for row in rows).encode(errors="backslashreplace")
        config += '  metadata_path: "metadata.tsv"\n'
    if x.ndim == 4 and x.shape[-1] in (1, 3):
        height, width = x.shape[1:3]
        written["sprite.png"] = image_bytes(sprite(x))
        config += f'  sprite {{\n    image_path: "sprite.png"\n    single_image_dim: {width}\n'
        config += f"    single_image_dim: {height}\n  }}\n"
    written["projector_config.pbtxt"] = f"{config}}}\n".encode()
    for name, content in written.items():
        run.write_atomically(out / name, content)
    return [out / name for name in written]


# ---------------------------------------------------------------------------------------------- helpers


def in_chunks(fn: Callable[[Params, Any], Any], params: Params, x: np.ndarray, size: int = 1000) -> np.ndarray:
    """`fn(params, x)` over the leading axis of x, `size` examples at a time."""
    fn = jax.jit(fn)
    return np.concatenate([np.asarray(fn(params, x[i : i + size])) for i in range(0, len(x), size)])


def default_workdir(settings: Settings) -> Path:
    """runs/ALGORITHM-DATA-DIGEST: the same settings have the same folder, others another."""
    digest = zlib.crc32(json.dumps(settings.to_json(), sort_keys=True).encode())
    name = Path(os.path.abspath(settings.data)).stem  # of a folder given as . too
    return Path("runs") / f"{settings.algorithm}-{name}-{digest:08x}"
