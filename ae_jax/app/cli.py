"""The command line, `python -m ae_jax` or `ae-jax`: its commands and their errors. The options of `train` are in
`flags`.
"""

import functools
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..errors import RunError, counted, tracebacks, warn
from .flags import as_flags, check_numbers, parse, settings_of

USAGE = """usage: ae-jax COMMAND [options]

Autoencoders in JAX: train one, look at it, use it.

  train ALGORITHM              train on a data set, with one seed or many at once, and write a report;
                               train --config FILE takes the settings of a file, such as a run's config.json
  evaluate WORKDIR             every metric of every seed again, on the same data or another source
  encode WORKDIR IN OUT        codes of examples
  decode WORKDIR IN OUT        examples of codes
  sample WORKDIR OUT           new examples, of a generative model or by a fitted sampler
  traverse WORKDIR OUT         a picture of each unit of the code, the most used first
  interpolate WORKDIR A B OUT  a picture of the codes between two examples
  report WORKDIR               write report.html again
  runs [FOLDER]                the runs below a folder, the newest first, and how far each came
  sweep ALGORITHM              a run for each combination of settings, or for some at random, and their comparison
  compare RUN RUN ...          settings, metrics and curves of several runs, with differences by seed
  export WORKDIR OUT           encoder and decoder as StableHLO, usable without this package
  index WORKDIR DATA INDEX     codes of many examples, to search
  search INDEX QUERY           the nearest codes to an image, a document or an array
  restore WORKDIR IN OUT       images of any size, denoised, filled in or sharpened
  score WORKDIR IN OUT         how unusual each example is
  impute WORKDIR IN OUT        missing values filled in
  project WORKDIR [OUT]        codes, labels and pictures for the Embedding Projector
  list                         algorithms, networks, data and metrics, a line each

ae-jax --version tells the versions and the device that results depend on.
ae-jax --plugin FILE COMMAND ... adds the members and networks of a Python file of yours.
ae-jax COMMAND --help lists the options of a command. To begin:
  ae-jax train vae --data digits --epochs 100 --seeds 5
"""


def train(arguments: list[str]) -> None:
    """ae-jax train ALGORITHM [options]."""
    from ..algorithms import ALGORITHMS, FORMER
    from ..training.settings import defaults

    lines = "\n".join(f"  {name:<20}{summary(make)}" for name, make in ALGORITHMS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: ae-jax train ALGORITHM [options]\n       ae-jax train --config FILE [options]\n")
        print(f"algorithms:\n{lines}\n\nae-jax train ALGORITHM --help lists its options.")
        return
    usage = "ae-jax train --config FILE"
    arguments, file = with_value(arguments, "--config", usage)
    if with_value(arguments, "--config", usage)[1] is not None:
        raise ValueError(f"--config is given twice: a run has the settings of one file, {usage}")
    named = bool(arguments) and not arguments[0].startswith("-")
    config = None
    if file is not None:
        from . import config as configs

        config = configs.read(Path(file), FORMER.get(arguments[0], arguments[0]) if named else None)
        arguments = [config.algorithm, *config.flags, *arguments[named:]]
    name, *rest = arguments
    name = algorithm_of(name, "train")
    make = ALGORITHMS[name]
    text = (inspect.getdoc(make) or "").split("Args:")[0].strip()
    description = f"{summary(sys.modules[make.__module__])}\n\n{text}\n\nDefaults: {defaults(name).why}"
    try:
        parsed = parse(name, rest, prog=f"ae-jax train {name}", description=description)
    except SystemExit as stop:
        if config is not None and stop.code:
            print(f"note: values of {file} are taken as flags; one of them may be the one above", file=sys.stderr)
        raise

    from ..training import devices, loop
    from .commands import training

    settings, options = settings_of(name, parsed), parsed.run
    if config is not None:
        own = config.seeds if options.seeds is None and options.seed is None else ()
        start = settings.start_from or config.start_from
        settings = replace(settings, seeds=own or settings.seeds, restarts=config.restarts, start_from=start)
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
        restart_schedule=options.restart_schedule,
        mesh=devices.layout(options.parallel, len(settings.seeds), options.devices),
        log=options.log,
    )
    if failed := results.get("failed"):
        raise RunError(f"{loop.failures(failed)}; the numbers above are of the other seeds")
    if results and not (workdir / "report.html").exists():
        raise RunError(f"{workdir} has no report; its results.json is whole")


