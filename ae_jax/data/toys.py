"""Data that needs no file and no network."""

import numpy as np

from .dataset import Dataset, make_batch


def digits() -> Dataset:
    """scikit-learn's handwritten digits, 8x8 grey: the first 1437 to train on, the last 360 to test on.

    Alpaydin & Kaynak (1998), UCI "Optical recognition of handwritten digits", its test part.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = load_digits()
    x = (bunch.images / 16).astype(np.float32)[..., None]
    train, test = (make_batch(x[part], bunch.target[part]) for part in (slice(1437), slice(1437, None)))
    return Dataset("digits", train, test, "scikit-learn", classes=tuple(map(str, bunch.target_names)))
