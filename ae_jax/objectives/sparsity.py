"""Forms of sparsity of a dictionary's codes: `form_of` makes one by its name.

Activations before the sparsity are a = W (x - b) + c, a code is z = s(a), and a reconstruction z D + b. A `Form` is s
with its penalty and its own params.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import check_choice
from ..core import Params
from ..distributions.sums import squared_error
from .recode import largest

FormName = Literal["topk", "batch_topk", "matryoshka", "l1", "april", "gated", "jumprelu"]
COUNTED = ("topk", "batch_topk", "matryoshka")  # forms that keep k units
WEIGHED = ("l1", "april", "gated", "jumprelu")  # forms with a penalty
DECAY = 0.95  # decay of the threshold's moving mean in one step
START = 1024  # the most examples that a threshold is measured on at the start


class Form(NamedTuple):
    """A form of sparsity: functions of params, a [B, K], z [B, K] and x [B, D]; sums over an example are [B]."""

    code: Callable[[Params, Array, bool], Array]  # (params, a, training) -> z
    penalty: Callable[[Params, Array, Array], Array] | None = None  # (params, a, z), before its weight
    beside: Callable[[Params, Array, Array, Array], Array] | None = None  # (params, a, z, x), added without a weight
    init: Callable[[Array], Params] = lambda a: {}  # a of some examples -> its own groups of params
    learned: tuple[str, ...] = ()  # its groups that are learned; each leaf has one number for each unit
    follow: Callable[[Params, Array], Params] = lambda params, z: {}  # (params, z) -> its other groups after a batch
    followed: tuple[str, ...] = ()  # the names of these
    unit_rows: bool = True  # whether the rows of D keep length 1


def form_of(name: FormName, units: int, k: int, widths: tuple[int, ...], bandwidth: float | Array) -> Form:
    """The form called `name`, for a code of `units` units. Raises ValueError for another name, and for bad widths."""
    relu, sum_units = lambda params, a, train: jax.nn.relu(a), lambda params, a, z: z.sum(-1)
    kept = Form(partial(_code, k), init=partial(_first, k), follow=_follow, followed=("threshold",))
    jump_at = lambda params, a, train: jump(a, params["threshold"][None], bandwidth)
    count = lambda params, a, z: step(a, params["threshold"][None], bandwidth).sum(-1)
    forms: dict[str, Callable[[], Form]] = {
        # Gao et al. (2024), arXiv:2406.04093
        "topk": lambda: Form(lambda params, a, train: largest(jax.nn.relu(a), k, k)),
        "batch_topk": lambda: kept,  # Bussmann, Leask & Nanda (2024), arXiv:2412.06410
        # Bussmann et al. (2025), arXiv:2503.17547
        "matryoshka": lambda: kept._replace(beside=partial(_prefixes, checked_widths(widths, units))),
        "l1": lambda: Form(relu, sum_units),  # Bricken et al. (2023); Cunningham et al. (2023), arXiv:2309.08600
        # Conerly et al. (2024), "Update on how we train SAEs", April: the penalty sees the rows' lengths
        "april": lambda: Form(relu, lambda params, a, z: z @ jnp.linalg.norm(rows(params), axis=-1), unit_rows=False),
        # Rajamanoharan et al. (2024), arXiv:2404.16014
        "gated": lambda: Form(
            code=_gated,
            penalty=lambda params, a, z: jax.nn.relu(a).sum(-1),
            beside=_by_gate,
            init=_gate,
            learned=("gate",),
        ),
        # Rajamanoharan et al. (2024), arXiv:2407.14435; the threshold itself is learned, as its logarithm hardly moves
        "jumprelu": lambda: Form(jump_at, count, init=partial(_thresholds, bandwidth), learned=("threshold",)),
    }
    check_choice("form", name, forms)
    return forms[name]()


def rows(params: Params) -> Array:
    """The dictionary D, [K, D]. Raises ValueError for params of a network that has none."""
    encoder, decoder = params["encoder"], params["decoder"]
    if set(encoder) != {"layer_0"} or set(decoder) != {"layer_0"}:
        raise ValueError(
            "a dictionary is one linear layer each way, and not tied: build its network by networks.linear(shape, "
            "latents), --network linear on the command line"
        )
    return decoder["layer_0"]["kernel"]


def centre(params: Params) -> Array:
    """The decoder's bias b, flat: [D]."""
    return params["decoder"]["layer_0"]["bias"]


# .......................................................................................... BatchTopK


