"""How the link to the controller is chosen, with and without SenseAct."""

from __future__ import annotations

import multiprocessing
import sys

import gymnasium as gym
import pytest

from hesrl.envs.mujoco import make_env
from hesrl.envs.ur5 import senseact
from hesrl.envs.ur5.real import UR5ReacherReal
from hesrl.errors import UserError

ENV_ID = "hesrl/UR5ReacherReal-v0"


@pytest.fixture
def without_senseact(monkeypatch):
    """As if SenseAct were not installed."""
    monkeypatch.setitem(sys.modules, "senseact", None)
    for name in [name for name in sys.modules if name.startswith(("senseact.", LINK))]:
        monkeypatch.delitem(sys.modules, name)


LINK = "hesrl.envs.ur5.senseact_"


def test_the_driver_is_the_default(without_senseact):
    env = make_env(ENV_ID, host="127.0.0.1").unwrapped
    assert type(env) is type(make_env(ENV_ID, host="127.0.0.1", backend="driver").unwrapped)
    assert type(env) is UR5ReacherReal


def test_an_unknown_backend_is_refused():
    with pytest.raises(UserError, match=r"^backend 'ros': must be 'driver', 'rtde' or 'sense"):
        make_env(ENV_ID, host="127.0.0.1", backend="ros")


def test_without_senseact_the_error_says_how_to_install_it(without_senseact):
    with pytest.raises(UserError, match=r"not installed; pip install .*git") as error:
        make_env(ENV_ID, host="127.0.0.1", backend="senseact")
    assert "\n" not in str(error.value)


def test_a_system_without_fork_is_refused(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UserError, match=r"needs fork.*use 'driver'"):
        make_env(ENV_ID, host="127.0.0.1", backend="senseact")


def test_gymnasium_is_gym_for_senseact_only(monkeypatch):
    monkeypatch.delitem(sys.modules, "gym", raising=False)
    monkeypatch.setitem(sys.modules, "gym.spaces", "of somebody else")
    with senseact.gymnasium_as_gym():
        from gym.spaces import Box

        assert Box is gym.spaces.Box
    assert "gym" not in sys.modules and sys.modules["gym.spaces"] == "of somebody else"


def test_gym_is_as_before_after_a_failure():
    before = {name: module for name, module in sys.modules.items() if name.startswith("gym.")}
    with pytest.raises(ImportError), senseact.gymnasium_as_gym():
        raise ImportError
    assert before == {
        name: module for name, module in sys.modules.items() if name.startswith("gym.")
    }
