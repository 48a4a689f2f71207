"""Networks as pure functions. This package alone imports Flax; all others use an `Autoencoder`."""

from collections.abc import Callable

from ..core import Autoencoder
from .common import ACTIVATIONS, activation, join, log_inputs, pair, residual, trained
from .conv import conv
from .conv1d import conv1d
from .functions import from_nets
from .mlp import linear, mlp, rbm
from .precision import PrecisionName, rounded
from .stack import layers_of, stack, stacked, unrolled

NETWORKS: dict[str, Callable[..., Autoencoder]] = {
    "mlp": mlp,
    "linear": linear,
    "conv": conv,
    "conv1d": conv1d,
    "rbm": rbm,
}

__all__ = [
    "ACTIVATIONS",
    "NETWORKS",
    "PrecisionName",
    "activation",
    "conv",
    "conv1d",
    "from_nets",
    "join",
    "layers_of",
    "linear",
    "log_inputs",
    "mlp",
    "pair",
    "rbm",
    "residual",
    "rounded",
    "stack",
    "stacked",
    "trained",
    "unrolled",
]
