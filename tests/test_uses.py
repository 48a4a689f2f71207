"""Uses of trained runs, as a user meets them: search, restoration, the projector."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import constants
from PIL import Image

from ae_jax import corruption, data
from ae_jax.app import cli, files, index, restoration
from ae_jax.app.commands import coding, measuring, projecting, reporting, restoring, runs, searching, training
from ae_jax.app.flags import parse, settings_of
from ae_jax.errors import RunError
from ae_jax.evaluation import retrieval
from ae_jax.training import settings


def train(name, where, *options):
    cli.dispatch(["train", name, "--workdir", str(where), "--epochs", "1", "--net-hidden", "8", "--quiet", *options])


def train_alone(name, where, *options):
    """`train` without the measuring and the report, which take longer."""
    nothing = {"seeds": [0], "metrics": {}, "parameters": 0, "seconds": 0.0, "examples_per_second": 0.0, "device": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure", lambda *args: dict(nothing))
        patch.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())
        train(name, where, *options)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    where = tmp_path_factory.mktemp("uses") / "run"
    train_alone("autoencoder", where, "--latents", "12")
    return where


@pytest.fixture(scope="module")
def indexed(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "digits.npz"
    cli.dispatch(["index", str(digits), "digits", str(path)])
    return path


# -------------------------------------------------------------------------------------------------- search


def test_an_index_finds_what_it_holds_and_its_neighbours(digits, indexed, tmp_path, capsys):
    test = np.asarray(data.load("digits").test.x)
    np.save(tmp_path / "query.npy", test[[5, 9]])
    _, names, found, _, seconds = searching.search(indexed, str(tmp_path / "query.npy"), k=4)
    assert names == ["query.npy[0]", "query.npy[1]"]
    assert [hits[0].place for hits in found] == [5, 9]
    assert found[0][0].name == "digits[5]"
    assert found[0][0].distance < 1e-4
    assert seconds > 0
    opened = runs.open_run(digits)
    codes = np.asarray(opened.algorithm.encode(opened.params, jnp.asarray(test)))
    near = np.argsort(np.linalg.norm(codes - codes[5], axis=1), kind="stable")[:4]
    assert [hit.place for hit in found[0]] == list(near)
    cli.dispatch(["search", str(indexed), str(tmp_path / "query.npy"), "-k", "3", "--metric", "cosine"])
    out = capsys.readouterr().out
    assert "digits[9]" in out
    assert "ms a query" in out


def test_programs_take_parameters_and_hold_none(digits, tmp_path, monkeypatch):
    """Params as constants of a program would make it large and slow to compile."""
    held, jit = [], jax.jit

    def watched(fn, **options):
        program = jit(fn, **options)

        def call(*args):
            held.append(constants(fn, *args, **options))
            return program(*args)

        return call

    for module in (runs, restoring):
        monkeypatch.setattr(module, "jax", SimpleNamespace(**vars(jax) | {"jit": watched}))
    monkeypatch.setattr(restoring, "check_restores", lambda *_: None)
    np.save(tmp_path / "x.npy", np.asarray(data.load("digits").test.x[:3]))
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "x.png")
    codes = coding.encode(digits, str(tmp_path / "x.npy"), tmp_path / "z.npy")
    coding.decode(digits, str(tmp_path / "z.npy"), tmp_path / "back.npy")
    restoring.restore(digits, tmp_path / "x.png", tmp_path / "restored.png")
    projecting.project(digits, tmp_path / "p", n=3)
    assert held == [[]] * 4
    opened = runs.open_run(digits)
    closure = partial(opened.algorithm.encode, opened.params)
    np.testing.assert_array_equal(codes, jit(closure)(np.load(tmp_path / "x.npy")))
    assert (64, 8) in constants(closure, np.zeros((1, 8, 8, 1), np.float32))


def test_an_index_is_decoded_by_the_run_that_made_it_alone(digits, indexed, tmp_path):
    out = tmp_path / "x.npy"
    assert coding.decode(digits, str(indexed), out).shape == (360, 8, 8, 1)
    opened = index.load(indexed)
    for change, told in (
        ({"seed": 7}, "of seed 7: give --seed"),
        ({"run": {"settings": {"algorithm": "vae", "data": "x"}}, "params": 1}, "vae on x"),
        ({"run": {"settings": {"algorithm": "vae", "data": "x"}}, "params": None}, "vae on x"),  # an older index
    ):
        about = {name: value for name, value in (opened.about | change).items() if value is not None}
        index.save(opened._replace(about=about), tmp_path / "other.npz")
        with pytest.raises(RunError, match=told):
            coding.decode(digits, str(tmp_path / "other.npz"), out)


def test_messages_speak_of_what_is_wrong(digits, indexed, tmp_path):
    np.save(tmp_path / "codes.npy", np.full((3, 12), -5, np.float32))
    with pytest.raises(RunError, match=r"shape \(12,\)"):  # and not that they are outside [0, 1]
        searching.search(indexed, str(tmp_path / "codes.npy"))
    np.save(tmp_path / "single.npy", np.asarray(data.load("digits").test.x)[5])  # an example without a batch
    assert searching.search(indexed, str(tmp_path / "single.npy"), k=1)[2][0][0].place == 5
    np.save(tmp_path / "one.npy", np.float32(1))
    with pytest.raises(RunError, match="a single value"):
        searching.search(indexed, str(tmp_path / "one.npy"))
    with pytest.raises(RunError, match="radius is -1; it counts bits"):
        searching.search(indexed, "digits", radius=-1)
    for bad, told in (("nodir/e.json", "does not exist"), ("", "is a folder")):
        with pytest.raises(RunError, match=told):  # before anything is measured: there is no such run
            cli.dispatch(["evaluate", "norun", "--out", str(tmp_path / bad)])


def test_a_hamming_ball_finds_those_whose_bits_are_near(indexed, tmp_path, capsys):
    np.save(tmp_path / "query.npy", np.asarray(data.load("digits").test.x[:3]))
    opened, _, found, sizes, _ = searching.search(indexed, str(tmp_path / "query.npy"), k=1000, radius=2)
    bits = opened.codes > np.median(opened.codes, 0)
    for i, hits in enumerate(found):
        differ = (bits != bits[i]).sum(1)
        apart = np.linalg.norm(opened.codes - opened.codes[i], axis=1)
        nearest = sorted(range(len(bits)), key=lambda j: (differ[j], apart[j], j))
        assert [hit.place for hit in hits] == [place for place in nearest if differ[place] <= 2]
        assert [hit.distance for hit in hits] == sorted(differ[differ <= 2])
        assert hits[0].place == i  # itself, before others of the same bits
        assert sizes[i] == (differ <= 2).sum() > 1
    cli.dispatch(["search", str(indexed), str(tmp_path / "query.npy"), "-k", "1", "--radius", "2"])
    assert f"  {sizes[0]} within 2 bits, 1 of them shown\n" in capsys.readouterr().out


def test_a_ball_takes_no_metric_and_codes_of_64_bits_at_most(indexed, tmp_path):
    np.save(tmp_path / "query.npy", np.asarray(data.load("digits").test.x[:1]))
    with pytest.raises(RunError, match="and --metric cosine exclude each other"):
        searching.search(indexed, str(tmp_path / "query.npy"), radius=1, metric="cosine")
    opened = index.load(indexed)
    wide = opened._replace(codes=np.zeros((9, retrieval.LONGEST + 1), np.float32), names=opened.names[:9])
    index.save(wide, tmp_path / "wide.npz")
    with pytest.raises(RunError, match=r"have 65 numbers.* at most 64 .*leave --radius out to compare every"):
        searching.search(tmp_path / "wide.npz", str(tmp_path / "query.npy"), radius=1)


@pytest.mark.slow
def test_a_name_is_a_set_for_every_command_and_a_path_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i in range(2):
        Image.fromarray(np.full((6, 6), 50 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    train_alone("autoencoder", "run", "--data", "photos", "--data-patch", "6", "--data-count", "20", "--latents", "2")
    made = searching.make_index(Path("run"), "photos", Path("i.npz"))  # read with the run's options, like its own data
    assert list(made.names) == [f"photos[{i}]" for i in range(4)]
    assert len(searching.search(Path("i.npz"), "photos", k=1)[1]) == 4
    assert coding.encode(Path("run"), "photos", Path("z.npy")).shape == (4, 2)
    assert capsys.readouterr().err.count("photos: the set of that name; for the folder write ./photos") == 4
    assert searching.search(Path("i.npz"), "./photos", k=1)[1] == ["0.png", "1.png"]
    assert coding.encode(Path("run"), "photos/", Path("z.npy")).shape == (2, 2)
    assert capsys.readouterr().err == ""


def test_an_index_needs_neither_the_run_nor_its_network(indexed, tmp_path):
    np.save(tmp_path / "query.npy", np.asarray(data.load("digits").test.x[:2]))
    code = (
        "import sys; from pathlib import Path; from ae_jax.app.commands import searching;"
        "loaded = lambda: {m for m in sys.modules if m.split('.')[0] in ('flax', 'optax', 'orbax', 'ae_jax')};"
        f"found = searching.search(Path({str(indexed)!r}), {str(tmp_path / 'query.npy')!r}, 1);"
        "print([hits[0].place for hits in found.hits], *sorted(loaded()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    places, loaded = done.stdout.split()[:2], done.stdout.split()[2:]
    assert places == ["[0,", "1]"]
    assert "ae_jax.app.index" in loaded
    parts = {name.split(".")[0] if name.split(".")[0] != "ae_jax" else ".".join(name.split(".")[:2]) for name in loaded}
    assert not parts & {"flax", "optax", "orbax", "ae_jax.algorithms", "ae_jax.networks", "ae_jax.training"}


def test_search_refuses_what_does_not_fit(indexed, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((1, 9, 9), np.float32))
    with pytest.raises(RunError, match="shape"):
        searching.search(indexed, str(tmp_path / "wide.npy"))
    with pytest.raises(RunError, match="k is 0; it must be at least 1"):
        searching.search(indexed, "digits", k=0)
    with pytest.raises(RunError, match="no index"):
        index.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(RunError, match="not an index"):
        index.load(tmp_path / "other.npz")
    np.save(tmp_path / "codes.npy", np.zeros((3, 2)))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "broken.npz").write_bytes(indexed.read_bytes()[:1000])
    for name in ("codes.npy", "a.png", "broken.npz"):
        with pytest.raises(RunError, match=r"not an index, as it is not a \.npz file") as told:
            index.load(tmp_path / name)
        assert "pickle" not in str(told.value)
    whole = bytearray(indexed.read_bytes())
    whole[5000] ^= 255  # in the encoder
    (tmp_path / "flipped.npz").write_bytes(whole)
    with pytest.raises(RunError, match="damaged"):
        index.load(tmp_path / "flipped.npz")
    opened = index.load(indexed)
    for length in (0, 20, len(opened.encoder) // 2):
        with pytest.raises(RunError, match="encoder of this index cannot be read"):
            index.encode(opened._replace(encoder=opened.encoder[:length]), np.zeros((1, 8, 8, 1), np.float32))


def test_photographs_are_resized_where_asked(digits, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(np.full((20 + i, 30, 3), 60 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    for use, out in ((searching.make_index, "i.npz"), (coding.encode, "z.npy")):
        for source in ("photos", "photos/1.png"):
            with pytest.raises(
                RunError, match=r"21x30.* \(height x width\).* trained on 8x8x1: scale them with --resize"
            ):
                use(digits, str(tmp_path / source), tmp_path / out)
    made = searching.make_index(digits, str(tmp_path / "photos"), tmp_path / "i.npz", resize=True)
    assert list(made.names) == ["0.png", "1.png", "2.png"]
    _, names, found, *_ = searching.search(tmp_path / "i.npz", str(tmp_path / "photos" / "1.png"), k=9)
    assert names == ["1.png"]
    assert found[0][0].name == "1.png"
    assert len(found[0]) == 3
    cli.dispatch(["encode", str(digits), str(tmp_path / "photos"), str(tmp_path / "z.npy"), "--resize"])
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), made.codes)


SIX = ("--data-crop", "square", "--data-resize", "6", "--latents", "2")


@pytest.mark.slow
def test_a_run_is_evaluated_on_other_photographs_read_as_its_own_were(tmp_path):
    for name in ("one", "two"):
        for i in range(12):
            folder = tmp_path / name / ("even", "odd")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 255, (20 + i, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    train_alone("autoencoder", tmp_path / "run", "--data", str(tmp_path / "one"), *SIX)
    opened = runs.open_run(tmp_path / "run")
    np.testing.assert_array_equal(
        coding.encode(tmp_path / "run", str(tmp_path / "one"), tmp_path / "z.npy"),
        opened.algorithm.encode(
            opened.params, np.stack(data.read_images(tmp_path / "one", crop="square", resize=6)) / np.float32(255)
        ),
    )
    own, other = (measuring.evaluate(tmp_path / "run", s, quiet=True) for s in (None, str(tmp_path / "two")))
    assert own["metrics"] == other["metrics"]
    cli.dispatch(["project", str(tmp_path / "run"), str(tmp_path / "p")])
    names = data.load(tmp_path / "one", crop="square", resize=6).test_names
    rows = [f"{Path(name).parent}\t{name}" for name in names]
    assert (tmp_path / "p" / "metadata.tsv").read_text().splitlines() == ["label\tname", *rows]


@pytest.mark.slow
def test_documents_are_trained_on_indexed_and_found(tmp_path):
    topics = {"grain": "wheat corn barley harvest tonnes", "oil": "barrel crude opec refinery pipeline"}
    rng = np.random.default_rng(0)
    for topic, words in topics.items():
        for i in range(12):
            file = tmp_path / "texts" / topic / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(" ".join(rng.choice(words.split(), 30)))
    where = tmp_path / "run"
    train("autoencoder", where, "--data", str(tmp_path / "texts"), "--likelihood", "multinomial", "--latents", "2")
    searching.make_index(where, str(tmp_path / "texts"), tmp_path / "i.npz")
    (tmp_path / "query.txt").write_text("a pipeline for crude and more crude, opec says")
    _, names, found, *_ = searching.search(tmp_path / "i.npz", str(tmp_path / "query.txt"), k=5)
    assert names == ["query.txt"]
    assert len(found[0]) == 5
    assert coding.encode(where, str(tmp_path / "query.txt"), tmp_path / "codes.npy").shape == (1, 2)
    assert (where / "report.html").exists()
    _, names, said, *_ = searching.search(tmp_path / "i.npz", "pipeline crude crude opec", k=1)
    assert names == ["pipeline crude crude opec"]
    assert said[0][0].name.startswith("oil/")
    assert searching.search(tmp_path / "i.npz", "Pipeline")[1] == ["Pipeline"]  # one known word is a document, too
    assert len(searching.search(tmp_path / "i.npz", "crude oil " * 100, k=3)[2][0]) == 3  # no file's name is so long
    (tmp_path / "strange.txt").write_text("zzz qqq")
    with pytest.raises(RunError, match=r"none of the 10 words of this run or index$"):
        searching.search(tmp_path / "i.npz", str(tmp_path / "strange.txt"))
    with pytest.raises(RunError, match=r"none of the 10 words .* no file or folder has that name"):
        searching.search(tmp_path / "i.npz", "stranger")
    with pytest.raises(RunError, match="no file or folder"):
        searching.search(tmp_path / "i.npz", "nothere.txt")
    for nothing in ("", " "):
        with pytest.raises(RunError, match="empty"):
            searching.search(tmp_path / "i.npz", nothing)
    (tmp_path / "texts" / "oil" / "none.txt").touch()
    with pytest.raises(RunError, match="holds no words"):
        searching.search(tmp_path / "i.npz", str(tmp_path / "texts" / "oil" / "none.txt"))
    assert len(searching.make_index(where, str(tmp_path / "texts"), tmp_path / "again.npz").names) == 24
    cli.dispatch(["export", str(where), str(tmp_path / "exported")])
    program = jax.export.deserialize(bytearray((tmp_path / "exported" / "decoder.stablehlo").read_bytes()))
    np.testing.assert_allclose(program.call(np.zeros((3, 2), np.float32)).sum(1), 1, rtol=1e-5)


def written(folder, words, files=10):
    rng = np.random.default_rng(0)
    for i in range(files):
        (folder / f"{i}.txt").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(words.split(), 30)))
    return str(folder)


@pytest.mark.slow
def test_documents_are_encoded_as_the_run_was_trained_by_counts(tmp_path):
    texts = written(tmp_path / "texts", "wheat corn barley harvest")
    how = ("--likelihood", "multinomial", "--latents", "2", "--data-count-words", "True")
    train_alone("autoencoder", tmp_path / "run", "--data", texts, *how)
    opened = runs.open_run(tmp_path / "run")
    x, _ = files.read_examples(texts, opened.shape, opened.vocabulary, False, opened.settings.data_options)
    np.testing.assert_array_equal(x.sum(1), 30)
    x, _ = files.read_examples("wheat corn corn", opened.shape, opened.vocabulary, False, {"count_words": True})
    np.testing.assert_array_equal(np.sort(x[0]), [0, 0, 1, 2])


@pytest.mark.slow
def test_a_run_is_measured_on_its_own_words_and_its_own_files(tmp_path):
    texts = written(tmp_path / "texts", "wheat corn barley harvest")
    others = written(tmp_path / "others", "crude barrel refinery pipeline")
    train_alone("autoencoder", tmp_path / "run", "--data", texts, "--likelihood", "multinomial", "--latents", "2")
    assert measuring.evaluate(tmp_path / "run", quiet=True)["metrics"]
    with pytest.raises(RunError, match="counts other words"):
        measuring.evaluate(tmp_path / "run", others, quiet=True)
    (tmp_path / "texts" / "more.txt").write_text("wheat corn barley harvest wheat")
    project = lambda where: projecting.project(where, tmp_path / "projected")
    for command in (partial(measuring.evaluate, quiet=True), reporting.make_report, project):
        with pytest.raises(RunError, match="has changed since this run was trained"):
            command(tmp_path / "run")
    assert measuring.evaluate(tmp_path / "run", texts, quiet=True)["metrics"]


# --------------------------------------------------------------------------------------------- restoration


@pytest.mark.parametrize("size", [(8, 8), (8, 13), (21, 34), (40, 9)])
def test_tiles_that_are_kept_make_the_image_again(size):
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    np.testing.assert_allclose(restoration.tiled(lambda x: x, image, (8, 8), 5), image, rtol=1e-5)


def test_tiles_leave_no_seams():
    """If a network gives every tile its own brightness, no step between pixels is larger than that of a blend."""
    shades = iter(np.linspace(0, 1, 1000))
    shade = lambda tiles: np.stack([np.full(t.shape, next(shades) % 0.2) for t in tiles])
    restored = restoration.tiled(shade, np.zeros((32, 32, 1), np.float32), (8, 8), 7)
    assert np.abs(np.diff(restored, axis=0)).max() < 0.06
    with pytest.raises(ValueError, match="do not fit"):
        restoration.tiled(shade, np.zeros((4, 32, 1)), (8, 8))


@pytest.fixture(scope="module")
def cleaner(tmp_path_factory):
    """A denoising run on grey patches of 8x8."""
    where = tmp_path_factory.mktemp("cleaner") / "run"
    train_alone("denoising", where, "--data", "photos", "--data-count", "200")
    return where


def saved(path, *shape, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, np.uint8)).save(path)
    return path


def test_restore_takes_images_and_folders_of_any_size(cleaner, tmp_path, capsys):
    folder = tmp_path / "in"
    grey = saved(folder / "grey.png", 19, 33)
    saved(folder / "below" / "other.jpg", 16, 16)
    written, refused = restoring.restore(cleaner, folder, tmp_path / "out")
    assert refused == []
    assert [p.relative_to(tmp_path / "out").as_posix() for p in written] == ["below/other.png", "grey.png"]
    assert Image.open(written[1]).size == (33, 19)
    (one,), _ = restoring.restore(cleaner, grey, tmp_path / "one.png")
    assert one.read_bytes() == written[1].read_bytes()
    assert restoring.restore(cleaner, folder / "below" / "other.jpg", tmp_path)[0] == [tmp_path / "other.png"]
    assert "16 bits" not in capsys.readouterr().err
    Image.fromarray(np.full((9, 9), 300, np.uint16)).save(tmp_path / "deep.png")
    restoring.restore(cleaner, tmp_path / "deep.png", tmp_path / "eight.png")
    assert "note: 1 image of 16 bits a pixel (deep.png, ...): restored ones have 8" in capsys.readouterr().err
    for source, out, told in (
        (saved(tmp_path / "flat.png", 4, 40), "x.png", "4x40 pixels .height x width."),
        (saved(tmp_path / "colour.png", 9, 9, 3), "x.png", "has colour.*make it grey"),
        (tmp_path / "nothing", "x.png", "no image or folder"),
        (folder, "x.png", "name a folder"),
        (grey, "x.gif", "writes .png"),
    ):
        with pytest.raises(RunError, match=told):
            restoring.restore(cleaner, source, tmp_path / out)
    assert not (tmp_path / "x.png").exists()


def test_restore_refuses_runs_that_did_not_learn_to(digits, tmp_path):
    digit = saved(tmp_path / "digit.png", 8, 8)
    noisy = ["--noise", "gaussian", "--latents", "3"]
    for name, options, told in (("classifier", noisy, "learned to classify"), ("autoencoder", noisy, None)):
        train_alone(name, tmp_path / name, *options)
        if told is None:  # whole images: theirs alone
            assert restoring.restore(tmp_path / name, digit, tmp_path / "x.png")[0]
            digit, told = saved(tmp_path / "large.png", 9, 8), "whole images and restores 8x8 only"
        with pytest.raises(RunError, match=told):
            restoring.restore(tmp_path / name, digit, tmp_path / "x.png")
    with pytest.raises(RunError, match="never saw corrupted images"):
        restoring.restore(digits, digit, tmp_path / "x.png")


def test_restore_enlarges_by_what_the_run_learned(cleaner, tmp_path):
    small = saved(tmp_path / "small.png", 10, 12)
    options = ["--data", "photos", "--data-count", "200", "--corruption", "low_resolution"]
    for level, factor in ([], 2), (["--level", "4"], 4):
        train_alone("denoising", tmp_path / f"{factor}", *options, *level)
        for scale, height in ((None, factor * 10), (factor, factor * 10), (1, 10)):
            (made,), _ = restoring.restore(tmp_path / f"{factor}", small, tmp_path / "x.png", scale=scale)
            assert Image.open(made).height == height
    for where, told in ((tmp_path / "4", "enlarged 4 times"), (cleaner, "did not learn to enlarge")):
        with pytest.raises(RunError, match=told):
            restoring.restore(where, small, tmp_path / "x.png", scale=2)


def test_restore_keeps_what_is_there_and_goes_on_after_a_bad_file(cleaner, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(np.full((9, 9), 100, np.uint8)).save(folder / name)
    (folder / "b.png").write_bytes(b"no image")
    before = (folder / "a.png").read_bytes()
    with pytest.raises(RunError, match="overwritten"):
        restoring.restore(cleaner, folder, folder)
    for out in (folder / "a.png", folder):
        with pytest.raises(RunError, match="overwritten"):
            restoring.restore(cleaner, folder / "a.png", out)
    assert (folder / "a.png").read_bytes() == before
    Image.fromarray(np.full((9, 4), 100, np.uint8)).save(folder / "thin.png")
    with pytest.raises(RunError, match=r"2 of 4 images were left out:(.|\n)*b\.png cannot be(.|\n)*thin\.png has 9x4 "):
        cli.dispatch(["restore", str(cleaner), str(folder), str(tmp_path / "out")])
    assert capsys.readouterr().out == f"2 images written to {tmp_path / 'out'}\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    Image.fromarray(np.full((9, 9), 100, np.uint8)).save(folder / "a.jpg")
    (folder / "thin.png").rename(folder / "a.jpg.png")
    with pytest.raises(RunError, match="several images"):
        restoring.restore(cleaner, folder, tmp_path / "out2")
    (folder / "a.jpg.png").unlink()
    written, _ = restoring.restore(cleaner, folder, tmp_path / "out2")
    assert sorted(p.name for p in written) == ["a.jpg.png", "a.png", "c.png"]


def test_without_dense_layers_the_code_is_as_large_as_the_maps():
    options = ["--network", "conv", "--net-dense", "False", "--net-channels", "3", "5"]
    parsed = lambda *more: parse("denoising", [*options, *more])
    asked = settings.with_map_latents(settings_of("denoising", parsed()), (9, 9, 1))
    assert asked.latents == 3 * 3 * 5
    settings.build(settings.completed(asked, 100, "unit"), (9, 9, 1), 100)
    given = settings.with_map_latents(settings_of("denoising", parsed("--latents", "10")), (9, 9, 1))
    with pytest.raises(ValueError, match="give latents=45"):
        settings.build(settings.completed(given, 100, "unit"), (9, 9, 1), 100)
    assert settings_of("denoising", parse("denoising", [])).latents == 10


def test_a_run_that_restores_nothing_says_so(cleaner):
    algorithm = runs.open_run(cleaner).algorithm
    x = np.asarray(data.load("photos", count=100).test.x)
    told = lambda mse: training.restores_little(algorithm, x, {"metrics": {"denoised mse": {"mean": mse}}})
    lost = 0.25 * np.mean(x**2)  # masking at its default
    assert told(0.8 * lost) == ""
    assert "restores little or nothing" in told(lost)
    assert training.restores_little(algorithm._replace(corrupt=None), x, {"metrics": {}}) == ""


def test_bar_grey_and_low_resolution():
    x = jax.random.uniform(jax.random.key(0), (50, 8, 12, 3))
    key = jax.random.key(1)
    barred = corruption.bar(0.25)(x, key)
    gone = (barred == 0).all((1, 3))  # [B, W]
    assert (gone.sum(1) == 3).all()
    assert len({int(g.argmax()) for g in gone}) == 10  # anywhere
    np.testing.assert_array_equal(jnp.where(gone[:, None, :, None], 0, x), barred)
    np.testing.assert_allclose(
        corruption.grey()(x, key), np.broadcast_to(x.mean(-1, keepdims=True), x.shape), rtol=1e-5
    )
    np.testing.assert_array_equal(corruption.grey(0.0)(x, key), x)
    flat = jnp.full((2, 8, 8, 1), 0.3)
    np.testing.assert_allclose(corruption.low_resolution(4)(flat, key), flat, rtol=1e-5)
    small = x.reshape(50, 4, 2, 6, 2, 3).mean((2, 4))
    np.testing.assert_allclose(
        corruption.low_resolution(2)(x, key), jnp.clip(jax.image.resize(small, x.shape, "cubic"), 0, 1), atol=1e-6
    )
    for bad, told in (
        (lambda: corruption.low_resolution(5)(x, key), "whole blocks"),
        (lambda: corruption.low_resolution(1.5), "whole number"),
        (lambda: corruption.bar(0.2)(x[..., 0], key), "images"),
        (lambda: corruption.bar(0.04)(x, key), r"bar of 0\.04 rounds to 0 of 12 pixels"),
        (lambda: corruption.patches(0.003)(x, key), r"patches of 0\.003 rounds to 0 of 8 pixels"),
    ):
        with pytest.raises(ValueError, match=told):
            bad()
    for kind in (corruption.bar, corruption.patches):
        np.testing.assert_array_equal(kind(0.0)(x, key), x)
        erased = jax.vmap(lambda level, kind=kind: (kind(level)(x, key) == 0).sum())(jnp.asarray([0.0, 1e-4]))
        assert erased.tolist() == [0, 50 * (8 if kind is corruption.bar else 1) * 3]
    counts = 20 * x - 5
    small = counts.reshape(50, 4, 2, 6, 2, 3).mean((2, 4))
    bounds = counts.min((1, 2, 3), keepdims=True), counts.max((1, 2, 3), keepdims=True)
    whole = jnp.clip(jax.image.resize(small, x.shape, "cubic"), *bounds)
    np.testing.assert_allclose(corruption.low_resolution(2)(counts, key), whole, rtol=1e-5, atol=1e-5)


# ----------------------------------------------------------------------------------------------- projector


def test_project_writes_what_the_projector_reads(digits, tmp_path):
    cli.dispatch(["project", str(digits), str(tmp_path / "p"), "-n", "50"])
    out = tmp_path / "p"
    vectors = np.loadtxt(out / "vectors.tsv", delimiter="\t")
    opened = runs.open_run(digits)
    test = data.load("digits").test
    np.testing.assert_allclose(vectors, opened.algorithm.encode(opened.params, jnp.asarray(test.x[:50])), rtol=1e-4)
    assert (out / "metadata.tsv").read_text().split() == [str(y) for y in test.y[:50]]
    sheet = np.asarray(Image.open(out / "sprite.png"))
    assert sheet.shape == (64, 64, 3)  # a square of 8 by 8 images of 8x8
    np.testing.assert_array_equal(sheet[8:16, 16:24, 0], np.round(255 * np.asarray(test.x[10, ..., 0])))
    config = (out / "projector_config.pbtxt").read_text()
    assert config.count("single_image_dim: 8") == 2
    assert config.count("{") == config.count("}") == 2
    with pytest.raises(RunError, match="fewer"):
        files.sprite(np.zeros((90000, 28, 28, 1)))


def test_files_of_a_test_set_have_their_names(tmp_path):
    """The brightness of an image tells which file it is."""
    for layout in ([""], ["train/a", "train/b", "test/a", "test/b"], ["train", "valid"], ["x y", "z"]):
        root = tmp_path / str(layout)
        for j, below in enumerate(layout):
            (root / below).mkdir(parents=True, exist_ok=True)
            for i in range(5):
                Image.fromarray(np.full((4, 4), 50 * i + j, np.uint8)).save(root / below / f"{i}.png")
        dataset = data.load(root)
        shown = [np.asarray(Image.open(root / name))[0, 0] for name in dataset.test_names]
        np.testing.assert_array_equal(shown, np.round(255 * dataset.test.x[:, 0, 0, 0]))
