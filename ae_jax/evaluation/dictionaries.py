"""Metrics of sparse dictionaries: how sparse codes are, how much they explain, and properties of their units.

Codes z [N, K] have exact zeros, and a unit is active where z > 0; x and x_hat are [N, ...]. All are plain functions of
arrays of a whole set: no number is a mean over batches.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ..checks import check_whole


def l0(z: Array) -> Array:
    """Mean count of an example's active units. -> []."""
    return (z > 0).sum(-1).mean()


def density(z: Array) -> Array:
    """For each unit, the share of the examples that it is active for. -> [K]."""
    return (z > 0).mean(0)


def dead(z: Array) -> Array:
    """Which units are active for none of the examples. -> [K], bool."""
    return ~(z > 0).any(0)


def fvu(x_hat: Any, x: Any) -> Array:
    """Fraction of variance unexplained: ||x - x_hat||^2 over ||x - mean x||^2, both summed over the set. -> [].

    The mean of x as a reconstruction scores 1; a worse reconstruction scores more. A constant offset counts as error.
    If all examples of x are equal, there is no variance, and the result is NaN or infinite.
    Raises ValueError for different shapes.
    """
    x_hat, x = (jnp.asarray(a).reshape(len(a), -1) for a in (x_hat, x))
    if x_hat.shape != x.shape:
        raise ValueError(f"x_hat has the shape {x_hat.shape} and x {x.shape}; give a reconstruction for each example")
    return jnp.square(x - x_hat).sum() / jnp.square(x - x.mean(0, keepdims=True)).sum()


def loss_recovered(loss: Callable[[Any], Any], x: Any, x_hat: Any, ablated: Any = None) -> float:
    """(L_ablated - L_x_hat) / (L_ablated - L_x): the share of x's effect on a loss that reconstructions keep.

    `loss` takes activations [N, ...] and gives a number, or one for each example, such as the cross-entropy of the
    layers above them. `ablated` are the activations that stand for none: zeros by default; the mean of x is usual, too.

    Raises ValueError if the loss of x is not below that of `ablated`, as there is nothing to recover.
    """
    ablated = jnp.zeros_like(x) if ablated is None else jnp.broadcast_to(ablated, jnp.shape(x))
    none, made, whole = (float(np.mean(np.asarray(loss(a), np.float64))) for a in (ablated, x_hat, x))
    if not none > whole:
        raise ValueError(f"the loss is {none:g} without activations and {whole:g} with them: there is none to recover")
    return (none - made) / (none - whole)


def max_cosine(features: Array, learned: Array) -> Array:
    """Mean over true features [M, D] of the largest cosine with a learned one [K, D]. -> [].

    1 where every feature was found, in any order. Sharkey, Braun & Millidge (2022), MMCS.
    """
    unit = lambda w: w / jnp.linalg.norm(w, axis=-1, keepdims=True)
    return (unit(features) @ unit(learned).T).max(-1).mean()


def fvu_of_largest(decode: Callable[[Any], Any], z: Any, x: Any, counts: Any) -> np.ndarray:
    """FVU if each example keeps only its n largest units, for each n of `counts`. -> [len(counts)].

    `decode` takes codes [N, K] and gives examples.
    """
    rank = np.argsort(np.argsort(-np.asarray(z), axis=1, kind="stable"), axis=1)
    return np.asarray([float(fvu(decode(np.where(rank < n, z, 0)), x)) for n in counts])


def most_active(z: Any, unit: int, n: int = 8) -> np.ndarray:
    """The numbers of the n examples with the largest activations of a unit, largest first.

    They are fewer if the unit is active for fewer examples. Raises ValueError for a unit that z [N, K] lacks, and for n
    below 1.
    """
    z = np.asarray(z)
    check_whole(0, unit=unit)
    check_whole(n=n)
    if unit >= z.shape[1]:
        raise ValueError(f"unit is {unit}; the codes have the units 0 to {z.shape[1] - 1}")
    of = z[:, unit]
    order = np.argsort(-of, kind="stable")[:n]
    return order[of[order] > 0]
