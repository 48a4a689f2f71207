import colorsys
import gzip
import http.server
import io
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_tfrecord import frame

from ae_jax import core, data
from ae_jax.data import dataset, images, sprites, tfds, tfrecord, toys

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"needs the data in {SHARED}")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test reaches a network, nor finds what happens to be prepared on this machine."""
    monkeypatch.setattr(tfds, "reachable", lambda url, timeout=3.0: False)
    monkeypatch.setenv("TFDS_DATA_DIR", "/nonexistent")


@pytest.fixture
def without_tfds(monkeypatch):
    for name in ("tensorflow", "tensorflow_datasets", "array_record"):
        monkeypatch.setitem(sys.modules, name, None)


def in_unit_interval(*batches):
    for batch in batches:
        assert batch.x.dtype == np.float32
        assert batch.x.min() >= 0
        assert batch.x.max() <= 1


# ----------------------------------------------------------------------------------------- load and Dataset


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    loaded = data.load("digits")
    train, test = loaded
    assert train.x.shape == (1437, 8, 8, 1)
    assert test.x.shape == (360, 8, 8, 1)
    np.testing.assert_array_equal(np.concatenate([train.x, test.x]).reshape(-1, 64) * 16, bunch.data)
    np.testing.assert_array_equal(np.concatenate([train.y, test.y]), bunch.target)
    in_unit_interval(train, test)
    assert str(loaded) == "digits: 1437 train + 360 test examples of 8x8x1, 10 classes, from scikit-learn"


def test_a_bad_option_or_name_is_refused_with_what_is_known():
    with pytest.raises(data.DataError, match="digits has no patch=; it has no options"):
        data.load("digits", patch=8)
    with pytest.raises(data.DataError, match="has no size=; it has patch=, count=, test_count=, colour=, seed="):
        data.load("photos", size=8)
    with pytest.raises(data.DataError, match=r"no data called 'digit', .* did you mean digits") as error:
        data.load("digit")
    assert len(str(error.value)) < 400  # not the whole list of tfds
    with pytest.raises(data.DataError, match=r"'mnst'.*did you mean mnist"):
        data.load("mnst")
    with pytest.raises(data.DataError, match="no name and no path"):
        data.load("")
    with pytest.raises(data.DataError, match="there is no file or folder /nonexistent/faces"):
        data.load("/nonexistent/faces")


def test_a_name_is_suggested_without_tfds_too(without_tfds):
    with pytest.raises(data.DataError, match="did you mean fashion_mnist"):
        data.load("fashionmnist")


def test_a_relative_folder_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "faces" / "a.png", grey(4, 4))
    save(tmp_path / "faces" / "b.png", grey(4, 4))
    assert data.load("faces").train.x.shape == (1, 4, 4, 1)
    assert data.load("faces/").train.x.shape == (1, 4, 4, 1)


def test_a_name_wins_over_what_is_called_the_same_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for i in range(2):
        save(tmp_path / "photos" / f"{i}.png", grey(4, 4))
    assert data.is_name("photos")
    assert data.load("photos", count=3).train.x.shape == (3, 8, 8, 1)
    said = capsys.readouterr()
    assert said.err == "photos: the set of that name; for the folder write ./photos\n"
    assert said.out == ""
    for path in ("./photos", "photos/", str(tmp_path / "photos"), Path("photos")):
        assert not data.is_name(path)
        assert data.load(path).train.x.shape == (1, 4, 4, 1)
    assert data.open_stream("./photos").train.shape == (4, 4, 1)
    assert capsys.readouterr().err == ""
    with pytest.raises(data.DataError, match="photos cannot be streamed"):
        data.open_stream("photos")
    assert "write ./photos" in capsys.readouterr().err


def test_a_prepared_set_is_a_name_and_what_is_there_with_a_separator_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    version = tmp_path / "prepared" / "rings" / "two" / "1.0.0"
    version.mkdir(parents=True)
    for file in ("features.json", "dataset_info.json"):
        (version / file).touch()
    (tmp_path / "rings").mkdir()
    for name in ("rings", "rings:1.0.0", "rings/two"):
        assert data.is_name(name, tmp_path / "prepared")
    (tmp_path / "rings" / "two").mkdir()
    for path in ("rings/two", "rings/", "./rings", "rings:2.0.0", "knots", "", "two words"):
        assert not data.is_name(path, tmp_path / "prepared")


def test_every_named_source_loads_and_is_listed():
    assert set(data.NAMED) <= set(data.SOURCES)
    for name in data.NAMED.keys() - {"reuters"}:  # whose corpus is not always there: see test_text.py
        options = {"digits": {}, "variants": {"of": "digits", "count": 10}}.get(name, {"count": 10})
        loaded = data.load(name, **options)
        in_unit_interval(*loaded)
        assert len(str(loaded).splitlines()) == 1


def test_importing_the_package_imports_no_heavy_reader():
    heavy = "['tensorflow', 'tensorflow_datasets', 'sklearn', 'PIL', 'array_record', 'regex', 'google_crc32c']"
    code = f"import sys, ae_jax.data; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------------------------ TensorFlow Datasets


def official(name):
    raw = gzip.decompress((SHARED / "tfds_manual" / "mnist" / f"{name}.gz").read_bytes())
    dimensions = raw[3]
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


@pytest.mark.slow
@needs_shared
def test_mnist_is_the_official_one_in_the_order_of_tfds(without_tfds, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(SHARED / "tensorflow_datasets"))  # after import: read at each call
    loaded = data.load("mnist")
    assert str(loaded).startswith("mnist: 60000 train + 10000 test examples of 28x28x1, 10 classes, from ")
    in_unit_interval(*loaded)
    for batch, name in zip(loaded, ("train", "t10k"), strict=True):
        pixels, labels = official(f"{name}-images-idx3-ubyte"), official(f"{name}-labels-idx1-ubyte")
        np.testing.assert_array_equal(np.bincount(batch.y), np.bincount(labels))
        ours = np.rint(batch.x[..., 0] * 255).astype(np.uint8)

        def rows(x, y):  # each image with its label, as one sortable value
            return np.sort(np.concatenate([x.reshape(len(x), -1), y[:, None].astype(np.uint8)], 1).view("S785").ravel())

        np.testing.assert_array_equal(rows(ours, batch.y), rows(pixels, labels))  # the same examples
        if name == "train":
            first = [16399, 1680, 47917, 17307, 27051]
            np.testing.assert_array_equal(ours[:5], pixels[first])
            np.testing.assert_array_equal(batch.y[:5], labels[first])


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    """A set in both formats: array_record as tfds writes it, and the same records framed as TFRECORD."""
    module = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    from array_record.python.array_record_module import ArrayRecordReader
    from tensorflow_datasets.core.dataset_builders import AdhocBuilder

    class RingsBuilder(AdhocBuilder, skip_registration=True):
        def _split_generators(self, dl_manager):
            return {k: iter(v) for k, v in self._split_datasets.items()}

    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)

    def row(i):
        return {
            "image": io.BytesIO(encoded(x[i])),
            "field": (x[i, ..., 0] / 255).astype(np.float32),
            "packed": x[i, ..., 1],
            "label": i % 3,
            "angle": np.float32(i / 7),
        }

    features = {
        "image": module.features.Image(shape=(6, 5, 3)),
        "field": module.features.Tensor(shape=(6, 5), dtype=np.float32),
        "packed": module.features.Tensor(shape=(6, 5), dtype=np.uint8, encoding="zlib"),
        "label": module.features.ClassLabel(names=["ring", "two rings", "knot"]),
        "angle": module.features.Scalar(np.float32),
    }
    builder = RingsBuilder(
        name="rings",
        version="1.0.0",
        data_dir=root / "array_record",
        disable_shuffling=True,
        file_format="array_record",
        features=module.features.FeaturesDict(features),
        split_datasets={"train": [(i, row(i)) for i in range(9)], "test": [(i, row(i)) for i in range(9, 12)]},
    )
    builder.download_and_prepare(file_format="array_record")
    shutil.copytree(root / "array_record", root / "tfrecord")
    to = root / "tfrecord" / "rings" / "1.0.0"
    for file in to.glob("*.array_record-*"):
        payloads = ArrayRecordReader(str(file)).read_all()
        file.with_name(file.name.replace("array_record", "tfrecord")).write_bytes(b"".join(map(frame, payloads)))
        file.unlink()
    info = json.loads((to / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
    (to / "dataset_info.json").write_text(json.dumps(info))
    return root, x


@pytest.mark.parametrize("form", ["array_record", "tfrecord"])
def test_both_formats_are_read(rings, form):
    root, x = rings
    loaded = data.load("rings", data_dir=root / form, factors=("angle",))
    train, test = loaded
    np.testing.assert_array_equal(train.x, (x[:9] / 255).astype(np.float32))
    np.testing.assert_array_equal(test.x, (x[9:] / 255).astype(np.float32))
    np.testing.assert_array_equal(train.y, np.arange(9) % 3)
    np.testing.assert_allclose(np.concatenate(loaded.factors)[:, 0], np.arange(12) / 7, rtol=1e-6)
    assert loaded.classes == ("ring", "two rings", "knot")
    assert loaded.factor_names == ("angle",)
    assert f"({form})" in str(loaded)
    field = data.load("rings", data_dir=root / form, image="field", label="label")
    np.testing.assert_array_equal(field.train.x[..., 0], (x[:9, ..., 0] / 255).astype(np.float32))
    packed = data.load("rings:1.0.0", data_dir=root / form, image="packed")
    np.testing.assert_array_equal(packed.test.x[..., 0], (x[9:, ..., 1] / 255).astype(np.float32))
    small = data.load("rings", data_dir=root / form, crop=4)
    np.testing.assert_array_equal(small.train.x, train.x[:, 1:5, :4])
    streamed = data.open_stream("rings", data_dir=root / form)
    assert streamed.classes == loaded.classes
    assert (streamed.train.classes, streamed.test.classes) == (3, 3)
    for part in ("train", "test"):
        shard = data.Stream(getattr(streamed, part), 9).load(0, 0)
        np.testing.assert_array_equal(shard.x, getattr(loaded, part).x)
        np.testing.assert_array_equal(shard.y, getattr(loaded, part).y)


def test_tfrecord_needs_no_tfds_and_array_record_says_what_it_needs(rings, without_tfds):
    root, _ = rings
    assert len(data.load("rings", data_dir=root / "tfrecord").train.x) == 9
    with pytest.raises(data.DataError, match=r"array_record, not tfrecord; .*pip install tensorflow-datasets"):
        data.load("rings", data_dir=root / "array_record")


def test_damaged_sets_and_wrong_features_are_named(rings, tmp_path):
    shutil.copytree(rings[0] / "tfrecord", tmp_path / "sets")
    folder = tmp_path / "sets" / "rings" / "1.0.0"
    load = lambda **options: data.load("rings", data_dir=tmp_path / "sets", **options)
    with pytest.raises(data.DataError, match=r"no feature that is \['colour'\].*its features are .*'field': 'Tensor'"):
        load(label="colour")
    with pytest.raises(data.DataError, match="feature 'angle' of rings holds numbers that are not whole"):
        load(label="angle")
    with pytest.raises(data.DataError, match="feature 'angle' of rings holds numbers that are not whole"):
        data.open_stream("rings", data_dir=tmp_path / "sets", label="angle")
    file = next(folder.glob("rings-train.tfrecord*"))
    whole, records = file.read_bytes(), list(tfrecord.records(file))
    file.write_bytes(whole[:-10])
    with pytest.raises(data.DataError, match=f"{file.name} is cut short"):
        load()
    first = 16 + struct.unpack_from("<Q", whole)[0]
    file.write_bytes(whole[first:])
    with pytest.raises(data.DataError, match=f"{file.name} holds 8 records, and dataset_info.json says 9"):
        load()
    file.write_bytes(b"".join(frame(raw.replace(b"PNG", b"XXX")) for raw in records))
    with pytest.raises(data.DataError, match=f"{file.name} is damaged at record 0"):
        load()
    file.unlink()
    with pytest.raises(data.DataError, match=r"rings-train.tfrecord-00000-of-00001 is missing"):
        load()
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(data.DataError, match="does not say what it holds"):
        load()


def test_the_newest_version_and_a_configuration_are_found(tmp_path):
    for path in ("a/9.0.0", "a/10.0.0", "b/one/1.0.0", "c/one/1.0.0", "c/two/1.0.0"):
        (tmp_path / path).mkdir(parents=True)
        for name in ("features.json", "dataset_info.json"):
            (tmp_path / path / name).touch()
    assert tfds.find("a", tmp_path) == tmp_path / "a/10.0.0"
    assert tfds.find("a:9.0.0", tmp_path) == tmp_path / "a/9.0.0"
    assert tfds.find("a:3.0.0", tmp_path) is None
    assert tfds.find("b", tmp_path) == tmp_path / "b/one/1.0.0"
    assert tfds.find("c/two", tmp_path) == tmp_path / "c/two/1.0.0"
    with pytest.raises(data.DataError, match=r"2 configurations, \['one', 'two'\]; say c/one"):
        tfds.find("c", tmp_path)


def test_without_network_and_data_two_sentences_say_what_to_do(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    began = time.perf_counter()
    with pytest.raises(data.DataError) as error:
        data.load("fashion_mnist", data_dir=tmp_path)
    text = str(error.value)
    assert time.perf_counter() - began < 20  # tfds itself tries for 200 s
    assert text.startswith(f"fashion_mnist is not prepared in {tmp_path}, and ")
    assert "cannot be reached" in text
    assert "digits, photos, shapes" in text
    assert "TFDS_DATA_DIR" in text
    assert text.count(". ") == 1
    assert not any(tmp_path.iterdir())  # nothing is left behind


def test_without_tfds_the_error_says_how_to_get_it(tmp_path, without_tfds):
    with pytest.raises(data.DataError, match=r"is not prepared in .*pip install tensorflow-datasets.*digits, photos"):
        data.load("mnist", data_dir=tmp_path)


class FakeBuilder:
    url_infos = {}
    data_path = "there"

    def __init__(self, prepare):
        self.download_and_prepare = prepare


def test_where_there_is_a_network_the_set_is_prepared_and_read(rings, tmp_path, monkeypatch):
    module = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds, "reachable", lambda url: True)
    monkeypatch.setattr(data, "known_names", lambda data_dir: ["rings"])

    def prepare(download_config):
        shutil.copytree(rings[0] / "tfrecord" / "rings", tmp_path / "rings")

    monkeypatch.setattr(module, "builder", lambda name, data_dir: FakeBuilder(prepare))
    assert len(data.load("rings", data_dir=tmp_path).train.x) == 9


def test_without_tensorflow_preparing_says_so(tmp_path, monkeypatch):
    module = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds, "reachable", lambda url: True)
    monkeypatch.setattr(tfds.importlib.util, "find_spec", lambda name: None)

    def prepare(download_config):
        raise RuntimeError("ExtractError\n" + "No module named 'tensorflow'\n" * 100)

    monkeypatch.setattr(module, "builder", lambda name, data_dir: FakeBuilder(prepare))
    with pytest.raises(data.DataError, match=r"needs TensorFlow: pip install tensorflow") as error:
        data.load("mnist", data_dir=tmp_path)
    assert len(str(error.value)) < 600


@needs_shared
def test_files_downloaded_by_hand_need_no_network(tmp_path, monkeypatch):
    module = pytest.importorskip("tensorflow_datasets")
    asked = []
    monkeypatch.setattr(tfds, "reachable", lambda url: asked.append(url))
    real, given = module.builder, []

    def builder(name, data_dir):
        built = real(name, data_dir=data_dir)

        def prepare(download_config):
            given.append(download_config.manual_dir)
            raise RuntimeError("as far as this test goes")

        monkeypatch.setattr(built, "download_and_prepare", prepare)
        return built

    monkeypatch.setattr(module, "builder", builder)
    with pytest.raises(data.DataError, match="as far as this test goes"):
        data.load("mnist", data_dir=tmp_path, manual_dir=SHARED / "tfds_manual" / "mnist")
    assert given == [SHARED / "tfds_manual" / "mnist"]
    assert not asked
    with pytest.raises(data.DataError, match="cannot be reached"):
        data.load("mnist", data_dir=tmp_path, manual_dir=tmp_path)
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["answers", "refuses", "hangs"])
def test_reachable(kind, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")

    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(404)

        def log_message(self, *args):
            pass

    if kind == "answers":
        with http.server.HTTPServer(("127.0.0.1", 0), NotFound) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            assert tfds.reachable(f"http://127.0.0.1:{server.server_port}/x", 10)
            thread.join()
        return
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == "hangs":
            listener.listen()
        began = time.perf_counter()
        assert not tfds.reachable(f"http://127.0.0.1:{listener.getsockname()[1]}/x", 0.3)
        assert time.perf_counter() - began < 5


# -------------------------------------------------------------------------------------------- .npy and .npz


def test_arrays_by_every_convention(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (10, 4, 3), dtype=np.uint8)
    y = np.arange(10)
    unit = (x / 255).astype(np.float32)[..., None]
    np.savez(tmp_path / "keras.npz", x_train=x[:7], y_train=y[:7], x_test=x[7:], y_test=y[7:])
    np.savez(tmp_path / "splits.npz", train=x[:6], valid=x[6:8], test=x[8:])
    np.savez(tmp_path / "pair.npz", x=x, y=y, other=np.zeros(3))
    np.savez(tmp_path / "one.npz", whatever=x)
    np.save(tmp_path / "plain.npy", x)

    keras = data.load(tmp_path / "keras.npz")
    np.testing.assert_array_equal(keras.train.x, unit[:7])
    np.testing.assert_array_equal(keras.test.y, y[7:])
    splits = data.load(str(tmp_path / "splits.npz"))
    np.testing.assert_array_equal(splits.validation.x, unit[6:8])
    np.testing.assert_array_equal(splits.test.x, unit[8:])
    assert splits.train.y is None
    for name in ("pair.npz", "one.npz", "plain.npy"):
        train, test = data.load(tmp_path / name, test_fraction=0.3, seed=5)
        assert (len(train.x), len(test.x)) == (7, 3)
        both = np.concatenate([train.x, test.x])
        np.testing.assert_array_equal(np.unique(both, axis=0), np.unique(unit, axis=0))  # each once
        again, _ = data.load(tmp_path / name, test_fraction=0.3, seed=5)
        np.testing.assert_array_equal(train.x, again.x)
        other, _ = data.load(tmp_path / name, test_fraction=0.3, seed=6)
        assert not np.array_equal(train.x, other.x)
    train, test = data.load(tmp_path / "pair.npz")
    for batch in (train, test):
        np.testing.assert_array_equal(batch.x, unit[batch.y])  # labels stay with their examples


def test_factors_and_names_of_factors_come_with_a_file(tmp_path):
    drawn = data.shapes(count=20, test_count=5, size=8)
    x, factors = np.concatenate([drawn.train.x, drawn.test.x]), np.concatenate(drawn.factors)
    np.savez(tmp_path / "s.npz", x=x, factors=factors, factor_names=np.array(drawn.factor_names))
    loaded = data.load(tmp_path / "s.npz")
    assert loaded.factor_names == drawn.factor_names
    for batch, f in zip(loaded, loaded.factors, strict=True):
        np.testing.assert_array_equal(batch.x, data.render(f, 8))
    np.savez(tmp_path / "p.npz", train=x[:20], test=x[20:], factors_train=factors[:20], factors_test=factors[20:])
    loaded = data.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(loaded.factors[1], factors[20:])
    assert loaded.factor_names == ("0", "1", "2", "3", "4")
    np.savez(tmp_path / "v.npz", x_train=x[:20], x_valid=x[20:], factors_train=factors[:20])
    assert data.load(tmp_path / "v.npz").factors is None  # of the test, which is the validation set, there are none
    np.savez(tmp_path / "w.npz", x=x, factors=factors[:3])
    with pytest.raises(data.DataError, match=r"25 train examples but factors of shape \(3, 5\)"):
        data.load(tmp_path / "w.npz")


def test_binary_data_is_kept_and_floats_are_not_rescaled(tmp_path):
    for dtype in (bool, np.int64, np.float64):
        np.save(tmp_path / "b.npy", np.eye(4, dtype=dtype))
        train, test = data.load(tmp_path / "b.npy")
        assert set(np.unique(np.concatenate([train.x, test.x]))) == {0.0, 1.0}
    # one split of zeros and ones does not change how another is scaled
    np.savez(tmp_path / "c.npz", train=np.full((2, 2), 255, np.uint8), test=np.ones((2, 2), np.uint8))
    train, test = data.load(tmp_path / "c.npz")
    assert train.x[0, 0] == 1
    assert test.x[0, 0] == np.float32(1 / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.full((4, 2), 255.0)}, r"values from 255 to 255, outside \[0, 1\]; .*x / 255"),
        ({"x": np.full((4, 2), -1.0)}, r"values from -1 to -1, outside"),
        ({"x": np.array([[0.5, np.nan]] * 4)}, "4 values that are NaN or infinite"),
        ({"x": np.full((4, 2), np.inf)}, "8 values that are NaN or infinite"),
        ({"x": np.full((4, 2), 200, np.int64)}, "int64 with values from 200 to 200.*save it as uint8"),
        ({"x": np.zeros(4)}, r"shape \(4,\); it must be \[N, D\]"),
        ({"x": np.array(["a", "b"])}, "holds texts; an array must hold numbers: give texts as a folder of .txt files"),
        ({"x": np.zeros((0, 4))}, "holds no examples"),
        ({"x": np.array([["a", "b"]])}, "holds <U1; it must hold integers, bool or floats"),
        ({"a": np.zeros((4, 2)), "b": np.zeros(4)}, r"holds the arrays \['a', 'b'\]; it must hold train and test"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3)}, r"in train, has labels of shape \(3,\) for 4 examples"),
        ({"x": np.zeros((4, 2)), "y": np.array([0, 1, 2, 0.5])}, "labels that are not whole numbers"),
        ({"train": np.zeros((4, 2)), "test": np.zeros((4, 3))}, "different shapes in its splits"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(data.DataError, match=message):
        data.load(tmp_path / "bad.npz")


def test_a_file_that_is_no_array_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"not a zip")
    with pytest.raises(data.DataError, match=r"x.npz cannot be read as a NumPy file"):
        data.load(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(data.DataError, match=r"x.npy cannot be read as a NumPy file"):
        data.load(tmp_path / "x.npy")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(data.DataError, match=r"x.txt is neither a folder of images nor a .npy, .npz, .csv"):
        data.load(tmp_path / "x.txt")
    np.save(tmp_path / "one.npy", np.ones((1, 3)))
    with pytest.raises(data.DataError, match="1 example cannot be split in two"):
        data.load(tmp_path / "one.npy")


@needs_shared
def test_the_files_that_people_have():
    for name, counts in {"dna": (1400, 600, 1186), "mushrooms": (2000, 500, 5624), "nips": (400, 100, 1240)}.items():
        loaded = data.load(SHARED / "binary" / f"{name}.npz", scale=1)
        assert (len(loaded.train.x), len(loaded.validation.x), len(loaded.test.x)) == counts
        assert set(np.unique(loaded.train.x)) == {0.0, 1.0}
    faces = np.load(SHARED / "frey_faces.npz")["images"]
    train, test = data.load(SHARED / "frey_faces.npz", test_fraction=265 / 1965)
    assert train.x.shape == (1700, 28, 20, 1)
    total = float(train.x.sum(dtype=np.float64) + test.x.sum(dtype=np.float64))
    assert total == pytest.approx(faces.sum(dtype=np.float64) / 255)


# --------------------------------------------------------------------------------------- folders of images


def grey(height, width, value=None, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return x if value is None else np.full_like(x, value)


def encoded(x, kind="png"):
    file = io.BytesIO()
    Image.fromarray(x).save(file, kind)
    return file.getvalue()


def save(path, x, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (x if isinstance(x, Image.Image) else Image.fromarray(x)).save(path, **options)


def test_splits_and_classes_of_a_folder(tmp_path):
    for split, count in (("train", 3), ("test", 2), ("valid", 1)):
        for label, kind in enumerate(("cat", "dog")):
            for i in range(count):
                save(tmp_path / split / kind / f"{i}.png", grey(5, 4, 100 * label + i))
    (tmp_path / "train" / "cat" / "README.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / ".hidden.png").write_text("not an image")
    loaded = data.load(tmp_path)
    assert loaded.classes == ("cat", "dog")
    np.testing.assert_array_equal(loaded.train.y, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(np.rint(loaded.train.x[:, 0, 0, 0] * 255), [0, 1, 2, 100, 101, 102])
    np.testing.assert_array_equal(np.rint(loaded.test.x[:, 0, 0, 0] * 255), [0, 1, 100, 101])
    assert len(loaded.validation.x) == 2


def test_a_folder_without_splits_is_split_by_seed(tmp_path):
    for i in range(10):
        save(tmp_path / ("a" if i < 5 else "b") / f"{i}.bmp", grey(4, 4, i * 20))
    train, test = data.load(tmp_path, test_fraction=0.3)
    assert (len(train.x), len(test.x)) == (7, 3)
    values = np.rint(np.concatenate([train.x, test.x])[:, 0, 0, 0] * 255)
    assert set(values) == set(range(0, 200, 20))
    np.testing.assert_array_equal(np.concatenate([train.y, test.y]), values >= 100)


def test_crop_and_resize(tmp_path):
    x = grey(7, 10)
    save(tmp_path / "a.png", x)
    save(tmp_path / "b.png", grey(12, 12))
    one = lambda **options: data.read_images([tmp_path / "a.png"], **options)[0][..., 0]
    np.testing.assert_array_equal(one(), x)
    np.testing.assert_array_equal(one(crop=4), x[1:5, 3:7])
    np.testing.assert_array_equal(one(crop=(3, 6)), x[2:5, 2:8])
    np.testing.assert_array_equal(one(crop="square"), x[:, 1:8])
    assert one(resize=(3, 9)).shape == (3, 9)
    flat = np.repeat(np.repeat(grey(4, 4), 3, 0), 3, 1)  # shrinking whole blocks keeps their interior's order
    np.testing.assert_allclose(images.fitted(flat[..., None], None, 4)[..., 0].mean(), flat.mean(), atol=2)
    assert data.load(tmp_path, crop="square", resize=6).train.x.shape == (1, 6, 6, 1)
    with pytest.raises(data.DataError, match=r"2 different sizes \(height x width: 7x10, 12x12, ...\); pass resize=64"):
        data.load(tmp_path)
    with pytest.raises(data.DataError, match=r"a.png: an image of 7x10 cannot be cropped to 8x8"):
        data.load(tmp_path, crop=8)
    with pytest.raises(data.DataError, match="crop is 'round'"):
        data.load(tmp_path, crop="round")


def test_every_kind_of_image_becomes_eight_bits_of_grey_or_colour(tmp_path):
    rng = np.random.default_rng(0)
    x, rgb = grey(4, 4), rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    save(tmp_path / "g.png", x)
    read = lambda name, **options: data.read_images([tmp_path / name], **options)[0]
    np.testing.assert_array_equal(read("g.png")[..., 0], x)
    np.testing.assert_array_equal(read("g.png", colour=True), np.repeat(x[..., None], 3, -1))
    save(tmp_path / "rgb.png", rgb)
    np.testing.assert_array_equal(read("rgb.png"), rgb)
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    np.testing.assert_allclose(read("rgb.png", colour=False)[..., 0], luma, atol=1)
    save(tmp_path / "deep.png", x.astype(np.uint16) * 256 + 77)
    np.testing.assert_array_equal(read("deep.png")[..., 0], x)
    save(tmp_path / "bits.png", Image.fromarray(x > 127))
    np.testing.assert_array_equal(read("bits.png")[..., 0], (x > 127) * 255)
    save(tmp_path / "palette.png", Image.fromarray(rgb).quantize(16))
    assert read("palette.png").shape == (4, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    save(tmp_path / "turned.tiff", x, exif=exif)
    np.testing.assert_array_equal(read("turned.tiff")[..., 0], np.rot90(x, -1))
    mixed = data.read_images([tmp_path / "g.png", tmp_path / "rgb.png"])
    assert {image.shape for image in mixed} == {(4, 4, 3)}
    np.testing.assert_array_equal(mixed[0][..., 1], x)


def test_further_pages_of_a_file_are_told(tmp_path, capsys):
    pages = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "alone.tif")
    data.load(tmp_path)
    assert "note: stack.tif has 3 images, and the first one of a file is read" in capsys.readouterr().err


def test_what_is_transparent_is_laid_on_white(tmp_path):
    rgb, alpha = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8), grey(4, 4, seed=1)
    alpha[0], alpha[1] = 0, 255
    read = lambda name, **options: data.read_images([tmp_path / name], **options)[0]
    blended = (rgb * (alpha[..., None] / 255) + 255 - alpha[..., None]).round()
    save(tmp_path / "rgba.png", np.concatenate([rgb, alpha[..., None]], -1))
    np.testing.assert_allclose(read("rgba.png"), blended, atol=1)
    np.testing.assert_allclose(read("rgba.png", colour=False)[..., 0], blended @ [0.299, 0.587, 0.114], atol=1.5)
    save(tmp_path / "la.png", Image.fromarray(np.stack([rgb[..., 0], alpha], -1), "LA"))
    assert read("la.png").shape == (4, 4, 1)
    np.testing.assert_allclose(read("la.png"), blended[..., :1], atol=1)
    flat = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    flat.putpalette(np.arange(48).astype(np.uint8).tobytes())
    save(tmp_path / "palette.png", flat, transparency=5)
    expected = np.arange(48).reshape(4, 4, 3)
    expected[1, 1] = 255
    np.testing.assert_array_equal(read("palette.png"), expected)
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4)
    save(tmp_path / "grey.png", ramp, transparency=5)
    np.testing.assert_array_equal(read("grey.png")[..., 0], np.where(ramp == 5, 255, ramp))


def test_a_broken_or_missing_image_is_named(tmp_path):
    save(tmp_path / "good.png", grey(8, 8))
    whole = (tmp_path / "good.png").read_bytes()
    for broken in (b"", b"not an image", whole[:40]):
        (tmp_path / "broken.png").write_bytes(broken)
        with pytest.raises(data.DataError, match=r"broken.png cannot be read as an image .*repair or remove it"):
            data.load(tmp_path)
    (tmp_path / "cut.png").write_bytes(whole[:50])
    with pytest.raises(data.DataError, match=r"^2 files cannot be used:\n  .*broken\.png .*\n  .*cut\.png "):
        data.load(tmp_path)
    for file in ("broken.png", "cut.png"):
        (tmp_path / ".hidden").mkdir(exist_ok=True)
        (tmp_path / file).rename(tmp_path / ".hidden" / file)  # where nobody looks
    assert data.image_files(tmp_path) == [tmp_path / "good.png"]
    save(tmp_path / "float.tiff", grey(8, 8).astype(np.float32))
    with pytest.raises(data.DataError, match=r"float.tiff .*32 bits each, mode F"):
        data.load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(data.DataError, match="empty holds no images"):
        data.load(tmp_path / "empty")
    with pytest.raises(data.DataError, match="empty holds no images"):
        data.read_images(tmp_path / "empty")
    (tmp_path / "split" / "test").mkdir(parents=True)
    save(tmp_path / "split" / "train" / "a.png", grey(8, 8))
    with pytest.raises(data.DataError, match="test holds no images"):
        data.load(tmp_path / "split")
    save(tmp_path / "mixed" / "class" / "a.png", grey(8, 8))
    save(tmp_path / "mixed" / "b.png", grey(8, 8))
    with pytest.raises(data.DataError, match=r"some files lie directly there \(b.png\) and others in class folders"):
        data.load(tmp_path / "mixed")


def test_patches_of_a_folder_come_from_disjoint_images(tmp_path, capsys):
    for i in range(10):
        save(tmp_path / f"{i}.png", grey(9 + i, 12, 20 * i))
    train, test = data.load(tmp_path, patch=(4, 5), count=500)
    assert train.x.shape == (500, 4, 5, 1)
    assert test.x.shape == (100, 4, 5, 1)
    seen = [set(np.rint(batch.x * 255).ravel().tolist()) for batch in (train, test)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == set(range(0, 200, 20))
    with pytest.raises(data.DataError, match="pass patch=8"):
        data.load(tmp_path, count=5)
    assert "left out" not in capsys.readouterr().err
    Image.new("L", (30, 3)).save(tmp_path / "low.png")
    data.load(tmp_path, patch=(4, 5), count=5)
    assert "left out: 1 image of 11 in" in capsys.readouterr().err


@needs_shared
def test_a_folder_of_photographs():
    loaded = data.load(SHARED / "bsds500", crop=32, colour=False)
    assert loaded.train.x.shape == loaded.test.x.shape == (200, 32, 32, 1)
    in_unit_interval(*loaded)
    train, test = data.load(SHARED / "bsds500", patch=8, count=50, colour=False)
    assert (train.x.shape, test.x.shape) == ((50, 8, 8, 1), (10, 8, 8, 1))


# ---------------------------------------------------------------------------------------- patches, photographs


def test_patches_are_uniform_over_all_positions():
    a = np.arange(24, dtype=np.uint8).reshape(4, 6, 1)
    b = 100 + np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    small = np.zeros((1, 9, 1), np.uint8)
    drawn = data.patches([a, small, b], (2, 3), 5000, seed=0)
    assert drawn.dtype == np.uint8
    offsets = drawn[:, :1, :1]
    np.testing.assert_array_equal(np.diff(drawn[..., 0], axis=2), 1)  # neighbours in a row
    width = np.where(offsets[..., 0] < 100, 6, 3)
    np.testing.assert_array_equal(drawn[:, 1, :, 0].astype(int) - drawn[:, 0, :, 0], np.repeat(width[:, 0], 3, 1))
    corners, counts = np.unique(offsets, return_counts=True)
    expected = [6 * r + c for r in range(3) for c in range(4)] + [100, 103]  # 12 positions in a, 2 in b
    np.testing.assert_array_equal(corners, expected)
    assert (np.abs(counts - 5000 / 14) < 5 * np.sqrt(5000 / 14)).all()
    np.testing.assert_array_equal(drawn, data.patches([a, small, b], (2, 3), 5000, seed=0))
    assert not np.array_equal(drawn, data.patches([a, small, b], (2, 3), 5000, seed=1))


def test_patches_that_cannot_be_drawn():
    with pytest.raises(data.DataError, match="none of the 2 images is as large as a patch of 8x8"):
        data.patches(np.zeros((2, 7, 9, 1)), 8, 10, seed=0)
    with pytest.raises(data.DataError, match="same number of channels"):
        data.patches([np.zeros((9, 9, 1)), np.zeros((9, 9, 3))], 8, 10, seed=0)
    with pytest.raises(data.DataError, match="0 patches"):
        data.patches(np.zeros((2, 9, 9, 1)), 8, 0, seed=0)


def test_photos_never_share_a_pixel_between_train_and_test(monkeypatch):
    import sklearn.datasets

    class Samples:
        images = [np.full((30, 80, 3), 200, np.uint8)]

    Samples.images[0][:, :60] = 100
    monkeypatch.setattr(sklearn.datasets, "load_sample_images", lambda: Samples)
    train, test = data.load("photos", patch=8, count=500)
    assert np.unique(np.rint(train.x * 255)) == [100]
    assert np.unique(np.rint(test.x * 255)) == [200]
    assert test.x.shape == (100, 8, 8, 1)


def test_photos_are_grey_or_colour_patches_of_the_photographs():
    from sklearn.datasets import load_sample_images

    train, test = data.load("photos", patch=(6, 10), count=20, colour=True, seed=3)
    assert train.x.shape == (20, 6, 10, 3)
    where = np.concatenate([i[:, : 640 * 3 // 4] for i in load_sample_images().images], 0)
    windows = np.lib.stride_tricks.sliding_window_view(where, (6, 10), (0, 1))
    for patch in np.rint(train.x[:3] * 255).astype(np.uint8):
        assert (windows[..., 0, 0] == patch[0, 0]).all(-1).any()
        assert (windows == np.moveaxis(patch, -1, 0)).all((-3, -2, -1)).any()
    assert toys.photos(count=5).train.x.shape == (5, 8, 8, 1)
    assert not np.array_equal(train.x[: len(test.x)], test.x)


# ------------------------------------------------------------------------------------------------- shapes


def inside(kind, u, v):
    """Whether a point is in a shape of circumradius 1, from the shapes' geometry and no distances."""
    if kind == 0:
        return (np.abs(u) <= 0.5**0.5) & (np.abs(v) <= 0.5**0.5)
    if kind == 1:
        return u**2 + 4 * v**2 <= 1
    square = np.abs(u) + np.abs(v) <= 0.5**0.5  # of diagonal 2 * 0.5^0.5, on its corner
    centre, radius = 0.5**0.5 / 2, 0.5  # half of a side, and on its middle
    return square | ((np.abs(u) - centre) ** 2 + (v - centre) ** 2 <= radius**2)


