"""The scaffold of `experiments/`: settings, run folders, measures of many seeds at once, and the record.

    .venv/bin/python experiments/NAME.py --help    # its settings
    .venv/bin/python experiments/NAME.py
    .venv/bin/python experiments/NAME.py --full    # the paper's size, where the default is smaller

An experiment is a function `main(run, epochs: int = 10, ...)` under `@experiment(title=..., source=..., ...)`. The
decorator adds the settings of all experiments (seeds, seed, full, data, out, runs), and runs `main` if it stands last
in a script. `main` trains its arms by `run.train` or `run.each`, fills `run.metrics` with a value for each seed, or one
for all, and returns a function that draws its figure. The scaffold computes the differences that are claimed, and
writes `results/<name>.json`, or `results/<name>-full.json` with `--full`. The library does not need this file.

Arms train in run folders, `runs/<name>-<checksum of the settings>/<arm>`. The same command continues an experiment that
was stopped or killed, to the same record. The folders are removed once the record is written.
"""

import contextlib
import inspect
import io
import json
import re
import shutil
import signal
import sys
import time
import tokenize
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.app import plots
from ae_jax.app.report import explained
from ae_jax.checks import labelled
from ae_jax.core import Algorithm, Autoencoder, Batch, Key, Metrics, Optimizer, Params, address, average
from ae_jax.data import Dataset
from ae_jax.data.disk import write_json, written
from ae_jax.errors import RunError, tracebacks, warn
from ae_jax.evaluation.codes import encode
from ae_jax.evaluation.probes import fit_linear, linear_probe, predict_linear
from ae_jax.evaluation.statistics import summarise
from ae_jax.training.compiled import map_seeds
from ae_jax.training.loop import Trained, train
from ae_jax.training.provenance import checksum, circumstances, commit
from ae_jax.training.run_folder import Folder
from ae_jax.training.signals import Interrupted
from ae_jax.xla.programs import compiled

RUNS = str(Path(__file__).resolve().parents[1] / "runs")
# the settings of every experiment; "full" and "data" of those that have them
HELP = {
    "seeds": "how many runs of each arm; a seed gives all arms the same start and batches.",
    "seed": "the first of them, which the pictures show.",
    "data": "a source of `ae_jax.data.load`.",
    "out": "folder for the record.",
    "runs": "folder for the checkpoints of unfinished experiments.",
}


class Published(NamedTuple):
    """A published value to stand beside ours."""

    value: float
    where: str  # the place in the paper or repository
    tolerance: float | None = None  # |ours - published| that counts as reproduced; None: no such claim
    note: str = ""


# --------------------------------------------------------------------------------------- an experiment


