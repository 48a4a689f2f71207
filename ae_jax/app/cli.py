"""The command line, `python -m ae_jax` or `ae-jax`: made from the signatures of algorithms and networks,
so that a new algorithm needs no code here.
"""

import dataclasses
import functools
import inspect
import io
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro

from ..checks import Needs, annotations_of, check_used, defaults_of, needs, unless
from ..errors import tracebacks, warn

USAGE = """usage: ae-jax COMMAND [options]

Autoencoders in JAX: train one, look at it, use it.

  train ALGORITHM       train on a data set, with one seed or many at once, and write a report
  evaluate WORKDIR      every metric of every seed again, on the same data or another source
  encode WORKDIR IN OUT     codes of examples
  decode WORKDIR IN OUT     examples of codes
  sample WORKDIR OUT        new examples of a generative model
  report WORKDIR        write report.html again
  export WORKDIR OUT    encoder and decoder as StableHLO, usable without this package
  index WORKDIR DATA INDEX  codes of many examples, to search
  search INDEX QUERY    the nearest codes to an image, a document or an array
  restore WORKDIR IN OUT    images of any size, denoised, filled in or sharpened
  project WORKDIR [OUT]     codes, labels and pictures for the Embedding Projector
  list                  algorithms, networks, data and metrics, a line each

ae-jax COMMAND --help lists the options of a command. To begin:
  ae-jax train vae --data digits --epochs 100 --seeds 5
"""


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The options of training that all algorithms share."""

    data: str = "digits"
    """A name (of ae-jax list, or of TensorFlow Datasets), a .npy or .npz file, a folder of images or of .txt files.
    A name wins over a folder of that name: write ./NAME for the folder."""
    stream: bool = False
    """Read the data in shards while learning, never all at once; each of many processes reads its own part. For a .npy
    file, a folder of .npy files or of images, and a prepared set of TensorFlow Datasets."""
    shard_size: int | None = None
    """Examples in a shard of --stream, a multiple of the batch size; by default as many as make 256 MiB of float32."""
    epochs: int | None = None
    """Passes over the training set."""
    batch_size: int | None = None
    """Examples in a step."""
    seeds: int | None = None
    """Train N independent runs, seeds 0 to N-1, as one compiled program."""
    seed: int = 0
    """Train this one seed; its result is the same as among --seeds."""
    latents: int | None = None
    """Size of the code; with --dense False the size of the last feature maps."""
    network: Literal["mlp", "linear", "conv", "rbm"] | None = None
    """See ae-jax list; by default the algorithm's own, rbm for rbm and mlp for all others."""
    workdir: Path | None = None
    """Folder of the run; by default a folder under runs/, named by the settings. The same command resumes the run."""
    lr: float | None = None
    """Learning rate."""
    optimizer: Literal["adam", "sgd", "rmsprop", "adagrad", "adadelta"] = "adam"
    """Optimization method."""
    momentum: Annotated[float | None, needs("optimizer", "sgd")] = None
    """Momentum of sgd; 0.9 by default."""
    schedule: Literal["constant", "cosine", "linear", "exponential"] = "constant"
    """Schedule of the learning rate after the warm-up: cosine and linear fall to 0, exponential to a hundredth."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises linearly from 0."""
    clip: float | None = None
    """Largest global norm of the gradient."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW), on weights, not biases."""
    binarise: Literal["static", "dynamic"] | None = None
    """Draw binary pixels with the grey values as probabilities: once (static), or anew in every step (dynamic)."""
    noise: Literal["masking", "gaussian", "salt_and_pepper", "patches", "bar", "grey", "low_resolution"] | None = None
    """Corrupt the input in training: the denoising form of any algorithm."""
    noise_level: Annotated[float | None, unless("noise", None)] = None
    """Fraction of elements, area, width (0.25 by default) or colour (1); standard deviation of the Gaussian (0.25);
    factor of low resolution (2)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network's arithmetic in training; parameters, losses and metrics stay float32."""
    validation: float = 0.0
    """Fraction of the training set held out; the run keeps the params of the best epoch on it."""
    best: str = "loss"
    """The metric that chooses the best epoch; ae-jax list gives the better direction of each."""
    patience: int | None = None
    """Epochs without a better validation metric after which a seed stops; with --validation, or a validation split."""
    likelihood_samples: int | None = None
    """Importance samples for the log-likelihood of vae and iwae; 100 by default."""
    every_epochs: int = 10
    """Epochs between checkpoints,"""
    every_minutes: float = 5.0
    """or minutes between checkpoints, whichever comes first."""
    keep: int = 3
    """Number of checkpoints to keep; each holds the best epoch's params, too."""
    parallel: Literal["none", "data", "seeds", "both"] = "none"
    """Work of many devices: each batch split over them (data), the seeds spread over them (seeds), or both."""
    devices: int | None = None
    """Number of devices, over all processes; by default all. On CPU one process makes this number out of its cores."""
    coordinator: str | None = None
    """HOST:PORT of the first of many processes that train together; auto on Slurm, Kubernetes, Open MPI and TPU."""
    processes: int | None = None
    """Number of processes, with --coordinator HOST:PORT."""
    process: int | None = None
    """Number of this process, from 0."""
    quiet: bool = False
    """Show nothing but errors."""


