"""Restores images of any size by a network for patches of one size: overlapping tiles, blended without seams."""

from collections.abc import Callable
from typing import Any

import numpy as np


def starts(length: int, patch: int, stride: int) -> np.ndarray:
    """The first pixels of tiles along an axis. The tiles cover the axis, and the last one ends at its end."""
    return np.unique(np.append(np.arange(0, length - patch, stride), length - patch))


def window(patch: int) -> np.ndarray:
    """The weights of a tile's pixels along an axis [patch]: a raised cosine, least at the edges and never 0."""
    return np.sin(np.pi * (np.arange(patch) + 0.5) / patch) ** 2


def tiled(
    restore: Callable[[Any], Any], image: np.ndarray, patch: tuple[int, int], batch_size: int = 256
) -> np.ndarray:
    """Applies `restore`, a function of patches, to a whole image: each pixel is the weighted mean of overlapping tiles.

    Tiles overlap by half. Their weights are least at the edges, where a network sees least of the surroundings, so no
    seams are left. A `restore` that is the identity on patches leaves the image unchanged.

    Args:
        restore: [B, h, w, C] -> [B, h, w, C].
        image: [H, W, C].
        patch: (h, w).
        batch_size: number of tiles at a time. The last batch is padded, so that one program is compiled.

    Returns:
        [H, W, C].

    Raises:
        ValueError: an image smaller than a patch.
    """
    (height, width, _), (h, w) = image.shape, patch
    if height < h or width < w:
        raise ValueError(f"the image has {height}x{width} pixels; tiles of {h}x{w} do not fit into it")
    corners = [(i, j) for i in starts(height, h, max(1, h // 2)) for j in starts(width, w, max(1, w // 2))]
    weight = (window(h)[:, None] * window(w))[..., None]  # [h, w, 1]
    total, weights = np.zeros(image.shape), np.zeros((height, width, 1))
    for first in range(0, len(corners), batch_size):
        some = corners[first : first + batch_size]
        tiles = np.zeros((batch_size, h, w, image.shape[2]), image.dtype)
        for n, (i, j) in enumerate(some):
            tiles[n] = image[i : i + h, j : j + w]
        for (i, j), tile in zip(some, np.asarray(restore(tiles)), strict=False):
            total[i : i + h, j : j + w] += weight * tile
            weights[i : i + h, j : j + w] += weight
    return (total / weights).astype(image.dtype)
