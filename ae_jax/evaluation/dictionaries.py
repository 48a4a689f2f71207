"""Comparing a learned dictionary with the features that made the data."""

import jax.numpy as jnp
from jax import Array


def max_cosine(features: Array, learned: Array) -> Array:
    """Mean over true features [M, D] of the largest cosine with a learned one [K, D]. -> [].

    1 where every feature was found, in any order. Sharkey, Braun & Millidge (2022), MMCS.
    """
    unit = lambda w: w / jnp.linalg.norm(w, axis=-1, keepdims=True)
    return (unit(features) @ unit(learned).T).max(-1).mean()
