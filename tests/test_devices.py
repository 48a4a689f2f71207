"""Many devices and many processes end where one does, also when some of them are killed on the way."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from ae_jax import data, networks
from ae_jax.algorithms import autoencoder, vae
from ae_jax.app import cli
from ae_jax.app.commands import reporting, runs, training
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.training import checkpoints, compiled, devices, loop, provenance, run_folder
from ae_jax.training.settings import Settings
from ae_jax.xla import cache

ROOT = Path(__file__).parents[1]
FULL = os.environ.get("AE_JAX_FULL", "0") != "0"
THIRD = pytest.mark.full("a third pair of processes; broken streams go on in test_stream, too")

# One process for all that needs eight devices: starting one, with JAX and the programs, takes longer than the work.
EIGHT = """
import json, shutil, sys
from pathlib import Path
import jax, numpy as np, optax
from ae_jax import data, networks
from ae_jax.app import cli
from ae_jax.training import devices, loop, run_folder
from ae_jax.algorithms import classifier, vae
from ae_jax.core import Batch, address

where = Path(sys.argv[1])
x = data.load("digits").train.x
# eps: Adam makes a whole step of a gradient near 0, whose sign is that of its rounding
algorithm = vae(networks.mlp((8, 8, 1), 3, hidden=(16,), heads=2, dropout=0.1), optax.adam(1e-2, eps=1e-4))
parts = ("train", "validation")

def flat(trained):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(trained.params)])

kinds = ("none", "data", "seeds", "both")
meshes = {kind: devices.layout(kind, 2, 2 if kind == "seeds" else None) for kind in kinds}
shapes = {kind: mesh and dict(mesh.shape) for kind, mesh in meshes.items()}
assert shapes == {
    "none": None, "data": {"seeds": 1, "data": 8}, "seeds": {"seeds": 2, "data": 1}, "both": {"seeds": 2, "data": 4}
}, shapes

# ---- in memory

def init(key, data):  # of seed 7 no number is one
    bad = (jax.random.key_data(key) == jax.random.key_data(address(jax.random.key(7), "init"))).all()
    return jax.tree.map(lambda a: jax.numpy.where(bad, jax.numpy.nan, a), algorithm.init(key, data))

failing = algorithm._replace(init=init)

def train(mesh, folder=None, epochs=2, seeds=(0, 1)):
    return loop.train(
        failing, Batch(x[:200]), epochs=epochs, batch_size=64, seeds=seeds,
        mesh=mesh, folder=folder, every_epochs=1, progress=False,
    )

def go(name, mesh, epochs):
    folder = run_folder.Folder(where / name)
    with folder.opened({}):
        return train(mesh, folder, epochs)

whole = {kind: train(mesh) for kind, mesh in meshes.items()}
result = {"memory " + kind: flat(its) for kind, its in whole.items()}
go("broken", meshes["both"], 1)
shutil.copytree(where / "broken", where / "moved")
assert (flat(go("broken", meshes["both"], 2)) == result["memory both"]).all()
result["memory moved"] = flat(go("moved", None, 2))  # begun on eight devices, ended on one

def of_first(its):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(its.of(0))])

for kind in ("seeds", "both"):
    beside = train(meshes[kind], seeds=(0, 7))
    assert beside.failed == {7: 1}
    result["beside one that failed, " + kind] = of_first(beside)
    result["seed 0, " + kind] = of_first(whole[kind])
result["seed 0, none"] = of_first(whole["none"])

# ---- a stream, of shards of 192 and of 13 examples, which are less than a batch and not to be split over eight

pixels = np.asarray(255 * x[:205], np.uint8)
source = data.stream.made("pixels", 205, lambda index: Batch(pixels[index]))
held_out = data.Stream(source, 41, binarise=3)
memory = Batch(pixels / np.float32(255))

def streamed(mesh, folder=None, size=192, validation=held_out):
    return loop.train(
        algorithm, data.Stream(source, size, seed=0), epochs=2, batch_size=64, seeds=(0, 1), validation=validation,
        mesh=mesh, folder=folder, every_minutes=0.0, progress=False,
    )

class Killed(BaseException):
    pass

def breaking(e, state, place=None):
    run_folder.Folder.save(folder, e, state, place)
    if (e, (place or {}).get("shard")) == (1, 1):
        raise Killed

for kind in ("none", "seeds", "both"):
    trained = streamed(meshes[kind])
    result["stream " + kind] = flat(trained)
    result["curve " + kind] = np.array([[row[part]["loss"] for part in parts] for row in trained.history])
folder = run_folder.Folder(where / "between")
folder.save = breaking
try:
    with folder.opened({}):
        streamed(meshes["both"], folder)
