"""The workflows run what setup.cfg claims, and the files of a repository can be read."""

from __future__ import annotations

import configparser
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import hesrl
from hesrl.command_options import options_of
from hesrl.commands import COMMANDS
from tests.bench.as_json import as_json

ROOT = Path(__file__).parents[1]
FILES = [
    *(ROOT / ".github").rglob("*.yml"),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
CI: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def minor(version: str) -> int:
    return int(version.split(".")[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_tests_run_on_every_python_that_is_claimed_or_installs() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
    run = CI["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert claimed and {*claimed} <= {*run}
    assert SETUP["options"]["python_requires"] == f">={run[0]}"
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(version in page for version in run)


def test_the_engine_is_tested_on_every_pytorch_that_is_claimed() -> None:
    (bounds,) = re.findall(
        r"^torch >= 2\.(\d+), < 2\.(\d+)$", SETUP["options"]["install_requires"], re.MULTILINE
    )
    run = CI["jobs"]["torch"]["strategy"]["matrix"]["torch"]
    assert [minor(version) for version in run] == [*range(*map(int, bounds))]
    assert PINS["torch"] in run
    assert all(version in (ROOT / "CONTRIBUTING.md").read_text() for version in run)


def test_every_make_command_of_the_workflow_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    steps = [step.get("run", "") for job in CI["jobs"].values() for step in job["steps"]]
    targets = {run.split()[1] for run in steps if run.startswith("make ")}
    assert targets == {"lint", "test", "test-torch", "docs", "release"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_every_hesrl_command_of_the_workflows_has_its_options() -> None:
    """Such as ``hesrl bench update --rounds 5``."""
    lines = [line for file in FILES for line in file.read_text().splitlines()]
    commands = [line.split("- run: hesrl ")[1].split() for line in lines if "run: hesrl" in line]
    assert commands
    for words in commands:
        module = import_module(COMMANDS[" ".join(words[:2])].module)
        known = {option.flag for option in options_of(module.Args)}
        assert {word for word in words if word.startswith("--")} <= known, words


def test_every_extra_has_its_line_on_the_first_page() -> None:
    page = (ROOT / "docs" / "first_run.md").read_text()
    named = {name for names in re.findall(r"'\.\[([\w,]+)\]'", page) for name in names.split(",")}
    assert named == set(SETUP["options.extras_require"])


def test_the_pinned_ruff_is_that_of_pre_commit_and_the_version_that_of_the_citation() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks["repos"][0]["rev"] == f"v{PINS['ruff']}"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == hesrl.__version__
    assert citation["preferred-citation"]["title"] in (ROOT / "README.md").read_text()


def test_a_benchmark_becomes_json() -> None:
    content = json.loads(as_json(ROOT / "docs" / "update.csv"))
    assert content["torch"] and isinstance(content["rows"][0]["ratio"], float)
    assert isinstance(content["rows"][0]["task"], str)
