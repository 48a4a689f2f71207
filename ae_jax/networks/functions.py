"""`from_nets`: an `Autoencoder` of two pairs of pure functions, from any library."""

import inspect
from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ..core import Autoencoder, Batch, Key, Net, Params, address
from ..objectives.recode import composed
from .common import cast_to_data_type, check_code, check_shape


def from_nets(
    encoder: Net,
    decoder: Net,
    shape: tuple[int, ...],
    latents: int,
    *,
    heads: int = 1,
    outputs: int = 1,
    activation: str | None = None,
    output: str | None = None,
) -> Autoencoder:
    """An `Autoencoder` of two `core.Net`s, pairs of pure functions (init, apply).

    `init` may give any tree of arrays. A tree that is not nested dicts is kept as a dict from paths to leaves, such as
    "layers.0.weight", so that checkpoints and weight decay need not know the library. An `apply` with a parameter `key`
    gets a key in training and None otherwise; dropout must act only with a key.

    Args:
        encoder: maps x [B, *shape] to codes [B, heads * latents].
        decoder: maps a code [B, latents] to an output [B, *shape], or [B, *shape, outputs] if `outputs` exceeds 1.
        shape: shape of an example.
        latents: size of a code, K.
        heads: vectors of size K that the encoder emits; the algorithm's annotation says how many it needs.
        outputs: numbers that the decoder emits for each number of x.
        activation: name of the activation of codes, such as "sigmoid"; None if unknown.
        output: name of the activation of the output; None if unknown.

    Raises ValueError for outputs of another size and for params that are no floats, TypeError for a net without `init`
    or `apply`.
    """
    emitted = shape if outputs == 1 else (*shape, outputs)
    sizes = {"encoder": heads * latents, "decoder": prod(emitted)}
    inputs = {"encoder": shape, "decoder": (latents,)}
    nets, trees = {"encoder": encoder, "decoder": decoder}, {}
    for name, net in nets.items():
        if not all(callable(getattr(net, part, None)) for part in ("init", "apply")):
            raise TypeError(f"the {name} is {net!r}; wanted: core.Net(init, apply), two pure functions")
        x = jax.ShapeDtypeStruct((2, *inputs[name]), jnp.float32)
        trees[name] = jax.eval_shape(net.init, jax.eval_shape(lambda: jax.random.key(0)), x)
        for path, leaf in _leaves(trees[name]):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    f"the init of the {name} gives {jax.tree_util.keystr(path)} of dtype {leaf.dtype}, and params are "
                    "what gradient descent learns: leave keys, counts and other state out of them (of NNX, take "
                    "nnx.state(module, nnx.Param)), and draw with the key of apply"
                )
        made = jax.eval_shape(net.apply, trees[name], x)
        if not hasattr(made, "shape") or made.shape[:1] != (2,) or prod(made.shape[1:]) != sizes[name]:
            wanted = f"{sizes[name]} numbers for each, " + (
                f"heads={heads} vectors of latents={latents}" if name == "encoder" else f"of {emitted}"
            )
            raise ValueError(f"the {name} makes {getattr(made, 'shape', made)} of {x.shape}; wanted: {wanted}")
    keyed = {name: "key" in inspect.signature(net.apply).parameters for name, net in nets.items()}

    def init(key: Key, data: Batch) -> Params:
        check_shape(data.x, shape)
        first = {"encoder": data.x[:1], "decoder": jnp.zeros((1, latents), data.x.dtype)}
        return cast_to_data_type(
            {name: named(net.init(address(key, name), first[name])) for name, net in nets.items()}, data
        )

    def run(name: str, params: Params, x: Array, key: Key | None) -> Array:
        tree = as_tree(params[name], trees[name])
        made = nets[name].apply(tree, x, key=key) if keyed[name] else nets[name].apply(tree, x)  # pyright: ignore[reportCallIssue]
        return made.reshape(len(x), *((heads * latents,) if name == "encoder" else emitted))

    def encode(params: Params, x: Array, key: Key | None = None) -> Array:
        check_shape(x, shape)
        return run("encoder", params, x, key)

    def decode(params: Params, z: Array, key: Key | None = None) -> Array:
        check_code(z, latents)
        return run("decoder", params, z, key)

    return Autoencoder(
        shape=tuple(shape),
        latents=latents,
        init=init,
        encode=encode,
        decode=decode,
        apply=composed(encode, decode),
        activation=activation,
        output=output,
        outputs=outputs,
    )


def named(tree: Any) -> Any:
    """The tree itself if it is nested dicts, else a dict from the paths to the leaves."""
    if _dicts(tree):
        return tree
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in _leaves(tree)}


def as_tree(params: Any, like: Any) -> Any:
    """The inverse of `named`: `params` as a tree with the structure of `like`."""
    if _dicts(like):
        return params
    leaves = [params[jax.tree_util.keystr(path, simple=True, separator=".")] for path, _ in _leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


_leaves: Callable[[Any], Any] = lambda tree: jax.tree_util.tree_flatten_with_path(tree)[0]


def _dicts(tree: Any) -> bool:
    """Whether a tree is nested dicts of arrays."""
    if type(tree) is dict:
        return all(isinstance(name, str) and _dicts(part) for name, part in tree.items())
    return hasattr(tree, "shape") and hasattr(tree, "dtype")
