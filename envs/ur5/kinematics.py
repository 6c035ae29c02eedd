"""Where the tool of a UR5 or a UR5e is, and the joint angles that bring it to a place.

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

Pair = tuple[float, float]
"""Of the shoulder and the elbow, or y and z."""
SAME_PLACE = 0.005
"""Largest distance between the controller's tool and ours at the same joint angles (m)."""


class Command(NamedTuple):
    """What the arm is asked to do until the next command."""

    shoulder: float
    """Speed of the shoulder (rad/s)."""
    elbow: float
    """Speed of the elbow (rad/s)."""
    acceleration: float
    """Acceleration of the joint whose speed changes most (rad/s²)."""


class ArmModel(NamedTuple):
    """Denavit and Hartenberg's constants of an arm, as Universal Robots publish them."""

    name: str
    """What Universal Robots call it."""
    d1: float
    """Offset along the axis of joint 1 (m); the others likewise."""
    a2: float
    """Length of the upper arm (m); its sign, and that of ``a3``, are part of the convention."""
    a3: float
    """Length of the forearm (m)."""
    d4: float
    d5: float
    d6: float

    def forward(self, q: ArrayLike) -> NDArray[np.float64]:
        """Return the tool's position (…, 3), x, y and z in m, for joint angles (…, 6) in rad."""
        (sine, cosine), _, _, (rho, z, k) = self._in_plane(q)
        return np.stack([cosine * rho - sine * k, cosine * k + sine * rho, z], axis=-1)

    def elbow_wrist_tool(self, q: ArrayLike) -> NDArray[np.float64]:
        """Return the positions of elbow, wrist and tool (…, 3, 3), m, for angles (…, 6) in rad."""
        (sine, cosine), *places = self._in_plane(q)
        rho, z, k = (np.stack(numbers) for numbers in zip(*places, strict=True))
        x, y = cosine * rho - sine * k, cosine * k + sine * rho
        return np.moveaxis(np.stack([x, y, z]), (0, 1), (-1, -2))

    def _in_plane(self, q: ArrayLike) -> list[tuple[NDArray[np.float64], ...]]:
        """Return s₁ and c₁, and ρ, z and k (m) of elbow, of wrist and of tool."""
        _, d1, a2, a3, d4, d5, d6 = self
        q1, q2, q3, q4, q5, _ = np.moveaxis(np.asarray(q, dtype=np.float64), -1, 0)
        b = q2 + q3 + q4
        s5, sb, cb = np.sin(q5), np.sin(b), np.cos(b)
        rho_elbow, z_elbow = -a2 * np.cos(q2), d1 + a2 * np.sin(q2)
        rho_wrist, z_wrist = rho_elbow - a3 * np.cos(q2 + q3), z_elbow + a3 * np.sin(q2 + q3)
        return [
            (np.sin(q1), np.cos(q1)),
            (rho_elbow, z_elbow, np.zeros_like(q1)),
            (rho_wrist, z_wrist, np.full_like(q1, d4)),
            (
                rho_wrist - d5 * sb + d6 * s5 * cb,
                z_wrist - d5 * cb - d6 * s5 * sb,
                d4 + d6 * np.cos(q5),
            ),
        ]


UR5 = ArmModel("UR5", d1=0.089159, a2=-0.425, a3=-0.39225, d4=0.10915, d5=0.09465, d6=0.0823)
UR5E = ArmModel("UR5e", d1=0.1625, a2=-0.425, a3=-0.3922, d4=0.1333, d5=0.0997, d6=0.0996)
ARM_MODELS = {"ur5": UR5, "ur5e": UR5E}
"""The arms by the value of the option ``arm_model``."""


def in_base_frame(places: ArrayLike) -> NDArray[np.float64]:
    """Return places (…, 3), m, in the base frame of Universal Robots, or from it into ours.

    The task has SenseAct's frame, which is turned by half a turn around z.
    """
    return np.asarray(places, dtype=np.float64) * [-1.0, -1.0, 1.0]


