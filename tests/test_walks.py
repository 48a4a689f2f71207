"""Codes of parts of data with their names and labels, and walks through codes."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ae_jax import data
from ae_jax.app import cli
from ae_jax.app.commands import coding, searching, walking
from ae_jax.core import Batch
from ae_jax.errors import DataError, RunError
from ae_jax.evaluation import walks
from ae_jax.training import compiled, provenance, run_folder
from ae_jax.training.settings import Settings, build

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of data, and in it the run "run" of a VAE that was never trained."""
    where = tmp_path_factory.mktemp("walks")
    x, y = RNG.integers(0, 256, (20, 4, 4, 1), np.uint8), np.arange(20) % 3
    np.savez(where / "own.npz", x_train=x[:12], y_train=y[:12], x_test=x[12:], y_test=y[12:])
    np.savez(where / "one.npz", x=x, y=y)
    np.save(where / "rows.npy", x)
    np.save(where / "rows.labels.npy", y)
    for i in range(6):
        (where / "folder" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i, ..., 0]).save(where / "folder" / "ab"[i % 2] / f"{i}.png")
    (where / "parts" / "train").mkdir(parents=True)
    (where / "parts" / "test").mkdir()
    np.save(where / "parts" / "train" / "0.npy", x[:12])
    np.save(where / "parts" / "test" / "0.npy", x[12:])
    made = dict(algorithm="vae", network="mlp", latents=3, epochs=1, batch_size=4, network_options={"hidden": (5,)})
    settings = Settings(**made, data=str(where / "own.npz"), seeds=(0,))
    algorithm = build(settings, (4, 4, 1), 12)
    params = jax.tree.map(lambda a: a[None], algorithm.init(jax.random.key(0), Batch(jnp.zeros((2, 4, 4, 1)))))
    fields = {"params": params, "memory": (), "best": {}, "best_value": jnp.zeros(1)}
    fields |= {"best_epoch": jnp.ones(1, int), "active": jnp.ones(1, bool), "failed": jnp.zeros(1, int)}
    checksum = provenance.checksum(tuple(data.load(where / "own.npz")))
    folder = run_folder.Folder(where / "run")
    with folder.opened(settings.to_json() | {"shape": (4, 4, 1), "validated": False, "data_checksum": checksum}):
        folder.save(1, compiled.State(**fields))
    row = {"epoch": 1, "seconds": 1.0, "examples_per_second": 5.0, "train": {"loss": [9.0]}}
    (folder.path / "log.jsonl").write_text(json.dumps(row) + "\n")
    return where


def codes_of(place, source, part=None, out="z.npz"):
    coding.encode(place / "run", str(place / source), place / out, part=part)
    return np.load(place / out)


def test_a_part_of_a_runs_own_file_has_names_and_labels_beside_its_codes(place):
    whole = codes_of(place, "rows.npy")["codes"]
    for part, rows in ("train", slice(0, 12)), ("test", slice(12, 20)):
        found = codes_of(place, "own.npz", part)
        np.testing.assert_allclose(found["codes"], whole[rows], rtol=2e-6)  # of another batch size: other sums
        np.testing.assert_array_equal(found["labels"], (np.arange(20) % 3)[rows])
        assert list(found["names"]) == [f"own.npz {part}[{i}]" for i in range(len(whole[rows]))]
    found = codes_of(place, "own.npz")  # by default the test part, as before
    np.testing.assert_allclose(found["codes"], whole[12:], rtol=2e-6)
    np.testing.assert_array_equal(found["labels"], (np.arange(20) % 3)[12:])


@pytest.mark.parametrize("source", ["one.npz", "rows.npy"])
def test_rows_of_a_split_by_chance_are_named_by_their_place_in_the_file(place, source):
    whole = codes_of(place, source)
    seen = []
    for part in ("train", "test"):
        found = codes_of(place, source, part)
        rows = [int(name[len(source) + 1 : -1]) for name in found["names"]]
        np.testing.assert_allclose(found["codes"], whole["codes"][rows], rtol=2e-6)
        np.testing.assert_array_equal(found["labels"], whole["labels"][rows])
        np.testing.assert_array_equal(found["labels"], (np.arange(20) % 3)[rows])
        seen += rows
    assert sorted(seen) == list(range(20))


def test_files_of_a_folder_and_parts_of_a_stream_keep_their_names(place):
    found = codes_of(place, "folder", "train")
    assert [found["classes"][label] for label in found["labels"]] == [name[0] for name in found["names"]]
    assert len({*found["names"], *codes_of(place, "folder", "test")["names"]}) == 6
    stream = codes_of(place, "parts", "test")
    np.testing.assert_array_equal(stream["codes"], codes_of(place, "own.npz", "test")["codes"])
    assert stream["names"][3] == "parts test[3]"


