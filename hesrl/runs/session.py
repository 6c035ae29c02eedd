"""One training run from its first step to its summary: what the agents share around their loops."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, Protocol

from hesrl.errors import EnvironmentFault
from hesrl.runs.checkpoint import load_checkpoint, save_checkpoint
from hesrl.runs.directory import OF_A_COMMAND, RunDirectory
from hesrl.runs.interrupts import HaltRequest, StopRequest
from hesrl.runs.learning_curve import plot_learning_curve
from hesrl.runs.metrics import MetricsLog, read_metric
from hesrl.runs.progress import Progress
from hesrl.runs.summary import counted, print_summary, write_summary
from hesrl.runs.tracking import Tracker

if TYPE_CHECKING:  # it imports this package
    from hesrl.settings import SessionSettings

EVALUATION = "eval/episodic_return"
LAST_EPISODES = 20
"""Training episodes at the end of a run whose mean return the summary gives."""


class Episode(Protocol):
    """A finished episode."""

    @property
    def episodic_return(self) -> float:
        """Sum of the unscaled rewards."""

    @property
    def episodic_length(self) -> int:
        """Environment steps."""


class Session:
    """The run directory of a training run with its log, progress, signals and checkpoints.

    A context manager. A new run gets a directory. With ``args.resume`` that run continues, and
    `checkpoint` holds what it saved.

    Args:
        agent: Name of the agent, such as ``"ppo"``.
        args: Settings in force.
        wandb_project: Project of Weights & Biases that gets the metrics too; None for none.
        halt: Brings to rest what moves in real time. A signal then does so at once and ends the
            process, instead of waiting for the update. None where nothing moves.

    Attributes:
        checkpoint: What the run that continues has saved, or None.
        state: Returns what to save when what moves in real time breaks off training; or None.

    Raises:
        UserError: The directory cannot be written, the checkpoint cannot be read, or the project
            cannot be reached; no new directory is left then.
    """

    def __init__(
        self,
        agent: str,
        args: SessionSettings,
        *,
        wandb_project: str | None = None,
        halt: Callable[[], None] | None = None,
    ) -> None:
        self._args = args
        self._title = f"{agent} · {args.env_id} · {args.optimizer} · seed {args.seed}"
        self.checkpoint: dict[str, Any] | None = None
        self.state: Callable[[], dict[str, Any]] | None = None
        if args.resume is None:
            config = {
                name: str(value) if isinstance(value, Path) else value
                for name, value in dataclasses.asdict(args).items()
                if name not in OF_A_COMMAND
            }
            self.run = RunDirectory.create(
                args.runs_dir,
                env_id=args.env_id,
                agent=agent,
                optimizer=args.optimizer,
                seed=args.seed,
                config=config,
            )
            self.start_step = 0
        else:
            self.run = RunDirectory.open(args.resume)
            self.checkpoint = load_checkpoint(self.run.checkpoint)
            if args.total_timesteps != self.run.settings["total_timesteps"]:
                self.run.extend(args.total_timesteps)
            self.start_step = self.checkpoint["global_step"]
        self._seconds_before = self.checkpoint["seconds"] if self.checkpoint else 0.0
        self._saved_step = None if self.checkpoint is None else self.start_step
        with contextlib.ExitStack() as undo:
            undo.callback(self.run.close)
            if args.resume is None:
                undo.callback(shutil.rmtree, self.run.path)
            tracker = None if wandb_project is None else Tracker(self.run, wandb_project)
            # A run that was killed in its last evaluation has nothing left but this evaluation.
            trained = self.start_step >= args.planned_timesteps
            self._metrics = MetricsLog(
                self.run,
                resume_step=self._saved_step,
                logged_again=(EVALUATION,) if trained else (),
                tracker=tracker,
            )
            undo.pop_all()
        self._progress = Progress(args.planned_timesteps, initial_step=self.start_step)
        self._display = contextlib.ExitStack()
        self._stop = StopRequest() if halt is None else HaltRequest(halt)
        self._global_step = self.start_step

    def __enter__(self) -> Session:
        """Start the clock and take signals as requests to stop."""
        verb = "resuming" if self.checkpoint else "writing to"
        print(f"{verb} {self.run.path}", flush=True)
        planned, asked = self._args.planned_timesteps, self._args.total_timesteps
        if planned < asked:
            print(
                f"{planned:,} of the {asked:,} steps asked for: a run ends with a whole rollout",
                flush=True,
            )
        self._start = time.perf_counter()
        self._stop.__enter__()
        self._display.enter_context(self._progress)
        return self

    def __exit__(self, *exception: Any) -> None:
        """Close everything; what was logged is on disk then. After an error, say what is kept."""
        with contextlib.ExitStack() as last_to_first:
            last_to_first.callback(self.run.close)
            last_to_first.callback(self._metrics.close)
            last_to_first.callback(self._stop.__exit__, *exception)
            if exception[0] is not None:
                last_to_first.callback(self._print_what_is_kept)
            if isinstance(exception[1], EnvironmentFault) and self.state is not None:
                last_to_first.callback(self._save_what_was_learned, self.state)
            last_to_first.callback(self._display.close)

    def _save_what_was_learned(self, state: Callable[[], dict[str, Any]]) -> None:
        """Save as of the last step that was logged, if that is newer than the checkpoint."""
        if self._global_step > (self._saved_step or 0):
            self.save(state())

    def _print_what_is_kept(self) -> None:
        if self._saved_step is None:
            print(f"stopped after step {self._global_step}, before the first checkpoint")
        else:
            print(f"stopped after step {self._global_step}; to go on from the checkpoint of step")
            print(f"{self._saved_step}, give\n    --resume {self.run.path}")

    @property
    def stop_requested(self) -> bool:
        """Whether a signal asked for an end."""
        return self._stop.requested

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, that before a resume included (s)."""
        return self._seconds_before + time.perf_counter() - self._start

    def log_episode(self, global_step: int, episode: Episode) -> None:
        """Record a finished training episode."""
        self._metrics.log(
            global_step,
            {
                "charts/episodic_return": episode.episodic_return,
                "charts/episodic_length": episode.episodic_length,
            },
        )
        self._progress.update(global_step, episode.episodic_return)

    def log(self, global_step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an update, seconds so far, and steps per second of this process."""
        seconds = self.seconds
        speed = (global_step - self.start_step) / (seconds - self._seconds_before)
        self._metrics.log(global_step, {**metrics, "charts/SPS": speed, "charts/seconds": seconds})
        self._progress.update(global_step)
        self._global_step = global_step

    def save(self, state: dict[str, Any]) -> None:
        """Write the checkpoint of the last step that was logged."""
        self._metrics.flush()
        save_checkpoint(
            self.run.checkpoint,
            {"global_step": self._global_step, "seconds": self.seconds, **state},
        )
        self._saved_step = self._global_step

    def interrupted(self, stop: StopRequest | None = None) -> int:
        """Say how to go on after a stop that was asked for; return the exit status.

        Args:
            stop: What has taken the signal; None for what takes it during training.
        """
        stop = stop or self._stop
        self._display.close()
        print(f"stopped by {stop.signal_name} at step {self._global_step}; to go on, give")
        print(f"    --resume {self.run.path}")
        return stop.exit_code

    def finish(self, evaluate: Callable[[], list[Any]]) -> int:
        """Evaluate, write summary and learning curve, show the result; return the exit status.

        The last checkpoint is saved by now, so that a signal ends the evaluation at once.

        Args:
            evaluate: Plays the evaluation episodes.
        """
        self._display.close()
        seconds, steps = self.seconds, self._global_step - self.start_step
        if self._stop.requested:
            return self.interrupted()
        if isinstance(self._stop, HaltRequest):
            returns = [episode.episodic_return for episode in evaluate()]
        else:
            try:
                with HaltRequest(None) as end:
                    returns = [episode.episodic_return for episode in evaluate()]
            except SystemExit:
                return self.interrupted(end)
        self._metrics.log(self._global_step, {EVALUATION: fmean(returns)})
        self._metrics.flush()
        plot_learning_curve(self.run, self._title)
        last = read_metric(self.run, "charts/episodic_return")[1][-LAST_EPISODES:]
        summary: dict[str, Any] = {
            "environment": self._args.env_id,
            "optimizer": self._args.optimizer,
            "seed": self._args.seed,
            "steps": self._global_step,
            "minutes": seconds / 60,
            "steps per second": steps / (seconds - self._seconds_before),
        }
        if len(last):
            summary[f"return of the last {counted(len(last), 'episode')}"] = float(last.mean())
        summary |= {
            f"return of {counted(len(returns), 'evaluation episode')}": fmean(returns),
            "their standard deviation": pstdev(returns),
        }
        write_summary(self.run, {**summary, "evaluation_returns": returns})
        print_summary(self.run, summary)
        print(self.run.learning_curve)
        return 0
