"""Programs that take some of a run's settings as arguments: runs that differ only in these settings share a program.

These settings only enter arithmetic: the learning rate, and hyperparameters that may be schedules. A setting of 0 stays
a constant of the program, since it removes a term. A run has the same bits alone and among others, because its program
is the same. A program with the number as a constant may round differently, such as in a sum of two products.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import get_annotations
from typing import Any, get_args, get_origin

import jax
import jax.numpy as jnp

from ..algorithms import ALGORITHMS
from ..core import Algorithm, Batch, Key, epoch, start
from ..data.stream import Stream
from .arguments import seen
from .compiled import Plan, functions, programs
from .settings import Settings, build

RATE = "lr"  # of `Settings.optimizer`; all other numbers are hyperparameters
DONATED = ((), (1,), (1,), (), (1,))  # the place of the state in each of `compiled.functions`, after the numbers


def numbers(settings: Settings) -> dict[str, float]:
    """The settings that a program takes as arguments."""
    annotations = get_annotations(ALGORITHMS[settings.algorithm], eval_str=True)
    scheduled = [name for name, kind in annotations.items() if any(get_origin(m) is Callable for m in _members(kind))]
    found = {name: settings.hyper.get(name) for name in scheduled} | {RATE: settings.optimizer.lr}
    return {name: value for name, value in found.items() if isinstance(value, float) and value}


def _members(kind: Any) -> Iterator[Any]:
    """The member types of a union, without their annotations."""
    parts = get_args(kind)
    if hasattr(kind, "__metadata__"):
        yield from _members(parts[0])
    elif parts and get_origin(kind) is not Callable:
        for part in parts:
            yield from _members(part)
    else:
        yield kind


def with_numbers(settings: Settings, values: dict[str, Any]) -> Settings:
    """The settings with these values for their `numbers`."""
    hyper = settings.hyper | {name: value for name, value in values.items() if name != RATE}
    optimizer = replace(settings.optimizer, lr=values.get(RATE, settings.optimizer.lr))
    return replace(settings, hyper=hyper, optimizer=optimizer)


class Sharing:
    """The programs of the runs of a process; runs that differ only in their `numbers` share them."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[Any, list[_Program]]] = {}

    def programs(
        self, settings: Settings, shape: tuple[int, ...], examples: int, data: Batch | Stream
    ) -> Callable[..., tuple[Any, ...]]:
        """A function like `compiled.programs`, for a run with these settings on examples of that shape and number."""
        values = numbers(settings)
        made = lambda values, given=None: build(with_numbers(settings, values), shape, examples, given)
        group = repr((with_numbers(settings, dict.fromkeys(values)), shape, examples))
        if group not in self._groups:
            if not _takes(made, values, data, settings.batch_size):
                return programs
            self._groups[group] = {}
        forms = self._groups[group]

        def shared(algorithm: Algorithm, plan: Plan) -> tuple[Any, ...]:
            kept = forms.setdefault(tuple(part is None for part in plan), [])
            if not kept:
                kept.extend(_Program(made, i, plan) for i in range(len(DONATED)))
            return tuple(_Bound(program, values) for program in kept)

        return shared


def _takes(made: Callable[..., Algorithm], values: dict[str, float], data: Batch | Stream, batch_size: int) -> bool:
    """Whether the algorithm can be traced with the numbers as arguments; False if it branches on their values."""

    def learned(values: dict[str, Any], data: Batch, key: Key) -> Any:
        algorithm = made(values)
        rule = epoch(algorithm, batch_size)
        params, memory, key_run = start(algorithm.init, rule, data, key)
        params, *_ = rule.update(params, memory, data, key_run)
        return algorithm.evaluate(params, data, key)

    try:
        jax.eval_shape(learned, values, seen(data), jax.random.key(0))
    except (TypeError, ValueError):
        return False
    return True


class _Program:
    """One of `compiled.functions`, compiled, with the numbers as its first argument.

    `made(values, given=None)` builds the algorithm with these numbers; its `init` begins with the `given` params.
    """

    def __init__(self, made: Callable[..., Algorithm], which: int, plan: Plan):
        def call(values: dict[str, Any], *args: Any) -> Any:
            own = plan if plan.make is None else plan._replace(make=functools.partial(made, values))
            return functions(made(values), own)[which](*args)

        self.jitted = jax.jit(call, donate_argnums=DONATED[which])
        self.compiled: dict[Any, Callable[..., Any]] = {}


class _Bound:
    """A program with its numbers. Like a result of `jax.jit`, it can be called, or compiled ahead."""

    def __init__(self, program: _Program, values: dict[str, float], args: tuple[Any, ...] = ()):
        self.program, self.values, self.args = program, values, args

    def __call__(self, *args: Any) -> Any:
        return self.program.jitted(self.values, *args)

    def lower(self, *args: Any) -> "_Bound":
        return _Bound(self.program, self.values, args)

    def compile(self) -> Callable[..., Any]:
        leaves, structure = jax.tree.flatten(self.args)
        kind = (structure, *((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))
        if kind not in self.program.compiled:
            self.program.compiled[kind] = self.program.jitted.lower(self.values, *self.args).compile()
        return functools.partial(self.program.compiled[kind], self.values)
