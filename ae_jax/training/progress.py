"""The progress bar of a run."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


@contextlib.contextmanager
def progress_bar(epochs: int, done: int, progress: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar that starts at `done` of `epochs`; the function it gives moves it on by a row of the log.

    The bar is hidden without `progress`, and where stderr is no terminal.
    """
    from tqdm import tqdm

    with tqdm(total=epochs, initial=done, unit="epoch", disable=None if progress else True, dynamic_ncols=True) as bar:

        def show(row: dict[str, Any]) -> None:
            mean = {
                part: np.mean([v for v in row[part]["loss"] if v is not None])
                for part in ("train", "validation")
                if "loss" in row.get(part, {})
            }
            losses = {part: f"{value:.4g}" for part, value in mean.items()}
            bar.set_postfix({**losses, "examples/s": f"{row['examples_per_second']:,.0f}"}, refresh=False)
            bar.update()

        yield show
