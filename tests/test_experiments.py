"""Every experiment runs at a small size, and its record says what a reader must know."""

import ast
import importlib.util
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import study
from study import Published, Run, difference, experiment, keys, mapped, probe_errors, record, table, verdict

from ae_jax import networks
from ae_jax.core import Batch
from ae_jax.errors import DataError
from ae_jax.training.signals import Interrupted

FOLDER = Path(__file__).parents[1] / "experiments"
SMALL = {
    "vae_pytorch_example": {"epochs": 1, "latents": 3, "hidden": 16, "data": "digits"},
    "deep_autoencoder": {"epochs": 1, "latents": 4, "hidden": (16,), "data": "digits"},
    "codes_2d": {"epochs": 1, "pretraining": 1, "hidden": (16,), "data": "digits"},
    "denoising": {"epochs": 1, "units": 12, "labelled": 200, "level": 0.0, "data": "digits"},
    "contractive": {"epochs": 1, "units": 12, "labelled": 200, "data": "digits"},
    "adversarial": {
        "epochs": 1,
        "images": 200,
        "held_out": 50,
        "hidden": (12,),
        "latents": 3,
        "samples": 100,
        "pictures": False,
        "data": "digits",
    },
    "adversarial_labels": {
        "epochs": 1, "images": 200, "hidden": (12,), "labels": 120, "style": 2, "noise": 0.1, "data": "digits",
    },
    "adversarial_style": {"epochs": 1, "images": 200, "hidden": (12,), "style": 2, "drawn": 5, "data": "digits"},
    "k_sparse": {
        "ks": (2, 12), "units": 12, "epochs": 1, "tuning": 1, "images": 200, "held_out": 100, "data": "digits",
    },
    "dropout": {
        "rates": (0.0, 0.5),
        "hidden": 12,
        "latents": 4,
        "epochs": 1,
        "images": 200,
        "held_out": 100,
        "labelled": (50, 200),
        "data": "digits",
    },
    "linear_members": {"epochs": 1, "latents": 3, "fitted": 60, "iterations": 3, "data": "digits"},
    "made": {"epochs": 2, "units": 5, "names": ("dna",)},
    "upsampling": {"epochs": 1, "examples": 60, "latents": 3, "channels": (2, 3), "sources": ("digits",)},
    "deep_belief": {
        "epochs": 1, "pretraining": 1, "searched": 1, "latents": 4, "hidden": (16,), "data": "digits",
    },
    "rbm_digits": {"epochs": 1, "digits": 200},
    "rbm_pseudo_likelihood": {"units": 8, "steps": 2, "chains": 10, "temperatures": 20, "data": "digits"},
    "stacked_denoising": {
        "pretraining": 1, "epochs": 1, "units": 20, "layers": 2, "count": 100, "tested": 100, "separated": 50,
        "kinds": ("rot", "bg_img"), "data": "digits",
    },
    "clustering": {"epochs": 1, "passes": 1, "images": 200, "hidden": (12,), "data": "digits"},
    "samplers": {"epochs": 1, "images": 300, "hidden": (12,), "latents": 2, "features": 4, "data": "digits"},
    "vamp_prior": {
        "epochs": 1, "images": 200, "tested": 20, "hidden": (12,), "latents": 2, "components": 5, "samples": 3,
        "binarised": ("static",), "priors": ("normal", "vamp"), "paper": True, "data": "digits",
    },
    "vade": {"pretraining": 1, "epochs": 1, "images": 200, "hidden": (12,), "data": "digits"},
    "text_search": {"epochs": 1, "hidden": (8,), "words": 60, "pretraining": 1},
    "text_topics": {"epochs": 1, "hidden": (8,), "words": 60, "topics": 2},
    "semantic_hashing": {
        "epochs": 1, "hidden": (8,), "bits": (4, 80), "words": 60, "sizes": (50, 100), "vdsh": True, "batch_size": 10,
    },
    "image_search": {
        "epochs": 1, "latents": 3, "latents_of_tiles": 3, "hidden": (12,), "channels": (2, 3), "searched": 100,
        "queries": 20, "patches": 60, "tile": 8, "data": "digits",
    },
    "rate_distortion": {
        "epochs": 1, "latents": (2, 3), "latents_of_tiles": (3,), "sigmas": (0.1,), "sigmas_of_tiles": (0.1,),
        "hidden": (12,), "count": 60, "count_of_tiles": 60, "tested": 10, "places": (2,), "places_of_tiles": (),
    },
    "few_labels": {
        "images": 200, "widths": (80, 20), "pretraining": 1, "labels": (10, 200), "epochs": (1, 1),
        "activations": ("sigmoid",), "contraction": 0.1, "vae_epochs": 1, "data": "digits",
    },
    "sparse_patches": {"iterations": 2, "units": 6, "patches": 100},
    "self_taught": {"iterations": 2, "units": 6, "data": "digits"},
    "stacked_sparse": {"iterations": 2, "units": (6, 5), "images": 100, "data": "digits"},
    "overcomplete": {"epochs": 1, "units": 6, "images": 100, "data": "digits"},
    "contractive_table": {"epochs": 1, "tuning": 1, "units": 6, "images": 100, "held_out": 0, "data": "digits"},
    "restoration": {
        "tasks": ("noise", "bars"), "patches": 40, "epochs": 1, "patch": 16, "features": 2, "kernel": 4,
        "photographs": 1, "toys": 20,
    },
    "latent_walks": {
        "epochs": 1, "images": 200, "hidden": (12,), "draws": 50, "pairs": 6, "side": 3, "data": "digits",
    },
    "iwae": {
        "stages": 1, "images": 60, "tested": 10, "latents": 2, "hidden": (6,), "weights": 3, "data": "digits",
    },
    "estimators": {
        "epochs": 1, "images": 200, "latents": 3, "hidden": (12,), "weights": 4, "tested": 20, "draws": 50,
        "largest": 8, "data": "digits",
    },
    "embedding_projector": {"epochs": 1, "hidden": (12,), "latents": 3, "points": 40, "data": "digits"},
    "vq_photographs": {
        "epochs": 1, "images": 40, "tested": 10, "side": 8, "hidden": 4, "narrow": 2, "dimension": 2, "size": 27,
        "quantisers": ("FSQ",),
    },
    "disentanglement": {"images": 200, "epochs": 1, "hidden": (12,), "latents": 3, "critic_steps": 3, "batch_size": 50},
    "vq": {
        "epochs": 1, "images": 200, "places": 4, "size": 27, "hidden": 8, "only": ("FSQ", "VQ with revival"),
        "data": "digits",
    },
    "dictionaries": {
        "features": 6, "dimensions": 4, "active": 2, "examples": 60, "tested": 20, "units": 6, "weights": (0.5, 1.0),
        "epochs": 1, "batch_size": 30, "images": 60, "hidden": 6, "data": "digits",
    },
    "superposition": {"features": 4, "steps": 2, "batch_size": 4},
    "anomaly": {"tables": ("wine",), "steps": 2, "hidden": 4},
    "imputation": {"tables": ("wine",), "steps": 200, "units": 4},
}  # fmt: skip
# several nets and classifiers each: most of their time is compilation
SLOW = {
    "denoising", "contractive", "k_sparse", "dropout", "upsampling", "made", "linear_members", "stacked_sparse",
    "overcomplete", "contractive_table", "self_taught", "deep_belief", "rbm_digits",
    "stacked_denoising", "few_labels", "text_search", "text_topics", "semantic_hashing", "image_search",
    "rate_distortion", "clustering", "adversarial", "adversarial_labels", "adversarial_style",
    "restoration", "latent_walks", "embedding_projector", "sparse_patches", "rbm_pseudo_likelihood", "codes_2d",
    "deep_autoencoder", "estimators", "iwae", "samplers", "vamp_prior", "vade", "vq", "dictionaries", "vq_photographs",
    "disentanglement", "anomaly", "imputation",
}  # fmt: skip
FIELDS = {
    "name", "title", "source", "settings", "seeds", "metrics", "published", "claims", "device", "versions",
    "commit", "seconds", "notes",
}  # fmt: skip


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("photographs")
    for i, part in enumerate(("train", "test")):
        (folder / part).mkdir()
        pixels = np.random.default_rng(i).integers(0, 256, (40, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / part / "noise.png")
    return str(folder)


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("binary"), np.random.default_rng(0)
    parts = {part: draw.integers(0, 2, (40, 6), dtype=np.uint8) for part in ("train", "valid", "test")}
    np.savez(folder / "dna.npz", **parts)
    return str(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    file, draw = tmp_path_factory.mktemp("pictures") / "pictures.npz", np.random.default_rng(0)
    np.savez(file, train=draw.random((60, 12, 12), np.float32), test=draw.random((10, 12, 12), np.float32))
    return str(file)


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("documents"), np.random.default_rng(0)
    for topic in ("grain", "oil"):
        words = [f"{topic}{chr(97 + i)}" for i in range(20)] + [f"word{chr(97 + i)}" for i in range(20)]
        for part, count in (("train", 40), ("test", 15)):
            (folder / part / topic).mkdir(parents=True)
            for i in range(count):
                (folder / part / topic / f"{i}.txt").write_text(" ".join(draw.choice(words, 30)))
    return str(folder)


@pytest.fixture(scope="module")
def ran(tmp_path_factory, photographs, pictures, binary, documents):
    """(what main returned, the folder it wrote to) of each experiment at its small size with two seeds, run once."""

    @cache
    def run(name):
        out = tmp_path_factory.mktemp(name)
        given = {
            "sparse_patches": {"images": photographs},
            "stacked_denoising": {"photographs": photographs},
            "made": {"folder": binary},
            "text_search": {"data": documents},
            "text_topics": {"data": documents},
            "semantic_hashing": {"data": documents},
            "image_search": {"images": photographs},
            "rate_distortion": {"data": pictures, "images": photographs},
            "restoration": {"images": photographs},
            "vq_photographs": {"data": photographs},
        }
        where = {"out": str(out), "runs": str(tmp_path_factory.mktemp("runs"))}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AE_JAX_TRACEBACK", "1")  # a picture that cannot be drawn is an error here
            return load(name).main(seeds=2, **where, **SMALL[name], **given.get(name, {})), out

    return run


def test_no_experiment_is_left_out():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"study"} == set(SMALL)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SMALL])
def test_experiment_leaves_a_whole_record(name, ran):
    returned, folder = ran(name)
    row = json.loads((folder / f"{name}.json").read_text())
    assert row == json.loads(json.dumps(returned))
    assert set(row) - {"picture"} == FIELDS
    assert row["settings"].items() >= json.loads(json.dumps(SMALL[name])).items()
    assert row["name"] == name
    assert row["seeds"] == [0, 1]
    assert row["versions"]["jax"] == jax.__version__
    for metric in row["metrics"].values():
        assert len(metric["values"]) == 2
        assert metric["mean"] == pytest.approx(np.mean(metric["values"]))
        assert metric["low"] <= metric["mean"] <= metric["high"]
    assert not set(row["published"]), "published values belong to the published data"
    assert set(row["claims"]) <= set(row["metrics"])
    for path in folder.iterdir():
        assert path.stem == name
        assert path.stat().st_size < 200_000
    assert [p.name for p in folder.iterdir() if p.suffix != ".json"] == ([row["picture"]] if "picture" in row else [])


