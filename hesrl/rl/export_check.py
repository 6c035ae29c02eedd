"""Whether an exported policy acts as the agent does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

from hesrl.envs.episode_player import Act, RemembersEpisode
from hesrl.envs.spaces import actions_for
from hesrl.rl.exported_policy import ExportedPolicy, shortfall, some_observations
from hesrl.rl.saved_policy import SavedPolicy

CHECKED = 1000
"""Observations on which what was exported is compared with the agent."""
EPISODE = 50
"""Length of the episodes of those observations, for a policy that remembers (steps)."""
TOLERANCE = 1e-5
"""Largest difference of an action, in units of half the action's range if that is larger than 1."""

Run = Callable[..., list[NDArray[Any]]]
"""From observations (N, …), and hidden and cell state, to actions and the next state."""


class Remembering:
    """Passes the state of an LSTM from one observation to the next, in one environment.

    Args:
        run: Takes and returns the state.
        shape: Layers and units of the LSTM.
    """

    def __init__(self, run: Run, shape: tuple[int, int]) -> None:
        self._run, self._shape = run, shape
        self.begin_episode()

    def begin_episode(self) -> None:
        """Forget."""
        layers, units = self._shape
        self._state = [np.zeros((layers, 1, units), np.float32) for _ in range(2)]

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return what the run gives for the next observation (1, …) of an episode."""
        found, *self._state = self._run(obs, *self._state)
        return found


def acting(run: Run, state: tuple[int, int] | None) -> Act:
    """Return a policy: of the observation alone, or one that remembers if there is a state."""
    return (lambda obs: run(obs)[0]) if state is None else Remembering(run, state)


def difference(policy: SavedPolicy, module: ExportedPolicy, act: Act, outputs: Act) -> float:
    """Return the largest difference of an action from the agent's.

    A discrete action may be another one where the two best are within the tolerance. A policy that
    remembers gets the observations one after the other, as episodes.

    Args:
        policy: The agent's.
        module: What was exported.
        act: Acts by the file that was written.
        outputs: Gives what ``module`` has before the action: means or logits.

    Raises:
        FloatingPointError: It is larger than the tolerance.
    """
    observations, actions = policy.spaces
    statistics = {} if not module._normalizes else {
        "mean": module.mean[0], "var": module.std[0].square()
    }  # fmt: skip
    obs = some_observations(observations, statistics, CHECKED)
    for_env = actions_for(policy.env_id, actions)
    expected = np.asarray(for_env(_in_sequence(policy.act, policy.observation.normalize(obs))))
    found = _in_sequence(act, obs)
    if isinstance(actions, Box):
        width = actions.high - actions.low
        scale = np.where(np.isfinite(width), np.maximum(1, width / 2), 1)
        largest = float((np.abs(found - expected) / scale).max())
    else:
        logits = torch.from_numpy(_in_sequence(outputs, obs))
        largest = max(shortfall(actions, logits, chosen) for chosen in (expected, found))
    if not largest <= TOLERANCE:
        raise FloatingPointError(
            f"what was exported differs from the agent by {largest:.1e}; no file is left"
        )
    return largest


def _in_sequence(act: Act, obs: NDArray[Any]) -> NDArray[Any]:
    """Return what a policy gives for observations (N, …): at once, or in episodes."""
    if not isinstance(act, RemembersEpisode):
        return np.asarray(act(obs))
    found = []
    for step in range(len(obs)):
        if step % EPISODE == 0:
            act.begin_episode()
        found.append(np.asarray(act(obs[step : step + 1])))
    return np.concatenate(found)
