"""Smoke run of the speed of the simulated UR5 Reacher."""

from __future__ import annotations

import pytest

from hesrl.bench.ur5 import Args, main
from hesrl.errors import UserError


def test_the_table_has_every_contender(capsys):
    assert main(Args(num_envs=(2, 3), rounds=1, steps=250)) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("one arm alone", "2 as arrays", "3 as arrays"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (Args(rounds=0), "--rounds 0: must be at least 1"),
        (Args(num_envs=(0,)), "--num-envs"),
        (Args(num_envs=(64,), steps=63), "--steps 63"),
    ],
)
def test_impossible_settings_are_refused(args, message):
    with pytest.raises(UserError, match=message):
        main(args)
