"""Runs beside one another: `compare` and `runs`, on runs written by hand and on a trained one."""

import csv
import fcntl
import json
import os

import numpy as np
import pytest

from ae_jax.app import cli
from ae_jax.app.commands import comparing, listing, measuring, reporting
from ae_jax.app.report import page
from ae_jax.data.disk import strict
from ae_jax.errors import RunError
from ae_jax.evaluation.statistics import paired_difference, summarise
from ae_jax.training.run_folder import append, sealed, write_sealed

SETTINGS = {
    "algorithm": "vae",
    "data": "digits",
    "data_checksum": "a",
    "seeds": [0, 1, 2],
    "epochs": 2,
    "hyper": {"beta": 1.0, "likelihood": "bernoulli"},
    "network_options": {"hidden": [16]},
    "optimizer": {"name": "adam", "lr": 1e-3},
}
RESULTS = {"parameters": 10, "seconds": 1.5, "examples_per_second": 100.0, "device": "cpu"}


def written(folder, elbo, seeds=(0, 1, 2), epochs=2, **changed):
    """A run's folder with two epochs in its log; `elbo` is the test ELBO of each seed, None: without results."""
    folder.mkdir(parents=True)
    settings = SETTINGS | {"seeds": list(seeds)} | changed
    write_sealed(folder / "config.json", {"schema": 2, "settings": settings})
    for epoch in range(1, epochs + 1):
        train = {"loss": [10.0 / epoch + seed for seed in seeds]}
        append(folder / "log.jsonl", sealed({"epoch": epoch, "seconds": 0.5, "examples_per_second": 9, "train": train}))
    if elbo is not None:
        metrics = {
            "test elbo": {"n": len(elbo), **summarise(elbo)},
            "test mse": {"n": 1, **summarise([0.5] * len(elbo))},
        }
        write_sealed(folder / "results.json", RESULTS | {"seeds": list(seeds), "metrics": metrics})
    return folder


@pytest.fixture
def three(tmp_path):
    """Two runs of the same data and seeds, and one of other data."""
    one = written(tmp_path / "one" / "vae", [-30.0, -31.0, -29.5])
    two = written(tmp_path / "two" / "vae", [-28.0, -29.5, -27.0], hyper={"beta": 4.0, "likelihood": "bernoulli"})
    other = written(tmp_path / "other", [-9.0, -8.0, -7.0], data="mnist", data_checksum="b")
    return [one, two, other]


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_differences_are_paired_by_seed_and_judged_by_the_direction_of_the_metric(three, tmp_path):
    found, (page, table) = comparing.compare(three, tmp_path / "out")
    assert [one.name for one in found.runs] == ["one/vae", "two/vae", "other"]
    wanted = paired_difference([-28.0, -29.5, -27.0], [-30.0, -31.0, -29.5])
    assert found.difference(1, "test elbo") == wanted
    assert wanted["low"] > 0
    assert comparing.verdict("test elbo", wanted) == "better"  # higher is better
    assert comparing.verdict("test nll", wanted) == "worse"
    assert comparing.verdict("test kl", wanted) == comparing.verdict("test loss", wanted) == ""
    assert found.difference(1, "test mse")["mean"] == 0
    assert comparing.verdict("test mse", found.difference(1, "test mse")) == ""
    assert found.difference(2, "test elbo") is None  # of other data
    assert found.settings == {"data": ["digits", "digits", "mnist"], "beta": [1.0, 4.0, 1.0]}
    row = next(row for row in rows_of(table) if row["run"] == "two/vae" and row["metric"] == "test elbo")
    assert float(row["difference"]) == wanted["mean"]
    assert float(row["p"]) == wanted["p"]
    assert row["beta"] == "4.0"
    assert float(row["low"]) == summarise([-28.0, -29.5, -27.0])["low"]
    assert row["better"] == "higher"
    said = comparing.text(found)
    assert "Runs of different data are compared: other did not learn from the data of one/vae" in said
    assert "better" in next(line for line in said.splitlines() if line.startswith("test elbo"))
    html = page.read_text()
    assert all(
        word in html for word in ("3 runs compared", "two/vae - one/vae", "Runs of different data", "loss on train")
    )


def test_long_settings_are_shortened_on_the_terminal_alone(three, tmp_path):
    found = comparing.gather(three)
    names = " ".join(f"column{i}" for i in range(30))
    found = found._replace(settings={**found.settings, "data_columns": [None, names, "short"]})
    said = comparing.text(found).partition("metric")[0]
    assert "column0 column1 c ... column28 column29" in said
    assert max(map(len, said.splitlines())) < 130
    assert names in comparing.as_csv(found)


