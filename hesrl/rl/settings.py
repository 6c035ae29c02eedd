"""The settings that training runs share; an agent's ``Args`` adds its own and changes defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hesrl.errors import UserError
from hesrl.optim import CURVATURE_AVERAGES
from hesrl.rl.layers import ACTIVATIONS
from hesrl.rl.optimizer_settings import OptimizerDefaults, check_optimizer, fill_in_optimizer
from hesrl.settings import (
    MAX_SEED,
    MAX_STEPS,
    require_between,
    require_choice,
    require_device,
    require_positive,
)


@dataclass
class TrainingSettings:
    """Settings of every training run, whatever its algorithm.

    Attributes:
        PRESETS: Files in ``configs/`` by the flag that asks for them.
        COMMON: Options that the help begins with.
        given: Settings that are on the command line; of an instance.
    """

    PRESETS: ClassVar[dict[str, str]] = {}
    COMMON: ClassVar[tuple[str, ...]] = (
        "env_id", "total_timesteps", "optimizer", "seed", "resume",
    )  # fmt: skip
    given: ClassVar[frozenset[str]] = frozenset()

    # Run
    seed: int = 1
    """seed of the network, the environments, the actions and the minibatches"""
    runs_dir: Path = Path("runs")
    """folder in which the directory of this run is made"""
    resume: Path | None = None
    """directory of a run to continue, with its settings; a larger total_timesteps extends it"""
    config: Path | None = None
    """file of settings, such as the config.yaml of a run; options override it"""
    checkpoint_interval: int = 10
    """updates from one checkpoint to the next"""
    eval_interval: int | None = None
    """updates from one evaluation to the next; None: only at the end"""
    eval_episodes: int = 10
    """episodes of an evaluation, with the most probable actions and frozen statistics"""
    capture_video: bool = False
    """whether each evaluation leaves a video of one episode in the run's directory"""
    track: bool = False
    """whether the metrics also go to Weights & Biases (WANDB_MODE=offline: to this machine)"""
    wandb_project: str = "hesrl"
    """project of Weights & Biases"""
    device: str = "cpu"
    """device of the networks, as PyTorch names it"""
    threads: int = 1
    """threads of PyTorch and NumPy; small networks gain nothing from more"""

    # Environment
    env_id: str = "HalfCheetah-v5"
    """Gymnasium id of the environment"""
    env_options: tuple[str, ...] = ()
    """arguments of the environment, such as max_episode_steps=500; for a robot, speed_limit=0.1"""
    robot_host: str | None = None
    """address of the robot's controller; None: the address in HESRL_UR5_HOST"""
    yes: bool = False
    """whether a robot may move without being asked for at the terminal, for scripts"""
    normalize_observations: bool = True
    """whether vectors of observations are scaled by their statistics and clipped"""
    normalize_rewards: bool = True
    """whether rewards are scaled by the deviation of the discounted return and clipped"""

    # Networks
    hidden_sizes: tuple[int, ...] = (64, 64)
    """units of the hidden layers of actor and critic; images have three convolutions before"""
    activation: str = "tanh"
    """function between the layers"""

    # Algorithm
    total_timesteps: int = 1_000_000
    """length of the run (environment steps, over all environments)"""
    gamma: float = 0.99
    """discount factor γ per environment step"""

    @classmethod
    def choices(cls) -> dict[str, Iterable[str]]:
        """Return the possible values of settings that are text, by the name of the setting."""
        return {"activation": ACTIVATIONS}

    @property
    def planned_timesteps(self) -> int:
        """Environment steps that the run will take."""
        return self.total_timesteps

    @property
    def project(self) -> str | None:
        """The project of Weights & Biases if the run is tracked there, else None."""
        return self.wandb_project if self.track else None

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        for name, choices in self.choices().items():
            require_choice(self, name, choices)
        require_device(self.device)
        require_positive(
            self, "checkpoint_interval eval_interval eval_episodes threads hidden_sizes"
        )
        require_between(self, "total_timesteps", 1, MAX_STEPS)
        require_between(self, "seed", 0, MAX_SEED)
        require_between(self, "gamma", 0, 1)


@dataclass
class RolloutSettings(TrainingSettings):
    """Settings of an agent that learns from rollouts.

    Attributes:
        OPTIMIZER_DEFAULTS: What each optimizer brings where nothing is given, by its name.
    """

    OPTIMIZER_DEFAULTS: ClassVar[Mapping[str, OptimizerDefaults]] = {}

    # Environment
    num_envs: int = 1
    """environments stepped in this process"""

    # Algorithm
    num_steps: int = 2048
    """length of a rollout (environment steps, per environment)"""
    gae_lambda: float = 0.95
    """λ of generalized advantage estimation (1: returns of num_steps)"""
    norm_adv: bool = True
    """whether to normalize the advantages of each minibatch"""
    ent_coef: float = 0.0
    """weight of the entropy bonus in the loss"""
    vf_coef: float = 0.5
    """weight of the value loss in the loss"""

    # Optimizer
    optimizer: str = "adahesscale"
    """what steps the networks (docs/optimizers.md)"""
    learning_rate: float | None = None
    """step size (second order: no unit, else in units of the parameters); None: optimizer's own"""
    anneal_lr: bool = True
    """whether the step size falls linearly to zero over the run"""
    betas: tuple[float, float] = (0.9, 0.999)
    """decay rates of the moving averages of gradient and scale, per optimizer step"""
    eps: float | None = None
    """ε in the denominator, in units of the gradient (adam: 1e-5) or the curvature (else 1e-3)"""
    adam_bound: float | None = None
    """most that an entry may move, in steps of Adam (inf: no bound, as in the paper); None: inf"""
    curvature_average: str = "rms"
    """moving average of the curvature that divides the step (docs/optimizers.md)"""
    damping: float = 0.0
    """what that average gets before its root, in units of its mean over each parameter"""
    delta: float | None = None
    """Δ of scaled-…, bound of the loss's change by curvature per network and step; None: 1e-8"""
    max_grad_norm: float | None = None
    """largest norm of the gradient (inf: no clipping); None: 0.5 for adam and sgd, else inf"""

    @classmethod
    def choices(cls) -> dict[str, Iterable[str]]:
        """Return the possible values of settings that are text, by the name of the setting."""
        return {
            **super().choices(),
            "optimizer": cls.OPTIMIZER_DEFAULTS,
            "curvature_average": CURVATURE_AVERAGES,
        }

    @property
    def batch_size(self) -> int:
        """Most environment steps in one rollout, over all environments."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """Whole rollouts, each with its update, in the run."""
        return self.total_timesteps // self.batch_size

    @property
    def planned_timesteps(self) -> int:
        """Environment steps that the run will take: those of whole rollouts."""
        return self.num_iterations * self.batch_size

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        check_optimizer(self, self.OPTIMIZER_DEFAULTS)
        super().check()
        require_positive(self, "num_envs num_steps")
        require_between(self, "ent_coef vf_coef", 0, math.inf)
        require_between(self, "gae_lambda", 0, 1)
        if self.num_iterations == 0:
            raise UserError(
                f"--total-timesteps {self.total_timesteps}: is less than one rollout of "
                f"{self.batch_size} steps (num_envs × num_steps)"
            )

    def fill_in(self) -> None:
        """Put in what the optimizer brings where nothing is given; the settings are checked."""
        fill_in_optimizer(self, self.OPTIMIZER_DEFAULTS)