except Killed:
    pass
assert folder.params()[0] == 1 and len(folder.log()) == 1
shutil.copytree(where / "between", where / "between, moved")
folder = run_folder.Folder(where / "between")
with folder.opened({}):
    assert (flat(streamed(meshes["both"], folder)) == result["stream both"]).all()
folder = run_folder.Folder(where / "between, moved")
with folder.opened({}):
    result["stream moved"] = flat(streamed(None, folder))
one_shard = flat(streamed(meshes["both"], size=256, validation=None))
in_memory = loop.train(algorithm, memory, epochs=2, batch_size=64, seeds=(0, 1), mesh=meshes["both"], progress=False)
assert (one_shard == flat(in_memory)).all()

# ---- labels of some examples

y = np.where(np.arange(205) < 140, -1, np.arange(205) % 3)  # of 64 in a batch, another share has a label each time
tuned = classifier(networks.mlp((8, 8, 1), 3, hidden=(16,)), optax.adam(1e-2), classes=3)
source = data.stream.made("partly", 205, lambda index: Batch(x[:205][index], y[index].astype(np.int32)))
memory = data.Stream(source, 205).load(0, 0)
for name, given, held in (
    ("memory", memory, memory), ("stream", data.Stream(source, 64, seed=0), data.Stream(source, 64))
):
    trained = loop.train(
        tuned, given, epochs=1, batch_size=64, seeds=(0, 1), validation=held, mesh=meshes["both"], progress=False
    )
    wrong = [np.mean(tuned.predict(trained.of(s), memory.x)[140:] != y[140:]) for s in (0, 1)]
    row = trained.history[0]
    result["errors " + name] = np.array([wrong, row["validation"]["error"]])
    result["labelled " + name] = np.array([row[part]["labelled"] for part in parts])

# ---- a flag

cli.dispatch([*sys.argv[2:], "--workdir", str(where / "many"), "--parallel", "both"])

# ---- mistakes

wrong = {
    "seeds": lambda: train(devices.mesh(8, 1)),
    "batch": lambda: loop.train(algorithm, Batch(x[:60]), epochs=1, mesh=meshes["data"], progress=False),
    "devices": lambda: devices.layout("data", 1, 9),
    "mesh": lambda: devices.mesh(2, 5),
}
said = {}
for name, call in wrong.items():
    try:
        call()
    except ValueError as error:
        said[name] = str(error)

shapes = (2, 4), (8, 1), (3, 2)
suits = [devices.mesh(*shape) for shape in shapes]
assert [mesh.devices.shape for mesh in suits] == list(shapes)
for kind in (NotImplementedError, ValueError):  # a shape that does not fit the wiring has a mesh, too

    def refuses(*arguments, kind=kind, **more):
        raise kind("of many slices")

    jax.make_mesh = refuses
    assert [devices.mesh(*shape) for shape in shapes] == suits
