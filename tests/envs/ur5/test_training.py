"""Training on an arm: the agents as processes of their own, at the emulator."""

from __future__ import annotations

import re
import signal
import time

import pytest

from hesrl.agents import stream_ac
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.runs import metrics
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.directory import RunDirectory
from hesrl.runs.interrupts import HALT_MESSAGE
from hesrl.runs.metrics import MetricsLog, read_metric
from tests.agents.processes import finish, only_run, resume, rows, start, wait_for
from tests.envs.ur5.emulated import commands, emulate, eventually, when_sent

SHORT = ("episode_time=0.4", "stale_after=5", "reconnect_wait=0.05")
FAST = ("t_min=0.08",)
"""What `SHORT` needs besides where the emulator's clock runs ten times as fast."""


def short(emulator):
    """Options of the environment for episodes of 10 steps."""
    return (f"port={emulator.port}", f"emulator_speed={emulator.speed}", *SHORT)


def train(emulator, cwd, *options, env_options=FAST, num_steps=20, steps=20_000, agent="ppo"):
    """Start training in episodes of 10 steps."""
    if agent != "stream_ac":
        options = f"--num-steps={num_steps}", *options
    return start(
        agent, "--env-id=hesrl/UR5ReacherReal-v0", "--robot-host=127.0.0.1",
        f"--total-timesteps={steps}", "--compile=off", "--yes",
        "--eval-episodes=1", *options, "--env-options", *short(emulator),
        *env_options, cwd=cwd,
    )  # fmt: skip


PPO = ("--num-minibatches=4", "--update-epochs=2", "--checkpoint-interval=1")
A2C = ("--log-interval=1", "--checkpoint-interval=1")
STREAM = ("--log-interval=20", "--checkpoint-interval=20")


def pauses(emulator):
    """How long the arm rested at the start before each episode (s), on the controller's clock."""
    times, arrived = [], None
    for at, line in emulator.controller.commands:
        if line.startswith("movej"):
            arrived = at + 2.0  # what the way takes
        elif line.startswith("speedj") and arrived is not None:
            times.append(at - arrived)
            arrived = None
    return times


def test_learning_lies_between_episodes_and_delays_no_step(tmp_path):
    with emulate(speed=2.0) as emulator:
        options = "--num-minibatches=5", "--update-epochs=200", "--optimizer=adam"
        process = train(emulator, tmp_path, *options, env_options=(), num_steps=10, steps=20)
        connections = 0
        while process.poll() is None:
            connections = max(connections, emulator.state()["connections"])
            time.sleep(0.05)
        status, _, err = finish(process)
        assert (status, err, connections) == (0, "", 1)
        first, after_learning, *_ = pauses(emulator)
        learning = after_learning - first
        assert learning > 0.5
    counts = {key: [float(v) for _, name, v in rows(only_run(tmp_path)) if name == f"ur5/{key}"]
              for key in ("longest_delay", "lost_packets", "faults")}  # fmt: skip
    # A machine that is busy with something else may delay a step, but not by as much.
    assert max(counts.pop("longest_delay")) < 0.5 * learning
    assert counts == {"lost_packets": [0, 0], "faults": [0, 0]}


def test_a_stream_learns_in_every_cycle_and_writes_in_none(tmp_path, monkeypatch):
    """Four episodes of ten steps, of which the last one ends within the run's last step."""
    monkeypatch.setattr(metrics, "FLUSH_SECONDS", 0.0)
    envs, writes, learned = [], [], []
    reset, flush, learn = UR5ReacherReal.reset, MetricsLog.flush, stream_ac.learn
    monkeypatch.setattr(
        UR5ReacherReal, "reset", lambda env, **options: envs.append(env) or reset(env, **options)
    )

    def watched_flush(log):
        writes.append((len(learned), envs[-1]._running and envs[-1]._steps > 0))
        flush(log)

    monkeypatch.setattr(MetricsLog, "flush", watched_flush)
    monkeypatch.setattr(
        stream_ac, "learn", lambda *args: learned.append(envs[-1]._steps) or learn(*args)
    )
    with emulate(speed=2.0) as emulator:
        args = stream_ac.Args(
            env_id="hesrl/UR5ReacherReal-v0", robot_host="127.0.0.1", total_timesteps=40,
            log_interval=5, checkpoint_interval=20, compile="off", eval_episodes=1, yes=True,
            env_options=short(emulator), runs_dir=tmp_path,
        )  # fmt: skip
        assert stream_ac.main(args) == 0
        rests = pauses(emulator)
    # After the last step of an episode the arm is at the start of the next one.
    assert learned == [*range(1, 10), 0] * 4
    assert {step for step, _ in writes} == {10, 20, 30, 40} and not any(cut for _, cut in writes)
    assert len(rests) == 5 and max(rests) < 2.0
    (run,) = tmp_path.iterdir()
    for name in ("median", "p999"):
        _, times = read_metric(RunDirectory.open(run), f"ur5/response_time_{name}")
        assert len(times) == 4 and (times > 1e-4).all()


