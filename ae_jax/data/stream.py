"""Data larger than memory: a `Source` reads examples on demand, and a `Stream` gives them in shards.

A shard is many batches in one array. Learning treats it as a set in memory: a compiled sweep shuffles the shard and
passes over it, while a thread reads the next shard (`prefetched`). At most three shards are in memory, and no Python
code runs for each batch. The examples in shard s of epoch e are a pure function of the stream's seed, e and s, so the
position in a stream is two numbers.
"""

import itertools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..checks import check_choice
from ..core import Batch, address
from .checks import check_channels, check_labels
from .dataset import (
    DataError,
    check_options,
    check_scale,
    check_sizes,
    expanded,
    make_batch,
    options_of,
    ranged,
    shuffled,
    tell_idle_scale,
    tell_idle_split,
    tell_nearly_black,
    tell_rounded,
    unit_interval,
    white,
)
from .disk import suffix, written
from .files import header
from .folders import FolderContent, Kind, class_labels, is_array, kind_of, look
from .ranges import AS_IS, FLOATS, RangeName, Standard, apply, fit
from .tables import is_table

T = TypeVar("T")
U = TypeVar("U")
SHARD_BYTES = 2**28  # the default size of a shard as float32


@dataclass(frozen=True, eq=False)
class Source:
    """Examples outside memory, read on demand."""

    name: str
    shape: tuple[int, ...]  # of one example
    blocks: np.ndarray  # [M, 2], first example, and one after the last, of neighbours that stay together
    read: Callable[[np.ndarray], Batch]  # ascending numbers of examples [n] -> x [n, *shape] as stored, y [n]
    scale: float | None = None  # the integer of x that means 1.0; None: see `dataset.white`
    dark: Any = None  # the integer type of x, if no value in a sample exceeds 1
    classes: int | None = None  # all labels are below it; None: unknown
    standard: Standard | None = None  # the units of real values; None: values in [0, 1]

    def __len__(self) -> int:
        return int((self.blocks[:, 1] - self.blocks[:, 0]).sum())

    def raw(self, index: np.ndarray) -> Batch:
        """The examples with these ascending numbers, as NumPy arrays: x is uint8, uint16, or float32 for other types.

        Raises DataError for NaN, and, without a `standard`, for values outside [0, 1].
        """
        x, y = self.read(index)
        x, unit = np.asarray(x), self.standard is None
        if not ranged(x.dtype) or (unit and self.scale is not None and x.max() > self.scale):
            (x,) = unit_interval([x], self.name, self.scale, kind="unit" if unit else "as_is")
        return make_batch(x.astype(x.dtype.newbyteorder("="), copy=False), y)

    def floats(self, raw: Batch) -> Batch:
        """A result of `raw`, moved to the devices, as float32 in the units of learning."""
        x = raw.x
        if ranged(x.dtype):
            x = _looked_up(x, levels(np.dtype(x.dtype), self.scale))
        return raw._replace(x=x if self.standard is None else _applied(self.standard[:2], x))

    def batch(self, index: np.ndarray) -> Batch:
        """The examples with these ascending numbers, on the device, as float32. Raises DataError like `raw`."""
        return jax.block_until_ready(self.floats(jax.tree.map(jnp.asarray, self.raw(index))))


@lru_cache(maxsize=8)
def levels(dtype: np.dtype, scale: float | None) -> np.ndarray:
    """The float32 by `unit_interval` of each number in uint8 [256] or uint16 [65536]."""
    return np.arange(np.iinfo(dtype).max + 1, dtype=np.float32) / np.float32(white(dtype, scale))


@jax.jit
def _looked_up(x: Array, levels: Any) -> Array:
    """Integers as floats, bit for bit as by NumPy. Moving integers to a device takes a quarter or half of the bytes."""
    return levels[x.astype(jnp.int32)]  # XLA may turn a division into a product, which rounds differently


@jax.jit
def _applied(standard: tuple[Any, Any], x: Array) -> Array:
    return apply(Standard(*standard), x)


