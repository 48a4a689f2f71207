"""Unusual examples and missing values: the commands `score` and `impute`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ... import data
from ...checks import labelled
from ...core import Batch, address
from ...data import files as array_files
from ...data import ranges, tables
from ...data.checks import check_labels
from ...data.disk import suffix
from ...errors import DataError, RunError, counted, warn
from ...evaluation import anomaly, imputation
from ..files import check_output, check_shape, check_suffix, read_array, read_examples, save_array, save_table
from . import runs
from .measuring import SAMPLES

LEVELS = (0.5, 0.9, 0.95, 0.99)  # quantiles of the training scores that are printed
Method = Literal["reconstruction", "posterior"]


def score(
    workdir: Path,
    source: str,
    out: Path,
    measure: anomaly.Measure = "error",
    anomalies: Sequence[str] = (),
    samples: int | None = None,
    seed: int | None = None,
    key: int = 0,
) -> list[str]:
    """Writes the score of every example to .npy, or to .csv with names and quantiles; returns lines to print.

    Grey pixels of a run that binarised its data are drawn as 0 or 1, as its test set was. Quantiles refer to the
    training examples' scores. With labels, the lines have the ROC AUC for the classes `anomalies`, beside those of an
    isolation forest and of PCA fitted to the same training examples.
    """
    check_suffix(out, (".npy", ".csv"))
    check_output(out, source)
    if samples is not None and measure == "error":
        raise RunError(f"samples={samples} has no effect on the error: leave it out, or give --measure log_p or elbo")
    if samples is not None and samples < 1:
        raise RunError(f"samples={samples} is too few: give 1 or more")
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    options = opened.settings.data_options
    x, names = read_examples(source, opened.shape, opened.vocabulary, False, options, opened.standard)
    y, classes = labels_of(source, options, len(x))
    chosen = anomalous(y, classes, anomalies, source)
    x = np.asarray(ranges.apply(opened.standard, x))
    drawn = opened.settings.binarise
    if drawn:  # as the test set in `loading.load`
        x = data.binarise(x, seed=1)
    train, learned = None, set[str]()
    try:
        splits = runs.load_own(opened)
        train, learned = np.asarray(splits.train.x), words(splits.train.y, splits.dataset.classes)
        train = data.binarise(train, seed=0) if drawn == "dynamic" else train
    except (DataError, RunError) as error:
        warn(f"note: no quantiles and no baselines, as the run's training data are not there: {error}")
    key_scores = address(jax.random.key(key), "score")
    algorithm, params = opened.algorithm, opened.params

    def scored(x: np.ndarray, part: str) -> np.ndarray:
        of = lambda params, x: anomaly.scores(
            algorithm, params, Batch(x), measure, address(key_scores, part), SAMPLES if samples is None else samples
        )
        return np.asarray(jax.jit(of)(params, jnp.asarray(x)))

    found = scored(x, "given")
    if bad := int((~np.isfinite(found)).sum()):
        raise RunError(f"{bad} of {len(found)} scores are not finite: the run's params or its data are damaged")
    lines = [f"{counted(len(found), 'score')} written to {out}: {anomaly.MEASURES[measure]}"]
    if drawn:
        lines.append(f"note: scores are of pixels drawn as 0 or 1 by their values, as in training (binarise={drawn})")
    columns: dict[str, Sequence[Any]] = {"name": names, "score": [f"{s:.7g}" for s in found]}
    if train is not None:
        usual = scored(train, "train")
        columns["quantile"] = [f"{q:.6g}" for q in anomaly.quantiles(usual, found)]
        lines += quantile_lines(usual, found)
    if y is not None:
        columns["label"] = [named(label, classes) for label in y]
    if chosen is not None and train is not None:
        assert y is not None
        lines += auc_lines(found, train, x, chosen, opened.settings.latents)
        if usual_too := sorted(words(y[chosen[1]], classes) & learned):
            lines.append(
                f"note: the training set has examples of {', '.join(usual_too)}, too: to this run they are no anomalies"
            )
    if suffix(out) == ".npy":
        save_array(out, found, "scores")
    else:
        save_table(out, columns)
    return lines


def quantile_lines(usual: np.ndarray, found: np.ndarray) -> list[str]:
    """The quantiles of the training scores, and the number of scores above each, as a table."""
    rows = [("quantile of train", "score", f"above it, of {len(found)}")]
    for level in LEVELS:
        bound = float(np.quantile(usual, level))
        rows.append((f"{100 * level:g} %", f"{bound:.5g}", str(int((found > bound).sum()))))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def auc_lines(
    found: np.ndarray, train: np.ndarray, x: np.ndarray, chosen: tuple[np.ndarray, np.ndarray, str], latents: int
) -> list[str]:
    """The ROC AUC of the scores and of the baselines over the examples that have a label, as lines."""
    known, positive, called = chosen
    rivals = anomaly.baselines(train, x, latents)
    every = {"this run": found} | rivals
    width = max(map(len, every))
    values = {name: anomaly.auc(of[known], positive[known]) for name, of in every.items()}
    count = f"{int(positive[known].sum())} of {int(known.sum())}"
    lines = [f"ROC AUC of {called}, {count}:", *(f"  {name:<{width}}  {value:.4f}" for name, value in values.items())]
    if values["this run"] < 0.5:
        lines.append("note: an AUC below 0.5 is worse than chance: this run scores the anomalies lower than the others")
    return lines


def anomalous(
    y: np.ndarray | None, classes: Sequence[str], given: Sequence[str], source: str
) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Masks [N] of the labelled examples and of the anomalies, and the anomalies in words; None if these are unknown.

    By default the anomalies are class 1 of the classes 0 and 1. Raises RunError for classes without examples, and for
    anomalies that are all examples.
    """
    if y is None or not labelled(y).any():
        if given:
            raise RunError(f"--anomalies names classes, and {source} has no labels: leave it out")
        return None
    known = labelled(y)
    there = np.unique(y[known]).tolist()
    by_name = {named(label, classes): label for label in there}
    if unknown := [name for name in given if name not in by_name]:
        raise RunError(f"--anomalies is {unknown[0]!r}; the classes of {source} are {', '.join(by_name)}")
    if not given and there != [0, 1]:
        if there != [0] and there != [1]:
            warn(f"note: no ROC AUC: {source} has {len(there)} classes, and --anomalies NAME says which are anomalies")
        else:
            warn(f"note: no ROC AUC: all labels of {source} are {next(iter(by_name))}")
        return None
    positive = np.isin(y, [by_name[name] for name in given] if given else [1])
    if positive[known].all() or not positive[known].any():
        raise RunError(f"--anomalies names all classes of {source}: leave at least one for usual examples")
    called = ", ".join(given) if given else f"{named(1, classes)} (class 1)"
    return known, positive, called


