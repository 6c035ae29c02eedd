"""The state of training: checked for numbers that are not finite, saved and restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hesrl import optim
from hesrl.envs.normalized_envs import NormalizedEnvs
from hesrl.rl.actor_critic import Agent
from hesrl.runs.checkpoint import generator_state, set_generator_state

MOMENTS = {
    "exp_avg": "gradient",
    "exp_avg_sq": "squared gradient",
    "exp_grad_sq": "squared gradient",
    "exp_hess": "curvature",
    "exp_hess_sq": "squared curvature",
    "exp_fisher": "Fisher diagonal",
    "eligibility_trace": "eligibility trace",
}
"""What the optimizers' moving averages are averages of."""


def curvature_of(
    agent: Agent, optimizer: optim.CurvatureOptimizer
) -> Callable[[], tuple[Tensor, ...]] | None:
    """Return a function that returns the curvature of all parameters, or None if there is none.

    It comes in one vector: a tensor for each parameter would take an update of a compiled step
    several times as long to hand on. Norms are left to `curvature_metrics`.

    Args:
        agent: The networks.
        optimizer: Steps them.

    Returns:
        A function to call between backward pass and step.
    """
    if optimizer.curvature is None:
        return None
    params = list(agent.parameters())
    return lambda: (
        torch.cat([p.hess_diag.flatten() for p in params]),  # type: ignore[attr-defined]
    )


@torch.no_grad()
def curvature_metrics(curvature: Sequence[Tensor]) -> dict[str, float]:
    """Return norm, share of negative entries, and largest magnitude of the curvature.

    Args:
        curvature: What `curvature_of` handed on; nothing gives no metrics.
    """
    if not curvature:
        return {}
    (hess,) = curvature
    return {
        "curvature/norm": hess.norm().item(),
        "curvature/negative_share": (hess < 0).double().mean().item(),
        "curvature/largest": hess.abs().max().item(),
    }


UNLIKELY = 1e30
"""Mean square of the curvature above which a recorded step has met one that is not finite."""

REMEDY = "try a smaller --learning-rate or a larger --eps; the last checkpoint is kept"


def check_finite(
    agent: Agent,
    optimizer: optim.CurvatureOptimizer,
    loss: float,
    global_step: int,
    remedy: str = REMEDY,
) -> None:
    """Refuse an update that met NaN or infinity, before it reaches a checkpoint.

    Args:
        agent: The networks.
        optimizer: Steps them.
        loss: The last loss.
        global_step: Environment steps so far, for the message.
        remedy: What to do about it, for the message.

    Raises:
        FloatingPointError: The message names the first quantity that is not finite.
    """
    tensors: dict[str, list[Tensor]] = {name: [] for name in MOMENTS.values()}
    for state in optimizer.state.values():
        for key, name in MOMENTS.items():
            if key in state:
                tensors[name].append(state[key])
    tensors["sum of the parameters"] = [p.detach() for p in agent.parameters()]
    sums = {name: sum(t.sum() for t in group) for name, group in tensors.items()}
    for name, value in {"loss": loss, **sums}.items():
        bound = UNLIKELY if name == "squared curvature" else math.inf
        if not abs(float(value)) < bound:
            raise FloatingPointError(f"the {name} is not finite at step {global_step}: {remedy}")


@contextmanager
def diverging_at(global_step: int, remedy: str = REMEDY) -> Iterator[None]:
    """Add to the message of a step that met a number that is not finite when it was, and a remedy.

    Raises:
        FloatingPointError: The optimizer has refused a step.
    """
    try:
        yield
    except FloatingPointError as error:
        what = str(error).rpartition(": ")[0]
        raise FloatingPointError(f"{what}, at step {global_step}: {remedy}") from error


def checkpoint(
    agent: Agent,
    optimizer: optim.CurvatureOptimizer,
    envs: NormalizedEnvs,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return all that the next rollout and its update depend on.

    Args:
        agent: The networks.
        optimizer: Steps them.
        envs: The environments.
        rng: Draws the actions.
    """
    return {
        "agent": agent.state_dict(),
        "optimizer": optimizer.state_dict(),
        "envs": envs.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "action_rng": generator_state(rng),
    }


def restore(
    state: dict[str, Any],
    agent: Agent,
    optimizer: optim.CurvatureOptimizer,
    envs: NormalizedEnvs,
    rng: np.random.Generator,
) -> bool:
    """Restore what `checkpoint` returned; print a line if an environment cannot go on.

    Returns:
        Whether the environments go on where they were.
    """
    agent.load_state_dict(state["agent"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["torch_rng"])
    set_generator_state(rng, state["action_rng"])
    goes_on = envs.load_state_dict(state["envs"])
    if not goes_on:
        print("the environment's state cannot be saved: it starts a new episode")
    return goes_on
