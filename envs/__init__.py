"""Environments and what stands between them and an agent.

Importing this registers ``hesrl/UR5Reacher-v0`` and ``hesrl/UR5ReacherReal-v0`` with Gymnasium.
"""

from __future__ import annotations

# For the registration.
from hesrl.envs import ur5 as ur5
