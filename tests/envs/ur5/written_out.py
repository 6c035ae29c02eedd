"""The simulated arm with the box guard once more, from their descriptions.

Six joints and the matrices of Denavit and Hartenberg instead of an arm of two links in a plane, and
Newton's method instead of a formula for the point to return to.
"""

from __future__ import annotations

import numpy as np

TICK, DELAY, LAG = 0.008, 2, 0.010
LINKS = [  # a, d, α of a UR5
    (0, 0.089159, np.pi / 2), (-0.425, 0, 0), (-0.39225, 0, 0),
    (0, 0.10915, np.pi / 2), (0, 0.09465, -np.pi / 2), (0, 0.0823, 0),
]  # fmt: skip


def tool(q):
    """Return y and z of the tool in the task's frame (m) for angles (6,)."""
    pose = np.eye(4)
    for angle, (a, d, alpha) in zip(q, LINKS, strict=True):
        c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        pose = pose @ np.array(
            [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        )
    return np.array([-pose[1, 3], pose[2, 3]])


class WrittenOut:
    """One arm at the start, its box guard, and no other guard.

    Args:
        settings: The numbers of the task.
        brake: Least deceleration of the guard (rad/s²).
    """

    def __init__(self, settings, brake):
        self.settings, self.brake = settings, brake
        self.q_target = self.q = np.array(settings.q_ref)[1:3]
        self.qd_target = self.qd = np.zeros(2)
        self.waiting = [(np.zeros(2), settings.acceleration)] * DELAY
        self.way_back = None

    def six(self, pair, turned=0.0):
        """Return all angles; the wrist turns back by what shoulder and elbow have turned."""
        q = np.array(self.settings.q_ref)
        q[1:3] = pair
        q[3] -= turned
        return q

    def return_point(self):
        """Return the angles with which the tool is just inside, and has not been turned."""
        low, high = np.array([self.settings.box_low, self.settings.box_high])
        buffer, pair = self.settings.box_buffer, self.q_target.copy()
        place = lambda p: tool(self.six(p, (p - self.q_target).sum()))  # noqa: E731
        goal = place(pair).clip(low + buffer, high - buffer)
        for _ in range(20):
            columns = [(place(pair + h) - place(pair - h)) / 2e-6 for h in 1e-6 * np.eye(2)]
            pair = pair + np.linalg.solve(np.transpose(columns), goal - place(pair))
        return pair

    def command(self, action):
        """Return speeds and acceleration for an action."""
        settings, place = self.settings, tool(self.six(self.q_target))
        if (place >= settings.box_low).all() and (place <= settings.box_high).all():
            self.way_back = None
            return np.array(action) * settings.speed_limit, settings.acceleration
        if self.way_back is None:
            self.way_back = self.return_point(), np.abs(self.qd).max()
        point, exit_speed = self.way_back
        a = np.clip(np.abs(self.qd).max() * exit_speed / 0.05, self.brake, 5.0)
        return 0.1 * (point - self.q) / np.linalg.norm(point - self.q), a

    def step(self, action):
        """Act for 40 ms and return the angles of shoulder and elbow."""
        command = self.command(action)
        for _ in range(5):
            self.waiting.append(command)
            speeds, a = self.waiting.pop(0)
            change = speeds - self.qd_target
            self.qd_target = self.qd_target + change * min(
                1, a * TICK / np.abs(change).max(initial=1e-12)
            )
            self.q_target = self.q_target + TICK * self.qd_target
            follow = 1 - np.exp(-TICK / LAG)
            self.q = self.q + follow * (self.q_target - self.q)
            self.qd = self.qd + follow * (self.qd_target - self.qd)
        return self.q
