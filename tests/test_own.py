"""Networks, members and runs of one's own: from other libraries, from a file, and in Python."""

import json
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import ae_jax
from ae_jax import data, networks, training
from ae_jax.app import cli
from ae_jax.core import Batch, Net, address
from ae_jax.errors import RunError
from ae_jax.training import plugins
from ae_jax.training.run_folder import Folder, write_sealed
from ae_jax.training.settings import OptimizerSettings, Settings, build

SHAPE, K = (4, 4, 1), 3
X = Batch(jax.random.uniform(jax.random.key(9), (50, *SHAPE)))
INSTALLED = frozenset(ae_jax.algorithms.ALGORITHMS)


# ------------------------------------------------------------------- networks of other libraries


def linen(sizes):
    module = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(sizes[1])])
    flat = lambda x: x.reshape(len(x), -1)
    return Net(lambda key, x: module.init(key, flat(x))["params"], lambda p, x: module.apply({"params": p}, flat(x)))


def of_nnx(sizes):
    make = lambda key: nnx.Sequential(
        nnx.Linear(sizes[0], 16, rngs=nnx.Rngs(key)), jnp.tanh, nnx.Linear(16, sizes[1], rngs=nnx.Rngs(key))
    )
    graph, _ = nnx.split(make(jax.random.key(0)))
    init = lambda key, x: nnx.state(make(key))
    return Net(init, lambda params, x: nnx.merge(graph, params)(x.reshape(len(x), -1)))


def of_equinox(sizes):
    eqx = pytest.importorskip("equinox")
    make = lambda key: eqx.nn.MLP(*sizes, 16, 1, key=key)
    static = eqx.partition(make(jax.random.key(0)), eqx.is_array)[1]
    init = lambda key, x: eqx.filter(make(key), eqx.is_array)
    return Net(init, lambda params, x: jax.vmap(eqx.combine(params, static))(x.reshape(len(x), -1)))


LIBRARIES = [linen, of_nnx, of_equinox]


@pytest.fixture(params=LIBRARIES, ids=lambda make: make.__name__)
def net(request):
    make = request.param
    return networks.from_nets(make((16, 2 * K)), make((K, 16)), SHAPE, K, heads=2)


def test_modules_of_any_library_are_networks(net, tmp_path):
    algorithm = ae_jax.vae(net, optax.adam(1e-2))
    with Folder(tmp_path).opened({"mine": 1}) as folder:
        trained = training.train(algorithm, X, epochs=20, batch_size=10, seeds=(0, 1), folder=folder, progress=False)
    losses = [row["train"]["loss"] for row in trained.history]
    assert np.less(losses[-1], losses[0]).all()
    params = ae_jax.load_run(tmp_path).params  # read without the library's classes
    np.testing.assert_array_equal(algorithm.encode(params, X.x), algorithm.encode(trained.of(0), X.x))
    assert algorithm.sample(params, jax.random.key(0), 5).shape == (5, *SHAPE)
    weights = [w for w in jax.tree.leaves(trained.of(0)) if w.ndim == 2]
    assert len(weights) == 4


def test_a_net_gets_a_key_in_training_alone():
    seen = []

    def apply(params, x, key=None):
        seen.append(key is not None)
        return x.reshape(len(x), -1) @ params["w"]

    encoder = Net(lambda key, x: {"w": jnp.ones((16, K))}, apply)
    decoder = Net(lambda key, z: {"w": jnp.ones((K, 16))}, lambda params, z: z @ params["w"])
    net = networks.from_nets(encoder, decoder, SHAPE, K)
    params = net.init(jax.random.key(0), X)
    seen.clear()
    net.apply(params, X.x)
    net.apply(params, X.x, jax.random.key(1))
    assert seen == [False, True]
    z, output = net.apply(params, X.x)
    np.testing.assert_allclose(output.reshape(50, -1), z @ params["decoder"]["w"], rtol=1e-6)


