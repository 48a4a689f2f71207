"""The scripts: making the environment, the tables, the benchmark's arithmetic; and how heavy `import ae_jax` is."""

import functools
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxprs import equations
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ae_jax.algorithms import MEMBERS

ROOT = Path(__file__).parents[1]


@functools.cache
def script(name):
    """scripts/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench, table = script("bench"), script("table")
bench_jax = importlib.import_module("bench_jax")  # scripts/ is on the path since bench is loaded


@pytest.fixture
def status(monkeypatch):
    """`status(module, *arguments)`: the exit status of its `main`, in this process, as importing JAX takes seconds."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, arguments)])
        try:
            module.main()
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
            return 1 if isinstance(stop.code, str) else stop.code
        return 0

    return run


# ---------------------------------------------------------------------------------------------- importing


def test_import_is_light():
    """Less than 1.5 s of processor time (a busy machine stretches wall time), and nothing heavy loaded.

    No backend starts: jax.distributed, and the choice of a platform, come after importing.
    """
    heavy = ["tensorflow", "tensorflow_datasets", "tyro", "orbax", "sklearn", "matplotlib", "torch"]
    shown = f"print(time.process_time(), [m for m in {heavy} if m in sys.modules])"
    none = "from jax._src import xla_bridge; assert not xla_bridge._backends"
    code = f"import sys, time; from ae_jax import *; {shown}; {none}"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    runs = [subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True) for _ in range(2)]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    assert [run.stdout.split(maxsplit=1)[1].strip() for run in runs] == ["[]"] * 2
    assert min(float(run.stdout.split()[0]) for run in runs) < 1.5


# --------------------------------------------------------------------------------------- the environment

TOOLS = "bash env cat head tail sha256sum readlink dirname mkdir rm mv cp flock awk sleep"

# An interpreter that makes environments as fast as a test wants them: it notes what it is asked for in $LOG.
INTERPRETER = """#!/usr/bin/env bash
case "$1 $2" in
"-c "*version_info\\ \\<*) [[ {version} -ge 311 ]] ;;
"-c "*ensurepip*) {ensurepip} ;;
"-c "*sys.executable*) echo "$0" ;;
"-c "*) echo "{base} python3.{version}" ;;
"-m venv") echo venv >>"$LOG"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
"-m pip") echo pip >>"$LOG"; [[ -z ${{SLOW-}} ]] || sleep "$SLOW"; [[ -z ${{FAIL-}} ]] ;;
*) echo "Python 3" ;;
esac
"""


@pytest.fixture
def house(tmp_path):
    """A repository with nothing but what setup reads (in a folder with a space), and a PATH with one interpreter."""

    class House:
        root = tmp_path / "a house"
        bin = tmp_path / "bin"
        log = tmp_path / "log"

        def interpreter(self, name, version=311, ensurepip="true", base="/usr"):
            file = self.bin / name
            file.write_text(INTERPRETER.format(version=version, ensurepip=ensurepip, base=base))
            file.chmod(0o755)
            return str(file)

        def start(self, **env):
            env = {"PATH": str(self.bin), "LOG": str(self.log), **env}
            return subprocess.Popen(
                [self.root / "scripts" / "setup"],
                cwd=tmp_path,
                env=env,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

        def setup(self, **env):
            process = self.start(**env)
            message = process.communicate(timeout=60)[1]
            return process.returncode, message

        def done(self):
            """What has been asked of the interpreters since the last question."""
            lines = self.log.read_text().split() if self.log.exists() else []
            self.log.unlink(missing_ok=True)
            return lines

    h = House()
    (h.root / "scripts").mkdir(parents=True)
    h.bin.mkdir()
    shutil.copy(ROOT / "scripts" / "setup", h.root / "scripts")
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, h.root)
    for tool in TOOLS.split():
        if where := shutil.which(tool):
            (h.bin / tool).symlink_to(where)
    h.interpreter("python3")
    return h


def test_setup_makes_the_environment_once(house):
    assert house.setup()[0] == 0
    assert house.done() == ["venv", "pip"]
    assert house.setup() == (0, "")
    assert house.done() == []


def test_setup_repairs_what_was_interrupted(house):
    process = house.start(SLOW="60")
    while not (house.log.exists() and "pip" in house.log.read_text()):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    house.done()
    assert house.setup()[0] == 0
    assert house.done() == ["venv", "pip"]


def test_setup_that_failed_says_so_and_starts_over(house):
    code, message = house.setup(FAIL="1")
    assert code == 1
    assert "pip could not install" in message
    assert house.setup()[0] == 0
    assert house.setup() == (0, "")


def test_two_setups_at_once_make_one_environment(house):
    processes = [house.start(SLOW="1") for _ in range(3)]
    assert [p.communicate(timeout=60) and p.returncode for p in processes] == [0, 0, 0]
    assert house.done() == ["venv", "pip"]


def test_new_pins_update_and_a_new_place_or_interpreter_rebuilds(house):
    house.setup()
    house.done()
    with (house.root / "constraints.txt").open("a") as file:
        file.write("# another\n")
    assert house.setup()[0] == 0
    assert house.done() == ["pip"]

    other = house.interpreter("python3.12", version=312)
    assert house.setup(PYTHON=other)[0] == 0
    assert house.done() == ["venv", "pip"]
    assert house.setup() == (0, "")  # without PYTHON any good environment will do

    house.root = house.root.rename(house.root.with_name("elsewhere"))
    assert house.setup()[0] == 0
    assert house.done() == ["venv", "pip"]


