"""Sets of TensorFlow Datasets. Prepared sets are read without TensorFlow, and TFRECORD files also without tfds.

Preparing a set needs the package `tensorflow-datasets`, which only this module imports.
"""

import importlib.util
import json
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import warn
from . import tfrecord
from .checks import check_channels, check_labels
from .dataset import DataError, Dataset, check_sizes, expanded, from_parts, make_batch, tell_idle_scale, unit_interval
from .images import Crop, Size, decode, fitted

# ------------------------------------------------------------------------------------------ a prepared folder

# sets of zeros and ones in uint8, in which 1 means 1.0
BINARY = ("binarized_mnist", "binary_alpha_digits", "dsprites")


def prepared_in(data_dir: str | Path | None = None) -> Path:
    """The folder of prepared sets: the argument, else the present TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Without a home folder the path keeps its ~, and no set is found in it.
    """
    if given := data_dir or os.environ.get("TFDS_DATA_DIR"):
        return expanded(given)
    default = Path("~/tensorflow_datasets")
    try:
        return default.expanduser()
    except RuntimeError:
        return default


def find(name: str, data_dir: Path) -> Path | None:
    """The folder of a prepared set `name[/config][:version]`, by default of its newest version; None if there is none.

    Raises DataError for a set with several configurations if the name gives none.
    """
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


def scale_of(info: dict, scale: float | None) -> float | None:
    """The integer that means 1.0 in a set: `scale`, or 1 for the sets in BINARY; None if the dtype decides."""
    return 1 if scale is None and info.get("name") in BINARY else scale


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
    dtype, shape = np.dtype(spec["dtype"]), _shape(spec)
    unpack = zlib.decompress if spec.get("encoding") == "zlib" else bytes

    def read(value: list) -> np.ndarray:
        if value and isinstance(value[0], bytes):
            return np.frombuffer(unpack(value[0]), dtype).reshape(shape)
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
    """The feature `given`, else the supervised pair's feature of these kinds, else the first feature of these kinds."""
    fitting = [key for kind in kinds for key, spec in features.items() if _kind(spec) == kind]
    return given or next((key for key in (*supervised, *fitting) if key in fitting), None)


def _files(path: Path, info: dict, split: dict) -> list[Path]:
    """The TFRECORD files of a split. Raises DataError if one is missing."""
    template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    files, shards = [], len(split["shardLengths"])
    for i in range(shards):
        shard = f"{i:05d}-of-{shards:05d}"
        words = {"DATASET": info["name"], "SPLIT": split["name"], "FILEFORMAT": "tfrecord"}
        file = path / template.format(**words, SHARD_X_OF_Y=shard, SHARD_INDEX=f"{i:05d}")
        if not file.exists():
            raise DataError(f"{file} is missing, though dataset_info.json beside it names it; {tfrecord.AGAIN}")
        files.append(file)
    return files


def _row(features: dict, keys: list[str]) -> Callable[[dict[str, list]], list]:
    """A function from a parsed Example to its features `keys`, as arrays and numbers."""
    readers = [READERS[_kind(features[key])](features[key]) for key in keys]
    return lambda parsed: [read(parsed[key]) for read, key in zip(readers, keys, strict=True)]


def _tfrecord(path: Path, info: dict, split: dict, features: dict, keys: list[str]) -> Iterator[list]:
    row = _row(features, keys)
    for file, count in zip(_files(path, info, split), split["shardLengths"], strict=True):
        found = 0
        for values in tfrecord.examples(file, row):
            yield values
            found += 1
        _check_count(file, found, count)


def _check_count(file: Path, found: int, count: int) -> None:
    if found != count:
        raise DataError(f"{file} holds {found} records, and dataset_info.json says {count}; {tfrecord.AGAIN}")


def _random_access_source(path: Path, info: dict, split: dict) -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        wanted = "reading it needs tensorflow-datasets: pip install tensorflow-datasets"
        raise DataError(f"{path} is {info.get('fileFormat')}, not tfrecord; {wanted} ({error})") from error
    builder: Any = tensorflow_datasets.builder_from_directory(path)
    return builder.as_data_source(split["name"])


