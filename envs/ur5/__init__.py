"""The UR5 Reacher: its task, its simulation, and the arm itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from hesrl.errors import UserError

if TYPE_CHECKING:
    from hesrl.envs.ur5.real import UR5ReacherReal

MAX_EPISODE_STEPS = 100
"""Actions in an episode: 4 s at 0.04 s each, as `hesrl.envs.ur5.reacher_settings` has it."""


def make_real(*args: Any, backend: str = "driver", **options: Any) -> UR5ReacherReal:
    """Return the UR5 Reacher on the arm itself.

    Args:
        *args: As `hesrl.envs.ur5.real.UR5ReacherReal` takes them.
        backend: What talks to the controller: ``"driver"`` over the real-time interface,
            ``"rtde"`` over RTDE, or ``"senseact"`` for SenseAct.
        **options: As `hesrl.envs.ur5.real.UR5ReacherReal` takes them.

    Raises:
        UserError: There is no such backend, or an argument is impossible.
    """
    if backend == "driver":
        from hesrl.envs.ur5.real import UR5ReacherReal

        return UR5ReacherReal(*args, **options)
    if backend == "rtde":
        from hesrl.envs.ur5.rtde_reacher import UR5ReacherRtde

        return UR5ReacherRtde(*args, **options)
    if backend == "senseact":
        from hesrl.envs.ur5.senseact import UR5ReacherSenseAct

        return UR5ReacherSenseAct(*args, **options)
    raise UserError(f"backend {backend!r}: must be 'driver', 'rtde' or 'senseact'")


gym.register(
    "hesrl/UR5Reacher-v0",
    entry_point="hesrl.envs.ur5.simulation:UR5ReacherSim",
    max_episode_steps=MAX_EPISODE_STEPS,
)
gym.register(
    "hesrl/UR5ReacherReal-v0",
    entry_point="hesrl.envs.ur5:make_real",
    max_episode_steps=MAX_EPISODE_STEPS,
    nondeterministic=True,
)
