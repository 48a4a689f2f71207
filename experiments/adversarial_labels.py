"""Adversarial autoencoders with few labels: what the images without labels add to a classifier.

Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 5: ten classes and a style of ten
dimensions. Against the same encoder trained on the same labelled images alone, for as many steps.

    .venv/bin/python experiments/adversarial_labels.py
    .venv/bin/python experiments/adversarial_labels.py --full    # the published nets and images, 500 epochs, for a GPU
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, command, keys, mapped, record, with_labels

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import adversarial_labels
from ae_jax.app import plots
from ae_jax.core import Batch, Loss, address, descend, repeat
from ae_jax.evaluation.codes import encode
from ae_jax.training.loop import train

# Written before the first run. Pairs share the labelled images and the encoder's start.
CLAIMS = {"labels alone minus adversarial, test error, %": "images without labels lower the error"}
PUBLISHED = {100: 1.90, 1000: 1.60}  # test error in %, as remembered


def main(
    *,
    seeds: int = 8,
    seed: int = 0,
    labels: int = 100,
    classes: int = 10,
    style: int = 10,
    epochs: int = 60,
    images: int = 10000,
    hidden: tuple[int, ...] = (256, 256),
    learning_rate: float = 1e-3,
    game_rate: float = 0.4,
    batch_size: int = 100,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains adversarial autoencoders that classify, and the same encoders on the labelled images alone.

    Args:
        seeds: how many pairs of runs; each draws its own labelled images, evenly from the classes.
        seed: the first of them.
        labels: how many.
        classes: of the data.
        style: size of the rest of the code.
        epochs: passes over the training images.
        images: training images, nearly all without a label.
        hidden: widths of the encoder's layers, of the decoder's backwards, and of the critics'.
        learning_rate: of Adam with b1 = 0.5, as is usual in games; it falls to 0 along a cosine.
        game_rate: the learning rate of both sides of both games over that.
        batch_size: examples in a step.
        full: 1000 units twice, all images and 500 epochs, whatever the other arguments say.
        data: what `ae_jax.data.load` takes; it needs labels.
        out: folder for the record.
    """
    if full:
        epochs, images, hidden = 500, 60000, (1000, 1000)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    whole, test_set = with_labels(datasets.load(data))
    train_set = jax.tree.map(lambda a: jnp.asarray(a[:images]), whole)
    test_set = jax.tree.map(jnp.asarray, test_set)
    steps = epochs * -(-len(train_set.x) // batch_size)
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b1=0.5)
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

    print(f"{seeds} adversarial autoencoders with {labels} labels, {epochs} epochs")
    params = train(algorithm, train_set, epochs=epochs, batch_size=batch_size, seeds=sweep).params
    ours = np.asarray(mapped(error)(params, test_set))
    print(f"  test error {ours.round(2)} %; the same encoders on the labelled images alone, {steps} steps")
    begin = mapped(algorithm.init)
    starts = begin(keys(sweep, "init"), train_set)  # as `core.start` made them
    theirs = np.asarray(mapped(alone)(starts, test_set))
    label = "adversarial, test error, %"
    return record(
        __file__,
        {
            label: ours,
            "labels alone, test error, %": theirs,
            "labels alone minus adversarial, test error, %": theirs - ours,
        },
        title=f"Adversarial autoencoder with {labels} labels, {data}: what images without labels add",
        source="Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 5",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        published={label: Published(PUBLISHED[labels], "Makhzani et al. (2015), table 2", None, "as remembered")}
        if data == "mnist" and labels in PUBLISHED
        else {},
        claims=CLAIMS,
        notes=[
            f"{len(train_set.x)} images and {epochs} epochs of nets of {hidden} units; the paper's have 1000 units "
            "twice, all 60000 images and up to 5000 epochs. The games' learning rate was chosen (0.4, not 0.1) by "
            "a short run's error on held-out training images.",
            "Alone: full-batch Adam on the labelled images, as many steps, the same schedule and start.",
        ],
        figure=lambda: picture(algorithm, jax.tree.map(lambda p: p[0], params), classes, style),
        out=out,
    )


def picture(algorithm, params, classes: int, style: int):
    """The first seed's decoder: a class for each column, a style for each row."""
    z = jax.random.normal(address(jax.random.key(0), "sampling"), (6, 1, style))
    z = jnp.broadcast_to(z, (6, classes, style))
    y = jnp.broadcast_to(jnp.eye(classes), (6, classes, classes))
    x = algorithm.decode(params, jnp.concatenate([y, z], -1).reshape(6 * classes, -1))
    return plots.examples(np.asarray(x).reshape(6, classes, *x.shape[1:]), (0.0, 1.0))


if __name__ == "__main__":
    command(main)
