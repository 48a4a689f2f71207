"""The logs of a run for other programs, and the functions that get its rows."""

import csv
import json
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest

from ae_jax import networks
from ae_jax.algorithms import autoencoder, vae
from ae_jax.app import cli
from ae_jax.app.commands import reporting
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.training import Folder, logs, loop

ROOT = Path(__file__).parents[1]
DATA = Batch(np.random.default_rng(0).random((24, 4), dtype=np.float32))
SMALL = autoencoder(networks.mlp((4,), 2, hidden=()), optax.adam(1e-2))


def trained(epochs=3, **options):
    return loop.train(SMALL, DATA, epochs=epochs, batch_size=8, seeds=(0, 1), progress=False, **options)


def test_each_row_and_the_params_after_it_are_given(tmp_path):
    rows, params = [], []

    def on_epoch(row):
        rows.append(json.loads(json.dumps(row)))
        row["train"].clear()  # of a copy: the history stays

    def on_params(e, after):
        params.append((e, jax.tree.map(np.array, after)))

    made = trained(on_epoch=on_epoch, on_params=on_params)
    assert rows == made.history
    assert [e for e, _ in params] == [1, 2, 3]
    jax.tree.map(np.testing.assert_array_equal, params[-1][1], made.params)
    again = trained()
    jax.tree.map(np.testing.assert_array_equal, again.params, made.params)  # a log changes no number


def test_a_resumed_run_gives_the_epochs_after_its_checkpoint(tmp_path):
    for epochs, new in (2, [1, 2]), (4, [3, 4]):
        rows = []
        with Folder(tmp_path / "run").opened({}) as folder:
            trained(epochs, folder=folder, on_epoch=rows.append)
        assert [row["epoch"] for row in rows] == new


def test_an_error_of_the_function_ends_the_run_and_loses_nothing(tmp_path):
    def breaks(row):
        if row["epoch"] == 3:
            raise OSError("the service is gone")

    with Folder(tmp_path / "run").opened({}) as folder:
        with pytest.raises(OSError, match="the service is gone"):
            trained(4, folder=folder, on_epoch=breaks, every_epochs=1)
        broken = trained(4, folder=folder)
    jax.tree.map(np.testing.assert_array_equal, broken.params, trained(4).params)


@pytest.mark.parametrize("name", ["on_epoch", "on_params"])
def test_a_hook_that_is_no_function_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} is 'wandb'; give a function"):
        trained(**{name: "wandb"})


ROW = {"epoch": 7, "seconds": 0.5, "examples_per_second": 3.0, "train": {"loss": [1.5, None]}}


def test_names_of_numbers():
    one = ROW | {"train": {"loss": [1.5]}, "validation": {"loss": [2.5], "kl": [None]}}
    rest = {"epoch": 7, "seconds": 0.5, "examples_per_second": 3.0}
    assert logs.scalars(one) == rest | {"train/loss": 1.5, "validation/loss": 2.5}
    assert logs.scalars(ROW) == rest | {"train/loss/0": 1.5}
    assert logs.scalars(logs.of_seed(ROW, 1)) == rest


def test_a_table_has_a_line_for_each_epoch_and_seed():
    names = logs.columns([ROW], (3, 5))
    assert names == ["epoch", "seed", "seconds", "examples_per_second", "train/loss"]
    assert logs.table([ROW], (3, 5), names) == "7,3,0.5,3.0,1.5\n7,5,0.5,3.0,\n"