def algorithm_of(name: str, command: str) -> str:
    """The present name of an algorithm, given as the first word of a command. Raises ValueError for an unknown one."""
    import difflib

    from ..algorithms import ALGORITHMS, FORMER

    name = FORMER.get(name, name)
    if name in ALGORITHMS:
        return name
    lines = "\n".join(f"  {name:<20}{summary(make)}" for name, make in ALGORITHMS.items())
    if name.startswith("-"):
        raise ValueError(
            f"the algorithm comes first: ae-jax {command} ALGORITHM {name} ...; the algorithms are\n{lines}"
        )
    near = difflib.get_close_matches(name, ALGORITHMS, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(f"the algorithm {name!r} is not known.{hint} The algorithms are\n{lines}")


def sweep(arguments: list[str]) -> None:
    """ae-jax sweep ALGORITHM --grid NAME=VALUE,... [options]."""
    from .commands import sweeping

    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        print(sweeping.HELP, end="")
        return
    name = algorithm_of(arguments[0], "sweep")
    asked, rest = sweeping.asked_of(arguments[1:])
    cells, options = sweeping.planned(name, asked, rest)

    from ..training import devices

    if options.coordinator is not None:
        raise ValueError("a sweep runs in one process: leave --coordinator out, or train its runs by ae-jax train")
    if options.config is not None:
        raise ValueError("a sweep takes no --config: give the settings of that file as flags")
    if options.parallel != "none":
        devices.of_cores(options.devices)
    sweeping.sweep(
        cells,
        options.workdir or sweeping.default_workdir(cells),
        [*asked.grids, *asked.ranges],
        every_epochs=options.every_epochs,
        every_minutes=options.every_minutes,
        keep=options.keep,
        samples=options.likelihood_samples,
        quiet=options.quiet,
        restart_schedule=options.restart_schedule,
        log=options.log,
        mesh=devices.layout(options.parallel, len(cells[0].settings.seeds), options.devices),
    )


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
        samples: importance samples for the log-likelihood of the variational members; 100 by default.
        out: a JSON file for the results.
        quiet: show nothing but errors.
    """
    from .commands import measuring

    results = measuring.evaluate(workdir, data, samples, quiet, out)
    if not quiet:
        print(results["data"])
        print(measuring.table(results))


def encode(
    workdir: Path,
    source: str,
    out: Path,
    /,
    *,
    seed: int | None = None,
    resize: bool = False,
    symbols: bool = False,
    part: Literal["train", "validation", "test"] | None = None,
) -> None:
    """Turn examples into codes.

    Args:
        workdir: folder of the run.
        source: a folder of images (or, for documents, of text files), one such file, a table, a .npy or .npz file, or
            a data set's name.
        out: .npy file to write, [N, K]; or .npz, which has names and labels of the examples beside the codes; or .csv,
            a line for each example; or .symbols, for --symbols.
        seed: one of the run's seeds; the first by default.
        resize: scale images to the run's size, after its own crop; transparent pixels become white.
        symbols: write the symbols of a discrete code, such as that of vq_vae, in as few bits as they need.
        part: the part of the data to encode, read and split as in training; by default the test part of a data set or
            of a .npz file with parts, and every example of a folder or an array.
    """
    from .commands import coding

    if symbols:
        return print(coding.encode_symbols(workdir, source, out, seed, resize, part)[1])
    print(f"{coding.encode(workdir, source, out, seed, resize, part).shape} codes written to {out}")


def decode(workdir: Path, source: str, out: Path, /, *, seed: int | None = None) -> None:
    """Turn codes into examples.

    Args:
        workdir: folder of the run.
        source: a .npy or .npz file of codes [N, K], a .csv that encode wrote, or a .symbols file.
        out: .npy or .npz file to write, a .csv for rows of a table, or a .png of images or of a table.
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
    draws: bool = False,
    sampler: Literal["normal", "gaussian", "gmm", "maf"] | None = None,
) -> None:
    """Draw new examples from a generative model: for each drawn code the mean of x, or with --draws a draw of x.

    With --sampler any member with a decoder generates examples: their codes are drawn from a distribution that is
    fitted to the codes of the training data. WORKDIR/samplers keeps the fit. The report compares fitted samplers.

    Args:
        workdir: folder of the run.
        out: .npy or .npz file to write, a .csv for rows of a table, or a .png of images or of a table.
        n: the number of examples.
        seed: one of the run's seeds; the first by default.
        key: seed of the draw.
        draws: draw x from p(x | z), with its noise; by default write the mean, E[x | z].
        sampler: the distribution of codes: normal, N(0, I); gaussian, with the mean and covariance of the codes; gmm, a
            mixture of ten Gaussians; maf, an autoregressive flow. By default the member's own prior.
    """
    from .commands import coding

    x, kind = coding.sample(workdir, n, out, seed, key, draws, sampler)
    print(f"{x.shape} samples written to {out}: {kind}")


