"""The ``hesrl`` command: once by subprocess, else in this process."""

import subprocess
import sys
from typing import NamedTuple

import pytest

from hesrl.cli import COMMANDS, main


class Result(NamedTuple):
    """What a command leaves."""

    status: int
    out: str
    err: str


@pytest.fixture
def hesrl(capsys):
    """Runs a command."""

    def run(*arguments):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
        return Result(status, *capsys.readouterr())

    return run


def test_the_process_ends_with_the_status_of_its_command():
    for arguments, status in ((("--help",), 0), (("train", "pop"), 2)):
        command = [sys.executable, "-m", "hesrl.cli", *arguments]
        assert subprocess.run(command, capture_output=True).returncode == status


def test_help_lists_every_command(hesrl):
    status, out, err = hesrl("--help")
    assert (status, err) == (0, "")
    assert all(f"hesrl {command}" in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_documents_its_options(hesrl, command):
    status, out, err = hesrl(*command.split(), "--help")
    assert (status, err) == (0, "") and "--" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "pop"), "unknown command hesrl train pop: did you mean hesrl train ppo?"),
        (("xyz",), "unknown command hesrl xyz: hesrl --help lists the commands"),
        (("train", "ppo", "--sed", "1"), "unknown option --sed: did you mean --seed?"),
        (("train", "ppo", "word"), "unknown option word: --help lists the options"),
        (("bench", "agents", "--steps", "100"), "--steps at least 4096"),
        (("train", "ppo", "--seed", "one"), "parsing --seed: invalid literal for int()"),
        (("train", "ppo", "--seed"), "Missing value for argument '--seed'"),
        (("report", "x", "--score", "best"), "Expected one of ('final', 'area', 'evaluation')"),
        (("sweep",), "Missing from hesrl sweep: PATH the grid"),
        (
            ("sweep", "agents", "--optimizers", "adamw"),
            "--optimizer adamw: unknown; choose one of sgd",
        ),
        (("sweep", "agents", "--env-ids", "Hoper-v5"), "did you mean Hopper-v5"),
    ],
)
def test_mistake_is_one_line(hesrl, arguments, message):
    status, _, err = hesrl(*arguments)
    assert status == 2 and message in err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_option_of_the_wrong_type_is_named(hesrl):
    status, _, err = hesrl("train", "ppo", "--num-steps", "many")
    assert status == 2 and "--num-steps" in err and "many" in err
