"""What PPO and A2C of Stable-Baselines3 have in common when ``hesrl train`` runs them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hesrl.agents import ppo
from hesrl.errors import UserError
from hesrl.rl.optimizer_settings import Defaults, fill_in_optimizer
from hesrl.settings import require_between, require_positive


@dataclass
class SB3Args:
    """Settings with the names and defaults of hesrl's own agents."""

    DEFAULTS: ClassVar[Mapping[str, Defaults]] = ppo.DEFAULTS

    # Run
    seed: int = 1
    """seed of the network, the environments, the actions and the minibatches"""
    runs_dir: Path = Path("runs")
    """folder in which the directory of this run is made"""
    resume: Path | None = None
    """directory of an interrupted run to continue; takes all settings from it"""
    log_interval: int = 1
    """updates from one row of metrics to the next"""
    checkpoint_interval: int = 10
    """updates from one checkpoint to the next"""
    eval_episodes: int = 10
    """episodes played at the end with the likeliest action and frozen statistics"""
    threads: int = 1
    """threads of PyTorch and NumPy; small networks gain nothing from more"""

    # Environment
    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    num_envs: int = 1
    """environments stepped in turn in this process"""
    normalize: bool = True
    """whether running statistics scale observations and rewards (VecNormalize)"""

    # Algorithm
    total_timesteps: int = 1_000_000
    """length of the run (environment steps, over all environments)"""
    num_steps: int = 2048
    """length of a rollout (environment steps, per environment)"""
    gamma: float = 0.99
    """discount factor γ per environment step"""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation"""
    ent_coef: float = 0.0
    """weight of the entropy bonus in the loss"""
    vf_coef: float = 0.5
    """weight of the value loss in the loss; Stable-Baselines3 has no ½ in the latter"""

    # Optimizer
    optimizer: str = "adahesscale"
    """adam, sgd, adahesscale, adahesscalegn, adahessian or adabl89, or one of them in a trust
    region: scaled-…"""
    learning_rate: float | None = None
    """step size (adahesscale: no unit, else in units of the parameters); None: optimizer's own"""
    anneal_lr: bool = True
    """whether the step size falls linearly to zero over the run"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay rates of the moving averages of gradient and scale, per optimizer step"""
    eps: float | None = None
    """ε in the denominator, in units of the gradient (adam: 1e-5) or the curvature (else 1e-3)"""
    delta: float | None = None
    """Δ of scaled-…, bound of the loss's change by curvature per network and step; None: 1e-8"""
    max_grad_norm: float | None = None
    """largest norm of the gradient (inf: no clipping); None: 0.5 for adam and sgd, else inf"""

    @property
    def batch_size(self) -> int:
        """Environment steps in one rollout, over all environments."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Rollouts, each with its update, in the run."""
        return self.total_timesteps // self.batch_size

    def check(self) -> None:
        """Refuse settings that cannot work and fill in the optimizer's own defaults.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        fill_in_optimizer(self, self.DEFAULTS)
        require_positive(
            self,
            "num_envs num_steps total_timesteps log_interval checkpoint_interval eval_episodes "
            "threads",
        )
        require_between(self, "seed ent_coef vf_coef", 0, math.inf)
        require_between(self, "gamma gae_lambda", 0, 1)
        if self.num_iterations == 0:
            raise UserError(
                f"--total-timesteps {self.total_timesteps}: is less than one rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )
