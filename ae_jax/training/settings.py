"""A run's settings, as `config.json` keeps them, and the algorithm that they describe."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from inspect import get_annotations
from math import prod
from typing import Annotated, Any, Literal, get_args

import jax.numpy as jnp
import optax

from ..algorithms import ALGORITHMS, DEFAULTS, FORMER, Defaults
from ..checks import (
    POSITIVE,
    Amount,
    Positive,
    Range,
    Updates,
    asked_of,
    check_choice,
    check_names,
    check_used,
    defaults_of,
    needs,
    unless,
    used,
)
from ..core import Algorithm, Autoencoder, Heads, Optimizer, Params
from ..corruption import CorruptionName, corrupted, corruption
from ..distributions.likelihoods import Likelihood, named
from ..errors import RunError, counted
from ..networks import NETWORKS, PrecisionName, rounded, trained
from ..objectives import pretraining
from ..objectives.terms import is_weight
from . import arguments, plugins, stages

OptimizerName = Literal["adam", "sgd", "rmsprop", "adagrad", "adadelta"]
# parameters of member and network functions that are not options
GIVEN = {"net", "optimizer", "shape", "latents", "heads", "outputs", "examples"}
DataKind = Literal["words", "unit", "real"]  # counted words; values in [0, 1]; others
ScheduleName = Literal["constant", "cosine", "linear", "exponential"]


# `options` makes the options of the command line from these two classes; the docstring under a field is its help.
# `completed` fills in a default of None that depends on the algorithm or the data.


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """The settings of `optimizer`."""

    name: OptimizerName = "adam"
    """Optimization method."""
    lr: Positive = 1e-3
    """Learning rate."""
    momentum: Annotated[float, needs("name", "sgd")] = 0.9
    """Momentum of sgd."""
    schedule: ScheduleName = "constant"
    """Schedule of the learning rate after the warm-up: cosine and linear fall to 0, exponential to a hundredth."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises linearly from 0."""
    clip: Annotated[float | None, POSITIVE] = None
    """Largest global norm of the gradient."""
    weight_decay: Amount = 0.0
    """Decoupled weight decay (AdamW), on weights, not biases."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run: its numbers depend on these and on `provenance.circumstances`."""

    algorithm: str
    seeds: tuple[int, ...]
    hyper: dict[str, Any] = field(default_factory=dict)
    network_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerSettings = OptimizerSettings()
    data: str
    """A name (of ae-jax list, or of TensorFlow Datasets), a .npy or .npz file, a table (.csv, .tsv, .parquet), a
    folder of images, of .txt files or, with --stream, of .npy files. A name wins over a folder of that name: write
    ./NAME for the folder."""
    shard_size: int | None = None  # None: all data in memory; 0: streamed in shards of a size that fits
    """Examples in a shard of --stream, a multiple of the batch size; by default as many as make 256 MiB of float32."""
    epochs: int | None = None
    """Passes over the training set."""
    batch_size: int
    """Examples in a step."""
    latents: int  # 0 for a network without dense layers: see `with_map_latents`
    """Size of the code; with --no-net-dense the size of the last feature maps."""
    network: str
    """See ae-jax list; by default the algorithm's own, rbm for rbm, linear for dictionary and mlp for all others."""
    binarise: Literal["static", "dynamic"] | None = None
    """Draw binary pixels with the grey values as probabilities: once (static), or anew in every step (dynamic)."""
    likelihood_levels: int | None = None
    """Levels of quantised data, k / (levels - 1), for the likelihoods categorical and discretised_logistic; 256 by
    default."""
    noise: CorruptionName | None = None
    """Corrupt the input in training: the denoising form of any algorithm."""
    noise_level: Annotated[float | None, unless("noise", None)] = None
    """Fraction of elements, area, width (0.25 by default) or colour (1); standard deviation of the Gaussian (0.25);
    factor of low resolution (2)."""
    precision: PrecisionName = "float32"
    """Precision of the network's arithmetic in training; parameters, losses and metrics stay float32."""
    validation: float = 0.0
    """Fraction of the training set held out; the run keeps the params of the best epoch on it."""
    best: str = "loss"
    """The metric that chooses the best epoch; ae-jax list gives the better direction of each."""
    patience: int | None = None
    """Epochs without a better validation metric after which a seed stops; with --validation, or a validation split."""
    # (epoch, planned): after that epoch a schedule that was planned for `planned` epochs ended, and another began
    restarts: tuple[tuple[int, int], ...] = ()
    # the run from whose params this one starts: run, groups (() for all) and seed, as given; seeds, epoch and checksum
    start_from: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        arguments.check_length(1 if self.epochs is None else self.epochs, self.batch_size)

    def to_json(self) -> dict[str, Any]:
        """The settings in JSON's types, with the plugins, if any; `from_json` reads them."""
        own = plugins.used(self.algorithm, self.network)
        return asdict(self) | ({"plugins": own} if own else {})

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Settings":
        """The settings of a config.json; loads its plugins. Raises RunError for a config.json of another version."""
        plugins.restore(content.get("plugins", ()))
        try:
            rest = {k: _tuples(v) for k, v in content.items() if k not in ("optimizer", "plugins")}
            rest["algorithm"] = FORMER.get(rest["algorithm"], rest["algorithm"])
            return Settings(**rest, optimizer=OptimizerSettings(**content["optimizer"]))
        except (KeyError, TypeError) as error:
            raise RunError(f"the settings in config.json are not of this version of ae_jax ({error})") from None


# Fields of `Settings` that `options` leaves out: the command's argument, --seed and --seeds, groups of options,
# --restart-schedule, --from.
GROUPS = {"algorithm", "seeds", "hyper", "network_options", "data_options", "optimizer", "restarts", "start_from"}
FLAGS = {"name": "optimizer"}  # options of `OptimizerSettings` under another name than the field's


def options() -> dict[str, tuple[Any, Field[Any]]]:
    """The settings that are options of every algorithm: option -> (type with its annotations, dataclass field)."""
    found = {}
    for kind in (Settings, OptimizerSettings):
        types = get_annotations(kind, eval_str=True)
        for f in fields(kind):
            if kind is OptimizerSettings or f.name not in GROUPS:
                found[FLAGS.get(f.name, f.name) if kind is OptimizerSettings else f.name] = types[f.name], f
    return found


def of_options(given: Mapping[str, Any], **groups: Any) -> Settings:
    """Settings from the given `options` and from the other fields, `groups`."""
    names = {FLAGS.get(f.name, f.name): f.name for f in fields(OptimizerSettings)}
    own = OptimizerSettings(**{names[option]: value for option, value in given.items() if option in names})
    return Settings(**{k: v for k, v in given.items() if k not in names}, optimizer=own, **groups)


def optimizer(
    settings: OptimizerSettings, epochs: int, steps: int, restarts: Sequence[tuple[int, int]] = ()
) -> Optimizer:
    """The optax optimizer for a run of `epochs` epochs of `steps` steps.

    Clipping by the global norm comes first, then the method, then decoupled weight decay on weights (not biases), then
    the learning rate. The learning rate is a linear warm-up, then the schedule; both begin anew at `restarts`, see
    `Settings.restarts`. Raises ValueError for an unknown name and for a number outside its range.
    """
    for name, wanted in asked_of(OptimizerSettings, Range).items():
        wanted.check(name, getattr(settings, name))
    if not 0 <= settings.momentum < 1:
        raise ValueError(f"momentum is {settings.momentum}; it must be at least 0 and less than 1")
    methods = {
        "adam": lambda: optax.scale_by_adam(),
        "sgd": lambda: optax.trace(settings.momentum),
        "rmsprop": lambda: optax.scale_by_rms(),
        "adagrad": lambda: optax.scale_by_rss(),
        "adadelta": lambda: optax.scale_by_adadelta(),
    }
    check_choice("optimizer", settings.name, methods)
    begins, ends = [0, *(at for at, _ in restarts)], [*(planned for _, planned in restarts), epochs]
    rates = [rate(settings, end - begin, steps) for begin, end in zip(begins, ends, strict=True)]
    whole = optax.join_schedules(rates, [begin * steps for begin in begins[1:]]) if restarts else rates[0]
    parts = [optax.clip_by_global_norm(settings.clip)] if settings.clip is not None else []
    parts.append(methods[settings.name]())
    if settings.weight_decay:
        parts.append(optax.add_decayed_weights(settings.weight_decay, mask=is_weight))
    return optax.chain(*parts, optax.scale_by_learning_rate(whole))


def rate(settings: OptimizerSettings, epochs: int, steps: int) -> optax.Schedule:
    """The learning rate of each update: the warm-up and the schedule of a run of `epochs` epochs of `steps` steps.

    Raises ValueError for an unknown schedule, and unless the warm-up is shorter than the run.
    """
    total = epochs * steps
    if not 0 <= settings.warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs is {settings.warmup_epochs}; the run has {counted(epochs, 'epoch')}")
    warm = warm_steps(settings, total, steps)
    rest = total - warm
    schedules = {
        "constant": lambda: optax.constant_schedule(settings.lr),
        "cosine": lambda: optax.cosine_decay_schedule(settings.lr, rest),
        "linear": lambda: optax.linear_schedule(settings.lr, 0.0, rest),
        "exponential": lambda: optax.exponential_decay(settings.lr, rest, 0.01),
    }
    check_choice("schedule", settings.schedule, schedules)
    after = schedules[settings.schedule]()
    return optax.join_schedules([optax.linear_schedule(0.0, settings.lr, warm), after], [warm]) if warm else after


def of_length(settings: OptimizerSettings, lengths: tuple[int, int], steps: int) -> str:
    """The option by which runs of these two lengths, in epochs, have different learning rates; "" if there is none."""
    if settings.schedule != "constant":
        return f"schedule={settings.schedule}"
    warm = {warm_steps(settings, epochs * steps, steps) for epochs in lengths}
    return f"warmup_epochs={settings.warmup_epochs:g}" if len(warm) > 1 else ""


def of_examples(settings: Settings) -> str:
    """The setting by which learning depends on the number of training examples; "" if there is none."""
    if "examples" in inspect.signature(ALGORITHMS[settings.algorithm]).parameters:
        return f"algorithm={settings.algorithm}"
    if settings.optimizer.schedule != "constant":
        return f"schedule={settings.optimizer.schedule}"
    return f"warmup_epochs={settings.optimizer.warmup_epochs:g}" if settings.optimizer.warmup_epochs else ""


def warm_steps(settings: OptimizerSettings, total: int, steps: int) -> int:
    """The number of updates in the learning rate's warm-up, for a run of `total` updates, `steps` in an epoch."""
    return min(round(settings.warmup_epochs * steps), total - 1)


def heads(algorithm: str, hyper: Mapping[str, Any] = {}) -> Heads:
    """The output that the algorithm's encoder must have with these options, from the annotation of its network."""
    annotation = inspect.get_annotations(ALGORITHMS[algorithm], eval_str=True).get("net")
    found = next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Heads)), Heads(1))
    option, value = found.single or ("", None)
    return found._replace(number=1) if option and hyper.get(option) == value else found


