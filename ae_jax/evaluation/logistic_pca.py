"""Logistic PCA: principal components of binary data, the best linear code of a logistic net of one layer.

x_d ~ Bernoulli(sigmoid(z V + b)_d). Each example has a code z; all codes, V and b are fitted together on train. On test
only codes are fitted. Collins, Dasgupta & Schapire (2001), NIPS; it is the baseline of the deep autoencoder of Hinton &
Salakhutdinov (2006).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import is_concrete
from ..core import Key, Metrics
from ..distributions.likelihoods import bernoulli_nll
from ..objectives.terms import reconstruction
from ..xla.barriers import at_least_float32


class LogisticPCA(NamedTuple):
    """A fitted logistic PCA; a pytree."""

    bias: Array  # [*shape], logits
    components: Array  # [K, *shape]
    ridge: Array  # [], see `fit`


def fit(x: Array, components: int, key: Key, *, ridge: float = 1e-2, iterations: int = 300) -> LogisticPCA:
    """Codes z, components V and bias b of x [N, *shape] in [0, 1], by L-BFGS on all at once.

    Minimises the mean over examples of cross-entropy + ridge / 2 ||z||^2, plus ridge / 2 ||V||^2. Without a ridge, an
    example that is reconstructed without error has an unbounded code. The start is small and random. Raises ValueError
    for no components, no examples, or a ridge that is not positive and finite.
    """
    import optax  # where it is used: a search loads this package

    if components < 1 or len(x) < 1 or (is_concrete(ridge) and not 0 < ridge < math.inf):
        given = f"{components} components of {len(x)} examples with ridge {ridge:g}"
        raise ValueError(f"logistic PCA was asked for {given}; the numbers must be at least 1, the ridge positive")
    root, mean = len(x) ** 0.5, jnp.clip(at_least_float32(x.mean(0)), 1e-3, 1 - 1e-3)
    key_z, key_v = jax.random.split(key)
    z = jax.random.normal(key_z, (len(x), components), x.dtype) / root  # code / N^0.5: curvatures are alike
    v = 0.1 * jax.random.normal(key_v, (components, *x.shape[1:]), x.dtype)
    optimizer, weight = optax.lbfgs(), jnp.asarray(ridge, x.dtype)

    def objective(free: tuple[Array, Array, Array]) -> Array:
        z, v, bias = free
        model = LogisticPCA(bias, v, weight)
        return cost(model, root * z, x).mean() + 0.5 * weight * jnp.square(v).sum()

    def step(carry: Any, _) -> tuple[Any, None]:
        free, state = carry
        value, gradient = optax.value_and_grad_from_state(objective)(free, state=state)
        updates, state = optimizer.update(gradient, state, free, value=value, grad=gradient, value_fn=objective)
        return (optax.apply_updates(free, updates), state), None

    free: Any = (z, v, (jnp.log(mean) - jnp.log1p(-mean)).astype(x.dtype))
    (_, v, bias), _ = lax.scan(step, (free, optimizer.init(free)), length=iterations)[0]
    return LogisticPCA(bias, v, weight)


def logits(model: LogisticPCA, z: Array) -> Array:
    """The logits of x given codes. [B, K] -> [B, *shape]."""
    return model.bias + jnp.tensordot(z, model.components, 1)


def cost(model: LogisticPCA, z: Array, x: Array) -> Array:
    """The cost of a code: the cross-entropy in nats + ridge / 2 ||z||^2. [B, K], [B, *shape] -> [B]."""
    return bernoulli_nll(logits(model, z), x) + 0.5 * model.ridge * jnp.square(z).sum(-1)


def encode(model: LogisticPCA, x: Array, *, iterations: int = 12, batch_size: int = 500) -> Array:
    """The best code of each example, by damped Newton steps; the cost is convex. [N, *shape] -> [N, K]."""
    v = model.components.reshape(len(model.components), -1)  # [K, D]
    sizes = 0.3 ** jnp.arange(5, dtype=x.dtype)

    def one(x: Array) -> Array:
        value = lambda z: cost(model, z[None], x[None])[0]

        def step(z: Array, _) -> tuple[Array, None]:
            p = decode(model, z[None]).ravel()
            hessian = (v * (p * (1 - p))) @ v.T + model.ridge * jnp.eye(len(v), dtype=x.dtype)
            towards = jnp.linalg.solve(hessian, jax.grad(value)(z))
            tried = jnp.concatenate([z - sizes[:, None] * towards, z[None]])  # z stays if no step is better
            return tried[jnp.argmin(jax.vmap(value)(tried))], None

        return lax.scan(step, jnp.zeros(len(v), x.dtype), length=iterations)[0]

    return lax.map(one, x, batch_size=min(batch_size, len(x)))


def decode(model: LogisticPCA, z: Array) -> Array:
    """The probabilities of x given codes. [B, K] -> [B, *shape]."""
    return jax.nn.sigmoid(logits(model, z))


def evaluate(model: LogisticPCA, x: Array) -> Metrics:
    """The errors of `objectives.terms.reconstruction`, each [B], to compare with those of an autoencoder and of PCA."""
    return reconstruction(decode(model, encode(model, x)), x)