@pytest.mark.parametrize(
    ("interpreters", "env", "message"),
    [
        ({"python3": {"version": 310}}, {}, "no Python 3.11 or newer on PATH"),
        ({"python3": {"ensurepip": "false"}}, {}, "apt install python3.311-venv"),
        ({}, {"PYTHON": "/nowhere/python"}, "PYTHON=/nowhere/python is not a Python 3.11 or newer that runs"),
    ],
)
def test_setup_without_a_good_interpreter_says_what_to_do(house, interpreters, env, message):
    for name, how in interpreters.items():
        house.interpreter(name, **how)
    code, said = house.setup(**env)
    assert code == 1
    assert message in said
    assert house.done() == []


def test_setup_passes_over_an_old_python3(house):
    house.interpreter("python3", version=310)
    house.interpreter("python3.12", version=312)
    assert house.setup()[0] == 0
    assert house.done() == ["venv", "pip"]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_to_a_version_that_it_allows(python):
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {}
    for pin in map(Requirement, lines):
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            assert canonicalize_name(pin.name) not in pins, f"{pin.name} is pinned twice for Python {python}"
            assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
            pins[canonicalize_name(pin.name)] = str(pin.specifier)[2:]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in ("dev", "docs", "experiments", "tutorials", "bench", "prepare"):
        wanted += project["project"]["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if requirement.name != "ae-jax":
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize(
    "name", ["scripts/setup", "scripts/ae-jax", "scripts/experiments", "scripts/test", "scripts/docs", ".ci/run"]
)
def test_shell_scripts_parse_and_are_executable(name):
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / name]).returncode == 0


