"""Compression: how faithful images are after so many bits, by quantised codes, PCA and JPEG.

A code's units are rounded to a uniform grid that spans the training codes; the rate is the length that an ideal entropy
coder needs who knows each unit's frequencies over the training set (`evaluation.rate`). Nothing else is counted for
codes and PCA: the decoder is held by whoever reads. Photographs are grey and cut in tiles, each coded by itself; JPEG
codes the whole photograph, and its rate is that of the file as Pillow writes it, header and tables included. Noise on
codes in training stands for rounding: Ballé, Laparra & Simoncelli (2017), ICLR, arXiv:1611.01704, whose model is a VAE.

    .venv/bin/python experiments/rate_distortion.py
    .venv/bin/python experiments/rate_distortion.py --full    # all images and photographs, 50 epochs
"""

import io
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import banded, command, record

from ae_jax import core, networks
from ae_jax import data as datasets
from ae_jax.algorithms import autoencoder, vae
from ae_jax.data.images import fitted
from ae_jax.evaluation import pca, quality, rate
from ae_jax.evaluation.codes import encode
from ae_jax.training.loop import train

AE, VAE, PCA, TRANSFORM, JPEG = "autoencoder", "VAE", "PCA", "PCA, one step for all", "JPEG"
COLOURS = {AE: "C0", VAE: "C3", PCA: "C1", TRANSFORM: "C2", JPEG: "0.4"}
BITS = (2, 3, 4, 5, 6, 7)  # of the grids
COMPONENTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
QUALITIES = (1, 2, 3, 5, 7, 10, 14, 18, 24, 32, 42, 55, 70, 85)
# Written before the first run at full size, for digits and photographs at every rate; paired over seeds.
CLAIMS = {
    "autoencoder minus PCA, PSNR, dB": "at equal rate a learned code is more faithful than principal components",
    "VAE minus autoencoder, PSNR, dB": "noise in training makes codes that rounding hurts less",
    "VAE minus JPEG, PSNR, dB": "and more faithful than JPEG, tile by tile",
}


class Images(NamedTuple):
    """What is learned from and what is coded, as tiles in [0, 1]; an image is so many tiles in a row."""

    learned: np.ndarray  # [N, h, w, 1]
    chosen_by: np.ndarray  # tiles of images that are not learned from
    test: np.ndarray
    whole: Callable[[np.ndarray], np.ndarray]  # tiles -> images [M, H, W, 1]
    per_image: int  # tiles


class Point(NamedTuple):
    """One setting of one coder."""

    bits: np.ndarray  # of each image coded
    images: np.ndarray  # what is decoded, [M, H, W, 1]


Coder = Callable[[np.ndarray], Point]