np.savez(where / "result.npz", **result)
(where / "said.json").write_text(json.dumps(said))
"""


def environment(**more):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"} | more


SPREAD = "train vae --epochs 2 --net-hidden 16 --latents 3 --likelihood-samples 5 --quiet --seeds 2 --validation 0.1"


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    where = tmp_path_factory.mktemp("eight")
    env = environment(JAX_NUM_CPU_DEVICES="8")
    command = [sys.executable, "-c", EIGHT, str(where), *SPREAD.split()]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["data", "seeds", "both", "moved"])
def test_eight_devices_train_what_one_does(eight, layout):
    with np.load(eight / "result.npz") as result:
        for what in {"data": ("memory",), "moved": ("memory", "stream")}.get(layout, ("memory", "stream", "curve")):
            found, one = result[f"{what} {layout}"], result[f"{what} none"]
            np.testing.assert_allclose(found, one, rtol=1e-3, atol=1e-5, err_msg=what)
            if layout == "seeds":  # on CPU each seed is computed as it is alone
                np.testing.assert_array_equal(found, one, err_msg=what)


@pytest.mark.slow
def test_a_seed_that_fails_on_its_devices_leaves_the_others_their_bits(eight):
    with np.load(eight / "result.npz") as result:
        for layout, alike in (("seeds", "none"), ("seeds", "seeds"), ("both", "both")):
            found = result[f"beside one that failed, {layout}"]
            assert np.isfinite(found).all()
            np.testing.assert_array_equal(found, result[f"seed 0, {alike}"])


@pytest.mark.slow
def test_eight_devices_average_over_the_labelled_examples(eight):
    with np.load(eight / "result.npz") as result:
        for which in ("memory", "stream"):
            np.testing.assert_allclose(result[f"labelled {which}"], 65 / 205, rtol=1e-6)
            wrong, found = result[f"errors {which}"]
            np.testing.assert_allclose(found, wrong, rtol=1e-5)


@pytest.mark.slow
def test_one_device_reads_what_eight_wrote(eight):
    e, state = run_folder.Folder(eight / "broken").params()
    flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(state.params)])
    with np.load(eight / "result.npz") as result:
        np.testing.assert_array_equal(flat, result["memory both"])
    assert e == 2


@pytest.mark.slow
def test_a_flag_spreads_a_run(eight, tmp_path):
    cli.dispatch([*SPREAD.split(), "--workdir", str(tmp_path / "one")])
    one, many = run_folder.Folder(tmp_path / "one"), run_folder.Folder(eight / "many")
    assert one.config()["settings"] == many.config()["settings"]  # it is the same run, however it was computed
    for a, b in zip(one.log(), many.log(), strict=True):
        np.testing.assert_allclose(a["train"]["loss"], b["train"]["loss"], rtol=1e-5)
    assert many.results()["devices"] == {"seeds": 2, "data": 4, "processes": 1}
    expected, found = (results["metrics"]["test loss"]["values"] for results in (one.results(), many.results()))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for a, b in zip(*(jax.tree.leaves(folder.params()[1]) for folder in (one, many)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.optimised
def test_seeds_over_as_many_devices_as_asked_for_have_the_bits_of_one(tmp_path):
    command = "train vae --epochs 2 --net-hidden 16 --latents 3 --likelihood-samples 5 --quiet --seeds 2 --workdir"
    cli.dispatch([*command.split(), str(tmp_path / "one")])
    flags = ["--parallel", "seeds", "--devices", "2"]
    spread = [sys.executable, "-m", "ae_jax", *command.split(), str(tmp_path / "two"), *flags]
    # Without the variable the flag makes them; a machine of one core, which makes one device, is told to make two.
    env = {name: value for name, value in environment().items() if name != "JAX_NUM_CPU_DEVICES"}
    env |= {} if (os.cpu_count() or 1) > 1 else {"JAX_NUM_CPU_DEVICES": "2"}
    subprocess.run(spread, env=env, check=True)
    one, two = run_folder.Folder(tmp_path / "one"), run_folder.Folder(tmp_path / "two")
    assert two.results()["devices"] == {"seeds": 2, "data": 1, "processes": 1}
    jax.tree.map(np.testing.assert_array_equal, one.params()[1], two.params()[1])


def test_devices_are_made_only_where_jax_was_not_told(monkeypatch):
    asked = []
    monkeypatch.setattr(jax.config, "update", lambda *setting: asked.append(setting))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setenv("XLA_FLAGS", "")
    devices.of_cores(2)
    assert asked == [("jax_num_cpu_devices", 2)]
    for no in (None, 0, 5):
        devices.of_cores(no)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    devices.of_cores(2)
    assert len(asked) == 1


@pytest.mark.slow
def test_what_cannot_be_shared_evenly_is_said(eight):
    said = json.loads((eight / "said.json").read_text())
    assert "2 seeds cannot be spread evenly over 8 devices" in said["seeds"]
    assert "a batch of 60 examples cannot be split evenly over 8 devices" in said["batch"]
    assert "--devices is 9; there are 8" in said["devices"]
    assert "2 x 5 devices was asked for; there are 8" in said["mesh"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parallel", "data", "--devices", "99"], "--devices is 99; there are "),
        (["--devices", "2"], "add --parallel data, seeds or both"),
        (["--processes", "2", "--process", "0"], "need --coordinator"),
        (["--coordinator", "here"], "must be HOST:PORT"),
        (["--coordinator", "here:99999", "--processes", "2", "--process", "0"], "must be HOST:PORT"),
        (["--coordinator", "here:1", "--processes", "2"], "which one this is"),
        (["--coordinator", "here:1", "--processes", "2", "--process", "2"], "counted from 0"),
        (["--coordinator", "auto", "--process", "1"], "leave them out"),
    ],
)
def test_wrong_flags(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cli.dispatch(["train", "vae", "--workdir", str(tmp_path / "r"), "--quiet", *options])
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_that_one_device_has_nothing_to_share_is_said_unless_quiet(flags, tmp_path, capsys):
    options = ["--epochs", "1", "--net-hidden", "4", "--latents", "2", "--parallel", "seeds"]
    cli.dispatch(["train", "autoencoder", "--workdir", str(tmp_path / "r"), *options, "--devices", "1", *flags])
    out, err = capsys.readouterr()
    assert ("one device does all the work" in out + err) == (not flags)


def test_alone_there_is_nobody_to_agree_with():
    assert devices.first()
    assert not devices.together()
    assert devices.largest(3) == 3
    with pytest.raises(KeyError):
        devices.run_in_first(lambda: {}["a"])
    part = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(devices.host(devices.assembled({"x": part}, devices.mesh())["x"]), part)
    assert devices.gather_texts("so") == ["so"]


@pytest.fixture
def as_processes(monkeypatch):
    """`as_processes(fn, n)` calls fn(i) in n threads that act as processes -> the result or the error of each."""
    from jax.experimental import multihost_utils

    def go(fn, n):
        mine, meet, given, results = threading.local(), threading.Barrier(n, timeout=20), [None] * n, [None] * n

        def gather(a):
            given[mine.process] = a
            meet.wait()
            gathered = np.stack(given)  # as rows of an array: of one shape
            meet.wait()
            return gathered

        monkeypatch.setattr(jax, "process_count", lambda: n)
        monkeypatch.setattr(jax, "process_index", lambda: mine.process)
        monkeypatch.setattr(multihost_utils, "process_allgather", gather)
        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda a: gather(a)[0])

        def process(i):
            mine.process = i
            try:
                results[i] = fn(i)
            except Exception as error:
                results[i] = error

        threads = [threading.Thread(target=process, args=(i,)) for i in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return go


def test_every_process_hears_what_each_says(as_processes):
    said = ["", "longer than the others, and not ASCII: \u03b2", "short"]
    assert as_processes(lambda i: devices.gather_texts(said[i]), 3) == [said] * 3
    assert as_processes(lambda i: devices.gather_texts(""), 2) == [["", ""]] * 2


def test_every_process_says_which_differs_and_in_what(as_processes):
    given = [{"lr": 0.1, "net": {"wide": 8}}, {"lr": 0.2, "net": {"wide": 8}}, {"lr": 0.1, "net": {"wide": 8}}]
    given += [{"lr": 0.2, "net": {"wide": 8}}, {"lr": 0.1, "net": {"wide": 16, "deep": 2}}]
    errors = as_processes(lambda i: devices.check_agreement(given[i]), 5)
    assert all(isinstance(error, ValueError) for error in errors)
    assert {str(error) for error in errors} == {
        "processes 1, 3 have other settings or data than process 0:\n  lr: 0.2, not 0.1\n"
        "process 4 has other settings or data than process 0:\n  net.deep: 2, not None\n  net.wide: 16, not 8\n"
        "Give all the same command."
    }
    assert as_processes(lambda i: devices.check_agreement(given[0]), 3) == [None] * 3


def test_processes_of_different_meshes_are_told_before_they_share_anything(as_processes):
    flags = [("data", 1, None), ("none", 1, 2)]  # the second alone would be refused
    errors = as_processes(lambda i: devices.layout(*flags[i]), 2)
    assert ["process 1 has other" in str(error) for error in errors] == [True, True]
    assert "\n  devices: 2, not None\n  parallel: 'none', not 'data'\n" in str(errors[0])


@pytest.mark.parametrize("wrong", ["every_epochs", "every_minutes", "keep"])
def test_processes_that_save_at_different_times_do_not_train(wrong, as_processes, tmp_path):
    settings = Settings(
        algorithm="autoencoder", network="mlp", data="digits", latents=2, epochs=1, batch_size=32, seeds=(0,)
    )
    mesh = devices.mesh()
    train = lambda i: training.train(settings, tmp_path / "run", quiet=True, mesh=mesh, **({wrong: 7} if i else {}))
    errors = as_processes(train, 2)
    assert [f"{wrong}: 7, not " in str(error) for error in errors] == [True, True]
    assert not (tmp_path / "run").exists()


def test_the_first_process_decides_and_the_others_do_not_look(as_processes):
    def found():
        assert jax.process_index() == 0
        return {"epochs": (1, 2), "loss": float("nan")}

    assert as_processes(lambda i: devices.broadcast(found), 3) == [{"epochs": [1, 2], "loss": None}] * 3
    assert as_processes(lambda i: devices.broadcast(lambda: None), 2) == [None, None]
    errors = as_processes(lambda i: devices.broadcast(lambda: {}["missing"]), 2)
    assert [type(error) for error in errors] == [KeyError, RunError]


@pytest.mark.parametrize("finished", [True, False])
def test_no_process_trains_a_run_that_another_takes_for_finished(finished, as_processes, tmp_path, monkeypatch):
    """Each sees other files, as on a file system that shows some late."""
    settings = Settings(
        algorithm="autoencoder", network="mlp", data="digits", latents=2, epochs=1, batch_size=32, seeds=(0,)
    )
    results = {"seeds": [0], "metrics": {}, "parameters": 1, "seconds": 1.0, "examples_per_second": 1.0, "device": "x"}
    sees = lambda: (jax.process_index() == 0) == finished

    def trains(*_, **__):
        raise InterruptedError

    monkeypatch.setattr(run_folder.Folder, "results", lambda folder: results if sees() else None)
    monkeypatch.setattr(run_folder.Folder, "whole", lambda folder: True)
    monkeypatch.setattr(loop, "train", trains)
    monkeypatch.setattr(runs, "open_run", lambda path: loop.Trained({}, (0,), [], [1]))
    monkeypatch.setattr(reporting, "decorate", lambda *_: None)
    train = lambda i: training.train(settings, tmp_path / "run", quiet=True, mesh=devices.mesh())
    first, other = as_processes(train, 2)
    if finished:
        assert (first, other) == (results, {})  # the first alone reports
    else:
        assert [type(first), type(other)] == [InterruptedError] * 2


def test_a_checkpoint_that_one_process_finds_damaged_is_read_by_none(as_processes, tmp_path, monkeypatch):
    for number in (3, 5):
        (tmp_path / "checkpoints" / str(number)).mkdir(parents=True)
    state = compiled.State({}, (), {}, *np.zeros((4, 1)))
    read = []

    def checked(place):
        if (place.name, jax.process_index()) == ("5", 1):
            raise checkpoints.Damaged("of process 1")
        return {}

    def reads(folder, number, target, about):
        read.append((jax.process_index(), number))
        return state._asdict(), {"epoch": number, "partial": {}}

    monkeypatch.setattr(checkpoints, "checked", checked)
    monkeypatch.setattr(checkpoints, "read", reads)
    numbers = lambda folder: [3, 5] if jax.process_index() == 0 else [3]  # the other sees it late
    monkeypatch.setattr(run_folder.Folder, "_numbers", numbers)
    assert [found[0] for found in as_processes(lambda i: run_folder.Folder(tmp_path).restore(state), 2)] == [3, 3]
    assert sorted(read) == [(0, 3), (1, 3)]
    assert (tmp_path / "damaged-checkpoint-5").is_dir()


def test_all_processes_see_the_folder_or_none_trains(as_processes, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "SEEN", 0.3)
    where = lambda i: tmp_path / ("other" if i == 2 else "shared")

    def opened(i, folder):
        with folder(i).opened({}):
            return "opened"

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lock").write_text("of an earlier run")
    errors = as_processes(lambda i: opened(i, lambda i: run_folder.Folder(where(i))), 3)
    assert all(isinstance(error, RunError) for error in errors)
    (said,) = {str(error) for error in errors}
    assert f"process 0 wrote to {tmp_path / 'shared'}" in said
    assert f"process 2: {tmp_path / 'other'}" in said
    assert "process 1:" not in said
    assert "same --workdir" in said

    # A file system may show the file a moment late: here the folder is not there until then.
    monkeypatch.setattr(run_folder, "SEEN", 10)
    view = tmp_path / "late"

    def late(i):
        folder = run_folder.Folder(where(0))
        if i == 1:
            folder.path = view
            threading.Timer(0.3, lambda: view.symlink_to(where(0))).start()
        return folder

    assert as_processes(lambda i: opened(i, late), 2) == ["opened"] * 2


@pytest.mark.parametrize(
    ("error", "alone", "expected"),
    [
        (ValueError("INTERNAL: [external/gloo/tcp/pair.cc] Connection closed by peer"), False, "lost another one"),
        (ValueError("UNAVAILABLE: Gloo all-reduce failed"), False, "lost another one"),
        (ValueError("wrong:\n  data: 'gloo'"), False, "ae-jax: wrong"),
        (ValueError("Gloo"), True, "ae-jax: Gloo"),
        (jax.errors.JaxRuntimeError("anything"), False, "lost another one"),
        (jax.errors.JaxRuntimeError("anything"), True, None),
    ],
)
def test_an_error_between_processes_is_told_as_one(error, alone, expected, monkeypatch, capsys):
    def dispatch(arguments):
        raise error

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(cli, "dispatch", dispatch)
    monkeypatch.setattr(cache, "cache_compilations", lambda: None)
    monkeypatch.setattr(devices, "together", lambda: not alone)
    monkeypatch.setattr(devices, "exit_process", leave)
    with pytest.raises(SystemExit if expected else type(error)):
        cli.main()
    assert (expected or "") in capsys.readouterr().err


def test_who_stops_at_once_does_not_wait_for_what_is_computed(monkeypatch, capsys):
    def dispatch(arguments):
        raise KeyboardInterrupt

    def ended(status):
        raise AssertionError(status)

    monkeypatch.setattr(cli, "dispatch", dispatch)
    monkeypatch.setattr(cache, "cache_compilations", lambda: None)
    monkeypatch.setattr(os, "_exit", ended)
    with pytest.raises(AssertionError, match=r"^130"):
        cli.main()
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_process_says_where_it_waits(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: asked.append(options))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    devices.initialize("10.0.0.1:5000", 4, 2)
    devices.initialize("auto")
    one, auto = capsys.readouterr().err.splitlines()
    assert one == "process 2 of 4: waiting at 10.0.0.1:5000 for the others (at most 5 minutes)"
    assert "waiting for the others" in auto
    assert [options["initialization_timeout"] for options in asked] == [300, 300]


def test_it_says_from_where_within_an_epoch_it_goes_on(tmp_path, monkeypatch, capsys):
    x = np.random.default_rng(0).random((48, 4)).astype(np.float32)
    stream = data.Stream(data.stream.made("memory", 48, lambda index: Batch(x[index]), 4), 16, seed=0)
    algorithm = autoencoder(networks.mlp((4,), 2, hidden=()), optax.adam(1e-3))
    folder = run_folder.Folder(tmp_path / "run")

    def go():
        with pytest.raises(InterruptedError), folder.opened({}):
            loop.train(algorithm, stream, epochs=3, batch_size=16, folder=folder, every_epochs=1, every_minutes=0.0)
        return re.findall("going on.*", capsys.readouterr().err)

    def breaking(*place):
        raise InterruptedError

    def save(e, state, partial=None):
        run_folder.Folder.save(folder, e, state, partial)
        if (e, (partial or {}).get("shard")) == (1, 2):
            raise InterruptedError

    folder.save = save
    assert go() == []
    monkeypatch.setattr(loop, "Sharded", breaking)  # before it learns
    assert go() == ["going on after epoch 1 of 3 and 2 of 3 shards of the next"]
    for number in (4, 5):  # within the second epoch
        shutil.rmtree(folder.path / "checkpoints" / str(number))
    assert go() == ["going on after epoch 1 of 3"]


# ---------------------------------------------------------------------------------------- two processes

MEMORY = "train vae --epochs 8 --net-hidden 16 --latents 3 --likelihood-samples 5 --batch-size 64 --every-epochs 1"
FLAGS = "--coordinator 127.0.0.1:{port} --processes 2 --process {process}"
SLURM = {  # what srun tells its tasks
    "SLURM_JOB_ID": "1",
    "SLURM_STEP_NODELIST": "127.0.0.1",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "{process}",
    "SLURM_LOCALID": "{process}",
    "JAX_COORDINATOR_PORT": "{port}",
}

# What two processes do, in two pairs, and a third in a full run: starting a pair takes longer than most of its work.
PAIR = """
import json, sys
from pathlib import Path
from ae_jax.app import cli
from ae_jax.app.commands import reporting
from ae_jax.errors import RunError
from ae_jax.training import devices, run_folder

