"""The data of a run: loaded, split, binarised and checked by its settings."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from ... import data
from ...algorithms import ALGORITHMS
from ...checks import labelled
from ...core import Algorithm, Batch
from ...data import ranges
from ...data.dataset import ranged
from ...data.disk import suffix
from ...distributions.likelihoods import LIKELIHOODS
from ...errors import RunError, warn
from ...training.settings import DataKind, Settings


class Streams(NamedTuple):
    """The splits of data that are read in shards."""

    sources: data.Sources
    train: data.Stream
    validation: data.Stream | None
    test: data.Stream


class Splits(NamedTuple):
    """A run's data, ready for use. For a stream, train and test are samples of examples, evenly spaced."""

    dataset: data.Dataset  # as loaded: before a validation split, binarisation, and the `standard`
    train: Batch
    validation: Batch | None
    test: Batch
    streams: Streams | None = None
    standard: data.Standard | None = None  # the units of all splits; None: values in [0, 1], or words

    def __str__(self) -> str:
        return str(self.dataset if self.streams is None else self.streams.sources)


SAMPLED = 10_000  # examples of a stream, at most, for probes, PCA and pictures, which need them in memory


def range_of(settings: Settings, standard: data.Standard | None) -> tuple[data.RangeName, dict[str, Any]]:
    """The kind of the data's range, and the options that read the data without scaling.

    Raises ValueError for binarisation of data outside [0, 1], and RunError if the source has values in [0, 1] but the
    run's training data were in other units.
    """
    options = settings.data_options
    kind = options.get("range") or data.default_range(settings.data)
    if kind != "unit" and settings.binarise is not None:
        raise ValueError(
            f"binarise={settings.binarise} draws pixels by their values in [0, 1], and range={kind} takes any values: "
            "leave one of the two out"
        )
    if kind == "unit":
        check_units(settings.data, standard)
        return kind, options
    return kind, options | {"range": ranges.FLOATS if kind == "normalised" else "as_is"}


def check_units(source: str, standard: data.Standard | None) -> None:
    """Raises RunError if the run's training data were in other units than [0, 1], the range of the source."""
    if standard is not None and not standard.pixels:
        raise RunError(
            f"{source} is read as values in [0, 1], and this run learned from arrays of other values (--data-range): "
            "give a .npy, .npz, .csv or .parquet file in the units of its training data"
        )


def load_streams(settings: Settings, standard: data.Standard | None = None) -> Splits:
    """`load` for data that the settings stream.

    Statically binarised pixels are drawn for each example by its number, and differ from the draws in memory.
    """
    kind, options = range_of(settings, standard)
    sources = data.open_stream(settings.data, **options)
    train, validation = sources.train, sources.validation
    check_validation(settings, validation, len(train))
    if settings.validation:
        train, validation = data.split(train, settings.validation, seed=0)
    size = data.shard_size(train.shape, settings.batch_size, settings.shard_size)

    def stream(source: data.Source, part: int) -> data.Stream:
        drawn = settings.binarise == "static" or (part and settings.binarise)
        return data.Stream(source, size, None if part else 0, part if drawn else None)

    sampled = min(SAMPLED, size)
    seen, test = (
        jax.tree.map(np.asarray, stream(of, part).sample(sampled)) for part, of in enumerate((train, sources.test))
    )
    dataset = data.Dataset(
        name=sources.name,
        train=seen,
        test=test,
        source=sources.source,
        validation=None,
        classes=sources.classes,
        scale=sources.scale,
    )
    if standard is None:
        standard = data.fitted(train, kind)
    in_units = lambda source, part: stream(replace(source, standard=standard), part)
    held_out = None if validation is None else in_units(validation, 2)
    streams = Streams(sources, in_units(train, 0), held_out, in_units(sources.test, 1))
    seen, test = (batch._replace(x=ranges.apply(standard, batch.x)) for batch in (seen, test))
    return Splits(dataset=dataset, train=seen, validation=None, test=test, streams=streams, standard=standard)


def of_table(settings: Settings, dataset: data.Dataset) -> Settings:
    """The settings with a table's range, columns and classes, for reading later inputs. Without a table: unchanged."""
    if not dataset.columns:
        return settings
    kept = {k: v for k, v in settings.data_options.items() if k != "drop"}
    named = {"label_classes": dataset.classes} if dataset.classes else {}
    kind = {"range": kept.get("range") or data.default_range(settings.data)}
    return replace(settings, data_options=kept | kind | {"columns": dataset.columns} | named)


