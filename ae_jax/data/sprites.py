"""Procedural images of one shape each, drawn from known generative factors, like dSprites.

dSprites, Matthey et al. (2017), github.com/google-deepmind/dsprites-dataset, has the same five factors at 64x64,
without colour and without anti-aliasing.
"""

from collections.abc import Callable

import numpy as np

from .dataset import DataError, Dataset, make_batch

CLASSES = ("square", "ellipse", "heart")
# The values of each factor; all combinations are equally likely. Orientation is in radians, anti-clockwise; x (to the
# right) and y (downwards) are fractions of the way between the outermost positions.
FACTORS = {
    "shape": np.arange(3.0),
    "scale": np.linspace(0.5, 1, 6),
    "orientation": np.arange(40) * (2 * np.pi / 40),
    "x": np.linspace(0, 1, 32),
    "y": np.linspace(0, 1, 32),
    "colour": np.arange(8) / 8,  # hue
}
RADIUS = 0.2  # of the circle around the largest shape, as a fraction of the image's side
# The steps after which each shape looks the same again. A whole turn has 40 steps.
PERIODS = np.array([10, 20, 40])


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u) - 0.5**0.5, np.abs(v) - 0.5**0.5
    return np.hypot(np.maximum(u, 0), np.maximum(v, 0)) + np.minimum(np.maximum(u, v), 0)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    f = np.hypot(u, 2 * v)  # 1 on the boundary; the distance is (f - 1) / |grad f| to first order
    return (f - 1) * (f + 1e-6) / (np.hypot(u, 4 * v) + 1e-6)  # finite at the centre


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square on its corner with half a disc on each upper side; Quilez, "2D distance functions"."""
    size = 0.5**0.5  # for a square with diagonal 1, the distance from its centre to the heart's farthest point
    u, v = np.abs(u) * size, v * size + 0.5
    lobe = np.hypot(u - 0.25, v - 0.75) - 8**-0.5
    edge = np.minimum(np.hypot(u, v - 1), np.hypot(u - np.maximum(u + v, 0) / 2, v - np.maximum(u + v, 0) / 2))
    return np.where(u + v > 1, lobe, edge * np.sign(u - v)) / size


# signed distances to the boundary, negative inside; shapes lie in the unit circle, u to the right, v upwards
DISTANCES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (_square, _ellipse, _heart)


def render(factors: np.ndarray, size: int) -> np.ndarray:
    """Images float32 [N, size, size, 1 or 3] from factors [N, 5] or, with colour, [N, 6], in the order of `FACTORS`.

    A pixel's value is the fraction of its area that the shape covers: the mean over its four quarters, each to first
    order in its distance from the boundary.
    """
    out = np.empty((len(factors), size, size, 1), np.float32)
    fine = 2 * size
    pixels = (np.arange(fine, dtype=np.float32) + 0.5) / fine
    for kind, distance in enumerate(DISTANCES):
        those = np.flatnonzero(factors[:, 0] == kind)
        for chosen in np.array_split(those, max(1, len(those) * fine**2 // 2**20)):  # a few megabytes at a time
            _, scale, angle, x, y = (a.astype(np.float32)[:, None, None] for a in factors[chosen, :5].T)
            right = pixels[None, None, :] - (RADIUS + x * (1 - 2 * RADIUS))
            up = (RADIUS + y * (1 - 2 * RADIUS)) - pixels[None, :, None]
            u, v = np.cos(angle) * right + np.sin(angle) * up, np.cos(angle) * up - np.sin(angle) * right
            radius = RADIUS * scale
            covered = np.clip(0.5 - distance(u / radius, v / radius) * radius * fine, 0, 1)
            out[chosen, ..., 0] = covered.reshape(-1, size, 2, size, 2).mean((2, 4))
    if factors.shape[1] == 5:
        return out
    phase = (factors[:, 5:6] * 6 + np.array([0, 4, 2])) % 6  # hue to RGB at full saturation and value
    return out * np.clip(np.abs(phase - 3) - 1, 0, 1).astype(np.float32)[:, None, None, :]


def shapes(
    *, size: int = 32, count: int = 20000, test_count: int | None = None, colour: bool = False, seed: int = 0
) -> Dataset:
    """Squares, ellipses and hearts, with their scale, orientation, place and perhaps colour as generative factors.

    No image occurs twice, so train and test share no image. Factors that give the same image, by a shape's symmetry,
    occur once.

    Args:
        size: side of the images in pixels.
        count: how many to train on.
        test_count: how many to test on; a fifth of `count` by default.
        colour: eight hues, a sixth factor; white otherwise.
        seed: of the choice of factors; the same seed gives the same images.

    Raises:
        DataError: no images are asked for, or more than there are different ones.
    """
    test_count = max(1, count // 5) if test_count is None else test_count
    names = tuple(FACTORS) if colour else tuple(FACTORS)[:5]
    levels = tuple(len(FACTORS[name]) for name in names)
    total, wanted = int(np.prod(levels)), count + test_count
    if min(size, count, test_count) < 1:
        raise DataError(
            f"{count} + {test_count} images of {size} pixels were asked for; one at least of each is needed"
        )
    drawn = np.random.default_rng(seed).permutation(total)[: 4 * wanted]  # at most 4 look the same
    index = np.stack(np.unravel_index(drawn, levels), 1)  # [4N, F]
    looks = index.copy()
    looks[:, 2] %= PERIODS[index[:, 0]]
    _, first = np.unique(np.ravel_multi_index(tuple(looks.T), levels), return_index=True)
    if len(first) < wanted:
        raise DataError(f"{count} + {test_count} images were asked for; there are {len(first)} different ones")
    index = index[np.sort(first)[:wanted]]
    factors = np.stack([FACTORS[name][i] for name, i in zip(names, index.T, strict=True)], 1).astype(np.float32)
    x = render(factors, size)
    train, test = (make_batch(x[part], index[part, 0]) for part in (slice(count), slice(count, None)))
    return Dataset(
        name="shapes",
        train=train,
        test=test,
        source=f"seed {seed}",
        classes=CLASSES,
        factors=(factors[:count], factors[count:]),
        factor_names=names,
    )
