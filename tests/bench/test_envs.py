"""The benchmark of environments compares them and prints their times."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hesrl.bench import envs
from hesrl.bench.envs import ENV_IDS, Args, compare, main
from hesrl.envs.numpy_tasks import Reacher
from hesrl.errors import UserError

SHORT = {"env_ids": ("InvertedPendulum-v5",), "compared_steps": 60, "steps": 5, "rounds": 1}


NUMBER = r" +│ ([\d.]+)"
ROW = "InvertedPendulum +│ 0" + 2 * NUMBER + 2 * (NUMBER + r" ([\d.]+)")


def test_the_table_has_the_comparison_and_times(capsys):
    assert main(Args(**SHORT, num_envs=2, env_threads=2)) == 0
    out = capsys.readouterr().out
    assert "180 steps compared" in " ".join(out.split())
    (numbers,) = re.findall(ROW, out)
    # On a busy machine an efficiency may be 0.00.
    in_turn, one, threads, _, processes, _ = map(float, numbers)
    assert min(in_turn, one, threads, processes) > 0


def test_an_efficiency_is_the_gain_over_one_thread_for_each_core(monkeypatch, capsys):
    monkeypatch.setattr(envs, "seconds_in_turn", lambda *_: 8e-6)
    monkeypatch.setattr(envs, "seconds_together", lambda env_id, n, threads, steps: 6e-6 / threads)
    monkeypatch.setattr(envs, "seconds_in_processes", lambda *_: 4e-6)
    assert main(Args(**SHORT, num_envs=2, env_threads=2)) == 0
    expected = [("8.0", "6.0", "3.0", "1.00", "4.0", "0.75")]
    assert re.findall(ROW, capsys.readouterr().out) == expected


def test_what_differs_is_counted(monkeypatch):
    observed = Reacher.observed

    def wrong(task):
        *parts, offset = observed(task)
        second = np.arange(3)[:, None] == 1
        return *parts, np.where(second, np.nextafter(offset, np.inf), offset)

    monkeypatch.setattr(Reacher, "observed", wrong)
    assert compare("Reacher-v5", 10)[0] == 10
    monkeypatch.setattr(envs, "seconds_in_processes", lambda *_: 1.0)
    assert main(Args(**{**SHORT, "env_ids": ("Reacher-v5",)}, num_envs=3)) == 1


def test_all_tasks_are_there():
    assert len(ENV_IDS) == 11 and "HumanoidStandup-v5" in ENV_IDS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "--rounds 0: must be greater than zero"),
        ({"env_threads": 0}, "--env-threads 0: must be greater than zero"),
        ({"compared_steps": 0}, "--compared-steps 0: must be from 1"),
        ({"env_ids": ("Pendulum-v1",)}, "--env-ids Pendulum-v1: cannot step in threads, because"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        main(Args(**settings))