@pytest.fixture
def laboratory(tmp_path):
    """A repository of two experiments, one of which fails, whose python only says what it is asked for."""
    for folder in ("experiments", "scripts", ".venv/bin"):
        (tmp_path / "repo" / folder).mkdir(parents=True)
    for name in ("good", "bad"):
        (tmp_path / "repo" / "experiments" / f"{name}.py").touch()
    python = '#!/usr/bin/env bash\necho "ran $* data=${TFDS_DATA_DIR-}"\n[[ $* != *bad.py* ]]\n'
    for name, text in ((".venv/bin/python", python), ("scripts/setup", "#!/usr/bin/env bash\n")):
        (tmp_path / "repo" / name).write_text(text)
        (tmp_path / "repo" / name).chmod(0o755)
    shutil.copy(ROOT / "scripts" / "experiments", tmp_path / "repo" / "scripts")

    def go(*arguments, **env):
        env = {k: v for k, v in os.environ.items() if k not in ("TFDS_DATA_DIR", "NLTK_DATA")} | env
        command = [tmp_path / "repo" / "scripts" / "experiments", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return go


def test_all_experiments_run_though_one_fails(laboratory, tmp_path):
    done = laboratory("--seeds", "2")
    assert done.returncode == 1
    assert done.stderr == "failed: bad\n"
    ran = [line for line in done.stdout.splitlines() if line.startswith("ran")]
    ends = [f"ran -u experiments/{name}.py --seeds 2 data=" for name in ("bad", "good")]
    assert ran == [*ends, "ran scripts/table.py data="]
    (tmp_path / "shared" / "data" / "tensorflow_datasets").mkdir(parents=True)
    done = laboratory("good")
    assert done.returncode == 0
    assert "good.py data=../shared/data/tensorflow_datasets" in done.stdout
    assert "data=elsewhere" in laboratory("good.py", TFDS_DATA_DIR="elsewhere").stdout


def test_what_has_no_larger_size_runs_by_its_default(laboratory, tmp_path):
    (tmp_path / "repo" / "experiments" / "good.py").write_text("def main(*, full: bool = False): ...")
    said = laboratory("--full", "--seeds", "2").stdout
    assert "experiments/good.py --full --seeds 2 data" in said
    assert "experiments/bad.py --seeds 2 data" in said
    assert "experiments/bad.py data" in laboratory("bad", "--full").stdout


def test_an_option_that_is_refused_is_refused_once(laboratory, tmp_path):
    python = tmp_path / "repo" / ".venv" / "bin" / "python"
    python.write_text(
        '#!/usr/bin/env bash\necho "ran $2"\n[[ $* == *--bogus* ]] && exit 2\n[[ $* != *experiments/* ]]\n'
    )
    done = laboratory("--bogus", "3")
    assert done.returncode == 2
    assert done.stderr == "error: bad does not take these options: --bogus 3; nothing after it was run\n"
    assert "good" not in done.stdout
    assert laboratory("--known").stderr == "failed: bad good\n"


def test_an_experiment_that_is_not_there_runs_nothing(laboratory):
    done = laboratory("good", "none")
    assert done.returncode == 2
    assert "there is no experiments/none.py; there are: bad good" in done.stderr
    assert not done.stdout


# ------------------------------------------------------------------------------ records of the papers' sizes

STAND_IN = """
import json, time
from pathlib import Path

def main(out, runs, full=False):
    (Path(runs) / "NAME-1").mkdir(parents=True, exist_ok=True)
    (Path(runs) / "NAME-1" / "log").write_text("an epoch")
    end = time.monotonic() + WAIT
    while time.monotonic() < end: time.sleep(0.01)
    settings = main.__kwdefaults__ | (main.full | {"full": True} if full else {})
    file = Path(out) / ("NAME-full.json" if full else "NAME.json")
    file.write_text(json.dumps({"settings": settings, "seeds": [0], "seconds": 60, "commit": None}))
    (Path(runs) / "NAME-1" / "log").unlink()
    (Path(runs) / "NAME-1").rmdir()

main.__kwdefaults__ = {"seeds": 3, "epochs": 2, "out": "results", "runs": "runs"} | FLAG
main.full = FULL
"""


@pytest.fixture
def records(tmp_path, monkeypatch):
    """scripts/records.py over stand-ins of experiments: one fails, and one takes an hour."""
    module = script("records")
    for folder in ("experiments", "results"):
        (tmp_path / folder).mkdir()
    for name, full, wait in (("quick_one", {"epochs": 9}, "0"), ("plain_one", {}, "0"), ("slow_one", {}, "3600")):
        text = STAND_IN.replace("NAME", name).replace("WAIT", wait).replace("FULL", repr(full))
        text = text.replace("FLAG", repr({"full": False} if full else {}))
        (tmp_path / "experiments" / f"{name}.py").write_text(text)
    fails = "def main(**given): 1 / 0\nmain.__kwdefaults__, main.full = {}, {}"
    (tmp_path / "experiments" / "study.py").write_text("def in_sentences(name, work): work()")
    (tmp_path / "experiments" / "bad_one.py").write_text(fails)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RECORDS", ("bad_one", "quick_one", "plain_one", "slow_one"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "experiments"), *sys.path])
    module.go = ["--results", tmp_path / "results", "--runs", tmp_path / "runs"]
    yield module
    for name in module.RECORDS:
        sys.modules.pop(name, None)


def test_parts_that_cannot_be_read_are_kept(records, status, tmp_path, capsys):
    carried = tmp_path / "carried"
    carried.mkdir()
    (carried / "part-000").write_bytes(b"half of a file")
    assert status(records, *records.go, "--carry", carried, "quick_one") == 1
    assert "are damaged or incomplete" in capsys.readouterr().err
    assert (carried / "part-000").read_bytes() == b"half of a file"


def test_records_are_measured_once_and_again_where_the_settings_differ(records, status, tmp_path, capsys):
    records.RECORDS = ("bad_one", "quick_one", "plain_one")
    assert status(records, *records.go) == 1
    out, err = capsys.readouterr()
    assert err.endswith("failed: bad_one\n")
    assert "quick_one: missing" in out, "a failure does not stop the others"
    assert json.loads((tmp_path / "results" / "quick_one-full.json").read_text())["settings"]["full"]
    assert (tmp_path / "results" / "plain_one.json").exists(), "one without --full runs by its defaults"
    assert status(records, *records.go, "quick_one", "--list") == 0
    assert "quick_one: measured (1 seeds, 1 min" in capsys.readouterr().out
    file = tmp_path / "results" / "quick_one-full.json"
    file.write_text(file.read_text().replace('"epochs": 9', '"epochs": 8'))
    assert status(records, *records.go, "--list") == 0
    assert "quick_one: stale (epochs was 8 and is 9)" in capsys.readouterr().out
    assert status(records, *records.go, "plain_one", "quick_one") == 0
    assert '"epochs": 9' in file.read_text()


def test_records_stop_when_their_minutes_are_over(records, status, tmp_path, capsys):
    records.RECORDS = ("slow_one", "plain_one")
    assert status(records, *records.go, "--minutes", "0.02") == 0
    assert "slow_one: missing\n0.02 minutes are over; the same command goes on with slow_one" in capsys.readouterr().out
    assert not list((tmp_path / "results").iterdir())
    (tmp_path / "runs" / "slow_one-1").mkdir(parents=True, exist_ok=True)  # a busy machine had no time to make it
    assert status(records, *records.go, "--list") == 0
    assert "slow_one: begun (in slow_one-1)" in capsys.readouterr().out
    for wrong, said in ((["none"], "no record is planned of none"), (["--minutes", "0"], "wanted: more than 0")):
        assert status(records, *records.go, *wrong) == 2
        assert said in capsys.readouterr().err


def test_a_killed_script_leaves_no_experiment_running(records, tmp_path):
    name = "deep_autoencoder"
    text = (tmp_path / "experiments" / "slow_one.py").read_text().replace("slow_one", name)
    text = text.replace('"an epoch"', "str(__import__('os').getpid())")
    (tmp_path / "experiments" / f"{name}.py").write_text(text)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "records.py", tmp_path / "scripts")
    script = subprocess.Popen([sys.executable, tmp_path / "scripts" / "records.py", name], stderr=subprocess.PIPE)
    log = tmp_path / "runs" / f"{name}-1" / "log"
    end = time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    experiment = int(log.read_text())
    script.terminate()
    assert b"the same command goes on" in script.communicate(timeout=60)[1]
    with pytest.raises(ProcessLookupError):
        os.kill(experiment, 0)


