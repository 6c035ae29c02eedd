"""A controller that reaches the target, for tests."""

from __future__ import annotations

import numpy as np

from hesrl.envs.ur5.reacher_settings import ReacherSettings

PLANE = ReacherSettings().plane


def reach(obs, speed_limit=0.3, gain=4.0):
    """Return the action (2,) that moves the tool straight to the target: qd = −gain J⁻¹ error."""
    q, error = obs[:2].astype(np.float64), obs[4:6].astype(np.float64)
    h = 1e-6
    columns = [np.subtract(PLANE.position(*(q + d)), PLANE.position(*q)) for d in h * np.eye(2)]
    jacobian = np.column_stack(columns) / h
    action = -gain * np.linalg.pinv(jacobian, rcond=0.05) @ error / speed_limit
    return action / max(1.0, np.abs(action).max())
