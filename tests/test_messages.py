"""What is said of mistakes in Python, and advice that arrives where it says."""

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

import ae_jax
from ae_jax import commands, core, data, networks, run, settings
from ae_jax.algorithms import ALGORITHMS
from ae_jax.core import Batch
from ae_jax.networks.mlp import MLP

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
    with pytest.raises(TypeError, match=r"the optimizer is 0\.001; give one of optax, optax\.adam\(0\.001\) say"):
        ALGORITHMS[name](net, 1e-3)


@pytest.mark.parametrize("given", [1, None, "adam", optax.adam])
def test_what_is_no_optimizer_is_named(given):
    with pytest.raises(TypeError, match=r"give one of optax, optax\.adam\(0\.001\) say"):
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
        "train": lambda x: run.train(algorithm, x, epochs=1, progress=False),
    }


@pytest.mark.parametrize("name", calls())
def test_what_is_no_batch_is_named(name):
    call = calls()[name]
    with pytest.raises(TypeError, match=r"the data are ndarray, not a Batch: give Batch\(x\)"):
        call(X)
    with pytest.raises(TypeError, match=r"the data are tuple, not a Batch"):
        call((X, None))
    with pytest.raises(TypeError, match=r"the data are Dataset, not a Batch: give its part, data\.train"):
        call(data.Dataset("set", Batch(X), Batch(X), "here"))
    call(Batch(X))


def test_a_module_of_another_kind_is_named():
    class Own(nnx.Module):
        pass

    decoder = MLP((4, 16), nn.relu, lambda h: h, "glorot")
    with pytest.raises(TypeError, match=r"the encoder is a .*Own; .* modules of flax\.linen"):
        networks.pair(Own(), decoder, (4, 4, 1), 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"the decoder is the class MLP; .* made like Encoder\(\)"):
        networks.pair(decoder, MLP, (4, 4, 1), 2)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------- the README's network


def readme():
    """What README's example of a network of one's own defines."""
    text = (ROOT / "README.md").read_text()
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "networks.pair" in c]
    assert "reshape(len(x), -1)" in code
    found = {}
    exec(code, found)
    return found


def test_an_encoder_that_reshapes_by_the_length_of_its_batch_is_exported(capsys):
    net, test = (readme()[name] for name in ("net", "test"))
    params = net.init(jax.random.key(0), test)
    program = commands.exported(lambda x: net.encode(params, x), (8, 8, 1))
    call = jax.export.deserialize(bytearray(program)).call
    for count in (1, 3, 7):  # any number at once
        np.testing.assert_allclose(call(test.x[:count]), net.encode(params, test.x[:count]), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_raises_its_own_error():
    with pytest.raises(TypeError, match="contracting dimensions"):
        commands.exported(lambda x: x @ jnp.ones(5), (4, 4, 1))


# ------------------------------------------------------------------------------------ folders that are no runs


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "README.html").write_text("<html>")
    with pytest.raises(run.RunError, match=r"README\.html is a file; a run is a folder, the --workdir"):
        commands.evaluate(tmp_path / "README.html", quiet=True)
    with pytest.raises(run.RunError, match=r"is not a run of ae-jax: it has no config\.json"):
        commands.evaluate(tmp_path / "none", quiet=True)


def test_a_run_of_python_is_used_as_the_message_says(tmp_path):
    algorithm = ae_jax.autoencoder(NET, optax.sgd(0.1))
    folder = run.Folder(tmp_path / "run")
    with folder.opened({"mine": 1}):
        trained = run.train(algorithm, Batch(X), epochs=1, batch_size=3, folder=folder, progress=False)
    with pytest.raises(run.RunError, match=r"by run\.train in Python.*no shape, validated, optimizer") as told:
        commands.open_run(tmp_path / "run")
    (advice,) = re.findall(r"epoch, state = run\.Folder\(.*?\)\.params\(\)", str(told.value))
    (one,) = re.findall(r"jax\.tree\.map\(.*?state\.params\)", str(told.value))
    found = {"run": run, "jax": jax}
    exec(f"{advice}\nparams = {one}", found)
    assert found["epoch"] == 1
    np.testing.assert_array_equal(
        algorithm.encode(found["params"], jnp.asarray(X)), algorithm.encode(trained.of(0), jnp.asarray(X))
    )
