"""The prior of a VAE on MNIST: N(0, I), a VampPrior, and an autoregressive flow.

Tomczak & Welling (2018), arXiv:1705.07120: on dynamically binarised MNIST, a VAE of one layer of 40 latents gains two
nats by a VampPrior of 500 pseudo-inputs, on statically binarised MNIST three. By default the network is 784-300-300-40,
of plain rectified layers; --full has the gated layers and the training of the authors' code
(github.com/jmtomczak/vae_vampprior). log p(x) of test images is estimated by importance sampling.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from study import Published, Run, experiment, image_rows, of_seed, part

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import vae, vamp
from ae_jax.core import Autoencoder, Batch, Key, Optimizer, Params
from ae_jax.evaluation import log_likelihood
from ae_jax.objectives.recode import recoded

NLL = "-log p(x), nats"
WHERE = "Tomczak & Welling (2018), table 1: one layer of latents, 5,000 samples"
TABLE = {
    "dynamic": {"normal": Published(84.45, WHERE, 0.5), "vamp": Published(82.43, WHERE, 0.5)},
    "static": {
        "normal": Published(88.56, f"{WHERE}, as remembered", 1.0, "another draw of the static images"),
        "vamp": Published(85.57, WHERE, 1.0, "another draw of the static images"),
    },
}
# nats that a prior gains over N(0, I), as claimed before the first run; paired over seeds
GAINS = {
    "vamp": (0.5, "a VampPrior gains more than half a nat"),
    "maf": (0.3, "a flow as prior gains more than 0.3 nats"),
}
HELD_OUT, WARMUP, PATIENCE = 10_000, 100, 50  # images, warm-up epochs and patience in epochs, of the authors' code
PIECE = 500  # test images measured at once


def gated(shape: tuple[int, ...], latents: int, hidden: tuple[int, ...]) -> Autoencoder:
    """The authors' net: layers (xW + b) sigmoid(xV + c) of these widths, log-variances held within -6 and 2."""
    double = tuple(2 * width for width in hidden)
    net = networks.mlp(shape, latents, hidden=double, heads=2, activation=jax.nn.glu, init="he")

    def emitted(params: Params, x: Array, key: Key | None = None) -> Array:
        mean, logvar = jnp.split(net.encode(params, x, key), 2, -1)
        return jnp.concatenate([mean, jnp.clip(logvar, -6, 2)], -1)

    return recoded(net, emitted)


def normalised_adam(rate: float) -> Optimizer:
    """Adam on gradients at unit length, each array's by itself (the authors' AdamNormGrad)."""
    unit = optax.stateless_with_tree_map(lambda g, _: g / (jnp.linalg.norm(jnp.ravel(g)) + 1e-7))
    return optax.chain(unit, optax.adam(rate))


