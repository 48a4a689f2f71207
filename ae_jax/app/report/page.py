"""The page of a report: its parts as data, which `page.html.j2` lays out."""

import base64
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ...data.disk import write_atomically
from ...errors import first_line
from ...evaluation import describe
from ...evaluation.diagnosis import Sentence
from .. import plots
from .findings import Findings
from .sections import TRAINING, Listing, Picture, ordered, sections, slug

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")


class Image(NamedTuple):
    """A picture in the page."""

    name: str
    caption: str
    layout: str  # "examples" or "chart"
    source: str  # a data URL
    width: int  # in pixels
    height: int
    kind: str = "image"


class Missing(NamedTuple):
    """A part of the page that is missing because of an error."""

    name: str
    reason: str
    kind: str = "missing"


class Row(NamedTuple):
    """A name, its numbers, and the meaning of the name."""

    name: str
    values: Sequence[str]
    phrase: str = ""


class Table(NamedTuple):
    """A table of numbers. The first entry of `head` is the heading of the names."""

    head: Sequence[str]
    rows: Sequence[Row]


class Results(NamedTuple):
    """The metrics of a run; `table` is None before they are measured."""

    remarks: Sequence[str] = ()  # of `diagnosis`
    table: Table | None = None
    note: str = ""
    left_out: Sequence[str] = ()  # sentences on metrics that were not measured, with the reason
    each: Table | None = None  # the values of each seed, for several seeds
    confusion: Table | None = None
    kind: str = "results"


class Settings(NamedTuple):
    """Names and values; the page folds settings that have a title."""

    rows: Sequence[tuple[str, str]]
    title: str = ""
    kind: str = "settings"


Block = Image | Listing | Missing | Results | Settings  # the template has a macro for each kind


class Part(NamedTuple):
    """A heading, and the blocks and charts under it."""

    heading: str
    blocks: Sequence[Block]
    charts: Sequence[Block] = ()  # side by side if there is room
    lead: str = ""


Attempt = Callable[[str, Callable[[], T]], T | Missing]


def write(findings: Findings, folder: str | os.PathLike[str], tell: Callable[[str], None] | None = None) -> Path:
    """Writes `report.html` and `pictures/*.png` under the folder, each whole or not at all; returns the page's path.

    With `tell`, a part of the page that raises an error is left out, and `tell` gets a line on it. Without `tell`, the
    first error is raised.
    """
    folder = Path(folder)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    failed: dict[str, list[str]] = {}  # by reason

    def attempt(name: str, make: Callable[[], T]) -> T | Missing:
        """A part of the page, or the reason why it is missing."""
        try:
            return make()
        except Exception as error:  # drawing libraries raise errors of any kind
            if tell is None:
                raise
            reason = explained(error)
            failed.setdefault(reason, []).append(name)
            return Missing(name, reason)

    def shown(part: Picture | Listing) -> Block:
        if isinstance(part, Listing):
            return part
        png = _png(part.draw())
        write_atomically(folder / "pictures" / f"{part.name}.png", png)
        return _image(part, png)

    path = folder / "report.html"
    summed = attempt("the summary", lambda: summary(findings.results, len(findings.history)))
    text = render(findings.title, summed, parts(findings, shown, attempt), findings.account)
    write_atomically(path, text.encode(errors="backslashreplace"))
    for reason, names in failed.items():
        assert tell is not None
        tell(f"{path} lacks {', '.join(names)}, which could not be drawn: {reason}")
    return path


def explained(error: BaseException) -> str:
    """An error as one line."""
    text, kind = first_line(error), type(error).__name__
    return text if text == kind else f"{kind}: {text}"


def render(title: str, summed: str | Missing, content: Sequence[Part], account: Sequence[Sentence] = ()) -> str:
    """The page as HTML, with texts escaped."""
    import jinja2

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["slug"] = slug
    style = (here / "style.css").read_text("utf-8")
    page = environment.get_template("page.html.j2")
    return page.render(title=title, summary=summed, account=account, parts=content, style=style)


def parts(f: Findings, shown: Callable[[Picture | Listing], Block], attempt: Attempt) -> list[Part]:
    """The content of the page. `shown` draws a picture; `attempt(name, make)` calls `make()` and handles its errors."""
    found = [Part("Results", [attempt("Results", lambda: _results(f.results, bool(f.account)))])]
    for section in sections(f):
        charts: list[Block] = []
        others: list[Block] = []

        def fill() -> None:
            for picture in section.pictures:
                name = picture.name if isinstance(picture, Picture) else section.heading
                (charts if picture.kind == "chart" else others).append(attempt(name, partial(shown, picture)))

        if missing := attempt(section.heading, fill):
            others.append(missing)
        if charts or others:
            found.append(Part(section.heading, others, charts, section.lead))
    versions = f.results.get("versions") or {}
    settings = attempt("Settings", lambda: _settings(f.settings))
    found.append(Part("Settings", [settings, attempt("Versions", lambda: _settings(versions, "Versions"))]))
    return found


