"""Environments and settings so small that a training run takes a tenth of a second."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from hesrl.curvature import take_curvature
from hesrl.optim import AdaHesScale

VECTOR = spaces.Box(-1, 1, (3,))
IMAGE = spaces.Box(0, 255, (3, 36, 36), np.uint8)
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "MlpPolicy": VECTOR,
    "CnnPolicy": IMAGE,
    "MultiInputPolicy": spaces.Dict(
        vector=VECTOR, number=spaces.Discrete(3), image=spaces.Box(0, 255, (3, 36, 36), np.uint8)
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(3),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-binary": spaces.MultiBinary(3),
}
NETWORKS: dict[str, dict[str, Any]] = {
    "MlpPolicy": {"net_arch": [4, 5]},
    "CnnPolicy": {"net_arch": [4], "features_extractor_kwargs": {"features_dim": 5}},
    "MultiInputPolicy": {"net_arch": [4], "features_extractor_kwargs": {"cnn_output_dim": 5}},
}
PPO_SETTINGS: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2}
OFF_POLICY_SETTINGS: dict[str, Any] = {"learning_starts": 16, "buffer_size": 99, "batch_size": 8}


class Toy(gym.Env[Any, Any]):
    """Random observations, a reward for small actions, episodes of ten steps."""

    def __init__(self, observations: str = "MlpPolicy", actions: str = "box") -> None:
        self.observation_space = OBSERVATIONS[observations]
        self.action_space = ACTIONS[actions]
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        reward = -float(np.square(np.asarray(action, dtype=float)).mean())
        return self._observation(), reward, False, self._steps == 10, {}

    def _observation(self) -> Any:
        self.observation_space.seed(self._steps)
        return self.observation_space.sample()

    def action_masks(self) -> np.ndarray[Any, Any]:
        return np.array([True, True, False])


def make(algorithm: Any, policy: Any = "MlpPolicy", actions: str = "box", **settings: Any) -> Any:
    """A model on `Toy` with AdaHesScale, in one thread on the CPU.

    Args:
        algorithm: Class of the algorithm.
        policy: Name of the policy, or a class for vectors of observations.
        actions: Key of `ACTIONS`.
        **settings: Of the algorithm; ``policy_kwargs`` add to the small network.
    """
    name = policy if policy in NETWORKS else "MlpPolicy"
    policy_kwargs = {
        **NETWORKS[name],
        "optimizer_class": AdaHesScale,
        "optimizer_kwargs": {"eps": 1e-3},
        **settings.pop("policy_kwargs", {}),
    }
    if "PPO" in algorithm.__name__:
        settings = {**PPO_SETTINGS, **settings}
    return algorithm(
        policy, Toy(name, actions), policy_kwargs=policy_kwargs, device="cpu", seed=0, **settings
    )


class Checked(AdaHesScale):
    """Notes for every step whether all parameters had a finite curvature of their own."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, **options)
        self.checks: list[bool] = []

    def step(self, closure: Any = None) -> Any:
        params = [p for group in self.param_groups for p in group["params"]]
        hessians = [take_curvature(p) for p in params if p.grad is not None]
        finite = [h is not None and bool(h.isfinite().all()) for h in hessians]
        self.checks.append(len(finite) > 0 and all(finite))
        return super().step(closure)


def assert_every_step_had_curvature(model: Any) -> None:
    """For a model whose optimizers are `Checked`."""
    owners = [model.policy, *(getattr(model.policy, name, None) for name in ("actor", "critic"))]
    optimizers = [owner.optimizer for owner in owners if hasattr(owner, "optimizer")]
    assert optimizers
    for optimizer in optimizers:
        assert optimizer.checks and all(optimizer.checks)
    assert all(param.isfinite().all() for param in model.policy.parameters())


def same_parameters(model: Any, other: Any) -> bool:
    pairs = zip(model.policy.parameters(), other.policy.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
