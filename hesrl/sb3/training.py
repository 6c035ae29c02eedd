"""A training run of Stable-Baselines3's PPO or A2C in a run directory of hesrl.

The algorithm is Stable-Baselines3's, unchanged; a callback writes episodes, metrics and
checkpoints where hesrl's own agents write them, so that both land in one plot.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from hesrl import optim
from hesrl.envs.checked_env import CheckedEnv
from hesrl.envs.episode_player import Act
from hesrl.envs.evaluation import Evaluator
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import Observations
from hesrl.envs.normalized_envs import Episode
from hesrl.envs.real_time import real_time
from hesrl.envs.spaces import is_image, other_spaces
from hesrl.errors import UserError, one_line
from hesrl.rl.env_options import env_options
from hesrl.rl.layers import ACTIVATIONS
from hesrl.rl.optimizer_settings import hyperparameters
from hesrl.rl.settings import RolloutSettings
from hesrl.rl.threads import limit_threads
from hesrl.rl.training_state import REMEDY
from hesrl.runs import RunDirectory, Session, rng_state, set_rng_state
from hesrl.sb3.callbacks import CurvatureCallback
from hesrl.sb3.policies import MlpPolicy
from hesrl.settings import require_multiples, require_positive
from hesrl.settings_from_yaml import typed_settings


@dataclass
class SB3Settings(RolloutSettings):
    """Settings of PPO and A2C of Stable-Baselines3, with the names and defaults of hesrl's own."""

    # Run
    log_interval: int = 1
    """updates from one row of metrics to the next; other intervals are multiples of it"""

    # Algorithm
    vf_coef: float = 0.5
    """weight of the value loss in the loss; Stable-Baselines3 has no ½ in the value loss"""

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            UserError: One setting is impossible; the message names it.
        """
        super().check()
        require_positive(self, "log_interval")
        require_multiples(self, "checkpoint_interval eval_interval", of="log_interval")


def train(
    agent: str, algorithm: type[OnPolicyAlgorithm], args: SB3Settings, settings: dict[str, Any]
) -> int:
    """Train, evaluate and summarize one run; return the exit status.

    Args:
        agent: Name of the agent, such as ``"sb3-ppo"``.
        algorithm: PPO or A2C.
        args: Settings in force, checked and filled in.
        settings: Arguments that only this algorithm has.
    """
    limit_threads(args.threads)
    options = env_options(args.env_options, args.robot_host)
    envs = _make_envs(args, options)
    with contextlib.closing(envs):
        model = _make_model(algorithm, envs, args, settings)
        with (
            Evaluator(
                lambda obs: model.predict(envs.normalize_obs(obs), deterministic=True)[0],
                args.env_id,
                Observations(np.float32),
                episodes=args.eval_episodes,
                seed=args.seed + args.num_envs,
                env_options=options,
                video=args.capture_video,
            ) as evaluator,
            Session(agent, args, wandb_project=args.project) as session,
        ):
            model.set_logger(Logger(None, [_SessionWriter(session)]))
            if session.checkpoint is not None:
                _restore(session.checkpoint, model, envs, args)
            recorder = _Recorder(session, args, envs, evaluator)
            callbacks: list[BaseCallback] = [recorder]
            if optim.get(args.optimizer).curvature is not None:
                callbacks.append(CurvatureCallback(every=args.log_interval))
            steps = args.num_iterations * args.batch_size - model.num_timesteps
            if steps:
                try:
                    # The recorder dumps the log, after updates instead of before them.
                    model.learn(
                        steps, callbacks, log_interval=sys.maxsize, reset_num_timesteps=False
                    )
                except FloatingPointError as error:
                    if str(error).endswith(REMEDY):
                        raise
                    what = str(error).partition(":")[0]
                    raise FloatingPointError(
                        f"{what}, at step {model.num_timesteps}: {REMEDY}"
                    ) from error
                except ValueError as error:
                    # So begins what a distribution says of a mean that is NaN or a σ that is 0.
                    if not str(error).startswith("Expected parameter"):
                        raise
                    raise FloatingPointError(
                        f"the policy has diverged at step {model.num_timesteps}: {REMEDY}"
                    ) from error
            if recorder.stopped:
                return session.interrupted()
            run, step = session.run.path, model.num_timesteps
            return session.finish(lambda: evaluator.play(run, step))


def _make_envs(args: SB3Settings, options: dict[str, Any]) -> VecNormalize:
    def make(number: int) -> Monitor[Any, Any]:
        env = make_env(args.env_id, **options)
        return Monitor(CheckedEnv(env, f"{args.env_id}, environment {number}"))

    envs = DummyVecEnv([partial(make, number) for number in range(args.num_envs)])
    if real_time(envs.envs[0]) is not None:
        envs.close()
        raise UserError(
            f"{args.env_id} runs in real time, and updates of Stable-Baselines3 would interrupt "
            "its episodes: train with ppo or a2c"
        )
    if is_image(envs.observation_space):
        envs.close()
        raise UserError(
            f"environment {args.env_id} has observations {one_line(envs.observation_space)}; this "
            "agent takes only a vector (Box)"
        )
    return VecNormalize(
        envs,
        norm_obs=args.normalize_observations,
        norm_reward=args.normalize_rewards,
        gamma=args.gamma,
    )


def _make_model(
    algorithm: type[OnPolicyAlgorithm],
    envs: VecNormalize,
    args: SB3Settings,
    settings: dict[str, Any],
) -> OnPolicyAlgorithm:
    optimizer = optim.get(args.optimizer)
    lr = args.learning_rate
    build: Any = algorithm
    model: OnPolicyAlgorithm = build(
        MlpPolicy if issubclass(optimizer, optim.Scaled) else ActorCriticPolicy,
        envs,
        learning_rate=(lambda remaining: remaining * lr) if args.anneal_lr else lr,
        n_steps=args.num_steps,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        ent_coef=args.ent_coef,
        vf_coef=args.vf_coef,
        max_grad_norm=args.max_grad_norm,
        policy_kwargs={
            "net_arch": list(args.hidden_sizes),
            "activation_fn": ACTIVATIONS[args.activation],
            "optimizer_class": optimizer,
            "optimizer_kwargs": {k: v for k, v in hyperparameters(args).items() if k != "lr"},
        },
        seed=args.seed,
        device=args.device,
        **settings,
    )
    return model


class _SessionWriter(KVWriter):
    """Hands the scalars of Stable-Baselines3's log to a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        self._session.log(step, {key: float(value) for key, value in key_values.items()})

    def close(self) -> None:
        """Leave the session open: it outlives the log."""


