"""Compression: the error of images at a given number of bits, by quantised codes, PCA and JPEG.

A code's units, unless they are symbols, are rounded to a uniform grid that spans the training codes. The rate is the
length of an ideal entropy code that knows each unit's frequencies over the training set (`evaluation.rate`). Codes and
PCA count no other bits, because the reader is assumed to have the decoder. Photographs are grey and cut in tiles, each
coded by itself. JPEG codes the whole photograph; its rate is that of the file as Pillow writes it, with header and
tables. Noise on codes in training stands for rounding: Ballé, Laparra & Simoncelli (2017), ICLR, arXiv:1611.01704,
whose model is a VAE.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from study import Run, banded, charted, cosine_adam, experiment, images_of, of_seed, show

from ae_jax import core, networks
from ae_jax import data as datasets
from ae_jax.algorithms import autoencoder, vae, vq_vae
from ae_jax.data.images import fitted
from ae_jax.distributions import quantisers
from ae_jax.evaluation import pca, quality, rate
from ae_jax.evaluation.codes import each, encode

AE, VAE, PCA, TRANSFORM, JPEG = "autoencoder", "VAE", "PCA", "PCA, one step for all", "JPEG"
VQ, FSQ = "VQ-VAE", "FSQ"
DISCRETE = {VQ: quantisers.moving(256, least=0.1), FSQ: quantisers.fsq((4, 4, 4, 4))}  # codes of symbols: no grid
COLOURS = {AE: "C0", VAE: "C3", PCA: "C1", TRANSFORM: "C2", JPEG: "0.4", VQ: "C4", FSQ: "C5"}
BITS = (2, 3, 4, 5, 6, 7)  # bits of a unit, for each grid
COMPONENTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
QUALITIES = (1, 2, 3, 5, 7, 10, 14, 18, 24, 32, 42, 55, 70, 85)
MEASURES = {"PSNR, dB": quality.psnr, "SSIM": quality.ssim}
# Written before the first run at full size, for digits and photographs at every rate; paired over seeds.
RIVALS = {
    VAE: {
        "autoencoder minus PCA, PSNR, dB": "at equal rate a learned code is more faithful than principal components",
        "VAE minus autoencoder, PSNR, dB": "noise in training makes codes that rounding hurts less",
        "VAE minus PCA, one step for all, PSNR, dB": "",
    },
    JPEG: {"VAE minus JPEG, PSNR, dB": "and more faithful than JPEG, tile by tile"},
}


class Images(NamedTuple):
    """Tiles in [0, 1] to train on, to choose settings by, and to code; `per_image` tiles in a row are an image."""

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


def digits(loaded: datasets.Dataset, count: int, tested: int) -> Images:
    """Each image is one tile; the last tenth of the training images chooses settings."""
    some, held = np.asarray(loaded.train.x[:count]), max(1, count // 10)
    test = np.asarray(loaded.test.x[:tested])
    return Images(learned=some[:-held], chosen_by=some[-held:], test=test, whole=lambda x: x, per_image=1)


def photographs(folder: str, tile: int, count: int, most: int) -> Images:
    """Tiles of grey squares from the middles of photographs; a tenth of the training photographs chooses settings."""
    parts = images_of(folder, colour=False)
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
    """A coder on a grid; the quantiser and the entropy coder's frequencies come from the training codes."""
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
    """A coder of whole images by Pillow, with Huffman tables fitted to each; bits are those of the file."""
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
    """`encode` with a cache for each set of tiles, which many quantisers share."""
    known: dict[int, np.ndarray] = {}

    def once(x: np.ndarray) -> np.ndarray:
        if id(x) not in known:
            known[id(x)] = np.asarray(encode(x))
        return known[id(x)]

    return once


class Rotation(NamedTuple):
    """All principal components of tiles, over the deviation of the first: the nets' inputs and outputs.

    Except for this scale the squared error is that of the pixels. Adam scales each coordinate by itself, and therefore
    learns in a few passes what takes many times as long from pixels.
    """

    basis: pca.PCA  # of the training tiles
    scale: float  # a pixel's error in these units

    def there(self, x):  # [N, h, w, 1] -> [N, D]
        return pca.encode(self.basis, jnp.asarray(x)) * self.scale

    def back(self, y):
        return pca.decode(self.basis, y / self.scale)


