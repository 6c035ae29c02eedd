"""PPO of Stable-Baselines3, unchanged, with an optimizer of hesrl and a run directory of hesrl's.

Options have the names and defaults of ``agents/ppo.py``. Where the two algorithms differ:

- The value loss is MSE (``agents/ppo.py``: ½·MSE), so that ``--vf-coef`` weighs twice as much.
- ``--target-kl`` stops before a step, at 1.5 times the target (``agents/ppo.py``: after an epoch).
- ``--recurrent`` trains RecurrentPPO of sb3-contrib, whose actor and critic have an LSTM each.
- A run that is resumed begins new episodes, and an environment in real time is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hesrl.agents import ppo
from hesrl.cli import run_command
from hesrl.errors import UserError
from hesrl.sb3.settings import SB3Settings
from hesrl.sb3.training import train
from hesrl.settings import require_positive, settings_in_force


@dataclass
class Args(SB3Settings):
    """Train PPO of Stable-Baselines3."""

    OPTIMIZER_DEFAULTS: ClassVar[dict[str, dict[str, float]]] = ppo.DEFAULTS

    # Networks
    recurrent: bool = False
    """whether actor and critic have an LSTM before their hidden layers (RecurrentPPO)"""
    lstm_size: int = 256
    """units of the LSTM, with --recurrent"""

    # Algorithm
    num_minibatches: int = 32
    """minibatches that a rollout is cut into"""
    update_epochs: int = 10
    """passes over a rollout in one update"""
    clip_coef: float = 0.2
    """largest rewarded change of the probability ratio, ε"""
    clip_vloss: bool = True
    """whether to clip the change of the value, with the same ε in units of the value"""
    target_kl: float | None = None
    """approximate KL divergence (nats) of which 1.5 times end an update early; None: never"""

    @property
    def lstm_units(self) -> int | None:
        """Units of the LSTM of actor and critic; None: they have none."""
        return self.lstm_size if self.recurrent else None

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        require_positive(self, "lstm_size num_minibatches update_epochs clip_coef target_kl")
        if not self.recurrent and self.lstm_size != type(self).lstm_size:
            raise UserError(
                f"--lstm-size {self.lstm_size}: goes with --recurrent, which is missing"
            )
        if self.batch_size % self.num_minibatches:
            raise UserError(
                f"--num-minibatches {self.num_minibatches}: does not divide the rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )
        if self.norm_adv and self.batch_size == self.num_minibatches:
            raise UserError(
                f"--num-minibatches {self.num_minibatches}: leaves one sample per minibatch, whose "
                "advantage cannot be normalized; use fewer, or --no-norm-adv"
            )


def main(args: Args) -> int:
    """Train, evaluate and summarize one run; return the exit status."""
    args = settings_in_force(args)
    args.check()
    args.fill_in()
    settings: dict[str, Any] = {
        "batch_size": args.batch_size // args.num_minibatches,
        "n_epochs": args.update_epochs,
        "normalize_advantage": args.norm_adv,
        "clip_range": args.clip_coef,
        "clip_range_vf": args.clip_coef if args.clip_vloss else None,
        "target_kl": args.target_kl,
    }
    return train("sb3-ppo", args, settings)


if __name__ == "__main__":
    raise SystemExit(run_command(Args, main))
