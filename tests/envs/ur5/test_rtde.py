"""RTDE: packages, recipes, agreeing with a controller, and another client at the emulator."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.motion import Limits
from hesrl.envs.ur5.protocol import ProtocolError
from hesrl.envs.ur5.rtde import ANY_SIZE, Kind, Packages, Recipe, package
from hesrl.envs.ur5.rtde_session import agree
from hesrl.envs.ur5.rtde_wire import RtdeWire
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import SETTINGS, STALE_AFTER, Served, emulate, eventually

RECIPE = Recipe(3, ("timestamp", "actual_q", "robot_mode"), ("DOUBLE", "VECTOR6D", "INT32"))


@pytest.fixture
def emulator():
    """An emulator in real time, which a busy machine keeps as well."""
    with emulate(speed=1.0) as serving:
        yield serving


def wire_at(emulator):
    """Return a wire to an emulator."""
    made = RtdeWire("127.0.0.1", emulator.rtde_port, 60.0, 0.1, 0.5, emulator.script_port)
    made.connection.settimeout(60)
    return made


def test_a_data_package_has_header_recipe_and_values_in_network_order():
    data = RECIPE.pack({"robot_mode": -1, "timestamp": 0.5, "actual_q": range(6)})
    assert data == struct.pack(">HBB7di", 64, ord("U"), 3, 0.5, *range(6), -1)
    assert RECIPE.size == len(data) == 64
    assert RECIPE.unpack(data[3:]) == {
        "timestamp": 0.5,
        "actual_q": tuple(range(6)),
        "robot_mode": -1,
    }


def test_what_a_controller_sends_right_after_the_agreement_is_not_lost():
    outputs = ["DOUBLE", *["VECTOR6D"] * 5, "DOUBLE", *["INT32"] * 4]
    inputs = [*["INT32"] * 3, *["DOUBLE"] * 8]
    answers = (
        package(Kind.VERSION, b"\1"),
        package(Kind.CONTROLLER, struct.pack(">4I", 5, 11, 0, 0)),
        package(Kind.OUTPUTS, b"\1" + ",".join(outputs).encode()),
        package(Kind.INPUTS, b"\1" + ",".join(inputs).encode()),
        package(Kind.START, b"\1"),
    )
    begun = b"a package and the half of another"
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"".join((*answers, begun)))
        assert agree(here).frequency == 500
        assert here.recv(1 << 12) == begun


@pytest.mark.parametrize("payload", [b"", b"\3" + bytes(59), b"\4" + bytes(60)])
def test_a_data_package_of_another_recipe_is_refused(payload):
    with pytest.raises(ProtocolError, match="another recipe"):
        RECIPE.unpack(payload)


def test_packages_are_cut_wherever_the_pieces_begin():
    packages, found = Packages(dict.fromkeys(Kind, ANY_SIZE)), []
    for byte in package(Kind.VERSION, b"\0\2") + package(Kind.START):
        found += packages.feed(bytes([byte]))
    assert found == [(Kind.VERSION, b"\0\2"), (Kind.START, b"")]


@pytest.mark.parametrize(
    "data", [b"\0\2U", b"\0\x09x", b"\0\x09U", b"Connected: Universal Robots\n"]
)
def test_what_is_no_package_is_named(data):
    packages = Packages({Kind.DATA: range(64, 65), Kind.TEXT: ANY_SIZE})
    with pytest.raises(ProtocolError, match=r"a packet of \d+ bytes .*none of RTDE \(port 30004\)"):
        packages.feed(data)


def test_states_come_at_the_rate_of_the_series():
    for e_series, cycle in ((False, 0.008), (True, 0.002)):
        with emulate(speed=1.0, e_series=e_series) as emulator:
            wire, times = wire_at(emulator), []
            while len(times) < 10:
                times += [
                    wire.unpack(packet).time for packet in wire.feed(wire.connection.recv(1 << 12))
                ]
            wire.connection.close()
        assert wire.session.version[0] == (5 if e_series else 3)
        assert times[-1] - times[0] == pytest.approx(cycle * (len(times) - 1))


def test_only_one_client_writes_the_registers(emulator):
    first = wire_at(emulator)
    with pytest.raises(EnvironmentFault, match="input_int_register_24 is in use by another client"):
        wire_at(emulator)
    first.connection.close()
    assert eventually(lambda: not emulator.state()["connections"])
    wire_at(emulator).connection.close()


@pytest.mark.parametrize(
    ("version", "message"), [((3, 8, 0, 0), "software is 3.8"), ((5, 2, 0, 0), "software is 5.2")]
)
def test_software_that_is_too_old_is_refused(emulator, version, message):
    emulator.controller.version = version
    with pytest.raises(EnvironmentFault, match=f"{emulator.rtde_port}: its {message}; registers"):
        wire_at(emulator)


def test_an_output_that_is_not_there_is_named(emulator, monkeypatch):
    monkeypatch.setattr("hesrl.envs.ur5.rtde_session.OUTPUTS", ("timestamp", "wind"))
    with pytest.raises(EnvironmentFault, match="it has no wind"):
        wire_at(emulator)


@pytest.mark.parametrize("answer", [b"", b"\0\4V\0", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_service_that_speaks_something_else_is_left_in_time(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # In the backlog before anybody asks.
        with pytest.raises(EnvironmentFault, match=f"^UR controller at 127.0.0.1:{port}: "):
            if answer:
                _answering(server, answer)
            RtdeWire("127.0.0.1", port, 0.2 if not answer else 60.0, 0.1, 0.5)


def _answering(server, answer):
    def serve():
        connection, _ = server.accept()
        connection.recv(1 << 12)
        connection.sendall(answer)
        time.sleep(0.2)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()


def link_at(emulator, **options):
    """Return a driver over RTDE."""
    defaults = {"stale_after": STALE_AFTER, "t_min": 0.2, "clock_speed": emulator.speed}
    open_wire = partial(RtdeWire, script_port=emulator.script_port)
    options = defaults | options | {"limits": Limits(0.3, 5.0), "open_wire": open_wire}
    return Driver("127.0.0.1", emulator.rtde_port, **options)


def test_nothing_is_uploaded_before_the_first_command(emulator):
    link = link_at(emulator)
    assert emulator.controller.report["runtime_state"] == 1
    link.stop()
    assert eventually(lambda: emulator.controller.report["runtime_state"] == 2)
    link.close()
    assert eventually(lambda: emulator.controller.report["runtime_state"] == 1)


def test_another_program_in_place_of_ours_needs_a_person(emulator):
    link = link_at(emulator, stale_after=2.0)
    link.stop()
    assert eventually(lambda: link.is_ready)
    with socket.create_connection(("127.0.0.1", emulator.script_port)) as other:
        other.sendall(b"def other():\n  while True:\n    sync()\n  end\nend\n")
        assert eventually(lambda: link.fault)
    assert "our program was ended: by another client, or at the pendant" in link.fault
    assert not link.is_broken


def test_the_arm_is_stopped_where_another_program_moves_it(emulator):
    link = link_at(emulator, stale_after=2.0)
    link.stop()
    assert eventually(lambda: link.is_ready)
    arm = emulator.controller.arm
    with socket.create_connection(("127.0.0.1", emulator.script_port)) as other:
        lines = "while True:", "speedj([0.0, 0.0, 0.0, 0.0, 0.1, 0.0], 1.4, 0.1)", "end", "end", ""
        other.sendall("\n".join(["def other():", *lines]).encode())
        assert eventually(lambda: arm.qd_target[4] > 0.09)
        assert eventually(lambda: link.fault)
        assert eventually(lambda: not arm.qd_target.any())
    # Nothing moves it any more.
    time = arm.time
    assert eventually(lambda: arm.time > time + 0.5) and not arm.qd_target.any()


def test_a_secondary_interface_that_is_closed_is_named(emulator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    emulator.script_port = closed
    link = link_at(emulator)
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{closed} cannot be reached"):
            link.stop()
    link.close()


UR_RTDE = """
import sys
import rtde_io, rtde_receive

host = sys.argv[1]
names = ["timestamp", "actual_q", "actual_TCP_pose", "robot_mode", "safety_mode"]
receive = rtde_receive.RTDEReceiveInterface(host, 125.0, names)
begin = receive.getTimestamp()
while receive.getTimestamp() < begin + 0.1:
    pass
print(receive.getActualQ(), receive.getRobotMode(), receive.getSafetyMode())
io = rtde_io.RTDEIOInterface(host)
print(io.setInputDoubleRegister(18, 0.25), io.setInputIntRegister(19, -7))
"""


def test_a_client_of_somebody_else_reads_and_writes_what_the_emulator_has():
    pytest.importorskip("rtde_receive", reason="ur-rtde has no wheel for this Python")
    # It knows one port only, so that this emulator has an address of its own.
    host = "127.93.7.11"
    served = Served(1.0, "--rtde-port", "30004", host=host)
    try:
        command = [sys.executable, "-c", UR_RTDE, host]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        state = served.state()
    finally:
        served.close()
    assert done.stdout == f"{list(SETTINGS.q_ref)} 7 1\nTrue True\n", done.stderr
    assert state["inputs"]["input_double_register_18"] == 0.25
    assert state["inputs"]["input_int_register_19"] == -7
