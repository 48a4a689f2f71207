"""Sweeps: which runs they plan, the bits of their cells, what is refused, and going on after a stop."""

import functools
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxprs
import numpy as np
import pytest

from ae_jax.algorithms import ALGORITHMS
from ae_jax.app import cli
from ae_jax.app.commands import comparing, measuring, reporting, sweeping, training
from ae_jax.app.commands.sweeping import Asked, asked_of, drawn, named, planned
from ae_jax.core import Batch
from ae_jax.errors import RunError
from ae_jax.evaluation.statistics import summarise
from ae_jax.training import compiled, run_folder, settings, sharing
from ae_jax.training.signals import Interrupted

SMALL = ["--data", "digits", "--epochs", "2", "--net-hidden", "8", "--latents", "2"]
QUICK = {"parameters": 1, "seconds": 1.0, "examples_per_second": 1.0, "device": "cpu"}


@pytest.fixture
def unmeasured(monkeypatch):
    """Runs that train, and are not measured or drawn."""

    def measure(algorithm, trained, *args):
        loss = [trained.history[-1]["train"]["loss"][trained.seeds.index(seed)] for seed in trained.good]
        return QUICK | {"seeds": list(trained.good), "metrics": {"test loss": {"n": len(loss), **summarise(loss)}}}

    monkeypatch.setattr(measuring, "measure", measure)
    monkeypatch.setattr(measuring, "diagnose", lambda *args: [])
    monkeypatch.setattr(reporting, "decorate", lambda folder, *args: (folder.path / "report.html").touch())


def same(one, other):
    """Whether the newest checkpoints and the logs of two runs have the same bits."""
    states = [jax.tree.leaves(run_folder.Folder(path).params()[1]) for path in (one, other)]
    logs = [[(row["epoch"], row["train"]) for row in run_folder.Folder(path).log()] for path in (one, other)]
    equal = all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(*states, strict=True))
    return equal and logs[0] == logs[1]


def test_a_cell_has_the_bits_of_the_run_alone_and_a_stopped_sweep_goes_on(tmp_path, unmeasured, monkeypatch, capsys):
    where, grid = tmp_path / "sweep", ["--grid", "beta=0.7,3.3", "--grid", "gamma=1.3"]
    arguments = ["sweep", "beta_tc_vae", *grid, *SMALL, "--seeds", "2", "--workdir", str(where), "--every-epochs", "1"]
    first, second = where / "beta=0.7,gamma=1.3", where / "beta=3.3,gamma=1.3"
    save, made, stops = run_folder.Folder.save, [], []

    def stopping(folder, epoch, *args):
        save(folder, epoch, *args)
        if (folder.path, epoch, stops) == (second, 1, []):
            stops.append(folder)
            raise KeyboardInterrupt

    class Counted(sharing._Program):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(run_folder.Folder, "save", stopping)
    monkeypatch.setattr(sharing, "_Program", Counted)
    with pytest.raises(KeyboardInterrupt):
        cli.dispatch(arguments)
    assert sum(len(program.compiled) for program in made) == 1  # the epoch of both runs
    assert run_folder.Folder(second).params()[0] == 1
    done = (first / "results.json").stat().st_mtime_ns
    cli.dispatch(arguments)
    assert (first / "results.json").stat().st_mtime_ns == done  # not trained again
    out = capsys.readouterr().out
    assert f"1 of 2  {first.name}  test loss" in out
    assert json.loads((where / "sweep.json").read_text())["cells"] == [first.name, second.name]
    assert (where / "compare.html").exists()
    assert "compare.csv" in out
    alone = ["train", "beta_tc_vae", *SMALL, "--seeds", "2", "--beta", "3.3", "--gamma", "1.3"]
    cli.dispatch([*alone, "--workdir", str(tmp_path / "alone")])
    assert same(second, tmp_path / "alone")
    assert not same(first, tmp_path / "alone")


def small(algorithm, **hyper):
    own = settings.defaults(algorithm)
    return settings.Settings(
        algorithm=algorithm,
        seeds=(0,),
        hyper=dict(own.hyper) | hyper,
        network_options={"hidden": (3,)},
        data="digits",
        epochs=2,
        batch_size=4,
        latents=2,
        network="mlp",
    )


