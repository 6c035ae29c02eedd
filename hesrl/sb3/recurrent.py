"""RecurrentPPO of sb3-contrib, with policies whose optimizer has actor and critic as groups."""

from __future__ import annotations

from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)

from hesrl.sb3.policies import SeparateGroups

__all__ = ["CnnLstmPolicy", "MlpLstmPolicy", "MultiInputLstmPolicy", "RecurrentPPO"]


class MlpLstmPolicy(SeparateGroups, RecurrentActorCriticPolicy):
    """The ``"MlpLstmPolicy"`` of RecurrentPPO with separate groups."""


class CnnLstmPolicy(SeparateGroups, RecurrentActorCriticCnnPolicy):
    """The ``"CnnLstmPolicy"`` of RecurrentPPO with separate groups."""


class MultiInputLstmPolicy(SeparateGroups, RecurrentMultiInputActorCriticPolicy):
    """The ``"MultiInputLstmPolicy"`` of RecurrentPPO with separate groups."""
