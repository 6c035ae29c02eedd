"""Where the tool of a UR5 is, and the joint angles that bring it to a place.

With Denavit and Hartenberg's constants, cᵢ and sᵢ the cosine and sine of joint i counted from 1,
and b = q₂ + q₃ + q₄:

    ρ = −a₂c₂ − a₃cos(q₂ + q₃) − d₅sin b + d₆s₅cos b,      k = d₄ + d₆c₅,
    x = −s₁k + c₁ρ,    y = c₁k + s₁ρ,
    z = d₁ + a₂s₂ + a₃sin(q₂ + q₃) − d₅cos b − d₆s₅sin b.

When only the shoulder (q₂) and the elbow (q₃) move, this is an arm of two rigid links in a plane:

    ρ = −a₂c₂ + A cos(q₂ + q₃) + B sin(q₂ + q₃),         A = −a₃ − d₅s₄ + d₆s₅c₄,
    z = d₁ + a₂s₂ − A sin(q₂ + q₃) + B cos(q₂ + q₃),     B = −d₅c₄ − d₆s₅s₄.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

D1, D4, D5, D6 = 0.089159, 0.10915, 0.09465, 0.0823
"""Offsets along the joints' axes (m)."""
A2, A3 = -0.425, -0.39225
"""Lengths of the upper arm and the forearm (m); their signs are part of the convention."""

Pair = tuple[float, float]
"""Of the shoulder and the elbow, or y and z."""


class Command(NamedTuple):
    """What the arm is asked to do until the next command."""

    shoulder: float
    """Speed of the shoulder (rad/s)."""
    elbow: float
    """Speed of the elbow (rad/s)."""
    acceleration: float
    """Acceleration of the joint whose speed changes most (rad/s²)."""


def forward(q: ArrayLike) -> NDArray[np.float64]:
    """Return the tool's position (…, 3), x, y and z in m, for joint angles (…, 6) in rad."""
    places: NDArray[np.float64] = elbow_wrist_tool(q)[..., 2, :]
    return places


def elbow_wrist_tool(q: ArrayLike) -> NDArray[np.float64]:
    """Return the positions of elbow, wrist and tool (…, 3, 3), m, for angles (…, 6) in rad."""
    q1, q2, q3, q4, q5, _ = np.moveaxis(np.asarray(q, dtype=np.float64), -1, 0)
    b = q2 + q3 + q4
    s5 = np.sin(q5)
    rho_elbow, z_elbow = -A2 * np.cos(q2), D1 + A2 * np.sin(q2)
    rho_wrist, z_wrist = rho_elbow - A3 * np.cos(q2 + q3), z_elbow + A3 * np.sin(q2 + q3)
    rho_tool = rho_wrist - D5 * np.sin(b) + D6 * s5 * np.cos(b)
    z_tool = z_wrist - D5 * np.cos(b) - D6 * s5 * np.sin(b)
    rho = np.stack([rho_elbow, rho_wrist, rho_tool])
    z = np.stack([z_elbow, z_wrist, z_tool])
    k = np.stack([np.zeros_like(q1), np.full_like(q1, D4), D4 + D6 * np.cos(q5)])
    x, y = -np.sin(q1) * k + np.cos(q1) * rho, np.cos(q1) * k + np.sin(q1) * rho
    return np.moveaxis(np.stack([x, y, z]), (0, 1), (-1, -2))


def in_base_frame(places: ArrayLike) -> NDArray[np.float64]:
    """Return places (…, 3), m, in the base frame of Universal Robots, or from it into ours.

    The task has SenseAct's frame, which is turned by half a turn around z.
    """
    return np.asarray(places, dtype=np.float64) * [-1.0, -1.0, 1.0]