def test_functions_that_do_not_fit_are_refused():
    good, wide = linen((16, K)), linen((16, K + 1))
    with pytest.raises(ValueError, match=r"the encoder makes \(2, 4\) .*heads=1 vectors of latents=3"):
        networks.from_nets(wide, linen((K, 16)), SHAPE, K)
    with pytest.raises(ValueError, match=r"the decoder makes \(2, 16\) .*32 numbers for each, of \(4, 4, 1, 2\)"):
        networks.from_nets(good, linen((K, 16)), SHAPE, K, outputs=2)
    counted = Net(lambda key, x: {"w": jnp.ones((16, K)), "count": jnp.zeros((), int)}, lambda p, x: good.apply(p, x))
    with pytest.raises(ValueError, match=r"the init of the encoder gives \['count'\] of dtype int32, and params are"):
        networks.from_nets(counted, linen((K, 16)), SHAPE, K)
    kept = lambda key, x: {"w": jnp.ones((16, K)), "key": key}
    with pytest.raises(ValueError, match=r"\['key'\] of dtype key<.*draw with the key of apply"):
        networks.from_nets(Net(kept, good.apply), linen((K, 16)), SHAPE, K)
    with pytest.raises(TypeError, match=r"the decoder is .*core\.Net"):
        networks.from_nets(good, jnp.tanh, SHAPE, K)
    with pytest.raises(ValueError, match="has the shape"):
        networks.from_nets(good, linen((K, 16)), SHAPE, K).init(jax.random.key(0), Batch(jnp.zeros((2, 5))))


# ------------------------------------------------------------------------------------------- one step


def three(name):
    if name == "sparse":  # statistics of the whole set before each pass
        return ae_jax.sparse(networks.mlp(SHAPE, K, hidden=(8,), code_activation="sigmoid"), optax.adam(1e-2))
    if name == "denoising":
        return ae_jax.denoising(networks.mlp(SHAPE, K, hidden=(8,), dropout=0.2), optax.adam(1e-2))
    return ae_jax.vae(networks.mlp(SHAPE, K, hidden=(8,), heads=2), optax.adam(1e-2))


@pytest.mark.parametrize("name", [pytest.param("vae", marks=pytest.mark.optimised), "sparse", "denoising"])
def test_the_last_step_replayed_has_the_bits_of_the_run(name, tmp_path):
    algorithm = three(name)
    settings = {"batch_size": 16, "progress": False, "seeds": (3, 7)}
    with Folder(tmp_path).opened({}) as folder:
        training.train(algorithm, X, epochs=2, folder=folder, **settings)
        whole = training.train(algorithm, X, epochs=3, folder=folder, **settings)
    for since in (None, Folder(tmp_path)):  # from the start, and from the checkpoint of epoch 2
        last = training.step(algorithm, 7, 2, 3, X, batch_size=16, since=since)  # 50 = 3 * 16 + 2
        learned = ("encoder", "decoder")
        for group in learned:
            jax.tree.map(np.testing.assert_array_equal, last.params[group], whole.of(7)[group])
        for group in set(last.params) - set(learned):  # XLA adds up a statistic otherwise, in the last bit
            np.testing.assert_allclose(last.params[group], whole.of(7)[group], rtol=1e-6)
    key = address(jax.random.key(7), "epoch", 2, *((1,) if algorithm.before else ()))
    assert last.key == address(key, "step", 3)
    order = jax.random.permutation(address(key, "order"), 50)
    np.testing.assert_array_equal(last.batch.x, X.x[order[48:]])


