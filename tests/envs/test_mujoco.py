"""Making environments, refusing others, and MuJoCo's state to the bit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Text, Tuple
from gymnasium.utils.env_checker import check_env

from hesrl.envs.mujoco import derived_names, env_states, make_env, set_env_states
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint

MUJOCO_ENVS = [
    "Ant-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
]
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


def rollout(envs, actions):
    """All that the steps give, as plain values that == compares."""
    steps = [envs.step(action) for action in actions]
    return [
        [value.tolist() if isinstance(value, np.ndarray) else value for value in step]
        for step in steps
    ]


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_a_saved_run_goes_on_to_the_bit(tmp_path, monkeypatch, env_id):
    """In the middle of an episode and over the ends of that one and others."""
    monkeypatch.setattr(gym.registry[env_id], "max_episode_steps", 120)
    envs = NormalizedEnvs(env_id, 2, seed=1, gamma=0.99)
    envs.reset()
    shape = (250, 2, *envs.action_space.shape)
    actions = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    rollout(envs, actions[:50])
    save_checkpoint(tmp_path / "checkpoint.pt", envs.state_dict())
    obs = envs.observations
    expected = rollout(envs, actions[50:])

    resumed = NormalizedEnvs(env_id, 2, seed=99, gamma=0.99)
    assert resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert np.array_equal(resumed.observations, obs)
    assert rollout(resumed, actions[50:]) == expected
    assert {episode.env_index for *_, episodes, _ in expected for episode in episodes} == {0, 1}


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_every_derived_array_is_restored(env_id):
    env, other = make_env(env_id), make_env(env_id)
    env.reset(seed=0)
    other.reset(seed=1)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape)):
        env.step(action)
    set_env_states([other], env_states([env]))
    data, restored = env.unwrapped.data, other.unwrapped.data
    for name in derived_names(data):
        assert np.array_equal(getattr(restored, name), getattr(data, name)), name
    assert restored.time == data.time
    # They are those of the last step, not of the position; only contacts are of the position.
    mujoco.mj_forward(env.unwrapped.model, data)
    assert not np.array_equal(restored.xpos, data.xpos)
    assert restored.ncon == data.ncon


@pytest.mark.parametrize("env_id", MUJOCO_ENVS)
def test_derived_arrays_are_those_that_mujoco_declares_with_a_fixed_size(env_id):
    header = Path(mujoco.__file__).parent / "include/mujoco/mjxmacro.h"
    fixed = header.read_text().split("#define MJDATA_POINTERS ")[1].split("#define")[0]
    declared = set(re.findall(r"X\w*\s*\(\s*mjtNum\s*,\s*(\w+)", fixed))
    data = make_env(env_id).unwrapped.data
    assert {"qpos", "cfrc_ext", "site_xpos", "ten_length"} < declared
    assert set(derived_names(data)) == {name for name in declared if getattr(data, name).size}


def test_state_is_a_snapshot_of_plain_values(tmp_path):
    env = make_env("Reacher-v5")
    env.reset(seed=0)
    state = env_states([env])
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    env.step(env.action_space.high)
    env.reset()
    saved = load_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(state["physics"], saved["physics"])
    assert repr(state) == repr(saved)


def test_attributes_of_an_environment_and_its_wrappers_are_restored():
    env, other = make_env("Hopper-v5", max_episode_steps=9), make_env("Hopper-v5")
    for made in (env, other):
        made.reset(seed=0)
    inner = env.unwrapped
    inner.count, inner.flag, inner.ratio = 3, True, 0.1
    inner.scalar, inner.goal = np.float32(0.2), np.array([1, 2])
    env.step(env.action_space.high)
    set_env_states([other], env_states([env]))
    copy = other.unwrapped
    assert (copy.count, copy.flag, copy.ratio, copy.scalar) == (3, True, 0.1, np.float32(0.2))
    assert isinstance(copy.scalar, np.float32) and copy.goal.tolist() == [1, 2]
    assert copy.goal is not inner.goal
    assert (other._elapsed_steps, other._max_episode_steps) == (1, 9)


def test_an_environment_without_mujoco_has_no_state():
    assert env_states([make_env("Pendulum-v1")]) is None


@pytest.mark.filterwarnings(
    "ignore:.*A Box observation space m.*imum value is -?infinity",
    "ignore:.*is different from the unwrapped version",
    "ignore:.*we recommend using a symmetric and normalized space",
)
@pytest.mark.parametrize("env_id", [*MUJOCO_ENVS, "Pendulum-v1"])
def test_gymnasium_finds_no_fault(tmp_path, monkeypatch, env_id):
    monkeypatch.chdir(tmp_path)  # The checker makes the environment again, and MuJoCo logs there.
    check_env(make_env(env_id), skip_render_check=True)


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
