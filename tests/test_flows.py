"""Flows as bijections: inverses, Jacobians, masks; and the priors made of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import shaken
from scipy import stats

from ae_jax.core import Batch
from ae_jax.distributions import flows, priors
from ae_jax.distributions.flows import connections

KEY = jax.random.key(0)


MAKERS = {
    "coupling": lambda size: flows.coupling(size, 8),
    "autoregressive": lambda size: flows.autoregressive(size, 8),
    "realnvp": lambda size: flows.realnvp(size, 3, 8),
    "maf": lambda size: flows.maf(size, 2, 8),
    "whitened maf": lambda size: flows.whitened(flows.maf(size, 2, 8), size),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_a_flow_is_a_bijection_and_its_log_determinant_that_of_its_jacobian(name, size):
    with jax.enable_x64(True):
        flow = MAKERS[name](size)
        params = shaken(flow.init(KEY, jnp.float64))
        if "root" in params:
            params["root"] = jnp.tril(params["root"])
        u = jax.random.normal(jax.random.key(2), (2, 2, size), jnp.float64)

        @jax.jit
        def found(params, u):
            z, there = flow.forward(params, u)
            back, home = flow.inverse(params, z)
            jacobian = jax.vmap(jax.jacfwd(lambda u: flow.forward(params, u)[0]))(u.reshape(-1, size))
            return z, there, back, home, jnp.linalg.slogdet(jacobian)[1].reshape(2, 2)

        z, there, back, home, expected = found(params, u)
        assert (z.shape, z.dtype) == (u.shape, jnp.float64)
        assert float(jnp.abs(z - u).max()) > 0.1
        np.testing.assert_allclose(back, u, rtol=0, atol=1e-12)
        np.testing.assert_allclose(there, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(home, -there, rtol=0, atol=1e-12)


def test_a_flow_begins_as_the_identity():
    u = jax.random.normal(KEY, (3, 4))
    for flow in (flows.realnvp(4, 2), flows.maf(4, 2)):
        z, log_det = jax.jit(lambda key, u, flow=flow: flow.forward(flow.init(key, u.dtype), u))(KEY, u)
        np.testing.assert_array_equal(z, u)
        np.testing.assert_array_equal(log_det, jnp.zeros(3))


def test_a_dimension_of_a_maf_layer_depends_on_those_before_it_alone():
    size, flow = 5, flows.autoregressive(5, 16)
    params = shaken(flow.init(KEY, jnp.float32))
    for name in ("layer_0", "layer_1"):
        params[name]["bias"] += 10  # no rectified unit is at rest
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda z: flow.inverse(params, z)[0]))(jnp.ones(size)))
    np.testing.assert_array_equal(np.triu(jacobian, 1), 0)
    assert (np.tril(jacobian) != 0).sum() == size * (size + 1) // 2  # on all of those


def test_the_masks_of_a_network_join_each_output_to_all_inputs_before_it_and_no_others():
    parts = [jnp.arange(1, 5), jnp.asarray([1, 2, 3, 3]), jnp.asarray([1, 1, 2, 3])]
    paths = np.eye(4, dtype=int)
    for mask in connections(parts):
        paths = paths @ np.asarray(mask, int)
    np.testing.assert_array_equal(paths > 0, np.triu(np.ones((4, 4), bool), 1))


def test_a_mixture_is_scipys():
    """With both kinds of covariance, in float64."""
    with jax.enable_x64(True):
        for full in (False, True):
            prior = priors.mixture(3, 4, full)
            params = shaken(prior.init(KEY, Batch(jnp.zeros((2, 3)))))
            own = params["mixture"]
            if full:
                root = np.tril(own["root"])
                covariances = root @ root.swapaxes(1, 2)
            else:
                covariances = [np.diag(np.exp(logvar)) for logvar in own["logvar"]]
            z = jax.random.normal(jax.random.key(3), (2, 5, 3))
            weights = np.asarray(jax.nn.softmax(own["logits"]))
            of: Any = stats.multivariate_normal
            each = [of(m, s).pdf(z) for m, s in zip(own["mean"], covariances, strict=True)]
            expected = np.log(np.tensordot(weights, each, 1))
            assert prior.log_prob is not None
            log_p, log_each = jax.jit(lambda p, z, f=prior.log_prob: (f(p, z), priors.of_components(p, z)))(params, z)
            np.testing.assert_allclose(log_p, expected, rtol=0, atol=1e-12)
            posterior = np.asarray(jax.nn.softmax(log_each))
            np.testing.assert_allclose(posterior.sum(-1), 1, atol=1e-12)
            np.testing.assert_allclose(posterior[..., 2], weights[2] * each[2] / np.exp(expected), atol=1e-12)


def test_labels_name_the_components_of_a_mixture():
    prior = priors.mixture(2, 3)
    params = {"mixture": {"logits": jnp.zeros(3), "mean": 10.0 * jnp.eye(3, 2), "logvar": jnp.full((3, 2), -9.0)}}
    z = prior.draw(params, KEY, 4, jnp.float32, jnp.asarray([0, 1, 2, 1]))
    np.testing.assert_allclose(z, 10 * np.eye(3, 2)[[0, 1, 2, 1]], atol=0.1)
    drawn = prior.draw(params, KEY, 200, jnp.float32)
    assert {tuple(row) for row in np.round(np.asarray(drawn) / 10).astype(int)} == {(1, 0), (0, 1), (0, 0)}


def test_a_prior_or_a_flow_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="components is 0"):
        priors.mixture(2, 0)
    with pytest.raises(ValueError, match="times is 0"):
        flows.maf(2, 0)
    with pytest.raises(ValueError, match="realnvp is over codes of 1 latent"):
        priors.learned("realnvp", 1)
    priors.learned("realnvp", 2)
    priors.learned("maf", 1)
    with pytest.raises(ValueError, match="prior is 'vamp'; it must be one of normal, gmm, realnvp, maf"):
        priors.learned("vamp", 2)  # pyright: ignore[reportArgumentType]
