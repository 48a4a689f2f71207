"""The pseudo-likelihood of an RBM on MNIST while persistent CD trains it, as in the deeplearning.net tutorial.

Its settings: the first 50,000 digits, 500 hidden units, weights from U(+-4 sqrt(6 / (784 + 500))), 20 persistent chains
of 15 Gibbs steps an update, plain gradient descent at 0.1, batches of 20, 15 epochs; the estimate, of rounded pixels,
is averaged over each epoch while it trains. Beyond the tutorial: log p of unseen binary digits, with the partition
function by annealed importance sampling (Salakhutdinov & Murray, 2008).

    .venv/bin/python experiments/rbm_pseudo_likelihood.py
    .venv/bin/python experiments/rbm_pseudo_likelihood.py --full    # 5 seeds, all 15 epochs
"""

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from study import Published, command, record

from ae_jax import data as datasets
from ae_jax import networks
from ae_jax.algorithms import rbm
from ae_jax.app import plots
from ae_jax.core import Batch, Rule, address, chain, start, sweep
from ae_jax.evaluation import partition
from ae_jax.objectives import boltzmann

# Written before the first run.
WHERE = "deeplearning.net tutorial, Restricted Boltzmann Machines, printed output"
FIRST = {"pseudo-likelihood in epoch 1, nats": Published(-90.65, WHERE, 5.0, "one run; their epoch 0")}
ALL = FIRST | {"pseudo-likelihood in epoch 15, nats": Published(-62.8, WHERE, 3.0, "one run; their epoch 14")}
CLAIMS = {"AIS, width of log Z's interval below 3 nats": "annealing pins the partition function down"}
WIDEST = 100.0  # nats, instead of an interval without a lower end, where three standard deviations exceed the mean


def main(
    *,
    seeds: int = 3,
    seed: int = 0,
    epochs: int = 1,
    units: int = 500,
    steps: int = 15,
    learning_rate: float = 0.1,
    batch_size: int = 20,
    examples: int = 50_000,
    chains: int = 100,
    temperatures: int = 10_000,
    full: bool = False,
    data: str = "mnist",
    out: str = "results",
):
    """Trains RBMs by persistent CD, watches their pseudo-likelihood, and estimates their partition functions.

    Args:
        seeds: how many independent runs.
        seed: the first of them.
        epochs: passes over the training set.
        units: hidden units.
        steps: of Gibbs sampling an update.
        learning_rate: of plain gradient descent.
        batch_size: examples in a step, and persistent chains.
        examples: of the training set, the first ones.
        chains: of annealed importance sampling.
        temperatures: of each of these chains.
        full: the tutorial's 15 epochs, 5 seeds.
        data: what `ae_jax.data.load` takes.
        out: folder for the record.
    """
    if full:
        seeds, epochs = 5, 15
    settings, began, sweeps = dict(locals()), time.perf_counter(), range(seed, seed + seeds)
    train_set, test_set = datasets.load(data)
    train_set = Batch(jnp.asarray(train_set.x[:examples]))
    binary = jnp.asarray(test_set.x).round()
    net = networks.mlp(train_set.x.shape[1:], units, hidden=(), tied=True, init="sigmoid_uniform")
    algorithm = rbm(net, optax.sgd(learning_rate), steps=steps, chains=batch_size)
    machine = boltzmann.machine(net)

    def look(params, memory, batch, key):
        return params, memory, {"pseudo_likelihood": machine.pseudo_likelihood(params, batch.x.round(), key).mean()}

    rule = sweep(chain(Rule(lambda params: (), look), algorithm.rule), batch_size)
    advance = jax.jit(rule.update, donate_argnums=(0, 1))
    anneal = jax.jit(partial(partition.ais, machine, chains=chains, temperatures=temperatures))
    base = jnp.clip(train_set.x.round().mean(0), 0.01, 0.99)  # of the annealing: the pixels' own means
    likelihood = jax.jit(lambda params, log_z: partition.log_likelihood(machine, params, binary, log_z).mean())
    exact = jax.jit(lambda params: machine.pseudo_likelihood(params, binary[:500]).mean())
    assert algorithm.sample is not None
    draw = jax.jit(algorithm.sample, static_argnums=2)

    found = {"curve": [], "AIS": [], "width": [], "effective": [], "test": [], "samples": []}
    for s in sweeps:
        params, memory, key_epochs = start(jax.jit(algorithm.init), rule, train_set, jax.random.key(s))
        found["curve"].append([])
        for e in range(epochs):
            params, memory, metrics = advance(params, memory, train_set, address(key_epochs, e))
            found["curve"][-1].append(float(metrics["pseudo_likelihood"]))
            print(f"seed {s}, epoch {e + 1}: pseudo-likelihood {found['curve'][-1][-1]:.2f}", flush=True)
        print(f"seed {s}: annealing {chains} chains over {temperatures} temperatures", flush=True)
        key_ais, key_samples = (address(jax.random.key(s), name) for name in ("annealing", "sampling"))
        estimate = anneal(params, key_ais, base=jnp.log(base / (1 - base)))
        found["AIS"].append(float(likelihood(params, estimate.log_z)))
        found["width"].append(min(float(estimate.high - estimate.low), WIDEST))
        spread = float(jnp.expm1(estimate.high - estimate.log_z)) / 3 * chains**0.5  # of weights of mean 1
        found["effective"].append(chains / (1 + spread**2 * (chains - 1) / chains))  # (sum w)^2 / sum w^2
        found["test"].append(float(exact(params)))
        found["samples"].append(draw(params, key_samples, 20))
    curve = np.array(found["curve"])
    metrics = {f"pseudo-likelihood in epoch {e + 1}, nats": curve[:, e] for e in sorted({0, epochs - 1})} | {
        "pseudo-likelihood of 500 binary test digits, exact, nats": found["test"],
        "log p of binary test digits by AIS, nats": found["AIS"],
        f"AIS, effective number of its {chains} chains": found["effective"],
        "AIS, width of log Z's interval below 3 nats": 3 - np.array(found["width"]),
    }
    samples = np.asarray(found["samples"][0])
    cells = np.stack([np.asarray(binary[:10]), samples[:10], samples[10:]])
    return record(
        __file__,
        metrics,
        title=f"An RBM of {units} units by persistent CD-{steps}: pseudo-likelihood and likelihood, {data}",
        source="deeplearning.net, Restricted Boltzmann Machines; Salakhutdinov & Murray (2008), ICML",
        settings=settings,
        seeds=sweeps,
        seconds=time.perf_counter() - began,
        published={k: v for k, v in ALL.items() if k in metrics} if data == "mnist" else {},
        claims=CLAIMS,
        notes=[
            "The tutorial takes the same pixel of all digits in a batch, the next one in the next batch; here each "
            "digit has a pixel drawn for it. Its order of the digits is another, too.",
            f"Trained for {epochs} of the tutorial's 15 epochs on grey values as probabilities, as there; tested on "
            "pixels rounded to 0 or 1. The interval of log Z is of three standard deviations; where these exceed the "
            f"mean weight it has no lower end, and its width is set to {WIDEST:g} nats.",
        ],
        figure=lambda: plots.examples(
            cells, (0.0, 1.0), rows=("binary test digits", "samples (means) after", "1,000 Gibbs steps")
        ),
        out=out,
    )


if __name__ == "__main__":
    command(main)