@experiment(
    title="-log p(x) of {tested} test images, {data}, by the prior of a VAE of {latents} latents",
    source="Tomczak & Welling (2018), arXiv:1705.07120",
    full={
        "images": 50_000, "epochs": 2000, "components": 500, "samples": 5000, "tested": 10_000,
        "binarised": ("dynamic", "static"), "priors": ("normal", "vamp"), "paper": True,
    },
    published={f"{prior}, {NLL}": of._replace(tolerance=None) for prior, of in TABLE["dynamic"].items()},
    notes=["-log p(x) by importance sampling with {samples} samples an image is an upper bound in expectation."],
)  # fmt: skip
def main(
    run: Run,
    images: int = 20000,  # of the training set
    tested: int = 1000,  # of the test set
    epochs: int = 15,  # passes, at most
    latents: int = 40,  # numbers in a code
    hidden: tuple[int, ...] = (300, 300),  # widths of the layers between image and code
    components: int = 200,  # pseudo-inputs of the VampPrior
    samples: int = 500,  # importance samples of the likelihood of an image
    batch_size: int = 100,  # examples in a step
    binarised: tuple[Literal["dynamic", "static"], ...] = ("dynamic",),  # training images: in every step, or once
    priors: tuple[Literal["normal", "vamp", "maf"], ...] = ("normal", "vamp", "maf"),  # a model each
    paper: bool = False,  # the authors' gated layers, optimizer, warm-up and early stopping
):
    grey, grey_test = run.data()
    once = lambda x, seed: Batch(jnp.asarray(datasets.binarise(np.asarray(x), seed)))
    test = once(grey_test.x[:tested], 1)
    shape, how = test.x.shape[1:], {}
    net, adam, warmup = networks.mlp(shape, latents, hidden=hidden, heads=2), optax.adam(1e-3), 0
    if paper:
        net, adam = gated(shape, latents, hidden), normalised_adam(5e-4)
        warmup = WARMUP * -(-images // batch_size)
        held_out = grey.x[images : images + HELD_OUT]
        if not len(held_out):
            raise ValueError(f"{images} of {len(grey.x)} training images leave none to stop by: take fewer images")
        how = {"validation": once(held_out, 777), "patience": WARMUP + PATIENCE}
        if run.settings["data"] == "mnist" and (images, epochs, samples) == (50_000, 2000, 5000):
            run.published |= {
                f"{of}{prior}, {NLL}": value
                for kind, rows in TABLE.items()
                for of in ["" if kind == "dynamic" else "static, "]
                for prior, value in rows.items()
            }
    rows, stopped = {"test images": np.asarray(test.x[:12])}, []
    for kind in binarised:
        of = "" if kind == "dynamic" else "static, "
        train = once(grey.x[:images], 2) if of else Batch(jnp.asarray(part(grey.x, images)))
        nlls = {}
        for name in priors:
            prior: Any = {} if name == "normal" else {"components": components} if name == "vamp" else {"prior": name}
            algorithm = (vamp if name == "vamp" else vae)(net, adam, warmup_steps=warmup, **prior)
            drawn = {} if of else {"transform": datasets.dynamic_binarise}
            trained = run.train(f"{of}{name}", algorithm, train, **drawn, **how)
            stopped.append(f"{of}{name}, {', '.join(map(str, trained.best_epoch))}")
            measure = lambda one, d, a=algorithm: -log_likelihood(a, one[0], d, one[1], samples=samples).sum()
            total = 0.0
            for i in range(0, len(test.x), PIECE):
                given = trained.params, run.keys("evaluation", "likelihood", i)
                place = f"{of}{name}, likelihood of images from {i}"
                total = total + run.each(place, measure, given, part(test, i, i + PIECE))
            nlls[name] = total / len(test.x)
            run.metrics[f"{of}{name}, {NLL}"] = nlls[name]
            run.metrics[f"{of}{name}, KL, nats"] = run.evaluate(algorithm, trained.params, test)["kl"]
            assert algorithm.sample is not None
            rows[f"{of}{name}"] = np.asarray(algorithm.sample(of_seed(trained.params), run.keys("picture")[0], 12))
        for name, (gain, claim) in GAINS.items():
            if {name, "normal"} <= nlls.keys():
                label = f"{of}normal minus {name}, beyond {gain:g} nats"
                run.metrics[label], run.claims[label] = nlls["normal"] - nlls[name] - gain, claim
    run.notes = [
        f"By the authors' code: gated layers, Adam on normalised gradients at 5e-4, the KL raised for {WARMUP} "
        f"epochs, the best of at most {epochs:,} by {HELD_OUT:,} held-out images; training stops {WARMUP + PATIENCE} "
        f"epochs after the best (theirs: {PATIENCE}, counted from the end of the warm-up). Departures: pseudo-inputs "
        "begin at training images, biases at 0; both halves of a gated layer are one array to the optimizer; static "
        f"images are another draw than the published files. Best epochs: {'; '.join(stopped)}."
        if paper
        else f"{images} training images for {epochs} passes, where the paper trains to convergence on 50,000 with "
        "gated layers: the differences are to be compared, not the values."
    ]
    return lambda: image_rows(rows)
