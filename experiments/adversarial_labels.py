"""Adversarial autoencoders with few labels: what the images without labels add to a classifier.

Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 5: ten classes and a style of ten
dimensions. Against the same encoder trained on the same labelled images alone, for as many steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, cosine_adam, experiment, mapped, of_seed, part

from ae_jax import networks
from ae_jax.algorithms import adversarial_labels
from ae_jax.app import plots
from ae_jax.core import Batch, Loss, address, descend, repeat
from ae_jax.evaluation.codes import encode


def picture(algorithm, params, classes: int, style: int):
    """The first seed's decoder: a class for each column, a style for each row."""
    z = jnp.repeat(jax.random.normal(address(jax.random.key(0), "sampling"), (6, style)), classes, 0)
    y = jnp.tile(jnp.eye(classes), (6, 1))
    x = algorithm.decode(params, jnp.concatenate([y, z], -1))
    return plots.examples(np.asarray(x).reshape(6, classes, *x.shape[1:]), (0.0, 1.0))


@experiment(
    title="Adversarial autoencoder with {labels} labels, {data}: what images without labels add",
    source="Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 5",
    seeds=8,
    full={"epochs": 500, "images": 60000, "hidden": (1000, 1000)},
    # Written before the first run. Pairs share the labelled images and the encoder's start.
    claims={"labels alone minus adversarial, test error, %": "images without labels lower the error"},
    notes=[
        "{trained} images and {epochs} epochs of nets of {hidden} units; the paper's have 1000 units "
        "twice, all 60000 images and up to 5000 epochs. The games' learning rate was chosen (0.4, not 0.1) by "
        "a short run's error on held-out training images.",
        "Alone: full-batch Adam on the labelled images, as many steps, the same schedule and start.",
    ],
)
def main(
    run: Run,
    labels: int = 100,  # how many; each run draws its own labelled images, evenly from the classes
    classes: int = 10,  # of the data
    style: int = 10,  # size of the rest of the code
    epochs: int = 60,  # passes over the training images
    images: int = 10000,  # training images, nearly all without a label
    hidden: tuple[int, ...] = (256, 256),  # widths of the encoder's layers, the decoder's backwards, and the critics'
    learning_rate: float = 1e-3,  # of Adam with b1 = 0.5, as is usual in games; it falls to 0 along a cosine
    game_rate: float = 0.4,  # the learning rate of both sides of both games over that
    batch_size: int = 100,  # examples in a step
):
    whole, test_set = run.data(labels=True)
    train_set, test_set = jax.tree.map(jnp.asarray, (part(whole, images), test_set))
    steps = epochs * -(-len(train_set.x) // batch_size)
    adam = cosine_adam(learning_rate, epochs, train_set, batch_size, b1=0.5)
    net = networks.mlp(train_set.x.shape[1:], classes + style, hidden=hidden)
    algorithm = adversarial_labels(net, adam, classes=classes, labels=labels, critic_widths=hidden, game_rate=game_rate)

    def error(params, test: Batch):
        return 100 * (jnp.argmax(encode(algorithm, params, test.x)[:, :classes], -1) != test.y).mean()

    def cross_entropy(params, batch: Batch, key) -> Loss:
        assert batch.y is not None
        logits = net.encode(params, batch.x, key)[:, :classes]
        return Loss(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y))

    def alone(start, test: Batch):
        rule = repeat(descend(cross_entropy, adam, wrt=("encoder",)), steps)
        known = Batch(*start["labelled"])
        return error(rule.update(start, rule.init(start), known, address(jax.random.key(0), "alone"))[0], test)

    params = run.train("adversarial", algorithm, train_set).params
    starts = mapped(algorithm.init)(run.keys("init"), train_set)  # as `core.start` made them
    run.metrics = {
        "adversarial, test error, %": np.asarray(mapped(error)(params, test_set)),
        "labels alone, test error, %": np.asarray(run.computed("labels alone", mapped(alone), starts, test_set)),
    }
    run.facts = {"trained": len(train_set.x)}
    return lambda: picture(algorithm, of_seed(params), classes, style)
