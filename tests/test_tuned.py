"""``--tuned``: settings by environment from ``configs/``, which options override."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.cli import run_command
from hesrl.command_options import options_of
from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import make_grid
from hesrl.presets import tuned, tuned_entries
from tests.command_lines import parsed, refused
from tests.tuned_page import AGENTS, PAGE, page

ENTRIES = [
    (module, env_id) for module in (ppo, a2c, stream_ac) for env_id in tuned_entries(module.Args)
]


@pytest.mark.parametrize(("agent", "env_id"), ENTRIES)
def test_each_entry_is_valid_and_says_where_it_comes_from(agent, env_id):
    entry = tuned_entries(agent.Args)[env_id]
    assert entry.source and entry.measured
    args = tuned(agent.Args, env_id)
    assert (args.env_id, args.optimizer) == (env_id, next(iter(entry.optimizers)))
    assert entry.optimizers.keys() <= set(agent.Args.choices()["optimizer"])
    for optimizer in (None, *agent.Args.choices()["optimizer"]):
        tuned(agent.Args, env_id, optimizer).check()


def test_the_options_of_the_page_stand_for_the_entry():
    for agent in AGENTS.values():
        for env_id in tuned_entries(agent.Args):
            rows = _section_of(agent).splitlines()
            (row,) = (row for row in rows if row.startswith(f"| {env_id} |"))
            words = row.split("`")[1].split()
            expected = dataclasses.replace(tuned(agent.Args, env_id), tuned=False)
            assert parsed(agent, "--env-id", env_id, *words) == expected


def _section_of(agent):
    name = next(name for name, module in AGENTS.items() if module is agent)
    return page().partition(f"## hesrl train {name} ")[2].partition("\n## ")[0]


def test_the_page_has_what_the_files_have():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.tuned_page writes it"


def test_options_override_tuned_settings():
    settings = tuned(ppo.Args, "Hopper-v5")
    assert settings.gamma == 0.999 and settings.learning_rate == 9.80828e-5
    words = "--tuned", "--env-id=Hopper-v5", "--gamma", "0.9", "--seed=3"
    assert parsed(ppo, *words) == dataclasses.replace(settings, gamma=0.9, seed=3)
    assert parsed(ppo, "--tuned") == tuned(ppo.Args, "HalfCheetah-v5")
    assert parsed(ppo, "--tuned", "--env_id", "Hopper-v5") == settings


def test_another_optimizer_brings_its_own_settings():
    args = parsed(ppo, "--tuned", "--optimizer", "adahesscale")
    assert (args.learning_rate, args.eps, args.max_grad_norm) == (None, None, None)
    assert args.update_epochs == tuned(ppo.Args, "HalfCheetah-v5").update_epochs == 20


def test_an_environment_without_an_entry_is_one_line_that_has_those_with_one(capsys):
    err = refused(ppo, capsys, "--tuned", "--env-id", "Pusher-v5")
    assert err.startswith("error: --tuned: nothing is tuned for Pusher-v5; there are settings for ")
    assert all(env_id in err for env_id in tuned_entries(ppo.Args)) and ".zoo" not in err


@pytest.mark.parametrize(("agent", "env_id"), [(ppo, "CartPole-v1"), (a2c, "InvertedPendulum-v5")])
def test_a_run_has_the_values_and_is_repeated_and_resumed_by_them(tmp_path, capsys, agent, env_id):
    words = "--tuned", f"--env-id={env_id}", f"--runs-dir={tmp_path}", "--total-timesteps=512"
    words = *words, "--compile=off", "--eval-episodes=1"
    assert run_command(agent.Args, agent.main, words) == 0
    (run,) = tmp_path.iterdir()
    settings = yaml.safe_load((run / "config.yaml").read_text())["settings"]
    assert "tuned" not in settings
    args = tuned(agent.Args, env_id)
    assert (settings["num_envs"], settings["learning_rate"]) == (args.num_envs, args.learning_rate)
    repeated = parsed(agent, "--config", str(run))
    assert (repeated.num_envs, repeated.gae_lambda) == (args.num_envs, args.gae_lambda)
    assert run_command(agent.Args, agent.main, [f"--resume={run}"]) == 0
    assert "is finished after 512 steps" in capsys.readouterr().out
    err = refused(agent, capsys, "--tuned", f"--resume={run}")
    assert "--tuned does not go with --resume" in err


def test_tuned_goes_with_no_other_source_of_settings(tmp_path, capsys):
    file = tmp_path / "my.yaml"
    file.write_text("tuned: true")
    err = refused(ppo, capsys, "--tuned", f"--config={file}")
    assert "--tuned does not go with --config: give one of them" in err
    assert "--tuned does not go with --paper" in refused(ppo, capsys, "--paper", "--tuned")
    assert "no setting tuned" in refused(ppo, capsys, f"--config={file}")


def test_a_sweep_takes_what_is_tuned_for_each_environment():
    settings = {"env_id": ["Hopper-v5", "Swimmer-v5"], "tuned": True, "gae_lambda": 0.5}
    grid = make_grid({"agent": "ppo", "settings": settings, "test_seeds": [1]})
    hopper, swimmer = (trial.args() for trial in grid.trials())
    assert (hopper.gamma, swimmer.gamma) == (0.999, 0.9999)
    assert hopper.gae_lambda == swimmer.gae_lambda == 0.5


def test_the_agents_with_tuned_settings_are_those_with_the_option():
    for name, module in AGENTS.items():
        assert "--tuned" in {option.flag for option in options_of(module.Args)}, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"log_std_init": 30.0}, "--log-std-init 30.0: must be from -20 to 20"),
        (
            {"log_std_init": -1.0, "variance_network": True},
            "--log-std-init does not go with --vari",
        ),
    ],
)
def test_an_impossible_deviation_is_named(settings, message):
    with pytest.raises(UserError, match=f"^{message}"):
        ppo.Args(**settings).check()
