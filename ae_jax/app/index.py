"""An index to search: the codes of many examples and the encoder that made them, in one file.

The encoder is StableHLO (`jax.export`), so a search needs neither the run nor its network's code. This module imports
JAX and NumPy, but no algorithm, no network, and neither flax nor optax.

`encode` runs that program. An index is therefore code: search only your own indexes and those of makers that you trust.
The checksum, SHA-256 of all parts, detects damage and a mixture of two indexes; it does not show the maker.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from ..data.disk import strict, written
from ..errors import RunError
from ..evaluation import retrieval

Metric = Literal["euclidean", "cosine"]
PARTS = ("encoder", "codes", "names", "about", "sha256")  # the arrays in the file


class Index(NamedTuple):
    """The codes to search, and their encoder."""

    encoder: bytes  # exported [b, *shape] -> [b, K]
    codes: np.ndarray  # [N, K] float32
    names: np.ndarray  # [N] str, of the examples
    about: dict[str, Any]  # shape of an example; whether images are resized; vocabulary of documents; the run

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.about["shape"])


class Hit(NamedTuple):
    """A code found by a search."""

    place: int  # in the index
    name: str
    distance: float  # between codes; for a search in a Hamming ball the number of differing bits


def checksum(index: Index) -> str:
    """SHA-256 of all parts and their shapes; it ties the codes to their encoder and run."""
    about = json.dumps(strict(index.about), sort_keys=True, allow_nan=False)
    names = json.dumps([str(name) for name in index.names])
    total = hashlib.sha256()
    for part in (index.encoder, str(index.codes.shape).encode(), index.codes.tobytes(), names.encode(), about.encode()):
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


def save(index: Index, path: Path) -> None:
    """Writes a .npz file, whole or not at all."""
    about = json.dumps(strict(index.about), allow_nan=False)
    encoder = np.frombuffer(index.encoder, np.uint8)
    sha256 = checksum(index)
    with written(path) as file:
        np.savez(file, encoder=encoder, codes=index.codes, names=index.names, about=about, sha256=sha256)


def load(path: Path) -> Index:
    """Reads an index. Raises RunError for any other file, and for damage."""
    if not path.is_file():
        raise RunError(f"there is no index {path}; ae-jax index WORKDIR DATA {path} makes one")
    if not zipfile.is_zipfile(path):  # else NumPy's error advises to unpickle the file
        raise RunError(f"{path} is not an index, as it is not a .npz file; ae-jax index makes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            parts = {name: file[name] for name in PARTS if name in file.files}
        if missing := [name for name in PARTS if name not in parts]:
            lacks = f"it lacks {', '.join(missing)}"
            raise RunError(f"{path} is not an index of this version ({lacks}); ae-jax index makes one")
        encoder, codes, names, about, sha256 = parts.values()
        found = Index(encoder.tobytes(), codes, names, json.loads(str(about)))
        if checksum(found) != str(sha256):
            raise ValueError("the checksum of its parts differs from the one in it")
    except RunError:
        raise
    except Exception as error:  # NumPy and zlib raise errors of many kinds, struct.error too
        raise RunError(f"the index {path} is damaged or changed ({error}); make it again with ae-jax index") from None
    if codes.ndim != 2 or codes.dtype.kind != "f" or not len(codes) or names.shape != codes.shape[:1]:
        raise RunError(f"{path} is not an index (codes {codes.shape}, names {names.shape}); ae-jax index makes one")
    if not np.isfinite(codes).all():
        raise RunError(f"{path} holds codes that are NaN or infinite; make it again from a run with finite codes")
    return found


def about(path: Path) -> dict[str, Any] | None:
    """The `about` of an index; None for any other file."""
    try:
        with zipfile.ZipFile(path) as file:
            there = {f"{part}.npy" for part in PARTS} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return None
    return load(path).about if there else None


def encode(index: Index, x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """Codes by the encoder in the index, which this function runs as a program. [N, *shape] -> [N, K].

    Raises RunError for examples of another shape, and for an encoder that cannot be read.
    """
    if x.shape[1:] != index.shape:
        raise RunError(f"the query has the shape {x.shape[1:]}; this index holds examples of {index.shape}")
    try:
        call = jax.jit(jax_export.deserialize(bytearray(index.encoder)).call)
        call.lower(jax.ShapeDtypeStruct(x.shape, jnp.float32))  # reads the StableHLO inside
    except Exception as error:  # a damaged program raises errors of many kinds: struct.error, ValueError, ...
        raise RunError(
            f"the encoder of this index cannot be read ({type(error).__name__}): it is damaged, or of another version "
            "of JAX; make the index again with ae-jax index"
        ) from error
    chunks = [np.asarray(call(jnp.asarray(x[i : i + batch_size]))) for i in range(0, len(x), batch_size)]
    return np.concatenate(chunks)


def search(index: Index, codes: np.ndarray, k: int, metric: Metric = "euclidean") -> list[list[Hit]]:
    """The k codes of the index nearest to each query's code, compared with all codes. codes [Q, K] -> Q lists."""
    if not np.isfinite(codes).all():
        raise RunError("the code of a query is NaN or infinite: its values are too large for this encoder")
    base, queries = jnp.asarray(index.codes), jnp.asarray(codes)
    search = retrieval.by_cosine if metric == "cosine" else retrieval.nearest
    places, distances = map(np.asarray, search(base, queries, min(k, len(index.codes))))
    return [_hits(index, p, d) for p, d in zip(places, distances, strict=True)]


def search_ball(index: Index, codes: np.ndarray, k: int, radius: int) -> tuple[list[list[Hit]], list[int]]:
    """At most k codes whose bits differ from the query's in at most `radius` places, and the number of all such codes.

    Codes are ordered by the number of differing bits, then by Euclidean distance. A unit's bit is 1 above its median
    over the index. codes [Q, K], K <= 64 -> Q lists, Q counts.
    """
    middle = retrieval.thresholds(index.codes)
    table = retrieval.addresses(index.codes > middle)
    found, sizes = [], []
    for code in codes:
        places, bits = retrieval.within(table, code > middle, radius)
        order = np.lexsort((places, np.linalg.norm(index.codes[places] - code, axis=1), bits))[:k]
        found.append(_hits(index, places[order], bits[order]))
        sizes.append(len(places))
    return found, sizes


def _hits(index: Index, places: Sequence[int] | np.ndarray, distances: Sequence[float] | np.ndarray) -> list[Hit]:
    return [Hit(int(p), str(index.names[p]), float(d)) for p, d in zip(places, distances, strict=True)]
