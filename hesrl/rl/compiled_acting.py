"""The actions of a Gaussian policy in one call of C, for N environments."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hesrl.envs.compiled_envs import Actor
from hesrl.envs.steps import Sampler
from hesrl.rl.actor_critic import Agent
from hesrl.rl.policies import GaussianPolicy
from hesrl.train_step.compilation import compiled
from hesrl.train_step.recording import record


class CompiledActing:
    """Draws μ(s) + σ(s) ε of the present parameters, which are read in place.

    Args:
        agent: The networks; they must stay where they are.
        num_envs: N.

    Raises:
        NotImplementedError: Actions are discrete, observations are images, the networks are not on
            the CPU, or C has no code for an operation of theirs.
        RuntimeError: There is no C++ compiler, or it fails.
        OSError: The folder of compiled functions cannot be used.
    """

    def __init__(self, agent: Agent, num_envs: int) -> None:
        if not isinstance(agent.policy, GaussianPolicy):
            raise NotImplementedError("actions are discrete")
        if any(isinstance(m, torch.nn.Conv2d) for m in agent.modules()):
            raise NotImplementedError("observations are images")
        if any(p.device.type != "cpu" for p in agent.parameters()):
            raise NotImplementedError("the networks are not on the CPU")
        first = next(m for m in agent.modules() if isinstance(m, torch.nn.Linear))
        self._params = list(agent.parameters())
        obs = torch.zeros(num_envs, first.in_features)
        noise = torch.zeros(num_envs, agent.policy.size)

        def act() -> tuple[Tensor]:
            mean, log_std = agent.distribution(obs)
            return (mean + log_std.exp() * noise,)

        with torch.no_grad():
            step = record(act, [*self._params, obs, noise])
        self._constants = step.constants
        inputs = [*self._params, obs, noise, *step.constants]
        program = compiled(step.graph, inputs, is_short=True)
        function, memory, result = program.in_c()
        self._program, self._shape = program, (num_envs, agent.policy.size)
        self._arguments = (ctypes.c_void_p * (len(inputs) + 1))()
        at = len(self._params)
        self._actor = Actor(
            act=function, arguments=self._arguments, memory=memory,
            obs=at, noise=at + 1, actions=result,
        )  # fmt: skip
        self._call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
            function
        )

    def sampler(self, noise: NDArray[np.float32]) -> Sampler:
        """Return what draws actions with this noise (T, N, act_dim)."""
        actor, arguments = self._actor, self._arguments
        for slot, param in enumerate(self._params):
            arguments[slot] = param.data_ptr()
        for slot, constant in enumerate(self._constants, actor.actions - len(self._constants)):
            arguments[slot] = constant.data_ptr()
        start, row = noise.ctypes.data, noise[0].nbytes
        address = ctypes.addressof(arguments)

        def draw(step: int, obs: NDArray[Any]) -> NDArray[np.float32]:
            actions = np.empty(self._shape, dtype=np.float32)
            arguments[actor.obs], arguments[actor.noise] = obs.ctypes.data, start + step * row
            arguments[actor.actions] = actions.ctypes.data
            self._call(0, address, actor.memory)
            return actions

        return Sampler(draw, noise, actor)
