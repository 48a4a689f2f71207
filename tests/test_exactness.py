"""The page of exact tests: every member has one, and every test that it names is there."""

import exactness
import pytest

from ae_jax.algorithms import ALGORITHMS


def test_every_member_has_exact_tests_and_all_are_there():
    assert set(exactness.EXACT) == set(ALGORITHMS), "name the exact tests of each member in scripts/exactness.py"
    page = exactness.page()  # raises for a test that is not there
    assert page.count("\n## ") == len(ALGORITHMS)


def test_a_row_is_read_from_its_test(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "def helper(a, b):\n    np.testing.assert_allclose(a, b, rtol=1e-3)\n"
        "def test_one_is_one():\n    with jax.enable_x64(True):\n        same(1, 1, rtol=1e-9)\n"
        "def test_bits():\n    np.testing.assert_array_equal(1, 1)\n"
        "def test_by_a_helper():\n    helper(1, 1)\n    assert 1 == pytest.approx(1, abs=1e-8)\n"
        "def test_near():\n    assert error(x) < 5\n"
        "def test_of_three_deviations():\n    assert 1 == approx(1, abs=3 * s)\n"
        "def test_nothing():\n    pass\n"
    )
    monkeypatch.setattr(exactness, "ROOT", tmp_path)
    held = lambda name: exactness.held("test_it", name)[:3]
    assert held("one_is_one") == ("one is one", "1e-09", "float64")
    assert held("bits") == ("bits", "to the bit", "float32")
    assert held("by_a_helper")[1] == "0.001"
    assert held("near")[1] == "`error(x) < 5`"
    assert held("of_three_deviations")[1] == "computed in the test"
    for name, told in (("gone", "has no test_gone"), ("nothing", "compares no numbers")):
        with pytest.raises(ValueError, match=told):
            held(name)