class Run:
    """A running experiment: trains its arms in folders, and holds the content of its record."""

    def __init__(self, name: str, settings: dict[str, Any], folder: Path):
        self.name, self.settings, self.folder = name, settings, folder
        self.seeds = range(settings["seed"], settings["seed"] + settings["seeds"])
        self.metrics: dict[str, Any] = {}  # label -> [S]
        self.published: dict[str, Published] = {}
        self.claims: dict[str, str] = {}
        self.facts: dict[str, Any] = {}  # facts that the title and the notes name beside settings
        self.notes: list[str] = []
        self.earlier = 0.0  # seconds of the epochs and stages that stopped processes have run
        self.commits = set[str]()  # by which stopped processes began arms and computed stages
        self._began, self._arms = time.perf_counter(), set[str]()

    @property
    def seconds(self) -> float:
        """Wall time so far, with that of epochs and stages which stopped processes have run."""
        return time.perf_counter() - self._began + self.earlier

    def data(self, labels: bool = False, **options: Any) -> Dataset:
        """The dataset of the setting `data`, loaded with options of `ae_jax.data.load`.

        Raises ValueError if `labels` is asked for and an example has none.
        """
        loaded = datasets.load(self.settings["data"], **options)
        return with_labels(loaded) if labels else loaded

    def keys(self, *path: str | int) -> Key:
        """`address(jax.random.key(s), *path)` for each seed. -> [S]."""
        return keys(self.seeds, *path)

    def evaluate(self, algorithm: Algorithm, params: Params, data: Batch) -> Metrics:
        """The algorithm's own metrics, averaged over a dataset, for every seed. params [S, ...] -> each [S]."""
        return evaluate(algorithm, params, data, self.seeds)

    def place(self, arm: str) -> Path:
        """The folder of an arm. Raises ValueError if an earlier arm has this name."""
        place = re.sub(r"[^\w.=-]+", "-", arm)
        if place in self._arms:
            raise ValueError(f"two arms of {self.name} are called {arm!r}: give each a name of its own")
        self._arms.add(place)
        return self.folder / place

    def train(self, arm: str, algorithm: Algorithm, data: Batch, **how: Any) -> Trained:
        """`training.train` in the arm's folder; `how` defaults to the settings' epochs and batch size and all seeds.

        Raises RunError if another process holds the folder, or if it has a run on other data.
        """
        known = {name: self.settings[name] for name in ("epochs", "batch_size") if name in self.settings}
        how = {"seeds": self.seeds, **known, **how}
        print(f"{arm}: {len(how['seeds'])} runs of {how['epochs']} epochs", flush=True)
        folder = Folder(self.place(arm))
        size = {"seeds": list(how["seeds"]), "epochs": how["epochs"], "batch_size": how.get("batch_size")}
        with folder.opened({"arm": arm, "data": checksum((data, how.get("validation"))), **size}, keep=2):
            if folder.begun():
                self.earlier += sum(row["seconds"] for row in folder.log())
                self.commits.add(str(folder.config().get("commit")))
                print(f"  going on in {folder.path}; remove it to train anew", flush=True)
            every = max(10, how["epochs"] // 10)
            return train(algorithm, data, folder=folder, every_epochs=every, every_minutes=2, **how)

    def computed(self, stage: str, fn: Callable[..., Any], *args: Any) -> Any:
        """`fn(*args)` of a pure function, such as a mapped recipe; its result is kept in the run's folder.

        -> a pytree of arrays. For other arguments than those of the kept result, it is computed again.
        """
        path = Path(f"{self.place(stage)}.npz")
        plain = lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a
        given = checksum(jax.tree.map(plain, args))
        like = jax.tree.structure(jax.eval_shape(fn, *args))
        if path.exists():
            with np.load(path) as kept:
                if int(kept["given"]) == given and len(kept.files) == like.num_leaves + 3:
                    self.commits.add(str(kept["commit"]))
                    self.earlier += float(kept["seconds"])
                    print(f"{stage}: read from {path}; remove it to compute it anew", flush=True)
                    return like.unflatten([jnp.asarray(kept[f"leaf_{i}"]) for i in range(like.num_leaves)])
        began = time.perf_counter()
        found = fn(*args)
        path.parent.mkdir(parents=True, exist_ok=True)
        leaves: dict[str, Any] = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(found))}
        about = {"given": given, "commit": str(commit()), "seconds": time.perf_counter() - began}
        with written(path) as file:
            np.savez(file, **{name: np.asarray(value) for name, value in about.items()}, **leaves)
        return found

    def each(self, stage: str, fn: Callable[..., Any], members: Any, *shared: Any) -> Any:
        """`mapped(fn)(members, *shared)`, a seed at a time, so that a stopped experiment repeats one seed at most.

        members [S, ...] -> a pytree of NumPy arrays [S, ...].
        """
        whole, found = mapped(fn), []
        for i, s in enumerate(self.seeds):
            print(f"{stage}, seed {s}", flush=True)
            found.append(self.computed(f"{stage}, seed {s}", whole, part(members, i, i + 1), *shared))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def experiment(
    *,
    title: str,
    source: str,
    seeds: int = 3,
    data: str | None = "mnist",
    full: Mapping[str, Any] = {},
    published: Mapping[str, Published] = {},
    claims: Mapping[str, str] = {},
    notes: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., dict[str, Any]]]:
    """Makes `body(run, ...)` the `main` of an experiment, which returns the record that it writes.

    The other arguments of `body` are settings of its own, and keyword arguments of `main`; a comment behind one is its
    help at the command line, which begins with the docstring of the module. `body` returns a function that draws the
    figure, or None.

    Args:
        title: what the experiment shows, in a line; `{units}` stands for the setting or fact (`run.facts`) of
            that name, as in `notes`.
        source: the paper.
        seeds: the default number of runs of each arm.
        data: the default of `--data`; None if the experiment has no such setting.
        full: the values of `--full`, for settings that are not given; empty if the experiment has no such flag.
        published: values to stand beside those of the metrics that are measured, where the settings are the defaults
            or those of `--full`. Values that depend on other settings go to `run.published`.
        claims: metric -> what it means that the metric lies above 0, written before the run. `difference` computes a
            label that is no metric, such as "plain minus sparse, error"; with an empty text it is not claimed. Claims
            that depend on settings go to `run.claims`. With the default settings and those of `--full` every claim
            needs its metric; with others, a claim without one is left out.
        notes: what a reader should know; `run.notes` come after them.
    """

    def wrap(body: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
        keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
        own = [p.replace(kind=p.KEYWORD_ONLY) for p in list(inspect.signature(body).parameters.values())[1:]]
        parameters = [
            keyword("seeds", default=seeds, annotation=int),
            keyword("seed", default=0, annotation=int),
            *own,
            *[keyword("full", default=False, annotation=bool)] * bool(full),
            *[keyword("data", default=data, annotation=str)] * (data is not None),
            keyword("out", default="results", annotation=str),
            keyword("runs", default=RUNS, annotation=str),
        ]
        defaults = {p.name: p.default for p in parameters}
        name = Path(inspect.getfile(body)).stem

        def main(**given: Any) -> dict[str, Any]:
            if unknown := given.keys() - defaults.keys():
                raise TypeError(f"{name} has no settings {sorted(unknown)}; it has {list(defaults)}")
            settings = defaults | (dict(full) if given.get("full") else {}) | given
            out, runs = settings.pop("out"), Path(settings.pop("runs")).expanduser()  # places, which no record names
            which = json.dumps(settings, sort_keys=True)
            run = Run(name, settings, runs / f"{name}-{zlib.crc32(which.encode()):08x}")
            run.claims |= claims
            usual = all(settings[p.name] in (p.default, full.get(p.name, p.default)) for p in own)
            run.published |= published if usual and settings.get("data") == data else {}
            figure = body(run, **{p.name: settings[p.name] for p in own})
            for label in [of for of in run.claims if of not in run.metrics]:
                with contextlib.nullcontext() if usual else contextlib.suppress(ValueError):
                    run.metrics[label] = difference(run.metrics, label)
            run.claims = {of: text for of, text in run.claims.items() if text and (usual or of in run.metrics)}
            words = settings | run.facts
            if earlier := sorted(run.commits - {str(commit())}):
                run.notes.append(f"Begun by other commits before a stop: {', '.join(earlier)}.")
            row = record(
                f"{name}-full" if settings.get("full") else name,
                run.metrics,
                title=title.format(**words),
                source=source,
                settings=settings,
                seeds=run.seeds,
                seconds=run.seconds,
                published={of: value for of, value in run.published.items() if of in run.metrics},
                claims=run.claims,
                notes=[*(note.format(**words) for note in notes), *run.notes],
                figure=figure,
                out=out,
            )
            shutil.rmtree(run.folder, ignore_errors=True)
            return row

        told = ", ".join(f"{k} {' '.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in full.items())
        full_help = {"full": f"{told}, where no other value is given; writes NAME-full.json."} if full else {}
        said = HELP | full_help | helps(body)
        lines = [f"    {name}: {said[name]}" for name in defaults]
        main.__doc__ = "\n".join([inspect.cleandoc(body.__globals__["__doc__"] or ""), "", "Args:", *lines])
        main.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        main.__annotations__ = {p.name: p.annotation for p in parameters}
        main.__kwdefaults__ = defaults
        main.full = dict(full)  # pyright: ignore[reportFunctionMemberAccess]
        main.__module__ = body.__module__
        if body.__module__ == "__main__" and stands_last(body):
            command(main)
        return main

    return wrap


def stands_last(body: Callable[..., Any]) -> bool:
    """Whether a function ends its file, so that a script has defined all that it needs."""
    return Path(inspect.getfile(body)).read_text().rstrip().endswith(inspect.getsource(body).rstrip())


def helps(body: Callable[..., Any]) -> dict[str, str]:
    """The comment behind each argument of a function but its first, as a sentence; "" without one."""
    found = dict.fromkeys(list(inspect.signature(body).parameters)[1:], "")
    last = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(body)).readline):
        if token.type == tokenize.NAME and token.string in found and not found[token.string]:
            last = token.string
        elif token.type == tokenize.COMMENT and last:
            found[last] = f"{found[last]} {token.string.lstrip('# ')}".strip()
        elif token.type == tokenize.INDENT:  # the body begins
            break
    return {name: f"{text.rstrip('.')}." if text else "" for name, text in found.items()}


