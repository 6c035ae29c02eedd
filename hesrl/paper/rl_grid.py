"""The grids of the paper's figures on learning, from ``configs/paper-rl.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import yaml

from hesrl.errors import UserError
from hesrl.experiments.sweeps.grid import Grid, make_grid
from hesrl.settings import Scale


def figure_grid(figure: str, kind: str, scale: Scale) -> Grid:
    """Return the training runs of a figure.

    Learning curves have test seeds for the settings that the tuning seeds choose; what depends on
    the step size has tuning seeds only, which both kinds of figures share.

    Args:
        figure: Name of the figure, such as ``"fig5"``.
        kind: What it shows: ``curves`` at the best step sizes, or ``sensitivity`` to them.
        scale: How much of it.

    Raises:
        UserError: The figure has no environment at this scale.
    """
    content = yaml.safe_load((files("hesrl.configs") / "paper-rl.yaml").read_text(encoding="utf-8"))
    parts = list(_parts(content, figure, kind, scale))
    if not parts:
        raise UserError(
            f"{figure} has only environments that are too long for --scale {scale}: "
            "take --scale paper"
        )
    of_scale = content["scales"][scale]
    grid = {"name": f"{figure}-{scale}", "tuning_seeds": of_scale["tuning_seeds"], "grids": parts}
    if kind == "curves":
        grid |= {"test_seeds": of_scale["test_seeds"], "test": "best"}
    return make_grid(grid)


def _parts(
    content: dict[str, Any], figure: str, kind: str, scale: Scale
) -> Iterator[dict[str, Any]]:
    """Yield one grid for each agent and length of runs."""
    of_figure, of_scale = content["figures"][figure], content["scales"][scale]
    env_ids = of_scale.get("env_ids", of_figure["env_ids"])
    long = [env_id for env_id in env_ids if env_id in content["long_env_ids"]]
    short = [env_id for env_id in env_ids if env_id not in long]
    for agent in of_figure["agents"]:
        for envs, steps in (
            (short, of_scale["total_timesteps"]),
            (long, of_scale["long_timesteps"]),
        ):
            if envs and steps:
                yield {
                    "agent": agent,
                    "settings": {
                        **content["settings"],
                        **of_scale.get("settings", {}),
                        **of_scale.get(agent, {}),
                        "env_id": envs,
                        "optimizer": of_scale[kind]["optimizers"],
                        "learning_rate": of_scale[kind]["learning_rates"],
                        "total_timesteps": steps,
                    },
                }