def load(settings: Settings, standard: data.Standard | None = None) -> Splits:
    """The data of a run: loaded, split and binarised by its settings.

    Real values are scaled by `standard`; by default it is fitted to the training examples without the validation split.
    """
    if settings.shard_size is not None:
        return load_streams(settings, standard)
    kind, options = range_of(settings, standard)
    dataset = data.load(settings.data, **options)
    train, test = dataset
    validation = dataset.validation
    check_validation(settings, validation, len(train.x))
    if settings.validation:
        # All seeds share one split: they differ in learning, not in data.
        train, validation = data.validation_split(train, settings.validation, seed=0)
    if settings.binarise is not None:  # held-out data are always binarised once, so that metrics repeat
        test = _binarised(test, 1)
        validation = validation and _binarised(validation, 2)
    if settings.binarise == "static":
        train = _binarised(train, 0)
    if standard is None:
        standard = ranges.fit(kind, [np.asarray(train.x)])
    on = lambda batch: batch._replace(x=ranges.apply(standard, np.asarray(batch.x)))
    return Splits(
        dataset=dataset,
        train=on(train),
        validation=validation and on(validation),
        test=on(test),
        streams=None,
        standard=standard,
    )


def check_order(settings: Settings, dataset: data.Dataset) -> str:
    """A note if conv1d would treat a table's columns, words, or rows of images as time steps; else ""."""
    if settings.network != "conv1d":
        return ""
    if dataset.columns:
        return "note: conv1d convolves along the order of a table's columns, which means nothing: take --network mlp"
    if dataset.vocabulary:
        return "note: conv1d convolves along the order of the words, which means nothing: take --network mlp"
    named = data.is_name(settings.data, settings.data_options.get("data_dir"))
    of_files = bool(dataset.test_names) and suffix(dataset.test_names[0]) != ".npy"
    if len(dataset.train.x.shape) == 4 and (named or of_files):  # arrays [N, T, C] may be signals
        return "note: conv1d convolves along the rows of an image alone, as along time: take --network conv for images"
    return ""


def check_validation(settings: Settings, own: Any, examples: int) -> None:
    """Checks the fraction of training examples to hold out for validation.

    Raises DataError for data that have a validation split, for a number outside [0, 1), and for a fraction that leaves
    less than one example for validation or for training.
    """
    if not 0 <= settings.validation < 1:
        raise data.DataError(
            f"validation={settings.validation:g} is not a fraction of the training set: give at least 0 and less than 1"
        )
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


def drawn_once(settings: Settings, splits: Splits) -> Splits:
    """The splits for measuring: if each step of learning draws the training pixels, they are drawn once, as all others.

    Grey training pixels beside binary test pixels would be of two distributions.
    """
    return splits._replace(train=_binarised(splits.train, 0)) if settings.binarise == "dynamic" else splits


def _binarised(batch: Batch, seed: int) -> Batch:
    return batch._replace(x=data.binarise(np.asarray(batch.x), seed=seed))


def kind_of(splits: Splits) -> DataKind:
    """The kind of the data's values. It decides the default likelihood."""
    if splits.dataset.vocabulary:
        return "words"
    x = splits.train.x
    return "unit" if splits.standard is None and x.min() >= 0 and x.max() <= 1 else "real"


def check_likelihood(settings: Settings, splits: Splits) -> None:
    """Raises ValueError for a likelihood that does not fit the data.

    Refused are likelihoods of values in [0, 1] for other values, bernoulli for counts of words, and multinomial for
    images or negative values; so is `log_inputs` for negative values.
    """
    x, words = splits.train.x, bool(splits.dataset.vocabulary) and settings.binarise is None
    chosen = settings.hyper.get("likelihood")
    of_unit = [name for name, make in LIKELIHOODS.items() if make().support == "unit"]
    unit = settings.algorithm == "made" or settings.hyper.get("visible_units") == "bernoulli" or chosen in of_unit
    low, high = float(x.min()), float(x.max())
    if settings.network_options.get("log_inputs") and low < 0:
        raise ValueError(
            f"log_inputs=True takes log(1 + x) of counts, and {settings.data} has values from {low:.3g}: leave it out, "
            "or give the counts themselves, with range=as_is"
        )
    if chosen == "multinomial" and (x.ndim > 2 or low < 0):
        given = "images" if x.ndim > 2 else f"values from {low:.3g}"
        raise ValueError(f"likelihood multinomial wants counts of words, and {settings.data} has {given}: take another")
    if unit and (splits.standard is not None or low < 0 or high > 1):
        how = "" if splits.standard is None else f" with range={settings.data_options.get('range')}"
        other = "give visible_units=gaussian, choose" if settings.algorithm == "rbm" else "choose"
        raise ValueError(
            f"{settings.algorithm} wants values in [0, 1], and {settings.data} has values from {low:.3g} to {high:.3g}"
            f"{how}: {other} another likelihood or member, or scale the data to lie in [0, 1]"
        )
    if chosen == "bernoulli" and words:
        raise ValueError(
            "likelihood bernoulli wants bits, and documents are counts of words: use likelihood=multinomial, or "
            "binarise=static, which draws words by their probability"
        )


