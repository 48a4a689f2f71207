"""Restoring photographs with convolutional denoising autoencoders, against the usual baselines of each task.

Noise, missing pixels, erased squares and bars, low resolution (x2, x4) and lost colour, on the Berkeley photographs
(BSDS500, Arbelaez et al., 2011: trained on train, measured on whole photographs of test); and the toy of many
articles, circles and squares to be coloured red and blue. Vincent et al. (2010), JMLR 11; Zhang et al. (2017), IEEE
Trans. Image Processing 26, for predicting the correction; Damelin & Hoang (2018), SIAM J. Imaging Sciences 11, for
biharmonic inpainting; Buades et al. (2011), IPOL, for non-local means.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from study import Run, cosine_adam, experiment

from ae_jax import corruption, networks
from ae_jax import data as datasets
from ae_jax.algorithms import denoising
from ae_jax.app import plots
from ae_jax.app.restoration import tiled
from ae_jax.core import address
from ae_jax.corruption import Corruption
from ae_jax.evaluation.quality import psnr, ssim

PHOTOGRAPHS = "../shared/data/bsds500"
Restorer = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (corrupted [H, W, 3], missing [H, W]) -> [H, W, 3]


def erased(height: int | None, width: int, rate: float) -> Corruption:
    """Sets rectangles to 0; each place is a corner with probability `rate`; height None: from top to bottom.

    Unlike `corruption.patches` it erases as much per pixel of a patch as of a photograph of any size. So a network that
    has learned from patches fits the tiles of a photograph.
    """

    def corrupt(x, key):
        count, rows, columns, _ = x.shape
        down = (1, 1) if height is None else (rows + height - 1, height)
        corners = jax.random.bernoulli(key, rate, (count, down[0], columns + width - 1)).astype(x.dtype)
        hit = lax.reduce_window(corners, -jnp.inf, lax.max, (1, down[1], width), (1, 1, 1), "VALID")
        return jnp.where(hit[..., None] > 0, 0, x)

    return corrupt


class Task(NamedTuple):
    """A corruption, and the baseline that the autoencoder must beat."""

    corrupt: Corruption
    rival: str
    filling: bool = False  # what is not erased is known, and kept


SIGMA = 0.1  # of the noise, 25.5 of 255
TASKS = {
    "noise": Task(corruption.gaussian(SIGMA), "non-local means"),
    "missing pixels": Task(erased(1, 1, 0.5), "biharmonic", filling=True),
    "erased squares": Task(erased(4, 4, 1 / 250), "biharmonic", filling=True),
    "bars": Task(erased(None, 3, 1 / 40), "biharmonic", filling=True),
    "resolution x2": Task(corruption.low_resolution(2), "bicubic"),
    "resolution x4": Task(corruption.low_resolution(4), "bicubic"),
    "colour": Task(corruption.grey(), "colour by brightness"),
}
TOY = "toy, shapes coloured right, %"
MEASURES = ("PSNR, dB", "SSIM")


def whole(folder: Path, count: int) -> list[np.ndarray]:
    """At most `count` photographs of a folder, evenly spaced by name, in [0, 1], cut to multiples of 4 pixels."""
    files = datasets.image_files(folder)
    if not files:
        raise datasets.DataError(f"{folder} holds no images; --images takes a folder with folders train and test in it")
    read = datasets.read_images(files[:: max(1, len(files) // count)][:count], colour=True)
    return [image[: len(image) // 4 * 4, : image.shape[1] // 4 * 4].astype(np.float32) / 255 for image in read]


def spoiled(task: Task, photos: Sequence[np.ndarray], seed: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(photograph, corrupted, missing) of each; pixels are missing where the same draw erases a white image."""
    rows = []
    for i, photo in enumerate(photos):
        key = address(jax.random.key(seed), "photograph", i)
        batch = jnp.asarray(photo)[None]
        corrupted = white = np.asarray(batch[0])
        tried = 0
        while (corrupted == photo).all():  # a narrow photograph may get no bar: draw again
            key_draw = address(key, tried)
            corrupted, white = (np.asarray(task.corrupt(x, key_draw))[0] for x in (batch, jnp.ones_like(batch)))
            tried += 1
        rows.append((photo, corrupted, (white == 0).all(-1)))
    return rows


