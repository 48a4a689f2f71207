"""Optimizers that optax lacks: several line-search steps on one batch, as L-BFGS needs; a momentum that rises."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from .checks import POSITIVE
from .core import Optimizer


def repeated(optimizer: Optimizer, times: int) -> Optimizer:
    """`times` steps of an optimizer with a line search, such as optax.lbfgs(), in one update on the same batch.

    The value and gradient where one search ends begin the next. Separate updates would
    compute both again, which about doubles the evaluations of the loss. All steps draw the noise of the loss with the
    same key, so that a search compares values of one function.

    Args:
        optimizer: its state keeps `value` and `grad`, as those of optax's line searches do.
        times: steps in an update.

    Raises:
        ValueError: fewer than one step.
    """
    if times < 1:
        raise ValueError(f"times is {times}; an update needs at least 1 step")
    once = optax.with_extra_args_support(optimizer)

    def update(updates, state, params=None, **search):
        rest = {name: given for name, given in search.items() if name not in ("value", "grad")}

        def step(carry, _):
            at, state, value, grad = carry
            change, state = once.update(grad, state, at, value=value, grad=grad, **rest)
            at = optax.apply_updates(at, change)
            return (at, state, optax.tree.get(state, "value"), optax.tree.get(state, "grad")), None

        # a search keeps the value in the dtype of its state, which is that of the params
        value = search["value"].astype(optax.tree.get(state, "value").dtype)
        (end, state, *_), _ = lax.scan(step, (params, state, value, updates), length=times)
        return jax.tree.map(lambda a, b: a - b, end, params), state

    return optax.GradientTransformationExtraArgs(once.init, update)


def momentum(learning_rate: float, switch: int, before: float = 0.5, after: float = 0.9) -> Optimizer:
    """dW <- m dW - learning_rate * gradient; W <- W + dW, where m is `before` for `switch` updates, then `after`.

    The released code of Hinton & Salakhutdinov (2006): 5 epochs of 0.5, then 0.9.
    """
    POSITIVE.check("learning_rate", learning_rate)
    if switch < 0 or not (0 <= before < 1 and 0 <= after < 1):
        given = f"switch is {switch}, before {before}, after {after}"
        raise ValueError(f"{given}; wanted: a number of updates from 0 on, and momenta of at least 0 and less than 1")
    schedule = lambda step: jnp.where(step < switch, before, after)
    return optax.inject_hyperparams(optax.sgd)(learning_rate, momentum=schedule)