def test_a_seed_alone_gives_what_it_gives_in_a_sweep(tmp_path, ran):
    both, _ = ran("vae_pytorch_example")
    where = {"out": str(tmp_path), "runs": str(tmp_path / "runs")}
    alone = load("vae_pytorch_example").main(seeds=1, seed=1, **where, **SMALL["vae_pytorch_example"])
    assert alone["seeds"] == [1]
    for label, metric in alone["metrics"].items():
        assert metric["values"] == both["metrics"][label]["values"][1:]
        assert metric["low"] is None
    assert both["metrics"]["test loss, nats"]["std"] > 0


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import denoising
from ae_jax.training import run_folder
save, left = run_folder.Folder.save, [{saves}]
def dying(self, *arguments):
    save(self, *arguments)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
run_folder.Folder.save = dying
denoising.main(**{settings!r})
"""


@pytest.mark.slow
def test_a_killed_experiment_goes_on_to_the_same_record(tmp_path, capfd):
    """Killed by -9 in its second arm at a checkpoint in the middle: the first arm and those epochs are not repeated."""
    settings = SMALL["denoising"] | {"seeds": 2, "epochs": 12, "units": 5}
    places = {name: {"out": str(tmp_path / name), "runs": str(tmp_path / f"runs of {name}")} for name in ("a", "b")}
    whole = load("denoising").main(**settings, **places["a"])
    code = KILLED.format(folder=str(FOLDER), saves=3, settings=settings | places["b"])
    env = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "b").exists()
    (run,) = (tmp_path / "runs of b").iterdir()
    epochs = {arm.name: len((arm / "log.jsonl").read_text().splitlines()) for arm in run.iterdir()}
    assert epochs == {"plain": 12, "denoising": 10}
    capfd.readouterr()
    resumed = load("denoising").main(**settings, **places["b"])
    said = capfd.readouterr()
    assert said.out.count("going on in") == 2
    assert "after epoch 12 of 12" in said.err
    assert "after epoch 10 of 12" in said.err
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["claims"] == whole["claims"]
    assert resumed["settings"] == whole["settings"]  # no place of this machine
    assert not list((tmp_path / "runs of b").iterdir())  # the record is written: a later run trains anew


def test_a_recipe_is_computed_once(tmp_path, monkeypatch):
    run = lambda: Run("thing", {"seed": 3, "seeds": 2}, tmp_path / "thing")
    calls = []

    def recipe(keys, x):
        calls.append(isinstance(x, jax.core.Tracer))
        return {"w": jax.vmap(lambda key: x * jax.random.normal(key))(keys), "n": [jnp.arange(2)]}

    x = jnp.asarray([1.0, 2.0])
    first = run().computed("a stage", recipe, keys((3, 4)), x)
    again = run().computed("a stage", recipe, keys((3, 4)), x)
    assert calls.count(False) == 1  # the other calls trace its shapes alone
    assert jax.tree.structure(again) == jax.tree.structure(first)
    jax.tree.map(np.testing.assert_array_equal, again, first)
    other = run().computed("a stage", recipe, keys((3, 4)), 2 * x)  # other data: not what is kept
    later = run()
    with monkeypatch.context() as patch:
        patch.setattr(study, "commit", lambda: "1234567")
        later.computed("a stage", recipe, keys((3, 4)), 3 * x)
    later = run()
    later.computed("a stage", recipe, keys((3, 4)), 3 * x)
    assert later.commits == {"1234567"}, "the record names the commit of what was kept"
    assert later.earlier > 0, "and counts its seconds"
    np.testing.assert_array_equal(other["w"], 2 * first["w"])
    twice = run()
    twice.computed("a stage", recipe, keys((3, 4)), x)
    with pytest.raises(ValueError, match="two arms"):
        twice.computed("a stage", recipe, keys((3, 4)), x)


def test_a_stopped_stage_repeats_one_seed_at_most(tmp_path):
    run = lambda: Run("thing", {"seed": 3, "seeds": 2}, tmp_path / "thing")
    scaled = lambda key, x: {"w": x * jax.random.normal(key)}
    x, first = jnp.asarray([1.0, 2.0]), run()
    found = first.each("a stage", scaled, first.keys(), x)
    np.testing.assert_allclose(found["w"], np.stack([x * jax.random.normal(jax.random.key(s)) for s in (3, 4)]))
    (tmp_path / "thing" / "a-stage-seed-4.npz").unlink()  # stopped in the second seed
    calls = []

    def counted(key, x):
        calls.append(key)
        return scaled(key, x)

    np.testing.assert_array_equal(run().each("a stage", counted, first.keys(), x)["w"], found["w"])
    assert len(calls) <= 3  # two shapes, and the program of the second seed


def test_differences_are_found_by_their_labels():
    metrics = {"plain, error, %": [3.0], "sparse, error, %": [1.0], "error, a": [5.0], "error, b": [2.0]}
    assert difference(metrics, "plain minus sparse, error, %") == [2.0]
    assert difference(metrics, "error, a minus b") == [3.0]
    for label in ("plain minus dense, error, %", "plain, error, %", "plain minus sparse, loss"):
        with pytest.raises(ValueError, match="difference of two metrics"):
            difference(metrics, label)


def test_settings_are_an_experiments_own_and_those_of_all(tmp_path):
    @experiment(
        title="{units} units, {data}, {found}", source="Nobody (2000)", seeds=2, full={"units": 9},
        published={"error": Published(1.0, "here")}, claims={"more minus error": "it is more"},
    )  # fmt: skip
    def main(run, units: int = 3, rate: float = 0.5):
        run.metrics = {"error": np.ones(2), "more": units} if rate else {"error": 1.0}
        run.facts = {"found": 7}

    where = {"out": str(tmp_path), "runs": str(tmp_path / "runs")}
    assert main(full=True, units=4, **where)["settings"]["units"] == 4  # a value that is given comes before --full's
    row = main(full=True, **where)
    assert row["title"] == "9 units, mnist, 7"
    assert {file.name for file in tmp_path.glob("*.json")} == {"test_experiments-full.json"}
    own = {"units": 9, "rate": 0.5, "full": True, "data": "mnist"}  # and no place of this machine
    assert list(row["settings"].items()) == list(({"seeds": 2, "seed": 0} | own).items())
    assert row["metrics"]["more minus error"]["values"] == [8.0, 8.0]
    assert row["claims"] == {"more minus error": {"claim": "it is more", "holds": True}}
    assert set(row["published"]) == {"error"}
    assert row["metrics"]["more"]["values"] == [9.0, 9.0]  # one number of both seeds
    assert not main(data="other", **where)["published"]  # they are of the data of the paper
    assert not main(units=4, **where)["published"]  # and of its protocol
    without = main(rate=0.0, **where)  # an arm is left out
    assert (list(without["metrics"]), without["claims"]) == (["error"], {})
    without_metric = experiment(title="", source="", claims={"a minus b": "?"})(lambda run: None)
    with pytest.raises(ValueError, match="difference of two metrics"):
        without_metric(**where)
    with pytest.raises(TypeError, match="width"):
        main(width=3)


def test_each_is_a_study():
    """`main` stands last, so that a script finds all that its experiment needs; `--help` has the paper and settings."""
    for path in sorted(set(FOLDER.glob("*.py")) - {FOLDER / "study.py"}):
        tree = ast.parse(path.read_text())
        assert getattr(tree.body[-1], "name", "") == "main" or "command(main)" in path.read_text(), path
        main = load(path.stem).main
        assert main.__doc__.startswith(ast.get_docstring(tree)), path
        settings = main.__doc__.partition("\nArgs:\n")[2].splitlines()
        assert len(settings) == len(main.__kwdefaults__), path
        assert all(line.endswith(".") for line in settings), path
        full = [line for line in settings if line.startswith("    full: ")]
        assert len(full) == ("full" in main.__kwdefaults__), path


def test_a_mistake_at_the_command_line_is_one_sentence(tmp_path, monkeypatch):
    command = [sys.executable, str(FOLDER / "codes_2d.py"), "--out", str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    done = subprocess.run([*command, "--data", "nowhere/x.npz"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("codes_2d: ")
    assert "nowhere/x.npz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("AE_JAX_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", [*command[1:], "--data", "nowhere/x.npz"])
    with pytest.raises(DataError, match=r"nowhere/x\.npz"):  # and no SystemExit
        study.command(load("codes_2d").main)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Interrupted("Stopped after epoch 1 of 9.", signal.SIGINT)])
def test_a_stopped_experiment_has_the_status_of_the_signal(stop, capsys):
    def work():
        raise stop

    with pytest.raises(SystemExit) as told:
        study.in_sentences("codes_2d", work)
    assert told.value.code == 128 + signal.SIGINT  # on which `scripts/experiments` and `scripts/records` end, too
    assert "o record was written." in capsys.readouterr().err


@pytest.mark.slow
def test_pairs_of_nets_see_the_same_data(ran):
    """With nothing masked (the small size), the error on masked images is that on clean ones, for both nets."""
    values = {label: metric["values"] for label, metric in ran("denoising")[0]["metrics"].items()}
    for name in ("plain", "denoising"):
        clean = values[f"{name}, squared error on clean images"]
        assert values[f"{name}, squared error on masked images"] == pytest.approx(clean, rel=1e-5)
    # and a denoising net whose corruption does nothing learns what the plain one learns: same start, same batches
    assert values["plain minus denoising, squared error on clean images"] == pytest.approx([0, 0], abs=1e-3)


def test_the_published_protocols_are_the_defaults():
    vae, deep = load("vae_pytorch_example"), load("deep_autoencoder")
    assert vae.main.__kwdefaults__.items() >= {"epochs": 10, "latents": 20, "hidden": 400, "batch_size": 128}.items()
    assert deep.main.__kwdefaults__.items() >= {"hidden": (1000, 500, 250), "latents": 30}.items()
    published = lambda name: json.loads((FOLDER.parent / "results" / f"{name}.json").read_text())["published"]
    assert published("vae_pytorch_example")["test loss, nats"]["value"] == 105.589
    assert published("deep_autoencoder")["deep autoencoder, test squared error"]["value"] == 3.00


def test_orientation_index_of_gratings_and_spots():
    orientation = load("sparse_patches").orientation
    rows, columns = np.mgrid[:8, :8] - 3.5
    window = np.exp(-(rows**2 + columns**2) / 8)
    waves = [np.cos(1.6 * (np.cos(a) * rows + np.sin(a) * columns)) * window for a in (0.0, 0.7, np.pi / 2)]
    spot = window - np.exp(-(rows**2 + columns**2) / 4) * 0.5
    index = orientation(np.stack([*waves, spot, waves[0] + waves[2]]))
    assert index[:3].min() > 0.7
    assert index[3:].max() < 0.05


def test_self_taught_learning_trains_its_softmax_as_the_tutorial_does():
    """The minimum of mean cross-entropy + lambda/2 ||W||^2 on the first half alone, classes told by the second."""
    from sklearn.linear_model import LogisticRegression

    module = load("self_taught")
    z = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    y = (z @ [2.0, -1.0, 0.5] + np.random.default_rng(1).normal(size=80) > 0).astype(int) + (z[:, 0] > 1)
    reference = LogisticRegression(C=1 / (module.SOFTMAX_LAMBDA * 40), tol=1e-8, max_iter=5000).fit(z[:40], y[:40])
    assert module.accuracy(z, y, 40) == pytest.approx(100 * reference.score(z[40:], y[40:]), abs=2.6)  # one example


@pytest.mark.slow
def test_the_grid_of_made_is_searched_by_the_validation_likelihood(tmp_path, monkeypatch):
    """The data are six copies of one coin: only a net that learns has less than the 6 ln 2 nats of six coins."""
    coins = {part: np.random.default_rng(0).integers(0, 2, (40, 1)).repeat(6, 1) for part in ("train", "valid", "test")}
    np.savez(tmp_path / "dna.npz", **{part: tossed.astype(np.uint8) for part, tossed in coins.items()})
    module = load("made")
    new = {"layers": 2, "optimizer": "adam", "masks": 2, "fresh": True, "conditional": True}
    still, learning = (module.Trial(rate=rate, **new) for rate in (1e-9, 3e-2))
    monkeypatch.setattr(module, "GRID", {module.ONE: [module.Trial(rate=0.1)], module.SAMPLED: [still, learning]})
    where = {"out": str(tmp_path / "out"), "runs": str(tmp_path / "runs"), "folder": str(tmp_path)}
    row = module.main(seeds=1, epochs=20, units=5, tested=3, full=True, names=("dna",), **where)
    assert row["notes"][0].endswith(f"over the grid: dna, {module.Trial(rate=0.1)}; dna, {learning}.")
    assert row["metrics"]["dna, masks sampled, test nll, nats"]["mean"] < 3  # of 6 ln 2


def test_panels_of_features_wrap():
    from study import feature_panels

    named = {str(i): np.ones((4, 3, 3, 1)) for i in range(5)}
    wide, wrapped = (feature_panels(named, columns=2, across=across) for across in (None, 3))
    assert [len(axes.images) for axes in wrapped.axes] == [1, 1, 1, 1, 1, 0]
    assert [axes.get_title() for axes in wrapped.axes] == [*named, ""]
    assert wide.get_figheight() * 2 == wrapped.get_figheight()


def test_halved_images_are_means_of_four_pixels():
    x = np.arange(2 * 4 * 6).reshape(2, 4, 6, 1).astype(np.float32)
    half = load("overcomplete").halved(Batch(x)).x
    assert half.shape == (2, 2, 3, 1)
    assert float(half[1, 1, 2, 0]) == x[1, 2:, 4:, 0].mean()


def test_rank_correlation_is_of_each_seed_over_the_rows():
    rank = load("contractive_table").rank_correlation
    norms = np.array([[1.0, 5.0], [2.0, 3.0], [7.0, 4.0]])
    np.testing.assert_allclose(rank(norms, np.array([[10.0, 1.0], [20.0, 3.0], [30.0, 2.0]])), [1, -1])
    np.testing.assert_array_equal(rank(norms, np.ones((3, 2))), 0)


def test_code_shift_is_the_noise_over_the_spread():
    """For the identity code: E||e||^2 = D s^2, over the data's variance."""
    shift = load("contractive").shift
    net = networks.linear((3,), 3)
    params = net.init(jax.random.key(0), Batch(jnp.zeros((1, 3))))
    params["encoder"]["layer_0"]["kernel"] = jnp.eye(3)
    x = 2 * jax.random.normal(jax.random.key(1), (20000, 3))
    assert float(shift(net, params, jax.random.key(2), x, 0.5)) == pytest.approx(0.25, rel=0.02)


