"""Members that compare the examples of a batch beside pythae's, with the same weights and noise, in float64.

Where pythae is installed (`pip install pythae`). Equal to 1e-5, or else by the difference that is named.
"""

import sys
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax.algorithms import beta_tc_vae, factor_vae, info_vae, vae
from ae_jax.core import Autoencoder, Batch, Net, address, assign
from ae_jax.distributions.priors import Prior
from ae_jax.objectives import game
from ae_jax.objectives.latent import latent_model

torch = pytest.importorskip("torch")
models = pytest.importorskip("pythae.models")

factor, info = (sys.modules[f"ae_jax.algorithms.{name}"] for name in ("factor_vae", "info_vae"))
KEY, UNITS, EXAMPLES = jax.random.key(0), 3, 7
R = np.random.default_rng(0)
X, STATS, WEIGHTS = R.random((EXAMPLES, 4)), R.normal(size=(EXAMPLES, 2 * UNITS)), R.normal(size=(UNITS, 4))
FIXED = R.normal(size=(EXAMPLES, UNITS))  # draws of the prior
SCALES = (0.5, 2.0)
pytestmark = pytest.mark.usefixtures("float64")


def table(heads):
    """A network whose encoder is a table of what it emits for each example, and whose decoder is linear."""
    encode, decode = lambda params, x, key=None: params["encoder"], lambda params, z, key=None: z @ params["decoder"]
    return Autoencoder(
        shape=(4,),
        latents=UNITS,
        init=lambda key, data: params_of(heads),
        encode=encode,
        decode=decode,
        apply=lambda params, x, key=None: (encode(params, x), decode(params, encode(params, x))),
    )


def params_of(heads):
    return {"encoder": jnp.asarray(STATS[:, : heads * UNITS]), "decoder": jnp.asarray(WEIGHTS)}


def ours(algorithm, heads=2, **more):
    """The loss, and its gradients in what the encoder emits and in the decoder's weights."""
    params = params_of(heads) | more
    after, _, metrics = algorithm.rule.update(params, algorithm.rule.init(params), Batch(jnp.asarray(X)), KEY)
    return float(metrics["loss"]), params["encoder"] - after["encoder"], params["decoder"] - after["decoder"]


def theirs(loss, heads=2, step=()):
    """The same of `loss(x, mean, logvar, z, logits)`, by torch; z by the noise that our step has at this address."""
    stats, weights = (torch.tensor(a, requires_grad=True) for a in (STATS[:, : heads * UNITS], WEIGHTS))
    mean, logvar = stats[:, :UNITS], stats[:, UNITS:]
    z = mean
    if heads == 2:
        drawn = latent_model(table(2), "bernoulli").draw(
            params_of(2), Batch(jnp.asarray(X)), address(KEY, *step), train=True
        )
        noise = (np.asarray(drawn.z[0]) - STATS[:, :UNITS]) * np.exp(-0.5 * STATS[:, UNITS:])
        z = mean + torch.exp(0.5 * logvar) * torch.tensor(noise)
    value = loss(torch.tensor(X), mean, logvar, z, z @ weights)
    value.backward()
    return float(value.detach()), stats.grad.numpy(), weights.grad.numpy()


