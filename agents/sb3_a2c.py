"""A2C of Stable-Baselines3, unchanged, with an optimizer of hesrl and a run directory of hesrl's.

Options have the names and defaults of ``agents/a2c.py``. Where the two algorithms differ:

- The value loss is MSE (``agents/a2c.py``: ½·MSE), so that ``--vf-coef`` weighs twice as much.
- Discrete actions are possible. A run that is resumed begins new episodes.

Stable-Baselines3's own default, RMSprop, is not among the optimizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from stable_baselines3 import A2C

from hesrl.agents import a2c
from hesrl.cli import run_command
from hesrl.errors import UserError
from hesrl.rl.optimizer_settings import Defaults
from hesrl.sb3.training import train
from hesrl.sb3.training_settings import SB3Args
from hesrl.settings import settings_in_force


@dataclass
class Args(SB3Args):
    """Train A2C of Stable-Baselines3."""

    DEFAULTS: ClassVar[Mapping[str, Defaults]] = a2c.DEFAULTS

    log_interval: int = 100
    """updates from one row of metrics to the next"""
    checkpoint_interval: int = 5000
    """updates from one checkpoint to the next, a multiple of log_interval"""
    num_steps: int = 5
    """length of a rollout (environment steps, per environment)"""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (1: returns of num_steps)"""

    def check(self) -> None:
        """Refuse settings that cannot work and fill in the optimizer's own defaults.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        if self.checkpoint_interval % self.log_interval:
            raise UserError(
                f"--checkpoint-interval {self.checkpoint_interval}: must be a multiple of "
                f"--log-interval {self.log_interval}"
            )


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    return train("sb3-a2c", A2C, args, {})


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