def supersampled(factors, size, times=16):
    kind, scale, angle, x, y = factors[:5]
    grid = (np.arange(size * times) + 0.5) / (size * times)
    column, row = np.meshgrid(grid, grid)
    right, up = column - (0.2 + 0.6 * x), (0.2 + 0.6 * y) - row
    u, v = np.cos(angle) * right + np.sin(angle) * up, -np.sin(angle) * right + np.cos(angle) * up
    covered = inside(kind, u / (0.2 * scale), v / (0.2 * scale))
    return covered.reshape(size, times, size, times).mean((1, 3))


def test_shapes_are_drawn_as_their_geometry_says():
    drawn = data.load("shapes", count=60, size=32, seed=1)
    for image, factors in zip(drawn.train.x, drawn.factors[0], strict=True):
        exact = supersampled(factors, 32)
        assert np.abs(image[..., 0] - exact).max() < 0.15  # at a corner or the notch of a heart
        assert np.abs(image[..., 0] - exact).mean() < 1e-3
        assert image.sum() == pytest.approx(exact.sum(), rel=0.025)


def test_factors_reproduce_the_images_and_the_seed_the_set():
    drawn = data.load("shapes", count=300, size=16, colour=True, seed=2)
    assert drawn.factor_names == ("shape", "scale", "orientation", "x", "y", "colour")
    for batch, factors in zip(drawn, drawn.factors, strict=True):
        np.testing.assert_array_equal(batch.x, data.render(factors, 16))
        np.testing.assert_array_equal(batch.y, factors[:, 0])
        in_unit_interval(batch)
        for name, column in zip(drawn.factor_names, factors.T, strict=True):
            assert np.isin(column, sprites.FACTORS[name].astype(np.float32)).all()
    again = data.load("shapes", count=300, size=16, colour=True, seed=2)
    np.testing.assert_array_equal(drawn.train.x, again.train.x)
    assert not np.array_equal(drawn.train.x, data.load("shapes", count=300, size=16, colour=True, seed=3).train.x)
    area = np.pi / 2 * (0.2 * 64 * drawn.factors[0][:, 1]) ** 2  # of an ellipse, in pixels
    ellipses = drawn.factors[0][:, 0] == 1
    larger = data.render(drawn.factors[0][:, :5], 64)
    np.testing.assert_allclose(larger.sum((1, 2, 3))[ellipses], area[ellipses], rtol=0.01)


