"""The command line as a user meets it: one run used in every way, and mistakes that end in one message."""

import dataclasses
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ae_jax import data
from ae_jax.algorithms import ALGORITHMS
from ae_jax.app import cli
from ae_jax.app.commands import coding, loading, reporting, runs
from ae_jax.app.flags import (
    RunOptions,
    data_flag,
    merged,
    network_flag,
    options_of,
    parse,
    settings_of,
    shared_options,
    train_options,
)
from ae_jax.errors import RunError
from ae_jax.networks import NETWORKS
from ae_jax.training import provenance, run_folder, settings
from ae_jax.training.settings import heads
from ae_jax.xla import cache

ROOT = Path(__file__).parents[1]


def train(name, where, *options):
    cli.dispatch(
        [
            "train",
            name,
            "--workdir",
            str(where),
            "--epochs",
            "2",
            *(("--net-hidden", "16") if heads(name).network == "mlp" else ()),
            "--latents",
            "3",
            "--quiet",
            *options,
        ]
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    where = tmp_path_factory.mktemp("cli") / "vae"
    train("vae", where, "--seeds", "2", "--beta", "2", "--likelihood-samples", "10")
    return where


def ae_jax(*arguments, **kwargs):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ae_jax", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, **kwargs)


@pytest.mark.slow
@pytest.mark.optimised  # programs that take longer to compile than what is kept at least
def test_programs_come_from_the_disk_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    for name in ("compiled", "again"):
        done = ae_jax("train", "autoencoder", "--data", "digits", "--epochs", "1", "--workdir", tmp_path / name)
        assert (done.returncode, done.stderr) == (0, "")
    assert any((tmp_path / "programs").iterdir())


def test_a_reader_that_goes_is_no_error():
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-m", "ae_jax", "list"], env=env, **streams) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_classes_follow_the_labels_unless_asked_for(tmp_path, monkeypatch):
    without_report(monkeypatch)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.random((40, 4)).astype(np.float32), y=rng.permutation(np.arange(40) % 3))
    options = ["--data", str(tmp_path / "x.npz"), "--pretrain-epochs", "0"]
    for given, classes in ([], 3), (["--classes", "7"], 7):
        train("classifier", where := tmp_path / str(classes), *options, *given)
        assert json.loads((where / "config.json").read_text())["settings"]["hyper"]["classes"] == classes
        assert runs.open_run(where).params["head"]["bias"].shape == (classes,)
    with pytest.raises(SystemExit):
        cli.dispatch(["train", "classifier", "--help"])


