"""The log of a run for other programs: a table in CSV, and event files for TensorBoard.

Both are written from the rows of `log.jsonl`, the run's own record. For any other service
`train(..., on_epoch=function)` gives the rows, and `scalars` turns a row into named numbers.
"""

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Algorithm, Params, address
from ..data.disk import CSV_LOG, EVENTS, write_atomically
from ..errors import RunError
from . import devices
from .run_folder import Folder, append

LogName = Literal["csv", "tensorboard"]
TIMES = 20  # a run logs pictures and histograms after about so many epochs, the first and the last included
SHOWN = 16  # examples of a picture, and units with a histogram of their own
CODED = 1000  # examples, at most, whose codes the histograms count


class Examples(NamedTuple):
    """The algorithm and the examples of TensorBoard's pictures and histograms."""

    algorithm: Algorithm  # in the units of the data
    x: np.ndarray  # held-out examples [N, *shape], in the units of the data
    pixels: bool = True  # whether values lie in [0, 1], so that images of examples can be shown


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """A row of the log as named numbers: "seconds", "train/loss", "validation/loss".

    In a run of several seeds the metrics of seed number i, counted from 0, are "train/loss/i". Metrics of a seed that
    failed or stopped are left out.
    """
    found = {}
    for name, value in row.items():
        if not isinstance(value, Mapping):
            found[name] = value
            continue
        for metric, values in value.items():
            ends = [""] if len(values) == 1 else [f"/{i}" for i, _ in enumerate(values)]
            found |= {f"{name}/{metric}{end}": v for end, v in zip(ends, values, strict=True) if v is not None}
    return found


