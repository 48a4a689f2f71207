"""Rate, distortion and the quality of images, against closed forms, SciPy and scikit-image."""

import numpy as np
import pytest
from scipy import stats

from ae_jax.evaluation import quality, rate

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bits", [2, 5])
def test_a_grid_spans_the_training_codes_and_rounds_to_the_nearest_point(bits):
    codes = RNG.normal(size=(500, 3)) * [1, 10, 0] + [5, 0, 7]  # the last unit says nothing
    grid = rate.quantiser(codes, bits)
    symbols = rate.quantise(grid, codes)
    assert symbols.min() >= 0
    assert symbols.max() <= 2**bits - 2
    points = grid.centre + np.arange(-grid.half, grid.half + 1)[:, None] * grid.step
    nearest = np.abs(codes[:, None] - points).argmin(1)
    np.testing.assert_array_equal(symbols[:, :2], nearest[:, :2])
    assert (np.abs(rate.dequantise(grid, symbols) - codes) <= grid.step / 2 + 1e-9).all()
    assert np.abs(codes - grid.centre).max(0)[:2] == pytest.approx(grid.step[:2] * grid.half)
    np.testing.assert_allclose(rate.dequantise(grid, symbols)[:, 2], 7)
    np.testing.assert_array_equal(rate.quantise(grid, codes * 0 + 1e6), 2**bits - 2)  # beyond it, its end


def test_distortion_of_a_uniform_source_is_a_twelfth_of_the_step_squared():
    codes = RNG.random((200_000, 1))
    grid = rate.quantiser(codes, 6)
    error = np.square(rate.dequantise(grid, rate.quantise(grid, codes)) - codes).mean()
    assert error == pytest.approx(grid.step[0] ** 2 / 12, rel=0.01)


def test_a_shared_step_is_that_of_the_widest_unit():
    codes = RNG.normal(size=(500, 3)) * [1, 10, 100]
    np.testing.assert_allclose(rate.quantiser(codes, 4, shared=True).step, rate.quantiser(codes, 4).step[2])


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match="from 2 to 16"):
        rate.quantiser(RNG.normal(size=(9, 2)), bits)


def test_code_length_is_the_entropy_where_the_coder_knows_the_source():
    symbols = RNG.integers(0, 7, (1000, 4)) ** 2 // np.array([1, 2, 5, 40])
    counts = [np.bincount(unit) for unit in symbols.T]
    lengths = rate.code_length(symbols, rate.frequencies(symbols, 37, prior=0))
    assert lengths.mean() == pytest.approx(sum(stats.entropy(c, base=2) for c in counts))
    assert lengths.mean() < rate.code_length(symbols, rate.frequencies(symbols[:50], 37)).mean() < np.inf


def test_krichevsky_and_trofimov():
    found = rate.frequencies(np.array([[0], [0], [1]]), 4)
    np.testing.assert_allclose(found, [[2.5 / 5, 1.5 / 5, 0.5 / 5, 0.5 / 5]])


def test_tiles_and_back():
    image = RNG.random((13, 19, 3))
    cut = rate.tiles(image, 4)
    assert cut.shape == (12, 4, 4, 3)
    np.testing.assert_array_equal(cut[5], image[4:8, 4:8])
    np.testing.assert_array_equal(rate.untiled(cut, 12, 16), image[:12, :16])
    with pytest.raises(ValueError, match="no tile"):
        rate.tiles(image, 14)
    with pytest.raises(ValueError, match=r"shape \(13, 19\); wanted: \[H, W, C\]"):
        rate.tiles(image[..., 0], 4)
    with pytest.raises(ValueError, match="size is 0"):
        rate.tiles(image, 0)


def test_psnr():
    from skimage.metrics import peak_signal_noise_ratio

    x = RNG.random((3, 8, 9, 2))
    y = x + 0.1 * RNG.normal(size=x.shape)
    expected = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(quality.psnr(x, y), expected)
    np.testing.assert_allclose(quality.psnr(255 * x, 255 * y, 255), expected)
    assert np.isinf(quality.psnr(x, x)).all()
    np.testing.assert_allclose(quality.psnr(x, x - 0.1), 20)
    with pytest.raises(ValueError, match="cannot be compared"):
        quality.psnr(x, y[:2])


def test_ssim_of_flat_images_is_their_luminances():
    """(2ab + C1) / (a^2 + b^2 + C1), Wang et al. (2004), eq. (6): nothing else differs."""
    a, b = np.array([0.2, 0.5, 0.9]), np.array([0.3, 0.5, 0.1])
    flat = [np.broadcast_to(v[:, None, None, None], (3, 12, 13, 2)) for v in (a, b)]
    np.testing.assert_allclose(quality.ssim(*flat), (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4))
    np.testing.assert_allclose(quality.ssim(255 * flat[0], 255 * flat[1], 255), quality.ssim(*flat))


def test_ssim_of_one_window():
    """Of 11x11 pixels there is one whole window, and scikit-image counts that alone."""
    x = RNG.random((1, 11, 11, 1))
    y = np.clip(x + 0.3 * RNG.normal(size=x.shape), 0, 1)
    weight = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    weight = np.outer(weight, weight) / weight.sum() ** 2
    a, b = x[0, ..., 0], y[0, ..., 0]
    mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
    var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
    covariance = (weight * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    np.testing.assert_allclose(quality.ssim(x, y), expected)


@pytest.mark.parametrize("shape", [(2, 11, 11), (2, 10, 11, 1)])
def test_ssim_needs_images_of_its_window(shape):
    with pytest.raises(ValueError, match="at least 11"):
        quality.ssim(np.zeros(shape), np.zeros(shape))