def test_a_loaded_run_learns_as_it_was_trained(tmp_path):
    """Its schedule and its member depend on the number of training examples."""
    chosen = Settings(
        algorithm="beta_tc_vae", network="mlp", network_options={"hidden": (8,)}, data="own", latents=K, epochs=2,
        batch_size=16, seeds=(3,), optimizer=OptimizerSettings(schedule="cosine", warmup_epochs=0.5),
    )  # fmt: skip
    with Folder(tmp_path).opened(chosen.to_json()) as folder:
        algorithm = build(chosen, SHAPE, len(X.x))
        learned = training.train(algorithm, X, epochs=2, batch_size=16, seeds=(3,), folder=folder, progress=False)
    step = lambda: training.step(ae_jax.load_run(tmp_path).algorithm, 3, 1, 3, X, batch_size=16)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), step().params, learned.of(3))

    content = folder.config()
    del content["run"]["examples"]  # as in the run of an older version
    write_sealed(tmp_path / "config.json", content)
    run = ae_jax.load_run(tmp_path)
    assert run.algorithm.encode(run.params, X.x).shape == (len(X.x), K)
    with pytest.raises(RunError, match=r"does not record the number N of .* \(algorithm=beta_tc_vae\): to replay"):
        run.algorithm.rule.init(run.params)
    content["settings"]["algorithm"] = "vae"
    write_sealed(tmp_path / "config.json", content)
    with pytest.raises(RunError, match=r"\(schedule=cosine\)"):
        ae_jax.load_run(tmp_path).algorithm.rule.init(run.params)
    content["settings"]["optimizer"] |= {"schedule": "constant", "warmup_epochs": 0.0}
    write_sealed(tmp_path / "config.json", content)
    ae_jax.load_run(tmp_path).algorithm.rule.init(run.params)
    content["run"]["examples"] = 0
    write_sealed(tmp_path / "config.json", content)
    with pytest.raises(RunError, match=r"is damaged .its examples is 0"):
        ae_jax.load_run(tmp_path)


def test_steps_follow_each_other():
    algorithm = three("vae")
    first, second = (training.step(algorithm, 0, 0, t, X, batch_size=16) for t in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, second.before, first.params)
    params, _, metrics = jax.jit(algorithm.rule.update)(first.params, first.memory, second.batch, second.key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), params, second.params)
    np.testing.assert_allclose(metrics["loss"], second.metrics["loss"], rtol=1e-6)


def test_steps_that_a_run_does_not_have_are_refused(tmp_path):
    algorithm = three("vae")
    with pytest.raises(ValueError, match=r"t 4; .*the steps 0 to 3"):
        training.step(algorithm, 0, 0, 4, X, batch_size=16)
    with pytest.raises(ValueError, match="after 2 passes, and epoch 1"):
        training.step(algorithm, 0, 1, 0, X, batch_size=16, since=(2, {}, ()))
    with Folder(tmp_path).opened({}) as folder:
        training.train(algorithm, X, epochs=1, seeds=(1,), folder=folder, progress=False)
    with pytest.raises(RunError, match=r"no seed 0; it was trained with \[1\]"):
        training.step(algorithm, 0, 1, 0, X, since=folder)
    with pytest.raises(RunError, match="the data are not those"):
        training.step(algorithm, 1, 1, 0, Batch(X.x + 1), since=folder)
    with pytest.raises(ValueError, match=r"has no transform: leave it out"):
        training.step(algorithm, 1, 1, 0, X, since=folder, transform=lambda batch, key: batch)
    with pytest.raises(ValueError, match="below 2\\^32"):
        training.step(algorithm, 2**32, 0, 0, X)
    given = jax.tree.map(lambda a: a[None], three("vae").init(jax.random.key(0), X))
    with Folder(tmp_path / "begun").opened({}) as folder:
        begun = training.stages.resumed(algorithm, given)
        training.train(algorithm, X, epochs=1, start=begun, folder=folder, progress=False)
    with pytest.raises(RunError, match="began with params of another run, and no checkpoint up to epoch 0 is left"):
        training.step(algorithm, 0, 0, 0, X, since=folder)
    assert training.step(algorithm, 0, 1, 0, X, since=folder).params.keys() == given.keys()


