"""Hosts of a network on this machine, each with an address, processes, /tmp and memory of its own.

Each host is a set of Linux namespaces, which end with the test, and with them all their processes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

# Stands in for Ray's dashboard agent, which a sweep does not need: Ray gives it 30 s to start, and
# on a machine that is loaded it may take longer.
AGENT = """
import os, sys, time
options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv if "=" in word)
file = "{session-dir}/dashboard_agent_listen_port_{node-id}".format(**options)
open(file + ".new", "w").write("52365")
os.rename(file + ".new", file)
time.sleep(1e9)
"""
SPACES = ("--net", "--mount", "--pid", "--uts")
# So it is with its other processes, which can be given more time.
PATIENT = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "600",
    "RAY_GCS_SERVER_REQUEST_TIMEOUT_SECONDS": "600",
}
LIGHT = ("--disable-usage-stats", "--include-log-monitor=false", "--object-store-memory=80000000")
# Ray waits for 30 s until its agents say which ports they have taken, unless they are given.
PORTS = (
    "--dashboard-agent-grpc-port=52366",
    "--metrics-export-port=52367",
    "--runtime-env-agent-port=52368",
)
PORT = 6379


def missing() -> str:
    """Return why this machine can make no hosts; "" if it can."""
    if os.geteuid():
        return "hosts of a network need root"
    try:
        with Network() as network:
            network.host("probe", Path("/tmp"))
    except (OSError, subprocess.CalledProcessError) as error:
        return f"hosts of a network need namespaces, unshare, nsenter and ip: {error}"
    return ""


class Network:
    """A switch that hosts are plugged into; it ends with the ``with`` block, and they with it."""

    def __init__(self) -> None:
        self._close = contextlib.ExitStack()
        self._hosts = 0

    def __enter__(self) -> Network:
        with contextlib.ExitStack() as undo:
            undo.push(self.__exit__)
            _, self._switch = self.space(
                "ip link add lan type bridge && ip link set lan up", "--net"
            )
            undo.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._close.close()

    def host(self, name: str, shared: Path) -> Host:
        """Plug in a host that sees this machine's files, but of /tmp only a shared folder."""
        self._hosts += 1
        return Host(self, name, self._hosts, shared)

    def space(self, setup: str, *spaces: str) -> tuple[subprocess.Popen[str], int]:
        """Return the process that keeps namespaces, and the id of the first one in them."""
        # The first process reaps orphans, and ends when standard input does: with this process.
        script = f"set -e; {setup}; echo ready; exec 3<&0; cat <&3 & wait $!"
        keeper = subprocess.Popen(
            ["unshare", *spaces, "--fork", "--kill-child", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._close.enter_context(keeper)
        self._close.callback(keeper.kill)
        said = keeper.stdout.readline()
        if said != "ready\n":
            raise OSError(said.strip() or "no namespaces")
        first = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text()
        return keeper, int(first)

    def plug(self, number: int, pid: int) -> None:
        """Connect a host's ``eth0`` with the switch."""
        port = f"port{number}"
        self.ip(f"link add {port} type veth peer name eth0 netns {pid}")
        self.ip(f"link set {port} master lan up")

    def ip(self, command: str) -> None:
        """Run ``ip`` at the switch."""
        inside = ["nsenter", "--net", "--target", str(self._switch), "ip", *command.split()]
        subprocess.run(inside, check=True, capture_output=True)


class Host:
    """A machine of the network; made by `Network.host`."""

    def __init__(self, network: Network, name: str, number: int, shared: Path) -> None:
        self.address = f"10.77.0.{number}"
        self._network, self._number = network, number
        self._keeper, self._pid = network.space(
            f"mount --make-rprivate / && hostname {name} && ip link set lo up"
            f" && mount --bind {shared} /mnt && mount -t tmpfs tmpfs /tmp && mkdir -p {shared}"
            f" && mount --bind /mnt {shared} && mount -t tmpfs tmpfs /dev/shm"
            " && mount -t proc proc /proc",
            *SPACES,
        )
        network.plug(number, self._pid)
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def start(self, *command: object, **options: object) -> subprocess.Popen[str]:
        """Start a program on the host."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self._pid), *SPACES, "--", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | PATIENT | {"HOME": "/tmp"},
            **options,
        )

    def run(self, *command: object) -> str:
        """Run a program on the host and return what it prints."""
        with self.start(*command) as process:
            out, err = process.communicate()
        assert process.returncode == 0, f"{command}: {out} {err}"
        return out

    def head(self, cpus: int = 1) -> None:
        """Start a Ray cluster on the host."""
        self._ray(
            "--head", f"--port={PORT}", "--include-dashboard=false", "--no-monitor", cpus=cpus
        )

    def join(self, head: Host, cpus: int = 1) -> None:
        """Make the host a node of a cluster."""
        self._ray(f"--address={head.address}:{PORT}", cpus=cpus)

    def _ray(self, *options: str, cpus: int) -> None:
        self.run("sh", "-c", f"cat >/tmp/agent.py <<'END'{AGENT}END")
        spec = importlib.util.find_spec("ray.dashboard.agent")
        self.replace(spec.origin, "/tmp/agent.py")
        own = f"--node-ip-address={self.address}", f"--num-cpus={cpus}"
        self.run(Path(sys.executable).with_name("ray"), "start", *options, *own, *LIGHT, *PORTS)

    def replace(self, file: Path | str, content: Path | str) -> None:
        """Let the host see another file, or another folder, in place of one."""
        self.run("mount", "--bind", content, file)

    def programs(self) -> str:
        """Return the commands of all processes on the host."""
        return self.run("ps", "-eo", "args")

    def cable(self, state: str) -> None:
        """Pull the host's cable (``down``) or plug it in again (``up``)."""
        self._network.ip(f"link set port{self._number} {state}")

    def off(self) -> None:
        """Switch the host off, at once."""
        self._keeper.kill()
        self._keeper.wait()
