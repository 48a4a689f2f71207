"""Learning from few labels: which examples' labels are used."""

import jax
import jax.numpy as jnp

from .core import Batch, Key


def few(data: Batch, key: Key, count: int, classes: int) -> Batch:
    """`count` labelled examples, drawn by the key and, as far as the data go, evenly from `classes` classes.

    Labels are integers from 0 to classes - 1, or -1 for none; examples without one come last, if it must be.
    Raises ValueError for data without labels, or fewer examples than that.
    """
    if data.y is None:
        raise ValueError(f"{count} labelled examples were asked of data without labels; ask for none, or load labels")
    if not 1 <= count <= len(data.x):
        raise ValueError(f"{count} labelled examples were asked of {len(data.x)}; it must be from 1 to that")
    order = jax.random.permutation(key, len(data.x))
    y = data.y[order]
    member = jax.nn.one_hot(y, classes, dtype=jnp.int32)  # [N, C]
    rank = jnp.where(y < 0, len(y), (jnp.cumsum(member, 0) * member).sum(-1))  # the how-many-eth of its class, [N]
    chosen = order[jnp.argsort(rank)[:count]]  # all firsts, then all seconds, ...
    return Batch(data.x[chosen], data.y[chosen])
