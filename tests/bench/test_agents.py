"""The benchmark runs all contenders and prints ratios, parts and start-up."""

import re

import pytest

from hesrl.bench.agent_parts import PARTS
from hesrl.bench.agents import Args, main
from hesrl.errors import UserError


@pytest.mark.filterwarnings("ignore")  # Stable-Baselines3's own
def test_report_has_ratios_parts_and_startup(capsys):
    settings = Args(env_id="InvertedPendulum-v5", rounds=1, steps=4096, compile="off")
    assert main(settings) == 0
    out = capsys.readouterr().out
    rows = re.findall(r"│ (\w+ \w+, \w+) +│.*│.*│.*│ (\d+\.\d\d) +│ (\d+\.\d\d) +│", out)
    assert [name for name, *_ in rows] == [
        "SB3 PPO, Adam", "hesrl PPO, Adam", "hesrl PPO, AdaHesScale",
        "SB3 A2C, Adam", "hesrl A2C, Adam", "hesrl A2C, AdaHesScale",
    ]  # fmt: skip
    assert rows[0][1] == rows[3][1] == rows[1][2] == rows[4][2] == "1.00"
    for part in (*PARTS, "sum"):
        (numbers,) = re.findall(rf"│ {part} +│(.*)│", out)
        assert all(float(number) > 0 for number in numbers.split("│"))
    startup = re.findall(r"│ hesrl (?:PPO|A2C), AdaHesScale +│ (\d+\.\d) +│ ([\d,]+) +│\n", out)
    assert len(startup) == 2 and all(float(seconds) > 0 for seconds, _ in startup)


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"steps": 0}, {"steps": 3000}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="--rounds must be at least 1"):
        main(Args(**settings))
