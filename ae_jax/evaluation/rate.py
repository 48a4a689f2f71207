"""Rate: codes rounded to a grid, and the bits that encode the rounded codes. For the distortion see `quality`.

Uniform quantisation and ideal entropy coding: Gersho & Gray (1992), "Vector quantization and signal compression",
chapters 5 and 9.
"""

from typing import NamedTuple

import numpy as np


class Quantiser(NamedTuple):
    """A grid for codes. The codes' mean is its middle point: a unit that stays within half a step has one symbol."""

    centre: np.ndarray  # [K]
    step: np.ndarray  # [K], between neighbouring points
    half: int  # number of points on either side of the middle


def quantiser(codes: np.ndarray, bits: int, shared: bool = False) -> Quantiser:
    """A uniform grid of 2^bits - 1 points for each unit, which spans the range of the given codes.

    Args:
        codes: of the training set, [N, K].
        bits: the grid has 2^bits - 1 points; from 2 to 16.
        shared: whether all units have the step of the widest unit, as in transform coding with an orthonormal basis.
            With such a basis all units then add the same distortion, and units that vary less take fewer bits.

    Raises:
        ValueError: fewer bits than 2, or more than 16.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits is {bits}; it must be from 2 to 16")
    codes = np.asarray(codes, np.float64)
    centre, half = codes.mean(0), 2 ** (bits - 1) - 1
    step = np.abs(codes - centre).max(0) / half
    step = np.full_like(step, step.max()) if shared else step
    return Quantiser(centre, np.where(step > 0, step, 1.0), half)


def quantise(grid: Quantiser, codes: np.ndarray) -> np.ndarray:
    """The number of each unit's nearest grid point, from 0. [N, K] -> int64 [N, K].

    Codes beyond the grid get its end.
    """
    steps = np.rint((np.asarray(codes, np.float64) - grid.centre) / grid.step)
    return (np.clip(steps, -grid.half, grid.half) + grid.half).astype(np.int64)


def dequantise(grid: Quantiser, symbols: np.ndarray) -> np.ndarray:
    """The codes at the grid points of these numbers. int [N, K] -> [N, K]."""
    return grid.centre + (symbols - grid.half) * grid.step


def frequencies(symbols: np.ndarray, count: int, prior: float = 0.5) -> np.ndarray:
    """The probability of each of `count` symbols in each unit, by the training set's symbols: int [N, K] -> [K, count].

    `prior` is added to every count, so a symbol that never occurs has a finite code length; 1/2 is that of Krichevsky &
    Trofimov (1981), IEEE Trans. Information Theory 27. With a prior of 0, such a symbol has probability 0.
    """
    counts = np.stack([np.bincount(unit, minlength=count) for unit in symbols.T]) + prior
    return counts / counts.sum(1, keepdims=True)


def code_length(symbols: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The bits of an ideal entropy coder for each example, - sum_k log2 p_k, with independent units. [N, K] -> [N].

    An arithmetic coder comes within two bits of the sum over a whole file. `probabilities` [K, count], see
    `frequencies`, are known to the coder and must not be estimated from the coded examples.
    """
    with np.errstate(divide="ignore"):
        return -np.log2(probabilities[np.arange(symbols.shape[1]), symbols]).sum(1)


def tiles(image: np.ndarray, size: int) -> np.ndarray:
    """An image cut into squares, row by row; the remainder at the right and at the bottom is left out.

    [H, W, C] -> [H // size * (W // size), size, size, C]. Raises ValueError for an image smaller than a tile,
    of another rank, and for a size below 1.
    """
    if image.ndim != 3:
        raise ValueError(
            f"the image has the shape {image.shape}; wanted: [H, W, C], and image[..., None] if it is grey"
        )
    if size < 1:
        raise ValueError(f"size is {size}; a tile has at least 1 pixel")
    height, width, channels = image.shape
    down, across = height // size, width // size
    if not down * across:
        raise ValueError(f"an image of {height}x{width} pixels holds no tile of {size}x{size}")
    cut = image[: down * size, : across * size].reshape(down, size, across, size, channels)
    return cut.swapaxes(1, 2).reshape(down * across, size, size, channels)


def untiled(parts: np.ndarray, height: int, width: int) -> np.ndarray:
    """The inverse of `tiles`, for an image of whole tiles. [T, size, size, C] -> [height, width, C]."""
    size, channels = parts.shape[1], parts.shape[-1]
    down, across = height // size, width // size
    return parts.reshape(down, across, size, size, channels).swapaxes(1, 2).reshape(height, width, channels)
