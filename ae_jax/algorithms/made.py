"""MADE: masked autoencoder for distribution estimation. Germain et al. (2015), ICML, arXiv:1502.03509.

Masks on the weights (see `objectives.masks`) make the outputs of an autoencoder conditionals p(x_d | x_<d), whose
product is an exact likelihood. The group "degrees" of the params has one row of degrees for each set of masks.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import checked
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params, descend
from ..distributions.likelihoods import bernoulli_nll, takes_logits
from ..objectives.masks import ReluAutoencoder, ancestral, before, draw_degrees, masked, unseen
from ..objectives.recode import code_only
from ..objectives.terms import reconstruction


@checked
def made(
    net: ReluAutoencoder,
    optimizer: Optimizer,
    *,
    masks: int = 1,
    fresh: bool = False,
    shuffle: bool = True,
    direct: bool = True,
    conditional: bool = False,
) -> Algorithm:
    """-log p(x) of binary x in nats: training uses one set of masks a batch, evaluation the mean p(x) of all sets.

    Codes, decoded codes (without `direct`) and reconstructions (means of the conditionals) use one set of masks.

    Args:
        net: the network, of dense layers that are not tied; its code is the hidden layer in the middle.
        optimizer: an optax optimizer.
        masks: number of sets of masks that training cycles through and evaluation averages over.
        fresh: draw new masks for every training batch instead; evaluation keeps its own.
        shuffle: each set of masks has its own random order of the inputs; False: all have the order of the data.
        direct: add weights from every input, without noise, straight to the outputs after it.
        conditional: add weights that show units their masks, the paper's "connectivity weights".
    Raises ValueError for `masks` below 1 and for an output that is not logits. `init` raises it for other layers.
    """
    if masks < 1:
        raise ValueError(f"masks is {masks}; there must be at least 1 set")
    takes_logits(net := code_only(net), "MADE")  # and no output may see its own input
    groups = ("encoder", "decoder") + ("direct",) * direct + ("connectivity",) * conditional

    def init(key: Key, data: Batch) -> Params:
        key_net, key_masks = jax.random.split(key)
        params, size = net.init(key_net, data), data.x[0].size
        degrees = jax.vmap(lambda key: draw_degrees(key, params, shuffle))(jax.random.split(key_masks, masks))
        params |= {"direct": jnp.zeros((size, size), data.x.dtype), "connectivity": unseen(params)}
        return {group: params[group] for group in groups} | {"degrees": degrees}

    def logits(params: Params, x: Array, degrees: Array, key: Key | None = None) -> Array:  # of p(x_d = 1 | x_<d)
        _, output = net.apply(masked(params, degrees), x, key)
        straight = lambda: x.reshape(len(x), -1) @ (params["direct"] * before(degrees[: x[0].size]))
        return output + straight().reshape(x.shape) if direct else output

    def loss(params: Params, batch: Batch, key: Key) -> Loss:
        key_masks, key_net = jax.random.split(key)
        degrees = draw_degrees(key_masks, params, shuffle) if fresh else params["degrees"][0]
        nll = bernoulli_nll(logits(params, batch.x, degrees, key_net), batch.x)  # [B]
        return Loss(nll, {"nll": nll}, {} if fresh else {"degrees": jnp.roll(params["degrees"], -1, 0)})

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        outputs = lax.map(lambda degrees: logits(params, batch.x, degrees), params["degrees"])  # [M, B, *shape]
        nll = jnp.log(len(outputs)) - jax.nn.logsumexp(-jax.vmap(bernoulli_nll, (0, None))(outputs, batch.x), 0)  # [B]
        return {"loss": nll, "nll": nll, **reconstruction(jax.nn.sigmoid(outputs[0]), batch.x)}

    draw = lambda params, key, n: ancestral(logits, params, net.shape, key, n)
    return Algorithm(
        init=init,
        rule=descend(loss, optimizer, wrt=groups),
        evaluate=evaluate,
        encode=lambda params, x: net.encode(masked(params, params["degrees"][0]), x),
        decode=lambda params, z: jax.nn.sigmoid(net.decode(masked(params, params["degrees"][0]), z)),
        reconstruct=lambda params, x: jax.nn.sigmoid(logits(params, x, params["degrees"][0])),
        sample=draw,
        draw=draw,
        corrupt=net.corrupt,
        statistics=("degrees",),
    )
