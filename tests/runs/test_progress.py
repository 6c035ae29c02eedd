"""Progress in a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from hesrl.runs import Progress
from hesrl.runs.progress import format_duration

READER_GONE = """
import sys
from hesrl.runs import Progress
sys.stdin.readline()
with Progress(10) as progress:
    progress.update(10, 1.0)
print("more output")
sys.exit(7)
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when told: ``clock[0]`` is the time in seconds."""
    time = [100.0]
    monkeypatch.setattr("hesrl.runs.progress.time.monotonic", lambda: time[0])
    return time


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, force_interactive=True, width=100)


def test_plain_lines_come_once_per_tenth_of_the_run(clock):
    console = plain()
    with Progress(1000, console=console) as progress:
        for step in range(10, 1001, 10):
            clock[0] += 0.5
            progress.update(step, float(step))
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "step 100/1000  return 55.0  20 steps/s  0:45 left"
    assert lines[-1] == "step 1000/1000  return 905.0  20 steps/s  0:00 left"
    assert len(lines) == 10


def test_plain_lines_come_at_most_once_a_second(clock):
    console = plain()
    with Progress(1000, console=console) as progress:
        for step in range(10, 1001, 10):
            clock[0] += 0.025
            progress.update(step)
    steps = re.findall(r"step (\d+)/1000  400 steps/s", console.file.getvalue())
    assert steps == ["400", "800", "1000"]


def test_a_resumed_run_counts_its_own_speed(clock):
    console = plain()
    with Progress(1000, initial_step=600, console=console) as progress:
        clock[0] += 2
        progress.update(800)
    assert console.file.getvalue() == "step 800/1000  100 steps/s  0:02 left\n"


def test_nothing_is_printed_without_progress():
    console = plain()
    with Progress(1000, initial_step=600, console=console):
        pass
    assert console.file.getvalue() == ""


def test_a_terminal_gets_a_bar_and_no_thread(clock):
    console = terminal()
    threads = threading.active_count()
    with Progress(1000, console=console) as progress:
        clock[0] += 2
        progress.update(500, 812.34)
        assert threading.active_count() == threads
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert "500/1000 steps" in shown
    assert "50% return 812.3  250 steps/s  0:02 left" in shown


def test_a_bar_is_drawn_at_most_five_times_a_second(clock):
    console = terminal()
    with Progress(1000, console=console) as progress:
        progress.update(1)
        size = len(console.file.getvalue())
        progress.update(2)
        assert len(console.file.getvalue()) == size
        clock[0] += 0.21
        progress.update(3)
        assert len(console.file.getvalue()) > size


def test_training_goes_on_when_the_reader_of_its_lines_has_gone():
    command = [sys.executable, "-c", READER_GONE]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.7, "1:00"), (95, "1:35"), (3661, "1:01:01")]
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_a_run_without_steps_is_refused():
    with pytest.raises(ValueError, match="total_steps must be positive, got 0"):
        Progress(0)
