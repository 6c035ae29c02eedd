"""Rollouts and the batches that are made of them, against values asked for one by one."""

import contextlib

import numpy as np
import pytest
import torch

from hesrl.agents import a2c, ppo
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.steps import Episode
from hesrl.rl.actor_critic import Agent
from hesrl.rl.numpy_forward import Acting
from tests.agents.batches import batch_of, random_rollout
from tests.envs.test_real_time import clocks, register  # noqa: F401
from tests.rl.variants import POLICIES, draw_observations, make_agent

each_module = pytest.mark.parametrize("module", [ppo, a2c], ids=["ppo", "a2c"])
ENDLESS, FALLS = "HalfCheetah-v5", "InvertedPendulum-v5"
IMAGES = "tests.rl.tiny_images:TinyImages-v0"


def play(module, env_id: str, steps: int, num_envs: int = 2, **options: bool):
    """Return a rollout of a new agent, and the observations before and after it."""
    torch.manual_seed(0)
    with contextlib.closing(NormalizedEnvs(env_id, num_envs, seed=1, gamma=0.99)) as envs:
        agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,))
        first = envs.reset().copy()
        storage = module.rollout(envs, Acting(agent), steps, np.random.default_rng(0), **options)
        assert envs.steps == storage.rewards.size
        return agent, storage, first, envs.observations


@each_module
def test_steps_follow_one_another_from_where_the_environments_are(module):
    _, storage, first, last = play(module, ENDLESS, 6)
    np.testing.assert_array_equal(storage.obs[0], first)
    np.testing.assert_array_equal(storage.next_obs, last)
    with contextlib.closing(NormalizedEnvs(ENDLESS, 2, seed=1, gamma=0.99)) as again:
        again.reset()
        given = [again.step(actions) for actions in storage.actions]
    np.testing.assert_array_equal(storage.obs[1:], [step.obs for step in given[:-1]])
    np.testing.assert_array_equal(storage.rewards, [step.rewards for step in given])
    assert not storage.episodes and not storage.terminations.any()


@pytest.mark.parametrize(
    ("module", "options"), [(ppo, {}), (a2c, {}), (a2c, {"until_episode_ends": True})]
)
def test_end_of_an_episode_ends_the_rollout_if_asked_to(module, options):
    _, storage, _, _ = play(module, FALLS, 100, **options)
    steps, ended = len(storage.rewards), storage.terminations.any(1)
    assert all(len(array) == steps for array in storage[:5])
    assert storage.final_obs.keys() == set(np.flatnonzero(ended).tolist()) != set()
    assert {count for count, _ in storage.episodes} == {
        2 * (step + 1) for step in storage.final_obs
    }
    if options:
        assert steps < 100 and ended.nonzero()[0].tolist() == [steps - 1]
    else:
        assert steps == 100


@each_module
@pytest.mark.parametrize(
    ("env_id", "dtype", "shape"),
    [(ENDLESS, np.float32, (6,)), ("CartPole-v1", np.int64, ()), (IMAGES, np.int64, ())],
)
def test_actions_have_the_type_and_the_shape_of_the_policy(module, env_id, dtype, shape):
    agent, storage, _, _ = play(module, env_id, 5)
    assert storage.actions.dtype == dtype and storage.actions.shape == (5, 2, *shape)
    actions = batch_of(module, storage, agent).actions
    assert actions.shape == (10, *shape)
    np.testing.assert_array_equal(actions.reshape(storage.actions.shape), storage.actions)


@each_module
def test_images_stay_bytes(module):
    agent, storage, _, _ = play(module, IMAGES, 5)
    assert storage.obs.dtype == np.uint8 and storage.obs.shape == (5, 2, 36, 40, 1)
    assert storage.obs.max() == 255
    batch = batch_of(module, storage, agent)
    assert batch.obs.dtype == torch.uint8 and batch.obs.shape == (10, 36, 40, 1)
    assert batch.values.dtype == batch.returns.dtype == torch.float32


@each_module
@pytest.mark.parametrize("observations", ["vector", "channels last"])
@pytest.mark.parametrize("policy", POLICIES)
def test_truncation_bootstraps_the_value_of_the_last_state_and_termination_does_not(
    module, policy, observations
):
    agent, storage = make_agent(policy, observations), random_rollout(policy, 4, 2, observations)
    final_obs = {step: draw_observations(observations, 2) + step for step in (1, 2)}
    storage.truncations[1, 0] = storage.terminations[2, 1] = True
    storage = storage._replace(final_obs=final_obs, episodes=[(4, Episode(0, 0.0, 2))])
    batch = batch_of(module, storage, agent, gamma=0.9, gae_lambda=0.0)
    reached = np.concatenate((storage.obs[1:], storage.next_obs[None]))
    reached[1, 0] = final_obs[1][0]
    with torch.no_grad():
        next_values = torch.stack([agent(torch.from_numpy(obs))[1] for obs in reached])
        values = torch.stack([agent(torch.from_numpy(obs))[1] for obs in storage.obs])
    next_values[2, 1] = 0
    returns = torch.from_numpy(storage.rewards) + 0.9 * next_values
    torch.testing.assert_close(batch.returns, returns.flatten())
    torch.testing.assert_close(batch.values, values.flatten())
    torch.testing.assert_close(batch.advantages, (returns - values).flatten())


