"""Autoencoders in JAX, every member of the family, as pure functions.

`core` has the types and combinators; `networks` makes an `Autoencoder`, `algorithms` an `Algorithm` of it,
`data` a dataset; `run` trains into a folder, `evaluation` measures, `report` and `plots` show.
"""

from . import algorithms, corruption, data, losses, networks, optimizers, plots, stages
from .algorithms import (
    ALGORITHMS,
    adversarial,
    adversarial_labels,
    autoencoder,
    classifier,
    contractive,
    dec,
    denoising,
    iwae,
    k_sparse,
    made,
    sparse,
    vae,
)
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

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Autoencoder",
    "Batch",
    "Loss",
    "Rule",
    "adversarial",
    "adversarial_labels",
    "algorithms",
    "assign",
    "augment",
    "autoencoder",
    "average",
    "chain",
    "classifier",
    "contractive",
    "corrupted",
    "corruption",
    "data",
    "dec",
    "denoising",
    "descend",
    "each",
    "epoch",
    "fit",
    "iwae",
    "k_sparse",
    "losses",
    "made",
    "networks",
    "optimizers",
    "plots",
    "repeat",
    "sparse",
    "stages",
    "start",
    "sweep",
    "vae",
]