@pytest.mark.parametrize(
    ("recorded", "kind", "told"),
    [
        ({"shape": [4], "seeds": [0], "train_checksum": 1}, RunError, "the data are not those"),
        ({"batch_size": 16}, ValueError, r"batch_size is 128, .* has 16: give batch_size=16"),
        ({"shard_size": 0}, RunError, "learned from a stream"),
        ({"shape": [4], "seeds": [0]}, RunError, "learned from a stream"),
        ({"binarise": "dynamic"}, ValueError, "transform is None, .* transforms its batches: give its own transform"),
        ({"start_from": {"run": "other"}}, RunError, "no checkpoint up to epoch 0 is left to begin from"),
    ],
)
def test_a_step_of_another_run_than_the_folders_is_refused(tmp_path, recorded, kind, told):
    with Folder(tmp_path).opened(recorded) as folder, pytest.raises(kind, match=told):
        training.step(three("vae"), 0, 0, 0, X, since=folder)


# ------------------------------------------------------------------------------------------- one call


def test_a_run_in_one_call_is_that_of_train_and_compiles_once():
    algorithm, traces = three("vae"), []

    def init(key, batch):
        traces.append(1)
        return algorithm.init(key, batch)

    counted = algorithm._replace(init=init)
    ran = ae_jax.run(counted, X, X, epochs=2, batch_size=16, seeds=(3, 7))
    known = len(traces)
    again = ae_jax.run(counted, Batch(X.x + 0), X, epochs=2, batch_size=16, seeds=[3, 7])
    assert len(traces) == known > 0
    jax.tree.map(np.testing.assert_array_equal, ran, again)
    trained = training.train(algorithm, X, epochs=2, batch_size=16, seeds=(3, 7), progress=False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ran.params, trained.params)
    assert ran.history["loss"].shape == (2, 2)
    assert ran.metrics["elbo"].shape == (2,)
    with pytest.raises(ValueError, match="seeds are"):
        ae_jax.run(algorithm, X, epochs=1, seeds=0)
    assert ae_jax.run(algorithm, X, epochs=1).metrics == {}


# ------------------------------------------------------------------------------------- runs of Python


def chosen(**changes):
    settings = {
        "algorithm": "vae",
        "network": "mlp",
        "data": "digits",
        "latents": 2,
        "epochs": 1,
        "batch_size": 500,
        "seeds": (4, 5),
        "network_options": {"hidden": (8,)},
    }
    return Settings(**settings | changes)


def test_a_run_of_python_with_settings_is_opened_by_every_command(tmp_path, capsys):
    settings, (train, _) = chosen(), data.load("digits")
    algorithm = build(settings, train.x.shape[1:], len(train.x))
    where = tmp_path / "run"
    with Folder(where).opened(settings) as folder:
        trained = training.train(
            algorithm, train, epochs=1, batch_size=500, seeds=(4, 5), folder=folder, progress=False
        )
    with Folder(where).opened(settings) as folder:  # goes on, with the same settings
        training.train(algorithm, train, epochs=1, batch_size=500, seeds=(4, 5), folder=folder, progress=False)
    run = ae_jax.load_run(str(where))
    assert run.seed == 4
    assert run.settings["shape"] == [8, 8, 1]
    jax.tree.map(np.testing.assert_array_equal, run.params, trained.of(4))
    jax.tree.map(np.testing.assert_array_equal, run.of(5), trained.of(5))
    np.testing.assert_array_equal(run.algorithm.encode(run.params, train.x), algorithm.encode(run.params, train.x))
    np.testing.assert_array_equal(run.data.train.x, train.x)
    for command in (
        ["evaluate", where, "--quiet", "--samples", "2"],
        ["encode", where, "digits", tmp_path / "codes.npy"],
        ["sample", where, tmp_path / "x.npy", "-n", "3"],
        ["report", where],
        ["index", where, "digits", tmp_path / "i.npz"],
    ):
        cli.dispatch(list(map(str, command)))
    assert np.load(tmp_path / "codes.npy").shape == (360, 2)
    assert (where / "report.html").exists()
    with pytest.raises(RunError, match=r"no seed 6"):
        ae_jax.load_run(where, 6)


