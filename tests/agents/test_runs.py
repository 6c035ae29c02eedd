"""Whole runs of the agents, each a process, as a user starts them."""

import json
import math
import re
import subprocess
from importlib.util import find_spec

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hesrl.runs.checkpoint import load_checkpoint
from tests.agents.processes import (
    IMAGES,
    each_agent_of_rollouts,
    finish,
    only_run,
    resume,
    rows,
    run_small,
    small,
    start,
    start_by_command,
    start_small,
)

WANDB = pytest.mark.skipif(find_spec("wandb") is None, reason="needs hesrl[track]")
FFMPEG = pytest.mark.skipif(find_spec("imageio_ffmpeg") is None, reason="needs hesrl[video]")
COMPILING = r"(compiling the training step .*\n)?"
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize(("options", "steps"), [((), 4 * 4), (("--reset-time",), 4)], ids=str)
def test_the_count_of_steps_begins_anew_with_a_rollout_if_asked(tmp_path, options, steps):
    averages = "--optimizer=adahesscale", "--curvature-average=mean", "--damping=0.1"
    rollouts = "--num-steps=128", "--num-minibatches=4", "--update-epochs=1"
    finish(start("ppo", *small("ppo", *averages, *rollouts, *options), cwd=tmp_path))
    state = load_checkpoint(only_run(tmp_path) / "checkpoint.pt")["optimizer"]
    assert {int(of_param["step"]) for of_param in state["state"].values()} == {steps}
    assert all("exp_hess" in of_param for of_param in state["state"].values())
    assert {group["damping"] for group in state["param_groups"]} == {0.1}


def test_a_run_adapts_the_step_sizes_of_its_networks(tmp_path):
    """No rollout moves the policy by as much."""
    sizes = "--learning-rate=0.01", "--critic-learning-rate=0.02", "--desired-kl=100"
    rollouts = "--num-steps=128", "--num-minibatches=4", "--update-epochs=1"
    finish(start("ppo", *small("ppo", *sizes, *rollouts), cwd=tmp_path))
    run = only_run(tmp_path)
    found = [float(value) for _, key, value in rows(run) if key == "charts/learning_rate"]
    assert found == pytest.approx([0.01 * 1.5**n for n in range(4)])
    groups = load_checkpoint(run / "checkpoint.pt")["optimizer"]["param_groups"]
    after = {group["name"]: float(group["lr"]) for group in groups}
    assert after == pytest.approx({"actor": 0.01 * 1.5**4, "critic": 0.02 * 1.5**4})


@pytest.mark.parametrize(
    ("agent", "optimizer", "env_id", "begin"),
    [
        ("ppo", "adam", "Hopper-v5", start),
        ("ppo", "adahesscale", "CartPole-v1", start_by_command),
        ("a2c", "sgd", "Hopper-v5", start),
        ("a2c", "scaled-adahesscalegn", "CartPole-v1", start_by_command),
        ("stream_ac", "intentional", "Hopper-v5", start),
        ("stream_ac", "intentional-kl", "CartPole-v1", start_by_command),
    ],
)
def test_run_leaves_everything_a_user_needs(tmp_path, agent, optimizer, env_id, begin):
    options = f"--optimizer={optimizer}", f"--env-id={env_id}"
    status, out, err = finish(begin(agent, *small(agent, *options), cwd=tmp_path))
    assert (status, err) == (0, "")
    run = only_run(tmp_path)
    name = agent.replace("_", "-")
    assert re.fullmatch(rf"{env_id}__{name}__{optimizer}__1__\d{{8}}-\d{{6}}", run.name)
    assert "tensorboard --logdir runs" in out and "return of 1 evaluation episode " in out
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["settings"]["optimizer"] == optimizer
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 512 and math.isfinite(summary["return of 1 evaluation episode"])
    assert (run / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    keys = set(EventAccumulator(str(run)).Reload().Tags()["scalars"])
    loss = "losses/td_error" if agent == "stream_ac" else "losses/value_loss"
    assert {"charts/episodic_return", loss, "charts/SPS"} <= keys
    assert ("curvature/norm" in keys) == ("hesscale" in optimizer)
    # A scaled optimizer bounds the step of each network by itself.
    state = load_checkpoint(run / "checkpoint.pt")
    groups = [key for key in state if "optimizer" in key for _ in state[key]["param_groups"]]
    assert len(groups) == 2


@each_agent_of_rollouts
def test_images_are_learned_from_on_a_shared_trunk(tmp_path, agent):
    options = f"--env-id={IMAGES}", "--shared-trunk", "--hidden-sizes", "8"
    run = run_small(agent, *options, cwd=tmp_path, steps=256)
    networks = load_checkpoint(run / "checkpoint.pt")["agent"]
    assert networks["trunk.1.weight"].shape == (32, 1, 8, 8)
    values = {key: float(value) for step, key, value in rows(run) if step == 256}
    assert math.isfinite(values["losses/value_loss"]) and values["curvature/norm"] > 0


@pytest.mark.parametrize(
    ("agent", "steps", "options"),
    [
        ("ppo", 10_240, ("--num-minibatches=4", "--update-epochs=4")),
        ("a2c", 16_384, ("--num-steps=8",)),
        ("stream_ac", 6_144, ("--compile=auto",)),
    ],
)
def test_training_improves_the_policy(tmp_path, agent, steps, options):
    """At random the pole falls after about 22 steps; three seeds reached 203 to 500."""
    if agent != "stream_ac":
        options = "--num-envs=4", *options
    options = "--env-id=CartPole-v1", "--eval-episodes=5", *options
    status, _, err = finish(start_small(agent, *options, cwd=tmp_path, steps=steps))
    assert status == 0 and re.fullmatch(COMPILING, err), err
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    assert summary["return of 5 evaluation episodes"] > 100


@pytest.mark.parametrize(("agent", "interval"), [("ppo", 1), ("a2c", 32), ("stream_ac", 128)])
def test_evaluations_are_at_their_steps_and_leave_training_alone(tmp_path, agent, interval):
    """Every 128 steps, and at the end, whose result is also in the summary."""
    folders = tmp_path / "plain", tmp_path / "evaluated"
    processes = []
    for folder, options in zip(folders, ((), (f"--eval-interval={interval}",)), strict=True):
        folder.mkdir()
        processes.append(start_small(agent, "--env-id=CartPole-v1", *options, cwd=folder))
    assert [finish(process)[::2] for process in processes] == [(0, ""), (0, "")]
    runs = [only_run(folder) for folder in folders]
    evaluated = rows(runs[1])
    evaluations = [(s, value) for s, key, value in evaluated if key == "eval/episodic_return"]
    assert [step for step, _ in evaluations] == [128, 256, 384, 512]
    summary = json.loads((runs[1] / "summary.json").read_text())
    assert float(evaluations[-1][1]) == summary["return of 1 evaluation episode"]
    training = [[row for row in rows(run) if "eval" not in row[1]] for run in runs]
    assert training[0] == training[1]


@FFMPEG
def test_each_evaluation_of_a_stream_leaves_a_video(tmp_path):
    options = "--env-id=hesrl/UR5Reacher-v0", "--capture-video", "--eval-interval=128"
    run = run_small("stream_ac", *options, cwd=tmp_path, steps=256)
    videos = sorted((run / "videos").iterdir())
    assert [video.name for video in videos] == ["step-128.mp4", "step-256.mp4"]
    assert all(video.stat().st_size > 1000 for video in videos)


@FFMPEG
@each_agent_of_rollouts
def test_each_evaluation_leaves_a_video(tmp_path, agent):
    import imageio_ffmpeg

    interval = {"ppo": 1, "a2c": 32}[agent]
    options = f"--env-id={IMAGES}", f"--eval-interval={interval}", "--capture-video"
    run = run_small(agent, *options, "--hidden-sizes", "8", cwd=tmp_path, steps=256)
    videos = sorted((run / "videos").iterdir())
    assert [video.name for video in videos] == ["step-128.mp4", "step-256.mp4"]
    for video in videos:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(video)]
        command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
        decoded = subprocess.run(command, capture_output=True, check=True)
        # An episode of 4 or 8 steps, and its first picture.
        assert len(decoded.stdout) / (36 * 40) in (5, 9) and decoded.stderr == b""