def of_seed(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A row of the log with the metrics of one seed alone."""
    return {name: {k: [v[index]] for k, v in x.items()} if isinstance(x, Mapping) else x for name, x in row.items()}


def columns(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[str]:
    """The names of the columns of `table`."""
    names = (name for row in rows for i, _ in enumerate(seeds) for name in scalars(of_seed(row, i)))
    return list(dict.fromkeys(["epoch", "seed", *names]))


def table(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], names: Sequence[str]) -> str:
    """The rows as CSV, a line for each epoch and seed; the metrics of a seed that failed or stopped are empty."""
    numbers = [{"seed": seed} | scalars(of_seed(row, i)) for row in rows for i, seed in enumerate(seeds)]
    return "".join(_line([found.get(name, "") for name in names]) for found in numbers)


def _line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def check_kinds(kinds: Sequence[LogName]) -> None:
    """Raises RunError where a log needs a library that is missing."""
    if "tensorboard" in kinds:
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise RunError(
                "--log tensorboard needs tensorboardX, which is not installed: pip install tensorboardX, or the extra "
                "ae-jax[tensorboard]"
            ) from None


class Hooks(NamedTuple):
    """The arguments of `train` that write logs."""

    on_epoch: Callable[[dict[str, Any]], None] | None = None
    on_params: Callable[[int, Params], None] | None = None


@contextlib.contextmanager
def opened(
    kinds: Sequence[LogName], folder: Folder, seeds: Sequence[int], epochs: int, examples: Examples
) -> Iterator[Hooks]:
    """Gives the hooks that write the logs of a run in its folder, and closes the logs when the block ends.

    The rows that log.jsonl has from earlier calls are written, too. Raises RunError if a library is missing.
    """
    check_kinds(kinds)
    with contextlib.ExitStack() as stack:
        hooks, on_params, begun = [], None, False
        if "csv" in kinds:
            hooks.append(_table(folder, seeds))
        if "tensorboard" in kinds:
            of_row, on_params = _events(folder, seeds, epochs, examples, stack)
            hooks.append(of_row)

        def on_epoch(row: dict[str, Any]) -> None:
            nonlocal begun
            begun = True
            for hook in hooks:
                hook(row)

        yield Hooks(on_epoch if hooks else None, on_params)
        if not begun and devices.first() and (rows := folder.log()):  # a finished run
            on_epoch(rows[-1])


def _table(folder: Folder, seeds: Sequence[int]) -> Callable[[dict[str, Any]], None]:
    """A hook that writes log.csv: the whole file at its first row, then a line for each seed and row."""
    names: list[str] = []

    def on_epoch(row: dict[str, Any]) -> None:
        path = folder.path / CSV_LOG
        if names:
            return append(path, table([row], seeds, names))
        rows = [*(earlier for earlier in folder.log() if earlier["epoch"] < row["epoch"]), row]
        names.extend(columns(rows, seeds))
        write_atomically(path, (_line(names) + table(rows, seeds, names)).encode())

    return on_epoch


def _events(
    folder: Folder, seeds: Sequence[int], epochs: int, examples: Examples, stack: contextlib.ExitStack
) -> tuple[Callable[[dict[str, Any]], None], Callable[[int, Params], None]]:
    """Hooks that write TensorBoard's event files, a folder a seed; pictures and histograms are of the first seed."""
    from tensorboardX import SummaryWriter

    algorithm, x = examples.algorithm, np.asarray(examples.x)
    shown, coded = spread(x, SHOWN), spread(x, CODED)
    images = examples.pixels and x.ndim == 4 and x.shape[-1] in (1, 3)
    encode, reconstruct = jax.jit(algorithm.encode), jax.jit(algorithm.reconstruct)
    sample = None if algorithm.sample is None else jax.jit(algorithm.sample, static_argnums=2)
    key, every = address(jax.random.key(seeds[0]), "log"), -(-epochs // TIMES)
    writers: list[Any] = []

    def begin(e: int) -> None:
        """Opens the files. TensorBoard drops the entries of an earlier call from epoch e on."""
        if writers:
            return
        places = [folder.path / EVENTS / f"seed-{seed}" for seed in seeds]
        new = not any(place.exists() for place in places)
        for place in places:
            name = f".{e:08d}"  # tensorboardX names files by the second, and writes over a file of the same second
            writers.append(SummaryWriter(str(place), purge_step=e, flush_secs=10, filename_suffix=name))
            stack.callback(writers[-1].close)
        for row in folder.log() if new else ():
            if row["epoch"] < e:
                write(row)

    def write(row: dict[str, Any]) -> None:
        for i, writer in enumerate(writers):
            for name, value in scalars(of_seed(row, i)).items():
                if name != "epoch":
                    writer.add_scalar(name, value, row["epoch"])

    def on_epoch(row: dict[str, Any]) -> None:
        begin(row["epoch"])
        write(row)

    def on_params(e: int, params: Params) -> None:
        if e not in (1, epochs) and e % every:
            return
        begin(e)
        own = jax.tree.map(lambda a: jnp.asarray(a[0]), params)
        codes = np.asarray(encode(own, coded))
        if not np.isfinite(codes).all():
            return
        writers[0].add_histogram("codes/all", codes.ravel(), e)
        for k in range(min(SHOWN, codes.shape[1])):
            writers[0].add_histogram(f"codes/unit {k}", codes[:, k], e)
        if images and algorithm.decodes:
            rows = [side_by_side(shown), side_by_side(np.asarray(reconstruct(own, shown)))]
            writers[0].add_image("reconstructions", np.concatenate(rows), e, dataformats="HWC")
            if sample is not None:
                made = side_by_side(np.asarray(sample(own, key, SHOWN)))
                writers[0].add_image("samples", made, e, dataformats="HWC")

    return on_epoch, on_params


def side_by_side(x: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] in a row, small ones with s x s pixels for each pixel: uint8 [s H, s N W, C]."""
    row = np.round(255 * np.clip(np.nan_to_num(np.concatenate(list(x), axis=1)), 0, 1)).astype(np.uint8)
    scale = max(1, 64 // len(row))
    return row.repeat(scale, 0).repeat(scale, 1)


def spread(x: Any, most: int) -> np.ndarray:
    """At most `most` of the examples, evenly spaced, since a set may be sorted by class."""
    return np.asarray(x[np.linspace(0, len(x) - 1, min(most, len(x))).astype(int)])
