"""Importance-sampled log-likelihood. Rezende et al. (2014), appendix E; Burda et al. (2016), eq. (8)."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Algorithm, Batch, Key, Params, address


def log_likelihood(
    algorithm: Algorithm,
    params: Params,
    data: Batch,
    key: Key,
    samples: int,
    chunk: int = 50,
    batch_size: int = 100,
) -> Array:
    """Estimates log p(x) in nats, [N], by log 1/k sum_s w_s with w_s = p(x, z_s) / q(z_s | x), z_s ~ q(z | x).

    In expectation the estimate is a lower bound, which rises to log p(x) with k. Sample s of example i has the key
    `address(key, "example", i, "sample", s)`, so `chunk` (samples at once) and `batch_size` (examples at once) change
    only memory and rounding; exactly `samples` are drawn. Parts that do not depend on the sample, such as the encoder,
    are computed once for each chunk.

    Raises ValueError for an algorithm without `log_weight`, or no samples.
    """
    if algorithm.log_weight is None:
        raise ValueError(
            "this algorithm has no log_weight, so no likelihood can be estimated; vae and importance have one"
        )
    if samples < 1 or chunk < 1:
        raise ValueError(f"samples is {samples} and chunk {chunk}; both must be at least 1")
    log_weight, count = algorithm.log_weight, len(data.x)
    key_examples = address(key, "example")
    # Chunks of nearly equal size: often there is no shorter last chunk, which would be compiled too.
    chunk, batch_size = _even(samples, chunk), _even(count, batch_size)
    full, rest = divmod(samples, chunk)

    def one(example: tuple[Array, Batch]) -> Array:
        i, (x, y) = example
        batch = Batch(x[None], None if y is None else y[None])
        key_samples = address(key_examples, i, "sample")

        def add(total: Array, first: Array | int, count: int) -> Array:
            keys = jax.vmap(lambda s: address(key_samples, s))(first + jnp.arange(count))
            log_w = jax.vmap(lambda k: log_weight(params, batch, k)[0])(keys)  # [count]
            return jnp.logaddexp(total, jax.nn.logsumexp(log_w))

        nothing = jnp.full((), -jnp.inf, jax.eval_shape(lambda: log_weight(params, batch, key)).dtype)
        total, _ = lax.scan(lambda total, c: (add(total, c * chunk, chunk), None), nothing, jnp.arange(full))
        if rest:
            total = add(total, full * chunk, rest)
        return total - math.log(samples)

    return lax.map(one, (jnp.arange(count), data), batch_size=batch_size)


def _even(count: int, most: int) -> int:
    """The size of equal parts of `count`, as few as fit with at most `most` in each; the last may be smaller."""
    return -(-count // -(-count // most))
