"""Deep embedded clustering. Xie, Girshick & Farhadi (2016), ICML, arXiv:1511.06335.
IDEC, improved DEC, which keeps the decoder: Guo, Gao, Liu & Yin (2017), IJCAI.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import Count, Weight, checked, final_value
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Metrics, Optimizer, Params, assign, descend
from ..distributions.sums import squared_error
from ..evaluation.clustering import centres, codes_of
from ..objectives.pretraining import pretrained
from ..objectives.terms import reconstruction


def soft_assignment(z: Array, centres: Array) -> Array:
    """Student's t kernels (one degree of freedom) around the centres, normalised, eq. (1). [B, K], [C, K] -> [B, C]."""
    q = 1 / (1 + jnp.square(z[:, None] - centres[None]).sum(-1))
    return q / q.sum(-1, keepdims=True)


@checked
def dec(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    clusters: int = 10,
    weight: Weight = 0.0,
    measured: Count = 256,
    pretrain_epochs: int = 0,
) -> Algorithm:
    """KL(P || Q) in nats, which moves the soft assignments Q towards their sharpened form P.

    P is fixed during a pass: the group "target" keeps the encoder and the centres of its start.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer, of pretraining, too: a schedule begins anew after it.
        clusters: number of clusters.
        weight: weight of the summed squared error of the reconstruction. 0 is DEC, which does not train the decoder.
            IDEC weights the KL by 0.1 and the error averaged over pixels by 1: here 10 / number of pixels.
        measured: examples encoded at a time when the frequencies of the clusters are measured.
        pretrain_epochs: passes of plain reconstruction before k-means finds centres; with 0 centres are random codes.
    Raises ValueError for fewer than two clusters.
    """
    if clusters < 2:
        raise ValueError(f"clusters is {clusters}; it must be at least 2")
    begin, final = pretrained(net, optimizer, "squared", pretrain_epochs), final_value(weight)
    fitted = net.trained or pretrain_epochs > 0
    groups = ("encoder", "centres") + (() if isinstance(weight, int | float) and weight == 0 else ("decoder",))

    def frozen(params: Params, x: Array) -> Params:  # the params of P; a cluster's frequency is a soft count
        frequency = soft_assignment(codes_of(net, params, x, measured), params["centres"]).sum(0)  # [C]
        return {"encoder": params["encoder"], "centres": params["centres"], "frequency": frequency}

    def init(key: Key, data: Batch) -> Params:
        key_net, key_centres = jax.random.split(key)
        params = begin(key_net, data)
        params |= {"centres": centres(net, params, data, key_centres, clusters, fitted)}
        return params | {"target": jax.tree.map(jnp.copy, frozen(params, data.x))}

    def terms(params: Params, batch: Batch, key: Key | None, weight) -> Loss:
        z, x_hat = net.apply(params, batch.x, key)
        q = soft_assignment(z, params["centres"])
        old = params["target"]
        p = jnp.square(soft_assignment(net.encode({**params, **old}, batch.x), old["centres"])) / old["frequency"][None]
        p = p / p.sum(-1, keepdims=True)  # eq. (3)
        kl = (jax.scipy.special.xlogy(p, p) - jax.scipy.special.xlogy(p, q)).sum(-1)  # eq. (2)
        error = squared_error(x_hat, batch.x)
        return Loss(kl + weight * error, {"clustering": kl, "reconstruction": error})

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        value, metrics, _ = terms(params, batch, None, final)
        return {"loss": value, **metrics, **reconstruction(net.apply(params, batch.x)[1], batch.x)}

    return Algorithm(
        init=init,
        rule=descend(terms, optimizer, wrt=groups, weight=weight),
        before=assign(lambda params, data, key: {"target": frozen(params, data.x)}),
        evaluate=evaluate,
        encode=lambda params, x: net.encode(params, x),
        decode=lambda params, z: net.decode(params, z),
        reconstruct=lambda params, x: net.apply(params, x)[1],
        corrupt=net.corrupt,
        statistics=("target",),
        predict=lambda params, x: soft_assignment(net.encode(params, x), params["centres"]).argmax(-1),
    )
