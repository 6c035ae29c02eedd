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
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.flat_observations import FlatBox
from hesrl.envs.normalize import CLIP
from hesrl.envs.spaces import actions_for
from hesrl.errors import UserError, one_line
from hesrl.rl.exported_policy import ExportedPolicy, shortfall, some_observations
from hesrl.rl.saved_policy import SB3_AGENTS, PlayingSettings, SavedPolicy, saved_policy
from hesrl.runs.atomic import cannot_write
from hesrl.runs.checkpoint import load_checkpoint

FORMATS = ("onnx", "torch", "sb3")
CHECKED = 1000
"""Observations on which what was exported is compared with the agent."""
TOLERANCE = 1e-5
"""Largest difference of an action, in units of half the action's range if that is larger than 1."""

Run = Callable[[NDArray[Any]], NDArray[Any]]
"""From observations (N, …) to actions."""


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
        if policy.run.settings.get("recurrent"):
            raise UserError(
                f"{policy.run.path} has a recurrent policy, and an exported one has no memory: "
                "play it by hesrl play"
            )
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
    for name, difference in differences.items():
        print(f"{name}: differs from the agent by {difference:.1e} on {CHECKED:,} observations")
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
        return ExportedPolicy(networks, outputs, policy.spaces, statistics, kept=_kept(policy))
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


def _export(form: str, policy: SavedPolicy, folder: Path) -> float:
    """Write one form of the policy, and return its largest difference from the agent."""
    if form == "sb3":
        # It takes a second to import, which the others do without.
        from hesrl.sb3.exported_model import write_model

        return _difference(policy, write_model(policy, folder))
    module = exported(policy).eval()
    observations = policy.spaces[0]
    example = torch.from_numpy(np.zeros((2, *(observations.shape or ())), observations.dtype))
    shapes = {"obs": {0: torch.export.Dim("batch")}}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, on its own code
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
        if form == "onnx":
            return _difference(policy, _write_onnx(program, folder / "policy.onnx"))
        torch.export.save(program, folder / "policy.pt2")
        read = torch.export.load(folder / "policy.pt2").module()
    return _difference(policy, lambda obs: read(torch.from_numpy(obs)).numpy(force=True))


def _write_onnx(program: Any, file: Path) -> Run:
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
    model = torch.onnx.export(
        program, dynamo=True, input_names=["obs"], output_names=["action"], verbose=False
    )
    assert model is not None
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        model.save(str(file), external_data=False)
    onnx.checker.check_model(str(file))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)

    def run(obs: NDArray[Any]) -> NDArray[Any]:
        (actions,) = session.run(None, {"obs": obs})
        return np.asarray(actions)

    return run


def _difference(policy: SavedPolicy, run: Run) -> float:
    """Return the largest difference of an action from the agent's.

    A discrete action may be another one where the two best are within the tolerance.

    Raises:
        FloatingPointError: It is larger than the tolerance.
    """
    module = exported(policy)
    observations, actions = policy.spaces
    statistics = {} if not module._normalizes else {
        "mean": module.mean[0], "var": module.std[0].square()
    }  # fmt: skip
    obs = some_observations(observations, statistics, CHECKED)
    act = actions_for(policy.env_id, actions)
    expected = np.asarray(act(policy.act(policy.observation.normalize(obs))))
    found = run(obs)
    if isinstance(actions, Box):
        width = actions.high - actions.low
        scale = np.where(np.isfinite(width), np.maximum(1, width / 2), 1)
        difference = float((np.abs(found - expected) / scale).max())
    else:
        with torch.no_grad():
            logits = module.outputs(torch.from_numpy(obs))
        difference = max(shortfall(actions, logits, chosen) for chosen in (expected, found))
    if not difference <= TOLERANCE:
        raise FloatingPointError(
            f"what was exported differs from the agent by {difference:.1e}; no file is left"
        )
    return difference


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
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
