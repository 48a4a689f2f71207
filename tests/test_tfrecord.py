"""TFRECORD files: checksums, protocol buffers, and records by number."""

import struct

import numpy as np
import pytest

from ae_jax.data import tfrecord
from ae_jax.errors import DataError


def crc(raw):
    """TFRECORD's checksum, bit by bit, as its description has it."""
    c = 0xFFFFFFFF
    for byte in raw:
        c ^= byte
        for _ in range(8):
            c = (c >> 1) ^ 0x82F63B78 if c & 1 else c >> 1
    c ^= 0xFFFFFFFF
    return struct.pack("<I", ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(payload):
    """A payload as a TFRECORD file has it."""
    size = struct.pack("<Q", len(payload))
    return size + crc(size) + payload + crc(payload)


def test_the_checksum_is_crc32c_masked():
    assert (
        tfrecord.masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    )  # RFC 3720
    for raw in (b"", bytes(32), bytes(range(256))):
        assert tfrecord.masked_crc(raw) == struct.unpack("<I", crc(raw))[0]


def test_examples_are_parsed_as_by_tfds_own_protocol_buffers():
    pb = pytest.importorskip("tensorflow_datasets.proto.tf_example_generated_pb2")
    rng = np.random.default_rng(0)
    for trial in range(50):
        message = pb.Example()
        for i in range(rng.integers(0, 5)):
            feature = message.features.feature[f"schlüssel {i}" * trial]
            kind = rng.integers(4)
            size = rng.integers(0, 20)
            if kind == 0:
                feature.bytes_list.value.extend(rng.bytes(int(n)) for n in rng.integers(0, 300, size))
            elif kind == 1:
                feature.float_list.value.extend(rng.normal(size=size).astype(np.float32).tolist())
            elif kind == 2:
                info = np.iinfo(np.int64)
                feature.int64_list.value.extend([info.min, info.max, -1, 0, 127, 128])
                feature.int64_list.value.extend(rng.integers(info.min, info.max, size).tolist())
        parsed = tfrecord.example(message.SerializeToString())
        expected = {}
        for key, feature in message.features.feature.items():
            kind = feature.WhichOneof("kind")
            expected[key] = list(getattr(feature, kind).value) if kind else []
        assert parsed == expected


def test_unpacked_lists_are_parsed_too():
    # Feature {int64_list {value: 5, value: 300}} with one tag per value, as the wire format allows
    ints = b"\x08\x05\x08\xac\x02"
    floats = b"\x0d" + struct.pack("<f", 0.5)
    features = b""
    for key, field, content in ((b"i", 3, ints), (b"f", 2, floats)):
        feature = bytes([field << 3 | 2, len(content)]) + content
        entry = b"\x0a\x01" + key + b"\x12" + bytes([len(feature)]) + feature
        features += b"\x0a" + bytes([len(entry)]) + entry
    assert tfrecord.example(b"\x0a" + bytes([len(features)]) + features) == {"i": [5, 300], "f": [0.5]}


def integers(values):
    """An Example with one feature, `i`."""
    packed = b"".join(bytes([v]) for v in values)
    part = lambda field, raw: bytes([field << 3 | 2, len(raw)]) + raw
    return part(1, part(1, part(1, b"i") + part(2, part(3, part(1, packed)))))


def test_records_are_read_in_order_and_by_number_over_several_files(tmp_path):
    paths = [tmp_path / name for name in ("a", "empty", "b")]
    for path, numbers in zip(paths, (range(100), [], range(100, 120)), strict=True):
        path.write_bytes(b"".join(frame(integers([n])) for n in numbers))
    decode = lambda parsed: parsed["i"][0]
    assert [n for path in paths for n in tfrecord.examples(path, decode)] == list(range(120))
    indices = [tfrecord.index(path) for path in paths]
    assert [spans.shape for spans in indices] == [(100, 2), (0, 2), (20, 2)]
    read = tfrecord.by_number(paths, indices, decode)
    for wanted in ([0], [99, 100], [5, 5, 119], list(range(120)), []):
        assert list(read(np.array(wanted, int))) == wanted


def test_a_record_that_cannot_be_decoded_is_named(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(frame(integers([0])) + frame(integers([1, 2])))

    def decode(parsed):
        (one,) = parsed["i"]
        return one

    told = r"a is damaged at record 1 \(ValueError.*\); prepare the set again"
    with pytest.raises(DataError, match=told):
        list(tfrecord.examples(path, decode))
    with pytest.raises(DataError, match=told):
        list(tfrecord.by_number([path], [tfrecord.index(path)], decode)(np.array([1])))
