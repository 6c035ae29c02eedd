"""The policy of a run as a saved model of Stable-Baselines3, where it has such networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict
from numpy.typing import NDArray
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor, nn

from hesrl.envs.flat_observations import has_images
from hesrl.envs.mujoco import make_env
from hesrl.envs.normalize import CLIP
from hesrl.errors import UserError
from hesrl.rl.layers import ACTIVATIONS
from hesrl.rl.saved_policy import SB3_AGENTS, SavedPolicy
from hesrl.runs.checkpoint import load_checkpoint
from hesrl.sb3.environments import Seen, plain_actions

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {
    "ppo": PPO, "sb3-ppo": PPO, "a2c": A2C, "sb3-a2c": A2C,
}  # fmt: skip


def write_model(policy: SavedPolicy, folder: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Write ``policy.zip`` and ``vecnormalize.pkl``, and return what acts by them.

    The optimizer of the model is Stable-Baselines3's own, so that nothing of hesrl is needed.

    Raises:
        UserError: Stable-Baselines3 has no such networks.
    """
    run, settings = policy.run, policy.run.settings
    state = load_checkpoint(run.checkpoint)
    if reason := _misfit(policy):
        raise UserError(
            f"--formats sb3: {run.path} has {reason}, which Stable-Baselines3's MlpPolicy has not"
        )
    options = policy.player_settings["env_options"]
    envs = VecNormalize(
        DummyVecEnv([lambda: make_env(policy.env_id, **options)]),
        training=False,
        norm_obs=settings["normalize_observations"],
        norm_reward=settings["normalize_rewards"],
        clip_obs=settings.get("normalization_clip", CLIP),
        gamma=settings["gamma"],
    )
    own = run.agent in SB3_AGENTS
    statistics = flat_statistics(policy, state) if own else state["envs"]["observation_statistics"]
    for name, value in statistics.items():
        number = value.numpy() if isinstance(value, Tensor) and value.dim() else float(value)
        setattr(envs.obs_rms, name, number)
    build: Any = ALGORITHMS[run.agent]
    model = build(
        "MlpPolicy",
        envs,
        gamma=settings["gamma"],
        device="cpu",
        policy_kwargs={
            "net_arch": list(settings["hidden_sizes"]),
            "activation_fn": ACTIVATIONS[settings["activation"]],
        },
    )
    model.policy.load_state_dict(state["policy"] if own else _renamed(policy.networks))
    model.save(folder / "policy.zip")
    envs.save(str(folder / "vecnormalize.pkl"))
    envs.close()
    read = ALGORITHMS[run.agent].load(folder / "policy.zip", device="cpu")

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        normalized = np.asarray(envs.normalize_obs(obs), dtype=np.float32)
        return read.predict(normalized, deterministic=True)[0]

    return act


def outputs_of(policy: SavedPolicy) -> Callable[..., Any]:
    """Return what computes means or logits of normalized observations, as one vector or image.

    With an LSTM it takes hidden and cell state besides, and returns the next ones.
    """
    networks, seen = policy.networks, Seen(policy.spaces[0])

    def features(obs: Tensor) -> Tensor:
        found: Tensor = networks.extract_features(seen.cut(obs), networks.pi_features_extractor)
        return found

    def last_layers(latent: Tensor) -> Tensor:
        found: Tensor = networks.action_net(networks.mlp_extractor.forward_actor(latent))
        return found

    def recurrent(obs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        latent, (hidden, cell) = networks.lstm_actor(features(obs)[None], (hidden, cell))
        return last_layers(latent[0]), hidden, cell

    if policy.run.settings.get("recurrent"):
        return recurrent
    return lambda obs: last_layers(features(obs))


def flat_statistics(policy: SavedPolicy, state: dict[str, Any]) -> dict[str, Any]:
    """Return ``mean`` and ``var`` of observations as one vector; nothing if there are none.

    Args:
        policy: Of a run of Stable-Baselines3.
        state: Its checkpoint.
    """
    found, space = state["statistics"], Seen(policy.spaces[0]).space
    if not policy.run.settings["normalize_observations"]:
        return {}
    if not isinstance(space, Dict):
        return found.get("obs_rms", {})
    parts = [found[name] for key in space if (name := f"obs_rms/{key}") in found]
    return {key: torch.cat([part[key] for part in parts]) for key in ("mean", "var") if parts}


def _misfit(policy: SavedPolicy) -> str:
    """Return what keeps the networks from being those of `MlpPolicy`, or nothing."""
    settings = policy.run.settings
    if policy.run.agent not in ALGORITHMS:
        return "a deviation that depends on the observation"
    if settings.get("recurrent"):
        return "an LSTM"
    if has_images(policy.spaces[0]):
        return "convolutions before all its hidden layers"
    observations, actions = policy.spaces
    if policy.run.agent in SB3_AGENTS and isinstance(Seen(observations).space, Dict):
        return "observations of several parts"
    if plain_actions(policy.env_id, actions)[1] != actions:
        return "actions without bounds, of several dimensions or not from 0"
    reasons = {
        "shared_trunk": "a shared trunk",
        "variance_network": "a network for the variance",
        "layer_norm": "layer normalization",
        "progress": "the progress of the episode in the observation",
    }
    return next((words for name, words in reasons.items() if settings.get(name)), "")


def _renamed(networks: Any) -> dict[str, Tensor]:
    """Return the parameters of an agent of hesrl under the names of Stable-Baselines3."""
    parameters = {}
    for network, hidden, last in (
        (networks.actor, "mlp_extractor.policy_net", "action_net"),
        (networks.critic, "mlp_extractor.value_net", "value_net"),
    ):
        *layers, output = (layer for layer in network)
        for number, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                parameters[f"{hidden}.{number}.weight"] = layer.weight
                parameters[f"{hidden}.{number}.bias"] = layer.bias
        parameters[f"{last}.weight"], parameters[f"{last}.bias"] = output.weight, output.bias
    if networks.actor_logstd is not None:
        parameters["log_std"] = networks.actor_logstd[0]
    return parameters
