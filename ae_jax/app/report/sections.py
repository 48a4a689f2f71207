"""The sections of a report: the pictures and tables of the findings, and their captions."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...checks import labelled
from ...core import LABELLED
from ...evaluation import METRICS, describe
from .. import plots
from .findings import Compared, Findings, Walk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Metrics of training that `evaluation.describe` does not know, or describes with another meaning.
TRAINING: dict[str, str] = {"loss": "what training minimises", "beta": "weight of the KL in that epoch"}


class Picture(NamedTuple):
    """A figure, the name of its file, and a caption on what it shows and what to look for."""

    name: str
    draw: Callable[[], "Figure"]
    caption: str
    kind: str = "examples"  # or "chart": the page shows charts side by side


class Listing(NamedTuple):
    """A table of words, which replaces a picture for documents."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    kind: str = "listing"


class Section(NamedTuple):
    """A part of the page."""

    heading: str
    lead: str  # a sentence that holds for all its pictures
    pictures: Iterable[Picture | Listing]


def sections(f: Findings) -> list[Section]:
    """The pictures of the report by section. A section makes its pictures when it is iterated over."""
    seeds = f.results.get("seeds") or [0]
    of = f"Of seed {seeds[0]}, on the test set." if len(seeds) > 1 else "On the test set."
    learned = "Values are as the run learned from them, standardised unless they lie in [0, 1]. "
    units = f"{learned}A heat map has a row for each column of the table." if f.columns else ""
    of = f"{of} {units}".strip()
    curves = "Mean over the seeds at each epoch, the 95% interval of that mean shaded." if len(seeds) > 1 else ""
    return [
        Section("Learning", curves, _learning(f)),
        Section("Reconstruction", of, _reconstruction(f)),
        Section("Samples", units, _samples(f)),
        Section("The code", of, _code(f)),
        Section("Symbols", of, _symbols(f)),
        Section("Active units", of, _active(f)),
        Section("Features", "", _features(f)),
    ]


def _learning(f: Findings) -> Iterator[Picture]:
    seeds = len(f.results.get("seeds") or [0])
    parts = [part for part in ("train", "validation") if any(row.get(part) for row in f.history)]
    drawn: dict[str, dict[str, np.ndarray]] = {}  # the curves of each metric
    for metric in ordered({name for row in f.history for part in parts for name in row.get(part) or {}} - {LABELLED}):
        series = {}
        for part in parts:
            rows = [(row.get(part) or {}).get(metric) for row in f.history]
            if any(row is not None for row in rows):
                values = [np.full(seeds, np.nan) if row is None else np.broadcast_to(row, seeds) for row in rows]
                series[part] = np.array(values, float)  # [E, S]
        drawn[metric] = series
    equal: dict[str, list[str]] = {}  # a curve is drawn once, under its first name
    for metric, series in drawn.items():
        first = next((name for name in equal if _same(drawn[name], series)), None)
        minus = next((name for name in equal if _same(drawn[name], series, -1)), None)
        if first is not None:
            equal[first].append(metric)
        elif minus is not None:
            equal[minus].append(f"-{metric}")
        else:
            equal[metric] = []
    for metric, others in equal.items():
        series, meaning = drawn[metric], TRAINING.get(metric) or describe(metric)
        caption = f"{metric}: {meaning}." if meaning else f"{metric}."
        caption += f" Here it is also {' and '.join(others)}." if others else ""
        title = " = ".join([metric, *others])
        draw = partial(plots.curve, [row["epoch"] for row in f.history], series, title)
        yield Picture(f"curve_{slug(metric)}", draw, caption, "chart")


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], sign: int = 1) -> bool:
    """Whether two metrics have equal curves, or with `sign` -1, curves of opposite sign."""
    close = lambda x, y: np.allclose(x, sign * y, rtol=1e-5, atol=0, equal_nan=True)
    return a.keys() == b.keys() and any(np.any(x) for x in a.values()) and all(close(a[part], b[part]) for part in a)