def test_hue_is_the_colour():
    factors = np.array([[1, 1, 0, 0.5, 0.5, hue] for hue in sprites.FACTORS["colour"]])
    centre = data.render(factors, 33)[:, 16, 16]
    np.testing.assert_allclose(centre, [colorsys.hsv_to_rgb(hue, 1, 1) for hue in factors[:, 5]], atol=1e-6)


def test_orientation_turns_anticlockwise_and_positions_reach_both_ends():
    heart = np.array([[2, 1, a, 0.5, 0.5] for a in (0, np.pi / 2)])
    upright, turned = data.render(heart, 41)[..., 0]
    assert upright[:20].sum() > 1.1 * upright[21:].sum()  # the lobes are above
    np.testing.assert_allclose(upright, upright[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(turned, np.rot90(upright), atol=1e-4)
    corners = np.array([[0, 1, 0, x, y] for x, y in ((0, 0), (1, 0), (0, 1))])
    top_left, top_right, bottom_left = data.render(corners, 20)[..., 0]
    np.testing.assert_allclose(top_right, top_left[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(bottom_left, top_left[::-1], atol=1e-5)
    assert top_left[:8, :8].sum() == pytest.approx(top_left.sum())


def test_the_toys_colour_follows_from_the_shape_alone():
    """A square fills its bounding box, a circle pi/4 of it; areas and places do not tell."""
    from scipy import ndimage

    x = data.load("red_and_blue", count=400, test_count=1, size=48).train.x
    areas = {0: [], 2: []}
    for image in x:
        labels, count = ndimage.label(image.max(-1) > 0.5)
        quarters = image.max(-1).reshape(2, 24, 2, 24).max((1, 3)).sum()
        assert 1 <= count == quarters  # none touches another
        for i, box in enumerate(ndimage.find_objects(labels), 1):
            colours = {int(c) for c in image[labels == i].argmax(-1)}
            filled = (labels[box] == i).mean()
            assert colours == ({2} if filled > 0.95 else {0})
            areas[colours.pop()].append((labels == i).sum())
    assert len(areas[0]) == pytest.approx(len(areas[2]), rel=0.25)
    assert np.mean(areas[0]) == pytest.approx(np.mean(areas[2]), rel=0.05)
    with pytest.raises(data.DataError, match="even side"):
        data.load("red_and_blue", size=17)


def test_no_image_of_shapes_is_drawn_twice():
    # small, so that the whole population of 737280 x 7/12 images is well sampled where it repeats itself
    drawn = data.load("shapes", count=4000, test_count=4000, size=8, seed=0)
    factors = np.concatenate(drawn.factors)
    period = np.array([np.pi / 2, np.pi, 2 * np.pi])[factors[:, 0].astype(int)]
    looks = factors.copy()
    looks[:, 2] = np.rint(factors[:, 2] % period * 1000) % np.rint(period * 1000)
    assert len(np.unique(looks, axis=0)) == 8000
    assert np.bincount(factors[:, 0].astype(int)).min() > 2300  # and each shape comes about as often
    with pytest.raises(data.DataError, match="there are 430080 different ones"):
        data.load("shapes", count=430080, test_count=1, size=1)
    with pytest.raises(data.DataError, match="one at least of each"):
        data.load("shapes", count=0)


# ---------------------------------------------------------------------------------------------- patches


def test_patch_normalisation_is_that_of_ufldl():
    rng = np.random.default_rng(0)
    x = rng.random((200, 4, 4, 1)) ** 3
    # normalizeData of sampleIMAGES.m, line by line; its patches are columns
    columns = x.reshape(200, 16).T
    columns = columns - columns.mean(0)
    deviation = 3 * columns.ravel().std(ddof=1)
    columns = np.maximum(np.minimum(columns, deviation), -deviation) / deviation
    expected = (columns + 1) * 0.4 + 0.1
    ours = data.normalise_patches(x)
    np.testing.assert_allclose(ours.reshape(200, 16).T, expected, atol=1e-6)
    cut = data.normalise_patches(x, data.patch_deviation(x) / 2)
    assert (cut.min(), cut.max()) == (pytest.approx(0.1), pytest.approx(0.9))
    test = data.normalise_patches(x[:5] * 0.5, data.patch_deviation(x))
    np.testing.assert_allclose(test - 0.5, (ours[:5] - 0.5) / 2, atol=0.05)
    with pytest.raises(data.DataError, match="constant"):
        data.normalise_patches(np.ones((3, 4)))


def test_the_spectrum_is_multiplied_as_olshausen_and_field_do():
    rows, columns = np.mgrid[:64, :96]
    for cycles in ((4, 0), (0, 12), (8, 30)):
        f = np.hypot(cycles[0] / 64, cycles[1] / 96)
        wave = 0.5 + np.cos(2 * np.pi * (cycles[0] * rows / 64 + cycles[1] * columns / 96))[..., None]
        expected = (wave - 0.5) * f * np.exp(-((f / (200 / 512)) ** 4))
        np.testing.assert_allclose(data.whiten_spectrum(wave), expected, atol=1e-7)
    # noise whose amplitude falls as 1/f comes out flat
    rng = np.random.default_rng(0)
    f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(128, 128))) / np.where(f, f, 1)).real
    power = np.abs(np.fft.fft2(data.whiten_spectrum(noise[..., None], cutoff=10.0)[..., 0])) ** 2
    low, high = power[(f > 0.02) & (f < 0.1)].mean(), power[(f > 0.3) & (f < 0.4)].mean()
    assert low == pytest.approx(high, rel=0.2)


@needs_shared
def test_photographs_have_a_spectrum_that_this_flattens():
    photos = data.read_images(sorted((SHARED / "bsds500" / "train").iterdir())[:10], colour=False, crop=256)
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))

    def slope(x):
        power = np.mean(
            [np.abs(np.fft.fft2(i[..., 0] * np.outer(np.hanning(256), np.hanning(256)))) ** 2 for i in x], 0
        )
        band = (f > 0.02) & (f < 0.2)
        return np.polyfit(np.log(f[band]), np.log(power[band]), 1)[0]

    assert slope(photos) < -2
    assert abs(slope([data.whiten_spectrum(x) for x in photos])) < 0.8


