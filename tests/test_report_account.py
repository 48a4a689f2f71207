"""A report's words: how the run went, captions that are true of the member, and pictures of codes and priors."""

import json
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from probes import of_functions

from ae_jax.app import plots, report
from ae_jax.app.commands import reporting
from ae_jax.app.report import sections
from ae_jax.core import Batch, address
from ae_jax.data import Standard, in_data_units
from ae_jax.distributions import priors
from ae_jax.evaluation import aggregate, diagnosis, walks
from ae_jax.training import run_folder

RNG = np.random.default_rng(0)
X = RNG.random((30, 4, 4, 1)).astype(np.float32)
W = np.linalg.qr(RNG.normal(size=(16, 16)))[0][:, :3].astype(np.float32)


def member(**changes):
    """A linear code of three numbers, without params."""
    return of_functions(lambda x: x.reshape(len(x), -1) @ W, lambda z: (z @ W.T).reshape(-1, 4, 4, 1), **changes)


def latent(prior=None, **changes):
    """`member` with a prior and a Gaussian posterior, whose unit 1 is the prior itself."""
    used = np.array([1.0, 0.0, 2.0], np.float32)
    means = lambda x: x.reshape(len(x), -1) @ W * used
    stats = lambda params, x: jax.numpy.concatenate([means(x), 0 * means(x) - used], 1)
    return member(prior=prior or priors.normal(3), moments=stats, **changes)


def gathered(algorithm, params=None, results=None, history=(), settings=None, y=None) -> Any:
    sets = SimpleNamespace(train=Batch(X, y), test=Batch(X, y))
    found = report.gather(
        "t", settings or {}, results or {}, list(history), algorithm, params or {}, sets, jax.random.key(0)
    )
    return found, sets


def captions(found):
    return {p.name: p.caption for s in sections.sections(found) for p in s.pictures if isinstance(p, sections.Picture)}


# ------------------------------------------------------------------------------------------------------ in words


def test_the_course_of_the_loss():
    epochs = np.arange(100.0)
    told = diagnosis.course(list(200 - epochs))
    assert told == ("The loss is still falling.", "by 10 in the last 10 of 100 epochs: train longer")
    told = diagnosis.course(list(100 * np.exp(-epochs / 10)))
    assert told is not None
    assert told.text == "The loss has converged."
    assert "in the last 10 of 100 epochs" in told.evidence
    told = diagnosis.course([9.0, 3, 1, 1, 1, 5, 6])
    assert told == ("The loss has risen.", "it is 6 in the last 1 of 7 epochs, and was 1 at the least")
    assert diagnosis.course([3.0, 2.0, None], 5, 1) == ("Training stopped early.", "at epoch 2 of 5; the best is 1")
    assert diagnosis.course([3.0, 2.0], 2) is None


def test_the_gap_between_training_and_test_examples():
    text = lambda *given: getattr(diagnosis.fit(*given), "text", None)
    assert text(0.9, 0.8) == "It overfits."
    assert text(0.9, 0.87) == "It reconstructs training examples a little better than others."
    assert text(0.9, 0.9, 0.95) == "It does not overfit."  # where PCA keeps all the code has another purpose
    assert text(0.5, 0.5, 0.7) == "It underfits, or its penalty holds it back."
    assert text(0.01, -0.01).startswith("It has learned little")
    assert text(0.9, float("nan")) is None
    assert diagnosis.fit_classes(0.01, 0.2, 100).text == "It classifies training examples better than others."
    assert "about as well" in diagnosis.fit_classes(0.1, 0.15, 100).text  # within chance
    rising = diagnosis.held_out([9.0, 5.0, None, 4.0, 6.0])
    assert rising is not None
    assert rising.text == "Learning overfits from epoch 4 on."
    assert "from 4 to 6" in rising.evidence
    assert diagnosis.held_out([9.0, 5.0, 4.0]) is None
    assert diagnosis.held_out([9.0, 4.0, 4.1]) is None


