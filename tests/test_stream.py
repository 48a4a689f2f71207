"""Streams: every example once an epoch in an order of its own, and runs that end as those in memory do."""

import json
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from probes import same_bits

from ae_jax import data, networks
from ae_jax.algorithms import autoencoder, sparse, vae
from ae_jax.app.commands import loading, measuring, runs, training
from ae_jax.core import Batch, address, average
from ae_jax.data import stream as streams
from ae_jax.data.dataset import DataError
from ae_jax.errors import RunError
from ae_jax.training import loop, run_folder, shards, signals
from ae_jax.training.settings import Settings

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (330, 6), dtype=np.uint8)
Y = RNG.integers(0, 3, 330).astype(np.int32)


def folder_of(path, x=X, y=Y, rows=100):
    path.mkdir(parents=True)
    for i in range(0, len(x), rows):
        np.save(path / f"{i:05d}.npy", x[i : i + rows])
        np.save(path / f"{i:05d}.labels.npy", y[i : i + rows])
    return path


def memory(x=X, block=None):
    return streams.made("memory", len(x), lambda i: streams.make_batch(x[i], Y[i] if len(x) == len(Y) else None), block)


def algorithm(make=vae, heads=2, **options):
    net = networks.mlp((6,), 2, hidden=(8,), heads=heads, dropout=0.1, **options)
    return make(net, optax.adam(1e-2))


def train(what, epochs=3, batch_size=32, seeds=(0, 1), **options):
    made = options.pop("algorithm", None) or algorithm()
    return loop.train(made, what, epochs=epochs, batch_size=batch_size, seeds=seeds, progress=False, **options)


LOADED = Batch(jnp.asarray(X / np.float32(255), jnp.float32), jnp.asarray(Y))

# -------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("count", "block", "size"), [(330, 7, 64), (330, 1, 100), (64, 64, 32), (100, 9, 100), (5, 2, 8)]
)
def test_every_example_comes_once_an_epoch_and_shards_are_full(count, block, size):
    source = memory(RNG.random((count, 2), np.float32), block)
    stream = data.Stream(source, size, seed=3)
    for e in range(3):
        shards = [stream.index(e, s) for s in range(stream.shards)]
        assert [len(shard) for shard in shards] == [size] * (count // size) + ([count % size] if count % size else [])
        np.testing.assert_array_equal(np.sort(np.concatenate(shards)), np.arange(count))
        assert all((np.diff(shard) > 0).all() for shard in shards)


def test_the_order_is_a_function_of_seed_and_epoch():
    source = memory(block=5)
    first = lambda seed, e: data.Stream(source, 64, seed=seed).index(e, 0).tolist()
    again = [[first(seed, e) for e in (0, 1)] for seed in (0, 1)]
    assert again == [[first(seed, e) for e in (0, 1)] for seed in (0, 1)]
    assert len({str(index) for of_seed in again for index in of_seed}) == 4
    assert data.Stream(source, 64).index(4, 1).tolist() == list(range(64, 128))


def test_a_split_shares_nothing():
    train_part, test_part = data.split(memory(block=4), 0.25, seed=1)
    a, b = (np.concatenate([np.arange(*block) for block in part.blocks]) for part in (train_part, test_part))
    assert sorted([*a, *b]) == list(range(330))
    assert len(b) == len(test_part) == pytest.approx(330 / 4, abs=4)
    stream = data.Stream(test_part, 50, seed=0)
    seen = np.concatenate([stream.index(0, s) for s in range(stream.shards)])
    assert sorted(seen) == sorted(b)


def test_prefetching_is_one_ahead_in_order_and_raises_in_its_turn():
    started = []

    def load(i):
        started.append(i)
        if i == 3:
            raise DataError("three")
        return 10 * i

    feed = streams.prefetched(load, range(9))
    assert next(feed) == (0, 0)
    for _ in range(200):
        if len(started) == 2:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert started == [0, 1]  # of which 1 is loading while 0 is used
    assert [next(feed), next(feed)] == [(1, 10), (2, 20)]
    with pytest.raises(DataError, match="three"):
        next(feed)
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


# ------------------------------------------------------------------------------------------------ sources


def check(source, x, y):
    """Source against the arrays in memory, however they are asked for."""
    assert len(source) == len(x)
    for seed, size in ((None, 64), (0, 50), (1, 1000)):
        stream = data.Stream(source, size, seed=seed)
        for s in range(stream.shards):
            index, shard = stream.index(0, s), stream.load(0, s)
            np.testing.assert_array_equal(shard.x, x[index])
            np.testing.assert_array_equal(shard.y, y[index])
            assert shard.x.dtype == np.float32


def test_npy_folders_give_what_numpy_gives(tmp_path):
    folder_of(tmp_path / "set" / "train")
    folder_of(tmp_path / "set" / "test", X[:40], Y[:40])
    found = data.open_stream(tmp_path / "set")
    check(found.train, X.astype(np.float32) / np.float32(255), Y)
    check(found.test, X[:40].astype(np.float32) / np.float32(255), Y[:40])
    np.save(tmp_path / "one.npy", RNG.random((200, 4, 4)))
    one = data.open_stream(tmp_path / "one.npy", test_fraction=0.25)
    assert (len(one.train), len(one.test), one.train.shape) == (150, 50, (4, 4, 1))
    np.save(tmp_path / "bits.npy", RNG.integers(0, 2, (200, 4)).astype(bool))
    assert set(np.unique(data.Stream(data.open_stream(tmp_path / "bits.npy").train, 100).sample(100).x)) == {0.0, 1.0}


def test_shards_written_are_read_again(tmp_path):
    streams.write_shards(memory(), tmp_path / "set", 100)
    assert [p.name for p in streams.npy_files(tmp_path / "set")] == ["00000.npy", "00001.npy", "00002.npy", "00003.npy"]
    check(streams.npy_source("again", streams.npy_files(tmp_path / "set")), LOADED.x, Y)
    with pytest.raises(data.DataError, match=r"holds .npy files \(00000.npy, ...\): remove them"):
        streams.write_shards(memory(), tmp_path / "set", 200)  # of the four, two would stay


def test_shards_written_keep_the_number_that_means_1(tmp_path):
    bits = RNG.integers(0, 2, (60, 4)).astype(np.uint8)
    np.save(tmp_path / "bits.npy", bits)
    source = data.open_stream(tmp_path / "bits.npy", scale=1).train
    streams.write_shards(source, tmp_path / "set", 100)
    again = data.open_stream(tmp_path / "set").train
    assert set(np.unique(again.batch(np.arange(10)).x)) == {0, 1}


def test_image_folders_stream_as_they_load(tmp_path):
    for part, count in (("train", 40), ("test", 10)):
        for i in range(count):
            folder = tmp_path / part / f"class{i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    loaded, found = data.load(tmp_path), data.open_stream(tmp_path)
    for name in ("train", "test"):
        check(getattr(found, name), getattr(loaded, name).x, getattr(loaded, name).y)
    assert found.classes == loaded.classes == ("class0", "class1")
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "train" / "class0" / "7.png")
    with pytest.raises(DataError, match="resize=64"):
        data.Stream(data.open_stream(tmp_path).train, 40).load(0, 0)


