"""The UR5 Reacher on the arm itself over RTDE, which today's controllers speak.

A program of ours on the controller obeys registers, as `hesrl.envs.ur5.rtde_program` says; all else
is as in `hesrl.envs.ur5.real`.
"""

from __future__ import annotations

from typing import Any

from hesrl.envs.ur5.bounds import check
from hesrl.envs.ur5.protocol import SCRIPT_PORT
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.envs.ur5.rtde import RTDE_PORT
from hesrl.envs.ur5.rtde_wire import RtdeWire
from hesrl.envs.ur5.wire import Wire


class UR5ReacherRtde(UR5ReacherReal):
    """The environment `UR5ReacherReal` over RTDE.

    Args:
        host: As `UR5ReacherReal` takes it.
        port: TCP port of RTDE.
        *args: As `UR5ReacherReal` takes them.
        script_port: TCP port of the secondary interface, through which our program is uploaded.
        **options: As `UR5ReacherReal` takes them.

    Raises:
        UserError: There is no address, or an argument is impossible.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = RTDE_PORT,
        *args: Any,
        script_port: int = SCRIPT_PORT,
        **options: Any,
    ) -> None:
        check("script_port", script_port)
        super().__init__(host, port, *args, **options)
        self._script_port = script_port

    def _wire(self, host: str, port: int, timeout: float, t_min: float, lost: float) -> Wire:
        return RtdeWire(host, port, timeout, t_min, lost, self._script_port)
