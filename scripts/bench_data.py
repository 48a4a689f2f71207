"""Parts shared by the sides of scripts/bench.py: made-up data, and the type of their work."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

BATCH = 128
EXAMPLES = 100 * BATCH  # examples in the data set of a training case; one call is one pass over it


class Work(NamedTuple):
    """The work that a side repeats."""

    call: Callable[[], float]  # does the work once, waits for the device, and returns the loss (or 0)
    units: int  # examples, operations or bytes of one call
    cost: Callable[[], dict[str, float]] = dict  # XLA's count of "flops" and "bytes accessed" for one unit


def dataset(shape: tuple[int, ...], examples: int = EXAMPLES) -> np.ndarray:
    """Smooth made-up images in (0, 1), the same for every side. -> float32 [examples, *shape]."""
    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    factors, directions = rng.normal(size=(examples, 10)), rng.normal(size=(10, size))
    x = np.empty((examples, size), np.float32)
    for i in range(0, examples, 100):  # small pieces, so that making the data does not set the peak memory
        x[i : i + 100] = 1 / (1 + np.exp(-(factors[i : i + 100] @ directions)))
    return x.reshape(examples, *shape)


def jax_product(device: str) -> Work:
    """One square float32 product by JAX, without ae_jax's compiler flags; the unit is an operation."""
    import jax

    n = 2048 if device == "cpu" else 8192
    a, b = jax.random.normal(jax.random.key(0), (2, n, n))
    run = jax.jit(jax.numpy.matmul)
    return Work(lambda: 0.0 * float(jax.block_until_ready(run(a, b))[0, 0]), 2 * n**3)
