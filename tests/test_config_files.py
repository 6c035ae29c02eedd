"""``--config``: a run's config.yaml or a file by hand; options override it."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.cli import run_command
from hesrl.presets import preset
from tests.command_lines import parsed, refused


@pytest.fixture
def config(tmp_path):
    """Writes a file of settings."""

    def write(text):
        (tmp_path / "my.yaml").write_text(text)
        return f"--config={tmp_path / 'my.yaml'}"

    return write


def test_a_file_by_hand_is_what_options_change(config):
    file = config("gamma: 0.9\nhidden-sizes: [8, 9]\ntotal_timesteps: 1e5\n")
    expected = ppo.Args(gamma=0.5, hidden_sizes=(8, 9), total_timesteps=100_000, seed=3)
    assert parsed(ppo, file, "--gamma", "0.5", "--seed=3") == expected
    assert parsed(ppo, *file.split("="), "--gamma=0.5", "--seed=3") == expected


@pytest.mark.parametrize("agent", [ppo, a2c, stream_ac])
def test_a_run_repeats_another_by_its_config(tmp_path, agent):
    settings = {"total_timesteps": 256, "env_id": "InvertedPendulum-v5", "eval_episodes": 1}
    settings |= {"compile": "off", "gamma": 0.9, "runs_dir": tmp_path}
    if agent is ppo:
        settings |= {"num_steps": 128, "num_minibatches": 2}
    assert agent.main(agent.Args(**settings)) == 0
    (run,) = tmp_path.iterdir()
    assert "config" not in yaml.safe_load((run / "config.yaml").read_text())["settings"]
    for given in (run, run / "config.yaml"):
        args = parsed(agent, "--config", str(given), "--seed", "2")
        assert (args.gamma, args.seed, args.runs_dir) == (0.9, 2, tmp_path)
        assert args.total_timesteps == 256


def test_a_file_changes_a_preset(config):
    expected = dataclasses.replace(preset(ppo.Args, "paper"), gamma=0.9)
    assert parsed(ppo, "--paper", config("gamma: 0.9")) == expected


def test_help_has_the_values_of_the_file(config, capsys):
    assert run_command(ppo.Args, ppo.main, [config("gamma: 0.875"), "--help"]) == 0
    assert "(default: 0.875)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama: 0.9", "this command has no setting gama; did you mean gamma?"),
        ("xyzzy: 0.9", "this command has no setting xyzzy; --help lists the options"),
        ("resume: runs/x", "this command has no setting resume"),
        ("gamma: hello", "gamma: 'hello' is not a number"),
        ("gamma: [", "is not valid YAML: while parsing"),
        ("just words", "must be lines of 'name: value', such as 'gamma: 0.99'"),
        ("", "must be lines of 'name: value'"),
        ("format: hesrl run 1", "must be lines of 'name: value'"),
        ("gamma: !!python/object/apply:os.system ['true']", "is not valid YAML: could not"),
        ("gamma: 1.5", "--gamma 1.5: must be from 0 to 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(config, capsys, text, message):
    err = refused(ppo, capsys, config(text))
    assert message in err and ("my.yaml: " in err or "--gamma" in message)


def test_a_file_that_is_not_there_or_goes_with_resume(config, capsys, tmp_path):
    assert f"--config {tmp_path}/config.yaml: cannot be read: No such file" in refused(
        ppo, capsys, f"--config={tmp_path}"
    )
    err = refused(ppo, capsys, config("gamma: 0.9"), "--resume=runs/x")
    assert "--config does not go with --resume" in err
