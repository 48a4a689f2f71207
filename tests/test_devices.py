"""Many devices and many processes end where one does, also when some of them are killed on the way."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from ae_jax import cli, devices, run

ROOT = Path(__file__).parents[1]

EIGHT = """
import json, sys
from pathlib import Path
import jax, numpy as np, optax
from ae_jax import cli, data, devices, networks, run
from ae_jax.algorithms import vae
from ae_jax.core import Batch

where = Path(sys.argv[1])
x = data.load("digits").train.x
algorithm = vae(networks.mlp((8, 8, 1), 3, hidden=(16,), heads=2, dropout=0.1), optax.adam(1e-2))

def train(mesh, folder=None, epochs=2):
    return run.train(
        algorithm, Batch(x[:200]), epochs=epochs, batch_size=64, seeds=(0, 1), validation=Batch(x[200:260]),
        mesh=mesh, folder=folder, every_epochs=1, progress=False,
    )

def go(name, mesh, epochs):
    folder = run.Folder(where / name)
    with folder.opened({}):
        return train(mesh, folder, epochs)

def flat(trained):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(trained.params)])

kinds = ("none", "data", "seeds", "both")
meshes = {kind: devices.layout(kind, 2, 2 if kind == "seeds" else None) for kind in kinds}
shapes = {kind: mesh and dict(mesh.shape) for kind, mesh in meshes.items()}
assert shapes == {
    "none": None, "data": {"seeds": 1, "data": 8}, "seeds": {"seeds": 2, "data": 1}, "both": {"seeds": 2, "data": 4}
}, shapes
result = {kind: flat(train(mesh)) for kind, mesh in meshes.items()}

unbroken = go("unbroken", meshes["both"], 2)
go("broken", meshes["both"], 1)
broken = go("broken", meshes["both"], 2)
assert (flat(unbroken) == flat(broken)).all()
go("moved", meshes["both"], 1)
result["moved"] = flat(go("moved", None, 2))  # begun on eight devices, ended on one

wrong = {
    "seeds": lambda: train(devices.mesh(8, 1)),
    "batch": lambda: run.train(algorithm, Batch(x[:60]), epochs=1, mesh=meshes["data"], progress=False),
    "devices": lambda: devices.layout("data", 1, 9),
    "mesh": lambda: devices.mesh(2, 5),
}
said = {}
for name, call in wrong.items():
    try:
        call()
    except ValueError as error:
        said[name] = str(error)
np.savez(where / "result.npz", **result)
(where / "said.json").write_text(json.dumps(said))

command = "train vae --epochs 2 --hidden 16 --latents 3 --likelihood-samples 5 --quiet --workdir"
cli.dispatch([*command.split(), str(where / "cli"), "--seeds", "2", "--parallel", "both"])
"""


def environment(**more):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"} | more


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    where = tmp_path_factory.mktemp("eight")
    env = environment(JAX_NUM_CPU_DEVICES="8")
    done = subprocess.run([sys.executable, "-c", EIGHT, str(where)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return where


@pytest.mark.parametrize("layout", ["data", "seeds", "both", "moved"])
def test_eight_devices_train_what_one_does(eight, layout):
    with np.load(eight / "result.npz") as result:
        np.testing.assert_allclose(result[layout], result["none"], rtol=1e-3, atol=1e-5)
        if layout == "seeds":  # on CPU each seed is computed as it is alone
            np.testing.assert_array_equal(result[layout], result["none"])


def test_a_flag_spreads_a_run_and_one_device_reads_it(eight, tmp_path):
    command = "train vae --epochs 2 --hidden 16 --latents 3 --likelihood-samples 5 --quiet --seeds 2 --workdir"
    cli.dispatch([*command.split(), str(tmp_path / "one")])
    one, many = run.Folder(tmp_path / "one"), run.Folder(eight / "cli")
    assert one.config()["settings"] == many.config()["settings"]  # it is the same run, however it was computed
    for a, b in zip(one.log(), many.log(), strict=True):
        np.testing.assert_allclose(a["train"]["loss"], b["train"]["loss"], rtol=1e-5)
    assert many.results()["devices"] == {"seeds": 2, "data": 4, "processes": 1}
    expected, found = (results["metrics"]["test loss"]["values"] for results in (one.results(), many.results()))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for a, b in zip(*(jax.tree.leaves(folder.params()[1]) for folder in (one, many)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


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
        (["--coordinator", "here:1", "--processes", "2"], "which one this is"),
        (["--coordinator", "here:1", "--processes", "2", "--process", "2"], "counted from 0"),
        (["--coordinator", "auto", "--process", "1"], "leave them out"),
    ],
)
def test_wrong_flags(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cli.dispatch(["train", "vae", "--workdir", str(tmp_path / "r"), "--quiet", *options])
    assert not (tmp_path / "r").exists()


def test_alone_there_is_nobody_to_agree_with():
    assert devices.first()
    assert not devices.together()
    assert devices.worst(3) == 3
    with pytest.raises(KeyError):
        devices.in_first(lambda: {}["a"])
    part = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(devices.host(devices.assembled({"x": part}, devices.mesh())["x"]), part)


# ---------------------------------------------------------------------------------------- two processes

TRAIN = "train vae --epochs 8 --hidden 16 --latents 3 --likelihood-samples 5 --batch-size 64 --every-epochs 1"


def two(where, *options):
    """Two processes on the loopback interface that train one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--parallel", "data", *options]
    command = [sys.executable, "-m", "ae_jax", *TRAIN.split(), "--workdir", str(where), *together]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [subprocess.Popen([*command, "--process", str(i)], env=environment(), **streams) for i in range(2)]


def ended(processes):
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said


@pytest.mark.slow
def test_two_processes_train_as_one_and_go_on_after_one_is_killed(tmp_path):
    said = ended(two(tmp_path / "unbroken"))
    assert "report:" in said[0]
    assert "training" not in said[1]  # one speaks
    cli.dispatch([*TRAIN.split(), "--workdir", str(tmp_path / "one"), "--quiet"])
    curve = lambda where: [row["train"]["loss"][0] for row in run.Folder(tmp_path / where).log()]
    np.testing.assert_allclose(curve("unbroken"), curve("one"), rtol=1e-5)
    assert run.Folder(tmp_path / "unbroken").results()["devices"]["processes"] == 2

    killed = two(tmp_path / "killed")
    deadline = time.monotonic() + 200
    while len(run.Folder(tmp_path / "killed").log()) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed[1].kill()
    time.sleep(1)
    assert killed[1].wait() == -9
    killed[0].kill()  # as a scheduler does; by itself it would notice within JAX's heartbeat
    killed[0].communicate()
    assert 3 <= len(run.Folder(tmp_path / "killed").log()) < 8
    assert run.Folder(tmp_path / "killed").results() is None
    ended(two(tmp_path / "killed"))
    assert curve("killed") == curve("unbroken")
    a, b = (run.Folder(tmp_path / where).params() for where in ("killed", "unbroken"))
    assert a[0] == b[0] == 8
    assert run.checksum(a[1]) == run.checksum(b[1])
