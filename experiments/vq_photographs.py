"""The learning curve of a convolutional VQ-VAE on photographs, beside that of the reference implementation on CIFAR-10.

The net and the settings are those of the example of DeepMind's Sonnet (examples/vqvae_example.ipynb): two strided
convolutions and two residual blocks either way, 64 vectors of 64 numbers an image of 32x32, 512 vectors in a moving
codebook, batches of 32, Adam at 3e-4. Its curve is of CIFAR-10, ours of 32x32 pieces of photographs (BSDS500), so the
two are close only if the images are alike. The default is the curve's first 1,000 steps of 10,000; --full has all,
and beside them a residual quantiser and rounded numbers (FSQ), each with as many bits an image.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from study import Published, Run, experiment, image_rows, of_seed

from ae_jax import core, networks
from ae_jax.algorithms import vq_vae
from ae_jax.networks.image_ops import convolve, convolve_transpose

WHERE = "CIFAR-10, mean of 100 training steps: Sonnet's examples/vqvae_example.ipynb"
REST, TEST = "training error / variance after 1,000 steps", "test error / variance"
EVEN = "perplexity of a batch, last epoch"
VQ, RESIDUAL, FSQ = "VQ-VAE", "residual VQ", "FSQ"
CURVE = {1000: 0.105, 2000: 0.081, 3000: 0.071, 4000: 0.065, 10_000: 0.056}  # of the example: steps, error / variance
Params = dict[str, dict[str, Array]]


def layers(hidden: int, blocks: int, narrow: int, size: int, colours: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of the kernels of both halves: [h, w, in, out]."""
    residual = lambda of: {
        f"{of}_{i}_{j}": shape
        for i in range(blocks)
        for j, shape in enumerate(((3, 3, hidden, narrow), (1, 1, narrow, hidden)))
    }
    encoder = {"down_0": (4, 4, colours, hidden // 2), "down_1": (4, 4, hidden // 2, hidden)}
    encoder |= {"in": (3, 3, hidden, hidden), **residual("block"), "code": (1, 1, hidden, size)}
    decoder = {"in": (3, 3, size, hidden), **residual("block")}
    decoder |= {"up_0": (4, 4, hidden, hidden // 2), "up_1": (4, 4, hidden // 2, colours)}
    return {"encoder": encoder, "decoder": decoder}


def net(side: int, colours: int, hidden: int, blocks: int, narrow: int, size: int) -> core.Autoencoder:
    """The example's net for images of a side that 4 divides; a code is maps [side / 4, side / 4, size]."""
    kernels, corner = layers(hidden, blocks, narrow, size, colours), side // 4

    def init(half: str):
        def draw(key, x) -> Params:
            """Normal weights of deviation sqrt(1 / inputs), no bias: Sonnet's default."""
            made = {}
            for name, shape in kernels[half].items():
                scale = (shape[0] * shape[1] * shape[2]) ** -0.5
                kernel = scale * jax.random.truncated_normal(core.address(key, name), -2, 2, shape)
                made[name] = {"kernel": kernel, "bias": jnp.zeros(shape[3])}
            return made

        return draw

    def conv(params: Params, name: str, x: Array, stride: int = 1) -> Array:
        return convolve(x, params[name]["kernel"], stride) + params[name]["bias"]

    def widened(params: Params, name: str, x: Array) -> Array:
        kernel = params[name]["kernel"].swapaxes(2, 3)
        return convolve_transpose(x, kernel, (2 * x.shape[1], 2 * x.shape[2]), 2) + params[name]["bias"]

    def stack(params: Params, h: Array) -> Array:
        for i in range(blocks):
            inner = jax.nn.relu(conv(params, f"block_{i}_0", jax.nn.relu(h)))
            h = h + conv(params, f"block_{i}_1", inner)
        return jax.nn.relu(h)

    def encode(params: Params, x: Array) -> Array:
        h = jax.nn.relu(conv(params, "down_0", x - 0.5, 2))
        h = jax.nn.relu(conv(params, "down_1", h, 2))
        return conv(params, "code", stack(params, conv(params, "in", h))).reshape(len(x), -1)

    def decode(params: Params, z: Array) -> Array:
        h = stack(params, conv(params, "in", z.reshape(len(z), corner, corner, size)))
        return widened(params, "up_1", jax.nn.relu(widened(params, "up_0", h))) + 0.5

    encoder, decoder = core.Net(init("encoder"), encode), core.Net(init("decoder"), decode)
    return networks.from_nets(encoder, decoder, (side, side, colours), corner**2 * size)


@experiment(
    title="A VQ-VAE's learning curve on 32x32 photographs",
    source="van den Oord et al. (2017), arXiv:1711.00937; Sonnet's examples/vqvae_example.ipynb",
    data="../shared/data/bsds500",
    full={"epochs": 50, "quantisers": (VQ, RESIDUAL, FSQ)},
    published={f"training error / variance after {n:,} steps": Published(value, WHERE) for n, value in CURVE.items()},
    # Written before the first run, as were those of the other quantisers, in `main`.
    claims={f"0.12 less {REST}": "1,000 steps are enough for an eighth of the variance"},
    notes=[
        "Each value is the mean over the training steps of one epoch, 200 by default, that ends there. The cost of "
        "codes has the example's weight, 0.25 of a mean over numbers, in units of a squared error summed over pixels. "
        "The codebook starts as codes and revives vectors, and its averages are not smoothed.",
        "Every quantiser has 9 bits a place: residual VQ three codebooks of 8 vectors, FSQ three numbers of 8 levels, "
        "from a net whose codes have 3 maps in place of {dimension}.",
    ],
)
def main(
    run: Run,
    images: int = 6400,  # training pieces
    tested: int = 1000,  # test pieces
    epochs: int = 5,  # passes over them
    batch_size: int = 32,  # pieces in a step
    side: int = 32,  # of a piece, pixels
    hidden: int = 128,  # maps
    narrow: int = 32,  # maps inside a residual block
    dimension: int = 64,  # of a vector
    size: int = 512,  # vectors; a cube, if there are other quantisers
    quantisers: tuple[Literal["VQ-VAE", "residual VQ", "FSQ"], ...] = (VQ,),  # each a run of its own
):
    levels = round(size ** (1 / 3))
    if levels**3 != size and {*quantisers} != {VQ}:
        raise ValueError(f"size is {size}; give a cube, such as 512, for three small codebooks with as many bits")
    data = run.data(patch=side, colour=True, count=images, test_count=tested)
    variance = float(np.var(np.asarray(data.train.x)))  # of all numbers, about their mean
    numbers, steps = side * side * 3, -(-images // batch_size)
    x = jnp.asarray(data.test.x[:10])
    rows, tests = {"input": np.asarray(x)}, {}
    for name in quantisers:
        of, vector = "" if name == VQ else f"{name}, ", 3 if name == FSQ else dimension
        commitment = 0.25 * numbers * variance / ((side // 4) ** 2 * vector)
        how = {
            VQ: {"size": size, "commitment": commitment, "least": 0.01},
            RESIDUAL: {"quantiser": "residual", "size": levels, "depth": 3, "commitment": commitment, "least": 0.01},
            FSQ: {"quantiser": "fsq", "levels": (levels,) * 3},
        }[name]
        shaped = net(side, 3, hidden, 2, narrow, vector)
        algorithm = vq_vae(shaped, optax.adam(3e-4), dimension=vector, likelihood="squared", **how)
        trained = run.train(name, algorithm, data.train)
        curve = np.array([row["train"]["reconstruction"] for row in trained.history]) / (numbers * variance)  # [E, S]
        for after in CURVE:
            if (passes := after // steps) * steps == after and passes <= epochs:
                run.metrics[f"{of}training error / variance after {after:,} steps"] = curve[passes - 1]
        found = run.evaluate(algorithm, trained.params, data.test)
        tests[name] = np.asarray(found["squared_error"]) / (numbers * variance)
        run.metrics[f"{of}{TEST}"] = tests[name]
        run.metrics[f"{of}{EVEN}"] = np.array(trained.history[-1]["train"]["batch_perplexity"])
        rows[name] = np.clip(np.asarray(algorithm.reconstruct(of_seed(trained.params), x)), 0, 1)
    if epochs * steps == max(CURVE):
        run.published[EVEN] = Published(326, WHERE)
    if REST in run.metrics:  # else the epochs do not end there
        run.metrics[f"0.12 less {REST}"] = 0.12 - run.metrics[REST]
    if {VQ, RESIDUAL} <= tests.keys():
        label = f"{RESIDUAL} minus {VQ}, {TEST}"
        run.metrics[label], run.claims[label] = tests[RESIDUAL] - tests[VQ], "three small codebooks keep less"
    if {VQ, FSQ} <= tests.keys():
        label = f"1.1 of {VQ} minus {FSQ}, {TEST}"
        run.metrics[label], run.claims[label] = 1.1 * tests[VQ] - tests[FSQ], "FSQ loses a tenth more at most"
    return lambda: image_rows(rows)