class _Recorder(BaseCallback):
    """Writes episodes as they end, metrics and checkpoints after updates.

    Attributes:
        stopped: Whether a signal ended the training early.
    """

    def __init__(
        self, session: Session, args: SB3Settings, envs: VecNormalize, evaluator: Evaluator
    ) -> None:
        super().__init__()
        self._session, self._args, self._envs, self._evaluator = session, args, envs, evaluator
        self._first_step = session.start_step
        self.stopped = False

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                episode = Episode(0, float(info["episode"]["r"]), int(info["episode"]["l"]))
                self._session.log_episode(self.num_timesteps, episode)
        return not self.stopped

    def _on_rollout_start(self) -> None:
        self.num_timesteps = self.model.num_timesteps
        if self.num_timesteps > self._first_step:
            self._after_update(last=False)

    def _on_training_end(self) -> None:
        if not self.stopped:
            self._after_update(last=True)

    def _after_update(self, last: bool) -> None:
        args, step = self._args, self.num_timesteps
        iteration = step // args.batch_size
        stop = self._session.stop_requested and not last
        if not (last or stop or iteration % args.log_interval == 0):
            return
        _check_finite(self.model, step)
        if args.eval_interval is not None and iteration % args.eval_interval == 0 and not last:
            mean_return = self._evaluator.mean_return(self._session.run.path, step)
            self.logger.record("eval/episodic_return", mean_return)
        self.logger.dump(step)
        if last or stop or iteration % args.checkpoint_interval == 0:
            self._session.save(_state(self.model, self._envs))
        self.stopped = stop