def test_a_table_of_codes_has_every_bit(place):
    cli.dispatch(["encode", str(place / "run"), str(place / "folder"), str(place / "z.csv"), "--part", "train"])
    with open(place / "z.csv") as file:
        lines = list(csv.DictReader(file))
    found = codes_of(place, "folder", "train")
    assert [line["label"] for line in lines] == [line["name"][0] for line in lines]
    read = np.array([[line[f"z{k}"] for k in range(3)] for line in lines], np.float32)
    np.testing.assert_array_equal(read, found["codes"])
    assert coding.class_name(-1, ("a",)) == ""
    assert coding.class_name(4, ("a",)) == "4"


def test_an_index_of_a_part_has_its_names(place):
    made = searching.make_index(place / "run", str(place / "one.npz"), place / "i.npz", part="test")
    assert list(made.names) == list(codes_of(place, "one.npz", "test")["names"])


@pytest.mark.parametrize(
    ("source", "part", "resize", "said"),
    [
        ("own.npz", "validation", False, "own.npz has no validation part of its own"),
        ("parts", "validation", False, "parts has no validation part of its own"),
        ("own.npz", "train", True, "--resize has no effect on a part"),
        ("nothing.npz", "train", False, "there is no file or folder"),
        ("digits", "train", False, r"the examples have the shape \(8, 8, 1\)"),
    ],
)
def test_parts_that_cannot_be_encoded(place, source, part, resize, said):
    source = source if source == "digits" else str(place / source)
    with pytest.raises((RunError, DataError), match=said):
        coding.encode(place / "run", source, place / "bad.npz", resize=resize, part=part)
    assert not (place / "bad.npz").exists()


def test_labels_that_are_no_classes_are_left_out(place, capsys):
    np.savez(place / "targets.npz", x=RNG.random((4, 4, 4, 1), np.float32), y=np.linspace(0, 1, 4))
    assert set(codes_of(place, "targets.npz").files) == {"codes", "names"}
    assert "the labels are left out" in capsys.readouterr().err


def test_names_of_examples_find_them(place):
    opened = coding.runs.open_run(place / "run")
    x = np.load(place / "rows.npy") / np.float32(255)
    for name, row in (
        ("2", 14),
        (f"{place}/own.npz train[3]", 3),
        (f"{place}/one.npz[5]", 5),
        (f"{place}/own.npz[1]", 13),
    ):
        np.testing.assert_array_equal(walking.example_of(opened, name), x[row])
    np.testing.assert_array_equal(walking.example_of(opened, f"{place}/folder/a/0.png"), x[0])
    for name, said in (
        ("8", "8 is no test example"),
        ("-1", "-1 is no test"),
        (f"{place}/own.npz", "has 8 examples: name one"),
    ):
        with pytest.raises(RunError, match=said):
            walking.example_of(opened, name)
    with pytest.raises(RunError, match=r"one.npz\[20\]: .* has 20 examples"):
        walking.example_of(opened, f"{place}/one.npz[20]")


def test_units_come_in_the_order_of_their_kl_or_variance():
    mean = RNG.normal(size=(500, 3)) * [0.1, 2.0, 1.0]
    logvar = np.broadcast_to([0.0, -3.0, -1.0], mean.shape)
    found = walks.units(mean, np.concatenate([mean, logvar], 1), width=2.0)
    assert found.order.tolist() == [1, 2, 0]
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).mean(0)
    np.testing.assert_allclose(found.worth, kl, rtol=1e-12)
    deviation = np.sqrt(mean.var(0) + np.exp(logvar[0]))  # of the aggregate posterior
    np.testing.assert_allclose(found.high - mean.mean(0), 2 * deviation, rtol=1e-12)
    np.testing.assert_allclose(found.low + found.high, 2 * mean.mean(0), atol=1e-12)
    of_codes = walks.units(1 / (1 + np.exp(-mean)), width=9.0)
    assert of_codes.low.min() >= 0  # codes in [0, 1] stay there
    assert of_codes.high.max() <= 1
    assert not of_codes.by_kl
    assert walks.units(mean, np.concatenate([mean, logvar], 1), by_kl=False).worth.tolist() == mean.var(0).tolist()


