"""Four upsamplings in a convolutional autoencoder, and their checkerboards, at equal numbers of parameters.

Transposed convolution; convolution after a bilinear resize; after unpooling that fills each block (a nearest resize,
where sizes are multiples of the stride); after unpooling at the switches that the encoder's pooling remembers. Masci
et al. (2011), ICANN; Zhao et al. (2015), arXiv:1506.02351; Odena, Dumoulin & Olah (2016), Distill, who claim
that transposed convolutions make checkerboards from the first step on, and that resizing makes none.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Run, difference, experiment, mapped, of_seed

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import autoencoder
from ae_jax.app import plots
from ae_jax.app.commands.measuring import count_parameters
from ae_jax.core import Algorithm, Batch, Key, Metrics, Params, average
from ae_jax.distributions.sums import squared_error
from ae_jax.evaluation.artefacts import stride_energy

WAYS: dict[str, Literal["transpose", "bilinear", "fill", "switch"]] = {
    "transposed convolution": "transpose",
    "bilinear resize": "bilinear",
    "unpooling by filling": "fill",
    "unpooling at switches": "switch",
}
TRANSPOSED, BILINEAR, FILLED, SWITCHED = WAYS
SHORT = {TRANSPOSED: "transposed", BILINEAR: "bilinear", FILLED: "filling", SWITCHED: "switches"}
PHOTOGRAPHS = "../shared/data/bsds500"
# Written before the first full run, for every source. Shares: see the notes.
CLAIMS = {
    "at the start, share: transposed minus filling": "untrained, transposed convolution makes more of a checkerboard",
    "at the start, share: transposed minus bilinear": "untrained, transposed convolution makes more of a checkerboard",
    "trained, share: transposed minus filling": "training does not take it away",
    "trained, share: transposed minus bilinear": "training does not take it away",
    "squared error: filling minus switches": "switches tell the decoder more than the code does",
}


def some(source: str, count: int) -> tuple[Batch, Batch]:
    """`count` training examples and a third as many test examples, by a name or from a folder of photographs."""
    options: dict[str, Any] = {}
    if Path(source).is_dir():
        options = {"patch": 28, "count": count, "test_count": count // 3, "colour": False}
    train_set, test_set = datasets.load(source, **options)
    return Batch(jnp.asarray(train_set.x[:count])), Batch(jnp.asarray(test_set.x[: count // 3]))


def measure(algorithm: Algorithm, params: Params, data: Batch) -> Metrics:
    """Squared errors, and shares of outputs and residuals at the stride's frequency, means over the data."""

    def one(params: Params, batch: Batch, key: Key) -> Metrics:
        x_hat = algorithm.reconstruct(params, batch.x)
        alone = algorithm.decode(params, algorithm.encode(params, batch.x))
        errors = {"squared_error": squared_error(x_hat, batch.x), "alone": squared_error(alone, batch.x)}
        return errors | {"output": stride_energy(x_hat), "residual": stride_energy(x_hat - batch.x)}

    return average(one, params, data, jax.random.key(0))


@experiment(
    title="Four ways up in a convolutional autoencoder: errors, and checkerboards at the stride's frequency",
    source="Masci et al. (2011), ICANN; Odena, Dumoulin & Olah (2016), Distill",
    data=None,
    full={"epochs": 30, "examples": 60000},
    notes=[
        "All ways have {parameters} parameters. Share: the part of an image's energy about its mean that "
        "alternates from pixel to pixel down or across (evaluation.artefacts.stride_energy with stride 2), mean "
        "over test images; of outputs at the start and after training, and of outputs minus images. Outputs are "
        "smoother than images, so a trained share below the images' own is no proof of no artefact: compare ways.",
        "Unpooling by filling is a nearest resize wherever sizes are multiples of the stride, as here, so it "
        "stands for both. Unpooling at switches is told where the encoder found its maxima, besides the code; "
        "decoding the code alone puts values at each block's first place, which that net was not trained for.",
    ],
)
def main(
    run: Run,
    epochs: int = 12,  # passes over the training set
    examples: int = 3000,  # how many to train on, and a third as many at most to test on
    latents: int = 64,  # size of the code
    channels: tuple[int, ...] = (16, 32),  # feature maps of the encoder's levels
    sources: tuple[str, ...] = ("mnist", PHOTOGRAPHS),  # what `ae_jax.data.load` takes; 28x28 patches of photographs
):
    rows, counts = [], set()
    for source in sources:
        name = "photographs" if Path(source).is_dir() else source
        train_set, test_set = some(source, examples)
        run.metrics[f"{name}, share of the test images themselves"] = float(stride_energy(test_set.x).mean())
        rows.append(("image", test_set.x[:10]))
        for way, up in WAYS.items():
            net = networks.conv(train_set.x.shape[1:], latents, channels=channels, down="pool", up=up)
            algorithm = autoencoder(net, optax.adam(1e-3))
            start = mapped(algorithm.init)(run.keys(), train_set)
            params = run.train(f"{name}, {way}", algorithm, train_set, batch_size=64).params
            first = of_seed(params)
            counts.add(count_parameters(algorithm, first))
            begun, ended = (mapped(partial(measure, algorithm))(of, test_set) for of in (start, params))
            run.metrics |= {
                f"{name}, at the start, share: {way}": begun["output"],
                f"{name}, trained, share: {way}": ended["output"],
                f"{name}, trained, share in the residual: {way}": ended["residual"],
                f"{name}, squared error: {way}": ended["squared_error"],
            }
            if up == "switch":
                run.metrics[f"{name}, squared error: {way}, decoding the code alone"] = ended["alone"]
            rows.append((SHORT[way], np.asarray(algorithm.reconstruct(first, test_set.x[:10]))))
        for claim, text in CLAIMS.items():
            long = claim
            for way, short in SHORT.items():
                long = long.replace(short, way)
            label = f"{name}, {claim}"
            run.claims[label], run.metrics[label] = text, difference(run.metrics, f"{name}, {long}")
    if len(counts) > 1:
        raise AssertionError(f"the ways up have {sorted(counts)} parameters; they should have equally many")
    run.facts = {"parameters": counts.pop()}
    names, images = zip(*rows, strict=True)
    if len({image.shape for image in images}) > 1:
        return None
    return lambda: plots.examples(np.stack(images), (0.0, 1.0), rows=names, group=1 + len(WAYS))
