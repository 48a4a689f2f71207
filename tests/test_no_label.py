"""-1 is no label: not a class, not an index, and no example of it counts where labels are compared."""

import io
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import study

from ae_jax import data, evaluation, networks
from ae_jax.algorithms import autoencoder, classifier
from ae_jax.app import plots
from ae_jax.app.commands import loading, projecting, runs, training
from ae_jax.core import Batch, average, epoch
from ae_jax.data.dataset import make_batch
from ae_jax.errors import RunError
from ae_jax.evaluation import clustering, diagnosis, probes
from ae_jax.objectives import terms
from ae_jax.training import loop, settings, shards

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
CODES = (np.eye(3)[Y] + RNG.normal(scale=0.6, size=(60, 3))).astype(np.float32)
HIDDEN = np.where(np.arange(60) % 4 == 1, -1, Y)  # a quarter without a label
KNOWN = HIDDEN >= 0


def test_probes_are_those_of_the_labelled_alone():
    for measure in (probes.linear_probe, probes.knn_accuracy):
        told = measure(CODES, HIDDEN, CODES[::-1], HIDDEN[::-1])
        alone = measure(CODES[KNOWN], Y[KNOWN], CODES[::-1][KNOWN[::-1]], Y[::-1][KNOWN[::-1]])
        assert told == alone > 0.5
        with pytest.raises(ValueError, match="none of 60 examples has a label"):
            measure(CODES, Y, CODES, np.full(60, -1))


def test_agreement_with_clusters_is_that_of_the_labelled_alone():
    clusters = np.where(np.arange(60) % 5 == 0, 0, Y)
    for measure in (clustering.accuracy, clustering.scores, clustering.confusion):
        assert measure(clusters, HIDDEN) == measure(clusters[KNOWN], Y[KNOWN])
    for supervised in (True, False):
        alone = clustering.agreement(clusters[KNOWN], Y[KNOWN], supervised)
        assert clustering.agreement(clusters, HIDDEN, supervised) == alone
    with pytest.raises(ValueError, match="none of 60 examples has a label"):
        clustering.scores(clusters, np.full(60, -1))


def test_errors_of_experiments_are_those_of_the_labelled_alone():
    z = CODES[None]
    alone = study.probed([z[:, KNOWN], z[:, KNOWN]], [Y[KNOWN], Y[KNOWN]])
    np.testing.assert_array_equal(study.probed([z, z], [HIDDEN, HIDDEN]), alone)
    with pytest.raises(ValueError, match="each seed has other examples without a label"):
        study.probed([z, z], [HIDDEN[None], HIDDEN[None]])
    with pytest.raises(ValueError, match="train or test has no labels"):
        study.probed([z, z], [Y, np.full(60, -1)])


@pytest.fixture(scope="module")
def measured():
    """Metrics of a classifier on test examples of which a quarter has no label, and on the others alone."""
    x = np.clip(np.repeat(CODES, 2, 1) / 3 + 0.3, 0, 1)
    net = networks.mlp((6,), 2, hidden=(4,))
    algorithm = classifier(net, optax.adam(1e-3), classes=3, pretrain_epochs=0)
    params = jax.jit(algorithm.init)(jax.random.key(0), Batch(jnp.asarray(x), jnp.asarray(Y)))
    params["head"]["kernel"] = jax.random.normal(jax.random.key(1), (2, 3))
    whole, some = make_batch(x, HIDDEN), make_batch(x[KNOWN], Y[KNOWN])
    return [evaluation.all_metrics(algorithm, whole, test)(params, jax.random.key(2)) for test in (whole, some)], (
        algorithm,
        params,
        whole,
        some,
    )


def test_a_metric_of_labels_says_of_how_many_it_is(measured):
    (whole, some), _ = measured
    for name in ("linear_probe_accuracy", "test accuracy", "test nmi", "test loss", "test nll", "test error"):
        assert whole[f"{name} (n=45)"] == pytest.approx(some[name], rel=1e-6), name
        assert name not in whole
    assert not [name for name in whole if "labelled" in name]
    assert whole["knn_accuracy (k=5, n=45)"] == some["knn_accuracy (k=5)"]
    assert "jacobian_norm" in whole  # of all
    assert evaluation.describe("linear_probe_accuracy (n=45)") == evaluation.describe("linear_probe_accuracy")


def test_a_classifier_learns_from_the_labelled_of_a_batch_alone(measured):
    _, (algorithm, params, whole, some) = measured
    stepped = [
        algorithm.rule.update(params, algorithm.rule.init(params), part, jax.random.key(3)) for part in (whole, some)
    ]
    for now, alone in zip(jax.tree.leaves(stepped[0][0]), jax.tree.leaves(stepped[1][0]), strict=True):
        np.testing.assert_allclose(now, alone, rtol=1e-4, atol=1e-6)
    none = algorithm.evaluate(params, whole._replace(y=np.full(60, -1, np.int32)), jax.random.key(0))
    assert not none["nll"].any()
    assert not none["error"].any()


