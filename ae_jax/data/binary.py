"""Binary images from grey ones, each pixel a coin whose chance of 1 is its grey value."""

import numpy as np

from ..core import Batch, Key
from ..xla import draws


def binarise(x: np.ndarray, seed: int) -> np.ndarray:
    """Static binarisation: x [N, ...] in [0, 1] drawn once, by `seed`, to float32 0 and 1.

    Salakhutdinov & Murray (2008); another draw than the fixed files that Larochelle distributed.
    """
    return (np.random.default_rng(seed).random(np.shape(x), np.float32) < np.asarray(x)).astype(np.float32)


def dynamic_binarise(batch: Batch, key: Key) -> Batch:
    """A fresh draw for every batch, inside the compiled step: `core.augment(rule, dynamic_binarise)`."""
    return batch._replace(x=draws.bernoulli(key, batch.x).astype(batch.x.dtype))
