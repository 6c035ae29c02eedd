"""The ``hesrl`` command by subprocess."""

import subprocess
import sys

import pytest

from hesrl.cli import COMMANDS


def hesrl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hesrl.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_help_lists_every_command():
    result = hesrl("--help")
    assert result.returncode == 0
    assert all(f"hesrl {command}" in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_documents_its_options(command):
    result = hesrl(*command.split(), "--help")
    assert result.returncode == 0 and "--" in result.stdout and result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "pop"), "unknown command hesrl train pop: did you mean hesrl train ppo?"),
        (("xyz",), "unknown command hesrl xyz: hesrl --help lists the commands"),
        (("train", "ppo", "--sed", "1"), "unknown option --sed: did you mean --seed?"),
        (("train", "ppo", "word"), "unknown option word: --help lists the options"),
        (("bench", "agents", "--steps", "100"), "--steps at least 4096"),
        (("sweep", "agents", "--optimizers", "adamw"), "--optimizers adamw: choose from sgd, adam"),
        (("sweep", "agents", "--env-ids", "Hoper-v5"), "did you mean Hopper-v5"),
    ],
)
def test_mistake_is_one_line(arguments, message):
    result = hesrl(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr


def test_option_of_the_wrong_type_is_named():
    result = hesrl("train", "ppo", "--num-steps", "many")
    assert result.returncode == 2 and "--num-steps" in result.stderr and "many" in result.stderr
