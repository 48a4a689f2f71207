"""Restricted Boltzmann machines by contrastive divergence. Hinton (2002), Neural Computation 14. The choice of draws
or means follows the code of Hinton & Salakhutdinov (2006). Persistent chains: Tieleman (2008), ICML.
"""

from typing import Annotated

import jax
from jax import Array, lax

from ..checks import Weight, checked, needs
from ..core import Algorithm, Batch, Key, Loss, Metrics, Optimizer, Params, descend
from ..objectives.boltzmann import BoltzmannAutoencoder, UnitsName, check_tied, machine
from ..objectives.regularized import decay
from ..objectives.terms import l2, reconstruction


@checked
def rbm(
    net: BoltzmannAutoencoder,
    optimizer: Optimizer,
    *,
    visible_units: UnitsName = "bernoulli",
    hidden_units: UnitsName = "bernoulli",
    steps: int = 1,
    chains: int = 0,
    draw_visible: Annotated[bool, needs("chains", 0)] = False,
    weight_l2: Weight = 0.0,
    sample_steps: int = 1000,
) -> Algorithm:
    """CD-k and persistent CD. The code is E[h | x]. CD minimizes no function, so `loss` is -log p(x | h) in nats.

    Args:
        net: the network, networks.rbm.
        optimizer: an optax optimizer.
        visible_units: bernoulli (in [0, 1]) or gaussian (of variance 1).
        hidden_units: bernoulli or gaussian (of variance 1).
        steps: steps of Gibbs sampling before the negative statistics, k.
        chains: persistent chains that give the negative statistics; 0 for CD, which starts at the data.
        draw_visible: draw the visible units in CD instead of taking their means; persistent chains always draw them.
        weight_l2: weight of the sum of w^2 (not of biases); half of the usual weight decay.
        sample_steps: steps of Gibbs sampling before a sample.
    Raises ValueError for steps below 1, negative chains and unknown units. `init` raises it for other networks.
    """
    if steps < 1 or chains < 0 or sample_steps < 1:
        raise ValueError(f"steps is {steps}, chains {chains}, sample_steps {sample_steps}; wanted 1, 0, 1 or more")
    model = machine(net, visible_units, hidden_units)

    def init(key: Key, data: Batch) -> Params:
        key_net, key_chains = jax.random.split(key)
        params = check_tied(net.init(key_net, data))
        return params | {"chains": model.visible_noise(params, key_chains, chains)} if chains else params

    def gap(params: Params, batch: Batch, key: Key, weight_l2) -> Loss:
        key_data, key_visible, key_walk = jax.random.split(key, 3)
        fixed = lax.stop_gradient(params)
        a = model.down(fixed, batch.x, key_data)  # one step from the data
        if chains:
            negative = model.gibbs(fixed, fixed["chains"], key_walk, steps)
        else:
            first = model.visible.draw(key_visible, a) if draw_visible else model.visible.mean(a)
            negative = model.gibbs(fixed, first, key_walk, steps - 1, mean=not draw_visible)
        data, dream = (model.free_energy(params, v) for v in (batch.x, negative))
        value = data - dream.mean() + decay(weight_l2, l2, params)  # the gradient is <v h> dream - <v h> data
        return Loss(value, {"loss": model.nll(a, batch.x), "free_energy": data}, {"chains": negative} if chains else {})

    encode = lambda params, x: model.hidden.mean(net.encode(params, x))
    decode = lambda params, z: model.visible.mean(net.decode(params, z))

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        a = net.decode(params, encode(params, batch.x))
        metrics = {"loss": model.nll(a, batch.x), "free_energy": model.free_energy(params, batch.x)}
        if visible_units == "bernoulli":
            metrics["pseudo_likelihood"] = model.pseudo_likelihood(params, batch.x, key)
        return metrics | reconstruction(model.visible.mean(a), batch.x)

    def sample(params: Params, key: Key, n: int) -> Array:
        key_begin, key_walk, key_last = jax.random.split(key, 3)
        v = model.gibbs(params, model.visible_noise(params, key_begin, n), key_walk, sample_steps - 1)
        return model.visible.mean(model.down(params, v, key_last))

    def draw(params: Params, key: Key, n: int) -> Array:
        key_begin, key_walk = jax.random.split(key)
        return model.gibbs(params, model.visible_noise(params, key_begin, n), key_walk, sample_steps)

    return Algorithm(
        init=init,
        rule=descend(gap, optimizer, wrt=("encoder", "decoder"), name="gap", weight_l2=weight_l2),
        evaluate=evaluate,
        encode=encode,
        decode=decode,
        reconstruct=lambda params, x: decode(params, encode(params, x)),
        sample=sample,
        draw=draw,
        transition=model.transition,
        statistics=("chains",) * bool(chains),
    )
