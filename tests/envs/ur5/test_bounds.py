"""No option beyond its bounds gets as far as a socket, from Python and from the command line."""

from __future__ import annotations

import math
import re
import socket
from pathlib import Path

import pytest

from hesrl.agents import stream_ac
from hesrl.cli import run_command
from hesrl.envs.ur5.bounds import BOUNDS
from hesrl.envs.ur5.commands import check, guard_check, home, jog, step_times, verify
from hesrl.envs.ur5.homing import NOBODY_IS_NEAR
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.errors import UserError

PAGE = (Path(__file__).parents[3] / "docs" / "ur5.md").read_text()
DEGREES = "(90.9,-137.5,85.9,-41.1,93.8,57.8)"
REFUSED = {
    "t_min=3": "t_min is 3; it must be a number from 0.008 to 0.1 s",
    "joints=(0,1)": "joints is (0, 1); it must be 2 whole numbers from (1, 2) to (1, 2)",
    "speed_limit=17": "speed_limit is 17; it must be a number from 0.01 to 1 rad/s",
    "speed_limit=-0.1": "speed_limit is -0.1; it must be",
    "speed_limit=nan": "speed_limit is 'nan'; it must be a number from",
    "speed_limit=True": "speed_limit is True; it must be a number from",
    "acceleration=1000": "acceleration is 1000; it must be a number from 1 to 5 rad/s²",
    "acceleration=0.2": "acceleration is 0.2; it must be",
    "reset_speed=50": "reset_speed is 50; it must be a number from 0.01 to 0.3 rad/s",
    "reset_speed=0.5": "reset_speed is 0.5; it must be a number from 0.01 to 0.3 rad/s",
    "stale_after=3600": "stale_after is 3600; it must be a number from 0.02 to 0.2 s",
    "dt=0.8": "dt is 0.8; it must be a number from 0.008 to 0.2 s",
    "episode_time=1e9": "episode_time is 1000000000.0; it must be a number from",
    "box_low=(-0.3,-0.5)": "box_low is (-0.3, -0.5); it must be 2 numbers from (-0.95, 0.08) ",
    "box_high=0.7": "box_high is 0.7; it must be 2 numbers from",
    "box_low=(0.5,1.1)": "box_low is (0.5, 1.1); it must be 2 numbers from",
    "box_low=(0.4,0.5)": "box_low is (0.4, 0.5) and box_high (0.4, 1.0): each number of box_high",
    "box_high=(0.4,0.6)": "y and z of the tool at the start are (0.019, 0.770); they must be from",
    "box_buffer=0.3": "box_buffer is 0.3; it must be a number from 0 to 0.05 m",
    "joint_buffer=-1": "joint_buffer is -1; it must be a number from 0 to 0.1 rad",
    "joint_low=(-180,-120)": "joint_low is (-180, -120); it must be 2 numbers from -6.2832 to",
    "joint_low=(-2,-2)": "shoulder and elbow at the start are (-2.400, 1.500); they must be from",
    "joint_high=(-2.4,9)": "joint_high is (-2.4, 9); it must be",
    f"q_ref={DEGREES}": "it must be 6 numbers from -6.2832 to 6.2832 rad",
    "q_ref=(1.6,-2.4,1.5)": "it must be 6 numbers from",
    "q_ref=(0,-2.4,1.5,-0.7,1.6,1)": "joint 0 has to be nearer to π/2",
    "q_ref=(1.6,-0.2,0.1,-0.7,1.6,1)": "shoulder and elbow at the start are (-0.200, 0.100)",
    "auto_unlock=True": f"auto_unlock is True; the arm moves without a person who has looked at it"
    f", which Universal Robots forbid: write '{NOBODY_IS_NEAR}' to confirm",
    "auto_unlock=1": "auto_unlock is 1; the arm moves",
    "emulator_speed=0.5": "emulator_speed is 0.5; it must be a number from 1 to 100",
    "emulator_speed=1.2": "emulator_speed is 1.2; it must be 1, or at least 2",
    "reconnects=-1": "reconnects is -1; it must be a whole number from 0 to 10",
    "reconnects=1.5": "reconnects is 1.5; it must be a whole number",
    "reconnect_wait=-1": "reconnect_wait is -1; it must be a number from 0 to 60 s",
    "arm_model=ur10": "arm_model is 'ur10'; it must be 'ur5' or 'ur5e'",
    "arm_model=ur5e backend=senseact": "SenseAct knows the UR5 only, not arm_model 'ur5e'; take",
    "port=99999": "port is 99999; it must be a whole number from 1 to 65535",
    "script_port=0 backend=rtde": "script_port is 0; it must be a whole number from 1 to 65535",
    "speed_limit=17 backend=rtde": "speed_limit is 17; it must be a number from 0.01 to 1 rad/s",
    "dashboard_port=0": "dashboard_port is 0; it must be a whole number from 1 to 65535",
}  # fmt: skip
"""Options as they are typed, and how they are refused."""


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch):
    """An attempt to connect fails the test."""

    def connect(*arguments, **options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_beyond_its_bounds_is_one_line(tmp_path, capsys, option):
    options = f"--env-id=hesrl/UR5ReacherReal-v0 --robot-host=127.0.0.1 --runs-dir={tmp_path}/runs"
    argv = [*options.split(), "--env-options", *option.split(" ")]
    status = run_command(stream_ac.Args, stream_ac.main, argv)
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and REFUSED[option] in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (step_times, ["--speed-limit", "17"], "speed_limit is 17.0; it must be a number from 0.01"),
        (step_times, ["--port", "0"], "port is 0; it must be a whole number from 1 to 65535"),
        (check, ["--port", "70000"], "port is 70000; it must be a whole number from 1 to 65535"),
        (verify, ["--port", "0"], "port is 0; it must be a whole number from 1 to 65535"),
        (verify, ["--script-port", "0"], "script_port is 0; it must be a whole number from 1"),
        (verify, ["--seconds", "0"], "--seconds 0.0: must be from 1 to 3600"),
        (home, ["--speed-limit", "0.5"], "speed_limit is 0.5; it must be a number from 0.01"),
        (home, ["--picture", "/proc/way.png"], "cannot write /proc/way.png"),
        (jog, ["--elbow", "0.1", "--speed", "0"], "--speed 0.0: must be from 0.01 to 0.1 rad/s"),
        (jog, ["--elbow", "5"], "--elbow 5.0: must be from -4.363 to 4.363 rad"),
        (step_times, ["--seed", "-1"], "--seed -1: must be"),
        (step_times, ["--out", "/proc/times.csv"], "cannot write /proc/times.csv"),
        (guard_check, ["--seed", "-1"], "--seed -1: must be"),
    ],
)
def test_the_commands_refuse_alike(capsys, command, options, message):
    host = [] if command is guard_check else ["--host", "127.0.0.1"]
    assert run_command(command.Args, command.main, [*host, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_the_page_has_the_bounds(name):
    bound = BOUNDS[name]
    (row,) = re.findall(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)
    _, _, smallest, largest, unit, *_ = (cell.strip() for cell in row.split("|"))
    written = [re.sub(r"2π", str(math.tau), text.replace("−", "-")) for text in (smallest, largest)]
    for text, numbers in zip(written, (bound.low, bound.high), strict=True):
        found = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
        assert found == pytest.approx(list(numbers) if len({*numbers}) > 1 else [numbers[0]])
    assert unit == bound.unit


def test_the_ends_of_the_bounds_are_allowed():
    ReacherSettings(speed_limit=1, acceleration=5.0, t_min=0.1, dt=0.2)
    ReacherSettings(speed_limit=0.01, acceleration=1, t_min=0.008, dt=0.008)
    ReacherSettings(box_low=(-0.95, 0.1), box_high=(0.95, 1.05))
    for options in (
        {"stale_after": 0.2, "reset_speed": 0.3},
        {"stale_after": 0.02, "reconnects": 0, "reconnect_wait": 0},
        {"auto_unlock": NOBODY_IS_NEAR, "emulator_speed": 10, "stale_after": 5},
    ):
        UR5ReacherReal("127.0.0.1", **options).close()


def test_a_box_that_is_hardly_reached_is_refused_at_once():
    with pytest.raises(UserError, match=r"0.0\d+ % of the angles of the joints reach it; it must"):
        ReacherSettings(box_low=(0.01, 0.76), box_high=(0.03, 0.78))
