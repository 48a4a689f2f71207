"""Sparse autoencoders: units that are seldom active. Ng (2011), CS294A lecture notes; UFLDL.

The penalty is KL(target || rho_j), where rho_j is the mean activation of unit j over the *whole* training set. A
minibatch does not know rho, so rho is measured before each pass. A minibatch then minimizes sum_j KL(rho_j) +
KL'(rho_j) (a_j - rho_j) over its activations a. At the measured rho, the mean of this over the data has exactly the
full-batch value and gradient. A stale rho makes units oscillate and die, so each update moves rho by the change of the
mean activation on its own batch, plus a small pull to that mean.

With noise or dropout, rho is measured on clean inputs and a on corrupted ones, so the gradient is approximate.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import Inside, Weight, check_choice, checked, unless
from ..core import Algorithm, Batch, Key, Loss, Optimizer, Params, Rule, SigmoidAutoencoder, assign, sweep
from ..distributions.divergences import bernoulli_kl
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..objectives.regularized import regularized
from ..xla.barriers import at_least_float32

ACTIVATION = {"sigmoid": lambda h: h, "tanh": lambda h: (1 + h) / 2}  # 0 at rest, 1 at most
PULL = 0.01  # towards the batch's mean; it removes the bias of measuring a change on the batch that caused it


@checked
def sparse(
    net: SigmoidAutoencoder,
    optimizer: Optimizer,
    *,
    penalty: Literal["kl", "kl_minibatch", "l1"] = "kl",
    target: Annotated[Inside, unless("penalty", "l1")] = 0.05,
    weight: Weight = 3.0,
    units: Literal["sigmoid", "tanh"] = "sigmoid",
    likelihood: LikelihoodName | Likelihood = "squared",
    weight_l2: Weight = 0.0,
) -> Algorithm:
    """Reconstruction plus a penalty on activation.

    Args:
        net: the network, one head; the KL penalties need a sigmoid code (or tanh, see units).
        optimizer: an optax optimizer.
        penalty: kl (mean activation over the training set), kl_minibatch (over a batch) or l1 (sum over units).
        target: target of the KL penalties for the mean activation of each unit.
        weight: weight of the penalty, a number or a schedule. UFLDL halves the squared error: its beta = 3 is 6 here.
        units: sigmoid (activation h, in [0, 1]) or tanh (activation (1 + h) / 2, as tanh rests at -1).
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
        weight_l2: weight of the sum of w^2 over all weights (not biases).
    Raises ValueError for a KL penalty on a code of another activation, and for an unknown name.
    """
    check_choice("penalty", penalty, ("kl", "kl_minibatch", "l1"))
    check_choice("units", units, ACTIVATION)
    if penalty != "l1" and net.activation not in (units, None):
        raise ValueError(f"the code is {net.activation}, of which the KL is undefined: make it {units}, or penalty l1")
    mean = lambda params, x: ACTIVATION[units](net.encode(params, x)).mean(0)  # [K]

    def measure(params: Params, data: Batch, key: Key) -> Params:
        look = Rule(lambda p: (), lambda p, memory, batch, key: (p, memory, {"rho": mean(p, batch.x)}))
        return sweep(look, batch_size=1000).update(params, (), data, key)[2]  # exact, a chunk at a time

    def linear_kl(a: Array, rho: Array) -> Array:  # [B, K], [K] -> [B]
        rho = jnp.clip(at_least_float32(rho), 1e-4, 1 - 1e-4)[None]
        slope = (rho - target) / (rho * (1 - rho))  # d KL(target || rho) / d rho
        return (bernoulli_kl(target, rho) + slope * (a - rho)).sum(-1).astype(a.dtype)

    def cost(params: Params, x: Array, z: Array, key: Key, train: bool, weight) -> Loss:
        a = ACTIVATION[units](z)
        rho = lambda: lax.stop_gradient(a.mean(0)) if penalty == "kl_minibatch" and train else params["rho"]
        value = jnp.abs(a).sum(-1) if penalty == "l1" else linear_kl(a, rho())  # [B]
        return Loss(weight * value, {"penalty": value, "activation": a.mean(-1)})

    ae = regularized(net, optimizer, likelihood, cost, weight=weight, weight_l2=weight_l2)

    def init(key: Key, data: Batch) -> Params:
        key_net, key_measure = jax.random.split(key)
        return (params := ae.init(key_net, data)) | measure(params, data, key_measure)

    def update(params: Params, memory, batch: Batch, key: Key):
        new, memory, metrics = ae.rule.update(params, memory, batch, key)
        return new | {"rho": mean(new, batch.x) + (1 - PULL) * (params["rho"] - mean(params, batch.x))}, memory, metrics

    rule, before = Rule(ae.rule.init, update), assign(measure)
    statistics = ("rho", *ae.statistics)
    return ae if penalty == "l1" else ae._replace(init=init, rule=rule, before=before, statistics=statistics)