@pytest.mark.parametrize(
    ("algorithm", "hyper", "wanted"),
    [
        ("vae", {"beta": 2.0, "capacity": 0.0}, {"beta": 2.0, "lr": 1e-3}),  # a capacity of 0 is another loss
        ("vae", {"beta": 0.0, "capacity": 3.0}, {"capacity": 3.0, "lr": 1e-3}),
        ("dip_vae", {"off_diagonal": 2.0, "diagonal": None}, {"off_diagonal": 2.0, "lr": 1e-3}),
        ("made", {}, {"lr": 1e-3}),
    ],
)
def test_numbers_are_the_rate_and_what_may_be_a_schedule(algorithm, hyper, wanted):
    found = sharing.numbers(small(algorithm, **hyper))
    assert found == wanted
    changed = sharing.with_numbers(small(algorithm, **hyper), {name: 9.0 for name in found})
    assert sharing.numbers(changed) == dict.fromkeys(wanted, 9.0)


def operations(fn, *args):
    """The operations of a program in order, with the shapes of their results, but for those on single numbers."""
    equations = [equation for equation, _ in jaxprs.equations(jax.make_jaxpr(fn)(*args).jaxpr)]
    found = [(e.primitive.name, [v.aval.shape for v in e.outvars]) for e in equations]
    return [(name, shapes) for name, shapes in found if any(shapes)]


@pytest.mark.parametrize(
    ("algorithm", "hyper"),
    [
        ("vae", {"beta": 2.0, "capacity": 3.0, "warmup_steps": 5}),
        ("beta_tc_vae", {"alpha": 1.5, "beta": 6.0, "gamma": 2.0}),
        ("info_vae", {"alpha": 0.3, "weight": 2.0}),
        ("autoencoder", {"weight_l1": 0.1, "weight_l2": 0.1, "code_l2": 0.1}),
    ],
)
def test_a_program_that_takes_numbers_has_the_operations_of_one_that_holds_them(algorithm, hyper):
    given, data, key = small(algorithm, **hyper), Batch(jnp.ones((4, 5))), jax.random.key(0)

    def learned(values, key):
        made = settings.build(sharing.with_numbers(given, values), (5,), 4)
        params = made.init(key, data)
        after, *_ = made.rule.update(params, made.rule.init(params), data, key)
        return after, made.evaluate(after, data, key)

    values = sharing.numbers(given)
    assert len(values) > 1
    assert operations(learned, values, key) == operations(functools.partial(learned, values), key)


def test_runs_that_differ_in_more_than_numbers_do_not_share():
    shares, data = sharing.Sharing(), Batch(jnp.ones((4, 5)))
    one = small("vae", beta=1.0)
    for given in (one, small("vae", beta=3.0), small("vae", beta=0.0), replace(one, latents=3)):
        assert shares.programs(given, (5,), 4, data) is not compiled.programs
    assert len(shares._groups) == 3


def test_runs_that_share_begin_with_numbers_of_their_own_after_given_params_too():
    """A given decoder leaves the pretraining, which has the rate of the run."""
    shares, data = sharing.Sharing(), Batch(jax.random.uniform(jax.random.key(0), (4, 5)), jnp.arange(4) % 2)
    keys, begun = jnp.stack([jax.random.key(0)]), []
    for rate in (1e-3, 0.1):
        given = small("classifier", classes=2, pretrain_epochs=1)
        given = replace(given, optimizer=replace(given.optimizer, lr=rate))
        build = functools.partial(settings.build, given, (5,), 4)
        plan = compiled.Plan(4, make=build)
        decoder = {"decoder": jax.tree.map(lambda a: a[None], build().init(keys[0], data)["decoder"])}
        begin = [
            programs(build(), plan)[0](data, keys, decoder).params
            for programs in (shares.programs(given, (5,), 4, data), compiled.programs)
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *begin)
        begun.append(begin[0]["encoder"]["layer_0"]["kernel"])
    assert len(shares._groups) == 1
    assert not np.allclose(*begun, atol=1e-3)


def test_an_algorithm_that_chooses_by_a_number_keeps_it(monkeypatch):
    make = ALGORITHMS["vae"]
    chosen = functools.wraps(make)(lambda *args, beta, **more: make(*args, beta=beta if beta > 1 else 1.0, **more))
    monkeypatch.setitem(ALGORITHMS, "vae", chosen)
    assert sharing.Sharing().programs(small("vae"), (5,), 4, Batch(jnp.ones((4, 5)))) is compiled.programs