def traverse(
    workdir: Path,
    out: Path,
    /,
    *,
    units: int = 10,
    steps: int = 11,
    width: float = 3.0,
    example: int = 0,
    seed: int | None = None,
) -> None:
    """Draw a row for each unit of the code: a test example, decoded with other values of that unit alone.

    The most used unit comes first. The use of a unit is its KL to a prior N(0, I) where posteriors are Gaussian, else
    the variance of its codes over the test set.

    Args:
        workdir: folder of the run.
        out: .png to write; or .npz, with the decoded examples, their codes, the units and their KL or variance.
        units: number of rows, at most.
        steps: number of values of a unit.
        width: range on both sides of a unit's mean, in standard deviations of the aggregate posterior, near 1 for a
            VAE; without a posterior, in standard deviations of the codes, and within their range.
        example: number of the test example, from 0.
        seed: one of the run's seeds; the first by default.
    """
    from .commands import walking

    made = walking.traverse(workdir, out, units=units, steps=steps, width=width, example=example, seed=seed)
    print(*(f"unit {k}: {made.measure} {worth:.4g}" for k, worth in zip(made.units, made.worth, strict=True)), sep="\n")
    print(f"{made.x.shape} examples written to {out}")


def interpolate(
    workdir: Path,
    a: str,
    b: str,
    out: Path,
    /,
    *,
    steps: int = 11,
    path: Literal["straight", "spherical"] = "straight",
    seed: int | None = None,
) -> None:
    """Draw the decoded codes between two examples, and below them weighted means of the two examples themselves.

    Args:
        workdir: folder of the run.
        a: the first example: its number in the run's test set, from 0; an image or another file of one example; or
            FILE[N], example N of a file or of a data set.
        b: the last example.
        out: .png to write; or .npz, with the decoded examples and their codes.
        steps: number of codes, both ends included.
        path: straight, a line between the codes; or spherical, a great circle, which keeps the length of codes. Draws
            of N(0, I) have nearly equal lengths.
        seed: one of the run's seeds; the first by default.
    """
    from .commands import walking

    x = walking.interpolate(workdir, a, b, out, steps=steps, path=path, seed=seed)
    print(f"{x.shape} examples written to {out}")


def report(workdir: Path, /, *, data: str | None = None) -> None:
    """Write report.html and its pictures again.

    Args:
        workdir: folder of the run.
        data: the new place of the run's data, if they have moved.
    """
    from .commands import reporting

    print(reporting.make_report(workdir, data))


def runs(folder: Path = Path("runs"), /) -> None:
    """List the runs below a folder, the newest first: member, data, seeds, state and one metric.

    Args:
        folder: holds the runs, at any depth; by default runs.
    """
    from .commands import listing

    print(listing.runs(folder))


def compare(runs: tuple[Path, ...], /, *, out: Path = Path("comparison")) -> None:
    """Compare runs: settings that differ, metrics with intervals, differences paired by seed, and times.

    Differences are from the first run. The page shows each metric's curves of all runs in one chart, and
    reconstructions of the same examples.

    Args:
        runs: folders of two runs or more, or of a sweep, which stands for its runs.
        out: folder for compare.html and compare.csv.
    """
    from .commands import comparing

    found, files = comparing.compare(runs, out)
    print(comparing.text(found), *files, sep="\n")


