"""Autoencoders in JAX, every member of the family, as pure functions.

`core` has the types and combinators; `networks` makes an `Autoencoder`, `algorithms` an `Algorithm` of it,
`data` a dataset; `run` trains into a folder, `evaluation` measures, `report` and `plots` show.
"""

# ruff: noqa: F401, F403
from . import algorithms, corruption, data, losses, networks, optimizers, plots, stages
from .algorithms import *
from .core import (
    Algorithm,
    Autoencoder,
    Batch,
    Loss,
    Rule,
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

__version__ = "0.1.0"
