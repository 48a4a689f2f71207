"""A failed seed ends alone, and is named beside all numbers of the run; and the direction in which metrics improve."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from probes import required, same_bits

from ae_jax import autoencoder, data, evaluation, networks
from ae_jax.algorithms import ALGORITHMS, classifier
from ae_jax.app.commands import measuring
from ae_jax.core import Batch, Metrics, Rule, epoch, start
from ae_jax.errors import RunError
from ae_jax.training import devices, loop, run_folder
from ae_jax.training.settings import heads

X = np.random.default_rng(0).random((12, 3)).astype(np.float32)
DATA = Batch(jnp.asarray(X))


def growing():
    """A member whose weight overflows in the third step of some seeds, and of the others never; it learns nothing else.

    Its metric rises and falls: `elbo` is best in epoch 2.
    """

    def init(key, data):
        speed = jnp.where(jax.random.uniform(key) < 0.5, 1e13, 1.1)
        return {"encoder": {"w": jnp.ones(()), "speed": speed, "steps": jnp.zeros(())}}

    def measured(p) -> Metrics:
        height = -((p["steps"] - 2.0) ** 2)
        return {"loss": p["w"], "elbo": height, "kl": height, "mine": -height}

    def update(params, memory, batch, key):
        p = params["encoder"]
        p = {**p, "w": p["w"] * p["speed"], "steps": p["steps"] + 1}
        return {"encoder": p}, memory, measured(p)

    def evaluate(params, batch, key) -> Metrics:
        return {name: jnp.full(len(batch.x), m) for name, m in measured(params["encoder"]).items()}

    rule = Rule(lambda params: (), update)
    base = autoencoder(networks.linear((3,), 2), optax.sgd(0.1))
    return base._replace(init=init, rule=rule, evaluate=evaluate)


def go(seeds, epochs=5, **options):
    return loop.train(
        growing(), DATA, **{"epochs": epochs, "batch_size": 12, "seeds": seeds, "progress": False, **options}
    )


@pytest.fixture(scope="module")
def seeds():
    """(some that fail, some that do not)."""
    speed = np.asarray(go(range(20), 1).params["encoder"]["speed"])
    bad, good = [np.flatnonzero(which).tolist() for which in (speed > 2, speed < 2)]
    assert min(len(bad), len(good)) >= 2
    return bad[:2], good[:2]


@pytest.mark.parametrize("patience", [None, 50])
def test_the_others_finish_to_the_bits_that_they_have_alone(seeds, patience, capsys):
    bad, good = seeds
    options = {"validation": DATA, "patience": patience}
    together = go([bad[0], good[0], bad[1], good[1]], **options)
    assert together.failed == {bad[0]: 3, bad[1]: 3}
    assert together.good == tuple(good)
    for seed in good:
        assert same_bits(together.of(seed), go([seed], **options).of(seed))
    for seed in bad:
        with pytest.raises(RunError, match=f"seed {seed} failed in epoch 3"):
            together.of(seed)
    assert np.isnan(together.params["encoder"]["w"][0])  # nobody takes them for good ones
    for row in together.history:
        gone = [value is None for value in row["train"]["loss"]]
        assert gone == [row["epoch"] >= 3, False] * 2
    assert f"seed {bad[0]} failed in epoch 3, seed {bad[1]} failed in epoch 3" in capsys.readouterr().err


def test_where_all_fail_the_run_does_and_nothing_is_overwritten(seeds, tmp_path):
    folder = run_folder.Folder(tmp_path / "run")
    with folder.opened({}), pytest.raises(RunError, match=r"in epoch 3 .* epoch 2"):
        go(seeds[0], folder=folder, every_epochs=1)
    assert folder.params()[0] == 2
    assert [(row["epoch"], set(row["train"]["loss"]) == {None}) for row in folder.log()] == [
        (1, False),
        (2, False),
        (3, True),
    ]


def test_a_run_goes_on_after_a_failure_as_it_would_have(seeds, tmp_path):
    bad, good = seeds
    both, folder = [bad[0], good[0]], run_folder.Folder(tmp_path / "run")
    for epochs in (2, 4, 6):  # before the failure, after it, and on
        with folder.opened({}):
            broken = go(both, epochs, folder=folder)
    whole = go(both, 6)
    assert broken.failed == whole.failed == {bad[0]: 3}
    assert same_bits(broken.of(good[0]), whole.of(good[0]))
    rows = lambda trained: [(row["epoch"], row["train"]) for row in trained.history]
    assert rows(broken) == rows(whole)


def test_a_stream_of_shards_says_the_same(seeds):
    bad, good = seeds
    source = data.Source("x", (3,), np.array([[0, 12]]), lambda index: Batch(X[index]))
    found = loop.train(
        growing(), data.Stream(source, 6, 0), epochs=4, batch_size=6, seeds=[bad[0], good[0]], progress=False
    )
    assert found.failed == {bad[0]: 2}  # two shards an epoch: the third step is in the second
    assert found.good == (good[0],)
    with pytest.raises(RunError, match="in epoch 2"):
        loop.train(growing(), data.Stream(source, 6, 0), epochs=4, batch_size=6, seeds=bad, progress=False)


def test_remarks_are_of_the_seeds_that_did_not_fail(seeds):
    bad, good = seeds
    trained = go([bad[0], good[0]], validation=DATA, monitor="elbo")
    coder = growing()._replace(encode=lambda params, x, key=None: x[:, :2])
    metrics = {"test explained_variance": {"values": [-1.0]}}  # of the good seed alone
    asked = SimpleNamespace(batch_size=12, epochs=9), SimpleNamespace(test=DATA)
    found = measuring.diagnose(coder, trained, *asked, 12, metrics)
    assert "worse than the mean example" in found[0]
    assert found[-1] == "stopped early at epoch 5 of 9 (the best is 2)"


def test_a_metric_that_a_seed_lacks_is_not_that_of_the_others(seeds, monkeypatch):
    trained = go(seeds[1])
    found = iter([{"test mse": 1.0}, {"test mse": 2.0, "linear_probe_accuracy": 0.9}])
    monkeypatch.setattr(evaluation, "all_metrics", lambda *_, **__: lambda *_: next(found))
    splits = SimpleNamespace(train=DATA, test=DATA, streams=None, dataset=SimpleNamespace(factors=None))
    measured = measuring.measure(growing()._replace(sample=None), trained, splits, 1, lambda _: None)
    probe = measured["metrics"]["linear_probe_accuracy"]
    assert probe["n"] == 2
    np.testing.assert_array_equal(probe["values"], [np.nan, 0.9])
    assert np.isnan(probe["mean"])
    assert measured["metrics"]["test mse"]["mean"] == 1.5


def test_over_a_mesh_too(seeds):
    bad, good = seeds
    assert go([bad[0], good[0]], mesh=devices.mesh()).failed == {bad[0]: 3}


# --------------------------------------------------------------------------------------------- direction


@pytest.mark.parametrize(("monitor", "better", "best"), [("elbo", None, 2), ("loss", None, 1), ("mine", "lower", 2)])
@pytest.mark.parametrize("validation", [None, DATA], ids=["train", "validation"])
def test_the_best_epoch_is_the_one_that_is_better(seeds, monitor, better, best, validation):
    seed = seeds[1][0]
    found = go([seed], monitor=monitor, better=better, validation=validation)
    assert found.best_epoch == [best]
    if validation is not None:
        assert found.of(seed)["encoder"]["steps"] == best


def test_patience_waits_for_more_of_what_is_better_higher(seeds):
    found = go([seeds[1][0]], 20, monitor="elbo", validation=DATA, patience=3)
    assert found.best_epoch == [2]
    assert len(found.history) == 5


@pytest.mark.parametrize(
    ("monitor", "match"),
    [
        ("kl", r"a metric without a better direction.*\['elbo', 'loss'\]$"),
        ("mine", "or give its direction"),
        ("acc", "measures"),
    ],
)
@pytest.mark.parametrize("validation", [None, DATA], ids=["train", "validation"])
def test_a_metric_that_cannot_choose_is_refused_before_anything_is_compiled(monitor, match, validation, monkeypatch):
    def compiling(*_, **__):
        raise AssertionError

    monkeypatch.setattr(loop, "programs", compiling)
    with pytest.raises(ValueError, match=match):
        go([0], monitor=monitor, validation=validation)


def test_a_direction_that_is_none_and_held_out_data_that_choose_nothing_are_refused():
    with pytest.raises(ValueError, match="better is 'min'; it must be one of higher, lower"):
        go([0], monitor="elbo", better="min")
    with pytest.raises(ValueError, match="x of the validation part of the data holds 1 values that are NaN"):
        go([0], validation=DATA._replace(x=jnp.asarray(DATA.x).at[1, 2].set(jnp.nan)))
    with pytest.raises(ValueError, match="x of the train part of the data holds 1 values that are NaN"):
        loop.train(growing(), DATA._replace(x=jnp.asarray(DATA.x).at[1, 2].set(jnp.inf)), epochs=1)
    learner = classifier(networks.mlp((3,), 2), optax.sgd(0.1), classes=2)
    labels = jnp.arange(12) % 2
    with pytest.raises(ValueError, match="none of 12 validation examples of the data has one"):
        loop.train(learner, DATA._replace(y=labels), epochs=1, validation=DATA._replace(y=0 * labels - 1))


def test_a_metric_that_is_never_finite_chooses_no_epoch(capsys):
    net = networks.linear((3,), 2)

    def run(least, seeds=(0, 1)):
        """Seeds whose draw is below `least` have a metric of NaN always, and the others in two epochs."""
        init = lambda key, data: {**net.init(key, data), "own": {"b": jax.random.uniform(key), "steps": jnp.zeros(())}}

        def update(params, memory, batch, key):
            own = params["own"]
            return params | {"own": {**own, "steps": own["steps"] + 1}}, memory, {"loss": own["b"], "elbo": own["b"]}

        def evaluate(params, batch, key) -> Metrics:
            own = params["own"]
            never = (own["b"] < least) | (own["steps"] < 3)
            return {"loss": own["b"][None], "elbo": jnp.where(never, jnp.nan, 1.0)[None]}

        member = autoencoder(net, optax.sgd(0.1))
        member = member._replace(init=init, rule=Rule(lambda params: (), update), evaluate=evaluate)
        given = {"epochs": 4, "seeds": seeds, "validation": DATA, "monitor": "elbo", "progress": False}
        return loop.train(member, DATA, **given)

    good = run(0.0)
    assert good.best_epoch == [3, 3]
    assert not capsys.readouterr().err
    with pytest.raises(RunError, match=r"the validation elbo of seed 0, 1 was infinite .* no epoch is the best"):
        run(1.0)
    own = np.asarray(good.params["own"]["b"])
    assert sorted(run(float(own.mean())).best_epoch) == [1, 3]
    told = f"the validation elbo of seed {own.argmin()} was infinite or not a number after every epoch, so no epoch"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_metric_of_every_member_is_described(name):
    needs = heads(name)
    make = networks.NETWORKS[needs.network]
    options = {"hidden": (4,)} if needs.network == "mlp" else {}
    options |= {} if needs.activation == "linear" else {"code_activation": needs.activation}
    net = make((6,), 4, heads=needs.number, **options)
    some, algorithm = (
        Batch(jnp.full((20, 6), 0.5), jnp.arange(20) % 2),
        ALGORITHMS[name](net, optax.sgd(0.1), **required(name)),
    )

    def measured(key):
        rule = epoch(algorithm, 10)
        params, memory, key_run = start(algorithm.init, rule, some, key)
        return rule.update(params, memory, some, key_run)[2] | algorithm.evaluate(params, some, key)

    names = set(jax.eval_shape(measured, jax.random.key(0)))
    assert names <= set(evaluation.METRICS)
    assert evaluation.better("loss") == "lower"


def test_directions_by_name():
    expected = {
        "test mse": "lower", "denoised mse (n=3)": "lower", "pca knn_accuracy (k=5)": "higher", "elbo": "higher",
        "bound": "higher", "test pseudo_likelihood": "higher", "linear_probe_accuracy": "higher", "kl": None,
        "test log_likelihood (k=100, n=1000)": "higher", "test explained_variance": "higher", "unknown": None,
    }  # fmt: skip
    assert {name: evaluation.better(name) for name in expected} == expected
    assert evaluation.describe("test elbo").endswith("in nats; higher is better")
    assert json.loads(json.dumps(evaluation.METRICS["elbo"]))[1] == "higher"
