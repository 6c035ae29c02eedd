"""The policy of a run, evaluated again, plays as it did at the end of training."""

import json

import pytest

from hesrl.agents import a2c, ppo, sb3_a2c, sb3_ppo, stream_ac
from hesrl.errors import UserError
from hesrl.rl.evaluate_run import Args, main
from hesrl.runs.directory import RunDirectory


def train(agent, root, **settings):
    """Train shortly and return the folder of the run and its evaluation returns."""
    if agent is not stream_ac:
        settings |= {"num_steps": 128}
    if agent not in (sb3_ppo, sb3_a2c):
        settings |= {"compile": "off"}
    if agent in (ppo, sb3_ppo):
        settings |= {"update_epochs": 2}
    args = agent.Args(total_timesteps=512, eval_episodes=3, runs_dir=root, seed=5, **settings)
    assert agent.main(args) == 0
    (path,) = root.iterdir()
    return path, json.loads((path / "summary.json").read_text())["evaluation_returns"]


def toys(observations, actions):
    """Return the settings of an environment with such spaces."""
    options = f"observations={observations}", f"actions={actions}"
    return {"env_id": "tests.rl.toy_spaces:ToySpaces-v0", "env_options": options}


def printed_returns(capsys):
    line, summary = capsys.readouterr().out.splitlines()[-2:]
    return [float(word) for word in line.removeprefix("returns:").split()], summary


VARIANTS = [
    (ppo, {"env_id": "InvertedPendulum-v5", "num_minibatches": 4, "hidden_sizes": (16,)}),
    (ppo, {"env_id": "CartPole-v1", "num_minibatches": 4, "shared_trunk": True}),
    (a2c, {"env_id": "InvertedPendulum-v5", "progress": True, "variance_network": True}),
    (a2c, {"env_id": "Acrobot-v1", "env_options": ("max_episode_steps=30",)}),
    (stream_ac, {"env_id": "Hopper-v5"}),
    (sb3_ppo, {"env_id": "InvertedPendulum-v5", "num_minibatches": 4, "hidden_sizes": (16,)}),
    (sb3_a2c, {"env_id": "CartPole-v1", "checkpoint_interval": 100, "optimizer": "adam"}),
    (stream_ac, {"env_id": "CartPole-v1", "sparse_init": 0.5, "layer_norm": False}),
    (ppo, {**toys("dict", "choices"), "num_minibatches": 4}),
    (ppo, {**toys("images", "bits"), "num_minibatches": 4, "shared_trunk": True}),
    (a2c, toys("choices", "square bits")),
    (a2c, {**toys("bits", "unbounded"), "variance_network": True}),
    (stream_ac, toys("discrete", "half bounded")),
    (stream_ac, toys("dict", "bits")),
]


@pytest.mark.parametrize(("agent", "settings"), VARIANTS)
def test_it_plays_the_episodes_of_the_end_of_training(agent, settings, tmp_path, capsys):
    path, expected = train(agent, tmp_path, **settings)
    before = {file: file.read_bytes() for file in path.iterdir()}
    # Training evaluates from the first seed after those of its environments.
    assert main(Args(run=path, episodes=3, seed=6)) == 0
    returns, summary = printed_returns(capsys)
    assert returns == pytest.approx(expected, abs=0.051)
    assert "policy of step 512: mean return of 3 episodes" in summary
    assert {file: file.read_bytes() for file in path.iterdir()} == before


def test_another_environment_of_the_same_spaces_may_be_played(tmp_path, capsys):
    path, _ = train(ppo, tmp_path, env_id="HalfCheetah-v5", num_minibatches=4)
    assert main(Args(run=path, env_id="Walker2d-v5", episodes=2)) == 0
    assert printed_returns(capsys)[1].startswith("Walker2d-v5, policy of step 512")


def test_options_change_the_environment_of_the_run(tmp_path, capsys):
    path, _ = train(ppo, tmp_path, env_id="CartPole-v1", num_minibatches=4)
    assert main(Args(run=path, episodes=2, env_options=("max_episode_steps=7",))) == 0
    assert printed_returns(capsys)[0] == [7, 7]


def test_what_cannot_be_played_is_refused(tmp_path):
    path, _ = train(ppo, tmp_path / "ppo", env_id="CartPole-v1", num_minibatches=4)
    with pytest.raises(UserError, match=r"^Acrobot-v1: observations or actions are others than"):
        main(Args(run=path, env_id="Acrobot-v1"))
    with pytest.raises(UserError, match=r"^--max-episode-steps 0: must be greater than zero$"):
        main(Args(run=path, max_episode_steps=0))
    with pytest.raises(UserError, match=r"^--episodes 0: must be greater than zero$"):
        main(Args(run=path, episodes=0))
    with pytest.raises(UserError, match=r"^--seed -1: must be from 0 to 4294967295$"):
        main(Args(run=path, seed=-1))
    (path / "checkpoint.pt").unlink()
    with pytest.raises(UserError, match=r"has no checkpoint yet: wait, or train anew$"):
        main(Args(run=path))
    given = {"env_id": "CartPole-v1", "optimizer": "adam", "seed": 1, "config": {}}
    with RunDirectory.create(tmp_path / "other", agent="dqn", **given) as other:
        message = "is a run of dqn; those of ppo, a2c, stream-ac, sb3-ppo, sb3-a2c can be played$"
        with pytest.raises(UserError, match=message):
            main(Args(run=other.path))


def test_spaces_of_a_policy_of_stable_baselines3_are_checked(tmp_path):
    path, _ = train(sb3_ppo, tmp_path, env_id="CartPole-v1", num_minibatches=4)
    with pytest.raises(UserError, match=r"^Acrobot-v1: observations or actions are others than"):
        main(Args(run=path, env_id="Acrobot-v1"))


def test_an_episode_that_does_not_end_is_cut(tmp_path, capsys):
    path, _ = train(ppo, tmp_path, env_id="HalfCheetah-v5", num_minibatches=4)
    assert main(Args(run=path, episodes=2, max_episode_steps=9)) == 0
    err = capsys.readouterr().err.splitlines()
    where = "HalfCheetah-v5, evaluation (seed 10000), step 9 of its episode:"
    assert err == [f"{where} cut, since it has not ended"] * 2
