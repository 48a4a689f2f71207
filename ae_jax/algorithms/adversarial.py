"""Adversarial autoencoders: codes that a critic cannot tell from draws of a prior.

Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, sections 2 and 2.3, with a deterministic
encoder. On each batch the autoencoder learns to reconstruct, then the critic learns, then the encoder confuses it.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import Amount, Positive, Width, checked, needs, unless
from ..core import Algorithm, Autoencoder, Batch, Key, Net, Optimizer, Params, chain
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.priors import PriorName
from ..distributions.priors import prior as prior_of
from ..objectives import game
from ..objectives.recode import code_only
from ..objectives.regularized import regularized
from ..objectives.terms import dtype_of


@checked
def adversarial(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    prior: PriorName = "gaussian",
    prior_scale: Positive = 1.0,
    modes: Annotated[int, unless("prior", "gaussian")] = 10,
    conditional: bool = False,
    critic: Net | None = None,
    critic_widths: Annotated[Width, needs("critic", None)] = (512, 512),
    critic_rate: Amount = 1.0,
    confuse_rate: Amount = 1.0,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
) -> Algorithm:
    """Reconstruction, and a game between a critic and the encoder.

    Args:
        net: the network, one head.
        optimizer: an optax optimizer; each of the three steps has its own state.
        prior: prior of the codes: gaussian, or for 2 latents mixture (a flower of Gaussians) or swiss_roll.
        prior_scale: scale of the prior; for gaussian, its standard deviation.
        modes: number of petals of the flower, or of pieces of the swiss_roll.
        conditional: give the critic labels, so that class c gets mode c; labels -1 and from `modes` on get any mode.
        critic: a network [B, K] -> [B], if conditional [B, K + modes] -> [B] with one-hot labels; None: a perceptron.
        critic_widths: widths of the perceptron's hidden layers.
        critic_rate: the critic's learning rate, as a multiple of the optimizer's.
        confuse_rate: the encoder's learning rate in the game, as a multiple of the optimizer's.
        likelihood: squared (summed squared error), bernoulli (cross-entropy in nats, summed) or multinomial (words).
    Raises ValueError for `conditional` with a prior without modes.
    """
    target = prior_of(prior, net.latents, prior_scale, modes)
    if conditional and not target.modes:
        raise ValueError(f"conditional needs a prior with modes for labels, mixture or swiss_roll; it is {prior!r}")
    labels, judge = target.modes if conditional else 0, game.judge_of(critic, critic_widths)
    base = regularized(code_only(net), optimizer, likelihood)

    def told(z: Array, y: Array | None) -> Array:  # [B, K] -> [B, K + labels]
        if not conditional:
            return z
        if y is None:
            raise ValueError("conditional tells the critic labels, and these data have none: use conditional=False")
        return jnp.concatenate([z, jax.nn.one_hot(y, labels, dtype=z.dtype)], -1)

    def drawn(params: Params, batch: Batch, key: Key) -> Array:
        y = batch.y if conditional else None
        return told(target.draw(params, key, len(batch.x), batch.x.dtype, y), y)

    def coded(params: Params, batch: Batch, key: Key) -> Array:
        return told(net.encode(params, batch.x, key), batch.y)

    def init(key: Key, data: Batch) -> Params:
        key_net, key_critic = jax.random.split(key)
        z = jnp.zeros((1, net.latents + labels), data.x.dtype)
        return base.init(key_net, data) | {"critic": judge.init(key_critic, z)}

    def sample(params: Params, key: Key, n: int) -> Array:
        return base.decode(params, target.draw(params, key, n, dtype_of(params)))

    players = game.game(judge, drawn, coded, optimizer, (critic_rate, confuse_rate))
    return base._replace(init=init, rule=chain(base.rule, players), sample=sample, prior=target)
