"""Sets of TensorFlow Datasets: what is prepared on this disk is read without TensorFlow, and TFRECORD without tfds.

Only what must be prepared first asks for the `tensorflow-datasets` package, which is imported nowhere else.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import DataError, Dataset, from_parts, make_batch, unit_interval
from .images import Size, decode, fitted

# ------------------------------------------------------------------------------ TFRECORD and tf.train.Example


def records(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRECORD file: frames of <uint64 length> <crc32> <payload> <crc32>."""
    raw = memoryview(path.read_bytes())
    at = 0
    while at < len(raw):
        end = at + 12 + struct.unpack_from("<Q", raw, at)[0] if at + 12 <= len(raw) else len(raw)
        if end + 4 > len(raw):
            raise DataError(f"{path} is cut short: its record at byte {at} is incomplete; prepare the set again")
        yield bytes(raw[at + 12 : end])
        at = end + 4


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


# ------------------------------------------------------------------------------------------ a prepared folder


def folder(data_dir: str | Path | None = None) -> Path:
    """Where prepared sets lie: the argument, else TFDS_DATA_DIR as it is now, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def find(name: str, data_dir: Path) -> Path | None:
    """The folder of a prepared set `name[/config][:version]`, the newest version; None if there is none."""
    name, _, version = name.partition(":")
    found = [
        info.parent
        for pattern in (f"{version or '*'}/features.json", f"*/{version or '*'}/features.json")
        for info in (data_dir / name).glob(pattern)
        if (info.parent / "dataset_info.json").exists()
    ]
    if len(configs := sorted({path.parent.name for path in found})) > 1:
        raise DataError(f"{name} is prepared in {len(configs)} configurations, {configs}; say {name}/{configs[0]}")
    return max(found, key=lambda path: [int(n) if n.isdigit() else -1 for n in path.name.split(".")], default=None)


def _kind(spec: dict) -> str:
    return spec["pythonClassName"].rsplit(".", 1)[-1]


def _shape(spec: dict) -> tuple[int, ...]:
    return tuple(int(n) for n in spec.get("shape", {}).get("dimensions", ()))


def _image(spec: dict) -> Callable[[list], np.ndarray]:
    spec = spec["image"]
    channels = _shape(spec)[-1]
    if spec.get("dtype", "uint8") != "uint8" or channels not in (1, 3):
        raise DataError(f"images of {spec.get('dtype')} with {channels} channels cannot be read; uint8 with 1 or 3 can")
    return lambda value: decode(value[0], channels == 3)


def _tensor(spec: dict) -> Callable[[list], np.ndarray]:
    spec = spec["tensor"]
    dtype, shape = np.dtype(spec.get("dtype", "float32")), _shape(spec)

    def read(value: list) -> np.ndarray:
        if value and isinstance(value[0], bytes):
            return np.frombuffer(value[0], dtype).reshape(shape)
        return np.asarray(value, dtype).reshape(shape)

    return read


# how the features of a set become arrays
READERS: dict[str, Callable[[dict], Callable[[list], Any]]] = {
    "Image": _image,
    "Tensor": _tensor,
    "ClassLabel": lambda spec: lambda value: value[0],
    "Scalar": lambda spec: lambda value: value[0],
}


def _supervised(info: dict) -> list[str]:
    items = info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
    return [item.get("featureKey", "") for item in items]


def _choose(features: dict, given: str | None, kinds: tuple[str, ...], supervised: list[str]) -> str | None:
    """The feature that was named, else that of the supervised pair, else the first of the right kind."""
    if given is not None and given not in features:
        raise DataError(f"there is no feature {given!r}; the set has {sorted(features)}")
    fitting = [key for key, spec in features.items() if _kind(spec) in kinds]
    return given or next((k for k in supervised if k in fitting), None) or next(iter(fitting), None)


def _tfrecord(path: Path, info: dict, split: dict, features: dict, keys: list[str]) -> Iterator[list]:
    template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    readers = [READERS[_kind(features[key])](features[key]) for key in keys]
    shards = len(split["shardLengths"])
    for i in range(shards):
        shard = f"{i:05d}-of-{shards:05d}"
        words = {"DATASET": info["name"], "SPLIT": split["name"], "FILEFORMAT": "tfrecord", "SHARD_X_OF_Y": shard}
        file = path / template.format(**words, SHARD_INDEX=f"{i:05d}", NUM_SHARDS=f"{shards:05d}")
        if not file.exists():
            raise DataError(f"{file} is missing, though dataset_info.json beside it names it; prepare the set again")
        for raw in records(file):
            parsed = example(raw)
            yield [read(parsed[key]) for read, key in zip(readers, keys, strict=True)]


def _data_source(path: Path, info: dict, split: dict, features: dict, keys: list[str]) -> Iterator[list]:
    tfds = _tfds(f"{path} holds {info.get('fileFormat')} files")
    for row in tfds.builder_from_directory(path).as_data_source(split["name"]):
        yield [row[key] for key in keys]


def _tfds(why: str) -> Any:
    try:
        import tensorflow_datasets  # noqa: PLC0415
    except ImportError as error:
        raise DataError(f"{why}, which needs tensorflow-datasets: pip install 'ae-jax[tfds]' ({error})") from error
    return tensorflow_datasets


def read(
    path: Path,
    name: str,
    *,
    image: str | None = None,
    label: str | None = None,
    crop: Size | str | None = None,
    resize: Size | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A set that is prepared in the folder `path`, of any file format. See `tfds` for the options."""
    info = json.loads((path / "dataset_info.json").read_text())
    features = json.loads((path / "features.json").read_text()).get("featuresDict", {}).get("features", {})
    image = _choose(features, image, ("Image", "Tensor"), _supervised(info))
    label = _choose(features, label, ("ClassLabel", "Scalar"), _supervised(info))
    if image is None:
        kinds = {key: _kind(spec) for key, spec in features.items()}
        raise DataError(f"{name} has no feature that is an image or an array; its features are {kinds}")
    for key in filter(None, (image, label)):
        if _kind(features[key]) not in READERS:
            raise DataError(f"feature {key!r} of {name} is a {_kind(features[key])}; these can be read: {[*READERS]}")
    keys = [image] if label is None else [image, label]
    rows = _tfrecord if info.get("fileFormat", "tfrecord") == "tfrecord" else _data_source

    def arrays(split: dict) -> tuple[np.ndarray, np.ndarray | None]:
        count = sum(map(int, split["shardLengths"]))
        x, y = None, np.zeros(count, np.int32)
        at = 0
        for at, row in enumerate(rows(path, info, split, features, keys), 1):
            one = fitted(np.asarray(row[0]), crop, resize) if np.ndim(row[0]) == 3 else np.asarray(row[0])
            if x is None:
                x = np.empty((count, *one.shape), one.dtype)
            if one.shape != x.shape[1:]:
                raise DataError(
                    f"the images of {name} differ in size, {x.shape[1:]} and {one.shape}; pass resize=64, "
                    'or crop="square" and resize=64, or crop=64'
                )
            if at <= count:
                x[at - 1] = one
                y[at - 1] = row[1] if label else 0
        if x is None or at != count:
            raise DataError(f"{name} {split['name']} has {at} records on disk, not the {count} it names; prepare again")
        return x, y if label else None

    splits = {split["name"]: split for split in info["splits"]}
    if "train" not in splits:
        raise DataError(f"{name} has the splits {sorted(splits)}, none called train")
    wanted = [key for key in ("train", "test", "validation") if key in splits]
    loaded = {key: arrays(splits[key]) for key in wanted}
    scaled = unit_interval([x for x, _ in loaded.values()], name)
    batches = {key: make_batch(x, y) for (key, (_, y)), x in zip(loaded.items(), scaled, strict=True)}
    names = path / f"{label}.labels.txt"
    return from_parts(
        name,
        batches,
        f"{path} ({info.get('fileFormat', 'tfrecord')})",
        test_fraction,
        seed,
        classes=tuple(names.read_text().splitlines()) if label and names.exists() else (),
    )
