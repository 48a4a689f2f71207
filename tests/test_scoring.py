"""Scores of unusual examples and values filled in: closed forms, files, and what is refused."""

import csv
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ae_jax import data, networks
from ae_jax.algorithms import autoencoder, made, rbm, vae
from ae_jax.app import cli, plots
from ae_jax.app.commands import coding, measuring, reporting, runs, scoring, training, walking
from ae_jax.core import Batch
from ae_jax.data import ranges
from ae_jax.errors import DataError, RunError
from ae_jax.evaluation import anomaly, imputation
from ae_jax.training.settings import OptimizerSettings, Settings

KEY = jax.random.key(0)
NOISE = 0.7


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def factor():
    """Probabilistic PCA, z ~ N(0, I) and x ~ N(W z + m, s^2 I), with its exact posterior as a network: the algorithm,
    params, and the mean and covariance of x. Tipping and Bishop (1999), eq. (12), for orthogonal columns of W.
    """
    w, m = np.linalg.svd(normal(1, 5, 2), full_matrices=False)[0] * [2.0, 1.0], normal(2, 5)
    inside = np.diag(1 / (np.square([2.0, 1.0]) + NOISE**2))
    kernel = np.concatenate([w @ inside, np.zeros((5, 2))], 1)
    bias = np.concatenate([-m @ w @ inside, np.log(NOISE**2 * np.diag(inside))])
    layers = {"encoder": {"kernel": kernel, "bias": bias}, "decoder": {"kernel": w.T, "bias": m}}
    params = {group: {"layer_0": jax.tree.map(jnp.asarray, layer)} for group, layer in layers.items()}
    algorithm = vae(networks.linear((5,), 2, heads=2), optax.sgd(0.1), likelihood="gaussian", sigma=NOISE)
    return algorithm, params, m, w @ w.T + NOISE**2 * np.eye(5)


def conditional(x, missing, m, cov):
    """E[x_missing | the others] of a Gaussian, in place."""
    x = np.array(x)
    for row, hole in zip(x, missing, strict=True):
        gain = cov[np.ix_(hole, ~hole)] @ np.linalg.inv(cov[np.ix_(~hole, ~hole)])
        row[hole] = m[hole] + gain @ (row[~hole] - m[~hole])
    return x


def test_scores_are_what_they_say():
    with jax.enable_x64(True):
        algorithm, params, m, cov = factor()
        x = jnp.asarray(3 * normal(3, 7, 5))
        each = lambda x: {k: anomaly.scores(algorithm, params, Batch(x), k, KEY, 3) for k in anomaly.MEASURES}
        found = jax.jit(each)(x)
        again = algorithm.reconstruct(params, x)
    assert_allclose(found["error"], np.square(again - x).mean(1), rtol=1e-12)
    moved = np.asarray(x) - m
    nll = 0.5 * (np.einsum("ni,ij,nj->n", moved, np.linalg.inv(cov), moved) + np.linalg.slogdet(2 * np.pi * cov)[1])
    # by the exact posterior every weight is p(x): the bound and the estimate are exact, whatever is drawn
    assert_allclose(found["elbo"], nll, rtol=1e-10)
    assert_allclose(found["log_p"], nll, rtol=1e-10)


def test_a_member_without_codes_has_its_exact_probability():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 4)), jnp.float32)
    algorithm = made(networks.mlp((4,), 3, hidden=()), optax.sgd(0.1))
    params = algorithm.init(KEY, Batch(x))
    found = jax.jit(lambda x: anomaly.scores(algorithm, params, Batch(x), "log_p", KEY))
    assert_allclose(found(x), algorithm.evaluate(params, Batch(x), KEY)["nll"], rtol=1e-5)
    every = jnp.asarray(np.indices((2,) * 4).reshape(4, -1).T, jnp.float32)
    assert_allclose(np.exp(-found(every)).sum(), 1, rtol=1e-5)


def test_a_member_that_reads_labels_gets_them_whatever_is_measured():
    algorithm, params, *_ = factor()
    labelled = algorithm._replace(log_weight=lambda params, batch, key: 1.0 * batch.y)
    data = Batch(jnp.zeros((3, 5)), jnp.array([2, 0, 1]))
    for measure in ("elbo", "log_p"):
        assert_allclose(anomaly.scores(labelled, params, data, measure, KEY, 2), [-2, 0, -1], atol=1e-6)
    exact = labelled._replace(
        log_weight=None, decodes=False, evaluate=lambda params, batch, key: {"nll": 1.0 * batch.y}
    )
    assert_allclose(anomaly.scores(exact, params, data, "log_p", KEY), data.y)


