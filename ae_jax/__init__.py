"""Autoencoders in JAX, every member of the family, as pure functions.

`core` has the types and combinators; `networks` makes an `Autoencoder`, `algorithms` an `Algorithm` of it,
`data` a dataset; `run` trains into a folder, `evaluation` measures, `report` and `plots` show.

Names are imported when they are first asked for: `ae_jax.index` searches without an algorithm or network being loaded.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what these names are; `__getattr__` finds them when they are asked for
    from . import algorithms, corruption, data, losses, networks, optimizers, plots, stages
    from .algorithms import (
        ALGORITHMS,
        adversarial,
        adversarial_labels,
        adversarial_style,
        autoencoder,
        classifier,
        contractive,
        dec,
        denoising,
        iwae,
        k_sparse,
        made,
        rbm,
        semantic_hashing,
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
    "adversarial_style",
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
    "rbm",
    "repeat",
    "semantic_hashing",
    "sparse",
    "stages",
    "start",
    "sweep",
    "vae",
]

MODULES = ("algorithms", "corruption", "data", "losses", "networks", "optimizers", "plots", "stages")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in MODULES:
        return importlib.import_module(f".{name}", __name__)
    modules = (importlib.import_module(f".{module}", __name__) for module in ("core", "corruption", "algorithms"))
    value = globals()[name] = next(getattr(module, name) for module in modules if hasattr(module, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