def _data_source(path: Path, info: dict, split: dict, features: dict, keys: list[str]) -> Iterator[list]:
    for row in _random_access_source(path, info, split):
        yield [row[key] for key in keys]


def _arrays(
    rows: Iterator[list], count: int, what: str, crop: Crop | None, resize: Size | None
) -> tuple[np.ndarray, np.ndarray]:
    """`count` rows [x, number...] as x [N, ...] and the numbers [N, ...]."""
    x, numbers, at = None, [], 0
    for at, (one, *rest) in enumerate(rows, 1):
        image = fitted(one, crop, resize) if crop is not None or resize is not None else np.asarray(one)
        x = np.empty((count, *image.shape), image.dtype) if x is None else x
        if image.shape != x.shape[1:]:
            raise DataError(
                f"the images of {what} differ in size ({x.shape[1:]}, {image.shape}); pass resize=64 to scale them all "
                'to one, crop="square" before it to keep their proportions, or crop=64 to cut their centres'
            )
        if at > count:
            break
        x[at - 1] = image
        numbers.append(rest)
    if x is None or at != count:
        raise DataError(f"{what} holds {at} records on disk and {count} by its dataset_info.json; prepare it again")
    return x, np.asarray(numbers)


class Prepared(NamedTuple):
    """The description of a prepared folder, and the features to read from it."""

    info: dict[str, Any]
    features: dict[str, Any]
    keys: list[str]  # of the features to read: the image, the label if any, factors
    label: str | None
    splits: dict[str, dict]
    form: str  # of its files
    classes: tuple[str, ...]


def described(
    path: Path, name: str, image: str | None = None, label: str | None = None, factors: tuple[str, ...] = ()
) -> Prepared:
    """The description of the set in the folder `path`, with the features to read as image, label and factors.

    Raises DataError for a damaged description, and for features that cannot be read.
    """
    try:
        info = json.loads((path / "dataset_info.json").read_text("utf-8"))
        features = json.loads((path / "features.json").read_text("utf-8"))["featuresDict"]["features"]
        kinds = {key: _kind(spec) for key, spec in features.items()}
        splits = {split["name"]: split for split in info["splits"]}
        splits = {split: of | {"shardLengths": [*map(int, of["shardLengths"])]} for split, of in splits.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path} does not say what it holds ({error!r}); prepare {name} again") from error
    image = _choose(features, image, ("Image", "Tensor"), _supervised(info))
    label = _choose(features, label, ("ClassLabel",), _supervised(info))
    keys = [key for key in (image, label, *factors) if key is not None]
    unknown = [key for key in keys if kinds.get(key) not in READERS]
    if image is None or unknown:
        wanted = f"{unknown} of a kind in {[*READERS]}" if unknown else "an image or an array"
        raise DataError(f"{name} has no feature that is {wanted}; its features are {kinds}; name one by image=, label=")
    if "train" not in splits:
        raise DataError(f"{name} has the splits {sorted(splits)}, none called train")
    labels = path / f"{label}.labels.txt"
    classes = tuple(labels.read_text("utf-8").rstrip("\n").split("\n")) if label and labels.exists() else ()
    return Prepared(
        info=info,
        features=features,
        keys=keys,
        label=label,
        splits=splits,
        form=info.get("fileFormat", "tfrecord"),
        classes=classes,
    )


def number_of_classes(found: Prepared) -> int | None:
    """The number of classes of the label by the set's description; None if it gives none."""
    recorded = found.features[found.label].get("classLabel", {}).get("numClasses") if found.label else None
    return len(found.classes) or (None if recorded is None else int(recorded))


USED = ("train", "test", "validation")


def whole(labels: np.ndarray, found: Prepared, name: str) -> np.ndarray:
    """The labels, unchanged. Raises DataError if some are not whole numbers."""
    if (labels % 1).any():
        raise DataError(
            f"feature {found.label!r} of {name} holds numbers that are not whole: no label; name it in factors="
        )
    return labels


