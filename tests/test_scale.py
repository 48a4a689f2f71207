"""The scale of numbers comes from their type or from the user, and is never guessed from the values."""

import io
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from PIL import Image
from test_tfrecord import frame

from ae_jax import data
from ae_jax.app import files
from ae_jax.app.commands import coding, loading, measuring, reporting, restoring, runs, searching, training
from ae_jax.app.flags import as_flags, parse, settings_of
from ae_jax.data.dataset import unit_interval
from ae_jax.errors import RunError
from ae_jax.training.settings import Settings

RNG = np.random.default_rng(0)
ONES = {np.uint8: 255, np.uint16: 65535}  # what is 1.0
DARK = RNG.integers(0, 2, (40, 6, 6)).astype(np.uint8)  # nearly black
DARK[0, 0, :2] = 0, 1


def streamed(source):
    """All examples of a source, in the order in which they lie."""
    return np.asarray(data.Stream(source, len(source)).load(0, 0).x)


# ------------------------------------------------------------------------------------------------- arrays


@given(
    dtype=st.sampled_from([np.uint8, np.uint16]),
    dark=st.booleans(),
    scale=st.sampled_from([None, 1, 16, 255, 1000, 65535]),
    raw=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_each_number_of_a_type_stands_for_one_value_whatever_lies_beside_it(dtype, dark, scale, raw):
    one = scale or ONES[dtype]
    most = min(one, ONES[dtype])
    x = raw.draw(arrays_of.arrays(dtype, (3, 2), elements=st.integers(0, 1 if dark else most)))
    (got,) = unit_interval([x], "x", scale)
    np.testing.assert_array_equal(got, x.astype(np.float32) / np.float32(one))
    beside = np.concatenate([x, np.full((1, 2), most, dtype)])
    np.testing.assert_array_equal(unit_interval([beside], "x", scale)[0][:3], got)
    source = data.stream.made("x", 3, lambda index: data.dataset.make_batch(x[index]), scale=scale)
    np.testing.assert_array_equal(streamed(source), got)
    np.testing.assert_array_equal(unit_interval([x.astype(x.dtype.newbyteorder(">"))], "x", scale)[0], got)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_largest_number_of_a_type_stands_for_one(dtype):
    x = np.full((3, 2), np.iinfo(dtype).max, dtype)
    np.testing.assert_array_equal(unit_interval([x], "x", None)[0], 1)


@pytest.mark.parametrize("dtype", [bool, np.float16, np.float32, np.float64, np.int8, np.int32, np.int64, np.uint64])
def test_other_types_are_as_they_are(tmp_path, dtype):
    x = RNG.integers(0, 2, (30, 4)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    loaded, stream = data.load(tmp_path / "x.npy"), data.open_stream(tmp_path / "x.npy")
    assert set(np.unique(loaded.train.x)) == {0.0, 1.0} == set(np.unique(streamed(stream.train)))
    assert loaded.train.x.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, bool, np.float32])
