"""A softmax classifier on an encoder: supervised fine-tuning of a pretrained encoder.
Hinton & Salakhutdinov (2006), Science 313; Vincent et al. (2010), JMLR 11, section 2.4.
"""

import jax
import jax.numpy as jnp

from ..checks import Weight, checked, final_value
from ..core import LABELLED, Algorithm, Autoencoder, Batch, Key, Loss, Metrics, Optimizer, Params, descend, means
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.likelihoods import likelihood as likelihood_of
from ..objectives.labels import cross_entropy
from ..objectives.pretraining import pretrained
from ..objectives.terms import l2


@checked
def classifier(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    classes: int = 10,
    freeze: bool = False,
    weight_l2: Weight = 0.0,
    head_l2: Weight = 0.0,
    likelihood: LikelihoodName | Likelihood = "squared",
    pretrain_epochs: int = 0,
) -> Algorithm:
    """Softmax regression on the code: -log p(y | encode(x)) in nats, which trains the groups "encoder" and "head".

    The decoder learns only in pretraining, so no reconstruction is measured or shown. `stages.resume` replaces the
    params of `init` by params that were pretrained elsewhere.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer, of pretraining, too: a schedule begins anew after it.
        classes: number of classes; labels are 0 to classes - 1. A larger label has an nll of 0 and is an error. A
            negative label means no label: loss, nll and error are means over the labelled examples.
        freeze: train only the softmax, on a fixed encoder.
        weight_l2: weight of the sum of w^2 over all weights (not biases) that are trained.
        head_l2: additional weight of the sum of w^2 over the softmax's weights.
        likelihood: likelihood of the pretraining: squared, bernoulli or multinomial.
        pretrain_epochs: passes of plain reconstruction in `init`, without labels.
    Raises ValueError for data without labels, and for fewer than two classes.
    """
    if classes < 2:
        raise ValueError(f"classes is {classes}; a classifier needs at least 2")
    mean = likelihood_of(likelihood, net).mean  # of the decoder's output
    begin = pretrained(net, optimizer, likelihood, pretrain_epochs)
    final = final_value(weight_l2), final_value(head_l2)
    groups = ("head",) if freeze else ("encoder", "head")

    def init(key: Key, data: Batch) -> Params:
        # zeros: the loss is convex in the softmax, and every class begins equally likely
        kernel = jnp.zeros((net.latents, classes), data.x.dtype)
        return {**begin(key, data), "head": {"kernel": kernel, "bias": kernel[0]}}

    def logits_of(params: Params, x: jax.Array, key: Key | None = None) -> jax.Array:  # [B, classes]
        return net.encode(params, x, key) @ params["head"]["kernel"] + params["head"]["bias"][None]

    def terms(params: Params, batch: Batch, key: Key | None, weight_l2, head_l2) -> Metrics:  # each [B]
        if batch.y is None:
            raise ValueError("a classifier learns from labels and these data have none: choose data with labels")
        nll = cross_entropy(logits := logits_of(params, batch.x, key), batch.y)
        known = (batch.y >= 0).astype(logits.dtype)
        decay = weight_l2 * l2({group: params[group] for group in groups}) + head_l2 * l2(params["head"])
        return {"loss": nll + decay, "nll": nll, "error": known * (logits.argmax(-1) != batch.y), LABELLED: known}

    def loss(params: Params, batch: Batch, key: Key, weight_l2, head_l2) -> Loss:
        metrics = terms(params, batch, key, weight_l2, head_l2)
        value = means(metrics)["loss"]  # over the labelled examples of the batch
        return Loss(value, {name: m for name, m in metrics.items() if name != "loss"})

    return Algorithm(
        init=init,
        rule=descend(loss, optimizer, wrt=groups, weight_l2=weight_l2, head_l2=head_l2),
        evaluate=lambda params, batch, key: terms(params, batch, None, *final),
        encode=lambda params, x: net.encode(params, x),
        decode=lambda params, z: mean(params, net.decode(params, z)),
        reconstruct=lambda params, x: mean(params, net.apply(params, x)[1]),
        corrupt=net.corrupt,
        classes=classes,
        decodes=False,
        predict=lambda params, x: logits_of(params, x).argmax(-1),
    )
