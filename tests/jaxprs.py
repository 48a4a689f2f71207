"""What a program is made of."""

from jax.extend.core import jaxprs_in_params


def equations(jaxpr, times=1):
    """Every equation of a jaxpr and of those within it, and how often it runs: more than once within a scan."""
    for equation in jaxpr.eqns:
        yield equation, times
        inside = times * (equation.params["length"] if equation.primitive.name == "scan" else 1)
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner, inside)
