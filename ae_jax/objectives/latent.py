"""Latent-variable models: a network, a likelihood, a posterior and a prior; and the learning rule of their bounds.

Kingma & Welling (2014), arXiv:1312.6114. Every function is pure and every draw has its own key.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
from jax import Array

from ..core import (
    Algorithm,
    Autoencoder,
    Batch,
    Heads,
    Init,
    Key,
    Loss,
    Metrics,
    Optimizer,
    Params,
    address,
    descend,
)
from ..distributions import likelihoods
from ..distributions.likelihoods import Likelihood
from ..distributions.posteriors import Posterior, gaussian
from ..distributions.priors import Prior
from ..xla.barriers import materialize_gradient
from .estimators import Estimator, hold, teach
from .recode import code_only, linear_code
from .terms import dtype_of, reconstruction

GaussianAutoencoder = Annotated[Autoencoder, Heads(2)]  # a mean and a log-variance


class Drawn(NamedTuple):
    """The quantities that a model gives an objective, for S draws of the code of each of B examples."""

    stats: Array  # [B, heads * K], the encoder's output
    z: Array  # [S, B, K]
    log_q: Array  # log q(z | x), [S, B]
    log_p: Array  # log p(z), [S, B]
    nll: Array  # -log p(x | z), [S, B]
    kl: Array | None  # KL(q(z | x) || p(z)) of each dimension in closed form, [B, K]; None where there is none
    bound: Array | None = None  # bound of an `Estimator` on log p(x), [B], with its gradient; None without one

    @property
    def divergence(self) -> Array:
        """KL(q(z | x) || p(z)), [B]: in closed form, or the mean of log q - log p over the draws."""
        return (self.log_q - self.log_p).mean(0) if self.kl is None else self.kl.sum(-1)

    @property
    def log_weight(self) -> Array:
        """log p(x, z) - log q(z | x), [S, B]."""
        return self.log_p - self.log_q - self.nll


class LatentModel(NamedTuple):
    """A latent-variable model; `latent_model` makes one."""

    net: Autoencoder
    likelihood: Likelihood
    posterior: Posterior
    prior: Prior
    init: Init
    groups: tuple[str, ...]  # the groups of params that learn
    draw: Callable[..., Drawn]  # (params, batch, key, samples=1, train=False, estimator=None)
    joint: Callable[..., tuple[Array, Array]]  # (params, x, z [S, B, K], key=None) -> nll, log p(z), each [S, B]
    encode: Callable[[Params, Array], Array]  # (params, x) -> the posterior's mean, [B, K]
    decode: Callable[[Params, Array], Array]  # (params, z [B, K]) -> E[x | z]
    reconstruct: Callable[[Params, Array], Array]  # (params, x) -> E[x | mean of z]
    sample: Callable[[Params, Key, int], Array]  # E[x | z] for n draws of z from the prior
    draw_data: Callable[[Params, Key, int], Array] | None  # n draws of x ~ p(x | z); None: the likelihood has no draw
    transition: Callable[
        [Params, Array, Key], tuple[Array, Array]
    ]  # x -> a draw of p(x | z) and its mean, z ~ q(z | x)
    log_weight: Callable[[Params, Batch, Key], Array]  # log p(x, z) - log q(z | x), [B]
    moments: Callable[[Params, Array], Array] | None  # x -> mean and log-variance of a Gaussian posterior, [B, 2K]


def observed(likelihood: str | Likelihood, sigma: float | None) -> str | Likelihood:
    """The likelihood; the name gaussian becomes the Gaussian likelihood of standard deviation `sigma`.

    Raises ValueError for a sigma of another likelihood.
    """
    if likelihood == "gaussian":
        return likelihoods.gaussian(sigma)
    if sigma is not None:
        raise ValueError(f"sigma is of the gaussian likelihood; {likelihood!r} has none")
    return likelihood


def latent_model(
    net: Autoencoder, likelihood: str | Likelihood, posterior: Posterior | None = None, prior: Prior | None = None
) -> LatentModel:
    """The model on a network whose encoder emits as many heads as the posterior needs.

    Args:
        net: the network.
        likelihood: a name of `distributions.likelihoods`, or a `Likelihood`.
        posterior: by default a diagonal Gaussian.
        prior: by default the posterior's own; the KL to it has a closed form.
    Raises ValueError for a likelihood that does not fit the network's output, a prior without `log_prob`, and a network
    whose code is not linear or that decodes more than its code. `init` raises it for a prior of codes of another size.
    """
    linear_code(code_only(net))
    if likelihood == "squared":
        raise ValueError(
            "likelihood squared is no probability, and a bound on log p(x) needs one: take gaussian; with "
            "sigma=0.7071068 its nll is the squared error plus a constant"
        )
    p = likelihoods.likelihood(likelihood, net)  # pyright: ignore[reportArgumentType]
    q = gaussian(net.latents) if posterior is None else posterior
    own = prior is None or prior is q.prior
    pz = q.prior if prior is None else prior
    if not hasattr(pz, "log_prob"):
        raise TypeError(f"prior is a {type(pz).__name__}; wanted: a Prior, such as priors.mixture(latents)")
    if pz.log_prob is None:
        raise ValueError("this prior has no log_prob, which a bound on log p(x) needs: take another prior")
    log_prior = pz.log_prob
    named = ((p, p.groups or p.measured), (q, q.groups), (pz, () if own else pz.groups))
    parts = [(part, names) for part, names in named if names]  # those with params of their own

    groups = ("encoder", "decoder", *(group for part, _ in parts for group in part.groups))

    def fits(params: Params) -> None:
        drawn = jax.eval_shape(lambda params: pz.draw(params, jax.random.key(0), 1, dtype_of(params)), params)
        if drawn.shape != (1, net.latents):
            raise ValueError(
                f"the prior draws codes of the shape {drawn.shape[1:]}, and the network's are {(net.latents,)}: make "
                f"the prior of {net.latents} numbers"
            )
        density = jax.eval_shape(log_prior, params, jax.ShapeDtypeStruct((2, 3, net.latents), drawn.dtype))
        if density.shape != (2, 3):
            raise ValueError(
                f"the prior's log_prob gives {density.shape} for codes {(2, 3, net.latents)}; wanted: (2, 3), a number "
                "for each code: sum over its dimensions"
            )

    def init(key: Key, data: Batch) -> Params:
        params = net.init(key, data)
        for part, names in parts:
            new = part.init(address(key, *names), data)
            if both := set(new) & set(params):
                raise ValueError(f"two parts of this model have params in the group {sorted(both)[0]!r}: rename one")
            params = params | new
        if not own:
            fits(params)
        return params

    def emitted(params: Params, x: Array, key: Key | None = None) -> Array:
        stats = net.encode(params, x, key)
        if stats.shape != (x.shape[0], q.heads * net.latents):
            raise ValueError(
                f"the encoder gave {stats.shape}; this posterior over {net.latents} latents needs "
                f"{(x.shape[0], q.heads * net.latents)}: build the network with heads={q.heads}"
            )
        return stats

    def joint(params: Params, x: Array, z: Array, key: Key | None = None) -> tuple[Array, Array]:
        # One batch of all draws: mapped over draws, the decoder's gradient costs XLA a transposed copy of each layer.
        samples, output = len(z), net.decode(params, z.reshape(-1, net.latents), key)
        if samples == 1:
            return p.nll(params, output, x)[None], log_prior(params, z)
        output = materialize_gradient(output).reshape(samples, len(x), *output.shape[1:])
        return jax.vmap(lambda output: p.nll(params, output, x))(output), log_prior(params, z)

    def draw(
        params: Params,
        batch: Batch,
        key: Key,
        samples: int = 1,
        train: bool = False,
        estimator: Estimator | None = None,
    ) -> Drawn:
        key_z, key_encoder, key_decoder = jax.random.split(key, 3)
        stats = emitted(params, batch.x, key_encoder if train else None)

        def log_joint(z: Array) -> Array:  # for posteriors that follow its gradient
            nll, log_p = joint(params, batch.x, z)
            return log_p - nll

        z, log_q = q.draw(params, stats, key_z, samples, log_joint)
        of_draws = lambda learned, z: joint({**params, **learned}, batch.x, z, key_decoder if train else None)
        if estimator is None:
            bound, (nll, log_p) = None, of_draws({}, z)
        else:
            if estimator.held:
                if q.log_prob is None:
                    raise ValueError(
                        "this posterior has no log_prob, and the estimator needs one: take another of them"
                    )
                log_q = hold(q.log_prob, params, stats, z, log_q)
            learned = {group: params[group] for group in groups}
            bound, nll, log_p = teach(estimator, of_draws, learned, z, log_q)
        kl = q.kl(params, stats) if own and q.kl is not None else None
        return Drawn(stats=stats, z=z, log_q=log_q, log_p=log_p, nll=nll, kl=kl, bound=bound)

    def encode(params: Params, x: Array) -> Array:
        return q.mean(params, emitted(params, x))

    def decode(params: Params, z: Array) -> Array:
        return p.mean(params, net.decode(params, z))

    def codes(params: Params, key: Key, n: int) -> Array:
        return pz.draw(params, key, n, dtype_of(params))

    def sample(params: Params, key: Key, n: int) -> Array:
        return decode(params, codes(params, key, n))

    draw_likelihood, of_stats = p.draw, q.moments

    def draw_data(params: Params, key: Key, n: int) -> Array:
        assert draw_likelihood is not None
        output = net.decode(params, codes(params, address(key, "code"), n))
        return draw_likelihood(params, output, address(key, "data"))

    def transition(params: Params, x: Array, key: Key) -> tuple[Array, Array]:
        output = net.decode(params, draw(params, Batch(x), address(key, "code")).z[0])
        mean = p.reconstruction(params, output, x)
        return (mean if draw_likelihood is None else draw_likelihood(params, output, address(key, "data"))), mean

    return LatentModel(
        net=net,
        likelihood=p,
        posterior=q,
        prior=pz,
        init=init,
        groups=groups,
        draw=draw,
        joint=joint,
        encode=encode,
        decode=decode,
        reconstruct=lambda params, x: p.reconstruction(params, net.decode(params, encode(params, x)), x),
        sample=sample,
        draw_data=None if p.draw is None else draw_data,
        transition=transition,
        log_weight=lambda params, batch, key: draw(params, batch, key).log_weight[0],
        moments=None if of_stats is None else lambda params, x: of_stats(params, emitted(params, x)),
    )


# (params, drawn, batch, key, **hyper) -> value and metrics, each [B] or []
Objective = Callable[..., Loss]


def variational(
    model: LatentModel,
    optimizer: Optimizer,
    objective: Objective,
    *,
    samples: int = 1,
    estimator: Estimator | None = None,
    evaluated: Callable[[Drawn], Metrics] | None = None,
    compares: bool = False,
    **hyper: Any,
) -> Algorithm:
    """The algorithm that minimizes `objective(params, drawn, batch, key, **hyper)` over the model's learned groups.

    Args:
        model: the latent-variable model.
        optimizer: an optax optimizer.
        objective: gives a `Loss`, to whose metrics nll, kl and elbo are added.
        samples: draws of the code of each example, S.
        estimator: the estimator of `Drawn.bound`; None for no bound.
        evaluated: gives the metrics of evaluation, "loss" among them, each [B]; by default the loss is nll + KL. None
            of them may compare examples.
        compares: whether the objective compares the examples of a batch.
        hyper: numbers, or schedules over updates.
    """

    def bounds(drawn: Drawn) -> Metrics:
        nll, kl = drawn.nll.mean(0), drawn.divergence
        return {"nll": nll, "kl": kl, "elbo": -nll - kl}

    def loss(params: Params, batch: Batch, key: Key, **hyper) -> Loss:
        drawn = model.draw(params, batch, key, samples, train=True, estimator=estimator)
        result = objective(params, drawn, batch, address(key, "objective"), **hyper)
        return result._replace(metrics=bounds(drawn) | result.metrics)

    def evaluate(params: Params, batch: Batch, key: Key) -> Metrics:
        drawn = model.draw(params, batch, key, samples, estimator=estimator)
        known = bounds(drawn)
        found = known | ({} if evaluated is None else evaluated(drawn))
        if model.likelihood.levels is not None:
            found["bits_dim"] = -found.get("bound", known["elbo"]) / (math.log(2) * batch.x[0].size)
        output = model.net.decode(params, model.posterior.mean(params, drawn.stats))
        errors = reconstruction(model.likelihood.reconstruction(params, output, batch.x), batch.x)
        return {"loss": -known["elbo"], **found, **errors}

    return Algorithm(
        init=model.init,
        rule=descend(loss, optimizer, wrt=model.groups, **hyper),
        evaluate=evaluate,
        encode=model.encode,
        decode=model.decode,
        reconstruct=model.reconstruct,
        sample=model.sample,
        draw=model.draw_data,
        transition=model.transition,
        log_weight=model.log_weight,
        moments=model.moments,
        prior=model.prior,
        check=model.likelihood.check,
        statistics=model.likelihood.measured,
        corrupt=model.net.corrupt,
        compares=compares,
    )
