"""A training run of Stable-Baselines3's PPO or A2C in a run directory of hesrl.

The algorithm is Stable-Baselines3's, unchanged; a callback writes episodes, metrics and
checkpoints where hesrl's own agents write them, so that both land in one plot.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize

from hesrl import optim
from hesrl.envs.evaluation import Evaluator
from hesrl.envs.normalize import Observations
from hesrl.envs.steps import Episode
from hesrl.rl.env_options import env_options
from hesrl.rl.threads import limit_threads
from hesrl.rl.training_state import REMEDY
from hesrl.runs.session import Session
from hesrl.sb3.callbacks import CurvatureCallback
from hesrl.sb3.environments import make_envs
from hesrl.sb3.models import Acting, make_model, restore, state_of
from hesrl.sb3.settings import SB3Settings


def train(agent: str, args: SB3Settings, settings: dict[str, Any]) -> int:
    """Train, evaluate and summarize one run; return the exit status.

    Args:
        agent: Name of the agent, such as ``"sb3-ppo"``.
        args: Settings in force, checked and filled in.
        settings: Arguments that only this algorithm has.
    """
    limit_threads(args.threads)
    options = env_options(args.env_options, args.robot_host)
    made = make_envs(args, options)
    envs = made.envs
    with contextlib.closing(envs), _unfused(args):
        model = make_model(agent, envs, args, settings)
        with (
            Evaluator(
                Acting(model, made),
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
                restore(session.checkpoint, model, envs, args)
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


def _unfused(args: SB3Settings) -> contextlib.AbstractContextManager[Any]:
    """Keep cuDNN from running an LSTM as one operation, which has no rule of curvature."""
    if args.lstm_units is None or torch.device(args.device).type == "cpu":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=False)


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
            self._session.save(state_of(self.model, self._envs))
        self.stopped = stop


def _check_finite(model: Any, step: int) -> None:
    for name, param in model.policy.named_parameters():
        if not param.isfinite().all():
            raise FloatingPointError(f"the parameter {name} is not finite at step {step}: {REMEDY}")