def export(workdir: Path, out: Path, /, *, seed: int | None = None, saelens: bool = False) -> None:
    """Write encoder and decoder as StableHLO, with the parameters inside and the batch size open.

    Args:
        workdir: folder of the run.
        out: folder to write to.
        seed: one of the run's seeds; the first by default.
        saelens: write instead the files in which SAELens keeps a dictionary, cfg.json and sae_weights.safetensors.
    """
    from .commands import coding

    print("\n".join(map(str, (coding.export_saelens if saelens else coding.export)(workdir, out, seed))))


def index(
    workdir: Path,
    source: str,
    out: Path,
    /,
    *,
    seed: int | None = None,
    resize: bool = False,
    part: Literal["train", "validation", "test"] | None = None,
) -> None:
    """Make an index of examples' codes, to search without the run.

    Args:
        workdir: folder of the run.
        source: a folder of images (or, for documents, of text files), a table, a .npy or .npz file, or a data set's
            name.
        out: .npz file to write.
        seed: one of the run's seeds; the first by default.
        resize: scale images, and later queries, to the run's size, after its own crop; transparent pixels become white.
        part: the part of the data to index, read and split as in training; by default as for encode.
    """
    from .commands import searching

    made = searching.make_index(workdir, source, out, seed, resize, part)
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

    An index holds the encoder as a program, and searching runs it: search only an index whose maker you trust. Its
    checksum shows damage, but does not show the maker.

    Args:
        index: file of the index.
        query: an image or a folder of images, a text file, a few words, a .npy or .npz file.
        k: the number of examples to find.
        radius: search only the codes whose bits differ from the query's in at most RADIUS places, instead of all codes.
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
    from .commands import restoring

    written, refused = restoring.restore(workdir, source, out, seed, scale)
    print(f"{len(written)} image{'s' * (len(written) != 1)} written to {written[0] if len(written) == 1 else out}")
    if refused:
        first = f"{len(refused)} of {len(written) + len(refused)} images were left out:"
        raise RunError("\n  ".join([first, *refused]))


def score(
    workdir: Path,
    source: str,
    out: Path,
    /,
    *,
    measure: Literal["error", "elbo", "log_p"] = "error",
    anomalies: tuple[str, ...] = (),
    samples: int | None = None,
    seed: int | None = None,
    key: int = 0,
) -> None:
    """Tell how unusual each example is: one score for each, beside the quantiles of the training set's scores.

    If the source has labels, the ROC AUC of the anomalies is printed, with those of an isolation forest and of PCA.

    Args:
        workdir: folder of the run.
        source: a table, a .npy or .npz file, a folder of images, or a data set's name, for its test set.
        out: .npy file to write, [N]; or .csv, with names, quantiles and labels.
        measure: error, the squared error of the reconstruction; elbo, the negative bound on log p(x); log_p, -log p(x)
            by importance sampling, or exact if the member has it.
        anomalies: the classes of the labels that are anomalies; by default class 1 of two.
        samples: draws of the code of each example, for elbo and log_p; 100 by default.
        seed: one of the run's seeds; the first by default.
        key: seed of the draws.
    """
    from .commands import scoring

    print("\n".join(scoring.score(workdir, source, out, measure, anomalies, samples, seed, key)))


def impute(
    workdir: Path,
    source: str,
    out: Path,
    /,
    *,
    method: Literal["reconstruction", "posterior"] | None = None,
    steps: int = 1000,
    seed: int | None = None,
    key: int = 0,
) -> None:
    """Fill in missing values, NaN in an array or empty cells of a table; the other values stay unchanged.

    Args:
        workdir: folder of the run.
        source: a table, or a .npy or .npz file.
        out: .npy, .npz or .csv file to write.
        method: reconstruction, repeated until nothing changes; or posterior, the mean over a chain of draws. The
            default is posterior for members that have one, such as vae and rbm.
        steps: number of reconstructions, at most; or of steps of the chain, after a tenth as many for burn-in.
        seed: one of the run's seeds; the first by default.
        key: seed of the chain.
    """
    from .commands import scoring

    print("\n".join(scoring.impute(workdir, source, out, method, steps, seed, key)))


