"""The quality of an image compared with its original: PSNR, and SSIM as scikit-image computes it.

Wang, Bovik, Sheikh & Simoncelli (2004), "Image quality assessment: from error visibility to structural similarity",
IEEE Trans. Image Processing 13(4).
"""

from typing import Any

import numpy as np


def psnr(x: Any, y: Any, peak: float = 1.0) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each image, 10 log10(peak^2 / mean squared error); inf for equal images.

    [B, ...], [B, ...] -> [B]. Raises ValueError if the shapes differ.
    """
    x, y = _pair(x, y)
    squared = np.square(x - y).reshape(len(x), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / squared)


def ssim(x: Any, y: Any, peak: float = 1.0) -> np.ndarray:
    """Structural similarity of each pair of images, the mean over positions and channels; 1 for equal images.

    As in the article: a Gaussian window of sigma 1.5 with 11 x 11 pixels, K1 = 0.01, K2 = 0.03, and variances with
    1 / N. Needs scikit-image. Both sides must be at least 11 pixels.

    Args:
        x: [B, H, W, C], values from 0 to `peak`.
        y: the same shape.
        peak: the range of values, L in the article.

    Returns:
        [B].

    Raises:
        ValueError: shapes that differ, are not [B, H, W, C], or are smaller than the window.
    """
    from skimage.metrics import structural_similarity

    x, y = _pair(x, y)
    if x.ndim != 4 or min(x.shape[1:3]) < 11:
        raise ValueError(f"SSIM takes images [B, H, W, C] of at least 11 pixels a side; these are {list(x.shape)}")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": peak}
    return np.array([structural_similarity(a, b, channel_axis=-1, **options) for a, b in zip(x, y, strict=True)])


def _pair(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"images of the shapes {list(x.shape)} and {list(y.shape)} cannot be compared")
    return x, y
