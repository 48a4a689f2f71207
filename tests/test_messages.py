"""Messages about mistakes in Python, and advice of messages that leads where it says."""

import io
import json
import re
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from PIL import Image
from probes import required

import ae_jax
from ae_jax import core, data, networks
from ae_jax.algorithms import ALGORITHMS
from ae_jax.app import cli, files, index, report
from ae_jax.app.commands import coding, measuring, reporting, restoring, runs, searching
from ae_jax.app.flags import as_flags, parse, settings_of
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.networks.mlp import MLP
from ae_jax.training import loop, run_folder, settings

ROOT = Path(__file__).parents[1]
X = np.random.default_rng(0).random((6, 4, 4, 1), dtype=np.float32)
NET = networks.mlp((4, 4, 1), 2, hidden=(4,))


# --------------------------------------------------------------------------------------------- in Python


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_number_is_no_optimizer(name):
    needs = settings.heads(name)
    options = {} if needs.activation == "linear" else {"code_activation": needs.activation}
    make_net = networks.NETWORKS[needs.network]
    net = make_net((4, 4, 1), 4, heads=needs.number, **options)
    with pytest.raises(TypeError, match=r"the optimizer is 0\.001; give an optax optimizer, such as optax\.adam"):
        ALGORITHMS[name](net, 1e-3, **required(name))


@pytest.mark.parametrize("given", [1, None, "adam", optax.adam])
def test_what_is_no_optimizer_is_named(given):
    with pytest.raises(TypeError, match=r"give an optax optimizer, such as optax\.adam\(0\.001\)"):
        ae_jax.autoencoder(NET, given)


def calls():
    algorithm = ae_jax.autoencoder(NET, optax.sgd(0.1))
    rule, key = core.epoch(algorithm, 3), jax.random.key(0)
    params = algorithm.init(key, Batch(X))
    return {
        "fit": lambda x: core.fit(algorithm.init, rule, x, key, 1),
        "start": lambda x: core.start(algorithm.init, rule, x, key),
        "average": lambda x: core.average(algorithm.evaluate, params, x, key),
        "sweep": lambda x: rule.update(params, rule.init(params), x, key),
        "train": lambda x: loop.train(algorithm, x, epochs=1, progress=False),
    }


