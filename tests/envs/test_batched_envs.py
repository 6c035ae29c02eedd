"""Stepping together, in threads: the numbers are Gymnasium's, to the bit."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv

from hesrl.bench.envs import ENV_IDS, compare
from hesrl.envs import batched_envs, mujoco_threads
from hesrl.envs.batched_envs import BatchedEnvs, why_not_batched
from hesrl.envs.mujoco import make_env
from hesrl.envs.mujoco_threads import SimulationError, Simulations
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import EnvironmentFault, UserError
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint

OPTIONS = {
    "Ant-v5": {"include_cfrc_ext_in_observation": False, "contact_force_range": (-0.1, 3.0)},
    "HalfCheetah-v5": {"exclude_current_positions_from_observation": False, "frame_skip": 3},
    "Hopper-v5": {"healthy_z_range": (0.9, 1.3), "healthy_state_range": (-2.0, 2.0)},
    "Humanoid-v5": {"include_cinert_in_observation": False, "contact_cost_range": (1e-3, 0.02)},
    "HumanoidStandup-v5": {"impact_cost_range": (1e-3, 0.1), "include_cvel_in_observation": False},
    "InvertedDoublePendulum-v5": {"healthy_reward": 3.0},
    "Pusher-v5": {"reward_near_weight": 0.7, "reward_control_weight": 0.3},
    "Reacher-v5": {"reward_dist_weight": 0.7, "reward_control_weight": 0.3},
    "Swimmer-v5": {"exclude_current_positions_from_observation": False},
    "Walker2d-v5": {"terminate_when_unhealthy": False, "ctrl_cost_weight": 0.3},
}


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_number_is_gymnasiums(env_id):
    """`hesrl bench envs` compares 1,000 steps."""
    differences, ends = compare(env_id, 120, max_episode_steps=90)
    assert differences == 0 and ends >= 3


@pytest.mark.parametrize("env_id", OPTIONS)
def test_the_settings_of_a_task_hold(env_id):
    differences, _ = compare(env_id, 40, progress=True, **OPTIONS[env_id])
    assert differences == 0


def play(envs, steps, seed=1):
    """All that the steps give, as plain values that == compares."""
    shape = (steps, len(envs.observations), *envs.action_space.shape)
    actions = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return [
        [value.tolist() if isinstance(value, np.ndarray) else value for value in envs.step(action)]
        for action in actions
    ]


def make(env_id="Hopper-v5", num_envs=5, seed=1, **settings):
    return NormalizedEnvs(env_id, num_envs, seed=seed, gamma=0.99, **settings)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Ant-v5"])
def test_neither_threads_nor_stepping_in_turn_change_a_number(env_id, monkeypatch):
    monkeypatch.setattr("hesrl.envs.batched_envs.cores", lambda: 8)
    runs = []
    for threads in (1, 2, 5, None):
        if threads is None:
            monkeypatch.setattr(batched_envs, "library", lambda: None)
        envs = make(env_id, env_threads=threads)
        assert (envs.together is None) == (threads is None)
        envs.reset()
        runs.append(play(envs, 60))
    assert all(run == runs[0] for run in runs)


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_saved_run_goes_on_to_the_bit(tmp_path, monkeypatch, env_id):
    monkeypatch.setattr(gym.registry[env_id], "max_episode_steps", 30)
    envs = make(env_id, 4, progress=True)
    envs.reset()
    play(envs, 10)
    save_checkpoint(tmp_path / "checkpoint.pt", envs.state_dict())
    expected = play(envs, 40)

    resumed = make(env_id, 4, progress=True, seed=99, env_threads=1)
    assert resumed.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt"))
    assert play(resumed, 40) == expected
    assert {episode.env_index for *_, episodes, _ in expected for episode in episodes} == {
        0,
        1,
        2,
        3,
    }


def test_a_checkpoint_goes_on_in_turn_as_well(monkeypatch):
    envs = make()
    envs.reset()
    play(envs, 10)
    state = envs.state_dict()
    expected = play(envs, 40)
    monkeypatch.setattr(batched_envs, "library", lambda: None)
    resumed = make(seed=99)
    assert resumed.together is None and resumed.load_state_dict(state)
    assert play(resumed, 40) == expected


def threads_of(envs):
    return None if envs.together is None else envs.together.threads


@pytest.mark.parametrize(
    ("num_envs", "wanted", "expected"),
    [(3, None, 1), (4, None, 4), (9, None, 8), (3, 1, 1), (9, 3, 3), (2, 8, 2), (9, 20, 8)],
)
def test_threads_are_as_many_as_cores_or_as_wanted(monkeypatch, num_envs, wanted, expected):
    monkeypatch.setattr("hesrl.envs.batched_envs.cores", lambda: 8)
    monkeypatch.setattr("hesrl.envs.batched_envs.cores_of_a_run", lambda: 8)
    envs = make("InvertedPendulum-v5", num_envs, env_threads=wanted)
    assert threads_of(envs) == expected


class Changed(gym.Wrapper):
    """Any wrapper."""


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (lambda: make_env("Pendulum-v1"), "PendulumEnv is none of Gymnasium's MuJoCo v5 tasks"),
        (lambda: make_env("Hopper-v4"), "HopperEnv is none of Gymnasium's MuJoCo v5 tasks"),
        (lambda: Changed(make_env("Hopper-v5")), "it is wrapped by Changed"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*The environment Hopper-v4 is out of date")
def test_what_cannot_step_in_threads_says_why(env, reason):
    assert why_not_batched(env()) == reason


def test_an_environment_that_shows_its_steps_steps_in_turn():
    env = make_env("Hopper-v5")
    env.unwrapped.render_mode = "human"
    assert why_not_batched(env) == "it shows every step"


def test_threads_for_what_steps_in_turn_are_refused(monkeypatch):
    with pytest.raises(
        UserError, match=r"--env-threads 2: Pendulum-v1 cannot step in threads, bec"
    ):
        make("Pendulum-v1", env_threads=2)
    assert make("Pendulum-v1", env_threads=1).together is None
    assert make("Reacher-v5", 3).together is None
    monkeypatch.setattr(batched_envs, "compiled_envs", lambda: None)
    with pytest.raises(UserError, match=r"because there is no C\+\+ compiler"):
        make(env_threads=2)
    assert make().together is None and make("Reacher-v5").together is not None
    monkeypatch.setattr(mujoco_threads.ctypes, "CDLL", lambda path: object())
    mujoco_threads.library.cache_clear()
    with pytest.raises(UserError, match=r"because MuJoCo is older than 4.0"):
        make(env_threads=2)
    mujoco_threads.library.cache_clear()


FAILS = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int] * 3)(lambda *_: 1)
"""In place of MuJoCo's step."""


