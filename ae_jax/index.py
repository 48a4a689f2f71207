"""An index to search: the codes of many examples and the encoder that made them, in one file.

The encoder is StableHLO (`jax.export`), so searching needs neither the run nor its network's code.
"""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import run
from .evaluation import retrieval

Metric = Literal["euclidean", "cosine"]
PARTS = ("encoder", "codes", "names", "about")  # what the file holds


class Index(NamedTuple):
    """What is searched."""

    encoder: bytes  # exported [b, *shape] -> [b, K]
    codes: np.ndarray  # [N, K] float32
    names: np.ndarray  # [N] str, what each example is called
    about: dict[str, Any]  # shape of an example; whether images are resized; vocabulary of documents; the run

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(self.about["shape"])


class Hit(NamedTuple):
    """Something found."""

    place: int  # in the index
    name: str
    distance: float  # of codes; or the bits that differ, for a search by Hamming ball


def save(index: Index, path: Path) -> None:
    """Writes a .npz file, whole or not at all."""
    buffer = io.BytesIO()
    encoder = np.frombuffer(index.encoder, np.uint8)
    np.savez(buffer, encoder=encoder, codes=index.codes, names=index.names, about=np.array(json.dumps(index.about)))
    run.write_atomically(path, buffer.getvalue())


def load(path: Path) -> Index:
    """Reads what `save` wrote. Raises RunError for anything else."""
    if not path.is_file():
        raise run.RunError(f"there is no index {path}; ae-jax index WORKDIR DATA {path} makes one")
    try:
        with np.load(path, allow_pickle=False) as file:
            encoder, codes, names, about = (file[part] for part in PARTS)
            return Index(encoder.tobytes(), codes, names, json.loads(str(about)))
    except (ValueError, KeyError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise run.RunError(f"{path} is not an index ({error}); ae-jax index makes one") from None


def encode(index: Index, x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """Codes by the index's own encoder. [N, *shape] -> [N, K]. Raises RunError for examples of another shape."""
    if x.shape[1:] != index.shape:
        raise run.RunError(f"the query has the shape {x.shape[1:]}; this index holds examples of {index.shape}")
    call = jax.jit(jax.export.deserialize(bytearray(index.encoder)).call)
    chunks = [np.asarray(call(jnp.asarray(x[i : i + batch_size]))) for i in range(0, len(x), batch_size)]
    return np.concatenate(chunks)


def search(index: Index, codes: np.ndarray, k: int, metric: Metric = "euclidean") -> list[list[Hit]]:
    """The k nearest to each query's code, by comparison with all. codes [Q, K] -> Q lists."""
    base, queries = jnp.asarray(index.codes), jnp.asarray(codes)
    if metric == "cosine":
        base, queries = retrieval.unit(base), retrieval.unit(queries)
    places, distances = map(np.asarray, retrieval.nearest(base, queries, min(k, len(index.codes))))
    if metric == "cosine":
        distances = np.square(distances) / 2  # 1 - cos
    return [_hits(index, p, d) for p, d in zip(places, distances, strict=True)]


def search_ball(index: Index, codes: np.ndarray, k: int, radius: int) -> list[list[Hit]]:
    """At most k whose bits differ in at most `radius` places from the query's, found by address.

    Nearest first, of equals the earlier in the index. Bits: each unit above or below its median over the index.
    codes [Q, K], K <= 64 -> Q lists.
    """
    middle = retrieval.thresholds(index.codes)
    table = retrieval.addresses(index.codes > middle)
    found = []
    for code in codes:
        places, distances = retrieval.within(table, code > middle, radius)
        found.append(_hits(index, places[:k], distances[:k]))
    return found


def _hits(index: Index, places: Sequence[int] | np.ndarray, distances: Sequence[float] | np.ndarray) -> list[Hit]:
    return [Hit(int(p), str(index.names[p]), float(d)) for p, d in zip(places, distances, strict=True)]
