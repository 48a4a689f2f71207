"""Bounds by weighted draws: values and gradients against exact ones, on a linear-Gaussian model in float64."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ae_jax import algorithms, networks
from ae_jax.core import Batch
from ae_jax.objectives.estimators import estimator, hold, teach
from ae_jax.objectives.latent import latent_model
from ae_jax.training import settings

KEY = jax.random.key(0)
X = np.array([0.7, -1.1])
LOG_2PI = np.log(2 * np.pi)
# most of the time here is compilation
quickly = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
NAMES = ("elbo", "stl", "iwae", "dreg", "miwae", "piwae", "ciwae")
pytestmark = pytest.mark.usefixtures("float64")


class Model(NamedTuple):
    """p(z) = N(0, 1), p(x | z) = N(w z + b, exp(logvar) I), q(z | x) = N(mean, exp(q_logvar)); x has two numbers."""

    p: dict
    q: dict

    @property
    def posterior(self):
        """Mean and variance of p(z | x), by Bayes' rule."""
        precision = 1 + self.p["w"] @ self.p["w"] / np.exp(self.p["logvar"])
        return (X - self.p["b"]) @ self.p["w"] / np.exp(self.p["logvar"]) / precision, 1 / precision

    @property
    def log_p(self):
        """log p(x)."""
        covariance = np.outer(self.p["w"], self.p["w"]) + np.exp(self.p["logvar"]) * np.eye(2)
        away = X - self.p["b"]
        return -0.5 * (away @ np.linalg.solve(covariance, away) + np.log(np.linalg.det(covariance)) + 2 * LOG_2PI)


def model(**q):
    p = {"w": np.array([0.9, -0.4]), "b": np.array([0.1, 0.2]), "logvar": np.asarray(-0.5)}
    return Model(p, {"mean": np.asarray(0.3), "logvar": np.asarray(0.2)} | q)


def exact():
    """The model whose q is its posterior."""
    mean, variance = model().posterior
    return model(mean=np.asarray(mean), logvar=np.log(variance))


def log_normal(x, mean, logvar):
    return -0.5 * (jnp.square(x - mean) / jnp.exp(logvar) + logvar + LOG_2PI)


def joint(p, z):
    nll = -log_normal(X, z * p["w"] + p["b"], p["logvar"]).sum(-1)
    return nll, log_normal(z[..., 0], 0.0, 0.0)


def log_prob(q, stats, z):
    return log_normal(z[..., 0], q["mean"], q["logvar"])


def draw(q, eps):
    """z [S, B, 1] and log q [S, B] for this noise [S, B]."""
    z = (q["mean"] + jnp.exp(0.5 * q["logvar"]) * eps)[..., None]
    return z, log_prob(q, None, z)


def bounds(row, p, q, eps):
    z, log_q = draw(q, eps)
    log_q = hold(log_prob, q, z, z, log_q) if row.held else log_q
    return teach(row, joint, p, z, log_q)[0]


def gradients(row, of, eps, weight=None):
    """Gradients of the weighted mean of the bounds in p and in q."""
    weight = np.full(eps.shape[1], 1 / eps.shape[1]) if weight is None else weight
    return jax.grad(lambda p, q: (weight * bounds(row, p, q, eps)).sum(), (0, 1))(of.p, of.q)


def row(name, samples, groups=None, beta=0.3):
    return estimator(name, samples, groups if name in ("miwae", "piwae") else None, beta)


def noise(samples, examples, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, examples))


def quadrature(samples, nodes):
    """All combinations of Gauss-Hermite nodes, [S, nodes^S], and their probabilities."""
    at, mass = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack([g.ravel() for g in np.meshgrid(*[at] * samples)])
    weights = np.prod([g.ravel() for g in np.meshgrid(*[mass / mass.sum()] * samples)], 0)
    return grid, weights


def close(a, b, **how):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **{"rtol": 1e-10, "atol": 1e-12} | how), a, b)


ROWS = {
    **{name: row(name, 6, 2) for name in NAMES},
    "miwae, 6 groups": row("miwae", 6, 6),
    "miwae, 3 groups": row("miwae", 6, 3),
    "miwae, 1 group": row("miwae", 6, 1),
    "ciwae, beta 0": row("ciwae", 6, beta=0.0),
    "ciwae, beta 1": row("ciwae", 6, beta=1.0),
}


@pytest.fixture(scope="module")
def found():
    """For each row, on the same six draws of four examples: the bounds, and their gradients in p and q."""
    with jax.enable_x64(True):
        of, eps = model(), jnp.asarray(noise(6, 4))
        of_row = lambda r, eps: (bounds(r, of.p, of.q, eps), *gradients(r, of, eps))
        return quickly(lambda eps: {name: of_row(r, eps) for name, r in ROWS.items()})(eps)


@pytest.mark.parametrize("name", ["elbo", "iwae", "miwae", "ciwae"])
def test_the_gradient_is_that_of_the_bound(found, name):
    eps, of = jnp.asarray(noise(6, 4)), model()

    def value(p, q):
        z, log_q = draw(q, eps)
        nll, log_p = joint(p, z)
        return ROWS[name].value(log_p - log_q - nll).mean()

    close(found[name][1:], quickly(jax.grad(value, (0, 1)))(of.p, of.q))


