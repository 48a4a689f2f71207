"""Every planted defect still fits the code, and a defect is killed where a test fails and lives where none does."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import mutate  # noqa: E402
from mutants import MUTANTS, Mutant  # noqa: E402


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_defect_fits_the_code_and_names_tests(mutant):
    text = (mutate.ROOT / "ae_jax" / mutant.file).read_text()
    assert mutate.planted(mutant, text) != text
    compile(mutate.planted(mutant, text), mutant.file, "exec")  # a defect, not a file that cannot be read
    files = [word for word in mutant.tests.split() if word.endswith(".py")]
    assert files
    assert all((mutate.ROOT / "tests" / name).exists() for name in files)


def test_the_list_is_long_and_has_no_name_twice():
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_text_that_is_gone_or_stands_twice_is_told():
    mutant = Mutant(name="gone", file="losses.py", old="a = 1", new="a = 2", tests="")
    for text in ("b = 1", "a = 1\na = 1"):
        with pytest.raises(ValueError, match="not once"):
            mutate.planted(mutant, text)


def test_verdicts(monkeypatch):
    one = MUTANTS[0]
    for with_it, without, said in [(1, 0, "killed"), (0, 0, "alive"), (1, 1, "fail without"), (5, 0, "no test")]:
        monkeypatch.setattr(mutate, "tested", lambda m, tests, w=with_it, o=without: o if m is None else w)
        assert said in mutate.verdict(one, sound=True)