def _reconstruction(f: Findings) -> Iterator[Picture | Listing]:
    made, errors = f.reconstructions, f.errors
    if made is None or errors is None:
        return
    if f.vocabulary:
        yield from _rewritten(f, made, errors)
        yield _spread(f, errors)
        return
    shape = f.originals.shape[1:]
    image = plots.is_image(shape)
    bounds = plots.limits(f.originals)
    scale = "" if bounds == (0.0, 1.0) or not image else f" Mid-grey is zero; black and white are ∓{bounds[1]:.3g}."
    how = "above" if image else "beside" if f.columns else "under"
    if f.codeless:
        caption = (
            f"Test examples, drawn at random, {how} the predictions of each of their numbers from those before it in "
            "the model's order: no code lies between, so they are no reconstructions from one."
        )
    elif f.corrupted is None:
        caption = f"Test examples, drawn at random, {how} their reconstructions from the codes."
    else:
        where = "below" if image else "beside" if f.columns else "over"
        caption = (
            f"Test examples, drawn at random; the same, corrupted as in training; and {where} them the reconstructions "
            "of the corrupted ones. Look for what they lose, and what they invent."
        )
    draw = partial(plots.reconstructions, f.originals, made, f.corrupted, bounds, f.columns)
    yield Picture("reconstructions", draw, caption + scale)
    clean = "" if f.corrupted is None else " The inputs here are clean."
    draw = partial(
        plots.ranked,
        {name: group.originals for name, group in f.ranked.items()},
        {name: group.reconstructions for name, group in f.ranked.items()},
        {name: errors[group.indices] for name, group in f.ranked.items()},
        bounds,
        f.columns,
    )
    yield Picture(
        "worst_median_best",
        draw,
        f"The worst, the median and the best of all {len(errors):,} test examples by squared error summed over an "
        f"example{', written below each pair' if image else ''}.{clean} The worst show what the "
        f"{'model does not expect' if f.codeless else 'code has no room for'}: {'rare shapes, ' if image else 'rare, '}"
        "mislabelled or broken data.",
    )
    yield _spread(f, errors)


def _spread(f: Findings, errors: np.ndarray) -> Picture:
    """The distribution of the test set's errors."""
    marks = {"median": float(np.median(errors)), "mean": float(np.mean(errors))}
    return Picture(
        "errors",
        partial(plots.histogram, errors, "error of each test example", "squared error, summed over an example", marks),
        "How errors spread over the test set. A long tail means that a few examples are hardly "
        f"{'foreseen' if f.codeless else 'coded'} at all.",
        "chart",
    )


def words(vocabulary: Sequence[str], x: np.ndarray, most: int = 8) -> str:
    """The words with the largest positive weights in x [V], in that order, at most `most`."""
    order = np.argsort(-x, kind="stable")[:most]
    return ", ".join(str(vocabulary[i]) for i in order if x[i] > 0) or "(none)"


def _rewritten(f: Findings, made: np.ndarray, errors: np.ndarray) -> Iterator[Listing]:
    """A table of documents: the commonest words of each, and the likeliest words of its reconstruction."""
    tell = lambda x: words(f.vocabulary, x)
    seen = [f.originals] if f.corrupted is None else [f.originals, f.corrupted]
    rows = [[tell(x) for x in row] for row in zip(*seen, made, strict=True)][:10]
    head = ["document", *(["as training saw it"] if f.corrupted is not None else []), "reconstruction"]
    yield Listing(head, rows, "Test documents, drawn at random: their commonest words, and the likeliest of each code.")
    rows = [
        [name, plots.number(float(errors[i])), tell(x), tell(x_hat)]
        for name, group in f.ranked.items()
        for i, x, x_hat in list(zip(*group, strict=True))[:3]
    ]
    told = f"The worst, the median and the best of all {len(errors):,} test documents by squared error summed over "
    yield Listing(
        ["", "error", "document", "reconstruction"],
        rows,
        f"{told}words. The worst show what the code has no room for: documents of few words, or of rare ones.",
    )


