"""Codes for TensorBoard's Embedding Projector: the command `project`."""

from pathlib import Path

import numpy as np

from ...checks import labelled
from ...data import ranges
from ...data.disk import PROJECTED, write_atomically
from ...errors import RunError
from ..files import (
    cell,
    check_folder,
    image_bytes,
    sprite,
)
from . import runs
from .runs import in_chunks


def project(workdir: Path, out: Path, seed: int | None = None, n: int = 2000, place: str | None = None) -> list[Path]:
    """Writes the codes of the first n test examples for TensorBoard's Embedding Projector; returns the files.

    The files are vectors.tsv, metadata.tsv (labels and file names, if any), sprite.png (for images) and
    projector_config.pbtxt; projector.tensorflow.org loads the first two by hand. `place` is the new place of the run's
    data, if they have moved.
    """
    opened = runs.open_run(workdir, seed)
    check_folder(out, PROJECTED, *opened.sources)
    if n < 1:
        raise RunError(f"{n} examples are asked for; project at least 1 (-n)")
    splits = runs.load_own(opened, place)
    x, y = np.asarray(splits.test.x[:n]), splits.test.y
    codes = in_chunks(opened.algorithm.encode, opened.params, x)
    out.mkdir(parents=True, exist_ok=True)
    written = {"vectors.tsv": "".join("\t".join(f"{v:.6g}" for v in code) + "\n" for code in codes).encode()}
    config = 'embeddings {\n  tensor_path: "vectors.tsv"\n'
    columns: dict[str, list[str]] = {}
    if y is not None and labelled(y).any():
        classes = splits.dataset.classes
        named = lambda label: classes[label] if 0 <= label < len(classes) else label if label >= 0 else "no label"
        columns["label"] = [cell(named(label)) for label in np.asarray(y[:n])]
    if splits.dataset.test_names:
        columns["name"] = [cell(name) for name in splits.dataset.test_names[:n]]
    if columns:
        heading = [tuple(columns)] * (len(columns) > 1)  # the projector wants no heading for one column
        rows = [*heading, *zip(*columns.values(), strict=True)]
        written["metadata.tsv"] = "".join("\t".join(row) + "\n" for row in rows).encode(errors="backslashreplace")
        config += '  metadata_path: "metadata.tsv"\n'
    if x.ndim == 4 and x.shape[-1] in (1, 3):
        height, width = x.shape[1:3]
        written["sprite.png"] = image_bytes(sprite(ranges.undo(opened.standard, x)))
        config += f'  sprite {{\n    image_path: "sprite.png"\n    single_image_dim: {width}\n'
        config += f"    single_image_dim: {height}\n  }}\n"
    written["projector_config.pbtxt"] = f"{config}}}\n".encode()
    for name, content in written.items():
        write_atomically(out / name, content)
    return [out / name for name in written]
