"""Adversarial autoencoders whose decoder gets the label, so that the code keeps the style.

Makhzani, Shlens, Jaitly, Goodfellow & Frey (2015), arXiv:1511.05644, section 4: the decoder gets the one-hot label
beside a code that a critic makes N(0, I). So that an image without a label has a code too, the encoder learns to
classify as well, and where no label is at hand its softmax stands in.
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
    """Codes [class, style]: the class is given in training, the style is to be N(0, I) whatever the class.

    Args:
        net: the network, one head, whose code holds the classes and then the style.
        optimizer: an optax optimizer; each step has one of its own.
        classes: how many; None for half of the code. Images with another label, or -1 for none, have none.
        conditional: tell the critic the label, too, so that the styles of each class alone are to be N(0, I) and tell
            nothing of it; without (as in section 4) only those of all classes together are.
        critic_widths: of the critic's hidden layers.
        game_rate: the learning rate of both sides of the game over the optimizer's.
        likelihood: squared (summed squared error) or bernoulli (cross-entropy in nats, summed).
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
