"""Pretraining: members that fine-tune or cluster codes begin as a plain autoencoder. Also the best epoch of a run.

Hinton & Salakhutdinov (2006), Science 313; Xie, Girshick & Farhadi (2016), ICML, section 3.2: k-means on the codes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..core import Autoencoder, Batch, Init, Key, Metrics, Optimizer, Params, Rule, address, epoch, fit, start
from ..distributions.likelihoods import Likelihood, LikelihoodName
from .regularized import regularized

BATCH = 128  # examples in a step of pretraining


def pretrained(net: Autoencoder, optimizer: Optimizer, likelihood: LikelihoodName | Likelihood, epochs: int) -> Init:
    """The network's `init`, followed by `epochs` passes of plain reconstruction over the data of init.

    It is a pure function of key and data, as any init. `training.train` saves a long start as epoch 0, and no
    resumed run repeats it. The optimizer starts anew afterwards. A schedule of its learning rate thus runs twice, and
    the command line gives pretraining a constant rate instead. With 0 epochs, and for a network that is trained
    already (`networks.trained`), there is no pretraining.

    Raises ValueError for negative epochs.
    """
    if epochs < 0:
        raise ValueError(f"pretrain_epochs is {epochs}; give a number of passes, or 0 for no pretraining")
    base = regularized(net, optimizer, likelihood)
    if epochs == 0 or net.trained:
        return base.init
    return lambda key, data: fit(base.init, epoch(base, BATCH), data, key, epochs)[0]


def fit_best(
    init: Init, rule: Rule, data: Batch, key: Key, epochs: int, score: Callable[[Params], Array]
) -> tuple[Params, Metrics]:
    """`core.fit`, returning the params of the epoch with the lowest score, the first of equals.

    A score of NaN is never the lowest; if all are NaN, the first epoch's params are returned.

    Args:
        init: as `fit` takes it.
        rule: on datasets, see `core.epoch`.
        data: the training set.
        key: key of the run.
        epochs: passes over the data, at least 1.
        score: params -> [], an error on a validation set, computed after every epoch.

    Returns:
        the params of that epoch, and the metrics of all, [epochs] each, with `score` among them.

    Raises:
        ValueError: no epochs.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    params, memory, key_epochs = start(init, rule, data, key)

    def step(carry, e: Array):
        params, memory, best, least = carry
        params, memory, metrics = rule.update(params, memory, data, address(key_epochs, e))
        value = score(params).astype(least.dtype)
        better = (value < least) | (e == 0)
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, best)
        return (params, memory, best, jnp.fmin(value, least)), {**metrics, "score": value}

    least = jnp.full((), jnp.inf, jnp.promote_types(jax.eval_shape(score, params).dtype, jnp.float32))
    (_, _, best, _), history = lax.scan(step, (params, memory, params, least), jnp.arange(epochs))
    return best, history
