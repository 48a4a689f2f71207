"""Adversarial autoencoders that classify: the code is a class and a style, each with its own critic.

Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 5 (few labels) and 6 (none: clusters).
"""

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import Amount, Width, checked
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Optimizer, Params, chain, descend
from ..distributions import likelihoods
from ..objectives import game
from ..objectives.labels import (
    class_and_style,
    cross_entropy,
    draw_class_and_style,
    draw_labelled,
    prior_of_class_and_style,
)
from ..objectives.regularized import regularized
from ..objectives.terms import dtype_of


@checked
def adversarial_labels(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    classes: int | None = None,
    labels: int | None = None,
    critic_widths: Width = (512, 512),
    game_rate: Amount = 1.0,
    likelihood: likelihoods.LikelihoodName | likelihoods.Likelihood = "bernoulli",
) -> Algorithm:
    """Codes [softmax over classes, style]: critics make the softmax one-hot and even, and the style N(0, I).

    Args:
        net: the network, one head, whose code holds the classes and then the style.
        optimizer: an optax optimizer; each step has its own state.
        classes: number of classes or clusters; None for half of the code.
        labels: number of training labels, at least 1, drawn evenly from all classes; None for clusters without labels.
        critic_widths: widths of both critics' hidden layers.
        game_rate: learning rate of critics and encoder in both games, as a multiple of the optimizer's.
        likelihood: squared (summed squared error) or bernoulli (cross-entropy in nats, summed).
    Raises ValueError for `labels` below 1, and for a code without room for a class and a style.
    """
    if labels is not None and labels < 1:
        raise ValueError(f"labels is {labels}; give at least 1, or leave it out to find clusters without labels")
    coder, size = class_and_style(net, classes)
    base = regularized(coder, optimizer, likelihood)
    prior = lambda key, n, dtype: draw_class_and_style(key, n, size, net.latents, dtype)

    critic = game.perceptron(critic_widths)

    def player(part: slice, name: str):
        drawn = lambda params, batch, key: prior(key, len(batch.x), batch.x.dtype)[:, part]
        coded = lambda params, batch, key: coder.encode(params, batch.x, key)[:, part]
        return game.game(critic, drawn, coded, optimizer, (game_rate, game_rate), name)

    def classify(params: Params, batch: Batch, key: Key) -> Loss:  # on labelled examples, drawn with replacement
        assert labels is not None  # see `taught`
        key_pick, key_net = jax.random.split(key)
        pick = jax.random.randint(key_pick, (min(100, labels),), 0, labels)
        logits = net.encode(params, params["labelled"].x[pick], key_net)[:, :size]
        return Loss(cross_entropy(logits, params["labelled"].y[pick]))

    def init(key: Key, data: Batch) -> Params:
        key_net, key_class, key_style, key_labels = jax.random.split(key, 4)
        layers = lambda key, width: critic.init(key, jnp.zeros((1, width), data.x.dtype))
        critics = {"class_critic": layers(key_class, size), "style_critic": layers(key_style, net.latents - size)}
        return (
            base.init(key_net, data)
            | critics
            | ({"labelled": draw_labelled(data, key_labels, labels, size)} if labels else {})
        )

    def sample(params: Params, key: Key, n: int) -> Array:
        return base.decode(params, prior(key, n, dtype_of(params)))

    players = player(slice(size), "class_"), player(slice(size, None), "style_")
    taught = [descend(classify, optimizer, wrt=("encoder",), name="classification")] if labels else []
    told = {"statistics": ("labelled",), "classes": size} if labels else {}
    predict = lambda params, x: coder.encode(params, x)[:, :size].argmax(-1)
    base = base._replace(sample=sample, predict=predict, prior=prior_of_class_and_style(size, net.latents))
    return base._replace(init=init, rule=chain(base.rule, *players, *taught), **told)
