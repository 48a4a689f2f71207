"""What belongs to the data and what does not: records, folders, labels, splits, words."""

import dataclasses
import io
import json
import shutil
import struct
import unicodedata
from functools import partial

import numpy as np
import pytest
from PIL import Image
from test_tfrecord import frame

from ae_jax import data
from ae_jax.app import files
from ae_jax.app.commands import loading
from ae_jax.errors import RunError
from ae_jax.training import run_folder, settings

# --------------------------------------------------------------------------------------- prepared sets, by hand


def varint(n):
    n, out = n & (1 << 64) - 1, b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def part(field, raw):
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def record(label, pixels=None):
    """A frame of a TFRECORD file: an image of 4x4 and a label."""
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40 * max(label, 0), np.uint8) if pixels is None else pixels).save(file, "PNG")
    entry = lambda key, kind, value: part(1, part(1, key) + part(2, part(kind, part(1, value))))
    return frame(part(1, entry(b"image", 1, file.getvalue()) + entry(b"label", 3, varint(label))))


def prepared(root, labels, classes=("cat", "dog", "owl")):
    """A prepared set `toy` under root, labels by split; its folder."""
    kind = lambda name: f"tensorflow_datasets.core.features.{name}"
    image = {"image": {"dtype": "uint8", "shape": {"dimensions": ["4", "4", "1"]}}, "pythonClassName": kind("Image")}
    label = {"classLabel": {"numClasses": str(len(classes))}, "pythonClassName": kind("ClassLabel")}
    folder = root / "toy" / "1.0.0"
    folder.mkdir(parents=True)
    features = {"featuresDict": {"features": {"image": image, "label": label}}}
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "label.labels.txt").write_text("\n".join(classes) + "\n")
    splits = [{"name": split, "shardLengths": [str(len(y))]} for split, y in labels.items()]
    (folder / "dataset_info.json").write_text(json.dumps({"name": "toy", "fileFormat": "tfrecord", "splits": splits}))
    for split, y in labels.items():
        (folder / f"toy-{split}.tfrecord-00000-of-00001").write_bytes(b"".join(map(record, y)))
    return folder


def everything(load, root):
    """All examples of train, as `load` or `open_stream` has them."""
    found = load("toy", data_dir=root)
    return found.train if load is data.load else found.train.raw(np.arange(len(found.train)))


@pytest.mark.parametrize("load", [data.load, data.open_stream])
def test_no_flipped_bit_of_a_record_file_is_read(tmp_path, load):
    folder = prepared(tmp_path, {"train": [0, 1, 2] * 4, "test": [0, 1]})
    file = folder / "toy-train.tfrecord-00000-of-00001"
    whole = file.read_bytes()
    assert len(everything(load, tmp_path).x) == 12
    length = len(record(0))
    rng = np.random.default_rng(0)
    places = [*range(16), length - 1, *rng.integers(0, len(whole), 40)]  # length, its checksum, payload, its checksum
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(data.DataError, match=rf"{file.name} is damaged at record \d+ \(") as error:
            everything(load, tmp_path)
        assert f"record {np.searchsorted(ends(whole), at, side='right')} " in str(error.value)


def ends(whole):
    """Where each record of a file ends."""
    found, at = [], 0
    while at < len(whole):
        at += 16 + struct.unpack_from("<Q", whole, at)[0]
        found.append(at)
    return found


