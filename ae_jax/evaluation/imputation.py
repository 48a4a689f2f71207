"""Missing values filled in by a trained autoencoder, by repeated reconstructions or by draws from the posterior.

Draws: Rezende, Mohamed and Wierstra (2014), arXiv:1401.4082, appendix F. A chain draws a code of the filled example,
then missing values given the code, and repeats.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from ..checks import check_whole
from ..core import Algorithm, Key, Params, address


class Imputed(NamedTuple):
    """Examples with their missing values filled in."""

    x: Array  # [N, *shape]
    change: Array  # [N], root mean square of the change of an example's missing values; see the functions
    steps: Array  # [], the number of steps made


def by_reconstruction(
    algorithm: Algorithm, params: Params, x: Array, missing: Array, *, steps: int = 1000, tolerance: float = 1e-4
) -> Imputed:
    """Replaces missing values by their reconstruction until no example changes by more than the tolerance.

    Repeated reconstructions may diverge. Each example therefore keeps the values of the last step at which the squared
    error of its known values was at most 1.001 times the least so far.

    Args:
        algorithm: the trained algorithm.
        params: its params.
        x: [N, *shape], with a first guess, such as the training mean, in place of missing values.
        missing: which values are missing, [N, *shape] booleans.
        steps: number of reconstructions, at most.
        tolerance: for `Imputed.change`, the change in the last step.
    """
    check_whole(steps=steps)

    def step(state: tuple[Imputed, Array, Array]) -> tuple[Imputed, Array, Array]:
        last, best, least = state
        again = algorithm.reconstruct(params, last.x)
        filled = jnp.where(missing, again, last.x)
        error = jnp.square(root_mean_square(again - last.x, ~missing))  # of the known values, [N]
        kept = (error <= 1.001 * least).reshape(-1, *[1] * (x.ndim - 1))
        change = root_mean_square(filled - last.x, missing)
        return Imputed(filled, change, last.steps + 1), jnp.where(kept, filled, best), jnp.fmin(error, least)

    def going(state: tuple[Imputed, Array, Array]) -> Array:
        change = state[0].change
        return (state[0].steps < steps) & (jnp.isfinite(change) & (change > tolerance)).any()

    most = jnp.full(len(x), jnp.finfo(x.dtype).max, x.dtype)
    last, best, _ = lax.while_loop(going, step, (Imputed(x, most, jnp.zeros((), jnp.int32)), x, most / 2))
    return last._replace(x=best)


def by_posterior(
    algorithm: Algorithm,
    params: Params,
    x: Array,
    missing: Array,
    key: Key,
    *,
    burn: int = 100,
    steps: int = 1000,
    bounds: tuple[Array, Array] | None = None,
    batch_size: int = 500,
) -> Imputed:
    """The mean of the missing values given the others, over a chain of draws of codes and missing values.

    With the exact posterior the chain's stationary distribution is p(missing | others); with an approximate posterior
    it is another one nearby. `Imputed.change` is the difference of the means over the first and the second half of the
    steps.

    Args:
        algorithm: the trained algorithm, which needs a `transition`.
        params: its params.
        x: [N, *shape], with a first guess in place of missing values.
        missing: which values are missing, [N, *shape] booleans.
        key: example i has `address(key, "example", i)`.
        burn: steps before the mean begins.
        steps: of the mean, at least 2.
        bounds: the least and the largest value of each dimension, [*shape], such as those of the training data. Draws
            and means of missing values are clipped to them. Without bounds the chain of an approximate posterior may
            diverge.
        batch_size: examples at once; it changes only the memory needed.

    Raises ValueError for an algorithm without a transition.
    """
    if algorithm.transition is None:
        raise ValueError("this algorithm has no posterior to draw from: fill in by its reconstructions")
    check_whole(burn=burn, least=0)
    check_whole(steps=steps, least=2)
    transition, halves = algorithm.transition, (steps // 2, steps - steps // 2)
    held = (lambda x: x) if bounds is None else lambda x: jnp.clip(x, *bounds)

    def one(example: tuple[Array, Array, Array]) -> Imputed:
        i, x, missing = example
        key_steps = address(key, "example", i, "step")

        def walk(x: Array, first: int, count: int) -> tuple[Array, Array]:
            def step(carry: tuple[Array, Array], t: Array) -> tuple[tuple[Array, Array], None]:
                x, total = carry
                draw, mean = transition(params, x[None], address(key_steps, t))
                return (jnp.where(missing, held(draw[0]), x), total + held(mean[0])), None

            return lax.scan(step, (x, jnp.zeros_like(x)), first + jnp.arange(count))[0]

        walked, _ = walk(x, 0, burn)
        walked, early = walk(walked, burn, halves[0])
        _, late = walk(walked, burn + halves[0], halves[1])
        mean, apart = (early + late) / steps, early / halves[0] - late / halves[1]
        change = root_mean_square(apart[None], missing[None])[0]
        return Imputed(jnp.where(missing, mean, x), change, jnp.asarray(burn + steps))

    found = lax.map(one, (jnp.arange(len(x)), x, missing), batch_size=min(batch_size, len(x)))
    return found._replace(steps=found.steps[0])


def root_mean_square(values: Array, missing: Array) -> Array:
    """The root mean square over the missing values of each example; 0 if none is missing. [N, *shape] -> [N]."""
    flat = lambda a: a.reshape(len(a), -1)
    total = jnp.square(jnp.where(flat(missing), flat(values), 0)).sum(1)
    return jnp.sqrt(total / jnp.maximum(flat(missing).sum(1), 1))
