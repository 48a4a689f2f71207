"""Members without a posterior beside pythae's, with the same weights and draws. Needs the extra `parity`.

They are equal to 1e-5, or differ as the test's name or docstring says.
"""

import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax.algorithms import adversarial, autoencoder, vq_vae
from ae_jax.core import Batch, Net
from ae_jax.distributions import quantisers
from ae_jax.distributions.priors import Prior

torch = pytest.importorskip("torch", reason="the extra `parity` is not installed: pip install -e '.[parity]'")
models = pytest.importorskip("pythae.models", reason="the extra `parity` is not installed: pip install -e '.[parity]'")
from pythae.models.vq_vae.vq_vae_utils import Quantizer, QuantizerEMA  # noqa: E402
from test_parity_aggregate import (  # noqa: E402
    FIXED,
    KEY,
    STATS,
    UNITS,
    WEIGHTS,
    X,
    equal,
    ours,
    params_of,
    table,
    theirs,
)

pytestmark = pytest.mark.usefixtures("float64")


def test_the_autoencoder_is_equal():
    loss = lambda x, m, v, z, out: models.AE.loss_function(SimpleNamespace(), out, x)
    equal(ours(autoencoder(table(1), optax.sgd(1.0)), 1), theirs(loss, 1))


def test_its_regularised_autoencoder_halves_the_weight_of_the_code():
    """The decay of its decoder's weights is the optimizer's, not the loss's."""
    own = SimpleNamespace(model_config=SimpleNamespace(embedding_weight=0.3))
    loss = lambda x, m, v, z, out: models.RAE_L2.loss_function(own, out, x, z)[0]
    equal(ours(autoencoder(table(1), optax.sgd(1.0), code_l2=0.15), 1), theirs(loss, 1))


def test_the_adversarial_autoencoder_is_equal(monkeypatch):
    """It adds half the squared error and the confusion; ours takes a small step for each, and the two add up."""
    fixed = Prior(lambda params, key, n, dtype=float, y=None: jnp.asarray(FIXED))
    monkeypatch.setattr(sys.modules["ae_jax.algorithms.adversarial"], "prior_of", lambda *_: fixed)
    rate, slope = 1e-7, np.random.default_rng(3).normal(size=UNITS)
    critic = Net(lambda key, z: jnp.asarray(slope), lambda params, z: z @ params)
    member = adversarial(table(1), optax.sgd(rate), critic=critic, likelihood="squared")
    params = params_of(1) | {"critic": jnp.asarray(slope)}
    after, *_ = member.rule.update(params, member.rule.init(params), Batch(jnp.asarray(X)), KEY)

    weight = torch.tensor(slope, requires_grad=True)
    judge = lambda z: SimpleNamespace(embedding=torch.sigmoid(z @ weight))
    own = SimpleNamespace(model_config=SimpleNamespace(reconstruction_loss="mse"), discriminator=judge)
    own.reconstruction_loss_scale, own.adversarial_loss_scale = 1.0, 0.5
    found = lambda x, m, v, z, out: models.Adversarial_AE.loss_function(own, out, x, z, torch.tensor(FIXED))
    torch.set_default_dtype(torch.float64)  # of the labels that it makes
    try:
        _, of_codes, of_weights = theirs(lambda *given: found(*given)[1], 1)
        weight.grad = None
        theirs(lambda *given: found(*given)[2] + 0 * given[4].sum(), 1)
    finally:
        torch.set_default_dtype(torch.float32)
    moved = [(params[group] - after[group]) / rate for group in ("encoder", "decoder", "critic")]
    assert weight.grad is not None
    equal(moved, (2 * of_codes, 2 * of_weights, weight.grad.numpy()))


def test_the_vq_vae_of_the_release_weighs_means_over_numbers():
    """The losses are equal if its factors are D times ours, D numbers a code. Its later commits sum over the batch."""
    book = np.random.default_rng(4).normal(size=(4, UNITS))
    member = vq_vae(table(1), optax.sgd(1.0), quantiser="learned", size=4, dimension=UNITS, likelihood="squared")
    params = params_of(1) | {"codebook": jnp.asarray(book)}
    after, _, metrics = member.rule.update(params, member.rule.init(params), Batch(jnp.asarray(X)), KEY)

    def found(commitment, quantisation):
        sizes = SimpleNamespace(embedding_dim=UNITS, num_embeddings=4)
        sizes.commitment_loss_factor, sizes.quantization_loss_factor = commitment, quantisation
        quantiser = Quantizer(sizes)  # its one-hot symbols are of 32 bits
        single = lambda a: torch.tensor(a, dtype=torch.float32, requires_grad=True)
        z, weights = single(STATS[:, :UNITS]), single(WEIGHTS)
        quantiser.embeddings.weight.data = torch.tensor(book, dtype=torch.float32)
        out = quantiser(z[:, None, None])
        made = out.quantized_vector.reshape(len(z), -1) @ weights
        loss = models.VQVAE.loss_function(SimpleNamespace(), made, torch.tensor(X, dtype=torch.float32), out)[0]
        loss.backward()
        return loss.item(), z.grad, weights.grad, quantiser.embeddings.weight.grad

    moved = [params[group] - after[group] for group in ("encoder", "decoder", "codebook")]
    equal((float(metrics["loss"]), *moved), found(0.25 * UNITS, UNITS))
    assert abs(float(metrics["loss"]) - found(0.25, 1.0)[0]) > 1e-2


def test_a_vector_without_use_diverges_there_and_stays_here():
    sizes = SimpleNamespace(embedding_dim=2, num_embeddings=2, commitment_loss_factor=0.25, decay=0.9)
    book, x = np.asarray([[0.0, 0], [50, 50]]), 0.1 * np.random.default_rng(5).normal(size=(8, 2))
    quantiser = QuantizerEMA(sizes)
    for of in (quantiser.embeddings, quantiser.ema_embed):
        of.data.copy_(torch.tensor(book))
    quantiser.cluster_size.data.fill_(1.0)
    mine = quantisers.moving(2, decay=0.9)
    params = {"codebook": {"vectors": jnp.asarray(book), "count": jnp.ones(2), "sum": jnp.asarray(book)}}
    for _ in range(100):
        quantiser(torch.tensor(x, dtype=torch.float32)[:, None, None])
        params |= mine.quantise(params, jnp.asarray(x), KEY).patch
    np.testing.assert_allclose(params["codebook"]["vectors"][1], 50, rtol=1e-9)
    assert abs(float(quantiser.embeddings[1, 0]) - 50) > 1, float(quantiser.embeddings[1, 0])
