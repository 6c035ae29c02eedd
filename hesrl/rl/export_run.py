"""Export the policy of a run: a file that acts, without hesrl, on what an environment observes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from hesrl.envs.flat_observations import FlatBox
from hesrl.envs.normalize import CLIP
from hesrl.errors import UserError, one_line
from hesrl.rl.export_check import CHECKED, Run, acting, difference
from hesrl.rl.exported_policy import ExportedPolicy, RecurrentPolicy
from hesrl.rl.saved_policy import SB3_AGENTS, PlayingSettings, SavedPolicy, saved_policy
from hesrl.runs.atomic import cannot_write
from hesrl.runs.checkpoint import load_checkpoint

FORMATS = ("onnx", "torch", "sb3")
STATE = ("hidden", "cell")
"""What goes into a recurrent policy beside observations; with ``next_`` before it, it comes out."""


@dataclass
class Args:
    """Export the policy of a run's last checkpoint, with the normalization of its observations."""

    run: tyro.conf.Positional[Path]
    """directory of a run of ppo, a2c, stream-ac, sb3-ppo or sb3-a2c"""
    formats: tuple[str, ...] = ("onnx", "torch")
    """onnx (policy.onnx), torch (policy.pt2, by torch.export), sb3 (policy.zip and
    vecnormalize.pkl of Stable-Baselines3, if it has such networks)"""
    env_id: str | None = None
    """Gymnasium id of an environment of the same spaces, such as the simulation of an arm; None:
    the environment of the run"""
    out: Path | None = None
    """folder of the files; None: export/ in the directory of the run"""

    @classmethod
    def choices(cls) -> dict[str, tuple[str, ...]]:
        """Return the possible values of settings that are text, by the name of the setting."""
        return {"formats": FORMATS}


def main(args: Args) -> int:
    """Export, compare with the agent, and print the files and the largest difference.

    Raises:
        UserError: The run has no policy, a format is impossible or needs what is not installed, or
            the folder cannot be written.
        FloatingPointError: What was exported acts otherwise than the agent; no file is left.
    """
    for name in args.formats:
        if name not in FORMATS:
            raise UserError(f"--formats {name}: choose from {', '.join(FORMATS)}")
    if not args.formats:
        raise UserError(f"--formats: give one or more of {', '.join(FORMATS)}")
    with saved_policy(PlayingSettings(args.run, args.env_id)) as policy:
        out = args.out or policy.run.path / "export"
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out, prefix=".exporting-") as scratch:
                differences = {name: _export(name, policy, Path(scratch)) for name in args.formats}
                _describe(policy, Path(scratch) / "policy.json")
                files = sorted(file.name for file in Path(scratch).iterdir())
                for file in files:
                    os.replace(Path(scratch) / file, out / file)
        except OSError as error:
            raise cannot_write(out, error) from error
    for name, largest in differences.items():
        print(f"{name}: differs from the agent by {largest:.1e} on {CHECKED:,} observations")
    for file in files:
        print(out / file)
    return 0


def exported(policy: SavedPolicy) -> ExportedPolicy:
    """Return the policy as one module."""
    settings, state = policy.run.settings, load_checkpoint(policy.run.checkpoint)
    networks = policy.networks.eval()
    if policy.run.agent in SB3_AGENTS:
        # It takes a second to import, which the others do without.
        from hesrl.sb3.exported_model import flat_statistics, outputs_of

        outputs, statistics = outputs_of(policy), flat_statistics(policy, state)
        kind = RecurrentPolicy if settings.get("recurrent") else ExportedPolicy
        return kind(networks, outputs, policy.spaces, statistics, kept=_kept(policy))
    return ExportedPolicy(
        networks,
        lambda obs: networks.distribution(obs)[0],
        policy.spaces,
        state["envs"]["observation_statistics"],
        clip=settings.get("normalization_clip", CLIP),
        kept=_kept(policy),
    )