def families(name: str, photos: Sequence[np.ndarray]) -> dict[str, list[Restorer]]:
    """The baselines of a task: name -> candidates, of which training photographs choose one."""
    from scipy import ndimage
    from skimage.restoration import denoise_nl_means, inpaint_biharmonic

    if name == "noise":
        smooth = lambda s: lambda image, _: ndimage.gaussian_filter(image, (s, s, 0))
        median = lambda k: lambda image, _: ndimage.median_filter(image, (k, k, 1))
        options = {"patch_size": 5, "patch_distance": 6, "sigma": SIGMA, "channel_axis": -1}
        means = lambda h: lambda image, _: denoise_nl_means(image, h=h * SIGMA, fast_mode=True, **options)
        return {
            "Gaussian filter": [smooth(s) for s in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)],
            "median filter": [median(k) for k in (3, 5, 7)],
            "non-local means": [means(h) for h in (0.4, 0.6, 0.8, 1.0)],
        }
    if TASKS[name].filling:
        return {"biharmonic": [lambda image, missing: inpaint_biharmonic(image, missing, channel_axis=-1)]}
    if name == "colour":
        return {"colour by brightness": [colour_by_brightness(photos)]}
    return {"bicubic": [lambda image, _: image]}  # the corruption shrinks, and enlarges bicubically


def best(candidates: Sequence[Restorer], rows: Sequence[tuple[np.ndarray, ...]]) -> tuple[int, Restorer]:
    """The index of the candidate with the highest mean PSNR, and the candidate."""
    if len(candidates) == 1:
        return 0, candidates[0]
    score = lambda one: np.mean([psnr(np.clip(one(c, m), 0, 1)[None], x[None]) for x, c, m in rows])
    index = int(np.argmax([score(one) for one in candidates]))
    return index, candidates[index]


def colour_by_brightness(photos: Sequence[np.ndarray], levels: int = 64) -> Restorer:
    """Adds to each grey pixel the mean tint of training pixels as bright, in `levels` levels of brightness."""
    pixels = np.concatenate([photo.reshape(-1, 3) for photo in photos])
    level = lambda grey: np.minimum((grey * levels).astype(int), levels - 1)
    brightness = pixels.mean(1)
    count = np.maximum(np.bincount(level(brightness), minlength=levels), 1)
    tint = np.stack(
        [np.bincount(level(brightness), pixels[:, c] - brightness, levels) / count for c in range(3)], -1
    ).astype(np.float32)
    return lambda image, _: image + tint[level(image.mean(-1))]


def coloured_right(redder: np.ndarray, truth: Any) -> float:
    """Percentage of shapes with the true sign of red minus blue, summed over the pixels of a shape.

    redder: [N, H, W], red minus blue; truth: [N, H, W, 3], shapes apart on black.
    """
    from scipy import ndimage

    right = []
    for of, image in zip(redder, np.asarray(truth), strict=True):
        found: Any = ndimage.label(image.max(-1) > 0.5)
        labels, count = found
        which = range(1, count + 1)
        mine, true = (np.asarray(ndimage.sum(a, labels, which)) for a in (of, image[..., 0] - image[..., 2]))
        right += [(mine > 0) == (true > 0)]
    return 100 * float(np.concatenate(right).mean())


def pixels_right(redder: np.ndarray, truth: Any) -> float:
    """Percentage of the shapes' pixels with the true sign of red minus blue; shapes as for `coloured_right`."""
    truth = np.asarray(truth)
    inside = truth.max(-1) > 0.5
    return 100 * float(((redder > 0) == (truth[..., 0] > truth[..., 2]))[inside].mean())


def commoner(truth: Any) -> float:
    """Percentage of shapes that are right if every shape has the commoner colour."""
    red = coloured_right(np.ones(np.shape(truth)[:3]), truth)
    return max(red, 100 - red)


