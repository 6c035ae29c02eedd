"""An emulator in a process of its own, and what reaches it, for links that fork.

A forked process has copies of all connections, so that an emulator in the same process could not
close one.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys

from hesrl.envs.ur5 import make_real

_COMMAND = "import sys; from hesrl.cli import main; sys.exit(main())"


class Served:
    """The command ``hesrl ur5 emulator``, on free ports."""

    def __init__(self, speed=10.0):
        ports = ["--port", "0", "--dashboard-port", "0", "--control-port", "0"]
        command = [sys.executable, "-c", _COMMAND, "ur5", "emulator", *ports, "--speed", str(speed)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ports = re.findall(r"port (\d+)", self.process.stdout.readline())
        self.port, self.dashboard_port, self._control_port = map(int, ports)

    def control(self, line):
        """Return the answer to a line of the control port."""
        with socket.create_connection(("127.0.0.1", self._control_port), 5) as connection:
            connection.sendall(f"{line}\n".encode())
            return connection.makefile().readline().strip()

    def state(self):
        """Return what the control port says of the arm."""
        return json.loads(self.control("state"))

    def close(self):
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def served_reacher(served, backend="senseact", **options):
    """Return the environment at an emulator; a busy machine may delay packets and commands."""
    defaults = {"stale_after": 0.3, "t_min": 0.08, "reconnects": 2, "reconnect_wait": 0.05}
    ports = {"port": served.port, "dashboard_port": served.dashboard_port}
    return make_real("127.0.0.1", backend=backend, **ports, **{**defaults, **options})
