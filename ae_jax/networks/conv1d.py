"""Convolutional autoencoders of signals: convolutions along the first axis of an example, time."""

from math import prod

from jax import Array

from ..core import Autoencoder, Batch, Key, Params
from . import common
from .common import Activation, ActivationName, InitName
from .conv import Decoder, Encoder
from .mlp import MLP


def conv1d(
    shape: tuple[int, ...],
    latents: int,
    *,
    channels: tuple[int, ...] = (32, 64),
    kernel: int = 5,
    stride: int = 2,
    hidden: tuple[int, ...] = (),
    heads: int = 1,
    activation: ActivationName | Activation = "relu",
    code_activation: ActivationName | Activation = "linear",
    output_activation: ActivationName | Activation = "linear",
    dropout: float = 0.0,
    code_dropout: float = 0.0,
    init: InitName = "glorot",
    outputs: int = 1,
) -> Autoencoder:
    """A symmetric autoencoder of signals: levels of convolution along time, dense layers, the code, and back.

    Every level divides the number of steps by `stride`, rounding up; transposed convolutions go back through exactly
    these lengths.

    Args:
        shape: shape of one signal: (steps,) or (steps, channels); (steps, channels, 1), the shape in which arrays
            [N, T, C] are loaded, is the latter.
        latents: size of the code, K.
        channels: feature maps of each level of the encoder.
        kernel: length of a kernel, in steps.
        stride: each level divides the number of steps by this factor.
        hidden: widths of dense hidden layers between the last feature maps and the code.
        heads: vectors of size K that the encoder emits: 1, or 2 for a Gaussian's mean and log-variance.
        activation: activation of hidden layers.
        code_activation: activation of the code.
        output_activation: activation of the output; leave it linear for a Bernoulli likelihood, which takes logits.
        dropout: dropout rate of hidden layers, in encoder and decoder.
        code_dropout: dropout rate of the code.
        init: initializer of the weights.
        outputs: numbers that the decoder emits for each number of an example, see `Likelihood`.

    Raises:
        ValueError: an unknown name, a shape that is no signal's, no levels, or a size below one.
    """
    if len(shape) not in (1, 2) and not (len(shape) == 3 and shape[2] == 1):
        raise ValueError(
            f"shape is {shape}; conv1d takes signals, (steps,) or (steps, channels): take conv for images in colour"
        )
    if not channels or min(*shape, *channels, *hidden, latents, kernel, stride) < 1:
        given = f"shape {shape}, channels {channels}, hidden {hidden}, latents {latents}, kernel {kernel}"
        raise ValueError(f"{given}, stride {stride}: there must be at least one level, and all numbers at least 1")
    common.check_rates(dropout=dropout, code_dropout=code_dropout)
    inner, code, out = map(common.activation, (activation, code_activation, output_activation))
    sizes, width = [(shape[0], 1)], prod(shape[1:])  # a signal is an image one pixel wide
    for _ in channels:
        sizes.append((-(-sizes[-1][0] // stride), 1))
    size = sizes[-1][0] * channels[-1]
    to_code = MLP((*hidden, heads * latents), inner, code, init, dropout, code_dropout)
    from_code = MLP((*reversed(hidden), size), inner, inner, init, dropout, dropout)
    along = (kernel, 1)
    images = common.pair(
        Encoder(channels, along, stride, "stride", inner, init, dropout, to_code),
        Decoder((outputs * width, *channels), sizes, along, stride, "transpose", inner, out, init, dropout, from_code),
        (shape[0], 1, width),
        latents,
        code_activation=code_activation,
        output_activation=output_activation,
        outputs=outputs,
    )
    return _reshaped(images, tuple(shape))


def _reshaped(net: Autoencoder, shape: tuple[int, ...]) -> Autoencoder:
    """The network on examples of another shape with as many numbers."""

    def inside(x: Array) -> Array:
        common.check_shape(x, shape)
        return x.reshape(len(x), *net.shape)

    def outside(output: Array) -> Array:
        return output.reshape(len(output), *shape, *output.shape[1 + len(net.shape) :])

    def init(key: Key, data: Batch) -> Params:
        return net.init(key, data._replace(x=inside(data.x)))

    def apply(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        z, output = net.apply(params, inside(x), key)
        return z, outside(output)

    return net._replace(
        shape=shape,
        init=init,
        encode=lambda params, x, key=None: net.encode(params, inside(x), key),
        decode=lambda params, z, key=None: outside(net.decode(params, z, key)),
        apply=apply,
    )