def test_a_failed_run_does_not_end_the_others(tmp_path, unmeasured, monkeypatch, capsys):
    monkeypatch.setattr(comparing, "contents", lambda found: None)
    monkeypatch.setattr(comparing.comparison, "write", lambda contents, path: path)
    arguments = ["sweep", "vae", "--grid", "lr=1e30,1e-3", *SMALL, "--quiet", "--workdir", str(tmp_path / "sweep")]
    with pytest.raises(RunError, match=r"1 of 2 runs failed, or some of their seeds: lr=1e\+30"):
        cli.dispatch(arguments)
    assert (tmp_path / "sweep" / "lr=0.001" / "results.json").exists()
    assert "failed in epoch" in (tmp_path / "sweep" / "compare.csv").read_text()
    assert "infinite or not a number" in capsys.readouterr().err


def test_a_signal_stops_the_whole_sweep(tmp_path, unmeasured, monkeypatch):
    done = []

    def stopped(settings, folder, only_check=False, **_):
        if not only_check:
            done.append(folder.name)
            raise Interrupted("Stopped after epoch 1 of 3.", 15)

    monkeypatch.setattr(training, "train", stopped)
    with pytest.raises(Interrupted):
        cli.dispatch(["sweep", "vae", "--grid", "lr=1e-2,1e-3", *SMALL, "--workdir", str(tmp_path / "sweep")])
    assert done == ["lr=0.01"]


# ---------------------------------------------------------------------------------------------------- planning


def test_a_grid_is_every_combination_with_the_types_of_the_options():
    asked, rest = asked_of(["--grid", "beta=0.5,1", "--epochs", "3", "--grid=net-hidden=64 32,16", "--seeds", "2"])
    assert rest == ["--epochs", "3", "--seeds", "2"]
    cells, options = planned("vae", asked, rest)
    assert [cell.name for cell in cells] == [
        "beta=0.5,net_hidden=64-32",
        "beta=0.5,net_hidden=16",
        "beta=1.0,net_hidden=64-32",
        "beta=1.0,net_hidden=16",
    ]
    first = cells[0].settings
    assert (first.hyper["beta"], first.network_options["hidden"], first.epochs, first.seeds) == (
        0.5,
        (64, 32),
        3,
        (0, 1),
    )
    assert options.seeds == 2


def test_the_commands_of_the_guide_are_sweeps():
    text = (Path(__file__).parents[1] / "docs" / "guides" / "sweeps.md").read_text()
    found = [shlex.split(line) for line in re.findall(r"^scripts/ae-jax sweep (.*)", text, re.MULTILINE)]
    planned_of = lambda words: planned(words[0], *asked_of(words[1:]))[0]
    assert [len(planned_of(words)) for words in found] == [6, 20]


def test_draws_are_uniform_in_the_logarithm_and_the_same_for_any_number_of_them():
    asked = Asked(grids={"prior": ["a", "b"]}, ranges={"beta": (0.1, 10.0), "latents": (2, 64)}, samples=200, seed=1)
    kinds = {"beta": float, "latents": int}
    found = list(drawn(asked, asked.grids, kinds))
    beta, latents = (np.array([values[name] for values in found]) for name in kinds)
    assert 0.1 <= beta.min() < 0.12
    assert 8 < beta.max() <= 10
    assert abs(np.log10(beta).mean()) < 3 * (2 / 12**0.5) / 200**0.5  # three errors of the mean of U(-1, 1)
    assert latents.dtype == int
    assert (latents.min(), latents.max() > 55) == (2, True)
    assert {values["prior"] for values in found} == {"a", "b"}
    assert all(float(f"{value:.4g}") == value for value in beta)
    assert list(drawn(asked._replace(samples=5), asked.grids, kinds)) == found[:5]
    assert list(drawn(asked._replace(samples=5, seed=2), asked.grids, kinds)) != found[:5]
    with pytest.raises(ValueError, match=r"has 2 different runs, fewer than --samples 3"):
        list(drawn(Asked(grids={"prior": ["a", "b"]}, samples=3), {"prior": ["a", "b"]}, {}))