def test_the_code_and_other_measures():
    told = diagnosis.units([0.001, 1.5, 0.2])
    assert told == ("1 of 3 units has collapsed.", "a KL below 0.01 nats; the others have 0.2 to 1.5")
    assert diagnosis.units([0.0, 0.0]) == ("2 of 2 units have collapsed.", "a KL below 0.01 nats")
    assert diagnosis.units([0.5, 1.5]).text == "All 2 units are in use."
    assert diagnosis.codes(np.zeros((5, 2))) == ("The code is constant.", "all 5 test examples have the same code")
    assert diagnosis.codes(RNG.normal(size=(50, 2))).text == "The code's units vary."  # type: ignore[union-attr]
    assert diagnosis.usage([10], [256], [7.5]).text == "Most symbols are never used."
    assert diagnosis.usage([200, 4], [256, 4], [7.5, 2]).evidence.startswith("200 of 256, 4 of 4 occur")
    told = diagnosis.dictionary(np.array([0.5, 0.0, 0.25]))
    assert told == ("1 of 3 units is dead.", "an example has 0.75 active units on average")
    how = lambda *given: getattr(diagnosis.beside_pca(*given), "text", None)
    assert how(0.8, 0.7) == "Reconstructions are better than PCA's."
    assert how(0.7, 0.8) == "Reconstructions are worse than PCA's."
    assert how(0.7, 0.702) == "Reconstructions are about as good as PCA's."
    assert how(-0.1, 0.8) == "Reconstructions are worse than the mean example."
    assert how(0.8, None) is how(0.8, 1.0) is None


def test_the_last_run_of_the_same_settings():
    run = lambda *values: {"values": list(values)}
    told = diagnosis.last_run(run(25.0), run(26.0), "older")
    assert told == ("It is better than the last run of these settings.", "test loss 25, in older 26")
    text = lambda *given: getattr(diagnosis.last_run(*given, "older"), "text", "")
    assert "worse than" in text(run(26.0), run(25.0))
    assert "about as good as" in text(run(25.1), run(25.0))
    assert "about as good as" in text(run(1.0, 3.0), run(2.0, 3.0))
    assert "worse than" in text(run(3.0, 3.1), run(2.0, 2.1))
    assert text(run(1.0), run(1.0)) == "It repeats the last run of these settings."
    assert diagnosis.last_run(run(), run(1.0), "older") is None


def test_an_account_stands_first_on_the_page(tmp_path):
    metrics = {"test explained_variance": {"mean": 0.5}, "pca explained_variance": {"mean": 0.8}}
    history = [{"epoch": e + 1, "train": {"loss": [9.0 - e]}} for e in range(4)]
    results = {"seeds": [0], "metrics": metrics, "remarks": ["a remark"], "best_epoch": [4]}
    found, sets = gathered(latent(), results=results, history=history)
    settings = {"epochs": 4, "batch_size": 10}
    last = ("older", {"metrics": {}})
    told = report.account(found._replace(settings=settings), latent(), {}, sets, last)
    assert [s.text for s in told] == [
        "The loss is still falling.",
        "There were few updates.",
        "It has learned little: reconstructions are about as far off as the mean example.",
        "Reconstructions are worse than PCA's.",
        "1 of 3 units has collapsed.",
    ]
    flat = [{"epoch": e + 1, "train": {"loss": [9.0 - 8 * (e > 0)]}} for e in range(4)]
    level = report.account(found._replace(settings=settings, history=flat), latent(), {}, sets)
    assert [s.text for s in level[:2]] == ["The loss changed little at the end.", "There were few updates."]
    for size in (0, 10):  # a stream: a run whose few examples here are a sample
        streamed = report.account(found._replace(settings=settings | {"shard_size": size}), latent(), {}, sets)
        assert "There were few updates." not in [s.text for s in streamed]
    rows = [{"epoch": e + 1, "train": {"loss": [9.0 - e if e < 2 else None, 1.0]}} for e in range(4)]
    early = report.account(found._replace(settings=settings, history=rows), latent(), {}, sets)
    assert early[0] == ("Training stopped early.", "at epoch 2 of 4; the best is 4")  # of the first seed
    begun = report.account(found._replace(settings=settings | {"epochs": 9}, results={}), latent(), {}, sets)
    assert begun[0] == ("Training has not ended.", "4 of 9 epochs are done")
    text = report.write(found._replace(account=told), tmp_path).read_text()
    assert text.index("The loss is still falling.") < text.index("<nav>")
    assert "12 updates (4 epochs of 30 examples): try" in text
    assert "a remark" not in text  # the account has it
    assert "a remark" in report.write(found, tmp_path).read_text()