def test_paths_between_codes():
    a, b = np.array([3.0, 0.0]), np.array([0.0, 1.0])
    np.testing.assert_allclose(walks.straight(a, b, 3), [a, [1.5, 0.5], b], atol=1e-15)
    middle = 2 * np.array([1, 1]) / np.sqrt(2)  # half the angle, the mean length
    np.testing.assert_allclose(walks.spherical(a, b, 3), [a, middle, b], atol=1e-15)
    codes = RNG.normal(size=(2, 5))
    walked = walks.spherical(codes[0], codes[1], 7)
    between = np.arccos(
        np.sum(walked[1:] * walked[:-1], 1) / np.prod(np.linalg.norm([walked[1:], walked[:-1]], axis=2), 0)
    )
    np.testing.assert_allclose(between, between[0], rtol=1e-9)  # equal angles
    np.testing.assert_allclose(np.diff(np.linalg.norm(walked, axis=1), 2), 0, atol=1e-12)
    np.testing.assert_allclose(walks.spherical(a, 2 * a, 3), [a, 1.5 * a, 2 * a], atol=1e-12)
    for other, said in (-a, "opposite"), (0 * a, "a code is 0"):
        with pytest.raises(ValueError, match=said):
            walks.spherical(a, other, 3)


def test_a_traversal_changes_one_unit_at_a_time(place, capsys):
    cli.dispatch(
        ["traverse", str(place / "run"), str(place / "t.npz"), "--units", "2", "--steps", "5", "--example", "1"]
    )
    found, opened = np.load(place / "t.npz"), coding.runs.open_run(place / "run")
    assert found["x"].shape == (2, 5, 4, 4, 1)
    own = codes_of(place, "own.npz")["codes"][1]
    for unit, codes in zip(found["units"], found["codes"], strict=True):
        others = np.delete(codes, unit, 1)
        np.testing.assert_array_equal(others, np.broadcast_to(np.delete(own, unit), others.shape))
        assert (np.diff(codes[:, unit]) > 0).all()
    assert found["worth"][0] >= found["worth"][1]
    decoded = opened.algorithm.decode(opened.params, jnp.asarray(found["codes"][1]))
    np.testing.assert_allclose(found["x"][1], decoded, atol=1e-6)
    assert "unit" in capsys.readouterr().out


def test_an_interpolation_begins_and_ends_at_its_examples(place):
    names = [f"{place}/one.npz[5]", "2"]
    cli.dispatch(
        ["interpolate", str(place / "run"), *names, str(place / "i2.npz"), "--steps", "4", "--path", "spherical"]
    )
    found, codes = np.load(place / "i2.npz"), codes_of(place, "one.npz")["codes"]
    assert found["x"].shape == (2, 4, 4, 4, 1)
    np.testing.assert_allclose(found["codes"][[0, -1]], codes[[5, 14]], atol=1e-6)
    np.testing.assert_array_equal(found["x"][1][[0, -1]], found["ends"])


def test_pictures_are_written(place):
    cli.dispatch(["traverse", str(place / "run"), str(place / "t.png"), "--steps", "3"])
    cli.dispatch(["interpolate", str(place / "run"), "0", "1", str(place / "i.png"), "--steps", "3"])
    assert all(np.asarray(Image.open(place / name)).std() > 0 for name in ("t.png", "i.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("traverse RUN t.gif", "this command writes .png, .npz"),
        ("traverse RUN t.png --units 0", "--units is 0"),
        ("traverse RUN t.png --steps 1", "--steps is 1"),
        ("traverse RUN t.png --width -1", "--width is -1.0"),
        ("traverse RUN t.png --example 8", "--example is 8, and the test set has 8 examples"),
        ("interpolate RUN 0 1 t.png --steps 1", "--steps is 1"),
        ("interpolate RUN 0 abc t.png", "abc is no example: give the number of a test example"),
        ("interpolate RUN 0 nothing.png t.png", "there is no file or folder nothing.png"),
        ("interpolate RUN 0 1 none/t.png", "does not exist"),
        ("traverse RUN RUN/config.json", "this command writes"),
    ],
)
def test_walks_that_cannot_be_made(place, words, said, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=said):
        cli.dispatch([word.replace("RUN", str(place / "run")) for word in words.split()])
    assert not list(tmp_path.iterdir())


def test_a_decoder_that_learns_nothing_makes_no_walk(place, monkeypatch):
    opened = coding.runs.open_run(place / "run")
    monkeypatch.setattr(
        walking.runs, "open_run", lambda *_: opened._replace(algorithm=opened.algorithm._replace(decodes=False))
    )
    with pytest.raises(RunError, match="learned to classify"):
        walking.traverse(place / "run", place / "no.png")