def test_nothing_decoded_is_shown_or_written_where_the_decoder_learns_nothing(tmp_path, capsys):
    run_, codes = tmp_path / "run", tmp_path / "z.npy"
    options = ["--epochs", "1", "--pretrain-epochs", "1", "--latents", "3", "--net-hidden", "8", "--noise", "masking"]
    cli.dispatch(["train", "classifier", "--workdir", str(run_), *options])
    shown = capsys.readouterr().out
    results, page = json.loads((run_ / "results.json").read_text()), (run_ / "report.html").read_text()
    for told in ("explained_variance", "mse", "denoised", "squared_error", "cross_entropy"):
        assert not [name for name in results["metrics"] if told in name]
        assert told not in shown
        assert f"test {told}" not in page
    assert {"test loss", "test error", "test accuracy", "pca linear_probe_accuracy"} <= set(results["metrics"])
    pictures = {p.stem for p in (run_ / "pictures").glob("*.png")}
    assert "codes" in pictures
    assert not pictures & {"reconstructions", "worst_median_best", "errors", "walk", "samples", "curve_labelled"}
    assert {"curve_loss", "curve_error"} <= pictures
    assert "Reconstruction" not in page
    np.save(codes, np.zeros((2, 3), np.float32))
    with pytest.raises(RunError, match=r"learned to classify, .* classifier learns nothing: train another"):
        coding.decode(run_, str(codes), tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()
    files = coding.export(run_, tmp_path / "out")
    assert sorted(p.name for p in files) == ["README.md", "encoder.stablehlo", "load.py", "signature.json"]
    assert "decoder" not in json.loads(files[-1].read_text())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("classifier", "--classes 5", "digits has labels up to 9 and classifier 5 classes: give 10 classes$"),
        ("adversarial_labels", "--labels 100", "1 classes, half of a code of 3: .*10 classes and more than 10 latents"),
        ("adversarial_style", "--latents 12 --classes 5", "5 classes: give 10 classes and more than 10 latents"),
    ],
)
def test_labels_beyond_the_classes_are_refused(name, options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        train(name, tmp_path / "run", *options.split())
    assert not (tmp_path / "run").exists()


def test_labels_beyond_half_of_a_code_are_noted(tmp_path):
    given = settings.Settings(
        algorithm="adversarial_style", network="mlp", data="digits", latents=8, epochs=1, batch_size=64, seeds=(0,)
    )
    more = dataclasses.replace(given, latents=20)
    clusters = dataclasses.replace(given, algorithm="adversarial_labels")
    labels = data.load("digits").train.y
    said = lambda settings_, y: loading.check_classes(settings.build(settings_, (8, 8, 1), 100), settings_, y)
    assert "digits has labels up to 9 and adversarial_style 4 classes" in said(given, labels)
    assert said(more, labels) == said(given, None) == said(clusters, labels) == ""


def test_a_run_leaves_everything_needed_to_know_and_repeat_it(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["settings"]["hyper"]["beta"] == 2.0
    assert config["settings"]["seeds"] == [0, 1]
    assert {"versions", "device", "commit"} <= set(config)
    assert [row["epoch"] for row in run_folder.Folder(workdir).log()] == [1, 2]
    results = json.loads((workdir / "results.json").read_text())
    elbo = results["metrics"]["test elbo"]
    assert len(elbo["values"]) == 2
    assert elbo["low"] < elbo["mean"] < elbo["high"]
    assert elbo["mean"] == pytest.approx(np.mean(elbo["values"]))
    assert results["parameters"] == 64 * 16 + 16 + 16 * 6 + 6 + 3 * 16 + 16 + 16 * 64 + 64
    assert np.shape(results["kl_of_units"]) == (2, 3)
    assert results["features"]["of"] == "classifier=64"
    assert any(name.startswith("frechet_distance (classifier=64, n=") for name in results["metrics"])
    page = (workdir / "report.html").read_text()
    assert "<img" in page
    assert "could not be drawn" not in page
    # the KL's weight is the same in evaluation as in training
    m = {k.removeprefix("test "): v["mean"] for k, v in results["metrics"].items()}
    assert m["loss"] == pytest.approx(m["nll"] + 2 * m["kl"], rel=1e-5)
    assert m["elbo"] == pytest.approx(-m["nll"] - m["kl"], rel=1e-5)


def test_the_same_command_again_finds_the_run_finished(workdir, capsys):
    before = (workdir / "results.json").read_bytes()
    train("vae", workdir, "--seeds", "2", "--beta", "2", "--no-quiet")
    assert "finished" in capsys.readouterr().out
    assert (workdir / "results.json").read_bytes() == before
    with pytest.raises(RunError, match=r"beta"):
        train("vae", workdir, "--seeds", "2", "--beta", "3")


def test_encode_decode_sample_agree_with_the_model(workdir, tmp_path, capsys):
    _, test = data.load("digits")
    np.save(tmp_path / "x.npy", np.asarray(test.x))
    cli.dispatch(["encode", str(workdir), str(tmp_path / "x.npy"), str(tmp_path / "z.npy"), "--seed", "1"])
    opened = runs.open_run(workdir, 1)
    codes = np.load(tmp_path / "z.npy")
    np.testing.assert_allclose(codes, opened.algorithm.encode(opened.params, test.x), atol=1e-5)
    cli.dispatch(["decode", str(workdir), str(tmp_path / "z.npy"), str(tmp_path / "y.npz"), "--seed", "1"])
    decoded = np.load(tmp_path / "y.npz")["x"]
    np.testing.assert_allclose(decoded, opened.algorithm.decode(opened.params, jnp.asarray(codes)), atol=1e-5)
    assert decoded.shape == test.x.shape
    for out in ("a.npy", "b.npy"):
        cli.dispatch(["sample", str(workdir), str(tmp_path / out), "-n", "7", "--key", "3"])
    a, b = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert a.shape == (7, 8, 8, 1)
    np.testing.assert_array_equal(a, b)
    cli.dispatch(["sample", str(workdir), str(tmp_path / "s.png"), "-n", "5"])

    picture = np.asarray(Image.open(tmp_path / "s.png"))
    assert picture.ndim == 3
    assert picture.std() > 0


def test_evaluate_repeats_what_training_measured(workdir, tmp_path, capfd):
    cli.dispatch(["evaluate", str(workdir), "--samples", "10", "--out", str(tmp_path / "again.json"), "--quiet"])
    assert capfd.readouterr() == ("", "")
    before = json.loads((workdir / "results.json").read_text())["metrics"]
    after = json.loads((tmp_path / "again.json").read_text())["metrics"]
    assert {k: v["values"] for k, v in before.items()} == {k: v["values"] for k, v in after.items()}


def test_export_runs_without_the_package(workdir, tmp_path):
    cli.dispatch(["export", str(workdir), str(tmp_path / "out")])
    _, test = data.load("digits")
    np.save(tmp_path / "x.npy", np.asarray(test.x[:5]))
    code = (
        "import sys, numpy as np; sys.path.insert(0, 'out'); from load import decode, encode\n"
        "x = np.load('x.npy'); np.save('y.npy', decode(encode(x))); decode(encode(x[:2]))\n"
        "assert not any(m.startswith(('ae_jax', 'flax')) for m in sys.modules)\n"
    )
    assert len((tmp_path / "out" / "load.py").read_text().splitlines()) == 10
    hidden = "import importlib.abc, sys\nclass Hide(importlib.abc.MetaPathFinder):\n  def find_spec(self, name, *_):\n"
    hidden += (
        "    if name.split('.')[0] in ('ae_jax', 'flax'): raise ImportError(name)\nsys.meta_path.insert(0, Hide())\n"
    )
    subprocess.run([sys.executable, "-c", hidden + code], cwd=tmp_path, check=True)
    (example,) = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    shown = subprocess.run(
        [sys.executable, "-c", hidden + example], cwd=tmp_path / "out", check=True, capture_output=True, text=True
    )
    assert shown.stdout == "(3, 3)\n"
    cli.dispatch(["export", str(workdir), str(tmp_path / "out")])  # over an earlier export
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("mine")
    with pytest.raises(RunError, match=r"own has a README\.md that no export wrote"):
        coding.export(workdir, tmp_path / "own")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["README.md"]
    opened = runs.open_run(workdir)
    expected = opened.algorithm.decode(opened.params, opened.algorithm.encode(opened.params, jnp.asarray(test.x[:5])))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-5)


REPORTED = ("rbm", "vae", "adversarial_labels")  # drawing a report takes as long as the training


def without_report(monkeypatch):
    monkeypatch.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())