def _walked(f: Findings, walk: Walk, what: str) -> Listing:
    """At most five by five cells of a walk, each as its likeliest words."""
    rows, columns = (np.linspace(0, n - 1, min(n, 5)).round().astype(int) for n in walk.pictures.shape[:2])
    cells = [[words(f.vocabulary, walk.pictures[r, c], 4) for c in columns] for r in rows]
    head = [plots.number(v, 3) for v in np.linspace(*walk.across, walk.pictures.shape[1])[columns]]
    return Listing(
        head,
        cells,
        f"A walk in equal steps over {what}, from the 2nd to the 98th percentile of the test set's codes, decoded: the "
        "likeliest words. Columns go along the first axis, rows from top to bottom down the second.",
    )


def _samples(f: Findings) -> Iterator[Picture | Listing]:
    yield from _drawn(f)
    if f.compared is not None:
        yield from _of_samplers(f, f.compared)


def _of_samplers(f: Findings, compared: Compared) -> Iterator[Picture | Listing]:
    """Samples by each sampler in a row, and their distances to the test set."""
    if not f.vocabulary:
        cells = np.stack(list(compared.pictures.values()))
        image = plots.is_image(cells.shape[2:])
        draw = partial(
            plots.examples,
            cells,
            plots.limits(f.originals) if image else None,
            rows=list(compared.pictures),
            named=f.columns,
        )
        order = "" if image or f.columns else f" From the top: {', '.join(compared.pictures)}."
        yield Picture(
            "samplers",
            draw,
            "New examples by the distributions fitted to the codes (ae-jax sample --sampler), a row each; the last row "
            f"is training data.{order} normal is N(0, I), which the codes of a member without a prior do not follow.",
        )
    rows = [[name, plots.number(value, 3)] for name, value in compared.distances.items()]
    yield Listing(
        ["codes from", "Frechet distance"],
        rows,
        f"Frechet distance of {compared.examples:,} samples from as many test examples, in the first "
        f"{compared.features} principal components of the training examples; lower is better. It is biased upwards, "
        "more so for few examples: compare with the row of training examples, and only within this table.",
    )


def _drawn(f: Findings) -> Iterator[Picture | Listing]:
    if f.samples is None:
        return
    if f.vocabulary:
        rows = [[words(f.vocabulary, x)] for x in f.samples[:10]]
        yield Listing(["new documents"], rows, f"{_origin(f)}: the likeliest words of each.")
        return
    side = int(len(f.samples) ** 0.5)
    cells = f.samples[: side * side].reshape(side, side, *f.samples.shape[1:])
    bounds = plots.limits(f.originals) if plots.is_image(f.samples.shape[1:]) else None
    yield Picture(
        "samples",
        partial(plots.examples, cells, bounds, named=f.columns),
        f"New examples. {_origin(f)}. Look for variety and for shapes that belong to no class; compare with the test "
        "examples above.",
    )


def _origin(f: Findings) -> str:
    """How samples were drawn."""
    if f.codeless:
        return "Each number is drawn in the model's order, given those before it"
    if f.of_prior:
        return "Codes are drawn from the prior and decoded; these are means, without the noise of x given its code"
    return "They are drawn from the model, which has no prior of codes; these are means, without the noise of x"