def project(
    workdir: Path,
    out: Path | None = None,
    /,
    *,
    seed: int | None = None,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 2000,
    data: str | None = None,
) -> None:
    """Write codes, labels and pictures of test examples for TensorBoard's Embedding Projector.

    Args:
        workdir: folder of the run.
        out: folder to write to; by default the folder projector in the run's.
        seed: one of the run's seeds; the first by default.
        n: the number of examples.
        data: the new place of the run's data, if they have moved.
    """
    from .commands import projecting

    print("\n".join(map(str, projecting.project(workdir, out or workdir / "projector", seed, n, data))))


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


def version() -> None:
    """The versions of this package and of the packages that results depend on, and the devices that JAX finds."""
    import jax

    from .. import __version__
    from ..training import provenance

    print(f"ae-jax {__version__}")
    try:
        about = provenance.circumstances()
    except (RuntimeError, AssertionError) as error:  # JAX does not find the platform of JAX_PLATFORMS
        raise RunError(f"JAX finds no device: {as_line(error) or os.environ.get('JAX_PLATFORMS', '')}") from None
    for name, number in about["versions"].items():
        print(f"{name} {number}")
    count = len(jax.devices())
    print(f"device {about['device']}" + (f", {count} of them" if count > 1 else ""))
    if about["commit"]:
        print(f"commit {about['commit']}")


def summary(thing: Any) -> str:
    """The first sentence of a docstring, on one line."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


COMMANDS: dict[str, Callable[..., None]] = {
    "evaluate": evaluate,
    "encode": encode,
    "decode": decode,
    "sample": sample,
    "traverse": traverse,
    "interpolate": interpolate,
    "report": report,
    "runs": runs,
    "compare": compare,
    "export": export,
    "index": index,
    "search": search,
    "restore": restore,
    "score": score,
    "impute": impute,
    "project": project,
    "list": list_,
}


def without_plugins(arguments: list[str]) -> list[str]:
    """The arguments without --plugin FILE; loads each such file. Raises ValueError for a missing or invalid file."""
    while True:
        arguments, file = with_value(arguments, "--plugin", "ae-jax --plugin FILE COMMAND ...")
        if file is None:
            return arguments
        from ..training import plugins

        plugins.load(file)


def with_value(arguments: list[str], flag: str, usage: str) -> tuple[list[str], str | None]:
    """(the arguments without the first such flag and its file, the file or None). Raises ValueError without a file."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return [*arguments[:i], *arguments[i + 1 :]], argument.partition("=")[2]
        if argument == flag:
            if i + 1 == len(arguments):
                raise ValueError(f"{flag} wants a file: {usage}")
            return [*arguments[:i], *arguments[i + 2 :]], arguments[i + 1]
    return arguments, None


def dispatch(arguments: list[str]) -> None:
    """Runs one command, and raises its errors."""
    arguments = without_plugins(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    if arguments[0] == "--version":
        return version()
    command, *rest = arguments
    own = {"train": train, "sweep": sweep}  # their options depend on the algorithm
    if command not in own and command not in COMMANDS:
        raise ValueError(f"the command {command!r} is not known; the commands are {', '.join([*own, *COMMANDS])}")
    try:
        if command in own:
            return own[command](rest)
        tyro.cli(named_positions(COMMANDS[command]), prog=f"ae-jax {command}", args=rest)
    except Exception as error:
        if (plugins := sys.modules.get("ae_jax.training.plugins")) is not None:
            plugins.tell_place(error)
        raise


def named_positions(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with a help that shows positional arguments by name, such as WORKDIR, instead of by type, PATH."""

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
    del call.__wrapped__  # else tyro reads the annotations of the wrapped function
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return call


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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit fails again
        sys.exit(128 + signal.SIGPIPE)
    except signals.Interrupted as stop:
        warn(stop)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        warn("Interrupted.")
        devices.exit_process(130, at_once=True)  # an ordinary exit would wait for the running computation
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
