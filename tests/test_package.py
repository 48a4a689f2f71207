"""How the package is built and licensed."""

import tomllib
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_licence_is_apache_2_and_stands_in_full():
    licence = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert "License :: OSI Approved :: Apache Software License" in PROJECT["classifiers"]
    assert PROJECT["authors"] == [{"name": "the ae_jax authors"}]
    assert "Apache License" in licence.splitlines()[1] + licence.splitlines()[0]
    assert all(f"\n   {section}. " in licence for section in range(1, 10))


def test_a_wheel_says_that_the_package_is_typed():
    files = {included.distribution_path for included in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"ae_jax/py.typed", "ae_jax/core.py"} <= files


def test_a_wheel_has_the_template_of_the_report():
    files = {included.distribution_path for included in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"ae_jax/app/report/page.html.j2", "ae_jax/app/report/style.css"} <= files