MANY = 100
SEEN = RNG.random((MANY, 6)).astype(np.float32)
CLASS = (SEEN[:, 0] > SEEN[:, 1]).astype(int) + (SEEN[:, 2] > 0.5)
FEW = np.where(np.arange(MANY) < 70, -1, CLASS)  # the last 30 % have a label: batches differ, and many have none


def read_partly(index):
    return make_batch(SEEN[index], FEW[index])


def by_numpy(algorithm, params, l2):
    """Loss, negative log-likelihood and error over the labelled examples, in float64."""
    x, y = SEEN[FEW >= 0], FEW[FEW >= 0]
    head = jax.tree.map(np.float64, params["head"])
    logits = np.float64(algorithm.encode(params, x)) @ head["kernel"] + head["bias"]
    nll = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y])
    squares = sum(np.square(np.float64(w)).sum() for w in terms.weights([params["encoder"], params["head"]]))
    return {"loss": nll + l2 * squares, "nll": nll, "error": np.mean(logits.argmax(1) != y), "labelled": 0.3}


@pytest.mark.parametrize("size", [None, 40, 100])
def test_held_out_metrics_are_means_over_the_labelled_in_memory_and_in_streams(size):
    algorithm = classifier(networks.mlp((6,), 2, hidden=(4,)), optax.adam(1e-2), classes=3, weight_l2=0.01)
    held = train = read_partly(np.arange(MANY))
    if size is not None:
        source = data.stream.made("partly", MANY, read_partly)
        train, held = data.Stream(source, size, seed=0), data.Stream(source, size)
    options = {"epochs": 1, "batch_size": 10, "seeds": (0, 1), "validation": held, "progress": False}
    trained = loop.train(algorithm, train, **options)
    for i, seed in enumerate(trained.seeds):
        expected = by_numpy(algorithm, trained.of(seed), 0.01)
        found = {name: values[i] for name, values in trained.history[0]["validation"].items()}
        assert found == pytest.approx(expected, rel=1e-5)
        if size is not None:
            mean = shards.average_stream(algorithm, held, trained.of(seed), jax.random.key(0))
            assert mean == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 10, 100])
def test_training_metrics_are_means_over_the_labelled_whatever_the_batch(batch_size):
    algorithm = classifier(networks.mlp((6,), 2, hidden=(4,)), optax.sgd(0.0), classes=3)
    whole = read_partly(np.arange(MANY))
    params = jax.jit(algorithm.init)(jax.random.key(0), whole)
    params["head"]["kernel"] = jax.random.normal(jax.random.key(1), (2, 3))
    rule = epoch(algorithm, batch_size)
    metrics = jax.jit(rule.update)(params, rule.init(params), whole, jax.random.key(2))[2]
    assert metrics == pytest.approx(by_numpy(algorithm, params, 0.0), rel=1e-5)
    for size in (3, 100):
        held = average(algorithm.evaluate, params, whole, jax.random.key(2), size)
        assert held == pytest.approx(by_numpy(algorithm, params, 0.0), rel=1e-5)


