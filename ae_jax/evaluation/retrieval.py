"""Search by codes: nearest neighbours, binary codes as addresses, and metrics of rankings.

Salakhutdinov & Hinton (2009), "Semantic hashing", Int. J. Approximate Reasoning 50: short binary codes are memory
addresses, and examples that resemble a query have addresses that differ in few bits. Rankings: Manning, Raghavan &
Schütze (2008), "Introduction to Information Retrieval", chapter 8.
"""

from functools import lru_cache, partial
from itertools import combinations
from math import comb
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ..checks import check_finite
from ..distributions.distances import by_differences, in_blocks
from ..xla.barriers import at_least_float32

LONGEST = 64  # bits of an address


def nearest(base: Array, queries: Array, k: int) -> tuple[Array, Array]:
    """The k codes of `base` nearest to each query by Euclidean distance, nearest first; of equals, the earlier first.

    One matrix product gives lower bounds of the distances, which choose a few more candidates than k. Exact differences
    then give the distances of the candidates; if a bound does not exclude another code, those of all codes. Memory: the
    codes and about 64 MiB. For the cosine, see `by_cosine`.

    Args:
        base: [N, K].
        queries: [Q, K].
        k: how many, from 1 to N.

    Returns:
        places in base [Q, k], and distances [Q, k].

    Raises ValueError for another k, and for codes that are not finite.
    """
    check_finite(base=base, queries=queries)
    return _nearest(base, queries, k)


