"""Convolution, pooling and resizing, as pure functions on images [B, H, W, C].

A convolution is a matrix product on patches: `unfold` makes one row of the patch that each output sees, and the rows
times the kernel are the result. `fold`, the transpose of `unfold`, adds rows of patches up into an image, so a
transposed convolution is a matrix product and a `fold`. This is the computation on CPU, where XLA's own convolution is
many times slower inside a loop; other platforms use XLA's. No function here has a derivative rule of its own: all can
be differentiated forward and backward, mapped, scanned and exported.
"""

from collections.abc import Callable
from itertools import product
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

Padding = Literal["SAME", "VALID"]  # SAME: ceil(n / stride) outputs; VALID: only those that see no padding
Size = tuple[int, int]  # H and W
Pads = tuple[Size, Size]  # zeros (before, after) along H and W

# ------------------------------------------------------------------------------------------ convolution


def convolve(x: Array, kernel: Array, stride: int = 1, padding: Padding = "SAME") -> Array:
    """Convolution without a bias (cross-correlation, as usual in this field), a sum over patches.

    x [B, H, W, C] and kernel [kh, kw, C, O] give [B, h, w, O], where h is ceil(H / stride) with padding
    "SAME" and floor((H - kh) / stride) + 1 with "VALID". Raises ValueError for shapes that do not fit.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(f"x is {x.shape} and kernel {kernel.shape}; they must be [B, H, W, C] and [kh, kw, C, O]")
    pads, _ = _geometry((x.shape[1], x.shape[2]), kernel, stride, padding)
    gemm = lambda x, kernel: _convolve_gemm(x, kernel, stride, pads)
    native = lambda x, kernel: _convolve_native(x, kernel, stride, pads)
    return _by_platform(gemm, native)(x, kernel)


def convolve_transpose(y: Array, kernel: Array, size: Size, stride: int = 1, padding: Padding = "SAME") -> Array:
    """The transpose of `convolve` on images of `size` (H, W), with the same kernel, stride and padding.

    y [B, h, w, O] and kernel [kh, kw, C, O] give [B, H, W, C]. Raises ValueError unless y has the shape
    that the convolution gives.
    """
    if y.ndim != 4 or kernel.ndim != 4 or y.shape[3] != kernel.shape[3]:
        raise ValueError(f"y is {y.shape} and kernel {kernel.shape}; they must be [B, h, w, O] and [kh, kw, C, O]")
    pads, rows = _geometry(size, kernel, stride, padding)
    if y.shape[1:3] != rows:
        raise ValueError(f"y is {y.shape}; convolving images of {size} gives [B, {rows[0]}, {rows[1]}, O]")
    gemm = lambda y, kernel: _transpose_gemm(y, kernel, size, stride, pads)
    native = lambda y, kernel: _transpose_native(y, kernel, size, stride, pads)
    return _by_platform(gemm, native)(y, kernel)


def _geometry(size: Size, kernel: Array, stride: int, padding: Padding) -> tuple[Pads, Size]:
    """The padding and the size of the convolution of images of that size."""
    (top, bottom), (left, right) = lax.padtype_to_pads(size, kernel.shape[:2], (stride, stride), padding)
    h = (size[0] + top + bottom - kernel.shape[0]) // stride + 1
    w = (size[1] + left + right - kernel.shape[1]) // stride + 1
    if min(h, w) < 1:
        raise ValueError(f"the kernel {kernel.shape[:2]} does not fit into images of {size}: use padding SAME")
    return ((top, bottom), (left, right)), (h, w)


def _by_platform(cpu: Callable[..., Array], default: Callable[..., Array]) -> Callable[..., Array]:
    def call(*args: Array) -> Array:
        dtype = jnp.result_type(*args)  # promoted as by jnp; lax's convolution takes equal types only
        return lax.platform_dependent(*(a.astype(dtype) for a in args), cpu=cpu, default=default)

    return call


def _convolve_native(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=axes)


def _transpose_native(y: Array, kernel: Array, size: Size, stride: int, pads: Pads) -> Array:
    x = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _convolve_native(x, kernel, stride, pads), x)(y)[0]


def _convolve_gemm(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    kh, kw, channels, features = kernel.shape
    if stride == 1 and features < channels:
        # With stride 1 the transposed convolution with the flipped kernel is the same sum. Its product is narrower:
        # it has kh kw features columns rather than kh kw channels.
        (top, bottom), (left, right) = pads
        around = ((kh - 1 - top, kh - 1 - bottom), (kw - 1 - left, kw - 1 - right))
        size = (x.shape[1] + top + bottom - kh + 1, x.shape[2] + left + right - kw + 1)
        return _transpose_gemm(x, kernel[::-1, ::-1].swapaxes(2, 3), size, 1, around)
    return _rows(unfold(x, (kh, kw), stride, pads), kernel.reshape(-1, features))


def _transpose_gemm(y: Array, kernel: Array, size: Size, stride: int, pads: Pads) -> Array:
    kh, kw, _, features = kernel.shape
    return fold(_rows(y, kernel.reshape(-1, features).T), (kh, kw), size, stride, pads)


def _rows(patches: Array, matrix: Array) -> Array:
    """patches @ matrix, as one product of matrices: [..., N], [N, M] -> [..., M].

    The numbers are those of a product with all axes kept, but the gradient of `matrix` sums over one axis. For a sum
    over several axes XLA first makes a transposed copy of the patches.
    """
    return (patches.reshape(-1, len(matrix)) @ matrix).reshape(*patches.shape[:-1], -1)


def unfold(x: Array, window: Size, stride: int, pads: Pads) -> Array:
    """Patches as rows: x [B, H, W, C] to [B, h, w, kh kw C], with `pads` zeros around x.

    Pixels are taken by phase, as in `fold`, so the derivative is a sum as in `fold`.
    """
    (top, bottom), (left, right) = pads
    batch, height, width, channels = x.shape
    h, w = (height + top + bottom - window[0]) // stride + 1, (width + left + right - window[1]) // stride + 1
    # Images in blocks of stride x stride, as many as patches see; pixels beyond are cut off.
    high, wide = h + (window[0] - 1) // stride, w + (window[1] - 1) // stride
    edges = (top, high * stride - height - top, 0), (left, wide * stride - width - left, 0)
    blocks = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    blocks = blocks.reshape(batch, high, stride, wide, stride, channels)
    phases = [lax.split(row, (1,) * stride, axis=4) for row in lax.split(blocks, (1,) * stride, axis=2)]

    def tap(i: int, j: int) -> Array:  # the pixel at place (i, j) of every patch, [B, h, w, C]
        phase = phases[i % stride][j % stride].reshape(batch, high, wide, channels)
        down, right = i // stride, j // stride
        return phase[:, down : down + h, right : right + w]

    return jnp.concatenate([tap(i, j) for i, j in product(range(window[0]), range(window[1]))], axis=3)


def fold(patches: Array, window: Size, size: Size, stride: int, pads: Pads) -> Array:
    """The transpose of `unfold` on images of `size`: every pixel is the sum of its entries in all patches.

    Pixels are gathered by phase (row and column modulo the stride): a phase is a sum of shifted taps, without zeros
    between them. The derivative of `lax.split` is one concatenation; that of slices would be a padded copy of all
    patches for each slice.
    """
    batch, h, w, columns = patches.shape
    channels = columns // (window[0] * window[1])
    taps = lax.split(patches, (channels,) * (window[0] * window[1]), axis=3)
    (top, _), (left, _) = pads
    # Images in blocks of stride x stride, enough of them to hold the padded image and every tap.
    high = max(-(-(top + size[0]) // stride), h + (window[0] - 1) // stride)
    wide = max(-(-(left + size[1]) // stride), w + (window[1] - 1) // stride)

    def phase(p: int, q: int) -> Array:  # pixel (p, q) of every block, [B, high, wide, C]
        total = jnp.zeros((batch, high, wide, channels), patches.dtype)
        for i, j in product(range(p, window[0], stride), range(q, window[1], stride)):
            down, right = i // stride, j // stride
            edges = ((0, 0), (down, high - h - down), (right, wide - w - right), (0, 0))
            total += jnp.pad(taps[i * window[1] + j], edges)
        return total

    rows = [jnp.stack([phase(p, q) for q in range(stride)], axis=3) for p in range(stride)]
    image = jnp.stack(rows, axis=2).reshape(batch, high * stride, wide * stride, channels)
    return image[:, top : top + size[0], left : left + size[1]]


# ---------------------------------------------------------------------- pooling, unpooling and resizing


def max_pool(x: Array, block: int) -> tuple[Array, Array]:
    """The maximum of each block x block square, and its place: both [B, ceil(H / block), ceil(W / block), C].

    Squares at the lower and right edges may be smaller. Places ("switches") count from 0 to block^2 - 1 in reading
    order. Of equal values the first is taken, and it alone gets the gradient.
    """
    squares = _squares(x, block, -jnp.inf)  # [B, h, w, block^2, C]
    switches = jnp.argmax(squares, axis=3)
    # A sum of one term in place of a gather: its gradient is no scatter, and -inf of the padding does not enter it.
    return jnp.where(_at(switches, block), squares, 0).sum(3), switches


def max_unpool(y: Array, switches: Array, size: Size, block: int) -> Array:
    """Images of `size` with each value of y [B, h, w, C] at the switch of its block, and zeros elsewhere.

    Zeiler et al. (2010), CVPR. `max_pool` undoes it for positive y.
    """
    return _image(jnp.where(_at(switches, block), y[:, :, :, None], 0), size, block)


def fill_unpool(y: Array, size: Size, block: int) -> Array:
    """Images of `size` with each value of y [B, h, w, C] everywhere in its block."""
    b, h, w, c = y.shape
    return _image(jnp.broadcast_to(y[:, :, :, None], (b, h, w, block**2, c)), size, block)


def resize(y: Array, size: Size, method: Literal["nearest", "bilinear"]) -> Array:
    """y [B, h, w, C] resampled to [B, *size, C]; pixel centres are at halves, as in `jax.image.resize`."""
    # Resampling is linear along each axis, and resampling the identity gives its matrix. So it is two matrix products,
    # forward and backward, where "nearest" would be a gather and a scatter.
    down, across = (
        jax.image.resize(jnp.eye(n, dtype=y.dtype), (n, to), method, antialias=False)
        for n, to in zip(y.shape[1:3], size, strict=True)
    )
    return jnp.einsum("bhwc,hi,wj->bijc", y, down, across, precision="highest")


def _at(switches: Array, block: int) -> Array:
    """Switches [B, h, w, C] to a mask [B, h, w, block^2, C], True at the place of each switch."""
    return switches[:, :, :, None] == jnp.arange(block**2)[:, None]


def _squares(x: Array, block: int, fill: float) -> Array:
    """[B, H, W, C] cut into squares: [B, h, w, block^2, C]."""
    b, height, width, c = x.shape
    h, w = -(-height // block), -(-width // block)
    x = jnp.pad(x, ((0, 0), (0, h * block - height), (0, w * block - width), (0, 0)), constant_values=fill)
    return x.reshape(b, h, block, w, block, c).swapaxes(2, 3).reshape(b, h, w, block**2, c)


def _image(squares: Array, size: Size, block: int) -> Array:
    """Squares [B, h, w, block^2, C] put together, and cut to `size`."""
    b, h, w, _, c = squares.shape
    x = squares.reshape(b, h, w, block, block, c).swapaxes(2, 3).reshape(b, h * block, w * block, c)
    return x[:, : size[0], : size[1]]
