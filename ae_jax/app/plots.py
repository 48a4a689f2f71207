"""Pictures of autoencoders: functions of host arrays that give matplotlib Figures.

This module does not import pyplot, so there is no global state, no backend and no window to close:

    plots.reconstructions(x, x_hat).savefig("reconstructions.png")

Images are [N, H, W], [N, H, W, 1] or [N, H, W, 3]; all other examples are vectors and are drawn as lines.
Each pixel of an image is `zoom` x `zoom` dots of the figure, so pixels stay square and sharp.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import category

import numpy as np

from ..checks import labelled
from ..data.disk import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200
WIDTH = 1000  # about the width of a picture of examples in dots
INK, FAINT, GRID = "#333333", "#777777", "#e4e4e4"
BLUE, ORANGE, GREEN = "#2166ac", "#d6670b", "#1b7837"  # differ in luminance too, for colour-blind readers
SMALL, NORMAL = 8.5, 9.5  # points
MISSING = "\ufffd"  # replaces a character that no font has

Limits = tuple[float, float]  # the value drawn black and the value drawn white


# ------------------------------------------------------------------------------------ statistics of a picture


def band(values: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and Student-t 95% confidence interval over the last axis, the seeds: [..., S] -> three [...].

    mean -+ t_{0.975, S-1} s / sqrt(S), with s the unbiased standard deviation. With one seed the interval is nan.
    """
    from scipy.special import stdtrit  # Student's quantile; scipy.stats would take a second to import

    values = np.asarray(values, float)
    count = values.shape[-1]
    mean = values.mean(-1)
    if count < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stdtrit(count - 1, 0.975) * values.std(-1, ddof=1) / np.sqrt(count)
    return mean, mean - half, mean + half


class Plane(NamedTuple):
    """A plane through the codes, or a line if K is 1: a point and orthonormal directions."""

    centre: np.ndarray  # [K]
    directions: np.ndarray  # [2, K], or [1, 1] if K is 1

    def coordinates(self, codes: np.ndarray) -> np.ndarray:
        """[N, K] -> [N, 2]."""
        return (codes - self.centre) @ self.directions.T

    def codes(self, coordinates: np.ndarray) -> np.ndarray:
        """The codes at these coordinates of the plane. [..., 2] -> [..., K]."""
        return self.centre + coordinates @ self.directions


def plane(codes: np.ndarray) -> Plane:
    """For K <= 2 the axes themselves; else the two principal directions of the codes [N, K], through their mean.

    The largest entry of a principal direction is made positive, since its sign is arbitrary.
    """
    size = codes.shape[-1]
    if size <= 2:
        return Plane(np.zeros(size), np.eye(size))
    codes = np.asarray(codes, float)
    centre = codes.mean(0)
    _, vectors = np.linalg.eigh((codes - centre).T @ (codes - centre))  # ascending
    directions = vectors[:, :-3:-1].T
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    return Plane(centre, directions * np.sign(largest))