def _code(f: Findings) -> Iterator[Picture | Listing]:
    size = f.codes.shape[1]
    what = {1: "the latent", 2: "the two latents"}.get(size, "the plane of the codes' two principal directions")
    if f.walk is not None and f.vocabulary:
        yield _walked(f, f.walk, what)
    elif f.walk is not None:
        bounds = plots.limits(f.originals)
        names = plots.axis_names(size)
        ends = [plots.number(v, 3) for v in (*f.walk.across, *f.walk.up)]
        axes = f" From {ends[0]} (left) to {ends[1]} (right)" + (
            f", {ends[2]} (bottom) to {ends[3]} (top)" * (size > 1 and not f.columns)
        )
        axes = "" if plots.is_image(f.originals.shape[1:]) else f"{axes}."  # a picture of images names its axes itself
        yield Picture(
            "walk",
            partial(plots.walk, f.walk.pictures, f.walk.across, f.walk.up, names, bounds, f.columns),
            f"A walk in equal steps over {what}, from the 2nd to the 98th percentile of the test set's codes, decoded."
            f"{axes} Neighbours should change smoothly; blurred or broken cells lie where there are no data.",
        )
    yield from _units(f)
    outline = None if f.walk is None or size == 1 else (f.walk.across, f.walk.up)
    labels = (
        ", coloured by label: classes that keep apart can be told apart from the code" if f.labels is not None else ""
    )
    if size == 1 and f.labels is not None:
        labels = ", each at the height of its label (spread a little so that points do not hide each other)"
    without = 0 if f.labels is None else int((~labelled(f.labels)).sum())
    labels += f"; {without:,} of {len(f.codes):,} have no label" * bool(without)
    kind = "hidden units, which stand for a code here," if f.codeless else "codes"
    seen = f"The {kind} of {min(len(f.codes), 5000):,} test examples{labels}."
    seen += "" if outline is None else " The dashed rectangle is what the walk covers."
    seen += "" if size <= 2 else " What looks mixed in two dimensions may be apart in the others."
    yield Picture("codes", partial(plots.scatter, f.codes, f.labels, outline, f.classes), seen, "chart")
    if f.drawn is not None:
        of = "drawn from the posteriors of as many test examples" if f.moments else "of test examples"
        yield Picture(
            "prior",
            partial(plots.overlaid, *f.drawn),
            f"{len(f.drawn.prior):,} draws of the prior under {len(f.drawn.codes):,} codes {of}"
            f"{'' if size <= 2 else ', on the plane of the codes'}. Where the prior alone lies, samples come from "
            "codes that training never decoded; codes outside the prior are never drawn.",
            "chart",
        )
    if f.activations is not None:
        yield Picture(
            "activations",
            partial(
                plots.histogram,
                f.activations,
                f"mean activation of the {size} units",
                "mean over the test set",
                {"mean": float(f.activations.mean())},
            ),
            "How active each unit of the code is on average. In a sparse code the bars crowd near the target; "
            "units at the resting value (0, or -1 for tanh) never fire and are dead.",
            "chart",
        )


