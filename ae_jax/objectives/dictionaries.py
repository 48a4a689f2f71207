"""Sparse dictionaries: a linear encoder and decoder, whose codes have a form of `sparsity`; and dead units.

A code is z = s(W (x - b) + c) and a reconstruction z D + b: b is the decoder's bias, D its kernel, [K, D].
"""

from collections.abc import Callable
from math import prod
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from ..core import Autoencoder, Batch, Descent, Heads, Key, Loss, Optimizer, Params, Rule, assign
from ..distributions.sums import squared_error, sum_examples
from .recode import code_only, largest, linear_code
from .sparsity import Form, centre, rows

DictionaryAutoencoder = Annotated[Autoencoder, Heads(1, network="linear")]  # one linear layer each way, not tied


def checked_net(net: Autoencoder) -> Autoencoder:
    """The network itself. Raises ValueError if its code or its output is known to have an activation."""
    net = linear_code(code_only(net))
    if net.output not in ("linear", None):
        raise ValueError(f"the output is {net.output}, and a dictionary's is a sum: leave output_activation linear")
    return net


def with_rows(params: Params, change: Callable[[Array], Array]) -> Params:
    """The params with the dictionary D replaced by `change(D)`."""
    layer = params["decoder"]["layer_0"]
    return params | {"decoder": {"layer_0": {**layer, "kernel": change(rows(params))}}}


def unit(w: Array) -> Array:
    """w with rows of length 1; a row of zeros stays."""
    return w / jnp.maximum(jnp.linalg.norm(w, axis=-1, keepdims=True), jnp.finfo(w.dtype).tiny)


def before(net: Autoencoder, params: Params, x: Array, read: Any = None, key: Key | None = None) -> Array:
    """a = W (x - b) + c from the numbers of x that are read, [B, K]. A network's corruption acts on x, not on x - b."""
    x, b = (ends(read, part)[0] for part in (x, centre(params).reshape(1, *net.shape)))
    if net.corrupt is None:
        return net.encode(params, x - b, key)
    layer = params["encoder"]["layer_0"]
    moved = {**layer, "bias": layer["bias"] - b.ravel() @ layer["kernel"]}
    return net.encode(params | {"encoder": {"layer_0": moved}}, x, key)


def reads(net: Autoencoder, inputs: int | None) -> np.ndarray | None:
    """Bools in the shape of an example, True for its first `inputs` numbers; None for None.

    Raises ValueError unless some numbers are left to the decoder.
    """
    size = prod(net.shape)
    if inputs is not None and inputs >= size:
        raise ValueError(f"inputs is {inputs}, and an example has {size} numbers: leave some for the decoder to give")
    return None if inputs is None else (np.arange(size) < inputs).reshape(net.shape)


def ends(read: Any, x: Array) -> tuple[Array, Array]:
    """x [B, ...] as the encoder reads it and as the decoder gives it, each with zeros for the other's numbers.

    `read`, bools in the shape of an example, is True where the encoder reads; None: both are all of x.
    """
    read = None if read is None else read.reshape(1, *x.shape[1:])
    return (x, x) if read is None else (jnp.where(read, x, 0), jnp.where(read, 0, x))


def start(net: Autoencoder, key: Key, data: Batch, read: Any = None) -> Params:
    """Params with random unit rows, an encoder that is their transpose, and the data's mean for b; see `ends`.

    The group `variance` is the mean squared distance of the decoder's part of x from its mean. `idle`, [K] int32,
    counts for each unit the training examples since one activated it.
    """
    params = net.init(key, data)
    mean = data.x.mean(0, keepdims=True)
    seen, given = map(unit, ends(read, rows(params)))
    return {
        "encoder": {"layer_0": {**params["encoder"]["layer_0"], "kernel": seen.T}},
        "decoder": {"layer_0": {"kernel": given, "bias": mean.ravel()}},
        "idle": jnp.zeros(net.latents, jnp.int32),
        "variance": jnp.square(ends(read, data.x - mean)[1]).reshape(len(data.x), -1).sum(-1).mean(),
    }


# .......................................................................................... the loss


class Terms(NamedTuple):
    """The activations, codes, residual and loss of a batch."""

    a: Array  # [B, K], before the sparsity
    z: Array  # [B, K]
    rest: Array  # x - x_hat [B, *shape], 0 for numbers that the decoder does not give
    loss: Loss  # the error and the terms of the form


def terms(
    net: Autoencoder, form: Form, params: Params, x: Array, key: Key | None, weight: float | Array, read: Any
) -> Terms:
    """||x - x_hat||^2 and the form's penalty; a key means training."""
    key_encoder, key_decoder = (None, None) if key is None else jax.random.split(key)
    a = before(net, params, x, read, key_encoder)
    z = form.code(params, a, key is not None)
    b = centre(params).reshape(1, *net.shape)
    given = x if read is None else jnp.where(read[None], b, x)
    rest = given - net.decode(params, z, key_decoder)
    value = error = sum_examples(jnp.square(rest))
    metrics = {"reconstruction": error, "nonzero_units": (z > 0).sum(-1).astype(error.dtype)}
    if form.penalty is not None:
        metrics["penalty"] = form.penalty(params, a, z)
        value = value + weight * metrics["penalty"]
    if form.beside is not None:
        value = value + form.beside(params, a, z, given.reshape(len(x), -1))
    return Terms(a, z, rest, Loss(value, metrics))