@pytest.mark.parametrize(
    "name", [name if name in ("rbm", "vae") else pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS]
)
def test_every_algorithm_trains_by_its_default_options(name, tmp_path, monkeypatch):
    if name not in REPORTED:
        without_report(monkeypatch)
    train(name, tmp_path / "r", *(["--likelihood-samples", "10"] if name in ("importance", "vae") else []))
    if name in REPORTED:
        assert "could not be drawn" not in (tmp_path / "r" / "report.html").read_text()
    metrics = run_folder.Folder(tmp_path / "r").results()["metrics"]
    assert all(v is not None and np.isfinite(v) for m in metrics.values() for v in m["values"])
    assert "test loss" in metrics


@pytest.mark.slow
@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_trains(network, tmp_path, monkeypatch):
    if network != "conv":  # maps, and no features of a first layer
        without_report(monkeypatch)
    name = "rbm" if network == "rbm" else "vae"
    options = ["--workdir", str(tmp_path / "r"), "--epochs", "1", "--quiet"]
    small = ["--likelihood-samples", "10"] if name == "vae" else []
    small += ["--net-channels", "2", "3"] if network in ("conv", "conv1d") else []
    cli.dispatch(["train", name, "--network", network, *options, *small])
    assert "could not be drawn" not in (tmp_path / "r" / "report.html").read_text()
    assert "test loss" in run_folder.Folder(tmp_path / "r").results()["metrics"]


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_option_of_an_algorithm_and_network_is_a_documented_flag(name):
    for make in (ALGORITHMS[name], *NETWORKS.values(), *data.OPTIONS.values()):
        for option, (_, _, text) in options_of(make).items():
            assert len(text) > 5, f"{make.__name__} does not describe {option} in its docstring's Args"
    shared, _ = shared_options(name)
    assert all(len(text) > 5 for _, _, text in shared.values())
    names = [set(options_of(ALGORITHMS[name])), {network_flag(n) for n in merged(NETWORKS)}]
    names += [{data_flag(n) for n in merged(data.OPTIONS)}, set(vars(RunOptions())), set(shared)]
    assert sum(map(len, names)) == len(set.union(*names)), "two options have one name"


