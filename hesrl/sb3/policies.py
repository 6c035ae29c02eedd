"""Policies of Stable-Baselines3 whose optimizer has actor and critic as separate groups.

`hesrl.optim.Scaled` bounds the step of one parameter group, and Stable-Baselines3 hands its
optimizer one flat list without names, which no optimizer could divide. The policy can: it knows its
networks. It is also what a saved model builds again when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from gymnasium import Space
from gymnasium.spaces import Dict
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from hesrl.envs.spaces import is_image

ACTOR = ("action_net", "log_std", "mlp_extractor.policy_net", "pi_features_extractor", "lstm_actor")
"""What computes the distribution of the actions, by attribute of the policy."""

CRITIC = (
    "value_net", "mlp_extractor.value_net", "vf_features_extractor", "lstm_critic", "critic",
)  # fmt: skip
"""What computes the value, likewise."""


def param_groups(policy: BasePolicy) -> list[dict[str, Any]]:
    """Divide the parameters of a policy between actor and critic.

    Args:
        policy: One of Stable-Baselines3 or sb3-contrib, or a subclass with the same attributes.

    Returns:
        Groups for an optimizer, each with its ``"name"`` and named parameters: ``"actor"``,
        ``"critic"`` and, if the two share a features extractor or an LSTM with parameters,
        ``"shared"``.

    Raises:
        ValueError: A parameter lies in none of `ACTOR` and `CRITIC`.
    """
    actor, critic = set(_owned(policy, ACTOR)), set(_owned(policy, CRITIC))
    if getattr(policy, "shared_lstm", False):
        critic |= set(_owned(policy, ("lstm_actor",)))
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {"actor": [], "critic": [], "shared": []}
    for name, param in policy.named_parameters():
        if param not in actor | critic:
            raise ValueError(
                f"{type(policy).__name__}.{name} is in none of {', '.join(ACTOR + CRITIC)}: "
                "override param_groups of the policy to say which network it belongs to"
            )
        owner = "shared" if param in actor & critic else "actor" if param in actor else "critic"
        groups[owner].append((name, param))
    return [{"params": params, "name": name} for name, params in groups.items() if params]


def _owned(policy: BasePolicy, attributes: tuple[str, ...]) -> Iterator[nn.Parameter]:
    """Yield the parameters of the attributes that the policy has."""
    for path in attributes:
        owner: Any = policy
        for attribute in path.split("."):
            owner = getattr(owner, attribute, None)
        if isinstance(owner, nn.Parameter):
            yield owner
        elif owner is not None:
            yield from owner.parameters()


class SeparateGroups(BasePolicy):
    """Gives the optimizer of any actor-critic policy the groups of `param_groups`.

    It stands before the policy and takes its arguments; ``optimizer_kwargs`` hold for all groups::

        class MlpLstmPolicy(SeparateGroups, RecurrentActorCriticPolicy):
            pass
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        lr_schedule: Schedule,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, *args, **kwargs)
        build: Any = self.optimizer_class
        self.optimizer = build(self.param_groups(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def param_groups(self) -> list[dict[str, Any]]:
        """Return the groups; override this for networks with attributes of their own."""
        return param_groups(self)


def policy_class(
    observations: Space[Any], *, separate: bool, recurrent: bool
) -> str | type[ActorCriticPolicy]:
    """Return the policy for observations, by name or as a class.

    Args:
        observations: A Dict, images, or vectors.
        separate: Whether actor and critic are groups of their own.
        recurrent: Whether they have an LSTM.
    """
    kind = "MultiInput" if isinstance(observations, Dict) else "Mlp"
    if is_image(observations):
        kind = "Cnn"
    name = f"{kind}{'Lstm' if recurrent else ''}Policy"
    if not separate:
        return name
    # sb3-contrib need not be installed.
    module = import_module("hesrl.sb3.recurrent" if recurrent else __name__)
    policy: type[ActorCriticPolicy] = getattr(module, name)
    return policy


class MlpPolicy(SeparateGroups, ActorCriticPolicy):
    """The ``"MlpPolicy"`` of PPO and A2C with separate groups."""


class CnnPolicy(SeparateGroups, ActorCriticCnnPolicy):
    """The ``"CnnPolicy"`` of PPO and A2C with separate groups."""


class MultiInputPolicy(SeparateGroups, MultiInputActorCriticPolicy):
    """The ``"MultiInputPolicy"`` of PPO and A2C with separate groups."""