# ............................................................................... dead units, unit rows


def auxiliary(params: Params, a: Array, rest: Array, dead: Array, k: int) -> Array:
    """AuxK: the error of the k largest dead units in fitting `rest`, over the variance of `rest` in the batch. [B].

    Gao et al. (2024), A.2. It is 0 without dead units, and for a batch of one example, which has no variance.
    """

    def left() -> Array:
        helped = largest(jnp.where(dead[None], jax.nn.relu(a), 0), k, k) @ rows(params)  # without b
        spread = squared_error(rest, rest.mean(0, keepdims=True)).mean()
        some = spread > 0
        return jnp.where(some, squared_error(helped.reshape(rest.shape), rest) / jnp.where(some, spread, 1), 0)

    return lax.cond(dead.any(), left, lambda: jnp.zeros(len(a), a.dtype))


def tangent(unit_rows: bool = True) -> optax.GradientTransformation:
    """Removes from the gradient the part along each unit row, which `bounded` would undo. Bricken et al. (2023)."""
    if not unit_rows:
        return optax.identity()

    def along(gradient: Params, params: Params) -> Params:
        w = rows(params)
        return with_rows(gradient, lambda g: g - (g * w).sum(-1, keepdims=True) * w)

    return optax.stateless(along)  # pyright: ignore[reportArgumentType]


def bounded(form: Form) -> Rule:
    """Projects every row to length 1, if the form has unit rows, and learned thresholds to 0 or more."""

    def fn(params: Params, batch: Batch, key: Key) -> Params:
        found = {"decoder": with_rows(params, unit)["decoder"]} if form.unit_rows else {}
        return found | ({"threshold": jax.nn.relu(params["threshold"])} if "threshold" in form.learned else {})

    return assign(fn)


def resampling(
    rule: Rule,
    form: Form,
    optimizer: Optimizer,
    reconstruct: Callable[[Params, Array], Array],
    after: int,
    read: Any = None,
) -> Rule:
    """The rule, a `descend` by this optimizer, and a restart of units that are idle for `after` examples.

    Bricken et al. (2023), "Neuron resampling": each dead unit gets its own example of the batch, drawn with a
    probability proportional to the square of its loss ||x - x_hat||^2. The unit's row becomes the direction of the
    example from b. Its encoder weights have this direction and a fifth of the mean length of the other units' weights.
    Its bias and the optimizer's moments of these numbers become 0. If dead units outnumber examples, the rest wait for
    the next batch. The paper resamples at certain steps; here a unit restarts as soon as it is dead.
    """

    def anew(params: Params, memory: Descent, batch: Batch, key: Key) -> tuple[Params, Descent]:
        x, dead = batch.x, params["idle"] >= after
        error = jnp.maximum(squared_error(reconstruct(params, x), x), jnp.finfo(x.dtype).tiny)
        drawn = jnp.argsort(-2 * jnp.log(error) - jax.random.gumbel(key, error.shape, error.dtype))
        number = jnp.cumsum(dead) - 1  # the rank of a dead unit among the dead
        new = dead & (number < len(x))
        from_b = (x.reshape(len(x), -1) - centre(params)[None])[drawn[jnp.clip(number, 0, len(x) - 1)]]  # [K, D]
        seen, given = map(unit, ends(read, from_b))
        layer, alive = params["encoder"]["layer_0"], ~dead
        size = (jnp.linalg.norm(layer["kernel"], axis=0) * alive).sum() / jnp.maximum(alive.sum(), 1)
        size = 0.2 * jnp.where(alive.any(), size, 1)
        own = form.init(jnp.zeros((1, len(dead)), x.dtype))
        fresh = {
            "encoder": {"layer_0": {"kernel": size * seen.T, "bias": jnp.zeros_like(layer["bias"])}},
            "decoder": {"layer_0": {"kernel": given, "bias": centre(params)}},
            **{group: own[group] for group in form.learned},
        }
        which = {
            "encoder": {"layer_0": {"kernel": new[None] & jnp.ones_like(seen.T, bool), "bias": new}},
            "decoder": {
                "layer_0": {
                    "kernel": new[:, None] & jnp.ones_like(given, bool),
                    "bias": jnp.zeros_like(x[0].ravel(), bool),
                }
            },
            **{group: jax.tree.map(lambda leaf: new, own[group]) for group in form.learned},
        }
        old = {group: params[group] for group in fresh}
        changed = jax.tree.map(lambda new, a, b: jnp.where(new, a, b), which, fresh, old)
        state = optax.tree_map_params(optimizer, lambda moment, new: jnp.where(new, 0, moment), memory.optimizer, which)
        changed["idle"] = jnp.where(new, 0, params["idle"])
        return params | changed, memory._replace(optimizer=state)

    def update(params: Params, memory: Descent, batch: Batch, key: Key):
        key_rule, key_anew = jax.random.split(key)
        params, memory, metrics = rule.update(params, memory, batch, key_rule)
        still = lambda params, memory, batch, key: (params, memory)
        params, memory = lax.cond((params["idle"] >= after).any(), anew, still, params, memory, batch, key_anew)
        return params, memory, metrics

    return Rule(rule.init, update)
