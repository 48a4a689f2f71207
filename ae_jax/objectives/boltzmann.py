"""Restricted Boltzmann machines: p(v, h) = exp(-E(v, h)) / Z, with units of an exponential family.

Smolensky (1986); Hinton (2002), Neural Computation 14; Welling, Rosen-Zvi & Hinton (2005), NIPS 17:

    E(v, h) = base(v) + base(h) - b.v - c.h - v W h

Such a machine is a tied linear `Autoencoder` (`networks.rbm`): `encode` gives W^T v + c and `decode` W h + b, the
natural parameters of one side given the other. The learning rule and the estimators of Z both use this file.
"""

from collections.abc import Callable
from math import log, pi
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import check_choice
from ..core import Autoencoder, Heads, Key, Params, address
from ..distributions.likelihoods import takes_logits
from ..distributions.sums import softplus, sum_examples
from ..xla import draws
from .recode import code_only, linear_code
from .terms import dtype_of, weights

BoltzmannAutoencoder = Annotated[Autoencoder, Heads(1, network="rbm")]  # one tied linear layer
UnitsName = Literal["bernoulli", "gaussian"]


class Units(NamedTuple):
    """p(s | a) = exp(a s - base(s) - partition(a)) of a unit with natural parameter a; each function is elementwise."""

    mean: Callable[[Array], Array]  # a -> E[s | a]
    draw: Callable[[Key, Array], Array]  # (key, a) -> s
    base: Callable[[Array], Array]
    partition: Callable[[Array], Array]  # log of the sum or integral over s of exp(a s - base(s))


UNITS: dict[str, Units] = {
    "bernoulli": Units(
        jax.nn.sigmoid,
        lambda key, a: (draws.uniform(key, a.shape, a.dtype) < jax.nn.sigmoid(a)).astype(a.dtype),
        jnp.zeros_like,
        softplus,
    ),
    "gaussian": Units(  # of variance 1
        lambda a: a,
        lambda key, a: a + draws.normal(key, a.shape, a.dtype),
        lambda s: jnp.square(s) / 2,
        lambda a: (jnp.square(a) + log(2 * pi)) / 2,
    ),
}


class Machine(NamedTuple):
    """A network and the units of its two sides."""

    net: Autoencoder
    visible: Units
    hidden: Units

    def visible_bias(self, params: Params) -> Array:
        """The visible bias b, [1, *shape]."""
        return self.net.decode(params, jnp.zeros((1, self.net.latents), dtype_of(params)))

    def free_energy(self, params: Params, v: Array) -> Array:
        """F(v) = -log of the sum (or integral) over h of exp(-E(v, h)), so that p(v) = exp(-F(v)) / Z. Nats, [B]."""
        a = self.net.encode(params, v)
        return sum_examples(self.visible.base(v) - v * self.visible_bias(params)) - self.hidden.partition(a).sum(-1)

    def nll(self, a: Array, v: Array) -> Array:
        """-log p(v | a) in nats, a the natural parameters. [B, *shape], [B, *shape] -> [B]."""
        return sum_examples(self.visible.base(v) + self.visible.partition(a) - a * v)

    def visible_noise(self, params: Params, key: Key, n: int) -> Array:
        """n draws of visible units with natural parameters 0: fair coins, or N(0, 1). [n, *shape]."""
        return self.visible.draw(key, jnp.zeros((n, *self.net.shape), self.visible_bias(params).dtype))

    def down(self, params: Params, v: Array, key: Key) -> Array:
        """The natural parameters of v given a draw of h given v. [B, *shape] -> [B, *shape]."""
        return self.net.decode(params, self.hidden.draw(key, self.net.encode(params, v)))

    def transition(self, params: Params, v: Array, key: Key) -> tuple[Array, Array]:
        """One step of Gibbs sampling: a draw of v given a draw of h, and its mean. [B, *shape] -> each [B, *shape]."""
        key_hidden, key_visible = jax.random.split(key)
        a = self.down(params, v, key_hidden)
        return self.visible.draw(key_visible, a), self.visible.mean(a)

    def gibbs(self, params: Params, v: Array, key: Key, steps: int, mean: bool = False) -> Array:
        """`steps` times a draw of h given v, then of v given h, or with `mean` its mean. [B, *shape] -> [B, *shape]."""

        def step(t: Array, v: Array) -> Array:
            key_hidden, key_visible = jax.random.split(address(key, t))
            a = self.down(params, v, key_hidden)
            return self.visible.mean(a) if mean else self.visible.draw(key_visible, a)

        return lax.fori_loop(0, steps, step, v) if steps else v

    def pseudo_likelihood(self, params: Params, v: Array, key: Key | None = None) -> Array:
        """sum_i log p(v_i | all others) of Bernoulli visible units, in nats. Besag (1975). [B, *shape] -> [B].

        Without a key it is exact, at D times the cost of a free energy. With a key it is an unbiased estimate: D times
        the term of one i, drawn for each example. For v between 0 and 1 each term is a negative cross-entropy.
        """
        flat = v.reshape(len(v), -1)
        size = flat.shape[1]

        def term(i: Array) -> Array:  # i [B]
            row = jnp.arange(len(v))
            off, on = (self.free_energy(params, flat.at[row, i].set(s).reshape(v.shape)) for s in (0.0, 1.0))
            return flat[row, i] * (off - on) - softplus(off - on)

        if key is not None:
            return size * term(jax.random.randint(key, (len(v),), 0, size))
        add = lambda i, total: total + term(jnp.full(len(v), i))
        return lax.fori_loop(0, size, add, jnp.zeros(len(v), v.dtype))


def machine(net: Autoencoder, visible: UnitsName = "bernoulli", hidden: UnitsName = "bernoulli") -> Machine:
    """The machine of a network. Raises ValueError for an unknown name, two Gaussian sides, or a corrupting network."""
    check_choice("visible", visible, UNITS)
    check_choice("hidden", hidden, UNITS)
    if visible == hidden == "gaussian":
        raise ValueError("visible and hidden are both gaussian, which has no Z for large weights: make one bernoulli")
    if net.corrupt is not None:
        raise ValueError("a Boltzmann machine models its input and has no denoising form: leave the noise out")
    takes_logits(linear_code(code_only(net)), "a Boltzmann machine")
    return Machine(net, UNITS[visible], UNITS[hidden])


def check_tied(params: Params) -> Params:
    """The params themselves. Raises ValueError unless they are those of one layer and its transpose."""
    if len(weights(params["encoder"])) != 1 or weights(params["decoder"]):
        raise ValueError(
            "a Boltzmann machine has one matrix of weights, used both ways: build its network by "
            "networks.rbm(shape, latents), --network rbm on the command line"
        )
    return params