def test_a_run_of_python_on_other_data_says_so(tmp_path):
    settings, (train, _) = chosen(), data.load("digits")
    algorithm = build(settings, train.x.shape[1:], len(train.x))
    with Folder(tmp_path).opened(settings) as folder:
        training.train(algorithm, Batch(train.x[:100]), epochs=1, folder=folder, seeds=(4, 5), progress=False)
    with pytest.raises(RunError, match="digits has changed since"):
        _ = ae_jax.load_run(tmp_path).data


def test_settings_of_ones_own_give_params_and_say_what_is_missing(tmp_path, capsys):
    algorithm = three("vae")
    with Folder(tmp_path).opened({"mine": 1}) as folder:
        trained = training.train(algorithm, X, epochs=1, seeds=(4, 5), folder=folder, progress=False)
    run = ae_jax.load_run(tmp_path, 5)
    jax.tree.map(np.testing.assert_array_equal, run.params, trained.of(5))
    assert run.settings["mine"] == 1
    assert run.settings["seeds"] == [4, 5]
    for part in ("algorithm", "data"):
        with pytest.raises(RunError, match=r"lack .*load_run\(.*algorithm=algorithm"):
            getattr(run, part)
    assert ae_jax.load_run(tmp_path, algorithm=algorithm).algorithm is algorithm
    net = lambda shape=SHAPE, hidden=(8,): networks.mlp(shape, K, hidden=hidden, heads=2)
    for other, told in (
        (ae_jax.importance(net(), optax.sgd(0.1)), "of bound only one of the two is a metric"),
        (ae_jax.vae(net(hidden=(7,)), optax.sgd(0.1)), r"layer_0/bias is \[8\] in the run and \[7\] in the one given"),
        (ae_jax.vae(net((5,)), optax.sgd(0.1)), "cannot learn from data of that shape"),
    ):
        with pytest.raises(RunError, match=f"is not the one that it trained: .*{told}"):
            ae_jax.load_run(tmp_path, algorithm=other)
    capsys.readouterr()
    assert ae_jax.load_run(tmp_path, algorithm=three("vae")).algorithm.decodes  # the same one, made again
    assert capsys.readouterr().err == ""
    tanh = ae_jax.vae(networks.mlp(SHAPE, K, hidden=(8,), heads=2, activation="tanh"), optax.sgd(0.1))
    for other, told in (
        (
            ae_jax.vae(net(), optax.sgd(0.1), beta=2.0),
            "note: evaluate of the algorithm given for .* computes some",
        ),
        (tanh, "note: encode and decode and evaluate of the algorithm given for .* compute something else"),
    ):
        ae_jax.load_run(tmp_path, algorithm=other)
        assert re.search(told, capsys.readouterr().err)
    with pytest.raises(RunError, match="no seed 6"):
        ae_jax.load_run(tmp_path, 6)
    with (
        Folder(tmp_path).opened({"mine": 1}) as folder,
        pytest.raises(RunError, match=r"seeds: \[4, 5\] there, \[0, 1\] now"),
    ):
        training.train(algorithm, X, epochs=2, seeds=(0, 1), folder=folder, progress=False)


# ---------------------------------------------------------------------------------------------- plugins

PLUGIN = '''
"""A member and a network of one's own."""
import jax
from ae_jax import networks
from ae_jax.core import Algorithm, Autoencoder, Net, Optimizer
from ae_jax.objectives.latent import GaussianAutoencoder


def mine(net: GaussianAutoencoder, optimizer: Optimizer, *, strength: float = 0.5) -> Algorithm:
    """A bound with half of its KL.

    Args:
        net: the network.
        optimizer: an optax optimizer.
        strength: weight of the KL.
    """
    from ae_jax import vae

    return vae(net, optimizer, beta=strength)


def narrow(shape, latents, *, heads: int = 1, width: int = 4) -> Autoencoder:
    """One hidden layer.

    Args:
        width: units of the layer.
    """
    return networks.mlp(shape, latents, hidden=(width,), heads=heads)
'''