# The fourth movement to the start lies in the second rollout, after the first checkpoint.
@pytest.mark.parametrize(
    ("command", "fault", "message", "lines"),
    [
        ("speedj", ["protective_stop"], "protective stop; find the cause and release the arm", 1),
        # On the way to the start, or in the first step if the arm has just arrived.
        ("movej", ["protective_stop"], "protective stop", 1),
        ("speedj", ["refuses on", "drop"], r"link fault 1,.* lost.*\nerror: .*attempt 4 of 4", 2),
        # Of the arm, and not of the link.
        ("speedj", ["turns 7"], "where no joint can be; find the cause before the arm moves", 1),
    ],
)
def test_a_fault_keeps_the_checkpoint_and_the_run_goes_on_from_it(
    tmp_path, command, fault, message, lines
):
    with emulate() as emulator:
        when_sent(emulator, command, *fault, movement=4)
        status, out, err = finish(train(emulator, tmp_path, *PPO, steps=60))
        assert (status, err.count("\n")) == (1, lines) and re.search(message, err)
        run = only_run(tmp_path)
        assert f"--resume {run.relative_to(tmp_path)}" in out
        assert load_checkpoint(run / "checkpoint.pt")["global_step"] == 20
        emulator.control("clear")
        status, out, err = resume("ppo", run, "--yes", cwd=tmp_path)
        assert (status, err) == (0, "") and "it starts a new episode" in out
    steps = [step for step, *_ in rows(run)]
    assert steps == sorted(steps) and steps[-1] == 60


@pytest.mark.parametrize(
    ("agent", "options", "signum"),
    [
        ("ppo", PPO, signal.SIGINT),
        ("a2c", A2C, signal.SIGHUP),
        ("stream_ac", STREAM, signal.SIGTERM),
    ],
)
def test_a_signal_stops_the_arm_before_anything_else(tmp_path, agent, options, signum):
    with emulate() as emulator:
        process = train(emulator, tmp_path, *options, agent=agent)
        run = wait_for(process, tmp_path, "checkpoint.pt")
        assert eventually(lambda: emulator.controller.arm.is_moving)
        movements = len(commands(emulator, "movej"))
        process.send_signal(signum)
        assert eventually(lambda: commands(emulator, "stopj(a=3"))
        assert len(commands(emulator, "movej")) <= movements + 1
        status, out, err = finish(process)
        assert (status, err) == (128 + signum, f"{HALT_MESSAGE}\n")
        assert f"--resume {run.relative_to(tmp_path)}" in out
        lines = [line for _, line in emulator.controller.commands]
        assert set(lines[lines.index("stopj(a=3.000000000)") :]) == {"stopj(a=3.000000000)"}
        saved = load_checkpoint(run / "checkpoint.pt")["global_step"]
        assert saved >= 20 and saved % 20 == 0


@pytest.mark.parametrize(("agent", "options"), [("a2c", A2C), ("stream_ac", STREAM)])
def test_what_was_learned_before_a_fault_is_saved(tmp_path, agent, options):
    """The fault comes in the fourth episode; there is a row of metrics after the second."""
    options = *options, "--checkpoint-interval=1000"
    with emulate() as emulator:
        when_sent(emulator, "speedj", "emergency_stop", movement=4)
        status, out, err = finish(train(emulator, tmp_path, *options, agent=agent, steps=60))
        run = only_run(tmp_path)
        assert status == 1 and "robot emergency stop" in err and "from the checkpoint of" in out
        assert load_checkpoint(run / "checkpoint.pt")["global_step"] == 20
        emulator.control("clear")
        assert resume(agent, run, "--yes", cwd=tmp_path)[::2] == (0, "")
    assert rows(run)[-1][0] == 60


def break_the_link(emulator, faults):
    """Let faults come, by the number of the movement to the start, within the episode after it."""
    obey, movements, speeds = emulator.controller.obey, 0, 0

    def obey_and_break(line):
        nonlocal movements, speeds
        if line.startswith("movej"):
            movements, speeds = movements + 1, 0
        speeds += line.startswith("speedj")
        if speeds >= 10 and movements in faults:
            emulator._control(faults.pop(movements))
        if line.startswith("stopj(a=3"):
            emulator._control("clear")
        obey(line)

    emulator.controller.obey = obey_and_break


@pytest.mark.parametrize(("agent", "options"), [("ppo", PPO), ("a2c", A2C), ("stream_ac", STREAM)])
def test_faults_of_the_link_do_not_end_training(tmp_path, agent, options):
    named = "is lost", "not finite", "of 900 bytes"
    with emulate() as emulator:
        break_the_link(emulator, {2: "drop", 4: "not_finite on", 6: "size 900"})
        status, _, err = finish(train(emulator, tmp_path, *options, agent=agent, steps=80))
    lines = err.splitlines()
    assert status == 0 and len(lines) == 3
    for number, (line, text) in enumerate(zip(lines, named, strict=True), 1):
        assert line.startswith(f"link fault {number}, hesrl/UR5Reacher") and text in line
    run = only_run(tmp_path)
    table = rows(run)
    assert sum(float(value) for _, key, value in table if key == "ur5/link_faults") == 3
    lengths = [float(value) for _, key, value in table if key == "charts/episodic_length"]
    assert set(lengths) == {10} and 3 <= len(lengths) <= 7
    assert load_checkpoint(run / "checkpoint.pt")["global_step"] == 80
