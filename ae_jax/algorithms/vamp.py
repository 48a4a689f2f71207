"""VAE with a VampPrior. Tomczak & Welling (2018), arXiv:1705.07120."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..checks import Count, Updates, Weight, checked, final_value, needs, unless
from ..core import Algorithm, Autoencoder, Batch, Key, Loss, Optimizer, Params
from ..distributions.likelihoods import Likelihood, LikelihoodName
from ..distributions.likelihoods import likelihood as likelihood_of
from ..distributions.posteriors import Posterior, gaussian
from ..distributions.priors import Prior
from ..objectives.latent import Drawn, GaussianAutoencoder, latent_model, variational
from ..objectives.schedules import RiseName, risen


def vamp_prior(net: Autoencoder, posterior: Posterior, components: int, unit: bool) -> Prior:
    """The mean of the posteriors of `components` pseudo-inputs, eq. (9): p(z) = 1/C sum_c q(z | u_c).

    The pseudo-inputs are learned, in the group "pseudo", and start at random examples. With `unit` they lie in [0, 1],
    and the params are their logits. Raises ValueError for a posterior without log_prob.
    """
    log_q = posterior.log_prob
    if log_q is None:
        raise ValueError("this posterior has no log_prob, and a VampPrior needs it: take a Gaussian")

    def parts(params: Params) -> Array:  # [C, heads * K]
        return net.encode(params, jax.nn.sigmoid(params["pseudo"]) if unit else params["pseudo"])

    def log_prob(params: Params, z: Array) -> Array:
        def of(stats: Array) -> Array:
            return log_q(params, stats[None], z)

        each = lax.map(of, parts(params), batch_size=min(components, 64))  # [C, ...]: memory for 64 at once
        return jax.nn.logsumexp(each, 0) - jnp.log(jnp.asarray(components, z.dtype))

    def draw(params: Params, key: Key, n: int, dtype: Any = float, y: Array | None = None) -> Array:
        key_part, key_z = jax.random.split(key)
        chosen = parts(params)[jax.random.randint(key_part, (n,), 0, components)]
        return posterior.draw(params, chosen, key_z, 1, None)[0][0].astype(dtype)

    def init(key: Key, data: Batch) -> Params:
        u = jax.random.choice(key, data.x, (components,), replace=len(data.x) < components)
        return {"pseudo": jax.scipy.special.logit(jnp.clip(u, 0.01, 0.99)) if unit else u}

    centres = lambda params: posterior.mean(params, parts(params))
    return Prior(draw=draw, log_prob=log_prob, init=init, groups=("pseudo",), centres=centres)


@checked
def vamp(
    net: GaussianAutoencoder,
    optimizer: Optimizer,
    *,
    components: Count = 500,
    likelihood: LikelihoodName | Likelihood = "bernoulli",
    beta: Weight = 1.0,
    warmup_steps: Annotated[int, Updates("the KL's weight at beta"), unless("beta", 0)] = 0,
    warmup: Annotated[RiseName, unless("warmup_steps", 0)] = "linear",
    cycles: Annotated[Count, needs("warmup", "cyclical")] = 4,
) -> Algorithm:
    """The evidence lower bound in nats, with a prior of learned pseudo-inputs; one draw estimates the KL.

    Args:
        net: the network, two heads.
        optimizer: an optax optimizer.
        components: number of pseudo-inputs, C.
        likelihood: a name, or a `Likelihood`.
        beta: weight of the KL, a number or a schedule.
        warmup_steps: number of updates over which the KL's weight rises from 0 to beta.
        warmup: linear, cyclical (Fu et al., 2019: from 0 to beta in the first half of each cycle) or sigmoid.
        cycles: number of cycles of the cyclical warm-up.
    """
    posterior = gaussian(net.latents)
    unit = likelihood_of(likelihood).support == "unit"
    model = latent_model(net, likelihood, posterior, vamp_prior(net, posterior, components, unit))
    beta = risen("beta", beta, "warmup_steps", warmup_steps, warmup, cycles)
    final = final_value(beta)

    def objective(params: Params, drawn: Drawn, batch: Batch, key: Key, beta) -> Loss:
        return Loss(drawn.nll[0] + beta * drawn.divergence)

    evaluated = lambda drawn: {"loss": drawn.nll[0] + final * drawn.divergence}
    return variational(model, optimizer, objective, evaluated=evaluated, beta=beta)
