"""The streaming actor–critic: what it learns from a transition, and its loop over transitions."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch.func import jacrev

from hesrl.agents import stream_ac
from hesrl.presets import preset
from hesrl.rl.actor_critic import Agent
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.session import Session
from hesrl.train_step import RecordedStep
from tests.agents.processes import rows as read_rows
from tests.agents.streaming_written_out import PublishedAgent, forward
from tests.envs.test_real_time import register  # noqa: F401
from tests.rl.comparison import assert_same

ACTIONS = {
    "gaussian": Box(-1, 1, (2,), np.float32),
    "categorical": Discrete(3),
    "choices": MultiDiscrete([2, 3]),
    "bits": MultiBinary(2),
}
EACH_POLICY = pytest.mark.parametrize("policy", ACTIONS)


class Learner:
    """An agent with its optimizers, and the same agent in the words of the authors."""

    def __init__(self, policy, dtype=torch.float64, hidden_sizes=(8, 7), **settings):
        torch.manual_seed(0)
        self.args = stream_ac.Args(**settings)
        self.args.check()
        self.agent = Agent(
            Box(-np.inf, np.inf, (5,), np.float32), ACTIONS[policy], hidden_sizes=hidden_sizes,
            activation="leaky_relu", layer_norm=True, sparse_init=0.5, softplus_std=True,
        ).to(dtype)  # fmt: skip
        self.kind, self.dtype = policy, dtype
        self.optimizers = stream_ac.make_optimizers(self.agent, self.args)
        form = {"intentional": "policy", "intentional-kl": "kl"}.get(self.args.optimizer, "obgd")
        etas = {} if form != "kl" else {"eta": 5e-4}
        self.published = PublishedAgent(
            *([p.detach().double().clone() for p in network.parameters()]
              for network in (self.agent.actor, self.agent.critic)),
            self.kind, form, self.args.source == "fisher", **etas,
            power=self.args.power, damping=self.args.damping,
        )  # fmt: skip
        self.step = partial(stream_ac.learn, self.agent, *self.optimizers, self.args)

    def transition(self, step):
        """Numbers that follow from the step alone; every eleventh state is terminal."""
        generator = torch.Generator().manual_seed(step)
        obs, next_obs = (
            torch.randn(5, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            for i in (step + 1000, step + 1001)
        )
        action = torch.randn(2, generator=generator, dtype=torch.float64)
        if self.kind == "categorical":
            action = torch.randint(3, (), generator=generator)
        elif self.kind != "gaussian":
            action = torch.randint(2, (2,), generator=generator)
            action = action.double() if self.kind == "bits" else action
        reward = torch.randn((), generator=generator, dtype=torch.float64)
        return obs, action, reward, next_obs, float(step % 11 == 10)

    def tensors(self, step):
        """The transition as the agent takes it."""
        numbers = map(torch.as_tensor, self.transition(step))
        return [(x.to(self.dtype) if x.is_floating_point() else x)[None] for x in numbers]

    def learn(self, step):
        """Let both learn; return what the agent and the authors' words give."""
        (row,) = self.step(*self.tensors(step))
        return row, self.published.learn(*self.transition(step))

    def parameters(self):
        """All parameters of the agent as one vector."""
        networks = self.agent.actor, self.agent.critic
        return torch.cat([p.detach().double().flatten() for n in networks for p in n.parameters()])

    def published_parameters(self):
        """Those of the authors' words."""
        thetas = *self.published.actor.thetas, *self.published.critic.thetas
        return torch.cat([theta.flatten() for theta in thetas])


