"""The options of `ae-jax train`: made from the settings of a run and the signatures of algorithms, networks and data
sources, so that a new algorithm needs no code here.
"""

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import tyro

from ..checks import Needs, annotations_of, check_used, defaults_of

if TYPE_CHECKING:
    from ..training.settings import Settings

Option = tuple[Any, Any, str]  # type, default, help


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Folder, seeds, checkpoints and devices."""

    # These are not settings: a run's results do not depend on them, or they give a setting in another form (seeds).
    workdir: Path | None = None
    """Folder of the run; by default a folder under runs/, named by the settings. The same command resumes the run."""
    restart_schedule: bool = False
    """Begin the schedule of the learning rate anew when a finished run goes on for more epochs."""
    from_run: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """RUN, or RUN:GROUP,GROUP: start from the params of that run, seed by seed: from all that fit, or from these groups
    (encoder, decoder, ...). An encoder replaces pretraining."""
    from_seed: int | None = None
    """The one seed of --from RUN from whose params all seeds start; by default each starts from the same seed."""
    config: Path | None = None
    """A file of settings, JSON or TOML in the layout of a run's config.json; other flags replace its values."""
    stream: bool = False
    """Read the data in shards while learning, never all at once; each of many processes reads its own part. For a .npy
    file, a folder of .npy files or of images, and a prepared set of TensorFlow Datasets."""
    seeds: int | None = None
    """Train N independent runs, seeds 0 to N-1, as one compiled program."""
    seed: int | None = None
    """Train this one seed, by default 0; its result is the same as among --seeds."""
    likelihood_samples: int | None = None
    """Importance samples for the log-likelihood of the variational members; 100 by default."""
    every_epochs: int = 10
    """Write a checkpoint after this number of epochs, or earlier: see --every-minutes."""
    every_minutes: float = 5.0
    """Write a checkpoint after this number of minutes, if fewer epochs than --every-epochs have passed."""
    keep: int = 3
    """Number of checkpoints to keep. Each also holds the params of the best epoch."""
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
    log: tuple[Literal["csv", "tensorboard"], ...] = ()
    """Logs for other programs, in the run's folder: csv, the table log.csv; tensorboard, event files, for which
    tensorboardX must be installed."""