def check_classes(algorithm: Algorithm, settings: Settings, y: Any) -> str:
    """A note if the labels y exceed the algorithm's default number of classes; else "".

    Raises ValueError if the labels exceed a number of classes that the user gave or that cannot change, and if fewer
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
    # a code with a part for classes gives them half of its units by default: see labels.class_and_style
    option = inspect.signature(ALGORITHMS[settings.algorithm]).parameters.get("classes")
    coded = option is not None and option.default is None
    half = f", half of a code of {settings.latents}" if coded and settings.hyper.get("classes") is None else ""
    beyond = f"{settings.data} has labels up to {there - 1} and {settings.algorithm} {algorithm.classes} classes{half}"
    if half and "labels" not in settings.hyper:
        return f"note: {beyond}: images of the others teach no class (to change it: --classes {there}, more --latents)"
    raise ValueError(f"{beyond}: give {there} classes" + (f" and more than {there} latents" if coded else ""))


def bounded(stream: data.Stream, algorithm: Algorithm, settings: Settings) -> data.Stream:
    """The stream with checks of every read, by `check_labels` and the likelihood: a sample may miss a bad example."""
    read, standard = stream.source.read, stream.source.standard
    as_read = standard is None or bool(not standard.mean.any() and (standard.scale == 1).all())

    def checked(index: np.ndarray) -> Batch:
        batch = read(index)
        if algorithm.check is not None and settings.binarise is None and as_read:
            # Integers with a range were checked in the sample; reading itself refuses values outside [0, 1].
            x = np.asarray(batch.x)
            if not ranged(x.dtype) and (standard is not None or (x.min() >= 0 and x.max() <= 1)):
                algorithm.check(x, settings.data)
        if batch.y is not None:
            check_labels(algorithm, settings, batch.y)
        return batch

    return replace(stream, source=replace(stream.source, read=checked))


def renumbered(splits: Splits, classes: Sequence[str], source: str) -> Splits:
    """The splits of another source, with its labels numbered as a run numbers its `classes`, by their names.

    Unchanged if the run or the source does not name its classes: labels are then numbers, and a line on stderr says so
    if the other one has names. Raises RunError for an example of a class that the run does not know.
    """
    theirs, classes = splits.dataset.classes, tuple(classes)
    if theirs == classes:
        return splits
    if not classes or not theirs:
        lacking = source if classes else "the run"
        warn(f"note: {lacking} does not name its classes, so those of {source} are compared by their numbers")
        return splits
    place = np.array([classes.index(name) if name in classes else -1 for name in theirs], np.int32)

    def on(batch: Batch) -> Batch:
        if batch.y is None:
            return batch
        y = np.asarray(batch.y)
        known = labelled(y)
        if (new := np.unique(y[known & (place[y] < 0)])).size:
            raise RunError(
                f"{source} has examples of the class {theirs[new[0]]}, and this run learned the classes "
                f"{', '.join(classes)}: leave these examples out"
            )
        return batch._replace(y=np.where(known, place[y], -1).astype(np.int32))

    dataset = replace(splits.dataset, classes=classes)
    streams = splits.streams
    if streams is not None:
        read = streams.test.source.read
        test = replace(streams.test.source, read=lambda index: on(read(index)))
        streams = streams._replace(test=replace(streams.test, source=test))
    return splits._replace(dataset=dataset, train=on(splits.train), test=on(splits.test), streams=streams)


def classes_of(splits: Splits) -> int | None:
    """The number of classes in the training labels, 1 + the largest label; None without labels.

    For a stream, the labels are those of a sample, and its source may know a larger number.
    """
    y = splits.train.y
    known = (splits.streams.train.source.classes or 0) if splits.streams else 0
    return max(1 + int(np.max(y)), known) if y is not None and labelled(y).any() else None


def of_patches(settings: Settings, streams: Streams | None = None) -> bool:
    """Whether a run's examples are pieces of larger images, or may be, as examples of arrays."""
    arrays = suffix(settings.data) in (".npy", ".npz") or (streams is not None and streams.sources.arrays)
    return arrays or settings.data == "photos" or settings.data_options.get("patch") is not None
