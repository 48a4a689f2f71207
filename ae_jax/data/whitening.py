"""Patches of images, and the whitening of natural images before features are learned from them."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..checks import check_choice
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


# --------------------------------------------------------------------------------------------- PCA and ZCA


class Whitening(NamedTuple):
    """A whitening fitted to training data; arrays only, so it can be saved and handed to a compiled function."""

    mean: Any  # [...], of one example
    eigenvectors: Any  # [D, K], columns, of the covariance, by falling eigenvalue
    eigenvalues: Any  # [K]
    eps: Any  # [], added to the eigenvalues: directions of less variance than this are not blown up
    rotation: Any = None  # [K, D], back to the axes of the data: ZCA; None: PCA


def fit_whitening(
    x: np.ndarray, kind: Literal["pca", "zca"], eps: float = 0.0, components: int | None = None
) -> Whitening:
    """Fits PCA or ZCA whitening to examples x [N, ...], in float64, and keeps it in the dtype of x.

    Bell & Sejnowski (1997), "The independent components of natural scenes are edge filters", for ZCA.

    Args:
        x: training examples.
        kind: pca (K uncorrelated coordinates) or zca (the whitened data nearest to the data, in its own shape).
        eps: added to each variance, in squared units of the data; Coates et al. (2011) use 0.1 on patches of
            unit variance.
        components: how many leading directions to keep, K; all by default.

    Raises:
        DataError: more components than dimensions, or, without eps, directions in which x does not vary.
    """
    check_choice("kind", kind, ("pca", "zca"), error=DataError)
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    if len(flat) < 2:
        raise DataError(f"whitening was given {len(flat)} examples; it needs two at least")
    size = components or flat.shape[1]
    if not 1 <= size <= flat.shape[1]:
        raise DataError(f"{components} components were asked of data of {flat.shape[1]} dimensions")
    mean = flat.mean(0)
    centred = flat - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(flat) - 1))
    values, vectors = np.maximum(values[::-1][:size], 0), vectors[:, ::-1][:, :size]
    floor = 1e-12 * values[0]
    if eps < 0:
        raise DataError(f"eps is {eps}; it must not be negative")
    if values[0] == 0:
        raise DataError("the data does not vary at all; there is nothing to whiten")
    if eps == 0 and values[-1] <= floor:
        rank = int((values > floor).sum())
        raise DataError(f"the data varies in {rank} directions only; pass components={rank} or less, or a positive eps")
    dtype = np.result_type(np.asarray(x).dtype, np.float32)
    fitted = [a.astype(dtype) for a in (mean.reshape(x.shape[1:]), vectors, values, np.asarray(eps))]
    return Whitening(*fitted, rotation=fitted[1].T if kind == "zca" else None)


def whiten(w: Whitening, x: Any) -> Any:
    """x [N, ...] with identity covariance (up to eps): [N, K] for PCA, the shape of x for ZCA if it keeps all.

    NumPy or JAX arrays; not in [0, 1] any more, so a squared error goes with it.
    """
    white = ((x - w.mean).reshape(len(x), -1) @ w.eigenvectors) / (w.eigenvalues + w.eps) ** 0.5  # [N, K]
    return white if w.rotation is None else (white @ w.rotation).reshape(x.shape)


def unwhiten(w: Whitening, white: Any) -> Any:
    """The inverse of `whiten`: [N, ...], exact when all components are kept, else x's projection on them."""
    flat = white.reshape(len(white), -1)
    coordinates = flat if w.rotation is None else flat @ w.rotation.T
    flat = (coordinates * (w.eigenvalues + w.eps) ** 0.5) @ w.eigenvectors.T
    return flat.reshape(len(white), *w.mean.shape) + w.mean


# ------------------------------------------------------------------------------------------- other preprocessing


def patch_deviation(x: np.ndarray) -> float:
    """Standard deviation of all pixels of patches [N, ...] once each patch's own mean is taken off."""
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    return float((flat - flat.mean(1, keepdims=True)).std(ddof=1))


def normalise_patches(x: np.ndarray, deviation: float | None = None) -> np.ndarray:
    """Patches [N, ...] as sigmoid units can give them: mean off, cut at three deviations, mapped to [0.1, 0.9].

    Ng, "Sparse autoencoder" (CS294A; UFLDL), normalizeData. `deviation` is `patch_deviation` of the training
    patches; x's own by default.
    """
    bound = 3 * (patch_deviation(x) if deviation is None else deviation)
    if bound <= 0:
        raise DataError("the patches are constant (their deviation is 0); there is nothing to normalise")
    centred = x - x.mean(tuple(range(1, x.ndim)), keepdims=True, dtype=np.float64)
    return (np.clip(centred / bound, -1, 1) * 0.4 + 0.5).astype(np.float32)


def whiten_spectrum(image: np.ndarray, cutoff: float = 200 / 512) -> np.ndarray:
    """A whole photograph [H, W, C] with the 1/f fall of its spectrum made flat, float32 of mean 0, in arbitrary units.

    Each amplitude at frequency f is multiplied by f exp(-(f / cutoff)^4): Olshausen & Field (1997), Vision
    Research 37. `cutoff` is in cycles per pixel; theirs is 200 cycles on pictures of 512 pixels.
    """
    height, width = image.shape[:2]
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])[..., None]  # cycles per pixel
    spectrum = np.fft.rfft2(image.astype(np.float64), axes=(0, 1)) * f * np.exp(-((f / cutoff) ** 4))
    return np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1)).astype(np.float32)
