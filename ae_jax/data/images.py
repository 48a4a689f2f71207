"""Images from files: decoding, cropping and resizing with Pillow, and folders of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core import Batch
from .dataset import DataError, Dataset, expanded, from_parts, make_batch, refuse, shuffled, unit_interval
from .folders import class_labels, image_suffixes, look, visible_files
from .whitening import patches

Size = int | tuple[int, int]  # pixels: a square's side, or (height, width)
Crop = Size | Literal["square"]


def decode(file: str | Path | bytes, colour: bool | None = None) -> np.ndarray:
    """An encoded image as uint8 [H, W, C], C = 3 for `colour`, 1 for grey, and by the image itself for None.

    Sixteen-bit images keep their eight high bits; what is transparent is laid on white; a camera's rotation is applied
    to files.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
        image: Any = opened if isinstance(file, bytes) else ImageOps.exif_transpose(opened)
        if image.mode in ("I", "F"):
            raise ValueError(
                f"its pixels are 32 bits each, mode {image.mode}, of no known range; save them in a .npy file"
            )
        if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if colour is None:
            colour = image.mode not in ("1", "L", "LA", "La")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        mode = "RGB" if colour else "L"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels if colour else pixels[..., None]


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def fitted(image: np.ndarray, crop: Crop | None, resize: Size | None) -> np.ndarray:
    """The centre of a uint8 image [H, W, C], cut to `crop` ("square": the largest square), then scaled to `resize`.

    Raises:
        DataError: the image is smaller than the crop.
    """
    from PIL import Image

    if crop is not None:
        if isinstance(crop, str) and crop != "square":
            raise DataError(f'crop is {crop!r}; it must be a side in pixels, (height, width), or "square"')
        height, width = _pair(min(image.shape[:2]) if isinstance(crop, str) else crop)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        if min(top, left) < 0 or min(height, width) < 1:
            raise DataError(
                f"an image of {image.shape[0]}x{image.shape[1]} cannot be cropped to {height}x{width} (height x width)"
            )
        image = image[top : top + height, left : left + width]
    if resize is not None and _pair(resize) != image.shape[:2]:
        height, width = _pair(resize)
        flat = image[..., 0] if image.shape[-1] == 1 else image
        # Pillow's bilinear filter widens when it shrinks, so that nothing aliases
        scaled = Image.fromarray(flat).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(scaled).reshape(height, width, -1)
    return image


def image_files(path: Path) -> list[Path]:
    """The files that Pillow can open by their suffix, see `visible_files`."""
    return visible_files(path, image_suffixes())


def read_images(
    files: str | Path | Sequence[str | Path],
    *,
    colour: bool | None = None,
    crop: Crop | None = None,
    resize: Size | None = None,
) -> list[np.ndarray]:
    """The images of a folder and all below it, or of a list of files, each uint8 [H, W, C], not all of one size.

    What is transparent is laid on white.

    Args:
        files: a folder, or files.
        colour: three channels or one; by default three if any of them has colour.
        crop: cut the centre to this size, or to the largest "square".
        resize: then scale to this size.

    Raises:
        DataError: no images, or some that are broken or smaller than the crop, which it names.
    """
    paths = image_files(Path(files)) if isinstance(files, str | Path) else [Path(file) for file in files]
    if not paths:
        raise DataError(f"{files} holds no images in a format that Pillow reads (.png, .jpg, ...)")
    images, bad = [], []
    for path in paths:
        try:
            images.append(fitted(decode(path, colour), crop, resize))
        except DataError as error:
            bad.append(f"{path}: {error}")
        except Exception as error:  # Pillow raises whatever its decoders do
            bad.append(f"{path} cannot be read as an image ({error}); repair or remove it")
    refuse(bad)
    if colour is None and len({image.shape[-1] for image in images}) > 1:
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    return images


def folder(
    path: str | Path,
    *,
    colour: bool | None = None,
    crop: Crop | None = None,
    resize: Size | None = None,
    patch: Size | None = None,
    count: int | None = None,
    test_count: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """A folder of images in any format that Pillow reads; what is transparent is laid on white.

    Subfolders `train` and `test` (and `valid`) are its splits, if there; subfolders below are its classes.

    Args:
        path: the folder.
        colour: three channels or one; by default three if any image has colour.
        crop: cut the centre of each image to this size, or to the largest "square".
        resize: then scale it to this size.
        patch: draw patches of this size from the images instead of taking them whole.
        count: how many patches to train on; 10000 by default.
        test_count: how many to test on; a fifth of `count` by default.
        test_fraction: how many images to hold out where there is no folder `test`.
        seed: of that split and of the patches.

    Raises:
        DataError: no images, broken ones (named), or differing sizes with neither crop, resize nor patch.
    """
    path = expanded(path)
    if patch is None and (count is not None or test_count is not None):
        raise DataError("count= and test_count= are numbers of patches; pass patch=8 with them")
    roots, files, *_ = looked = look(path, "images")
    for split, found in files.items():
        if not found:
            raise DataError(f"{roots[split]} holds no images in a format that Pillow reads (.png, .jpg, ...)")

    classes, labels = class_labels(roots, files)
    looked.tell()
    every = read_images([p for found in files.values() for p in found], colour=colour, crop=crop, resize=resize)
    images, at = {}, 0
    for split, found in files.items():
        images[split] = every[at : at + len(found)]
        at += len(found)
    if patch is not None:
        return _patched(path, images, patch, count or 10000, test_count, test_fraction, seed)
    if len(sizes := {image.shape for image in every}) > 1:
        some = ", ".join("x".join(map(str, size[:2])) for size in sorted(sizes)[:3])
        raise DataError(
            f"the images in {path} have {len(sizes)} different sizes (height x width: {some}, ...); pass resize=64 to "
            'scale them all to one, crop="square" before it to keep their proportions, crop=64 to cut their centres, '
            "or patch=8"
        )
    scaled = unit_interval([np.stack(part) for part in images.values()], str(path))
    parts = {split: make_batch(x, labels[split] if classes else None) for split, x in zip(images, scaled, strict=True)}
    names = {split: [str(p.relative_to(path)) for p in found] for split, found in files.items()}
    return from_parts(path.name, parts, str(path), test_fraction, seed, classes=classes, names=names)


def _patched(
    path: Path,
    images: dict[str, list[np.ndarray]],
    patch: Size,
    count: int,
    test_count: int | None,
    test_fraction: float,
    seed: int,
) -> Dataset:
    """Patches whose train and test parts come from different images."""
    source = str(path)
    if "test" not in images:
        train, test = shuffled(len(images["train"]), test_fraction, seed)
        source += f", {test_fraction:g} of its images for test by seed {seed}"
        images = {"train": [images["train"][i] for i in train], "test": [images["train"][i] for i in test]}
    counts = {"train": count, "test": max(1, count // 5) if test_count is None else test_count}
    drawn = [patches(images[split], patch, n, [seed, i]) for i, (split, n) in enumerate(counts.items())]
    train, test = (Batch(x) for x in unit_interval(drawn, str(path)))  # pyright: ignore[reportArgumentType]
    return Dataset(f"{path.name} patches", train, test, source)