def _check_finite(model: Any, step: int) -> None:
    for name, param in model.policy.named_parameters():
        if not param.isfinite().all():
            raise FloatingPointError(f"the parameter {name} is not finite at step {step}: {REMEDY}")


ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"sb3-ppo": PPO, "sb3-a2c": A2C}
"""Stable-Baselines3's algorithms by the agent of a run."""

STATISTICS = ("obs_rms", "ret_rms")
"""The running statistics of `VecNormalize`."""


def _state(model: Any, envs: VecNormalize) -> dict[str, Any]:
    statistics = {
        name: {key: torch.as_tensor(value) for key, value in vars(getattr(envs, name)).items()}
        for name in STATISTICS
    }
    return {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "updates": model._n_updates,
        "statistics": statistics,
        "rng": rng_state(),
    }


def _load_statistics(envs: VecNormalize, state: dict[str, Any]) -> None:
    for name in STATISTICS:
        statistics: RunningMeanStd = getattr(envs, name)
        for key, value in state[name].items():
            setattr(statistics, key, value.numpy() if value.dim() else value.item())


def _restore(
    state: dict[str, Any], model: OnPolicyAlgorithm, envs: VecNormalize, args: SB3Settings
) -> None:
    """Go on from a checkpoint, with new episodes from seeds of their own."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model._n_updates = state["updates"]
    model.num_timesteps = state["global_step"]
    _load_statistics(envs, state["statistics"])
    seeds = np.random.SeedSequence((args.seed, state["global_step"]))
    envs.seed(int(seeds.generate_state(1)[0]))
    set_rng_state(state["rng"])


@contextlib.contextmanager
def load_policy(
    run: RunDirectory, env_id: str, options: dict[str, Any], state: dict[str, Any]
) -> Iterator[tuple[Act, ActorCriticPolicy, tuple[Space[Any], Space[Any]]]]:
    """Return how a checkpoint's policy acts on raw observations, its networks, and its spaces.

    Args:
        run: The run, of one of Stable-Baselines3's agents.
        env_id: Gymnasium id of the environment to act in.
        options: Arguments of the environment.
        state: The checkpoint.

    Raises:
        UserError: The environment is impossible, or has other spaces than that of the run.
    """
    module = import_module(f"hesrl.agents.{run.agent.replace('-', '_')}")
    settings = typed_settings(module.Args, run.settings, str(run.config))
    args: SB3Settings = module.Args(**{**settings, "env_id": env_id, "num_envs": 1})
    args.fill_in()
    envs = _make_envs(args, options)
    with contextlib.closing(envs):
        # One that Stable-Baselines3 does not warn of; nothing is learned.
        own = {"batch_size": args.batch_size} if run.agent == "sb3-ppo" else {}
        model = _make_model(ALGORITHMS[run.agent], envs, args, own)
        expected = {name: value.shape for name, value in model.policy.state_dict().items()}
        found = {name: value.shape for name, value in state["policy"].items()}
        if expected != found:
            raise UserError(other_spaces(env_id, run.settings["env_id"], run.path))
        model.policy.load_state_dict(state["policy"])
        _load_statistics(envs, state["statistics"])

        def act(obs: NDArray[Any]) -> NDArray[Any]:
            action: NDArray[Any] = model.predict(envs.normalize_obs(obs), deterministic=True)[0]
            return action

        yield act, model.policy, (envs.observation_space, envs.action_space)
