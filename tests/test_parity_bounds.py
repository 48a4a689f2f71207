"""Likelihoods and bounds beside pythae's: the same weights and noise, in float64. Needs the extra `parity`.

Its MIWAE and PIWAE normalise and sum over the axis of the M estimates and average over the K samples, so that the two
are swapped; the tests show which of ours each is.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import algorithms, networks
from ae_jax.core import Batch

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed: pip install -e '.[parity]'")
models = pytest.importorskip("pythae.models", reason="the extra `parity` is not installed: pip install -e '.[parity]'")
from pythae.models.base.base_utils import ModelOutput  # noqa: E402
from pythae.models.nn import BaseDecoder, BaseEncoder  # noqa: E402

KEY, D, K, B = jax.random.key(0), 6, 2, 5
NET = networks.linear((D,), K, heads=2)
pytestmark = pytest.mark.usefixtures("float64")


class Encoder(BaseEncoder):
    def __init__(self):
        BaseEncoder.__init__(self)
        self.mean, self.logvar = torch.nn.Linear(D, K), torch.nn.Linear(D, K)

    def forward(self, x):
        return ModelOutput(embedding=self.mean(x), log_covariance=self.logvar(x))


class Decoder(BaseDecoder):
    def __init__(self, bits):
        BaseDecoder.__init__(self)
        self.layer, self.bits = torch.nn.Linear(K, D), bits

    def forward(self, z):
        out = self.layer(z)
        return ModelOutput(reconstruction=torch.sigmoid(out) if self.bits else out)


def data(bits=True):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (B, D)).astype(float) if bits else rng.normal(size=(B, D))
    params = NET.init(KEY, Batch(jnp.asarray(x)))
    return x, jax.tree.map(lambda p: p + 0.1 * jnp.asarray(rng.normal(size=p.shape)), params)


def theirs(kind, x, params, eps, bits=True, pseudo=None, **options):
    """The loss of a pythae model at our params, and its gradients in our layout. eps: as its draws are laid out."""
    config = getattr(models, f"{kind}Config")(
        input_dim=(D,), latent_dim=K, reconstruction_loss="bce" if bits else "mse", **options
    )
    model = getattr(models, kind)(config, encoder=Encoder(), decoder=Decoder(bits)).double()
    kernel, bias = (np.array(params["encoder"]["layer_0"][name]) for name in ("kernel", "bias"))
    layers = {model.encoder.mean: (kernel[:, :K], bias[:K]), model.encoder.logvar: (kernel[:, K:], bias[K:])}
    layers[model.decoder.layer] = tuple(np.array(params["decoder"]["layer_0"][name]) for name in ("kernel", "bias"))
    for layer, (w, b) in layers.items():
        layer.weight.data, layer.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
    if pseudo is not None:  # [C, D]
        model.pseudo_inputs[0].weight.data = torch.tensor(pseudo.T.copy())
        model.pseudo_inputs[0].bias.data.zero_()
        model.idle_input = model.idle_input.double()
    noise = torch.tensor(np.array(eps))
    model._sample_gauss = lambda mean, deviation: (mean + noise.reshape(mean.shape) * deviation, noise)
    out = model({"data": torch.tensor(x)})

    def gradients(loss):
        model.zero_grad()
        loss.backward(retain_graph=True)
        grad = lambda name: [getattr(layer, name).grad.numpy().copy() for layer in layers]
        (m, s, d), (mb, sb, db) = grad("weight"), grad("bias")
        encoder = {"kernel": np.concatenate([m.T, s.T], 1), "bias": np.concatenate([mb, sb])}
        found = {"encoder": {"layer_0": encoder}, "decoder": {"layer_0": {"kernel": d.T, "bias": db}}}
        return found if pseudo is None else found | {"pseudo": model.pseudo_inputs[0].weight.grad.numpy().T}

    return out, gradients


def ours(algorithm, x, params):
    """The loss and its gradients, by an update of rate 1; and the noise of the draws, [S, B, K]."""
    batch = Batch(jnp.asarray(x))
    after, _, metrics = jax.jit(algorithm.rule.update)(params, algorithm.rule.init(params), batch, KEY)
    return float(metrics["loss"]), jax.tree.map(lambda p, q: p - q, params, after)


def noise(samples):
    return np.asarray(jax.random.normal(jax.random.split(KEY, 3)[0], (samples, B, K)))


def equal(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), a, b)


def differ(a, b):
    apart = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), a, b)
    assert max(jax.tree.leaves(apart)) > 1e-3


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_vae_and_the_beta_vae_are_equal(beta):
    x, params = data()
    loss, gradient = ours(algorithms.vae(NET, optax.sgd(1.0), beta=beta), x, params)
    kind, options = ("VAE", {}) if beta == 1 else ("BetaVAE", {"beta": beta})
    out, gradients = theirs(kind, x, params, noise(1)[0], **options)
    assert loss == pytest.approx(out.loss.item(), rel=1e-10)
    equal(gradients(out.loss), gradient)


def test_mse_is_the_gaussian_of_deviation_one_without_its_constant():
    x, params = data(bits=False)
    loss, gradient = ours(algorithms.vae(NET, optax.sgd(1.0), likelihood="gaussian", sigma=1.0), x, params)
    out, gradients = theirs("VAE", x, params, noise(1)[0], bits=False)
    assert loss - D / 2 * np.log(2 * np.pi) == pytest.approx(out.loss.item(), rel=1e-10)
    equal(gradients(out.loss), gradient)


def test_the_vampprior_is_equal():
    """Its pseudo-inputs are bounded by a hard tanh, ours by a sigmoid; gradients of the bounded ones are compared."""
    x, params = data()
    u = np.random.default_rng(2).uniform(0.1, 0.9, (3, D))
    params = params | {"pseudo": jnp.asarray(np.log(u / (1 - u)))}
    loss, gradient = ours(algorithms.vamp(NET, optax.sgd(1.0), components=3), x, params)
    out, gradients = theirs("VAMP", x, params, noise(1)[0], pseudo=u, number_components=3)
    assert loss == pytest.approx(out.loss.item(), rel=1e-6)  # its log C is of 32 bits
    equal(gradients(out.loss), gradient | {"pseudo": gradient["pseudo"] / (u * (1 - u))})


def member(x, params, **options):
    return ours(algorithms.importance(NET, optax.sgd(1.0), **options), x, params)


@pytest.mark.parametrize(("kind", "options"), [("IWAE", {}), ("CIWAE", {"beta": 0.3})])
def test_the_gradients_of_iwae_and_ciwae_are_equal_and_the_values_are_another(kind, options):
    """Its value weighs the log-weights by softmax, detached, which is no bound."""
    x, params = data()
    loss, gradient = member(x, params, estimator=kind.lower(), samples=4, **options)
    out, gradients = theirs(kind, x, params, noise(4).swapaxes(0, 1), number_samples=4, **options)
    equal(gradients(out.loss), gradient)
    assert out.loss.item() < loss - 1e-3


def swapped(eps, groups):
    """Draws [S, B, K] as pythae lays them out, [B, estimates, samples, K], the groups last."""
    return eps.reshape(groups, -1, B, K).transpose(2, 1, 0, 3)


def test_miwae_of_m_groups_of_k_is_theirs_of_k_and_m():
    x, params = data()
    _, gradient = member(x, params, estimator="miwae", samples=6, groups=2)
    sizes = {"number_gradient_estimates": 3, "number_samples": 2}  # its words for 2 groups of 3, swapped
    out, gradients = theirs("MIWAE", x, params, swapped(noise(6), 2), **sizes)
    equal(gradients(out.loss), gradient)
    sizes = {"number_gradient_estimates": 2, "number_samples": 3}  # what its page says they are
    in_order = noise(6).reshape(2, 3, B, K).transpose(2, 0, 1, 3)
    out, gradients = theirs("MIWAE", x, params, in_order, **sizes)
    differ(gradients(out.loss), gradient)


def test_piwaes_decoder_is_equal_and_its_encoder_is_that_of_the_swapped_groups():
    x, params = data()
    _, gradient = member(x, params, estimator="piwae", samples=6, groups=2)
    sizes = {"number_gradient_estimates": 3, "number_samples": 2}
    out, gradients = theirs("PIWAE", x, params, swapped(noise(6), 2), **sizes)
    equal(gradients(out.encoder_loss)["encoder"], gradient["encoder"])
    equal(gradients(out.decoder_loss)["decoder"], gradient["decoder"])