def test_a_mapped_function_is_a_loop_over_seeds():
    draw = lambda key, scale: scale * jax.random.normal(key, (4,))
    got = mapped(draw)(keys([4, 7]), jnp.asarray(3.0))
    expected = np.stack([draw(jax.random.key(s), 3.0) for s in (4, 7)])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [2, 10, 50])
def test_documents_are_ranked_as_in_float64(size):
    rng = np.random.default_rng(size)
    z, topics = rng.integers(0, 4, (60, size)) + 4096, rng.random((60, 5)) < 0.3  # many are equally far
    apart = np.square(z[:, None] - z[None]).sum(-1, dtype=np.float64)
    np.fill_diagonal(apart, np.inf)
    shared = topics.astype(int) @ topics.T > 0
    relevant = np.take_along_axis(shared, np.argsort(apart, axis=1, kind="stable"), 1)
    module = load("text_search")
    expected = [100 * relevant[:, : min(cut, 59)].mean() for cut in module.CUTS]
    got = module.precision(z.astype(np.float32), topics, "distance")
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    product = z.astype(np.float32) @ z.T.astype(np.float32)  # |z|^2 is more than 2^24: a product of float32 ties others
    assert (product != z @ z.T).any()


def test_probe_needs_labels():
    x = Batch(jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="labels"):
        probe_errors(None, {}, x, x)


