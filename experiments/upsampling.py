"""Four ways up in a convolutional autoencoder, and their checkerboards, at equal numbers of parameters.

Transposed convolution; convolution after a bilinear resize; after unpooling that fills each block (a nearest resize,
where sizes are multiples of the stride); after unpooling at the switches that the encoder's pooling remembers. Masci
et al. (2011), ICANN; Zhao et al. (2015), arXiv:1506.02351; Odena, Dumoulin & Olah (2016), Distill, whose claim it is
that transposed convolutions make checkerboards, from the first step on, where resizing makes none.

    .venv/bin/python experiments/upsampling.py
    .venv/bin/python experiments/upsampling.py --full    # all images, 60,000 patches, 30 epochs
"""

import time
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import command, keys, mapped, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.app import plots
from ae_jax.app.commands.measuring import count_parameters
from ae_jax.core import Algorithm, Batch, Key, Metrics, Params, average
from ae_jax.distributions.sums import squared_error
from ae_jax.evaluation.artefacts import stride_energy
from ae_jax.training.loop import train

WAYS: dict[str, Literal["transpose", "bilinear", "fill", "switch"]] = {
    "transposed convolution": "transpose",
    "bilinear resize": "bilinear",
    "unpooling by filling": "fill",
    "unpooling at switches": "switch",
}
TRANSPOSED, BILINEAR, FILLED, SWITCHED = WAYS
SHORT = {TRANSPOSED: "transposed", BILINEAR: "bilinear", FILLED: "filling", SWITCHED: "switches"}
PHOTOGRAPHS = "../shared/data/bsds500"
AT_START, TRAINED = "at the start, share", "trained, share"

