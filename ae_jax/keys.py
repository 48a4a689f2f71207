"""Keys are addresses, never state: paths of names and numbers below the key of a seed.

Step `t` of epoch `e` has the key `address(key, "epoch", e, "step", t)`, where `key` is `jax.random.key(seed)`.
A function does one of three things with its key: it draws from it once, splits it, or derives others by `address`.
"""

import zlib

import jax
import numpy as np
from jax import Array

Key = Array  # a typed key, jax.random.key(seed)
NAMES = 2**31  # numbers lie below, names at or above


def address(key: Key, *path: str | int | Array) -> Key:
    """The key at a path of names and numbers below `key`: `address(key, "epoch", 3, "step", 7)`.

    Each part of the path is one `jax.random.fold_in`; a name's number is the CRC-32 of its UTF-8 text with the highest
    bit set. In JAX `split(key)[i] == fold_in(key, i)`: a number and a split may give one key, a name gives neither's,
    since numbers lie below 2^31. For two uses of one key, name each.

    Raises ValueError for a number outside [0, 2^31), unless it is traced, and TypeError for a part that is neither a
    name nor a whole number.
    """
    for part in path:
        if isinstance(part, str):
            part = zlib.crc32(part.encode()) | NAMES
        elif isinstance(part, bool) or not jax.numpy.issubdtype(jax.numpy.result_type(part), jax.numpy.integer):
            raise TypeError(f"the address has the part {part!r}: give a name or a whole number")
        elif isinstance(part, int | np.integer) and not 0 <= part < NAMES:
            raise ValueError(f"the address has the number {part}: give one from 0 to {NAMES - 1}, or a name")
        key = jax.random.fold_in(key, part)
    return key
