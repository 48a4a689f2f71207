"""Keys are addresses, never state: paths of names and numbers below the key of a seed.

Step `t` of epoch `e` has the key `address(key, "epoch", e, "step", t)`, where `key` is `jax.random.key(seed)`.
A function owns the key that it is given: it draws from it once, or splits it, or derives others by `address`, and does
only one of the three.
"""

import zlib

import jax
from jax import Array

Key = Array  # a typed key, jax.random.key(seed)
NAMES = 2**31  # numbers lie below it, names above


def address(key: Key, *path: str | int | Array) -> Key:
    """The key at a path of names and numbers below `key`: `address(key, "epoch", 3, "step", 7)`.

    A name's number is the CRC-32 of its UTF-8 text with the highest bit set, and each part of the path is one
    `jax.random.fold_in`. In JAX `split(key)[i] == fold_in(key, i)`; names keep away from both, since numbers lie below
    2^31. To use one key for two things, give each a name.

    Raises ValueError for a number outside [0, 2^31), where it is not traced.
    """
    for part in path:
        if isinstance(part, str):
            part = zlib.crc32(part.encode()) | NAMES
        elif isinstance(part, int) and not 0 <= part < NAMES:
            raise ValueError(f"{part} is no number in an address: give one from 0 to {NAMES - 1}, or a name")
        key = jax.random.fold_in(key, part)
    return key
