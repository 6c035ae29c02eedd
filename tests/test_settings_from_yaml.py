"""Settings from YAML: the types of the dataclass, or one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from hesrl.agents import a2c, ppo, sb3_a2c, sb3_ppo, stream_ac
from hesrl.errors import UserError
from hesrl.settings_from_yaml import typed_settings


@pytest.mark.parametrize("agent", [ppo, a2c, stream_ac, sb3_ppo, sb3_a2c])
def test_what_yaml_has_written_comes_back(agent):
    args = agent.Args()
    given = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(args).items()}
    read = yaml.safe_load(yaml.safe_dump({k: list(v) if isinstance(v, tuple) else v
                                          for k, v in given.items()}))  # fmt: skip
    assert agent.Args(**typed_settings(agent.Args, read, "config.yaml")) == args


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("gamma: 1e-3", 1e-3),
        ("total_timesteps: 1e6", 1_000_000),
        ("total_timesteps: 2_000_000", 2_000_000),
        ("seed: 123456789012345678901234567890", 123456789012345678901234567890),
        ("max_grad_norm: .inf", float("inf")),
        ("learning_rate: null", None),
        ("hidden_sizes: [8, 9]", (8, 9)),
        ("hidden_sizes: []", ()),
        ("runs_dir: a/b", Path("a/b")),
    ],
)
def test_values_get_the_type_of_the_setting(text, value):
    ((name, found),) = typed_settings(ppo.Args, yaml.safe_load(text), "x").items()
    assert found == value and type(found) is type(value), name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma: hello", "gamma: 'hello' is not a number"),
        ("total_timesteps: 1.5", "total_timesteps: 1.5 is not a whole number"),
        ("total_timesteps: .inf", "total_timesteps: inf is not a whole number"),
        ("seed: true", "seed: True is not a whole number"),
        ("paper: 1", "paper: 1 is not true or false"),
        ("env_id: 5", "env_id: 5 is not text"),
        ("learning_rate: [1]", r"learning_rate: \[1\] is not a number or null"),
        ("hidden_sizes: 64", "hidden_sizes: 64 is not a list of whole numbers"),
        ("hidden_sizes: [64, x]", r"hidden_sizes: \[64, 'x'\] is not a list of whole numbers"),
        ("betas: [0.9]", r"betas: \[0.9\] is not a list of 2 numbers"),
        ("runs_dir: 5", "runs_dir: 5 is not a path"),
    ],
)
def test_another_type_is_named(text, message):
    with pytest.raises(UserError, match=f"^a.yaml: {message}$"):
        typed_settings(ppo.Args, yaml.safe_load(text), "a.yaml")
