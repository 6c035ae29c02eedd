"""What the controller and people see is in the base frame of Universal Robots."""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.envs.ur5 import controller
from hesrl.envs.ur5.kinematics import elbow_wrist_tool, forward, in_base_frame
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import SETTINGS, commands, emulate, pause, reacher
from tests.envs.ur5.test_kinematics import frames


def test_elbow_wrist_and_tool_are_those_of_the_transformations():
    q = np.random.default_rng(2).uniform(-np.pi, np.pi, (20, 6))
    places = in_base_frame(elbow_wrist_tool(q))
    for angles, (elbow, wrist, tool) in zip(q, places, strict=True):
        all_frames = frames(angles)
        np.testing.assert_allclose(elbow, all_frames[1][:3, 3], atol=1e-12)
        # The wrist's first joint ends where the fourth frame begins.
        np.testing.assert_allclose(wrist, all_frames[3][:3, 3], atol=1e-12)
        np.testing.assert_allclose(tool, all_frames[5][:3, 3], atol=1e-12)


def test_the_emulator_sends_the_base_frame(emulator):
    env = reacher(emulator)
    env.reset(seed=0)
    tool = env._link.state.tool_vector_actual[:3]
    np.testing.assert_allclose(tool, [0.1041, -0.0194, 0.77], atol=5e-4)
    env.close()


# Of a gripper that is set at the pendant, and of less than the calibration of an arm.
@pytest.mark.parametrize(("offset", "refused"), [(0.15, True), (0.006, True), (0.004, False)])
def test_another_tool_is_refused_with_both_places(linked, controller, offset, refused):
    controller.control(f"tool_offset {offset}")
    pause(controller, 0.1)
    if not refused:
        linked.reset(seed=0)
        return
    z = 0.77 + offset
    with pytest.raises(
        EnvironmentFault,
        match=rf"has the tool at \(0.1041, -0.0194, {z:.4f}\) m.*give \(0.1041, -0.0194, 0.7700\) "
        rf"m, {1e3 * offset:.0f} mm away: another arm, a tool",
    ):
        linked.reset()
    assert controller.state()["last_command"] in (None, "stopj(a=3.000000000)")


def test_another_frame_is_refused(monkeypatch):
    monkeypatch.setattr(controller, "in_base_frame", np.asarray)
    with emulate() as emulator:
        env = reacher(emulator)
        with pytest.raises(EnvironmentFault, match=r"212 mm away.*or another frame; nothing moves"):
            env.reset()
        assert not commands(emulator, "movej")
    assert forward(SETTINGS.q_ref)[0] < 0
