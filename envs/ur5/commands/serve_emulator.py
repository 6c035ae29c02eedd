"""``hesrl ur5 emulator``: serve the ports of a UR controller, with a simulated arm behind them."""

from __future__ import annotations

from dataclasses import dataclass

from hesrl.envs.ur5.dashboard import DASHBOARD_PORT
from hesrl.envs.ur5.emulator import Emulator
from hesrl.envs.ur5.protocol import REALTIME_PORT, SCRIPT_PORT
from hesrl.envs.ur5.reacher_settings import ReacherSettings
from hesrl.envs.ur5.rtde import RTDE_PORT


@dataclass
class Args:
    """Emulate the controller of a UR5, until Ctrl-C."""

    host: str = "127.0.0.1"
    """address to listen on; only this machine reaches the default"""
    port: int = REALTIME_PORT
    """port of the real-time interface; 0 for any that is free"""
    rtde_port: int = RTDE_PORT
    """port of RTDE; 0 for any that is free"""
    script_port: int = SCRIPT_PORT
    """port of the secondary interface; 0 for any that is free"""
    dashboard_port: int = DASHBOARD_PORT
    """port of the dashboard; 0 for any that is free"""
    control_port: int | None = None
    """port that takes faults to play, such as "delay 0.3"; none unless given"""
    speed: float = 1.0
    """how many times faster than real time the controller's clock runs"""
    e_series: bool = False
    """whether it has 500 cycles per second and a UR5e (e-Series), or 125 and a UR5 (CB3)"""


def main(args: Args) -> int:
    """Serve until Ctrl-C and return the exit status.

    Raises:
        UserError: A setting is impossible or a port is in use.
    """

    def log(line: str) -> None:
        print(line, flush=True)

    emulator = Emulator(
        ReacherSettings().q_ref,
        host=args.host,
        port=args.port,
        rtde_port=args.rtde_port,
        script_port=args.script_port,
        dashboard_port=args.dashboard_port,
        control_port=args.control_port,
        speed=args.speed,
        e_series=args.e_series,
        log=log,
    )
    control = "" if emulator.control_port is None else f", control port {emulator.control_port}"
    log(
        f"emulated UR controller at {args.host}: real-time port {emulator.port}, dashboard port "
        f"{emulator.dashboard_port}{control}, RTDE port {emulator.rtde_port}, script port "
        f"{emulator.script_port}; Ctrl-C ends it"
    )
    try:
        emulator.run()
    except KeyboardInterrupt:
        log(f"ended after {emulator.controller.arm.time:.1f} s of the controller's clock")
    finally:
        emulator.close()
    return 0
