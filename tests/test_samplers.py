"""Samplers: what they recover from codes whose distribution is known; and the command that draws from them."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ae_jax import data
from ae_jax.app import cli
from ae_jax.app.commands import coding, reporting, runs, sampling
from ae_jax.app.report import findings
from ae_jax.errors import RunError
from ae_jax.evaluation import samplers
from ae_jax.evaluation.samples import frechet_distance

KEY = jax.random.key(0)
N = 4000
ROOT = np.asarray([[2.0, 0, 0], [1, 0.5, 0], [-1, 0.2, 0.1]])
MEAN = np.asarray([1.0, -2, 30])
NOISE = np.random.default_rng(0).normal(size=(N, 3))
AFFINE = (MEAN + NOISE @ ROOT.T).astype(np.float32)  # an affine map of N(0, I)
OF: Any = stats.multivariate_normal
TRUTH = OF(MEAN, ROOT @ ROOT.T)


def ring(n, seed=1):
    """A circle with noise: no Gaussian."""
    rng = np.random.default_rng(seed)
    angle, radius = 2 * np.pi * rng.random(n), 5 + 0.3 * rng.normal(size=n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)


@pytest.fixture(scope="module")
def of_ring():
    with pytest.MonkeyPatch.context() as few:
        few.setattr(samplers, "UPDATES", 600)
        return {name: fit(ring(3000), KEY) for name, fit in samplers.SAMPLERS.items()}


def log_prob(fitted, z):
    params, prior = fitted
    return np.asarray(jax.jit(prior.log_prob)(params, z))


def drawn(fitted, n):
    params, prior = fitted
    return np.asarray(jax.jit(lambda params: prior.draw(params, KEY, n, jnp.float32))(params))


def test_a_gaussian_recovers_mean_and_covariance():
    fitted = samplers.gaussian(AFFINE, KEY)
    own = fitted[0]["mixture"]
    covariance = np.asarray(own["root"][0] @ own["root"][0].T)
    np.testing.assert_allclose(own["mean"][0], MEAN, atol=5 * 2 / N**0.5)
    np.testing.assert_allclose(covariance, ROOT @ ROOT.T, atol=5 * 6 / N**0.5)
    z = drawn(fitted, 2000)
    np.testing.assert_allclose(z.mean(0), MEAN, atol=5 * 2 / 2000**0.5)
    np.testing.assert_allclose(np.cov(z.T), ROOT @ ROOT.T, atol=5 * 6 / 2000**0.5)


def test_a_mixture_of_one_component_is_the_gaussian_and_of_ten_scikit_learns():
    from sklearn.mixture import GaussianMixture

    one, gaussian = samplers.gmm(AFFINE, KEY, components=1), samplers.gaussian(AFFINE, KEY)
    np.testing.assert_allclose(log_prob(one, AFFINE[:50]), log_prob(gaussian, AFFINE[:50]), atol=1e-3)
    params, prior = samplers.gmm(ring(3000), KEY)
    own = jax.tree.map(lambda a: np.asarray(a, np.float64), params["mixture"])
    model = GaussianMixture(10)
    model.weights_, model.means_ = np.exp(own["logits"]), own["mean"]
    model.covariances_ = own["root"] @ own["root"].swapaxes(1, 2)
    model.precisions_cholesky_ = np.linalg.inv(own["root"]).swapaxes(1, 2)
    z = ring(200, 2)
    np.testing.assert_allclose(log_prob((params, prior), z), model.score_samples(z), atol=1e-4)


def test_a_flow_on_codes_that_are_gaussian_is_within_a_fiftieth_of_a_nat(monkeypatch):
    monkeypatch.setattr(samplers, "UPDATES", 60)
    fitted = samplers.maf(AFFINE, KEY)
    other = (MEAN + np.random.default_rng(3).normal(size=(2000, 3)) @ ROOT.T).astype(np.float32)
    assert log_prob(fitted, other).mean() == pytest.approx(TRUTH.logpdf(other).mean(), abs=0.02)


def test_what_knows_more_of_a_ring_gives_it_a_higher_probability(of_ring):
    found = {name: log_prob(fitted, ring(1000, 4)).mean() for name, fitted in of_ring.items()}
    assert found["normal"] < found["gaussian"] < found["gmm"]
    assert found["gaussian"] + 0.5 < found["maf"]
    for name in ("gmm", "maf"):  # draws follow: the entropy is the mean of -log p over them
        z = drawn(of_ring[name], 4000)
        radius = np.linalg.norm(z, axis=1)
        assert radius.mean() == pytest.approx(5, abs=0.2)
        assert log_prob(of_ring[name], z).mean() == pytest.approx(found[name], abs=0.6)


def test_the_same_key_fits_the_same_bits(of_ring):
    for name in ("gmm", "gaussian"):
        again = samplers.SAMPLERS[name](ring(3000), KEY)[0]
        jax.tree.map(np.testing.assert_array_equal, again, of_ring[name][0])
    for name, fitted in of_ring.items():  # by its name a sampler's prior is known without codes
        np.testing.assert_array_equal(drawn((fitted[0], samplers.prior_of(name, 2)), 4000), drawn(fitted, 4000))


def test_units_that_never_move_are_drawn_where_they_are():
    z = np.concatenate([AFFINE[:200], np.full((200, 1), 7, np.float32)], 1)
    for fit in (samplers.gaussian, samplers.gmm):
        np.testing.assert_allclose(drawn(fit(z, KEY), 20)[:, 3], 7, atol=0.02)


def test_codes_that_fit_no_sampler_are_refused():
    with pytest.raises(ValueError, match=r"give at least 10 codes \[N, K\] of floats"):
        samplers.gmm(AFFINE[:4], KEY)
    with pytest.raises(ValueError, match="NaN or infinite"):
        samplers.gaussian(np.where(AFFINE > 31, np.nan, AFFINE), KEY)
    with pytest.raises(ValueError, match="sampler is 'iaf'; it must be one of normal, gaussian, gmm, maf"):
        samplers.prior_of("iaf", 2)  # pyright: ignore[reportArgumentType]


def test_the_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(40_000, 3)), [1, 0, 0] + 2 * rng.normal(size=(40_000, 3))
    assert frechet_distance(a, b) == pytest.approx(1 + 3, abs=0.1)  # N(0, I) and N(e_1, 4 I): |e_1|^2 + 3 (2 - 1)^2
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    d, n = 16, 500  # of equal distributions: the bias
    apart = np.mean([frechet_distance(rng.normal(size=(n, d)), rng.normal(size=(n, d))) for _ in range(10)])
    assert apart == pytest.approx((d * (d + 1) / 2 + 2 * d) / n, rel=0.15)
    with pytest.raises(ValueError, match="give features"):
        frechet_distance(a, a[:, :2])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of a VAE, the report left out."""
    folder = tmp_path_factory.mktemp("samplers") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())
        options = "--data digits --epochs 1 --latents 2 --net-hidden 8 --likelihood-samples 1 --quiet"
        cli.dispatch(["train", "vae", *options.split(), "--workdir", str(folder)])
    return folder