def test_what_cannot_be_streamed_is_told(tmp_path):
    for source, options, message in (("digits", {}, "cannot be streamed"), (tmp_path, {"patch": 8}, "has no patch=")):
        with pytest.raises(DataError, match=message):
            data.open_stream(source, **options)
    with pytest.raises(DataError, match=r"give 128"):
        data.shard_size((6,), 32, 130)
    cut = folder_of(tmp_path / "cut") / "00100.npy"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"00100\.npy"):
        data.Stream(data.open_stream(tmp_path / "cut").train, 330).load(0, 0)
    np.save(tmp_path / "wild.npy", np.append(RNG.random((300, 3)), [[0, 0, 7]], 0))
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        data.open_stream(tmp_path / "wild.npy")


def test_made_up_examples_depend_on_their_number_alone():
    source = data.generated(1000, (4, 5), seed=1)
    whole = source.batch(np.arange(1000)).x
    assert whole.shape == (1000, 4, 5, 1)
    some = np.sort(RNG.choice(1000, 300, replace=False))
    np.testing.assert_array_equal(source.batch(some).x, whole[some])
    np.testing.assert_allclose(
        data.generated(1000, (4, 5), seed=1, dtype="float32").batch(some).x, whole[some], rtol=1e-6
    )
    assert not np.array_equal(data.generated(1000, (4, 5), seed=2).batch(some).x, whole[some])
    assert len(np.unique(np.asarray(whole).reshape(1000, -1), axis=0)) > 990


# --------------------------------------------------------------------------------------------------- runs