def test_unfinished_runs_are_carried_from_one_machine_to_the_next(records, status, tmp_path, capsys, monkeypatch):
    records.RECORDS, records.PART = ("slow_one", "quick_one"), 150
    carried, next_one = tmp_path / "carried", ["--results", tmp_path / "results2", "--runs", tmp_path / "runs2"]
    assert status(records, *records.go, "--carry", carried, "quick_one") == 0
    (tmp_path / "runs" / "slow_one-1").mkdir()
    (tmp_path / "runs" / "slow_one-1" / "log").write_text("an epoch")
    assert status(records, *records.go, "--carry", carried, "--gpu", "--minutes", "1e-9", "slow_one") == 0
    sizes = [part.stat().st_size for part in sorted(carried.iterdir())]
    assert len(sizes) > 1
    assert max(sizes) == 150
    capsys.readouterr()
    assert status(records, *next_one, "--carry", carried, "--list") == 0
    out = capsys.readouterr().out
    assert "slow_one: begun (in slow_one-1)" in out
    assert "quick_one: measured" in out
    newer = tmp_path / "runs2" / "slow_one-1" / "log"
    newer.write_text("two epochs")
    assert status(records, *next_one, "--carry", carried, "--list") == 0
    assert newer.read_text() == "two epochs", "an older run does not replace a newer one"
    (carried / "part-001").unlink()
    assert status(records, *next_one, "--carry", carried, "--list") == 1
    assert "damaged or incomplete" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- the tables

EXPERIMENT = {
    "name": "vae",
    "title": "A VAE",
    "source": "Someone (2014)",
    "seeds": [0, 1, 2],
    "metrics": {
        "bound, nats": {"values": [1, 2, 3], "mean": 105.5826, "std": 1.0, "low": 105.4231, "high": 105.7420},
        "gap": {"values": [1, 2, 3], "mean": 0.0123, "std": 1.0, "low": 0.0023, "high": 0.0223},
    },
    "published": {"bound, nats": {"value": 105.59, "where": "table 1", "tolerance": 0.3, "note": "one | seed"}},
    "device": "2 cores",
    "seconds": 168.0,
    "notes": [],
}
README = "above\n" + "".join(f"<!-- {n} -->\nold\n<!-- /{n} -->\n" for n in ("members", "results", "speed")) + "below\n"
SPEED = "above\n<!-- bench -->\n<!-- /bench -->\n"


def rendered(tmp_path, **changes):
    """The page of all metrics: the table of all experiments, and the rest."""
    (tmp_path / "vae.json").write_text(json.dumps(EXPERIMENT | changes))
    text, page = table.full(tmp_path).split("\n## vae\n")
    return text, "\n## vae\n" + page


def speeds(tmp_path):
    """The page of speeds."""
    return table.render(SPEED, ("bench",), tmp_path)


def test_results_table(tmp_path):
    text, page = rendered(tmp_path)
    links = "[numbers](#vae), [experiment](../experiments/vae.py)"
    assert f"| **A VAE**: bound, nats | 105.59 | 105.58 (105.42 to 105.74) | 1 of 1 | 3 in 2.8 min | {links} |" in text
    assert "gap" not in text, "the table of all shows one number of an experiment"
    assert "\n## vae\n" in page
    assert "| bound, nats | 105.59, table 1 (one \\| seed) | 105.58 (105.42 to 105.74) | ✓ within 0.3 |" in page
    assert "| gap |  | 0.012 (0.002 to 0.022) |  |" in page
    assert "[experiment](../experiments/vae.py), [numbers](vae.json)" in page


def test_readme_has_published_values_and_keeps_what_is_around_its_tables(tmp_path):
    name, label = next(iter(table.EIGHT.items()))
    record = EXPERIMENT | {"name": name, "metrics": {label: EXPERIMENT["metrics"]["bound, nats"]}}
    record["published"] = {label: EXPERIMENT["published"]["bound, nats"]}
    (tmp_path / f"{name}.json").write_text(json.dumps(record))
    names = ("members", "results", "speed")
    text = table.render(README, names, tmp_path)
    row = f"| table 1 | [{name}](experiments/{name}.py): {label} | 105.59 | 105.58 (105.42 to 105.74) |"
    assert row in text
    assert "old" not in text
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert table.render(text, names, tmp_path) == text


def test_the_record_of_the_full_size_stands_beside_the_quick_one(tmp_path):
    name, label = next(iter(table.EIGHT.items()))
    quick = EXPERIMENT | {"name": name, "metrics": {label: EXPERIMENT["metrics"]["gap"]}}
    quick["published"] = {label: EXPERIMENT["published"]["bound, nats"]}
    full = quick | {"name": f"{name}-full", "metrics": {label: EXPERIMENT["metrics"]["bound, nats"]}}
    for record in (quick, full, EXPERIMENT):
        (tmp_path / f"{record['name']}.json").write_text(json.dumps(record))
    assert {r["name"] for r in table.experiments_of(tmp_path)} == {name, f"{name}-full", "vae"}
    together = [r["name"] for r in table.experiments_of(tmp_path) if r["name"] != "vae"]
    assert together == [name, f"{name}-full"]
    page = table.full(tmp_path)
    for size in ("", "-full"):
        assert f"[numbers](#{name}{size}), [experiment](../experiments/{name}.py) |" in page
        assert f"\n## {name}{size}\n" in page
    assert "**A VAE** (`--full`): " in page
    rows = "\n".join(table.eight(table.experiments_of(tmp_path)))
    assert f"[{name}](experiments/{name}.py) (`--full`): {label} | 105.59 | 105.58 (105.42 to 105.74) |" in rows
    assert rows.count(name) == 2, "a link and its place, once"


def test_the_eight_results_have_published_values_that_someone_read():
    assert len(table.EIGHT) == 8
    for name, label in table.EIGHT.items():
        record = json.loads((ROOT / "results" / f"{name}.json").read_text())
        assert label in record["metrics"]
        assert "remembered" not in json.dumps(record["published"][label])


