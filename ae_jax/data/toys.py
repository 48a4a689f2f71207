"""Data that scikit-learn contains, and a toy set for colorization."""

from typing import Any

import numpy as np

from .dataset import DataError, Dataset, make_batch, unit_interval
from .images import Size
from .whitening import patches


def digits() -> Dataset:
    """scikit-learn's handwritten digits, 8x8 grey: the first 1437 to train on, the last 360 to test on.

    Alpaydin & Kaynak (1998), UCI "Optical recognition of handwritten digits", its test part.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    x = (bunch.images / 16).astype(np.float32)[..., None]
    train, test = (make_batch(x[part], bunch.target[part]) for part in (slice(1437), slice(1437, None)))
    return Dataset(
        name="digits", train=train, test=test, source="scikit-learn", classes=tuple(map(str, bunch.target_names))
    )


def photos(
    *, patch: Size = 8, count: int = 10000, test_count: int | None = None, colour: bool = False, seed: int = 0
) -> Dataset:
    """Patches of scikit-learn's two sample photographs; train from their left three quarters, test from the rest.

    Args:
        patch: side of a patch in pixels, or (height, width).
        count: how many to train on.
        test_count: how many to test on; a fifth of `count` by default.
        colour: three channels, or one.
        seed: seed of the random choices.
    """
    from PIL import Image
    from sklearn.datasets import load_sample_images

    bunch: Any = load_sample_images()
    images = [Image.fromarray(image).convert("RGB" if colour else "L") for image in bunch.images]
    pixels = [np.asarray(image).reshape(image.height, image.width, -1) for image in images]
    edge = [image.shape[1] * 3 // 4 for image in pixels]
    train = patches([i[:, :e] for i, e in zip(pixels, edge, strict=True)], patch, count, [seed, 0])
    test = patches(
        [i[:, e:] for i, e in zip(pixels, edge, strict=True)],
        patch,
        max(1, count // 5) if test_count is None else test_count,
        [seed, 1],
    )
    train, test = unit_interval([train, test], "photos")
    return Dataset(
        name="photos",
        train=make_batch(train),
        test=make_batch(test),
        source=f"scikit-learn's sample photographs, seed {seed}",
    )


def red_and_blue(*, size: int = 32, count: int = 4000, test_count: int | None = None, seed: int = 0) -> Dataset:
    """Red circles and blue squares on black, one to four in an image: only the shape determines the colour.

    Both shapes have the same distribution of areas and, in grey, the same brightness. Each is in a quarter of its own,
    so shapes do not touch.

    Args:
        size: side of the images in pixels, 16 at least, even.
        count: how many to train on.
        test_count: how many to test on; a fifth of `count` by default.
        seed: of the images.

    Raises:
        DataError: a size that is odd or too small, or no images.
    """
    test_count = max(1, count // 5) if test_count is None else test_count
    if size < 16 or size % 2 or min(count, test_count) < 1:
        raise DataError(f"{count} + {test_count} images of {size} pixels; one at least, of an even side from 16 on")
    draw, n, half = np.random.default_rng(seed), count + test_count, size // 2
    there = draw.random((n, 4)) < 0.7
    there[np.arange(n), draw.integers(4, size=n)] = True
    circle = draw.random((n, 4)) < 0.5
    side = half * draw.uniform(0.4, 0.75, (n, 4))  # of the square; the circle has its area
    reach = np.where(circle, side / np.pi**0.5, side / 2)
    centre = reach[..., None] + draw.random((n, 4, 2)) * (half - 1 - 2 * reach)[..., None] + 0.5  # [N, 4, 2]
    y, x = (np.arange(half) + 0.5)[:, None], (np.arange(half) + 0.5)[None]
    down, across = np.abs(y - centre[..., :1, None]), np.abs(x - centre[..., 1:, None])  # [N, 4, half, half]
    far = np.where(circle[..., None, None], np.hypot(down, across), np.maximum(down, across))
    inside = (far < reach[..., None, None]) & there[..., None, None]
    coloured = np.stack([inside & circle[..., None, None], 0 * inside, inside & ~circle[..., None, None]], -1)
    grid = coloured.reshape(n, 2, 2, half, half, 3).swapaxes(2, 3).reshape(n, size, size, 3).astype(np.float32)
    return Dataset(
        name="red_and_blue", train=make_batch(grid[:count]), test=make_batch(grid[count:]), source=f"seed {seed}"
    )
