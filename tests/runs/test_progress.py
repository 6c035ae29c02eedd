"""Progress in a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from hesrl.runs.progress import Progress, format_duration

READER_GONE = """
import sys
from hesrl.runs.progress import Progress
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


def show(clock, seconds, steps, *, terminal=False, **options):
    """Return what is shown of a run of 1000 steps with some seconds between them."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, force_interactive=terminal, width=100)
    with Progress(1000, console=console, **options) as progress:
        for step in steps:
            clock[0] += seconds
            progress.update(step, float(step))
            progress.update(step)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def test_plain_lines_come_every_30_seconds_and_at_the_end(clock):
    lines = show(clock, 10, range(10, 101, 10)).splitlines()
    assert lines[0] == "step 30/1000  return 20.0  1 steps/s  16:10 left"
    assert [line.split()[1] for line in lines] == ["30/1000", "60/1000", "90/1000", "100/1000"]
    assert show(clock, 0.1, range(100, 1001, 100)) == (
        "step 1000/1000  return 550.0  1000 steps/s  0:00 left\n"
    )


def test_speed_and_time_left_are_those_of_the_last_seconds(clock):
    """After 60 s of compiling, the run takes 100 steps a second."""
    file = io.StringIO()
    with Progress(1000, console=Console(file=file)) as progress:
        for step, seconds in [(10, 60.0), *((10 + 100 * i, 1.0) for i in range(1, 7))]:
            clock[0] += seconds
            progress.update(step)
        assert progress.describe() == "100 steps/s  0:04 left"


def test_episodes_of_a_rollout_that_has_ended_are_no_measure_of_time(clock):
    with Progress(1000, console=Console(file=io.StringIO())) as progress:
        clock[0] += 10
        for step in (30, 60, 90):
            progress.update(step, 1.0)
        assert progress.describe() == "return 1.0"
        progress.update(100)
        assert progress.describe() == "return 1.0  10 steps/s  1:30 left"


def test_a_resumed_run_counts_its_own_speed(clock):
    shown = show(clock, 2, [800], initial_step=600)
    assert shown == "step 800/1000  return 800.0  100 steps/s  0:02 left\n"
    assert show(clock, 2, [], initial_step=600) == ""


def test_a_terminal_gets_a_bar_at_most_five_times_a_second_and_no_thread(clock):
    threads = threading.active_count()
    shown = show(clock, 2, [500], terminal=True)
    assert threading.active_count() == threads
    assert "500/1000 steps" in shown and "50% return 500.0  250 steps/s  0:02 left" in shown
    steps = re.findall(r"(\d+)/1000", show(clock, 0.15, [1, 2, 3, 4], terminal=True))
    assert "1" in steps and "2" not in steps and "3" in steps


def test_training_goes_on_when_the_reader_of_its_lines_has_gone(start):
    with start(READER_GONE) as process:
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 7


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.7, "1:00"), (95, "1:35"), (3661, "1:01:01")]
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_a_run_without_steps_is_refused():
    with pytest.raises(ValueError, match="total_steps must be positive, got 0"):
        Progress(0)
