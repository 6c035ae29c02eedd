"""What the settings of an agent say about its environment: arguments, and real time."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.envs.real_time import confirm_motion
from hesrl.errors import UserError
from hesrl.rl.settings import TrainingSettings
from hesrl.settings import flag


def env_options(options: Sequence[str], robot_host: str | None) -> dict[str, Any]:
    """Return the arguments of the environment that the settings give.

    Args:
        options: The arguments, each a ``name=value``. A value is a Python literal, or else text.
        robot_host: Address of the robot's controller, which becomes the argument ``host``.

    Raises:
        UserError: One option is no ``name=value``, or is given twice.
    """
    arguments: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name.isidentifier() or name in arguments:
            raise UserError(f"--env-options {option}: write name=value, and each name once")
        try:
            arguments[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[name] = text
    if robot_host is not None:
        if "host" in arguments:
            raise UserError("--robot-host is the host of --env-options: give one of them")
        arguments["host"] = robot_host
    return arguments


def check_real_time(
    args: TrainingSettings, envs: NormalizedEnvs, num_steps: int | None = None
) -> None:
    """Refuse settings with which training would interrupt an environment in real time, and ask.

    What it will move is said, and has to be confirmed.

    Args:
        args: Settings of the agent.
        envs: Its environments; simulated ones pass.
        num_steps: Length of a rollout (environment steps), after which the agent stops to learn.
            None for an agent that never stops.

    Raises:
        UserError: A rollout is not whole episodes, an evaluation falls into training, or the motion
            is not confirmed.
    """
    steps = envs.episode_steps
    if steps is None:
        return
    if num_steps is not None and num_steps % steps:
        whole = max(1, round(num_steps / steps)) * steps
        raise UserError(
            f"--num-steps {num_steps}: {args.env_id} runs in real time, so that learning has "
            f"to wait for the end of an episode of {steps} steps: give {whole}, or another multiple"
        )
    for name in ("eval_interval", "capture_video"):
        if getattr(args, name):
            raise UserError(
                f"{flag(name)}: would interrupt {args.env_id}, which runs in real time and is "
                "there only once; leave it out"
            )
    confirm_motion(envs.lend(), yes=args.yes)