def difference(metrics: Mapping[str, Any], label: str) -> np.ndarray:
    """The difference that a label names: "A minus B, error" is "A, error" less "B, error". -> [S].

    Text before A and after B belongs to both. Raises ValueError unless exactly two metrics fit the label.
    """
    left, minus, right = label.partition(" minus ")
    ahead = [m for m in metrics if m.startswith(left) and right.endswith(m[len(left) :])]
    behind = [m for m in metrics if m.endswith(right) and left.startswith(m[: len(m) - len(right)])]
    if not minus or len(ahead) != 1 or len(behind) != 1:
        raise ValueError(f"{label!r} must be the difference of two metrics; the metrics are {sorted(metrics)}")
    return np.asarray(metrics[ahead[0]]) - np.asarray(metrics[behind[0]])


def part(data: Any, *bounds: int) -> Any:
    """Some examples of a dataset: `part(data, stop)` or `part(data, start, stop)`."""
    return jax.tree.map(lambda a: a[slice(*bounds)], data)


def tabled(rows: Sequence[Mapping[str, Any]], label: str = "{}") -> dict[str, np.ndarray]:
    """A metric [S] for each column of `rows`, one row a seed; `label` formats a column's name to the metric's."""
    return {label.format(column): np.array([row[column] for row in rows], float) for column in rows[0]}