def events(folder):
    """The events of TensorBoard in a folder, by the format of its files: length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack("<Q", content[at : at + 8])
            yield Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16


def values(folder):
    """(tag, step) -> value, of the events that TensorBoard keeps."""
    kept = {}
    for event in events(folder):
        if event.HasField("session_log"):
            kept = {(tag, step): value for (tag, step), value in kept.items() if step < event.step}
        kept |= {(value.tag, event.step): value for value in event.summary.value}
    return kept


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("tensorboardX")
    where = tmp_path_factory.mktemp("logs") / "run"
    options = ["--data", "digits", "--net-hidden", "8", "--latents", "3", "--seeds", "2", "--likelihood-samples", "2"]
    command = ["train", "vae", *options, "--epochs", "2", "--workdir", str(where), "--quiet"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reporting, "decorate", lambda folder, *_: (folder.path / "report.html").touch())
        cli.dispatch([*command, "--log", "csv", "tensorboard"])
    return where, command


def test_files_of_a_run_hold_its_log(run):
    where, _ = run
    rows = Folder(where).log()
    with open(where / "log.csv") as file:
        lines = list(csv.DictReader(file))
    assert [(line["epoch"], line["seed"]) for line in lines] == [("1", "0"), ("1", "1"), ("2", "0"), ("2", "1")]
    for seed in (0, 1):
        found = values(where / "tensorboard" / f"seed-{seed}")
        for row, line in zip(rows, lines[seed::2], strict=True):
            for metric, of_seeds in row["train"].items():
                value = found[f"train/{metric}", row["epoch"]].simple_value
                assert value == np.float32(of_seeds[seed]) == np.float32(float(line[f"train/{metric}"]))
    assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)


def test_pictures_and_histograms_are_of_the_first_seed(run):
    first, second = (values(run[0] / "tensorboard" / f"seed-{seed}") for seed in (0, 1))
    assert {("reconstructions", 1), ("samples", 2), ("codes/all", 1), ("codes/unit_2", 2)} <= set(first)
    assert (first["reconstructions", 2].image.height, first["samples", 2].image.width) == (2 * 64, 16 * 64)
    assert first["codes/all", 2].histo.num == 3 * 360
    assert not [tag for tag, _ in second if tag in ("samples", "reconstructions", "codes/all")]


def test_a_finished_run_writes_its_log_and_trains_no_more(run, monkeypatch):
    where, command = run
    before = (where / "log.csv").read_text()
    (where / "log.csv").unlink()
    monkeypatch.setattr(loop, "train", None)
    cli.dispatch([*command, "--log", "csv"])
    assert (where / "log.csv").read_text() == before


def test_the_logs_of_a_resumed_run_go_on(tmp_path):
    pytest.importorskip("tensorboardX")
    algorithm = vae(networks.mlp((4,), 2, heads=2, hidden=()), optax.adam(1e-2))
    examples = logs.Examples(algorithm, np.asarray(DATA.x), pixels=False)
    place = tmp_path / "run"
    for epochs, kinds in (2, []), (3, ["csv", "tensorboard"]), (5, ["tensorboard"]), (6, ["csv", "tensorboard"]):
        with (
            Folder(place).opened({}) as folder,
            logs.opened(kinds, folder, (4,), 6, examples) as hooks,
        ):
            every = dict(on_epoch=hooks.on_epoch, on_params=hooks.on_params)
            loop.train(algorithm, DATA, epochs=epochs, seeds=(4,), folder=folder, progress=False, **every)
    rows = Folder(place).log()
    found = values(place / "tensorboard" / "seed-4")
    assert [step for tag, step in found if tag == "train/loss"] == [1, 2, 3, 4, 5, 6]
    assert all(found["train/loss", row["epoch"]].simple_value == np.float32(row["train"]["loss"][0]) for row in rows)
    assert not [tag for tag, _ in found if tag in ("samples", "reconstructions")]  # these examples are no images
    assert [line.split(",")[0] for line in (place / "log.csv").read_text().splitlines()[1:]] == list("123456")


def test_a_missing_library_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(RunError, match=r"needs tensorboardX, .* pip install tensorboardX"):
        cli.dispatch(["train", "vae", "--workdir", str(tmp_path / "run"), "--log", "tensorboard"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_services_of_the_page_get_each_row(name, monkeypatch):
    """A stand-in with the service's functions records its calls."""
    seen = []

    class Run:
        __enter__ = lambda self: self
        __exit__ = lambda *_: None
        log = lambda self, numbers, step: seen.append((numbers, step))

    stand_ins = {
        "wandb": SimpleNamespace(init=lambda project, config: Run()),
        "mlflow": SimpleNamespace(
            start_run=Run,
            log_params=lambda params: None,
            log_metrics=lambda numbers, step: seen.append((numbers, step)),
        ),
    }
    monkeypatch.setitem(sys.modules, name, stand_ins[name])
    page = (ROOT / "docs" / "guides" / "logging.md").read_text()
    (code,) = (block for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if f"import {name}" in block)
    assert len(code.strip().splitlines()) <= 10
    scope = {}
    exec(compile(code, name, "exec"), scope)
    made = scope["logged"](SMALL, DATA, 2)
    assert seen == [(logs.scalars(row), row["epoch"]) for row in made.history]
