"""Contractive autoencoders: a penalty on the encoder's Jacobian. Rifai et al. (2011), ICML.

The estimator for large encoders is Hutchinson's (1990): E ||J^T v||^2 = ||J||_F^2 for random signs v.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Algorithm, Autoencoder, Hyper, Key, Loss, Optimizer, Params
from ..losses import LikelihoodName, sum_examples
from ..regularized import regularized


def contractive(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    weight: Hyper = 0.1,
    penalty: Literal["exact", "columns", "closed", "hutchinson"] = "exact",
    samples: int = 1,
    group: int | None = None,
    likelihood: LikelihoodName = "bernoulli",
    weight_l2: Hyper = 0.0,
) -> Algorithm:
    """Reconstruction plus weight * ||J(x)||_F^2, J [K, D] the Jacobian of the deterministic encoder at x.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer.
        weight: weight of the squared Frobenius norm, a number or a schedule.
        penalty: exact (jax.jacfwd of any encoder), columns (the same number, by columns of all Jacobians: faster,
            but keeps B K D numbers for the gradient), closed (the same for one affine layer and an elementwise
            activation: by far the fastest) or hutchinson (unbiased, one backward pass a sample).
        samples: random vectors that hutchinson averages over.
        group: Jacobians (4; bounds the memory) or columns (32) computed at a time.
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    Raises ValueError for closed with an encoder that is not a single layer, and for no samples or no group.
    """
    if penalty == "closed" and net.layer is None:
        raise ValueError("penalty='closed' needs an encoder of one affine layer (hidden=()); use 'exact'")
    if samples < 1 or (group is not None and group < 1):
        raise ValueError(f"samples is {samples} and group {group}; both must be at least 1")

    def exact(params: Params, x: Array, key: Key) -> Array:
        def one(x: Array) -> Array:
            return jnp.square(jax.jacfwd(lambda x: net.encode(params, x[None])[0])(x)).sum()

        return lax.map(jax.checkpoint(one), x, batch_size=group or 4)

    def columns(params: Params, x: Array, key: Key) -> Array:
        def one(d: Array) -> Array:  # dz / dx_d of each example, whose first affine tangent is the same for all
            along = jax.nn.one_hot(d, x[0].size, dtype=x.dtype).reshape(1, *x.shape[1:])
            tangent = lambda x: jax.jvp(lambda x: net.encode(params, x), (x,), (along,))[1]
            return jax.vmap(lambda x: jnp.square(tangent(x[None])).sum())(x)

        return lax.map(one, jnp.arange(x[0].size), batch_size=group or 32).sum(0)

    def closed(params: Params, x: Array, key: Key) -> Array:
        assert net.layer is not None
        kernel, slope = net.layer(params, x)  # [D, K], [B, K]
        return jnp.square(slope) @ jnp.square(kernel).sum(0)  # sum_j s'_j^2 ||W_j||^2, section 3

    def hutchinson(params: Params, x: Array, key: Key) -> Array:
        z, pullback = jax.vjp(lambda x: net.encode(params, x), x)
        signs = jax.random.rademacher(key, (samples, *z.shape), z.dtype)
        return jax.vmap(lambda v: sum_examples(jnp.square(pullback(v)[0])))(signs).mean(0)

    if penalty not in (known := {"exact": exact, "columns": columns, "closed": closed, "hutchinson": hutchinson}):
        raise ValueError(f"penalty is {penalty!r}; it must be one of {sorted(known)}")

    def jacobian(params: Params, x: Array, z: Array, key: Key, train: bool, weight) -> Loss:
        norm = known[penalty](params, x, key)  # [B], eq. (1)
        return Loss(weight * norm, {"jacobian": norm})

    return regularized(net, optimizer, likelihood, jacobian, weight=weight, weight_l2=weight_l2)