def tell_others(found: Prepared, name: str) -> None:
    """Prints a line on stderr for splits of a set that are not used."""
    if others := sorted(set(found.splits) - set(USED)):
        warn(f"left out: the split{'s' * (len(others) > 1)} {', '.join(others)} of {name}")


def random_access(
    path: Path, found: Prepared, crop: Crop | None, resize: Size | None
) -> dict[str, tuple[int, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]]:
    """For each split the number of its examples, and a function from numbers of examples to x and the rest, [n, ...].

    Memory holds only the positions of records in TFRECORD files. Other formats are read by `tfds.data_source`.
    """
    fetch = _indexed if found.form == "tfrecord" else _source_rows
    parts = {}
    for part, split in found.splits.items():
        rows = fetch(path, found, split)

        def read(index: np.ndarray, rows=rows, what=f"{found.info['name']} {part}"):
            return _arrays(rows(index), len(index), what, crop, resize)

        parts[part] = (sum(split["shardLengths"]), read)
    return parts


def _indexed(path: Path, found: Prepared, split: dict) -> Callable[[np.ndarray], Iterator[list]]:
    """Rows of TFRECORD files by number."""
    files = _files(path, found.info, split)
    indices = [tfrecord.index(file) for file in files]
    for file, spans, count in zip(files, indices, split["shardLengths"], strict=True):
        _check_count(file, len(spans), count)
    return tfrecord.by_number(files, indices, _row(found.features, found.keys))


def _source_rows(path: Path, found: Prepared, split: dict) -> Callable[[np.ndarray], Iterator[list]]:
    """Rows of a `tfds.data_source`, by number."""
    source: Any = _random_access_source(path, found.info, split)

    def rows(index: np.ndarray) -> Iterator[list]:
        for row in source.__getitems__(index.tolist()):
            yield [row[key] for key in found.keys]

    return rows


# ------------------------------------------------------------------------------------- sets to prepare

WITHOUT = "digits, photos, shapes, arrays, tables and folders of images work without"