def coders_of_pca(images: Images, shared: bool) -> list[Coder]:
    """PCA with every number of components and every grid; `shared`: one step for all components."""
    flat = jnp.asarray(images.learned)
    full = pca.fit(flat, min(max(COMPONENTS), flat[0].size))
    made = []
    for k in (k for k in COMPONENTS if k <= len(full.components)):
        basis = pca.PCA(full.mean, full.components[:k], full.variances[:k])
        encode = remembered(lambda x, basis=basis: pca.encode(basis, jnp.asarray(x)))
        made += [coder(images, encode, lambda z, basis=basis: pca.decode(basis, z), b, shared) for b in BITS]
    return made


def coders_of_net(images: Images, rotation: Rotation, algorithm: core.Algorithm, params) -> list[Coder]:
    """One net with every grid."""
    there = jax.jit(lambda one, x: encode(algorithm, one, rotation.there(x)))
    back = jax.jit(lambda one, z: rotation.back(algorithm.decode(one, z)))
    to_code = remembered(partial(there, params))
    return [coder(images, to_code, partial(back, params), bits, shared) for bits in BITS for shared in (False, True)]


def coders_of_symbols(images: Images, rotation: Rotation, algorithm: core.Algorithm, params) -> list[Coder]:
    """A net whose code is symbols; the entropy coder's frequencies, of each place, come from the training symbols."""
    of, lookup = algorithm.symbols, algorithm.lookup
    assert of is not None
    assert lookup is not None
    there = jax.jit(lambda one, x: each(lambda one, x: of(one, rotation.there(x)), one, x))
    back = jax.jit(lambda one, symbols: rotation.back(algorithm.decode(one, lookup(one, symbols))))
    frequencies = rate.frequencies(np.asarray(there(params, images.learned)), max(algorithm.alphabet))

    def code(tiles: np.ndarray) -> Point:
        symbols = np.asarray(there(params, tiles))
        length = rate.code_length(symbols, frequencies).reshape(-1, images.per_image).sum(1)
        return Point(length, images.whole(np.clip(np.asarray(back(params, symbols)), 0, 1)))

    return [code]


def choose(held: np.ndarray, limit: float) -> int:
    """The index of the setting [S, (bits, PSNR)] with the highest PSNR within `limit` bits, or else the cheapest."""
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
        charted(axes, (), {}, title=name, xlabel=f"bits {'an image' if name == 'digits' else 'a pixel'}", ylabel=what)
    order = ["original", *(label for label in shown if label != "original")]
    for axes, label in zip(below.subplots(1, len(order)), order, strict=True):
        show(axes, shown[label].repeat(3, -1), label.replace(": ", "\n"))
    return figure


