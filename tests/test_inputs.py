"""What belongs to the data and what does not: records, folders, labels, splits, words."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from ae_jax import data
from ae_jax.data import tfds

# --------------------------------------------------------------------------------------- prepared sets, by hand


def varint(n):
    n, out = n & (1 << 64) - 1, b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def part(field, raw):
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def crc(raw):
    """TFRECORD's checksum, bit by bit, as its description has it."""
    c = 0xFFFFFFFF
    for byte in raw:
        c ^= byte
        for _ in range(8):
            c = (c >> 1) ^ 0x82F63B78 if c & 1 else c >> 1
    c ^= 0xFFFFFFFF
    return struct.pack("<I", ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(label, pixels=None):
    """A frame of a TFRECORD file: an image of 4x4 and a label."""
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40 * max(label, 0), np.uint8) if pixels is None else pixels).save(file, "PNG")
    entry = lambda key, kind, value: part(1, part(1, key) + part(2, part(kind, part(1, value))))
    raw = part(1, entry(b"image", 1, file.getvalue()) + entry(b"label", 3, varint(label)))
    size = struct.pack("<Q", len(raw))
    return size + crc(size) + raw + crc(raw)


def prepared(root, labels, classes=("cat", "dog", "owl")):
    """A prepared set `toy` under root, labels by split; its folder."""
    kind = lambda name: f"tensorflow_datasets.core.features.{name}"
    image = {"image": {"dtype": "uint8", "shape": {"dimensions": ["4", "4", "1"]}}, "pythonClassName": kind("Image")}
    label = {"classLabel": {"numClasses": str(len(classes))}, "pythonClassName": kind("ClassLabel")}
    folder = root / "toy" / "1.0.0"
    folder.mkdir(parents=True)
    features = {"featuresDict": {"features": {"image": image, "label": label}}}
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "label.labels.txt").write_text("\n".join(classes) + "\n")
    splits = [{"name": split, "shardLengths": [str(len(y))]} for split, y in labels.items()]
    (folder / "dataset_info.json").write_text(json.dumps({"name": "toy", "fileFormat": "tfrecord", "splits": splits}))
    for split, y in labels.items():
        (folder / f"toy-{split}.tfrecord-00000-of-00001").write_bytes(b"".join(map(record, y)))
    return folder


def test_the_checksum_is_crc32c_masked():
    assert (
        tfds.masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    )  # RFC 3720
    for raw in (b"", bytes(32), bytes(range(256))):
        assert tfds.masked_crc(raw) == struct.unpack("<I", crc(raw))[0]


def everything(load, root):
    """All examples of train, as `load` or `open_stream` has them."""
    found = load("toy", data_dir=root)
    return found.train if load is data.load else found.train.raw(np.arange(len(found.train)))


@pytest.mark.parametrize("load", [data.load, data.open_stream])
def test_no_flipped_bit_of_a_record_file_is_read(tmp_path, load):
    folder = prepared(tmp_path, {"train": [0, 1, 2] * 4, "test": [0, 1]})
    file = folder / "toy-train.tfrecord-00000-of-00001"
    whole = file.read_bytes()
    assert len(everything(load, tmp_path).x) == 12
    length = len(record(0))
    rng = np.random.default_rng(0)
    places = [*range(16), length - 1, *rng.integers(0, len(whole), 40)]  # length, its checksum, payload, its checksum
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(data.DataError, match=rf"{file.name} is damaged at record \d+ \(") as error:
            everything(load, tmp_path)
        assert f"record {np.searchsorted(ends(whole), at, side='right')} " in str(error.value)


def ends(whole):
    """Where each record of a file ends."""
    found, at = [], 0
    while at < len(whole):
        at += 16 + struct.unpack_from("<Q", whole, at)[0]
        found.append(at)
    return found


@pytest.mark.parametrize("load", [data.load, data.open_stream])
@pytest.mark.parametrize("left", [0, 5, 12, 100])
def test_a_cut_or_empty_record_file_is_named(tmp_path, load, left):
    file = prepared(tmp_path, {"train": [0, 1, 2], "test": [0, 1]}) / "toy-train.tfrecord-00000-of-00001"
    file.write_bytes(file.read_bytes()[:left])
    told = "is cut short: its record 0, at byte 0," if left else "holds 0 records and 3 by dataset_info.json"
    with pytest.raises(data.DataError, match=f"{file.name} {told}"):
        load("toy", data_dir=tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": "toy"}', '{"name": "toy", "splits": 3}', "{"])
def test_a_description_of_another_form_is_told(tmp_path, content):
    folder = prepared(tmp_path, {"train": [0, 1], "test": [0]})
    (folder / "dataset_info.json").write_text(content)
    with pytest.raises(data.DataError, match="does not say what it holds"):
        data.load("toy", data_dir=tmp_path)


def test_without_a_home_folder_named_data_are_found_all_the_same(monkeypatch, tmp_path):
    def nobody(path):
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.setattr("pathlib.Path.expanduser", nobody)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert len(data.load("digits").train.x) == 1437
    np.save(tmp_path / "x.npy", np.zeros((4, 3), np.float32))
    assert len(data.load(tmp_path / "x.npy").train.x) == 3
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.DataError, match="there is no home folder to prepare it in"):
        data.load("mnist")
    for told in (data.load, data.open_stream):
        with pytest.raises(data.DataError, match="there is no such home folder"):
            told("~/x.npy")
