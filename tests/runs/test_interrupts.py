"""Real signals to a real process, which stops after its update, or halts at once."""

from __future__ import annotations

import signal
import threading

import pytest

from hesrl.runs.interrupts import HALT_MESSAGE, STOP_MESSAGE, StopRequest

STOP = """
import sys, time
from hesrl.runs.interrupts import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print(stop.signal_name, flush=True)
    while "linger" in sys.argv:  # one long sleep could miss a signal that comes just before it
        time.sleep(0.01)
sys.exit(stop.exit_code)
"""
HALT = """
import os, time
from hesrl.runs.interrupts import HaltRequest
with HaltRequest(lambda: os.write(2, b"halted\\n")):
    try:
        print("ready", flush=True)
        while True:  # one long sleep could miss a signal that comes just before it
            time.sleep(0.01)
    finally:
        print("unwound", flush=True)
        while True:
            time.sleep(0.01)
"""
both_signals = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


@both_signals
def test_the_first_signal_asks_to_stop(start, signum):
    with start(STOP) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        out, err = process.communicate(timeout=30)
    assert (out, err) == (f"{signum.name}\n", f"{STOP_MESSAGE}\n")
    assert process.returncode == 128 + signum


@both_signals
def test_ctrl_c_after_that_aborts_at_once(start, signum):
    with start(STOP, "linger") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        assert process.stdout.readline() == f"{signum.name}\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert err.count(STOP_MESSAGE) == 1 and err.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT


def test_a_reader_that_has_gone_does_not_cost_the_stop(start):
    with start(STOP) as process:
        assert process.stdout.readline() == "ready\n"
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 128 + signal.SIGINT


@both_signals
def test_what_moves_is_halted_first_and_then_the_process_ends(start, signum):
    with start(HALT) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        assert [process.stderr.readline() for _ in "12"] == ["halted\n", f"{HALT_MESSAGE}\n"]
        assert process.stdout.readline() == "unwound\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert err == "halted\n" and process.returncode == 128 + signum


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