@pytest.mark.optimised  # the bits of two programs, compiled as a user's are
@pytest.mark.parametrize("make", [vae, pytest.param(sparse, marks=pytest.mark.slow)])
def test_a_set_in_one_shard_learns_to_the_bits_of_one_in_memory(make):
    """One member with held-out examples and early stopping, one without."""
    made = algorithm() if make is vae else algorithm(sparse, 1, code_activation="sigmoid")
    held, held_stream = jax.tree.map(lambda a: a[:50], LOADED), data.Stream(memory(X[:50]), 64)
    whole, streamed = ({"patience": 1, "validation": held} if make is vae else {} for held in (held, held_stream))
    a = train(LOADED, epochs=4, algorithm=made, **whole)
    b = train(data.Stream(memory(), 352, seed=0), epochs=4, algorithm=made, **streamed)
    assert same_bits(a.params, b.params)
    assert a.best_epoch == b.best_epoch
    strip = lambda rows: [{k: r[k] for k in ("epoch", "train", "validation") if k in r} for r in rows]
    assert strip(a.history) == strip(b.history)


def test_shards_learn_as_well_as_memory():
    net = networks.mlp((6,), 2, hidden=(), init="uniform")
    options = {"algorithm": autoencoder(net, optax.adam(3e-2)), "epochs": 30, "seeds": (0,)}
    memorised, streamed = train(LOADED, **options), train(data.Stream(memory(block=3), 96, seed=0), **options)
    last = [np.mean([row["train"]["loss"][0] for row in t.history[-5:]]) for t in (memorised, streamed)]
    first = memorised.history[0]["train"]["loss"][0]
    assert last[0] < 0.8 * first
    assert abs(last[0] - last[1]) < 0.02 * last[0]
    assert not same_bits(memorised.params, streamed.params)


def test_the_metrics_of_an_epoch_are_means_over_examples_not_shards():
    frozen = autoencoder(networks.mlp((6,), 2, hidden=()), optax.sgd(0.0))
    whole = train(LOADED, epochs=1, algorithm=frozen).history[0]["train"]["loss"]
    parts = train(data.Stream(memory(), 64, seed=0), epochs=1, algorithm=frozen).history[0]["train"]["loss"]
    np.testing.assert_allclose(parts, whole, rtol=1e-6)  # 64 does not divide 330


def test_a_streamed_average_is_that_in_memory():
    a = algorithm()
    params, key = a.init(jax.random.key(0), LOADED), jax.random.key(1)
    expected = average(a.evaluate, params, LOADED, key)
    for size in (64, 330):
        found = shards.average_stream(a, data.Stream(memory(), size), params, key)
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=2e-6)


def test_binary_pixels_of_an_example_are_the_same_in_any_shard():
    drawn = {size: data.Stream(memory(), size, seed=1, binarise=5) for size in (64, 330)}
    whole = np.asarray(drawn[330].load(0, 0).x)
    for s in range(drawn[64].shards):
        np.testing.assert_array_equal(drawn[64].load(0, s).x, whole[drawn[64].index(0, s)])
    assert set(np.unique(whole)) == {0, 1}
    assert abs(whole.mean() - X.mean() / 255) < 0.03