def equal(a, b):
    for mine, other in zip(a, b, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


BCE = SimpleNamespace(reconstruction_loss="bce", latent_dim=UNITS, kernel_bandwidth=1.0, reg_weight=7.0)


def tc(stratified):
    kind = models.BetaTCVAE
    own = SimpleNamespace(model_config=BCE, alpha=1.0, beta=3.0, gamma=0.5, use_mss=stratified)
    own._compute_log_gauss_density = partial(kind._compute_log_gauss_density, own)
    own._log_importance_weight_matrix = partial(kind._log_importance_weight_matrix, own)
    return lambda x, m, v, z, out: kind.loss_function(own, torch.sigmoid(out), x, m, v, z, 60)[0]


def test_weighted_beta_tc_is_equal_and_stratified_differs_by_the_stride_of_its_weights():
    make = partial(beta_tc_vae, table(2), optax.sgd(1.0), examples=60, beta=3.0, gamma=0.5)
    equal(ours(make(sampling="weighted")), theirs(tc(False)))
    mine, other = ours(make(sampling="stratified")), theirs(tc(True))
    assert abs(mine[0] - other[0]) > 1e-2


def test_the_capacity_is_per_example_there():
    kind, net = models.DisentangledBetaVAE, table(2)

    def pythae(capacity):
        own = SimpleNamespace(model_config=BCE, beta=5.0, C=capacity, warmup_epoch=0)
        return lambda x, m, v, z, out: kind.loss_function(own, torch.sigmoid(out), x, m, v, z, 1)[0]

    of = lambda capacity: ours(vae(net, optax.sgd(1.0), beta=5.0, capacity=capacity))
    equal(of(1e-9), theirs(pythae(1e-9)))  # every example lies above it
    assert abs(of(3.0)[0] - theirs(pythae(3.0))[0]) > 1e-2


@pytest.mark.parametrize(("distance", "choice"), [("multiquadric_mmd", "imq"), ("gaussian_mmd", "rbf")])
def test_info_vae_and_wae_are_equal(distance, choice, monkeypatch):
    fixed = lambda size: Prior(lambda params, key, n, dtype=float, y=None: jnp.asarray(FIXED))
    monkeypatch.setattr(info, "normal", fixed)
    scales = SCALES if choice == "imq" else None
    options = {"distance": distance, "scales": scales}
    draws = torch.tensor(FIXED)
    for kind in (models.INFOVAE_MMD, models.WAE_MMD):
        own = SimpleNamespace(model_config=BCE, alpha=0.25, lbd=7.0, kernel_choice=choice, scales=SCALES)
        own.reconstruction_loss_scale = 1.0
        own.imq_kernel, own.rbf_kernel = partial(kind.imq_kernel, own), partial(kind.rbf_kernel, own)
        if kind is models.INFOVAE_MMD:
            member = info_vae(table(2), optax.sgd(1.0), alpha=0.25, weight=7.0, **options)
            loss = lambda x, m, v, z, out, own=own: models.INFOVAE_MMD.loss_function(
                own, torch.sigmoid(out), x, z, draws, m, v
            )[0]
            equal(ours(member), theirs(loss))
        else:
            member = info_vae(table(1), optax.sgd(1.0), posterior="delta", likelihood="squared", weight=7.0, **options)
            loss = lambda x, m, v, z, out, own=own: models.WAE_MMD.loss_function(own, out, x, z, draws)[0]
            equal(ours(member, 1), theirs(loss, 1))


def test_factor_vae_is_equal_but_for_a_half_before_the_critics_loss(monkeypatch):
    slope, kind = R.normal(size=UNITS), models.FactorVAE
    mixed = torch.tensor(FIXED)
    odds = lambda z: z @ torch.tensor(slope) / 2
    own = SimpleNamespace(model_config=BCE, gamma=4.0, discriminator=lambda z: torch.stack([odds(z), -odds(z)], 1))
    found = lambda x, m, v, z, out: kind.loss_function(own, torch.sigmoid(out), x, m, v, z, mixed)
    critic = Net(lambda key, z: jnp.asarray(slope), lambda params, z: z @ params)
    # the model's step alone: the critic reads halves of the batch, which this table has not
    monkeypatch.setattr(factor, "discriminate", lambda *_: assign(lambda params, batch, key: {}))
    member = factor_vae(table(2), optax.sgd(1.0), gamma=4.0, critic=critic)
    equal(ours(member, critic=jnp.asarray(slope)), theirs(lambda *given: found(*given)[1], step=(0,)))
    real, other = STATS[:, :UNITS], FIXED
    rule = game.discriminate(critic, lambda *_: jnp.asarray(real), lambda *_: jnp.asarray(other), optax.sgd(1.0))
    params = {"critic": jnp.asarray(slope)}
    _, _, metrics = rule.update(params, rule.init(params), Batch(jnp.asarray(X)), KEY)
    zeros = torch.zeros(EXAMPLES, UNITS, dtype=torch.float64)
    half = found(torch.tensor(X), zeros, zeros, torch.tensor(real), torch.tensor(0 * X))[2]
    assert float(metrics["critic"]) == pytest.approx(2 * float(half), rel=1e-5)