@pytest.mark.parametrize("name", ["beta_tc_vae", "dip_vae", "factor_vae", "info_vae"])
def test_a_member_that_compares_examples_refuses_batches_of_one(name, tmp_path):
    algorithm = ALGORITHMS[name](networks.mlp((4, 4, 1), 2, hidden=(4,), heads=2), optax.sgd(0.1), **required(name))
    wanted = r"batch_size is 1, and this algorithm compares the examples of a batch: give at least 2"
    with pytest.raises(ValueError, match=wanted):
        core.epoch(algorithm, 1)
    with pytest.raises(ValueError, match=wanted):
        ae_jax.run(algorithm, Batch(X), epochs=1, batch_size=1)
    with pytest.raises(ValueError, match=wanted):
        loop.train(algorithm, Batch(X), epochs=1, batch_size=1, progress=False)
    core.epoch(algorithm, 2)
    with pytest.raises(ValueError, match=wanted):
        cli.dispatch(["train", name, "--data=digits", "--batch-size=1", "--epochs=1", f"--workdir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", calls())
def test_what_is_no_batch_is_named(name):
    call = calls()[name]
    with pytest.raises(TypeError, match=r"the data are of type ndarray, not Batch: give Batch\(x\)"):
        call(X)
    with pytest.raises(TypeError, match=r"the data are of type tuple, not Batch"):
        call((X, None))
    with pytest.raises(TypeError, match=r"the data are of type Dataset, not Batch: give its part, data\.train"):
        call(data.Dataset("set", Batch(X), Batch(X), "here"))
    call(Batch(X))


def test_a_module_of_another_kind_is_named():
    class Own(nnx.Module):
        pass

    decoder = MLP((4, 16), nn.relu, lambda h: h, "glorot")
    with pytest.raises(TypeError, match=r"the encoder is a .*Own; wanted: an instance of a flax\.linen module"):
        networks.pair(Own(), decoder, (4, 4, 1), 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the decoder is the class MLP; .* such as Encoder\(\)"):
        networks.pair(decoder, MLP, (4, 4, 1), 2)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- the README's network


def readme():
    """What the guide's example of a network of one's own defines."""
    text = (ROOT / "docs" / "guides" / "own-network.md").read_text()
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "networks.pair" in c]
    assert "reshape(len(x), -1)" in code
    found = {}
    exec(code, found)
    return found


def test_an_encoder_that_reshapes_by_the_length_of_its_batch_is_exported(capsys):
    net, test = (readme()[name] for name in ("net", "test"))
    params = net.init(jax.random.key(0), test)
    program = coding.exported(lambda x: net.encode(params, x), (8, 8, 1))
    call = jax.export.deserialize(bytearray(program)).call
    for count in (1, 3, 7):  # any number at once
        np.testing.assert_allclose(call(test.x[:count]), net.encode(params, test.x[:count]), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_raises_its_own_error():
    with pytest.raises(TypeError, match="contracting dimensions"):
        coding.exported(lambda x: x @ jnp.ones(5), (4, 4, 1))


# ------------------------------------------------------------------------------------ folders that are no runs


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "README.html").write_text("<html>")
    with pytest.raises(RunError, match=r"README\.html is a file; a run is a folder, the --workdir"):
        measuring.evaluate(tmp_path / "README.html", quiet=True)
    with pytest.raises(RunError, match=r"none is not a run of ae-jax: it does not exist"):
        measuring.evaluate(tmp_path / "none", quiet=True)
    with pytest.raises(RunError, match=r"is not a run of ae-jax: it has no config\.json"):
        measuring.evaluate(tmp_path, quiet=True)


def test_an_input_without_a_name_is_not_the_folder_that_one_is_in(tmp_path):
    with pytest.raises(RunError, match=r"the name of the input is empty"):
        files.check_output(tmp_path / "codes.npy", "")


def test_a_run_of_python_is_used_as_the_message_says(tmp_path):
    algorithm = ae_jax.autoencoder(NET, optax.sgd(0.1))
    folder = run_folder.Folder(tmp_path / "run")
    with folder.opened({"mine": 1}):
        trained = loop.train(algorithm, Batch(X), epochs=1, batch_size=3, folder=folder, progress=False)
    with pytest.raises(RunError, match=r"by training\.train in Python.*lack optimizer, algorithm") as told:
        runs.open_run(tmp_path / "run")
    (advice,) = re.findall(r"run = ae_jax\.load_run\(.*?\)", str(told.value))
    found = {"ae_jax": ae_jax, "algorithm": algorithm}
    exec(advice, found)
    run = found["run"]
    assert run.epoch == 1
    assert run.algorithm is algorithm
    np.testing.assert_array_equal(
        algorithm.encode(run.params, jnp.asarray(X)), algorithm.encode(trained.of(0), jnp.asarray(X))
    )


# --------------------------------------------------------------------------------------- the command line


def ends(monkeypatch, capsys, *arguments):
    """(status, what stderr has) of the command line, in this process."""
    monkeypatch.setattr("sys.argv", ["ae-jax", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "x.npy"), "ae-jax: x.npy: No space left on device\n"),
        (RunError("a sentence"), "ae-jax: a sentence\n"),
        (data.DataError("pass resize=64"), "ae-jax: pass --data-resize 64\n"),
        (MemoryError(), "ae-jax: memory is full (the system gives no details): give a smaller --batch-size"),
        (MemoryError("Unable to allocate 9 TiB"), "ae-jax: memory is full (Unable to allocate 9 TiB): give a smaller"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 bytes\nmore"),
            "memory is full (RESOURCE_EXHAUSTED: 9 bytes)",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_mistake_ends_in_one_sentence(error, said, monkeypatch, capsys):
    def fails(arguments):
        raise error

    monkeypatch.setattr(cli, "dispatch", fails)
    status, err = ends(monkeypatch, capsys)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    monkeypatch.setenv("AE_JAX_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main()


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fails(arguments):
        raise KeyError("shape")

    monkeypatch.setattr(cli, "dispatch", fails)
    with pytest.raises(KeyError):
        cli.main()


HUGE = 2**63


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "vae", "--seed", HUGE), "--seed is 9223372036854775808; it must be at least 0 and below 2^32"),
        (("train", "vae", "--seeds", HUGE), "--seeds is 9223372036854775808; a whole number here is at most 2^31 - 1"),
        (("train", "vae", "--latents", HUGE), "--latents is 9223372036854775808; a whole number"),
        (("train", "vae", "--net-hidden", 8, HUGE), "--net-hidden is 9223372036854775808; a whole number"),
        (("train", "vae", "--beta", "nan"), "--beta is nan, which is not a number"),
        (("train", "denoising", "--corruption", "low_resolution", "--level", "inf"), "low_resolution was given inf"),
        (("train", "k_sparse", "--alpha", "inf"), "alpha is inf"),
        (("train", "vae", "--warmup-epochs", "inf"), "warmup_epochs is inf"),
        (("sample", "RUN", "s.npy", "--key", HUGE), "--key is 9223372036854775808; it must be at least 0"),
        (("sample", "RUN", "s.npy", "--key", -1), "--key is -1; it must be at least 0 and below 2^32"),
        (("sample", "RUN", "s.npy", "-n", HUGE), "-n is 9223372036854775808; a whole number"),
        (("search", "i.npz", "q.npy", "-k", HUGE), "-k is 9223372036854775808; a whole number"),
        (("encode", "RUN", "x.npy", "z.npy", "--seed", -1), "--seed is -1; it must be at least 0"),
        (("evaluate", "RUN", "--samples", 0), "samples is 0; the log-likelihood needs at least 1"),
        (("evaluate", "README.html"), "README.html is a file; a run is a folder"),
        (("export", "none", "out"), "is not a run of ae-jax: it does not exist"),
        (("fly",), "the command 'fly' is not known"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_numbers_and_files_that_cannot_be_meant(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("README.html").write_text("")
    before = sorted(tmp_path.rglob("*"))
    status, err = ends(monkeypatch, capsys, *arguments)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written


def test_names_that_a_terminal_cannot_show_are_printed(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(cli, "dispatch", lambda arguments: print("caf\udce9 猫"))
    cli.main()
    out.flush()
    assert out.buffer.getvalue() == b"caf\\udce9 \\u732b\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", "x"), ("shape", [8, 0, 1]), ("shape", []), ("seeds", [-1]), ("latents", "10"), ("data_options", None)],
)
def test_a_config_with_another_kind_of_value_is_damaged(name, value, plain, tmp_path):
    config = json.loads((plain / "config.json").read_text())
    config["settings"][name] = value
    del config["seal"]  # as in older runs
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=rf"config\.json is damaged .its {name} is {re.escape(repr(value))}.; restore"):
        runs.open_run(tmp_path)
    config["settings"].pop(name)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=rf"by training\.train in Python: its settings lack {name},"):
        runs.open_run(tmp_path)