def summary(results: Mapping[str, Any], epochs: int) -> str:
    """One line: seeds, epochs, parameters, time, speed and device."""
    seeds = results.get("seeds") or []
    parts = [
        f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}" if seeds else "",
        ", ".join(f"seed {seed} failed in epoch {e}" for seed, e in (results.get("failed") or {}).items()),
        f"{epochs:,} epochs" if epochs > 1 else "1 epoch" if epochs else "",
        f"{int(results['parameters']):,} parameters" if results.get("parameters") else "",
        _duration(results["seconds"]) if results.get("seconds") else "",
        f"{float(results['examples_per_second']):,.0f} examples/s" if results.get("examples_per_second") else "",
        str(results.get("device") or ""),
    ]
    return " · ".join(part for part in parts if part)


def _results(results: Mapping[str, Any], told: bool = False) -> Results:
    """The results of a run. With `told`, the remarks of a single seed are left out, since the account has them."""
    metrics, seeds = results.get("metrics") or {}, results.get("seeds") or []
    if not metrics:
        return Results()
    many = len(seeds) > 1
    pca = {name.removeprefix("pca "): m for name, m in metrics.items() if name.startswith("pca ")}
    beside = {name: pca.get(name.removeprefix("test ")) for name in metrics}  # the PCA of each metric
    alone = [name for name in metrics if not (name.startswith("pca ") and pca[name[4:]] in beside.values())]
    rows, single = [], []
    for name in ordered(alone):
        m, other = metrics[name], beside[name]
        values = [measured(m)]
        if pca:
            values.append("" if other is None else _number(other.get("mean")))
        if many:
            values.append(_number(m.get("std"), 2))
        rows.append(Row(name, values, describe(name.removeprefix("test ")) or TRAINING.get(name, "")))
        of_seeds = [_number(v) for v in m.get("values") or []]
        if len(of_seeds) == len(seeds):  # other metrics are one number for all seeds
            single.append(Row(name, of_seeds))
    head = ["metric", "mean ± 95%" if many else "value", *(["PCA"] if pca else []), *(["std"] if many else [])]
    notes = [
        "Mean over seeds ± its 95% confidence interval by Student's t; std is the standard deviation between seeds."
        if many
        else "One seed, so no interval: train several seeds to see how much is chance."
    ]
    if pca:
        notes.append("PCA: the same measure for principal component analysis with as many components as the code.")
    each = Table(["metric", *(f"seed {s}" for s in seeds)], single) if many else None
    return Results(
        remarks=[] if told and not many else results.get("remarks") or [],
        table=Table(head, rows),
        note=" ".join(notes),
        left_out=[f"{line[0].upper()}{line[1:]}." for line in results.get("left_out") or []],
        each=each,
        confusion=_confusion(results.get("confusion")),
    )


def _confusion(found: Mapping[str, Any] | None) -> Table | None:
    """The confusion matrix of `measuring.confusion`, if there is one."""
    if not found:
        return None
    rows = [Row(name, list(map(str, row))) for name, row in zip(found["labels"], found["counts"], strict=True)]
    return Table(["label", *found["told"]], rows)


def _settings(settings: Mapping[str, Any], title: str = "") -> Settings:
    def flat(nested: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
        for name, value in nested.items():
            if isinstance(value, Mapping) and value:
                yield from flat(value, f"{path}{name}.")
            else:
                yield f"{path}{name}", value

    def shown(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return ", ".join(map(shown, value)) or "none"
        return {"None": "none", "True": "yes", "False": "no", "": "none", "{}": "none"}.get(str(value), str(value))

    return Settings([(name, shown(value)) for name, value in flat(settings)], title)


def drawn(picture: Picture) -> Image:
    """Draws a picture for the page."""
    return _image(picture, _png(picture.draw()))


def _image(picture: Picture, png: bytes) -> Image:
    data, kind = (png, "png") if len(png) <= 300_000 else (_jpeg(png), "jpeg")  # photographs as JPEG
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")  # PNG's header, IHDR
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    name = picture.name.replace("_", " ")
    return Image(name=name, caption=picture.caption, layout=picture.kind, source=source, width=width, height=height)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=plots.DPI, metadata={"Software": None})
    return buffer.getvalue()


def _jpeg(png: bytes) -> bytes:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.open(io.BytesIO(png)).convert("RGB").save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()


def _number(value: Any, digits: int = 4) -> str:
    return "-" if value is None else plots.number(value, digits)


def measured(metric: Mapping[str, Any]) -> str:
    """Mean ± half of its interval. The half has two significant digits, and the mean has as many decimals."""
    value, low, high = (metric.get(which) for which in ("mean", "low", "high"))
    if value is None or low is None or high is None or not np.isfinite([value, low, high]).all():
        return _number(value)
    half = (high - low) / 2
    decimals = max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 8
    short = decimals <= 7
    return f"{value:.{decimals}f} ± {half:.{decimals}f}" if short else f"{_number(value)} ± {_number(half, 2)}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(float(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{float(seconds):.3g} s"
