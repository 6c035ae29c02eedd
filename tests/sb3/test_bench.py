"""The benchmark of Stable-Baselines3 measures every contender."""

from __future__ import annotations

import re

import pytest

from hesrl.bench.sb3 import CONTENDERS, Args, main
from hesrl.errors import UserError


def test_table_has_two_ratios_for_every_contender(capsys):
    assert main(Args(env_id="Pendulum-v1", rounds=1, updates=2)) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"│ ([\w ]+?) +│ +(\d+\.\d+) +│ +(\d+\.\d\d) +│ +(\d+\.\d\d) +│", out)
    assert [name for name, *_ in rows] == [*CONTENDERS, *CONTENDERS]
    assert all(float(number) > 0 for _, *numbers in rows for number in numbers)
    assert rows[0][2:] == rows[len(CONTENDERS)][2:] == ("1.00", "1.00")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "--rounds and --updates must be at least 1"),
        ({"updates": 0}, "--rounds and --updates must be at least 1"),
        ({"agents": ("trpo",)}, "--agents trpo: choose from ppo, a2c"),
        ({"env_id": "Pendulm-v1"}, "did you mean Pendulum-v1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        main(Args(**settings))