@pytest.fixture
def plugin(tmp_path):
    """A plugin's file; the registries are as before afterwards."""
    file = tmp_path / "own.py"
    file.write_text(PLUGIN)
    yield file
    for known in list(plugins._loaded.values()):
        plugins._forget(known)


def forget_all():
    for known in list(plugins._loaded.values()):
        plugins._forget(known)


def test_a_member_and_a_network_from_a_file_are_used_by_every_command(plugin, tmp_path, capsys):
    where = tmp_path / "run"
    options = (
        "--network narrow --net-width 6 --strength 0.25 --data digits --epochs 1 --latents 2 --batch-size 500 --quiet"
    )
    cli.dispatch(["--plugin", str(plugin), "train", "mine", *options.split(), "--workdir", str(where)])
    settings = json.loads((where / "config.json").read_text())["settings"]
    assert settings["hyper"] == {"strength": 0.25}
    assert settings["network_options"] == {"width": 6}
    (entry,) = settings["plugins"]
    assert entry["file"] == str(plugin)
    assert entry["names"] == ["mine", "narrow"]
    assert "mine on digits" in (where / "report.html").read_text()
    forget_all()  # as another process
    assert "mine" not in ae_jax.algorithms.ALGORITHMS
    for command in (
        ["evaluate", where, "--quiet", "--samples", "2"],
        ["export", where, tmp_path / "export"],
        ["index", where, "digits", tmp_path / "i.npz"],
        ["search", tmp_path / "i.npz", tmp_path / "query.npy", "-k", "1"],
    ):
        np.save(tmp_path / "query.npy", np.zeros((1, 8, 8, 1), np.float32))
        cli.dispatch(list(map(str, command)))
    assert ae_jax.load_run(where).params["encoder"]["layer_0"]["kernel"].shape == (64, 6)
    # the same command goes on, or says that the run is finished
    cli.dispatch(["train", "mine", *options.split(), "--workdir", str(where), f"--plugin={plugin}"])
    capsys.readouterr()
    cli.dispatch(["--plugin", str(plugin), "list"])
    assert "narrow" in capsys.readouterr().out


def test_a_run_whose_plugin_is_gone_or_changed_says_where_it_was(plugin, tmp_path, capsys):
    where = tmp_path / "run"
    plugins.load(plugin)
    settings, (train, _) = chosen(algorithm="mine", network="narrow", network_options={}), data.load("digits")
    algorithm = build(settings, (8, 8, 1), len(train.x))
    with Folder(where).opened(settings) as folder:
        training.train(algorithm, train, epochs=1, seeds=(4, 5), folder=folder, progress=False)
    forget_all()
    plugin.write_text(PLUGIN + "\n# more\n")
    with pytest.raises(RunError, match=r"mine and narrow came from the plugin .*own\.py, which has changed since"):
        ae_jax.load_run(where)
    plugin.rename(tmp_path / "moved.py")
    with pytest.raises(RunError, match=r"own\.py, which is no longer there: restore it, or give"):
        ae_jax.load_run(where)
    plugins.load(tmp_path / "moved.py")  # in its place, as its user says
    assert ae_jax.load_run(where).seed == 4
    assert "the plugin given now takes its place" in capsys.readouterr().err
    forget_all()
    plugin.write_text(PLUGIN)
    assert ae_jax.load_run(where).algorithm.decodes


