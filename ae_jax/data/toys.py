"""Data that ships with scikit-learn."""

from typing import Any

import numpy as np

from .dataset import Dataset, make_batch, unit_interval
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
    return Dataset("digits", train, test, "scikit-learn", classes=tuple(map(str, bunch.target_names)))


def photos(
    *, patch: Size = 8, count: int = 10000, test_count: int | None = None, colour: bool = False, seed: int = 0
) -> Dataset:
    """Patches of scikit-learn's two sample photographs; train from their left three quarters, test from the rest.

    Args:
        patch: side of a patch in pixels, or (height, width).
        count: how many to train on.
        test_count: how many to test on; a fifth of `count` by default.
        colour: three channels, or one.
        seed: of the places.
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
    return Dataset("photos", make_batch(train), make_batch(test), f"scikit-learn's sample photographs, seed {seed}")
