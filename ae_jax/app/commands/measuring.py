"""Metrics of a trained run: the command `evaluate`, and the table that training prints."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import data, evaluation
from ...core import Algorithm, Key, Params, address
from ...data.disk import strict, write_json
from ...errors import RunError, warn
from ...evaluation import diagnosis
from ...evaluation.statistics import summarise
from ...training import loop, provenance, shards
from ...training.settings import Settings
from ..files import (
    cell,
    check_output,
    check_shape,
    check_vocabulary,
)
from . import runs
from .examples import options_of
from .loading import SAMPLED, Splits, check_labels, drawn_once, load, renumbered

SAMPLES = 100  # importance samples for the log-likelihood, by default
COMPARED = 2000  # examples, at most, for scores of samples and of posteriors


def check_samples(algorithm: Algorithm, settings: Settings, samples: int | None, name: str) -> None:
    """Raises ValueError if the option `name` gives importance samples for an algorithm that draws none."""
    if samples is not None and algorithm.log_weight is None:
        raise ValueError(
            f"{name}={samples} has no effect: {settings.algorithm} has no log-likelihood by importance sampling; "
            "leave it out"
        )


def measure(
    algorithm: Algorithm,
    trained: loop.Trained,
    splits: Splits,
    samples: int,
    say: Callable[..., Any] = print,
) -> dict[str, Any]:
    """Every metric of `evaluation`, for every seed that did not fail, and the cost of training.

    For a stream, the algorithm's own metrics are means over the whole test set. The names of other metrics end in the
    number of examples that were used.
    """
    factors = None if splits.dataset.factors is None else splits.dataset.factors[1]
    judge, lacking = None, ""
    if algorithm.sample is not None and algorithm.decodes:
        count = len(evaluation.few(splits.test, COMPARED).x)
        lacking = evaluation.unjudged(algorithm, trained.of(trained.good[0]), count)
        judge = None if lacking else evaluation.judge_of(splits.train, splits.test, COMPARED)
    metrics_of = evaluation.all_metrics(
        algorithm, splits.train, splits.test, factors=factors, samples=samples, judge=judge
    )
    left_out = [f"scores of samples were left out: {lacking}"] if lacking else []
    of_seeds: list[dict[str, float]] = []
    for i, seed in enumerate(trained.good):
        say(f"evaluating seed {seed} ({i + 1} of {len(trained.good)})")
        key = address(jax.random.key(seed), "evaluation")
        found = metrics_of(trained.of(seed), key)
        if splits.streams is not None:
            found = exactly(algorithm, splits, trained.of(seed), key, found)
        of_seeds.append(found)
    # a seed may lack a metric, such as probes if its codes are not finite; then the mean of the seeds is not known
    names = dict.fromkeys(name for found in of_seeds for name in found)
    values = {name: [found.get(name, np.nan) for found in of_seeds] for name in names}
    stats = posteriors(algorithm, trained, splits)
    values |= agreement(stats)
    if factors is not None:
        units = jax.eval_shape(algorithm.encode, trained.of(trained.good[0]), splits.test.x[:1]).shape[-1]
        if told := evaluation.disentanglement.left_out(units, factors):
            left_out.append(told)
    for told in left_out:
        say(told)
    speed = [row["examples_per_second"] for row in trained.history]
    matrix = confusion(algorithm, trained.of(trained.good[0]), splits)
    best = dict(zip(trained.seeds, trained.best_epoch, strict=True))
    return {
        "seeds": list(trained.good),  # over which means are taken
        **({"failed": {str(seed): e for seed, e in trained.failed.items()}} if trained.failed else {}),
        "metrics": {name: {"n": len(v), **summarise(v)} for name, v in values.items()},
        **({} if judge is None else {"features": {"of": judge.by.name, "checksum": judge.by.checksum}}),
        **({"left_out": left_out} if left_out else {}),
        **kl_of_units(algorithm, trained, stats),
        "best_epoch": [best[seed] for seed in trained.good],
        "parameters": count_parameters(algorithm, trained.of(trained.good[0])),
        "seconds": round(sum(row["seconds"] for row in trained.history), 3),
        "examples_per_second": float(np.median(speed)) if speed else 0.0,
        **({} if matrix is None else {"confusion": matrix}),
        **provenance.circumstances(),
    }


def diagnose(
    algorithm: Algorithm,
    trained: loop.Trained,
    settings: Settings,
    splits: Splits,
    examples: int,
    metrics: dict[str, Any],
) -> list[str]:
    """Remarks on faults of a training, see `diagnosis`."""
    test, steps = splits.test, -(-examples // settings.batch_size)
    x = jnp.asarray(test.x[:SAMPLED])
    of_seeds = {}
    for i, seed in enumerate(trained.good):  # the order of the metrics' values
        at = trained.seeds.index(seed)

        def value(name: str, i: int = i) -> float | None:  # names may end in a number of examples
            found = next((m for known, m in metrics.items() if known.partition(" (")[0] == name), None)
            return None if found is None or not np.isfinite(found["values"][i]) else found["values"][i]

        z = np.asarray(evaluation.coded(algorithm, trained.of(seed), x))
        pca = None if diagnosis.binary(z) else value("pca explained_variance")  # bits carry less than real numbers
        losses = [row["train"]["loss"][at] for row in trained.history if "loss" in row["train"]]
        ran = sum(loss is not None for loss in losses) or len(trained.history)
        of_seeds[seed] = (
            diagnosis.reconstruction(value("test explained_variance"), pca),
            diagnosis.code(z),
            collapse(algorithm, trained.of(seed), x, z),
            "" if test.y is None else diagnosis.probe(value("linear_probe_accuracy"), test.y),
            diagnosis.updates(ran, steps, examples),
            diagnosis.falling(losses),
            diagnosis.stopped(ran, settings.epochs or ran, trained.best_epoch[at]),
        )
    return diagnosis.remarks(of_seeds)


def posteriors(algorithm: Algorithm, trained: loop.Trained, splits: Splits) -> list[np.ndarray]:
    """For each seed the means and log-variances [N, 2K] of the Gaussian posteriors of some test examples.

    [] for a member without Gaussian posteriors, and if some number is not finite.
    """
    if algorithm.moments is None:
        return []
    x = jnp.asarray(evaluation.few(splits.test, COMPARED).x)
    stats = [np.asarray(evaluation.moments(algorithm, trained.of(seed), x)) for seed in trained.good]
    return stats if np.isfinite(stats).all() else []


def agreement(stats: list[np.ndarray]) -> dict[str, list[float]]:
    """The unsupervised disentanglement ranking (UDR) of two seeds or more: one number, the mean of the seeds' scores.

    There is no interval, since each score depends on all seeds. `stats` are those of `posteriors`.
    """
    if len(stats) < 2:
        return {}
    codes = [np.split(each, 2, -1)[0] for each in stats]
    ranked = evaluation.disentanglement.udr(codes, [evaluation.aggregate.unit_kl(each) for each in stats])
    return {f"udr (spearman, n={len(codes[0])})": [float(ranked.mean())]}


def kl_of_units(algorithm: Algorithm, trained: loop.Trained, stats: list[np.ndarray]) -> dict[str, Any]:
    """The KL of each unit in nats, for each seed, if the prior is N(0, I); else {}."""
    if not stats or not evaluation.aggregate.is_standard(
        algorithm.prior.log_prob, trained.of(trained.good[0]), stats[0].shape[1] // 2
    ):
        return {}
    return {"kl_of_units": [evaluation.aggregate.unit_kl(each).tolist() for each in stats]}


def collapse(algorithm: Algorithm, params: Params, x: jax.Array, z: np.ndarray) -> str:
    """`diagnosis.collapse` for a member with a Gaussian posterior, else ""; z [N, K] are the codes of x."""
    if algorithm.moments is None or len(x) < 2:
        return ""
    few, decode = np.asarray(x[:1000]), jax.jit(algorithm.decode)
    error = lambda z: float(np.square(np.asarray(decode(params, jnp.asarray(z))) - few).sum() / len(few))
    own = z[: len(few)]
    return diagnosis.collapse(z, error(own), error(np.roll(own, len(own) // 2, 0)))


def confusion(algorithm: Algorithm, params: Params, splits: Splits) -> dict[str, Any] | None:
    """The confusion matrix of labels and predicted classes or clusters; None without labels or without predictions."""
    if algorithm.predict is None or not evaluation.has_labels(splits.train, splits.test):
        return None
    predicted = evaluation.assignments(algorithm, params, jnp.asarray(splits.test.x))
    rows, columns, counts = evaluation.clustering.confusion(predicted, splits.test.y)
    names = splits.dataset.classes
    named = lambda y: names[y] if 0 <= y < len(names) else str(y)
    supervised = algorithm.classes is not None
    if supervised:  # keep the order of the classes
        never = sorted(set(rows) - set(columns))  # classes that were predicted for no example
        columns, counts = [*columns, *never], np.pad(np.asarray(counts), ((0, 0), (0, len(never))))
        order = np.argsort(columns)
        columns, counts = [columns[i] for i in order], counts[:, order].tolist()
    heads = [named(c) if supervised else f"cluster {c}" for c in columns]
    return {"labels": [named(y) for y in rows], "told": heads, "counts": counts}


def confusion_table(found: dict[str, Any]) -> str:
    """The confusion matrix as text: a row for each label, a column for each class or cluster."""
    head = ["", *(cell(name.removeprefix("cluster ")) for name in found["told"])]
    rows = [head] + [[cell(name), *map(str, row)] for name, row in zip(found["labels"], found["counts"], strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    kind = "cluster" if found["told"][0].startswith("cluster ") else "class"
    lines = ["  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"test examples by label (rows) and predicted {kind} (columns):", *lines])


def exactly(
    algorithm: Algorithm, splits: Splits, params: Params, key: Key, found: dict[str, float]
) -> dict[str, float]:
    """Metrics of a stream: `found`, from a sample, with exact means over the whole test set where these are known."""
    assert splits.streams is not None
    means = shards.average_stream(algorithm, splits.streams.test, params, address(key, "test"))
    exact = {f"test {name}": float(value) for name, value in means.items()}
    exact = evaluation.of_known(exact, len(splits.streams.test.source))
    if "test cross_entropy" not in {name.partition(" (")[0] for name in found}:  # the data lie outside [0, 1]
        exact.pop("test cross_entropy", None)
    whole = {name.partition(" (")[0]: name for name in exact}
    seen, note = (len(splits.test.x), len(splits.train.x)), ""
    if seen != (len(splits.streams.test.source), len(splits.streams.train.source)):
        note = f"of {seen[1]} + {seen[0]}"

    def named(name: str) -> str:
        return name if not note else f"{name[:-1]}, {note})" if name.endswith(")") else f"{name} ({note})"

    names = {name: whole.get(name.partition(" (")[0]) or named(name) for name in found}
    return {names[name]: exact.get(names[name], value) for name, value in found.items()} | exact


def count_parameters(algorithm: Algorithm, params: Params) -> int:
    """The number of learned parameters of one seed."""
    return sum(leaf.size for leaf in jax.tree.leaves({g: params[g] for g in params if g not in algorithm.statistics}))


def table(results: dict[str, Any]) -> str:
    """The metrics as text: the mean over seeds and its 95 % interval, and a line on the run."""
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


def evaluate(
    workdir: Path, source: str | None = None, samples: int | None = None, quiet: bool = False, out: Path | None = None
) -> dict[str, Any]:
    """Every metric of every seed, on the run's own data or on another source of the same shape; also as JSON in `out`.

    Another source is read with those options of the run (resize, patch, ...) that it takes. If the run predicts
    classes, those of the source are found by their names, or by their numbers if the run or the source has no names.
    """
    if samples is not None and samples < 1:
        raise RunError(f"samples is {samples}; the log-likelihood needs at least 1")
    if out is not None:
        check_output(out, *([] if source is None else [source]))
    opened = runs.open_run(workdir)
    settings = opened.settings
    check_samples(opened.algorithm, settings, samples, "samples")
    if out is not None:
        check_output(out, *opened.sources)
    if source is not None:
        shards, given = settings.shard_size, options_of(opened)
        try:
            read = data.options_for if shards is None else data.stream_options_for
            options = read(source, given)
        except data.DataError:  # a streamed run may be evaluated on data in memory
            shards, options = None, data.options_for(source, given)
        settings = replace(settings, data=source, data_options=options, shard_size=shards)
    splits = runs.load_own(opened) if source is None else load(settings, opened.standard)
    check_shape(splits.test.x, opened.shape)
    check_vocabulary(splits.dataset.vocabulary, opened.vocabulary, str(settings.data))
    if source is not None and opened.algorithm.classes is not None and splits.test.y is not None:
        # its predictions are the run's own classes
        splits = renumbered(splits, opened.folder.recorded().get("class_names", ()), source)
        if told := check_labels(opened.algorithm, settings, splits.test.y):
            warn(told)
    splits = drawn_once(settings, splits)
    results = measure(
        opened.algorithm, opened.trained, splits, samples or SAMPLES, (lambda *_: None) if quiet else warn
    )
    results = strict(results | {"data": str(splits)})
    if out is not None:
        write_json(out, results)
    return results
