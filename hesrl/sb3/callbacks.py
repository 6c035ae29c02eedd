"""The curvature of a training run in Stable-Baselines3's log."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from hesrl.curvature import take_curvature
from hesrl.optim import CurvatureOptimizer

NETWORKS = ("actor", "critic")
"""The attributes of an off-policy policy that have an optimizer each."""


class CurvatureCallback(BaseCallback):
    """Logs norm, share of negative entries and largest magnitude of the curvature h.

    The curvature is looked at before the first step that an optimizer takes after a rollout. The
    log gets ``curvature/norm``, ``curvature/negative_share`` and ``curvature/largest``, together
    with the ``train/…`` values of that update. Where actor and critic have separate optimizers or
    groups, each has its own: ``curvature/actor_norm``, ``curvature/critic_norm``, …

    h is in the unit of the loss per squared parameter.

    Args:
        every: Rollouts from one record to the next. A rollout of an off-policy algorithm is often
            one environment step, of which only the last record before a log entry is seen.
        verbose: As for any callback.

    Raises:
        ValueError: ``every`` is not positive; or, when the training begins, no optimizer of the
            model has a curvature.
    """

    def __init__(self, every: int = 1, verbose: int = 0) -> None:
        super().__init__(verbose)
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self._every = every
        self._rollouts = 0
        self._due: set[int] = set()
        self._hooks: list[RemovableHandle] = []

    def _on_training_start(self) -> None:
        self._remove_hooks()  # of a training that an exception ended
        optimizers = optimizers_of(self.model)
        with_curvature = {
            name: optimizer
            for name, optimizer in optimizers.items()
            if isinstance(optimizer, CurvatureOptimizer) and optimizer.curvature is not None
        }
        if not with_curvature:
            found = ", ".join(type(optimizer).__name__ for optimizer in optimizers.values())
            raise ValueError(
                f"CurvatureCallback: no optimizer of the model has a curvature, only {found}: "
                'give policy_kwargs={"optimizer_class": hesrl.optim.AdaHesScale, …}'
            )
        for name, optimizer in with_curvature.items():
            self._hooks.append(optimizer.register_step_pre_hook(self._before_step(name)))

    def _on_rollout_start(self) -> None:
        if self._rollouts % self._every == 0:
            self._due = {id(optimizer) for optimizer in optimizers_of(self.model).values()}
        self._rollouts += 1

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._remove_hooks()

    def _remove_hooks(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _before_step(self, name: str) -> Any:
        def record(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            if id(optimizer) not in self._due:
                return
            for group in optimizer.param_groups:
                hessians = [h for p in group["params"] if (h := take_curvature(p)) is not None]
                if hessians:  # else a lazy step, which takes none
                    self._due.discard(id(optimizer))
                    self._record(group.get("name", name), hessians)

        return record

    def _record(self, network: str, hessians: list[Tensor]) -> None:
        prefix = f"curvature/{network}_" if network else "curvature/"
        hess = torch.cat([h.flatten() for h in hessians])
        self.logger.record(f"{prefix}norm", hess.norm().item())
        self.logger.record(f"{prefix}negative_share", (hess < 0).float().mean().item())
        self.logger.record(f"{prefix}largest", hess.abs().max().item())


def optimizers_of(model: BaseAlgorithm) -> dict[str, Optimizer]:
    """Return the optimizers of a policy by network; the name of a single one is ``""``."""
    owners: dict[str, Any] = {"": model.policy}
    owners |= {name: getattr(model.policy, name, None) for name in NETWORKS}
    return {name: owner.optimizer for name, owner in owners.items() if hasattr(owner, "optimizer")}
