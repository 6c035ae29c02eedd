"""The options by which commands find a controller, and what they open with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from hesrl.envs.ur5.bounds import check
from hesrl.envs.ur5.driver import Driver
from hesrl.envs.ur5.kinematics import ARM_MODELS, ArmModel
from hesrl.envs.ur5.motion import Limits
from hesrl.envs.ur5.protocol import REALTIME_PORT, SCRIPT_PORT
from hesrl.envs.ur5.rtde import RTDE_PORT
from hesrl.envs.ur5.rtde_wire import RtdeWire
from hesrl.envs.ur5.wire import OpenWire, RealTimeWire


@dataclass
class Connection:
    """Where a controller is, and how to talk to it."""

    host: str
    """address of the controller"""
    backend: Literal["driver", "rtde"] = "driver"
    """what talks to the controller: the driver of the real-time interface, or over RTDE"""
    port: int | None = None
    """port that packets come from; 30003 of the real-time interface, or 30004 of RTDE"""
    script_port: int = SCRIPT_PORT
    """port that takes programs, over RTDE"""
    arm_model: Literal["ur5", "ur5e"] = "ur5"
    """whose lengths the arm has"""

    @property
    def packet_port(self) -> int:
        """The port that packets come from."""
        if self.port is not None:
            return self.port
        return RTDE_PORT if self.backend == "rtde" else REALTIME_PORT

    @property
    def line_port(self) -> int:
        """The port where another client would send lines of URScript."""
        return self.script_port if self.backend == "rtde" else self.packet_port

    @property
    def model(self) -> ArmModel:
        """The lengths of the arm."""
        return ARM_MODELS[self.arm_model]

    @property
    def open_wire(self) -> OpenWire:
        """What connects, as `Driver` takes it.

        Raises:
            UserError: There can be no such port.
        """
        check("port", self.packet_port)
        check("script_port", self.script_port)
        if self.backend == "rtde":
            return partial(RtdeWire, script_port=self.script_port)
        return RealTimeWire

    def driver(self, limits: Limits) -> Driver:
        """Return a link to the controller.

        Args:
            limits: What is never sent.

        Raises:
            EnvironmentFault: The controller cannot be reached, sends nothing, or is none.
            UserError: There can be no such port.
        """
        return Driver(
            self.host,
            self.packet_port,
            limits=limits,
            open_wire=self.open_wire,
            model=self.model,
        )
