"""The prior of a VAE on MNIST: N(0, I), a VampPrior, and an autoregressive flow.

Tomczak & Welling (2018), arXiv:1705.07120: on dynamically binarised MNIST, a VAE of one layer of 40 latents gains two
nats by a VampPrior of 500 pseudo-inputs. Here the network is 784-300-300-40, of plain rectified layers, and
log p(x) of test images is estimated by importance sampling.

    .venv/bin/python experiments/vamp_prior.py
    .venv/bin/python experiments/vamp_prior.py --full    # all images, 500 pseudo-inputs, 5,000 samples an image
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, command, experiment, image_rows, mapped, of_seed

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import vae, vamp
from ae_jax.core import Batch
from ae_jax.evaluation import log_likelihood

# Written before the first run; paired over seeds.
CLAIMS = {
    "normal minus vamp, beyond 0.5 nats": "a VampPrior gains more than half a nat",
    "normal minus maf, beyond 0.3 nats": "a flow as prior gains more than 0.3 nats",
}
WHERE = "Tomczak & Welling (2018): dynamic MNIST, one layer of latents, gated layers, early stopping, 5,000 samples"
PUBLISHED = {"normal, -log p(x), nats": Published(84.45, WHERE), "vamp, -log p(x), nats": Published(82.43, WHERE)}


@experiment(
    title="-log p(x) of {tested} test images, {data}, by the prior of a VAE of {latents} latents",
    source="Tomczak & Welling (2018), arXiv:1705.07120",
    seeds=3,
    full={"seeds": 5, "images": 60000, "epochs": 200, "components": 500, "samples": 5000, "tested": 10000},
    published=PUBLISHED,
    claims=CLAIMS,
    notes=[
        "{images} training images for {epochs} passes, where the paper trains to convergence on 50,000 with gated "
        "layers: the differences are to be compared, not the values.",
        "-log p(x) by importance sampling with {samples} samples an image is an upper bound in expectation.",
    ],
)
def main(
    run: Run,
    *,
    images: int = 20000,  # of the training set
    tested: int = 1000,  # of the test set
    epochs: int = 15,  # passes
    latents: int = 40,  # numbers in a code
    hidden: tuple[int, ...] = (300, 300),  # widths of the layers between image and code
    components: int = 200,  # pseudo-inputs of the VampPrior
    samples: int = 500,  # of the importance-sampled likelihood, an image
    batch_size: int = 100,  # examples in a step
):
    """Trains the same network with three priors, on images that are binarised anew in each step."""
    train, test = run.data()
    train = Batch(jnp.asarray(train.x[:images]))
    held = Batch(jnp.asarray(datasets.binarise(np.asarray(test.x[:tested]), seed=1)))
    net, optimizer = networks.mlp(train.x.shape[1:], latents, hidden=hidden, heads=2), optax.adam(1e-3)
    arms = {
        "normal": vae(net, optimizer),
        "vamp": vamp(net, optimizer, components=components),
        "maf": vae(net, optimizer, prior="maf"),
    }
    found, rows = {}, {"test images": np.asarray(held.x[:12])}
    for name, algorithm in arms.items():
        trained = run.train(name, algorithm, train, transform=datasets.dynamic_binarise)
        estimate = mapped(lambda one, x, of=algorithm: -log_likelihood(of, one[0], x, one[1], samples=samples).mean())
        key = run.keys("evaluation", "likelihood")
        found[name] = np.asarray(run.computed(f"{name} likelihood", estimate, (trained.params, key), held))
        run.metrics[f"{name}, -log p(x), nats"] = found[name]
        bounds = run.evaluate(algorithm, trained.params, held)
        run.metrics[f"{name}, KL, nats"] = bounds["kl"]
        assert algorithm.sample is not None
        rows[name] = np.asarray(algorithm.sample(of_seed(trained.params), run.keys("picture")[0], 12))
    run.metrics["normal minus vamp, beyond 0.5 nats"] = found["normal"] - found["vamp"] - 0.5
    run.metrics["normal minus maf, beyond 0.3 nats"] = found["normal"] - found["maf"] - 0.3
    return lambda: image_rows(rows)


if __name__ == "__main__":
    command(main)
