"""Metrics of a run in Weights & Biases, beside those in its directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hesrl.errors import UserError, one_line
from hesrl.runs.directory import RunDirectory


class Tracker:
    """One run of a project of Weights & Biases; a resumed run continues under the same id.

    The settings of the run become its config, and ``global_step`` its horizontal axis. Weights &
    Biases cannot forget: after a run was killed, steps between its last checkpoint and the kill
    are there twice.

    With ``WANDB_MODE=offline`` all goes to ``<run>/wandb/``, for ``wandb sync``.
    """

    def __init__(self, run: RunDirectory, project: str) -> None:
        """Start or continue the tracking of a run.

        Args:
            run: The run, locked by this process.
            project: Name of the project.

        Raises:
            UserError: The extra ``track`` is not installed, nobody is logged in, or the service
                refuses.
        """
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "--track needs wandb: pip install 'hesrl[track]', or leave the option out"
            ) from error
        identity = run.path.name.encode() + run.config.read_bytes()
        try:
            self._run: Any = wandb.init(
                project=project,
                dir=str(run.path),
                id=hashlib.sha256(identity).hexdigest()[:16],
                name=run.path.name,
                config=run.settings,
                resume="allow",
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            raise UserError(
                f"--track: {one_line(error)} To keep everything on this machine, set "
                "WANDB_MODE=offline; or leave the option out"
            ) from error
        self._run.define_metric("*", step_metric="global_step")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Record scalars of one environment step.

        Args:
            step: Environment step.
            values: Scalars by key.
        """
        self._run.log({**values, "global_step": step})

    def close(self) -> None:
        """Hand over what is left and end the tracking."""
        self._run.finish()
