"""Pretraining: members that fine-tune or cluster codes begin as a plain autoencoder.

Hinton & Salakhutdinov (2006), Science 313; Xie, Girshick & Farhadi (2016), ICML, section 3.2: k-means on the codes.
"""

import jax
from jax import Array, lax

from .core import Autoencoder, Batch, Init, Key, Optimizer, Params, epoch, fit
from .evaluation.clustering import kmeans
from .losses import LikelihoodName
from .regularized import regularized

BATCH = 128  # examples in a step of pretraining


def pretrained(net: Autoencoder, optimizer: Optimizer, likelihood: LikelihoodName, epochs: int) -> Init:
    """The network's `init`, followed by `epochs` passes of plain reconstruction over the data of init.

    It is a pure function of key and data, as any init. `run.train` saves a long start as epoch 0, and no resumed run
    repeats it. The optimizer starts anew afterwards. With 0 epochs it is `net.init` itself. Raises ValueError for
    negative epochs.
    """
    if epochs < 0:
        raise ValueError(f"pretrain_epochs is {epochs}; give a number of passes, or 0 for no pretraining")
    if epochs == 0:
        return net.init
    rule = epoch(regularized(net, optimizer, likelihood), BATCH)
    return lambda key, data: fit(net.init, rule, data, key, epochs)[0]


def codes_of(net: Autoencoder, params: Params, x: Array, at_once: int = 256) -> Array:
    """The codes of all examples, computed `at_once` at a time. [N, *shape] -> [N, K]."""
    return lax.map(lambda one: net.encode(params, one[None])[0], x, batch_size=min(at_once, len(x)))


def centres(net: Autoencoder, params: Params, data: Batch, key: Key, clusters: int, by_kmeans: bool) -> Array:
    """Centres of clusters: from k-means on the codes, or the codes of random examples. -> [clusters, K]."""
    if by_kmeans:
        return kmeans(key, codes_of(net, params, data.x), clusters).centres
    some = jax.random.choice(key, data.x, (clusters,), replace=len(data.x) < clusters)
    return net.encode(params, some)
