"""Names of classes and files, whatever characters they have, in tables, pictures and pages."""

import csv
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from ae_jax import core, data, networks
from ae_jax.algorithms import autoencoder
from ae_jax.app import files, plots, report
from ae_jax.app.commands import loading, projecting, runs
from ae_jax.training import run_folder

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(40, 2))

NAMES = {
    "tab": "a\tb",
    "newline": "c\nd\r\ne",
    "underscore": "_hidden",
    "dollar": "$5",
    "dollars": "$x_1^$ and $\\frac$",
    "backslash": "a\\b\\$",
    "markup": "<b>&amp;</b>",
    "quotes": '"it\'s"',
    "Greek": "αβγ",
    "Japanese": "猫",
    "emoji": "\N{CAT FACE}",
    "surrogate": "caf\udce9",
    "empty": "",
    "zero width": "a\u200db",
    "long": "n" * 300,
    "percent": "%s {} %(x)d",
}


def drawn(figure):
    """The figure's texts, drawn without a warning."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert axes.get_window_extent().width > 0.3 * figure.bbox.width  # names leave room for the picture
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_class_has_its_place_in_the_legend(name):
    texts = drawn(plots.scatter(CODES, np.arange(40) % 2, classes=[name, "plain"]))
    assert len(texts) == 2
    assert texts[1] == "plain"
    assert texts[0]


def test_names_are_drawn_as_they_are_where_they_can_be():
    told = lambda *names: plots.legible(range(len(names)), names, 24)[0]
    assert told("a\tb", "_c", "$5", "αβγ", "<b>") == ["a b", "_c", r"\$5", "αβγ", "<b>"]
    assert told("\udce9", "\udcea") == ["\ufffd (0)", "\ufffd (1)"]
    assert told("x" * 30 + "1", "x" * 30 + "2") == ["x" * 23 + "… (0)", "x" * 23 + "… (1)"]
    assert told(" \n", "a") == ["(no name)", "a"]
    assert plots.legible([-1, 0, 7], ["a"], 24)[0] == ["no label", "a", "7"]


def test_a_font_that_is_there_draws_what_the_default_lacks():
    sign = "\N{MATHEMATICAL FRAKTUR CAPITAL A}"  # in the STIX fonts that come with matplotlib
    fonts, lacking = plots.fonts_for(frozenset(f"a{sign}\U000e0fff"))
    assert lacking == {"\U000e0fff"}
    assert drawn(plots.scatter(CODES, np.zeros(40), classes=[sign])) == [sign]
    assert plots.fonts_for(frozenset("abc")) == (fonts[:1], frozenset())


@pytest.mark.parametrize("count", [10, 20])
def test_many_long_names_leave_room_for_the_codes(count):
    names = [f"{'name' * 20}{i}" for i in range(count)]
    assert len(set(drawn(plots.scatter(CODES, np.arange(40) % count, classes=names)))) == count


def test_names_stand_at_the_heights_of_a_single_latent():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = ["$", "_b", "猫"]
    figure = plots.scatter(CODES[:, :1], np.arange(40) % 3, classes=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FigureCanvasAgg(figure).draw()
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()][:2] == [r"\$", "_b"]


def test_a_metric_may_have_any_name():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(plots.curve([1, 2], {"train": np.ones((2, 3))}, "$a$ in $\\frac$")).draw()


# ---------------------------------------------------------------------------------- tables and the page


def dataset(names):
    """As many classes as names, six examples each."""
    y = np.arange(6 * len(names), dtype=np.int32) % len(names)
    x = RNG.random((len(y), 4, 4, 1), dtype=np.float32)
    files_ = tuple(f"{name}/{i}.png" for i, name in enumerate(np.array(names, object)[y]))
    return data.Dataset("set", core.Batch(x, y), core.Batch(x, y), "here", None, tuple(names), test_names=files_)


@pytest.fixture
def trained(monkeypatch):
    """An untrained network, opened as a run of a data set."""
    net = networks.mlp((4, 4, 1), 2, hidden=(4,))
    algorithm = autoencoder(net, optax.sgd(0.1))

    def open_with(names):
        held = dataset(names)
        params = algorithm.init(jax.random.key(0), held.train)
        opened = SimpleNamespace(
            algorithm=algorithm, params=params, sources=[], standard=None, folder=run_folder.Folder("nowhere")
        )
        monkeypatch.setattr(runs, "open_run", lambda *args: opened)
        monkeypatch.setattr(runs, "load_own", lambda *_: loading.Splits(held, held.train, None, held.test))
        return algorithm, params, held

    return open_with


def test_metadata_has_a_row_for_every_vector(trained, tmp_path):
    trained(list(NAMES.values()))
    projecting.project(Path("run"), tmp_path)
    vectors = (tmp_path / "vectors.tsv").read_text().splitlines()
    text = (tmp_path / "metadata.tsv").read_bytes().decode()
    rows = text.rstrip("\n").split("\n")
    assert rows[0] == "label\tname"
    assert len(rows) - 1 == len(vectors) == 6 * len(NAMES)
    assert {row.count("\t") for row in rows} == {1}
    assert len(text.splitlines()) == len(rows)  # by any reader's idea of a line
    assert list(csv.reader(rows, delimiter="\t")) == [row.split("\t") for row in rows]
    assert all(field.strip() for row in rows for field in row.split("\t"))
    assert {row.split("\t")[0] for row in rows[1:]} >= {"a b", "_hidden", "$5", "(no name)", "猫", "<b>&amp;</b>"}


def test_no_label_is_no_class(trained, tmp_path):
    _, _, held = trained(["a", "b"])
    held.test.y[:2] = [-1, 7]
    projecting.project(Path("run"), tmp_path)
    assert [row.split("\t")[0] for row in (tmp_path / "metadata.tsv").read_text().splitlines()[1:4]] == [
        "no label",
        "7",
        "a",
    ]


def test_the_report_has_every_name(trained, tmp_path):
    algorithm, params, held = trained([name for name in NAMES.values() if name][:10])
    splits = loading.Splits(held, held.train, None, held.test)
    found = report.gather("<b> $ \udce9", {}, {}, [], algorithm, params, splits, jax.random.key(0), held.classes)
    text = report.write(found, tmp_path).read_text()
    assert "<h1>&lt;b&gt; $ \\udce9</h1>" in text
    assert (tmp_path / "pictures" / "codes.png").exists()


@pytest.mark.parametrize("broken", ["scatter", "ranked", "curve", "savefig"])
def test_a_picture_that_cannot_be_drawn_costs_the_page_nothing_else(broken, trained, tmp_path, monkeypatch):
    algorithm, params, held = trained(["a", "b"])
    splits = loading.Splits(held, held.train, None, held.test)
    history = [{"epoch": 1, "train": {"loss": [1.0]}}]
    found = report.gather("t", {"lr": 1}, {"seeds": [0]}, history, algorithm, params, splits, jax.random.key(0))

    whole = report.write(found, tmp_path).read_text().count("<img")

    def fails(*args, **kwargs):
        raise RuntimeError(f"{broken} cannot be <drawn>\nat all")

    monkeypatch.setattr(report.page if broken == "savefig" else plots, "_png" if broken == "savefig" else broken, fails)
    with pytest.raises(RuntimeError, match="cannot be"):
        report.write(found, tmp_path)
    told = []
    text = report.write(found, tmp_path, told.append).read_text()
    name = {"scatter": "codes", "ranked": "worst_median_best", "curve": "curve_loss"}.get(broken, "walk")
    (line,) = told  # one, however many pictures it kept away
    assert f"lacks {name}" in line or f", {name}" in line
    assert f"could not be drawn: RuntimeError: {broken} cannot be <drawn>" in line
    assert f"{name} could not be drawn: RuntimeError: {broken} cannot be &lt;drawn&gt;</p>" in text
    assert text.count("<img") == (0 if broken == "savefig" else whole - 1)
    assert "<td>1</td>" in text  # the settings
    assert text.endswith("</html>\n")


def test_a_part_that_cannot_be_written_is_named(trained, tmp_path, monkeypatch):
    algorithm, params, held = trained(["a", "b"])
    splits = loading.Splits(held, held.train, None, held.test)
    found = report.gather(
        "t", {}, {"metrics": {"mse": {"mean": "x"}}}, [], algorithm, params, splits, jax.random.key(0)
    )
    told = []
    text = report.write(found._replace(codes=np.zeros(3)), tmp_path, told.append).read_text()
    assert len(told) == 2
    assert any("Results" in line and "ValueError" in line for line in told)
    assert any("The code" in line for line in told)
    assert text.count("<img") > 2


def test_fields_of_a_table():
    assert files.cell("a\tb\r\nc\x85d\u2028e") == "a b c d e"
    assert files.cell("\n ") == files.cell("") == "(no name)"
    assert files.cell('"a"') == "'a'"
    assert files.cell(3) == "3"
