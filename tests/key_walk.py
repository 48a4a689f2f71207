"""Which keys a program uses, and how. Its jaxpr is evaluated for keys alone; all other values are unknown.

Nothing is compiled: numbers that lead to a key (counters, addresses) are computed, draws and data are `UNKNOWN`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ae_jax.core import NAMES

UNKNOWN = object()
LARGE = 256  # numbers in an array; no key depends on a larger one


class Use(NamedTuple):
    """One use of a key."""

    what: str  # draw, split or fold
    key: tuple[int, ...]  # its data
    number: int = 0  # folded in


def uses(run: Callable[..., Any], key: jax.Array, *rest: Any) -> list[Use]:
    """The uses of keys in `run(key, *rest)`, in order."""
    closed = jax.make_jaxpr(run)(key, *rest)
    found: list[Use] = []
    unknown = [UNKNOWN] * (len(closed.jaxpr.invars) - 1)
    _follow(closed.jaxpr, closed.consts, [key, *unknown], found)
    return found


def reused(found: Sequence[Use]) -> dict[tuple[int, ...], str]:
    """The keys drawn from or split twice, drawn from and also split or folded, or split and folded by numbers.

    Names may be folded into a key that is split: they meet none of its children.
    """
    ways = defaultdict(list)
    for what, key, number in found:
        ways[key].append("name" if what == "fold" and number >= NAMES else what)
    wrong = {}
    for key, all_of in ways.items():
        drawn, parted, numbered = all_of.count("draw"), all_of.count("split"), "fold" in all_of
        if drawn + parted + numbered > 1 or (drawn and "name" in all_of):
            wrong[key] = ", ".join(sorted(all_of))
    return wrong


def _known(values: Sequence[Any]) -> bool:
    return all(v is not UNKNOWN for v in values)


def _small(value: Any) -> Any:
    return value if np.size(value) <= LARGE else UNKNOWN


def _each(keys: Any) -> list[tuple[int, ...]]:
    flat = np.asarray(jax.random.key_data(keys)).reshape(-1, 2)
    return [tuple(map(int, row)) for row in flat]


def _follow(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], found: list[Use]) -> list[Any]:
    env: dict[Any, Any] = {}
    env.update(zip(jaxpr.constvars, map(_small, consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    read = lambda v: v.val if isinstance(v, Literal) else env[v]
    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, _step(eqn, [read(v) for v in eqn.invars], found), strict=True))
    return [read(v) for v in jaxpr.outvars]


def _step(eqn: Any, args: list[Any], found: list[Use]) -> list[Any]:
    """The values of an equation's results."""
    name, nothing = eqn.primitive.name, [UNKNOWN] * len(eqn.outvars)
    if name == "scan":
        return _scan(eqn, args, found)
    if name == "while":
        return _while(eqn.params, args, found)
    if name == "cond":
        index, *rest = args
        branches = eqn.params["branches"]
        if index is UNKNOWN:  # either branch may run: results are unknown, uses of both count; here only one uses keys
            for branch in branches:
                _follow(*_open(branch), rest, found)
            return nothing
        return _follow(*_open(branches[int(index)]), rest, found)
    for inner in eqn.params.values():
        if isinstance(inner, ClosedJaxpr) and len(inner.jaxpr.invars) == len(args):
            return _follow(inner.jaxpr, inner.consts, args, found)
        if isinstance(inner, Jaxpr) and len(inner.invars) == len(args):
            return _follow(inner, (), args, found)
    if name in ("random_bits", "random_split", "random_fold_in"):
        assert args[0] is not UNKNOWN, f"a key cannot be followed to its {name}"
        shape = eqn.outvars[0].aval.shape if name == "random_fold_in" else args[0].shape
        keys = _each(jnp.broadcast_to(args[0], shape))
        numbers = np.broadcast_to(np.uint32(args[1] if name == "random_fold_in" else 0), shape).ravel().tolist()
        what = {"random_bits": "draw", "random_split": "split"}.get(name, "fold")
        found.extend(map(Use, [what] * len(keys), keys, numbers))
        if what == "draw":
            return nothing
    if not _known(args) or any(np.prod(v.aval.shape) > LARGE for v in eqn.outvars):
        return nothing
    result = eqn.primitive.bind(*args, **eqn.params)
    return list(result) if eqn.primitive.multiple_results else [result]


def _open(jaxpr: Any) -> tuple[Jaxpr, Sequence[Any]]:
    """A jaxpr and its constants, which newer JAX passes as arguments."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())


def _scan(eqn: Any, args: list[Any], found: list[Use]) -> list[Any]:
    params, (inner, constants) = eqn.params, _open(eqn.params["jaxpr"])
    # What is scanned over, and stacked, has one more axis outside than inside.
    scanned = sum(len(out.aval.shape) > len(own.aval.shape) for out, own in zip(eqn.invars, inner.invars, strict=True))
    carried = sum(
        len(out.aval.shape) == len(own.aval.shape) for out, own in zip(eqn.outvars, inner.outvars, strict=True)
    )
    consts = len(args) - carried - scanned
    fixed, carry, xs = args[:consts], args[consts : consts + carried], args[consts + carried :]
    rows = []
    for i in range(params["length"])[:: -1 if params["reverse"] else 1]:
        now = [x if x is UNKNOWN else x[i] for x in xs]
        out = _follow(inner, constants, [*fixed, *carry, *now], found)
        carry = out[:carried]
        rows.append(out[carried:])
    rows = rows[:: -1 if params["reverse"] else 1]
    stacked = [jnp.stack(column) if _known(column) else UNKNOWN for column in zip(*rows, strict=True)]
    return [*carry, *stacked]


def _while(params: Any, args: list[Any], found: list[Use]) -> list[Any]:
    n, m = params["cond_nconsts"], params["body_nconsts"]
    cond, body, carry = params["cond_jaxpr"], params["body_jaxpr"], args[n + m :]
    while True:
        (go,) = _follow(*_open(cond), [*args[:n], *carry], [])
        if go is not UNKNOWN and not go:
            return carry
        carry = _follow(*_open(body), [*args[n : n + m], *carry], found)
        if go is UNKNOWN:  # one turn stands for all: its keys, if any, must not come from outside the loop
            return [UNKNOWN] * len(carry)