@pytest.mark.parametrize(("doubly", "plain", "samples"), [("stl", "elbo", 1), ("dreg", "iwae", 2)])
def test_what_learns_through_the_draws_alone_has_the_same_mean(doubly, plain, samples):
    """By quadrature over the noise of all draws. The model learns the same from every draw."""
    (mean, variance), (eps, weight) = model().posterior, quadrature(samples, 60)
    of = model(mean=mean + 0.2, logvar=np.log(variance) + 0.1)  # near it, where 60 nodes a draw are exact
    both = lambda eps, weight: [gradients(row(name, samples), of, eps, weight) for name in (doubly, plain)]
    (p, q), (p_plain, q_plain) = quickly(both)(eps, weight)
    close(p, p_plain)
    close(q, q_plain, rtol=1e-8)
    assert abs(q["mean"]) > 0.05
    (_, one), (_, one_plain) = quickly(both)(eps[:, :1], np.ones(1))
    assert abs(one["mean"] - one_plain["mean"]) > 1e-3  # not draw by draw


def test_at_the_posterior_every_bound_is_the_likelihood_and_the_model_learns_its_gradient():
    of, (eps, weight) = exact(), quadrature(2, 20)
    rows = {name: row(name, 2, 1) for name in NAMES}
    whole = lambda r, eps: (bounds(r, of.p, of.q, eps), *gradients(r, of, eps, weight), gradients(r, of, eps[:, :1])[1])

    def log_likelihood(p):
        covariance = jnp.outer(p["w"], p["w"]) + jnp.exp(p["logvar"]) * jnp.eye(2)
        return jax.scipy.stats.multivariate_normal.logpdf(X, p["b"], covariance)

    expected = jax.grad(log_likelihood)(of.p)
    for name, (values, p, q, one) in quickly(lambda eps: {n: whole(r, eps) for n, r in rows.items()})(eps).items():
        np.testing.assert_allclose(values, of.log_p, rtol=1e-12)
        close(p, expected)
        close(q, {"mean": 0.0, "logvar": 0.0})  # in the mean over the noise
        assert (max(abs(g) for g in one.values()) < 1e-12) == (name in ("stl", "dreg"))  # of one pair of draws


def test_groups_of_one_are_the_elbo_and_one_group_is_iwae(found):
    close(found["miwae, 6 groups"], found["elbo"])
    close(found["miwae, 1 group"], found["iwae"])


def test_miwae_is_the_mean_over_groups_of_their_bounds(found):
    """Two groups of three: groups and their sizes differ."""
    eps, of = noise(6, 4), model()
    parts = [bounds(row("iwae", 3), of.p, of.q, eps[i : i + 3]) for i in (0, 3)]
    close(found["miwae"][0], (parts[0] + parts[1]) / 2)
    assert np.abs(found["miwae"][0] - found["miwae, 3 groups"][0]).min() > 1e-3


def test_piwae_teaches_the_model_as_iwae_and_the_encoder_as_miwae(found):
    _, p, q = found["piwae"]
    close(p, found["iwae"][1], rtol=1e-14)
    close(q, found["miwae"][2], rtol=1e-14)


def test_ciwae_is_linear_between_the_elbo_and_iwae(found):
    close(found["ciwae, beta 0"], found["iwae"])
    close(found["ciwae, beta 1"], found["elbo"])
    close(found["ciwae"], jax.tree.map(lambda a, b: 0.3 * a + 0.7 * b, found["elbo"], found["iwae"]))


def test_the_signal_of_iwaes_encoder_drowns_with_the_samples_and_that_of_dreg_does_not():
    """Signal to noise of the gradient goes as S^-1/2 and S^1/2. Both have one mean, which DReG's draws tell better."""
    of, sizes, signals = model(), (4, 16, 64), {"iwae": [], "dreg": []}
    of_one = lambda eps, r: gradients(r, of, eps[:, None])[1]["mean"]
    for samples in sizes:
        both = lambda eps, samples=samples: {
            name: jax.vmap(partial(of_one, r=row(name, samples)), 1)(eps) for name in signals
        }
        each = quickly(both)(noise(samples, 4000))
        for name, g in each.items():
            signals[name].append(abs(each["dreg"].mean()) / g.std())
    slope = {name: np.polyfit(np.log(sizes), np.log(of), 1)[0] for name, of in signals.items()}
    assert slope["iwae"] == pytest.approx(-0.5, abs=0.15)
    assert slope["dreg"] == pytest.approx(0.5, abs=0.15)


# ------------------------------------------------------------------------------------------- the member


def member(**options):
    net = networks.mlp((4,), 2, hidden=(5,), heads=2, activation="tanh")
    algorithm = algorithms.importance(net, optax.sgd(1.0), **options)
    batch = Batch(jnp.asarray(np.random.default_rng(1).integers(0, 2, (6, 4)).astype(float)))
    return net, algorithm, algorithm.init(KEY, batch), batch


