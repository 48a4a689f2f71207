"""Images from files: decoding, cropping and resizing with Pillow, and folders of them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import counted, warn
from .dataset import (
    DataError,
    Dataset,
    check_sizes,
    expanded,
    from_parts,
    make_batch,
    refuse,
    shuffled,
    tell_idle_split,
    white,
)
from .folders import class_labels, image_suffixes, look, visible_files
from .whitening import patches

Size = int | tuple[int, int]  # pixels: a square's side, or (height, width)
Crop = Size | Literal["square"]


def decode(file: str | Path | bytes, colour: bool | None = None, deep: bool = False) -> np.ndarray:
    """An encoded image as uint8 [H, W, C]. C is 3 if `colour` is True, 1 if False, and chosen by the image if None.

    White is 255. Pixels of 16 bits keep their 8 high bits, or with `deep` all bits, as uint16 with white at 65535.
    Transparent pixels become white. Files are turned by the rotation that their camera recorded.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
        sixteen = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PPM")  # white is 65535
        image: Any = opened if isinstance(file, bytes) else ImageOps.exif_transpose(opened)
        if image.mode in ("I", "F") and not sixteen:
            raise ValueError(
                f"its pixels are 32 bits each, mode {image.mode}, of no known range; save them in a .npy file"
            )
        if sixteen:  # Pillow's conversion would clip at 255
            grey = np.asarray(image).astype(np.uint16)[..., None]
            grey = grey if deep else (grey >> 8).astype(np.uint8)
            return np.repeat(grey, 3, -1) if colour else grey
        if colour is None:
            colour = image.mode not in ("1", "L", "LA", "La")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        mode = "RGB" if colour else "L"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels if colour else pixels[..., None]


