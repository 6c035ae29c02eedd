"""The settings that PPO and A2C share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hesrl import optim
from hesrl.errors import UserError
from hesrl.losses.checks import CURVATURES
from hesrl.rl.settings import RolloutSettings
from hesrl.rl.threads import cores
from hesrl.settings import require_between, require_positive
from hesrl.train_step import COMPILE


@dataclass
class ActorCriticSettings(RolloutSettings):
    """Settings of PPO and A2C in ``agents/``, which have networks and a step of hesrl."""

    # Run
    tuned: bool = False
    """settings tuned for the environment instead of the defaults (docs/agents.md lists them)"""
    compile: str = "auto"
    """whether the step on a minibatch is compiled; auto: if the run is long (docs/train_step.md)"""

    # Environment
    env_threads: int | None = None
    """threads that step MuJoCo's v5 tasks, which changes no number; None: from 4 environments on
    one for each core, and one for a run of a sweep"""

    # Networks
    shared_trunk: bool = False
    """whether actor and critic share all layers but their last ones"""
    variance_network: bool = False
    """whether the variance of continuous actions depends on the observation"""
    layer_norm: bool = False
    """whether the units of each hidden layer are normalized before the activation"""
    orthogonal_init: bool = True
    """whether weights start orthogonal, the last ones of the actor near zero; else as in PyTorch"""
    sparse_init: float = 0.0
    """share of the weights of each unit that start at zero; 0: orthogonal_init decides"""
    log_std_init: float = 0.0
    """log σ of continuous actions at the start, where log σ is a parameter"""

    # Algorithm
    bootstrap_at_time_limit: bool = True
    """whether the value behind a time limit counts; else a time limit is a terminal state"""

    # Optimizer
    critic_learning_rate: float | None = None
    """step size of the critic's own layers; None: learning_rate"""
    variance_learning_rate: float | None = None
    """step size of the variance of continuous actions; None: learning_rate"""
    output_curvature: str = "exact"
    """curvature of the policy loss at the outputs: exact, signed; or fisher, the policy's own"""

    @classmethod
    def choices(cls) -> dict[str, Iterable[str]]:
        """Return the possible values of settings that are text, by the name of the setting."""
        return {**super().choices(), "compile": COMPILE, "output_curvature": CURVATURES}

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        require_positive(self, "env_threads")
        # A run that moves to another machine goes on with fewer.
        if self.resume is None and self.env_threads is not None and self.env_threads > cores():
            raise UserError(
                f"--env-threads {self.env_threads}: this process may use {cores()} core(s), and "
                "more threads than cores only wait; give fewer"
            )
        own_rates = "critic_learning_rate variance_learning_rate"
        require_positive(self, own_rates)
        require_between(self, own_rates, 0, math.inf)
        require_between(self, "sparse_init", 0, 0.99)
        require_between(self, "log_std_init", -20, 20)
        if self.variance_network and self.log_std_init:
            raise UserError(
                "--log-std-init does not go with --variance-network, which gives log σ itself"
            )
        from_outputs = optim.get(self.optimizer).curvature in ("hesscale", "hesscale_gn", "bl89")
        if self.output_curvature != "exact" and not from_outputs:
            raise UserError(
                f"--output-curvature {self.output_curvature} does not go with --optimizer "
                f"{self.optimizer}"
            )