def entry(tmp_path, metrics, seeds=(0, 1, 2), **more):
    return record(
        "some/where/thing.py", metrics, title="A thing", source="Nobody (2000)", settings={"a": (1, 2)}, seeds=seeds,
        seconds=1.0, out=tmp_path, **more,
    )  # fmt: skip


def test_record_has_student_intervals_and_verdicts(tmp_path):
    metrics = {"near": [1.0, 2.0, 3.0], "far": [1.0, 2.0, 3.0], "beats": [2.9, 3.0, 3.1], "ties": [-1.0, 1.0, 3.0]}
    published = {"near": Published(2.4, "table 1", 0.5), "far": Published(2.4, "table 1", 0.3)}
    row = entry(tmp_path, metrics, published=published, claims={"beats": "it is more", "ties": "it is more"})
    half = 4.302653 * 1 / 3**0.5  # t(0.975, 2) s / sqrt(n)
    assert (row["metrics"]["near"]["low"], row["metrics"]["near"]["high"]) == pytest.approx((2 - half, 2 + half))
    assert verdict(row, "near") == "within 0.5"
    assert verdict(row, "far") == "NOT within 0.3"
    assert row["claims"]["beats"]["holds"] is True
    assert row["claims"]["ties"]["holds"] is False
    assert "NOT above 0" in table(row)
    assert [path.name for path in tmp_path.iterdir()] == ["thing.json"]


