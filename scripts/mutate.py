"""Plants defects in a copy of the package, one at a time, and runs the tests that must find them.

    scripts/mutate                    all of scripts/mutants.py
    scripts/mutate kl_sign cd_sign    some
    scripts/mutate --record --jobs 2  writes results/mutation.json, with two at a time

A defect is killed if a test fails. The exit status is 1 if a defect is alive or no longer fits the code.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from ae_jax.training.provenance import commit  # noqa: E402

COPIED = ("ae_jax", "tests", "experiments", "scripts", "docs", "results", "pyproject.toml", "mkdocs.yml", "README.md")
FAILED = 1  # pytest's exit status for a failed test; no other status counts as a kill


def planted(mutant: Mutant, text: str) -> str:
    """The text with the defect. Raises ValueError unless the old text occurs in it exactly once."""
    if (found := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: the old text stands {found} times in {mutant.file}, not once")
    return text.replace(mutant.old, mutant.new)


def copy(folder: Path) -> None:
    """Copies the parts of the repository that the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)


def tested(mutant: Mutant | None, tests: str) -> int:
    """The exit status of the tests in a copy with the defect, or without one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        if mutant is not None:
            path = folder / "ae_jax" / mutant.file
            path.write_text(planted(mutant, path.read_text()))
        words = [f"tests/{word}" if word.endswith(".py") else word for word in shlex.split(tests)]
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
        return subprocess.run(
            [*command, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True
        ).returncode


def verdict(mutant: Mutant, sound: bool = False) -> str:
    """The word killed or alive, or why neither is known. With `sound`, the tests must also pass without the defect."""
    try:
        planted(mutant, (ROOT / "ae_jax" / mutant.file).read_text())
    except ValueError as error:
        return str(error)
    status = tested(mutant, mutant.tests)
    if status == 0:
        return "alive"
    if status != FAILED:
        return f"pytest ended with {status}: no test was run"
    return "its tests fail without it, too" if sound and tested(None, mutant.tests) else "killed"


def main() -> int:
    """Tests the named defects, or all defects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of scripts/mutants.py; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--sound", action="store_true", help="run the tests without the defect, too: they must pass")
    parser.add_argument("--record", action="store_true", help="write results/mutation.json")
    options = parser.parse_args()
    if unknown := set(options.names) - {mutant.name for mutant in MUTANTS}:
        parser.error(f"there is no {sorted(unknown)}; scripts/mutants.py has {[m.name for m in MUTANTS]}")
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    began, found = time.monotonic(), {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, said in zip(chosen, pool.map(partial(verdict, sound=options.sound), chosen), strict=True):
            print(f"{mutant.name}: {said}", flush=True)
            found[mutant.name] = said
    killed = sum(said == "killed" for said in found.values())
    score = round(100 * killed / len(found), 1)
    print(f"{killed} of {len(found)} killed, {score} %, in {time.monotonic() - began:.0f} s")
    if options.record:
        record = {"commit": commit(), "killed": killed, "planted": len(found), "score, %": score, "verdicts": found}
        (ROOT / "results" / "mutation.json").write_text(json.dumps(record, indent=1) + "\n")
    return int(killed < len(found))


if __name__ == "__main__":
    sys.exit(main())
