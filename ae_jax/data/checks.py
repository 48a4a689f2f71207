"""Checks for arrays that follow other conventions: channels before rows, other kinds of labels."""

from collections.abc import Sequence

import numpy as np

from ..errors import warn
from .dataset import DataError

CHANNELS = (1, 2, 3, 4)


def transposition(shape: Sequence[int]) -> tuple[int, ...] | None:
    """The axes that transpose images [N, C, H, W] or [H, W, C, N] to [N, H, W, C]; None for arrays that look right.

    C is 1 to 4, and the last axis is longer than 4. [N, C, H, W] is recognised by C as the second axis and a ratio of
    H and W of at most 4; [H, W, C, N] by C as the third axis and H = W.
    """
    if len(shape) != 4 or shape[3] <= max(CHANNELS):
        return None
    a, b, c, d = shape
    if b in CHANNELS and c > max(CHANNELS) and max(c, d) <= 4 * min(c, d):
        return 0, 2, 3, 1
    if c in CHANNELS and a == b > max(CHANNELS):
        return 3, 0, 1, 2
    return None


def check_channels(shape: Sequence[int], what: str) -> None:
    """Raises DataError for a shape of images whose channels do not come last.

    An array with equal first two of three axes may be [H, W, N] or [N, H, W]; a line on stderr says how it is read.
    """
    if (axes := transposition(shape)) is not None:
        order = "[N, C, H, W]" if axes[0] == 0 else "[H, W, C, N]"
        raise DataError(
            f"{what} has the shape {tuple(shape)}, which looks like images {order}; channels come last here: save "
            f"x.transpose{axes}. If the order is right already, save the examples flat, [N, D]"
        )
    if len(shape) == 3 and shape[0] == shape[1] > max(CHANNELS) and shape[2] != shape[0]:
        height, width, last = shape
        other = (
            f"one image of {height} x {width} x {last}, save x[None]"
            if last in CHANNELS
            else f"{last} images of {height} x {width}, save x.transpose(2, 0, 1)"
        )
        warn(f"{what} has the shape {tuple(shape)}, read as {height} images of {width} x {last}; if it is {other}")


def check_labels(y: np.ndarray, count: int, what: str) -> np.ndarray:
    """Labels as int32 [N], -1 for none.

    Raises:
        DataError: another shape, such as one-hot labels; labels that are not whole numbers of at least -1; and labels
            that are all -1 or 1, which elsewhere are two classes.
    """
    y = np.asarray(y)
    if y.shape != (count,):
        hint = ""
        if y.ndim == 2 and len(y) == count:
            hot = y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all()
            hint = ": save y[:, 0]" if y.shape[1] == 1 else ": save y.argmax(1)" if hot else ""
        raise DataError(f"{what} has labels of shape {y.shape} for {count} examples; it must be ({count},){hint}")
    if y.dtype.kind in "US":
        raise DataError(f"{what} has labels that are words ({y.dtype}); save numpy.unique(y, return_inverse=True)[1]")
    if y.dtype.kind not in "biuf" or not (y == np.round(y)).all():
        raise DataError(
            f"{what} has labels that are not whole numbers ({y.dtype}); number the classes from 0, -1 for none"
        )
    low, high = (int(y.min()), int(y.max())) if count else (0, 0)
    if high > np.iinfo(np.int32).max or low < -1:
        raise DataError(f"{what} has labels from {low} to {high}; number the classes from 0, -1 for no label")
    if low == -1 and set(np.unique(y).tolist()) == {-1, 1}:
        raise DataError(f"{what} has labels -1 and 1, and -1 means no label here: number the classes from 0")
    return y.astype(np.int32)