def test_names_of_folders_are_safe_and_tell_values_apart():
    assert named({"beta": 0.5, "net_hidden": (64, 32)}) == "beta=0.5,net_hidden=64-32"
    assert "/" not in named({"data": "/a/b"})
    assert named({"data": "/a/b"}) != named({"data": "/a_b"})
    assert len(named({"x": "y" * 400})) < 160


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the sweep has no values: give --grid"),
        ("--grid beta", "--grid beta lacks a value: give NAME=VALUE,VALUE"),
        ("--grid beta=", "--grid beta= lacks a value"),
        ("--grid beta=1,,2", "lacks a value"),
        ("--grid beta=1,1", "has 1 twice"),
        ("--grid =1", "names no option"),
        ("--grid beta=1,2 --range beta=1..2 --samples 3", "names beta again"),
        ("--range beta=1..2", "say how many runs, --samples N"),
        ("--range beta=2..1 --samples 3", "LOW must be above 0 and below HIGH"),
        ("--range beta=0..1 --samples 3", "LOW must be above 0"),
        ("--range beta=1-2 --samples 3", "--range beta=1-2 is no range: give NAME=LOW..HIGH"),
        ("--range beta=1..2 --samples 0", "--samples is 0; it must be a whole number, at least 1"),
        ("--grid beta=1,2 --search-seed 1", "--search-seed has no effect without --samples"),
        ("--grid beta=1,2 --samples", "--samples lacks a value"),
        ("--grid beta=1,2 --samples=", "--samples is empty"),
        # of the algorithm's options
        ("--grid betta=1,2", "vae has no option betta. Did you mean beta?"),
        ("--grid hidden=1,2", "vae has no option hidden. Did you mean net_hidden?"),
        ("--grid seeds=1,2", "seeds is no setting that a sweep varies: give --seeds for all its runs"),
        ("--grid beta=1,x", "beta takes no 'x'"),
        ("--grid beta=1,2 --beta 3", "beta is given as --beta and as a setting that varies"),
        ("--range prior=1..2 --samples 3", "prior is no number, and --range draws numbers: give --grid prior"),
        ("--grid beta=1", "the sweep has one run, beta=1.0: give more values"),
        ("--grid beta=1,2 --samples 3", "has 2 different runs, fewer than --samples 3"),
        # of a run
        ("--grid beta=1,-1", "beta is -1.0; it must not be negative"),
        ("--grid latents=2,0", "latents is 0"),
        ("--grid lr=1e-3,0", "lr is 0.0; it must be positive"),
        ("--grid data=digits,nowhere", "nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, RunError)) as raised:
        cli.dispatch(["sweep", "vae", *arguments.split(), "--epochs", "1", "--workdir", "sweep"])
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_algorithm_comes_first_and_help_needs_none(capsys):
    with pytest.raises(ValueError, match="the algorithm comes first: ae-jax sweep ALGORITHM --grid"):
        cli.dispatch(["sweep", "--grid", "beta=1,2"])
    with pytest.raises(ValueError, match=r"'va' is not known. Did you mean vae"):
        cli.dispatch(["sweep", "va", "--grid", "beta=1,2"])
    cli.dispatch(["sweep", "--help"])
    assert "--range NAME=LOW..HIGH" in capsys.readouterr().out


def test_a_folder_is_free_or_holds_a_part_of_the_sweep(tmp_path):
    cells = [sweeping.Cell(name, small("vae")) for name in ("beta=1.0", "beta=2.0")]
    sweeping.check_folder(tmp_path / "new", cells)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match="is not empty and holds no sweep"):
        sweeping.check_folder(tmp_path, cells)
    with pytest.raises(RunError, match="is a file; a sweep needs a folder"):
        sweeping.check_folder(tmp_path / "notes.txt", cells)
    run_folder.write_sealed(tmp_path / "sweep.json", {"schema": 1, "cells": ["beta=1.0"]})
    sweeping.check_folder(tmp_path, cells)
    with pytest.raises(RunError, match=r"holds another sweep, with beta=1.0: give its values too"):
        sweeping.check_folder(tmp_path, cells[1:])
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        sweeping.check_folder(tmp_path, cells)


def test_another_sweep_has_another_folder():
    cells = [sweeping.Cell("a", small("vae")), sweeping.Cell("b", small("vae", beta=2.0))]
    other = [cells[0], cells[1]._replace(settings=small("vae", beta=3.0))]
    assert sweeping.default_workdir(cells) != sweeping.default_workdir(other)
    assert sweeping.default_workdir(cells).name.startswith("sweep-vae-digits-")
    assert training.default_workdir(cells[0].settings).parent == sweeping.default_workdir(cells).parent