# Written before the first full run, for every source. Shares: see the notes.
CLAIMS = {
    "at the start, share: transposed minus filling": "untrained, transposed convolution makes more of a checkerboard",
    "at the start, share: transposed minus bilinear": "untrained, transposed convolution makes more of a checkerboard",
    "trained, share: transposed minus filling": "training does not take it away",
    "trained, share: transposed minus bilinear": "training does not take it away",
    "squared error: filling minus switches": "switches tell the decoder more than the code does",
}


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 12,
    examples: int = 3000,
    latents: int = 64,
    channels: tuple[int, ...] = (16, 32),
    sources: tuple[str, ...] = ("mnist", PHOTOGRAPHS),
    full: bool = False,
    out: str = "results",
):
    """Trains the same autoencoder with each way up and compares errors on unseen images, and checkerboards.

    Args:
        seeds: how many runs of each; a seed gives all ways the same start and batches.
        seed: the first of them; its reconstructions are the picture.
        epochs: passes over the training set.
        examples: how many to train on, and a third as many at most to test on.
        latents: size of the code.
        channels: feature maps of the encoder's levels.
        sources: what `ae_jax.data.load` takes; from a folder of photographs, 28x28 grey patches.
        full: 60,000 examples and 30 epochs, whatever the other arguments say.
        out: folder for the record.
    """
    epochs, examples = (30, 60000) if full else (epochs, examples)
    settings, began, sweep = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    metrics, rows, counts = {}, [], set()
    for source in sources:
        name = "photographs" if Path(source).is_dir() else source
        train_set, test_set = some(source, examples)
        own = float(stride_energy(test_set.x).mean())
        metrics[f"{name}, share of the test images themselves"] = np.full(seeds, own)
        rows.append(("image", test_set.x[:10]))
        for way, up in WAYS.items():
            print(f"{name}, {way}: {seeds} runs of {epochs} epochs", flush=True)
            net = networks.conv(train_set.x.shape[1:], latents, channels=channels, down="pool", up=up)
            algorithm = autoencoder(net, optax.adam(1e-3))
            start = mapped(lambda key, d, a=algorithm: a.init(key, d))(keys(sweep), train_set)
            params = train(algorithm, train_set, epochs=epochs, batch_size=64, seeds=sweep).params
            first = jax.tree.map(lambda p: p[0], params)
            counts.add(count_parameters(algorithm, first))
            begun, ended = measure(algorithm, (start, params), test_set)
            metrics |= {
                f"{name}, at the start, share: {way}": begun["output"],
                f"{name}, trained, share: {way}": ended["output"],
                f"{name}, trained, share in the residual: {way}": ended["residual"],
                f"{name}, squared error: {way}": ended["squared_error"],
            }
            if up == "switch":
                metrics[f"{name}, squared error: {way}, decoding the code alone"] = ended["alone"]
            rows.append((SHORT[way], np.asarray(algorithm.reconstruct(first, test_set.x[:10]))))
        for what in (AT_START, TRAINED):
            for other in (FILLED, BILINEAR):
                metrics[f"{name}, {what}: transposed minus {SHORT[other]}"] = (
                    metrics[f"{name}, {what}: {TRANSPOSED}"] - metrics[f"{name}, {what}: {other}"]
                )
        metrics[f"{name}, squared error: filling minus switches"] = (
            metrics[f"{name}, squared error: {FILLED}"] - metrics[f"{name}, squared error: {SWITCHED}"]
        )
    if len(counts) > 1:
        raise AssertionError(f"the ways up have {sorted(counts)} parameters; they should have equally many")
    claims = {label: text for label in metrics for end, text in CLAIMS.items() if label.endswith(end)}
    return record(
        __file__,
        metrics,
        title="Four ways up in a convolutional autoencoder: errors, and checkerboards at the stride's frequency",
        source="Masci et al. (2011), ICANN; Odena, Dumoulin & Olah (2016), Distill",
        settings=settings,
        seeds=sweep,
        seconds=time.perf_counter() - began,
        claims=claims,
        notes=[
            f"All ways have {counts.pop()} parameters. Share: the part of an image's energy about its mean that "
            "alternates from pixel to pixel down or across (evaluation.artefacts.stride_energy with stride 2), mean "
            "over test images; of outputs at the start and after training, and of outputs minus images. Outputs are "
            "smoother than images, so a trained share below the images' own is no proof of no artefact: compare ways.",
            "Unpooling by filling is a nearest resize wherever sizes are multiples of the stride, as here, so it "
            "stands for both. Unpooling at switches is told where the encoder found its maxima, besides the code; "
            "decoding the code alone puts values at each block's first place, which that net was not trained for.",
        ],
        figure=lambda: (
            plots.examples(
                np.stack([row for _, row in rows]),
                (0.0, 1.0),
                rows=tuple(name for name, _ in rows),
                group=1 + len(WAYS),
            )
            if len({row.shape for _, row in rows}) == 1
            else None
        ),
        out=out,
    )


def some(source: str, count: int) -> tuple[Batch, Batch]:
    """So many training examples and a third as many of the test set, from a name or a folder of photographs."""
    options: dict[str, Any] = {}
    if Path(source).is_dir():
        options = {"patch": 28, "count": count, "test_count": count // 3, "colour": False}
    train_set, test_set = datasets.load(source, **options)
    return Batch(jnp.asarray(train_set.x[:count])), Batch(jnp.asarray(test_set.x[: count // 3]))


def measure(algorithm: Algorithm, stages: tuple[Params, ...], data: Batch) -> list[Metrics]:
    """Squared errors, and shares of outputs and residuals at the stride's frequency. params [S, ...] -> each [S]."""

    def one(params: Params, batch: Batch, key: Key) -> Metrics:
        x_hat = algorithm.reconstruct(params, batch.x)
        alone = algorithm.decode(params, algorithm.encode(params, batch.x))
        return {
            "squared_error": squared_error(x_hat, batch.x),
            "alone": squared_error(alone, batch.x),
            "output": stride_energy(x_hat),
            "residual": stride_energy(x_hat - batch.x),
        }

    means = mapped(lambda params, data: average(one, params, data, jax.random.key(0)))
    return [jax.tree.map(np.asarray, means(params, data)) for params in stages]


if __name__ == "__main__":
    command(main)