def limits(x: np.ndarray) -> Limits:
    """(0, 1) for data in [0, 1]; else (-m, m), with m the 99.5th percentile of |x|."""
    if x.size == 0 or (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
        return 0.0, 1.0
    top = float(np.percentile(np.abs(x), 99.5)) or 1.0
    return -top, top


def extremes(errors: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Indices of the `count` examples with the largest errors [N] ("worst"), with median ones, and with the smallest.

    The worst come in falling order of error, the others in rising order.
    """
    order = np.argsort(errors, kind="stable")
    count = min(count, len(order))
    first = (len(order) - count) // 2
    return {"worst": order[::-1][:count], "median": order[first : first + count], "best": order[:count]}


# --------------------------------------------------------------------------------------------------- examples


def is_image(shape: Sequence[int]) -> bool:
    """Whether an example of this shape is an image: [H, W], [H, W, 1] or [H, W, 3].

    [T, C] or [T, C, 1] with T > 8 C is a signal, not an image.
    """
    flat = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))
    return flat and min(shape) >= 1 and (shape[-1] == 3 or shape[0] <= 8 * shape[1])


def as_vectors(x: np.ndarray) -> np.ndarray:
    """Examples as vectors [N, D] to draw. Signals [N, T, C] or [N, T, C, 1] become one channel after another."""
    signals = x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 1)
    return (x.swapaxes(1, 2) if signals else x).reshape(len(x), -1)


def columns(shape: Sequence[int]) -> int:
    """The number of examples of this shape in a row: 10 small images, fewer large ones, or 4 vectors."""
    return int(np.clip(WIDTH // shape[1], 4, 10)) if is_image(shape) else 4


class Places(NamedTuple):
    """The positions of the cells of a mosaic, and its size, in dots from the top left."""

    rows: np.ndarray  # [R]
    columns: np.ndarray  # [C]
    height: int
    width: int


def places(count: tuple[int, int], cell: tuple[int, int], gap: int = 4, every: int = 0, space: int = 0) -> Places:
    """Positions of `count` (rows, columns) cells of that (height, width), `gap` dots apart.

    After every `every` rows (0: never) come `space` more dots.
    """
    row, column = np.arange(count[0]), np.arange(count[1])
    rows = row * (cell[0] + gap) + (row // every * space if every else 0)
    return Places(rows, column * (cell[1] + gap), int(rows[-1]) + cell[0], int(count[1] * (cell[1] + gap) - gap))


def mosaic(cells: np.ndarray, bounds: Limits, zoom: int = 1, **layout: int) -> np.ndarray:
    """Images [R, C, H, W] or [R, C, H, W, 1 or 3] as one picture in [0, 1], with white gaps: [height, width, 3].

    Values are clipped to `bounds`, which become black and white. `layout` has keyword arguments of `places`.
    """
    cells = cells if cells.ndim == 5 else cells[..., None]
    low, high = bounds
    cells = np.clip((cells.astype(float) - low) / (high - low), 0, 1)
    cells = cells.repeat(zoom, 2).repeat(zoom, 3)
    height, width = cells.shape[2:4]
    place = places((cells.shape[0], cells.shape[1]), (height, width), **layout)
    picture = np.ones((place.height, place.width, 3))
    for row, y in zip(cells, place.rows, strict=True):
        for cell, x in zip(row, place.columns, strict=True):
            picture[y : y + height, x : x + width] = cell
    return picture


def examples(
    cells: np.ndarray,
    bounds: Limits | None = None,
    *,
    rows: Sequence[str] = (),
    notes: Sequence[Sequence[str]] = (),
    group: int = 0,
    named: Sequence[str] = (),
) -> Figure:
    """Images [R, C, *shape] in R rows; vectors as lines, or as heat maps if `named` has a name for each dimension.

    `rows` names the rows. After each `group` of rows there is a space; there `notes[g]` puts a word under each column.
    """
    if named:
        return heat(cells if rows else cells.reshape(1, -1, len(named)), rows or [""], named, bounds)
    bounds = limits(cells) if bounds is None else bounds
    if not is_image(cells.shape[2:]):
        return lines({"": cells.reshape(-1, *cells.shape[2:])}, cells.shape[1], bounds)
    left = max((len(name) for name in rows), default=0) * 17 + (16 if rows else 0)
    zoom = max(1, (WIDTH - left) // (cells.shape[1] * cells.shape[3]))
    space = 46 if notes else 16
    layout: dict[str, int] = {"gap": max(4, zoom // 3), "every": group, "space": space}  # visible between large pixels
    picture = mosaic(cells, bounds, zoom, **layout)
    height, width = cells.shape[2] * zoom, cells.shape[3] * zoom
    place = places((cells.shape[0], cells.shape[1]), (height, width), **layout)
    figure, _ = _canvas(picture, left=left, bottom=space if notes else 0)
    full = figure.get_size_inches() * DPI

    def write(x: float, y: float, word: str, size: float, **how: Any) -> None:  # in dots from the top left
        figure.text(x / full[0], 1 - y / full[1], word, fontsize=size, color=INK, **how)

    for name, y in zip(rows, place.rows, strict=False):
        write(left - 16, y + height / 2, name, NORMAL, ha="right", va="center")
    for g, words in enumerate(notes):
        for word, x in zip(words, place.columns, strict=False):
            y = place.rows[(g + 1) * group - 1] + height + 6
            write(left + x + width / 2, y, word, 7.5, ha="center", va="top")
    return figure


def heat(
    cells: np.ndarray, names: Sequence[str], columns: Sequence[str], bounds: Limits | None = None, across: int = 4
) -> Figure:
    """Rows of tables [P, n, D] as P heat maps with names: the D columns downwards, the n rows from left to right.

    All heat maps share one colour scale, so give values in comparable units. Up to 40 columns show their names.
    """
    from matplotlib.figure import Figure

    low, high = limits(cells) if bounds is None else bounds
    wide, size = min(across, len(cells)), cells.shape[2]
    deep = -(-len(cells) // wide)
    words, fonts = legible(range(size), columns, 20)
    inches = float(np.clip(0.14 * size, 0.7, 6))
    figure = Figure(figsize=(2.2 * wide + 2, deep * (inches + 0.4)), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots(deep, wide, squeeze=False, sharey=True)
    for one in axes.flat[len(cells) :]:
        one.set_axis_off()
    shown = None
    for one, x, name in zip(axes.flat, cells, names, strict=False):
        shown = one.imshow(
            x.T, aspect="auto", interpolation="nearest", vmin=low, vmax=high, cmap="RdBu_r" if low < 0 else "viridis"
        )
        one.set_title(name.replace("$", r"\$"), fontsize=SMALL, color=INK, loc="left")
        one.set_xticks([])
        one.set_yticks(range(size) if size <= 40 else [], words if size <= 40 else [], fontfamily=fonts)
        one.tick_params(labelsize=6.5, labelcolor=INK, color=FAINT, length=0)
        one.spines[:].set_visible(False)
    assert shown is not None
    figure.colorbar(shown, ax=axes).ax.tick_params(labelsize=SMALL, labelcolor=INK)
    return figure


def lines(
    series: Mapping[str, np.ndarray], columns: int = 4, bounds: Limits | None = None, rows: Sequence[str] = ()
) -> Figure:
    """Vectors as lines, each series [N, ...]: cell n shows example n of every series in one chart.

    All cells share one vertical scale, `bounds` or the smallest that shows all values. `rows` names the rows.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    flat = {name: as_vectors(np.asarray(x, float)) for name, x in series.items()}
    count, size = next(iter(flat.values())).shape
    low, high = _span(*flat.values()) if bounds is None else bounds
    span = (high - low) or 1.0
    named = len(flat) > 1
    height = -(-count // columns)
    left, top = (0.12 if rows else 0.0), (0.3 if named else 0.05)
    total = height * 0.75 * WIDTH / DPI / columns + top  # inches
    figure = Figure(figsize=(WIDTH / DPI, total), dpi=DPI, facecolor="white")
    axes = figure.add_axes((left, 0.0, 1 - left, 1 - top / total))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(-height, 0)
    corners = np.stack([np.arange(count) % columns, -1.0 - np.arange(count) // columns], -1)[:, None]  # [N, 1, 2]
    frame = np.array([[0.02, 0.03], [0.98, 0.03], [0.98, 0.97], [0.02, 0.97], [0.02, 0.03]])
    axes.add_collection(LineCollection(list(frame + corners), colors=GRID, linewidths=0.6))
    across = np.linspace(0.06, 0.94, size) if size > 1 else np.array([0.5])
    for name, x in flat.items():
        colour, weight = {"input": ("#b0b0b0", 1.8), "corrupted": (ORANGE, 0.7)}.get(name, (BLUE, 0.9))
        y = 0.08 + 0.84 * (np.clip(x, low, high) - low) / span  # [N, D]
        points = np.stack([np.broadcast_to(across, y.shape), y], -1) + corners  # [N, D, 2]
        thin = weight if size < 200 else weight / 2
        axes.add_collection(LineCollection(list(points), colors=colour, linewidths=thin, label=name))
        if size <= 16:
            axes.scatter(*points.reshape(-1, 2).T, s=4, color=colour, linewidths=0)
    for r, name in enumerate(rows):
        axes.text(-0.03, -r - 0.5, name, fontsize=NORMAL, color=INK, ha="right", va="center")
    if named:
        figure.legend(loc="upper left", ncols=len(flat), frameon=False, fontsize=SMALL, labelcolor=INK)
    return figure


def reconstructions(
    originals: np.ndarray,
    outputs: np.ndarray,
    corrupted: np.ndarray | None = None,
    bounds: Limits | None = None,
    named: Sequence[str] = (),
) -> Figure:
    """Originals, their corrupted forms if given, and reconstructions; each [N, *shape].

    Images are in blocks of up to ten columns, a row each for originals, corrupted forms and reconstructions. Vectors
    share a chart, or are heat maps if `named` has a name for each dimension.
    """
    parts = {"input": originals} | ({} if corrupted is None else {"corrupted": corrupted}) | {"output": outputs}
    if named:
        return heat(np.stack(list(parts.values())), list(parts), named, bounds)
    bounds = limits(originals) if bounds is None else bounds
    shape = originals.shape[1:]
    if not is_image(shape):
        return lines(parts, columns(shape))
    wide = min(columns(shape), len(originals))
    blocks = -(-len(originals) // wide)
    blank = np.full((blocks * wide - len(originals), *shape), bounds[1])  # white cells fill the last block
    full = [np.concatenate([x, blank]).reshape(blocks, wide, *shape) for x in parts.values()]
    stacked = np.stack(full, 1)
    cells = stacked.reshape(-1, wide, *shape)
    return examples(cells, bounds, rows=list(parts) * blocks, group=len(parts))


def ranked(
    originals: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    bounds: Limits | None = None,
    named: Sequence[str] = (),
) -> Figure:
    """Inputs and outputs [n, *shape], with errors [n], of each group, such as "worst", "median" and "best"."""
    names = list(originals)
    if named:
        cells = np.stack([group[name] for name in names for group in (originals, outputs)])
        return heat(cells, [word for name in names for word in (name, "output")], named, bounds, across=2)
    shape = originals[names[0]].shape[1:]
    bounds = limits(np.concatenate(list(originals.values()))) if bounds is None else bounds
    if not is_image(shape):
        n = min(columns(shape), len(originals[names[0]]))
        pair = [np.concatenate([group[name][:n] for name in names]) for group in (originals, outputs)]
        return lines({"input": pair[0], "output": pair[1]}, n, rows=names)
    cells = np.concatenate([np.stack([originals[name], outputs[name]]) for name in names])
    rows = [word for name in names for word in (name, "output")]
    notes = [[number(e, 3) for e in errors[name]] for name in names]
    return examples(cells, bounds, rows=rows, notes=notes, group=2)


def walk(
    cells: np.ndarray,
    across: Limits,
    up: Limits,
    names: tuple[str, str],
    bounds: Limits | None = None,
    named: Sequence[str] = (),
) -> Figure:
    """Decoded codes of a grid [R, C, *shape]; `up` grows from the bottom row to the top, `across` from left to right.

    `names` are the names of the two axes; one row means one axis. Vectors are heat maps if `named` has a name for each
    dimension.
    """
    if named:
        places = [number(v, 3) for v in np.linspace(up[1], up[0], len(cells))]
        return heat(cells, [""] if len(cells) == 1 else [f"{names[1]} at {place}" for place in places], named)
    bounds = limits(cells) if bounds is None else bounds
    if is_image(cells.shape[2:]):
        zoom = max(1, (WIDTH - 160) // (cells.shape[1] * cells.shape[3]))
        picture = mosaic(cells, bounds, zoom, gap=2)
        one = len(cells) == 1
        figure, axes = _canvas(picture, left=40 if one else 140, bottom=90, right=20, top=20)
        height, width = picture.shape[:2]
    else:
        return lines({"": cells.reshape(-1, *cells.shape[2:])}, cells.shape[1])
    cell = height / len(cells), width / cells.shape[1]  # the outer ticks are at the centres of the outermost cells
    axes.set_xticks([cell[1] / 2, width / 2, width - cell[1] / 2], _three(across))
    axes.set_xlabel(names[0], fontsize=SMALL, color=INK)
    if len(cells) > 1:
        axes.set_yticks([height - cell[0] / 2, height / 2, cell[0] / 2], _three(up))
        axes.set_ylabel(names[1], fontsize=SMALL, color=INK)
    axes.tick_params(labelsize=SMALL, labelcolor=INK, color=FAINT, length=2)
    return figure


def features(kernels: np.ndarray, named: Sequence[str] = ()) -> Figure:
    """First-layer features [M, *shape]. Each is scaled so that 0 is mid-grey and its largest weight black or white."""
    size = np.abs(kernels).reshape(len(kernels), -1).max(-1)
    scaled = kernels / np.where(size == 0, 1, size).reshape(-1, *[1] * (kernels.ndim - 1))
    if named:
        return heat(scaled[None], [""], named, (-1.0, 1.0))
    wide = min(len(kernels), columns(kernels.shape[1:]))
    rest = -len(kernels) % wide
    white = np.ones((rest, *kernels.shape[1:]))
    if not is_image(kernels.shape[1:]):
        return lines({"": scaled}, wide, (-1.0, 1.0))
    cells = np.concatenate([scaled, white]).reshape(-1, wide, *kernels.shape[1:])
    return examples(cells, (-1.0, 1.0))


# ----------------------------------------------------------------------------------------------------- charts


def curve(epochs: Sequence[float], series: Mapping[str, Any], title: str = "") -> Figure:
    """One metric over epochs, the mean over seeds with its 95% band; each series [E, S], by name.

    The vertical axis is logarithmic where all values are positive and span more than a factor of 20.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _chart(title.replace("$", r"\$"), "epoch")
    values = [np.asarray(v, float) for v in series.values()]
    others = iter((BLUE, GREEN, FAINT))
    for name, value in series.items():
        colour = ORANGE if name == "validation" else next(others)
        mean, low, high = band(value)
        one = {"marker": "o", "markersize": 4} if len(epochs) == 1 else {}
        there = np.isfinite(mean)  # some epochs have no validation
        at = np.asarray(epochs)[there]
        axes.plot(at, mean[there], color=colour, linewidth=1.5, label=name, **one)
        axes.fill_between(at, low[there], high[there], color=colour, alpha=0.22, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
        _style(axes)
    if list(series) != ["train"]:
        axes.legend(frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.2)
    return figure


def curves(
    series: Mapping[str, tuple[Sequence[float], Any]], title: str = "", runs: Sequence[str] | None = None
) -> Figure:
    """One metric of several runs over epochs, the mean over seeds with its 95% band: name -> epochs [E], values [E, S].

    `runs` names all runs of a page, so that a run has the same colour in every chart.
    The vertical axis is logarithmic where all values are positive and span more than a factor of 20.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _chart(title.replace("$", r"\$"), "epoch")
    names = list(series) if runs is None else list(runs)
    for name, (epochs, values) in series.items():
        colour = _palette(len(names))[names.index(name)]
        mean, low, high = band(values)
        there = np.isfinite(mean)
        at, one = np.asarray(epochs)[there], {"marker": "o", "markersize": 4} if there.sum() == 1 else {}
        axes.plot(at, mean[there], color=colour, linewidth=1.5, label=name.replace("$", r"\$"), **one)
        axes.fill_between(at, low[there], high[there], color=colour, alpha=0.18, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    every = np.concatenate([np.ravel(values) for _, values in series.values()])
    finite = every[np.isfinite(every)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
        _style(axes)
    shown = {"frameon": False, "fontsize": SMALL, "labelcolor": INK, "handlelength": 1.2}
    if len(series) <= 4 and max(map(len, series)) <= 24:
        axes.legend(**shown)
    else:  # under the chart, which many or long names would cover
        figure.set_figheight(figure.get_figheight() + 0.17 * len(series))
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), **shown)
    return figure


def scatter(
    codes: np.ndarray,
    labels: np.ndarray | None = None,
    outline: tuple[Limits, Limits] | None = None,
    classes: Sequence[str] = (),
    most: int = 5000,
) -> Figure:
    """Codes [N, K] in two dimensions, coloured by label [N] if given; `classes` names the labels.

    Codes of K > 2 are projected on their two principal components. Codes of K = 1 are drawn against the label, or as a
    histogram without labels. `outline` is a rectangle to mark, the two ranges of a walk. At most `most` points are
    drawn, evenly spaced through the data.
    """
    size = codes.shape[1]
    some = np.linspace(0, len(codes) - 1, min(most, len(codes))).round().astype(int)
    at = plane(codes).coordinates(codes)[some]
    labels = None if labels is None else labels[some]
    title = "codes" if size <= 2 else f"{size}-D codes, their two principal components"
    names = axis_names(size)
    if size == 1 and labels is None:
        return histogram(at[:, 0], "codes", names[0])
    from matplotlib.colors import to_rgba

    figure, axes = _chart(title, names[0], square=True)
    if size == 1 and labels is not None:
        noise = np.random.default_rng(0).uniform(-0.35, 0.35, len(at))  # keeps points from hiding each other
        at = np.stack([at[:, 0], labels + noise], -1)
        axes.set_ylabel("label", fontsize=SMALL, color=INK)
    else:
        axes.set_ylabel(names[1], fontsize=SMALL, color=INK)
    dots = {"s": float(np.clip(9000 / len(at), 3, 14)), "linewidths": 0, "alpha": 0.75}
    kinds = np.zeros(0) if labels is None else np.unique(labels)
    if labels is None:
        axes.scatter(*at.T, color=BLUE, **dots)
    elif len(kinds) > 20 or not np.all(kinds == np.round(kinds)):
        at, labels = at[labelled(labels)], labels[labelled(labels)]
        points = axes.scatter(*at.T, c=labels, cmap="viridis", **dots)
        bar = figure.colorbar(points, ax=axes, label="label")
        bar.ax.tick_params(labelsize=SMALL)
    else:
        which = np.searchsorted(kinds, labels)
        known = labelled(kinds)  # examples without a label come first
        palette = np.concatenate([np.tile(to_rgba(FAINT), ((~known).sum(), 1)), _palette(known.sum())])
        axes.scatter(*at.T, c=palette[which], **dots)
        columns = 1 + (len(kinds) > 10)
        named, fonts = legible(kinds.tolist(), classes, 24 // columns)
        if size == 1:
            axes.set_yticks(kinds, named, fontfamily=fonts)
            return figure
        beside = columns * (0.35 + 0.08 * max(map(len, named)))  # width of the names in inches
        figure.set_figwidth(max(figure.get_figwidth(), 3.2 + beside))
        for colour in palette:
            axes.scatter([], [], color=colour, s=18, label="class")
        legend = axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=SMALL, labelcolor=INK,
            handletextpad=0.1, title="label", title_fontsize=SMALL, ncols=columns,
        )  # fmt: skip
        for text, name in zip(legend.get_texts(), named, strict=True):  # matplotlib leaves out labels such as _a
            text.set(text=name, fontfamily=fonts)
    if outline is not None and size > 1:
        (x0, x1), (y0, y1) = outline
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    return figure


def overlaid(drawn: np.ndarray, codes: np.ndarray) -> Figure:
    """Draws of a prior [N, K] under codes [M, K], on the plane of the codes; for K = 1 two histograms."""
    size = codes.shape[1]
    names = axis_names(size)
    figure, axes = _chart("prior and codes", names[0], square=size > 1)
    if size == 1:
        for values, colour, name in ((drawn, FAINT, "prior"), (codes, BLUE, "codes")):
            axes.hist(values[:, 0], bins=50, density=True, histtype="step", color=colour, linewidth=1.5, label=name)
        axes.set_ylabel("density", fontsize=SMALL, color=INK)
    else:
        where = plane(codes)
        for values, colour, name in ((drawn, ORANGE, "prior"), (codes, BLUE, "codes")):
            at = where.coordinates(values)
            axes.scatter(*at.T, s=5, linewidths=0, alpha=0.45, color=colour, label=name)
        axes.set_ylabel(names[1], fontsize=SMALL, color=INK)
    axes.legend(frameon=False, fontsize=SMALL, labelcolor=INK, markerscale=2, loc="upper right")
    return figure


def bars(values: np.ndarray, names: Sequence[str], title: str, unit: str) -> Figure:
    """A bar for each value [N], the largest first; up to 40 bars have their names below."""
    order = np.argsort(-values, kind="stable")
    figure, axes = _chart(title, "unit")
    axes.bar(np.arange(len(values)), values[order], color=BLUE, alpha=0.8, width=0.8 if len(values) <= 100 else 1.0)
    axes.set_ylabel(unit, fontsize=SMALL, color=INK)
    shown = len(values) <= 40
    size = SMALL if len(values) <= 20 else 5.5
    axes.set_xticks(np.arange(len(values)) if shown else [])
    axes.set_xticklabels([names[int(i)] for i in order] if shown else [], fontsize=size)
    return figure


def histogram(values: np.ndarray, title: str, name: str, marks: Mapping[str, float] | None = None) -> Figure:
    """How often values [N] occur, with vertical lines at the named `marks`."""
    figure, axes = _chart(title, name)
    values = values[np.isfinite(values)]
    spread = np.ptp(values) > 1e-9 * max(1.0, np.abs(values).max(initial=0)) if values.size else False
    axes.hist(values, bins=min(50, max(5, len(values) // 8)) if spread else 1, color=BLUE, alpha=0.8, linewidth=0)
    for (word, place), style in zip((marks or {}).items(), ("-", "--", ":"), strict=False):
        axes.axvline(place, color=INK, linewidth=1, linestyle=style, label=f"{word} {number(place)}")
    axes.set_ylabel("count", fontsize=SMALL, color=INK)
    if marks:
        axes.legend(loc="upper right", frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.2)
    return figure


def usage(series: Mapping[str, np.ndarray], sizes: Sequence[int]) -> Figure:
    """Shares of the symbols in use, in falling order, as steps. A dashed line is the even share 1/S for a size S."""
    figure, axes = _chart("use of symbols", "symbols, the commonest first")
    for (name, shares), size, colour in zip(series.items(), sizes, _palette(len(series)), strict=True):
        axes.stairs(np.maximum(shares, 1e-12), np.arange(len(shares) + 1), color=colour, linewidth=1.5, label=name)
        axes.axhline(1 / size, color=colour, linewidth=1, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylabel("share", fontsize=SMALL, color=INK)
    _style(axes)
    if len(series) > 1:
        axes.legend(loc="lower left", frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.2)
    return figure


def tradeoff(l0: np.ndarray, fvu: np.ndarray, own: tuple[float, float]) -> Figure:
    """FVU [P] against L0 [P], and the point `own` (L0, FVU) of the code itself. Positive values have log axes."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = _chart("unexplained variance by active units", "L0, active units of an example")
    axes.plot(l0, fvu, marker="o", markersize=3, color=BLUE, linewidth=1.5)
    axes.plot(*own, marker="o", markersize=7, color=ORANGE, linestyle="none")
    axes.set_ylabel("FVU", fontsize=SMALL, color=INK)
    for scaled, axis, values in ((axes.set_xscale, axes.xaxis, l0), (axes.set_yscale, axes.yaxis, fvu)):
        if values.min() > 0:
            scaled("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    _style(axes)
    return figure


def legible(kinds: Sequence[float], classes: Sequence[str], most: int) -> tuple[list[str], list[str]]:
    """For each label a distinct class name that can be drawn; and the fonts for these names.

    A label without a name is its own name. Names are cut to `most` characters, and control characters become spaces. A
    character that no installed font has becomes U+FFFD. Names with such a character, and equal names, get the label
    added.
    """
    named = [str(classes[int(k)]) if 0 <= k < len(classes) else f"{k:g}" for k in kinds]
    named = ["no label" if isinstance(k, int) and k < 0 else name for k, name in zip(kinds, named, strict=True)]
    fonts, lacking = fonts_for(frozenset("".join(named)))
    shown = []
    for name in named:
        name = "".join(" " if c.isspace() or category(c) == "Cc" else c for c in name if category(c) != "Cf")
        name = "".join(MISSING if c in lacking else c for c in name).strip()
        shown.append((name if len(name) <= most else f"{name[: most - 1]}…") or "(no name)")
    unclear = [MISSING in name or shown.count(name) > 1 for name in shown]
    full = [f"{name} ({kind:g})" if which else name for name, kind, which in zip(shown, kinds, unclear, strict=True)]
    # matplotlib reads text between two $ as mathematics
    return [name.replace("$", r"\$") for name in full], list(fonts)


@lru_cache
def fonts_for(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The default font, with installed fonts for the characters that it lacks; and the characters that no font has."""
    from matplotlib import font_manager, rcParams

    logger = logging.getLogger(font_manager.__name__)

    def has(family: str | None) -> set[str]:
        level = logger.level
        logger.setLevel(logging.ERROR)  # else it warns about each font without a normal weight
        try:
            wanted = font_manager.FontProperties(family=family)
            path = font_manager.findfont(wanted, fallback_to_default=family is None)
            return set(map(chr, font_manager.get_font(path).get_charmap()))
        except (ValueError, RuntimeError, OSError):  # a font file that is gone, or that FreeType cannot draw
            return set()
        finally:
            logger.setLevel(level)

    lacking = {c for c in characters if category(c) not in ("Cc", "Cf", "Zs", "Zl", "Zp")} - has(None)
    families = list(rcParams["font.family"])
    others = {font.name for font in font_manager.fontManager.ttflist} if lacking else set()
    # Last Resort draws a box for every character
    for family in sorted(name for name in others if not name.startswith("Last Resort")):
        if lacking & (found := has(family)):
            families.append(family)
            lacking -= found
    return tuple(families), frozenset(lacking)


def axis_names(size: int) -> tuple[str, str]:
    """The names of the two axes of a plane through K-dimensional codes."""
    return ("$z_1$", "$z_2$") if size <= 2 else ("first principal direction", "second principal direction")


def number(value: float, digits: int = 4) -> str:
    """A number with that many significant digits, without trailing zeros, and without an exponent such as 1e+02."""
    value = float(value)
    if not np.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    magnitude = int(np.floor(np.log10(abs(value))))
    if magnitude < -4 or magnitude > 6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{max(0, digits - 1 - magnitude)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# ------------------------------------------------------------------------------------------- files and figures


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all; the same figure gives the same bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, metadata={"Software": None})
    write_atomically(path, drawn.getvalue())


def save_small(figure: Figure, path: Path, most: int = 400_000) -> Path:
    """Writes a figure as PNG or, if that has more than `most` bytes, as JPEG of the best quality that fits, or of 40.

    JPEG keeps the noise of photographs, which a PNG of fewer colours loses. Returns the path of the file. A file of the
    other format under that name is removed.
    """
    from PIL import Image

    png, jpeg = path.with_suffix(".png"), path.with_suffix(".jpg")
    drawn, smaller = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    if len(drawn.getvalue()) <= most:
        write_atomically(png, drawn.getvalue())
        jpeg.unlink(missing_ok=True)
        return png
    with Image.open(drawn) as image:
        for quality in (95, 92, 88, 84, 80, 70, 60, 40):
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, format="JPEG", quality=quality, subsampling=0)
            if len(smaller.getvalue()) <= most:
                break
    write_atomically(jpeg, smaller.getvalue())
    png.unlink(missing_ok=True)
    return jpeg


def _canvas(picture: np.ndarray, left: int = 0, bottom: int = 0, right: int = 0, top: int = 0) -> tuple[Figure, Axes]:
    """A figure with the picture [h, w, 3], one dot for each pixel, and margins in dots."""
    from matplotlib.figure import Figure

    height, width = picture.shape[:2]
    full = (width + left + right, height + bottom + top)
    figure = Figure(figsize=(full[0] / DPI, full[1] / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((left / full[0], bottom / full[1], width / full[0], height / full[1]))
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure, axes


def _chart(title: str, name: str, square: bool = False) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.0 if square else 2.8), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=NORMAL, color=INK)
    axes.set_xlabel(name, fontsize=SMALL, color=INK)
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(which="both", labelsize=SMALL, labelcolor=INK, color=FAINT, length=2)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _palette(count: int) -> np.ndarray:
    from matplotlib import colormaps

    return np.asarray(colormaps["tab10" if count <= 10 else "tab20"](np.arange(count)))


def _span(*arrays: np.ndarray) -> Limits:
    return float(min(a.min() for a in arrays)), float(max(a.max() for a in arrays))


def _three(ends: Limits) -> list[str]:
    """The ends and the middle of a range as text, with three significant digits of its width."""
    decimals = max(0, 2 - int(np.floor(np.log10(ends[1] - ends[0]))))
    return [f"{round(v, decimals) + 0.0:.{decimals}f}" for v in (ends[0], (ends[0] + ends[1]) / 2, ends[1])]
