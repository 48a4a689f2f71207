"""Autoencoders in JAX, every member of the family, as pure functions.

`core` has the types and combinators; `networks` makes an `Autoencoder`, `algorithms` an `Algorithm` of it,
`data` a dataset; `run` trains into a folder, `evaluation` measures, `report` and `plots` show.

What these are stands in `vocabulary`, which is imported when a name of it is first asked for: `ae_jax.index` searches
without an algorithm or network being loaded.
"""

import importlib
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from .compiler import tell_compiler

if TYPE_CHECKING:
    from .vocabulary import *  # noqa: F403

__version__ = "0.1.0"

tell_compiler()

MODULES = frozenset(module.name for module in iter_modules([str(Path(__file__).parent)]))  # read from the disk once


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        if name in MODULES:
            return importlib.import_module(f".{name}", __name__)
        known = vars(importlib.import_module(".vocabulary", __name__))
        if name in known:
            return globals().setdefault(name, known[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    known = vars(importlib.import_module(".vocabulary", __name__))
    return sorted({*globals(), *(name for name in known if not name.startswith("_"))})
