"""SenseAct's guard itself, in virtual time, in place of ours in the simulation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hesrl.envs.ur5 import senseact
from hesrl.envs.ur5.commands.guard_check import random_actions
from hesrl.envs.ur5.guards import Guards
from hesrl.envs.ur5.kinematics import Command
from hesrl.envs.ur5.simulation import UR5ReacherSim

pytest.importorskip("senseact.devices", reason=f"needs SenseAct: {senseact.INSTALL}")
pytestmark = pytest.mark.senseact


class SenseActGuard:
    """Calls SenseAct's method on all that it reads and writes."""

    def __init__(self, settings):
        with senseact.gymnasium_as_gym():
            from senseact.devices.ur.ur_setups import setups
            from senseact.envs.ur.reacher_env import ReacherEnv
        setup, joints = setups["UR5_default"], list(settings.joints)
        self.handle, self.active = ReacherEnv._handle_bounds_speedj, None
        self.env = env = SimpleNamespace(
            _joint_indices=joints, _q_ref=setup["q_ref"], _ik_params=setup["ik_params"],
            _end_effector_low=setup["end_effector_low"],
            _end_effector_high=setup["end_effector_high"], _angles_low=setup["angles_low"][joints],
            _angles_high=setup["angles_high"][joints], _box_bound_buffer=setup["box_bound_buffer"],
            _angle_bound_buffer=setup["angle_bound_buffer"], _first_deriv_=np.zeros(2),
        )  # fmt: skip
        env._check_bound = lambda q: ReacherEnv._check_bound(env, q)

    def reset(self):
        self.env.return_point, self.env.angle_return_point = None, False
        self.env._cmd_prev_ = np.zeros(2)

    def __call__(self, command, q_target, q, qd, qd_target):
        env, packet = self.env, np.zeros(9)
        for name, rest, numbers in (
            ("_qt_", env._q_ref, q_target), ("_q_", env._q_ref, q), ("_qd_", np.zeros(6), qd),
        ):  # fmt: skip
            setattr(env, name, np.array([rest]))
            getattr(env, name)[0, 1:3] = numbers
        env._cmd_, env._speedj_packet, env._actuation_packet_ = np.array(command[:2]), packet, {}
        packet[2:4], packet[-2] = command[:2], command.acceleration
        self.handle(env)
        return Command(packet[2], packet[3], packet[-2])


def test_our_guard_brings_the_arm_back_as_senseacts_does():
    """Beyond half a turn of the shoulder SenseAct turns the elbow to its other side instead."""
    settings = {"speed_limit": 1.0, "acceleration": 2.0}
    ours, theirs = UR5ReacherSim(**settings), UR5ReacherSim(**settings)
    ours._task.guards = Guards(ours.settings, ours._task.plane, brake=2.0)
    ours._task.guards._foresight.obstacle = lambda *arguments: None
    theirs._task.guards = SenseActGuard(theirs.settings)
    differences, of_returns, beyond = [], [], []
    for seed in range(150):
        returns, angles = np.zeros(2), []
        for env in (ours, theirs):
            env.reset(seed=seed)
        for action in random_actions(np.random.default_rng(seed), 100):
            returns += [env.step(action)[1] for env in (ours, theirs)]
            angles.append((ours._q, theirs._q))
        differences.append(np.abs(np.subtract(*np.moveaxis(angles, 1, 0))).max())
        of_returns.append(abs(returns[0] - returns[1]))
        beyond.append(np.min(angles, axis=0)[1, 0] < -np.pi)
    within = ~np.array(beyond)
    assert within.sum() > 100 and np.median(np.array(differences)[within]) < 1e-3
    assert np.array(differences)[within].max() < 0.06 and np.array(of_returns)[within].max() < 2
    assert max(differences) > 0.3
