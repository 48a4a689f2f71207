"""Real values: their units are fitted on train, kept with a run, applied to every later input and undone in outputs."""

import json
from types import SimpleNamespace

import jax
import jax.export
import numpy as np
import pytest
from PIL import Image

from ae_jax import data, load_run
from ae_jax.app import cli, saelens
from ae_jax.app.commands import coding, loading, measuring, projecting, reporting, restoring, runs, searching, training
from ae_jax.data import DataError, Standard, ranges
from ae_jax.errors import RunError
from ae_jax.training.settings import Settings

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(200, 5)) * [1, 10, 0.1, 3, 0] + [0, 50, -2, 1, 7]).astype(np.float32)
KINDS = ("standardised", "normalised", "as_is")


def saved(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


# ------------------------------------------------------------------------------------------------ fitting


@pytest.mark.parametrize("cuts", [[], [1, 150], [3, 3 + 1, 77]])
def test_standardised_data_have_mean_0_and_deviation_1_however_they_come(cuts):
    standard = ranges.fit("standardised", np.split(X, cuts))
    np.testing.assert_allclose(standard.mean, X.mean(0, dtype=np.float64), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(standard.scale[:4], X.std(0, dtype=np.float64)[:4], rtol=1e-6)
    assert standard.scale[4] == 1  # a constant is not blown up
    z = ranges.apply(standard, X)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), [1, 1, 1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(ranges.undo(standard, z), X, rtol=1e-5, atol=1e-5)


def test_a_large_mean_costs_no_digits():
    x = (1e6 + RNG.integers(-3, 4, (5000, 2))).astype(np.float32)
    standard = ranges.fit("standardised", [x])
    np.testing.assert_allclose(standard.scale, (x - np.float32(1e6)).std(0, dtype=np.float64), rtol=1e-6)


def test_normalised_data_have_a_mean_squared_norm_of_d_by_one_number():
    standard = ranges.fit("normalised", np.split(X, [20]))
    assert standard.scale.shape == standard.mean.shape == ()
    assert standard.mean == 0
    z = ranges.apply(standard, X)
    assert np.square(z).sum(1, dtype=np.float64).mean() == pytest.approx(5, rel=1e-5)
    np.testing.assert_allclose(ranges.undo(standard, z), X, rtol=1e-5)
    with pytest.raises(DataError, match="all training values are 0"):
        ranges.fit("normalised", [np.zeros((3, 2))])


def test_as_is_changes_no_bit_and_unit_is_no_standard():
    np.testing.assert_array_equal(ranges.apply(ranges.fit("as_is", [X]), X), X)
    assert ranges.fit("unit", [X]) is None
    assert ranges.apply(None, X) is ranges.undo(None, X) is X


def test_pixels_are_known_by_the_values_before():
    assert not ranges.fit("standardised", [X]).pixels
    assert ranges.fit("standardised", [np.asarray([[0.0, 1.0], [0.5, 0.2]])]).pixels


def test_a_record_in_json_is_the_same_to_the_bit():
    standard = ranges.fit("standardised", [X])
    again = Standard.from_json(json.loads(json.dumps(standard.to_json())))
    for a, b in zip(standard, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.mean.dtype == np.float32
    with pytest.raises(ValueError, match="not positive"):
        Standard.from_json({"mean": [0.0], "scale": [0.0], "pixels": False})


# ------------------------------------------------------------------------------------------------ loading


def test_values_outside_0_to_1_are_refused_and_the_advice_names_the_option(tmp_path):
    path = saved(tmp_path / "x.npz", train=X[:150], test=X[150:])
    with pytest.raises(DataError, match=r"outside \[0, 1\].*range=standardised, normalised or as_is"):
        data.load(path)
    np.save(tmp_path / "whole.npy", X.astype(np.int32))
    with pytest.raises(DataError, match=r"which number means 1\.0.*range=standardised, normalised or as_is"):
        data.load(tmp_path / "whole.npy")
    with pytest.raises(DataError, match="range is 'wide'; it must be one of unit, standardised, normalised, as_is"):
        data.load(path, range="wide")
    np.save(tmp_path / "bad.npy", np.where(X.max() == X, np.nan, X))
    with pytest.raises(DataError, match="1 values that are NaN"):
        data.load(tmp_path / "bad.npy", range="as_is")
    np.save(tmp_path / "large.npy", np.full((3, 2), 1e39))
    with pytest.raises(DataError, match="6 values beyond float32"):
        data.load(tmp_path / "large.npy", range="standardised")


@pytest.mark.parametrize("kind", KINDS)
def test_all_splits_are_in_the_units_of_train(tmp_path, kind):
    path = saved(tmp_path / "x.npz", train=X[:150], test=X[150:180], valid=X[180:])
    loaded = data.load(path, range=kind)
    standard = ranges.fit(kind, [X[:150]])
    for split, x in (("train", X[:150]), ("test", X[150:180]), ("validation", X[180:])):
        np.testing.assert_array_equal(getattr(loaded, split).x, ranges.apply(standard, x))
        assert getattr(loaded, split).x.dtype == np.float32
    np.testing.assert_array_equal(loaded.standard.mean, standard.mean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_in_the_units_that_the_same_data_in_memory_have(tmp_path, kind):
    for part, x in (("train", X[:150]), ("test", X[150:])):
        (tmp_path / "stream" / part).mkdir(parents=True)
        for i, rows in enumerate(np.array_split(x, 3)):
            np.save(tmp_path / "stream" / part / f"{i}.npy", rows)
    sources = data.open_stream(tmp_path / "stream", range=kind)
    loaded = data.load(saved(tmp_path / "x.npz", train=X[:150], test=X[150:]), range=kind)
    for one, other in ((sources.train, loaded.train), (sources.test, loaded.test)):
        np.testing.assert_allclose(data.Stream(one, len(one)).load(0, 0).x, other.x, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(one.standard.scale, loaded.standard.scale)
    with pytest.raises(DataError, match="range=standardised, normalised or as_is"):
        data.open_stream(tmp_path / "stream")


def test_bytes_in_a_stream_are_standardised_as_in_memory(tmp_path):
    x = RNG.integers(0, 256, (60, 4, 4, 1)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    source = data.open_stream(tmp_path / "x.npy", range="standardised").train
    index = np.arange(10) + source.blocks[0, 0]
    assert source.raw(index).x.dtype == np.uint8  # a quarter of the way to the device
    wanted = ranges.apply(source.standard, x[index].astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(source.batch(index).x, wanted, rtol=1e-6, atol=1e-6)


# -------------------------------------------------------------------------------------------------- a run


def settings_for(source, kind="standardised", algorithm="autoencoder", **options):
    few = {"latents": 4, "epochs": 2, "batch_size": 50, "seeds": (0,), "network_options": {"hidden": (8,)}}
    given = few | {"data_options": {} if kind is None else {"range": kind}} | options
    return Settings(algorithm=algorithm, network="mlp", data=str(source), **given)


def trained(workdir, chosen):
    with pytest.MonkeyPatch.context() as patch:  # pictures cost most of it
        patch.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())
        training.train(chosen, workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module", params=[None, 0], ids=["memory", "stream"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranges")
    np.save(folder / "x.npy", X)
    chosen = settings_for(folder / "x.npy", shard_size=request.param, validation=0.2)
    return SimpleNamespace(workdir=trained(folder / "run", chosen), source=folder / "x.npy", chosen=chosen)


def test_a_run_keeps_the_units_that_its_training_part_gave(run):
    kept = json.loads((run.workdir / "config.json").read_text())["settings"]["standard"]
    opened = runs.open_run(run.workdir)
    assert Standard.from_json(kept).pixels is opened.standard.pixels is False
    splits = runs.load_own(opened)
    x = splits.train.x if splits.streams is None else splits.streams.train.load(0, 0).x
    assert len(x) == 200 * 0.8 * 0.8  # neither the test set nor the validation set
    np.testing.assert_allclose(np.mean(x, 0), 0, atol=1e-4)
    np.testing.assert_allclose(np.std(x, 0), [1, 1, 1, 1, 0], atol=1e-4)
    assert measuring.evaluate(run.workdir, quiet=True)["metrics"].keys()
    results = json.loads((run.workdir / "results.json").read_text())["metrics"]
    again = measuring.evaluate(run.workdir, quiet=True)["metrics"]
    assert again["test mse"]["mean"] == pytest.approx(results["test mse"]["mean"], rel=1e-6)


def test_inputs_and_outputs_are_in_the_units_of_the_data(run, tmp_path):
    opened = runs.open_run(run.workdir)
    z = ranges.apply(opened.standard, X[:20])
    np.save(tmp_path / "few.npy", X[:20])
    codes = coding.encode(run.workdir, str(tmp_path / "few.npy"), tmp_path / "codes.npy")
    np.testing.assert_allclose(codes, opened.algorithm.encode(opened.params, z), rtol=1e-4, atol=1e-5)
    loaded = load_run(run.workdir)
    np.testing.assert_allclose(loaded.in_data_units.encode(loaded.params, X[:20]), codes, rtol=1e-4, atol=1e-5)
    x = coding.decode(run.workdir, str(tmp_path / "codes.npy"), tmp_path / "back.npy")
    inner = opened.algorithm.reconstruct(opened.params, z)
    np.testing.assert_allclose(x, ranges.undo(opened.standard, inner), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(x.mean(0), X.mean(0), atol=8)  # 50, -2 and 7, not 0
    encoder, decoder, *_ = coding.export(run.workdir, tmp_path / "programs")
    call = lambda path, x: np.asarray(jax.export.deserialize(bytearray(path.read_bytes())).call(x))
    np.testing.assert_allclose(call(encoder, X[:20]), codes, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(call(decoder, codes), x, rtol=1e-4, atol=1e-4)
    searching.make_index(run.workdir, str(run.source), tmp_path / "index.npz")
    found = searching.search(tmp_path / "index.npz", str(tmp_path / "few.npy"), k=1)
    assert [hits[0].place for hits in found.hits] == list(range(20))


def test_other_data_are_measured_in_the_units_of_the_run(run, tmp_path):
    shifted = saved(tmp_path / "shifted.npz", train=X[:100] + 1000, test=X[100:] + 1000)
    found = measuring.evaluate(run.workdir, shifted, quiet=True)["metrics"]
    own = measuring.evaluate(run.workdir, quiet=True)["metrics"]
    error = lambda metrics: next(m["mean"] for name, m in metrics.items() if name.startswith("test mse"))
    assert error(found) > 100 * error(own)  # units of their own would hide it


@pytest.fixture
def measured(monkeypatch):
    """The splits that `evaluate` measures, and no metrics, which take longer."""
    seen = []
    found = {"metrics": {}, "seeds": [0]}
    monkeypatch.setattr(measuring, "measure", lambda algorithm, trained, splits, *_: seen.append(splits) or dict(found))
    monkeypatch.setattr(measuring, "diagnose", lambda *_: [])
    monkeypatch.setattr(measuring, "table", lambda _: "")
    return seen


def test_a_run_of_values_in_0_to_1_takes_no_units_from_a_table(measured, tmp_path):
    x = RNG.random((60, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    workdir = trained(tmp_path / "run", settings_for(tmp_path / "x.npy", None))
    names = "a,b,c,d,e"
    for name, values in (("same", x), ("other", x * 3 + 10)):
        np.savetxt(tmp_path / f"{name}.csv", values, "%.9g", ",", header=names, comments="")
    measuring.evaluate(workdir, str(tmp_path / "same.csv"), quiet=True)
    assert measured[-1].standard is None
    np.testing.assert_array_equal(measured[-1].test.x, runs.load_own(runs.open_run(workdir)).test.x)
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        measuring.evaluate(workdir, str(tmp_path / "other.csv"), quiet=True)
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        coding.encode(workdir, str(tmp_path / "other.csv"), tmp_path / "z.npy", part="test")


@pytest.mark.parametrize("shard_size", [None, 0])
def test_training_pixels_that_each_step_draws_are_measured_as_the_others(shard_size, measured, tmp_path, capsys):
    np.save(tmp_path / "x.npy", RNG.random((60, 5)).astype(np.float32))
    chosen = settings_for(tmp_path / "x.npy", None, binarise="dynamic", shard_size=shard_size)
    workdir = trained(tmp_path / "run", chosen)
    measuring.evaluate(workdir, quiet=True)
    assert len(measured) == 2
    for splits in measured:
        assert set(np.unique(splits.train.x)) == set(np.unique(splits.test.x)) == {0, 1}
    assert len(np.unique(runs.load_own(runs.open_run(workdir)).train.x)) > 100  # each step draws from these
    coding.encode(workdir, str(tmp_path / "x.npy"), tmp_path / "z.npy")
    assert "the run learned from pixels drawn as 0 or 1 (binarise=dynamic)" in capsys.readouterr().err


@pytest.mark.parametrize("shard_size", [None, 0])
def test_classes_of_other_data_are_those_of_the_run_by_name(shard_size, measured, tmp_path, capsys):
    for folder, names in (("own", "abc"), ("other", "ca"), ("strange", "bd")):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(6):
                pixels = RNG.integers(0, 256, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{i}.png")
    how = {
        "algorithm": "classifier",
        "hyper": {"pretrain_epochs": 0, "classes": None},
        "batch_size": 4,
        "shard_size": shard_size,
    }
    workdir = trained(tmp_path / "run", settings_for(tmp_path / "own", None, **how))
    measuring.evaluate(workdir, str(tmp_path / "other"), quiet=True)
    splits = measured[-1]
    assert splits.dataset.classes == ("a", "b", "c")
    assert set(splits.train.y) == {0, 2}  # c is class 1 of the other folder
    if splits.streams is not None:
        assert set(splits.streams.test.load(0, 0).y.tolist()) <= {0, 2}
    with pytest.raises(RunError, match="has examples of the class d, and this run learned the classes a, b, c"):
        measuring.evaluate(workdir, str(tmp_path / "strange"), quiet=True)
    np.savez(tmp_path / "numbers.npz", x=np.zeros((9, 4, 4), np.float32), y=np.full(9, 4))
    with pytest.raises(ValueError, match="has labels up to 4 and classifier 3 classes"):
        measuring.evaluate(workdir, str(tmp_path / "numbers.npz"), quiet=True)
    assert "numbers.npz does not name its classes, so those of" in capsys.readouterr().err


def test_images_and_named_sets_are_refused_where_the_units_are_others(run, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    for source in (str(tmp_path / "a.png"), "digits"):
        with pytest.raises(
            RunError, match=r"is (not an array|read as values in .*), and this run learned from arrays of"
        ):
            coding.encode(run.workdir, source, tmp_path / "codes.npy")
    with pytest.raises(RunError, match="digits is read as values in"):
        measuring.evaluate(run.workdir, "digits", quiet=True)
    assert not (tmp_path / "codes.npy").exists()


def test_a_run_goes_on_and_other_units_are_other_settings(run, capsys):
    trained(run.workdir, run.chosen)
    assert "other settings" not in capsys.readouterr().err
    with pytest.raises(RunError, match=r"data_options\.range: 'standardised' there, 'normalised' now"):
        training.train(
            settings_for(run.source, "normalised", shard_size=run.chosen.shard_size), run.workdir, quiet=True
        )


def test_a_damaged_record_is_told(run):
    content = json.loads((run.workdir / "config.json").read_text())["settings"]
    with pytest.raises(RunError, match="standard is not valid"):
        runs.standard_of(content | {"standard": {"mean": [0.0]}})
    assert runs.standard_of({}) is None  # of an older run


def test_standardised_images_are_restored_drawn_and_reported_as_images(tmp_path):
    x = data.load("digits").train.x[:200]
    np.save(tmp_path / "x.npy", x)
    options = {"noise": "masking", "latents": 8}
    workdir = tmp_path / "run"
    training.train(settings_for(tmp_path / "x.npy", **options), workdir, quiet=True)
    assert (workdir / "report.html").exists()
    opened = runs.open_run(workdir)
    assert opened.standard.pixels
    pixels = np.round(255 * x[0]).astype(np.uint8)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    restoring.restore(workdir, tmp_path / "a.png", tmp_path / "b.png")
    got = np.asarray(Image.open(tmp_path / "b.png"), np.float32)[..., None] / 255
    inner = opened.algorithm.reconstruct(opened.params, ranges.apply(opened.standard, pixels[None] / np.float32(255)))
    np.testing.assert_allclose(got, np.clip(ranges.undo(opened.standard, inner)[0], 0, 1), atol=0.003)
    projecting.project(workdir, tmp_path / "projected", n=4)
    sprite = np.asarray(Image.open(tmp_path / "projected" / "sprite.png").convert("L"), np.float32) / 255
    first = ranges.undo(opened.standard, runs.load_own(opened).test.x[:1])[0, ..., 0]
    np.testing.assert_allclose(sprite[:8, :8], first, atol=0.003)
    assert measuring.evaluate(workdir, "digits", quiet=True)["metrics"]["test mse"]["mean"] > 0


def test_samples_are_in_the_units_of_the_data(tmp_path):
    np.save(tmp_path / "x.npy", X)
    workdir = trained(tmp_path / "run", settings_for(tmp_path / "x.npy", algorithm="vae", hyper={"likelihood": None}))
    assert json.loads((workdir / "config.json").read_text())["settings"]["hyper"]["likelihood"] == "gaussian"
    opened = runs.open_run(workdir)
    for draws in (False, True):
        x, _ = coding.sample(workdir, 50, tmp_path / "samples.npy", draws=draws)
        np.testing.assert_allclose(x.mean(0), opened.standard.mean, atol=2 * np.max(opened.standard.scale))
        assert abs(x[:, 1].mean() - 50) < 15


@pytest.mark.parametrize(
    ("algorithm", "hyper"),
    [
        ("made", {}),
        ("rbm", {"visible_units": "bernoulli"}),
        ("autoencoder", {"likelihood": "bernoulli"}),
        ("vae", {"likelihood": "discretised_logistic"}),
    ],
)
@pytest.mark.parametrize("kind", ["standardised", "as_is"])
def test_a_member_that_needs_values_in_0_to_1_says_so(tmp_path, algorithm, hyper, kind):
    np.save(tmp_path / "x.npy", np.abs(X) / 60 if kind == "as_is" else X)
    chosen = settings_for(tmp_path / "x.npy", kind, algorithm, hyper=hyper)
    with pytest.raises(ValueError, match=rf"{algorithm} wants values in \[0, 1\], and .* with range={kind}"):
        training.train(chosen, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_binary_pixels_are_not_drawn_from_real_values(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match=r"binarise=static draws pixels by their values in \[0, 1\]"):
        loading.load(settings_for(tmp_path / "x.npy", binarise="static"))


def test_the_command_line_has_the_option(tmp_path, capsys):
    np.save(tmp_path / "x.npy", X)
    where = ["--data", str(tmp_path / "x.npy"), "--data-range", "normalised", "--workdir", str(tmp_path / "run")]
    cli.dispatch(["train", "dictionary", *where, "--latents", "12", "--k", "3", "--epochs", "1"])
    shown = capsys.readouterr().out
    assert "range=normalised: losses and errors are of normalised values" in shown
    assert "test fvu" in shown
    cli.dispatch(["export", str(tmp_path / "run"), str(tmp_path / "sae"), "--saelens"])
    algorithm, params = saelens.load(tmp_path / "sae")
    opened = runs.open_run(tmp_path / "run")
    z = opened.in_data_units.encode(opened.params, X)
    np.testing.assert_allclose(algorithm.encode(params, X), z, rtol=1e-3, atol=1e-4)
    assert (np.asarray(z) > 0).sum(1).max() <= 3
    with pytest.raises(SystemExit):
        cli.dispatch(["train", "autoencoder", "--help"])
    assert "--data-range" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_activations_of_integers_are_refused(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    told = f"holds {dtype}, and range=normalised is for activations"
    with pytest.raises(DataError, match=told):
        data.load(tmp_path / "x.npy", range="normalised")
    with pytest.raises(DataError, match=told):
        data.open_stream(tmp_path / "x.npy", range="normalised")
    for shard_size in (None, 0):
        chosen = settings_for(tmp_path / "x.npy", "normalised", "dictionary", shard_size=shard_size)
        with pytest.raises(DataError, match=told):
            loading.load(chosen)


def test_a_shard_of_another_width_or_type_is_refused_by_name(tmp_path):
    for name, x in {"0": X, "1": X, "2": X[:, :4]}.items():
        np.save(tmp_path / f"{name}.npy", x)
    told = r"2\.npy has examples of 4, float32, and .*0\.npy has examples of 5, float32: all files of"
    with pytest.raises(DataError, match=told):
        data.open_stream(tmp_path, range="normalised")
    np.save(tmp_path / "2.npy", X.astype(np.float16))
    with pytest.raises(DataError, match=r"2\.npy has examples of 5, float16"):
        data.open_stream(tmp_path, range="normalised")
