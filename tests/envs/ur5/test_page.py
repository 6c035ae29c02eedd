"""The page about the UR5: its example runs, and the faults that it names can be played."""

from __future__ import annotations

import re
from pathlib import Path

from tests.envs.ur5.emulated import emulate

PAGE = (Path(__file__).parents[3] / "docs" / "ur5.md").read_text()


def test_the_example_runs_at_the_emulator(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    address = 'host="127.0.0.1"'
    assert address in example
    with emulate() as emulator:
        options = f"{address}, port={emulator.port}, stale_after=5.0, emulator_speed=10"
        exec(example.replace(address, options), {})
        commands = list(emulator.controller.commands)
    assert capsys.readouterr().out == "no fault\n"
    assert commands[-1][1].startswith("stopj")


def test_the_faults_that_it_names_can_be_played():
    (paragraph,) = re.findall(r"`--control-port 30010`.*?\n\n", PAGE, re.DOTALL)
    lines = re.findall(r"`([a-z_]+(?: [a-z0-9.]+)?)`", paragraph)
    assert len(lines) > 8
    emulator = emulate()
    for line in lines:
        emulator.control(line)
    emulator.close()