@pytest.mark.parametrize("scale", [None, 1])
def test_a_stream_gives_the_bits_of_memory(tmp_path, dtype, scale):
    most = 1 if scale == 1 or dtype not in ONES else ONES[dtype]
    x = (RNG.integers(0, most + 1, (300, 3, 3))).astype(dtype)
    if dtype is np.float32:
        x *= np.float32(0.3)
    x[:256:2] = 0  # a sample would find the first half of the train part dark
    for part, of in (("train", x), ("test", x[:20])):
        (tmp_path / "set" / part).mkdir(parents=True)
        np.save(tmp_path / "set" / part / "0.npy", of[: len(of) // 2])
        np.save(tmp_path / "set" / part / "1.npy", of[len(of) // 2 :])
    np.savez(tmp_path / "set.npz", train=x, test=x[:20])
    memory = data.load(tmp_path / "set.npz", scale=scale)
    stream = data.open_stream(tmp_path / "set", scale=scale)
    for batch, source in zip(memory, (stream.train, stream.test), strict=True):
        np.testing.assert_array_equal(streamed(source), batch.x)
    assert stream.scale == memory.scale == scale


def test_a_stream_whose_sample_is_dark_is_not_cut_to_zeros_and_ones(tmp_path):
    x = np.zeros((2000, 4), np.uint8)
    rest = np.setdiff1d(np.arange(2000), np.linspace(0, 1999, 256).astype(int))  # all that a sample would miss
    x[rest] = RNG.integers(0, 256, (len(rest), 4))
    np.save(tmp_path / "x.npy", x)
    source = data.open_stream(tmp_path / "x.npy").train
    index = data.Stream(source, len(source)).index(0, 0)
    np.testing.assert_array_equal(streamed(source), x[index] / np.float32(255))


def test_dark_bytes_are_told_once_and_said_to_be_zeros_and_ones_by_a_scale(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", train=DARK, test=DARK[:5])
    assert data.load(tmp_path / "x.npz").train.x.max() == np.float32(1 / 255)
    (told,) = capsys.readouterr().err.splitlines()
    assert f"no value of {tmp_path / 'x.npz'} exceeds 1, and uint8 is read as 0 to 255" in told
    assert "--data-scale 1" in told
    np.testing.assert_array_equal(data.load(tmp_path / "x.npz", scale=1).train.x[..., 0], DARK)
    assert not capsys.readouterr().err
    np.save(tmp_path / "x.npy", DARK)
    data.open_stream(tmp_path / "x.npy")
    (told,) = capsys.readouterr().err.splitlines()
    assert "in a sample" in told
    assert set(np.unique(streamed(data.open_stream(tmp_path / "x.npy", scale=1).train))) == {0.0, 1.0}
    assert not capsys.readouterr().err
    np.savez(tmp_path / "bright.npz", train=DARK, test=np.full_like(DARK[:5], 2))
    data.load(tmp_path / "bright.npz")
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("x", "scale", "message"),
    [
        (np.array([[0, 2]], np.uint8), 1, "uint8 with values from 0 to 2, outside 0 to 1, the range of scale=1"),
        (np.array([[-1, 1]]), 1, "int64 with values from -1 to 1, outside 0 to 1"),
        (np.array([[0, 2]]), None, "int64 with values from 0 to 2, .* train with scale=255, save it as uint8"),
        (np.array([[0, 1]], np.uint8), 0, "scale=0: .* must be positive and finite"),
        (np.array([[0, 1]], np.uint8), -1, "scale=-1: "),
        (np.array([[0, 1]], np.uint8), float("nan"), "scale=nan: "),
        (np.array([[0, 1.0000001]], np.float32), None, r"values from 0 to 1.0000001, outside \[0, 1\]"),
        (np.array([[-1e-7, 1]], np.float32), None, r"values from -1e-07 to 1, outside"),
        (np.array([[0.25, 1.000001]]), None, r"values from 0.25 to 1.000001, outside"),
        (np.array([[0, 1e300]]), None, r"values from 0 to 1e\+300, outside"),
        (np.array([[0, np.nan]]), None, "4 values that are NaN or infinite"),
    ],
)
def test_values_outside_are_told_as_they_are(tmp_path, x, scale, message):
    np.save(tmp_path / "x.npy", np.repeat(x, 4, 0))
    with pytest.raises(data.DataError, match=f"^{message}" if message.startswith("scale") else f"x.npy.*{message}"):
        data.load(tmp_path / "x.npy", scale=scale)
    with pytest.raises(data.DataError, match=message):
        data.open_stream(tmp_path / "x.npy", scale=scale)


def test_a_stream_takes_the_options_that_it_has(tmp_path):
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "0.npy", DARK)
    assert data.stream_options_for(tmp_path / "set", {"scale": 1, "patch": 4, "seed": 2}) == {"scale": 1, "seed": 2}


def test_a_value_that_no_sample_saw_is_refused_where_a_scale_does_not_hold_it(tmp_path):
    x = np.zeros((2000, 2), np.uint8)
    x[1] = 3  # between two examples that are looked at
    np.save(tmp_path / "x.npy", x)
    source = data.open_stream(tmp_path / "x.npy", scale=1, test_fraction=0.01).train
    with pytest.raises(data.DataError, match="values from 0 to 3, outside 0 to 1"):
        streamed(source)


def test_bool_and_floats_are_as_they_are_under_a_scale_too(tmp_path):
    for x in (RNG.integers(0, 2, (9, 4)).astype(bool), RNG.random((9, 4), np.float32)):
        np.testing.assert_array_equal(unit_interval([x], "x", 16)[0], x.astype(np.float32))


@pytest.mark.parametrize(("dtype", "told"), [(np.float32, "is float32"), (bool, "is bool"), (np.uint8, None)])
def test_a_scale_that_changes_nothing_is_told_once(tmp_path, capsys, dtype, told):
    np.save(tmp_path / "x.npy", np.ones((9, 4), dtype))
    for read in (data.load, data.open_stream):
        read(tmp_path / "x.npy", scale=1)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (told is not None)
        assert all("scale=1 (--data-scale)" in line and line.endswith(told) for line in lines)


def test_options_of_a_split_that_is_not_made_are_told(tmp_path, capsys):
    x = RNG.random((9, 4), np.float32)
    np.savez(tmp_path / "split.npz", train=x, test=x)
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
        np.save(tmp_path / "set" / part / "0.npy", x)
    for read, path in ((data.load, "split.npz"), (data.open_stream, "set")):
        read(tmp_path / path)
        assert not capsys.readouterr().err
        read(tmp_path / path, test_fraction=0.5, seed=3)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("held-out examples of its own, and no use for test_fraction=0.5 and seed=3")
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "texts").mkdir()
    for i in range(4):
        (tmp_path / "texts" / f"{i}.txt").write_text("apples and pears")
    for made in ("x.npy", "texts"):
        data.load(tmp_path / made, test_fraction=0.5, seed=3)
        assert not capsys.readouterr().err


def test_a_fraction_of_patches_that_is_not_held_out_is_told(tmp_path, capsys):
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        Image.fromarray(RNG.integers(0, 256, (9, 9), np.uint8)).save(tmp_path / part / "a.png")
    patched = partial(data.load, tmp_path, patch=4, count=5)
    patched(seed=3)  # of the patches, too
    assert not capsys.readouterr().err
    patched(test_fraction=0.5)
    assert capsys.readouterr().err.endswith("and no use for test_fraction=0.5\n")


# ------------------------------------------------------------------------------------------------- images


def save(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


def test_a_dark_image_is_alone_what_it_is_beside_a_bright_one(tmp_path):
    for i in range(4):
        save(tmp_path / "alone" / f"{i}.png", DARK[i])
        save(tmp_path / "both" / f"{i}.png", DARK[i])
    save(tmp_path / "both" / "bright.png", np.full((6, 6), 200, np.uint8))
    right = DARK[:4, ..., None] / np.float32(255)
    both, _ = files.read_examples(str(tmp_path / "both"), (6, 6, 1))
    np.testing.assert_array_equal(both[:4], right)
    alone, _ = files.read_examples(str(tmp_path / "alone"), (6, 6, 1))
    np.testing.assert_array_equal(alone, right)
    one, _ = files.read_examples(str(tmp_path / "alone" / "2.png"), (6, 6, 1))
    np.testing.assert_array_equal(one, right[2:3])
    loaded, stream = data.load(tmp_path / "alone"), data.open_stream(tmp_path / "alone")
    assert loaded.train.x.max() == np.float32(1 / 255)
    assert streamed(stream.train).max() == np.float32(1 / 255)


def test_sixteen_bits_and_one_bit_a_pixel_are_white_at_their_own_white(tmp_path):
    deep = RNG.integers(0, 65536, (6, 6, 6), dtype=np.uint16)
    deep[:, 0, 0] = 65535
    for i in range(6):
        save(tmp_path / "deep" / f"{i}.png", deep[i])
        save(tmp_path / "mixed" / f"{i}.png", deep[i] if i % 2 else DARK[i])
        save(tmp_path / "bits" / f"{i}.png", DARK[i].astype(bool))
    right = deep[..., None].astype(np.float32) / np.float32(65535)
    mixed = np.where(np.arange(6)[:, None, None, None] % 2, right, DARK[:6, ..., None] / np.float32(255))
    bits = DARK[:6, ..., None].astype(np.float32)
    for name, expected in (("deep", right), ("mixed", mixed), ("bits", bits)):
        read, _ = files.read_examples(str(tmp_path / name), (6, 6, 1))
        np.testing.assert_array_equal(read, expected)
        loaded, stream = data.load(tmp_path / name), data.open_stream(tmp_path / name)
        names = [int(Path(file).stem) for file in loaded.test_names]
        np.testing.assert_array_equal(loaded.test.x, expected[names])
        np.testing.assert_array_equal(loaded.train.x, np.delete(expected, names, 0))
        both = np.concatenate([streamed(stream.train), streamed(stream.test)])
        assert sorted(map(bytes, both)) == sorted(map(bytes, expected))
    save(tmp_path / "deep.pgm", deep[0])
    np.testing.assert_array_equal(files.read_examples(str(tmp_path / "deep.pgm"), (6, 6, 1))[0], right[:1])
    patches = data.load(tmp_path / "mixed", patch=6, count=20).train.x
    assert {bytes(patch) for patch in patches} <= {bytes(one) for one in mixed}


def test_whole_images_are_not_pieces(tmp_path, capsys):
    save(tmp_path / "whole.png", RNG.integers(0, 256, (12, 12), dtype=np.uint8))
    read = lambda options, resize=False: files.read_examples(
        str(tmp_path / "whole.png"), (5, 4, 1), resize=resize, options=options
    )
    with pytest.raises(RunError, match=r"trained on 5x4x1 pieces of larger images: cut these by .*rate\.tiles"):
        read({"patch": 4})
    with pytest.raises(RunError, match="trained on 5x4x1: scale them with --resize"):
        read({})
    read({}, resize=True)
    assert capsys.readouterr().err == ""
    read({"patch": 4}, resize=True)
    assert "--resize scales each whole image to 5x4x1, and this run learned from pieces" in capsys.readouterr().err
    assert files.data_options({"data": "photos", "data_options": {}}) == {"patch": 8}  # patches, too
    assert files.data_options({"data": "photos", "data_options": {"patch": 5}}) == {"patch": 5}
    assert files.data_options({"data": "x", "data_options": {}, "scale": 3}) == {"scale": 3}


def test_sixteen_bits_are_scaled_like_eight(tmp_path):
    x = RNG.integers(0, 256, (12, 12), dtype=np.uint8)
    save(tmp_path / "eight.png", x)
    save(tmp_path / "sixteen.png", x.astype(np.uint16) * np.uint16(257))
    read = lambda name: files.read_examples(str(tmp_path / name), (5, 4, 1), resize=True)[0]
    np.testing.assert_allclose(read("sixteen.png"), read("eight.png"), atol=1 / 255)


@pytest.mark.parametrize("option", ["resize", "crop", "patch", "count", "test_count"])
@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_are_no_fault_of_the_files(tmp_path, option, size):
    save(tmp_path / "a.png", DARK[0])
    save(tmp_path / "b.png", DARK[1])
    options = {option: size} | ({"patch": 4} if "count" in option else {})
    with pytest.raises(data.DataError, match=f"^{option}={size} is too small: {option} must be at least 1$"):
        data.load(tmp_path, **options)
    if option in ("resize", "crop"):
        with pytest.raises(data.DataError, match=f"^{option}={size} is too small"):
            data.open_stream(tmp_path, **options)


def test_a_vocabulary_below_one_word_is_no_fault_of_the_texts(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("oak moss fern")
    with pytest.raises(data.DataError, match=r"^words=0 is too small: words must be at least 1$"):
        data.load(tmp_path, words=0)


# ------------------------------------------------------------------------------------ sets that are known


def test_prepared_sets_of_zeros_and_ones_are_known_by_name(tmp_path, capsys):
    for name in ("binarized_mnist", "somebody"):
        folder = tmp_path / name / "1.0.0"
        folder.mkdir(parents=True)
        splits = [{"name": part, "shardLengths": ["4"]} for part in ("train", "test")]
        info = {"name": name, "splits": splits, "fileFormat": "tfrecord"}
        (folder / "dataset_info.json").write_text(json.dumps(info))
        shape = {"dimensions": ["6", "6", "1"]}
        image = {"pythonClassName": "tfds.Image", "image": {"shape": shape, "dtype": "uint8", "encodingFormat": "png"}}
        (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": {"image": image}}}))
        for part in ("train", "test"):
            raw = b"".join(frame(serialised("image", png(one))) for one in DARK[:4])
            (folder / f"{name}-{part}.tfrecord-00000-of-00001").write_bytes(raw)
    bright = DARK[:4, ..., None].astype(np.float32)
    for read in (lambda *a, **o: data.load(*a, **o).train.x, lambda *a, **o: streamed(data.open_stream(*a, **o).train)):
        np.testing.assert_array_equal(read("binarized_mnist", data_dir=tmp_path), bright)
        assert not capsys.readouterr().err
        np.testing.assert_array_equal(read("somebody", data_dir=tmp_path), bright / np.float32(255))
        assert "exceeds 1" in capsys.readouterr().err
        np.testing.assert_array_equal(read("somebody", data_dir=tmp_path, scale=1), bright)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def serialised(name, value):
    """A tf.train.Example of one feature of bytes."""

    def field(number, payload):
        size, out = len(payload), bytearray([number << 3 | 2])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes(out) + bytes([size]) + payload

    entry = field(1, name.encode()) + field(2, field(1, field(1, value)))
    return field(1, field(1, entry))


# --------------------------------------------------------------------------------------- a run's own rule


def chosen(source, **options):
    few = {"latents": 2, "epochs": 1, "batch_size": 8, "seeds": (0,), "network_options": {"hidden": (4,)}}
    return Settings(algorithm="autoencoder", network="mlp", data=str(source), **(few | options))


def trained(workdir, source, **options):
    with pytest.MonkeyPatch.context() as patch:  # pictures cost most of it
        patch.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())
        training.train(chosen(source, **options), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A run on zeros and ones in uint8, read as such."""
    folder = tmp_path_factory.mktemp("binary")
    np.savez(folder / "own.npz", train=DARK[:32], test=DARK[32:])
    return trained(folder / "run", folder / "own.npz", data_options={"scale": 1.0})


def test_a_run_keeps_its_rule_and_uses_it_on_all_that_comes_later(binary, tmp_path, capsys):
    assert json.loads((binary / "config.json").read_text())["settings"]["scale"] == 1
    opened = runs.open_run(binary)
    right = np.asarray(opened.algorithm.encode(opened.params, jnp.asarray(DARK[..., None], jnp.float32)))
    np.save(tmp_path / "x.npy", DARK)
    np.save(tmp_path / "floats.npy", DARK.astype(np.float32))
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "0.npy", DARK)
    for name in ("x.npy", "floats.npy", "folder"):
        codes = coding.encode(binary, str(tmp_path / name), tmp_path / "codes.npz")
        np.testing.assert_allclose(codes, right, atol=1e-5)
    made = searching.make_index(binary, str(tmp_path / "x.npy"), tmp_path / "index.npz")
    np.testing.assert_allclose(made.codes, right, atol=1e-5)
    found = searching.search(tmp_path / "index.npz", str(tmp_path / "x.npy"), k=1)
    assert max(hits[0].distance for hits in found.hits) < 1e-5
    save(tmp_path / "white.png", DARK[0] * 255)  # in a file of an image white is 255 all the same
    code = coding.encode(binary, str(tmp_path / "white.png"), tmp_path / "codes.npz")
    np.testing.assert_allclose(code, right[:1], atol=1e-5)
    assert not capsys.readouterr().err


def test_evaluation_on_other_data_uses_the_rule_of_the_run(binary, tmp_path):
    np.savez(tmp_path / "again.npz", train=DARK[:32], test=DARK[32:])
    own, other = (measuring.evaluate(binary, source, quiet=True) for source in (None, str(tmp_path / "again.npz")))
    assert other["metrics"]["test mse"]["mean"] == own["metrics"]["test mse"]["mean"]


def test_a_run_that_says_no_scale_opens_on_what_it_took_for_zeros_and_ones(binary, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(binary, copy)
    content = json.loads((copy / "config.json").read_text())
    del content["settings"]["scale"], content["settings"]["patches"], content["settings"]["data_options"]["scale"]
    del content["seal"]  # older runs have none
    (copy / "config.json").write_text(json.dumps(content))
    opened = runs.open_run(copy)
    assert set(np.unique(runs.load_own(opened).test.x)) == {0.0, 1.0}
    own = np.load(binary.parent / "own.npz")
    try:
        np.savez(binary.parent / "own.npz", train=own["test"], test=own["train"])
        with pytest.raises(RunError, match="has changed since this run was trained"):
            runs.load_own(opened)
    finally:
        np.savez(binary.parent / "own.npz", **own)


def test_a_run_of_a_set_that_is_known_keeps_what_nobody_said(tmp_path):
    content = {"data_options": {"crop": 4}, "scale": 1.0}
    assert runs.data_options(content) == {"crop": 4, "scale": 1.0}
    assert runs.data_options({"data_options": {}}) == {}
    assert runs.data_options({"data_options": {}, "scale": None}) == {}


def test_a_streamed_run_of_whole_images_is_none_of_patches(tmp_path):
    for i in range(24):
        save(tmp_path / "images" / f"{i}.png", DARK[i])
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "0.npy", DARK)
    few = {"shard_size": 0, "noise": "masking"}
    whole = trained(tmp_path / "whole", tmp_path / "images", **few)
    save(tmp_path / "large.png", np.full((9, 9), 100, np.uint8))
    with pytest.raises(RunError, match="trained on whole images and restores 6x6 only"):
        restoring.restore(whole, tmp_path / "large.png", tmp_path / "out.png")
    splits = [loading.load(chosen(tmp_path / name, **few)) for name in ("images", "arrays")]
    settings = [chosen(tmp_path / name, **few) for name in ("images", "arrays")]
    assert [loading.of_patches(of, s.streams) for of, s in zip(settings, splits, strict=True)] == [False, True]


# ------------------------------------------------------------------------------------------------- damage


def test_a_damaged_array_is_named_in_a_sentence_and_never_read_for_another(tmp_path):
    x = RNG.random((20, 4, 4, 1)).astype(np.float32)
    plain, packed, stored = tmp_path / "x.npy", tmp_path / "x.npz", tmp_path / "stored.npz"
    np.save(plain, x)
    np.savez_compressed(packed, x=x)
    np.savez(stored, x=x)
    npy = plain.read_bytes()
    cases = [(plain, npy.replace(b"(20, 4, 4, 1), }" + b" " * 9, b"(20000000000, 4, 4, 1), }")), (plain, npy + b"0")]
    cases += [(plain, npy[:cut]) for cut in (0, 5, 60, len(npy) - 1)]
    cases += [(plain, npy[:i] + bytes([npy[i] ^ 1]) + npy[i + 1 :]) for i in range(80)]
    for path in (packed, stored):
        raw = path.read_bytes()
        cases += [(path, raw[:i] + bytes([raw[i] ^ 255]) + raw[i + 1 :]) for i in range(0, len(raw), 23)]
    told = []
    for path, raw in cases:
        path.write_bytes(raw)
        for read, kind in ((files.read_array, RunError), (data.load, data.DataError)):
            try:
                got = read(path)
            except kind as error:
                told.append((path, str(error)))
            else:
                got = got if isinstance(got, np.ndarray) else np.concatenate([got.train.x, got.test.x])
                assert np.array_equal(got, x) or sorted(map(bytes, got)) == sorted(map(bytes, x))
    assert len(told) > len(cases)
    assert all(str(path) in message and "\n" not in message for path, message in told)


def test_a_stream_refuses_a_file_that_is_longer_or_shorter_than_it_says(tmp_path):
    np.save(tmp_path / "x.npy", RNG.random((20, 4)))
    whole = (tmp_path / "x.npy").read_bytes()
    for raw in (whole[:-1], whole + b"0", whole.replace(b"(20,", b"(10,")):
        (tmp_path / "x.npy").write_bytes(raw)
        with pytest.raises(data.DataError, match=r"x.npy cannot be streamed \("):
            data.open_stream(tmp_path / "x.npy")


def test_a_shard_without_examples_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((0, 4), np.float32))
    with pytest.raises(data.DataError, match=r"x.npy holds no examples, \(0, 4\): remove it"):
        data.open_stream(tmp_path / "x.npy")


def test_what_is_no_array_in_a_npz_is_let_be(tmp_path):
    np.savez(tmp_path / "x.npz", x=DARK)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("about.txt", "made by hand")
    np.testing.assert_array_equal(files.read_array(tmp_path / "x.npz"), DARK)


def test_factors_that_are_no_numbers_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=RNG.random((3, 2)), factors=np.array([["red"], ["blue"], ["red"]]))
    with pytest.raises(data.DataError, match="has factors of <U4; they must be numbers"):
        data.load(tmp_path / "x.npz")
    for bad in (np.nan, np.inf):
        np.savez(tmp_path / "x.npz", x=RNG.random((3, 2)), factors=np.array([[1], [bad], [0.5]]))
        with pytest.raises(data.DataError, match="has 1 train factors that are NaN or infinite"):
            data.load(tmp_path / "x.npz")


def test_a_folder_and_a_missing_file_are_told_as_such(tmp_path):
    with pytest.raises(data.DataError, match=r"x.npy cannot be read: No such file"):
        data.read_arrays(tmp_path / "x.npy")


def test_the_command_line_has_the_option():
    parsed = parse("autoencoder", ["--data", "x.npz", "--data-scale", "1"])
    assert settings_of("autoencoder", parsed).data_options == {"scale": 1.0}
    assert as_flags("train with scale=255, save it") == "train with --data-scale 255, save it"
    assert as_flags("as in --grid beta=0.5,1 and --range lr=1..2") == "as in --grid beta=0.5,1 and --range lr=1..2"
