"""The benchmark runs all contenders and prints ratios, parts and start-up."""

import csv
import dataclasses
import re
from pathlib import Path

import pytest

from hesrl.bench import agents, startup, stream_agent
from hesrl.bench.agent_parts import PARTS
from hesrl.bench.agents import Args, main
from hesrl.errors import UserError


@pytest.mark.parametrize(("agent", "compile"), [("ppo", "on"), ("stream_ac", "off")])
def test_the_startup_is_that_of_a_process(agent, compile):
    seconds, mebibytes = startup.measure_startup(agent, "InvertedPendulum-v5", compile)
    assert 0 < seconds < 600 and 100 < mebibytes < 5000


@pytest.mark.filterwarnings("ignore")  # Stable-Baselines3's own
def test_report_has_ratios_parts_and_startup(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(agents, "measure_startup", lambda *_: (2.5, 300.0))
    out = tmp_path / "new" / "speed.csv"
    settings = Args(
        env_id="InvertedPendulum-v5", rounds=1, total_timesteps=4096, compile="auto", out=out
    )
    assert main(settings) == 0
    with out.open() as file:
        written = list(csv.DictReader(file))
    out = capsys.readouterr().out
    rows = re.findall(r"│ (\w+ \w+, \w+) +│.*│.*│.*│ (\d+\.\d\d) +│ (\d+\.\d\d) +│", out)
    assert [name for name, *_ in rows] == [
        "SB3 PPO, Adam", "hesrl PPO, Adam", "hesrl PPO, AdaHesScale",
        "SB3 A2C, Adam", "hesrl A2C, Adam", "hesrl A2C, AdaHesScale",
    ]  # fmt: skip
    assert rows[0][1] == rows[3][1] == rows[1][2] == rows[4][2] == "1.00"
    assert [(row["contender"], row["ratio"]) for row in written] == [row[:2] for row in rows]
    parts = dict(part.split("=") for part in written[2]["parts"].split())
    assert set(parts) == {*PARTS} and float(parts["update"]) > 0
    for part in (*PARTS, "sum"):
        (numbers,) = re.findall(rf"│ {part} +│(.*)│", out)
        assert all(float(number) >= 0 for number in numbers.split("│"))
    startup = re.findall(r"│ hesrl (?:PPO|A2C), AdaHesScale +│ (\d+\.\d) +│ ([\d,]+) +│\n", out)
    assert len(startup) == 2 and all(float(seconds) > 0 for seconds, _ in startup)


AUTHORS = """
import sys
import time
assert sys.argv[1:5] == ["--env_name", "InvertedPendulum-v5", "--seed", "1"], sys.argv
time.sleep(int(sys.argv[6]) / 1000)
"""


@pytest.fixture
def short(monkeypatch):
    """Rows of 100 steps, and no process that starts up."""
    for module in (agents, stream_agent):
        monkeypatch.setattr(module, "ROW", 100)
    monkeypatch.setattr(agents, "measure_startup", lambda *_: (2.5, 300.0))
    return Args(
        env_id="InvertedPendulum-v5",
        agents=("stream-ac",),
        rounds=1,
        total_timesteps=300,
        compile="auto",
    )


def test_streaming_has_its_parts_sizes_and_the_code_of_its_authors(short, tmp_path, capsys):
    (tmp_path / "intentional_ac.py").write_text(AUTHORS)
    short.intentional_rl, short.hidden_sizes = tmp_path, (8, 16)
    assert main(short) == 0
    out = capsys.readouterr().out
    rows = re.findall(
        r"│ (\S+ stream, \S+) +│ +([\d,]+).*│.*│.*│ (\d+\.\d\d) +│ (\d+\.\d\d) +│", out
    )
    assert [name for name, *_ in rows] == [
        "authors' stream, g²", "hesrl stream, g²", "hesrl stream, Fisher"
    ]  # fmt: skip
    assert 500 < int(rows[0][1].replace(",", "")) < 1500  # a millisecond for a step
    assert rows[0][2] == rows[1][3] == "1.00"
    for part in ("physics", "acting", "update", "logging", "sum"):
        (numbers,) = re.findall(rf"│ {part} +│(.*)│", out)
        assert all(float(number) >= 0 for number in numbers.split("│"))
    assert re.search(r"│ advantages +│ – +│ – +│", out)
    # Both networks: 4 · n + n · n + n · (2 | 1), and the biases.
    assert re.search(r"│ 8 × 8 +│ 251 +│", out) and re.search(r"│ 16 × 16 +│ 755 +│", out)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"intentional_rl": Path("nowhere")},
            "^--intentional-rl nowhere: has no intentional_ac.py$",
        ),
        ({"total_timesteps": 299}, "--total-timesteps 299: must be from 300 to"),
        (
            {"agents": ("ppo",), "total_timesteps": 4096, "hidden_sizes": (8,)},
            "^--hidden-sizes goes with ",
        ),
        (
            {"agents": ("dqn",), "total_timesteps": 4096},
            "^--agents dqn: choose from ppo, a2c, stream-ac$",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(short, settings, message):
    with pytest.raises(UserError, match=message):
        main(dataclasses.replace(short, **settings))


def test_a_failure_of_the_authors_code_is_one_line(short, tmp_path):
    (tmp_path / "intentional_ac.py").write_text("raise ValueError('no\\nsuch environment')")
    with pytest.raises(
        UserError, match=r"^--intentional-rl .*: intentional_ac.py has failed: such e"
    ):
        main(dataclasses.replace(short, intentional_rl=tmp_path))


@pytest.mark.parametrize(
    "settings", [{"rounds": 0}, {"total_timesteps": 0}, {"total_timesteps": 3000}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match=r"^--(rounds|total-timesteps) \d+: must be "):
        main(Args(**settings))