def test_seeds_that_both_runs_have_are_paired_alone(tmp_path):
    one = written(tmp_path / "one", [1.0, 2.0, 4.0])
    two = written(tmp_path / "two", [7.0, 5.0], seeds=(2, 1))
    three = written(tmp_path / "three", [7.0], seeds=(9,))
    found = comparing.gather([one, two, three])
    assert found.difference(1, "test elbo") == paired_difference([5.0, 7.0], [2.0, 4.0])
    assert found.difference(2, "test elbo") is None
    assert found.notes == ["Some runs share no seed with the first one: their difference by seed is not known."]
    assert found.best_first() == [2, 1, 0]
    assert comparing.shown(["red", "green", "blue"]) == "red green blue"
    assert comparing.shown([0.1, 0.2, 1]) == "0.1 0.2 1"
    assert (found.settings["seeds"], comparing.shown([0, 1, 2]), comparing.shown([16])) == (
        [[0, 1, 2], [2, 1], [9]],
        "0-2",
        "16",
    )


def test_runs_in_different_units_have_no_difference(tmp_path):
    units = [{"mean": [0.0], "scale": [scale], "pixels": False} for scale in (1.0, 1.0, 1.1)]
    paths = [written(tmp_path / f"run{i}", [1.0, 2.0, 4.0], standard=own) for i, own in enumerate(units)]
    found = comparing.gather(paths)
    assert found.difference(1, "test elbo")["mean"] == 0
    assert found.difference(2, "test elbo") is None  # such as with other validation examples
    assert "or not in the same units" in found.notes[0]


def test_a_seed_without_a_finite_metric_leaves_no_difference(tmp_path):
    one, two = (written(tmp_path / name, [1.0, 2.0, 4.0]) for name in ("one", "two"))
    metrics = {"test elbo": {"n": 3, **summarise([9.0, 9.0, float("nan")])}}
    write_sealed(two / "results.json", RESULTS | {"seeds": [0, 1, 2], "metrics": strict(metrics)})
    assert comparing.gather([one, two]).difference(1, "test elbo") is None  # not 7.5 of two seeds


def test_one_number_of_all_seeds_has_no_interval_and_no_difference(tmp_path):
    name, paths = "udr (spearman, n=9)", [tmp_path / "one", tmp_path / "two"]
    for path, value in zip(paths, (0.5, 0.7), strict=True):
        written(path, [-30.0, -31.0, -29.5])
        metrics = {name: {"n": 1, **summarise([value])}}
        write_sealed(path / "results.json", RESULTS | {"seeds": [0, 1, 2], "metrics": metrics})
    found, (_, table) = comparing.compare(paths, tmp_path / "out")
    assert found.difference(1, name) is None
    assert comparing.metric_rows(found, [name]) == [["metric", "one", "two"], [name, "0.5", "0.7"]]
    row = rows_of(table)[1]
    assert (row["metric"], row["n"], row["mean"]) == (name, "1", "0.7")
    assert {row[key] for key in ("low", "high", "difference", "p")} == {""}
    results = found.runs[1].run.results
    assert measuring.table(results).splitlines()[2].split() == [*name.split(), "0.7"]
    assert page._results(results).each.rows == []  # a table of the seeds' own values


def test_differences_are_explained_where_there_are_some(tmp_path):
    of = lambda name, data, seeds: written(tmp_path / name, [-1.0] * len(seeds), seeds=seeds, data_checksum=data)
    one, same, pair, far = of("one", "a", [0]), of("same", "a", [0]), of("pair", "a", [0, 1]), of("far", "b", [0])
    others = [of(f"far{i}", f"{i}", [0]) for i in range(3)]
    said = lambda *paths: comparing.explained(comparing.gather(paths))
    assert "ifference" not in comparing.text(comparing.gather([one, far])).partition("Runs of different data")[0]
    assert "ifference" not in comparing.text(comparing.gather([one, far, *others])).partition("Runs of different")[0]
    assert said(one, same).endswith("Differences are from one, paired by seed; one pair of seeds has no interval.")
    both = of("both", "a", [0, 1])
    assert "from pair, paired by seed, with their 95% interval; better or worse: it excludes 0." in said(pair, both)


def test_more_than_a_few_runs_are_rows_the_best_first(tmp_path):
    paths = [written(tmp_path / f"r{i}", [i, i + 0.5, i + 0.7], hyper={"beta": float(i)}) for i in range(6)]
    unfinished = written(tmp_path / "young", None)
    found = comparing.gather([*paths, unfinished])
    lines = comparing.text(found).splitlines()
    assert [line.split()[0] for line in lines[2:9]] == [*(f"r{i}" for i in range(6)), "young"]
    assert [line.split()[0] for line in lines[12:19]] == [*(f"r{i}" for i in reversed(range(6))), "young"]
    assert "Without metrics, as training has not ended: young." in lines