@experiment(
    title="Compression: quantised codes, PCA and JPEG at equal rates",
    source="Ballé, Laparra & Simoncelli (2017), ICLR; Gersho & Gray (1992)",
    full={"epochs": 50, "count": 60_000, "count_of_tiles": 200_000, "tested": 10_000, "photographs_used": 200},
    notes=[
        "At each rate every coder has the setting (size, sigma, grid, symbols, quality) that was most faithful on "
        "images held out of training at no more than that rate, so its rate on test may differ a little and is given; "
        "where a coder has no setting as cheap, its cheapest. PSNR and SSIM are means over images, of photographs "
        "put together again from tiles of {tile}x{tile}. Codes' and PCA's rates are ideal lengths under the "
        "training set's frequencies and count no decoder; JPEG's are whole files. Neither codes nor PCA use what "
        "neighbouring tiles have in common; JPEG uses it for the mean of its 8x8 blocks alone. PCA and JPEG "
        "have no seed: their values are repeated.",
        "Nets see and make each tile in all its principal components, a rotation that changes no error but lets "
        "Adam learn faster; chosen on held-out training photographs.",
    ],
)
def main(
    run: Run,
    epochs: int = 10,  # passes over the training images
    latents: tuple[int, ...] = (8, 16, 32),  # sizes of the autoencoders' codes, for digits; the VAE's is the largest
    latents_of_tiles: tuple[int, ...] = (16, 32, 64),  # the same for tiles
    sigmas: tuple[float, ...] = (0.2, 0.14, 0.1),  # deviations of VAEs' likelihoods, for digits: errors not worth bits
    sigmas_of_tiles: tuple[float, ...] = (0.08, 0.05, 0.03),  # the same for tiles
    places: tuple[int, ...] = (4, 8, 16, 24),  # numbers of symbols of a digit, each one of 256; none for no such nets
    places_of_tiles: tuple[int, ...] = (8, 16, 32, 48),  # the same for tiles
    hidden: tuple[int, ...] = (500,),  # widths of the encoder's layers before the code
    rates: tuple[float, ...] = (32, 64, 128),  # bits that a digit may take
    rates_of_tiles: tuple[float, ...] = (64, 128, 256),  # bits that a tile may take, on average
    count: int = 20000,  # training digits
    count_of_tiles: int = 20000,  # training tiles
    tested: int = 1000,  # test digits
    tile: int = 16,  # side of a tile, pixels
    photographs_used: int = 40,  # how many test photographs
    images: str = "../shared/data/bsds500",  # a folder of photographs with folders train and test in it
):
    photographed = photographs(images, tile, count_of_tiles, photographs_used)
    sets = {
        "digits": (digits(run.data(), count, tested), latents, sigmas, places, rates),
        "photographs": (photographed, latents_of_tiles, sigmas_of_tiles, places_of_tiles, rates_of_tiles),
    }
    curves: dict[str, dict[str, np.ndarray]] = {}
    shown: dict[str, np.ndarray] = {}
    for name, (given, sizes, errors, symbols, limits) in sets.items():
        basis = pca.fit(jnp.asarray(given.learned), given.learned[0].size)
        rotation = Rotation(basis, 1 / float(jnp.sqrt(basis.variances[0])))
        data = core.Batch(rotation.there(given.learned))
        adam = cosine_adam(1e-3, epochs, data, 100)
        net = lambda k, heads, size=data.x.shape[1]: networks.mlp(
            (size,), k, hidden=hidden, heads=heads, activation=jax.nn.elu
        )
        arms = [(AE, f"{k} numbers", autoencoder(net(k, 1), adam, likelihood="squared")) for k in sizes]
        for s in errors:
            noisy = vae(net(max(sizes), 2), adam, likelihood="gaussian", sigma=s * rotation.scale)
            arms.append((VAE, f"sigma {s:g}", noisy))
        for n in symbols:
            for way, quantiser in DISCRETE.items():
                made = vq_vae(net(4 * n, 1), adam, likelihood="squared", quantiser=quantiser, dimension=4)
                arms.append((way, f"{n} symbols", made))
        # for each seed its coders, every net with every grid; or one list where there are no seeds
        ways: dict[str, list[list[Coder]]] = {PCA: [coders_of_pca(given, False)]}
        ways |= {TRANSFORM: [coders_of_pca(given, True)]} | {way: [[] for _ in run.seeds] for way, *_ in arms}
        for way, what, algorithm in arms:
            params = run.train(f"{name}, {way} of {what}", algorithm, data, batch_size=100).params
            for i, own in enumerate(ways[way]):
                with_grids = coders_of_symbols if way in DISCRETE else coders_of_net
                own += with_grids(given, rotation, algorithm, of_seed(params, i))
        if name == "photographs":
            ways[JPEG] = [[jpeg(given, setting) for setting in QUALITIES]]

        original, target = given.whole(given.test), given.whole(given.chosen_by)
        unit, scale = ("bits an image", 1.0) if given.per_image == 1 else ("bits a pixel", 1 / original[0].size)
        curves[name] = {}
        for way, lists in ways.items():
            print(f"{name}: {way}, {len(lists[0])} settings", flush=True)
            rows = []  # [seeds or 1, limits, (rate, PSNR, SSIM)]
            for i, made in enumerate(lists):
                tried = [code(given.chosen_by) for code in made]
                held = np.array([(p.bits.mean(), quality.psnr(target, p.images).mean()) for p in tried])
                points = [made[choose(held, limit * given.per_image)](given.test) for limit in limits]
                fidelity = lambda p, original=original: [m(original, p.images).mean() for m in MEASURES.values()]
                rows.append([(p.bits.mean() * scale, *fidelity(p)) for p in points])
                if name == "photographs" and i == 0:
                    shown[f"{way}: {points[0].bits[0] * scale:.2f} bits a pixel"] = points[0].images[0]
            curves[name][way] = table = np.broadcast_to(np.array(rows), (len(run.seeds), len(limits), 3))
            for n, limit in enumerate(limits):
                at = f"{name}, at most {limit * scale * given.per_image:g} {unit}"
                columns = zip((f"rate, {unit}", *MEASURES), table[:, n].T, strict=True)
                run.metrics |= {f"{at}, {way}, {what}": values for what, values in columns}
                if way in RIVALS:
                    run.claims |= {f"{at}, {of}": text for of, text in RIVALS[way].items()}
    shown["original"] = photographed.whole(photographed.test[: photographed.per_image])[0]
    return lambda: draw(curves, shown)