def test_a_validation_set_without_any_label_is_refused(tmp_path):
    parts = {"x_train": SEEN, "y_train": CLASS, "x_test": SEEN, "y_test": CLASS, "x_valid": SEEN}
    np.savez(tmp_path / "x.npz", **parts, y_valid=np.full(MANY, -1))
    given = settings.Settings(
        algorithm="classifier",
        network="mlp",
        data=str(tmp_path / "x.npz"),
        latents=2,
        epochs=1,
        batch_size=10,
        seeds=(0,),
        hyper={"classes": 3},
    )
    with pytest.raises(ValueError, match=r"none of 100 validation examples of .* has one"):
        training.train(given, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    source = data.stream.made("none", MANY, lambda index: make_batch(SEEN[index], np.full(len(index), -1)))
    algorithm = classifier(networks.mlp((6,), 2, hidden=()), optax.adam(1e-2), classes=3)
    held, train = (data.Stream(of, MANY) for of in (source, data.stream.made("partly", MANY, read_partly)))
    with pytest.raises(RunError, match="none of 100 validation examples has a label"):
        loop.train(algorithm, train, epochs=1, validation=held, progress=False)


def test_a_test_set_without_labels_is_measured_by_the_code_alone():
    algorithm = classifier(networks.mlp((6,), 2, hidden=()), optax.adam(1e-3), classes=3)
    train = make_batch(SEEN, CLASS)
    params = jax.jit(algorithm.init)(jax.random.key(0), train)
    for y in (None, np.full(MANY, -1)):
        found = evaluation.all_metrics(algorithm, train, make_batch(SEEN, y))(params, jax.random.key(1))
        assert "jacobian_norm" in found
        assert not [name for name in found if "loss" in name or "error" in name or "accuracy" in name]


def test_without_any_label_nothing_is_probed():
    hidden = np.full(60, -1)
    x = np.clip(CODES, 0, 1)
    algorithm = autoencoder(networks.mlp((3,), 2, hidden=()), optax.adam(1e-3))
    params = jax.jit(algorithm.init)(jax.random.key(0), Batch(jnp.asarray(x)))
    found = evaluation.all_metrics(algorithm, make_batch(x, Y), make_batch(x, hidden))(params, jax.random.key(1))
    assert not [name for name in found if "probe" in name or "knn" in name]
    assert not evaluation.has_labels(make_batch(x, np.where(Y == 1, 1, -1)), make_batch(x, Y))  # one class to learn
    assert evaluation.has_labels(make_batch(x, HIDDEN), make_batch(x, HIDDEN))


def test_a_set_says_how_many_have_no_label(tmp_path):
    x = np.zeros((60, 3), np.float32)
    save = lambda train, test: np.savez(tmp_path / "x.npz", x_train=x, y_train=train, x_test=x, y_test=test)
    save(Y, Y)
    assert "of 3, 3 classes, from" in str(data.load(tmp_path / "x.npz"))
    save(HIDDEN, np.full(60, -1))
    assert "of 3, 3 classes (15 of train and 60 of test without a label), from" in str(data.load(tmp_path / "x.npz"))
    save(np.full(60, -1), np.full(60, -1))
    assert "of 3, no labels, from" in str(data.load(tmp_path / "x.npz"))


@pytest.mark.parametrize(("y", "told"), [(2 * (Y > 0) - 1, "-1 and 1, and -1 means no label"), (Y - 2, "from -2 to 0")])
def test_labels_of_another_convention_are_refused(tmp_path, y, told):
    np.savez(tmp_path / "x.npz", x=np.zeros((60, 3), np.float32), y=y)
    with pytest.raises(data.DataError, match=rf"labels {told}.* number the classes from 0"):
        data.load(tmp_path / "x.npz")


def test_learners_of_labels_are_refused_data_with_too_few():
    def told(y, algorithm="classifier", **hyper):
        given = settings.Settings(
            algorithm=algorithm,
            network="mlp",
            data="digits",
            latents=12,
            epochs=1,
            batch_size=64,
            seeds=(0,),
            hyper=hyper,
        )
        return loading.check_classes(settings.build(given, (8, 8, 1), 60), given, y)

    with pytest.raises(ValueError, match=r"learns from 1 labels, and 0 of 60 .* choose data with labels"):
        told(np.full(60, -1))
    with pytest.raises(ValueError, match=r"learns from 50 labels, and 45 of 60 .* give --labels 45 or fewer"):
        told(HIDDEN, "adversarial_labels", labels=50, classes=10)
    assert told(HIDDEN, "adversarial_labels", labels=45, classes=10) == ""


def test_the_legend_calls_them_so():
    figure = plots.scatter(CODES[:, :2], HIDDEN, None, ("cat", "dog", "owl"))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["no label", "cat", "dog", "owl"]
    colours = figure.axes[0].collections[0].get_facecolors()
    assert len({tuple(c) for c in colours[HIDDEN < 0]}) == 1
    assert not {tuple(c) for c in colours[HIDDEN < 0]} & {tuple(c) for c in colours[HIDDEN >= 0]}
    many = np.where(np.arange(60) < 10, -1, np.arange(60))  # too many for a legend: those without are left out
    assert len(plots.scatter(CODES[:, :2], many).axes[0].collections[0].get_offsets()) == 50
    figure.savefig(io.BytesIO())


def test_an_experiment_on_labels_needs_one_of_every_example():
    x = np.zeros((60, 3), np.float32)
    dataset = lambda train, test: data.Dataset("toy", make_batch(x, train), make_batch(x, test), "here")
    assert study.with_labels(dataset(Y, Y)).name == "toy"
    with pytest.raises(ValueError, match="of the test set of toy 15 of 60 have none; choose data with labels"):
        study.with_labels(dataset(Y, HIDDEN))
    with pytest.raises(ValueError, match="of the train set of toy none of them has one"):
        study.with_labels(dataset(None, Y))


def test_the_projector_calls_them_so(tmp_path, monkeypatch):
    x = np.clip(CODES, 0, 1)
    algorithm = types.SimpleNamespace(encode=lambda params, x: x[:, :2])
    opened = types.SimpleNamespace(
        algorithm=algorithm, params={}, settings=types.SimpleNamespace(data="toy"), sources=["toy"]
    )
    monkeypatch.setattr(runs, "open_run", lambda *_: opened)

    def column(y):
        dataset = data.Dataset("toy", make_batch(x, Y), make_batch(x, y), "here", classes=("cat", "dog"))
        monkeypatch.setattr(runs, "load_own", lambda *_: loading.Splits(dataset, dataset.train, None, dataset.test))
        written = projecting.project(tmp_path, tmp_path / "out")
        named = [file for file in written if file.name == "metadata.tsv"]
        return named and named[0].read_text().splitlines()

    assert column(HIDDEN) == ["no label" if y < 0 else ("cat", "dog", "2")[y] for y in HIDDEN]  # one name is missing
    assert column(np.full(60, -1)) == []


def test_chance_is_that_of_the_labelled_alone():
    y = np.where(np.arange(60) < 40, -1, np.arange(60) % 2)
    assert diagnosis.probe(0.6, y) == diagnosis.probe(0.6, y[40:])
    assert "the largest class is 0.50" in diagnosis.probe(0.6, y)
    assert not diagnosis.probe(0.9, y)
