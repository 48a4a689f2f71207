"""The pseudo-likelihood of an RBM on MNIST while persistent CD trains it, as in the deeplearning.net tutorial.

The defaults are the tutorial's settings, except for its 15 epochs. The estimate, of rounded pixels, is averaged over
each epoch while it trains. Beyond the tutorial: log p of unseen binary digits, with the partition function by annealed
importance sampling (Salakhutdinov & Murray, 2008).
"""

import jax.numpy as jnp
import numpy as np
import optax
from study import Published, Run, experiment

from ae_jax import networks
from ae_jax.algorithms import rbm
from ae_jax.app import plots
from ae_jax.core import Batch, Rule, chain
from ae_jax.evaluation import partition
from ae_jax.objectives import boltzmann

WHERE = "deeplearning.net tutorial, Restricted Boltzmann Machines, printed output"
WIDEST = 100.0  # nats, for an interval without a lower end: three standard deviations exceed the mean weight


@experiment(
    title="An RBM of {units} units by persistent CD-{steps}: pseudo-likelihood and likelihood, {data}",
    source="deeplearning.net, Restricted Boltzmann Machines; Salakhutdinov & Murray (2008), ICML",
    full={"seeds": 5, "epochs": 15},
    # Written before the first run.
    published={
        "pseudo-likelihood in epoch 1, nats": Published(-90.65, WHERE, 5.0, "one run; their epoch 0"),
        "pseudo-likelihood in epoch 15, nats": Published(-62.8, WHERE, 3.0, "one run; their epoch 14"),
    },
    claims={"AIS, width of log Z's interval below 3 nats": "annealing pins the partition function down"},
    notes=[
        "The tutorial takes the same pixel of all digits in a batch, the next one in the next batch; here each "
        "digit has a pixel drawn for it. Its order of the digits is another, too.",
        "Trained for {epochs} of the tutorial's 15 epochs on grey values as probabilities, as there; tested on "
        "pixels rounded to 0 or 1. The interval of log Z is of three standard deviations; where these exceed the "
        f"mean weight it has no lower end, and its width is set to {WIDEST:g} nats.",
    ],
)
def main(
    run: Run,
    epochs: int = 1,  # passes over the training set
    units: int = 500,  # hidden units
    steps: int = 15,  # of Gibbs sampling an update
    learning_rate: float = 0.1,  # of plain gradient descent
    batch_size: int = 20,  # examples in a step, and persistent chains
    examples: int = 50_000,  # of the training set, the first ones
    chains: int = 100,  # of annealed importance sampling
    temperatures: int = 10_000,  # of each of these chains
):
    train_set, test_set = run.data()
    train_set, binary = Batch(jnp.asarray(train_set.x[:examples])), jnp.asarray(test_set.x).round()
    net = networks.mlp(train_set.x.shape[1:], units, hidden=(), tied=True, init="sigmoid_uniform")
    algorithm = rbm(net, optax.sgd(learning_rate), steps=steps, chains=batch_size)
    machine = boltzmann.machine(net)

    def look(params, memory, batch, key):
        return params, memory, {"pseudo_likelihood": machine.pseudo_likelihood(params, batch.x.round(), key).mean()}

    def measure(of, base, x):
        params, key_ais, key_samples = of
        options = {"chains": chains, "temperatures": temperatures, "base": jnp.log(base / (1 - base))}
        estimate = partition.ais(machine, params, key_ais, **options)
        known = partition.log_likelihood(machine, params, x, estimate.log_z).mean()
        exact = machine.pseudo_likelihood(params, x[:500]).mean()
        assert algorithm.sample is not None
        return estimate, known, exact, algorithm.sample(params, key_samples, 20)

    watched = algorithm._replace(rule=chain(Rule(lambda params: (), look), algorithm.rule))
    trained = run.train("RBM", watched, train_set)
    base = jnp.clip(train_set.x.round().mean(0), 0.01, 0.99)  # means of the annealing's first distribution
    of = trained.params, run.keys("annealing"), run.keys("sampling")
    estimate, likelihood, exact, samples = run.each("annealing", measure, of, base, binary)
    spread = np.expm1(estimate.high - estimate.log_z) / 3 * chains**0.5  # standard deviation of the weights, at mean 1
    for e in sorted({1, epochs}):
        run.metrics[f"pseudo-likelihood in epoch {e}, nats"] = trained.history[e - 1]["train"]["pseudo_likelihood"]
    run.metrics |= {
        "pseudo-likelihood of 500 binary test digits, exact, nats": exact,
        "log p of binary test digits by AIS, nats": likelihood,
        # (sum w)^2 / sum w^2
        f"AIS, effective number of its {chains} chains": chains / (1 + spread**2 * (chains - 1) / chains),
        "AIS, width of log Z's interval below 3 nats": 3 - np.minimum(estimate.high - estimate.low, WIDEST),
    }
    cells = np.stack([binary[:10], samples[0][:10], samples[0][10:]])
    rows = ("binary test digits", "samples (means) after", "1,000 Gibbs steps")
    return lambda: plots.examples(cells, (0.0, 1.0), rows=rows)