def test_the_area_under_the_curve_counts_pairs():
    scores, positive = np.array([1.0, 2, 2, 3, 0, 2]), np.array([0, 1, 0, 1, 1, 0], bool)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert anomaly.auc(scores, positive) == pytest.approx(np.mean(pairs))
    assert_array_equal(anomaly.quantiles([3, 1, 2, 2], [0, 1, 2, 9]), [0, 0.25, 0.75, 1])
    train = normal(0, 200, 4) * [5, 1, 1, 0.1]
    odd = np.concatenate([train[:3], [[0, 0, 0, 9.0]]])
    found = anomaly.baselines(train, odd, 9)
    assert list(found) == ["isolation forest", "PCA error (k=3)"]
    assert all(scores.argmax() == 3 for scores in found.values())


def test_measures_that_a_member_lacks_are_told():
    plain, data = autoencoder(networks.linear((3,), 2), optax.sgd(0.1)), Batch(jnp.zeros((2, 3)))
    params = plain.init(KEY, data)
    with pytest.raises(ValueError, match="no bound on log p"):
        anomaly.scores(plain, params, data, "log_p", KEY)
    with pytest.raises(ValueError, match="measure is 'odds'"):
        anomaly.scores(plain, params, data, "odds", KEY)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no posterior to draw from"):
        imputation.by_posterior(plain, params, data.x, data.x > 0, KEY)


def test_reconstructions_fill_in_the_least_squares_of_a_subspace():
    with jax.enable_x64(True):
        basis, m = np.linalg.qr(normal(0, 6, 2))[0], normal(1, 6)
        layers = {"encoder": (basis, -m @ basis), "decoder": (basis.T, m)}
        params = {k: {"layer_0": {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}} for k, (w, b) in layers.items()}
        algorithm = autoencoder(networks.linear((6,), 2), optax.sgd(0.1), likelihood="squared")
        x, missing = normal(2, 9, 6), np.random.default_rng(3).random((9, 6)) < 0.3
        missing[0] = False
        guess = jnp.asarray(np.where(missing, m, x))
        fill = lambda x: imputation.by_reconstruction(algorithm, params, x, jnp.asarray(missing), tolerance=1e-13)
        found = jax.tree.map(np.asarray, jax.jit(fill)(guess))
    assert 1 < found.steps < 1000
    assert_array_equal(np.asarray(found.x)[~missing], x[~missing])
    for row, hole, filled in zip(x, missing, np.asarray(found.x), strict=True):
        z = np.linalg.lstsq(basis[~hole], (row - m)[~hole], rcond=None)[0]
        assert_allclose(filled[hole], (basis @ z + m)[hole], rtol=1e-7, atol=1e-9)
    assert found.change[0] == 0
    assert found.change.max() <= 1e-13


def test_reconstructions_that_diverge_keep_their_best_step():
    net = networks.linear((2,), 1)
    algorithm = autoencoder(net, optax.sgd(0.1), likelihood="squared")
    layers = {"encoder": ([[1.0], [1.0]], [0.0]), "decoder": ([[0.5, 1.5]], [0.0, 0.0])}  # x_2 <- 1.5 (x_1 + x_2)
    params = {k: {"layer_0": {"kernel": jnp.array(w), "bias": jnp.array(b)}} for k, (w, b) in layers.items()}
    x, missing = jnp.array([[1.0, 0.0], [1.0, 3.0]]), jnp.array([[False, True], [False, False]])
    found = jax.jit(lambda x: imputation.by_reconstruction(algorithm, params, x, missing))(x)
    # the known value 1 is reconstructed as 0.5, 1.25, 2.4, ...: the second is nearest
    assert_allclose(found.x, [[1, 3.75], [1, 3]], rtol=1e-6)
    assert not np.isfinite(found.change[0])
    assert found.change[1] == 0
    assert found.steps < 300


