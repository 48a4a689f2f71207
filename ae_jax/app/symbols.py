"""A file of symbols: the integers of discrete codes in as few bits as they need.

    ae_jax symbols 1                                                                 the first line
    {"shape": [N, P], "alphabet": [S, ...], ..., "checksum": C}                      the second, JSON
    N * (bits of an example) bits                                                    up to the end

Symbol p of an example is below S = alphabet[p % len(alphabet)] and takes ceil(log2 S) bits, the highest bit first.
Examples follow one another without a gap; zeros fill the last byte. C is the CRC-32 of the other entries, as JSON with
sorted names, and of the bits. "params" is the CRC-32 of the params that decode the symbols.
"""

import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.disk import write_atomically
from ..errors import RunError

SUFFIX = ".symbols"
MAGIC = b"ae_jax symbols 1\n"
ROWS = 256  # examples packed at once, eight bytes for a bit; a multiple of 8, so that parts fill whole bytes


class Symbols(NamedTuple):
    """Symbols, their alphabet, and facts about the params that made them."""

    symbols: np.ndarray  # [N, P] int32
    alphabet: tuple[int, ...]
    about: dict[str, Any]  # "params", a checksum; "seed"; "run", in words


def bits_of(places: int, alphabet: tuple[int, ...]) -> np.ndarray:
    """The number of bits of each of an example's `places` symbols. -> [P]."""
    each = [(size - 1).bit_length() for size in alphabet]
    return np.array([max(1, each[p % len(each)]) for p in range(places)])


def pack(symbols: np.ndarray, bits: np.ndarray) -> bytes:
    """Symbols [N, P] as bytes; symbol p takes bits[p] bits."""
    column = np.repeat(np.arange(len(bits)), bits)
    shift = np.concatenate([np.arange(b)[::-1] for b in bits])
    parts = [(symbols[i : i + ROWS, column] >> shift & 1).astype(np.uint8) for i in range(0, len(symbols), ROWS)]
    return b"".join(np.packbits(part).tobytes() for part in parts)


def unpack(content: bytes, count: int, bits: np.ndarray) -> np.ndarray:
    """The inverse of `pack`, for `count` examples. -> [N, P] int32."""
    starts, size = np.cumsum(bits) - bits, int(bits.sum())
    weight = np.concatenate([1 << np.arange(b)[::-1] for b in bits])
    parts = []
    for i in range(0, count, ROWS):
        rows = min(ROWS, count - i)
        part = np.frombuffer(content, np.uint8, -(-rows * size // 8), i * size // 8)
        flat = np.unpackbits(part, count=rows * size).reshape(rows, size)
        parts.append(np.add.reduceat(flat * weight, starts, axis=1).astype(np.int32))
    return np.concatenate(parts)


def _checksum(header: dict[str, Any], content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(json.dumps(header, sort_keys=True).encode()))


def save(path: Path, found: Symbols) -> int:
    """Writes the file, whole or not at all. -> the size of its two lines of header in bytes."""
    header = {"shape": list(found.symbols.shape), "alphabet": list(found.alphabet), **found.about}
    content = pack(found.symbols, bits_of(found.symbols.shape[1], found.alphabet))
    head = MAGIC + json.dumps(header | {"checksum": _checksum(header, content)}).encode() + b"\n"
    write_atomically(path, head + content)
    return len(head)


def load(path: Path | str) -> Symbols:
    """Reads a file of symbols. Raises RunError for any other file, for damage and for symbols out of range."""
    path = Path(path)
    if not path.is_file():
        raise RunError(f"there is no file {path}; ae-jax encode WORKDIR DATA {path} --symbols writes one")
    whole = path.read_bytes()
    if not whole.startswith(MAGIC):
        raise RunError(f"{path} is not a file of symbols of this version; ae-jax encode --symbols writes one")
    line, _, content = whole[len(MAGIC) :].partition(b"\n")
    try:
        header = json.loads(line)
        given = header.pop("checksum")
        if given != _checksum(header, content):
            raise ValueError("its checksum is another")
        (count, places), alphabet = header.pop("shape"), tuple(header.pop("alphabet"))
        bits = bits_of(places, alphabet)
        if min(count, places, *alphabet) < 1 or len(content) != -(-count * int(bits.sum()) // 8):
            raise ValueError(f"{len(content)} bytes are not {count} examples of {places} symbols")
        symbols = unpack(content, count, bits)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}); write it again with ae-jax encode --symbols") from None
    return Symbols(check_range(symbols, alphabet, str(path)), alphabet, header)


def check_range(symbols: np.ndarray, alphabet: tuple[int, ...], source: str) -> np.ndarray:
    """The symbols. Raises RunError for a symbol outside its alphabet."""
    most = np.resize(np.array(alphabet), symbols.shape[1])
    if len(wrong := np.argwhere((symbols < 0) | (symbols >= most))):
        i, p = wrong[0]
        raise RunError(
            f"{source} has the symbol {symbols[i, p]} (place {p} of example {i}); symbols there are from 0 to "
            f"{most[p] - 1}"
        )
    return symbols