# ----------------------------------------------------------------------------------------- advice arrives


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """`train(name, *options)`: a run of two seeds, without the measuring and the report, which take longer."""
    root = tmp_path_factory.mktemp("advice")

    def make(name, *options):
        where = root / f"{name}{len(list(root.iterdir()))}"
        made = {"seeds": [0], "metrics": {}, "parameters": 0, "seconds": 0.0, "examples_per_second": 0.0, "device": ""}
        tiny = [
            "--epochs",
            "1",
            "--latents",
            "3",
            "--net-hidden",
            "8",
            "--batch-size",
            "128",
            "--seeds",
            "2",
            "--quiet",
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measuring, "measure", lambda *args: dict(made))
            patch.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())
            cli.dispatch(["train", name, "--workdir", str(where), *tiny, *map(str, options)])
        return where

    return make


@pytest.fixture(scope="module")
def plain(train):
    return train("autoencoder", "--data", "digits")


def flags(error, pattern):
    """The options that a message gives in brackets or after `with`."""
    (found,) = re.findall(pattern, str(error))
    return found.split()


def image(path, *shape):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, np.uint8)).save(path)
    return path


def test_a_run_that_cannot_restore_says_how_to_train_one_that_can(plain, train, tmp_path):
    digit, large = image(tmp_path / "set" / "digit.png", 8, 8), image(tmp_path / "set" / "large.png", 9, 20)
    colour = image(tmp_path / "colour.png", 9, 9, 3)
    out = tmp_path / "out.png"
    with pytest.raises(RunError, match="never saw corrupted images") as told:
        restoring.restore(plain, digit, out)
    noise = flags(told.value, r"with (--noise)$")
    noisy = train("autoencoder", "--data", "digits", *noise, "masking")
    assert restoring.restore(noisy, digit, out)[0] == [out]
    with pytest.raises(RunError, match="whole images and restores 8x8 only") as told:
        restoring.restore(noisy, large, out)
    options = flags(str(told.value).replace("FOLDER", str(tmp_path / "set")), r"\((--data .*)\)$")
    patches = train("autoencoder", *options, "--data-count", 50, *noise, "masking")
    assert restoring.restore(patches, large, out)[0] == [out]
    with pytest.raises(RunError, match="make it grey, or train with --data-colour"):
        restoring.restore(patches, colour, out)
    Image.open(colour).convert("L").save(colour)
    assert restoring.restore(patches, colour, out)[0] == [out]


