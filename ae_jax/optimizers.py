"""Optimizers that optax lacks: several line-search steps on one batch, as L-BFGS needs; conjugate gradients; a momentum
that rises.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from .checks import POSITIVE
from .core import Optimizer


def repeated(optimizer: Optimizer, times: int, fresh: bool = False) -> Optimizer:
    """`times` steps of an optimizer with a line search, such as optax.lbfgs(), in one update on the same batch.

    A search begins with the value and gradient at which the last one ended. Separate updates would compute both again,
    which about doubles the evaluations of the loss. All steps draw the noise of the loss with the same key, so a search
    compares values of one function.

    Args:
        optimizer: its state keeps `value` and `grad`, as those of optax's line searches do.
        times: number of steps in an update.
        fresh: begin each update with a new state, as each batch is another function; no state is kept between updates.

    Raises:
        ValueError: fewer than one step.
    """
    if times < 1:
        raise ValueError(f"times is {times}; an update needs at least 1 step")
    once = optax.with_extra_args_support(optimizer)

    def update(updates, state, params: Any = None, **search):
        rest = {name: given for name, given in search.items() if name not in ("value", "grad")}

        def step(carry, _):
            at, state, value, grad = carry
            change, state = once.update(grad, state, at, value=value, grad=grad, **rest)
            at = optax.apply_updates(at, change)
            return (at, state, optax.tree.get(state, "value"), optax.tree.get(state, "grad")), None

        begun = once.init(params) if fresh else state
        # a search keeps the value in the dtype of its state, which is that of the params
        value = search["value"].astype(optax.tree.get(begun, "value").dtype)
        (end, ended, *_), _ = lax.scan(step, (params, begun, value, updates), length=times)
        return jax.tree.map(lambda a, b: a - b, end, params), state if fresh else ended

    init = (lambda params: optax.EmptyState()) if fresh else once.init
    return optax.GradientTransformationExtraArgs(init, update)


class Search(NamedTuple):
    """Where the last line search began, and its direction; zeros before the first."""

    at: Any  # params
    gradient: Any
    direction: Any


def conjugate_gradients(searches: int = 3, curvature: float = 0.5) -> Optimizer:
    """`searches` line searches on each batch along conjugate directions, which restart on the next batch.

    Polak & Ribiere (1969). Hinton & Salakhutdinov (2006) fine-tune with 3 searches on batches of 1,000 images. Their
    searches end, as here, once at most half of the initial slope is left; the line search itself is optax's.

    Args:
        searches: number of line searches on each batch.
        curvature: the largest fraction of its initial slope that may be left where a search ends.

    Raises:
        ValueError: no searches, or a curvature that is not between 0 and 1.
    """
    if searches < 1 or not 0 < curvature < 1:
        raise ValueError(f"searches is {searches} and curvature {curvature}; wanted: 1 or more, and between 0 and 1")
    search = optax.scale_by_zoom_linesearch(20, slope_rtol=0.01, curv_rtol=curvature, initial_guess_strategy="one")
    dot: Callable[[Any, Any], Array] = lambda a, b: jnp.asarray(optax.tree.vdot(a, b))

    def init(params):
        return Search(*[optax.tree.zeros_like(params)] * 3)

    def update(updates, state, params=None, **_):
        now, before = dot(updates, updates), dot(state.gradient, state.gradient)
        new = jnp.maximum(now - dot(updates, state.gradient), 0)
        beta = jnp.where(before > 0, new / jnp.where(before > 0, before, 1), 0)  # Nocedal & Wright (2006), eq. (5.45)
        direction = jax.tree.map(lambda d, g: beta * d - g, state.direction, updates)
        slope = dot(direction, updates)
        direction = jax.tree.map(lambda d, g: jnp.where(slope < 0, d, -g), direction, updates)
        slope = jnp.where(slope < 0, slope, -now)
        # The first step tried has the first-order decrease of the last step: section 3.5 there.
        promised = dot(state.gradient, jax.tree.map(jnp.subtract, params, state.at))
        flat = jnp.finfo(slope.dtype).tiny
        step = jnp.where(promised < 0, promised / jnp.minimum(slope, -flat), 1 / (1 - slope))
        return jax.tree.map(lambda d: step * d, direction), Search(params, updates, direction)

    directions = optax.GradientTransformationExtraArgs(init, update)
    return repeated(optax.chain(directions, search), searches, fresh=True)


def momentum(learning_rate: float, switch: int, before: float = 0.5, after: float = 0.9) -> Optimizer:
    """dW <- m dW - learning_rate * gradient; W <- W + dW, where m is `before` for `switch` updates, then `after`.

    The released code of Hinton & Salakhutdinov (2006) has 5 epochs of 0.5, then 0.9. Raises ValueError for a learning
    rate that is not positive, a negative `switch`, and a momentum outside [0, 1).
    """
    POSITIVE.check("learning_rate", learning_rate)
    if switch < 0 or not (0 <= before < 1 and 0 <= after < 1):
        given = f"switch is {switch}, before {before}, after {after}"
        raise ValueError(f"{given}; wanted: a number of updates from 0 on, and momenta of at least 0 and less than 1")
    schedule = lambda step: jnp.where(step < switch, before, after)
    return optax.inject_hyperparams(optax.sgd)(learning_rate, momentum=schedule)
