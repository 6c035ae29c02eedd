"""What the emulator can be told to do wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hesrl.envs.ur5.protocol import PACKET
from hesrl.errors import UserError


@dataclass
class Faults:
    """The faults of the moment, none at first; each is set by its name on the control port."""

    silent: bool = False
    """sends no packets, and keeps the connections"""
    frozen: bool = False
    """sends the same packet again and again"""
    delay: float = 0.0
    """time that passes before a packet is sent, s"""
    fragment: int = 0
    """sends pieces of so many bytes, which begin and end anywhere in a packet; 0 whole packets"""
    size: int = PACKET.itemsize
    """size of a packet in bytes; a smaller one than the layout's is only claimed"""
    not_finite: bool = False
    """sends NaN for the joint angles"""
    tool_offset: float = 0.0
    """how far above the flange the tool is that the packets tell of, m"""
    robot_mode: int = 7
    """7 is running, 3 power off"""
    refuses: bool = False
    """closes every connection as soon as it is made"""
    deaf: bool = False
    """does not obey commands"""
    dead_watchdog: bool = False
    """lets speeds go on until the next command, also without a heartbeat"""
    scale: float = 1.0
    """asks these many times the speeds that it is told"""
    ignored: int = -1
    """a joint that does not turn; -1 for none"""
    clock_rate: float = 1.0
    """speed of the clock in its packets, from now on"""
    clock_ahead: float = 0.0
    """by how much this clock is ahead, s"""
    speed_scaling: float = 1.0
    """part of the speed that the pendant allows, which is only told of"""
    turns: float = 0.0
    """by how much the angles in its packets are too large, rad"""
    dashboard_silent: bool = False
    """the dashboard does not answer"""
    stays_locked: bool = False
    """agrees to unlock a protective stop and does not do it"""


def set_fault(faults: Faults, name: str, value: str) -> None:
    """Set one fault from text, such as ``"delay"`` and ``"0.3"``, ``"silent"`` and ``"on"``.

    Raises:
        UserError: There is no such fault, or the value is of another kind.
    """
    known = {field.name for field in fields(faults)}
    if name not in known:
        raise UserError(f"no fault {name!r}; there are {', '.join(sorted(known))}")
    kind = type(getattr(faults, name))
    try:
        if kind is bool:
            setattr(faults, name, {"": True, "on": True, "off": False}[value])
        else:
            setattr(faults, name, kind(value))
    except (KeyError, ValueError) as error:
        wanted = {bool: "on or off", int: "a whole number", float: "a number"}[kind]
        raise UserError(f"{name} {value!r}: must be {wanted}") from error
