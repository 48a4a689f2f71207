"""Images from files: decoding, cropping and resizing with Pillow, and folders of them."""

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .dataset import DataError

Size = int | tuple[int, int]  # pixels: a square's side, or (height, width)
Crop = Size | Literal["square"]


def decode(file: str | Path | bytes, colour: bool | None = None) -> np.ndarray:
    """An encoded image as uint8 [H, W, C], C = 3 for `colour`, 1 for grey, and by the image itself for None.

    Sixteen-bit images keep their eight high bits; transparency is dropped; cameras' rotation is applied.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415

    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
        image: Any = opened if isinstance(file, bytes) else ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # Pillow's conversion would clip at 255
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        if colour is None:
            colour = image.mode not in ("1", "L", "LA", "La")
        pixels = np.asarray(image.convert("RGB" if colour else "L"))
    return pixels if colour else pixels[..., None]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def fitted(image: np.ndarray, crop: Crop | None, resize: Size | None) -> np.ndarray:
    """The centre of an image [H, W, C], cut to `crop` ("square": the largest square), then scaled to `resize`.

    Raises:
        DataError: the image is smaller than the crop.
    """
    from PIL import Image  # noqa: PLC0415

    if crop is not None:
        if isinstance(crop, str) and crop != "square":
            raise DataError(f'crop is {crop!r}; it must be a side in pixels, (height, width), or "square"')
        height, width = _pair(min(image.shape[:2]) if isinstance(crop, str) else crop)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        if top < 0 or left < 0 or height < 1 or width < 1:
            raise DataError(f"an image of {image.shape[0]}x{image.shape[1]} cannot be cropped to {height}x{width}")
        image = image[top : top + height, left : left + width]
    if resize is not None and _pair(resize) != image.shape[:2]:
        height, width = _pair(resize)
        grey = image.shape[-1] == 1
        scaled = Image.fromarray(image[..., 0] if grey else image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(scaled).reshape(height, width, -1)
    return image
