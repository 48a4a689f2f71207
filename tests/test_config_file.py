"""Settings from a file: a run's config.json repeats the run, and flags have the last word."""

import json
from dataclasses import replace

import pytest
from test_go_on import config, points, same_bits, train_alone

from ae_jax.algorithms import ALGORITHMS
from ae_jax.app import cli
from ae_jax.app import config as configs
from ae_jax.app.flags import parse, settings_of
from ae_jax.errors import RunError
from ae_jax.training.settings import completed

__all__ = ["points"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_settings_of_every_member_come_back_from_their_file(name, tmp_path):
    given = ["--seeds", "3", "--noise", "masking", "--schedule", "cosine", "--clip", "0.1", "--net-init", "he"]
    network = ["--network", "mlp", "--net-hidden", "8", "4", "--net-tied"]
    given = given[:-2] if name in ("rbm", "dictionary") else [*given, *network]
    given = given[2:] if name == "denoising" else given
    given = [word for word in given if name != "denoising" or word not in ("--noise", "masking")]
    kept = completed(settings_of(name, parse(name, given)), 1437, "unit", 10)
    (file := tmp_path / "config.json").write_text(json.dumps({"schema": 2, "settings": kept.to_json()}))
    read = configs.read(file)
    again = settings_of(name, parse(name, read.flags))
    assert read.algorithm == name
    assert replace(again, seeds=read.seeds) == kept


def write(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_a_runs_config_repeats_it_and_flags_have_the_last_word(points, tmp_path, monkeypatch):
    train_alone(monkeypatch)
    small = [
        "--net-hidden",
        "5",
        "--latents",
        "2",
        "--batch-size",
        "8",
        "--epochs",
        "2",
        "--seeds",
        "2",
        "--beta",
        "0.3",
    ]
    small += ["--schedule", "linear", "--quiet"]
    cli.dispatch(["train", "vae", "--data", str(points), "--workdir", str(tmp_path / "x"), *small])
    again = ["train", "--config", str(tmp_path / "x" / "config.json"), "--quiet", "--workdir"]
    cli.dispatch([*again, str(tmp_path / "y")])
    same_bits(tmp_path / "x", tmp_path / "y")
    assert config(tmp_path / "x")["settings"] == config(tmp_path / "y")["settings"]
    cli.dispatch([*again, str(tmp_path / "z"), "--lr", "0.01", "--seed", "4", "--net-hidden", "6"])
    one, other = (config(tmp_path / name)["settings"] for name in "xz")
    differ = {name for name in one if one[name] != other[name]}
    assert differ == {"optimizer", "seeds", "network_options"}
    assert (other["optimizer"]["lr"], other["seeds"], other["network_options"]) == (0.01, [4], {"hidden": [6]})


def test_a_file_written_by_hand_names_a_few_settings(tmp_path):
    file = write(
        tmp_path / "few.toml",
        """
algorithm = "vae"
data = "shapes"
latents = 3
seeds = [4, 1]
[hyper]
beta = 2
[optimizer]
name = "sgd"
lr = 0.5
[data_options]
size = 16
colour = true
[network_options]
hidden = [8, 4]
""",
    )
    read = configs.read(file)
    made = settings_of(read.algorithm, parse(read.algorithm, [*read.flags, "--beta", "3", "--no-data-colour"]))
    assert read.seeds == (4, 1)
    assert (made.data, made.latents, made.hyper["beta"]) == ("shapes", 3, 3.0)
    assert made.network_options == {"hidden": (8, 4)}
    assert made.data_options == {"size": 16, "colour": False}
    assert (made.optimizer.name, made.optimizer.lr, made.optimizer.momentum) == ("sgd", 0.5, 0.9)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("c.json", {"algoritm": "vae"}, r"has no algorithm \(is it misspelt as algoritm\?\): add one, or name one"),
        ("c.json", {"settings": {"latents": 2}}, "has no algorithm: add one"),
        ("c.json", {"algorithm": "va"}, "has the algorithm 'va', which is not known; did you mean vae"),
        ("c.json", {"algorithm": "dec"}, "is of the algorithm dec, and vae is given: leave one"),
        ("c.json", {"latent": 2}, "has latent, which is no setting; did you mean latents"),
        ("c.json", {"optimizer": {"rate": 2}}, "has optimizer.rate, which is no setting; known are clip, lr, momentum"),
        ("c.json", {"hyper": {"betta": 2}}, "has hyper.betta, which is no setting; did you mean hyper.beta"),
        ("c.json", {"network_options": {"hiden": [2]}}, "did you mean network_options.hidden"),
        ("c.json", {"settings": {}, "setings": {}}, "has setings, which is no setting"),
        ("c.json", {"hyper": 3}, "has hyper = 3; it must be a table of options"),
        ("c.json", {"seeds": 3}, "has seeds = 3; it must be a list of whole numbers"),
        ("c.json", {"restarts": [[1]]}, r"has restarts = \[\[1\]\]; it must be a list of pairs of whole numbers"),
        ("c.json", {"plugins": [{"file": 1}]}, "wanted: a list of tables, each with file, checksum and names"),
        ("c.json", {"start_from": {"run": "r", "groups": 3}}, "has start_from.groups = 3; it must be a list of names"),
        ("c.json", {"start_from": {"run": "r", "seed": "a"}}, "has start_from.seed = 'a'; it must be a whole number"),
        ("c.json", "[1]", "holds no table of settings"),
        ("c.json", "{", "is not JSON"),
        ("c.toml", "lr = = 2", "is not TOML"),
        ("c.json", {"latents": 2, "seal": 1}, "has changed since it was written, as its seal shows"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, name, content, told):
    with pytest.raises(RunError, match=told):
        configs.read(write(tmp_path / name, content), None if "has no algo" in told or "'va'" in told else "vae")


def test_a_missing_file_and_a_value_of_another_type_are_refused(tmp_path, capsys):
    with pytest.raises(RunError, match=r"lost\.json cannot be read \(No such file"):
        cli.dispatch(["train", "--config", str(tmp_path / "lost.json")])
    with pytest.raises(ValueError, match="--config is given twice"):
        cli.dispatch(["train", "--config", str(tmp_path / "a.json"), f"--config={tmp_path / 'b.json'}"])
    with pytest.raises(ValueError, match="--config wants a file"):
        cli.dispatch(["train", "vae", "--config"])
    file = write(tmp_path / "c.json", {"algorithm": "vae", "optimizer": {"lr": "fast"}})
    with pytest.raises(SystemExit) as stopped:
        cli.dispatch(["train", "--config", str(file)])
    assert stopped.value.code == 2
    assert "--lr" in capsys.readouterr().err
