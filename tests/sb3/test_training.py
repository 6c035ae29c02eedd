"""Runs of Stable-Baselines3's algorithms in a run directory of hesrl."""

from __future__ import annotations

import json
import os
import signal

import gymnasium as gym
import pytest

from hesrl.agents import sb3_a2c, sb3_ppo
from hesrl.errors import EnvironmentFault, Finished, UserError
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.runs.directory import RunDirectory
from hesrl.runs.metrics import read_metric
from tests.rl.comparison import assert_same
from tests.sb3.toys import Toy

SMALL = {
    "sb3-ppo": {"num_steps": 32, "num_minibatches": 2, "update_epochs": 2},
    "sb3-a2c": {"num_steps": 4, "log_interval": 8, "checkpoint_interval": 8},
}
MODULES = {"sb3-ppo": sb3_ppo, "sb3-a2c": sb3_a2c}


class Stopping(Toy):
    """Presses Ctrl-C in its 70th step."""

    steps = 0

    def step(self, action):
        Stopping.steps += 1
        if Stopping.steps == 70:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(action)


class Raising(Toy):
    """Breaks in its 70th step."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 70:
            raise ValueError("joint\nlimit")
        return super().step(action)


class Images(Toy):
    def __init__(self):
        super().__init__("CnnPolicy")


for name, env in {"Toy": Toy, "Raising": Raising, "Stopping": Stopping, "Images": Images}.items():
    gym.register(f"hesrl-tests/{name}-v0", entry_point=env)


def run(folder, agent="sb3-ppo", env="Toy", **settings):
    module = MODULES[agent]
    args = {"env_id": f"hesrl-tests/{env}-v0", "total_timesteps": 130, "eval_episodes": 1}
    return module.main(module.Args(runs_dir=folder, **{**args, **SMALL[agent], **settings}))


def only_run(folder):
    (path,) = folder.iterdir()
    return RunDirectory.open(path, read_only=True)


@pytest.mark.parametrize("optimizer", ["adam", "adahesscale", "adahessian", "scaled-adahesscale"])
@pytest.mark.parametrize("agent", MODULES)
def test_run_leaves_what_hesrls_own_agents_leave(tmp_path, agent, optimizer):
    assert run(tmp_path, agent, optimizer=optimizer) == 0
    directory = only_run(tmp_path)
    assert f"__{agent}__{optimizer}__1__" in directory.path.name
    assert directory.learning_curve.read_bytes().startswith(b"\x89PNG")
    steps, returns = read_metric(directory, "charts/episodic_return")
    assert list(steps) == list(range(10, 129, 10)) and all(returns < 0)
    for key in ("eval/episodic_return", "charts/SPS", "train/value_loss"):
        assert len(read_metric(directory, key)[0]) > 0
    network = "actor_" if optimizer.startswith("scaled") else ""
    assert (len(read_metric(directory, f"curvature/{network}norm")[0]) > 0) == (optimizer != "adam")
    assert json.loads(directory.summary.read_text())["steps"] == 128


@pytest.mark.parametrize("agent", MODULES)
def test_images_are_learned_from(tmp_path, agent):
    assert run(tmp_path, agent, "Images", hidden_sizes=(4,), optimizer="scaled-adahesscale") == 0
    state = load_checkpoint(only_run(tmp_path).checkpoint)
    assert state["policy"]["features_extractor.cnn.0.weight"].shape == (32, 3, 8, 8)
    assert state["statistics"].keys() == {"ret_rms"}
    assert len(state["optimizer"]["param_groups"]) == 3


@pytest.mark.parametrize(("steps", "says"), [(130, True), (128, False)])
def test_a_run_that_takes_fewer_steps_says_so(tmp_path, capsys, steps, says):
    run(tmp_path, total_timesteps=steps)
    out = capsys.readouterr().out
    line = "128 of the 130 steps asked for: a run ends with a whole rollout\n"
    assert (line in out) == says and "step 128/128 " in out


def test_metrics_stand_at_the_step_of_their_update(tmp_path):
    run(tmp_path)
    steps, rates = read_metric(only_run(tmp_path), "train/learning_rate")
    assert list(steps) == [32, 64, 96, 128]
    assert list(rates) == [0.00075, 0.0005, 0.00025, 0.0]


@pytest.mark.parametrize(("agent", "stop"), [("sb3-ppo", 96), ("sb3-a2c", 72)])
def test_interrupted_run_goes_on(tmp_path, capsys, agent, stop):
    Stopping.steps = 0
    assert run(tmp_path, agent, "Stopping", optimizer="scaled-adahesscale") == 130
    assert f"stopped by SIGINT at step {stop}" in capsys.readouterr().out
    directory, module = only_run(tmp_path), MODULES[agent]
    before = load_checkpoint(directory.checkpoint)
    assert module.main(module.Args(resume=directory.path)) == 0
    after = load_checkpoint(directory.checkpoint)
    for checkpoint, step in ((before, stop), (after, 128)):
        assert checkpoint["global_step"] == step
        optimizer_steps = {"sb3-ppo": step / 8, "sb3-a2c": step / 4}[agent]
        assert checkpoint["optimizer"]["state"][0]["step"].item() == optimizer_steps
        assert checkpoint["updates"] == {"sb3-ppo": step / 16, "sb3-a2c": step / 4}[agent]
    counts = [c["statistics"]["obs_rms"]["count"].item() for c in (before, after)]
    assert 0 <= counts[1] - counts[0] - (128 - stop) <= 2  # and the first ones of the new episodes


def test_an_environment_that_raises_is_named_and_the_checkpoint_is_kept(tmp_path):
    where = r"^hesrl-tests/Raising-v0, environment 0 \(seed 1\), step 10 of its episode: "
    with pytest.raises(EnvironmentFault, match=where + r"raised ValueError\('joint\\nlimit'\)"):
        run(tmp_path, env="Raising", checkpoint_interval=1)
    assert load_checkpoint(only_run(tmp_path).checkpoint)["global_step"] == 64


def test_options_of_hesrls_own_agents_reach_the_algorithm(tmp_path):
    settings = {"hidden_sizes": (6, 5), "activation": "relu", "normalize_rewards": False}
    options = {"eval_interval": 2, "env_options": ("max_episode_steps=4",)}
    assert run(tmp_path, **settings, **options) == 0
    directory = only_run(tmp_path)
    steps, returns = read_metric(directory, "eval/episodic_return")
    assert list(steps) == [64, 128] and all(returns < 0)
    lengths = read_metric(directory, "charts/episodic_length")[1]
    assert set(lengths) == {4}
    policy = load_checkpoint(directory.checkpoint)["policy"]
    assert policy["mlp_extractor.value_net.0.weight"].shape[0] == 6
    assert policy["action_net.weight"].shape[1] == 5


def test_evaluations_leave_training_alone(tmp_path):
    checkpoints = []
    for name, interval in (("plain", None), ("evaluated", 1)):
        run(tmp_path / name, eval_interval=interval)
        checkpoints.append(load_checkpoint(only_run(tmp_path / name).checkpoint)["policy"])
    assert_same(*checkpoints)


def test_advantages_of_a2c_may_be_normalized(tmp_path):
    values = []
    for name, norm_adv in (("plain", False), ("normalized", True)):
        run(tmp_path / name, "sb3-a2c", norm_adv=norm_adv)
        values.append(read_metric(only_run(tmp_path / name), "train/policy_loss")[1][-1])
    assert values[0] != values[1]


def test_a_run_that_is_finished_may_be_extended(tmp_path):
    """As one that was as long from the beginning, but for the episode in which it first ended."""
    settings = {"anneal_lr": False, "normalize_rewards": False, "total_timesteps": 64}
    run(tmp_path / "run", **settings)
    directory = only_run(tmp_path / "run")
    module = sb3_ppo
    with pytest.raises(Finished, match="is finished after 64 steps; a larger --total-timesteps ex"):
        module.main(module.Args(resume=directory.path))
    with pytest.raises(
        UserError, match=r"^--total-timesteps 32: the run has 64 already; a run can"
    ):
        module.main(module.Args(resume=directory.path, total_timesteps=32))
    assert module.main(module.Args(resume=directory.path, total_timesteps=128)) == 0
    extended = only_run(tmp_path / "run")
    assert extended.settings["total_timesteps"] == 128
    assert json.loads(extended.summary.read_text())["steps"] == 128
    assert list(read_metric(extended, "train/learning_rate")[0]) == [32, 64, 96, 128]


def test_same_seed_gives_the_same_numbers(tmp_path):
    returns = []
    for name in ("one", "two"):
        run(tmp_path / name, num_envs=2)
        returns.append(read_metric(only_run(tmp_path / name), "charts/episodic_return")[1])
    assert list(returns[0]) == list(returns[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        # Whichever meets it first, the next distribution or the check of the parameters.
        ({"learning_rate": 1e30}, "^the (policy has diverged|parameter .* finite) at step 32: "),
        ({"learning_rate": 1e38, "eps": 1e-30, "update_epochs": 1, "num_minibatches": 1},
         "^the parameter .* is not finite at step 32: .*a larger --eps"),
    ],
)  # fmt: skip
def test_numbers_that_are_not_finite_end_the_run_in_one_line(tmp_path, settings, message):
    with pytest.raises(FloatingPointError, match=message) as error:
        run(tmp_path, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("agent", "settings", "message"),
    [
        ("sb3-ppo", {"lstm_size": 32}, "--lstm-size 32: goes with --recurrent, which is missing"),
        ("sb3-ppo", {"lstm_size": 0}, "--lstm-size 0: must be greater than zero"),
        ("sb3-ppo", {"num_minibatches": 5}, "--num-minibatches 5: does not divide"),
        ("sb3-ppo", {"num_minibatches": 32}, "leaves one sample per minibatch"),
        ("sb3-ppo", {"total_timesteps": 31}, "--total-timesteps 31: is less than one rollout"),
        ("sb3-ppo", {"optimizer": "adaggnmc"}, "--optimizer adaggnmc"),
        ("sb3-a2c", {"checkpoint_interval": 9}, "--checkpoint-interval 9: must be a multiple"),
        ("sb3-a2c", {"eval_interval": 9}, "--eval-interval 9: must be a multiple"),
        ("sb3-a2c", {"gamma": 1.5}, "--gamma 1.5: must be from 0 to 1"),
        ("sb3-a2c", {"norm_adv": True, "num_steps": 1}, "--norm-adv needs rollouts of more than"),
        ("sb3-ppo", {"activation": "gelu"}, "--activation gelu: choose one of"),
        ("sb3-ppo", {"env_options": ("speed",)}, "--env-options speed: write name=value"),
        ("sb3-ppo", {"env_id": "hesrl/UR5ReacherReal-v0", "robot_host": "x"}, "train with ppo or"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(
    tmp_path, agent, settings, message
):
    with pytest.raises(UserError, match=message):
        run(tmp_path, agent, **settings)
    assert list(tmp_path.iterdir()) == []
