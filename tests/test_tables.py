"""Tables of numbers and signals: their files, their units, and the network of one dimension."""

import json
import re
import sys
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import datasets

from ae_jax import data, networks
from ae_jax.algorithms import ALGORITHMS, DEFAULTS
from ae_jax.app import cli, files, plots
from ae_jax.app.commands import coding, loading, measuring, reporting, runs, training
from ae_jax.checks import defaults_of
from ae_jax.core import Batch
from ae_jax.data import tables
from ae_jax.errors import DataError, RunError
from ae_jax.training import arguments
from ae_jax.training.settings import OptimizerSettings, Settings, build, completed, heads, network_options

KEY = jax.random.key(0)


def write(path, rows, separator=","):
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """Scikit-learn's wines as a file, a row a wine; and the numbers."""
    bunch = datasets.load_wine()
    names = [*map(str, bunch.feature_names), "kind"]
    rows = [[*map(float, x), bunch.target_names[y]] for x, y in zip(bunch.data, bunch.target, strict=True)]
    return write(tmp_path_factory.mktemp("wine") / "wine.csv", [names, *rows]), bunch


# -------------------------------------------------------------------------------------------- tables


def test_a_table_is_its_numbers_standardised_by_the_training_part(wine):
    path, bunch = wine
    loaded = data.load(path, label="kind")
    x = np.concatenate([loaded.train.x, loaded.test.x])
    assert loaded.columns == tuple(bunch.feature_names)
    assert loaded.classes == tuple(bunch.target_names)
    assert loaded.train.x.dtype == np.float32
    assert loaded.train.y.dtype == np.int32
    assert_allclose(loaded.train.x.mean(0), 0, atol=1e-5)
    assert_allclose(loaded.train.x.std(0), 1, atol=1e-5)
    back = data.ranges.undo(loaded.standard, x)
    order = np.lexsort(back.T.round(4))
    theirs = np.lexsort(bunch.data.T.astype(np.float32).round(4))
    assert_allclose(back[order], bunch.data[theirs], rtol=1e-4)
    assert_array_equal(np.concatenate([loaded.train.y, loaded.test.y])[order], bunch.target[theirs])
    plain = data.load(path, label="kind", range="as_is", drop=("proline", "hue"))
    assert len(plain.columns) == 11
    assert "hue" not in plain.columns
    assert data.load(path, label="kind", columns=("hue", "ash")).columns == ("hue", "ash")


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_parquet_and_csv_are_the_same_table(name, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    bunch = getattr(datasets, f"load_{name}")()
    names = list(map(str, bunch.feature_names))
    write(tmp_path / "t.csv", [names, *bunch.data.tolist()])
    parquet.write_table(pa.table(dict(zip(names, bunch.data.T, strict=True))), tmp_path / "t.parquet")
    found = [data.load(tmp_path / f"t.{kind}", seed=3) for kind in ("csv", "parquet")]
    for a, b in zip(jax.tree.leaves(tuple(found[0])), jax.tree.leaves(tuple(found[1])), strict=True):
        assert_array_equal(a, b)
    assert found[0].columns == found[1].columns == tuple(names)


def test_cells_are_read_as_they_are_written(tmp_path):
    path = write(tmp_path / "t.csv", [["", "a", "yes", "k"], [0, " 1.5", "True", "b"], [1, -2e3, "false", "a"]])
    path.write_text("\ufeff" + path.read_text() + '\n2,"3",TRUE,"b, c"\n3,NA,,\n')
    table = tables.read(path)  # the index is left out
    assert list(table.columns) == ["a", "yes", "k"]
    assert_array_equal(table.columns["a"], [1.5, -2000, 3, np.nan])
    assert_array_equal(table.columns["yes"], [1, 0, 1, np.nan])
    y, classes = tables.labels(table, "k")
    assert classes == ("a", "b", "b, c")
    assert y.tolist() == [1, 0, 2, -1]
    assert tables.labels(table, "k", ("b, c", "b", "a"))[0].tolist() == [1, 2, 0, -1]
    assert (table.row(0), table.row(2)) == ("line 2", "line 5")  # an empty line is none
    semicolons = tables.read(write(tmp_path / "s.csv", [[1, 2, 3], [4, 5, 6]], ";"))  # numbers alone: no names
    assert_array_equal(tables.numbers(semicolons, ["column 1", "column 3"]), [[1, 3], [4, 6]])
    signs = tables.read(write(tmp_path / "y.tsv", [["x", "y"], [0.5, -1], [0.5, 1], [2, 1]], "\t"))
    assert tables.labels(signs, "y")[0].tolist() == [0, 1, 1]
    assert tables.labels(signs, "y")[1] == ("-1", "1")


def test_a_row_of_empty_cells_is_a_row_without_values(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a\n1\n""\n\n3\n')  # as pandas writes it
    assert_array_equal(tables.read(path).columns["a"], [1, np.nan, 3])
    path.write_text(",\na,b\n1,2\n,\n\n3,4\n")
    assert_array_equal(tables.read(path).columns["a"], [1, np.nan, 3])
    with pytest.raises(DataError, match="'a' has no value in line 4; 1 of 3 rows"):
        data.load(path)


def test_a_line_that_counts_the_columns_is_their_names(tmp_path, capsys):
    frame = write(tmp_path / "t.csv", [[0, 1, 2], [5, 6, 7], [8, 9, 9]])  # as pandas writes an array
    assert {name: of.tolist() for name, of in tables.read(frame).columns.items()} == {
        "0": [5, 8],
        "1": [6, 9],
        "2": [7, 9],
    }
    assert "counts the columns and is read as their names" in capsys.readouterr().err
    years = write(tmp_path / "y.csv", [[2019, 2020, 2021], [5, 6, 7]])
    assert len(tables.read(years).columns["column 1"]) == 2
    assert "has numbers alone and is read as a row" in capsys.readouterr().err


def test_names_in_quotes_may_hold_separators(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('"a, b"\t"c, d; e"\n1\t2\n')
    assert list(tables.read(path).columns) == ["a, b", "c, d; e"]


def test_a_label_none_is_told(tmp_path, capsys):
    table = tables.read(write(tmp_path / "t.csv", [["a", "flaw"], [1, "none"], [2, "dent"], [3, ""]]))
    assert tables.labels(table, "flaw")[0].tolist() == [-1, 0, -1]
    assert "t.csv: none in the label 'flaw' is no class: give classes other names" in capsys.readouterr().err


def test_an_index_of_shuffled_rows_is_no_feature(tmp_path, capsys):
    rows = [["", "a"], [7, 1], [2, 3], [4, 5]]
    assert list(tables.read(write(tmp_path / "t.csv", rows)).columns) == ["a"]
    assert "has no name and numbers the rows" in capsys.readouterr().err
    rows[1][0] = 7.5
    assert list(tables.read(write(tmp_path / "t.csv", rows)).columns) == ["column 1", "a"]


def test_decimals_and_numbers_in_texts_of_parquet_are_numbers(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"a": [Decimal("1.5"), None], "b": ["2", "NA"], "c": ["2", "x"]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = tables.read(tmp_path / "t.parquet")
    assert_array_equal(table.columns["a"], [1.5, np.nan])
    assert_array_equal(table.columns["b"], [2, np.nan])
    with pytest.raises(DataError, match="column 'c' has 'x' in row 2, which is no number"):
        tables.numbers(table, ["c"])


def test_what_float32_rounds_away_is_told(tmp_path, capsys):
    time = 1.7e12 + 40_000.0 * np.arange(20)  # milliseconds
    rows = [["time", "same", "b"], *zip(time, [1e9] * 20, range(20), strict=True)]
    note = "deviates by 2.31e\\+05 from its mean 1.7e\\+12, and float32 rounds that away"
    data.load(write(tmp_path / "t.csv", rows))
    assert re.search(f"column 'time' of .* {note}", told := capsys.readouterr().err)
    assert "more" not in told
    np.save(tmp_path / "x.npy", np.stack([np.arange(20), time], 1))
    data.load(tmp_path / "x.npy", range="standardised")
    assert re.search(f"dimension 1 of .* {note}", capsys.readouterr().err)
    data.open_stream(tmp_path / "x.npy", range="standardised")
    assert re.search(f"dimension 1 of .* {note}", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "is empty"),
        ([["a", "b"]], {}, "holds no rows"),
        ([["a", "b"], [1, 2], [3]], {}, "line 3 has 1 cells, and the line of names has 2"),
        ([["a", "a"], [1, 2]], {}, "2 columns called 'a'"),
        (
            [["a", "town"], [1, 2], [3, "Rome"]],
            {},
            "column 'town' has 'Rome' in line 3, which is no number. .*drop=town",
        ),
        ([["a", "b"], ["1,5", 2], [3, 4]], {}, "line 2 has 3 cells"),
        ([["a", "b"], ['"1,5"', 2], [3, 4]], {}, "numbers have a decimal point"),
        ([["a", "b"], [1, "inf"], [3, 4]], {}, "column 'b' has inf in line 2"),
        (
            [["a", "b"], [1, 2], [3, ""], ["NA", 5], [6, 7]],
            {},
            "'b' has no value in line 3; 2 of 4 rows .*missing=drop",
        ),
        ([["a", "b"], [1, ""], [3, ""]], {"missing": "drop"}, "no row with all values"),
        ([["a", "kind"], [1, 2], [3, 4]], {"label": "kin"}, "no column 'kin'; did you mean kind"),
        ([["a", "b"], [1, 2], [3, 4]], {"drop": ("c",)}, "no column 'c'"),
        ([["a", "b"], [1, 2], [3, "inf"]], {"label": "b"}, "label 'b' has inf in line 3; classes are words or whole"),
        ([["a", "b"], [1, 2], [3, 4.5]], {"label": "b"}, "label 'b' has 4.5 in line 3; classes are words or whole"),
        (
            [["a", "b"], [1, 2], [3, 4]],
            {"label": "b", "label_classes": ("2",)},
            "has '4' in line 3; the known classes are 2",
        ),
        ([["a", "b"], [1, 2], [3, 4]], {"columns": ("a", "z")}, "lacks the column 'z'"),
        ([["a"], [1], [3]], {"label": "a"}, "no column left"),
        ([["a", "b"], [1, 2], [3, 4]], {"drop": ("a",), "columns": ("a",)}, "drop leaves out the column 'a'"),
        ([["a"], [1], [3]], {"scale": 3}, "has no scale="),
        ([["a"], [0.5], [3]], {"range": "unit"}, "outside \\[0, 1\\]"),
    ],
)
def test_tables_that_cannot_be_learned_are_told(rows, options, message, tmp_path):
    path = write(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match=message):
        data.load(path, **options)


def test_other_files_are_told(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfea,b")
    with pytest.raises(DataError, match="not a text in UTF-8"):
        data.load(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text('a,b\n1,"2\n')
    with pytest.raises(DataError, match="not separated values"):
        data.load(tmp_path / "t.csv")
    with pytest.raises(DataError, match="no file or folder"):
        data.load("none.csv")
    with pytest.raises(DataError, match=r"holds tables \(t.csv\), and none is called train: name one"):
        data.load(tmp_path)
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"xx")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        data.load(tmp_path / "t.parquet")


@pytest.fixture
def parts(tmp_path):
    """A folder of three tables: train's columns in another order in test, and without a label in valid."""
    folder = tmp_path / "parts"
    folder.mkdir()
    rows = np.arange(24.0).reshape(8, 3)
    kind = ["a", "b"] * 4
    write(folder / "train.csv", [["u", "v", "w", "kind"], *([*r, k] for r, k in zip(rows.tolist(), kind, strict=True))])
    turned = [[k, *reversed(r)] for r, k in zip((rows[:4] + 0.5).tolist(), kind, strict=False)]
    write(folder / "Test.csv", [["kind", "w", "v", "u"], *turned])
    write(folder / "valid.tsv", [["u", "v", "w"], *(rows[:2] + 0.25).tolist()], "\t")
    return folder, rows


def test_a_folder_of_tables_has_the_splits_by_their_names(parts, capfd):
    folder, rows = parts
    write(folder / "submission.csv", [["id"], [1], [2]])
    (folder / "README.md").write_text("about the data")
    loaded = data.load(folder, label="kind", range="as_is")
    told = capfd.readouterr().err
    assert "left out: 1 table of no split (submission.csv)" in told
    assert "valid.tsv has no column 'kind', so its rows have no label" in told
    assert loaded.name == "parts"
    assert_array_equal(loaded.train.x, rows)
    assert_array_equal(loaded.test.x, rows[:4] + 0.5)  # by the names of its columns
    assert_array_equal(loaded.validation.x, rows[:2] + 0.25)
    assert [loaded.train.y.tolist(), loaded.test.y.tolist()] == [[0, 1] * 4, [0, 1] * 2]
    assert loaded.validation.y.tolist() == [-1, -1]
    assert data.default_range(folder) == "standardised"
    standard = data.load(folder, label="kind")
    assert_allclose(standard.train.x.mean(0), 0, atol=1e-6)  # by train alone
    assert_allclose(data.ranges.undo(standard.standard, standard.test.x), rows[:4] + 0.5, rtol=1e-6)


def test_rows_of_each_table_that_lack_a_value_keep_the_names_of_the_others(parts):
    folder, _ = parts
    for name in ("train.csv", "valid.tsv"):
        lines = (folder / name).read_text().splitlines()
        separator = "\t" if name == "valid.tsv" else ","
        lines[1] = separator.join(["", *lines[1].split(separator)[1:]])
        (folder / name).write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"train.csv: column 'u' has no value in line 2; 1 of 8 rows"):
        data.load(folder, label="kind")
    loaded = data.load(folder, label="kind", missing="drop")
    assert loaded.train_names == tuple(f"train.csv[{i}]" for i in range(1, 8))
    assert loaded.validation_names == ("valid.tsv[1]",)
    assert loaded.test_names == ()


def test_folders_of_tables_that_are_refused(parts):
    folder, _ = parts
    (folder / "Test.csv").rename(folder / "kept")
    write(folder / "test.csv", [["u", "v", "kind"], [1, 2, "a"]])
    with pytest.raises(DataError, match=r"test.csv lacks the column 'w'"):
        data.load(folder, label="kind")
    write(folder / "test.csv", [["u", "v", "w", "kind"], [1, 2, 3, "c"]])
    with pytest.raises(
        DataError,
        match=r"test.csv: the label 'kind' has 'c' in line 2; the known classes are a, b: correct .* label_classes=",
    ):
        data.load(folder, label="kind")
    write(folder / "testing.csv", [["u"], [1]])
    with pytest.raises(DataError, match=r"two tables for test, test.csv and testing.csv: leave one"):
        data.load(folder)
    (folder / "testing.csv").unlink()
    with pytest.raises(DataError, match="holds tables, which are not streamed but loaded"):
        data.open_stream(folder)
    with pytest.raises(DataError, match=r"is a table, which is not streamed .*\.npy files of its rows"):
        data.open_stream(folder / "test.csv")
    for name in ("test.csv", "val.parquet"):  # one is an input, the other would become one
        with pytest.raises(RunError, match=r"would be (overwritten|read)"):
            files.check_output(folder / name, folder)
    files.check_output(folder / "codes.csv", folder)


def test_rows_without_a_value_are_dropped_where_wanted(tmp_path, capfd):
    rows = [[i, i * i] for i in range(10)]
    rows[3][1] = ""
    loaded = data.load(write(tmp_path / "t.csv", [["a", "b"], *rows]), missing="drop", range="as_is")
    assert len(loaded.train.x) + len(loaded.test.x) == 9
    assert "left out: 1 of 10 rows" in capfd.readouterr().err
    assert 3 not in np.concatenate([loaded.train.x, loaded.test.x])[:, 0]


@pytest.fixture(scope="module")
def run(wine, tmp_path_factory):
    """A run on the wines, by three steps."""
    settings = Settings(
        algorithm="autoencoder",
        seeds=(0,),
        data=str(wine[0]),
        data_options={"label": "kind", "drop": ("ash",)},
        network="linear",
        latents=2,
        epochs=3,
        batch_size=142,
        hyper={"likelihood": "squared"},
        optimizer=OptimizerSettings(lr=0.1),
    )
    workdir = tmp_path_factory.mktemp("table") / "run"
    with pytest.MonkeyPatch.context() as patch:  # the metrics and the report cost seconds, and are not looked at
        patch.setattr(measuring.evaluation, "all_metrics", lambda *_, **__: lambda params, key: {})
        patch.setattr(reporting, "decorate", lambda *_: None)
        training.train(settings, workdir, quiet=True)
    (workdir / "report.html").touch()
    return workdir


def test_a_run_reads_columns_by_name_and_decodes_in_their_units(run, wine, tmp_path, capfd):
    path, bunch = wine
    kept = json.loads((run / "config.json").read_text())["settings"]["data_options"]
    assert kept["range"] == "standardised"
    assert kept["label_classes"] == list(bunch.target_names)
    assert kept["columns"] == [name for name in bunch.feature_names if name != "ash"]
    assert "drop" not in kept
    opened = runs.open_run(run)
    splits = runs.load_own(opened)
    assert_array_equal(splits.standard.mean, opened.standard.mean)
    codes = coding.encode(run, str(path), tmp_path / "z.npy")
    assert "1 column of" in capfd.readouterr().err  # ash; the label is known
    # columns in another order are the same examples, and so are the numbers alone
    order = [*reversed(kept["columns"])]
    at = [list(bunch.feature_names).index(name) for name in order]
    write(tmp_path / "turned.csv", [order, *bunch.data[:, at].tolist()])
    assert_array_equal(coding.encode(run, str(tmp_path / "turned.csv"), tmp_path / "z.npy"), codes)
    np.save(tmp_path / "x.npy", bunch.data[:, at[::-1]].astype(np.float32))
    assert_array_equal(coding.encode(run, str(tmp_path / "x.npy"), tmp_path / "z.npy"), codes)
    # a linear decoder's mean is about that of the data, in the units of the file
    np.save(tmp_path / "z.npy", codes)
    again = coding.decode(run, str(tmp_path / "z.npy"), tmp_path / "back.npy")
    proline = kept["columns"].index("proline")
    assert 400 < again[:, proline].mean() < 1200
    standard = data.ranges.apply(opened.standard, again)
    assert_allclose(standard, opened.algorithm.decode(opened.params, jnp.asarray(codes)), rtol=1e-3, atol=1e-3)
    # codes and rows as tables
    coding.encode(run, str(path), tmp_path / "z.csv")
    assert_array_equal(coding.decode(run, str(tmp_path / "z.csv"), tmp_path / "back.csv"), again)
    rows = data.tables.read(tmp_path / "back.csv").columns
    assert [*rows] == list(kept["columns"])
    assert_allclose(np.stack([*rows.values()], 1), again, rtol=1e-6)
    write(tmp_path / "less.csv", [["alcohol"], [1], [2]])
    with pytest.raises(DataError, match="lacks the column 'malic_acid', and 11 of 12 in all"):
        coding.encode(run, str(tmp_path / "less.csv"), tmp_path / "z.npy")
    rows = bunch.data[:, at].tolist()
    rows[4][0] = ""
    with pytest.raises(DataError, match="'proline' has no value in line 6"):
        coding.encode(run, str(write(tmp_path / "miss.csv", [order, *rows])), tmp_path / "z.npy")


def test_commands_read_the_test_table_of_a_folder(run, parts, wine, tmp_path):
    folder, bunch = parts[0], wine[1]
    for file in folder.iterdir():
        file.unlink()
    head, rows = [*bunch.feature_names, "kind"], [[*map(float, x), "class_1"] for x in bunch.data[:9]]
    write(folder / "train.csv", [head, *rows[:6]])
    assert len(coding.encode(run, str(folder), tmp_path / "z.npy")) == 6
    write(folder / "test.csv", [head, *rows[6:]])
    codes = coding.encode(run, str(folder), tmp_path / "z.npz")
    kept = np.load(tmp_path / "z.npz")
    assert kept["names"].tolist() == [f"test.csv[{i}]" for i in range(3)]
    assert kept["labels"].tolist() == [1, 1, 1]
    assert_array_equal(coding.encode(run, str(folder / "test.csv"), tmp_path / "z.npy"), codes)
    assert_allclose(coding.encode(run, str(folder), tmp_path / "z.npy", part="test"), codes, rtol=1e-5)
    assert len(coding.encode(run, str(folder), tmp_path / "z.npz", part="train")) == 6
    assert np.load(tmp_path / "z.npz")["names"][0] == "parts train[0]"


def test_the_same_command_finds_the_run_and_another_does_not(run, wine, monkeypatch, capsys):
    words = ["autoencoder", "--data", str(wine[0]), "--data-label", "kind", "--data-drop", "ash", "--network", "linear"]
    words += ["--latents", "2", "--epochs", "3", "--batch-size", "142", "--lr", "0.1", "--workdir", str(run)]
    monkeypatch.setattr(sys, "argv", ["ae-jax", "train", *words])
    cli.main()
    assert "is finished" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["ae-jax", "train", *words, "--data-range", "as_is"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "range" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_member_takes_real_values_or_tells_what_it_wants(wine, name):
    hyper = defaults_of(ALGORITHMS[name]) | dict(DEFAULTS[name].hyper)
    hyper |= {"likelihood": None} if "likelihood" in hyper else {}
    settings = Settings(
        algorithm=name,
        seeds=(0,),
        data=str(wine[0]),
        data_options={"label": "kind"},
        network=heads(name).network,
        network_options=network_options(name, heads(name).network, {}),
        latents=DEFAULTS[name].latents,
        batch_size=20,
        epochs=30,
        hyper=hyper,
    )
    splits = loading.load(settings)
    settings = loading.of_table(settings, splits.dataset)
    settings = completed(settings, len(splits.train.x), loading.kind_of(splits), loading.classes_of(splits))
    if name in ("made", "rbm"):
        with pytest.raises(ValueError, match=rf"{name} wants values in \[0, 1\], and .* has values from -"):
            loading.check_likelihood(settings, splits)
        return
    loading.check_likelihood(settings, splits)
    arguments.check_data(build(settings, splits.train.x.shape[1:], len(splits.train.x)), train=splits.train)


# ------------------------------------------------------------------------------------------- signals


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def shaped(net, x):
    """Params of the network's shapes, without a zero among them."""
    shapes = jax.eval_shape(net.init, KEY, Batch(x))
    return jax.tree.map(lambda p: jnp.asarray(normal(p.size, *p.shape), x.dtype), shapes)


@pytest.mark.parametrize(("steps", "channels", "kernel", "stride"), [(9, 2, 5, 2), (8, 1, 4, 3), (7, 3, 3, 1)])
def test_a_convolution_of_signals_is_its_definition(steps, channels, kernel, stride):
    with jax.enable_x64(True):
        x = jnp.asarray(normal(0, 4, steps, channels))
        net = networks.conv1d((steps, channels), 2, channels=(3,), kernel=kernel, stride=stride, activation="tanh")
        params, z = shaped(net, x), jnp.asarray(normal(1, 4, 2))
        coded, decoded = jax.jit(lambda params, x, z: (net.encode(params, x), net.decode(params, z)))(params, x, z)
        level, dense = params["encoder"]["level_0"], params["encoder"]["dense"]["layer_0"]
        out = -(-steps // stride)
        around = max((out - 1) * stride + kernel - steps, 0)  # zeros of SAME
        padded = np.pad(x, ((0, 0), (around // 2, around - around // 2), (0, 0)))
        taps = np.stack([padded[:, i * stride : i * stride + kernel] for i in range(out)], 1)  # [B, out, kernel, C]
        maps = np.tanh(np.einsum("bokc,kcf->bof", taps, level["kernel"][:, 0]) + level["bias"])
        code = maps.reshape(4, -1) @ dense["kernel"] + dense["bias"]
        assert_allclose(coded, code, rtol=1e-12)
        # the way back: a dense layer, and the transpose of that convolution with a kernel of its own
        decoder = params["decoder"]
        h = np.tanh(z @ decoder["dense"]["layer_0"]["kernel"] + decoder["dense"]["layer_0"]["bias"])
        h, back = h.reshape(4, out, 3), np.zeros((4, steps + around, channels))
        for i in range(out):
            back[:, i * stride : i * stride + kernel] += np.einsum(
                "bf,kfc->bkc", h[:, i], decoder["level_0"]["kernel"][:, 0]
            )
        back = back[:, around // 2 : around // 2 + steps] + decoder["level_0"]["bias"]
        assert_allclose(decoded, back, rtol=1e-11, atol=1e-12)
        assert decoded.dtype == jnp.float64


def test_shapes_of_signals_are_ways_to_write_one():
    x = jnp.asarray(normal(0, 3, 10, 2), jnp.float32)
    build = lambda *shape, **how: networks.conv1d(shape, 4, channels=(2, 3), **how)
    params = shaped(build(10, 2), x)
    both = jax.jit(lambda p, x: (build(10, 2).apply(p, x)[1], build(10, 2, 1).apply(p, x[..., None])[1]))
    one, as_loaded = both(params, x)
    assert_array_equal(as_loaded[..., 0], one)
    shapes = lambda net, fn, *args: jax.eval_shape(fn, jax.eval_shape(net.init, KEY, Batch(args[0])), args[-1]).shape
    flat, two = build(10), build(10, 2, heads=2, outputs=3)
    assert shapes(flat, lambda p, x: flat.apply(p, x)[1], x[..., 0]) == (3, 10)
    assert shapes(two, two.encode, x) == (3, 8)
    assert shapes(two, two.decode, x, x[:, :4, 0]) == (3, 10, 2, 3)


@pytest.mark.parametrize(
    ("shape", "how", "message"),
    [
        ((4, 4, 3), {}, "takes signals"),
        ((), {}, "takes signals"),
        ((8,), {"channels": ()}, "at least one level"),
        ((8,), {"kernel": 0}, "at least 1"),
        ((8,), {"dropout": 1.0}, "dropout"),
        ((8,), {"activation": "step"}, "activation"),
    ],
)
def test_wrong_signals_are_told(shape, how, message):
    with pytest.raises(ValueError, match=message):
        networks.conv1d(shape, 2, **how)


def test_convolutions_over_what_has_no_order_are_told():
    batch = lambda *shape: Batch(np.zeros((2, *shape), np.float32))
    of = lambda batch, **known: data.Dataset(name="", train=batch, test=batch, source="", **known)
    made = dict(algorithm="vae", latents=2, epochs=1, batch_size=4, seeds=(0,))
    told = lambda network, dataset, source="x.npy": loading.check_order(
        Settings(**made, network=network, data=source), dataset
    )
    table, images, signals = of(batch(3), columns=("a", "b", "c")), of(batch(8, 8, 1)), of(batch(8, 8, 1))
    assert "take --network mlp" in told("conv1d", table)
    assert "take --network mlp" in told("conv1d", of(batch(3), vocabulary=("a", "b", "c")))
    assert "take --network conv for images" in told("conv1d", images, "digits")
    assert "take --network conv for images" in told("conv1d", of(batch(8, 8, 1), test_names=("a.png", "b.png")))
    assert told("conv1d", signals) == told("conv1d", of(batch(9))) == ""
    assert told("mlp", table) == told("conv", images, "digits") == ""


def test_a_signal_of_another_length_is_told():
    net = networks.conv1d((8,), 2)
    with pytest.raises(ValueError, match=r"takes \[B, 8\]"):
        net.encode({}, jnp.zeros((2, 9)))


def test_signals_are_drawn_as_lines_channel_after_channel():
    assert [plots.is_image(shape) for shape in ((40, 2, 1), (40, 2), (8, 8, 1), (28, 20), (40, 2, 3), (9,), ())] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    x = normal(0, 3, 40, 2, 1)
    assert_array_equal(plots.as_vectors(x), np.concatenate([x[:, :, 0, 0], x[:, :, 1, 0]], 1))
    assert_array_equal(plots.as_vectors(x[..., 0]), plots.as_vectors(x))
    assert_array_equal(plots.as_vectors(x[:, :, 0, 0]), x[:, :, 0, 0])


def test_signals_of_many_channels_are_read_with_one_axis_more(tmp_path):
    x = normal(0, 12, 16, 3).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    loaded = data.load(tmp_path / "x.npy", range="standardised")
    assert loaded.train.x.shape[1:] == (16, 3, 1)
    read, _ = files.read_examples(str(tmp_path / "x.npy"), (16, 3, 1), options={"range": "as_is"})
    assert_array_equal(read[..., 0], x)


def test_options_of_tables_are_of_tables():
    assert loading.data.default_range("a.CSV") == "standardised"
    assert loading.data.default_range("digits") == "unit"
    with pytest.raises((DataError, RunError), match="has no label="):
        data.load("digits", label="x")
