"""Each remark on a training is made where it is true, with its evidence, and not made otherwise."""

import numpy as np
import pytest

from ae_jax.app import report
from ae_jax.evaluation import diagnosis

RNG = np.random.default_rng(0)


def test_reconstructions_are_compared_with_the_mean_and_with_pca():
    assert "worse than the mean example (explained variance -2.50)" in diagnosis.reconstruction(-2.5, 0.7)
    assert "worse than PCA's with as many numbers" in diagnosis.reconstruction(0.52, 0.72)
    assert "(explained variance 0.52, 0.72)" in diagnosis.reconstruction(0.52, 0.72)
    for fine in ((0.715, 0.72), (0.88, 0.72), (0.85, 0.99), (0.1, None), (None, 0.5), (float("nan"), 0.5)):
        assert diagnosis.reconstruction(*fine) == ""


def test_codes_that_say_nothing_or_little():
    z = RNG.normal(size=(300, 10))
    assert diagnosis.code(z) == ""
    assert diagnosis.code(z[:1]) == ""
    assert diagnosis.code(0 * z + 3) == "the code is constant: all 300 test examples have the same code"
    assert diagnosis.code(0 * z).startswith("the code is constant")
    assert diagnosis.code(z * np.r_[np.ones(5), np.full(5, 1e-3)]) == ""  # half of them is not most
    assert diagnosis.code(z * np.r_[np.ones(4), np.full(6, 1e-3)]).startswith("6 of 10 code units are dead")


def test_bits_that_are_stuck():
    bits = (RNG.random((1000, 8)) < 0.5).astype(float)
    assert diagnosis.binary(bits)
    assert diagnosis.code(bits) == ""
    bits[:, 0], bits[:, 1] = 0.02, np.arange(1000) > 2
    assert diagnosis.code(bits).startswith("2 of 8 bits are stuck")
    assert not diagnosis.binary(RNG.random((100, 8)))
    assert not diagnosis.binary(0.05 * RNG.random((100, 8)))  # sparse, not bits


def test_a_probe_at_chance():
    labels = np.r_[np.zeros(60), np.ones(40)]
    assert "at chance (0.62; the largest class is 0.60" in diagnosis.probe(0.62, labels)
    assert diagnosis.probe(0.75, labels) == diagnosis.probe(None, labels) == ""


def test_a_loss_that_still_falls():
    epochs = np.arange(100)
    assert "still falling (by 10 in the last 10 of 100 epochs)" in diagnosis.falling(list(200.0 - epochs))
    assert diagnosis.falling(list(100 * np.exp(-epochs / 10))) == ""
    noisy = 10 + 90 * np.exp(-epochs / 5) + 3 * RNG.normal(size=100)
    assert diagnosis.falling(list(noisy)) == ""
    assert diagnosis.falling([3.0, 2.0]) == ""
    assert diagnosis.falling([1.0] * 10) == ""
    assert diagnosis.falling([9.0, 5.0, 3.0, None, None]) != ""  # of the epochs that ran


def test_few_updates_and_early_stopping():
    assert diagnosis.updates(1, 1, 5) == "there was only 1 update (1 epoch of 5 examples): try --epochs 1000"
    assert diagnosis.updates(20, 4, 455) == ("there were only 80 updates (20 epochs of 455 examples): try --epochs 250")
    assert diagnosis.updates(125, 4, 455) == ""
    assert diagnosis.stopped(37, 200, 33) == "stopped early at epoch 37 of 200 (the best is 33)"
    assert diagnosis.stopped(200, 200, 33) == ""


def test_remarks_of_several_seeds_are_one_line():
    assert diagnosis.remarks({0: ["", ""]}) == []
    assert diagnosis.line([]) == ""
    assert diagnosis.remarks({0: ["a", ""]}) == ["a"]
    found = diagnosis.remarks({3: ["", "b"], 4: ["a (1)", "b"], 5: ["a (2)", "b"]})
    assert found == ["seeds 4, 5: a (1)", "seeds 3, 4, 5: b"]
    assert diagnosis.line(found) == "note: seeds 4, 5: a (1); seeds 3, 4, 5: b"
    with pytest.raises(ValueError, match="longer"):
        diagnosis.remarks({0: ["a"], 1: ["a", "b"]})


def test_the_report_shows_them(tmp_path):
    results = {"seeds": [0], "metrics": {"test loss": {"values": [1.0], "mean": 1.0}}}
    x = np.zeros((2, 3))
    found = report.Findings(title="t", settings={}, results=results, history=[], originals=x, codes=x)
    assert "stuck" not in report.write(found, tmp_path).read_text()
    found = found._replace(results=results | {"remarks": ["2 of 8 bits are stuck"]})
    assert "<li>2 of 8 bits are stuck</li>" in report.write(found, tmp_path).read_text()