def test_an_index_is_made_again_and_read_with_its_seed(plain, tmp_path):
    made, out = tmp_path / "i.npz", tmp_path / "x.npy"
    searching.make_index(plain, "digits", made, seed=1)
    with pytest.raises(RunError, match="of seed 1: give --seed 1"):
        coding.decode(plain, str(made), out)
    assert len(coding.decode(plain, str(made), out, seed=1)) == 360
    made.write_bytes(made.read_bytes()[:-100])
    for told in (index.load, lambda path: searching.search(path, "digits")):
        with pytest.raises(RunError, match="ae-jax index makes one"):
            told(made)
    cli.dispatch(["index", str(plain), "digits", str(made)])
    assert searching.search(made, "digits", k=1).hits[5][0].place == 5


def test_a_report_that_failed_is_written_again(plain, monkeypatch, capsys):
    opened = runs.open_run(plain)
    held = runs.load_own(opened)

    def fails(*args, **kwargs):
        raise RuntimeError("no font\nat all")

    with monkeypatch.context() as patch:
        patch.setattr(report, "gather", fails)
        reporting.decorate(opened.folder, opened.algorithm, opened.params, held, {"seeds": [0], "metrics": {}})
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "could not be written (RuntimeError: no font); results.json is whole. ae-jax report" in err
    (again,) = re.findall(r"ae-jax (report .*?) writes", err)
    cli.dispatch(again.split(" ", 1))
    assert (plain / "report.html").exists()


def test_a_run_that_lacks_its_report_has_one_after_the_same_command(plain, monkeypatch, capsys):
    (plain / "report.html").unlink(missing_ok=True)
    before = (plain / "results.json").read_bytes()
    drawn = []

    def draw(folder, *_):
        drawn.append(folder.path)
        (folder.path / "report.html").touch()

    monkeypatch.setattr(reporting, "write_report", draw)
    options = "--data digits --epochs 1 --latents 3 --net-hidden 8 --batch-size 128 --seeds 2 --quiet"
    cli.dispatch(["train", "autoencoder", *options.split(), "--workdir", str(plain)])
    assert drawn == [plain]
    assert (plain / "results.json").read_bytes() == before