def _units(f: Findings) -> Iterator[Picture | Listing]:
    """The units one by one, and the components of the prior."""
    image = plots.is_image(f.originals.shape[1:])
    bounds = plots.limits(f.originals)
    if f.traversals is not None and not f.vocabulary:
        t = f.traversals
        order = "" if image or f.columns else f" From the top: {', '.join(f'unit {u}' for u in t.units)}."
        names = [f"{u}: {plots.number(w, 2)}" for u, w in zip(t.units, t.weights, strict=True)]
        unit = " (in nats)" if t.by == "KL" else ""
        yield Picture(
            "traversals",
            partial(plots.examples, t.pictures, bounds if image else None, rows=names, named=f.columns),
            f"Traversals: each {'panel' if f.columns else 'row'} moves one unit of a typical code, by two deviations "
            f"to both sides of its mean. {len(t.units)} of {f.codes.shape[1]} units, in the order of their "
            f"{t.by}{unit}.{order} "
            "One that hardly changes is of a unit that the decoder ignores.",
        )
    if f.components is not None and not f.vocabulary:
        c = f.components
        wide = min(plots.columns(f.originals.shape[1:]), len(c.pictures))
        rows = -(-len(c.pictures) // wide)
        blank = np.full((rows * wide - len(c.pictures), *c.pictures.shape[1:]), bounds[1])
        cells = np.concatenate([c.pictures, blank]).reshape(rows, wide, *c.pictures.shape[1:])
        cells = c.pictures[None] if f.columns else cells
        told = [f"{share:.1%}" for share in c.shares]
        notes = [told[i : i + wide] for i in range(0, len(told), wide)]
        yield Picture(
            "components",
            partial(plots.examples, cells, bounds if image else None, notes=notes, group=1, named=f.columns),
            f"The prior's components: {len(c.pictures)} of {c.number}, as decoded centres. "
            f"Share of test examples that belong to each{', written below' if image else ''}: the most used first"
            + ("." if image else f", {', '.join(told[:10])}."),
        )
    if f.kl is not None:
        yield Picture(
            "kl_of_units",
            partial(plots.bars, f.kl, [str(i) for i in range(len(f.kl))], "KL of each unit", "nats"),
            "KL of each unit's posterior to the prior N(0, 1), a mean over test examples: in all "
            f"{f.kl.sum():.3g} nats. "
            "A unit near 0 has collapsed: its posterior is the prior.",
            "chart",
        )


def _symbols(f: Findings) -> Iterator[Picture | Listing]:
    if f.symbols is None:
        return
    found, uses = f.symbols, f.symbols.uses
    levels = len(found.sizes)
    names = ["symbols"] if levels == 1 else [f"symbols {n + 1} of a vector" for n in range(levels)]
    series = dict(zip(names, found.shares, strict=True))
    used = ", ".join(f"{len(s):,} of {size:,}" for s, size in zip(found.shares, found.sizes, strict=True))
    yield Picture(
        "symbols",
        partial(plots.usage, series, found.sizes),
        f"How often each symbol occurs, the commonest first; {used} occur. The dashed line is even use. A steep fall "
        "means that few symbols carry the code; those that never occur are missing at the right.",
        "chart",
    )
    told = f"The {len(uses)} commonest symbols{' (first of a vector)' if levels > 1 else ''}, each at the place of the "
    told += "code where it is commonest"
    if f.vocabulary:
        tell = lambda x: "" if x is None else words(f.vocabulary, x)
        rows = [[f"{u.symbol} at {u.place}", f"{u.share:.0%}", tell(u.examples.sum(0)), tell(u.effect)] for u in uses]
        head = ["symbol", "documents", "their words", "words that it adds"]
        yield Listing(head, rows, f"{told}: part of the test documents that have it there, and words.")
        return
    bounds = plots.limits(f.originals)
    cells = np.stack([u.examples for u in uses])
    if all(u.effect is not None for u in uses):
        cells = _with_effects(cells, np.stack([u.effect for u in uses]), bounds)  # type: ignore[misc]
        bounds = (0.0, 1.0)
        told += ". First the change that it makes to the decoded mean code (mid-grey is none), then"
    else:
        told += ":"
    yield Picture(
        "symbol_use",
        partial(
            plots.examples,
            cells,
            bounds,
            rows=[f"{u.symbol} at {u.place}, {u.share:.0%}" for u in uses],
            named=f.columns,
        ),
        f"{told} test examples that have it there, with their part of the test set. Look for what the examples of a "
        "row have in common.",
    )


def _with_effects(cells: np.ndarray, effects: np.ndarray, bounds: plots.Limits) -> np.ndarray:
    """Rows of examples [R, n, *shape], each after its effect [R, *shape]: [R, 1 + n, *shape] in [0, 1].

    Each effect is scaled by itself, with 0 at mid-grey.
    """
    most = np.abs(effects).reshape(len(effects), -1).max(1).reshape(-1, *[1] * (effects.ndim - 1))
    first = 0.5 + effects / np.where(most > 0, 2 * most, 1)
    scaled = np.clip((cells - bounds[0]) / (bounds[1] - bounds[0]), 0, 1)
    return np.concatenate([first[:, None], scaled], 1)


def _active(f: Findings) -> Iterator[Picture | Listing]:
    if (a := f.active) is None:
        return
    dead, alive = int((a.density == 0).sum()), a.density[a.density > 0]
    l0 = float(a.counts.mean())
    yield Picture(
        "density",
        partial(plots.histogram, np.log10(alive), "density of the active units", "log10 of the share of examples"),
        f"The share of the test examples that each unit is active for. {dead:,} of {len(a.density):,} units are dead: "
        "active for none. Features of the data are mostly rare; a unit that is active for most examples says little.",
        "chart",
    )
    yield Picture(
        "active_units",
        partial(plots.histogram, a.counts, "L0, active units of an example", "active units", {"mean": l0}),
        f"How many units are active for an example: {l0:.3g} on average.",
        "chart",
    )
    if len(a.kept) > 1:
        yield Picture(
            "l0_fvu",
            partial(plots.tradeoff, a.kept, a.fvu, (l0, float(a.fvu[-1]))),
            "The fraction of variance unexplained where each example keeps so many of its largest units, and where it "
            "keeps all of them (the point). A curve that is flat before the point has units to spare.",
            "chart",
        )
    label = _label_of(f)
    rows = [
        [
            str(unit),
            f"{a.density[unit]:.3%}",
            plots.number(float(f.codes[index[0], unit]), 3),
            ", ".join(map(label, index)),
        ]
        for unit, index in zip(a.units, a.examples, strict=True)
    ]
    shape = f.originals.shape[1:]
    if plots.is_image(shape):
        wide = max(map(len, a.originals))
        bounds = plots.limits(f.originals)
        blank = lambda n: np.full((wide - n, *shape), bounds[1])
        cells = np.stack([np.concatenate([x, blank(len(x))]) for x in a.originals])
        first = ""
        if a.features is not None:
            cells, first = (
                _with_effects(cells, a.features, bounds),
                "the change that each makes to the decoded example (mid-grey is none), ",
            )
            bounds = (0.0, 1.0)
        yield Picture(
            "most_active",
            partial(plots.examples, cells, bounds, rows=[f"unit {unit}" for unit in a.units]),
            f"Units from the densest to the rarest: {first}and the test examples that excite each most. A unit that "
            "stands for one feature has examples that share it.",
        )
    yield Listing(
        ["unit", "active for", "at most", "examples that excite it most"],
        rows,
        "Units from the densest to the rarest, with the numbers of test examples"
        + " and their labels" * (f.labels is not None)
        + ".",
    )


def _label_of(f: Findings) -> Callable[[int], str]:
    """The number of a test example, with its label if it has one."""
    labels, names = f.labels, f.classes
    if labels is None:
        return str
    told = lambda y: f" ({names[y] if y < len(names) else y})" if y >= 0 else ""
    return lambda i: f"{i}{told(int(labels[i]))}"


def _features(f: Findings) -> Iterator[Picture | Listing]:
    if f.features is None:
        return
    dense = f.features.shape[1:] == f.originals.shape[1:]
    if f.vocabulary:
        rows = [[words(f.vocabulary, w), words(f.vocabulary, -w)] for w in f.features[:20]]
        told = f"Of {len(rows)} units of the first layer, those with the largest weights, of {f.units:,}"
        yield Listing(["excited by", "inhibited by"], rows, f"{told}: the words with the largest weights.")
        return
    shown = f"the {len(f.features)} with the largest weights of {f.units:,}" if len(f.features) < f.units else "all"
    what = "For each unit of the first layer, the input of unit norm that excites it most (w / ‖w‖)"
    image = plots.is_image(f.features.shape[1:])
    strokes = "Strokes, edges and spots are features of the data. " if image else ""
    scale = " Each is scaled by itself, mid-grey is zero." if image else " Each is scaled by itself."
    yield Picture(
        "features",
        partial(plots.features, f.features, f.columns if dense else ()),
        f"{what if dense else 'The kernels of the first convolution'}; {shown}.{scale} "
        f"{strokes}What looks like noise has learned little.",
    )


def ordered(metrics: Iterable[str]) -> list[str]:
    """The metrics in the order of `evaluation.METRICS`; unknown metrics come last, by name."""
    known = list(METRICS)

    def place(name: str) -> tuple[bool, int, str]:
        bare = name.partition(" (")[0]
        first = bare.removeprefix("test ")
        return (first not in known, known.index(first) if first in known else 0, name)

    return sorted(metrics, key=place)


def slug(name: str) -> str:
    """A name for files and for the page's anchors: letters, digits and _."""
    return re.sub(r"\W+", "_", name.lower()).strip("_") or "picture"