def test_every_member_is_in_the_table_of_members_with_the_experiments_that_use_it():
    rows = "\n".join(table.members_table())
    names = [member.make.__name__ for member in MEMBERS]  # ALGORITHMS has those of plugins, too
    assert all(f"[`{name}`](ae_jax/algorithms/{name}.py)" in rows for name in names)
    assert {"vae_pytorch_example", "linear_members"} <= set(table.experiments_with("vae"))
    assert "made" not in table.experiments_with("vae")


def test_the_page_of_each_family_lists_its_members():
    for family in {member.family for member in MEMBERS}:
        page = (ROOT / "docs" / "families" / f"{family}.md").read_text()
        for name in (member.make.__name__ for member in MEMBERS if member.family == family):
            assert page.count(f"\n- [`{name}`](../../ae_jax/algorithms/{name}.py): ") == 1
    lines = table.family_lines("autoregressive")
    assert len(lines) == 3
    assert ": MADE: masked autoencoder for distribution estimation. Germain et al. (2015)" in lines[1]
    assert table.filled("a <!-- members -->\nold\n<!-- /members --> z", {"members": lines}).count("old") == 0


def test_an_experiment_without_a_record_says_so(tmp_path):
    for place in ("experiments", "results"):
        (tmp_path / place).mkdir()
    for name in ("new", "old", "study"):
        (tmp_path / "experiments" / f"{name}.py").write_text("")
    (tmp_path / "results" / "old.json").write_text("{}")
    assert table.experiments_in(tmp_path) == ["new", "old"]
    said = table.links(["new", "old"], "../", tmp_path)
    assert said == "[new](../experiments/new.py) (no record yet), [old](../experiments/old.py)"
    assert "No record yet: [adversarial](../experiments/adversarial.py), " in table.full(tmp_path / "results" / "none")
    unrecorded = [name for name in table.experiments_in() if not (ROOT / "results" / f"{name}.json").exists()]
    page = (ROOT / "results" / "README.md").read_text()
    assert page.count("No record yet: ") == bool(unrecorded)
    assert all(f"[{name}](../experiments/{name}.py)" in page for name in unrecorded)


def test_results_outside_of_the_tolerance_are_marked(tmp_path):
    published = {"bound, nats": EXPERIMENT["published"]["bound, nats"] | {"value": 103.0}}
    text, page = rendered(tmp_path, published=published)
    assert "| 0 of 1<br>✗ bound, nats |" in text
    assert "✗ **+2.58**, tolerance 0.3" in page


def test_a_published_value_that_was_not_measured_is_shown(tmp_path):
    published = {"accuracy": {"value": 0.9, "where": "figure 2", "tolerance": None, "note": ""}}
    assert "| accuracy | 0.9, figure 2 | not measured |  |" in rendered(tmp_path, published=published)[1]


@pytest.mark.parametrize(
    ("mean", "low", "high", "shown"),
    [
        (13.8662, 13.8662, 13.8662, "13.87"),  # all seeds alike
        (27.62, 26.68, 28.56, "27.62 (26.68 to 28.56)"),
        (12345.6, 12300.1, 12391.1, "12,346 (12,300 to 12,391)"),
        (-0.00021, -0.00034, -0.00008, "-0.00021 (-0.00034 to -0.00008)"),
        (0.0, 0.0, 0.0, "0"),
        (float("nan"), None, None, "**not finite**"),
    ],
)
def test_as_many_digits_as_the_interval_supports(mean, low, high, shown):
    assert table.interval({"mean": mean, "low": low, "high": high}) == shown


def test_one_seed_has_no_interval_and_claims_are_judged(tmp_path):
    metrics = {"gap": {"values": [1], "mean": 0.5, "std": None, "low": None, "high": None}}
    claims = {"gap": {"claim": "a gap", "holds": None}}
    text, page = rendered(tmp_path, metrics=metrics, claims=claims, published={})
    assert "| 0.5000 | 0 of 1 |" in text
    assert "| 0.5000 | one seed, no interval: a gap |" in page
    claims["gap"]["holds"] = False
    text, page = rendered(tmp_path, metrics=metrics, claims=claims, published={})
    assert "| 0 of 1<br>✗ gap |" in text
    assert "✗ **not above 0**: a gap" in page


def test_many_missed_claims_are_counted_in_readme_and_named_on_the_page_of_all(tmp_path):
    claims = {f"claim {i}": {"claim": "so", "holds": i == 3} for i in range(5)}
    metrics = {label: EXPERIMENT["metrics"]["gap"] for label in claims}
    text, page = rendered(tmp_path, metrics=metrics, claims=claims, published={})
    assert "| 1 of 5<br>✗ claim 0; ✗ claim 1 and 2 more |" in text
    assert page.count("✗ **not above 0**: so") == 4
    del claims["claim 2"], claims["claim 4"]
    assert "| 1 of 3<br>✗ claim 0; ✗ claim 1 |" in rendered(tmp_path, metrics=metrics, claims=claims, published={})[0]


def test_bench_table(tmp_path):
    rows = [
        {
            "side": "ae_jax, many",
            "unit": "examples",
            "median": 30000.0,
            "peak_mb": 500,
            "first_call_seconds": 2.5,
            "compile_seconds": 1.5,
        },
        {"side": "theirs", "unit": "examples", "median": 15000.0, "peak_mb": 400, "first_call_seconds": 0.5},
    ]
    about = {"device": "A CPU", "cpus": 2, "versions": {"jax": "1.0"}, "load": 3.0, "busy": True}
    ratio = {"to": "theirs", "median": 2.0, "low": 1.9, "high": 2.1}
    share = {"of_ceiling": {"ae_jax, many": 0.85}, "of_copy": {"ae_jax, many": 1.5}}
    case = {"title": "A race", "ours": "ae_jax, many", "rows": rows, "ratio": ratio} | share | about
    (tmp_path / "bench-a.json").write_text(json.dumps({"cases": {"race": case}}))
    text = speeds(tmp_path)
    assert "| A race | 30,000 examples/s, many | 15,000 examples/s, theirs | 2.00 (1.90 to 2.10) | 85% |" in text
    assert "| 85% | 150% | 1.5 s | 2.5 s | 500 MB | A CPU, 2 CPUs, jax 1.0 (machine busy, load 3.0) |" in text