def step(algorithm, params, batch):
    """The gradient of the loss, by one update at a rate of 1."""
    after, _, metrics = quickly(algorithm.rule.update)(params, algorithm.rule.init(params), batch, KEY)
    return jax.tree.map(lambda p, q: p - q, params, after), metrics


def test_the_member_descends_what_the_old_one_did():
    net, algorithm, params, batch = member(samples=3)
    model = latent_model(net, "bernoulli")

    def loss(params):
        log_w = model.draw(params, batch, KEY, 3, train=True).log_weight
        return -(jax.nn.logsumexp(log_w, 0) - jnp.log(3)).mean()

    found, metrics = step(algorithm, params, batch)
    value, expected = quickly(jax.value_and_grad(loss))(params)
    close(found, expected)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
    np.testing.assert_allclose(-metrics["bound"], value, rtol=1e-12)


@pytest.mark.parametrize("name", ["stl", "dreg", "piwae"])
def test_the_member_weighs_its_draws_as_the_table_says(name):
    """The same gradient by two surrogates: one for the decoder with draws held, one for the encoder."""
    options = {"groups": 2} if name == "piwae" else {}
    net, algorithm, params, batch = member(samples=4, estimator=name, **options)
    model, q = latent_model(net, "bernoulli"), latent_model(net, "bernoulli").posterior

    def surrogate(params):
        drawn = model.draw(params, batch, KEY, 4, train=True)
        held = jax.lax.stop_gradient(drawn)
        share = jax.nn.softmax(held.log_weight, 0)
        nll, log_p = model.joint(params, batch.x, held.z)
        even = jnp.full_like(share, 1 / 4)
        model_part = ((even if name == "stl" else share) * (log_p - nll)).sum(0)
        fixed = jax.lax.stop_gradient(params)
        nll, log_p = model.joint(fixed, batch.x, drawn.z)
        log_q = drawn.log_q if name == "piwae" else q.log_prob(fixed, held.stats, drawn.z)
        grouped = jax.nn.softmax(held.log_weight.reshape(2, 2, -1), 1).reshape(4, -1) / 2
        weights = {"stl": even, "dreg": share**2, "piwae": grouped}[name]
        return -(model_part + (weights * (log_p - nll - log_q)).sum(0)).mean()

    found, metrics = step(algorithm, params, batch)
    close(found, quickly(jax.grad(surrogate))(params), rtol=1e-9, atol=1e-11)
    assert ("group_bound" in metrics) == (name == "piwae")
    if name == "piwae":
        assert metrics["elbo"] < metrics["group_bound"] < metrics["bound"]


def test_a_vae_of_many_draws_has_the_mean_of_their_errors_and_the_closed_kl():
    net, _, params, batch = member()
    algorithm = algorithms.vae(net, optax.sgd(1.0), samples=5)
    model = latent_model(net, "bernoulli")

    def loss(params):
        drawn = model.draw(params, batch, KEY, 5, train=True)
        return (drawn.nll.mean(0) + drawn.kl.sum(-1)).mean()

    value, expected = quickly(jax.value_and_grad(loss))(params)
    found, metrics = step(algorithm, params, batch)
    close(found, expected)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"estimator": "miwae", "samples": 6, "groups": 4},
            r"groups is 4, and the 6 samples .* one of 1, 2, 3, 6",
        ),
        ({"estimator": "piwae"}, r"groups is None, and the 5 samples .* give one of 1, 5"),
        ({"estimator": "vimco"}, r"estimator is 'vimco'; it must be one of elbo, stl, iwae"),
        ({"groups": 5}, r"groups=5 has no effect with estimator='iwae'"),
        ({"beta": 0.5}, r"beta=0.5 has no effect with estimator='iwae'"),
        ({"estimator": "ciwae", "beta": 1.5}, r"beta is 1.5; it must be a fraction"),
    ],
)
def test_what_no_estimator_can_be_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        member(**options)


# ------------------------------------------------------------------------------- runs of the member's earlier name

OLD = {
    "algorithm": "iwae",
    "seeds": [0],
    "hyper": {"likelihood": "bernoulli", "samples": 3, "sigma": None},
    "network_options": {"hidden": [4]},
    "data_options": {},
    "optimizer": {"name": "adam", "lr": 1e-3},
    "data": "digits",
    "epochs": 1,
    "batch_size": 8,
    "latents": 2,
    "network": "mlp",
}


def test_settings_of_the_earlier_name_give_the_member_and_the_same_settings_go_on():
    assert algorithms.iwae is algorithms.importance
    old = settings.Settings.from_json(OLD)
    assert old.algorithm == "importance"
    settings.build(old, (4,), 9)
    now = old.to_json() | {"hyper": {"estimator": "iwae", "groups": None, "beta": 0.05, **OLD["hyper"]}}
    recorded = settings.as_recorded(now, OLD | {"hyper": OLD["hyper"]})
    assert (recorded["algorithm"], recorded["hyper"]) == ("iwae", OLD["hyper"])
    assert "likelihood_levels" not in recorded
    other = settings.as_recorded(now | {"hyper": {**now["hyper"], "estimator": "dreg"}}, OLD)
    assert other["hyper"]["estimator"] == "dreg"
