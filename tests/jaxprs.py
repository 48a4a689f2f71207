"""The equations and constants of a program."""

import math

import jax
from jax.extend.core import Literal, jaxprs_in_params


def equations(jaxpr, times=1):
    """Every equation of a jaxpr and of its inner jaxprs, and how often it runs: more than once within a scan."""
    for equation in jaxpr.eqns:
        yield equation, times
        inside = times * (equation.params["length"] if equation.primitive.name == "scan" else 1)
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner, inside)


def constants(fn, *args, **options):
    """The shapes of the constants in a function's program that have more than one number."""
    closed = jax.make_jaxpr(fn, **options)(*args)
    inside = [equation for equation, _ in equations(closed.jaxpr)]
    held = [*closed.consts, *(v.val for e in inside for v in e.invars if isinstance(v, Literal))]
    parts = [part for e in inside for part in jax.tree.leaves(e.params, is_leaf=_closed) if _closed(part)]
    held += [constant for part in parts for constant in part.consts]
    return [jax.numpy.shape(c) for c in held if math.prod(jax.numpy.shape(c)) > 1]


def _closed(part):
    return hasattr(part, "jaxpr") and hasattr(part, "consts")
