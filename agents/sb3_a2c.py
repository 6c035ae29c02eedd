"""A2C of Stable-Baselines3, unchanged, with an optimizer of hesrl and a run directory of hesrl's.

Options have the names and defaults of ``agents/a2c.py``. Where the two algorithms differ:

- The value loss is MSE (``agents/a2c.py``: ½·MSE), so that ``--vf-coef`` weighs twice as much.
- A run that is resumed begins new episodes, and an environment in real time is refused.

Stable-Baselines3's own default, RMSprop, is not among the optimizers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hesrl.agents import a2c
from hesrl.cli import run_command
from hesrl.errors import UserError
from hesrl.sb3.settings import SB3Settings
from hesrl.sb3.training import train
from hesrl.settings import settings_in_force


@dataclass
class Args(SB3Settings):
    """Train A2C of Stable-Baselines3."""

    OPTIMIZER_DEFAULTS: ClassVar[dict[str, dict[str, float]]] = a2c.DEFAULTS

    # Run
    log_interval: int = 100
    """updates from one row of metrics to the next; other intervals are multiples of it"""
    checkpoint_interval: int = 5000
    """updates from one checkpoint to the next, a multiple of log_interval"""

    # Algorithm
    num_steps: int = 5
    """length of a rollout (environment steps, per environment)"""
    gae_lambda: float = 1.0
    """λ of generalized advantage estimation (1: returns of num_steps)"""

    norm_adv: bool = False
    """whether to normalize the advantages of each rollout"""

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        if self.norm_adv and self.batch_size < 2:
            raise UserError("--norm-adv needs rollouts of more than one sample; raise --num-steps")


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    args.fill_in()
    return train("sb3-a2c", args, {"normalize_advantage": args.norm_adv})


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