def sampled(workdir, tmp_path, *options):
    cli.dispatch(["sample", str(workdir), str(tmp_path / "x.npy"), "-n", "6", *options])
    return np.load(tmp_path / "x.npy")


def test_a_sampler_is_fitted_once_and_kept_beside_the_checkpoint(workdir, tmp_path, capsys, monkeypatch):
    first = sampled(workdir, tmp_path, "--sampler", "gmm", "--key", "3")
    assert "sampler gmm, fitted to the codes of 1,437 training examples" in capsys.readouterr().out
    file = workdir / "samplers" / "gmm-0.npz"
    kept = file.read_bytes()
    with monkeypatch.context() as never:
        never.setattr(runs, "load_own", lambda *_: pytest.fail("the data were read again"))
        np.testing.assert_array_equal(sampled(workdir, tmp_path, "--sampler", "gmm", "--key", "3"), first)
        assert np.abs(sampled(workdir, tmp_path, "--sampler", "gmm", "--key", "4") - first).max() > 0.01
    assert file.read_bytes() == kept
    file.unlink()  # the seed of the run fixes the fit to the bit
    np.testing.assert_array_equal(sampled(workdir, tmp_path, "--sampler", "gmm", "--key", "3"), first)


def test_the_normal_sampler_of_a_vae_is_its_prior(workdir, tmp_path):
    np.testing.assert_allclose(
        sampled(workdir, tmp_path, "--sampler", "normal"), sampled(workdir, tmp_path), rtol=0, atol=1e-6
    )


