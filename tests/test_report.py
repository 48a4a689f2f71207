"""The report: pictures hold the numbers they were given, and the page is one file that shows them all."""

import base64
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import networks
from ae_jax.algorithms import autoencoder, vae
from ae_jax.app import plots, report
from ae_jax.core import Batch
from ae_jax.corruption import corrupted, masking

RNG = np.random.default_rng(0)


class Data(NamedTuple):
    train: Batch
    test: Batch


def data(shape, count=30, labels=True, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((count, *shape)).astype(np.float32)
    batch = Batch(x, rng.integers(0, 3, count) if labels else None)
    return Data(batch, batch)


def weights(init, batch):
    """Random params in the shapes that `init` gives, without compiling it: most of these tests' time otherwise."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(init, jax.random.key(0), batch)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype) / 3, shapes)


def pixels(figure):
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=plots.DPI)
    return np.asarray(Image.open(buffer).convert("RGB"), float) / 255


# ---------------------------------------------------------------------------------------------- what is computed


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_band_is_the_student_t_interval(seeds):
    from scipy import stats

    values = RNG.normal(size=(5, seeds))
    mean, low, high = plots.band(values)
    expected = stats.t.interval(0.95, seeds - 1, values.mean(-1), stats.sem(values, axis=-1))
    np.testing.assert_allclose(mean, values.mean(-1))
    np.testing.assert_allclose((low, high), expected)


def test_one_seed_has_no_band():
    mean, low, high = plots.band([[3.0], [4.0]])
    np.testing.assert_array_equal(mean, [3, 4])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_the_plane_is_that_of_pca():
    from sklearn.decomposition import PCA

    codes = RNG.normal(size=(200, 6)) * [1, 5, 2, 0.1, 3, 0.5] + 7
    where, reference = plots.plane(codes), PCA(2).fit(codes)
    np.testing.assert_allclose(np.abs(where.directions), np.abs(reference.components_), atol=1e-8)
    assert (where.directions[[0, 1], np.abs(where.directions).argmax(1)] > 0).all()
    at = where.coordinates(codes)
    np.testing.assert_allclose(np.abs(at), np.abs(reference.transform(codes)), atol=1e-8)
    np.testing.assert_allclose(where.codes(at), reference.inverse_transform(reference.transform(codes)), atol=1e-8)


@pytest.mark.parametrize("size", [1, 2])
def test_the_plane_of_small_codes_is_their_own_axes(size):
    codes = RNG.normal(size=(20, size))
    where = plots.plane(codes)
    np.testing.assert_array_equal(where.coordinates(codes), codes)
    np.testing.assert_array_equal(where.codes(codes), codes)


def test_worst_median_and_best():
    errors = np.array([5.0, 1, 9, 3, 7, 2, 8])  # in order: 1 2 3 5 7 8 9
    found = plots.extremes(errors, 3)
    assert {name: errors[i].tolist() for name, i in found.items()} == {
        "worst": [9, 8, 7],
        "median": [3, 5, 7],
        "best": [1, 2, 3],
    }
    assert [len(i) for i in plots.extremes(errors[:2], 8).values()] == [2, 2, 2]


def test_black_and_white():
    assert plots.limits(np.array([0.2, 0.9])) == (0, 1)
    low, high = plots.limits(np.array([-3.0, 1.0]))
    assert low == -high
    assert 2.9 < high <= 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(105.5892, "105.6"), (0, "0"), (-0.00123456, "-0.001235"), (2, "2"), (120, "120"), (1.5e-9, "1.500e-09")],
)
def test_numbers_as_people_write_them(value, text):
    assert plots.number(value) == text


# ------------------------------------------------------------------------------------------------ what is drawn


def test_a_mosaic_has_every_pixel_in_its_place():
    cells = RNG.random((3, 2, 4, 5))
    picture = plots.mosaic(cells, (0, 1), zoom=2, gap=3, every=2, space=7)
    assert picture.shape == (3 * 8 + 2 * 3 + 7, 2 * 10 + 3, 3)
    for r, y in enumerate([0, 11, 29]):
        for c, x in enumerate([0, 13]):
            np.testing.assert_allclose(picture[y : y + 8 : 2, x : x + 10 : 2, 1], cells[r, c])
            np.testing.assert_allclose(picture[y + 1 : y + 8 : 2, x + 1 : x + 10 : 2, 2], cells[r, c])
    assert (picture[19:29] == 1).all()
    np.testing.assert_allclose(
        plots.mosaic(np.array([-2.0, 0, 2, 4]).reshape(1, 1, 2, 2), (-2, 2))[..., 0].ravel(), [0, 0.5, 1, 1]
    )


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_a_saved_grid_of_images_shows_their_values(channels):
    cells = RNG.random((2, 3, 6, 4, *channels))
    found = pixels(plots.examples(cells))
    zoom, gap = 83, 27  # 1000 // (3 * 4), and a third of it
    assert found.shape[:2] == (2 * 6 * zoom + gap, 3 * 4 * zoom + 2 * gap)
    for r in range(2):
        for c in range(3):
            y, x = r * (6 * zoom + gap) + zoom // 2, c * (4 * zoom + gap) + zoom // 2
            shown = found[y : y + 6 * zoom : zoom, x : x + 4 * zoom : zoom]
            cell = cells[r, c] if channels else cells[r, c, ..., None]
            np.testing.assert_allclose(shown[:6, :4], np.broadcast_to(cell, (6, 4, 3)), atol=1 / 255)


def test_originals_stand_above_their_corrupted_form_and_their_reconstructions():
    from matplotlib.text import Text

    x, noisy, out = (
        np.full((20, 8, 8, 1), value) + np.arange(20).reshape(-1, 1, 1, 1) / 100 for value in (0.1, 0.4, 0.7)
    )
    figure = plots.reconstructions(x, out, noisy)
    (image,) = figure.axes[0].get_images()
    picture = np.asarray(image.get_array())
    left = 9 * 17 + 16
    zoom = (1000 - left) // 80
    place = plots.places((6, 10), (8 * zoom, 8 * zoom), every=3, space=16)
    expected = [x[:10], noisy[:10], out[:10], x[10:], noisy[10:], out[10:]]
    for y, row in zip(place.rows, expected, strict=True):
        for at, cell in zip(place.columns, row, strict=True):
            np.testing.assert_allclose(picture[y + 3, at + 3], cell[0, 0, 0])
    words = [t.get_text() for t in figure.findobj(Text) if t.get_text()]
    assert words == ["input", "corrupted", "output"] * 2


def test_every_example_is_shown():
    from matplotlib.text import Text

    x = RNG.random((15, 8, 8, 1))  # a block of ten, and half of one
    figure = plots.reconstructions(x, x)
    assert [t.get_text() for t in figure.findobj(Text) if t.get_text()] == ["input", "output"] * 2


def test_ranked_examples_have_their_errors_below():
    from matplotlib.text import Text

    names = ("worst", "median", "best")
    x = {name: RNG.random((4, 8, 8, 1)) for name in names}
    figure = plots.ranked(x, x, {name: np.arange(4) + 10.0 * i for i, name in enumerate(names)})
    words = [t.get_text() for t in figure.findobj(Text) if t.get_text()]
    assert words[:6] == ["worst", "output", "median", "output", "best", "output"]
    assert words[6:] == [str(v) for i in range(3) for v in range(10 * i, 10 * i + 4)]


def test_vectors_are_lines_over_one_another():
    from matplotlib.collections import LineCollection

    x, out = RNG.random((6, 5)), RNG.random((6, 5))
    figure = plots.reconstructions(x, out)
    frames, first, second = figure.axes[0].findobj(LineCollection)
    assert len(frames.get_segments()) == 6
    low, high = min(x.min(), out.min()), max(x.max(), out.max())
    for drawn, values in ((first, x), (second, out)):
        for n, segment in enumerate(drawn.get_segments()):
            assert np.floor(segment[:, 0]).tolist() == [n % 4] * 5
            inside = segment[:, 1] - (-1 - n // 4)
            np.testing.assert_allclose(inside, 0.08 + 0.84 * (values[n] - low) / (high - low))


def test_rows_of_a_table_are_heat_maps_with_the_names_of_its_columns():
    cells, names = RNG.normal(size=(3, 4, 2)), ["age", "price $"]
    figure = plots.examples(cells, rows=["one", "two", "three"], named=names)
    drawn = [axes for axes in figure.axes if axes.images and axes.get_title("left")]
    assert [axes.get_title("left") for axes in drawn] == ["one", "two", "three"]
    for axes, x in zip(drawn, cells, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), x.T)
        assert axes.images[0].get_clim() == plots.limits(cells)
    assert [text.get_text() for text in drawn[0].get_yticklabels()] == ["age", r"price \$"]
    pair = plots.reconstructions(cells[0], cells[1], named=names)
    np.testing.assert_array_equal([axes.images[0].get_array() for axes in pair.axes[:2]], cells[:2].swapaxes(1, 2))
    walk = plots.walk(cells, (0.0, 1.0), (-1.0, 1.0), ("x", "up"), named=names)
    assert [axes.get_title("left") for axes in walk.axes[:3]] == ["up at 1", "up at 0", "up at -1"]


def test_a_curve_shows_the_mean_and_the_band_of_every_series():
    train, validation = RNG.normal(size=(6, 5)), np.full((6, 5), np.nan)
    validation[[1, 3, 5]] = RNG.normal(size=(3, 5))
    axes = plots.curve(range(1, 7), {"train": train, "validation": validation}, "loss").axes[0]
    first, second = axes.get_lines()
    np.testing.assert_allclose(first.get_xydata(), np.stack([np.arange(1, 7), train.mean(-1)], 1))
    np.testing.assert_allclose(second.get_xdata(), [2, 4, 6])
    np.testing.assert_allclose(second.get_ydata(), validation[[1, 3, 5]].mean(-1))
    _, low, high = plots.band(train)
    vertices = axes.collections[0].get_paths()[0].vertices
    for epoch, a, b in zip(range(1, 7), low, high, strict=True):
        there = vertices[vertices[:, 0] == epoch, 1]
        np.testing.assert_allclose((there.min(), there.max()), (a, b))
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["train", "validation"]
    alone = plots.curve(range(1, 7), {"validation": validation}).axes[0]
    assert alone.get_lines()[0].get_color() == second.get_color() != first.get_color()
    assert alone.get_legend() is not None


def test_a_curve_over_decades_is_logarithmic_and_never_where_values_are_negative():
    fall = np.geomspace(1000, 1, 5)[:, None]
    assert plots.curve(range(5), {"train": fall}).axes[0].get_yscale() == "log"
    assert plots.curve(range(5), {"train": fall - 2}).axes[0].get_yscale() == "linear"


def test_codes_are_scattered_in_the_colours_of_their_labels():
    codes, labels = RNG.normal(size=(40, 2)), np.arange(40) % 4
    figure = plots.scatter(codes, labels, ((-1, 1), (-2, 2)), ("a", "b", "c", "d"))
    points = figure.axes[0].collections[0]
    np.testing.assert_allclose(points.get_offsets(), codes)
    colours = points.get_facecolors()
    assert len(np.unique(colours, axis=0)) == 4
    assert all((colours[labels == k] == colours[labels == k][0]).all() for k in range(4))
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["a", "b", "c", "d"]
    (outline,) = figure.axes[0].get_lines()
    np.testing.assert_allclose(np.ptp(outline.get_xydata(), 0), [2, 4])


def test_codes_of_many_dimensions_are_projected_and_the_title_says_so():
    codes = RNG.normal(size=(50, 7))
    axes = plots.scatter(codes).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), plots.plane(codes).coordinates(codes))
    assert "7-D" in axes.get_title(loc="left")
    assert "principal" in axes.get_title(loc="left")


def test_one_latent_stands_against_its_label_or_is_counted():
    codes, labels = RNG.normal(size=(50, 1)), np.arange(50) % 5
    at = np.asarray(plots.scatter(codes, labels).axes[0].collections[0].get_offsets())
    np.testing.assert_allclose(at[:, 0], codes[:, 0])
    assert (np.round(at[:, 1]) == labels).all()
    counted = plots.scatter(codes).axes[0].patches
    assert sum(bar.get_height() for bar in counted) == 50


def test_many_points_are_thinned_evenly():
    codes = np.stack([np.arange(10_000.0), np.zeros(10_000)], 1)
    at = np.asarray(plots.scatter(codes, most=11).axes[0].collections[0].get_offsets())[:, 0]
    np.testing.assert_allclose(at, np.linspace(0, 9999, 11), atol=0.5)


def test_features_are_scaled_each_by_itself_about_mid_grey():
    kernels = np.zeros((3, 8, 8, 1))
    kernels[0, 0, 0], kernels[1, 0, 0], kernels[1, 0, 1] = 5, -0.01, 0.005
    picture = np.asarray(plots.features(kernels).axes[0].get_images()[0].get_array())
    zoom, gap = 41, 13
    corner = [picture[1, c * (8 * zoom + gap) + 1, 0] for c in range(3)]
    np.testing.assert_allclose(corner, [1, 0, 0.5])
    np.testing.assert_allclose(picture[1, 8 * zoom + gap + zoom + 1, 0], 0.75)


# ------------------------------------------------------------------------------------------------- what is found


def test_first_layer_features_are_the_unit_inputs_that_excite_most():
    net = networks.mlp((4, 4, 1), 3, hidden=(12,))
    params = weights(net.init, Batch(jnp.zeros((1, 4, 4, 1))))
    found, units = report.findings.first_layer(params, (4, 4, 1))
    assert found is not None
    assert found.shape == (12, 4, 4, 1)
    assert units == 12
    flat, kernel = found.reshape(12, -1), np.asarray(params["encoder"]["layer_0"]["kernel"])
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 1, rtol=1e-5)
    response = flat @ kernel
    most = np.sort(np.linalg.norm(kernel, axis=0))[::-1]  # by Cauchy-Schwarz no unit input does better
    np.testing.assert_allclose(response.max(1), most, rtol=1e-5)
    others = RNG.normal(size=(1000, 16))
    assert ((others / np.linalg.norm(others, axis=1, keepdims=True)) @ kernel).max() <= most[0]


def test_first_layer_of_a_convolution_is_its_kernels_and_others_have_none():
    kernel = RNG.normal(size=(3, 3, 1, 5))
    later = {"dense": {"kernel": np.ones((16, 2))}, "level_10": {"kernel": np.ones((3, 3, 5, 2))}}
    params = {"encoder": later | {"level_2": {"bias": np.ones(5), "kernel": kernel}}}
    found, units = report.findings.first_layer(params, (4, 4, 1))
    assert found is not None
    assert units == 5
    order = np.argsort(-np.square(kernel).sum((0, 1, 2)))
    np.testing.assert_array_equal(found, kernel.transpose(3, 0, 1, 2)[order])
    assert report.findings.first_layer(params, (4, 4, 3)) == (None, 0)  # not its channels
    assert report.findings.first_layer({"encoder": {"layer_0": {"kernel": np.ones((9, 2))}}}, (4, 4, 1)) == (None, 0)
    assert report.findings.first_layer({"weights": np.ones((16, 2))}, (4, 4, 1)) == (None, 0)


@pytest.mark.parametrize(
    ("codes", "rests"), [([0, 0.5, 3], True), ([-0.99, 0.2], True), ([-0.3, 0.5], False), ([-0.95, 4], False)]
)
def test_units_that_can_rest(codes, rests):
    assert report.findings.can_rest(np.array(codes)[:, None]) == rests


def test_chunks_cover_everything_once():
    seen = []

    def double(x):
        seen.append(len(x))
        return (2 * x,)

    for count in (1, 6, 7, 12):
        (found,) = report.chunks.chunks(double, np.arange(count), size=6)
        np.testing.assert_array_equal(found, 2 * np.arange(count))
    assert set(seen) == {1, 6}


@pytest.mark.parametrize("latents", [1, 2, 4])
def test_what_is_gathered_is_what_the_model_says(latents):
    sets = data((6, 6, 1))
    algorithm = vae(networks.mlp((6, 6, 1), latents, hidden=(8,), heads=2), optax.sgd(0.1))
    params = weights(algorithm.init, sets.train)
    found = report.gather("t", {}, {"seeds": [0]}, [], algorithm, params, sets, jax.random.key(0))
    x = sets.test.x
    codes = jax.jit(algorithm.encode)(params, x)
    rebuilt = jax.jit(algorithm.decode)(params, codes)
    errors = np.square(rebuilt - x).sum((1, 2, 3))
    np.testing.assert_allclose(found.codes, codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.errors, errors, rtol=1e-5)
    order = np.argsort(errors)
    np.testing.assert_array_equal(found.ranked["best"].indices, order[:8])
    np.testing.assert_array_equal(found.ranked["worst"].indices, order[::-1][:8])
    np.testing.assert_array_equal(found.ranked["median"].indices, order[11:19])
    for group in found.ranked.values():
        np.testing.assert_array_equal(group.originals, x[group.indices])
        np.testing.assert_allclose(group.reconstructions, rebuilt[group.indices], rtol=1e-5)
    assert found.corrupted is None
    assert found.samples is not None
    assert found.samples.shape == (64, 6, 6, 1)
    walk = found.walk
    assert walk is not None
    assert walk.pictures.shape == ((1 if latents == 1 else 12), 12, 6, 6, 1)
    where = plots.plane(found.codes)  # the top left corner: low along the first axis, high along the second
    low, high = np.percentile(where.coordinates(found.codes), [2, 98], axis=0)
    np.testing.assert_allclose((walk.across[0], walk.across[1]), (low[0], high[0]), rtol=1e-5)
    corner = low if latents == 1 else np.array([low[0], high[1]])
    expected = algorithm.decode(params, jnp.asarray(where.codes(corner)[None], jnp.float32))[0]
    np.testing.assert_allclose(walk.pictures[0, 0], expected, rtol=1e-4)


def test_a_denoising_model_is_shown_rebuilding_what_was_corrupted():
    sets = data((6, 6, 1), labels=False)
    algorithm = autoencoder(corrupted(networks.mlp((6, 6, 1), 2), masking(0.5)), optax.sgd(0.1))
    params = weights(algorithm.init, sets.train)
    found, again, other = (
        report.gather("t", {}, {}, [], algorithm, params, sets, jax.random.key(seed)) for seed in (0, 0, 1)
    )
    assert found.corrupted is not None
    erased = found.corrupted == 0
    np.testing.assert_array_equal(found.corrupted[~erased], found.originals[~erased])
    assert 0.4 < erased.mean() < 0.6
    rebuilt = algorithm.decode(params, algorithm.encode(params, found.corrupted))
    np.testing.assert_allclose(found.reconstructions, rebuilt, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.corrupted, again.corrupted)
    assert not np.array_equal(found.corrupted, other.corrupted)
    assert found.samples is None
    assert found.labels is None


def test_an_empty_test_set_is_refused():
    sets = data((4,), count=2)
    empty = sets._replace(test=Batch(sets.test.x[:0]))
    algorithm = autoencoder(networks.mlp((4,), 2), optax.sgd(0.1))
    params = weights(algorithm.init, sets.train)
    with pytest.raises(ValueError, match="test set is empty"):
        report.gather("t", {}, {}, [], algorithm, params, empty, jax.random.key(0))


# -------------------------------------------------------------------------------------------------- what is written


class Page(HTMLParser):
    """What a browser would fetch, run and show."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.images, self.shown, self.ids = [], [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids |= {found["id"]} if "id" in found else set()
        self.links += [found[k] for k in ("href", "action", "data", "srcset") if k in found]
        self.images += [found["src"]] if "src" in found else []

    def handle_data(self, data):
        self.shown.append(data)


def metric(values):
    m = {"values": values, "mean": float(np.mean(values)), "std": None, "low": None, "high": None}
    if len(values) > 1:
        low, high = (float(v) for v in plots.band(values)[1:])
        m |= {"std": float(np.std(values, ddof=1)), "low": low, "high": high}
    return m


CASES = {
    "grey image, K = 2": ((8, 8, 1), 2, 5, True, "vae"),
    "colour image, K = 10": ((8, 8, 3), 10, 1, True, "vae"),
    "vector, K = 2": ((12,), 2, 5, True, "autoencoder"),
    "vector, K = 10, no labels": ((40,), 10, 1, False, "denoising"),
    "one number, K = 1": ((1,), 1, 2, True, "autoencoder"),
    "image, K = 1, no labels": ((6, 9, 1), 1, 1, False, "vae"),
    "many channels, K = 3": ((4, 4, 5), 3, 1, True, "denoising"),
    "large image, K = 2": ((70, 90, 3), 2, 1, True, "vae"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_one_file_that_shows_everything(case, tmp_path):
    from PIL import Image

    shape, latents, seeds, labels, kind = CASES[case]
    sets = data(shape, count=25, labels=labels)
    net = networks.mlp(shape, latents, hidden=(9,), heads=2 if kind == "vae" else 1)
    net = corrupted(net, masking(0.3)) if kind == "denoising" else net
    algorithm = (vae if kind == "vae" else autoencoder)(net, optax.sgd(0.1))
    params = weights(algorithm.init, sets.train)
    results = {
        "seeds": list(range(seeds)),
        "metrics": {"test mse": metric(list(RNG.random(seeds))), "pca mse": metric([0.5] * seeds)},
        "parameters": 1234,
        "seconds": 75.0,
        "examples_per_second": 1e4,
        "device": "cpu",
        "versions": {"jax": "0"},
    }
    history = [{"epoch": e, "train": {"loss": [1.0 / e] * seeds}} for e in (1, 2, 3)]
    found = report.gather("a title", {"lr": 0.1}, results, history, algorithm, params, sets, jax.random.key(0))
    path = report.write(found, tmp_path)
    text = path.read_text()
    page = Page(text)

    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 3_000_000
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    without = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert "://" not in without
    assert "url(" not in without
    assert "@import" not in without
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)

    expected = {"curve_loss", "reconstructions", "worst_median_best", "errors", "walk", "codes", "features"}
    expected |= {"samples", "prior", "kl_of_units"} if kind == "vae" else set()
    expected |= {"traversals"} if latents > 2 else set()
    files = {p.stem: p for p in (tmp_path / "pictures").iterdir()}
    assert set(files) - {"activations"} == expected
    assert all(p.suffix == ".png" for p in files.values())
    for p in files.values():
        Image.open(p).verify()
        assert np.ptp(np.asarray(Image.open(p).convert("L"))) > 50  # something is drawn
    assert len(page.images) == len(files)
    for source in page.images:
        kind_of, content = source.removeprefix("data:image/").split(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.format == {"png": "PNG", "jpeg": "JPEG"}[kind_of]
            image.load()


def small(tmp_path, title="t", settings=None, results=None, history=None, x=None):
    sets = data((4, 4, 1), count=12)
    if x is not None:
        sets = Data(Batch(x), Batch(x))
    algorithm = autoencoder(networks.mlp((4, 4, 1), 2, hidden=()), optax.sgd(0.1))
    params = weights(algorithm.init, sets.train)
    found = report.gather(
        title, settings or {}, results or {}, history or [], algorithm, params, sets, jax.random.key(0)
    )
    return Page(report.write(found, tmp_path).read_text())


@pytest.mark.parametrize("corrupt", [False, True])
def test_the_report_of_documents_has_words_for_curves(corrupt, tmp_path):
    sets = data((7,), count=12, labels=False)
    names = ("ape", "bee", "cow", "dog", "elk", "fox", "gnu")
    net = networks.mlp((7,), 2, hidden=(), heads=2)
    algorithm = vae(corrupted(net, masking(0.3)) if corrupt else net, optax.sgd(0.1))
    params = weights(algorithm.init, sets.train)
    arguments = ("t", {}, {}, [], algorithm, params, sets, jax.random.key(0))
    found = report.gather(*arguments, vocabulary=names)
    path = report.write(found, tmp_path)
    assert {p.stem for p in (tmp_path / "pictures").iterdir()} == {"errors", "codes", "prior", "kl_of_units"}
    text = path.read_text()
    assert "strokes" not in text.lower()
    told = ", ".join(np.array(names)[np.argsort(-found.originals[0])])
    assert f"<td>{told}</td>" in text  # no document's word has probability 0 here
    worst = found.ranked["worst"].originals[0]
    assert text.count(", ".join(np.array(names)[np.argsort(-worst)])) >= 1
    assert found.walk is not None
    cell = report.sections.words(names, found.walk.pictures[0, 0], 4)
    assert f"<tbody><tr><td>{cell}</td>" in text
    assert ("as training saw it" in text) == corrupt
    assert report.sections.words(names, np.array([0, 3, -1, 5, 0, 0, 1]), 2) == "dog, bee"
    assert report.sections.words(names, np.zeros(7)) == "(none)"


def test_what_users_wrote_is_text(tmp_path):
    evil = "<script>alert('x')</script> & \"co\""
    results = {"seeds": [0], "device": evil, "metrics": {evil: metric([1.0])}, "versions": {evil: evil}}
    history = [{"epoch": 1, "train": {"<b>/../loss": [1.0]}}]
    page = small(tmp_path, evil, {evil: {"deep": evil}}, results, history)
    assert not {"script", "b"} & set(page.tags)
    assert sum(evil in shown for shown in page.shown) >= 5  # title twice, settings, device, version
    assert (tmp_path / "pictures" / "curve_b_loss.png").exists()


def test_the_table_has_mean_interval_and_pca(tmp_path):
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    results = {"seeds": [3, 4, 5, 6, 7], "metrics": {"test mse": metric(values), "pca mse": metric([0.25] * 5)}}
    page = small(tmp_path, results=results, settings={"network": {"hidden": (5, 3), "tied": False}, "sigma": None})
    assert "3.0 ± 2.0" in page.shown  # t_{0.975, 4} s / sqrt(5) = 2.7764 * 1.5811 / 2.2361 = 1.963
    assert "0.25" in page.shown
    assert "pca mse" not in page.shown
    assert "seed 7" in page.shown
    for word in ("network.hidden", "5, 3", "no", "none"):
        assert word in page.shown


def test_a_metric_that_is_missing_or_not_finite_is_shown_as_such(tmp_path):
    nothing = {"values": [None, None], "mean": None, "std": None, "low": None, "high": None}
    nan = {"values": [float("nan"), 1.0], "mean": float("nan"), "std": float("nan"), "low": None, "high": None}
    page = small(tmp_path, results={"seeds": [0, 1], "metrics": {"a": nothing, "b": nan}})
    assert "nan" in page.shown
    assert "-" in page.shown


def test_a_run_that_has_only_begun_and_a_dead_code_have_a_page(tmp_path):
    page = small(tmp_path, x=np.zeros((1, 4, 4, 1), np.float32))  # one example: no spread anywhere
    assert "No metrics were measured yet." in page.shown
    assert "Learning" not in page.shown


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    small(tmp_path, title="first")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        small(tmp_path, title="second")
    assert "first" in (tmp_path / "report.html").read_text()
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_importing_is_light_and_drawing_leaves_pyplot_alone():
    code = """
import sys
import numpy as np
from ae_jax.app import plots, report
assert not {"jinja2", "matplotlib", "scipy.special", "sklearn"} & set(sys.modules), "imported before use"
report.page._png(plots.curve([1, 2], {"train": np.ones((2, 3))}))
assert "matplotlib.pyplot" not in sys.modules
"""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


def test_a_picture_too_large_for_png_is_a_jpeg_with_its_noise(tmp_path):
    from matplotlib.figure import Figure
    from PIL import Image

    noise = np.random.default_rng(0).uniform(size=(200, 300, 3))
    figure = Figure(figsize=(3, 2), dpi=100)
    figure.add_axes((0, 0, 1, 1)).imshow(noise)
    png = plots.save_small(figure, tmp_path / "noise.json")
    assert png == tmp_path / "noise.png"
    jpeg = plots.save_small(figure, tmp_path / "noise.json", png.stat().st_size // 2)
    assert jpeg == tmp_path / "noise.jpg"
    assert not png.exists()
    assert jpeg.stat().st_size <= 100_000
    with Image.open(jpeg) as image:
        assert image.size == (300, 200)
        assert np.std(np.asarray(image)[..., :3] / 255) > 0.2  # uniform noise has 0.29
    plots.save_small(figure, tmp_path / "noise.json")
    assert not jpeg.exists()