def test_the_posterior_fills_in_the_conditional_mean():
    with jax.enable_x64(True):
        algorithm, params, m, cov = factor()
        x, missing = normal(4, 3, 5) @ np.linalg.cholesky(cov).T + m, np.zeros((3, 5), bool)
        missing[0, :3], missing[1, 1] = True, True
        often = lambda a: jnp.asarray(np.repeat(a, 100, 0))
        guess = often(np.where(missing, m, x))
        fill = lambda x, key: imputation.by_posterior(
            algorithm, params, x, often(missing), key, burn=50, steps=100, batch_size=300
        )
        found = jax.tree.map(np.asarray, jax.jit(fill)(guess, KEY))
    filled = np.asarray(found.x).reshape(3, 100, 5)
    assert_array_equal(filled[2], np.broadcast_to(x[2], (100, 5)))
    wanted = conditional(x, missing, m, cov)
    error = filled.std(1) / 10  # of the mean over chains
    assert (np.abs(filled.mean(1) - wanted) <= 4 * error + 1e-12).all()
    assert error.max() < 0.05
    assert (np.abs(conditional(x, missing, m, np.eye(5)) - wanted)[missing] > 8 * error[missing]).any()
    assert len(np.unique(filled[0, :, 0])) == 100  # every example has draws of its own
    assert (
        found.change.reshape(3, 100)[2].max() == 0 < found.change.min(where=np.repeat(missing.any(1), 100), initial=9)
    )


def test_a_chain_is_held_within_its_bounds():
    with jax.enable_x64(True):
        algorithm, params, m, _ = factor()
        kernel = 5 * params["decoder"]["layer_0"]["kernel"]
        params = params | {"decoder": {"layer_0": {"kernel": kernel, "bias": jnp.asarray(m)}}}
        x, missing = jnp.asarray(np.tile(m, (4, 1))), jnp.asarray(np.arange(5) < np.array([[5], [3], [1], [0]]))
        fill = lambda bounds: jax.jit(
            lambda x, bounds: (
                imputation.by_posterior(algorithm, params, x, missing, KEY, burn=0, steps=100, bounds=bounds).x
            )
        )(x, bounds)
        assert np.abs(fill(None) - m).max() > 1000
        low, high = m - np.arange(1, 6), m + 2
        found = np.asarray(fill((low, high)))
    assert (found >= low - 1e-12).all()
    assert (found <= high + 1e-12).all()
    assert_array_equal(found[~np.asarray(missing)], np.tile(m, (4, 1))[~np.asarray(missing)])


def test_a_step_of_the_chain_draws_codes_and_data():
    with jax.enable_x64(True):
        algorithm, params, m, cov = factor()
        x = jnp.asarray(np.tile(m + 1, (20000, 1)))
        draw, mean = jax.jit(algorithm.transition)(params, x, KEY)
        expected = np.asarray(algorithm.reconstruct(params, x[:1]))[0]
        inner = cov - NOISE**2 * np.eye(5)
        code = inner @ np.linalg.inv(cov) * NOISE**2  # covariance of W z given x
        assert_allclose(mean.mean(0), expected, atol=0.03)
        assert_allclose(np.cov(mean.T), code, atol=0.03)
        assert_allclose(np.cov((draw - mean).T), NOISE**2 * np.eye(5), atol=0.03)
        standard = ranges.Standard(np.full(5, 2.0), np.full(5, 3.0))
        moved = ranges.in_data_units(algorithm, standard).transition(params, 3 * x[:4] + 2, KEY)
        assert_allclose(moved[1], 3 * algorithm.transition(params, x[:4], KEY)[1] + 2)
    machine = rbm(networks.rbm((4,), 3), optax.sgd(0.1))
    v = jnp.ones((5, 4))
    draw, mean = machine.transition(machine.init(KEY, Batch(v)), v, KEY)
    assert set(np.unique(draw)) <= {0, 1}
    assert ((mean > 0) & (mean < 1)).all()


# --------------------------------------------------------------------------------------- the commands


