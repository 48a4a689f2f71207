"""InfoVAE and Wasserstein autoencoders: a distance between two samples moves the codes to the prior.

Zhao, Song & Ermon (2019), arXiv:1706.02262. With a delta posterior: Tolstikhin, Bousquet, Gelly & Schoelkopf (2018),
arXiv:1711.01558; with the sliced distance: Kolouri, Pope, Martin & Rohde (2019), arXiv:1804.01947.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from ..checks import PORTION, POSITIVE, Count, Hyper, Weight, check_choice, checked, final_value, is_concrete, needs
from ..core import Algorithm, Autoencoder, Batch, Heads, Key, Loss, Optimizer, Params
from ..distributions.distances import gaussian_kernel, multiquadric_kernel, sliced_wasserstein, squared_mmd
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.priors import normal
from ..objectives.latent import Drawn, latent_model, variational
from ..objectives.recode import code_only, linear_code
from ..objectives.regularized import regularized
from ..objectives.terms import dtype_of

PosteriorName = Literal["gaussian", "delta"]
DistanceName = Literal["multiquadric_mmd", "gaussian_mmd", "sliced_wasserstein"]
Distance = Callable[[Array, Array, Key], Array]  # (codes [B, K], draws from the prior [B, K], key) -> []
KERNELS = {  # each with its default variances, divided by the number of latents
    "multiquadric_mmd": (multiquadric_kernel, (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)),  # Tolstikhin et al., their code
    "gaussian_mmd": (gaussian_kernel, (1.0,)),
}


def distance_of(name: DistanceName, latents: int, scales: tuple[float, ...] | None, directions: int) -> Distance:
    """The distance called `name`. Raises ValueError for another name."""
    check_choice("distance", name, get_args(DistanceName), ", or a function")
    if name == "sliced_wasserstein":
        return lambda z, prior, key: sliced_wasserstein(z, prior, key, directions)
    kernel, usual = KERNELS[name]
    of_pairs = kernel([latents * scale for scale in (usual if scales is None else scales)])
    return lambda z, prior, key: squared_mmd(z, prior, of_pairs)


@checked
def info_vae(
    net: Annotated[Autoencoder, Heads(2, single=("posterior", "delta"))],
    optimizer: Optimizer,
    *,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    posterior: PosteriorName = "gaussian",
    alpha: Annotated[Hyper, PORTION, needs("posterior", "gaussian")] = 0.5,
    weight: Weight = 100.0,
    distance: DistanceName | Distance = "multiquadric_mmd",
    scales: Annotated[tuple[float, ...] | None, POSITIVE, needs("distance", *KERNELS)] = None,
    directions: Annotated[Count, needs("distance", "sliced_wasserstein")] = 50,
) -> Algorithm:
    """-log p(x | z) + (1 - alpha) KL + (alpha + weight - 1) D(codes, draws from N(0, I)), in nats.

    With a delta posterior it is the Wasserstein autoencoder, -log p(x | z) + weight D. D compares the examples of a
    batch, so evaluation leaves it out.

    Args:
        net: the network, two heads; one for a delta posterior.
        optimizer: an optax optimizer.
        likelihood: a name, or a `Likelihood`; the Wasserstein autoencoder takes squared.
        posterior: gaussian, or delta (a deterministic code).
        alpha: 0 gives the KL the weight 1, as in a VAE; 1 gives it the weight 0.
        weight: weight of the distance (lambda in the paper); 1 with an alpha of 0 makes a VAE.
        distance: multiquadric_mmd or gaussian_mmd (unbiased), sliced_wasserstein, all squared; or a function.
        scales: variances of the kernels that an MMD sums, over the number of latents; None: seven (0.1 to 10), or 1.
        directions: number of random lines of sliced_wasserstein.
    """
    check_choice("posterior", posterior, get_args(PosteriorName))
    measure = distance if callable(distance) else distance_of(distance, net.latents, scales, directions)
    prior = normal(net.latents)

    def gap(z: Array, key: Key) -> Array:  # []
        if len(z) == 1:  # a last batch of one example has no pairs
            return jnp.zeros((), z.dtype)
        key_prior, key_distance = jax.random.split(key)
        return measure(z, prior.draw({}, key_prior, len(z), z.dtype), key_distance).astype(z.dtype)

    if posterior == "delta":

        def penalty(params: Params, x: Array, z: Array, key: Key, train: bool, weight) -> Loss:
            found = gap(z, key) if train else jnp.zeros((), z.dtype)
            return Loss(weight * found, {"distance": found} if train else {})

        base = regularized(linear_code(code_only(net)), optimizer, likelihood, penalty, weight=weight)
        sample = lambda p, key, n: base.decode(p, prior.draw(p, key, n, dtype_of(p)))
        return base._replace(sample=sample, prior=prior, compares=True)
    start: Any = lambda hyper: hyper(0) if callable(hyper) else hyper
    for value in (start, final_value):
        if is_concrete(least := value(alpha) + value(weight)) and least < 1:
            raise ValueError(f"alpha + weight is {least}; below 1 codes would be drawn away from the prior")

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, alpha, weight) -> Loss:
        found = gap(drawn.z[0], key)
        return Loss(drawn.nll[0] + (1 - alpha) * drawn.divergence + (alpha + weight - 1) * found, {"distance": found})

    return variational(latent_model(net, likelihood), optimizer, objective, compares=True, alpha=alpha, weight=weight)
