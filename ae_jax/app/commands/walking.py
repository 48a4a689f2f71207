"""Pictures of walks through codes: the commands `traverse` and `interpolate`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ... import data
from ...data import ranges
from ...data.disk import suffix, written
from ...errors import RunError, counted
from ...evaluation import aggregate, walks
from .. import plots
from ..files import check_output, check_suffix
from . import examples, runs
from .runs import in_chunks

SEEN = 2000  # test examples, at most, for the KL or variance of units
WRITES = (".png", ".npz")
Way = Literal["straight", "spherical"]


class Traversal(NamedTuple):
    """Walks through the code, one unit at a time, and their decoded examples."""

    x: np.ndarray  # [U, T, *shape]
    codes: np.ndarray  # [U, T, K]
    units: np.ndarray  # [U], counted from 0, the most used first
    worth: np.ndarray  # [U], their KL in nats or variance
    measure: str  # "KL" or "variance"


def traverse(
    workdir: Path,
    out: Path,
    *,
    units: int = 10,
    steps: int = 11,
    width: float = 3.0,
    example: int = 0,
    seed: int | None = None,
) -> Traversal:
    """Decodes the code of a test example with `steps` values of one unit at a time, see `walks.units`.

    Writes the `units` most used units as rows of a .png, or as arrays of a .npz.
    """
    for name, value, least in (("--units", units, 1), ("--steps", steps, 2), ("--example", example, 0)):
        if value < least:
            raise RunError(f"{name} is {value}; it must be at least {least}")
    if not 0 < width < np.inf:
        raise RunError(f"--width is {width}; it must be positive and finite")
    opened = _opened(workdir, out, seed)
    x = _test(opened)
    if example >= len(x):
        raise RunError(f"--example is {example}, and the test set has {counted(len(x), 'example')}, from 0")
    algorithm, params = opened.algorithm, opened.params
    seen = x[np.unique(np.linspace(0, len(x) - 1, min(SEEN, len(x))).astype(int))]
    codes = in_chunks(algorithm.encode, params, seen)
    stats = None if algorithm.moments is None else in_chunks(algorithm.moments, params, seen)
    log_prior = getattr(algorithm.prior, "log_prob", None)
    standard = log_prior is not None and aggregate.is_standard(log_prior, params, codes.shape[1])
    found = walks.units(codes, stats, width, by_kl=standard)
    chosen = found.order[:units]
    base = in_chunks(algorithm.encode, params, x[example : example + 1])[0]
    walked = [walks.along(base, k, np.linspace(found.low[k], found.high[k], steps)) for k in chosen]
    codes = np.stack(walked).astype(np.float32)
    measure = "KL" if found.by_kl else "variance"
    decoded = _decoded(opened, codes)
    made = Traversal(x=decoded, codes=codes, units=chosen, worth=found.worth[chosen], measure=measure)
    rows = [f"{k}: {measure} {made.worth[i]:.2g}" for i, k in enumerate(chosen)]
    _write(opened, out, made.x, rows, codes=codes, units=chosen, worth=made.worth, measure=np.array(measure))
    return made


def interpolate(
    workdir: Path,
    a: str,
    b: str,
    out: Path,
    *,
    steps: int = 11,
    path: Way = "straight",
    seed: int | None = None,
) -> np.ndarray:
    """Decoded codes [steps, *shape] between two examples, whose names are as in `example_of`.

    A second row has weighted means of the two examples themselves. Writes both rows to a .png, or to a .npz with the
    codes.
    """
    if steps < 2:
        raise RunError(f"--steps is {steps}; it must be at least 2")
    opened = _opened(workdir, out, seed, *(_parts(name)[0] for name in (a, b)))
    ends = np.stack([example_of(opened, name) for name in (a, b)])
    codes = in_chunks(opened.in_data_units.encode, opened.params, ends)
    walk: Callable[..., np.ndarray] = {"straight": walks.straight, "spherical": walks.spherical}[path]
    try:
        walked = walk(codes[0], codes[1], steps)
    except ValueError as error:
        raise RunError(f"--path {path}: {error}") from None
    x = _decoded(opened, walked[None])
    blended = np.stack([(1 - t) * ends[0] + t * ends[1] for t in np.linspace(0, 1, steps)])
    below = "pixels" if plots.is_image(opened.shape) else "values"
    _write(opened, out, np.concatenate([x, blended[None]]), ["codes", below], codes=walked, ends=ends)
    return x[0]


def example_of(opened: runs.OpenRun, name: str) -> np.ndarray:
    """The example [*shape] of a name: the number of a test example, a name as `encode` writes it, or a file of one.

    `encode` writes FILE[3], or FILE train[3] for a part. Raises RunError if the name stands for no or several examples.
    """
    if re.fullmatch(r"-?\d+", name):
        x, place = _test(opened, in_data_units=True), int(name)
        if not 0 <= place < len(x):
            raise RunError(f"{name} is no test example: the run's test set has {counted(len(x), 'example')}, from 0")
        return x[place]
    source, part, at = _parts(name)
    known = data.is_name(source, opened.settings.data_options.get("data_dir")) or data.expanded(source).exists()
    if source.isalnum() and not known and not opened.vocabulary:
        raise RunError(
            f"{name} is no example: give the number of a test example, a row of a file as FILE[3], or a file of one"
        )
    found = examples.read(opened, source, part=part)
    if at is not None:
        written_as = {text: i for i, text in enumerate(found.names)}
        place = written_as.get(name, int(at))
        if place >= len(found.x):
            raise RunError(f"{name}: {source} has {counted(len(found.x), 'example')}, counted from 0")
        return found.x[place]
    if len(found.x) != 1:
        raise RunError(f"{name} has {counted(len(found.x), 'example')}: name one, such as {name}[0]")
    return found.x[0]


def _parts(name: str) -> tuple[str, Any, int | None]:
    """The source, the part and the row in the name of an example; None for a part or a row that it does not have."""
    if found := re.fullmatch(r"(.+?)(?: (train|validation|test))?\[(\d+)\]", name, re.DOTALL):
        return found[1], found[2], int(found[3])
    return name, None, None


def _opened(workdir: Path, out: Path, seed: int | None, *sources: str) -> runs.OpenRun:
    """The run, after the checks of the output."""
    check_suffix(out, WRITES)
    check_output(out, *sources)
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    runs.check_decodes(opened, workdir, "train another member, such as vae")
    if opened.vocabulary and suffix(out) == ".png":
        raise RunError(f"{workdir} learned from documents, which have no pictures: write to a .npz")
    return opened


def _test(opened: runs.OpenRun, in_data_units: bool = False) -> np.ndarray:
    """The run's test examples, in the units of learning or of the data."""
    x = np.asarray(runs.load_own(opened).test.x)
    return np.asarray(ranges.undo(opened.standard, x)) if in_data_units else x


def _decoded(opened: runs.OpenRun, codes: np.ndarray) -> np.ndarray:
    """Codes [R, T, K] as examples [R, T, *shape], in the units of the data."""
    x = in_chunks(opened.in_data_units.decode, opened.params, codes.reshape(-1, codes.shape[-1]))
    return x.reshape(*codes.shape[:2], *x.shape[1:])


def _write(opened: runs.OpenRun, out: Path, x: np.ndarray, rows: list[str], **arrays: np.ndarray) -> None:
    """Writes rows of examples [R, T, *shape] as a picture, or as a .npz with the other `arrays`."""
    if suffix(out) == ".npz":
        with written(out) as file:
            np.savez(file, allow_pickle=False, x=x, rows=np.array(rows), **arrays)
        return
    plots.save(plots.examples(opened.drawable(x), rows=rows, named=opened.columns), out)