class Plane:
    """A UR5 whose shoulder and elbow move while the other joints stay.

    Args:
        q_ref: Joint angles (6,), rad; the angles of shoulder and elbow do not matter.
    """

    def __init__(self, q_ref: ArrayLike) -> None:
        q1, _, _, q4, q5, _ = np.asarray(q_ref, dtype=np.float64).tolist()
        self._a = -A3 - D5 * math.sin(q4) + D6 * math.sin(q5) * math.cos(q4)
        self._b = -D5 * math.cos(q4) - D6 * math.sin(q5) * math.sin(q4)
        self._s1, self._c1 = math.sin(q1), math.cos(q1)
        self._k = D4 + D6 * math.cos(q5)
        self._y0 = self._c1 * self._k

    @property
    def shoulder(self) -> Pair:
        """Place of the shoulder, y and z (m)."""
        return self._y0, D1

    @property
    def reach(self) -> float:
        """Largest distance of the tool from the shoulder (m)."""
        return -A2 + math.hypot(self._a, self._b)

    @property
    def x_range(self) -> Pair:
        """Smallest and largest x of the tool (m)."""
        middle, most = -self._s1 * self._k, abs(self._c1) * self.reach
        return middle - most, middle + most

    def position(self, shoulder: float, elbow: float) -> Pair:
        """Return y and z of the tool (m).

        Args:
            shoulder: Angle of the shoulder (rad).
            elbow: Angle of the elbow (rad).
        """
        c2, s2 = math.cos(shoulder), math.sin(shoulder)
        c23, s23 = math.cos(shoulder + elbow), math.sin(shoulder + elbow)
        rho = -A2 * c2 + self._a * c23 + self._b * s23
        return self._y0 + self._s1 * rho, D1 + A2 * s2 - self._a * s23 + self._b * c23

    def shifted(self, q: Pair, dy: float, dz: float) -> Pair | None:
        """Return the angles that move the tool in the plane without turning it.

        The wrist moves as much as the tool then. It is the end of two links,
        (a₂ + a₃ exp(iq₃)) exp(iq₂) = −ρ + i (z − d₁), which this solves for q₂ and q₃.

        Args:
            q: Angles of shoulder and elbow now, rad.
            dy: Shift of the tool along y, m.
            dz: Shift along z, m.

        Returns:
            The angles on the elbow's present side, nearest to the present ones, or None where
            the arm is too short. The wrist would turn by as much as they do together, backwards.
        """
        shoulder, elbow = q
        minus_rho = A2 * math.cos(shoulder) + A3 * math.cos(shoulder + elbow) - dy / self._s1
        height = A2 * math.sin(shoulder) + A3 * math.sin(shoulder + elbow) + dz
        c3 = (minus_rho**2 + height**2 - A2**2 - A3**2) / (2 * A2 * A3)
        if abs(c3) > 1:
            return None
        new_elbow = math.copysign(math.acos(c3), math.remainder(elbow, math.tau))
        link = math.atan2(A3 * math.sin(new_elbow), A2 + A3 * c3)
        new_shoulder = math.atan2(height, minus_rho) - link
        return _nearest(new_shoulder, shoulder), _nearest(new_elbow, elbow)

    def links(self, q: Pair) -> NDArray[np.float64]:
        """Return y and z of base, shoulder, elbow, wrist and tool (5, 2), m, drawn in the plane.

        Args:
            q: Angles of shoulder and elbow, rad.
        """
        shoulder, elbow = q
        forearm = shoulder + elbow
        rho_elbow, z_elbow = -A2 * math.cos(shoulder), D1 + A2 * math.sin(shoulder)
        rho_wrist, z_wrist = rho_elbow - A3 * math.cos(forearm), z_elbow + A3 * math.sin(forearm)
        rho = np.array([0.0, 0.0, rho_elbow, rho_wrist])
        z = np.array([0.0, D1, z_elbow, z_wrist])
        joints = np.column_stack([self._y0 + self._s1 * rho, z])
        return np.vstack([joints, self.position(*q)])


def _nearest(angle: float, to: float) -> float:
    """Return the angle that differs by whole turns and is nearest to another one (rad)."""
    return to + math.remainder(angle - to, math.tau)
