"""Real signals to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hesrl.runs import StopRequest
from hesrl.runs.interrupts import MESSAGE

LOOP = """
import sys, time
from hesrl.runs import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print(stop.signal_name, flush=True)
    if "linger" in sys.argv:
        time.sleep(60)
sys.exit(stop.exit_code)
"""


@contextmanager
def training(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LOOP, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop(signum):
    with training() as process:
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    assert (out, err) == (f"{signum.name}\n", f"{MESSAGE}\n")
    assert process.returncode == 128 + signum


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_that_aborts_at_once(first):
    with training("linger") as process:
        process.send_signal(first)
        assert process.stdout.readline() == f"{first.name}\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert err.count(MESSAGE) == 1
    assert err.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT


def test_a_reader_that_has_gone_does_not_cost_the_stop():
    with training() as process:
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT


def test_previous_handlers_come_back():
    def mine(signum, frame):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with StopRequest() as stop:
            assert signal.getsignal(signal.SIGTERM) is not mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (stop.requested, stop.signal_name, stop.exit_code) == (False, None, 0)


def test_another_thread_leaves_the_handlers_alone():
    seen = []

    def work():
        with StopRequest() as stop:
            seen.extend([signal.getsignal(signal.SIGINT), stop.requested])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT), False]
