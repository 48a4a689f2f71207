"""Harder forms of a set of digits: turned, on noise, on photographs, and turned on photographs.

Larochelle, Erhan, Courville, Bergstra & Bengio (2007), ICML, section 4.1, made them from MNIST. This module makes them
by the same recipe from any grey images with labels, so they agree in distribution but not image by image.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..checks import check_choice
from .dataset import DataError, Dataset, expanded, make_batch, take
from .folders import NAMES
from .images import read_images
from .whitening import patches

Variant = Literal["basic", "rot", "bg_rand", "bg_img", "bg_img_rot"]

# The least standard deviation of a background with pixels in [0, 1]. The paper ignores patches "which had low pixel
# variance (i.e. contained little texture)" and gives no number; this number keeps half of the patches of BSDS500.
TEXTURE = 0.1


def variant(
    source: Dataset,
    kind: Variant,
    *,
    photographs: str | Path | None = None,
    count: int = 10000,
    validation_count: int | None = None,
    test_count: int | None = None,
    seed: int = 0,
) -> Dataset:
    """A variant of a set of grey images; its train and test parts are shuffled together and split again.

    All kinds with one seed have the same images in the same order, and share angles and photographs. Each pixel is the
    larger of the digit's and the background's value. Only digits are turned, not backgrounds. The test part has no
    patches of the photographs of the training and validation parts.

    Args:
        source: grey images with labels, such as `load("mnist")`.
        kind: basic (the images as they are), rot (turned by an angle uniform in [0, 2 pi)), bg_rand (each pixel of
            the background uniform in [0, 1]), bg_img (patches of photographs) or bg_img_rot (rot on these patches).
        photographs: for the last two, a folder of photographs with folders train and test in it.
        count: how many to train on.
        validation_count: how many to validate on; a fifth of `count` by default.
        test_count: how many to test on; five times `count` by default, as in the paper.
        seed: of the split, the angles and the backgrounds.

    Raises:
        DataError: an unknown kind, no photographs where they are needed, no labels, images in colour, or too few.
    """
    check_choice("kind", kind, get_args(Variant), error=DataError)
    shape = source.train.x.shape[1:]
    if source.train.y is None or len(shape) != 3 or shape[-1] != 1:
        raise DataError(f"variants are made of grey images with labels; {source} does not have both")
    validation_count = max(1, count // 5) if validation_count is None else validation_count
    test_count = 5 * count if test_count is None else test_count
    counts = (count, validation_count, test_count)
    pool = [np.concatenate([np.asarray(a), np.asarray(b)]) for a, b in zip(source.train, source.test, strict=True)]
    if min(counts) < 1 or sum(counts) > len(pool[0]):
        raise DataError(f"{' + '.join(map(str, counts))} images were asked for; {source.name} has {len(pool[0])}")

    order = np.random.default_rng([seed, 0]).permutation(len(pool[0]))[: sum(counts)]
    chosen = make_batch(pool[0][order], pool[1][order])
    x = np.asarray(chosen.x)[..., 0]
    if kind in ("rot", "bg_img_rot"):
        x = rotate(x, np.random.default_rng([seed, 1]).uniform(0, 2 * np.pi, len(x)))
    if kind == "bg_rand":
        x = np.maximum(x, np.random.default_rng([seed, 2]).random(x.shape, np.float32))
    if kind in ("bg_img", "bg_img_rot"):
        train, test = _photographs(photographs, kind)
        learning = count + validation_count
        below = [textured(train, shape[:2], learning, [seed, 3]), textured(test, shape[:2], test_count, [seed, 4])]
        x = np.maximum(x, np.concatenate(below)[..., 0].astype(np.float32) / np.float32(255))
    whole = chosen._replace(x=x[..., None])
    ends = np.cumsum((0, *counts))
    train, validation, test = (take(whole, slice(a, b)) for a, b in pairwise(ends))
    where = f", {photographs}" if kind in ("bg_img", "bg_img_rot") else ""
    origin = f"{source.name} from {source.source}{where}, seed {seed}"
    return Dataset(
        name=f"{source.name} {kind}",
        train=train,
        test=test,
        source=origin,
        validation=validation,
        classes=source.classes,
    )


def rotate(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Images [N, H, W] turned anticlockwise about their centres by angles [N] in radians, bilinearly; 0 outside."""
    height, width = images.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(np.float32).reshape(2, 1, -1)
    rows, columns = rows - (height - 1) / 2, columns - (width - 1) / 2
    out = np.empty((len(images), height * width), images.dtype)
    for part in np.array_split(np.arange(len(images)), max(1, len(images) // 1000)):  # a few megabytes at a time
        cos, sin = (f(angles[part]).astype(np.float32)[:, None] for f in (np.cos, np.sin))
        # the position from which each pixel comes, in an image with two rows and columns of zeros added on every side
        r = np.clip(cos * rows + sin * columns + (height - 1) / 2 + 2, 0.5, height + 2.5)
        c = np.clip(cos * columns - sin * rows + (width - 1) / 2 + 2, 0.5, width + 2.5)
        wide = width + 4
        flat = np.pad(images[part], ((0, 0), (2, 2), (2, 2))).reshape(-1)
        top, left = r.astype(np.int32), c.astype(np.int32)
        down, right = r - top, c - left
        first = np.arange(len(part), dtype=np.int32)[:, None] * ((height + 4) * wide) + top * wide + left
        upper = flat[first] * (1 - right) + flat[first + 1] * right
        lower = flat[first + wide] * (1 - right) + flat[first + wide + 1] * right
        out[part] = upper * (1 - down) + lower * down
    return out.reshape(images.shape)


def textured(
    images: Sequence[np.ndarray], size: tuple[int, int], count: int, seed: list[int], least: float = TEXTURE
) -> np.ndarray:
    """`patches` of uint8 images with a standard deviation of at least `least`, where 255 is 1. -> [count, h, w, C].

    Raises:
        DataError: fewer than one patch in a hundred has this deviation.
    """
    found: list[np.ndarray] = []
    for i in range(100):
        drawn = patches(images, size, count, [*seed, i])
        found.append(drawn[drawn.reshape(count, -1).std(1) >= 255 * least])
        if sum(map(len, found)) >= count:
            return np.concatenate(found)[:count]
    raise DataError(f"hardly a patch of {size[0]}x{size[1]} in these photographs varies by {least:g}; choose others")


def _photographs(folder: str | Path | None, kind: str) -> list[list[np.ndarray]]:
    """The grey photographs of a folder's parts train and test."""
    if folder is None:
        raise DataError(f"{kind} lays digits on photographs; name a folder of them: photographs=FOLDER")
    path = expanded(folder)
    below = {p.name.lower(): p for p in path.iterdir() if p.is_dir()} if path.is_dir() else {}
    parts = [next((below[name] for name in NAMES[part] if name in below), None) for part in ("train", "test")]
    if None in parts:
        raise DataError(f"{path} must be a folder with folders train and test, so that no photograph is in both")
    return [read_images(part, colour=False) for part in parts if part is not None]