def test_a_deaf_decoder_and_a_blind_code_are_told():
    y = np.arange(30) % 2
    deaf = latent(decode=lambda params, z: 0 * (z @ W.T).reshape(-1, 4, 4, 1))
    found, sets = gathered(deaf, results={"metrics": {"linear_probe_accuracy (n=30)": {"mean": 0.5}}}, y=y)
    told = report.account(found, deaf, {}, sets)
    (blind,) = [s for s in told if s.text == "A linear probe of the code is at chance."]
    assert blind.evidence == "0.50; the largest class is 0.50 of the test set"
    (collapsed,) = [s for s in told if s.text == "Posterior collapse."]
    assert collapsed.evidence.startswith("decoding another example's code is no worse (squared error")
    found, sets = gathered(latent(), y=y)
    assert not [s for s in report.account(found, latent(), {}, sets) if "ollapse." in s.text]


def test_classes_and_clusters_have_a_sentence():
    y = np.arange(30) % 3
    right = lambda params, x: jax.numpy.asarray(y)[: len(x)]
    found, sets = gathered(member(predict=right, classes=3), y=y)
    told = [s.text for s in report.account(found, member(predict=right, classes=3), {}, sets)]
    assert "It classifies test examples about as well as training examples." in told
    metrics = {"test clustering_accuracy": {"mean": 0.75}, "test nmi": {"mean": 0.5}}
    told = report.account(found._replace(results={"metrics": metrics}), member(predict=right), {}, sets)
    assert ("75.0% of the test examples are in the cluster of their label.", "NMI 0.500") in told


def test_the_last_run_alike_is_found_beside(tmp_path):
    for i, (name, settings) in enumerate(
        {"a": {"lr": 1, "seeds": [0]}, "b": {"lr": 1, "seeds": [1]}, "c": {"lr": 2, "seeds": [0]}}.items()
    ):
        (tmp_path / name).mkdir()
        run_folder.write_sealed(tmp_path / name / "config.json", {"schema": 1, "settings": settings})
        run_folder.write_sealed(tmp_path / name / "results.json", dict.fromkeys(run_folder.MEASURED, i))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "results.json").write_text("{}")  # another program's
    found = reporting.last_alike(run_folder.Folder(tmp_path / "a"))
    assert found is not None
    assert found[0] == "b"
    assert json.dumps(found[1]).count(": 1") == len(run_folder.MEASURED)
    assert reporting.last_alike(run_folder.Folder(tmp_path / "c")) is None


# ------------------------------------------------------------------------------------------- captions and pictures


def test_no_curve_is_drawn_twice():
    rows = [{"loss": [5.0 - e], "nll": [5.0 - e], "elbo": [e - 5.0], "kl": [1.0 * e]} for e in range(3)]
    found, _ = gathered(member(), history=[{"epoch": e + 1, "train": row} for e, row in enumerate(rows)])
    curves = {name: text for name, text in captions(found).items() if name.startswith("curve_")}
    assert list(curves) == ["curve_loss", "curve_kl"]
    assert curves["curve_loss"].endswith("Here it is also nll and -elbo.")
    rows[0]["nll"] = [5.1]
    found, _ = gathered(member(), history=[{"epoch": e + 1, "train": row} for e, row in enumerate(rows)])
    assert "curve_nll" in captions(found)


def test_captions_are_true_of_the_member():
    draw = lambda params, key, n: jax.random.uniform(key, (n, 4, 4, 1))
    found, _ = gathered(latent(sample=draw))
    assert "Codes are drawn from the prior and decoded" in captions(found)["samples"]
    found, _ = gathered(member(sample=draw))
    assert "no prior of codes" in captions(found)["samples"]
    found, _ = gathered(member(sample=draw, draw=draw))
    told = captions(found)
    assert "given those before it" in told["samples"]
    assert "from those before it" in told["reconstructions"]
    assert "hidden units" in told["codes"]
    assert "walk" not in told
    assert "traversals" not in told
    found, _ = gathered(member(decodes=False, predict=lambda params, x: 0 * x[:, 0, 0, 0].astype(int), classes=2))
    assert set(captions(found)) == {"codes"}