# ------------------------------------------------------------------------------------ binarisation, splits


def test_static_binarisation_is_fixed_by_its_seed_and_fair():
    x = np.tile(np.array([0, 0.1, 0.5, 0.9, 1], np.float32), (20000, 1))
    drawn = data.binarise(x, 0)
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(0), x[0], atol=5 * 0.5 / np.sqrt(20000))
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 4] == 1).all()
    np.testing.assert_array_equal(drawn, data.binarise(x, 0))
    assert not np.array_equal(drawn, data.binarise(x, 1))


def test_dynamic_binarisation_is_fresh_at_each_step_inside_the_compiled_one():
    x = jnp.tile(jnp.array([0, 0.25, 0.5, 1.0]), (500, 1))

    def observe(params, batch, key):
        return {"seen": params["seen"] + batch.x, "last": batch.x}

    rule = core.repeat(core.augment(core.assign(observe), data.dynamic_binarise), 40)
    params = {"seen": jnp.zeros_like(x), "last": x}
    update = jax.jit(rule.update)
    params, _, _ = update(params, rule.init(params), core.Batch(x), jax.random.key(0))
    assert set(np.unique(params["last"])) == {0.0, 1.0}
    assert params["last"].dtype == x.dtype
    np.testing.assert_allclose(params["seen"].mean(0) / 40, x[0], atol=5 * 0.5 / np.sqrt(500 * 40))
    assert 0 < params["seen"][:, 2].std() < 5  # 40 fair coins each, not one draw 40 times over
    y = jnp.arange(500)
    np.testing.assert_array_equal(data.dynamic_binarise(core.Batch(x, y), jax.random.key(1)).y, y)


def test_validation_split_is_a_partition_by_its_seed():
    x = np.arange(100, dtype=np.float32)[:, None] / 100
    batch = dataset.make_batch(x, np.arange(100))
    train, validation = data.validation_split(batch, 0.25, seed=0)
    assert (len(train.x), len(validation.x)) == (75, 25)
    assert sorted([*train.y, *validation.y]) == list(range(100))
    for part in (train, validation):
        np.testing.assert_array_equal(part.x, x[part.y])
    np.testing.assert_array_equal(validation.y, data.validation_split(batch, 0.25, seed=0)[1].y)
    assert not np.array_equal(validation.y, data.validation_split(batch, 0.25, seed=1)[1].y)
    assert data.validation_split(batch._replace(y=None), 0.25, seed=0)[0].y is None
    with pytest.raises(data.DataError, match=r"split off is 1.5; it must lie strictly between 0 and 1"):
        data.validation_split(batch, 1.5, seed=0)
