"""Commands and a user's files: no command overwrites its inputs or the files of a run."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import study
from PIL import Image

from ae_jax import data
from ae_jax.app import cli, files, plots
from ae_jax.app.commands import coding, measuring, projecting, reporting, restoring, runs, searching
from ae_jax.data.disk import strict, suffix, write_json
from ae_jax.errors import RunError
from ae_jax.training.settings import Settings

RNG = np.random.default_rng(0)
X = RNG.random((6, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on arrays, without the measuring and the report, which take longer."""
    root = tmp_path_factory.mktemp("files")
    np.save(root / "data.npy", RNG.random((20, 8, 8, 1), dtype=np.float32))
    nothing = {"seeds": [0], "metrics": {}, "parameters": 0, "seconds": 0.0, "examples_per_second": 0.0, "device": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure", lambda *args: dict(nothing))
        patch.setattr(reporting, "write_report", lambda folder, *_: (folder.path / "report.html").touch())
        options = "--epochs 1 --latents 3 --net-hidden 8 --batch-size 8 --quiet --noise masking"
        where = ["--data", str(root / "data.npy"), "--workdir", str(root / "run")]
        cli.dispatch(["train", "autoencoder", *options.split(), *where])
    return root / "run"


@pytest.fixture
def no_work(monkeypatch):
    """The run is not opened for a command that is refused."""

    def opened(*args):
        raise AssertionError("work began before the refusal")

    monkeypatch.setattr(runs, "open_run", opened)


@pytest.fixture
def x(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    return tmp_path / "x.npy"


def unchanged(path, before):
    return path.read_bytes() == before


@pytest.mark.parametrize("way", ["same", "./", "absolute", "link", "hard link", "through a linked folder"])
@pytest.mark.parametrize("command", ["encode", "decode", "index", "evaluate"])
def test_no_command_writes_over_what_it_reads(command, way, x, no_work):
    source = "x.npy"
    if command == "index":
        np.savez("x.npz", x=X)
        source = "x.npz"
    out = Path(source)
    if way == "./":
        out = Path("..") / Path.cwd().name / source
    if way == "absolute":
        out = Path(source).resolve()
    if way == "link":
        out = Path(f"link{out.suffix}")
        out.symlink_to(source)
    if way == "hard link":
        out = Path(f"link{out.suffix}")
        os.link(source, out)
    if way == "through a linked folder":
        Path("there").symlink_to(".")
        out = Path("there") / source
    before = Path(source).read_bytes()
    call = {
        "encode": lambda: coding.encode(Path("run"), source, out),
        "decode": lambda: coding.decode(Path("run"), source, out),
        "index": lambda: searching.make_index(Path("run"), source, out),
        "evaluate": lambda: measuring.evaluate(Path("run"), source, out=out),
    }[command]
    with pytest.raises(RunError, match=r"is an input .* and would be overwritten; write to another place"):
        call()
    assert unchanged(Path(source), before)


@pytest.mark.parametrize("name", ["a.npy", "b.PNG", "c.txt"])
def test_no_command_writes_over_a_file_of_the_folder_it_reads(name, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(b"kept")
    with pytest.raises(RunError, match="would be overwritten"):
        files.check_output(tmp_path / "set" / name, str(tmp_path / "set"))


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder `set` of images in classes, a run in it, and links: `again` to `set`, `set/more` to `elsewhere`."""
    monkeypatch.chdir(tmp_path)
    for name in ("set/cats/0.png", "set/dogs/0.png", "elsewhere/0.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 255, (8, 8), np.uint8)).save(name)
    Path("again").symlink_to("set")
    Path("set/more").symlink_to(tmp_path / "elsewhere")
    Path("set/.cache").mkdir()
    for name in ("config.json", "lock"):
        Path("set/run").mkdir(exist_ok=True)
        Path("set/run", name).write_text("{}")
    return tmp_path


INSIDE = ("set/z.npy", "set/cats/Z.PNG", "again/z.npy", "elsewhere/z.png", "set/../set/dogs/z.npy")
APART = ("z.npy", "set/z.npz", "set/z.json", "set/run/z.npy", "set/.cache/z.npy", "elsewhere/.z.png")


@pytest.mark.parametrize("place", INSIDE)
def test_no_command_adds_to_the_data_in_a_folder(place, pictures):
    before = data.load("set")
    with pytest.raises(RunError, match=r"would be read as one of the data in set from then on; write to") as error:
        files.check_output(Path(place), "set")
    advised = Path(str(error.value).rpartition("such as ")[2])
    assert advised == pictures
    files.check_output(advised / Path(place).name, "set")
    Path(place).write_bytes(b"")  # what was refused would have changed the data
    with pytest.raises(data.DataError):
        data.load("set")
    assert before.classes == ("cats", "dogs", "more")


@pytest.mark.parametrize("place", APART)
def test_what_is_no_data_may_be_written_among_them(place, pictures):
    before = data.load("set")
    files.check_output(Path(place), "set")
    Path(place).write_bytes(b"")
    now = data.load("set")
    for old, new in zip(before, now, strict=True):
        np.testing.assert_array_equal(old.x, new.x)
        np.testing.assert_array_equal(old.y, new.y)


def test_no_folder_of_output_becomes_data(pictures):
    for out in ("set/new", "set", "set/cats", "elsewhere/new"):
        with pytest.raises(RunError, match="would be read as one of the data in set from then on"):
            files.check_folder(Path(out), ("vectors.tsv", "sprite.png"), "set")
    for out in ("new", "set/run/projector"):
        files.check_folder(Path(out), ("vectors.tsv", "sprite.png"), "set")
    with pytest.raises(RunError, match="would be read as one of the data in set from then on"):
        files.places_for([Path("elsewhere/0.png")], Path("elsewhere"), Path("set/restored"), "set")


def test_the_labels_of_a_file_of_arrays_are_not_written(x):
    with pytest.raises(RunError, match=r"would be read as the labels of x\.npy"):
        files.check_output(Path("x.labels.npy"), "x.npy")
    files.check_output(Path("x.codes.npy"), "x.npy")


def test_a_run_writes_nothing_into_the_folder_it_learned_from(pictures, monkeypatch):
    settings = Settings(algorithm="vae", network="mlp", data="set", latents=2, epochs=1, batch_size=1, seeds=(0,))
    opened = runs.OpenRun(**(dict.fromkeys(runs.OpenRun._fields) | {"settings": settings}))
    monkeypatch.setattr(runs, "open_run", lambda *_: opened)
    monkeypatch.setattr(restoring, "check_restores", lambda *_: None)
    here, out = Path("set/run"), Path("set/cats/z.npy")
    for call in (
        lambda: coding.encode(here, "elsewhere.npy", out),
        lambda: coding.decode(here, "elsewhere.npy", out),
        lambda: coding.sample(here, 1, out),
        lambda: projecting.project(here, Path("set/cats")),
        lambda: measuring.evaluate(here, out=out),
        lambda: restoring.restore(here, Path("elsewhere"), Path("set/new")),
    ):
        with pytest.raises(RunError, match="would be read as one of the data in set from then on"):
            call()


def test_the_sources_of_a_run_are_those_of_its_options_too(pictures):
    assert data.paths_of("digits") == data.paths_of("words that are no file") == []
    assert data.paths_of("variants", {"of": "set", "photographs": "elsewhere"}) == [Path("set"), Path("elsewhere")]
    assert data.paths_of("variants", {"of": "digits"}) == []


def test_the_data_of_a_run_are_not_written_over(trained, x, monkeypatch):
    before = (trained.parent / "data.npy").read_bytes()
    out = trained.parent / "data.npy"
    for call in (
        lambda: coding.encode(trained, "x.npy", out),
        lambda: measuring.evaluate(trained, out=out),
        lambda: coding.decode(trained, "x.npy", out),
    ):
        with pytest.raises(RunError, match="would be overwritten"):
            call()
    monkeypatch.setattr(projecting, "PROJECTED", ("data.npy",))
    with pytest.raises(RunError, match="would be overwritten"):
        projecting.project(trained, trained.parent)
    assert unchanged(out, before)


def test_what_belongs_to_a_run_is_not_written_over(trained, x, tmp_path):
    (tmp_path / "link.json").symlink_to(trained / "results.json")
    for out in (trained / "results.json", trained / "config.json", tmp_path / "link.json", trained / "log.jsonl"):
        before = out.read_bytes()
        with pytest.raises(RunError, match="belongs to the run there"):
            measuring.evaluate(trained, out=out)
        assert unchanged(out, before)
    (trained / "pictures").mkdir(exist_ok=True)
    for below in ("checkpoints", "pictures"):
        for call in (
            lambda below=below: coding.encode(trained, "x.npy", trained / below / "z.npy"),
            lambda below=below: coding.export(trained, trained / below),
            lambda below=below: projecting.project(trained, trained / below),
        ):
            with pytest.raises(RunError, match=f"overwrite {below}, which belongs to the run"):
                call()
    assert coding.encode(trained, "x.npy", trained / "codes.npy").shape == (6, 3)  # a user's own file there


def test_restore_reads_no_image_of_the_folder_that_it_writes(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.PNG"):
        Image.fromarray(RNG.integers(0, 255, (8, 8), np.uint8)).save(name)
    for again in (False, True):
        written, refused = restoring.restore(trained, Path("."), Path("restored"))
        assert [str(p) for p in written] == ["restored/a.png", "restored/b.png"]
        assert refused == []
        assert ("the 2 images in it are left out" in capsys.readouterr().err) == again
    os.link("a.png", "c.png")
    Path("linked").symlink_to(".")
    for out in ("c.png", "linked/a.png"):
        with pytest.raises(RunError, match="would be overwritten"):
            restoring.restore(trained, Path("a.png"), Path(out))
    with pytest.raises(RunError, match="belongs to the run"):
        restoring.restore(trained, Path("a.png"), trained / "checkpoints" / "a.png")


def test_a_file_that_cannot_be_written_is_refused_first(x, tmp_path, no_work, monkeypatch):
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    for out, told in (
        ("folder.npy", "is a folder"),
        ("none/z.npy", "does not exist"),
        ("x.npy/z.npy", "cannot be written"),
        ("n" * 300 + ".npy", "cannot be written"),
        ("loop.npy", "cannot be written"),
    ):
        with pytest.raises(RunError, match=told):
            coding.encode(Path("run"), "x.npy", Path(out))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunError, match="you may not write to the folder"):
        coding.encode(Path("run"), "x.npy", Path("z.npy"))


def test_folders_that_cannot_be_made_are_refused_first(x, tmp_path):
    with pytest.raises(RunError, match=r"cannot be made: .*x\.npy is a file"):
        files.check_folder(tmp_path / "x.npy" / "below")
    with pytest.raises(RunError, match="is a file; name a folder"):
        files.check_folder(tmp_path / "x.npy")
    files.check_folder(tmp_path / "new" / "below")


def test_suffixes_are_read_in_either_case(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [suffix(name) for name in ("X.NPY", Path("a/b.Npz"), "c", ".npy", "d.tar.GZ")] == [
        ".npy", ".npz", "", "", ".gz",
    ]  # fmt: skip
    with open("X.NPY", "wb") as file:
        np.save(file, X)
    with open("X.Npz", "wb") as file:
        np.savez(file, x=X)
    codes = coding.encode(trained, "X.NPY", Path("Z.NPY"))
    np.testing.assert_array_equal(np.load("Z.NPY"), codes)
    np.testing.assert_array_equal(coding.encode(trained, "X.Npz", Path("Z.NPZ")), codes)
    np.testing.assert_array_equal(np.load("Z.NPZ")["codes"], codes)
    coding.decode(trained, "Z.NPY", Path("grid.PNG"))
    assert Image.open("grid.PNG").format == "PNG"
    coding.decode(trained, "Z.NPZ", Path("Y.Npy"))
    assert np.load("Y.Npy").shape == (6, 8, 8, 1)
    made = searching.make_index(trained, "X.NPY", Path("I.NPZ"))
    assert len(searching.search(Path("I.NPZ"), "X.NPY", k=1).hits) == len(made.codes) == 6
    np.testing.assert_array_equal(
        data.load("X.NPY", test_fraction=0.5).train.x, data.load("X.Npz", test_fraction=0.5).train.x
    )
    assert data.npy_files(tmp_path) == [tmp_path / name for name in ("X.NPY", "Y.Npy", "Z.NPY")]


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (np.array([["a", "b", "c"]]), "holds <U1; codes are numbers"),
        (np.array([[1, 2, 3]], complex), "complex128; codes are numbers"),
        (np.array([[1, np.nan, np.inf]]), "2 values that are NaN or infinite"),
        (np.array([[1, 2, 1e300]]), "1 values that are NaN or infinite in float32"),
        (np.array([[1, None, 3]], object), "Python objects"),
        (np.zeros((0, 3)), "N at least 1"),
        (np.zeros((2, 4)), r"codes of this run are \[N, 3\]"),
        (np.zeros(1, [("a", "f4")]), r"codes of this run are \[N, 3\]"),
    ],
)
def test_codes_that_are_no_numbers_are_refused(codes, told, trained, tmp_path):
    np.save(tmp_path / "z.npy", codes)
    with pytest.raises(RunError, match=told):
        coding.decode(trained, str(tmp_path / "z.npy"), tmp_path / "x.npy")
    assert not (tmp_path / "x.npy").exists()


def test_whole_numbers_and_bits_are_codes(trained, tmp_path):
    for codes in (np.eye(3, dtype=bool), np.eye(3, dtype=np.int64)):
        np.save(tmp_path / "z.npy", codes)
        assert coding.decode(trained, str(tmp_path / "z.npy"), tmp_path / "x.npy").shape == (3, 8, 8, 1)


def damaged(content):
    """The file, cut and with bytes changed in every tenth."""
    yield b""
    for at in range(10, len(content), max(1, len(content) // 10)):
        yield content[:at]
        yield content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_damaged_arrays_end_in_a_sentence(kind, tmp_path):
    path = tmp_path / ("a.npy" if kind == "npy" else "a.npz")
    {"npy": np.save, "npz": np.savez, "compressed": np.savez_compressed}[kind](path, np.arange(100.0).reshape(50, 2))
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with contextlib.suppress(RunError):  # a byte of the numbers themselves is no damage that a file tells of
            files.read_array(path)


def test_json_is_read_by_any_reader(tmp_path):
    content = {
        "a": [np.float32("nan"), np.inf, -np.inf, 1.5],
        "b": (np.int64(3), np.bool_(True), np.array([1.0, np.nan])),
        "c": {"d": np.float64("inf")},
    }
    assert strict(content) == {"a": [None, None, None, 1.5], "b": [3, True, [1.0, None]], "c": {"d": None}}
    write_json(tmp_path / "a.json", content)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)["a"] == [None, None, None, 1.5]


@pytest.mark.parametrize("fails", [False, True])
def test_a_record_is_written_before_its_picture(fails, tmp_path, capsys):
    def figure():
        (written,) = tmp_path.iterdir()  # the record is there
        assert json.loads(written.read_text())["metrics"]["a"]["values"] == [1.0, 2.0]
        if fails:
            raise RuntimeError("no font\nat all")
        return plots.curve([1, 2], {"train": np.ones((2, 3))})

    told = dict(title="t", source="s", settings={"lr": np.float32(1)}, seeds=[0, 1], seconds=1.0, out=tmp_path)
    study.record("some/trial.py", {"a": [1.0, 2.0]}, figure=figure, **told)
    row = json.loads((tmp_path / "trial.json").read_text())
    assert row["metrics"]["a"]["mean"] == 1.5
    assert ("picture" in row) == (tmp_path / "trial.png").exists() == (not fails)
    assert ("without its picture (RuntimeError: no font)\n" in capsys.readouterr().err) == fails