def train(command, *more):
    sys.argv = ["ae-jax", *command.split(), "--parallel", "data", *more]
    cli.main()

def refusal(command, *more):
    try:
        cli.dispatch([*command.split(), "--parallel", "data", *more])
    except (ValueError, RunError) as error:
        return str(error)

pair, process, flags, where, memory, stream = sys.argv[1:]
flags = flags.split()
if pair == "first":
    train(memory, "--workdir", f"{where}/memory/unbroken", *flags)
reporting.write_report = lambda folder, *_: (folder.path / "report.html").touch()  # one drawn is enough
if pair == "first":
    train(stream, "--workdir", f"{where}/stream/unbroken")
    run_folder.SEEN = 1
    refused = [
        refusal(memory, "--workdir", f"{where}/{process}"),
        refusal(memory, "--workdir", f"{where}/run", "--keep", f"{process}2"),
        refusal(memory, "--workdir", f"{where}/run", "--devices", f"{process}2"),
    ]
    Path(where, f"refused-{process}.json").write_text(json.dumps(refused))
    parts(f"{where}/parts", process)
    train(memory, "--workdir", f"{where}/memory/killed")  # it is, before its end
if pair == "second":
    train(memory, "--workdir", f"{where}/memory/killed", *flags)
    train(stream, "--workdir", f"{where}/stream/killed")