def test_one_seed_claims_nothing(tmp_path):
    row = entry(tmp_path, {"more": [5.0]}, seeds=(0,), claims={"more": "it is more"})
    assert row["claims"]["more"]["holds"] is None
    assert "no interval" in table(row)


@pytest.mark.parametrize(
    ("metrics", "more", "message"),
    [
        ({"a": [1.0, 2.0]}, {}, "3 seeds"),
        ({"a": [1.0, float("nan"), 2.0]}, {}, "finite"),
        ({"a": [1.0, 2.0, 3.0]}, {"claims": {"b": "?"}}, "'b'"),
        ({"a": [1.0, 2.0, 3.0]}, {"published": {"c": Published(1.0, "here")}}, "'c'"),
    ],
)
def test_record_refuses(tmp_path, metrics, more, message):
    with pytest.raises(ValueError, match=message):
        entry(tmp_path, metrics, **more)
    assert not list(tmp_path.iterdir())


def test_the_setting_that_is_most_faithful_for_its_bits():
    choose = load("rate_distortion").choose
    held = np.array([[10.0, 20], [40, 30], [30, 25], [50, 29]])
    assert [choose(held, limit) for limit in (10, 35, 45, 1e9, 5)] == [0, 2, 1, 1, 0]


def test_a_coder_of_all_components_loses_what_its_grid_does():
    """With more bits a unit the code is longer and its error smaller; all components lose only the rounding."""
    module = load("rate_distortion")
    tiles = np.random.default_rng(0).random((300, 3, 4, 1)).astype(np.float32)
    images = module.Images(tiles[:200], tiles[200:], tiles[200:], lambda x: x, 1)
    coders = module.coders_of_pca(images, True)[-len(module.BITS) :]
    points = [coder(images.test) for coder in coders]
    lengths = [point.bits.mean() for point in points]
    errors = [np.square(point.images - images.test).mean() for point in points]
    assert lengths == sorted(lengths)
    assert errors == sorted(errors, reverse=True)
    assert points[0].images.shape == images.test.shape
    assert errors[-1] < errors[0] / 100


