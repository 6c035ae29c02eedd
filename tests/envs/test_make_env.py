"""Making environments, refusing others, and what MuJoCo says meanwhile."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Text, Tuple

from hesrl.envs.mujoco import make_env
from hesrl.errors import UserError

VECTOR = Box(-1.0, 1.0, (3,))
BALL = "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>"


class Spaces(gym.Env):
    """An environment of which only the spaces matter."""

    def __init__(self, observations=VECTOR, actions=VECTOR):
        self.observation_space, self.action_space = observations, actions


class Unstable(Spaces):
    """MuJoCo warns when this one is made."""

    def __init__(self):
        super().__init__()
        data = mujoco.MjData(model := mujoco.MjModel.from_xml_string(BALL))
        data.qpos[0] = np.nan
        mujoco.mj_step(model, data)


@pytest.fixture
def register(monkeypatch):
    def add(entry_point, **kwargs):
        spec = EnvSpec("Test-v0", entry_point=entry_point, kwargs=kwargs)
        monkeypatch.setitem(gym.registry, "Test-v0", spec)

    return add


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("HalfCheeta-v5", "no environment 'HalfCheeta-v5': did you mean HalfCheetah-v5?"),
        ("halfcheetah-v5", "no environment 'halfcheetah-v5': did you mean HalfCheetah-v5?"),
        ("HalfCheetah-v9", "no environment 'HalfCheetah-v9': did you mean HalfCheetah-v5?"),
        ("half cheetah", "no environment 'half cheetah': did you mean HalfCheetah-v5?"),
        ("a b c", "no environment 'a b c': write it as Name-v0 or module:Name-v0"),
        ("", "no environment '': write it as Name-v0 or module:Name-v0"),
        ("a:b:c-v0", "no environment 'a:b:c-v0': write it as Name-v0 or module:Name-v0"),
        ("zzz:Qqq-v0", "no environment 'zzz:Qqq-v0': No module named 'zzz'"),
        ("zzz:Hoper-v5", "no environment 'zzz:Hoper-v5': No module named 'zzz'"),
        ("zzz/Qqq-v0", "no environment 'zzz/Qqq-v0': Namespace zzz not found"),
        ("Blackjack-v1", "environment Blackjack-v1 has observations Tuple(Discrete(32), Discrete("),
    ],
)
def test_what_cannot_be_made_is_named_in_one_line(env_id, message):
    with pytest.raises(UserError) as caught:
        make_env(env_id)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("Hopper-v1", "no environment 'Hopper-v1': did you mean Hopper-v5?"),
        ("Hopper-v3", "cannot make environment Hopper-v3: The mujoco v2 and v3 based"),
    ],
)
def test_a_version_of_the_past_is_named_in_one_line(env_id, message):
    with pytest.raises(UserError) as caught, pytest.warns(DeprecationWarning, match="out of date"):
        make_env(env_id)
    assert str(caught.value).startswith(message)


def test_a_missing_package_is_named(register):
    def create():
        raise gym.error.DependencyNotInstalled("zzz is not installed:\nrun pip install zzz")

    register(create)
    with pytest.raises(UserError, match="environment Test-v0: zzz is not installed: run pip"):
        make_env("Test-v0")


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({"observations": Box(0, 1, (8, 8, 3))}, r"has observations Box\(0.0, 1.0, \(8, 8"),
        ({"observations": Box(0, 255, (8, 8), np.uint8)}, r"has observations Box\(0, 255, \(8"),
        ({"observations": Tuple([VECTOR])}, r"has observations Tuple\(Box"),
        ({"actions": Dict(a=VECTOR)}, r"has actions Dict\(.*\); only a vector .* are supported"),
        (
            {"observations": Dict(a=VECTOR, b=Dict(c=Text(3)))},
            r"has observations with the entry b.c: Text\(.*\); only a vector .* are supported",
        ),
        ({"observations": Dict(a=Box(0, 1, (8, 8)))}, r"has observations with the entry a: Box"),
        (
            {"observations": Dict(a=Dict(b=Box(0, 255, (40, 40, 3), np.uint8)))},
            r"has observations with the entry a.b: Box.* \(not in a Dict within a Dict\) and a Di",
        ),
        ({"observations": Dict()}, r"has observations Dict\(\); only a vector"),
        ({"actions": Box(-1, 1, (2, 2))}, r"has actions Box\(-1.0, 1.0, \(2, 2\)"),
        (
            {"actions": Box(np.arange(40, dtype="f").reshape(1, 40), np.inf)},
            "has actions Box",
        ),
    ],
)
def test_other_spaces_are_refused_in_one_line(register, spaces, message):
    register(Spaces, **spaces)
    with pytest.raises(UserError, match=f"environment Test-v0 {message}") as caught:
        make_env("Test-v0")
    assert "\n" not in str(caught.value)


def test_deprecated_attributes_in_models_make_no_noise(tmp_path):
    code = "from hesrl.envs.mujoco import make_env; make_env('HalfCheetah-v5').reset(seed=0)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []


UNSTABLE = """
import numpy as np
from hesrl.envs.mujoco import make_env
env = make_env("InvertedPendulum-v5")
for _ in range(3):
    env.reset(seed=0)
    env.unwrapped.data.qvel[:] = 1e12
    env.step(np.zeros(1))
"""


def test_a_simulation_that_is_unstable_says_so_once_and_leaves_no_file(tmp_path):
    command = [sys.executable, "-c", UNSTABLE]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith("MuJoCo, once: Nan, Inf or huge value in QVEL at DOF 0.")
    assert result.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_other_messages_of_mujoco_become_warnings(register):
    register(Unstable)
    with pytest.warns(RuntimeWarning, match="simulation is unstable") as caught:
        make_env("Test-v0")
    assert caught[0].filename == __file__


def test_a_message_that_is_an_error_raises_rather_than_ending_the_process(register):
    register(Unstable)
    with pytest.raises(RuntimeWarning, match="simulation is unstable"):
        make_env("Test-v0")


def test_the_message_handler_of_the_user_is_put_back():
    messages = []
    mujoco.set_mju_user_warning(messages.append)
    try:
        make_env("HalfCheetah-v5")
        with pytest.raises(UserError):
            make_env("Nothing-v0")
        assert mujoco.get_mju_user_warning() == messages.append
    finally:
        mujoco.set_mju_user_warning(None)
    assert messages == []