def of_seed(params: Any, i: int = 0) -> Any:
    """The params of the i-th seed. params [S, ...]."""
    return jax.tree.map(lambda p: p[i], params)


def cosine_adam(rate: float, epochs: int, data: Batch, batch_size: int, **how: Any) -> Optimizer:
    """Adam whose rate falls to 0 along half a cosine in `epochs` epochs."""
    return optax.adam(optax.cosine_decay_schedule(rate, epochs * -(-len(data.x) // batch_size)), **how)


def layers(shape: Sequence[int], widths: Sequence[int], **options: Any) -> list[Autoencoder]:
    """Nets of one layer each, bottom first, each on the codes of the one below; options as for `networks.mlp`."""
    below = [tuple(shape), *((width,) for width in widths[:-1])]
    return [networks.mlp(s, width, hidden=(), **options) for s, width in zip(below, widths, strict=True)]


# ------------------------------------------------------------------------------------------ many seeds


def keys(seeds: Sequence[int], *path: str | int) -> Key:
    """`address(jax.random.key(s), *path)` for each seed. -> [S]."""
    return jnp.stack([address(jax.random.key(s), *path) for s in seeds])


def mapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn(one, *shared)` compiled as `(all, *shared)`: one program over the leading axis of `all`.

    On CPU one after another (`jax.lax.map`, measured faster there than `jax.vmap`), on an accelerator all at
    once (`jax.vmap`): see `training.map_seeds`. Data belong in `shared`: what a compiled function closes over
    becomes a constant inside it. A function is compiled once, however often it is mapped.
    """
    return partial(_mapped, fn)


@compiled
def _mapped(fn: Callable[..., Any], members: Any, *shared: Any) -> Any:
    return map_seeds(lambda one: fn(one, *shared))(members)


def evaluate(algorithm: Algorithm, params: Params, data: Batch, seeds: Sequence[int]) -> Metrics:
    """The algorithm's own metrics, averaged over a dataset, for every seed. params [S, ...] -> each [S]."""
    return jax.tree.map(np.asarray, _evaluated(algorithm, params, keys(seeds, "evaluation"), data))


@compiled
def _evaluated(algorithm: Algorithm, params: Params, keys: Key, data: Batch) -> Metrics:
    return map_seeds(lambda params, key: average(algorithm.evaluate, params, data, key))(params, keys)


def codes(algorithm: Algorithm, params: Params, x: Any) -> np.ndarray:
    """The deterministic codes of x for every seed. params [S, ...], x [N, *shape] -> [S, N, K]."""
    return np.asarray(_coded(algorithm, params, jnp.asarray(x)))


@compiled
def _coded(algorithm: Algorithm, params: Params, x: Array) -> Array:
    return map_seeds(lambda params: encode(algorithm, params, x))(params)


def with_labels(loaded: Dataset) -> Dataset:
    """The data themselves. Raises ValueError if an example of train or test has no label."""
    for split, y in (("train", loaded.train.y), ("test", loaded.test.y)):
        if y is None or not labelled(y).all():
            lacking = "none of them has one" if y is None else f"{(~labelled(y)).sum()} of {len(y)} have none"
            raise ValueError(
                f"this experiment needs a label for every example, and of the {split} set of {loaded.name} {lacking}; "
                "choose data with labels, such as mnist or digits"
            )
    return loaded


def images_of(folder: str, colour: bool) -> dict[str, list[np.ndarray]]:
    """The images of a folder with folders train and test in it, uint8 [H, W, C] each."""
    return {part: datasets.read_images(Path(folder) / part, colour=colour) for part in ("train", "test")}


def topics(documents: Dataset) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
    """Which documents of train and test have which topics, bool [N, T] and [Q, T], and the topics' names.

    Raises ValueError for documents without topics.
    """
    if documents.factors is not None:
        known, asked = (np.asarray(part) > 0 for part in documents.factors)
        return known, asked, documents.factor_names
    if documents.train.y is None or documents.test.y is None:
        raise ValueError(f"{documents.name} has documents without topics; give each topic's its own folder")
    known, asked = (np.eye(len(documents.classes), dtype=bool)[np.asarray(part.y)] for part in documents)
    return known, asked, documents.classes


def probe_errors(algorithm: Algorithm, params: Params, train: Batch, test: Batch) -> np.ndarray:
    """Test error in % of a linear classifier on the codes, for every seed. params [S, ...] -> [S].

    Raises ValueError for data without labels.
    """
    if train.y is None or test.y is None:
        raise ValueError("this experiment classifies codes; choose data with labels, such as mnist or digits")
    pairs = zip(codes(algorithm, params, train.x), codes(algorithm, params, test.x), strict=True)
    accuracies = [linear_probe(jnp.asarray(a), train.y, jnp.asarray(b), test.y) for a, b in pairs]
    return 100 * (1 - np.array(accuracies))


def last(history: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """A training metric of `training.train` in the last epoch. -> [S]."""
    return history[-1]["train"][metric]


def probed(codes: Sequence[Any], labels: Sequence[Any], *, l2: float = 1.0) -> np.ndarray:
    """Errors in % of a linear classifier fitted to the first of several sets of codes, on each of the others.

    codes: each [S, N, D]; labels: each [N], or [S, N] where seeds differ, integers from 0.
    Examples with a label below 0 do not count. Raises ValueError for such examples if they differ between seeds.
    -> [len(codes) - 1, S]. All seeds in one program; L-BFGS stops at 1e-4 or after 300 steps, where these errors
    no longer move.
    """
    if any(np.ndim(y) > 1 and not labelled(y).all() for y in labels):
        raise ValueError("each seed has other examples without a label: leave these out, or choose data with labels")
    known = [labelled(y) if np.ndim(y) == 1 else slice(None) for y in labels]
    codes, labels = (
        [z[:, of] for z, of in zip(codes, known, strict=True)],
        [np.asarray(y)[of] for y, of in zip(labels, known, strict=True)],
    )
    if not all(y.size for y in labels):
        raise ValueError("this experiment classifies codes, and train or test has no labels: choose data with labels")
    classes = 1 + max(int(np.max(y)) for y in labels)
    whole = tuple(jnp.broadcast_to(jnp.asarray(y), z.shape[:2]) for z, y in zip(codes, labels, strict=True))
    return np.asarray(_probed(tuple(map(jnp.asarray, codes)), whole, l2, classes)).T


@partial(jax.jit, static_argnames="classes")
def _probed(codes: tuple[Array, ...], labels: tuple[Array, ...], l2: float, classes: int) -> Array:
    def one(codes: tuple[Array, ...], labels: tuple[Array, ...]) -> Array:
        probe = fit_linear(codes[0], labels[0], classes, l2, 1e-4, 300)
        wrong = [predict_linear(probe, z) != y for z, y in zip(codes[1:], labels[1:], strict=True)]
        return 100 * jnp.stack([w.mean() for w in wrong])

    return map_seeds(one)(codes, labels)


def panels(width: float, height: float, *shape: int, **how: Any) -> tuple[Any, Any]:
    """A matplotlib Figure of this size in inches, and its axes as `Figure.subplots(*shape, **how)` gives them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")
    return figure, figure.subplots(*shape, **how)


def seeds_of_arms(metrics: Mapping[str, Any], tables: Sequence[str], arms: Sequence[str], of: str, label: str) -> Any:
    """A panel a table: the metric "ARM, TABLE, OF" of each seed as a point, and the mean over seeds as a line."""
    figure, all_axes = panels(11, 3.2, 1, len(tables), sharey=True, squeeze=False)
    for axes, table in zip(all_axes[0], tables, strict=True):
        for place, arm in enumerate(arms):
            values = metrics[f"{arm}, {table}, {of}"]
            axes.plot(values, np.full(len(values), -place), "o", markersize=3, alpha=0.5, color=f"C{place}")
            axes.plot([np.mean(values)], [-place], "|", markersize=16, color="black")
        axes.set(title=table, xlabel=label, yticks=-np.arange(len(arms)), yticklabels=arms)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def scattered(axes: Any, points: Any, labels: Any, names: Sequence[str] = (), size: float = 3, **how: Any) -> None:
    """Points [N, 2 or more] by their first two coordinates, coloured by label [N], whose names the legend gives."""
    labels = np.asarray(labels)
    for i, label in enumerate(np.unique(labels)):
        named = names[i] if names else str(label)
        of = np.asarray(points)[labels == label]
        axes.scatter(of[:, 0], of[:, 1], s=size, color=f"C{i % 10}", linewidths=0, label=named)
    axes.set(**{"xticks": [], "yticks": []} | how)


def charted(axes: Any, x: Sequence[float], series: Mapping[str, Any], **how: Any) -> None:
    """A line of means with the 95 % band over seeds for each series [len(x), S]; `how` as for `Axes.set`."""
    for label, values in series.items():
        banded(axes, x, np.asarray(values), label)
    axes.set(**dict(sorted(how.items(), key=lambda item: not item[0].endswith("scale"))))  # a scale resets ticks
    if "xticks" in how:
        axes.minorticks_off()
    axes.grid(True, color=plots.GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def show(axes: Any, image: Any, title: str) -> None:
    """A picture [H, W, 3] under its title."""
    axes.imshow(image)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def banded(axes: Any, x: Sequence[float], values: Any, label: str, **line: Any) -> None:
    """A line of means with the 95 % band over seeds: values [len(x), S]."""
    mean, low, high = plots.band(values)
    (drawn,) = axes.plot(x, mean, marker="o", markersize=3, linewidth=1.4, label=label, **line)
    axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def features(params: Params, shape: Sequence[int], count: int | None = None) -> np.ndarray:
    """The first seed's weights from inputs to the units of the first layer. params [S, ...] -> [count, *shape]."""
    kernel = np.asarray(params["encoder"]["layer_0"]["kernel"][0])  # [D, K]
    return kernel.T[:count].reshape(-1, *shape)


def image_rows(rows: Mapping[str, Any]) -> Any:
    """A matplotlib Figure of images in [0, 1] in rows, each [N, H, W, C] under its name."""
    return plots.examples(np.stack(list(rows.values())), (0.0, 1.0), rows=tuple(rows))


def feature_panels(named: Mapping[str, np.ndarray], columns: int = 8, across: int | None = None) -> Any:
    """A matplotlib Figure of several nets' features side by side, each [K, H, W, C] under its name.

    A feature is scaled by itself: zero is mid-grey, its largest weight black or white. A panel has `columns` features
    in a row, the figure `across` panels, by default all of them.
    """
    across = min(across or len(named), len(named))
    down = -(-len(named) // across)
    figure, all_axes = panels(4.5 * across, 4.85 * down, down, across, squeeze=False)
    for axes in all_axes.ravel()[len(named) :]:
        axes.axis("off")
    for axes, (name, features) in zip(all_axes.ravel(), named.items(), strict=False):
        show(axes, feature_grid(features, columns), name)
    return figure


def feature_grid(features: np.ndarray, columns: int = 8) -> np.ndarray:
    """Features [K, H, W, C] as one picture, `columns` in a row: see `feature_panels`."""
    wide = min(columns, len(features))
    chosen = features[: len(features) // wide * wide]  # whole rows
    scaled = chosen / np.abs(chosen).max((1, 2, 3), keepdims=True)
    zoom = max(1, 450 // (wide * (features.shape[2] + 1)))  # about the panel's dots
    return plots.mosaic(scaled.reshape(-1, wide, *features.shape[1:]), (-1.0, 1.0), zoom)


# -------------------------------------------------------------------------------- command line and record


def at_full_size(main: Any) -> Callable[..., Any]:
    """An experiment whose defaults are the values of `--full`, which other flags override."""

    def run(**given: Any) -> Any:
        return main(**given)

    now = main.full | {"full": True}
    run.__doc__, run.__annotations__, run.__module__ = main.__doc__, main.__annotations__, main.__module__
    known = inspect.signature(main).parameters.values()
    run.__signature__ = inspect.Signature([p.replace(default=now.get(p.name, p.default)) for p in known])  # pyright: ignore[reportFunctionMemberAccess]
    return run


def command(main: Callable[..., Any]) -> None:
    """Runs an experiment as a command, with a flag for each keyword argument of `main`; a mistake is one sentence.

    The exit status is 2 for unknown options, on which `scripts/experiments` relies, and 1 for later errors.
    """
    import tyro

    in_sentences(Path(sys.argv[0]).stem, lambda: tyro.cli(at_full_size(main) if "--full" in sys.argv[1:] else main))


def in_sentences(name: str, work: Callable[[], Any]) -> None:
    """Runs `work`; a mistake ends the command with one sentence, or with a traceback if AE_JAX_TRACEBACK is set.

    The exit status is 1 for a mistake, and 128 and the number of the signal for a stop.
    """
    try:
        work()
    except Interrupted as stop:
        warn(f"{stop} No record was written.")
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        warn("Interrupted; no record was written.")
        sys.exit(128 + signal.SIGINT)
    except (RunError, ValueError, OSError) as error:
        if tracebacks():
            raise
        sys.exit(f"{name}: {error}".replace("--workdir", "--runs"))


def record(
    file: str,
    metrics: Mapping[str, Any],
    *,
    title: str,
    source: str,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    seconds: float,
    published: Mapping[str, Published] = {},
    claims: Mapping[str, str] = {},
    notes: Sequence[str] = (),
    figure: Any = None,
    out: str | Path = "results",
) -> dict[str, Any]:
    """Writes `<out>/<name>.json`, whole or not at all, prints its table, and returns it.

    Args:
        file: the experiment's `__file__`, which gives the name.
        metrics: label with the unit -> the metric's value for each seed, [S]; or one number, which is repeated, for a
            metric that has no seed.
        title: what the experiment shows, in a line.
        source: the paper.
        settings: the bound arguments of `main`.
        seeds: the seeds that ran.
        seconds: wall time, compilation included.
        published: values to stand beside some of the metrics, under the same labels.
        claims: metric (mostly a difference) -> what it means that the metric lies above 0, written before the run. A
            claim holds where the whole 95 % interval over seeds lies above 0.
        notes: what a reader should know: where the protocol departs from the paper's, where we fall short.
        figure: a matplotlib Figure, or a function that draws it, saved beside the record as `<name>.png` or .jpg after
            the record is written: an error in drawing leaves the record whole.
        out: the folder.

    Raises:
        ValueError: published values or claims for metrics that are not there, a number of values that is not
            the number of seeds, or a value that is not finite.
    """
    if unknown := (set(published) | set(claims)) - set(metrics):
        raise ValueError(f"published values or claims name {sorted(unknown)}; the metrics are {sorted(metrics)}")
    summaries = {label: _summary(label, values, len(seeds)) for label, values in metrics.items()}
    row = {
        "name": Path(file).stem,
        "title": title,
        "source": source,
        "settings": json.loads(json.dumps({k: v for k, v in settings.items() if _is_setting(v)}, default=str)),
        "seeds": list(seeds),
        "metrics": summaries,
        "published": {label: p._asdict() for label, p in published.items()},
        "claims": {label: {"claim": text, "holds": _above_0(summaries[label])} for label, text in claims.items()},
        **circumstances(),
        "seconds": round(seconds, 1),
        "notes": list(notes),
    }
    path = Path(out) / f"{row['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, row)
    if figure is not None:
        try:
            drawn: Any = figure() if callable(figure) else figure
            row["picture"] = plots.save_small(drawn, path).name
            write_json(path, row)
        except Exception as error:  # drawing libraries raise errors of any kind, and the record does not depend on them
            if tracebacks():
                raise
            warn(f"warning: {path} is written without its picture ({explained(error)})")
    print(f"{table(row)}\n\n{path}")
    return row


def table(row: Mapping[str, Any]) -> str:
    """A record as text: a line a metric, with its interval, what was published, and whether the two agree."""
    lines = [("", "ours", "95 % interval", "published", "")]
    for label, m in row["metrics"].items():
        interval = "" if m["low"] is None else f"{m['low']:.4g} to {m['high']:.4g}"
        p = row["published"].get(label)
        lines.append((label, f"{m['mean']:.4g}", interval, "" if p is None else f"{p['value']:g}", verdict(row, label)))
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    body = "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return f"\n{row['title']}\n{len(row['seeds'])} seeds, {row['seconds']:g} s, {row['device']}\n{body}"


def verdict(row: Mapping[str, Any], label: str) -> str:
    """The verdict of a record on one metric's claim or published value; "" without one."""
    if label in row["claims"]:
        said = {True: "above 0, as claimed", False: "NOT above 0", None: "one seed: no interval"}
        return said[row["claims"][label]["holds"]]
    p = row["published"].get(label)
    if p is None or p["tolerance"] is None:
        return ""
    inside = abs(row["metrics"][label]["mean"] - p["value"]) <= p["tolerance"]
    return f"{'within' if inside else 'NOT within'} {p['tolerance']:g}"


def _summary(label: str, values: Any, count: int) -> dict[str, Any]:
    array = np.asarray(values, np.float64)
    array = np.full(count, array) if array.ndim == 0 else array
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"{label!r} is {array.tolist()}; it must be one finite number for each of {count} seeds")
    return summarise(array)


def _is_setting(value: Any) -> bool:
    """Not a module, class or function, which `locals()` has too where a function begins by importing."""
    return not (isinstance(value, types.ModuleType) or callable(value))


def _above_0(summary: Mapping[str, Any]) -> bool | None:
    return None if summary["low"] is None else summary["low"] > 0
