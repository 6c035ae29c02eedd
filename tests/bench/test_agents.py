"""The benchmark runs all contenders and prints a ratio for each."""

import re

import pytest

from hesrl.bench.agents import Args, main
from hesrl.errors import UserError


@pytest.mark.filterwarnings("ignore")  # Stable-Baselines3's own
def test_table_has_a_ratio_for_every_contender(capsys):
    assert main(Args(env_id="InvertedPendulum-v5", rounds=1, steps=2048)) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"│ (\w+ \w+, \w+) +│.*│.*│ (\d+\.\d\d) +│", out)
    assert [name for name, _ in rows] == [
        "SB3 PPO, Adam", "hesrl PPO, Adam", "hesrl PPO, AdaHesScale",
        "SB3 A2C, Adam", "hesrl A2C, Adam", "hesrl A2C, AdaHesScale",
    ]  # fmt: skip
    assert rows[0][1] == rows[3][1] == "1.00" and all(float(ratio) > 0 for _, ratio in rows)


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"steps": 0}, {"steps": 3000}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="--rounds must be at least 1"):
        main(Args(**settings))
