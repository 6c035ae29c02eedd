"""Actions in C, and rollouts of many steps in one call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from hesrl.agents import a2c, ppo
from hesrl.envs import normalized_envs
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.rl.actor_critic import Agent
from hesrl.rl.compiled_acting import CompiledActing
from hesrl.rl.numpy_forward import Acting

NETWORKS = [
    {},
    {"hidden_sizes": (5, 3), "activation": "relu"},
    {"hidden_sizes": (33,), "activation": "elu", "layer_norm": True},
    {"activation": "silu", "shared_trunk": True},
    {"variance_network": True},
    {"activation": "leaky_relu", "layer_norm": True, "softplus_std": True, "sparse_init": 0.9},
]


def make(num_envs, env_id="Hopper-v5", seed=1, **settings):
    envs = NormalizedEnvs(env_id, num_envs, seed=seed, gamma=0.99)
    envs.reset()
    torch.manual_seed(seed)
    settings = {"hidden_sizes": (64, 64), "activation": "tanh", "log_std_init": -0.3, **settings}
    return envs, Agent(envs.observation_space, envs.action_space, **settings)


@pytest.mark.parametrize("num_envs", [1, 3, 16])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_actions_are_those_of_the_policy(num_envs, network, capsys):
    _, agent = make(num_envs, **network)
    acting, in_c = Acting(agent), Acting(agent)
    in_c.compile(num_envs)
    obs = np.random.default_rng(0).standard_normal((4, num_envs, 11)).astype(np.float32)
    for changed in range(2):
        samplers = [x.sampler(np.random.default_rng(7), 4, num_envs) for x in (acting, in_c)]
        assert samplers[1].actor is not None
        for step in range(4):
            expected, actions = (x.draw(step, obs[step]) for x in samplers)
            assert actions.dtype == np.float32 and actions.shape == (num_envs, 3)
            np.testing.assert_allclose(actions, expected, rtol=2e-5, atol=2e-5)
        with torch.no_grad():  # also where another tensor takes a parameter's place
            for param in agent.parameters():
                param.data = param + 0.1 * (1 + changed)
        acting = Acting(agent)
    assert "actions are not" not in capsys.readouterr().err


def steps_of(storage):
    """All of a rollout, as values that == compares."""
    *arrays, final_obs, next_obs, episodes = storage
    final = {step: obs.tolist() for step, obs in final_obs.items()}
    return [array.tolist() for array in (*arrays, next_obs)], final, episodes


@pytest.mark.parametrize("agent_module", [ppo, a2c])
@pytest.mark.parametrize(("env_id", "num_envs"), [("Hopper-v5", 1), ("Walker2d-v5", 4)])
def test_a_rollout_in_one_call_is_the_one_in_many(agent_module, env_id, num_envs):
    """To the bit, over ends of episodes."""
    rollouts = []
    for is_one_call in (True, False):
        envs, agent = make(num_envs, env_id)
        acting = Acting(agent)
        acting.compile(num_envs)
        if not is_one_call:
            whole = acting.sampler
            acting.sampler = lambda *args, whole=whole: replace(whole(*args), actor=None)
        rng = np.random.default_rng(3)
        rollouts.append(
            [steps_of(agent_module.rollout(envs, acting, 60, rng)) for _ in range(3)]
            + [envs.steps, str(envs.state_dict()["observation_statistics"])]
        )
    assert rollouts[0] == rollouts[1]
    assert sum(len(episodes) for _, _, episodes in rollouts[0][:3]) > num_envs


@pytest.mark.parametrize("agent_module", [ppo, a2c])
def test_a_rollout_calls_once_for_each_episode(monkeypatch, agent_module):
    envs, agent = make(1)
    acting = Acting(agent)
    acting.compile(1)
    advance, calls = normalized_envs.NormalizedEnvs.advance, []

    def counted(*args):
        calls.append(args)
        return advance(*args)

    monkeypatch.setattr(NormalizedEnvs, "advance", counted)
    storage = agent_module.rollout(envs, acting, 200, np.random.default_rng(3))
    assert len(storage.episodes) <= len(calls) <= len(storage.episodes) + 1 < 30


@pytest.mark.parametrize("agent_module", [ppo, a2c])
def test_a_diverged_policy_is_named_within_a_rollout(agent_module):
    envs, agent = make(2)
    acting = Acting(agent)
    acting.compile(2)
    with torch.no_grad():
        agent.actor_logstd.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"Hopper-v5: an action is NaN: .*--learning-rate"):
        agent_module.rollout(envs, acting, 20, np.random.default_rng(3))


def test_what_is_not_computed_in_c(capsys, monkeypatch, tmp_path):
    envs = NormalizedEnvs("CartPole-v1", 2, seed=1, gamma=0.99)
    acting = Acting(Agent(envs.observation_space, envs.action_space))
    acting.compile(2)
    assert capsys.readouterr().err == ""
    assert acting.sampler(np.random.default_rng(0), 3, 2).actor is None
    images = Box(0, 255, (36, 36, 3), np.uint8)
    acting = Acting(Agent(images, Box(-1, 1, (2,))))
    acting.compile(2)
    assert capsys.readouterr().err == ""
    assert acting.sampler(np.random.default_rng(0), 3, 2).actor is None
    _, agent = make(2)
    with pytest.raises(NotImplementedError, match="not on the CPU"):
        CompiledActing(agent.to("meta"), 2)
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    _, agent = make(2)
    Acting(agent).compile(2)
    assert "in C: there is no C++ compiler no-such-compiler: inst" in capsys.readouterr().err