# ------------------------------------------------------------------------------- options from signatures


def plain(annotation: Any) -> Any:
    """The annotation without parts that a command line cannot give: functions in a union, and ranges."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    value = lambda m: get_origin(m) is Callable or hasattr(m, "_fields")  # a function, or a record of functions
    return Union[tuple(m for m in get_args(annotation) if not value(m))]  # noqa: UP007


def options_of(make: Callable[..., Any]) -> dict[str, tuple[Any, Any, str]]:
    """Keyword-only parameters of a function: name -> (type, default, help from the docstring's Args)."""
    import docstring_parser

    helps = {p.arg_name: (p.description or "") for p in docstring_parser.parse(inspect.getdoc(make) or "").params}
    annotations = inspect.get_annotations(make, eval_str=True)
    return {
        name: (plain(annotations[name]), p.default, " ".join(helps.get(name, "").split()))
        for name, p in inspect.signature(make).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
        and name not in ("heads", "outputs", "examples")
        and plain(annotations[name]) is not type(None)  # a value of Python alone
    }


def merged(makers: dict[str, Callable[..., Any]]) -> dict[str, tuple[Any, Any, str]]:
    """The options of several makers as one set, each None unless given, since their defaults may differ."""
    kinds: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    for maker, make in makers.items():
        for name, (kind, default, text) in options_of(make).items():
            kinds[name] = Union[kinds[name], kind] if name in kinds else kind  # noqa: UP007
            texts.setdefault(name, [text])
            if default is not None:
                texts[name].append(f"{maker} {shown(default)}")
    told = {name: text + (f" Default: {', '.join(own)}." if own else "") for name, (text, *own) in texts.items()}
    return {name: (kind | None, None, told[name]) for name, kind in kinds.items()}


def shown(value: Any) -> str:
    """A value as typed on the command line: 1000 500 for (1000, 500)."""
    return " ".join(map(str, value)) or "()" if isinstance(value, tuple) else str(value)


def typed(argument: str) -> list[str]:
    """An argument as tyro takes it: Python's "(1000, 500)" becomes 1000 and 500, and "()" nothing."""
    inside = re.fullmatch(r"(?:(--[\w-]+)=)?\(((?:[-+.\de]+,\s*)*(?:[-+.\de]+)?)\)", argument.strip())
    return [inside[1]] * bool(inside[1]) + inside[2].replace(",", " ").split() if inside else [argument]


def hyperparameters(algorithm: str) -> dict[str, tuple[Any, Any, str]]:
    """The options of an algorithm, as from `options_of`, with its defaults on the command line. A default that depends
    on the data is None, and its help gives the rule: see `settings.completed`. So is that of an option which has no
    effect beside some others: see `completed_hyper`.
    """
    from ..algorithms import ALGORITHMS
    from ..training.settings import default_classes, defaults, likelihood

    own = defaults(algorithm)
    options = {
        name: (kind, own.hyper.get(name, default), text)
        for name, (kind, default, text) in options_of(ALGORITHMS[algorithm]).items()
    }
    for name in conditional(algorithm):
        kind, _, text = options[name]
        options[name] = (kind | None, None, text)
    if "likelihood" in options:
        kind, _, text = options["likelihood"]
        unit, real = (likelihood(algorithm, of) for of in ("unit", "real"))
        by_data = f"{unit}; multinomial for counted words, {real} for values outside [0, 1]"
        options["likelihood"] = (kind | None, None, f"{text.rstrip('.')}. By default {by_data}.")
    if "pretrain_epochs" in options:
        kind, _, text = options["pretrain_epochs"]
        by_data = f"as many as make {own.pretraining:,} steps"
        options["pretrain_epochs"] = (kind | None, None, f"{text.rstrip('.')}. By default {by_data}.")
    if default_classes(algorithm) is not None:
        kind, _, text = options["classes"]
        options["classes"] = (kind | None, None, f"{text.rstrip('.')}. By default as many as the training labels have.")
    return options


def conditional(algorithm: str) -> dict[str, Any]:
    """The defaults of an algorithm's options that have no effect beside some others; but flags, which are on or off."""
    from ..algorithms import ALGORITHMS
    from ..training.settings import defaults

    make = ALGORITHMS[algorithm]
    values = defaults_of(make) | dict(defaults(algorithm).hyper)
    found = [name for name, needs in annotations_of(make, Needs).items() if needs]
    return {name: values[name] for name in found if not isinstance(values[name], bool)}


def completed_hyper(algorithm: str, parsed: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters as parsed, with the defaults of `conditional` ones that were not given.

    Raises ValueError for one that was given and has no effect beside the others.
    """
    from ..algorithms import ALGORITHMS

    make = ALGORITHMS[algorithm]
    flags = {name: value for name, value in defaults_of(make).items() if isinstance(value, bool)}
    given = {name: value for name, value in parsed.items() if value is not None}
    check_used(make, given, flags)
    return parsed | conditional(algorithm) | given


def of_networks(algorithm: str) -> dict[str, tuple[Any, Any, str]]:
    """The options of all networks, as from `merged`; the help adds the defaults of the algorithm's own network."""
    from ..networks import NETWORKS
    from ..training.settings import defaults

    own = {name: f" {algorithm}: {shown(value)}." for name, value in defaults(algorithm).network.items()}
    return {name: (kind, value, text + own.get(name, "")) for name, (kind, value, text) in merged(NETWORKS).items()}


def training_options(algorithm: str) -> type[TrainOptions]:
    """`TrainOptions` with an algorithm's own defaults."""
    from ..algorithms import LONGEST
    from ..training.settings import defaults

    own = defaults(algorithm)
    by_data = f"(default: as many as make {own.updates:,} steps, at most {LONGEST})"
    told = tyro.conf.arg(help="Passes over the training set.", help_behavior_hint=by_data)
    epochs: Any = Annotated[int | None, told]
    size = tyro.conf.arg(
        help="Size of the code; with --dense False the size of the last feature maps.",
        help_behavior_hint=f"(default: {own.latents})",
    )
    latents: Any = Annotated[int | None, size]
    fields: list[Any] = [
        ("epochs", epochs, dataclasses.field(default=None)),
        ("latents", latents, dataclasses.field(default=None)),
        ("batch_size", int, dataclasses.field(default=own.batch_size)),
        ("lr", float, dataclasses.field(default=own.lr)),
    ]
    return dataclasses.make_dataclass("TrainingOptions", fields, bases=(TrainOptions,), frozen=True)


def data_flag(option: str) -> str:
    """The name of the flag for an option of a data source."""
    return option if option.startswith("data_") else f"data_{option}"


def train_options(algorithm: str) -> Any:
    """A dataclass of all options of `ae-jax train ALGORITHM`, in groups whose names are not part of the flags."""
    from .. import data

    def group(title: str, options: dict[str, tuple[Any, Any, str]], hint: Callable[[str], str | None]) -> Any:
        fields = []
        for name, (kind, default, text) in options.items():
            told = tyro.conf.arg(help=text, help_behavior_hint=hint(name))
            fields.append((name, Annotated[kind, told], dataclasses.field(default=default)))
        return dataclasses.make_dataclass(title, fields, frozen=True)

    sources = {data_flag(name): option for name, option in merged(data.OPTIONS).items()}
    by_name, none = {n: f"(default: {shown(v)})" for n, v in conditional(algorithm).items()}, lambda name: ""
    groups = {
        algorithm: group("Hyperparameters", hyperparameters(algorithm), by_name.get),
        "training": training_options(algorithm),
        "networks": group("NetworkOptions", of_networks(algorithm), none),
        "sources": group("DataOptions", sources, none),
    }
    owners = {algorithm: f"the algorithm {algorithm}", "training": "training", "networks": "the networks"}
    owner: dict[str, str] = {}
    for part, kind in groups.items():
        for option in (field.name for field in dataclasses.fields(kind)):
            if option in owner:
                raise ValueError(
                    f"{option} is an option of {owner[option]} and one of {owners.get(part, 'the data')}, and both "
                    "would be one flag: give one of the two another name"
                )
            owner[option] = owners.get(part, "the data")
    fields = [(name, kind, dataclasses.field(default=kind())) for name, kind in groups.items()]
    return tyro.conf.OmitArgPrefixes[dataclasses.make_dataclass("Options", fields, frozen=True)]


LARGEST = 2**31 - 1  # the largest int32


def check_numbers(options: Mapping[str, Any]) -> None:
    """Raises ValueError for NaN, for integers beyond `LARGEST`, and for seeds of 2^32 or more."""

    def numbers(value: Any) -> Iterator[int | float]:
        if isinstance(value, (tuple, list)):
            for one in value:
                yield from numbers(one)
        if isinstance(value, (int, float)):
            yield value

    for name, value in options.items():
        flag = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
        for number in numbers(value):
            if number != number:
                raise ValueError(f"{flag} is {number}, which is not a number")
            if name in ("seed", "key") and not 0 <= number < 2**32:
                raise ValueError(f"{flag} is {number}; it must be at least 0 and below 2^32, where keys repeat")
            if name not in ("seed", "key") and isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"{flag} is {number}; a whole number here is at most 2^31 - 1")


def settings_of(algorithm: str, parsed: Any) -> Any:
    """The run's `Settings` out of parsed options."""
    from .. import data
    from ..networks import NETWORKS
    from ..training import settings as of
    from ..training.settings import OptimizerSettings, Settings, heads

    for group in vars(parsed).values():
        check_numbers(vars(group))
    options: Any = parsed.training  # of `training_options`, where batch_size and lr are never None
    if options.seeds is not None and options.seed:
        raise ValueError("--seeds N trains the seeds 0 to N-1, and --seed S one seed: give one of the two")
    if options.shard_size is not None and not options.stream:
        raise ValueError("--shard-size is the size of the shards of a stream: give --stream with it")
    if options.shard_size is not None and options.shard_size < 1:
        raise ValueError(f"--shard-size is {options.shard_size}; it counts examples and must be at least 1")
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; it counts runs and must be at least 1")

    def given(group: Any) -> dict[str, Any]:
        return {name: value for name, value in vars(group).items() if value is not None}

    sources = {data_flag(name): name for name in merged(data.OPTIONS)}
    own, network = of.defaults(algorithm), options.network or heads(algorithm).network
    check_used(TrainOptions, given(options))
    if options.data in data.NAMED:
        check_used(data.NAMED[options.data], {sources[flag]: value for flag, value in given(parsed.sources).items()})
    network_options = of.network_options(algorithm, network, given(parsed.networks))
    check_used(NETWORKS[network], network_options, own.network)
    latents = options.latents
    if latents is None:
        latents = own.latents if network_options.get("dense", True) else 0  # see settings.with_map_latents
    return Settings(
        algorithm=algorithm,
        network=network,
        data=options.data,
        latents=latents,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seeds=tuple(range(options.seeds)) if options.seeds is not None else (options.seed,),
        hyper=completed_hyper(algorithm, dict(vars(getattr(parsed, algorithm)))),
        network_options=network_options,
        data_options={sources[flag]: value for flag, value in given(parsed.sources).items()},
        optimizer=OptimizerSettings(
            options.optimizer,
            options.lr,
            options.schedule,
            options.warmup_epochs,
            options.clip,
            options.weight_decay,
            OptimizerSettings.momentum if options.momentum is None else options.momentum,
        ),
        binarise=options.binarise,
        validation=options.validation,
        best=options.best,
        patience=options.patience,
        noise=options.noise,
        noise_level=options.noise_level,
        precision=options.precision,
        shard_size=(options.shard_size or 0) if options.stream else None,
    )


# ---------------------------------------------------------------------------------------------- commands


def train(arguments: list[str]) -> None:
    """ae-jax train ALGORITHM [options]."""
    import difflib

    from ..algorithms import ALGORITHMS
    from ..training.settings import defaults

    lines = "\n".join(f"  {name:<20}{summary(make)}" for name, make in ALGORITHMS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: ae-jax train ALGORITHM [options]\n\nalgorithms:\n{lines}\n")
        print("ae-jax train ALGORITHM --help lists its options.")
        return
    name, *rest = arguments
    if name not in ALGORITHMS:
        if name.startswith("-"):
            raise ValueError(
                f"the algorithm comes first: ae-jax train ALGORITHM {name} ...; the algorithms are\n{lines}"
            )
        near = difflib.get_close_matches(name, ALGORITHMS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"the algorithm {name!r} is not known.{hint} The algorithms are\n{lines}")
    make = ALGORITHMS[name]
    told = inspect.getdoc(make).split("Args:")[0].strip()  # type: ignore[union-attr]
    description = f"{summary(sys.modules[make.__module__])}\n\n{told}\n\nDefaults: {defaults(name).why}"
    parsed = tyro.cli(
        train_options(name),
        prog=f"ae-jax train {name}",
        args=[a for given in rest for a in typed(given)],
        description=description,
    )

    from ..errors import RunError
    from ..training import devices, loop
    from .commands import training

    settings, options = settings_of(name, parsed), parsed.training
    if options.coordinator is None and options.parallel != "none":
        devices.of_cores(options.devices)
    devices.initialize(options.coordinator, options.processes, options.process)
    workdir = options.workdir or training.default_workdir(settings)
    results = training.train(
        settings,
        workdir,
        every_epochs=options.every_epochs,
        every_minutes=options.every_minutes,
        keep=options.keep,
        samples=options.likelihood_samples,
        quiet=options.quiet,
        mesh=devices.layout(options.parallel, len(settings.seeds), options.devices),
    )
    if failed := results.get("failed"):
        raise RunError(f"{loop.failures(failed)}; the numbers above are of the other seeds")
    if results and not (workdir / "report.html").exists():
        raise RunError(f"{workdir} has no report; its results.json is whole")


def evaluate(
    workdir: Path,
    /,
    *,
    data: str | None = None,
    samples: int | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> None:
    """Measure a run again: every metric of every seed.

    Args:
        workdir: folder of the run.
        data: another source to measure on, of the same shape; by default the run's own.
        samples: importance samples for the log-likelihood of vae and iwae; 100 by default.
        out: a JSON file for the results.
        quiet: show nothing but errors.
    """
    from .commands import measuring

    results = measuring.evaluate(workdir, data, samples, quiet, out)
    if not quiet:
        print(results["data"])
        print(measuring.table(results))


def encode(workdir: Path, source: str, out: Path, /, *, seed: int | None = None, resize: bool = False) -> None:
    """Turn examples into codes.

    Args:
        workdir: folder of the run.
        source: a folder of images (or, for documents, of text files), one such file, a .npy or .npz file, or a data
            set's name.
        out: .npy or .npz file to write, [N, K].
        seed: one of the run's seeds; the first by default.
        resize: scale images to the run's size, after its own crop; transparent pixels become white.
    """
    from .commands import coding

    print(f"{coding.encode(workdir, source, out, seed, resize).shape} codes written to {out}")


def decode(workdir: Path, source: str, out: Path, /, *, seed: int | None = None) -> None:
    """Turn codes into examples.

    Args:
        workdir: folder of the run.
        source: a .npy or .npz file of codes [N, K].
        out: .npy or .npz file to write, or a .png for a grid of images.
        seed: one of the run's seeds; the first by default.
    """
    from .commands import coding

    print(f"{coding.decode(workdir, source, out, seed).shape} examples written to {out}")


def sample(
    workdir: Path,
    out: Path,
    /,
    *,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64,
    seed: int | None = None,
    key: int = 0,
) -> None:
    """Draw new examples from a generative model.

    Args:
        workdir: folder of the run.
        out: .npy or .npz file to write, or a .png for a grid of images.
        n: the number of examples.
        seed: one of the run's seeds; the first by default.
        key: seed of the draw.
    """
    from .commands import coding

    print(f"{coding.sample(workdir, n, out, seed, key).shape} samples written to {out}")


def report(workdir: Path, /) -> None:
    """Write report.html and its pictures again.

    Args:
        workdir: folder of the run.
    """
    from .commands import reporting

    print(reporting.make_report(workdir))


def export(workdir: Path, out: Path, /, *, seed: int | None = None) -> None:
    """Write encoder and decoder as StableHLO, with the parameters inside and the batch size open.

    Args:
        workdir: folder of the run.
        out: folder to write to.
        seed: one of the run's seeds; the first by default.
    """
    from .commands import coding

    print("\n".join(map(str, coding.export(workdir, out, seed))))


def index(workdir: Path, source: str, out: Path, /, *, seed: int | None = None, resize: bool = False) -> None:
    """Make an index of examples' codes, to search without the run.

    Args:
        workdir: folder of the run.
        source: a folder of images (or, for documents, of text files), a .npy or .npz file, or a data set's name.
        out: .npz file to write.
        seed: one of the run's seeds; the first by default.
        resize: scale images, and later queries, to the run's size, after its own crop; transparent pixels become white.
    """
    from .commands import searching

    made = searching.make_index(workdir, source, out, seed, resize)
    size = f"{made.codes.nbytes / 1024:,.0f} KB of codes, {len(made.encoder) / 1024:,.0f} KB of encoder"
    print(f"{made.codes.shape} codes ({size}) written to {out}, {out.stat().st_size / 1024:,.0f} KB")


def search(
    index: Path,
    query: str,
    /,
    *,
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10,
    radius: int | None = None,
    metric: Literal["euclidean", "cosine"] | None = None,
) -> None:
    """Find the examples of an index that are nearest to a query.

    An index holds the encoder as a program, and searching runs it: search only an index whose maker you would trust
    with a program. Its checksum shows damage, not the maker.

    Args:
        index: file of the index.
        query: an image or a folder of images, a text file, a few words, a .npy or .npz file.
        k: the number of examples to find.
        radius: search only the addresses whose bits differ in at most RADIUS places, instead of every code.
        metric: distance of codes, euclidean by default; not with radius, which counts bits.
    """
    from .commands import searching

    found = searching.search(index, query, k, radius, metric)
    for name, hits, size in zip(found.names, found.hits, found.sizes, strict=True):
        print(name, *(f"  {hit.distance:10.4g}  {hit.name}" for hit in hits), sep="\n")
        if radius is not None:
            shown = f", {len(hits)} of them shown" if len(hits) < size else ""
            print(f"  {size:,} within {counted(radius, 'bit')}{shown}" if hits else "  no code within that radius")
    held = f"{counted(len(found.searched.codes), 'code')}, {index.stat().st_size / 1024:,.0f} KB"
    print(f"{held}, {1000 * found.seconds:.3g} ms a query")


def restore(workdir: Path, source: Path, out: Path, /, *, seed: int | None = None, scale: int | None = None) -> None:
    """Restore images of any size, tile by tile: denoise, fill in or sharpen, as the run learned.

    Args:
        workdir: folder of a run that was trained with corruption or noise, on patches of images (--data-patch); a run
            trained on whole images restores images of their size.
        source: an image, or a folder of images; transparent pixels become white.
        out: the .png or .jpg to write; or a folder, for .png images of the same names.
        seed: one of the run's seeds; the first by default.
        scale: enlarge images by this factor first; only for a run that learned to sharpen, which has its own factor
            as the default. Give 1 for images that are enlarged already.
    """
    from ..errors import RunError
    from .commands import restoring

    written, refused = restoring.restore(workdir, source, out, seed, scale)
    print(f"{len(written)} image{'s' * (len(written) != 1)} written to {written[0] if len(written) == 1 else out}")
    if refused:
        told = f"{len(refused)} of {len(written) + len(refused)} images were left out:"
        raise RunError("\n  ".join([told, *refused]))


def project(
    workdir: Path,
    out: Path | None = None,
    /,
    *,
    seed: int | None = None,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2000,
) -> None:
    """Write codes, labels and pictures of test examples for TensorBoard's Embedding Projector.

    Args:
        workdir: folder of the run.
        out: folder to write to; by default the folder projector in the run's.
        seed: one of the run's seeds; the first by default.
        n: the number of examples.
    """
    from .commands import projecting

    print("\n".join(map(str, projecting.project(workdir, out or workdir / "projector", seed, n))))


def list_() -> None:
    """Algorithms, networks, data and metrics, a line each."""
    from .. import data, evaluation
    from ..algorithms import ALGORITHMS
    from ..networks import NETWORKS

    sections = {
        "algorithms": {name: summary(sys.modules[make.__module__]) for name, make in ALGORITHMS.items()},
        "networks": {name: summary(make) for name, make in NETWORKS.items()},
        "data": data.SOURCES,
        "metrics": {name: evaluation.describe(name) for name in evaluation.METRICS},
    }
    for title, entries in sections.items():
        width = max(map(len, entries)) + 2
        print(title, *(f"  {name:<{width}}{text}" for name, text in entries.items()), sep="\n")


def counted(n: int, what: str) -> str:
    """1 code, 2 codes."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def summary(thing: Any) -> str:
    """The first sentence of a docstring, on one line."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate,
    "encode": encode,
    "decode": decode,
    "sample": sample,
    "report": report,
    "export": export,
    "index": index,
    "search": search,
    "restore": restore,
    "project": project,
    "list": list_,
}


def dispatch(arguments: list[str]) -> None:
    """Runs one command. Raises what it raises."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    if arguments[0] == "--version":
        from .. import __version__

        print(__version__)
        return
    command, *rest = arguments
    if command == "train":
        return train(rest)
    if command not in COMMANDS:
        raise ValueError(f"the command {command!r} is not known; there are train, {', '.join(COMMANDS)}")
    tyro.cli(named_positions(COMMANDS[command]), prog=f"ae-jax {command}", args=rest)


def named_positions(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose help shows its positional arguments by name, WORKDIR, rather than by type, PATH."""

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        check_numbers(kwargs)
        command(*args, **kwargs)

    shown = lambda name, default: name.upper() if default is inspect.Parameter.empty else f"[{name.upper()}]"
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        p.replace(annotation=Annotated[p.annotation, tyro.conf.arg(metavar=shown(name, p.default))])
        if p.kind is p.POSITIONAL_ONLY
        else p
        for name, p in signature.parameters.items()
    ]
    del call.__wrapped__  # or its annotations would be taken
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return call


def as_flags(message: str) -> str:
    """A message with options as flags: resize=64 becomes --data-resize 64."""
    from .. import data
    from ..algorithms import ALGORITHMS
    from ..networks import NETWORKS

    flags = {name: name for make in (*ALGORITHMS.values(), *NETWORKS.values()) for name in options_of(make)}
    flags |= {field.name: field.name for field in dataclasses.fields(TrainOptions)}
    flags |= {name: data_flag(name) for name in merged(data.OPTIONS)}
    flag = lambda m: f"--{flags[m[1]].replace('_', '-')} {m[2].strip(chr(39))}".rstrip()
    return re.sub(rf"""\b({"|".join(flags)})=("?[-\w.]+"?|'[-\w.]*'|\([-\w., ]*\)|)""", flag, message)


def as_line(error: BaseException) -> str:
    """The text of an error; for a file, its name and the reason."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError) or type(error).__name__ == "JaxRuntimeError":
        return (str(error).strip().splitlines() or ["the system gives no details"])[0][:200]
    return str(error)


def main() -> None:
    """Entry point: a user's mistake ends in one message and exit status 2, not in a traceback."""
    import jax

    from ..errors import RunError
    from ..training import devices, signals
    from ..xla import cache

    cache.cache_compilations()
    for stream in (sys.stdout, sys.stderr):  # print characters that the terminal lacks as escapes
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    try:
        dispatch(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as in `ae-jax list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at the exit fails again
        sys.exit(128 + signal.SIGPIPE)
    except signals.Interrupted as stop:
        warn(stop)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        warn("Interrupted.")
        devices.exit_process(130, at_once=True)  # an exit would wait for the program that computes
    except (RunError, ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
        of_jax = isinstance(error, jax.errors.JaxRuntimeError)
        full = isinstance(error, MemoryError) or (of_jax and "RESOURCE_EXHAUSTED" in str(error))
        if tracebacks() or (of_jax and not full and not devices.together()):
            raise
        if full:
            message = f"memory is full ({as_line(error)}): give a smaller --batch-size or -n, or fewer --seeds"
        elif of_jax or devices.is_connection_error(error):
            message = devices.connection_message(error)
        else:
            message = as_flags(as_line(error))
        warn(f"ae-jax: {message}")
        devices.exit_process(2)
