"""Binary images from grey images: each pixel is drawn from a Bernoulli distribution whose mean is its grey value."""

import numpy as np

from ..core import Batch, Key
from ..xla import draws


def binarise(x: np.ndarray, seed: int) -> np.ndarray:
    """Static binarisation: one draw of float32 0 and 1 by `seed`, with x [N, ...] in [0, 1] as probabilities.

    Salakhutdinov & Murray (2008). The draw differs from the fixed files that Larochelle distributed.
    """
    return (np.random.default_rng(seed).random(np.shape(x), np.float32) < np.asarray(x)).astype(np.float32)


def dynamic_binarise(batch: Batch, key: Key) -> Batch:
    """A fresh draw for every batch, inside the compiled step: `core.augment(rule, dynamic_binarise)`."""
    return batch._replace(x=draws.bernoulli(key, batch.x).astype(batch.x.dtype))