@partial(jax.jit, static_argnames="k")
@jax.default_matmul_precision("highest")
def _nearest(base: Array, queries: Array, k: int) -> tuple[Array, Array]:
    count = len(base)
    if not 1 <= k <= count:
        raise ValueError(f"{k} neighbours of {count} codes; it must be from 1 to {count}")
    base, queries = at_least_float32(base), at_least_float32(queries)
    some = min(k + 8, count)
    centre = base.mean(0)
    moved = base - centre
    rounding = 8 * jnp.finfo(base.dtype).eps  # of a squared distance, relative to the squared lengths
    half = (0.5 - rounding) * jnp.square(moved).sum(-1)

    def measured(codes: Array) -> tuple[Array, Array]:
        squared, best = lax.top_k(-by_differences(codes, base), k)
        return best, -squared

    def search(codes: Array) -> tuple[Array, Array]:  # [q, K]
        here = codes - centre
        scores = here @ moved.T - half  # (|c|^2 - |b - c|^2) / 2, at most
        least, near = lax.optimization_barrier(lax.top_k(scores, some))  # else XLA sorts all, for the last score alone
        near = jnp.sort(near, -1)  # among equal distances the earlier code comes first
        squared, best = lax.top_k(-jnp.square(base[near] - codes[:, None]).sum(-1), k)
        picked = jnp.take_along_axis(near, best, -1), -squared
        if some == count:
            return picked
        others = (1 - 2 * rounding) * jnp.square(here).sum(-1) - 2 * least[:, -1]  # a lower bound for all other codes
        return lax.cond((-squared[:, -1] < others).all(), lambda: picked, lambda: measured(codes))

    most = max(count, some * base.shape[1])  # numbers a query needs at once
    places, squared = in_blocks(search if base.shape[1] > 4 else measured, queries, max(1, 2**24 // most))
    return places, jnp.sqrt(squared)


def unit(codes: Array) -> Array:
    """Codes at unit length; zero stays zero. [N, K] -> [N, K]."""
    largest = jnp.abs(codes).max(-1, keepdims=True)
    codes = codes / jnp.where(largest > 0, largest, 1)  # squares then neither underflow nor overflow
    length = jnp.linalg.norm(codes, axis=-1, keepdims=True)
    return codes / jnp.where(length > 0, length, 1)


def by_cosine(base: Array, queries: Array, k: int) -> tuple[Array, Array]:
    """The k codes of `base` with the largest cosine to each query, largest first; of equals, the earlier first.

    A code of zeros has no direction. It comes after all others, at distance 2, that of opposite directions. A query of
    zeros is at distance 2 from all codes.

    Args:
        base: [N, K].
        queries: [Q, K].
        k: how many, from 1 to N.

    Returns:
        places in base [Q, k], and 1 - cos, from 0 to 2, [Q, k].

    Raises ValueError for another k, and for codes that are not finite.
    """
    check_finite(base=base, queries=queries)
    directions = unit(base)
    dead = ~(directions != 0).any(-1)
    # one more dimension puts codes of zeros as far from all as opposite directions are
    apart = jnp.concatenate([directions, jnp.where(dead, jnp.sqrt(3.0001), 0)[:, None].astype(directions.dtype)], -1)
    asked = unit(queries)
    alive = (asked != 0).any(-1, keepdims=True)
    asked = jnp.concatenate([asked, jnp.zeros_like(asked[:, :1])], -1)
    places, distances = nearest(apart, asked, k)
    return places, jnp.where(alive, jnp.minimum(jnp.square(distances) / 2, 2), 2)


# ------------------------------------------------------------------------------------------- binary codes


def hyperplanes(key: Array, dimensions: int, bits: int) -> Array:
    """Normals of random hyperplanes through the origin, [D, K]. x @ normals > 0 are the bits of x, its side of each.

    A bit differs between two vectors with probability angle / pi: locality-sensitive hashing for the cosine, Charikar
    (2002), STOC, section 3.
    """
    return jax.random.normal(key, (dimensions, bits))


def thresholds(codes: np.ndarray) -> np.ndarray:
    """The median of each unit, a threshold that splits these codes in halves. [N, K] -> [K]."""
    return np.median(np.asarray(codes), 0)


def pack(bits: np.ndarray) -> np.ndarray:
    """Packs eight bits into a byte, the first bit as the highest. bool [N, K] -> uint8 [N, ceil(K / 8)]."""
    return np.packbits(np.asarray(bits, bool), axis=-1)


def hamming(queries: np.ndarray, base: np.ndarray) -> np.ndarray:
    """The number of bits that differ in each pair of packed codes. uint8 [Q, W], [N, W] -> int32 [Q, N].

    Raises ValueError for codes of different lengths.
    """
    if queries.shape[-1] != base.shape[-1]:
        raise ValueError(f"packed codes of {queries.shape[-1]} and {base.shape[-1]} bytes cannot be compared")
    distances = np.zeros((len(queries), len(base)), np.int32)
    for q, b in zip(queries.T, base.T, strict=True):  # a byte of all pairs at a time
        distances += np.bitwise_count(q[:, None] ^ b[None])
    return distances


class Addresses(NamedTuple):
    """A table of binary codes by address: the codes at an address are found without a search over the others."""

    bits: int  # K, at most LONGEST
    occupied: np.ndarray  # [A] uint64, the addresses in use, ascending
    first: np.ndarray  # [A + 1], address a holds members[first[a]:first[a + 1]]
    members: np.ndarray  # [N], places in the codes that were stored


def addresses(bits: np.ndarray) -> Addresses:
    """Stores binary codes by address. bool [N, K], K <= 64. Raises ValueError for longer ones."""
    keys = _keys(bits)
    members = np.argsort(keys, kind="stable")
    occupied, first = np.unique(keys[members], return_index=True)
    return Addresses(bits.shape[1], occupied, np.append(first, len(keys)), members)


def within(table: Addresses, query: np.ndarray, radius: int, most: int = 2_000_000) -> tuple[np.ndarray, np.ndarray]:
    """The codes at most `radius` flipped bits from a query: the Hamming ball around it.

    It looks up every address of the ball, sum over r of (K choose r), however many codes are stored.

    Args:
        table: the stored codes.
        query: bool [K].
        radius: bits that may differ.
        most: addresses that may be looked up.

    Returns:
        places in the stored codes, nearest first and of equals the earlier first, and their distances, both [M].

    Raises:
        ValueError: another length than that of the stored codes, or a ball of more addresses than `most`.
    """
    if query.shape != (table.bits,):
        raise ValueError(f"the query has the shape {query.shape}; the stored codes have {table.bits} bits")
    if (size := sum(comb(table.bits, r) for r in range(radius + 1))) > most:
        raise ValueError(
            f"a ball of radius {radius} in {table.bits} bits has {size:,} addresses; take a smaller radius, or "
            "none, and compare with all codes (`hamming`)"
        )
    (key,) = _keys(query[None])
    places, distances = [], []
    for r in range(radius + 1):
        sphere = key ^ _flips(table.bits, r)
        at = np.searchsorted(table.occupied, sphere)
        found = at[(at < len(table.occupied)) & (table.occupied[np.minimum(at, len(table.occupied) - 1)] == sphere)]
        here = np.sort(np.concatenate([table.members[table.first[a] : table.first[a + 1]] for a in found] or [[]]))
        places.append(here.astype(int))
        distances.append(np.full(len(here), r))
    return np.concatenate(places), np.concatenate(distances)


@lru_cache(maxsize=16)
def _flips(bits: int, radius: int) -> np.ndarray:
    """Every set of `radius` of the bits, as a number with these bits. -> uint64 [bits choose radius]."""
    flips = np.array([sum(1 << b for b in chosen) for chosen in combinations(range(bits), radius)], np.uint64)
    flips.flags.writeable = False
    return flips


def _keys(bits: np.ndarray) -> np.ndarray:
    """Bits as one number, the first bit as the lowest. bool [N, K] -> uint64 [N]."""
    if bits.ndim != 2 or bits.shape[1] > LONGEST:
        raise ValueError(
            f"binary codes have the shape {bits.shape}; as addresses they are [N, K], K at most {LONGEST}; compare "
            "longer ones with all (`hamming`)"
        )
    weights = np.left_shift(np.uint64(1), np.arange(bits.shape[1], dtype=np.uint64))
    return np.asarray(bits, bool).astype(np.uint64) @ weights


# ------------------------------------------------------------------------------------------------ rankings


def precision_at(relevant: np.ndarray, k: int) -> np.ndarray:
    """The share of the first k items that are relevant. bool [Q, M], in the order of retrieval, M >= k -> [Q].

    Raises ValueError for a k that is not from 1 to M.
    """
    if not 1 <= k <= relevant.shape[1]:
        raise ValueError(f"precision at {k} of rankings of {relevant.shape[1]}; it must be from 1 to that")
    return relevant[:, :k].mean(1)


def tied_precision_at(relevant: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
    """Precision at k if many distances are equal, as for short binary codes: the mean over all orders of equals.

    McSherry & Najork (2008), ECIR. bool [Q, N] and distances [Q, N] of the same items, in any order -> [Q]. Raises
    ValueError for a k that is not from 1 to N.
    """
    if not 1 <= k <= relevant.shape[1]:
        raise ValueError(f"precision at {k} of {relevant.shape[1]} distances; it must be from 1 to that")
    last = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]  # the distance of the k-th
    nearer, tied = distances < last, distances == last
    room = k - nearer.sum(1)
    return ((relevant & nearer).sum(1) + (relevant & tied).sum(1) * room / tied.sum(1)) / k


def average_precision(relevant: np.ndarray) -> np.ndarray:
    """The mean over relevant items of the precision at the item's rank; its mean over queries is the MAP.

    Whole rankings, bool [Q, N] -> [Q]; 0 if no item is relevant. It is scikit-learn's average_precision_score.
    """
    precision = np.cumsum(relevant, 1) / np.arange(1, relevant.shape[1] + 1)
    return (precision * relevant).sum(1) / np.maximum(relevant.sum(1), 1)