def test_a_changed_plugin_takes_the_place_of_what_it_was(plugin):
    plugins.load(plugin)
    assert {"mine"} == ae_jax.algorithms.ALGORITHMS.keys() - INSTALLED
    plugin.write_text(PLUGIN.replace("def mine", "def ours").replace("strength: float = 0.5", "strength: float = 0.75"))
    assert list(plugins.load(plugin).members) == ["ours"]
    assert {"ours"} == ae_jax.algorithms.ALGORITHMS.keys() - INSTALLED
    plugin.write_text("x = 1 / 0")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        plugins.load(plugin)
    assert {"ours"} == ae_jax.algorithms.ALGORITHMS.keys() - INSTALLED  # as before the load that failed


def test_a_plugin_that_makes_something_else_is_refused_by_name(plugin):
    plugin.write_text("def own(net, optimizer): ...\ndef other(shape, latents, *, heads: int = 1): ...")
    plugins.load(plugin)
    for algorithm, network, told in (
        ("own", "mlp", "the algorithm own makes NoneType, and must make Algorithm"),
        ("vae", "other", "the network other makes NoneType, and must make Autoencoder"),
    ):
        with pytest.raises(ValueError, match=told):
            build(chosen(algorithm=algorithm, network=network, network_options={}), (4,), 50)


def test_an_error_inside_a_plugin_is_told_with_its_file(plugin, monkeypatch):
    plugin.write_text(
        "def own(net, optimizer): return {}['lost']\ndef other(shape, latents, *, heads: int = 1): 1 + 'a'"
    )
    plugins.load(plugin)
    options: Any = {"network_options": {}}
    with pytest.raises(ValueError, match=r"own of the plugin .*own\.py, line 1, fails: KeyError: 'lost'"):
        build(chosen(algorithm="own", network="mlp", **options), (4,), 50)
    with pytest.raises(ValueError, match=r"other of the plugin .*own\.py, line 2, fails: TypeError"):
        build(chosen(algorithm="vae", network="other", **options), (4,), 50)
    monkeypatch.setenv("AE_JAX_TRACEBACK", "1")
    with pytest.raises(KeyError):
        build(chosen(algorithm="own", network="mlp", **options), (4,), 50)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("x @ jnp.ones((3, 2))", r"own\.py, line 9, fails: (TypeError|ValueError): dot_general"),
        ("x if x.sum() > 0 else -x", r"own\.py, line 9, fails: TracerBoolConversionError"),
        ("{}['lost']", r"own\.py, line 9, fails: KeyError: 'lost'"),
        ("refuse('pixels are lost')", "^pixels are lost"),
    ],
)
def test_a_plugins_loss_that_fails_is_told_with_its_line(plugin, tmp_path, wrong, told):
    plugin.write_text(f"""import jax.numpy as jnp
from ae_jax import autoencoder
from ae_jax.core import Loss, descend
def refuse(text):
    raise ValueError(text)
def lossy(net, optimizer):
    def loss(params, batch, key):
        x = net.apply(params, batch.x, key)[1]
        return Loss(({wrong}).sum((1, 2, 3)))
    return autoencoder(net, optimizer)._replace(rule=descend(loss, optimizer))
MEMBERS = (lossy,)
""")
    given = ["--plugin", str(plugin), "train", "lossy", "--epochs", "1", "--workdir", str(tmp_path / "run"), "--quiet"]
    with pytest.raises(ValueError, match=told):
        cli.dispatch(given)
    assert not (tmp_path / "run").exists()


