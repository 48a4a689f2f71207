"""Bounds on log p(x) by weighted draws of the code, as rows of one table, and one rule for all their gradients.

A draw z ~ q(z | x) has the weight w = p(x, z) / q(z | x). The log-weights of S draws are log w, [S, B], in nats.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import check_choice
from ..core import Params

EstimatorName = Literal["elbo", "stl", "iwae", "dreg", "miwae", "piwae", "ciwae"]
GROUPED = ("miwae", "piwae")  # the rows whose draws come in groups


class Estimator(NamedTuple):
    """A bound, and the weights of the draws in its gradient: functions of log w, [S, B]."""

    value: Callable[[Array], Array]  # the bound, [B]
    model: Callable[[Array], Array]  # weights of the draws in the gradient of p(x, z), [S, B]
    code: Callable[[Array], Array]  # weights of the draws in the gradient of q(z | x), [S, B]
    held: bool = False  # q learns through z alone: the params of log q are constants


def log_mean(log_w: Array, axis: int = 0) -> Array:
    """The log of the mean weight over an axis."""
    return jax.nn.logsumexp(log_w, axis) - jnp.log(jnp.asarray(log_w.shape[axis], log_w.dtype))


def share(log_w: Array, axis: int = 0) -> Array:
    """Each weight divided by the sum of the weights along an axis."""
    return jax.nn.softmax(log_w, axis)


def even(log_w: Array) -> Array:
    """Equal weights, [S, B]."""
    return jnp.full_like(log_w, 1 / len(log_w))


def estimator(name: EstimatorName, samples: int, groups: int | None = None, beta: float | Array = 0.0) -> Estimator:
    """The row of the table called `name`.

    Args:
        name: name of the row.
        samples: draws of the code of each example, S.
        groups: miwae and piwae: the number of groups M, each of S / M consecutive draws.
        beta: ciwae: the weight of the ELBO; the importance-weighted bound has the weight 1 - beta.
    Raises ValueError for another name, and for groups that do not divide the samples.
    """
    if name in GROUPED and (groups is None or samples % groups):
        fit = [m for m in range(1, samples + 1) if samples % m == 0]
        raise ValueError(
            f"groups is {groups}, and the {samples} samples of estimator {name} come in groups of one size: give one "
            f"of {', '.join(map(str, fit))}"
        )
    split = lambda log_w: log_w.reshape(groups or 1, -1, *log_w.shape[1:])  # [M, S / M, B]
    mean = lambda log_w: log_w.mean(0)
    of_groups = lambda log_w: log_mean(split(log_w), 1).mean(0)
    in_groups = lambda log_w: (share(split(log_w), 1) / (groups or 1)).reshape(log_w.shape)
    mixed = lambda log_w: beta * mean(log_w) + (1 - beta) * log_mean(log_w)
    mixed_share = lambda log_w: beta * even(log_w) + (1 - beta) * share(log_w)
    table = {
        "elbo": Estimator(mean, even, even),  # Kingma & Welling (2014), arXiv:1312.6114
        "stl": Estimator(mean, even, even, held=True),  # sticking the landing, Roeder et al. (2017), arXiv:1703.09194
        "iwae": Estimator(log_mean, share, share),  # Burda et al. (2016), arXiv:1509.00519, eq. (8)
        "dreg": Estimator(log_mean, share, lambda w: jnp.square(share(w)), held=True),  # Tucker et al., 1810.04152
        # these three: Rainforth et al. (2018), arXiv:1802.04537
        "miwae": Estimator(of_groups, in_groups, in_groups),
        "piwae": Estimator(log_mean, share, in_groups),
        "ciwae": Estimator(mixed, mixed_share, mixed_share),
    }
    check_choice("estimator", name, table)
    return table[name]


def teach(
    row: Estimator, joint: Callable[[Params, Array], tuple[Array, Array]], params: Params, z: Array, log_q: Array
) -> tuple[Array, Array, Array]:
    """The bound, [B], whose gradient weights the draws as the estimator says; and the two results of `joint`.

    Args:
        row: the estimator.
        joint: (params, z) -> -log p(x | z) and log p(z), each [S, B].
        params: the groups that learn; `joint` must not hold other arrays that learn.
        z: the draws, [S, B, K].
        log_q: log q(z | x), [S, B].
    """

    def weigh(params: Params, z: Array, log_q: Array) -> tuple[Array, tuple[Array, Array]]:
        nll, log_p = joint(params, z)
        return log_p - log_q - nll, (nll, log_p)

    @jax.custom_vjp
    def bound(params: Params, z: Array, log_q: Array):
        log_w, parts = weigh(params, z, log_q)
        return row.value(log_w), *parts

    def forward(params: Params, z: Array, log_q: Array):
        log_w, pull, parts = jax.vjp(weigh, params, z, log_q, has_aux=True)
        return (row.value(log_w), *parts), (pull, log_w)

    def backward(saved: Any, cotangents: Any):
        (pull, log_w), of_bound = saved, cotangents[0][None]  # [1, B]
        taught = pull(of_bound * row.model(log_w))
        of_draws = taught if row.code is row.model else pull(of_bound * row.code(log_w))
        return taught[0], *of_draws[1:]

    bound.defvjp(forward, backward)
    return bound(params, z, log_q)


def hold(log_prob: Callable[..., Array], params: Params, stats: Array, z: Array, log_q: Array) -> Array:
    """log q(z | x), [S, B], whose gradient passes through z alone: `log_prob` with constant params and `stats`."""
    held = log_prob(*lax.stop_gradient((params, stats)), z)
    return lax.stop_gradient(log_q - held) + held  # the value is log_q, by the noise: see `posteriors.gaussian`