def test_the_shared_options_are_the_fields_of_the_settings():
    own = {field.name for field in dataclasses.fields(settings.OptimizerSettings)} - {"name"}
    run = {field.name for field in dataclasses.fields(settings.Settings)}
    groups = {"algorithm", "seeds", "hyper", "network_options", "data_options", "restarts", "start_from"}
    assert set(shared_options("vae")[0]) == run - groups | own  # "optimizer" is the name of the method
    flags = "--optimizer sgd --momentum 0.5 --clip 2 --noise gaussian --noise-level 0.3 --precision bfloat16 --best mse"
    made = settings_of("vae", parse("vae", flags.split()))
    assert made.optimizer == settings.OptimizerSettings(name="sgd", lr=1e-3, momentum=0.5, clip=2.0)
    assert (made.noise, made.noise_level, made.precision, made.best) == ("gaussian", 0.3, "bfloat16", "mse")


def test_a_network_option_is_taken_without_its_prefix_unless_an_algorithm_has_it(monkeypatch):
    assert parse("vae", ["--hidden", "8", "4"]).networks.net_hidden == (8, 4)
    assert parse("vae", ["--hidden=8"]).networks.net_hidden == (8,)

    def made_up(net, optimizer, *, kernel: int = 1): ...

    monkeypatch.setitem(ALGORITHMS, "made_up", made_up)
    parsed = parse("made_up", ["--kernel", "3", "--net-stride", "2", "--dropout", "0.5"])
    assert parsed.made_up.kernel == 3
    assert (parsed.networks.net_kernel, parsed.networks.net_stride, parsed.networks.net_dropout) == (None, 2, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trane"], "the commands are train"),
        (["train", "vea"], "Did you mean vae?"),
        (["train", "--data", "digits"], "the algorithm comes first"),
        (["train", "vae", "--data", "no_such_set"], "no_such_set"),
        (["train", "vae", "--data", "nowhere/x.npz"], "nowhere"),
        (["train", "vae", "--seeds", "0"], "--seeds is 0"),
        (["train", "vae", "--seeds", "2", "--seed", "3"], "one of the two"),
        (["train", "vae", "--network", "linear", "--net-hidden", "3"], "the network linear has no hidden; it has tied"),
        (["train", "autoencoder", "--likelihood", "bernoulli", "--net-output-activation", "sigmoid"], "takes logits"),
        (["train", "vae", "--data-patch", "8"], "digits has no --data-patch; it has no options"),
        (["train", "vae", "--data", "photos", "--data-words", "8"], "it has --data-patch, --data-count,"),
        (
            ["train", "vae", "--data", "pictures", "--data-count", "8"],
            "--data-count and --data-test-count are numbers",
        ),
        (["train", "vae", "--data", "x", "--stream", "--shard-size", "9"], "--shard-size 9 is not a multiple"),
        (["train", "sparse", "--net-code-activation", "relu"], "the code is relu"),
        (["train", "vae", "--lr", "-1"], "must be positive"),
        (["train", "vae", "--patience", "2"], "--validation"),
        (["train", "vae", "--best", "acc"], "best is 'acc'"),
        (["train", "vae", "--beta", "x"], ""),
        (["evaluate", "nowhere"], "not a run"),
        (["sample", "nowhere", "x.png"], "not a run"),
    ],
)
def test_mistakes_end_in_one_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ae-jax", *arguments])
    monkeypatch.setattr(cache, "cache_compilations", lambda: None)
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "0.npy", np.zeros((20, 4), np.float32))
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "pictures" / "a.png")
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err) < 3000