if pair in ("memory", "stream"):  # the last: this run goes on
    train({"memory": memory, "stream": stream}[pair], "--workdir", f"{where}/{pair}/killed", *flags)
    train(memory, "--workdir", f"{where}/run", "--lr", f"0.0{process}1")
"""

# Of three rows more than the other, process 1 reads its own part alone; seeds lie on different processes.
PARTS = """
def parts(where, process):
    import jax, numpy as np, optax
    from dataclasses import replace
    from ae_jax import data as sources, networks
    from ae_jax.training import loop, run_folder, shards
    from ae_jax.algorithms import vae
    from ae_jax.core import Batch

    x = np.load(where + "/x.npy", mmap_mode="r")
    part = np.array(x[:60] if process == "0" else x[60:])
    mesh = devices.mesh(seeds=2)
    data = Batch(devices.assembled(part, mesh))
    assert data.x.shape == (123, 6)
    algorithm = vae(networks.mlp((6,), 2, hidden=(8,), heads=2), optax.adam(1e-2))
    for epochs in (1, 2):  # goes on from what both have written
        folder = run_folder.Folder(where + "/run")
        with folder.opened({}):
            trained = loop.train(
                algorithm, data, epochs=epochs, batch_size=32, seeds=(0, 1), folder=folder, mesh=mesh, every_epochs=1
            )
    if process == "0":  # alone, as a report is written
        assert folder.whole() and folder.params()[0] == 2
    flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(trained.params)])
    np.save(where + f"/{process}.npy", flat)

    # A stream, of which each process reads its part; the last shard is one example.
    pixels, read = np.asarray(255 * x, np.uint8), []
    source = sources.stream.made("pixels", 123, lambda index: Batch(pixels[index], index.astype(np.int32)))
    def counted(index):
        read.extend(index.tolist())
        return source.read(index)
    stream = sources.Stream(replace(source, read=counted), 61, seed=0)
    (shard,) = shards.loaded(stream, [(1, 1)], mesh)
    index = stream.index(1, 1)
    np.testing.assert_array_equal(devices.host(shard.y), index)
    np.testing.assert_array_equal(devices.host(shard.x), source.batch(index).x)
    assert len(read) == 31 - int(process)
    read.clear()
    held_out = sources.Stream(source, 50, binarise=3)
    trained = loop.train(algorithm, stream, epochs=2, batch_size=32, seeds=(0, 1), mesh=mesh, validation=held_out)
    curve = [row[part]["loss"] for row in trained.history for part in ("train", "validation")]
    np.savez(where + f"/streamed-{process}.npz", curve=curve, read=read)

    assert devices.largest(int(process)) == 1
    def fail():
        raise ValueError("only the first one knows")
    try:
        said = devices.run_in_first(fail)
    except (RunError, ValueError) as error:
        said = str(error)
    assert said == "only the first one knows", said
    try:
        with run_folder.Folder(where + "/run").opened({"other": 1}):
            raise AssertionError("both must hear of it")
    except RunError as error:
        assert "other settings" in str(error)