def of_one_depth(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Images in uint8, or all in uint16 if one is; the factor 257 = 65535 / 255 keeps the brightness."""
    if not any(image.dtype == np.uint16 for image in images):
        return list(images)
    return [image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257) for image in images]


def pixels_to_floats(images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Images of one size [H, W, C], uint8 or uint16, as float32 [N, H, W, C] with white at 1.0."""
    out = np.empty((len(images), *images[0].shape), np.float32)
    for i, image in enumerate(images):
        out[i] = image / np.float32(white(image.dtype))
    return out


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def fitted(image: np.ndarray, crop: Crop | None, resize: Size | None) -> np.ndarray:
    """The centre of an image [H, W, C], cut to `crop` ("square": the largest square), then scaled to `resize`.

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
        # Pillow's bilinear filter gets wider for smaller images, which prevents aliasing
        image = scaled(image, _pair(resize), Image.Resampling.BILINEAR)
    return image


def scaled(image: np.ndarray, size: tuple[int, int], filter: Any) -> np.ndarray:
    """An image [H, W, C], uint8 or uint16, scaled to (height, width) by one of Pillow's filters; the dtype stays."""
    from PIL import Image

    to = lambda plane: np.asarray(Image.fromarray(plane).resize((size[1], size[0]), filter))
    if image.dtype == np.uint8:
        return to(image[..., 0] if image.shape[-1] == 1 else image).reshape(*size, -1)
    # Pillow filters 16-bit images only as floats, one channel at a time
    planes = [to(np.ascontiguousarray(image[..., c], np.float32)) for c in range(image.shape[-1])]
    return np.clip(np.rint(np.stack(planes, -1)), 0, white(image.dtype)).astype(image.dtype)


def image_files(path: Path) -> list[Path]:
    """The files below a folder with a suffix that Pillow can open, see `visible_files`."""
    return visible_files(path, image_suffixes())


def read_images(
    files: str | Path | Sequence[str | Path],
    *,
    colour: bool | None = None,
    crop: Crop | None = None,
    resize: Size | None = None,
    deep: bool = False,
) -> list[np.ndarray]:
    """The images in a folder and its subfolders, or in a list of files, each uint8 [H, W, C]; sizes may differ.

    White is 255. Transparent pixels become white.

    Args:
        files: a folder, or files.
        colour: three channels or one; by default three if any of them has colour.
        crop: cut the centre to this size, or to the largest "square".
        resize: then scale to this size.
        deep: keep all bits of 16-bit pixels: if one image has such pixels, all images are uint16, with white at 65535.

    Raises:
        DataError: no images, a size below 1, or images (by name) that are broken or smaller than the crop.
    """
    check_sizes(crop=crop, resize=resize)
    paths = image_files(Path(files)) if isinstance(files, str | Path) else [Path(file) for file in files]
    if not paths:
        raise DataError(f"{files} holds no images in a format that Pillow reads (.png, .jpg, ...)")
    images, bad = [], []
    for path in paths:
        try:
            images.append(fitted(decode(path, colour, deep), crop, resize))
        except DataError as error:
            bad.append(f"{path}: {error}")
        except Exception as error:  # Pillow's decoders raise errors of any type
            bad.append(f"{path} cannot be read as an image ({error}); repair or remove it")
    refuse(bad)
    if colour is None and len({image.shape[-1] for image in images}) > 1:
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    return of_one_depth(images)


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
    """A folder of images in any format that Pillow reads. White is 1.0; transparent pixels become white.

    Subfolders `train` and `test` (and `valid`), if any, are its splits; the subfolders of a split are its classes.

    Args:
        path: the folder.
        colour: three channels or one; by default three if any image has colour.
        crop: cut the centre of each image to this size, or to the largest "square".
        resize: then scale it to this size.
        patch: draw patches of this size from the images instead of taking them whole.
        count: how many patches to train on; 10000 by default.
        test_count: how many to test on; a fifth of `count` by default.
        test_fraction: the fraction of images to hold out if there is no folder `test`.
        seed: of that split and of the patches.

    Raises:
        DataError: no images, broken images (by name), a size or count below 1, or images of different sizes without
            crop, resize or patch.
    """
    path = expanded(path)
    check_sizes(crop=crop, resize=resize, patch=patch, count=count, test_count=test_count)
    if patch is None and (count is not None or test_count is not None):
        raise DataError("count= and test_count= are numbers of patches; pass patch=8 with them")
    roots, files, *_ = looked = look(path, "images")
    for split, found in files.items():
        if not found:
            raise DataError(f"{roots[split]} holds no images in a format that Pillow reads (.png, .jpg, ...)")

    classes, labels = class_labels(roots, files)
    looked.tell()
    paths = [p for found in files.values() for p in found]
    every = read_images(paths, colour=colour, crop=crop, resize=resize, deep=True)
    images, at = {}, 0
    for split, found in files.items():
        images[split] = every[at : at + len(found)]
        at += len(found)
    if patch is not None:
        return _patched(path, images, patch, 10000 if count is None else count, test_count, test_fraction, seed)
    if len(sizes := {image.shape for image in every}) > 1:
        some = ", ".join("x".join(map(str, size[:2])) for size in sorted(sizes)[:3])
        raise DataError(
            f"the images in {path} have {len(sizes)} different sizes (height x width: {some}, ...); pass resize=64 to "
            'scale them all to one, crop="square" before it to keep their proportions, crop=64 to cut their centres, '
            "or patch=8"
        )
    parts = {
        split: make_batch(pixels_to_floats(part), labels[split] if classes else None) for split, part in images.items()
    }
    names = {split: [str(p.relative_to(path)) for p in found] for split, found in files.items()}
    return from_parts(path.absolute().name, parts, str(path), test_fraction, seed, classes=classes, names=names)


def _patched(
    path: Path,
    images: dict[str, list[np.ndarray]],
    patch: Size,
    count: int,
    test_count: int | None,
    test_fraction: float,
    seed: int,
) -> Dataset:
    """Patches; train, test and validation come from different images. Validation has as many patches as test."""
    source = str(path)
    images = dict(images)
    size = np.array(_pair(patch))
    every = [image.shape[:2] for split in images.values() for image in split]
    if small := int((np.array(every) < size).any(1).sum()):
        warn(f"left out: {counted(small, 'image')} of {len(every)} in {path}, smaller than a patch")
    if images.keys() & {"test", "validation"}:
        tell_idle_split(source, test_fraction, 0)
    if "test" not in images and "validation" in images:
        images["test"] = images.pop("validation")
        source += ", its validation split as test"
    if "test" not in images:
        train, test = shuffled(len(images["train"]), test_fraction, seed)
        source += f", {test_fraction:g} of its images for test by seed {seed}"
        images = {"train": [images["train"][i] for i in train], "test": [images["train"][i] for i in test]}
    counts = {"train": count, "test": max(1, count // 5) if test_count is None else test_count}
    if "validation" in images:
        counts["validation"] = counts["test"]
    drawn = [patches(images[split], patch, n, [seed, i]) for i, (split, n) in enumerate(counts.items())]
    train, test, *validation = (make_batch(pixels_to_floats(part)) for part in drawn)
    return Dataset(
        name=f"{path.absolute().name} patches",
        train=train,
        test=test,
        source=source,
        validation=validation[0] if validation else None,
    )