@each_module
def test_a_time_limit_can_be_a_terminal_state(module):
    agent, storage = make_agent("gaussian"), random_rollout("gaussian", 4, 2)
    ends = {"final_obs": {1: storage.obs[0]}, "episodes": [(4, Episode(0, 0.0, 2))]}
    storage.truncations[1] = True
    cut = storage._replace(**ends)
    terminal = cut._replace(terminations=cut.truncations, truncations=cut.terminations)
    bootstrapped = batch_of(module, cut, agent)
    batch = batch_of(module, cut, agent, bootstrap_at_time_limit=False)
    assert torch.equal(batch.returns, batch_of(module, terminal, agent).returns)
    assert not torch.equal(batch.returns[:4], bootstrapped.returns[:4])
    assert torch.equal(batch.returns[4:], bootstrapped.returns[4:])
    assert cut.truncations[1].all() and not cut.terminations.any()


@each_module
@pytest.mark.parametrize("kind", ["truncations", "terminations"])
def test_advantages_do_not_cross_the_end_of_an_episode(module, kind):
    advantages = []
    for reward in (0, 100):
        storage = random_rollout("gaussian", 4, 1)
        getattr(storage, kind)[1] = True
        storage.rewards[2:] += reward
        storage = storage._replace(
            final_obs={1: storage.obs[0]}, episodes=[(2, Episode(0, 0.0, 2))]
        )
        advantages.append(batch_of(module, storage, make_agent("gaussian")).advantages)
    assert torch.equal(advantages[0][:2], advantages[1][:2])
    assert (advantages[1][2:] > advantages[0][2:] + 99).all()


@each_module
def test_a_batch_is_flat_and_goes_to_a_device_as_a_whole(module, monkeypatch):
    agent, storage = make_agent("gaussian"), random_rollout("gaussian", 3, 2)
    batch = batch_of(module, storage, agent)
    np.testing.assert_array_equal(batch.obs[3], storage.obs[1, 1])
    np.testing.assert_array_equal(batch.actions[3], storage.actions[1, 1])
    assert {len(tensor) for tensor in batch} == {6}
    acting = Acting(agent)  # in NumPy, whatever the device of the networks
    monkeypatch.setattr("tests.agents.batches.Acting", lambda _: acting)
    there = batch_of(module, storage, agent.to("meta"), device="meta")
    assert {tensor.device.type for tensor in there} == {"meta"}


@each_module
@pytest.mark.parametrize("weight", [np.nan, 3e38])
def test_a_critic_that_has_diverged_is_refused(module, weight):
    agent, storage = make_agent("gaussian"), random_rollout("gaussian", 3, 2)
    with torch.no_grad():
        agent.critic[-1].weight.fill_(weight)
    with pytest.raises(FloatingPointError, match="an advantage is not finite"):
        batch_of(module, storage, agent)


@each_module
def test_a_rollout_cuts_off_the_episode_that_it_ends_in(register, module):  # noqa: F811
    register()
    torch.manual_seed(0)
    envs = clocks()
    envs.reset()
    agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,))
    acting = Acting(agent)
    storage = module.rollout(envs, acting, 6, np.random.default_rng(0))
    assert storage.truncations[:, 0].tolist() == [False, False, False, True, False, True]
    assert storage.final_obs[5] == 202 and storage.next_obs == 300
    assert len(storage.episodes) == 1
    batch = batch_of(module, storage, agent, gamma=0.9, gae_lambda=1.0)
    # No more than its reward and the value of what it led to.
    last = storage.rewards[5, 0] + 0.9 * acting.value(storage.final_obs[5])[0]
    torch.testing.assert_close(batch.returns[5].item(), float(last))


@each_module
def test_a_rollout_drops_a_broken_step_and_ends_the_episode_before_it(register, module):  # noqa: F811
    """The first step of an episode breaks, the third of the next, the first of the one after."""
    register(kwargs={"breaks": (1, 4, 5)})
    envs = clocks()
    envs.reset()
    agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,))
    storage = module.rollout(envs, Acting(agent), 7, np.random.default_rng(0))
    assert storage.obs.flatten().tolist() == [200, 201, 400, 401, 402, 403, 500]
    assert storage.truncations[:, 0].tolist() == [False, True, False, False, False, True, True]
    assert {step: obs.item() for step, obs in storage.final_obs.items()} == {1: 202, 5: 404, 6: 501}
    assert storage.next_obs == 600 and envs.steps == 7
    assert [(step, episode.episodic_length) for step, episode in storage.episodes] == [(6, 4)]
    assert batch_of(module, storage, agent).returns.isfinite().all()


def test_a_broken_step_ends_the_rollout_if_the_end_of_an_episode_does(register):  # noqa: F811
    register(kwargs={"breaks": (1, 4)})
    envs = clocks()
    envs.reset()
    agent = Agent(envs.observation_space, envs.action_space, hidden_sizes=(4,))
    rng = np.random.default_rng(0)
    storage = a2c.rollout(envs, Acting(agent), 7, rng, until_episode_ends=True)
    assert storage.obs.flatten().tolist() == [200, 201] and storage.final_obs[1] == 202
    assert storage.next_obs == 300