class Clock:
    """A clock that is a minute later at each call: a checkpoint is due after each shard."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 61
        return self.now

    perf_counter = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)


class Killed(BaseException):
    """Stops a run without any cleaning up."""


def test_stopped_or_killed_between_shards_it_goes_on_to_the_bits_of_an_unbroken_run(tmp_path, monkeypatch):
    stream, held = data.Stream(memory(block=3), 64, seed=0), data.Stream(memory(X[:70]), 64)
    assert stream.shards == 6
    options = {"epochs": 3, "validation": held, "patience": 3, "every_minutes": 1.0}
    unbroken = train(stream, **options)
    monkeypatch.setattr(loop, "time", Clock())
    folder = run_folder.Folder(tmp_path / "run")

    def breaking(e, state, partial=None):
        run_folder.Folder.save(folder, e, state, partial)
        done = 6 * e + (partial or {}).get("shard", 0)
        if done == 1:  # it is heard after the next shard
            os.kill(os.getpid(), signal.SIGTERM)
        if done == 9:
            raise Killed

    folder.save = breaking
    for error, message, epoch in ((signals.Interrupted, r"in epoch 1, after 2 of 6 shards", 0), (Killed, None, 1)):
        with pytest.raises(error, match=message), folder.opened({}):
            train(stream, folder=folder, **options)
        assert folder.params()[0] == epoch
    with folder.opened({}):
        broken = train(stream, folder=folder, **options)
    assert same_bits(unbroken.params, broken.params)
    strip = lambda rows: [{k: row[k] for k in ("epoch", "train", "validation")} for row in rows]
    assert strip(folder.log()) == strip(unbroken.history)


def test_a_folder_goes_on_with_its_own_shards_alone(tmp_path):
    folder, source = run_folder.Folder(tmp_path), memory(block=3)
    stream = data.Stream(source, 64, seed=0)

    def go(stream):
        with folder.opened({}):
            return train(stream, epochs=1, folder=folder)

    go(stream)
    config = (tmp_path / "config.json").read_text()
    other, counted = data.Stream(source, 96, seed=0), r"checkpoint 6, counted in shards, is not one of 4 an epoch"
    with pytest.raises(RunError, match=rf"a run of other shards: its {counted}"):
        go(other)
    for same_size in (data.Stream(source, 64, seed=1), data.Stream(memory(255 - X, 3), 64, seed=0)):
        with pytest.raises(RunError, match=r"other seeds, data or batches:\n  stream: .* there, .* now"):
            go(same_size)
    older = json.loads(config)
    del older["run"]["given"], older["seal"]
    (tmp_path / "config.json").write_text(json.dumps(older))  # as older versions recorded it
    with pytest.raises(RunError, match=counted):
        go(other)
    go(stream)
    assert json.loads((tmp_path / "config.json").read_text())["run"] == json.loads(config)["run"]


def labelled_files(path, y):
    folder_of(path, RNG.integers(0, 256, (len(y), 6), dtype=np.uint8), np.asarray(y, np.int32), rows=64)
    return str(path)


def test_a_label_beyond_the_classes_is_refused_where_a_shard_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "SAMPLED", 5)
    y = np.arange(256) % 3
    y[201] = 7  # in no sample of five
    options = {"network_options": {"hidden": (4,)}, "shard_size": 64, "hyper": {"classes": 3}}
    asked = Settings(
        algorithm="classifier",
        network="mlp",
        data=labelled_files(tmp_path / "set", y),
        latents=2,
        epochs=1,
        batch_size=32,
        seeds=(0,),
        **options,
    )
    with pytest.raises(ValueError, match="has labels up to 7 and classifier 3 classes: give 8 classes"):
        training.train(asked, tmp_path / "run", quiet=True)


def test_a_source_tells_its_number_of_classes(tmp_path):
    y = np.arange(256) % 3
    y[201] = 7
    source = data.open_stream(labelled_files(tmp_path / "set", y)).train
    assert source.classes == 8
    assert streams.split(source, 0.5, 0)[0].classes == 8
    assert memory().classes is None
    for name in ("a", "b", "c"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / "images" / name / f"{i}.png")
    assert data.open_stream(tmp_path / "images").train.classes == 3


def test_memory_holds_three_shards_at_most(tmp_path):
    """A set 40 shards long; the most bytes of examples alive at once, as the device knows them."""
    size, width = 640, 512
    source = data.generated(40 * size, (width,), seed=0)
    most = []

    class Watched(data.Stream):
        def ready(self, index, raw):
            shard = super().ready(index, raw)
            most.append(sum(a.nbytes for a in jax.live_arrays() if a.shape == (size, width)))
            return shard

    net = networks.mlp((width,), 2, hidden=())
    train(Watched(source, size, 0), epochs=1, seeds=(0,), algorithm=autoencoder(net, optax.adam(1e-3)))
    assert len(most) == 42  # with what init saw, and one example for the shape
    assert max(most) <= 3 * size * width * 4


@pytest.mark.slow
def test_the_commands_train_and_evaluate_on_a_stream(tmp_path):
    folder_of(tmp_path / "set" / "train")
    folder_of(tmp_path / "set" / "test", X[:70], Y[:70])
    known = {"network_options": {"hidden": (8,)}, "validation": 0.2, "binarise": "dynamic", "shard_size": 64}
    settings = Settings(
        algorithm="vae",
        network="mlp",
        data=str(tmp_path / "set"),
        latents=2,
        epochs=2,
        batch_size=32,
        seeds=(0, 1),
        **known,
    )
    results = training.train(settings, tmp_path / "run", samples=2, quiet=True)
    assert "test loss" in results["metrics"]
    assert "linear_probe_accuracy (of 64 + 64)" in results["metrics"]
    again = measuring.evaluate(tmp_path / "run", samples=2, quiet=True)
    assert again["metrics"] == results["metrics"]
    assert "330 train + 70 test" in again["data"]
    opened = runs.open_run(tmp_path / "run")
    key = address(jax.random.key(0), "evaluation", "test")
    test_x = data.Stream(data.open_stream(tmp_path / "set").test, 70, binarise=1).load(0, 0)
    exact = average(opened.algorithm.evaluate, opened.params, test_x, key)["loss"]
    np.testing.assert_allclose(results["metrics"]["test loss"]["values"][0], exact, rtol=1e-5)