def table(path, x, kinds=None, holes=()):
    """A file of four columns, and their kind; holes are rows and columns."""
    rows = [[repr(float(v)) for v in row] + ([] if kinds is None else [kinds[i]]) for i, row in enumerate(x)]
    for i, j in holes:
        rows[i][j] = ""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c", "d", *(["kind"] if kinds is not None else [])], *rows])
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of two members on a table of 60 rows, by two steps."""
    place = tmp_path_factory.mktemp("scoring")
    x = normal(0, 60, 4) * [1, 10, 0.1, 5] + [0, 100, 3, 0]
    source, found = table(place / "train.csv", x, ["usual"] * 60), {}
    for name, likelihood in {"autoencoder": "squared", "vae": "gaussian"}.items():
        settings = Settings(
            algorithm=name,
            seeds=(0,),
            data=source,
            data_options={"label": "kind"},
            network="linear",
            latents=2,
            epochs=2,
            batch_size=48,
            hyper={"likelihood": likelihood},
            optimizer=OptimizerSettings(lr=0.1),
        )
        with pytest.MonkeyPatch.context() as patch:  # the metrics and the report cost seconds, and are not looked at
            patch.setattr(measuring.evaluation, "all_metrics", lambda *_, **__: lambda params, key: {})
            patch.setattr(reporting, "decorate", lambda *_: None)
            training.train(settings, place / name, quiet=True)
        found[name] = place / name
    return found, x


def read(path):
    with path.open() as file:
        return list(csv.reader(file))


def test_score_writes_a_number_a_row(trained, tmp_path, capsys, monkeypatch):
    places, x = trained
    odd = np.concatenate([x[:10], x[:5] + np.array([0, 300, 0, 0])])
    kinds = ["usual"] * 9 + [""] + ["odd"] * 5
    source = table(tmp_path / "new.csv", odd, kinds)
    out = tmp_path / "scores.csv"
    monkeypatch.setattr(
        sys, "argv", ["ae-jax", "score", str(places["autoencoder"]), source, str(out), "--anomalies", "odd"]
    )
    cli.main()
    said = capsys.readouterr().out
    head, *rows = read(out)
    assert head == ["name", "score", "quantile", "label"]
    assert [row[3] for row in rows] == kinds
    assert rows[3][0] == "new.csv[3]"
    scores = np.array([float(row[1]) for row in rows])
    assert scores[10:].min() > scores[:10].max()
    assert {row[2] for row in rows[10:]} == {"1"}
    assert "ROC AUC of odd, 5 of 14:" in said
    assert "this run          1.0000" in said
    assert "PCA error (k=2)   1.0000" in said
    assert "note: " not in said
    again = scoring.score(places["autoencoder"], source, tmp_path / "s.npy", anomalies=["usual"])
    assert_allclose(np.load(tmp_path / "s.npy"), scores, rtol=1e-5)
    assert any("this run" in line and line.endswith("0.0000") for line in again)
    assert again[-2:] == [
        "note: an AUC below 0.5 is worse than chance: this run scores the anomalies lower than the others",
        "note: the training set has examples of usual, too: to this run they are no anomalies",
    ]
    said = scoring.score(places["vae"], source, tmp_path / "s.npy", measure="elbo", samples=2)  # class 1: usual
    assert "in nats" in said[0]
    assert any(line.startswith("ROC AUC of usual (class 1), 9 of 14") for line in said)


def test_scores_need_no_training_data(trained, tmp_path, capsys):
    places, x = trained
    own = places["autoencoder"].parent / "train.csv"
    kept = own.read_bytes()
    own.rename(own.with_suffix(".away"))
    try:
        lines = scoring.score(places["autoencoder"], table(tmp_path / "new.csv", x), tmp_path / "s.csv")
    finally:
        own.with_suffix(".away").rename(own)
    assert own.read_bytes() == kept
    assert len(lines) == 1
    assert "no quantiles and no baselines" in capsys.readouterr().err
    assert read(tmp_path / "s.csv")[0] == ["name", "score"]


@pytest.mark.parametrize("binarise", ["static", "dynamic"])
def test_a_run_on_binarised_pixels_scores_binarised_pixels(tmp_path, monkeypatch, binarise):
    monkeypatch.setattr(measuring.evaluation, "all_metrics", lambda *_, **__: lambda params, key: {})
    monkeypatch.setattr(reporting, "decorate", lambda *_: None)
    grey = np.random.default_rng(0).uniform(0.3, 0.7, (40, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", train=grey[:30], test=grey[30:])
    chosen = Settings(
        algorithm="vae",
        seeds=(0,),
        data=str(tmp_path / "x.npz"),
        network="linear",
        latents=2,
        epochs=1,
        batch_size=30,
        binarise=binarise,
    )
    training.train(chosen, tmp_path / "run", quiet=True)
    said = scoring.score(tmp_path / "run", chosen.data, tmp_path / "grey.npy")
    assert said[1].startswith("note: scores are of pixels drawn as 0 or 1")
    np.savez(tmp_path / "drawn.npz", test=data.binarise(grey[30:], seed=1))
    scoring.score(tmp_path / "run", str(tmp_path / "drawn.npz"), tmp_path / "drawn.npy")
    assert_array_equal(np.load(tmp_path / "grey.npy"), np.load(tmp_path / "drawn.npy"))


def test_score_refuses_what_does_not_fit(trained, tmp_path, capsys):
    places, x = trained
    run, out = places["autoencoder"], tmp_path / "s.csv"
    source = table(tmp_path / "new.csv", x[:6], list("abcabc"))
    for options, message in (
        ({"anomalies": ["z"]}, "'z'; the classes of .* are a, b, c"),
        ({"anomalies": ["a", "b", "c"]}, "all classes"),
        ({"samples": 3}, "no effect on the error"),
    ):
        with pytest.raises(RunError, match=message):
            scoring.score(run, source, out, **options)
    with pytest.raises(RunError, match="samples=0 is too few"):
        scoring.score(run, source, out, measure="elbo", samples=0)
    words = tmp_path / "words.csv"
    words.write_text("a,b,c,d\n1,none of it,3,4\n")
    with pytest.raises(
        DataError, match=r"'none of it' in line 2.* The run learned from this column: write the cell as"
    ):
        scoring.score(run, str(words), out)
    with pytest.raises(ValueError, match="no bound on log p"):
        scoring.score(run, source, out, measure="log_p")
    with pytest.raises(RunError, match="has no labels"):
        scoring.score(run, table(tmp_path / "plain.csv", x[:6]), out, anomalies=["a"])
    with pytest.raises(RunError, match=r"'\.txt'"):
        scoring.score(run, source, tmp_path / "s.txt")
    with pytest.raises(RunError, match="overwritten"):
        scoring.score(run, source, tmp_path / "new.csv")
    assert not out.exists()
    scoring.score(run, source, out)
    assert "has 3 classes, and --anomalies NAME" in capsys.readouterr().err


def test_labels_come_with_every_kind_of_file(tmp_path):
    x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 1, -1])
    of = lambda source: scoring.labels_of(str(source), {}, 4)[0]
    np.save(tmp_path / "a.npy", x)
    assert of(tmp_path / "a.npy") is None
    np.save(tmp_path / "a.labels.npy", y)
    assert_array_equal(of(tmp_path / "a.npy"), y)
    np.savez(tmp_path / "b.npz", x_train=x[:1], y_train=y[:1], x_test=x, y_test=y)
    assert_array_equal(of(tmp_path / "b.npz"), y)
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y)
    assert_array_equal(of(tmp_path / "c.npz"), y)
    np.savez(tmp_path / "d.npz", x=x, y=y[:3])
    with pytest.raises(DataError, match="labels of shape"):
        of(tmp_path / "d.npz")


@pytest.mark.parametrize(("name", "how"), [("autoencoder", "reconstructions"), ("vae", "the posterior")])
def test_impute_fills_in_holes_alone(trained, tmp_path, name, how):
    places, x = trained
    holes = [(0, 1), (3, 0), (3, 3)]
    source = table(tmp_path / "holes.csv", x[:8], [*list("ababab"), "", "b"], holes)
    lines = scoring.impute(places[name], source, tmp_path / "whole.csv", steps=50)
    assert lines[0].startswith(f"3 missing values in 2 of 8 examples filled in by {how}")
    before, after = read(tmp_path / "holes.csv"), read(tmp_path / "whole.csv")
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        for j, (a, b) in enumerate(zip(old, new, strict=True)):
            if (i - 1, j) in holes:
                # within a few deviations of the column, in the units of the file
                assert abs(float(b) - x[:, j].mean()) < 6 * x[:, j].std()
            else:
                assert a == b
    lines = (tmp_path / "holes.csv").read_text().splitlines()
    written = "\n".join([f"{lines[0]},id", *(f"{line},00{i}" for i, line in enumerate(lines[1:]))])
    (tmp_path / "ids.csv").write_text(written.replace(",", ", "))
    scoring.impute(places[name], str(tmp_path / "ids.csv"), tmp_path / "ids_whole.csv", steps=50)
    assert [row[-1] for row in read(tmp_path / "ids_whole.csv")] == ["id", *(f"00{i}" for i in range(8))]
    given = x[:8].astype(np.float64) + 1e-9
    for hole in holes:
        given[hole] = np.nan
    assert not any("had no known value" in line for line in lines)
    np.save(tmp_path / "holes.npy", given)
    scoring.impute(places[name], str(tmp_path / "holes.npy"), tmp_path / "whole.npy", steps=50)
    found = np.load(tmp_path / "whole.npy")
    assert_array_equal(found[~np.isnan(given)], given[~np.isnan(given)])
    assert_allclose([found[hole] for hole in holes], [float(after[i + 1][j]) for i, j in holes], rtol=1e-5)
    given[3] = np.nan
    np.save(tmp_path / "holes.npy", given)
    lines = scoring.impute(places[name], str(tmp_path / "holes.npy"), tmp_path / "whole.npy", steps=50)
    assert "note: 1 example of 8 had no known value: the numbers there are the run's own" in lines


def test_impute_refuses_what_does_not_fit(trained, tmp_path):
    places, x = trained
    run, out = places["autoencoder"], tmp_path / "whole.csv"
    whole, holes = table(tmp_path / "x.csv", x[:4]), table(tmp_path / "holes.csv", x[:4], holes=[(1, 1)])
    with pytest.raises(RunError, match="no missing value"):
        scoring.impute(run, whole, out)
    with pytest.raises(RunError, match="autoencoder has no posterior"):
        scoring.impute(run, holes, out, method="posterior")
    with pytest.raises(RunError, match="steps is 1"):
        scoring.impute(run, holes, out, steps=1)
    with pytest.raises(RunError, match="overwritten"):
        scoring.impute(run, holes, tmp_path / "holes.csv")
    with pytest.raises(RunError, match="there is no file none"):
        scoring.impute(run, "none.npy", out)
    np.save(tmp_path / "wide.npy", np.full((2, 5), np.nan))
    with pytest.raises(RunError, match="trained on"):
        scoring.impute(run, str(tmp_path / "wide.npy"), out)
    with pytest.raises(DataError, match="has inf in line 2"):
        scoring.impute(run, table(tmp_path / "inf.csv", [[np.inf, 1, 2, 3], x[0]], holes=[(1, 1)]), out)
    assert not out.exists()


def test_pictures_of_a_table_are_in_the_units_of_learning_with_the_names_of_its_columns(trained, tmp_path, monkeypatch):
    places, _ = trained
    run, seen = runs.open_run(places["vae"]), {}
    monkeypatch.setattr(plots, "heat", lambda cells, names, columns, *_, **__: seen.update(cells=cells, to=columns))
    monkeypatch.setattr(plots, "save", lambda figure, out: None)
    walked = walking.traverse(places["vae"], tmp_path / "walk.png", steps=3)
    assert seen["to"] == ("a", "b", "c", "d")
    own = run.algorithm.decode(run.params, walked.codes.reshape(-1, 2)).reshape(seen["cells"].shape)
    assert_allclose(seen["cells"], own, atol=1e-4)
    assert_allclose(walked.x, ranges.undo(run.standard, own.reshape(-1, 4)).reshape(own.shape), rtol=1e-4, atol=1e-4)
    made, _ = coding.sample(places["vae"], 5, tmp_path / "made.png")
    assert_allclose(ranges.undo(run.standard, seen["cells"][0]), made, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(reporting.report, "gather", lambda *given, **_: seen.update(report=given) or 1 / 0)
    results = {"seeds": [0], "metrics": {}}
    splits = runs.load_own(run)
    with pytest.raises(ZeroDivisionError):
        reporting.write_report(run.folder, run.algorithm, run.params, splits, results)
    assert seen["report"][4] is run.algorithm  # not wrapped in the units of the data
    assert seen["report"][6] is splits