def test_a_page_shows_the_same_examples_rebuilt_by_each_run(tmp_path, capsys, monkeypatch):
    found = RESULTS | {"metrics": {"test elbo": {"n": 1, **summarise([-1.0])}}}  # measuring and drawing take long
    monkeypatch.setattr(measuring, "measure", lambda algorithm, trained, *args: found | {"seeds": list(trained.good)})
    monkeypatch.setattr(measuring, "diagnose", lambda *args: [])
    monkeypatch.setattr(reporting, "decorate", lambda folder, *args: (folder.path / "report.html").touch())
    for seed, name in enumerate(("a", "b")):
        options = ["--epochs", "1", "--net-hidden", "8", "--latents", "2", "--quiet", "--seed", str(seed)]
        cli.dispatch(["train", "vae", *options, "--workdir", str(tmp_path / name)])
    found = comparing.gather([tmp_path / "a", tmp_path / "b"])
    drawn, missing = comparing.reconstructions(found.runs)
    assert missing == []
    assert len(drawn) == 1
    assert drawn[0].originals.shape == (10, 8, 8, 1)
    assert list(drawn[0].outputs) == ["a", "b"]
    assert np.abs(drawn[0].outputs["a"] - drawn[0].outputs["b"]).max() > 1e-4  # each by its own params
    cli.dispatch(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "compare.html").read_text().count("<img") >= 4
    assert "compare.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["one/vae"], "compare takes two runs or more, and 1 is given"),
        ([], "compare takes two runs or more, and 0 are given"),
        (["one/vae", "one/../one/vae"], "is given twice"),
        (["one/vae", "missing"], "missing is not a run of ae-jax: it does not exist"),
        (["one/vae", "."], "is not a run of ae-jax: it has no config.json"),
        (["one/vae", "one/vae/log.jsonl"], "is a file; a run is a folder"),
    ],
)
def test_what_is_no_run_is_refused_before_anything_is_written(three, tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=message):
        cli.dispatch(["compare", *given, "--out", "out"])
    assert not (tmp_path / "out").exists()


def test_a_comparison_does_not_write_into_the_files_of_a_run(three, tmp_path):
    (three[0] / "checkpoints").mkdir()
    with pytest.raises(RunError, match="belongs to the run"):
        comparing.compare(three[:2], three[0] / "checkpoints")
    with pytest.raises(RunError, match="is a file; name a folder"):
        comparing.compare(three[:2], three[0] / "log.jsonl")


# ------------------------------------------------------------------------------------------------------ listing


def test_runs_are_listed_the_newest_first_with_their_states(tmp_path, capsys):
    root = tmp_path / "runs"
    done = written(root / "done", [-30.0, -31.0, -29.5])
    written(root / "deep" / "stopped", None, epochs=1)
    written(root / "unmeasured", None)
    failed = written(root / "failed", None, epochs=1)
    row = {"epoch": 2, "seconds": 0.1, "examples_per_second": 1, "train": {"loss": [None, None, None]}}
    append(failed / "log.jsonl", sealed(row))
    written(root / "busy", None)
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text(json.dumps({"settings": {}, "seal": "0"}))
    (root / "broken" / "log.jsonl").touch()
    (root / "notes").mkdir()
    os.utime(done / "config.json", (4e9, 4e9))  # the newest
    with open(root / "busy" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cli.dispatch(["runs", str(root)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("done")
    assert "finished" in lines[2]
    assert "elbo -30.2 ± 1.9" in lines[2]
    state = {line.split()[0]: line for line in lines[2:]}
    assert set(state) == {"done", "deep/stopped", "failed", "busy", "broken", "unmeasured"}
    assert "stopped at epoch 1 of 2" in state["deep/stopped"]
    assert "trained, not measured" in state["unmeasured"]
    assert "failed in epoch 2 of 2" in state["failed"]
    assert "training, epoch 2 of 2" in state["busy"]
    assert "damaged" in state["broken"]


def test_a_folder_without_runs_says_so(tmp_path):
    assert listing.runs(tmp_path) == f"{tmp_path} holds no runs"
    with pytest.raises(RunError, match="does not exist: name one that holds runs"):
        listing.runs(tmp_path / "nowhere")
    assert listing.runs(written(tmp_path / "one", [1.0])).splitlines()[2].startswith("one ")
