"""Restoring images: the command `restore`."""

import functools
from pathlib import Path

import jax
import numpy as np

from ... import corruption, data
from ...data.disk import suffix, write_atomically
from ...errors import RunError, counted, warn
from ...training.settings import Settings
from .. import restoration
from ..files import (
    image_bytes,
    places_for,
)
from . import runs
from .loading import check_units


def restore(
    workdir: Path, source: Path, out: Path, seed: int | None = None, scale: int | None = None, batch_size: int = 256
) -> tuple[list[Path], list[str]]:
    """Restores images of any size, tile by tile without seams (`restoration.tiled`).

    A run on colour images gets a grey image as three equal channels. Transparent pixels become white. `scale` first
    enlarges images by bicubic interpolation, see `enlargement`.

    Returns the written files and, for a folder, the reasons for images left out. Raises RunError for a single image
    that cannot be restored, and for a run that did not learn to restore.
    """
    from PIL import Image

    opened = runs.open_run(workdir, seed)
    check_restores(opened, workdir)
    scale = enlargement(opened.settings, scale)
    if not source.exists():
        raise RunError(f"there is no image or folder {source}")
    files = [source] if source.is_file() else data.image_files(source)
    if source.resolve() in out.resolve().parents:
        below = {file for file in files if out.resolve() in file.resolve().parents}
        if below:
            warn(f"{out} is in the input folder: the {len(below)} images in it are left out")
        files = [file for file in files if file not in below]
    if not files:
        raise RunError(f"{source} holds no images in a format that Pillow reads (.png, .jpg, ...)")
    paths = places_for(files, source, out, *opened.sources)
    reconstruct = functools.partial(jax.jit(opened.in_data_units.reconstruct), opened.params)
    height, width, channels = opened.shape
    written, refused, deep = [], [], []
    for file, path in zip(files, paths, strict=True):
        try:
            (image,) = data.read_images([file], colour=True if channels == 3 else None, deep=True)
        except data.DataError as error:
            refused.append(str(error))
            continue
        if scale > 1 and image.shape[2] <= channels:
            image = data.scaled(image, (scale * image.shape[0], scale * image.shape[1]), Image.Resampling.BICUBIC)
        if image.dtype != np.uint8:
            deep.append(file)
        if why := unfit(image, opened):
            refused.append(f"{file} has {why}")
            continue
        restored = restoration.tiled(reconstruct, data.pixels_to_floats([image])[0], (height, width), batch_size)
        pixels = np.round(255 * np.clip(restored, 0, 1)).astype(np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, image_bytes(pixels, "PNG" if suffix(path) == ".png" else "JPEG"))
        written.append(path)
    if refused and not source.is_dir():
        raise RunError(refused[0])
    if deep:
        warn(f"note: {counted(len(deep), 'image')} of 16 bits a pixel ({deep[0].name}, ...): restored ones have 8 bits")
    return written, refused


def check_restores(opened: runs.OpenRun, workdir: Path) -> None:
    """Raises RunError for a run that did not learn from images, or did not learn to undo a corruption."""
    if len(opened.shape) != 3 or opened.shape[2] not in (1, 3):
        raise RunError(f"{workdir} was trained on examples of {opened.shape}, not on images")
    if opened.algorithm.corrupt is None:
        raise RunError(
            f"{workdir} never saw corrupted images, so it has not learned to restore any: train denoising, or any "
            "algorithm with --noise"
        )
    runs.check_decodes(opened, workdir, "train denoising")
    check_units("an image", opened.standard)


def unfit(image: np.ndarray, opened: runs.OpenRun) -> str:
    """Why a run cannot restore an image [H, W, C]; "" if it can."""
    height, width, channels = opened.shape
    size, least = ("x".join(map(str, of)) for of in (image.shape[:2], opened.shape[:2]))
    if image.shape[2] > channels:
        return "colour, and this run was trained on grey images: make it grey, or train with --data-colour"
    if image.shape[0] < height or image.shape[1] < width:
        return f"{size} pixels (height x width); this run restores images of at least {least}"
    if image.shape[:2] != (height, width) and not opened.patches:
        return (
            f"{size} pixels (height x width); this run was trained on whole images and restores {least} only: "
            "for other sizes, train on patches of a folder of images (--data FOLDER --data-patch 8)"
        )
    return ""


def enlargement(settings: Settings, scale: int | None) -> int:
    """The factor of enlargement before a run sharpens images; by default the factor in its settings.

    Raises RunError for a factor other than 1 and the learned one. A run that learned no factor takes 1 only.
    """
    kinds = {settings.noise: settings.noise_level}
    kinds |= {settings.hyper.get("corruption"): settings.hyper.get("level")}
    sharpens = "low_resolution" in kinds
    learned = int(kinds["low_resolution"] or corruption.FACTOR) if sharpens else 1
    if scale not in (None, 1, learned):
        does = f"learned to sharpen images enlarged {learned} times" if sharpens else "did not learn to enlarge images"
        raise RunError(f"scale is {scale} and this run {does}: leave --scale out")
    return learned if scale is None else scale