@WANDB
def test_a_run_is_tracked_offline(tmp_path):
    options = "--env-id=CartPole-v1", "--track"
    surroundings = {"WANDB_MODE": "offline", "HOME": str(tmp_path)}
    run = run_small("ppo", *options, cwd=tmp_path, steps=256, **surroundings)
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    tracked = file.read_bytes()
    assert b"losses/value_loss" in tracked and b"eval/episodic_return" in tracked


@pytest.mark.gpu
@GPU
@each_agent_of_rollouts
def test_a_run_on_a_gpu_leaves_its_networks_there(tmp_path, agent):
    options = "--env-id=CartPole-v1", "--device=cuda"
    run = run_small(agent, *options, cwd=tmp_path, steps=256)
    networks = load_checkpoint(run / "checkpoint.pt")["agent"]
    assert all(torch.isfinite(tensor).all() for tensor in networks.values())
    status, _, err = resume(agent, run, cwd=tmp_path)
    assert (status, err) == (0, "")


def test_paper_of_ppo_is_a_run_with_a_network_for_the_variance(tmp_path):
    run = run_small("ppo", "--paper", "--env-id=InvertedPendulum-v5", cwd=tmp_path)
    settings = yaml.safe_load((run / "config.yaml").read_text())["settings"]
    assert settings["variance_network"] and not settings["clip_vloss"]
    state = load_checkpoint(run / "checkpoint.pt")
    assert "actor_logvar.2.weight" in state["agent"]
    assert len(state["optimizer"]["param_groups"]) == 3
    rates = {value for _, key, value in rows(run) if key == "charts/learning_rate"}
    assert rates == {"0.001"}


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "CartPole-v1"])
def test_a_stream_that_has_diverged_ends_in_one_line(tmp_path, env_id):
    options = f"--env-id={env_id}", "--eta-policy=1e30", "--eta-value=1e30"
    status, out, err = finish(start_small("stream_ac", *options, cwd=tmp_path))
    assert status == 1 and re.fullmatch(
        "error: .*(not finite|NaN|is nan).*--eta-policy.*\n", err
    ), err
    assert "before the first checkpoint" in out


@pytest.mark.parametrize(
    ("agent", "env_id"),
    [("ppo", "HalfCheetah-v5"), ("a2c", "HalfCheetah-v5"), ("a2c", "CartPole-v1")],
)
def test_number_that_is_not_finite_ends_the_run_in_one_line(tmp_path, agent, env_id):
    options = f"--env-id={env_id}", "--learning-rate=1e30"
    status, _, err = finish(start_small(agent, *options, cwd=tmp_path, steps=4096))
    assert status == 1
    assert err.startswith("error: ") and err.count("\n") == 1
    # A2C looks once per log interval; it may meet actions and values that are NaN before.
    assert "is not finite" in err or (agent == "a2c" and "an action is NaN" in err)
    assert "try a smaller --learning-rate or a larger --eps" in err or "(--learning-rate, or" in err
