"""Search by codes: the commands `index` and `search`. A search imports no algorithm, no network and no optimizer."""

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import RunError
from ...evaluation import retrieval
from .. import index
from ..files import check_output, check_suffix, data_options, read_examples, standard_of

if TYPE_CHECKING:
    from . import examples


def make_index(
    workdir: Path,
    source: str,
    out: Path,
    seed: int | None = None,
    resize: bool = False,
    part: "examples.Part | None" = None,
) -> index.Index:
    """Writes an index of the examples of a source to a .npz file; see `examples.read` for sources."""
    from ...training.provenance import checksum
    from . import examples, runs
    from .coding import exported
    from .runs import in_chunks

    check_suffix(out, (".npz",))
    check_output(out, source)
    opened = runs.open_run(workdir, seed)
    check_output(out, *opened.sources)
    x, names, *_ = examples.read(opened, source, resize, part)
    encode = opened.in_data_units.encode
    program = exported(functools.partial(encode, opened.params), opened.shape)
    codes = in_chunks(encode, opened.params, x)
    about = {
        "shape": list(opened.shape),
        "resize": resize,
        "seed": opened.seed,
        "vocabulary": list(opened.vocabulary),
        "run": opened.folder.config(),
        "params": checksum(opened.params),
    }
    made = index.Index(program, codes, np.array(names), about)
    index.save(made, out)
    return made


class SearchResult(NamedTuple):
    """The result of a search."""

    searched: index.Index
    names: list[str]  # of the queries
    hits: list[list[index.Hit]]  # of each query
    sizes: list[int]  # for each query, the number of codes in its Hamming ball, or in the index
    seconds: float  # for one query


def search(
    path: Path, source: str, k: int = 10, radius: int | None = None, metric: index.Metric | None = None
) -> SearchResult:
    """The examples of an index that are nearest to each query of a source.

    Without a radius all codes are compared, by Euclidean distance unless a metric is given. With a radius only codes in
    a Hamming ball are compared; the distance is a number of bits, and a metric is refused.
    """
    if k < 1:
        raise RunError(f"k is {k}; it must be at least 1")
    if radius is not None and radius < 0:
        raise RunError(f"radius is {radius}; it counts bits and must be at least 0")
    if radius is not None and metric is not None:
        raise RunError(
            f"--radius and --metric {metric} exclude each other, as a radius counts differing bits: give one of the two"
        )
    opened = index.load(path)
    if radius is not None and opened.codes.shape[1] > retrieval.LONGEST:
        raise RunError(
            f"the codes of {path} have {opened.codes.shape[1]} numbers, and --radius takes addresses of at most "
            f"{retrieval.LONGEST} bits: leave --radius out to compare every code"
        )
    about = opened.about
    run = about["run"]["settings"]
    x, names = read_examples(
        source, opened.shape, about["vocabulary"], about["resize"], data_options(run), standard_of(run)
    )
    codes = index.encode(opened, x)

    def find() -> tuple[list[list[index.Hit]], list[int]]:
        if radius is None:
            return index.search(opened, codes, k, metric or "euclidean"), [len(opened.codes)] * len(codes)
        return index.search_ball(opened, codes, k, radius)

    find()  # compiles; the second call is timed
    began = time.perf_counter()
    hits, sizes = find()
    return SearchResult(
        searched=opened, names=names, hits=hits, sizes=sizes, seconds=(time.perf_counter() - began) / len(codes)
    )
