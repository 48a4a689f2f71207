"""Stacked autoencoders: the result of layer-wise training as one `Autoencoder`."""

from collections.abc import Sequence
from itertools import pairwise

import jax
from jax import Array

from ..core import Autoencoder, Batch, Key, Params
from ..objectives.recode import code_only, composed
from .common import Activation, ActivationName, activation


def stack(nets: Sequence[Autoencoder], between: ActivationName | Activation = "linear") -> Autoencoder:
    """A network of networks, each of which encodes the codes of the one before it. Decoders run in reverse order.

    Both groups hold the params of a layer under its number: {"encoder": {"0": ..., "1": ...}, "decoder": ...}.
    `stacked` makes them of the params of layers that were trained one by one.

    Args:
        nets: the networks, bottom first; each takes the codes of the one before, [B, K].
        between: maps the raw output of an upper decoder to codes of the network below: "sigmoid" for layers trained
            with a Bernoulli likelihood, whose output is logits. The output of the bottom network stays raw.

    Raises:
        ValueError: no networks, two that do not fit, one with switches, a residual or corruption, or an upper one
            that emits several outputs for each number of a code.
    """
    if not nets:
        raise ValueError("a stack needs at least one network")
    nets = [code_only(net) for net in nets]
    if any(net.corrupt is not None for net in nets):
        raise ValueError("a network in the stack corrupts its input: stack clean ones, and corrupt the stack")
    for i, (below, above) in enumerate(pairwise(nets)):
        if above.shape != (below.latents,):
            raise ValueError(f"network {i + 1} takes {above.shape}; the codes of network {i} are ({below.latents},)")
        if above.outputs != 1:
            raise ValueError(
                f"network {i + 1} emits {above.outputs} outputs for each number of a code, and the network below takes "
                "one: build it with outputs=1; only the bottom network may have more"
            )
    mean = activation(between)

    def keys(key: Key | None) -> Sequence[Key | None]:
        return [None] * len(nets) if key is None else list(jax.random.split(key, len(nets)))

    def init(key: Key, data: Batch) -> Params:
        each = []
        for net, key_net in zip(nets, jax.random.split(key, len(nets)), strict=True):
            each.append(net.init(key_net, data))
            # a network's init uses only shape and dtype of its data, so the codes of one example are enough
            data = Batch(net.encode(each[-1], data.x[:1]))
        return stacked(each)

    def encode(params: Params, x: Array, key: Key | None = None) -> Array:
        for net, part, key_net in zip(nets, layers_of(params), keys(key), strict=True):
            x = net.encode(part, x, key_net)
        return x

    def decode(params: Params, z: Array, key: Key | None = None) -> Array:
        down = list(zip(nets, layers_of(params), keys(key), strict=True))[::-1]
        for i, (net, part, key_net) in enumerate(down):
            z = net.decode(part, z if i == 0 else mean(z), key_net)
        return z

    top, apply = nets[-1], composed(encode, decode)
    return Autoencoder(
        shape=nets[0].shape,
        latents=top.latents,
        init=init,
        encode=encode,
        decode=decode,
        apply=apply,
        activation=top.activation,
        output=nets[0].output,
        outputs=nets[0].outputs,
        trained=all(net.trained for net in nets),
    )


def stacked(layers: Sequence[Params]) -> Params:
    """The params of a stack from those of its layers, bottom first."""
    return {group: {str(i): p[group] for i, p in enumerate(layers)} for group in ("encoder", "decoder")}


def layers_of(params: Params) -> list[Params]:
    """The params of the layers from those of a stack, bottom first."""
    groups = ("encoder", "decoder")
    return [{group: params[group][str(i)] for group in groups} for i in range(len(params["encoder"]))]


def unrolled(layers: Sequence[Params]) -> Params:
    """The params of a deep `mlp` from those of tied single layers, bottom first. The encoder has their kernels, the
    decoder the transposes in reverse order; further training changes the two independently.

    Hinton & Salakhutdinov (2006), Science 313, fig. 1. Other groups of params, such as chains, are left out.
    """
    down = [{"kernel": p["encoder"]["layer_0"]["kernel"].T, "bias": p["decoder"]["bias_0"]} for p in reversed(layers)]
    return {
        "encoder": {f"layer_{i}": p["encoder"]["layer_0"] for i, p in enumerate(layers)},
        "decoder": {f"layer_{i}": layer for i, layer in enumerate(down)},
    }