def _kept(policy: SavedPolicy) -> int:
    """Return how many of the last entries of an observation have no statistics."""
    space = policy.spaces[0]
    if isinstance(space, FlatBox):
        return space.shape[0] - space.vector_size
    return int(policy.run.settings.get("progress", False))


def _state_shape(policy: SavedPolicy) -> tuple[int, int] | None:
    """Return layers and units of an LSTM; None without one."""
    if not policy.run.settings.get("recurrent"):
        return None
    lstm = policy.networks.lstm_actor
    return lstm.num_layers, lstm.hidden_size


def _export(form: str, policy: SavedPolicy, folder: Path) -> float:
    """Write one form of the policy, and return its largest difference from the agent."""
    module, state = exported(policy).eval(), _state_shape(policy)
    outputs = acting(_of_tensors(module.outputs), state)
    if form == "sb3":
        # It takes a second to import, which the others do without.
        from hesrl.sb3.exported_model import write_model

        return difference(policy, module, write_model(policy, folder), outputs)
    observations = policy.spaces[0]
    batch = torch.export.Dim("batch")
    example = [torch.from_numpy(np.zeros((2, *(observations.shape or ())), observations.dtype))]
    shapes: dict[str, dict[int, Any]] = {"obs": {0: batch}}
    if state is not None:
        layers, units = state
        example += [torch.zeros(layers, 2, units) for _ in STATE]
        shapes |= {name: {1: batch} for name in STATE}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, on its own code
        program = torch.export.export(module, tuple(example), dynamic_shapes=shapes)
        if form == "onnx":
            run = _write_onnx(program, folder / "policy.onnx", [*shapes])
        else:
            torch.export.save(program, folder / "policy.pt2")
            run = _of_tensors(torch.export.load(folder / "policy.pt2").module())
    return difference(policy, module, acting(run, state), outputs)


def _of_tensors(function: Callable[..., Any]) -> Run:
    """Return a function of tensors as one of arrays, which returns a list."""

    def run(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
        with torch.no_grad():
            found = function(*map(torch.from_numpy, arrays))
        several = found if isinstance(found, tuple) else (found,)
        return [tensor.numpy(force=True) for tensor in several]

    return run


def _write_onnx(program: Any, file: Path, inputs: list[str]) -> Run:
    """Write ONNX, and return what runs it.

    Raises:
        UserError: What it needs is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  PyTorch's exporter uses it
    except ImportError as error:
        raise UserError(
            f"--formats onnx needs {error.name}: pip install 'hesrl[export]', or give --formats "
            "torch"
        ) from error
    # That torchvision is not installed is of no interest.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    outputs = ["action", *(f"next_{name}" for name in inputs[1:])]
    model = torch.onnx.export(
        program, dynamo=True, input_names=inputs, output_names=outputs, verbose=False
    )
    assert model is not None
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        model.save(str(file), external_data=False)
    onnx.checker.check_model(str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)

    def run(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = session.run(outputs, dict(zip(inputs, arrays, strict=True)))
        return found

    return run


def _describe(policy: SavedPolicy, file: Path) -> None:
    """Write what goes in and comes out, for whoever uses the files."""
    observations, actions = policy.spaces
    content = {
        "environment": policy.env_id,
        "agent": policy.run.agent,
        "step": policy.global_step,
        "obs": {"shape": ["batch", *(observations.shape or ())], "dtype": str(observations.dtype)},
        "action": one_line(actions),
        "normalization": "inside the policy; for sb3 in vecnormalize.pkl",
    }
    if isinstance(observations, FlatBox):
        content["obs is flattened from"] = one_line(observations.original)
    if (state := _state_shape(policy)) is not None:
        layers, units = state
        kind = {"shape": [layers, "batch", units], "dtype": "float32"}
        content |= dict.fromkeys(STATE, kind)
        content["state"] = (
            "hidden and cell are zero at the start of an episode; next_hidden and next_cell go in "
            "with the next observation"
        )
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