"""


def start(pair, flags, where, *commands, variables=None):
    """Two processes on the loopback interface; {port} and {process} are filled in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    processes = []
    for i in range(2):
        fill = lambda part, i=i: part.format(port=port, process=i)
        env = environment(**{name: fill(value) for name, value in (variables or {}).items()})
        arguments = [pair, str(i), fill(flags), str(where), *commands]
        processes.append(subprocess.Popen([sys.executable, "-c", PARTS + PAIR, *arguments], env=env, **streams))
    return processes


def killed(processes, where):
    """Kills one process after the third epoch of the run in that folder -> the output of both up to then."""
    deadline = time.monotonic() + 600
    alive = lambda: all(process.poll() is None for process in processes)
    while len(run_folder.Folder(where).log()) < 3 and time.monotonic() < deadline and alive():
        time.sleep(0.01)
    died = not alive()
    processes[1].kill()
    time.sleep(1)
    processes[0].kill()  # as a scheduler does; by itself it would notice within JAX's heartbeat
    said = [process.communicate()[0] for process in processes]
    assert not died, said
    assert processes[1].returncode == -9
    assert 3 <= len(run_folder.Folder(where).log()) < 8, said
    assert run_folder.Folder(where).results() is None
    return said


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The folder of all, the commands in memory and of a stream, and what both processes of each pair have said."""
    where = tmp_path_factory.mktemp("pairs")
    for name, part in zip(("train", "test"), data.load("digits"), strict=True):
        (where / "set" / name).mkdir(parents=True)
        np.save(where / "set" / name / "0.npy", np.asarray(255 * part.x, np.uint8))
    # Two shards, with a checkpoint after each.
    stream = f"{MEMORY} --data {where / 'set'} --stream --shard-size 768 --validation 0.1 --every-minutes 0"
    (where / "parts").mkdir()
    np.save(where / "parts" / "x.npy", np.random.default_rng(0).random((123, 6)).astype(np.float32))
    first = start("first", "--coordinator auto", where, MEMORY, stream, variables=SLURM)
    said = [killed(first, where / "memory" / "killed")]
    if FULL:
        said.append(killed(start("second", FLAGS, where, MEMORY, stream), where / "stream" / "killed"))
    last = start("stream" if FULL else "memory", FLAGS, where, MEMORY, stream)
    said.append([process.communicate(timeout=600)[0] for process in last])
    assert [process.returncode for process in last] == [2, 2], said[-1]  # as the last command is refused
    return where, {"memory": MEMORY, "stream": stream}, said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "stream"])
def test_two_processes_train_as_one(pairs, name, tmp_path):
    where, commands, ((first, second), *_) = pairs
    assert first.count("report:") == 2
    assert "training" not in second  # one speaks
    cli.dispatch([*commands[name].split(), "--workdir", str(tmp_path / "one"), "--quiet"])
    many, one = run_folder.Folder(where / name / "unbroken"), run_folder.Folder(tmp_path / "one")
    curves = [[row["train"]["loss"][0] for row in folder.log()] for folder in (many, one)]
    assert len(curves[0]) == 8
    np.testing.assert_allclose(*curves, rtol=1e-5)
    assert many.results()["devices"]["processes"] == 2
    losses = [folder.results()["metrics"]["test loss"]["mean"] for folder in (many, one)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", pytest.param("stream", marks=THIRD)])
def test_two_processes_go_on_after_one_is_killed(pairs, name):
    """Both are started again, and the run ends with the unbroken one's bits."""
    broken, unbroken = (run_folder.Folder(pairs[0] / name / how) for how in ("killed", "unbroken"))
    curves = [[row["train"]["loss"][0] for row in folder.log()] for folder in (broken, unbroken)]
    assert curves[0] == curves[1]
    a, b = broken.params(), unbroken.params()
    assert a[0] == b[0] == 8
    assert provenance.checksum(a[1]) == provenance.checksum(b[1])


