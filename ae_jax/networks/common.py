"""Parts that networks share: activations, initialisers, and `pair`, which makes an `Autoencoder` of two Flax modules.

A module is called as `module(x, train=...)`, or as `module(x)` if its signature has no `train`. An encoder may also
return `(code, side)`; `Autoencoder.apply` then calls the decoder as `module(code, side)`. The switches of a pooling are
such a side.
"""

import inspect
from collections.abc import Callable
from math import prod
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import errors
from flax import linen as nn
from jax import Array

from ..checks import check_choice, is_concrete
from ..core import Autoencoder, Batch, Key, Params
from ..objectives.recode import code_only, composed
from ..xla import draws

ActivationName = Literal["linear", "relu", "sigmoid", "tanh", "softplus", "elu", "leaky_relu", "gelu", "silu"]
Activation = Callable[[Array], Array]
InitName = Literal["glorot", "he", "uniform", "sigmoid_uniform", "orthogonal"]
Initializer = Callable[..., Array]  # (key, shape, dtype) -> kernel

ACTIVATIONS: dict[str, Activation] = {
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}

# Kernels by name. `uniform`, U(+-1/sqrt(fan_in)), is LeCun's (1998) and PyTorch's default; biases have it too.
# `sigmoid_uniform`, U(+-4 sqrt(6/(fan_in + fan_out))), is Glorot & Bengio's for logistic units; the papers on stacked
# denoising autoencoders use it.
KERNELS: dict[str, Callable[..., Array]] = {
    "glorot": nn.initializers.glorot_uniform(),
    "he": nn.initializers.he_normal(),
    "uniform": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    "orthogonal": nn.initializers.orthogonal(),
    "sigmoid_uniform": nn.initializers.variance_scaling(16.0, "fan_avg", "uniform"),
}


def activation(which: ActivationName | Activation) -> Activation:
    """An activation by name, or the function itself. Raises ValueError for an unknown name."""
    if callable(which):
        return which
    check_choice("activation", which, ACTIVATIONS, " or a function")
    return ACTIVATIONS[which]


def initializers(which: InitName | Initializer, fan_in: int) -> tuple[Initializer, Initializer]:
    """(kernel_init, bias_init) by name, for units with `fan_in` inputs. A function is taken as kernel_init."""
    if callable(which):
        return which, nn.initializers.zeros
    check_choice("init", which, KERNELS, " or a function")
    if which != "uniform":
        return KERNELS[which], nn.initializers.zeros
    bound = fan_in**-0.5
    return KERNELS[which], lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