def _of_batch(k: int, a: Array) -> Array:
    """relu(a) with all but its k B largest entries 0. [B, K] -> [B, K]."""
    return largest(jax.nn.relu(a).reshape(1, -1), k * len(a), k * len(a)).reshape(a.shape)


def _code(k: int, params: Params, a: Array, train: bool) -> Array:
    """In training the k B largest of a batch; else all above the threshold, so that a code depends on its x alone."""
    return _of_batch(k, a) if train else jnp.where(a > params["threshold"], jax.nn.relu(a), 0)


def _least(z: Array) -> Array:
    """The least entry above 0; infinite if there is none."""
    return jnp.where(z > 0, z, jnp.inf).min()


def _first(k: int, a: Array) -> Params:
    least = _least(_of_batch(k, a))
    return {"threshold": jnp.where(jnp.isfinite(least), least, 0)}


def _follow(params: Params, z: Array) -> Params:
    old, least = params["threshold"], lax.stop_gradient(_least(z))
    return {"threshold": jnp.where(jnp.isfinite(least), DECAY * old + (1 - DECAY) * least, old)}


def checked_widths(widths: tuple[int, ...], units: int) -> tuple[int, ...]:
    """The widths that are shorter than the code; by default they double from a sixteenth of it.

    Raises ValueError unless the widths rise, to at most the whole code.
    """
    widths = widths or tuple(sorted({max(1, units >> i) for i in range(1, 5)}))
    if list(widths) != sorted({*widths}) or widths[-1] > units:
        raise ValueError(f"widths are {widths}; they must rise, to at most the code's {units} units")
    return tuple(width for width in widths if width < units)


def _prefixes(widths: tuple[int, ...], params: Params, a: Array, z: Array, x: Array) -> Array:
    """The squared errors of reconstructions by the first units alone, summed over the widths of these prefixes."""
    edges = (0, *widths)
    parts = [z[:, m:n] @ rows(params)[m:n] for m, n in zip(edges, widths, strict=False)]
    sums = jnp.cumsum(jnp.stack(parts), 0) + centre(params)[None, None] if parts else jnp.zeros((0, *x.shape), x.dtype)
    return jnp.square(sums - x[None]).sum((0, -1))


# .............................................................................................. Gated


def _gate(a: Array) -> Params:
    zeros = jnp.zeros(a.shape[1:], a.dtype)
    return {"gate": {"scale": zeros, "bias": zeros}}  # r and b_mag


def _gated(params: Params, a: Array, train: bool) -> Array:
    """1[p > 0] relu(e^r W (x - b) + b_mag), p = a; section 3.2, eqs. (6) and (7)."""
    gate, c = params["gate"], params["encoder"]["layer_0"]["bias"]
    size = jax.nn.relu(jnp.exp(gate["scale"])[None] * (a - c[None]) + gate["bias"][None])
    return jnp.where(a > 0, size, 0)


def _by_gate(params: Params, a: Array, z: Array, x: Array) -> Array:
    """||x - relu(p) D - b||^2, which teaches the gate and not the decoder; eq. (8)."""
    fixed = lax.stop_gradient(params["decoder"]["layer_0"])
    return squared_error(jax.nn.relu(a) @ fixed["kernel"] + fixed["bias"][None], x)


# ........................................................................................... JumpReLU


def _thresholds(bandwidth: float | Array, a: Array) -> Params:
    return {"threshold": jnp.full(a.shape[1:], bandwidth, a.dtype)}


def _near(a: Array, threshold: Array, width: float | Array) -> Array:
    return jnp.abs(a - threshold) < width / 2


@jax.custom_jvp
def jump(a: Array, threshold: Array, width: float | Array) -> Array:
    """a above the threshold, else 0. d/d threshold is -threshold / width for |a - threshold| < width / 2; eq. (11)."""
    return jnp.where(a > threshold, a, 0)


@jump.defjvp
def _jump(given, moved):
    a, threshold, width = given
    slope = jnp.where(_near(a, threshold, width), -threshold / width, 0)
    return jump(a, threshold, width), jnp.where(a > threshold, moved[0], 0) + slope * moved[1]


@jax.custom_jvp
def step(a: Array, threshold: Array, width: float | Array) -> Array:
    """1 above the threshold, else 0. d/d threshold is -1 / width for |a - threshold| < width / 2; eq. (12)."""
    return (a > threshold).astype(a.dtype)


@step.defjvp
def _step(given, moved):
    a, threshold, width = given
    return step(a, threshold, width), jnp.where(_near(a, threshold, width), -1 / width, 0) * moved[1]