def test_a_sampler_of_another_checkpoint_and_a_damaged_one_are_refused(workdir, tmp_path):
    file = workdir / "samplers" / "gaussian-0.npz"
    sampled(workdir, tmp_path, "--sampler", "gaussian")
    params, about = sampling.read(file)
    facts = {name: about[name] for name in ("epoch", "codes")}
    sampling.save(file, params, facts | {"params": about["params"] + 1})
    with pytest.raises(RunError, match=r"gaussian-0.npz was fitted to codes of another checkpoint .* remove it"):
        sampled(workdir, tmp_path, "--sampler", "gaussian")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(bytes(whole))
    with pytest.raises(RunError, match=r"gaussian-0.npz is damaged .* fits the sampler again"):
        sampled(workdir, tmp_path, "--sampler", "gaussian")
    whole = file.read_bytes()
    for bad in (whole[:300], whole[:100] + whole[140:], whole[:100] + bytes(9) + whole[100:]):
        file.write_bytes(bad)
        with pytest.raises(RunError, match=r"gaussian-0.npz is damaged"):
            sampling.read(file)
    file.unlink()
    with pytest.raises(RunError, match="--draws is of a member's own prior"):
        sampled(workdir, tmp_path, "--sampler", "gaussian", "--draws")
    with pytest.raises(RunError, match="would overwrite samplers"):
        cli.dispatch(["sample", str(workdir), str(file)])


def test_the_report_compares_the_samplers_of_its_params(workdir, tmp_path):
    for name in ("normal", "gmm"):
        sampled(workdir, tmp_path, "--sampler", name)
    opened = runs.open_run(workdir)
    found = sampling.kept(opened.folder, 0, opened.params, 2)
    assert list(found) == ["normal", "gmm"]
    assert sampling.kept(opened.folder, 0, jax.tree.map(lambda p: p + 1, opened.params), 2) == {}
    splits = runs.load_own(opened)
    compared = findings.compare(opened.algorithm, opened.params, splits, found, KEY)
    assert compared is not None
    assert list(compared.distances) == ["its own prior", "normal", "gmm", "training examples"]
    assert compared.examples == 360
    assert min(compared.distances, key=compared.distances.__getitem__) == "training examples"
    assert compared.distances["its own prior"] == pytest.approx(compared.distances["normal"], rel=0.3)

    def by_class(part):  # as folders of images lie
        return jax.tree.map(lambda a: a[np.argsort(np.asarray(part.y), kind="stable")], part)

    in_order = splits._replace(train=by_class(splits.train), test=by_class(splits.test))
    again = findings.compare(opened.algorithm, opened.params, in_order, found, KEY)
    assert again is not None
    assert again.distances["training examples"] < 2 * compared.distances["training examples"]


def test_a_sampler_says_where_its_codes_are_none_of_the_member():
    of = lambda name, symbols=None: SimpleNamespace(
        settings=SimpleNamespace(algorithm=name), algorithm=SimpleNamespace(symbols=symbols)
    )
    caveat: Any = coding._caveat
    assert "codebook" in caveat(of("vq_vae", len))
    for name in ("made", "rbm"):
        assert f"{name} draws examples itself" in caveat(of(name))
    assert caveat(of("vae")) == caveat(of("autoencoder")) == ""


def test_a_seed_is_no_key():
    for fit in (samplers.gmm, samplers.maf):
        with pytest.raises(TypeError, match=r"key is 3; give a key, such as jax.random.key\(3\)"):
            fit(AFFINE, 3)  # type: ignore[arg-type]


def test_a_negative_seed_of_data_is_refused():
    with pytest.raises(data.DataError, match="seed=-1 is negative"):
        data.load("shapes", seed=-1)