def linear_filter(x: np.ndarray, grey: np.ndarray, side: int = 15) -> np.ndarray:
    """Red minus blue of each pixel from the grey around it; least squares on coloured images x. -> [N, H, W]."""

    def windows(images: np.ndarray) -> np.ndarray:  # [N, H, W] -> [N, H, W, side^2 + 1]
        padded = np.pad(images, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
        return np.concatenate([seen.reshape(*images.shape, -1), np.ones((*images.shape, 1), images.dtype)], -1)

    inside = x.max(-1) > 0.5
    weights = np.linalg.lstsq(windows(x.mean(-1))[inside], (x[..., 0] - x[..., 2])[inside], rcond=None)[0]
    return windows(grey.mean(-1)) @ weights


def crop(image: np.ndarray, height: int = 72, width: int = 108) -> np.ndarray:
    """The middle of a photograph, at most `height` by `width` pixels."""
    height, width = min(height, image.shape[0]), min(width, image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.asarray(image[top : top + height, left : left + width], np.float32)


def sheet(x: Any, size: tuple[int, int]) -> np.ndarray:
    """As many images as fit into one of that size, side by side on white."""
    down, across = (max(1, (length + 2) // (np.shape(x)[1] + 2)) for length in size)
    cells = np.resize(x, (down, across, *np.shape(x)[1:]))
    made = plots.mosaic(cells, (0.0, 1.0), gap=2)[: size[0], : size[1]]
    return np.pad(made, [(0, n - m) for n, m in zip((*size, 3), made.shape, strict=True)], constant_values=1.0)


@experiment(
    title="Restoring photographs: denoising autoencoders against filters, inpainting and interpolation",
    source="Vincent et al. (2010), JMLR 11; photographs: Arbelaez et al. (2011), BSDS500",
    data=None,
    full={"patches": 60000, "epochs": 20, "features": 256, "photographs": 1000},
    # Written before the first run, each against the strongest baseline.
    claims={
        f"{name}, PSNR, dB: autoencoder minus {task.rival}": f"restores unseen photographs better than {task.rival}"
        for name, task in TASKS.items()
    }
    | {f"{name}, SSIM: autoencoder minus {task.rival}": "" for name, task in TASKS.items()}
    | {
        f"{TOY}: autoencoder minus all of the commoner colour": "colours circles and squares by their shape",
        f"{TOY}: autoencoder minus linear filter": "",
    },
    notes=[
        "Means over {tested} whole test photographs, cut to multiples of 4 pixels, values clipped to [0, 1]; "
        "one draw of the corruption for everybody, so that baselines have no seed and their values are repeated.",
        "Each network is one level of convolution, {features} maps of {kernel}x{kernel} kernels at every second "
        "pixel, and back, and predicts the correction; photographs go through it in overlapping tiles of "
        "{patch}x{patch}. A tenth of the training patches chooses the epoch; on patches of training photographs, "
        "before the first run, kernels of 4 were chosen among 4, 6 and 8, and one level among one and two. "
        "Such a network sees {seen} pixels across, where non-local means sees 17 and inpainting all: it "
        "is suspected where it falls short, in large holes, x4 and colour first of all.",
        "Where something is erased, all methods keep what is not, and are told where: but the network in its "
        "input sees a black hole alone, the inpainting an exact mask. The bicubic image is what is corrupted in "
        "resolution. Colour by brightness: the mean colour of training pixels as bright. {strengths}",
        "The toy's shapes have the same areas and the same grey in both colours; the linear filter is the "
        "least-squares one of 15x15 pixels, and a shape has the colour that its pixels have in sum. Tried before "
        "the first run, that filter had nearly all right: the toy asks less than it seems to, so nothing is "
        "claimed against it. In the picture: PSNR in dB, of each whole photograph, and the toy's pixels right.",
    ],
)
def main(
    run: Run,
    tasks: tuple[str, ...] = tuple(TASKS),  # noise, missing pixels, erased squares, bars, resolution x2 and x4, colour
    patches: int = 6000,  # to train on, from training photographs; a tenth of them chooses the epoch instead
    epochs: int = 5,  # passes over them
    patch: int = 32,  # side of a patch, and of the tiles of a photograph; even
    features: int = 64,  # feature maps of the network's level; the toy's has two levels, of half as many and as many
    kernel: int = 4,  # side of its kernels
    learning_rate: float = 2e-3,  # Adam's at the start; it falls to 0 along half a cosine
    batch_size: int = 8,  # patches in a step
    photographs: int = 16,  # test photographs to restore, evenly spaced in the order of their names
    toys: int = 3000,  # images of circles and squares to train on; 0 leaves the toy out
    images: str = PHOTOGRAPHS,  # a folder of photographs with folders train and test in it
):
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise ValueError(f"the tasks {unknown} are not known; there are {list(TASKS)}")

    def fit(name, corrupt: Corruption, data, channels: tuple[int, ...]) -> list[Callable[..., Any]]:
        """For each seed a residual convolutional autoencoder without a bottleneck, trained to undo `corrupt`."""
        learned, held_out = datasets.validation_split(data, 0.1, seed=0)
        shape, step = learned.x.shape[1:], 2 ** len(channels)
        latents = -(-shape[0] // step) * -(-shape[1] // step) * channels[-1]
        # small weights at the start: the correction begins near 0
        options: dict[str, Any] = {"dense": False, "residual": True, "init": "uniform"}
        net = networks.conv(shape, latents, channels=channels, kernel=kernel, **options)
        adam = cosine_adam(learning_rate, epochs, learned, batch_size)
        algorithm = denoising(net, adam, corruption=corrupt)
        trained = run.train(name, algorithm, learned, validation=held_out, monitor="denoising")
        restore = jax.jit(algorithm.reconstruct)
        return [partial(restore, trained.of(s)) for s in run.seeds]

    drawn = datasets.load(images, patch=patch, count=patches, test_count=1, colour=True).train
    tested, tuned = whole(Path(images) / "test", photographs), whole(Path(images) / "train", 4)
    cells, notes, chosen = [], [], []
    for place, (name, task) in enumerate((name, TASKS[name]) for name in tasks):
        nets = fit(name, task.corrupt, drawn, (features,))
        ways: dict[str, list[Restorer]] = {"as corrupted": [lambda c, _: c]}
        for family, candidates in families(name, tuned).items():
            index, baseline = best(candidates, spoiled(task, tuned, 1))
            ways[family] = [baseline]
            chosen += [f"{name}, {family}: {index + 1} of {len(candidates)}"] * (len(candidates) > 1)
        kept = lambda missing, filling=task.filling: filling & ~missing[..., None]  # what is known
        ways["autoencoder"] = [
            lambda c, m, net=net, kept=kept: np.where(kept(m), c, tiled(net, c, (patch, patch), batch_size=192))
            for net in nets
        ]
        print(f"{name}: restoring {len(tested)} photographs", flush=True)
        shown, row, scores = place % len(tested), [], {way: [] for way in ways}
        for i, (photo, corrupted, missing) in enumerate(spoiled(task, tested, 0)):
            for way, several in ways.items():
                made = [np.clip(one(corrupted, missing), 0, 1) for one in several]
                scores[way].append([(psnr(m[None], photo[None])[0], ssim(m[None], photo[None])[0]) for m in made])
                if i == shown and way in ("as corrupted", task.rival, "autoencoder"):
                    row.append((way, made[0], scores[way][-1][0][0]))
        for way, of in scores.items():  # means over photographs, [S or 1, 2]
            for measure, values in zip(MEASURES, np.mean(of, 0).T, strict=True):
                run.metrics[f"{name}, {measure}: {way}"] = np.broadcast_to(values, len(run.seeds))
        cells.append([crop(tested[shown]), *(crop(image) for _, image, _ in row)])
        notes.append([name, *(f"{way.removeprefix('colour ')} {value:.1f}" for way, _, value in row)])

    if toys:
        toy = datasets.load("red_and_blue", count=toys, test_count=max(1, toys // 5), size=patch)
        two = (max(1, features // 2), features)  # a whole shape must be seen, not only its rim
        grey = np.asarray(corruption.grey()(jnp.asarray(toy.test.x), address(run.keys()[0], "toy")))
        made = [np.asarray(restore(jnp.asarray(grey))) for restore in fit("toy", corruption.grey(), toy.train, two)]
        linear = linear_filter(np.asarray(toy.train.x[:400]), grey)
        redder = [m[..., 0] - m[..., 2] for m in made]
        pixels = {
            "linear filter": pixels_right(linear, toy.test.x),
            "autoencoder": np.array([pixels_right(r, toy.test.x) for r in redder]),
        }
        run.metrics |= {
            f"{TOY}: autoencoder": np.array([coloured_right(r, toy.test.x) for r in redder]),
            f"{TOY}: linear filter": coloured_right(linear, toy.test.x),
            f"{TOY}: all of the commoner colour": commoner(toy.test.x),
            **{f"toy, pixels coloured right, %: {way}": share for way, share in pixels.items()},
        }
        painted = np.stack([linear > 0, 0 * linear, linear <= 0], -1) * (grey.max(-1, keepdims=True) > 0)
        shape = np.shape(cells[0][0])[:2] if cells else (72, 108)
        cells.append([sheet(x, shape) for x in (toy.test.x, grey, painted, np.clip(made[0], 0, 1))])
        notes.append(["toy", "grey", *(f"{way} {np.ravel(share)[0]:.0f} %" for way, share in pixels.items())])

    strengths = f"Strengths chosen on 4 training photographs: {'; '.join(chosen)}." if chosen else ""
    run.facts = {"tested": len(tested), "seen": 2 * kernel - 1, "strengths": strengths}
    return lambda: plots.examples(np.stack([np.stack(row) for row in cells]), (0.0, 1.0), notes=notes, group=1)
