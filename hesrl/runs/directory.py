"""A run is a directory: settings, metrics, checkpoint, summary and plot of one training run."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hesrl.errors import UserError
from hesrl.runs.atomic import write_atomically
from hesrl.runs.provenance import provenance
from hesrl.safe_yaml import load_yaml

FORMAT = "hesrl run 1"

OF_A_COMMAND = {"resume", "config", "tuned", "yes"}
"""Settings of a command that are no part of its run."""


class InUse(UserError):
    """Another process has locked a folder."""


class RunDirectory:
    """Paths and settings of one run, and the lock that keeps a second process out of it.

    Made by `create` or `open`. The lock is held until `close`, the end of a ``with`` block or the
    end of the process, however it ends: the operating system releases it.

    Attributes:
        path: The directory.
        agent: Name of the agent.
        settings: What was passed as ``config`` to `create`, as read back from ``config.yaml``.
    """

    def __init__(self, path: Path, agent: str, settings: dict[str, Any], lock: int | None) -> None:
        """Wrap an existing directory; use `create` or `open` instead.

        Args:
            path: The directory.
            agent: Name of the agent.
            settings: The settings stored in it.
            lock: File descriptor that holds the lock, None for reading only.
        """
        self.path = path
        self.agent = agent
        self.settings = settings
        self._release = None if lock is None else weakref.finalize(self, os.close, lock)

    @classmethod
    def create(
        cls,
        root: str | Path,
        *,
        env_id: str,
        agent: str,
        optimizer: str,
        seed: int,
        config: Mapping[str, Any],
    ) -> RunDirectory:
        """Make ``<root>/<env>__<agent>__<optimizer>__<seed>__<YYYYMMDD-HHMMSS>/`` and lock it.

        The name holds the local time and never one that exists: a second run in the same second
        gets ``-2`` at the end. Characters other than letters, digits, ``.``, ``_`` and ``-``
        become ``-`` in it (``hesrl/UR5Reacher-v0`` is ``hesrl-UR5Reacher-v0``).

        Args:
            root: Folder of all runs; made if missing.
            env_id: Gymnasium id of the environment.
            agent: Name of the agent, such as ``ppo``.
            optimizer: Name of the optimizer, such as ``adahesscale``.
            seed: Seed of the run.
            config: All settings, of types that plain YAML has (numbers, text, lists, mappings).

        Raises:
            UserError: ``root`` is not writable or the disk is full; nothing is left behind then.
            yaml.representer.RepresenterError: A setting has a type that plain YAML lacks.
        """
        content = {"format": FORMAT, "agent": agent, "settings": dict(config), **provenance()}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
        parts = (env_id, agent, optimizer, str(seed), time.strftime("%Y%m%d-%H%M%S"))
        name = "__".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part) for part in parts)
        path = _make_unique(Path(root), name)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, path)
            run = cls(path, agent, yaml.safe_load(text)["settings"], lock_folder(path))
            write_atomically(run.config, text.encode())
            undo.pop_all()
        return run

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False) -> RunDirectory:
        """Open an existing run, to resume it or, with ``read_only``, to look at it.

        Args:
            path: The directory of the run.
            read_only: Do not take the lock; the run may be going on in another process.

        Raises:
            UserError: There is no such directory, it is not a run, its ``config.yaml`` is broken
                or foreign, or another process (named by its id) is writing to it.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"no run directory {path}: give the folder that a training run made")
        config = _read_config(path / "config.yaml")
        lock = None if read_only else lock_folder(path)
        return cls(path, config["agent"], config["settings"], lock)

    @property
    def config(self) -> Path:
        """``config.yaml``: settings, versions, commit, time and command."""
        return self.path / "config.yaml"

    @property
    def metrics_csv(self) -> Path:
        """``metrics.csv``, written by `MetricsLog`."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """``checkpoint.pt``, written by `save_checkpoint`."""
        return self.path / "checkpoint.pt"

    @property
    def summary(self) -> Path:
        """``summary.json``, written by `write_summary`."""
        return self.path / "summary.json"

    @property
    def learning_curve(self) -> Path:
        """``learning_curve.png``, written by `plot_learning_curve`."""
        return self.path / "learning_curve.png"

    def extend(self, total_timesteps: int) -> None:
        """Make the run a longer one, which has not ended.

        Args:
            total_timesteps: Its new length, which ``config.yaml`` gets.

        Raises:
            UserError: The directory cannot be written.
        """
        content = _read_config(self.config)
        content["settings"]["total_timesteps"] = total_timesteps
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
        self.summary.unlink(missing_ok=True)
        write_atomically(self.config, text.encode())
        self.settings = content["settings"]

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._release is not None:
            self._release()

    def __enter__(self) -> RunDirectory:
        """Return the run itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the lock."""
        self.close()


def _make_unique(root: Path, name: str) -> Path:
    path = root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(2):
            try:
                path.mkdir()
                break
            except FileExistsError:
                path = root / f"{name}-{number}"
    except OSError as error:
        reason = "it is a file" if root.is_file() else error.strerror
        raise UserError(
            f"cannot make a run folder in {root}: {reason}; choose a writable folder"
        ) from error
    return path


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = load_yaml(file.read_bytes())
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is not a run directory: it has no config.yaml; "
            "give the folder that a training run made"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file} is not valid YAML, restore it: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file} was not written by hesrl: it lacks the line 'format: {FORMAT}'")
    if not isinstance(content.get("settings"), dict):
        raise UserError(f"{file} has no 'settings' mapping: restore it")
    if not isinstance(content.get("agent"), str):
        raise UserError(f"{file} has no line 'agent: NAME': add it, with the name of the agent")
    return content


def lock_folder(path: Path) -> int:
    """Lock a folder for this process, until the descriptor is closed or the process ends.

    Returns:
        The file descriptor that holds the lock.

    Raises:
        InUse: Another process, which the message names by its id, holds it.
        UserError: The folder cannot be written.
    """
    try:
        import fcntl
    except ImportError as error:
        raise UserError(
            "writing a run needs Linux or macOS: this system has no file locks (fcntl)"
        ) from error
    file = path / "run.lock"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode() or "unknown"
        os.close(descriptor)
        raise InUse(
            f"{path} is in use by process {holder}: wait until it ends, or stop it"
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise UserError(f"cannot lock {path}: {error.strerror}") from error
    return descriptor
