"""The UR5 Reacher: its task, its simulation, and the arm itself."""

from __future__ import annotations

import gymnasium as gym

MAX_EPISODE_STEPS = 100
"""Actions in an episode: 4 s at 0.04 s each, as `hesrl.envs.ur5.settings` has it."""

gym.register(
    "hesrl/UR5Reacher-v0",
    entry_point="hesrl.envs.ur5.simulation:UR5ReacherSim",
    vector_entry_point="hesrl.envs.ur5.vector:UR5ReacherVec",
    max_episode_steps=MAX_EPISODE_STEPS,
)
gym.register(
    "hesrl/UR5ReacherReal-v0",
    entry_point="hesrl.envs.ur5.real:UR5ReacherReal",
    max_episode_steps=MAX_EPISODE_STEPS,
    nondeterministic=True,
)