def test_mistakes_with_a_run(workdir, tmp_path):
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.zeros((4, 9, 9, 1), np.float32))
    for arguments, message in [
        (["encode", workdir, wrong, tmp_path / "z.npy"], r"shape \(9, 9, 1\).*trained on \(8, 8, 1\)"),
        (["encode", workdir, wrong, tmp_path / "z.txt"], r"writes .npy, .npz"),
        (["encode", workdir, wrong, tmp_path / "no" / "z.npy"], "does not exist"),
        (["decode", workdir, wrong, tmp_path / "x.npy"], r"codes of this run are \[N, 3\]"),
        (["sample", workdir, tmp_path / "x.png", "--seed", "9"], "no seed 9"),
        (["evaluate", workdir, "--data", str(wrong)], "trained on"),
    ]:
        with pytest.raises((RunError, ValueError), match=message):
            cli.dispatch([str(a) for a in arguments])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wrong.npy"]


def test_sampling_needs_a_generative_model(tmp_path, monkeypatch):
    without_report(monkeypatch)
    train("autoencoder", tmp_path / "ae")
    with pytest.raises(RunError, match="not a generative model"):
        cli.dispatch(["sample", str(tmp_path / "ae"), str(tmp_path / "x.png")])


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(tmp_path, monkeypatch):
    options = [
        "train",
        "autoencoder",
        "--epochs",
        "400",
        "--workdir",
        "r",
        "--net-hidden",
        "16",
        "--every-epochs",
        "1000",
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "ae_jax", *options], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "r" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size > 1000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Start the same command again" in err
    done = run_folder.Folder(tmp_path / "r").log()[-1]["epoch"]
    assert 0 < done < 400
    monkeypatch.chdir(tmp_path)
    without_report(monkeypatch)
    cli.dispatch([*options, "--quiet"])
    cli.dispatch([*(o if o != "r" else "whole" for o in options), "--quiet"])
    a, b = (run_folder.Folder(tmp_path / where).params()[1] for where in ("r", "whole"))
    assert provenance.checksum(a) == provenance.checksum(b)


def test_list_and_help_name_everything(capsys):
    cli.dispatch(["list"])
    out = capsys.readouterr().out
    assert all(name in out for name in [*ALGORITHMS, *NETWORKS, *data.NAMED])
    cli.dispatch([])
    out = capsys.readouterr().out
    assert all(command in out for command in ["train", *cli.COMMANDS])
    for name in ALGORITHMS:
        with pytest.raises(SystemExit):
            cli.dispatch(["train", name, "--help"])
        shown = capsys.readouterr().out
        assert all("--" + option.replace("_", "-") in shown for option in options_of(ALGORITHMS[name]))


@pytest.mark.parametrize(
    ("option", "of"), [("net_kernel", "networks"), ("epochs", "training"), ("keep", "run"), ("data_patch", "data")]
)
def test_two_options_of_one_name_are_told(monkeypatch, option, of):
    def made_up(net, optimizer): ...

    only = inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=1, annotation=int)
    made_up.__signature__, made_up.__annotations__ = inspect.Signature([only]), {option: int}  # type: ignore[attr-defined]
    monkeypatch.setitem(ALGORITHMS, "made_up", made_up)
    with pytest.raises(ValueError, match=f"{option} is an option of the algorithm made_up and one of (the )?{of}"):
        train_options("made_up")