def named(label: int, classes: Sequence[str]) -> str:
    """The name of a class; "" for no label."""
    return "" if label < 0 else classes[label] if label < len(classes) else str(label)


def words(y: Any, classes: Sequence[str]) -> set[str]:
    """The names of the classes among labels [N]."""
    return set() if y is None else {named(label, classes) for label in np.unique(y).tolist()} - {""}


def labels_of(source: str, options: dict[str, Any], count: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The labels of the examples that `read_examples` reads from a source, or None; and the names of the classes."""
    path = data.table_of(data.expanded(source))
    if data.is_name(source, options.get("data_dir")):
        loaded = data.load(source, **data.options_for(source, options))
        return (None if loaded.test.y is None else np.asarray(loaded.test.y)), loaded.classes
    if data.is_table(path) and path.is_file():
        table, label = tables.read(path), options.get("label")
        if label is None or label not in table.columns:
            return None, ()
        return tables.labels(table, label)
    y = None
    if suffix(path) == ".npy" and path.is_file() and (beside := path.with_suffix(".labels.npy")).is_file():
        y = read_array(beside)
    if suffix(path) == ".npz" and path.is_file():
        arrays = data.read_arrays(path)
        of_part = {"x": ("y", "label", "labels")}
        for part in ("test", "validation", "train"):  # the order of `read_array`
            of_part |= dict.fromkeys(array_files.PARTS[part], array_files.LABELS[part])
        part = next((part for part in of_part if part in arrays), None)
        y = next((arrays[name] for name in of_part.get(part or "x", ()) if name in arrays), None)
    return (None if y is None else check_labels(y, count, source)), ()


def impute(
    workdir: Path,
    source: str,
    out: Path,
    method: Method | None = None,
    steps: int = 1000,
    seed: int | None = None,
    key: int = 0,
) -> list[str]:
    """Fills in the missing values (NaN) of an array or a table; returns lines to print.

    The default method is the posterior for a member that has one, else repeated reconstruction. The first guess is the
    training mean. Writes to .npy, .npz or .csv. Known values stay as they are, and so do other columns of a table.
    """
    check_suffix(out, (".npy", ".npz", ".csv"))
    check_output(out, source)
    if steps < 2:
        raise RunError(f"steps is {steps}; give at least 2")
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    algorithm, options = opened.algorithm, opened.settings.data_options
    if method == "posterior" and algorithm.transition is None:
        raise RunError(
            f"{opened.settings.algorithm} has no posterior to draw from: leave --method out, or train vae, say"
        )
    runs.check_decodes(opened, workdir, "train another member, such as vae")
    path, table, columns = data.table_of(data.expanded(source)), None, tuple(options.get("columns", ()))
    if data.is_table(path) and path.is_file():
        table, given, columns = tables.examples(path, columns, options.get("label"))
    elif not path.is_file():
        raise RunError(f"there is no file {source}: give a .csv, .tsv, .parquet, .npy or .npz file with missing values")
    else:
        given = read_array(path)
    check_shape(given[..., None] if given.ndim == 3 else given, opened.shape)
    if suffix(out) == ".csv" and given.ndim != 2:
        raise RunError(f"examples of the shape {given.shape[1:]} are no rows of a table: write them to .npy or .npz")
    missing: np.ndarray = np.isnan(given) if given.dtype.kind == "f" else np.zeros(given.shape, bool)
    if not missing.any():
        raise RunError(f"{source} has no missing value (NaN): there is nothing to fill in")
    kind = options.get("range") or "unit"
    known = given[~missing]
    filled = np.where(missing, known.mean(dtype=np.float64) if known.size else 0, given).astype(given.dtype)
    (x,) = data.unit_interval([filled], source, options.get("scale"), kind=kind)
    where = np.reshape(missing, x.shape)
    x = np.asarray(ranges.apply(opened.standard, x))
    guess, bounds = np.zeros(opened.shape, np.float32), None
    try:
        train = np.asarray(runs.load_own(opened).train.x)
        guess, bounds = train.mean(0), (jnp.asarray(train.min(0)), jnp.asarray(train.max(0)))
    except (DataError, RunError) as error:
        if opened.standard is None or np.ndim(opened.standard.mean) == 0:  # else the training mean is 0
            raise
        warn(f"note: filled-in values may leave the range of the training data, which are not there: {error}")
    x = jnp.asarray(np.where(where, guess, x), jnp.float32)
    chosen = method or ("reconstruction" if algorithm.transition is None else "posterior")
    if chosen == "posterior":
        key_chain = address(jax.random.key(key), "impute")
        fill = lambda params, x, where: imputation.by_posterior(
            algorithm, params, x, where, key_chain, burn=steps // 10, steps=steps, bounds=bounds
        )
    else:
        fill = lambda params, x, where: imputation.by_reconstruction(algorithm, params, x, where, steps=steps)
    found = jax.jit(fill)(opened.params, x, jnp.asarray(where))
    values = np.asarray(ranges.undo(opened.standard, np.asarray(found.x)))
    if bad := int((~np.isfinite(values[where])).sum()):
        raise RunError(
            f"{bad} of {int(where.sum())} values that were filled in are not finite, as the run diverges on them: "
            "take the other --method, fewer --steps, or train for longer"
        )
    whole = np.where(missing, values.reshape(missing.shape), given)
    if suffix(out) == ".csv":
        columns = columns or tuple(f"column {i + 1}" for i in range(given.shape[1]))
        of_run = {name: cells(whole[:, i], missing[:, i]) for i, name in enumerate(columns)}
        if table is not None:  # known cells are copied as they are written
            written = tables.texts(path)
            own = {name: written.get(name) or cells(of) for name, of in table.columns.items()}
            of_run = own | {
                name: [new if hole else old for new, old, hole in zip(of, own[name], missing[:, i], strict=True)]
                for i, (name, of) in enumerate(of_run.items())
            }
        save_table(out, of_run)
    else:
        save_array(out, whole.astype(given.dtype), "x")
    rows: Any = np.asarray(where).reshape(len(given), -1).any(axis=1)
    change = np.asarray(found.change)[rows]
    counts = f"{int(where.sum())} missing values in {int(rows.sum())} of {len(given)} examples"
    unit = "" if opened.standard is None else f" of {kind} values"
    if chosen == "posterior":
        how = f"the posterior, a mean over {steps} steps after {steps // 10}"
        last = "difference of the means over the two halves of the steps"
    else:
        how, last = f"reconstructions, {int(found.steps)} of at most {steps}", "change in the last of them"
    lines = [
        f"{counts} filled in by {how}, written to {out}",
        f"{last}, root mean square{unit}: {change.mean():.2g}, at most {change.max():.2g}",
    ]
    if bare := int(missing.reshape(len(given), -1).all(axis=1).sum()):
        lines.append(
            f"note: {counted(bare, 'example')} of {len(given)} had no known value: the numbers there are the run's own"
        )
    if chosen == "reconstruction" and (still := int((~(change <= 1e-4)).sum())):
        lines.append(f"note: {still} of {int(rows.sum())} examples still change; give more --steps")
    return lines


def cells(of: Any, new: Any = None) -> list[str]:
    """A column as text: filled-in numbers have seven digits, missing ones are empty, others are unchanged."""
    of = np.asarray(of)
    if of.dtype.kind != "f":
        return [str(cell) for cell in of]
    new = np.zeros(len(of), bool) if new is None else new
    plain = lambda value, filled: f"{value:.7g}" if filled else "" if np.isnan(value) else repr(float(value))
    return [plain(value, filled) for value, filled in zip(of, new, strict=True)]
