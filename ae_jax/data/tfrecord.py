"""TFRECORD files of `tf.train.Example`, read without TensorFlow: frames, checksums, protocol buffers, access by number.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError

T = TypeVar("T")
Decode = Callable[[dict[str, list]], T]  # of a parsed Example

AGAIN = "prepare the set again"


def masked_crc(raw: bytes) -> int:
    """The checksum of TFRECORD: the CRC-32C of the bytes, rotated by 15 bits to the right, plus a constant."""
    from google_crc32c import value

    crc = value(raw)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _frames(raw: Any, path: Path) -> Iterator[tuple[int, int]]:
    """Start and length of every payload in the bytes of a TFRECORD file.

    A frame is <uint64 length> <crc of the length> <payload> <crc of the payload>. Raises DataError if the checksum of a
    length is wrong, or if the file ends within a frame.
    """
    at = number = 0
    while at < len(raw):
        head = bytes(raw[at : at + 12])
        if len(head) == 12 and masked_crc(head[:8]) != int.from_bytes(head[8:], "little"):
            raise DataError(_damaged(path, number, "the checksum of its length does not fit"))
        length = int.from_bytes(head[:8], "little")
        if len(head) < 12 or at + 16 + length > len(raw):
            raise DataError(f"{path} is cut short: its record {number}, at byte {at}, is incomplete; {AGAIN}")
        yield at + 12, length
        at, number = at + 16 + length, number + 1


def _damaged(path: Path, number: int, why: str) -> str:
    return f"{path} is damaged at record {number} ({why}); {AGAIN}"


def _payload(raw: bytes, path: Path, number: int) -> bytes:
    """`raw` without the checksum at its end. Raises DataError if the checksum is wrong."""
    payload = raw[:-4]
    if masked_crc(payload) != int.from_bytes(raw[-4:], "little"):
        raise DataError(_damaged(path, number, "its checksum does not fit"))
    return payload


def records(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRECORD file. Raises DataError for a record that is damaged or cut short."""
    raw = path.read_bytes()
    for number, (start, length) in enumerate(_frames(raw, path)):
        yield _payload(raw[start : start + length + 4], path, number)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protocol buffer message; length-delimited values are bytes."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
        else:
            size, at = _varint(raw, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = raw[at : at + size], at + size
        yield tag >> 3, value


def _ints(raw: Any) -> list[int]:
    if isinstance(raw, int):  # not packed
        values = [raw]
    else:
        values, at = [], 0
        while at < len(raw):
            value, at = _varint(raw, at)
            values.append(value)
    return [v - (1 << 64) if v >> 63 else v for v in values]


# Feature = oneof {bytes_list = 1, float_list = 2, int64_list = 3}, each with one repeated field `value` = 1
_LISTS: dict[int, Callable[[Any], list]] = {
    1: lambda raw: [raw],
    2: lambda raw: np.frombuffer(raw, "<f4").tolist(),
    3: _ints,
}


def example(raw: bytes) -> dict[str, list]:
    """A serialised tf.train.Example as a dictionary of lists of bytes, floats or integers.

    Example = {features = 1: {feature = 1: map {key = 1, value = 2: Feature}}}.
    """
    parsed = {}
    for _, features in _fields(raw):
        for _, entry in _fields(features):
            pair = dict(_fields(entry))
            value = []
            for kind, items in _fields(pair.get(2, b"")):
                value = [v for _, item in _fields(items) for v in _LISTS[kind](item)]
            parsed[pair[1].decode()] = value
    return parsed


def _decoded(payload: bytes, decode: Decode[T], path: Path, number: int) -> T:
    try:
        return decode(example(payload))
    except Exception as error:  # damaged bytes raise errors of any type
        raise DataError(_damaged(path, number, repr(error))) from error


def examples(path: Path, decode: Decode[T]) -> Iterator[T]:
    """`decode` of every Example of a TFRECORD file, in order. Raises DataError for a record that is damaged or cut."""
    for number, payload in enumerate(records(path)):
        yield _decoded(payload, decode, path, number)


def index(path: Path) -> np.ndarray:
    """Start and length in bytes of the payload of each record of a TFRECORD file: [N, 2]. Raises DataError."""
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty((0, 2), np.int64)
    with open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        return np.asarray(list(_frames(raw, path)), np.int64).reshape(-1, 2)


def by_number(
    paths: Sequence[Path], indices: Sequence[np.ndarray], decode: Decode[T]
) -> Callable[[np.ndarray], Iterator[T]]:
    """A function from ascending numbers of records [n], counted over all files, to `decode` of each record.

    `indices` has the `index` of each file. Records are decoded on all cores. The function raises DataError for a
    damaged record.
    """
    starts = np.concatenate([[0], np.cumsum([len(spans) for spans in indices])])
    pool = ThreadPoolExecutor(thread_name_prefix="decode")

    def read(numbers: np.ndarray) -> Iterator[T]:
        cuts = np.searchsorted(numbers, starts)
        raw = []
        for path, spans, start, a, b in zip(paths, indices, starts[:-1], cuts[:-1], cuts[1:], strict=True):
            if a < b:
                with open(path, "rb", buffering=0) as handle:
                    descriptor = handle.fileno()
                    for number in (numbers[a:b] - start).tolist():
                        at, length = spans[number].tolist()
                        raw.append((path, number, os.pread(descriptor, length + 4, at)))
        pieces = [raw[i : i + 64] for i in range(0, len(raw), 64)]
        decoded = lambda path, number, raw: _decoded(_payload(raw, path, number), decode, path, number)
        for piece in pool.map(lambda some: [decoded(*one) for one in some], pieces):
            yield from piece

    return read
