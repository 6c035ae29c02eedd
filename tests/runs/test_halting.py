"""Signals where something moves, to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from hesrl.runs.halting import MESSAGE

LOOP = """
import os, time
from hesrl.runs.halting import HaltRequest
with HaltRequest(lambda: os.write(2, b"halted\\n")):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("unwound", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_halts_first_and_then_ends_the_process(signum):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", LOOP], **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        assert process.stderr.readline() == "halted\n"
        assert process.stderr.readline() == f"{MESSAGE}\n"
        assert process.stdout.readline() == "unwound\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert err == "halted\n"
    assert process.returncode == 128 + signum