def test_goals_stand_beside_what_was_measured(tmp_path):
    about = {"device": "A CPU", "cpus": 2, "versions": {"jax": "1.0"}}
    measured = {"median": 2.0, "low": 1.9, "high": 2.1}
    goals = [
        {"ours": "ae_jax", "to": "the best rival, theirs", "rival": "theirs", "least": 2.5} | measured,
        {"ours": "ae_jax, more", "to": "theirs", "rival": "theirs", "least": 1.5} | measured,
        {"ours": "ae_jax", "to": bench.CEILING_GOAL, "rival": "a large product, JAX", "least": 0.8} | measured,
    ]
    sides = [
        {"side": "theirs", "unit": "examples", "median": 4.0},
        {"side": "a large product, JAX", "unit": "FLOP", "median": 90.0},
        {"side": "a large product, PyTorch", "unit": "FLOP", "median": 100.0},
    ]
    rows = [{"side": "ae_jax", "unit": "seconds", "median": 0.8}]
    cases = {
        "race": {"title": "A race", "ours": "ae_jax", "rows": sides, "flops": 10, "goals": goals} | about,
        "start": {"title": "A start", "rows": rows, "most": {"ae_jax": 1.0}} | about,
    }
    (tmp_path / "bench-a.json").write_text(json.dumps({"cases": cases}))
    text = speeds(tmp_path)
    assert "| A race, times the best rival, theirs | at least 2.5 | 2 (1.9 to 2.1) | ✗ | 2.5 | A CPU, 2 CPUs |" in text
    assert "| A race: more, times theirs | at least 1.5 | 2 (1.9 to 2.1) | ✓ | 2.5 | A CPU, 2 CPUs |" in text
    assert "| A race, times one large product | at least 0.8 | 2 (1.9 to 2.1) | ✓ |  | A CPU, 2 CPUs |" in text
    assert "| A start, ae_jax | at most 1 s | 0.8 s | ✓ |  | A CPU, 2 CPUs |" in text


def test_streams_and_growth_stand_below_the_speeds(tmp_path):
    machine = {"device": "A CPU", "cpus": 2}
    busy = {"busy": True, "load": 0.8}
    rate, memory = (
        {"ratio_to_memory": {"files": {"median": 0.957}, "records": {"median": 0.43}}} | busy,
        {"rows": [{"gigabytes": 20.0, "peak_mb": 1046}]},
    )
    (tmp_path / "streaming-a.json").write_text(json.dumps(machine | {"cases": {"rate": rate, "memory": memory}}))
    (tmp_path / "growth-a.json").write_text(json.dumps(machine | {"curves": {"seeds": {"slope": 0.987}}}))
    (tmp_path / "growth-b.json").write_text(json.dumps(machine | busy | {"curves": {"seeds": {"slope": 1.5}}}))
    text = speeds(tmp_path)
    assert (
        "data in memory (A CPU, 2 CPUs (machine busy, load 0.8); goal: 0.85): files, 0.96 ✓; records, 0.43 ✗." in text
    )
    assert "axes (A CPU, 2 CPUs (machine busy, load 0.8)): seeds 1.50;" in text
    assert "20 GB: 1,046 MB." in text
    assert "axes (A CPU, 2 CPUs): seeds 0.99;" in text
    assert "(../results/growth-a.png)" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bench.py --repeats 0", "0 is less than 1"),
        ("bench.py --seconds 0", "--seconds must be more than 0"),
        ("bench.py --cases import --out FOLDER", "is no record of this script"),
        ("bench.py --cases import --out BROKEN", "is no record of this script"),
        ("growth.py --points 1", "a slope needs 2"),
        ("growth.py --repeats 0", "0 is less than 1"),
        ("growth.py --out FOLDER", "is a folder"),
        ("streaming.py --gigabytes 2 0", "give 0.1 or more"),
        ("streaming.py --only rate --out FOLDER/new.json", "Without it: --only memory"),  # no MNIST there
        ("table.py --readme FOLDER/README.md", "is not a file"),
    ],
)
def test_wrong_arguments_of_the_measuring_scripts_end_with_a_sentence(
    command, message, tmp_path, status, monkeypatch, capsys
):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    name, *options = command.replace("FOLDER", str(tmp_path)).replace("BROKEN", str(broken)).split()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert status(script(name.removesuffix(".py")), *options) == 2
    assert message in capsys.readouterr().err
    assert broken.read_text() == "{"


