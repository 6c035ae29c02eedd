"""What Stable-Baselines3 needs besides an optimizer class: two parameter groups, and a log.

Any optimizer of `hesrl.optim` is an ``optimizer_class`` of Stable-Baselines3 as it stands::

    PPO("MlpPolicy", env, policy_kwargs={"optimizer_class": AdaHesScale, "optimizer_kwargs": {…}})

Give both keys: only for exactly `torch.optim.Adam` without ``optimizer_kwargs`` does
Stable-Baselines3 set ``eps=1e-5``, and A2C puts RMSprop in where there is no ``optimizer_class``.
"""

from hesrl.sb3.callbacks import CurvatureCallback
from hesrl.sb3.policies import (
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    SeparateGroups,
    param_groups,
)

__all__ = [
    "CnnPolicy",
    "CurvatureCallback",
    "MlpPolicy",
    "MultiInputPolicy",
    "SeparateGroups",
    "param_groups",
]
