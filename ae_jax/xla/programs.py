"""Compiled programs that live as long as the functions they were made from.

`jax.jit` keeps its static arguments until the process ends: an algorithm, and everything that it closes over.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax


def compiled(fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`fn(owner, *arguments)` compiled once for each owner, and freed with it.

    The owner is a function, or a record of functions such as an `Algorithm`; `options` go to `jax.jit`.
    """
    programs: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    @functools.wraps(fn)
    def call(owner: Any, *arguments: Any, **named: Any) -> Any:
        parts, structure = jax.tree.flatten(owner)
        rows = programs.setdefault(next(part for part in parts if callable(part)), [])
        found = (row[2:] for row in rows if row[0] == structure and all(map(_is, row[1], parts)))
        program, current = next(found, (None, []))
        if program is None:  # a call puts its owner in `current`, so that the program itself does not hold the owner
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
