"""The settings that PPO and A2C of Stable-Baselines3 share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hesrl.rl.settings import RolloutSettings
from hesrl.settings import require_multiples, require_positive


@dataclass
class SB3Settings(RolloutSettings):
    """Settings of PPO and A2C of Stable-Baselines3, with the names and defaults of hesrl's own."""

    HINTS: ClassVar[dict[str, str]] = {
        "--tuned": "there are tuned settings for hesrl's own ppo, a2c and stream-ac",
    }

    # Run
    log_interval: int = 1
    """updates from one row of metrics to the next; other intervals are multiples of it"""

    # Networks
    orthogonal_init: bool = True
    """whether weights start orthogonal, the last ones of the actor near zero; else as in PyTorch"""

    # Algorithm
    vf_coef: float = 0.5
    """weight of the value loss in the loss; Stable-Baselines3 has no ½ in the value loss"""

    @property
    def lstm_units(self) -> int | None:
        """Units of the LSTM of actor and critic; None: they have none."""
        return None

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        require_positive(self, "log_interval")
        require_multiples(self, "checkpoint_interval eval_interval", of="log_interval")