@pytest.mark.parametrize("env_id", ["Ant-v5", "Reacher-v5"])
def test_a_simulation_that_fails_is_named(monkeypatch, env_id):
    envs = make(env_id)
    envs.reset()
    monkeypatch.setattr(Simulations, "failure", lambda _: SimulationError(3, "what MuJoCo says"))
    if envs.together.compiled is None:
        batch = envs.together._simulations
        batch._mujoco = SimpleNamespace(mjb_step=lambda *_: 1)
        envs.together._step = batch.stepper(1)
    else:
        envs.together.compiled.follow(step=ctypes.cast(FAILS, ctypes.c_void_p).value)
    message = rf"{env_id}, environment 3 \(seed 4\), step 1 of its ep.* raised .*what MuJoCo says"
    with pytest.raises(EnvironmentFault, match=message):
        play(envs, 1)


def test_a_failure_has_the_number_and_what_mujoco_says():
    model = make_env("Hopper-v5").unwrapped.model
    model.opt.integrator = 99
    with pytest.raises(SimulationError, match="integrator") as caught:
        Simulations(model, 3, 2).stepper(1)()
    assert caught.value.number == 0


def test_a_number_that_is_not_finite_is_named_and_enters_no_statistics():
    envs = make("HalfCheetah-v5")
    envs.reset()
    before = str(envs.state_dict()["observation_statistics"])
    envs.together.compiled.follow(forward_weight=np.inf)
    with pytest.raises(FloatingPointError, match=r"environment 0 \(seed 1\), step 1 of its .* inf"):
        play(envs, 1)
    assert str(envs.state_dict()["observation_statistics"]) == before


def test_memory_lives_as_long_as_what_reads_it():
    envs = [make_env("Reacher-v5")]
    assert isinstance(envs[0].unwrapped, MujocoEnv)
    raw = np.zeros((1, 10))
    task = BatchedEnvs(envs, 1, raw)._task
    assert task.qpos.shape == (1, 4) and np.isfinite(task.qpos).all()