@pytest.mark.parametrize("load", [data.load, data.open_stream])
@pytest.mark.parametrize("left", [0, 5, 12, 100])
def test_a_cut_or_empty_record_file_is_named(tmp_path, load, left):
    file = prepared(tmp_path, {"train": [0, 1, 2], "test": [0, 1]}) / "toy-train.tfrecord-00000-of-00001"
    file.write_bytes(file.read_bytes()[:left])
    told = "is cut short: its record 0, at byte 0," if left else "holds 0 records, and dataset_info.json says 3"
    with pytest.raises(data.DataError, match=f"{file.name} {told}"):
        load("toy", data_dir=tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": "toy"}', '{"name": "toy", "splits": 3}', "{"])
def test_a_description_of_another_form_is_told(tmp_path, content):
    folder = prepared(tmp_path, {"train": [0, 1], "test": [0]})
    (folder / "dataset_info.json").write_text(content)
    with pytest.raises(data.DataError, match="does not say what it holds"):
        data.load("toy", data_dir=tmp_path)


def test_without_a_home_folder_named_data_are_found_all_the_same(monkeypatch, tmp_path):
    def nobody(path):
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.setattr("pathlib.Path.expanduser", nobody)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert len(data.load("digits").train.x) == 1437
    np.save(tmp_path / "x.npy", np.zeros((4, 3), np.float32))
    assert len(data.load(tmp_path / "x.npy").train.x) == 3
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.DataError, match="there is no home folder to prepare it in"):
        data.load("mnist")
    for told in (data.load, data.open_stream, run_folder.Folder, partial(files.read_examples, shape=(3,))):
        with pytest.raises(data.DataError, match="there is no such home folder"):
            told("~/x.npy")


# ------------------------------------------------------------------------------------------- what lies in folders


def grey(path, value=128, size=4):
    """An image of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def pets(tmp_path):
    """A folder of two classes of four images."""
    for name in ("cats", "dogs"):
        for i in range(4):
            grey(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.fixture
def books(tmp_path):
    """A folder of two classes of four texts."""
    for name, words in (("sea", "wave harbour sail"), ("wood", "oak moss fern")):
        for i in range(4):
            write(tmp_path / name / f"{i}.txt", words)
    return tmp_path


def finished_run(folder):
    """What a run leaves, as far as it matters here."""
    write(folder / "config.json", "{}")
    write(folder / "lock", "")
    write(folder / "notes.txt", "what I think of this run")
    grey(folder / "pictures" / "samples.png", size=50)
    write(folder / "projector" / "projector_config.pbtxt", "")
    np.save(folder / "codes.npy", np.zeros((5, 2), np.float32))


def same(one, other):
    assert one.classes == other.classes
    for now, before in zip(one, other, strict=True):
        np.testing.assert_array_equal(now.x, before.x)
        np.testing.assert_array_equal(now.y, before.y)


@pytest.mark.parametrize("below", ["runs/first", "first", "cats/first"])
def test_what_ae_jax_wrote_is_no_data(pets, below, capsys, monkeypatch):
    monkeypatch.chdir(pets)
    before, streamed = data.load("."), data.open_stream(".")
    assert before.name == streamed.name == pets.name
    assert capsys.readouterr().err == ""
    finished_run(pets / below)
    same(data.load("."), before)
    assert capsys.readouterr().err == f"left out: what ae-jax wrote ({below})\n"
    again = data.open_stream(".")
    assert capsys.readouterr().err == f"left out: what ae-jax wrote ({below})\n"
    assert (len(again.train), again.classes) == (len(streamed.train), streamed.classes)
    assert len(data.read_images(pets)) == 8


def test_what_ae_jax_wrote_is_no_text_and_no_array(books, tmp_path_factory, capsys):
    before = data.load(books)
    finished_run(books / "runs" / "first")
    same(data.load(books), before)
    assert "left out: what ae-jax wrote (runs/first)" in capsys.readouterr().err
    arrays = tmp_path_factory.mktemp("arrays")
    np.save(arrays / "x.npy", np.zeros((20, 4), np.float32))
    finished_run(arrays / "runs" / "first")
    assert len(data.open_stream(arrays).train) == 16
    assert "left out: what ae-jax wrote (runs/first)" in capsys.readouterr().err


def test_pictures_of_a_run_are_data_where_they_are_named(tmp_path):
    finished_run(tmp_path)
    assert len(data.read_images(tmp_path / "pictures")) == 1


@pytest.mark.parametrize("name", ["README.md", "readme.txt", "LICENSE.txt", "Citation.md"])
def test_a_text_about_the_data_drops_no_labels(books, name, capsys):
    before = data.load(books)
    write(books / name, "licence citation")
    same(data.load(books), before)
    assert capsys.readouterr().err == f"left out: 1 text about the data ({name})\n"
    for folder in ("sea", "wood/deep"):
        write(books / folder / name, "licence citation")
    same(data.load(books), before)
    told = f"left out: 3 texts about the data ({name}, sea/{name}, wood/deep/{name})\n"
    assert capsys.readouterr().err == told
    x, _ = files.read_examples(str(books), (2,), ("oak", "sail"))
    assert len(x) == 8
    assert capsys.readouterr().err == told


def test_a_class_of_texts_about_the_data_alone_is_told(books, capsys):
    before = data.load(books)
    write(books / "later" / "README.md", "to come")
    same(data.load(books), before)
    told = "left out: 1 text about the data (later/README.md); a folder without texts (later)\n"
    assert capsys.readouterr().err == told


def test_a_text_about_the_data_is_no_document_without_classes_either(tmp_path, capsys):
    for split in ("train", "test"):
        write(tmp_path / split / "a.txt", "wave harbour")
    write(tmp_path / "train" / "README.md", "licence citation")
    write(tmp_path / "README.md", "licence citation")
    assert data.load(tmp_path).vocabulary == ("harbour", "wave")
    assert "left out: 2 texts about the data (README.md, train/README.md)" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pets", "books"])
def test_a_packed_file_beside_the_data_is_named(kind, request, capsys):
    folder = request.getfixturevalue(kind)
    before = data.load(folder)
    np.savez(folder / "codes.npz", x=np.zeros((3, 2)))
    same(data.load(folder), before)
    assert capsys.readouterr().err == "left out: 1 .npz file (codes.npz)\n"


def test_folders_of_nothing_but_readmes_are_documents(tmp_path):
    for i in range(4):
        write(tmp_path / f"repository{i}" / "README.md", "wave harbour")
    assert len(data.load(tmp_path).classes) == 4


@pytest.mark.parametrize("load", [data.load, data.open_stream])
def test_a_stray_file_beside_class_folders_is_named(pets, load):
    grey(pets / "samples.png")
    with pytest.raises(data.DataError, match=r"lie directly there \(samples.png\) and others in class"):
        load(pets)


def test_a_stray_text_beside_class_folders_is_named(books):
    write(books / "notes.txt", "to do")
    with pytest.raises(data.DataError, match=r"lie directly there \(notes.txt\) and others in class"):
        data.load(books)


@pytest.mark.parametrize("load", [data.load, data.open_stream])
@pytest.mark.parametrize("stray", ["x.npy", "cats/codes.npy"])
def test_arrays_beside_images_are_refused(pets, load, stray):
    np.save(pets / stray, np.zeros((5, 2), np.float32))
    with pytest.raises(data.DataError, match=rf"1 .npy file \({stray}\) and 8 images \(cats/0.png, .*move one kind"):
        load(pets)
    (pets / stray).unlink()
    load(pets)


def test_texts_beside_images_are_about_them_unless_they_are_more(pets, capsys):
    for i in range(4):
        write(pets / "cats" / f"{i}.txt", "a cat")
    assert data.load(pets).classes == ("cats", "dogs")
    assert capsys.readouterr().err == "left out: 4 texts (cats/0.txt, cats/1.txt, cats/2.txt, ...)\n"
    for i in range(5):
        write(pets / "dogs" / f"{i}.txt", "a dog")
    with pytest.raises(data.DataError, match=r"9 texts \(.*\) and 8 images"):
        data.load(pets)


def test_texts_beside_arrays_are_about_them(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((20, 4), np.float32))
    write(tmp_path / "README.md", "what this is")
    data.open_stream(tmp_path)
    assert capsys.readouterr().err == ""
    write(tmp_path / "columns.txt", "a b c d")
    np.save(tmp_path / "x.labels.npy", np.zeros(20, int))
    (tmp_path / "old").mkdir()
    np.save(tmp_path / "old" / "y.npy", np.zeros((20, 4), np.float32))
    assert len(data.open_stream(tmp_path).train) == 16
    told = "left out: 1 .npy file in folders below (old/y.npy); 1 text (columns.txt)\n"
    assert capsys.readouterr().err == told


def test_texts_are_not_streamed_but_told(books):
    with pytest.raises(data.DataError, match="texts, which are not streamed but loaded"):
        data.open_stream(books)


# .......................................................................................... splits and classes


def test_what_lies_beside_the_splits_is_told(tmp_path, capsys):
    for name in ("train/a", "train/b", "test/a", "test/b", "unlabelled"):
        grey(tmp_path / name / "0.png")
    grey(tmp_path / "logo.png")
    dataset = data.load(tmp_path)
    assert (len(dataset.train.x), len(dataset.test.x), dataset.classes) == (2, 2, ("a", "b"))
    assert capsys.readouterr().err == "left out: 2 images (logo.png, unlabelled/0.png) in no split\n"


@pytest.mark.parametrize("load", [data.load, data.open_stream])
def test_a_class_called_as_a_split_is_refused(tmp_path, load):
    for name in ("train", "car", "plane"):
        grey(tmp_path / name / "0.png")
    with pytest.raises(data.DataError, match=r"has a folder train and 2 images \(car/0.png, plane/0.png\) beside it"):
        load(tmp_path)
    (tmp_path / "train").rename(tmp_path / "test")
    with pytest.raises(data.DataError, match="has the folder test and no folder train"):
        load(tmp_path)
    (tmp_path / "test").rename(tmp_path / "trains")
    assert load(tmp_path).classes == ("car", "plane", "trains")


def test_two_folders_for_one_split_are_refused(tmp_path):
    for name in ("train", "val", "validation"):
        grey(tmp_path / name / "0.png")
    with pytest.raises(data.DataError, match="2 folders for validation, val, validation: leave one"):
        data.load(tmp_path)


def test_patches_have_the_splits_of_their_folder(tmp_path):
    for i, split in enumerate(("train", "test", "valid")):
        grey(tmp_path / split / "0.png", 10 * i, size=8)
    dataset = data.load(tmp_path, patch=4, count=10, test_count=3)
    assert [(len(part.x), round(255 * float(part.x.max()))) for part in (*dataset, dataset.validation)] == [
        (10, 0),
        (3, 10),
        (3, 20),
    ]
    shutil.rmtree(tmp_path / "test")
    dataset = data.load(tmp_path, patch=4, count=10)
    assert dataset.validation is None
    assert round(255 * float(dataset.test.x.max())) == 20
    assert "its validation split as test" in dataset.source


def test_splits_that_nothing_uses_are_told(tmp_path, capsys):
    prepared(tmp_path, {"train": [0, 1, 2], "test": [0, 1], "extra": [0], "unlabelled": [-1]})
    for load in (data.load, data.open_stream):
        load("toy", data_dir=tmp_path)
        assert capsys.readouterr().err == "left out: the splits extra, unlabelled of toy\n"


def test_a_class_of_held_out_examples_alone_is_counted_apart(tmp_path):
    prepared(tmp_path, {"train": [0, 1], "test": [0, 2, -1]})
    said = "2 classes (1 more in held-out examples alone, 1 of test without a label)"
    assert said in str(data.load("toy", data_dir=tmp_path))


def test_what_is_encoded_leaves_out_the_same(pets, capsys):
    finished_run(pets / "runs" / "first")
    x, names = files.read_examples(str(pets), (4, 4, 1))
    assert (x.shape, names[0]) == ((8, 4, 4, 1), "cats/0.png")
    assert capsys.readouterr().err == "left out: what ae-jax wrote (runs/first)\n"
    np.save(pets / "codes.npy", np.zeros((3, 2), np.float32))
    with pytest.raises(data.DataError, match=r"1 .npy file \(codes.npy\) and 8 images"):
        files.read_examples(str(pets), (4, 4, 1))


def test_documents_that_are_encoded_leave_out_the_same(books, capsys):
    write(books / "README.md", "licence citation")
    _, names = files.read_examples(str(books), (2,), ("oak", "sail"))
    assert names == [f"{name}/{i}.txt" for name in ("sea", "wood") for i in range(4)]
    assert capsys.readouterr().err == "left out: 1 text about the data (README.md)\n"


def test_codes_for_the_projector_beside_images_are_no_images(tmp_path, capsys):
    for i in range(4):
        grey(tmp_path / f"{i}.png")
    grey(tmp_path / "sprite.png", size=9)
    write(tmp_path / "projector_config.pbtxt", "")
    assert len(data.load(tmp_path).train.x) == 3
    assert capsys.readouterr().err == "left out: what ae-jax wrote (sprite.png)\n"


@pytest.mark.parametrize("load", [data.load, data.open_stream])
def test_a_run_is_no_data(tmp_path, load):
    finished_run(tmp_path)
    with pytest.raises(data.DataError, match="is the folder of a run, which holds no data"):
        load(tmp_path)


def test_an_empty_split_is_told(tmp_path):
    grey(tmp_path / "train" / "0.png")
    (tmp_path / "test").mkdir()
    with pytest.raises(data.DataError, match="test holds no images"):
        data.load(tmp_path)


def test_empty_classes_and_classes_of_test_alone_are_told(tmp_path, capsys):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        grey(tmp_path / name / "0.png")
    (tmp_path / "train" / "d").mkdir()
    (tmp_path / "train" / ".cache").mkdir()
    assert data.load(tmp_path).classes == ("a", "b", "c")
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "left out: a folder without images (train/d)",
        "note: c in test is no class of train: nothing can learn it",
    ]


def test_a_class_is_one_in_both_forms_of_unicode(tmp_path):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("caf\u00e9", "bar"):
            grey(tmp_path / split / unicodedata.normalize(form, name) / "0.png")
    dataset = data.load(tmp_path)
    assert dataset.classes == ("bar", "caf\u00e9")
    np.testing.assert_array_equal(dataset.train.y, dataset.test.y)


def test_linked_folders_are_read_once(tmp_path):
    for name in ("elsewhere/cats", "here/dogs", "here/birds"):
        grey(tmp_path / name / "0.png")
    (tmp_path / "here" / "cats").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "here" / "same").symlink_to(tmp_path / "here" / "dogs")  # would repeat what is here
    (tmp_path / "here" / "all").symlink_to(tmp_path)
    (tmp_path / "elsewhere" / "cats" / "loop").symlink_to(tmp_path / "elsewhere" / "cats")
    assert data.load(tmp_path / "here").classes == ("birds", "cats", "dogs")


def test_a_broken_link_is_named(pets):
    (pets / "cats" / "9.png").symlink_to(pets / "gone.png")
    with pytest.raises(data.DataError, match=r"9\.png cannot be read as an image"):
        data.load(pets)


# ------------------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6, 3, 32, 32), (0, 2, 3, 1)),
        ((6, 1, 28, 28), (0, 2, 3, 1)),
        ((6, 3, 218, 178), (0, 2, 3, 1)),
        ((6, 4, 5, 5), (0, 2, 3, 1)),
        ((32, 32, 3, 10), (3, 0, 1, 2)),
        ((32, 32, 1, 10), (3, 0, 1, 2)),
        ((300, 2, 16, 16), (0, 2, 3, 1)),
        ((32, 32, 2, 10), (3, 0, 1, 2)),
        ((6, 32, 32, 3), None),
        ((6, 32, 32, 1), None),
        ((6, 3, 32, 3), None),  # three rows in colour
        ((6, 1, 128, 9), None),  # signals of nine channels
        ((6, 8, 8, 16), None),  # maps of features
        ((3, 3, 3, 3), None),
        ((32, 32, 3, 4), None),
        ((6, 3, 32), None),
        ((6, 3072), None),
    ],
)
def test_channels_that_come_first_are_told_from_rows(shape, axes):
    assert data.checks.transposition(shape) == axes


def test_grey_images_of_either_order_are_told_how_they_are_read(capsys):
    for shape in ((300, 8, 8), (8, 8, 8), (3, 3, 300), (8, 8, 300, 1)):
        data.checks.check_channels(shape, "x")
    assert capsys.readouterr().err == ""
    data.checks.check_channels((8, 8, 300), "x")
    told = "x has the shape (8, 8, 300), read as 8 images of 8 x 300; "
    assert capsys.readouterr().err == told + "if it is 300 images of 8 x 8, save x.transpose(2, 0, 1)\n"
    data.checks.check_channels((8, 8, 1), "x")
    assert capsys.readouterr().err.endswith("if it is one image of 8 x 8 x 1, save x[None]\n")


def test_labels_beside_an_array_are_read_in_memory(tmp_path):
    np.save(tmp_path / "x.npy", np.linspace(0, 1, 20)[:, None])
    np.save(tmp_path / "x.labels.npy", np.arange(20))
    read = data.load(tmp_path / "x.npy")
    for part in (read.train, read.test):
        assert part.y is not None
        np.testing.assert_array_equal(np.round(part.x[:, 0] * 19), part.y)
    np.save(tmp_path / "x.labels.npy", np.arange(3))
    with pytest.raises(data.DataError, match=r"labels of shape \(3,\) for 20 examples"):
        data.load(tmp_path / "x.npy")


def test_reconstructions_outside_the_unit_interval_are_told_to_be_clipped(tmp_path):
    np.save(tmp_path / "x.npy", x := np.array([[-0.145, 1.307]]))
    with pytest.raises(RunError, match=r"from -0\.145 to 1\.307, .*numpy\.clip\(x, 0, 1\)"):
        files.read_examples(str(tmp_path / "x.npy"), (2,))
    np.save(tmp_path / "x.npy", np.clip(x, 0, 1))
    np.testing.assert_array_equal(files.read_examples(str(tmp_path / "x.npy"), (2,))[0], [[0, 1]])


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "folder"])
def test_channels_first_are_refused_with_advice_that_mends(tmp_path, name):
    x = np.random.default_rng(0).random((10, 3, 8, 8), np.float32)
    (tmp_path / "folder").mkdir()

    def save(x):
        np.savez(tmp_path / "x.npz", x_train=x, x_test=x)
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "folder" / "0.npy", x)

    opened = data.open_stream if name == "folder" else data.load
    save(x)
    with pytest.raises(data.DataError, match=r"channels come last here: save x\.transpose\(0, 2, 3, 1\)\.") as told:
        opened(tmp_path / name)
    assert "reshape" not in str(told.value)
    right = eval(str(told.value).partition("save ")[2].partition(". If")[0], {"x": x})
    save(right)
    loaded = opened(tmp_path / name).train
    assert (loaded.shape if name == "folder" else loaded.x.shape[1:]) == (8, 8, 3)
    np.testing.assert_array_equal(right[0, 4, 5], x[0, :, 4, 5])
    save(x.reshape(10, -1))  # the other advice
    opened(tmp_path / name)


def test_arrays_of_a_file_that_are_not_used_are_told(tmp_path, capsys):
    x = np.zeros((10, 4), np.float32)
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x, y_train=np.zeros(10, int), weights=np.ones(3), test_y2=x)
    data.load(tmp_path / "a.npz")
    assert capsys.readouterr().err == "left out: the array weights (3,); the array test_y2 (10, 4)\n"
    factors = np.zeros((10, 2), np.float32)
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x, factors_train=factors)
    assert data.load(tmp_path / "a.npz").factors is None
    assert capsys.readouterr().err == "left out: the factors of train, as other splits have none\n"
    np.savez(tmp_path / "a.npz", x=x, factors=factors, factor_names=["a", "b"], y=np.zeros(10, int))
    assert data.load(tmp_path / "a.npz").factor_names == ("a", "b")
    assert capsys.readouterr().err == ""
    np.savez(tmp_path / "a.npz", X=x, x=x)
    with pytest.raises(data.DataError, match="differ only in capitals"):
        data.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("y", "told"),
    [
        (np.eye(3)[np.arange(10) % 3], r"shape \(10, 3\) for 10 examples; it must be \(10,\): save y.argmax\(1\)"),
        (np.zeros((10, 1)), r"save y\[:, 0\]"),
        (np.array(["cat"] * 10), "labels that are words"),
        (np.full(10, 0.5), "not whole numbers"),
        (np.full(10, np.nan), "not whole numbers"),
        (np.full(10, 2.0**40), "labels from 1099511627776"),
    ],
)
def test_labels_of_other_forms_are_refused_with_what_to_save(tmp_path, y, told):
    x = np.zeros((10, 4), np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    with pytest.raises(data.DataError, match=told):
        data.load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(10.0) % 3)  # floats that are whole
    assert data.load(tmp_path / "x.npz").train.y.dtype == np.int32


@pytest.mark.parametrize("shard_size", [None, 0])
def test_a_validation_split_that_is_there_is_not_replaced_unsaid(tmp_path, monkeypatch, shard_size):
    prepared(tmp_path, {"train": [0, 1, 2] * 4, "validation": [0, 1, 2], "test": [0, 1]})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    given = settings.Settings(
        algorithm="autoencoder",
        network="mlp",
        data="toy",
        latents=2,
        epochs=1,
        batch_size=4,
        seeds=(0,),
        shard_size=shard_size,
    )
    loaded = loading.load(given)
    held_out = loaded.validation if loaded.streams is None else loaded.streams.validation.source
    assert len(held_out.x if loaded.streams is None else held_out) == 3
    with pytest.raises(data.DataError, match="a validation split of 3 examples: leave validation= out"):
        loading.load(dataclasses.replace(given, validation=0.2))
