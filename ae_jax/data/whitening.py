"""Patches of images, and the whitening of natural images before features are learned from them."""

from collections.abc import Sequence

import numpy as np

from .dataset import DataError


def patches(
    images: np.ndarray | Sequence[np.ndarray], size: int | tuple[int, int], count: int, seed: int | list[int]
) -> np.ndarray:
    """`count` patches [count, h, w, C] from images [N, H, W, C] or a list of [H, W, C], in their dtype.

    Every position at which a patch lies wholly inside an image is equally likely, with replacement.

    Raises:
        DataError: no image is as large as a patch, or the images have different numbers of channels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width, count) < 1:
        raise DataError(f"{count} patches of {height}x{width} were asked for; there must be one at least, of one pixel")
    if any(np.ndim(image) != 3 for image in images) or len({image.shape[-1] for image in images}) > 1:
        raise DataError("patches come from images [H, W, C] that all have the same number of channels")
    rows = np.array([max(0, image.shape[0] - height + 1) for image in images], np.int64)
    columns = np.array([max(0, image.shape[1] - width + 1) for image in images], np.int64)
    ends = np.cumsum(rows * columns)
    if not len(ends) or not ends[-1]:
        raise DataError(f"none of the {len(images)} images is as large as a patch of {height}x{width}")
    place = np.random.default_rng(seed).integers(ends[-1], size=count)
    which = np.searchsorted(ends, place, side="right")
    place -= ends[which] - (rows * columns)[which]
    out = np.empty((count, height, width, images[0].shape[-1]), images[0].dtype)
    for i in np.unique(which):
        chosen = np.flatnonzero(which == i)
        windows = np.lib.stride_tricks.sliding_window_view(images[i], (height, width), axis=(0, 1))  # [.., .., C, h, w]
        out[chosen] = np.moveaxis(windows[np.divmod(place[chosen], columns[i])], 1, -1)
    return out


def patch_deviation(x: np.ndarray) -> float:
    """Standard deviation of all pixels of patches [N, ...] after each patch's mean is subtracted."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    return float((flat - flat.mean(1, keepdims=True)).std(ddof=1))


def normalise_patches(x: np.ndarray, deviation: float | None = None) -> np.ndarray:
    """Patches [N, ...] in the range of sigmoid units: minus their means, cut at three deviations, mapped to [0.1, 0.9].

    Ng, "Sparse autoencoder" (CS294A; UFLDL), normalizeData. `deviation` is `patch_deviation` of the training patches;
    by default of x.
    """
    bound = 3 * (patch_deviation(x) if deviation is None else deviation)
    if bound <= 0:
        raise DataError("the patches are constant (their deviation is 0); there is nothing to normalise")
    centred = x - x.mean(tuple(range(1, x.ndim)), keepdims=True, dtype=np.float64)
    return (np.clip(centred / bound, -1, 1) * 0.4 + 0.5).astype(np.float32)


def whiten_spectrum(image: np.ndarray, cutoff: float = 200 / 512) -> np.ndarray:
    """A whole photograph [H, W, C] with its 1/f spectrum flattened: float32 with mean 0, in arbitrary units.

    Each amplitude at frequency f is multiplied by f exp(-(f / cutoff)^4): Olshausen & Field (1997), Vision
    Research 37. `cutoff` is in cycles per pixel; theirs is 200 cycles on pictures of 512 pixels.
    """
    height, width = image.shape[:2]
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])[..., None]  # cycles per pixel
    spectrum = np.fft.rfft2(image.astype(np.float64), axes=(0, 1)) * f * np.exp(-((f / cutoff) ** 4))
    return np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1)).astype(np.float32)
