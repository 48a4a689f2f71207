"""Adversarial autoencoders whose decoder gets the label, so that the code keeps the style.

Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 4: the decoder gets the one-hot label
and a style that a critic makes N(0, I). Here the encoder also learns to classify: codes and evaluation take its
softmax in place of the label.
"""

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ..checks import Amount, Width, checked
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Optimizer, Params, chain, descend
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.likelihoods import likelihood as likelihood_of
from ..objectives import game
from ..objectives.labels import class_and_style, draw_class_and_style, prior_of_class_and_style
from ..objectives.regularized import regularized
from ..objectives.terms import dtype_of


@checked
def adversarial_style(
    net: Autoencoder,
    optimizer: Optimizer,
    *,
    classes: int | None = None,
    conditional: bool = True,
    critic_widths: Width = (512, 512),
    game_rate: Amount = 1.0,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
) -> Algorithm:
    """Codes [class, style]: in training the class is the label, and a critic makes the style N(0, I).

    Args:
        net: the network, one head, whose code holds the classes and then the style.
        optimizer: an optax optimizer; each step has its own state.
        classes: number of classes; None for half of the code. An image with any other label, such as -1, has no class.
        conditional: give the critic the label too, so that the styles of each class are N(0, I) and independent of the
            label; False, as in section 4: only the styles of all classes together are N(0, I).
        critic_widths: widths of the critic's hidden layers.
        game_rate: learning rate of critic and encoder in the game, as a multiple of the optimizer's.
        likelihood: squared (summed squared error) or bernoulli (cross-entropy in nats, summed).
    Raises ValueError for a code without room for a class and a style. `init` raises it for data without labels.
    """
    coder, size = class_and_style(net, classes)
    critic = game.perceptron(critic_widths)
    base, p = regularized(coder, optimizer, likelihood), likelihood_of(likelihood)

    def reconstruct(params: Params, batch: Batch, key: Key) -> Loss:
        key_encoder, key_decoder = jax.random.split(key)
        h = net.encode(params, batch.x, key_encoder)
        assert batch.y is not None  # see init
        told = jnp.concatenate([jax.nn.one_hot(batch.y, size, dtype=h.dtype), h[:, size:]], -1)
        nll = p.nll(params, net.decode(params, told, key_decoder), batch.x)  # [B]
        error = optax.softmax_cross_entropy(h[:, :size], told[:, :size])  # 0 without a label
        return Loss(nll + error, {"reconstruction": nll, "classification": error})

    def beside(batch: Batch, z: Array) -> Array:  # [B, style] -> [B, style + size]
        return jnp.concatenate([z, jax.nn.one_hot(batch.y, size, dtype=z.dtype)], -1) if conditional else z

    def prior(params: Params, batch: Batch, key: Key) -> Array:
        return beside(batch, jax.random.normal(key, (len(batch.x), net.latents - size), batch.x.dtype))

    def style(params: Params, batch: Batch, key: Key) -> Array:
        return beside(batch, net.encode(params, batch.x, key)[:, size:])

    def init(key: Key, data: Batch) -> Params:
        if data.y is None:
            raise ValueError("adversarial_style tells the decoder labels, and these data have none: use adversarial")
        key_net, key_critic = jax.random.split(key)
        z = jnp.zeros((1, net.latents - (0 if conditional else size)), data.x.dtype)
        return base.init(key_net, data) | {"style_critic": critic.init(key_critic, z)}

    def sample(params: Params, key: Key, n: int) -> Array:
        return base.decode(params, draw_class_and_style(key, n, size, net.latents, dtype_of(params)))

    told = descend(reconstruct, optimizer, wrt=("encoder", "decoder", *p.groups))
    players = game.game(critic, prior, style, optimizer, (game_rate, game_rate), "style_")
    predict = lambda params, x: coder.encode(params, x)[:, :size].argmax(-1)
    base = base._replace(sample=sample, predict=predict, prior=prior_of_class_and_style(size, net.latents))
    return base._replace(init=init, rule=chain(told, players), classes=size)