def with_map_latents(settings: Settings, shape: tuple[int, ...]) -> Settings:
    """The settings, with the size of the last maps as latents if latents is 0 and the network has no dense layers."""
    options = settings.network_options
    if settings.latents or options.get("dense", True) or settings.network != "conv" or len(shape) != 3:
        return settings
    options = defaults_of(NETWORKS["conv"]) | options
    shrunk = options["stride"] ** len(options["channels"])
    return replace(settings, latents=prod(-(-side // shrunk) for side in shape[:2]) * options["channels"][-1])


def defaults(algorithm: str) -> Defaults:
    """The algorithm's defaults on the command line."""
    return DEFAULTS.get(algorithm, Defaults("not registered"))


def network_options(algorithm: str, network: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a network: the algorithm's defaults for its own network, overridden by the given ones."""
    return {**(defaults(algorithm).network if network == heads(algorithm).network else {}), **given}


def completed(settings: Settings, examples: int, kind: DataKind, classes: int | None = None) -> Settings:
    """The settings, with every value filled in that depends on the data.

    These are the epochs, the epochs of pretraining, the likelihood, and the classes of a member whose default is a
    number of classes. The likelihood is multinomial for counted words, Gaussian or squared for values outside [0, 1],
    and the algorithm's default for others. Raises ValueError for pretraining of an encoder that another run gives.
    """
    own, hyper = defaults(settings.algorithm), dict(settings.hyper)
    if hyper.get("likelihood", "") is None:
        hyper["likelihood"] = likelihood(settings.algorithm, kind, hyper)
    start = settings.start_from
    if start is not None and "pretrain_epochs" in hyper and "encoder" in (start.get("groups") or ["encoder"]):
        if hyper["pretrain_epochs"]:
            raise ValueError(
                f"pretrain_epochs={hyper['pretrain_epochs']} has no effect with --from, whose encoder stands in for "
                "pretraining: leave it out, or give 0"
            )
        hyper["pretrain_epochs"] = 0
    if hyper.get("pretrain_epochs", 0) is None:
        hyper["pretrain_epochs"] = own.epochs(examples, pretraining.BATCH, own.pretraining)
    if hyper.get("classes", 0) is None and (fixed := default_classes(settings.algorithm)) is not None:
        hyper["classes"] = fixed if classes is None else classes
    epochs = own.epochs(examples, settings.batch_size) if settings.epochs is None else settings.epochs
    return replace(settings, epochs=epochs, hyper=hyper)


def default_classes(algorithm: str) -> int | None:
    """The default of an algorithm's argument `classes`; None if it is None, or if there is no such argument."""
    parameter = inspect.signature(ALGORITHMS[algorithm]).parameters.get("classes")
    return None if parameter is None else parameter.default


def likelihood(algorithm: str, kind: DataKind, hyper: Mapping[str, Any] = {}) -> str:
    """The default of an algorithm's option `likelihood`, for a kind of data and these other hyperparameters."""
    parameters = inspect.signature(ALGORITHMS[algorithm]).parameters
    unit = defaults(algorithm).hyper.get("likelihood", parameters["likelihood"].default)
    real = "gaussian" if heads(algorithm, hyper).number == 2 else "squared"  # a bound on log p(x) needs a probability
    return {"words": "multinomial", "unit": unit, "real": real}[kind]


def with_levels(settings: Settings) -> dict[str, Any]:
    """The hyperparameters; if the settings give levels, the likelihood with these levels replaces its name.

    Raises ValueError for a likelihood without levels, and for an algorithm without a likelihood.
    """
    if (levels := settings.likelihood_levels) is None:
        return settings.hyper
    if "likelihood" not in settings.hyper:
        raise ValueError(
            f"likelihood_levels={levels} has no effect: {settings.algorithm} takes no likelihood; leave it out"
        )
    return settings.hyper | {"likelihood": named(settings.hyper["likelihood"], levels)}


def outputs_of(hyper: Mapping[str, Any]) -> int:
    """How many numbers a decoder emits for each number of x, by the likelihood in these hyperparameters."""
    given = hyper.get("likelihood")
    return (given if isinstance(given, Likelihood) else named(given)).outputs if given else 1


def build(settings: Settings, shape: tuple[int, ...], examples: int, given: Params | None = None) -> Algorithm:
    """The algorithm on its network, for examples of that shape and number.

    Its `init` begins with the `given` groups of params. Options without effect are ignored, because older runs have
    some; `check_options` refuses them in new settings. Raises ValueError for an unknown name, an option that the
    algorithm or network does not have, and a network that does not fit the algorithm.
    """
    check_choice("algorithm", settings.algorithm, ALGORITHMS)
    check_choice("network", settings.network, NETWORKS)
    make, make_net = ALGORITHMS[settings.algorithm], NETWORKS[settings.network]
    _known(settings.hyper, make, f"the algorithm {settings.algorithm}")
    _known(settings.network_options, make_net, f"the network {settings.network}")
    wanted = heads(settings.algorithm, settings.hyper)
    options = settings.network_options
    if wanted.activation != "linear":  # the default activation of the algorithm's codes
        if "code_activation" not in inspect.signature(make_net).parameters:
            raise ValueError(
                f"{settings.algorithm} needs {wanted.activation} codes, which the network {settings.network} cannot "
                "give: choose another network"
            )
        options = {"code_activation": wanted.activation} | options
    hyper = with_levels(settings)
    if (outputs := outputs_of(hyper)) != 1:
        if "outputs" not in inspect.signature(make_net).parameters:
            raise ValueError(
                f"likelihood {settings.hyper['likelihood']} needs {outputs} outputs for each number of x, which the "
                f"network {settings.network} cannot give: choose mlp, conv or conv1d"
            )
        options = options | {"outputs": outputs}
    with plugins.named(settings.network):
        net: Autoencoder = make_net(shape, settings.latents, heads=wanted.number, **used(make_net, options))
    _check_made(f"the network {settings.network}", net, Autoencoder)
    if given:
        net = trained(net, given)
    if settings.noise is not None and (net.corrupt is not None or settings.algorithm == "denoising"):
        raise ValueError("denoising corrupts its input already: use its corruption and level, not noise")
    steps = -(-examples // settings.batch_size)
    if (epochs := settings.epochs) is None:
        raise ValueError("epochs is None: give a number, or complete the settings for the data by settings.completed")

    # The schedule is planned for the updates of the run. Pretraining, in `init`, has updates of its own.
    steady = replace(settings.optimizer, schedule="constant", warmup_epochs=0.0)
    pretrains = steady != settings.optimizer and bool(hyper.get("pretrain_epochs"))

    def on(net: Autoencoder) -> Algorithm:
        noisy = net if settings.noise is None else corrupted(net, corruption(settings.noise, settings.noise_level))
        size = {"examples": examples} if "examples" in inspect.signature(make).parameters else {}
        by = lambda optimizer: make(noisy, optimizer, **used(make, hyper), **size)
        with plugins.named(settings.algorithm):
            made = by(optimizer(settings.optimizer, epochs, steps, settings.restarts))
            init = by(optimizer(steady, 1, 1)).init if pretrains else None
        _check_made(f"the algorithm {settings.algorithm}", made, Algorithm)
        made = made._replace(init=init or made.init)
        return made._replace(init=stages.resume(made.init, given)) if given else made

    check_choice("precision", settings.precision, get_args(PrecisionName))
    if settings.precision == "float32":
        return on(net)
    # Only learning is in low precision: metrics, samples and exports stay in float32, so runs can be compared.
    return on(net)._replace(rule=on(rounded(net, jnp.dtype(settings.precision))).rule)


def check_options(settings: Settings, shape: tuple[int, ...]) -> None:
    """Raises ValueError for an option that has no effect with the other options or on examples of that shape.

    Defaults are not refused. It is for settings that a user gives; `build` takes those of older runs.
    """
    if "grey" in (settings.noise, settings.hyper.get("corruption")) and shape[-1] == 1:
        raise ValueError(f"grey takes the colour out of images, and {settings.data} has none: take another corruption")
    own = defaults(settings.algorithm)
    for make, given, spared in (
        (ALGORITHMS.get(settings.algorithm), settings.hyper, own.hyper),
        (NETWORKS.get(settings.network), settings.network_options, own.network),
        (OptimizerSettings, vars(settings.optimizer), {}),
        (Settings, vars(settings), {}),
    ):
        if make is not None:  # `build` refuses unknown names
            check_used(make, given, spared, defaults_of(make))


def check_updates(settings: Settings, examples: int) -> str:
    """A note if early stopping comes too late for the run, or "".

    Raises ValueError if a warm-up or annealing of the algorithm lasts to the run's last update or beyond it, or if the
    warm-up of the learning rate is shorter than one update.
    """
    assert settings.epochs is not None  # see `completed`
    steps = -(-examples // settings.batch_size)
    total = settings.epochs * steps
    length = f"{counted(total, 'update')} ({counted(settings.epochs, 'epoch')} of {steps})"
    if 0 < settings.optimizer.warmup_epochs < settings.epochs and not warm_steps(settings.optimizer, total, steps):
        raise ValueError(
            f"warmup_epochs={settings.optimizer.warmup_epochs:g} is no update of the run, which has "
            f"{length}: give more, or leave it out"
        )
    for name, arrival in asked_of(ALGORITHMS[settings.algorithm], Updates).items():
        if (given := settings.hyper.get(name) or 0) >= total:
            raise ValueError(
                f"{name} is {given}, and the run has {length}: "
                f"no update would have {arrival.what}. Train for more epochs, or make {name} less than {total}"
            )
    if settings.patience is None or settings.patience < settings.epochs - 1:
        return ""
    return (
        f"note: patience is {settings.patience}, so no seed stops early in a run of {counted(settings.epochs, 'epoch')}"
    )


def as_recorded(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The settings `now`, in JSON's types, as the older version that recorded `before` would record them.

    Settings that the older version lacked are left out if they have their default. An algorithm keeps its older name.
    """
    plain = {f.name: f.default for f in fields(Settings)}
    kept = {k: v for k, v in now.items() if k in before or k not in plain or v != plain[k]}
    if FORMER.get(before.get("algorithm", "")) == now["algorithm"]:
        kept["algorithm"] = before["algorithm"]
    if isinstance(before.get("hyper"), dict) and now["algorithm"] in ALGORITHMS:
        usual = defaults_of(ALGORITHMS[now["algorithm"]]) | dict(defaults(now["algorithm"]).hyper)
        absent = lambda k, v: k not in before["hyper"] and k in usual and v == usual[k]
        kept["hyper"] = {k: v for k, v in now["hyper"].items() if not absent(k, v)}
    return kept


def _known(options: dict[str, Any], make: Any, what: str) -> None:
    check_names(what, options, sorted({*inspect.signature(make).parameters} - GIVEN))


def _check_made(what: str, made: Any, kind: type) -> None:
    """Raises ValueError if the function of a plugin made an object of another type."""
    if not isinstance(made, kind):
        raise ValueError(f"{what} makes {type(made).__name__}, and must make {kind.__name__}: mend its function")


def _tuples(value: Any) -> Any:
    """The value of JSON's types, with tuples in place of lists."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