def reachable(url: str, timeout: float = 3.0) -> bool:
    """Whether a server answers at the URL within `timeout` seconds; looking up its name may take longer."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
                answers.append(True)
        except urllib.error.HTTPError:  # an error status is an answer, too
            answers.append(True)
        except OSError:
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return answers == [True]


# known names for when tensorflow-datasets, which has all names, is not installed
COMMON = (
    *("mnist", "fashion_mnist", "kmnist", "emnist", "binarized_mnist", "omniglot", "cifar10", "cifar100", "stl10"),
    *("svhn_cropped", "smallnorb", "celeb_a", "lfw", "imagenet_resized", "dsprites", "shapes3d", "mnist_corrupted"),
)


def known_names(data_dir: str | Path | None = None) -> list[str]:
    """The sets that are prepared on this disk, and those that tensorflow-datasets could prepare."""
    root = prepared_in(data_dir)
    here = {path.parts[len(root.parts)] for path in root.glob("*/**/dataset_info.json")}
    try:
        import tensorflow_datasets

        return sorted({*here, *tensorflow_datasets.list_builders(with_community_datasets=False)})
    except ImportError:
        return sorted({*here, *COMMON})


def prepare(name: str, root: Path, manual_dir: str | Path | None = None) -> Path:
    """Downloads and prepares a set with tensorflow-datasets, which needs TensorFlow for most sets; returns its folder.

    Raises:
        DataError: no tensorflow-datasets, no network (after three seconds), no TensorFlow, or another error.
    """
    looked = f"{name} is not prepared in {root}"
    elsewhere = f"{WITHOUT}; name a folder with a prepared {name} by data_dir= or TFDS_DATA_DIR"
    if root.parts[:1] == ("~",):
        raise DataError(f"{looked}, and there is no home folder to prepare it in. {elsewhere}.")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        how = "pip install tensorflow-datasets"
        raise DataError(
            f"{looked}, and downloading it needs tensorflow-datasets ({error}): {how}. {elsewhere}."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=root)
        manual = Path(manual_dir).expanduser() if manual_dir else None
        files = {url: info.filename for url, info in (builder.url_infos or {}).items()}
        missing = [url for url, file in files.items() if not (manual and file and (manual / file).exists())]
        if (missing or not files) and not reachable(url := next(iter(missing), "https://storage.googleapis.com")):
            host = urllib.parse.urlsplit(url).hostname
            raise DataError(f"{looked}, and {host}, which has it, cannot be reached. {elsewhere}.")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    except DataError:
        raise
    except Exception as error:  # keep the first line of a builder's error, which may be long
        short = str(error).strip().split("\n")[0][:300]
        if "tensorflow" in str(error).lower() and importlib.util.find_spec("tensorflow") is None:
            short = "preparing it needs TensorFlow: pip install tensorflow"
        raise DataError(f"{looked}, and preparing it failed: {short}. {elsewhere}.") from error
    path = find(name, root)
    if path is None:
        raise DataError(f"{looked}, but tensorflow-datasets has prepared it in {builder.data_path}.")
    return path


def prepared(
    name: str,
    *,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    image: str | None = None,
    label: str | None = None,
    factors: tuple[str, ...] = (),
    crop: Crop | None = None,
    resize: Size | None = None,
    scale: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A set of TensorFlow Datasets, `name[/config][:version]`; downloaded and prepared if it is not on the disk.

    Args:
        name: such as mnist, fashion_mnist, cifar10, emnist/letters.
        data_dir: the folder of prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        manual_dir: the folder of files that were downloaded by hand for preparing a set.
        image: the feature to take as x; by default that of the supervised pair, or the first image.
        label: the feature to take as y, or a table's column of classes. By default the label of the supervised pair, or
            the first class label; a table has no default.
        factors: features to return as generative factors.
        crop: cut the centre of each image to this size, or to the largest "square".
        resize: scale each image to this size, after the crop.
        scale: the integer that means 1.0; by default 255 for uint8, 65535 for uint16, and 1 for binarized_mnist,
            binary_alpha_digits and dsprites.
        test_fraction: the fraction of examples to hold out if the data have no test split and no validation split.
        seed: of that split.

    Raises:
        DataError: a set that is not prepared and cannot be, or whose features are no images, arrays or numbers.
    """
    check_sizes(crop=crop, resize=resize)
    root = prepared_in(data_dir)
    path = find(name, root) or prepare(name, root, manual_dir)
    found = described(path, name, image, label, factors)
    given, scale = scale, scale_of(found.info, scale)
    info, features, keys, label, splits, form = found[:6]
    rows = _tfrecord if form == "tfrecord" else _data_source
    loaded = {}
    for split in USED:
        if split in splits:
            count = sum(splits[split]["shardLengths"])
            of_split = rows(path, info, splits[split], features, keys)
            loaded[split] = _arrays(of_split, count, f"{name} {split}", crop, resize)
    for split, (x, _) in loaded.items():
        check_channels(x.shape, f"{name} {split}")
    scaled = unit_interval([x for x, _ in loaded.values()], name, scale)
    tell_idle_scale(loaded["train"][0].dtype, name, given)
    numbers = {split: n for split, (_, n) in loaded.items()}
    skip = int(label is not None)
    labels = {
        split: check_labels(whole(n[:, 0], found, name), len(n), f"feature {label!r} of {name}") if label else None
        for split, n in numbers.items()
    }
    parts = {split: make_batch(x, labels[split]) for split, x in zip(loaded, scaled, strict=True)}
    tell_others(found, name)
    return from_parts(
        name,
        parts,
        f"{path} ({form})",
        test_fraction,
        seed,
        classes=found.classes,
        factors={split: n[:, skip:].astype(np.float32) for split, n in numbers.items()},
        factor_names=tuple(factors),
        scale=scale,
    )
