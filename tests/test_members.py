"""The record of every member with no options, and its table."""

import importlib.util
import json
from pathlib import Path


def script(name):
    """scripts/<name>.py as a module."""
    path = Path(__file__).parents[1] / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


members, table = script("members"), script("table")

RESULTS = {
    "metrics": {
        "test explained_variance": {"mean": 0.876},
        "linear_probe_accuracy": {"mean": 0.95},
        "knn_accuracy (k=5)": {"mean": 0.97},
        "pca explained_variance": {"mean": 0.72},
    },
    "seconds": 3.21,
    "parameters": 1000,
    "versions": {},
    "device": "2 CPU cores",
    "commit": "abc",
    "remarks": ["a | b"],
}
SETTINGS = {"network": "mlp", "latents": 10, "epochs": 500, "batch_size": 128}


def test_a_row_keeps_what_was_measured_and_whether_the_machine_was_busy():
    row = members.row(RESULTS, SETTINGS | {"data": "digits"}, 21.234, 0.2, 2)
    assert row["metrics"] == {
        "explained variance": 0.876,
        "probe": 0.95,
        "k-NN": 0.97,
        "PCA, explained variance": 0.72,
    }
    assert (row["seconds"], row["training_seconds"], row["busy"]) == (21.2, 3.2, False)
    assert row["settings"] == SETTINGS
    assert members.row(RESULTS, SETTINGS, 1.0, 1.5, 2)["busy"]
    told = RESULTS | {"metrics": {"test error": {"mean": 0.1}, "test accuracy": {"mean": 0.9}}}
    assert members.row(told, SETTINGS, 1.0, 0.0, 2)["metrics"] == {"accuracy": 0.9}


def test_the_table_has_a_row_a_member_and_no_record_is_no_experiment(tmp_path):
    quiet, loud = (members.row(RESULTS, SETTINGS, 21.2, load, 2) for load in (0.0, 9.0))
    (tmp_path / "members.json").write_text(json.dumps({"digits": {"vae": quiet}, "mnist": {"dec": loud}}))
    page = table.full(tmp_path)
    assert table.experiments_of(tmp_path) == []
    assert "### digits" in page
    assert "| vae | 10 | 0.88 | 0.72 | 0.95 |  | 0.97 |  |  | 21 | a \\| b |" in page
    assert "| 21 (busy) |" in page
    assert "the seconds say little" in page
    assert table.member_lines({}) == []