@EACH_POLICY
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"source": "fisher", "power": 1.0, "damping": 0.1},
        {"optimizer": "intentional-kl", "source": "fisher"},
        {"optimizer": "obgd"},
    ],
    ids=str,
)
def test_each_transition_is_learned_as_the_equations_say(policy, settings):
    """Two episodes; what is returned is δ, v and H before the step, and the policy after it."""
    learner = Learner(policy, **settings)
    start = learner.parameters()
    for step in range(22):
        row, (delta, value, entropy) = learner.learn(step)
        outputs = forward(learner.published.actor.thetas, learner.transition(step)[3])
        if policy == "gaussian":
            outputs[2:] = torch.nn.functional.softplus(outputs[2:]).log()
        expected = torch.cat((outputs, torch.stack((delta.abs(), value, entropy))))
        torch.testing.assert_close(row, expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(
            learner.parameters(), learner.published_parameters(), rtol=1e-10, atol=1e-12
        )
    assert ((learner.parameters() - start).abs() > 1e-9).double().mean() > 0.9


@pytest.mark.parametrize(
    ("dtype", "steps", "tolerance"), [(torch.float64, 1000, 1e-9), (torch.float32, 50, 1e-5)]
)
def test_a_thousand_steps_are_those_of_the_published_equations(dtype, steps, tolerance):
    """Recorded before the first one. In single precision the first fifty: rounding errors grow."""
    learner = Learner("gaussian", dtype)
    before = learner.parameters()
    learner.step = RecordedStep(learner.step, learner.optimizers, expected_steps=0, break_even=1)
    learner.step.warm_up(*learner.tensors(0))
    for step in range(steps):
        learner.learn(step)
    assert learner.step.tier == "replayed"
    assert (learner.parameters() - before).abs().max() > 0.1
    expected = learner.published_parameters()
    torch.testing.assert_close(learner.parameters(), expected, rtol=tolerance, atol=tolerance)


@EACH_POLICY
def test_the_diagonal_by_curvature_is_the_fisher_matrix_at_the_last_layers(policy):
    """Of the policy E_a[(∂ log π)²], of the value J²; before the last layers it is HesScaleGN's."""
    learner = Learner(policy, source="fisher")
    actor = [p.detach().clone() for p in learner.agent.actor.parameters()]
    critic = [p.detach().clone() for p in learner.agent.critic.parameters()]
    obs = learner.transition(0)[0]
    learner.learn(0)
    fisher = learner.published.fisher_of(forward(actor, obs))
    for network, thetas, inner in (
        (learner.agent.actor, actor, fisher),
        (learner.agent.critic, critic, torch.ones(1, 1, dtype=torch.float64)),
    ):
        outputs = partial(lambda hidden, *last: forward([*hidden, *last], obs), thetas[:-2])
        jacobians = jacrev(outputs, (0, 1))(*thetas[-2:])
        for param, jacobian in zip([*network.parameters()][-2:], jacobians, strict=True):
            states = (o.state.get(param, {}) for o in learner.optimizers)
            (found,) = [state["exp_fisher"] / 1e-3 for state in states if state]
            flat = jacobian.flatten(1)
            exact = torch.einsum("kj,kl,lj->j", flat, inner, flat).view(param.shape)
            torch.testing.assert_close(found, exact, rtol=1e-9, atol=0)


class Ends(gym.Env):
    """Episodes end in turn: terminated after 3 steps, cut off after 4."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Box(-1, 1, (2,), np.float32)
    episode, actions = -1, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return np.float64([self.episode, 0]), {}

    def step(self, action):
        self.actions.append(action)
        self.steps += 1
        terminated = self.episode % 2 == 0 and self.steps == 3
        obs = np.float64([self.episode, self.steps])
        return obs, obs.sum() / 10, terminated, self.steps == 4, {}


gym.register("Ends-v0", entry_point=Ends)


def test_traces_are_emptied_where_an_episode_terminates_and_kept_where_it_is_cut_off(
    tmp_path, monkeypatch
):
    learn, seen, rows = stream_ac.learn, [], []

    def watched(agent, *others):
        result = learn(agent, *others)
        optimizers, transition = others[:2], others[3:]
        states = [(o.state[p], p) for o in optimizers for p in o.param_groups[0]["params"]]
        traces = torch.cat([state["eligibility_trace"].flatten() for state, _ in states])
        grads = torch.cat([param.grad.flatten() for _, param in states])
        seen.append([*(t.clone() for t in transition), traces, grads])
        rows.append(result[0][-3:].tolist())
        return result

    monkeypatch.setattr(stream_ac, "learn", watched)
    Ends.actions.clear()
    settings = dict(normalize_observations=False, normalize_rewards=False, sparse_init=0.5)
    settings |= dict(env_id="Ends-v0", total_timesteps=10, log_interval=10, compile="off")
    run = train(tmp_path, **settings)
    # Terminated, cut off, terminated.
    expected = [
        (e, t, e != 1 and t == 2) for e, steps in enumerate((3, 4, 3)) for t in range(steps)
    ]
    assert len(seen) == len(expected) == 10
    before = torch.zeros(())
    for step, (e, t, ends) in zip(seen, expected, strict=True):
        obs, _, reward, next_obs, terminated, traces, grads = step
        assert obs.tolist() == [[e, t]] and next_obs.tolist() == [[e, t + 1]]
        assert reward.item() == pytest.approx((e + t + 1) / 10) and bool(terminated) == ends
        expected_traces = torch.zeros_like(grads) if ends else 0.99 * 0.8 * before + grads
        torch.testing.assert_close(traces, expected_traces, rtol=1e-6, atol=1e-7)
        assert grads.any()
        before = traces
    actions = torch.cat([transition[1] for transition in seen])
    assert (actions.abs() > 1).any()  # what is learned from is what the policy has drawn
    np.testing.assert_array_equal(actions.clamp(-1, 1), np.stack(Ends.actions[:10]))
    logged = {key: float(value) for _, key, value in read_rows(run)}
    means = [logged[name] for name in stream_ac.METRICS]
    assert means == pytest.approx(np.mean(rows, axis=0).tolist(), rel=1e-6)


def train(folder, **settings):
    """Train in this process, and return the directory of the run."""
    args = stream_ac.Args(**{"runs_dir": folder, "eval_episodes": 1, "seed": 3, **settings})
    assert stream_ac.main(args) in (0, 130)
    (run,) = folder.iterdir()
    return run


@EACH_POLICY
@pytest.mark.parametrize("source", stream_ac.SOURCES)
def test_a_recorded_transition_is_the_eager_one(policy, source):
    eager, recorded = (Learner(policy, source=source) for _ in range(2))
    recorded.step = RecordedStep(recorded.step, recorded.optimizers, break_even=1)
    recorded.step.warm_up(*recorded.tensors(0))
    for step in range(12):
        rows = [learner.step(*learner.tensors(step))[0] for learner in (eager, recorded)]
        torch.testing.assert_close(*rows, rtol=1e-8, atol=1e-9)
    assert recorded.step.tier == "replayed"
    torch.testing.assert_close(eager.parameters(), recorded.parameters(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("Hopper-v5", {}),
        ("Hopper-v5", {"compile": "on", "source": "fisher"}),
        ("InvertedPendulum-v5", {"optimizer": "obgd", "compile": "off"}),
    ],
)
def test_a_run_that_is_stopped_goes_on_bit_for_bit(
    tmp_path, monkeypatch, interpreted, capfd, env_id, settings
):
    settings |= dict(env_id=env_id, log_interval=32, checkpoint_interval=64, total_timesteps=192)
    settings |= dict(hidden_sizes=(8, 8), sparse_init=0.5)
    whole = train(tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        is_due = property(lambda session: session._global_step == 96)
        patch.setattr(Session, "stop_requested", is_due)
        patch.setattr(Session, "interrupted", lambda session: 130)
        run = train(tmp_path / "parts", **settings)
    saved = load_checkpoint(run / "checkpoint.pt")
    assert saved["global_step"] == 96 and all(x.shape[0] == 1 for x in saved["distribution"])
    traces = [s["eligibility_trace"] for s in saved["optimizer"]["state"].values()]
    assert traces and all(trace.any() for trace in traces)
    torch.manual_seed(17)
    assert stream_ac.main(stream_ac.Args(resume=run)) == 0
    assert_same(load_checkpoint(whole / "checkpoint.pt"), load_checkpoint(run / "checkpoint.pt"))
    assert read_rows(whole) == read_rows(run)
    assert capfd.readouterr().err == ""  # not a word on steps that could not be recorded


def test_the_simulated_arm_has_a_preset(tmp_path):
    args = preset(stream_ac.Args, "ur5")
    assert (args.env_id, args.checkpoint_interval) == ("hesrl/UR5Reacher-v0", 2000)
    args.total_timesteps, args.log_interval, args.checkpoint_interval = 300, 100, 100
    args.runs_dir, args.eval_episodes = tmp_path, 1
    assert stream_ac.main(args) == 0
    (run,) = tmp_path.iterdir()
    returns = [float(value) for _, key, value in read_rows(run) if key == "charts/episodic_return"]
    assert len(returns) == 3 and np.isfinite(returns).all()


def test_what_only_some_optimizers_have_is_theirs():
    kl = Learner("gaussian", optimizer="intentional-kl").optimizers
    assert [o.param_groups[0]["eta"] for o in kl] == [5e-4, 0.5]
    obgd = Learner("gaussian", optimizer="obgd", kappa_policy=4.0).optimizers
    assert [o.param_groups[0]["kappa"] for o in obgd] == [4.0, 2.0]
    published = Learner("gaussian").optimizers
    assert [o.param_groups[0]["eta"] for o in published] == [0.05, 0.5]


def test_nothing_is_learned_from_a_broken_step(register, tmp_path, monkeypatch):  # noqa: F811
    """The first step of an episode breaks, the third of the next one, and the first of the last."""
    register(kwargs={"breaks": (1, 4, 9)})
    learned, learn = [], stream_ac.learn

    def noted(*args):
        obs, _, _, next_obs, _ = args[4:]
        learned.append((obs.item(), next_obs.item()))
        return learn(*args)

    monkeypatch.setattr(stream_ac, "learn", noted)
    args = stream_ac.Args(
        env_id="Clock-v0", total_timesteps=7, compile="off", eval_episodes=1, yes=True,
        normalize_observations=False, log_interval=1, runs_dir=tmp_path,
    )  # fmt: skip
    assert stream_ac.main(args) == 0
    episodes = (range(200, 202), range(300, 304), range(500, 501))
    assert learned == [(obs, obs + 1) for episode in episodes for obs in episode]
    (run,) = tmp_path.iterdir()
    assert load_checkpoint(run / "checkpoint.pt")["global_step"] == 7