@jax.jit
def _drawn(x: Array, index: Any, seed: Any) -> Array:
    """Binary pixels, drawn for each example by its number, so an example has the same draw in every shard."""
    key = address(jax.random.wrap_key_data(seed), "binarisation")
    one = lambda i, x: jax.random.bernoulli(address(key, i), x).astype(x.dtype)
    return jax.vmap(one)(index, x)


def blocks_of(count: int, size: int | None = None) -> np.ndarray:
    """Blocks [M, 2] of `count` examples. By default a block has 256 examples, or fewer to make about 100 blocks."""
    edges = np.append(np.arange(0, count, size or max(1, min(256, count // 100))), count)
    return np.stack([edges[:-1], edges[1:]], 1)


def split(source: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """Two sources with the blocks of one; the second has `fraction` of them, drawn by `seed`."""
    kept, held = shuffled(len(source.blocks), fraction, seed)
    return replace(source, blocks=source.blocks[kept]), replace(source, blocks=source.blocks[held])


# -------------------------------------------------------------------------------------------------- order


@lru_cache(maxsize=2)
def _order(seed: int, e: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, e]).permutation(count)


@dataclass(frozen=True, eq=False)
class Stream:
    """A source in shards. With a `seed`, every epoch assigns blocks to shards in a new random order."""

    source: Source
    shard_size: int  # examples; the last shard has the rest
    seed: int | None = None  # of the order; None: the order of the source
    binarise: int | None = None  # the seed of static binarisation, with grey values as probabilities; None: no draw

    @property
    def shards(self) -> int:
        """The number of shards in an epoch."""
        return -(-len(self.source) // self.shard_size)

    def size(self, s: int) -> int:
        """The number of examples in shard s."""
        return min(self.shard_size, len(self.source) - s * self.shard_size)

    def index(self, e: int, s: int) -> np.ndarray:
        """The ascending numbers of the examples in shard s of epoch e, both from 0. The sweep shuffles them later."""
        blocks = self.source.blocks
        blocks = blocks if self.seed is None else blocks[_order(self.seed, e, len(blocks))]
        ends = np.cumsum(blocks[:, 1] - blocks[:, 0])
        first, last = s * self.shard_size, s * self.shard_size + self.size(s)
        a, b = np.searchsorted(ends, [first, last - 1], side="right")  # the blocks with its first and last example
        runs = blocks[a : b + 1].copy()
        runs[0, 0] += first - (ends[a - 1] if a else 0)
        runs[-1, 1] -= ends[b] - last
        return np.sort(np.concatenate([np.arange(start, stop) for start, stop in runs]))

    def read(self, e: int, s: int, part: int = 0, parts: int = 1) -> tuple[np.ndarray, Batch]:
        """The numbers of all examples in shard s of epoch e; and part `part` of `parts` of these, by `Source.raw`."""
        index = self.index(e, s)
        own = np.array_split(index, parts)[part]
        raw = self.source.raw(own if len(own) else index[:1])  # a source may not support an empty index
        return index, jax.tree.map(lambda a: a[: len(own)], raw)

    def ready(self, index: np.ndarray, raw: Batch) -> Batch:
        """The examples `raw` with numbers `index`, moved to the devices, as float32, binarised if so set."""
        batch = self.source.floats(raw)
        if self.binarise is not None:
            seed = np.asarray(jax.random.key_data(jax.random.key(self.binarise)))
            batch = batch._replace(x=_drawn(batch.x, index.astype(np.uint32), seed))
        return jax.block_until_ready(batch)

    def load(self, e: int, s: int) -> Batch:
        """Shard s of epoch e, on the device."""
        return self._batch(self.index(e, s))

    def sample(self, count: int) -> Batch:
        """At most `count` examples, evenly spaced over the source: a sorted set gives all its classes."""
        blocks = self.source.blocks
        lengths = np.concatenate([[0], np.cumsum(blocks[:, 1] - blocks[:, 0])])
        at = np.unique(np.linspace(0, lengths[-1] - 1, min(count, lengths[-1])).astype(np.int64))
        block = np.searchsorted(lengths, at, side="right") - 1
        return self._batch(np.sort(blocks[block, 0] + at - lengths[block]))

    def _batch(self, index: np.ndarray) -> Batch:
        return self.ready(index, jax.tree.map(jnp.asarray, self.source.raw(index)))


def shard_size(shape: tuple[int, ...], batch_size: int, given: int | None = None) -> int:
    """The number of examples in a shard: as given, or of the whole batches in 256 MiB of float32 (one at least).

    Raises DataError for a size that is no multiple of the batch size, since every shard would end in a short batch.
    """
    if given:
        if given < 0 or given % batch_size:
            near = max(1, round(given / batch_size)) * batch_size
            raise DataError(
                f"shard_size={given} is not a multiple of the batch size {batch_size}, and every shard would end in "
                f"a short batch; give {near}"
            )
        return given
    return max(1, SHARD_BYTES // (4 * int(np.prod(shape)) * batch_size)) * batch_size


def prefetched(load: Callable[[T], U], wanted: Iterable[T]) -> Generator[tuple[T, U], None, None]:
    """Pairs (item, `load(item)`) for the items of `wanted`, in order; a thread loads one item ahead.

    An error of `load` is raised when its item is due.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        ahead: list[Any] = []
        for one in wanted:
            ahead.append((one, thread.submit(load, one)))
            if len(ahead) == 2:
                now, loading = ahead.pop(0)
                loaded = loading.result()
                del loading  # else it keeps the shard in memory during work on the next one
                yield now, loaded
                del loaded
        for now, loading in ahead:
            yield now, loading.result()


# ------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, eq=False)
class Sources:
    """The splits of data that are read on demand, like `Dataset` for data in memory."""

    name: str
    train: Source
    test: Source
    source: str  # the place or package from which the data come
    validation: Source | None = None
    classes: tuple[str, ...] = ()
    scale: float | None = None  # the integer that means 1.0, if one was given
    arrays: bool = False  # whether examples are in .npy files, and so may be pieces of larger images

    def standardised(self, kind: RangeName) -> "Sources":
        """The splits scaled by a `Standard` of the training examples, which are read once; see `ranges.fit`."""
        standard = fitted(self.train, kind)
        held_out = None if self.validation is None else replace(self.validation, standard=standard)
        train, test = (replace(source, standard=standard) for source in (self.train, self.test))
        return replace(self, train=train, test=test, validation=held_out)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.train.shape))
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = " + ".join(f"{len(part)} {split}" for split, part in splits.items() if part is not None)
        return f"{self.name}: {counts} examples of {shape}, streamed from {self.source}"


def from_sources(
    name: str,
    parts: dict[str, Source],
    source: str,
    test_fraction: float,
    seed: int,
    classes: tuple[str, ...] = (),
) -> Sources:
    """`dataset.from_parts` for sources: without a test split, the validation split or a part of train becomes one."""
    parts, where = dict(parts), source
    if parts.keys() & {"test", "validation"}:
        tell_idle_split(where, test_fraction, seed)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
        source += ", its validation split as test"
    if "test" not in parts:
        parts["train"], parts["test"] = split(parts["train"], test_fraction, seed)
        source += f", {test_fraction:g} of it as test by seed {seed}"
    if all(one.dark is not None for one in parts.values()):
        tell_nearly_black(parts["train"].dark, where, " in a sample")
    shapes = {part: one.shape for part, one in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{name} has examples of different shapes in its splits: {shapes}")
    return Sources(
        name=name,
        train=parts["train"],
        test=parts["test"],
        source=source,
        validation=parts.get("validation"),
        classes=classes,
        scale=parts["train"].scale,
    )


def fitted(source: Source, kind: RangeName) -> Standard | None:
    """The `Standard` of a source. The source is read once, one shard at a time."""
    plain = Stream(replace(source, standard=None if kind == "unit" else AS_IS), shard_size(source.shape, 1))
    return fit(kind, (np.asarray(plain.load(0, s).x) for s in range(plain.shards)))


def made(
    name: str,
    count: int,
    read: Callable[[np.ndarray], Batch],
    block: int | None = None,
    scale: float | None = None,
    kind: RangeName = "unit",
) -> Source:
    """A source of `count` examples from the function that reads them; a sample gives the shape.

    `scale` is as for `dataset.white`.

    Raises DataError for no examples, and for values that `unit_interval` refuses.
    """
    if count < 1:
        raise DataError(f"{name} holds no examples")
    look = read(np.unique(np.linspace(0, count - 1, min(count, 256)).astype(np.int64)))
    check_channels(np.shape(look.x), name)
    x = np.asarray(look.x)
    if kind != "unit":
        tell_rounded(x, name)
    (seen,) = unit_interval([x], name, scale, tell=False, kind=kind)  # `from_sources` prints one note for all splits
    dark = x.dtype if scale is None and kind == "unit" and ranged(x.dtype) and x.max() <= 1 else None
    shape = seen.shape[1:]

    def shaped(index: np.ndarray) -> Batch:
        batch = read(index)
        return batch._replace(x=batch.x.reshape(len(index), *shape))

    found = Source(name=name, shape=shape, blocks=blocks_of(count, block), read=shaped, scale=scale, dark=dark)
    return found if kind == "unit" else replace(found, standard=AS_IS)


# ........................................................................................ files of arrays


@dataclass(frozen=True)
class _File:
    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int  # of the data, in bytes


def _opened(path: Path) -> _File:
    try:
        mapped: Any = header(path)
        if not (mapped.ndim and mapped.flags.c_contiguous):
            raise ValueError(f"its shape is {mapped.shape}, C order {mapped.flags.c_contiguous}")
    except Exception as error:
        raise DataError(f"{path} cannot be streamed ({error}); write it again with numpy.save, rows first") from error
    if not mapped.shape[0]:
        raise DataError(f"{path} holds no examples, {mapped.shape}: remove it")
    return _File(path, mapped.shape, mapped.dtype, mapped.offset)


def _rows(files: list[_File], starts: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows by an ascending `index` of all files' rows. Files are not memory-mapped: pages would count as memory."""
    row = int(np.prod(files[0].shape[1:], dtype=np.int64)) * files[0].dtype.itemsize
    out = np.empty((len(index), *files[0].shape[1:]), files[0].dtype)
    flat = memoryview(out.reshape(-1).view(np.uint8))  # pyright: ignore[reportArgumentType]
    for file, start in zip(files, starts, strict=True):
        first, last = np.searchsorted(index, [start, start + file.shape[0]])
        if first == last:
            continue
        here = index[first:last] - start
        edges = np.concatenate([[0], np.flatnonzero(np.diff(here) != 1) + 1, [len(here)]])
        with open(file.path, "rb", buffering=0) as handle:
            for a, b in itertools.pairwise(edges.tolist()):
                handle.seek(file.offset + int(here[a]) * row)
                view = flat[(first + a) * row : (first + b) * row]
                while len(view):
                    if not (got := handle.readinto(view)):
                        raise DataError(f"{file.path} is cut short; write it again")
                    view = view[got:]
    return out


def npy_files(root: Path) -> list[Path]:
    """The .npy files directly in a folder that hold examples, in the order of their names."""
    return sorted(p for p in root.glob("*") if is_array(p) and not p.name.startswith("."))


def npy_source(name: str, paths: list[Path], scale: float | None = None, kind: RangeName = "unit") -> Source:
    """Array files, in that order, as one source, with labels in files beside them. `scale` is as for `dataset.white`.

    Raises DataError for files of different shapes or dtypes, and for labels that do not fit.
    """
    files = [_opened(path) for path in paths]
    text = lambda file: f"{file.path} has examples of {'x'.join(map(str, file.shape[1:])) or '1'}, {file.dtype}"
    for file in files:
        if (file.shape[1:], file.dtype) != (files[0].shape[1:], files[0].dtype):
            raise DataError(f"{text(file)}, and {text(files[0])}: all files of {name} must have one shape and one type")
    check_channels(files[0].shape, name)
    starts = np.concatenate([[0], np.cumsum([file.shape[0] for file in files])])[:-1]
    beside = [path.with_suffix(".labels.npy") for path in paths]
    labelled = [path for path in beside if path.exists()]
    if labelled and len(labelled) < len(paths):
        missing = next(path for path in beside if not path.exists())
        raise DataError(f"{missing} is missing, though other files of {name} have their labels beside them")
    labels, classes = [_opened(path) for path in labelled], None
    for file, label in zip(files, labels, strict=False):
        if label.shape != file.shape[:1] or label.dtype.kind not in "iu":
            wanted = f"whole numbers of shape {file.shape[:1]}"
            raise DataError(f"{label.path} holds {label.dtype} of shape {label.shape}; it must be {wanted}")
        y = check_labels(np.load(label.path, mmap_mode="r"), file.shape[0], str(label.path))
        classes = max(classes or 0, 1 + int(y.max()))

    def read(index: np.ndarray) -> Batch:
        return make_batch(_rows(files, starts, index), _rows(labels, starts, index) if labels else None)

    return replace(made(name, sum(file.shape[0] for file in files), read, scale=scale, kind=kind), classes=classes)


def npy(
    path: str | Path,
    *,
    range: RangeName = "unit",
    scale: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Sources:
    """A `.npy` file, or a folder of them: x [n, ...] in each, all of one type, scaled as `arrays` scales it.

    Subfolders `train` and `test` (and `valid`) are its splits. The labels of NAME.npy, whole numbers [n], are in
    NAME.labels.npy beside it.

    Args:
        path: the file or folder.
        range: of the values, as in `arrays`; to scale them, the training examples are read once.
        scale: the integer that means 1.0, in any integer type: 1 for zeros and ones saved as uint8.
        test_fraction: the fraction to hold out, in runs of neighbours, if there is no folder `test`.
        seed: of that split.
    """
    if range != FLOATS:
        check_choice("range", range, get_args(RangeName), error=DataError)
    check_scale(scale)
    path = expanded(path)
    files = {"train": [path]} if path.is_file() else _found(path, "arrays").files
    parts = {part: npy_source(f"{path} {part}", found, scale, range) for part, found in files.items()}
    tell_idle_scale(_opened(files["train"][0]).dtype, str(path), scale)
    sources = from_sources(path.stem, parts, str(path), test_fraction, seed)
    return replace(sources, arrays=True).standardised(range)


def write_shards(source: Source, folder: Path | str, rows: int) -> None:
    """Writes a source as .npy files of `rows` examples, which `npy` reads; one file at a time is in memory.

    Integers with a `scale` are written as float32, which needs none. Raises DataError for a folder that holds .npy
    files, since these would be read with the new ones.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if there := npy_files(folder):
        raise DataError(f"{folder} holds .npy files ({there[0].name}, ...): remove them, or write to another folder")
    stream, kind = Stream(source, rows), "unit" if source.standard is None else "as_is"
    for s in range(stream.shards):
        x, y = source.read(stream.index(0, s))
        if source.scale is not None:
            (x,) = unit_interval([np.asarray(x)], source.name, source.scale, kind=kind)
        arrays = {f"{s:05d}.npy": x} | ({} if y is None else {f"{s:05d}.labels.npy": y})
        for name, array in arrays.items():
            with written(folder / name) as file:
                np.save(file, array)


def _found(path: Path, kind: Kind) -> FolderContent:
    """The files of every split of a folder. Raises DataError for a split without files."""
    found = look(path, kind)
    if empty := [part for part, files in found.files.items() if not files]:
        raise DataError(f"{path} holds no files to stream for {', '.join(empty)}")
    found.tell()
    return found


# ................................................................................................. images


def images(
    path: str | Path,
    *,
    colour: bool | None = None,
    crop: Any = None,
    resize: Any = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Sources:
    """A folder of images, as in `folder`, decoded in every epoch, on all cores. Transparent pixels become white.

    Args:
        path: the folder.
        colour: three channels or one; by default three if any of a hundred images has colour.
        crop: cut the centre of each image to this size, or to the largest "square".
        resize: then scale it to this size.
        test_fraction: the fraction of images to hold out if there is no folder `test`.
        seed: of that split.
    """
    from .images import of_one_depth, read_images

    check_sizes(crop=crop, resize=resize)
    path = expanded(path)
    roots, files, *_ = _found(path, "images")
    classes, labels = class_labels(roots, files)
    every = [file for found in files.values() for file in found]
    some = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, 100).astype(int))]
    sample = read_images(some, colour=colour, deep=True)
    channels, depth = sample[0].shape[-1], sample[0].dtype
    decode = partial(read_images, colour=colour, crop=crop, resize=resize, deep=True)
    pool = ThreadPoolExecutor(thread_name_prefix="decode")  # Pillow releases the GIL while it decodes
    shapes: set[tuple[int, ...]] = set()

    def source(part: str) -> Source:
        def one(i: int) -> np.ndarray:
            image = decode([files[part][i]])[0]
            if image.shape[-1] < channels:
                image = np.broadcast_to(image, (*image.shape[:2], channels))
            shapes.add(image.shape)
            if len(shapes) > 1 or image.shape[-1] > channels:
                raise DataError(
                    f"{files[part][i]} has the shape {image.shape} and others {sorted(shapes - {image.shape})}; pass "
                    "resize=64 to scale all to one size, or colour=True or colour=False for one number of channels"
                )
            if image.dtype != depth and depth == np.uint8:
                raise DataError(
                    f"{files[part][i]} has 16 bits a pixel, and a sample of the other images has 8: save all images "
                    "with one depth"
                )
            return image if image.dtype == depth else of_one_depth([image, np.empty(0, depth)])[0]

        def read(index: np.ndarray) -> Batch:
            y = np.asarray(labels[part])[index] if classes else None
            return make_batch(np.stack(list(pool.map(one, index.tolist()))), y)

        found = made(f"{path} {part}", len(files[part]), read, block=1)
        return replace(found, dark=None, classes=len(classes) or None)  # white is 255 in images

    return from_sources(
        path.absolute().name, {part: source(part) for part in files}, str(path), test_fraction, seed, classes
    )


# .................................................................................. TensorFlow Datasets


def prepared(
    name: str,
    *,
    data_dir: str | Path | None = None,
    image: str | None = None,
    label: str | None = None,
    crop: Any = None,
    resize: Any = None,
    scale: float | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Sources:
    """A prepared set of TensorFlow Datasets: TFRECORD (read without tfds) or any format of `tfds.data_source`.

    Args:
        name: such as mnist, cifar10, emnist/letters.
        data_dir: the folder of prepared sets; TFDS_DATA_DIR or ~/tensorflow_datasets by default.
        image: the feature to take as x; by default that of the supervised pair, or the first image.
        label: the feature to take as y; by default that of the supervised pair, or the first class label.
        crop: cut the centre of each image to this size, or to the largest "square".
        resize: then scale it to this size.
        scale: the integer that means 1.0, see `tfds.prepared`.
        test_fraction: the fraction to hold out if there is neither a test nor a validation split.
        seed: of that split.
    """
    from . import tfds

    check_sizes(crop=crop, resize=resize)
    check_scale(scale)
    root = tfds.prepared_in(data_dir)
    path = tfds.find(name, root)
    if path is None:
        raise DataError(
            f"{name} is not prepared in {root}: load it once without a stream, which prepares it, or name the folder "
            "that has it by data_dir= or TFDS_DATA_DIR"
        )
    found = tfds.described(path, name, image, label)
    scale = tfds.scale_of(found.info, scale)
    rows = tfds.random_access(path, found, crop, resize)

    def source(part: str) -> Source:
        count, row = rows[part]

        def read(index: np.ndarray) -> Batch:
            x, numbers = row(index)
            return make_batch(x, tfds.whole(numbers[:, 0], found, name) if found.label else None)

        return replace(made(f"{name} {part}", count, read, scale=scale), classes=tfds.number_of_classes(found))

    parts = {part: source(part) for part in tfds.USED if part in rows}
    tfds.tell_others(found, name)
    return from_sources(name, parts, f"{path} ({found.form})", test_fraction, seed, found.classes)


# .................................................................................................. made up


def generated(count: int, shape: tuple[int, ...], *, pictures: int = 64, dtype: str = "uint8", seed: int = 0) -> Source:
    """Made-up examples, generated when read: smooth pictures with noise, each block of examples by a seed of its own.

    Args:
        count: number of examples.
        shape: of one example.
        pictures: the number of different pictures under the noise; only these can be learned.
        dtype: uint8, or float32 (the same values, four times the bytes).
        seed: of pictures and noise.
    """
    rng = np.random.default_rng([seed, 0])
    size = int(np.prod(shape))
    logits = rng.normal(size=(pictures, 8)) @ rng.normal(size=(8, size))
    clean = (240 / (1 + np.exp(-logits))).astype(np.uint8) & 0xF0  # [pictures, size]; the low four bits are noise
    blocks = blocks_of(count, min(256, count))

    def block(b: int) -> np.ndarray:
        length = int(blocks[b, 1] - blocks[b, 0])
        bits = np.random.SFC64([seed, b + 1])  # a fast generator, since it shares the cores with learning
        noise = bits.random_raw(-(-length * size // 8)).view(np.uint8)[: length * size].reshape(length, size)
        return clean[bits.random_raw(length) % np.uint64(pictures)] | (noise & 0x0F)

    def read(index: np.ndarray) -> Batch:
        x = np.empty((len(index), size), dtype)
        number = index // blocks[0, 1]
        edges = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(index))
        for a, b in itertools.pairwise(edges.tolist()):
            x[a:b] = block(int(number[a]))[index[a:b] - blocks[number[a], 0]]
        if dtype != "uint8":
            x /= np.asarray(255, dtype)
        return Batch(x.reshape(len(index), *shape))  # pyright: ignore[reportArgumentType]

    return replace(made(f"made up, {count} of {shape}", count, read), blocks=blocks)


def open_stream(source: str | Path, **options: Any) -> Sources:
    """The counterpart of `load` for streams: a .npy file, a folder of .npy files or of images, or a prepared set.

    Options are the keyword arguments of the function that reads the source: `npy`, `images` or `prepared`.

    Raises DataError for a source that cannot be streamed, for unknown options, and for data that cannot be used.
    """
    from . import tell_shadowed

    tell_shadowed(source, options.get("data_dir"))
    reader = _reader(source, options.get("data_dir"))
    check_options(options, reader, source)
    return reader(str(source) if reader is prepared else expanded(source), **options)


def stream_options_for(source: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    """The options that the source takes as a stream. Raises DataError if it cannot be streamed."""
    known = options_of(_reader(source, options.get("data_dir")))
    return {name: value for name, value in options.items() if name in known}


def _reader(source: str | Path, data_dir: str | Path | None) -> Callable[..., Sources]:
    """The function that streams a source."""
    from . import NAMED, is_name
    from .tfds import prepared_in

    path, name = expanded(source), is_name(source, data_dir)
    if name and str(source) not in NAMED:
        return prepared
    if not name and path.is_file() and suffix(path) == ".npy":
        return npy
    if not name and path.is_dir():
        kind = kind_of(path)
        if kind in ("texts", "tables"):
            raise DataError(f"{path} holds {kind}, which are not streamed but loaded: leave --stream out, or data.load")
        return npy if kind == "arrays" else images
    if not name and path.is_file() and is_table(path):
        raise DataError(
            f"{path} is a table, which is not streamed but loaded: leave --stream out. One larger than memory can be "
            "streamed as .npy files of its rows: docs/guides/own-data.md has the code that writes them"
        )
    raise DataError(
        f"{source} cannot be streamed: that takes a .npy file, a folder of .npy files or of images, or a prepared "
        f"set of TensorFlow Datasets, in {prepared_in(data_dir)}; train other data without a stream"
    )