def test_search_ranks_by_distance():
    module = load("image_search")
    base, queries = np.random.default_rng(0).normal(size=(2, 30, 4)) + 50
    expected = np.argsort(((queries[:, None] - base[None]) ** 2).sum(-1), 1)
    np.testing.assert_array_equal(module.ranked(base, queries), expected)


# ------------------------------------------------------------------------- restoration, walks, the projector


def test_pixels_of_the_toy_are_counted_within_shapes():
    truth = np.zeros((1, 4, 4, 3))
    truth[0, :2, :2] = (1, 0, 0)
    truth[0, 2:, 2:] = (0, 0, 1)
    redder = np.full((1, 4, 4), 1.0)  # all red: the red half of the shapes
    redder[0, 0, 0] = -1.0
    assert load("restoration").pixels_right(redder, truth) == pytest.approx(100 * 3 / 8)


def test_what_is_erased_is_alike_in_patches_and_photographs():
    erased = load("restoration").erased
    for corrupt, covered in ((erased(3, 2, 0.05), 1 - 0.95**6), (erased(None, 4, 0.02), 1 - 0.98**4)):
        for shape in ((300, 16, 16, 1), (4, 40, 700, 1)):
            x = corrupt(jnp.ones(shape), jax.random.key(0))
            assert float((x == 0).mean()) == pytest.approx(covered, abs=0.03)
    assert ((x == 0).all(1) | (x == 1).all(1)).all()  # bars, from top to bottom
    runs = "".join("x" if gone else " " for gone in np.asarray(x[0, 0, 4:-4, 0] == 0)).split()
    assert min(map(len, runs)) >= 4


