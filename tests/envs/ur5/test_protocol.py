"""Packets, framing, commands and the dashboard's client."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pytest

from hesrl.envs.ur5 import urscript
from hesrl.envs.ur5.dashboard import ask
from hesrl.envs.ur5.protocol import PACKET, Frames, ProtocolError, pack, unpack
from hesrl.errors import EnvironmentFault

Q = (0.1, -0.2, 0.3, -0.4, 0.5, -0.6)


def packet(size=1060, **fields):
    return pack(size, **{"robot_mode": 7, "safety_mode": 1, **fields})


OFFSETS = {
    "size": 0,
    "time": 4,
    "q_target": 12,
    "qd_target": 60,
    "qdd_target": 108,
    "i_target": 156,
    "m_target": 204,
    "q_actual": 252,
    "qd_actual": 300,
    "i_actual": 348,
    "i_control": 396,
    "tool_vector_actual": 444,
    "tcp_speed": 492,
    "tcp_force": 540,
    "tool_vector_target": 588,
    "tcp_speed_target": 636,
    "digital_in": 684,
    "motor_temperatures": 692,
    "controller_timer": 740,
    "test_value": 748,
    "robot_mode": 756,
    "joint_modes": 764,
    "safety_mode": 812,
    "tool_acceleration": 868,
    "speed_scaling": 940,
    "momentum": 948,
    "v_main": 972,
    "v_robot": 980,
    "i_robot": 988,
    "v_actual": 996,
    "digital_out": 1044,
    "program_state": 1052,
}


def test_every_field_has_its_place():
    assert PACKET.itemsize == 1060
    assert {name: PACKET.fields[name][1] for name in OFFSETS} == OFFSETS


def test_numbers_are_big_endian():
    data = packet(time=1.5, q_actual=Q, safety_mode=3)
    assert struct.unpack_from(">i", data) == (1060,)
    assert struct.unpack_from(">d", data, 4) == (1.5,)
    assert struct.unpack_from(">6d", data, 252) == Q
    assert struct.unpack_from(">d", data, 812) == (3.0,)


@pytest.mark.parametrize("size", [1060, 1108, 1220])
def test_a_packet_says_what_was_packed(size):
    rng = np.random.default_rng(0)
    names = ("q_target", "qd_target", "q_actual", "qd_actual", "tool_vector_actual")
    fields = {name: rng.standard_normal(6) for name in names}
    data = packet(size, time=12.3, **fields)
    state = unpack(data)
    assert len(data) == size and (state.time, state.robot_mode, state.safety_mode) == (12.3, 7, 1)
    assert all(np.array_equal(getattr(state, name), fields[name]) for name in names)


@pytest.mark.parametrize("seed", range(5))
def test_packets_of_any_size_are_found_in_any_pieces(seed):
    rng = np.random.default_rng(seed)
    sent = [packet(int(size), time=float(size)) for size in rng.choice([1060, 1108, 1220], 20)]
    stream = b"".join(sent)
    cuts = [0, *np.sort(rng.integers(0, len(stream), 60)).tolist(), len(stream)]
    frames = Frames()
    received = [frames.feed(stream[a:b]) for a, b in pairwise(cuts)]
    assert [one for some in received for one in some] == sent


def test_single_bytes_are_a_packet_in_the_end():
    frames, data = Frames(), packet()
    assert [frames.feed(data[i : i + 1]) for i in range(1060)] == [[]] * 1059 + [[data]]


@pytest.mark.parametrize("size", [-1, 0, 3, 1059, 4097, 1 << 30])
def test_a_size_that_no_packet_has_is_an_error(size):
    with pytest.raises(ProtocolError, match=f"a packet of {size} bytes.*have 1060 to 4096"):
        Frames().feed(struct.pack(">i", size) + b"\0" * 2000)


def test_another_service_is_an_error():
    with pytest.raises(ProtocolError, match="first bytes b'Connecte'"):
        Frames().feed(b"Connected: Universal Robots Dashboard Server\n")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"q_actual": np.nan}, "q_actual"),
        ({"qd_target": np.inf}, "qd_target"),
        ({"time": np.nan}, "time"),
        ({"robot_mode": 6.5}, "robot_mode"),
        ({"safety_mode": 1e12}, "safety_mode"),
        ({"safety_mode": np.nan}, "safety_mode"),
    ],
)
def test_a_packet_that_cannot_be_is_an_error(fields, named):
    with pytest.raises(ProtocolError, match=named):
        unpack(packet(**fields))


def test_the_arm_obeys_in_two_safety_modes_while_it_runs():
    stops = [unpack(packet(safety_mode=mode)).stop for mode in range(1, 11)]
    assert stops[:3] == [None, None, "protective stop"]
    assert stops[5] == "system emergency stop" and stops[9] == "safety mode 10"
    assert unpack(packet(robot_mode=3)).stop == "robot mode 3, not running"


def test_a_packet_is_not_packed_shorter():
    with pytest.raises(ValueError, match="1059"):
        pack(1059)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (urscript.speedj(Q, 1.4, 0.008), ("speedj", Q, {"a": 1.4, "t": 0.008})),
        (urscript.movej(Q, 1.0, 0.5, 2), ("movej", Q, {"a": 1, "v": 0.5, "t": 2, "r": 0})),
        (urscript.stopj(3), ("stopj", (), {"a": 3.0})),
    ],
)
def test_what_is_written_is_read_back(line, command):
    text = line.decode()
    assert text.endswith("\n") and urscript.parse(text) == command


def test_small_numbers_have_no_exponent():
    line = urscript.speedj([1e-7, -1e-12, 0, 0, 0, 0], 1, 1)
    assert line.startswith(b"speedj([0.000000100, -0.000000000, 0")


def test_arguments_are_read_by_position_and_by_name():
    assert urscript.parse("stopj(2.0)").options == {"a": 2.0}
    by_name = urscript.parse(f"  movej( {list(Q)} ,t=2.5, a = 1) ")
    assert by_name == ("movej", Q, {"t": 2.5, "a": 1.0})


@pytest.mark.parametrize(
    "line",
    [
        "",
        "popup(1)",
        "speedj",
        "speedj([1, 2, 3], 1, 1)",
        "speedj([1, 2, 3, 4, 5, nan], 1, 1)",
        "speedj([1, 2, 3, 4, 5, six], 1, 1)",
        "speedj(1, [1, 2, 3, 4, 5, 6])",
        "stopj(a=inf)",
        "stopj(b=1)",
        "stopj(1, 2)",
        "stopj((1)",
        "movej([1, 2, 3, 4, 5, 6], a=)",
    ],
)
def test_a_line_that_is_no_command_is_refused(line):
    with pytest.raises(ValueError):
        urscript.parse(line)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_never_written(bad):
    for write in (
        lambda: urscript.speedj([0, 0, bad, 0, 0, 0], 1, 1),
        lambda: urscript.speedj(Q, bad, 1),
        lambda: urscript.movej(Q, 1, 1, bad),
        lambda: urscript.stopj(bad),
    ):
        with pytest.raises(ValueError, match="must be finite"):
            write()


def test_other_than_six_joints_are_never_written():
    with pytest.raises(ValueError, match="2 numbers for the six joints"):
        urscript.speedj([1, 2], 1, 1)


def test_the_dashboard_answers(emulator):
    answer = ask("127.0.0.1", "sing", port=emulator.dashboard_port)
    assert answer == "could not understand: sing"


def test_a_dashboard_that_is_silent_or_missing_is_an_error(emulator):
    emulator.control("dashboard_silent on")
    port = emulator.dashboard_port
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}: timed out"):
        ask("127.0.0.1", "sing", port=port, timeout=0.1)
    emulator.close()
    with pytest.raises(EnvironmentFault, match=f"{port}.*Connection refused"):
        ask("127.0.0.1", "sing", port=port)
