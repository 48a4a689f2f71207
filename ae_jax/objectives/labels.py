"""Labels: a draw of a few labelled examples, the loss of labels, and codes of a class and a style."""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ..core import Autoencoder, Batch, Key, Params
from ..distributions.priors import Prior
from .recode import linear_code, recoded


def draw_labelled(data: Batch, key: Key, count: int, classes: int) -> Batch:
    """`count` labelled examples, drawn by the key and, as far as the data allow, evenly from `classes` classes.

    Labels are integers from 0 to classes - 1; any other value means no label. Examples without a label are taken only
    if the labelled ones are too few.
    Raises ValueError for data without labels, and for a `count` below 1 or above the number of examples.
    """
    if data.y is None:
        raise ValueError(f"{count} labelled examples were asked of data without labels; ask for none, or load labels")
    if not 1 <= count <= len(data.x):
        raise ValueError(f"{count} labelled examples were asked of {len(data.x)}; it must be from 1 to that")
    order = jax.random.permutation(key, len(data.x))
    y = data.y[order]
    member = jax.nn.one_hot(y, classes, dtype=jnp.int32)  # [N, C]
    rank = (jnp.cumsum(member, 0) * member).sum(-1)  # its place within its class, from 1, [N]; 0 without one
    rank = jnp.where(rank == 0, len(y), rank)
    chosen = order[jnp.argsort(rank)[:count]]  # all firsts, then all seconds, ...
    return Batch(data.x[chosen], data.y[chosen])


def cross_entropy(logits: Array, y: Array) -> Array:
    """-log softmax(logits)[y] in nats, 0 where y is none of the classes. [B, C], [B] integers -> [B]."""
    known = (y >= 0) & (y < logits.shape[-1])
    return jnp.where(known, optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, y, 0)), 0)


def class_and_style(net: Autoencoder, classes: int | None) -> tuple[Autoencoder, int]:
    """The network with a softmax over the first part of its code, the class; and the size of that part.

    `classes` is that size, None half of the code. Raises ValueError unless a class and a style have room in the code.
    """
    size = net.latents // 2 if classes is None else classes
    if not 1 <= size < net.latents:
        raise ValueError(f"{size} classes in a code of {net.latents}: a style needs room too, so use more latents")

    def encode(params: Params, x: Array, key: Key | None = None) -> Array:
        h = net.encode(params, x, key)
        return jnp.concatenate([jax.nn.softmax(h[:, :size]), h[:, size:]], -1)

    return recoded(linear_code(net), encode), size


def draw_class_and_style(key: Key, n: int, classes: int, latents: int, dtype) -> Array:
    """Codes [n, latents] of a class, one-hot and even, and a style from N(0, I)."""
    key_class, key_style = jax.random.split(key)
    y = jax.nn.one_hot(jax.random.randint(key_class, (n,), 0, classes), classes, dtype=dtype)
    return jnp.concatenate([y, jax.random.normal(key_style, (n, latents - classes), dtype)], -1)


def prior_of_class_and_style(classes: int, latents: int) -> Prior:
    """The distribution of `draw_class_and_style`; its log_prob is not known."""
    return Prior(lambda params, key, n, dtype=float, y=None: draw_class_and_style(key, n, classes, latents, dtype))
