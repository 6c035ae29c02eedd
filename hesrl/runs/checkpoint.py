"""Checkpoints that are whole or absent, and that load without running anybody's code.

A checkpoint is what ``torch.save`` writes, followed by the 32 bytes of its SHA-256 digest.
``torch.load`` alone reads it too: it ignores what follows its archive.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hesrl.errors import UserError
from hesrl.runs.atomic import write_atomically

FORMAT = "hesrl checkpoint"
VERSION = 1
DIGEST_SIZE = hashlib.sha256().digest_size

_PLAIN_TYPES = (type(None), bool, int, float, str)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path``; if that fails, the checkpoint that was there is still whole.

    Args:
        path: File to create or replace, usually ``run.checkpoint``.
        state: Nested dicts, lists and tuples of tensors, numbers, text, booleans and None, as
            ``state_dict()`` returns them. Integers may have any size.

    Raises:
        TypeError: ``state`` holds another type, which could not be loaded again; the message says
            where. NumPy arrays become tensors by ``torch.from_numpy``, scalars by ``.item()``.
        UserError: The folder is not writable or the disk is full.
    """
    _check_plain(state, "state")
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, "state": state}, buffer)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, with all tensors on the CPU.

    Args:
        path: The file, usually ``run.checkpoint``.

    Returns:
        The ``state`` that was saved.

    Raises:
        UserError: The file is missing, cut short or damaged, was not written by hesrl, would
            need classes to be unpickled (which could run code), or has another version.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no checkpoint {path}: the run stopped before its first one") from error
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror}") from error
    if FORMAT.encode() not in data:
        raise UserError(f"{path} is not a checkpoint of hesrl: give one that hesrl saved")
    archive, digest = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    # torch notices only some damage, and reports that by a dozen types of exception.
    if hashlib.sha256(archive).digest() != digest:
        raise UserError(f"checkpoint {path} is damaged or cut short: restore it from a copy")
    try:
        content = torch.load(io.BytesIO(archive), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} is refused: it holds Python objects, which could run code; "
            "give one that hesrl saved"
        ) from error
    if content["version"] != VERSION:
        raise UserError(
            f"checkpoint {path} has version {content['version']}, this hesrl reads version "
            f"{VERSION}: use the hesrl release named in the run's config.yaml"
        )
    state: dict[str, Any] = content["state"]
    return state


def rng_state() -> dict[str, Any]:
    """States of Python's, NumPy's global and torch's generators, fit for `save_checkpoint`.

    CUDA generators are included only where this process has used CUDA.
    """
    return {
        "python": random.getstate(),
        "numpy": _plain_arrays(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the generators back to what `rng_state` returned.

    Args:
        state: The value of `rng_state`.

    Raises:
        UserError: The state is of a run on more CUDA devices than this machine has.
    """
    if len(state["cuda"]) > torch.cuda.device_count():
        raise UserError(
            f"the checkpoint has random states of {len(state['cuda'])} CUDA device(s), this "
            f"machine shows {torch.cuda.device_count()}: resume where the run began"
        )
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """State of a NumPy generator as plain numbers and lists, fit for `save_checkpoint`."""
    state: dict[str, Any] = _plain_arrays(generator.bit_generator.state)
    return state


def set_generator_state(generator: np.random.Generator, state: dict[str, Any]) -> None:
    """Put ``generator`` back to what `generator_state` returned.

    Args:
        generator: A generator of the same kind (such as PCG64) as the one saved.
        state: The value of `generator_state`.

    Raises:
        ValueError: The generator is of another kind.
    """
    generator.bit_generator.state = state


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, torch.Tensor) or type(value) in _PLAIN_TYPES:
        return
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _check_plain(key, f"key {key!r} of {where}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"a checkpoint cannot hold {where}, a {kind}: save plain values or tensors")


def _plain_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_arrays(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
