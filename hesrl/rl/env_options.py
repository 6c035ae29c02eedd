"""What the settings of an agent say about its environment: arguments, and real time."""

from __future__ import annotations

import ast
from typing import Any, Protocol

from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.errors import UserError
from hesrl.settings import flag


class EnvSettings(Protocol):
    """What is needed of an agent's ``Args`` for the arguments of the environment."""

    env_options: tuple[str, ...]
    robot_host: str | None


class RealTimeSettings(Protocol):
    """What is needed of an agent's ``Args`` for a check against real time."""

    env_id: str
    num_steps: int
    eval_interval: int | None
    capture_video: bool


def env_options(args: EnvSettings) -> dict[str, Any]:
    """Return the arguments of the environment that the settings give.

    Args:
        args: Settings of the agent. In ``env_options``, each a ``name=value``, values are Python
            literals, or else text.

    Raises:
        UserError: One is no ``name=value``, or is given twice.
    """
    options: dict[str, Any] = {}
    for option in args.env_options:
        name, equals, text = option.partition("=")
        if not equals or not name.isidentifier() or name in options:
            raise UserError(f"--env-options {option}: write name=value, and each name once")
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    if args.robot_host is not None:
        if "host" in options:
            raise UserError("--robot-host is the host of --env-options: give one of them")
        options["host"] = args.robot_host
    return options


def check_real_time(args: RealTimeSettings, envs: NormalizedEnvs) -> None:
    """Refuse settings with which training would interrupt an environment in real time.

    Args:
        args: Settings of the agent.
        envs: Its environments; simulated ones pass.

    Raises:
        UserError: A rollout is not whole episodes, or an evaluation falls into training.
    """
    steps = envs.episode_steps
    if steps is None:
        return
    if args.num_steps % steps:
        whole = max(1, round(args.num_steps / steps)) * steps
        raise UserError(
            f"--num-steps {args.num_steps}: {args.env_id} runs in real time, so that learning has "
            f"to wait for the end of an episode of {steps} steps: give {whole}, or another multiple"
        )
    for name in ("eval_interval", "capture_video"):
        if getattr(args, name):
            raise UserError(
                f"{flag(name)}: would interrupt {args.env_id}, which runs in real time and is "
                "there only once; leave it out"
            )
