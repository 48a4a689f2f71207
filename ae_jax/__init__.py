"""Autoencoders in JAX, every member of the family, as pure functions.

`core` has the types and combinators. `networks` makes an `Autoencoder`, `algorithms` makes an `Algorithm` of it, and
`data` loads a dataset. `training` trains into a folder, `evaluation` measures, `plots` draws.

A name is imported when it is first used, so `import ae_jax` is fast and a search of codes loads no algorithm.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .xla.compiler import set_compiler_flags

if TYPE_CHECKING:
    from . import algorithms, corruption, data, networks, optimizers, training  # noqa: F401
    from .algorithms import *  # noqa: F403
    from .app import plots  # noqa: F401
    from .app.run import load_run  # noqa: F401
    from .core import (  # noqa: F401
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
        epoch,
        evaluate_each,
        fit,
        repeat,
        start,
        sweep,
    )
    from .corruption import corrupted  # noqa: F401
    from .distributions import likelihoods  # noqa: F401
    from .training import run, stages  # noqa: F401

__version__ = "0.2.0"

set_compiler_flags()

FOLDERS = ("algorithms", "app", "data", "distributions", "evaluation", "networks", "objectives", "training", "xla")
FILES = ("checks", "core", "corruption", "errors", "optimizers")
OFFERED = {  # name -> the module that has it
    **dict.fromkeys(("Algorithm", "Autoencoder", "Batch", "Loss", "Rule"), "core"),
    **dict.fromkeys(("address", "assign", "augment", "average", "chain", "descend", "evaluate_each", "epoch"), "core"),
    **dict.fromkeys(("fit", "repeat", "start", "sweep"), "core"),
    "corrupted": "corruption",
    "load_run": "app.run",
    "run": "training",
    "likelihoods": "distributions",
    "plots": "app",
    "stages": "training",
}


def __getattr__(name: str) -> Any:
    module = lambda name: importlib.import_module(f".{name}", __name__)
    if name in FOLDERS or name in FILES:
        return module(name)
    if name == "__all__":
        return [*(n for n in FOLDERS if n not in ("app", "xla")), *FILES, *OFFERED, *module("algorithms").__all__]
    if name in OFFERED:
        owner = module(OFFERED[name])
        value = getattr(owner, name) if hasattr(owner, name) else module(f"{OFFERED[name]}.{name}")
    elif not name.startswith("_") and name in module("algorithms").__all__:
        value = getattr(module("algorithms"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
