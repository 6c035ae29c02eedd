"""What the controller and people see is in the base frame of Universal Robots."""

from __future__ import annotations

import numpy as np
import pytest

from hesrl.envs.ur5 import controller, real, start
from hesrl.envs.ur5.kinematics import ARM_MODELS, UR5, in_base_frame
from hesrl.envs.ur5.obedience import Watch
from hesrl.errors import EnvironmentFault
from tests.envs.ur5.emulated import (
    SETTINGS,
    STALE_AFTER,
    commands,
    emulate,
    goes_on,
    pause,
    reacher,
)
from tests.envs.ur5.test_kinematics import PUBLISHED, frames


@pytest.mark.parametrize("name", PUBLISHED)
def test_elbow_wrist_and_tool_are_those_of_the_transformations(name):
    q = np.random.default_rng(2).uniform(-np.pi, np.pi, (20, 6))
    places = in_base_frame(ARM_MODELS[name].elbow_wrist_tool(q))
    for angles, (elbow, wrist, tool) in zip(q, places, strict=True):
        all_frames = frames(angles, name)
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
    assert UR5.forward(SETTINGS.q_ref)[0] < 0


@pytest.mark.parametrize("backend", ["driver", "rtde"])
@pytest.mark.parametrize(("there", "here"), [("ur5", "ur5e"), ("ur5e", "ur5")])
def test_the_other_model_is_refused_with_the_option_that_fits(backend, there, here):
    with emulate() as emulator:
        emulator.controller.model = ARM_MODELS[there]
        env = reacher(emulator, backend, arm_model=here)
        name = ARM_MODELS[there].name
        with pytest.raises(
            EnvironmentFault,
            match=rf"joint angles of a {ARM_MODELS[here].name} without .* it is where a {name}'s "
            rf"would be: give arm_model={there} .*nothing moves",
        ):
            env.reset()
        assert not commands(emulator, "movej")


def test_a_ur5e_with_a_tool_is_refused_without_that_advice():
    with emulate() as emulator:
        emulator.controller.model = ARM_MODELS["ur5e"]
        emulator.control("tool_offset 0.1")
        with pytest.raises(EnvironmentFault, match="another arm, a tool"):
            reacher(emulator).reset()


@pytest.mark.parametrize("backend", ["driver", "rtde"])
def test_an_episode_at_an_e_series_controller(backend, monkeypatch):
    # A busy machine does not keep 500 cycles per second.
    for look in ("_clock", "clock_fault"):
        monkeypatch.setattr(Watch, look, lambda *arguments: None)
    for module in (start, real):
        monkeypatch.setattr(module, "PATIENCE", 60.0)
    with emulate(speed=1.0, e_series=True) as emulator:
        options = {"emulator_speed": 2.0, "stale_after": STALE_AFTER}
        env = reacher(emulator, backend, arm_model="ur5e", **options)
        assert goes_on(env)
        tool = in_base_frame(ARM_MODELS["ur5e"].forward(env._link.state.q_actual))
        np.testing.assert_allclose(env._link.state.tool_vector_actual[:3], tool, atol=1e-12)
        env.close()