def plain(annotation: Any) -> Any:
    """The annotation without the parts that the command line has no form for: ranges, and functions in a union."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    value = lambda m: get_origin(m) is Callable or hasattr(m, "_fields")  # a function, or a record of functions
    return Union[tuple(m for m in get_args(annotation) if not value(m))]  # noqa: UP007


def options_of(make: Callable[..., Any]) -> dict[str, Option]:
    """Keyword-only parameters of a function: name -> (type, default, help from the docstring's Args)."""
    import docstring_parser

    helps = {p.arg_name: (p.description or "") for p in docstring_parser.parse(inspect.getdoc(make) or "").params}
    annotations = inspect.get_annotations(make, eval_str=True)
    return {
        name: (plain(annotations[name]), p.default, " ".join(helps.get(name, "").split()))
        for name, p in inspect.signature(make).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
        and name not in ("heads", "outputs", "examples")
        and plain(annotations[name]) is not type(None)  # no value has a form on the command line
    }


def merged(makers: dict[str, Callable[..., Any]]) -> dict[str, Option]:
    """The options of several makers as one set. Each default is None, since the makers' defaults may differ; the help
    lists the makers' defaults.
    """
    kinds: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    for maker, make in makers.items():
        for name, (kind, default, text) in options_of(make).items():
            kinds[name] = Union[kinds[name], kind] if name in kinds else kind  # noqa: UP007
            texts.setdefault(name, [text])
            if default is not None:
                texts[name].append(f"{maker} {shown(default)}")
    helps = {name: text + (f" Default: {', '.join(own)}." if own else "") for name, (text, *own) in texts.items()}
    return {name: (kind | None, None, helps[name]) for name, kind in kinds.items()}


def shown(value: Any) -> str:
    """A value as typed on the command line: 1000 500 for (1000, 500)."""
    return " ".join(map(str, value)) or "()" if isinstance(value, tuple) else str(value)


def typed(argument: str) -> list[str]:
    """An argument as words for tyro: "(1000, 500)", as Python writes it, becomes 1000 and 500; "()" becomes nothing."""
    inside = re.fullmatch(r"(?:(--[\w-]+)=)?\(((?:[-+.\de]+,\s*)*(?:[-+.\de]+)?)\)", argument.strip())
    return [inside[1]] * bool(inside[1]) + inside[2].replace(",", " ").split() if inside else [argument]


def hyperparameters(algorithm: str) -> dict[str, Option]:
    """The options of an algorithm, as from `options_of`, with its defaults on the command line.

    A default that depends on the data is None, and the help gives its rule: see `settings.completed`. The default of an
    option of `conditional` is None, too: see `completed_hyper`.
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
    """The defaults of an algorithm's options that need other options (`Needs`), except yes-or-no options."""
    from ..algorithms import ALGORITHMS
    from ..training.settings import defaults

    make = ALGORITHMS[algorithm]
    values = defaults_of(make) | dict(defaults(algorithm).hyper)
    found = [name for name, needs in annotations_of(make, Needs).items() if needs]
    return {name: values[name] for name in found if not isinstance(values[name], bool)}


def completed_hyper(algorithm: str, parsed: dict[str, Any]) -> dict[str, Any]:
    """The parsed hyperparameters, completed by the defaults of `conditional`.

    Raises ValueError for a given hyperparameter that has no effect beside the others.
    """
    from ..algorithms import ALGORITHMS

    make = ALGORITHMS[algorithm]
    flags = {name: value for name, value in defaults_of(make).items() if isinstance(value, bool)}
    given = {name: value for name, value in parsed.items() if value is not None}
    check_used(make, given, flags)
    return parsed | conditional(algorithm) | given


def of_networks(algorithm: str) -> dict[str, Option]:
    """The options of all networks, as from `merged`; the help adds the defaults of the algorithm's own network."""
    from ..networks import NETWORKS
    from ..training.settings import defaults

    own = {name: f" {algorithm}: {shown(value)}." for name, value in defaults(algorithm).network.items()}
    return {name: (kind, value, text + own.get(name, "")) for name, (kind, value, text) in merged(NETWORKS).items()}


def shared_options(algorithm: str) -> tuple[dict[str, Option], dict[str, str]]:
    """The settings that all algorithms share, as options with the defaults of one algorithm; and the defaults that the
    help shows for some options whose default is None.
    """
    from ..algorithms import LONGEST
    from ..networks import NETWORKS
    from ..training import settings

    own, helps = settings.defaults(algorithm), field_helps(settings.Settings) | field_helps(settings.OptimizerSettings)
    defaults = {"data": "digits", "network": None, "latents": None, "batch_size": own.batch_size, "lr": own.lr}
    epochs = f"as many as make {own.updates:,} steps, at most {LONGEST}"
    shown_defaults = {"latents": str(own.latents), "epochs": epochs}
    found: dict[str, Option] = {}
    for option, (kind, field) in settings.options().items():
        default = defaults.get(option, field.default)
        if option == "network":
            kind = Literal[tuple(NETWORKS)]  # pyright: ignore[reportInvalidTypeForm]
        if default is not None and any(isinstance(mark, Needs) for mark in marks(kind)):
            shown_defaults[option], default = shown(default), None
        found[option] = ((kind if default is not None else optional(kind)), default, helps[field.name])
    return found, {option: f"(default: {text})" for option, text in shown_defaults.items()}


def field_helps(kind: type) -> dict[str, str]:
    """The docstrings under a dataclass's fields."""
    import docstring_parser

    found = docstring_parser.parse_from_object(kind).params
    return {field.arg_name: " ".join((field.description or "").split()) for field in found}


def marks(kind: Any) -> tuple[Any, ...]:
    """The annotations of a type, with options named as on the command line."""
    from ..training.settings import FLAGS

    found = getattr(kind, "__metadata__", ())
    return tuple(m._replace(option=FLAGS.get(m.option, m.option)) if isinstance(m, Needs) else m for m in found)


def optional(kind: Any) -> Any:
    """The type or None, with the annotations of the type."""
    return Annotated[plain(kind) | None, *marks(kind)] if marks(kind) else kind | None


def data_flag(option: str) -> str:
    """The name of the flag for an option of a data source."""
    return option if option.startswith("data_") else f"data_{option}"


def network_flag(option: str) -> str:
    """The name of the flag for an option of a network."""
    return f"net_{option}"


def train_options(algorithm: str) -> Any:
    """A dataclass of all options of `ae-jax train ALGORITHM`, in groups. The flags do not contain the groups' names."""
    from .. import data

    def group(title: str, options: dict[str, Option], hint: Callable[[str], str | None]) -> Any:
        fields = []
        for name, (kind, default, text) in options.items():
            pair = f"| --no-{name.replace('_', '-')}" if switches(kind) == "valued" else None
            described = tyro.conf.arg(help=text, help_behavior_hint=hint(name), metavar=pair)
            fields.append((name, Annotated[kind, described], dataclasses.field(default=default)))
        return dataclasses.make_dataclass(title, fields, frozen=True)

    by_name, none = {n: f"(default: {shown(v)})" for n, v in conditional(algorithm).items()}, lambda name: ""
    shared, shared_hints = shared_options(algorithm)
    networks = {network_flag(name): option for name, option in of_networks(algorithm).items()}
    sources = {data_flag(name): option for name, option in merged(data.OPTIONS).items()}
    groups = {
        algorithm: group("Hyperparameters", hyperparameters(algorithm), by_name.get),
        "training": group("TrainingOptions", shared, shared_hints.get),
        "run": RunOptions,
        "networks": group("NetworkOptions", networks, none),
        "sources": group("DataOptions", sources, none),
    }
    owners = {algorithm: f"the algorithm {algorithm}", "training": "training", "run": "the run"}
    owners |= {"networks": "the networks", "sources": "the data"}
    owner: dict[str, str] = {}
    for part, kind in groups.items():
        for option in (field.name for field in dataclasses.fields(kind)):
            if option in owner:
                raise ValueError(
                    f"{option} is an option of {owner[option]} and one of {owners[part]}, and both would be one flag: "
                    "give one of the two another name"
                )
            owner[option] = owners[part]
    fields = [(name, kind, dataclasses.field(default=kind())) for name, kind in groups.items()]
    return tyro.conf.OmitArgPrefixes[dataclasses.make_dataclass("Options", fields, frozen=True)]


def parse(algorithm: str, arguments: list[str], **texts: Any) -> Any:
    """The options of `ae-jax train ALGORITHM`, in the groups of `train_options`; `texts` go to `tyro.cli`.

    A network option is also accepted without its prefix, as in older versions, unless another option has that name.
    """
    kind: Any = train_options(algorithm)
    parts: list[Any] = [part.type for part in dataclasses.fields(get_args(kind)[0])]
    names = set(of_networks(algorithm)) - {field.name for part in parts for field in dataclasses.fields(part)}

    def prefixed(argument: str) -> str:
        flag, equals, value = argument.partition("=")
        no, name = ("no-", flag[5:]) if flag.startswith(("--no-", "--no_")) else ("", flag[2:])
        known = flag.startswith("--") and name.replace("-", "_") in names
        return f"--{no}{network_flag(name).replace('_', '-')}{equals}{value}" if known else argument

    fields = {field.name: field.type for part in parts for field in dataclasses.fields(part)}
    given = [prefixed(part) for argument in arguments for part in typed(argument)]
    return tyro.cli(kind, args=switched(given, {name: switches(of) for name, of in fields.items()}), **texts)


def switches(kind: Any) -> Literal["", "flag", "valued"]:
    """How tyro takes a yes-or-no option: as two flags ("flag"), or as a flag and its value ("valued"); else ""."""
    bare = plain(kind)
    return "flag" if bare is bool else "valued" if bare == (bool | None) else ""


def switched(arguments: list[str], kinds: Mapping[str, str]) -> list[str]:
    """The arguments with each yes-or-no option in tyro's form. `kinds` gives `switches` of each option.

    Users may give --x, --no-x, or a value behind either, such as --x True.
    """
    found, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        name = flag[2:].replace("-", "_") if flag.startswith("--") else ""
        no = not kinds.get(name) and name.startswith("no_")
        name = name[3:] if no else name
        if not (kind := kinds.get(name)):
            found.append(argument)
            continue
        if not equals and rest and rest[0] in ("True", "False", "None"):
            value = rest.pop(0)
        if value == "None" or (equals and value not in ("True", "False")):
            found.append(argument)  # tyro reports the error
            continue
        yes = (value != "False") != no
        option = name.replace("_", "-")
        found += [f"--{option}", str(yes)] if kind == "valued" else [f"--{option}" if yes else f"--no-{option}"]
    return found


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


def settings_of(algorithm: str, parsed: Any) -> "Settings":
    """The run's `Settings` out of parsed options."""
    from .. import data
    from ..networks import NETWORKS
    from ..training import settings

    for group in vars(parsed).values():
        check_numbers(vars(group))
    run, shared = parsed.run, dict(vars(parsed.training))
    shard_size = shared["shard_size"]
    if run.seeds is not None and run.seed is not None:
        raise ValueError("--seeds N trains the seeds 0 to N-1, and --seed S one seed: give one of the two")
    if shard_size is not None and not run.stream:
        raise ValueError("--shard-size is the size of the shards of a stream: give --stream with it")
    if shard_size is not None and shard_size < 1:
        raise ValueError(f"--shard-size is {shard_size}; it counts examples and must be at least 1")
    if run.seeds is not None and run.seeds < 1:
        raise ValueError(f"--seeds is {run.seeds}; it counts runs and must be at least 1")

    def given(options: Mapping[str, Any], names: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The options that were given, under their own names rather than the flags'."""
        return {(names or {}).get(flag, flag): value for flag, value in options.items() if value is not None}

    own = settings.defaults(algorithm)
    data_options = given(vars(parsed.sources), {data_flag(name): name for name in merged(data.OPTIONS)})
    if shared["data"] in data.NAMED:
        check_used(data.NAMED[shared["data"]], data_options)
    check_used(type(parsed.training), given(shared))
    shared["network"] = network = shared["network"] or settings.heads(algorithm).network
    network_options = given(vars(parsed.networks), {network_flag(name): name for name in merged(NETWORKS)})
    network_options = settings.network_options(algorithm, network, network_options)
    check_used(NETWORKS[network], network_options, own.network)
    if shared["latents"] is None:
        shared["latents"] = own.latents if network_options.get("dense", True) else 0  # see settings.with_map_latents
    shared["shard_size"] = (shard_size or 0) if run.stream else None
    if run.from_seed is not None and run.from_run is None:
        raise ValueError(f"--from-seed {run.from_seed} has no effect without --from RUN: give both")
    return settings.of_options(
        given(shared),
        algorithm=algorithm,
        seeds=tuple(range(run.seeds)) if run.seeds is not None else (run.seed or 0,),
        hyper=completed_hyper(algorithm, dict(vars(getattr(parsed, algorithm)))),
        network_options=network_options,
        data_options=data_options,
        start_from=None if run.from_run is None else start_of(run.from_run, run.from_seed),
    )


def start_of(text: str, seed: int | None) -> dict[str, Any]:
    """`Settings.start_from` for --from RUN or --from RUN:GROUP,GROUP, and --from-seed."""
    path, colon, groups = (text, "", "") if Path(text).is_dir() else text.rpartition(":")
    if not colon:
        path = text
    named = [group.strip() for group in groups.split(",")] if colon else []
    if not path or not all(named if colon else ["all"]):
        raise ValueError(f"--from {text} names no run or an empty group: give RUN, or RUN:encoder,decoder")
    return {"run": str(Path(path).expanduser().absolute()), "groups": named, "seed": seed}


def as_flags(message: str) -> str:
    """A message with options as flags: resize=64 becomes --data-resize 64, but not in --grid beta=0.5,1."""
    from .. import data
    from ..algorithms import ALGORITHMS
    from ..networks import NETWORKS
    from ..training import settings

    flags = {name: network_flag(name) for name in merged(NETWORKS)}
    flags |= {name: name for make in ALGORITHMS.values() for name in options_of(make)}
    flags |= {name: name for name in (*settings.options(), *(field.name for field in dataclasses.fields(RunOptions)))}
    flags |= {name: data_flag(name) for name in merged(data.OPTIONS)}

    def flag(m: re.Match[str]) -> str:
        name = flags[m[1]].replace("_", "-")
        return {"True": f"--{name}", "False": f"--no-{name}"}.get(m[2], f"--{name} {m[2].strip(chr(39))}".rstrip())

    option = rf"""\b({"|".join(flags)})=("?[-\w.]+"?|'[-\w.]*'|\([-\w., ]*\)|)"""
    return re.sub(f"(?<!--grid )(?<!--range ){option}", flag, message)