def test_those_that_are_named_as_generative_are(plain, tmp_path):
    with pytest.raises(RunError, match="not a generative model") as told:
        coding.sample(plain, 1, tmp_path / "s.npy")
    named = set(ALGORITHMS) & set(re.findall(r"\w+", str(told.value).partition("such as")[2]))
    assert "an adversarial member" in str(told.value)
    assert named
    for name in ALGORITHMS:
        shape, needs = (4, 4, 1), settings.heads(name)
        options = {} if needs.activation == "linear" else {"code_activation": needs.activation}
        net = networks.NETWORKS[needs.network](shape, 4, heads=needs.number, **options)
        generative = ALGORITHMS[name](net, optax.sgd(0.1), **required(name)).sample is not None
        assert generative or not (name in named or name.startswith("adversarial")), name


def test_arrays_are_given_as_the_messages_say(tmp_path):
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    with pytest.raises(RunError, match=r"\(3, 4, 5\); this run was trained on \(4, 5, 3\)") as told:
        files.check_shape(x, (4, 5, 3))
    (moved,) = re.findall(r"numpy\.(moveaxis\(.*\))$", str(told.value))
    right = eval(f"np.{moved}", {"np": np, "x": x})
    files.check_shape(right, (4, 5, 3))
    np.testing.assert_array_equal(right[1, 2, 3], x[1, :, 2, 3])
    with pytest.raises(RunError, match=r"reshape them to \(2, 4, 5, 3\)$"):
        files.check_shape(x.reshape(2, 60), (4, 5, 3))
    with pytest.raises(RunError, match=r"was trained on \(4, 5, 3\)$"):  # rows for columns: no reshape is right
        files.check_shape(x.reshape(2, 5, 4, 3), (4, 5, 3))

    np.savez(tmp_path / "a.npz", one=x, two=x)
    with pytest.raises(RunError, match="needs one called x, codes, x_test or x_train"):
        files.read_array(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x_train=x + 1, y_train=[0, 1], x_test=x)  # as a named set: its test part
    np.testing.assert_array_equal(files.read_array(tmp_path / "a.npz"), x)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=[0, 1])  # without a test part all examples are training's
    np.testing.assert_array_equal(files.read_array(tmp_path / "a.npz"), x)
    for name in ("x", "codes"):
        np.savez(tmp_path / "a.npz", one=x + 1, **{name: x})
        np.testing.assert_array_equal(files.read_array(tmp_path / "a.npz"), x)
    np.save(tmp_path / "a.npy", np.array([[1, None]], object))
    with pytest.raises(RunError, match=r"numpy\.save and an array of numbers"):
        files.read_array(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([[1, 2]]))
    files.read_array(tmp_path / "a.npy")


def test_images_of_many_sizes_are_read_as_the_message_says(tmp_path):
    for i, shape in enumerate([(9, 10), (8, 12), (20, 9), (9, 9)]):
        image(tmp_path / "set" / f"{i}.png", *shape)
    with pytest.raises(data.DataError, match="different sizes") as told:
        data.load(tmp_path / "set")
    said = as_flags(str(told.value)).replace("64", "8")
    ways = re.findall(r'--data-(?:resize|crop|patch) "?\w+"?', said)
    assert len(ways) == 4
    square = [*ways[0].split(), *ways[1].replace('"', "").split()]  # before it, to keep their proportions
    for way in (ways[0].split(), square, ways[2].split(), ways[3].split()):
        parsed = parse("vae", ["--data", str(tmp_path / "set"), *way])
        options = settings_of("vae", parsed).data_options
        assert data.load(tmp_path / "set", **options).train.x.shape[1:3] == (8, 8)


def test_a_class_name_with_a_tab_or_newline_keeps_the_confusion_table_in_its_columns():
    told = {"labels": ["a\tb", "c\nd"], "told": ["a\tb", "c\nd"], "counts": [[3, 1], [0, 2]]}
    _, *lines = measuring.confusion_table(told).splitlines()
    assert lines == ["     a b  c d", "a b    3    1", "c d    0    2"]
