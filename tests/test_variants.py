"""Harder forms of a set of digits: each property of the recipe, on scikit-learn's digits."""

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from ae_jax import data
from ae_jax.core import Batch
from ae_jax.data.variants import TEXTURE, rotate, textured

DIGITS = data.load("digits")
SIZES = {"count": 100, "validation_count": 20, "test_count": 300}
KINDS = ("basic", "rot", "bg_rand", "bg_img", "bg_img_rot")
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Dark photographs to train on and bright ones to test on: a patch's brightness tells its source."""
    folder = tmp_path_factory.mktemp("photographs")
    for part, low in (("train", 0), ("test", 128)):
        (folder / part).mkdir()
        for i in range(2):
            pixels = np.random.default_rng([low, i]).integers(low, low + 128, (40, 50), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{i}.png")
    return folder


def make(kind, photographs, seed=0):
    return data.variant(DIGITS, kind, photographs=photographs, seed=seed, **SIZES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_is_a_function_of_its_seed(kind, photographs):
    once, again, other = (make(kind, photographs, seed) for seed in (3, 3, 4))
    for part, size in zip(PARTS, SIZES.values(), strict=True):
        a, b, c = (getattr(d, part) for d in (once, again, other))
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
        assert not np.array_equal(a.x, c.x)
        assert a.x.shape == (size, 8, 8, 1)
        assert a.x.dtype == np.float32
        assert a.x.min() >= 0
        assert a.x.max() <= 1
        np.testing.assert_array_equal(a.y, getattr(make("basic", photographs, 3), part).y)


def test_basic_is_a_split_of_all_images_without_repetition(photographs):
    basic = make("basic", photographs)
    drawn = np.concatenate([getattr(basic, part).x for part in PARTS])
    labels = np.concatenate([getattr(basic, part).y for part in PARTS])
    where = {x.tobytes(): y for batch in DIGITS for x, y in zip(batch.x, batch.y, strict=True)}
    assert len({x.tobytes() for x in drawn}) == len(drawn)  # no two of these digits are equal
    assert [where[x.tobytes()] for x in drawn] == labels.tolist()
    assert {x.tobytes() for x in DIGITS.test.x} & {x.tobytes() for x in basic.train.x}


def test_digits_lie_on_their_backgrounds_by_the_larger_value(photographs):
    basic, turned = make("basic", photographs), make("rot", photographs)
    for digits, kind in ((basic, "bg_rand"), (basic, "bg_img"), (turned, "bg_img_rot")):
        for part in PARTS:
            over, digit = getattr(make(kind, photographs), part).x, getattr(digits, part).x
            assert (over >= digit).all()
            assert (over == digit)[digit == 1].all()
            assert (over > digit).mean() > 0.2
    noise = make("bg_rand", photographs).test.x[basic.test.x == 0]
    assert np.quantile(noise, (0.25, 0.5, 0.75)) == pytest.approx((0.25, 0.5, 0.75), abs=0.02)
    images, both = make("bg_img", photographs).test.x, make("bg_img_rot", photographs).test.x
    empty = (basic.test.x == 0) & (turned.test.x == 0)
    np.testing.assert_array_equal(images[empty], both[empty])  # one seed, one background


def test_train_and_test_photographs_do_not_mix(photographs):
    made, basic = make("bg_img", photographs), make("basic", photographs)
    for part in PARTS:
        background = getattr(made, part).x[getattr(basic, part).x == 0]
        assert (background.min() >= 128 / 255) if part == "test" else (background.max() < 128 / 255)


def test_rotation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    images = rng.random((7, 9, 12), np.float32)
    angles = rng.uniform(0, 2 * np.pi, 7)
    turned = rotate(images, angles)
    for image, angle, ours in zip(images, angles, turned, strict=True):
        # order 1 with zeros around it that it interpolates to, as ours does
        theirs = scipy.ndimage.rotate(image, np.degrees(angle), reshape=False, order=1, mode="grid-constant")
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_angles_are_uniform_on_the_circle():
    """A bar from the centre upwards, turned, points to its angle."""
    x = np.zeros((4000, 15, 15, 1), np.float32)
    x[:, :7, 7] = 1
    source = data.Dataset("bars", Batch(x[:2000], np.zeros(2000, int)), Batch(x[2000:], np.zeros(2000, int)), "a test")
    made = data.variant(source, "rot", count=3000, validation_count=1, test_count=999).train.x[..., 0]
    rows, columns = np.mgrid[:15, :15] - 7
    angle = np.arctan2((made * -columns).sum((1, 2)), (made * -rows).sum((1, 2)))
    share = np.histogram(angle, 8, (-np.pi, np.pi))[0] / 3000
    assert share == pytest.approx(np.full(8, 1 / 8), abs=0.025)  # four standard deviations


def test_backgrounds_have_texture():
    flat = np.full((60, 60, 1), 90, np.uint8)
    half = flat.copy()
    half[:30] = np.random.default_rng(0).integers(0, 256, (30, 60, 1))
    found = textured([flat, half], (8, 8), 500, [0])
    assert found.shape == (500, 8, 8, 1)
    assert found.reshape(500, -1).std(1).min() >= 255 * TEXTURE
    with pytest.raises(data.DataError, match="hardly a patch"):
        textured([flat], (8, 8), 10, [0])


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("rotated", {}, "must be one of basic, rot"),
        ("bg_img", {}, "photographs=FOLDER"),
        ("bg_img", {"photographs": "/nonexistent"}, "folders train and test"),
        ("rot", {"count": 1000}, r"1000 \+ 200 \+ 5000 .* digits has 1797"),
        ("rot", {"count": 0, "test_count": 1}, "were asked for"),
    ],
)
def test_what_cannot_be_made_is_refused(kind, options, told):
    with pytest.raises(data.DataError, match=told):
        data.load("variants", of="digits", kind=kind, **({"count": 10} | options))
    unlabelled = data.Dataset("x", Batch(DIGITS.train.x), Batch(DIGITS.test.x), "a test")
    with pytest.raises(data.DataError, match="with labels"):
        data.variant(unlabelled, "rot", count=10)


SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.full("makes 62,000 images for three counts")
@pytest.mark.skipif(not SHARED.exists(), reason=f"needs the data in {SHARED}")
def test_all_of_mnist_on_photographs(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(SHARED / "tensorflow_datasets"))
    made = data.load("variants", kind="bg_img_rot", photographs=str(SHARED / "bsds500"))
    assert str(made).startswith("mnist bg_img_rot: 10000 train + 2000 validation + 50000 test examples of 28x28x1, 10")
