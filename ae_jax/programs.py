"""Compiled programs that are kept as long as the functions they were made of.

`jax.jit` keeps its static arguments, and with an algorithm all that it closes over, until the process ends.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax


def compiled(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`fn(owner, *arguments)` compiled: once for an owner, and forgotten with it.

    The owner is a function, or a record of functions such as an `Algorithm`; `options` go to `jax.jit`.
    """
    programs: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    @functools.wraps(fn)
    def call(owner: Any, *arguments: Any, **named: Any) -> Any:
        parts, structure = jax.tree.flatten(owner)
        rows = programs.setdefault(next(part for part in parts if callable(part)), [])
        found = (row[2:] for row in rows if row[0] == structure and all(map(_is, row[1], parts)))
        program, current = next(found, (None, []))
        if program is None:  # it finds its owner in `current`, while it is called: it must not hold it itself
            program = jax.jit(lambda *a, **k: fn(current[-1], *a, **k), **options)
            rows.append((structure, list(map(_weak, parts)), program, current))
        current.append(owner)
        try:
            return program(*arguments, **named)
        finally:
            current.pop()

    return call


def _weak(part: Any) -> Any:
    try:
        return weakref.ref(part)
    except TypeError:  # a number or a name
        return part


def _is(known: Any, part: Any) -> bool:
    return known() is part if isinstance(known, weakref.ref) else known == part