def test_units_in_the_order_of_their_kl():
    found, _ = gathered(latent())
    model: Any = latent()
    stats = model.moments({}, X)
    np.testing.assert_allclose(found.kl, aggregate.unit_kl(stats), rtol=1e-6)
    assert found.kl is not None
    assert found.kl[1] == 0
    t = found.traversals
    assert t is not None
    assert t.by == "KL"
    np.testing.assert_array_equal(t.units, np.argsort(-found.kl))
    codes = found.codes
    base = codes[np.square(codes - codes.mean(0)).sum(1).argmin()].copy()
    base[t.units[0]] = walks.units(codes, np.asarray(stats), 2).high[t.units[0]]
    np.testing.assert_allclose(t.pictures[0, -1].ravel(), W @ base, rtol=1e-4, atol=1e-5)
    heights = [bar.get_height() for bar in plots.bars(found.kl, ["a", "b", "c"], "t", "nats").axes[0].patches]
    np.testing.assert_allclose(heights, np.sort(found.kl)[::-1])
    plain, _ = gathered(member())
    assert plain.traversals is not None
    assert plain.traversals.by == "variance"
    assert plain.kl is plain.drawn is plain.components is None


def test_posteriors_and_kinds_stay_in_the_units_of_the_data():
    draw = lambda params, key, n: jax.random.uniform(key, (n, 4, 4, 1))
    standard = Standard(np.float32(2), np.float32(3))
    moved: Any = in_data_units(latent(sample=draw, draw=draw), standard)
    np.testing.assert_allclose(moved.moments({}, 3 * X + 2), latent().moments({}, X), rtol=1e-5, atol=1e-5)  # type: ignore[misc]
    assert moved.draw is moved.sample
    apart: Any = in_data_units(latent(sample=draw), standard)
    assert apart.draw is None


def test_priors_with_components():
    prior = priors.mixture(3, 4)
    mean = np.concatenate([X[:3].reshape(3, -1) @ W, 50 + np.zeros((1, 3))]).astype(np.float32)
    params = {"mixture": {"mean": mean, "logits": np.zeros(4, np.float32), "logvar": np.zeros((4, 3), np.float32)}}
    found, _ = gathered(latent(prior), params)
    assert found.kl is None
    assert found.traversals is not None
    assert found.traversals.by == "variance"
    c = found.components
    assert c is not None
    assert c.number == 4
    assert c.shares.sum() == pytest.approx(1)
    assert (np.diff(c.shares) <= 0).all()
    assert c.shares[-1] == 0  # of the component that is far from all
    np.testing.assert_allclose(c.pictures[-1].ravel(), W @ mean[3], rtol=1e-4, atol=1e-4)
    assert found.drawn is not None
    assert found.drawn.prior.shape == found.drawn.codes.shape == (30, 3)
    key = address(jax.random.key(0), "prior")  # the prior's own draws, and each example's own code under noise
    np.testing.assert_allclose(
        found.drawn.prior, prior.draw(params, address(key, "draws"), 30, np.float32), rtol=1e-5, atol=1e-5
    )
    model: Any = latent(prior)
    mean, logvar = np.split(np.asarray(model.moments({}, X)), 2, 1)
    noise = jax.random.normal(address(key, "posterior"), mean.shape)
    np.testing.assert_allclose(found.drawn.codes, mean + np.exp(logvar / 2) * noise, rtol=1e-5, atol=1e-5)
    assert {"components", "prior"} <= set(captions(found))
    figure: Any = plots.overlaid(*found.drawn)
    offsets = [np.asarray(c.get_offsets()) for c in figure.axes[0].collections]
    where = plots.plane(found.drawn.codes)
    np.testing.assert_allclose(offsets[0], where.coordinates(found.drawn.prior), rtol=1e-5)
    np.testing.assert_allclose(offsets[1], where.coordinates(found.drawn.codes), rtol=1e-5)