def digits(data: str, count: int, tested: int) -> Images:
    """Each image is one tile; the last tenth of those taken chooses."""
    train_set, test_set = datasets.load(data)
    some, held = np.asarray(train_set.x[:count]), max(1, count // 10)
    return Images(
        learned=some[:-held],
        chosen_by=some[-held:],
        test=np.asarray(test_set.x[:tested]),
        whole=lambda x: x,
        per_image=1,
    )


def photographs(folder: str, tile: int, count: int, most: int) -> Images:
    """Grey squares of one size from the photographs' middles, cut in tiles; a tenth of the training ones chooses."""
    parts = {name: datasets.read_images(Path(folder) / name, colour=False) for name in ("train", "test")}
    side = min(min(image.shape[:2]) for images in parts.values() for image in images) // tile * tile
    if not side:
        raise ValueError(f"{folder} holds a photograph smaller than a tile of {tile}x{tile} pixels")
    square = {name: [fitted(image, side, None) for image in images] for name, images in parts.items()}
    held = max(1, len(square["train"]) // 10)
    scale = lambda x: np.asarray(x, np.float32) / 255
    cut = lambda images: scale(np.concatenate([rate.tiles(image, tile) for image in images]))
    learned = parts["train"][held:] or parts["train"]
    per = (side // tile) ** 2
    joined = lambda x: np.stack([rate.untiled(x[i : i + per], side, side) for i in range(0, len(x), per)])
    return Images(
        learned=scale(datasets.patches(learned, tile, count, seed=0)),
        chosen_by=cut(square["train"][:held]),
        test=cut(square["test"][:most]),
        whole=joined,
        per_image=per,
    )


def coder(images: Images, encode: Callable, decode: Callable, bits: int, shared: bool) -> Coder:
    """The quantiser and the entropy coder's frequencies come from the training codes."""
    known = encode(images.learned)
    grid = rate.quantiser(known, bits, shared)
    frequencies = rate.frequencies(rate.quantise(grid, known), 2 * grid.half + 1)

    def code(tiles: np.ndarray) -> Point:
        symbols = rate.quantise(grid, encode(tiles))
        length = rate.code_length(symbols, frequencies).reshape(-1, images.per_image).sum(1)
        decoded = np.asarray(decode(rate.dequantise(grid, symbols).astype(np.float32)))
        return Point(length, images.whole(np.clip(decoded, 0, 1)))

    return code


def jpeg(images: Images, setting: int) -> Coder:
    """The whole image by Pillow, its Huffman tables fitted to it; bits are those of the file."""
    from PIL import Image

    def code(tiles: np.ndarray) -> Point:
        lengths, decoded = [], []
        for image in images.whole(tiles):
            file = io.BytesIO()
            Image.fromarray(np.rint(255 * image[..., 0]).astype(np.uint8)).save(
                file, "JPEG", quality=setting, optimize=True
            )
            lengths.append(8 * len(file.getvalue()))
            decoded.append(np.asarray(Image.open(file))[..., None] / 255)
        return Point(np.array(lengths), np.stack(decoded))

    return code


def remembered(encode: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """`encode` that works once on each set of tiles, which many quantisers then share."""
    known: dict[int, np.ndarray] = {}

    def once(x: np.ndarray) -> np.ndarray:
        if id(x) not in known:
            known[id(x)] = np.asarray(encode(x))
        return known[id(x)]

    return once


class Rotation(NamedTuple):
    """Tiles in all their principal components, over the deviation of the first: what the nets see and make.

    Their squared error is that of the pixels but for this scale; what changes is that Adam, which scales each
    coordinate by itself, learns in a few passes what takes it many times as long from pixels.
    """

    there: Callable[..., Any]  # [N, h, w, 1] -> [N, D]
    back: Callable[..., Any]
    size: int  # D
    scale: float  # a pixel's error in these units


def rotated(x: np.ndarray) -> Rotation:
    """Fitted to the training tiles."""
    basis = pca.fit(jnp.asarray(x), x[0].size)
    scale = 1 / float(jnp.sqrt(basis.variances[0]))
    there = lambda x: pca.encode(basis, jnp.asarray(x)) * scale
    return Rotation(there, lambda y: pca.decode(basis, y / scale), len(basis.components), scale)


def coders_of_pca(images: Images, shared: bool) -> list[Coder]:
    """All components on a grid of their own each, or one step for all."""
    flat = jnp.asarray(images.learned)
    full = pca.fit(flat, min(max(COMPONENTS), flat[0].size))
    made = []
    for k in (k for k in COMPONENTS if k <= len(full.components)):
        basis = pca.PCA(full.mean, full.components[:k], full.variances[:k])
        encode = remembered(lambda x, basis=basis: pca.encode(basis, jnp.asarray(x)))
        made += [coder(images, encode, lambda z, basis=basis: pca.decode(basis, z), b, shared) for b in BITS]
    return made


def coders_of_nets(images: Images, make: Callable[[Rotation], Sequence[core.Algorithm]], epochs: int, sweep: range):
    """For each seed its coders: every net with every grid."""
    made: list[list[Coder]] = [[] for _ in sweep]
    rotation = rotated(images.learned)
    data = core.Batch(rotation.there(images.learned))
    for algorithm in make(rotation):
        params = train(algorithm, data, epochs=epochs, batch_size=100, seeds=sweep).params
        there = jax.jit(lambda one, x, algorithm=algorithm: encode(algorithm, one, rotation.there(x)))
        back = jax.jit(lambda one, z, algorithm=algorithm: rotation.back(algorithm.decode(one, z)))
        for i, own in enumerate(made):
            one = jax.tree.map(lambda leaf: leaf[i], params)
            to_code = remembered(partial(there, one))
            own += [coder(images, to_code, partial(back, one), b, shared) for b in BITS for shared in (False, True)]
    return made


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 10,
    latents: tuple[int, ...] = (8, 16, 32),
    latents_of_tiles: tuple[int, ...] = (16, 32, 64),
    sigmas: tuple[float, ...] = (0.2, 0.14, 0.1),
    sigmas_of_tiles: tuple[float, ...] = (0.08, 0.05, 0.03),
    hidden: tuple[int, ...] = (500,),
    rates: tuple[float, ...] = (32, 64, 128),
    rates_of_tiles: tuple[float, ...] = (64, 128, 256),
    count: int = 20000,
    tested: int = 1000,
    tile: int = 16,
    photographs_used: int = 40,
    full: bool = False,
    data: str = "mnist",
    images: str = "../shared/data/bsds500",
    out: str = "results",
):
    """Trains autoencoders and VAEs, quantises their codes, and measures what the test images look like afterwards.

    Args:
        seeds: how many runs of each.
        seed: the first of them.
        epochs: passes over the training images.
        latents: sizes of the autoencoders' codes, for digits; the VAE's is the largest.
        latents_of_tiles: the same for tiles.
        sigmas: standard deviations of the VAEs' likelihoods, for digits: the error that is worth no bits.
        sigmas_of_tiles: the same for tiles.
        hidden: widths of the encoder's layers before the code.
        rates: bits that a digit may take.
        rates_of_tiles: bits that a tile may take, on average.
        count: training digits, and as many training tiles.
        tested: test digits.
        tile: side of a tile, pixels.
        photographs_used: how many test photographs.
        full: 60,000 digits and 200,000 tiles, 50 epochs, all of the test sets.
        data: what `ae_jax.data.load` takes; images.
        images: a folder of photographs with folders train and test in it.
        out: folder for the record.
    """
    counts = (60_000, 200_000) if full else (count, count)
    epochs, tested, photographs_used = (50, 10_000, 200) if full else (epochs, tested, photographs_used)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    sets = {
        "digits": (digits(data, counts[0], tested), latents, sigmas, rates),
        "photographs": (photographs(images, tile, counts[1], photographs_used), latents_of_tiles, sigmas_of_tiles,
                        rates_of_tiles),
    }  # fmt: skip
    metrics: dict[str, np.ndarray] = {}
    curves: dict[str, dict[str, np.ndarray]] = {}
    shown: dict[str, np.ndarray] = {}
    for name, (given, sizes, errors, limits) in sets.items():
        steps = epochs * -(-len(given.learned) // 100)
        adam = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
        net = lambda size, k, heads: networks.mlp((size,), k, hidden=hidden, heads=heads, activation=jax.nn.elu)
        plain = lambda r, sizes=sizes, net=net, adam=adam: [
            autoencoder(net(r.size, k, 1), adam, likelihood="squared") for k in sizes
        ]
        noisy = lambda r, sizes=sizes, errors=errors, net=net, adam=adam: [
            vae(net(r.size, max(sizes), 2), adam, likelihood="gaussian", sigma=s * r.scale) for s in errors
        ]
        ways: dict[str, list[list[Coder]]] = {}  # for each seed, or one list where there are none
        ways[PCA], ways[TRANSFORM] = [coders_of_pca(given, False)], [coders_of_pca(given, True)]
        print(f"{name}: {seeds} autoencoders each of {sizes} numbers, {epochs} epochs", flush=True)
        ways[AE] = coders_of_nets(given, plain, epochs, sweep)
        print(f"{name}: {seeds} VAEs each of sigma {errors}, {epochs} epochs", flush=True)
        ways[VAE] = coders_of_nets(given, noisy, epochs, sweep)
        if name == "photographs":
            ways[JPEG] = [[jpeg(given, setting) for setting in QUALITIES]]

        original, target = given.whole(given.test), given.whole(given.chosen_by)
        pixels = original[0].size
        unit, scale = ("bits an image", 1.0) if given.per_image == 1 else ("bits a pixel", 1 / pixels)
        for way, lists in ways.items():
            print(f"{name}: {way}, {len(lists[0])} settings", flush=True)
            rows = []  # [seeds or 1, limits, (rate, PSNR, SSIM)]
            for i, made in enumerate(lists):
                tried = [code(given.chosen_by) for code in made]
                held = np.array([(p.bits.mean(), quality.psnr(target, p.images).mean()) for p in tried])
                row = []
                for n, limit in enumerate(limits):
                    point = made[choose(held, limit * given.per_image)](given.test)
                    psnr, ssim = (measure(original, point.images).mean() for measure in (quality.psnr, quality.ssim))
                    row.append((point.bits.mean() * scale, psnr, ssim))
                    if name == "photographs" and i == 0 and n == 0:
                        shown[f"{way}: {point.bits[0] * scale:.2f} bits a pixel"] = point.images[0]
                rows.append(row)
            table = np.broadcast_to(np.array(rows), (seeds, len(limits), 3))
            curves.setdefault(name, {})[way] = table
            for n, limit in enumerate(limits):
                for j, what in enumerate((f"rate, {unit}", "PSNR, dB", "SSIM")):
                    metrics[f"{name}, at most {limit * scale * given.per_image:g} {unit}, {way}, {what}"] = table[
                        :, n, j
                    ]
        for n, limit in enumerate(limits):
            at = f"{name}, at most {limit * scale * given.per_image:g} {unit}"
            for a, b in ((AE, PCA), (VAE, AE), (VAE, TRANSFORM), (VAE, JPEG)):
                if b in ways:
                    difference = curves[name][a][:, n, 1] - curves[name][b][:, n, 1]
                    metrics[f"{at}, {a} minus {b}, PSNR, dB"] = difference
    photographed = sets["photographs"][0]
    shown["original"] = photographed.whole(photographed.test[: photographed.per_image])[0]
    return record(
        __file__,
        metrics,
        title="Compression: quantised codes, PCA and JPEG at equal rates",
        source="Ballé, Laparra & Simoncelli (2017), ICLR; Gersho & Gray (1992)",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims={label: text for label in metrics for end, text in CLAIMS.items() if label.endswith(end)},
        notes=[
            "At each rate every coder has the setting (size, sigma, grid, quality) that was most faithful on images "
            "held out of training at no more than that rate, so its rate on test may differ a little and is given; "
            "where a coder has no setting as cheap, its cheapest. PSNR and SSIM are means over images, of photographs "
            f"put together again from tiles of {tile}x{tile}. Codes' and PCA's rates are ideal lengths under the "
            "training set's frequencies and count no decoder; JPEG's are whole files. Neither codes nor PCA use what "
            "neighbouring tiles have in common; JPEG uses it for the mean of its 8x8 blocks alone. PCA and JPEG "
            "have no seed: their values are repeated.",
            "Nets see and make each tile in all its principal components, a rotation that changes no error but lets "
            "Adam learn faster; chosen on held-out training photographs.",
        ],
        figure=lambda: draw(curves, shown),
        out=out,
    )


def choose(held: np.ndarray, limit: float) -> int:
    """Of settings [S, (bits, PSNR)] the most faithful that takes at most so many bits, or the cheapest of all."""
    affordable = held[:, 0] <= limit
    return int(np.where(affordable, held[:, 1], -np.inf).argmax() if affordable.any() else held[:, 0].argmin())


def draw(curves: dict[str, dict[str, np.ndarray]], shown: dict[str, np.ndarray]):
    """PSNR of digits and photographs and SSIM of photographs by rate; below, a photograph at the lowest rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), dpi=90, layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(3, 2.2))
    above, below = halves
    panels = (("digits", 1, "PSNR, dB"), ("photographs", 1, "PSNR, dB"), ("photographs", 2, "SSIM"))
    for axes, (name, column, what) in zip(above.subplots(1, 3), panels, strict=True):
        for way, table in curves[name].items():
            banded(axes, table[..., 0].mean(0), table[..., column].T, way, color=COLOURS[way])
        axes.set(title=name, xlabel="bits an image" if name == "digits" else "bits a pixel", ylabel=what)
        axes.legend(fontsize=7)
    order = ["original", *(label for label in shown if label != "original")]
    for axes, label in zip(below.subplots(1, len(order)), order, strict=True):
        axes.imshow(shown[label][..., 0], cmap="gray", vmin=0, vmax=1)
        axes.set_title(label.replace(": ", "\n"), fontsize=8)
        axes.axis("off")
    return figure


if __name__ == "__main__":
    command(main)
