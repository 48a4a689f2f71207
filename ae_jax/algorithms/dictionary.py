"""Scaling and evaluating sparse autoencoders. Gao et al. (2024), arXiv:2406.04093.

Each example is a sum of k units of a dictionary: vectors of length 1, the rows of one linear decoder.
"""

from math import ceil, prod
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from ..checks import COUNT, LATE, Amount, Count, check_optimizer, checked
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params, chain, descend
from ..distributions.sums import squared_error, sum_examples
from ..objectives import dictionaries
from ..objectives.recode import largest
from ..objectives.terms import reconstruction


@checked
def dictionary(
    net: dictionaries.DictionaryAutoencoder,
    optimizer: Optimizer,
    *,
    k: Annotated[int | None, COUNT] = None,
    auxiliary: Amount = 1 / 32,
    auxiliary_k: Annotated[int | None, COUNT] = None,
    dead_after: Count = 10_000_000,
) -> Algorithm:
    """Squared error of a sum of k units, z = TopK(relu(W (x - b) + c)), x_hat = z D + b, and AuxK for dead units.

    It takes real values; the paper's have a mean squared norm of D, as `data.load(..., range="normalised")` gives.

    Args:
        net: one linear layer each way, not tied, such as `networks.linear`; b is the decoder's bias.
        optimizer: an optax optimizer.
        k: units that an example may activate; None for a sixteenth of them, 32 of 512.
        auxiliary: weight of AuxK: of what the active units leave, the fraction that the dead units' sum leaves again.
            The loss has it times the data's variance, so that both errors are in one unit.
        auxiliary_k: dead units in that sum; None for half of the data's dimensions, as in the paper.
        dead_after: training examples after which a unit that none of them activated is dead.

    Raises:
        ValueError: more units than the code has. `init` raises it for a network of other layers.
    """
    net = dictionaries.checked_net(net)
    k = ceil(net.latents / 16) if k is None else k
    helping = min(ceil(prod(net.shape) / 2), net.latents) if auxiliary_k is None else auxiliary_k
    if max(k, helping) > net.latents:
        raise ValueError(
            f"k is {k} and auxiliary_k {helping}; the code has {net.latents} units, and both are at most that"
        )

    def active(params: Params, x: Array, key: Key | None = None) -> tuple[Array, Array]:
        a = jax.nn.relu(dictionaries.before(net, params, x, key))  # [B, K]
        return a, largest(a, k, k)

    def terms(params: Params, x: Array, key: Key | None) -> tuple[Array, Array, Loss]:  # a key means training
        key_encoder, key_decoder = (None, None) if key is None else jax.random.split(key)
        a, z = active(params, x, key_encoder)
        x_hat = net.decode(params, z, key_decoder)
        error, dead = squared_error(x_hat, x), params["idle"] >= dead_after
        rest = lax.stop_gradient(x - x_hat)
        helped = largest(jnp.where(dead[None], a, 0), helping, helping) @ dictionaries.rows(params)  # without b
        left, power = squared_error(helped.reshape(rest.shape), rest), sum_examples(jnp.square(rest))
        some = dead.any() & (power > 0)
        aux = jnp.where(some, left / jnp.where(some, power, 1), 0)  # normalised for each example, as rest shrinks
        share, units = jnp.full_like(error, dead.mean(dtype=error.dtype)), (z > 0).sum(-1).astype(error.dtype)
        metrics = {"reconstruction": error, "auxiliary": aux, "nonzero_units": units, "dead_share": share}
        return z, x_hat, Loss(error + auxiliary * params["variance"] * aux, metrics)

    def loss(params: Params, batch: Batch, key: Key) -> Loss:
        z, _, result = terms(params, batch.x, key)
        waited = jnp.minimum(params["idle"], LATE) + len(z)
        return result._replace(patch={"idle": jnp.where((z > 0).any(0), 0, waited)})

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        _, x_hat, (value, metrics, _) = terms(params, batch.x, None)
        fvu = metrics["reconstruction"] / params["variance"]
        return {"loss": value, **metrics, "fvu": fvu, **reconstruction(x_hat, batch.x)}

    encode = lambda params, x: active(params, x)[1]
    learn = descend(loss, optax.chain(dictionaries.tangent(), check_optimizer(optimizer)), wrt=("encoder", "decoder"))
    return Algorithm(
        init=lambda key, data: dictionaries.start(net, key, data),
        rule=chain(learn, dictionaries.unit_rows()),
        evaluate=evaluate,
        encode=encode,
        decode=net.decode,
        reconstruct=lambda params, x: net.decode(params, encode(params, x)),
        corrupt=net.corrupt,
        statistics=("idle", "variance"),
    )
