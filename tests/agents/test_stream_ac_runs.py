"""The streaming actor–critic's loop over transitions, in this process."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from hesrl.agents import stream_ac
from hesrl.presets import preset
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.session import Session
from tests.agents.processes import rows as read_rows
from tests.envs.test_real_time import register  # noqa: F401
from tests.rl.comparison import assert_same


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