def test_shapes_are_right_by_the_sum_over_their_pixels():
    module = load("restoration")
    truth = np.zeros((1, 6, 12, 3), np.float32)
    truth[0, 1:4, 1:4, 0] = truth[0, 1:4, 5:8, 2] = truth[0, 1:3, 9:11, 2] = 1
    redder = np.zeros((1, 6, 12))
    redder[0, 1:4, 1:4] = [1, -0.1, -0.1]
    redder[0, 1:4, 5:8] = -0.1
    redder[0, 1, 9] = 1
    assert module.coloured_right(redder, truth) == pytest.approx(200 / 3)
    assert module.commoner(truth) == pytest.approx(200 / 3)


def test_colours_by_brightness_are_the_means_of_training_pixels():
    module = load("restoration")
    photo = np.array([[[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.9, 0.6, 0.6]]], np.float32)
    restored = module.colour_by_brightness([photo])(np.float32([[[0.2] * 3, [0.7] * 3]]), np.ones((1, 2)))
    np.testing.assert_allclose(restored, [[[0.2] * 3, [0.9, 0.6, 0.6]]], atol=1e-6)


def test_the_better_candidate_is_chosen():
    module = load("restoration")
    x = np.full((4, 4, 3), 0.5, np.float32)
    ways = [lambda c, m: c + 0.2, lambda c, m: c + 0.01, lambda c, m: c - 0.1]
    assert module.best(ways, [(x, x, x[..., 0])])[0] == 1


