"""Convolutional autoencoders: pyramids for images of any size and any number of channels.

Masci et al. (2011), ICANN. Unpooling at switches: Zeiler et al. (2010), CVPR, and Zhao et al. (2015),
arXiv:1506.02351. Resizing in place of transposed convolution: Odena et al. (2016), Distill.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from ..checks import check_choice
from ..core import Autoencoder
from ..xla.barriers import materialize_gradient
from . import common
from .common import ACTIVATIONS, Activation, ActivationName, InitName
from .image_ops import Size, convolve, convolve_transpose, fill_unpool, max_pool, max_unpool, resize
from .mlp import MLP

Down = Literal["stride", "pool"]
Up = Literal["transpose", "nearest", "bilinear", "fill", "switch"]

# Ways to enlarge maps before a convolution of the decoder: (h, size, stride, switches) -> maps of that size.
# "transpose" is not among them: a transposed convolution enlarges by itself.
ENLARGE: dict[str, Callable[[Array, Size, int, Array], Array]] = {
    "nearest": lambda h, size, stride, switches: resize(h, size, "nearest"),
    "bilinear": lambda h, size, stride, switches: resize(h, size, "bilinear"),
    "fill": lambda h, size, stride, switches: fill_unpool(h, size, stride),
    "switch": lambda h, size, stride, switches: max_unpool(h, switches, size, stride),
}


class Convolution(nn.Module):
    """A convolution with a bias; if `size` is given, a transposed one that makes maps of this size."""

    features: int
    kernel: int | Size  # side of a square kernel, or height and width
    stride: int
    scheme: InitName
    size: Size | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        sides = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        shape = (*sides, x.shape[-1], self.features)
        kernel_init, bias_init = common.initializers(self.scheme, prod(shape[:3]))
        kernel = self.param("kernel", kernel_init, shape, jnp.float32)
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        if self.size is None:
            y = convolve(x, kernel, self.stride)
        else:
            y = convolve_transpose(x, kernel.swapaxes(2, 3), self.size, self.stride)
        return materialize_gradient(y.reshape(-1, self.features) + bias).reshape(y.shape)


class Encoder(nn.Module):
    """Levels of convolution, activation, pooling (for down="pool") and dropout; then dense layers."""

    channels: Sequence[int]
    kernel: int | Size
    stride: int
    down: Down
    activation: Activation
    scheme: InitName
    dropout: float
    dense: MLP

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, list[Array]]:
        h, switches = x, []
        for i, features in enumerate(self.channels):
            stride = self.stride if self.down == "stride" else 1
            h = self.activation(Convolution(features, self.kernel, stride, self.scheme, name=f"level_{i}")(h))
            if self.down == "pool":
                h, places = max_pool(h, self.stride)
                switches.append(places)
            h = common.Dropout(self.dropout)(h, train)
        return self.dense(h, train), switches


class Decoder(nn.Module):
    """Dense layers, then levels that enlarge to `sizes` and convolve to `channels`; both list the output first."""

    channels: Sequence[int]
    sizes: Sequence[Size]
    kernel: int | Size
    stride: int
    up: Up
    activation: Activation
    last: Activation
    scheme: InitName
    dropout: float
    dense: MLP

    @nn.compact
    def __call__(self, z: Array, switches: Sequence[Array] = (), train: bool = False) -> Array:
        h = self.dense(z, train).reshape(z.shape[0], *self.sizes[-1], self.channels[-1])
        for i in reversed(range(len(self.channels) - 1)):
            features, size, name = self.channels[i], self.sizes[i], f"level_{i}"
            if self.up == "transpose":
                h = Convolution(features, self.kernel, self.stride, self.scheme, size, name=name)(h)
            else:
                # A code decoded alone has no switches: each value goes to the first place of its block.
                places = switches[i] if switches else jnp.zeros(h.shape, jnp.int32)
                h = ENLARGE[self.up](h, size, self.stride, places)
                h = Convolution(features, self.kernel, 1, self.scheme, name=name)(h)
            h = (self.activation if i else self.last)(h)
            h = common.Dropout(self.dropout if i else 0.0)(h, train)
        return h


def conv(
    shape: tuple[int, ...],
    latents: int,
    *,
    channels: tuple[int, ...] = (32, 64),
    kernel: int = 3,
    stride: int = 2,
    down: Down = "stride",
    up: Up = "transpose",
    hidden: tuple[int, ...] = (),
    heads: int = 1,
    activation: ActivationName | Activation = "relu",
    code_activation: ActivationName | Activation = "linear",
    output_activation: ActivationName | Activation = "linear",
    dropout: float = 0.0,
    code_dropout: float = 0.0,
    dense: bool = True,
    residual: bool = False,
    init: InitName = "glorot",
    outputs: int = 1,
) -> Autoencoder:
    """A symmetric convolutional autoencoder: levels of convolution, dense layers, the code, and back.

    Every level divides height and width by `stride`, rounding up; the decoder goes back through exactly these sizes.
    With up="switch", `apply` gives the decoder the places of the encoder's maxima, and `decode`, which has the code
    alone, puts each value at the first place of its block. Variational and generative members refuse such a network.

    Args:
        shape: shape of one image, (height, width, channels).
        latents: size of the code, K.
        channels: feature maps of each level of the encoder.
        kernel: width of the square kernels.
        stride: each level divides height and width by this factor.
        down: stride (strided convolution) or pool (convolution, then max-pooling).
        up: transpose (transposed convolution); or a convolution after a nearest or bilinear resize, after
            unpooling that fills each block (fill), or after unpooling at the places of the maxima (switch).
        hidden: widths of dense hidden layers between the last feature maps and the code.
        heads: vectors of size K that the encoder emits: 1, or 2 for a Gaussian's mean and log-variance.
        activation: activation of hidden layers.
        code_activation: activation of the code.
        output_activation: activation of the output; leave it linear for a Bernoulli likelihood, which takes logits.
        dropout: dropout rate of hidden layers, in encoder and decoder.
        code_dropout: dropout rate of the code.
        dense: whether there are dense layers; False: the code is the flattened last feature maps, and latents is
            their size (Masci et al., 2011).
        residual: the output is a correction, added to the input; see `networks.residual`.
        init: initializer of the weights.
        outputs: numbers that the decoder emits for each number of an example, see `Likelihood`.

    Raises:
        ValueError: an unknown name, a shape that is no image's, no levels, a size below one, switches without
            pooling, or, without dense layers, options that do not fit the last feature maps.
    """
    if len(shape) != 3:
        raise ValueError(
            f"shape is {shape}; convolution takes images, (height, width, channels): for signals take conv1d, else mlp"
        )
    check_choice("down", down, ("stride", "pool"))
    check_choice("up", up, ("transpose", *ENLARGE))
    if up == "switch" and down != "pool":
        raise ValueError('up="switch" unpools at the maxima of a pooling: use it with down="pool"')
    if not channels or min(*channels, *hidden, latents, kernel, stride) < 1:
        given = f"channels {channels}, hidden {hidden}, latents {latents}, kernel {kernel}, stride {stride}"
        raise ValueError(f"{given}: there must be at least one level, and every number must be at least 1")
    common.check_rates(dropout=dropout, code_dropout=code_dropout)
    inner, code, out = map(common.activation, (activation, code_activation, output_activation))
    height, width, colours = shape
    sizes = [(height, width)]
    for _ in channels:
        sizes.append((-(-sizes[-1][0] // stride), -(-sizes[-1][1] // stride)))
    size = prod(sizes[-1]) * channels[-1]
    if not dense and (latents != size or hidden or heads != 1 or code is not ACTIVATIONS["linear"] or code_dropout):
        raise ValueError(
            f"without dense layers the code is the last feature maps, {size} numbers: give latents={size}, one head, "
            f"no hidden layers and no code_activation or code_dropout; these are {latents}, {heads} and {hidden}"
        )
    to_code = MLP((*hidden, heads * latents) if dense else (), inner, code, init, dropout, code_dropout)
    from_code = MLP((*reversed(hidden), size) if dense else (), inner, inner, init, dropout, dropout)
    net = common.pair(
        Encoder(channels, kernel, stride, down, inner, init, dropout, to_code),
        Decoder((outputs * colours, *channels), sizes, kernel, stride, up, inner, out, init, dropout, from_code),
        tuple(shape),
        latents,
        code_activation=code_activation if dense else activation,
        output_activation=output_activation,
        outputs=outputs,
    )
    if up == "switch":
        net = net._replace(side_information="the places of its encoder's maxima (up: switch)")
    return common.residual(net) if residual else net
