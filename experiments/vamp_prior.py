"""The prior of a VAE on MNIST: N(0, I), a VampPrior, and an autoregressive flow.

Tomczak & Welling (2018), arXiv:1705.07120: on dynamically binarised MNIST, a VAE of one layer of 40 latents gains two
nats by a VampPrior of 500 pseudo-inputs. Here the network is 784-300-300-40, of plain rectified layers, and
log p(x) of test images is estimated by importance sampling.
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, experiment, image_rows, mapped, of_seed, part

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import vae, vamp
from ae_jax.core import Batch
from ae_jax.evaluation import log_likelihood

NLL = "-log p(x), nats"
WHERE = "Tomczak & Welling (2018): dynamic MNIST, one layer of latents, gated layers, early stopping, 5,000 samples"


@experiment(
    title="-log p(x) of {tested} test images, {data}, by the prior of a VAE of {latents} latents",
    source="Tomczak & Welling (2018), arXiv:1705.07120",
    full={"seeds": 5, "images": 60000, "epochs": 200, "components": 500, "samples": 5000, "tested": 10000},
    published={f"normal, {NLL}": Published(84.45, WHERE), f"vamp, {NLL}": Published(82.43, WHERE)},
    # Written before the first run; paired over seeds.
    claims={
        "normal minus vamp, beyond 0.5 nats": "a VampPrior gains more than half a nat",
        "normal minus maf, beyond 0.3 nats": "a flow as prior gains more than 0.3 nats",
    },
    notes=[
        "{images} training images for {epochs} passes, where the paper trains to convergence on 50,000 with gated "
        "layers: the differences are to be compared, not the values.",
        "-log p(x) by importance sampling with {samples} samples an image is an upper bound in expectation.",
    ],
)
def main(
    run: Run,
    images: int = 20000,  # of the training set
    tested: int = 1000,  # of the test set
    epochs: int = 15,  # passes
    latents: int = 40,  # numbers in a code
    hidden: tuple[int, ...] = (300, 300),  # widths of the layers between image and code
    components: int = 200,  # pseudo-inputs of the VampPrior
    samples: int = 500,  # of the importance-sampled likelihood, an image
    batch_size: int = 100,  # examples in a step
):
    train, test = run.data()
    train = Batch(jnp.asarray(part(train.x, images)))
    test = Batch(jnp.asarray(datasets.binarise(np.asarray(test.x[:tested]), seed=1)))
    net, adam = networks.mlp(train.x.shape[1:], latents, hidden=hidden, heads=2), optax.adam(1e-3)
    rows = {"test images": np.asarray(test.x[:12])}
    for name, algorithm in {
        "normal": vae(net, adam),
        "vamp": vamp(net, adam, components=components),
        "maf": vae(net, adam, prior="maf"),
    }.items():
        params = run.train(name, algorithm, train, transform=datasets.dynamic_binarise).params
        nll = mapped(lambda one, d, a=algorithm: -log_likelihood(a, one[0], d, one[1], samples=samples).mean())
        given = params, run.keys("evaluation", "likelihood")
        run.metrics[f"{name}, {NLL}"] = np.asarray(run.computed(f"{name}, measured", nll, given, test))
        run.metrics[f"{name}, KL, nats"] = run.evaluate(algorithm, params, test)["kl"]
        assert algorithm.sample is not None
        rows[name] = np.asarray(algorithm.sample(of_seed(params), run.keys("picture")[0], 12))
    for name, gain in (("vamp", 0.5), ("maf", 0.3)):
        gained = run.metrics[f"normal, {NLL}"] - run.metrics[f"{name}, {NLL}"]
        run.metrics[f"normal minus {name}, beyond {gain:g} nats"] = gained - gain
    return lambda: image_rows(rows)