def test_points_of_a_plane_follow_the_codes_gaussian():
    module = load("latent_walks")
    codes = np.random.default_rng(0).normal(size=(500, 2)) @ [[2.0, 0.5], [0.0, 0.1]] + [3.0, -1.0]
    placed = module.gaussian_of(codes)(np.random.default_rng(1).normal(size=(200000, 2)))
    np.testing.assert_allclose(placed.mean(0), codes.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(placed.T), np.cov(codes.T), atol=0.05)
    grid = module.lattice(4)
    assert grid.shape == (16, 2)
    assert grid[0].tolist() == [-grid[3, 0], grid[3, 1]]  # the first row is the top one, from left to right
    assert grid[0, 1] > grid[4, 1]


def test_images_of_a_sprite_are_looked_for_where_the_projector_does():
    from ae_jax.app.files import sprite

    wrong = load("embedding_projector").wrong_images
    x = np.random.default_rng(0).random((7, 4, 4, 1))
    assert wrong(sprite(x), x) == 0
    assert wrong(sprite(x[[0, 2, 1, 3, 4, 5, 6]]), x) == 2


def test_npmi_is_one_for_words_always_together_and_falls_to_minus_one():
    npmi = load("text_topics").npmi
    present = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]], bool)
    assert npmi(present, np.array([[0, 1]])) == pytest.approx(1.0)
    assert npmi(present, np.array([[0, 2]])) == -1.0
    assert npmi(present, np.array([[0, 3]])) == pytest.approx(0.0)  # independent
    assert npmi(present, np.array([[0, 1], [0, 3]])) == pytest.approx(0.5)


def test_a_topic_drawn_at_random_has_no_word_twice():
    topics = load("text_topics").drawn_topics(0, np.arange(3, 15), 50)
    assert {len(set(topic)) for topic in topics.tolist()} == {10}
    assert set(topics.flat) == set(range(3, 15))