@pytest.mark.slow
def test_streaming_makes_its_folder_and_keeps_other_cases(tmp_path, status, monkeypatch):
    out = tmp_path / "new" / "streaming.json"
    options = ["--only", "memory", "--gigabytes", "0.1", "--out", out]
    assert subprocess.run([sys.executable, ROOT / "scripts" / "streaming.py", *options]).returncode == 0
    record = json.loads(out.read_text())
    (row,) = record["cases"]["memory"]["rows"]
    assert row["examples"] == 8138
    assert row["peak_mb"] > row["peak_mb_before"] > 0
    out.write_text(json.dumps(record | {"cases": {"rate": {"of": "before"}}}))
    streaming = script("streaming")
    monkeypatch.setattr(streaming, "memory", lambda sizes: {"sizes": sizes})
    assert status(streaming, *options) == 0
    cases = json.loads(out.read_text())["cases"]
    assert cases["rate"] == {"of": "before"}
    assert cases["memory"]["sizes"] == [0.1]


def test_table_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="no <!-- results -->"):
        table.render("no markers", ("results",), tmp_path)
    (tmp_path / "page.md").write_text("no heading\n")
    with pytest.raises(ValueError, match="has no heading"):
        table.title(tmp_path / "page.md")
    (tmp_path / "vae.json").write_text("{")
    with pytest.raises(ValueError, match=r"vae\.json is not JSON"):
        table.render(README, ("results",), tmp_path)