class Plane:
    """An arm whose shoulder and elbow move while the other joints stay.

    Args:
        q_ref: Joint angles (6,), rad; the angles of shoulder and elbow do not matter.
        model: The arm.

    Attributes:
        model: The arm.
    """

    def __init__(self, q_ref: ArrayLike, model: ArmModel) -> None:
        q1, _, _, q4, q5, _ = np.asarray(q_ref, dtype=np.float64).tolist()
        self.model = model
        _, self._d1, self._a2, self._a3, d4, d5, d6 = model
        self._a = -self._a3 - d5 * math.sin(q4) + d6 * math.sin(q5) * math.cos(q4)
        self._b = -d5 * math.cos(q4) - d6 * math.sin(q5) * math.sin(q4)
        self._s1, self._c1 = math.sin(q1), math.cos(q1)
        self._k = d4 + d6 * math.cos(q5)
        self._y0 = self._c1 * self._k

    @property
    def shoulder(self) -> Pair:
        """Place of the shoulder, y and z (m)."""
        return self._y0, self._d1

    @property
    def reach(self) -> float:
        """Largest distance of the tool from the shoulder (m)."""
        return -self._a2 + math.hypot(self._a, self._b)

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
        rho = -self._a2 * c2 + self._a * c23 + self._b * s23
        z = self._d1 + self._a2 * s2 - self._a * s23 + self._b * c23
        return self._y0 + self._s1 * rho, z

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
        (shoulder, elbow), a2, a3 = q, self._a2, self._a3
        minus_rho = a2 * math.cos(shoulder) + a3 * math.cos(shoulder + elbow) - dy / self._s1
        height = a2 * math.sin(shoulder) + a3 * math.sin(shoulder + elbow) + dz
        c3 = (minus_rho**2 + height**2 - a2**2 - a3**2) / (2 * a2 * a3)
        if abs(c3) > 1:
            return None
        new_elbow = math.copysign(math.acos(c3), math.remainder(elbow, math.tau))
        link = math.atan2(a3 * math.sin(new_elbow), a2 + a3 * c3)
        new_shoulder = math.atan2(height, minus_rho) - link
        return _nearest(new_shoulder, shoulder), _nearest(new_elbow, elbow)

    def links(self, q: Pair) -> NDArray[np.float64]:
        """Return y and z of base, shoulder, elbow, wrist and tool (5, 2), m, drawn in the plane.

        Args:
            q: Angles of shoulder and elbow, rad.
        """
        (shoulder, elbow), d1, a2, a3 = q, self._d1, self._a2, self._a3
        forearm = shoulder + elbow
        rho_elbow, z_elbow = -a2 * math.cos(shoulder), d1 + a2 * math.sin(shoulder)
        rho_wrist, z_wrist = rho_elbow - a3 * math.cos(forearm), z_elbow + a3 * math.sin(forearm)
        rho = np.array([0.0, 0.0, rho_elbow, rho_wrist])
        z = np.array([0.0, d1, z_elbow, z_wrist])
        joints = np.column_stack([self._y0 + self._s1 * rho, z])
        return np.vstack([joints, self.position(*q)])


def _nearest(angle: float, to: float) -> float:
    """Return the angle that differs by whole turns and is nearest to another one (rad)."""
    return to + math.remainder(angle - to, math.tau)


def other_place(q: NDArray[np.float64], said: NDArray[np.float64], model: ArmModel) -> str | None:
    """Return where the tool is according to a controller and to its joint angles, if they differ.

    Args:
        q: The joint angles (6,), rad.
        said: Where the controller has the tool (3,), m.
        model: The arm that is expected.
    """
    places = {name: in_base_frame(m.forward(q)) for name, m in ARM_MODELS.items()}
    away = {name: float(np.linalg.norm(said - place)) for name, place in places.items()}
    expected = next(name for name, known in ARM_MODELS.items() if known is model)
    if away[expected] <= SAME_PLACE:
        return None
    nearest = min(away, key=away.__getitem__)
    cause = (
        "another arm, a tool (TCP) that is set at the pendant, or another frame"
        if away[nearest] > SAME_PLACE
        else f"it is where a {ARM_MODELS[nearest].name}'s would be: give arm_model={nearest} "
        f"(--env-options arm_model={nearest}, or --arm-model {nearest})"
    )
    return (
        f"it has the tool at ({_place(said)}) m, but the joint angles of a {model.name} without a "
        f"tool give ({_place(places[expected])}) m, {1e3 * away[expected]:.0f} mm away: {cause}; "
        "nothing moves"
    )


def _place(place: NDArray[np.float64]) -> str:
    return ", ".join(f"{number:.4f}" for number in place)
