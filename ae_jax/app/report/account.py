"""The course of a run in sentences, each with its evidence: the first lines of its report."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ...checks import labelled
from ...core import Algorithm, Params
from ...distributions.sums import squared_error
from ...evaluation import diagnosis
from ...evaluation.diagnosis import Sentence
from .chunks import chunks, spread
from .findings import Findings

COLLAPSE = 1000  # test examples, at most, whose codes are exchanged
EXAMPLES = 2000  # training examples, at most, that are reconstructed beside the test set


def account(
    f: Findings,
    algorithm: Algorithm,
    params: Params,
    dataset: Any,
    last: tuple[str, Mapping[str, Any]] | None = None,
) -> list[Sentence]:
    """The sentences on a run: on its learning, fit, labels, code and PCA, and on `last`, another run (name, results).

    Metrics are means over seeds. Everything else is of the first seed, whose `params` are given.
    """

    def curve(part: str) -> list[Any]:
        rows = [(row.get(part) or {}).get("loss") for row in f.history]
        return [None if row is None else np.ravel(row)[0] for row in rows]  # None after the seed has stopped

    def value(name: str) -> float | None:
        metrics = f.results.get("metrics") or {}
        return next((m.get("mean") for known, m in metrics.items() if known.partition(" (")[0] == name), None)

    epochs, best = f.settings.get("epochs") or 0, f.results.get("best_epoch")
    found, ran = [], sum(v is not None for v in curve("train"))
    train, size, few = spread(dataset.train.x, EXAMPLES), f.settings.get("batch_size"), ""
    if f.history and size and f.settings.get("shard_size") is None:  # a stream keeps a sample of its examples here
        few = diagnosis.updates(ran, -(-len(dataset.train.x) // size), len(dataset.train.x))
    if f.history and best:
        found.append(diagnosis.course(curve("train"), epochs, best[0], few=bool(few)))
    elif f.history:  # the run has no results yet
        found.append(Sentence("Training has not ended.", f"{len(f.history)} of {epochs} epochs are done"))
    if few:
        found.append(Sentence("There were few updates.", few.partition(" only ")[2]))
    found.append(diagnosis.held_out(curve("validation")))
    if f.errors is not None and len(train) > 1:
        rebuilt = jax.jit(lambda params, x: squared_error(algorithm.reconstruct(params, x), x))
        (errors,) = chunks(lambda part: (rebuilt(params, part),), train)
        held = np.asarray(dataset.test.x)
        unexplained = lambda errors, x: errors.mean() / max(float(np.square(x - x.mean(0)).sum() / len(x)), 1e-30)
        part = [1 - float(unexplained(e, x)) for e, x in ((errors, train), (f.errors, held))]
        found.append(diagnosis.fit(*part, pca=value("pca explained_variance")))
        if not diagnosis.binary(f.codes):
            found.append(diagnosis.beside_pca(value("test explained_variance"), value("pca explained_variance")))
    if algorithm.predict is not None and f.labels is not None:
        found.append(_of_classes(algorithm, params, dataset, value))
    if f.symbols is not None:
        found.append(diagnosis.usage([len(s) for s in f.symbols.shares], f.symbols.sizes, f.symbols.perplexities))
    elif f.active is not None:
        found.append(diagnosis.dictionary(f.active.density))
    elif f.kl is not None:
        found.append(diagnosis.units(f.kl))
    elif not f.codeless:
        found.append(diagnosis.codes(f.codes))
    if f.moments and len(f.codes) > 1:
        z, x = f.codes[:COLLAPSE], np.asarray(dataset.test.x[:COLLAPSE])
        decode = jax.jit(lambda params, z: algorithm.decode(params, z))
        error = lambda z: float(np.square(chunks(lambda p: (decode(params, p),), z)[0] - x).sum() / len(x))
        found.append(_remark(diagnosis.collapse(z, error(z), error(np.roll(z, len(z) // 2, 0)))))
    if f.labels is not None:
        found.append(_remark(diagnosis.probe(value("linear_probe_accuracy"), f.labels)))
    if last is not None:
        metrics = [(r.get("metrics") or {}).get("test loss") or {} for r in (f.results, last[1])]
        found.append(diagnosis.last_run(*metrics, name=last[0]))
    return [sentence for sentence in found if sentence is not None]


def _remark(told: str) -> Sentence | None:
    """A remark as a `Sentence`, whose evidence is the part in parentheses or after a colon; None for no remark."""
    if not told:
        return None
    text, mark, evidence = told.partition(" (") if ": " not in told else told.partition(": ")
    return Sentence(f"{text[0].upper()}{text[1:]}.", evidence.removesuffix(")") if mark == " (" else evidence)


def _of_classes(
    algorithm: Algorithm, params: Params, dataset: Any, value: Callable[[str], float | None]
) -> Sentence | None:
    """The sentence on predicted classes and labels, or on clusters."""
    if algorithm.classes is None:
        accuracy, nmi = value("test clustering_accuracy"), value("test nmi")
        if accuracy is None or nmi is None:
            return None
        return Sentence(f"{accuracy:.1%} of the test examples are in the cluster of their label.", f"NMI {nmi:.3f}")
    predict, wrong, count = jax.jit(algorithm.predict), [], 0  # type: ignore[arg-type]
    for part in (dataset.train, dataset.test):
        if part.y is None:
            return None
        known = labelled(np.asarray(part.y))
        x, y = spread(np.asarray(part.x)[known], EXAMPLES), spread(np.asarray(part.y)[known], EXAMPLES)
        if not (count := len(x)):
            return None
        wrong.append(float((chunks(lambda p: (predict(params, p),), x)[0] != y).mean()))
    return diagnosis.fit_classes(*wrong, examples=count)