class Dropout(nn.Module):
    """Flax's dropout, with the same numbers, but with a rate that may be traced."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if not train or (is_concrete(self.rate) and self.rate == 0):
            return x
        keep = 1 - self.rate
        kept = draws.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jnp.where(kept, x / jnp.where(keep > 0, keep, 1), 0)  # no 0 / 0, whose gradient would be NaN


def check_rates(**rates: float) -> None:
    """Raises ValueError for a dropout rate outside [0, 1); a rate of 1 would leave only zeros."""
    for name, rate in rates.items():
        if is_concrete(rate) and not 0 <= rate < 1:
            raise ValueError(f"{name} is {rate}; a rate must be at least 0 and less than 1")


def cast_to_data_type(params: Params, data: Batch) -> Params:
    """The params in the dtype of the data: float64 data make a float64 network. Raises ValueError for integers."""
    if not jnp.issubdtype(data.x.dtype, jnp.floating):
        raise ValueError(f"the data have dtype {data.x.dtype}; networks take floating point data")
    return jax.tree.map(lambda p: p.astype(data.x.dtype), params)


def check_shape(x: Array, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless x is a batch of examples of that shape, in floating point."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has the dtype {x.dtype}; networks take floating point data: scale images to [0, 1] first")
    try:
        chex.assert_shape(x, (None, *shape))
    except AssertionError:
        raise ValueError(
            f"x has the shape {x.shape}; this network takes [B, {', '.join(map(str, shape))}]: "
            "build it for the data's shape, networks.mlp(data.x.shape[1:], ...)"
        ) from None


def check_code(z: Array, latents: int) -> None:
    """Raises ValueError unless z is a batch of codes of that size."""
    try:
        chex.assert_shape(z, (None, latents))
    except AssertionError:
        raise ValueError(f"z has the shape {z.shape}; this network decodes codes [B, {latents}]") from None


def pair(
    encoder: nn.Module,
    decoder: nn.Module,
    shape: tuple[int, ...],
    latents: int,
    layer: Callable[[Params, Array], tuple[Array, Array]] | None = None,
    code_activation: ActivationName | Activation | None = None,
    output_activation: ActivationName | Activation | None = None,
    outputs: int = 1,
) -> Autoencoder:
    """An `Autoencoder` of two Flax modules; the docstring of this file says how they are called.

    The encoder emits [B, heads * K]. The decoder emits `outputs` numbers for each number of an example, adjacent in the
    last axis.

    In training all streams of random numbers of a module come from one key; otherwise there are none.
    `code_activation` and `output_activation` are the last activations of the modules. `Autoencoder.activation` and
    `Autoencoder.output` keep the names of known ones.

    Raises TypeError for modules of other classes than flax.linen's, such as flax.nnx's.
    `init` raises ValueError for a module that keeps variables besides its params (BatchNorm does), that draws random
    numbers outside training, or whose output has another size.
    """

    if outputs < 1:
        raise ValueError(f"outputs is {outputs}; a network emits at least 1 number for each number of an example")
    emitted = shape if outputs == 1 else (*shape, outputs)
    for name, module in (("encoder", encoder), ("decoder", decoder)):
        if not isinstance(module, nn.Module):
            kind = module if isinstance(module, type) else type(module)
            given = f"the class {kind.__qualname__}" if kind is module else f"a {kind.__module__}.{kind.__qualname__}"
            raise TypeError(
                f"the {name} is {given}; wanted: an instance of a flax.linen module, such as Encoder(), whose params "
                "are an argument (modules of flax.nnx hold their own)"
            )

    def first(module: nn.Module, name: str, key: Key, x: Array, wanted: str, fits: Callable[[Any], bool]) -> Any:
        variables = module.init(key, x, **_training(module, False))
        if others := sorted(set(variables) - {"params"}):
            raise ValueError(
                f"the {name} keeps {', '.join(others)} besides its params, and a network here is a pure function of "
                "params: for nn.BatchNorm take nn.LayerNorm or nn.GroupNorm"
            )
        group = variables.get("params", {})
        try:
            out = jax.eval_shape(lambda group: run(module, group, None, x), group)
        except errors.InvalidRngError as error:
            raise ValueError(
                f"the {name} draws random numbers outside training ({error}): give its __call__ an argument `train` "
                "and draw only where that is True, as nn.Dropout(rate, deterministic=not train) does"
            ) from None
        if not fits(out := out[0] if isinstance(out, tuple) else out):
            raise ValueError(f"the {name} makes {out.shape} of {x.shape}; wanted: {wanted}")
        return group

    def init(key: Key, data: Batch) -> Params:
        check_shape(data.x, shape)
        key_encoder, key_decoder = jax.random.split(key)
        x, z = data.x[:1], jnp.zeros((1, latents), data.x.dtype)
        is_code = lambda out: out.ndim == 2 and out.shape[1] > 0 and out.shape[1] % latents == 0
        is_example = lambda out: out.size == outputs * prod(shape)
        code = f"codes [B, heads * {latents}], as latents is {latents}"
        example = f"{outputs * prod(shape)} numbers, of {emitted}"
        groups = {
            "encoder": first(encoder, "encoder", key_encoder, x, code, is_code),
            "decoder": first(decoder, "decoder", key_decoder, z, example, is_example),
        }
        return cast_to_data_type(groups, data)

    def run(module: nn.Module, group: Any, key: Key | None, *inputs) -> Any:
        # Flax draws every stream that rngs does not name from "params"
        rngs = None if key is None else {"params": key}
        return module.apply({"params": group}, *inputs, rngs=rngs, **_training(module, key is not None))

    def encode_with_side(params: Params, x: Array, key: Key | None):
        check_shape(x, shape)
        out = run(encoder, params["encoder"], key, x)
        return out if isinstance(out, tuple) else (out, None)

    def encode(params: Params, x: Array, key: Key | None = None) -> Array:
        return encode_with_side(params, x, key)[0]

    def decode(params: Params, z: Array, key: Key | None = None) -> Array:
        check_code(z, latents)
        return run(decoder, params["decoder"], key, z).reshape(z.shape[0], *emitted)

    def apply(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        key_encoder, key_decoder = (None, None) if key is None else jax.random.split(key)
        z, side = encode_with_side(params, x, key_encoder)
        if side is None:
            return z, decode(params, z, key_decoder)
        return z, run(decoder, params["decoder"], key_decoder, z, side).reshape(z.shape[0], *emitted)

    code, output = (
        next((name for name, fn in ACTIVATIONS.items() if which in (name, fn)), None)
        for which in (code_activation, output_activation)
    )
    return Autoencoder(
        shape=shape,
        latents=latents,
        init=init,
        encode=encode,
        decode=decode,
        apply=apply,
        layer=layer,
        activation=code,
        output=output,
        outputs=outputs,
    )


def _training(module: nn.Module, train: bool) -> dict[str, Any]:
    """`train` as a keyword, for modules whose signature has it."""
    return {"train": train} if "train" in inspect.signature(type(module).__call__).parameters else {}


def join(encoder_of: Autoencoder, decoder_of: Autoencoder) -> Autoencoder:
    """The encoder of one network and the decoder of another, such as a convolutional encoder and the decoder of an
    `mlp`. The corruption and the facts of the code are those of the encoder's network.

    Raises ValueError for two networks that differ in shape or latents, and for switches or a residual, which would be
    lost. `init` raises it for a tied decoder.
    """
    if (encoder_of.shape, encoder_of.latents) != (decoder_of.shape, decoder_of.latents):
        given = f"{encoder_of.shape} with {encoder_of.latents} latents and {decoder_of.shape} with {decoder_of.latents}"
        raise ValueError(f"the networks to join are for {given}; they must be for the same")

    def init(key: Key, data: Batch) -> Params:
        key_encoder, key_decoder = jax.random.split(key)
        halves = {"decoder": decoder_of.init(key_decoder, data)["decoder"]}
        try:
            jax.eval_shape(decoder_of.decode, halves, jnp.zeros((1, decoder_of.latents), data.x.dtype))
        except KeyError:
            raise ValueError("the decoder is tied, its weights are its own encoder's: use one that is not") from None
        return {"encoder": encoder_of.init(key_encoder, data)["encoder"], **halves}

    apply = composed(code_only(encoder_of).encode, code_only(decoder_of).decode)
    return encoder_of._replace(
        init=init, decode=decoder_of.decode, apply=apply, output=decoder_of.output, outputs=decoder_of.outputs
    )


def log_inputs(net: Autoencoder) -> Autoencoder:
    """The network with an encoder of log(1 + x), for counts, which differ by orders of magnitude."""
    return net._replace(
        encode=lambda params, x, key=None: net.encode(params, jnp.log1p(x), key),
        apply=lambda params, x, key=None: net.apply(params, jnp.log1p(x), key),
        layer=None,
    )


def trained(net: Autoencoder, params: Params) -> Autoencoder:
    """The network whose `init` gives these params: an encoder, a decoder or both, such as those of another run.

    A given encoder replaces the pretraining of a member: `dec(trained(net, params), ...)` begins with the clusters of
    the codes of this encoder.
    """
    given = {group: params[group] for group in ("encoder", "decoder") if group in params}
    init = lambda key, data: net.init(key, data) | given
    return net._replace(init=init, trained=net.trained or "encoder" in given)


def residual(net: Autoencoder) -> Autoencoder:
    """The network as a correction: `apply` adds its output to the encoder's input, corrupted or not.

    For restoration, where most of the input is right already (Zhang et al., 2017, IEEE Trans. Image Processing 26).
    The code alone does not determine the output: `decode` gives the correction without the input. Members that decode
    codes (variational, generative) therefore refuse such a network. The sum is a reconstruction only if the output lies
    in data space, as with the likelihood "squared".

    Raises ValueError for a network that corrupts: its correction of the corrupted input would be added to the clean
    one. Raises it also for several outputs for each number of x.
    """
    if net.outputs != 1:
        raise ValueError(f"this network emits {net.outputs} outputs for each number of x: a correction is one")
    if net.corrupt is not None:
        raise ValueError("this network corrupts its input: make it residual first, corrupted(residual(net), ...)")

    def apply(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        z, correction = net.apply(params, x, key)
        return z, x + correction

    return net._replace(apply=apply, side_information="the input (residual)", output="residual")
