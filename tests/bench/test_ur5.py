"""Smoke run of the speed of the simulated UR5 Reacher."""

from __future__ import annotations

import re

import pytest

from hesrl.bench.ur5 import Args, main
from hesrl.errors import UserError


def test_the_speed_is_printed(capsys):
    assert main(Args(rounds=1, total_timesteps=250)) == 0
    assert re.search(r"UR5 Reacher: [\d,]+ steps/s", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (Args(rounds=0), "--rounds 0: must be greater than zero"),
        (Args(total_timesteps=0), "--total-timesteps 0: must be from 1"),
    ],
)
def test_impossible_settings_are_refused(args, message):
    with pytest.raises(UserError, match=message):
        main(args)