def test_pages_show_what_results_holds():
    command = [sys.executable, ROOT / "scripts" / "table.py", "--check"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_check_fails_on_a_stale_page_and_changes_nothing(tmp_path, status):
    pages = {
        "--readme": (tmp_path / "README.md", README),
        "--speed": (tmp_path / "speed.md", SPEED),
        "--coverage": (tmp_path / "coverage.md", "<!-- coverage -->\n<!-- /coverage -->"),
    }
    options = ["--results", tmp_path / "results", "--families", tmp_path / "families"]
    for option, (file, text) in pages.items():
        file.write_text(text)
        options += [option, file]
    assert status(table, *options, "--check") == 1
    assert [file.read_text() for file, _ in pages.values()] == [text for _, text in pages.values()]
    assert status(table, *options) == 0
    assert status(table, *options, "--check") == 0


# ------------------------------------------------------------------------------------------- the benchmark


def products(jaxpr):
    """Floating point operations of all matrix products of a jaxpr."""
    total = 0
    for equation, times in equations(jaxpr):
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += times * 2 * equation.outvars[0].aval.size * int(np.prod([left[i] for i in contracted]))
    return total


@pytest.mark.parametrize("case", ["vae", "deep", "rbm", "iwae", "sparse"])
def test_the_flops_by_hand_are_those_of_the_update(case):
    from ae_jax.core import Batch

    algorithm = bench_jax.algorithm_of(case)
    batch, key = Batch(jax.numpy.ones((128, 784))), jax.random.key(0)
    params = algorithm.init(key, batch)
    update = jax.make_jaxpr(algorithm.rule.update)(params, algorithm.rule.init(params), batch, key)
    # the code of a batch is in the text of these twice, and XLA computes it once; sparse has one more pass an epoch
    again = {"rbm": 784 * 500, "sparse": 784 * 200}.get(case, 0)
    statistics = 784 * 200 if case == "sparse" else 0
    counted = products(update.jaxpr) / 128 - 2 * again + 2 * statistics
    assert counted == pytest.approx(bench.CASES[case].flops, rel=0.01)  # products with a vector are not counted by hand


@pytest.mark.parametrize(
    ("case", "penalty", "hidden", "size"),
    [
        ("contractive-hutchinson", "hutchinson", (), 500),
        ("contractive-hutchinson-deep", "hutchinson", (500,), 250),
        ("contractive-closed", "closed", (), 500),
        ("contractive-thin", "exact", (512,), 10),
    ],
)
def test_the_flops_by_hand_are_those_of_the_penalty(case, penalty, hidden, size):
    from ae_jax import networks
    from ae_jax.core import Batch
    from ae_jax.objectives import jacobians

    net = networks.mlp((784,), size, hidden=hidden, activation="sigmoid", code_activation="sigmoid")
    x, key = jax.numpy.ones((128, 784)), jax.random.key(0)
    norm = jacobians.square_norm(penalty)
    layer = lambda params: net.layer and (lambda x: net.layer(params, x))
    mean = lambda params: norm(lambda x: net.encode(params, x), layer(params), key, x).mean()
    gradient = jax.make_jaxpr(jax.value_and_grad(mean))(net.init(key, Batch(x[:1])))
    dead = 2 * (784 * 512 + 512 * 10) if case == "contractive-thin" else 0  # the pullback of 0, which XLA leaves out
    assert products(gradient.jaxpr) / 128 - dead == pytest.approx(bench.CASES[case].flops, rel=0.01)


def test_the_flops_by_hand_are_those_of_what_is_computed_of_a_model():
    from ae_jax.core import Batch, average
    from ae_jax.evaluation.likelihood import log_likelihood

    model, data, key = bench_jax.algorithm_of("vae"), Batch(jax.numpy.ones((1000, 784))), jax.random.key(0)
    params = model.init(key, data)
    ways = {
        "evaluation": lambda params, data: average(model.evaluate, params, data, key),
        "likelihood": lambda params, data: log_likelihood(model, params, data, key, 500),
    }
    for case, way in ways.items():
        counted = products(jax.make_jaxpr(way)(params, data).jaxpr) / 1000
        if case == "likelihood":  # the code is in the text of each group of 50 samples, and XLA computes it once
            counted -= 9 * 2 * (784 * 500 + 500 * 40)
        assert counted == pytest.approx(bench.CASES[case].flops, rel=1e-3), case


@pytest.mark.slow
@pytest.mark.parametrize("case", ["conv", "conv64"])
def test_the_flops_by_hand_are_those_of_the_convolutions(case):
    from ae_jax.core import Batch

    shape = {"conv": (28, 28, 1), "conv64": (64, 64, 3)}[case]
    params = bench_jax.algorithm_of(case).init(jax.random.key(0), Batch(jax.numpy.ones((1, *shape))))
    total, first = 0, 0
    for path, kernel in jax.tree_util.tree_flatten_with_path(params)[0]:
        names = [entry.key for entry in path]
        if names[-1] == "kernel":  # one of a level is applied at every place of the smaller of its two maps
            level = int(names[-2].removeprefix("level_")) if len(names) == 3 else None
            places = 1 if level is None else (shape[0] // 2 ** (level + 1)) ** 2
            total += 3 * 2 * places * kernel.size
            first += 2 * places * kernel.size * (names[:2] == ["encoder", "level_0"])
    assert total - first == bench.CASES[case].flops  # nothing goes back to the images


def test_the_products_alone_are_those_of_the_vae():
    x = jax.numpy.ones((128, 784))
    weights = [jax.numpy.ones(size) for size in ((784, 500), (500, 40), (20, 500), (500, 784))]
    alone = jax.make_jaxpr(bench_jax.vae_products)(weights, x)
    assert products(alone.jaxpr) == 128 * bench.CASES["vae"].flops
    shapes = [gradient.shape for gradient in jax.eval_shape(bench_jax.vae_products, weights, x)]
    assert shapes == [w.shape for w in weights]


def test_rates_are_compared_turn_by_turn_with_the_best_rival():
    side = bench.Side("", "", {})
    case = bench.Case("a race", {"ae_jax": side, "ae_jax, more": side, "slow": side, "fast": side}, flops=10)
    rates = {
        "ae_jax": [20.0, 40.0, 80.0],
        "ae_jax, more": [90.0, 90.0, 90.0],
        "slow": [1.0, 1.0, 1.0],
        "fast": [10.0, 10.0, 20.0],
    }
    ceiling = {name: [c, c, c] for name, c in zip(bench.CEILING, (400.0, 800.0), strict=True)}
    result = bench.compared(case, rates | ceiling)
    assert result["ratio"]["to"] == "fast"
    assert result["ratio"]["values"] == [2.0, 4.0, 4.0]
    assert result["ratio"]["median"] == 4.0
    assert result["of_ceiling"] == {"ae_jax": 0.5, "ae_jax, more": 1.125, "slow": 0.013, "fast": 0.125}
    assert bench.compared(case, {"fast": [1.0]}) == {}
    goal, way = bench.Goal, "ae_jax, more"
    asked = (
        goal(3.0),
        goal(8.0, way, "slow"),
        goal(2.0, way, "f"),
        goal(0.9, to=bench.CEILING_GOAL),
        goal(1.0, "ae_jax, absent"),
    )
    found = bench.reached(case._replace(goals=asked), rates | ceiling)
    assert [(g["least"], g["median"], g["rival"], g["to"]) for g in found] == [
        (3.0, 4.0, "fast", "the best rival, fast"),
        (8.0, 90.0, "slow", "slow"),
        (2.0, 9.0, "fast", "the best, fast"),
        (0.9, 0.5, list(bench.CEILING)[1], bench.CEILING_GOAL),
    ]
    (copy,) = bench.COPY
    counted = {"ae_jax": {"flops": 1.0, "bytes accessed": 5.0}}
    assert bench.of_copy(counted, rates | {copy: [400.0, 400.0, 400.0]}) == {"ae_jax": 0.5}
    assert bench.of_copy(counted, rates) == {}


@pytest.mark.slow
def test_bench_runs_and_keeps_the_other_cases(tmp_path):
    out = tmp_path / "results" / "bench.json"
    out.parent.mkdir()
    out.write_text(json.dumps({"cases": {"vae": {"kept": True}}}))
    command = [sys.executable, ROOT / "scripts" / "bench.py", "--repeats", "2", "--seconds", "0.01", "--out", out]
    run = subprocess.run([*command, "--cases", "contractive-closed"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    cases = json.loads(out.read_text())["cases"]
    assert cases["vae"] == {"kept": True}
    ours = cases["contractive-closed"]["rows"][0]
    assert ours["side"].startswith("ae_jax")
    assert len(ours["values"]) == 2
    assert ours["low"] <= ours["median"] <= ours["high"]
    assert {"commit", "load", "versions", "device", "cpus"} <= set(cases["contractive-closed"])
    assert ours["peak_mb"] > 50
    assert 0 < ours["from_cache"]["compile_seconds"] < ours["compile_seconds"] < ours["first_call_seconds"]
    rates = {row["side"]: row["median"] for row in cases["contractive-closed"]["rows"]}
    top = max(rates[side] for side in bench.CEILING if side in rates)
    share = ours["median"] * bench.CASES["contractive-closed"].flops / top
    assert cases["contractive-closed"]["of_ceiling"]["ae_jax, closed"] == pytest.approx(share, abs=0.002)
    if importlib.util.find_spec("torch") is None:
        rivals = [name for name in bench.CASES["contractive-closed"].sides if not name.startswith("ae_jax")]
        rivals += ["a large product, PyTorch"]
        assert cases["contractive-closed"]["skipped"] == dict.fromkeys(rivals, "torch is not installed")


def test_what_stands_for_an_experiment_is_measured_there():
    for name, label in table.LEADS.items():
        assert label in json.loads((ROOT / "results" / f"{name}.json").read_text())["metrics"]