def test_plugins_that_do_not_fit_are_refused(plugin, tmp_path):
    def refused(text, match):
        file = tmp_path / "bad.py"
        file.write_text(text)
        before = dict(ae_jax.algorithms.ALGORITHMS), dict(networks.NETWORKS)
        with pytest.raises(ValueError, match=match):
            plugins.load(file)
        assert before == (ae_jax.algorithms.ALGORITHMS, networks.NETWORKS)

    refused("x = 1 / 0", r"bad\.py fails: ZeroDivisionError: division by zero")
    refused("x = 1", "offers nothing")
    refused("def vae(net, optimizer): ...", "a member vae, and that name is taken")
    refused("def other(shape, latents): ...", "other .*has no parameter heads")
    refused("MEMBERS = (3,)", "tuples of functions")
    refused("import sys\nsys.exit('bye')", "fails: SystemExit: bye")
    refused("def own(net, optimizer, *, strength=0.5): ...", r"strength of own in .*bad\.py has no type: write both")
    refused("def own(net, optimizer, *, strength: float): ...", "strength of own .* has no default")
    refused("def own(net, optimizer, strength: float = 0.5): ...", "strength of own .* is positional: write a \\*")
    refused(
        "def own(net, optimizer, *, sizes: tuple = [3]): ...", "default of sizes of own .* is a list.*: write a tuple"
    )
    refused("def own(net, optimizer, *, strength: 'Real' = 0.5): ...", "annotations of own .*'Real' is not defined")
    with pytest.raises(ValueError, match=r"none\.py is not there"):
        plugins.load(tmp_path / "none.py")
    (tmp_path / "text.txt").write_text("")
    with pytest.raises(ValueError, match=r"must end in \.py"):
        plugins.load(tmp_path / "text.txt")
    with pytest.raises(ValueError, match="--plugin wants a file"):
        cli.dispatch(["list", "--plugin"])
    assert plugins.load(plugin) is plugins.load(str(plugin))
    assert list(plugins.load(plugin).members) == ["mine"]


# ------------------------------------------------------------------------------------ means and draws


def test_samples_are_means_and_draws_have_the_noise(tmp_path, capsys):
    where = tmp_path / "run"
    cli.dispatch(f"train vae --data digits --epochs 1 --latents 2 --net-hidden 4 --quiet --workdir {where}".split())
    run = ae_jax.load_run(where)
    capsys.readouterr()
    cli.dispatch(["sample", str(where), str(tmp_path / "means.npy"), "-n", "7"])
    assert "means of x, E[x | z] of drawn z; --draws" in capsys.readouterr().out
    cli.dispatch(["sample", str(where), str(tmp_path / "draws.npy"), "-n", "7", "--draws"])
    assert "draws of x" in capsys.readouterr().out
    draws = np.load(tmp_path / "draws.npy")
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert not set(np.unique(np.load(tmp_path / "means.npy"))) <= {0.0, 1.0}
    assert run.algorithm.sample is not None
    assert run.algorithm.draw is not None
    means = run.algorithm.sample(run.params, jax.random.key(1), 4000).mean(0)
    drawn = run.algorithm.draw(run.params, jax.random.key(2), 4000).mean(0)
    np.testing.assert_allclose(drawn, means, atol=0.05)  # of 4000 bits: 5 deviations are 0.04


def test_members_without_a_distribution_of_x_draw_none(tmp_path):
    where = tmp_path / "run"
    cli.dispatch(
        f"train adversarial --data digits --epochs 1 --latents 2 --net-hidden 4 --quiet --workdir {where}".split()
    )
    with pytest.raises(RunError, match=r"adversarial has no draws of examples.*leave --draws out"):
        cli.dispatch(["sample", str(where), str(tmp_path / "x.npy"), "--draws"])
    assert not (tmp_path / "x.npy").exists()


def test_made_and_rbm_draw_bits():
    for name in ("made", "rbm"):
        net = networks.rbm(SHAPE, K) if name == "rbm" else networks.mlp(SHAPE, K, hidden=())
        options = {"sample_steps": 2} if name == "rbm" else {}
        algorithm = getattr(ae_jax, name)(net, optax.sgd(0.1), **options)
        params = algorithm.init(jax.random.key(0), X)
        x = algorithm.draw(params, jax.random.key(1), 20)
        assert x.shape == (20, *SHAPE)
        assert set(np.unique(x)) == {0.0, 1.0}
