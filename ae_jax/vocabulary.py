"""What `import ae_jax` offers by name, see there."""

# ruff: noqa: F401, F403
from . import algorithms, corruption, data, losses, networks, optimizers, plots, stages
from .algorithms import *
from .core import (
    Algorithm,
    Autoencoder,
    Batch,
    Loss,
    Rule,
    address,
    assign,
    augment,
    average,
    chain,
    descend,
    each,
    epoch,
    fit,
    repeat,
    start,
    sweep,
)
from .corruption import corrupted