@pytest.mark.slow
def test_processes_with_other_settings_do_not_train_together(pairs):
    where, _, (*_, last) = pairs
    for said in last:
        assert "ae-jax: process 1 has other settings" in said
        assert "optimizer.lr: 0.011, not 0.001" in said
    assert not (where / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        (0, "do not see its file:\n  process 1: {where}/1"),
        (1, "keep: 12, not 2"),
        (2, "devices: 12, not 2"),
    ],
    ids=["workdir", "keep", "devices"],
)
def test_what_would_hang_or_abort_two_processes_is_said_by_both(pairs, case, message):
    where = pairs[0]
    for process in range(2):
        said = json.loads((where / f"refused-{process}.json").read_text())[case]
        assert message.replace("{where}", str(where)) in said


@pytest.mark.slow
def test_each_process_reads_its_own_part(pairs):
    where = pairs[0] / "parts"
    x = np.load(where / "x.npy")
    algorithm = vae(networks.mlp((6,), 2, hidden=(8,), heads=2), optax.adam(1e-2))
    alone = loop.train(algorithm, Batch(x), epochs=2, batch_size=32, seeds=(0, 1), progress=False)
    expected = np.concatenate([np.ravel(a) for a in jax.tree.leaves(alone.params)])
    for i in range(2):
        np.testing.assert_allclose(np.load(where / f"{i}.npy"), expected, rtol=1e-4, atol=1e-6)

    pixels = np.asarray(255 * x, np.uint8)
    source = data.stream.made("pixels", 123, lambda index: Batch(pixels[index]))
    stream, held_out = data.Stream(source, 61, seed=0), data.Stream(source, 50, binarise=3)
    alone = loop.train(algorithm, stream, epochs=2, batch_size=32, seeds=(0, 1), validation=held_out, progress=False)
    read = []
    for i in range(2):
        with np.load(where / f"streamed-{i}.npz") as found:
            curve = [row[part]["loss"] for row in alone.history for part in ("train", "validation")]
            np.testing.assert_allclose(found["curve"], curve, rtol=1e-5)
            read.append(found["read"])
    assert set(np.concatenate(read)) == set(range(123))
    # The shard that init saw and two epochs are 61 + 2 * 123; of the shard of one example both read it, and both read
    # one for the shape of all.
    assert [len(numbers) for numbers in read] == [31 + 2 * (31 + 31 + 1) + 1, 30 + 2 * (30 + 30 + 1) + 1]
    assert sum(map(len, read)) == 61 + 2 * 123 + 2 + 2
