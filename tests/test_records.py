"""Records say the settings that were run."""

import ast
from pathlib import Path

import pytest

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*.py"))


def changed_later(source):
    """Parameters that get another value in the body of an `@experiment`, or after `dict(locals())` was taken if they
    are not put right in `settings`.
    """
    wrong = set()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        parameters = {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
        calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "locals"]
        scaffold = any(getattr(getattr(d, "func", d), "id", "") == "experiment" for d in function.decorator_list)
        if not calls and not scaffold:
            continue
        taken = 0 if scaffold else min(call.lineno for call in calls)
        stored = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        put_right = {
            key.value
            for n in ast.walk(function)
            if isinstance(n, ast.AugAssign)
            and getattr(n.target, "id", "") == "settings"
            and isinstance(n.value, ast.Dict)
            for key in n.value.keys
            if isinstance(key, ast.Constant)
        }
        wrong |= {n.id for n in stored if n.lineno > taken and n.id in parameters} - put_right
    return sorted(wrong)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_settings_are_those_that_were_run(path):
    assert changed_later(path.read_text()) == []


def test_a_change_after_the_fact_is_seen():
    source = "def f(*, n=1, full=False):\n    settings = dict(locals())\n    n = 400 if full else n\n"
    assert changed_later(source) == ["n"]
    assert changed_later(source + '    settings |= {"n": n}\n') == []
    scaffold = "@experiment(title='')\ndef main(run, *, n=1):\n    {} = 400\n"
    assert changed_later(scaffold.format("n")) == ["n"]
    assert changed_later(scaffold.format("m")) == []
