"""The controller's dashboard, a server of one-line commands on TCP port 29999."""

from __future__ import annotations

import socket

from hesrl.errors import EnvironmentFault, one_line

DASHBOARD_PORT = 29999
"""TCP port of the dashboard."""
UNLOCK = "unlock protective stop"
"""The command that ends a protective stop."""
LOCKED = 5.0
"""Shortest duration of a protective stop (s)."""
UNLOCKED = "Protective stop releasing"
"""How its answer begins when the controller obeys."""


def ask(host: str, command: str, *, port: int = DASHBOARD_PORT, timeout: float = 2.0) -> str:
    """Send one command and return the answer, a line without its end.

    Args:
        host: Address of the controller.
        command: The line to send.
        port: TCP port.
        timeout: Longest time that connecting or an answer may take, s.

    Raises:
        EnvironmentFault: Nobody answered in time.
    """
    where = f"dashboard of the controller at {host}:{port}:"
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            with connection.makefile("rw", encoding="utf-8", newline="\n") as lines:
                lines.readline()  # the greeting
                lines.write(f"{command}\n")
                lines.flush()
                answer = lines.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{where} {one_line(error)}; is the service enabled?") from error
    if not answer.endswith("\n"):
        raise EnvironmentFault(f"{where} closed the connection without an answer to {command!r}")
    return answer.strip()
