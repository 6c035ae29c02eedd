"""Models of Stable-Baselines3: made by the settings, saved, restored, and how they act."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from hesrl import optim
from hesrl.envs.spaces import other_spaces
from hesrl.errors import UserError
from hesrl.rl.layers import ACTIVATIONS
from hesrl.rl.optimizer_settings import hyperparameters
from hesrl.runs.checkpoint import rng_state, set_rng_state
from hesrl.runs.directory import RunDirectory
from hesrl.sb3.environments import Environments, make_envs
from hesrl.sb3.policies import policy_class
from hesrl.sb3.settings import SB3Settings
from hesrl.settings_from_yaml import typed_settings

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"sb3-ppo": PPO, "sb3-a2c": A2C}
"""Stable-Baselines3's algorithms by the agent of a run."""


def make_model(
    agent: str, envs: VecNormalize, args: SB3Settings, settings: dict[str, Any]
) -> OnPolicyAlgorithm:
    """Return the algorithm with its networks.

    Args:
        agent: Name of the agent, a key of `ALGORITHMS`.
        envs: The environments.
        args: Settings in force.
        settings: Arguments that only this algorithm has.

    Raises:
        UserError: A recurrent policy is asked for, and sb3-contrib is not installed.
    """
    optimizer = optim.get(args.optimizer)
    lr = args.learning_rate
    recurrent = args.lstm_units is not None
    build: Any = recurrent_ppo() if recurrent else ALGORITHMS[agent]
    model: OnPolicyAlgorithm = build(
        policy_class(
            envs.observation_space,
            separate=issubclass(optimizer, optim.Scaled),
            recurrent=recurrent,
        ),
        envs,
        learning_rate=(lambda remaining: remaining * lr) if args.anneal_lr else lr,
        n_steps=args.num_steps,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        ent_coef=args.ent_coef,
        vf_coef=args.vf_coef,
        max_grad_norm=args.max_grad_norm,
        policy_kwargs={
            "net_arch": list(args.hidden_sizes),
            "activation_fn": ACTIVATIONS[args.activation],
            "ortho_init": args.orthogonal_init,
            **({"lstm_hidden_size": args.lstm_units} if recurrent else {}),
            "optimizer_class": optimizer,
            "optimizer_kwargs": {k: v for k, v in hyperparameters(args).items() if k != "lr"},
        },
        seed=args.seed,
        device=args.device,
        **settings,
    )
    return model


def recurrent_ppo() -> type[OnPolicyAlgorithm]:
    """Return RecurrentPPO.

    Raises:
        UserError: sb3-contrib is not installed.
    """
    try:
        from sb3_contrib import RecurrentPPO
    except ImportError as error:
        raise UserError("--recurrent needs sb3-contrib: pip install 'hesrl[contrib]'") from error
    return RecurrentPPO


class Acting:
    """The most probable actions of a model, for raw observations.

    Args:
        model: The model.
        made: Its environments.
    """

    def __init__(self, model: OnPolicyAlgorithm, made: Environments) -> None:
        self._model, self._made = model, made
        self.begin_episode()

    def begin_episode(self) -> None:
        """Forget what an LSTM remembers of earlier observations."""
        self._memory: Any = None

    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Return actions for observations (N, …), each the next one of its episode."""
        seen = self._made.seen(obs)
        actions, self._memory = self._model.predict(seen, self._memory, deterministic=True)
        return actions


def _statistics(envs: VecNormalize) -> dict[str, RunningMeanStd]:
    """Return the running statistics of rewards and observations, of each part that has some."""
    of_observations = envs.obs_rms if envs.norm_obs else {}
    if isinstance(of_observations, RunningMeanStd):
        return {"ret_rms": envs.ret_rms, "obs_rms": of_observations}
    parts = {f"obs_rms/{key}": value for key, value in of_observations.items()}
    return {"ret_rms": envs.ret_rms, **parts}


def state_of(model: Any, envs: VecNormalize) -> dict[str, Any]:
    """Return networks, optimizer, statistics and random numbers, fit for a checkpoint."""
    statistics = {
        name: {key: torch.as_tensor(value) for key, value in vars(numbers).items()}
        for name, numbers in _statistics(envs).items()
    }
    return {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "updates": model._n_updates,
        "statistics": statistics,
        "rng": rng_state(),
    }


def _load_statistics(envs: VecNormalize, state: dict[str, Any]) -> None:
    for name, statistics in _statistics(envs).items():
        for key, value in state[name].items():
            setattr(statistics, key, value.numpy() if value.dim() else value.item())


def restore(
    state: dict[str, Any], model: OnPolicyAlgorithm, envs: VecNormalize, args: SB3Settings
) -> None:
    """Go on from a checkpoint, with new episodes from seeds of their own."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model._n_updates = state["updates"]
    model.num_timesteps = state["global_step"]
    _load_statistics(envs, state["statistics"])
    seeds = np.random.SeedSequence((args.seed, state["global_step"]))
    envs.seed(int(seeds.generate_state(1)[0]))
    set_rng_state(state["rng"])


@contextlib.contextmanager
def load_policy(
    run: RunDirectory, env_id: str, options: dict[str, Any], state: dict[str, Any]
) -> Iterator[tuple[Acting, ActorCriticPolicy, tuple[Space[Any], Space[Any]]]]:
    """Return how a checkpoint's policy acts on raw observations, its networks, and its spaces.

    Args:
        run: The run, of one of Stable-Baselines3's agents.
        env_id: Gymnasium id of the environment to act in.
        options: Arguments of the environment.
        state: The checkpoint.

    Raises:
        UserError: The environment is impossible, or has other spaces than that of the run.
    """
    module = import_module(f"hesrl.agents.{run.agent.replace('-', '_')}")
    settings = typed_settings(module.Args, run.settings, str(run.config))
    args: SB3Settings = module.Args(**{**settings, "env_id": env_id, "num_envs": 1})
    args.fill_in()
    made = make_envs(args, options)
    envs = made.envs
    with contextlib.closing(envs):
        # One that Stable-Baselines3 does not warn of; nothing is learned.
        own = {"batch_size": args.batch_size} if run.agent == "sb3-ppo" else {}
        model = make_model(run.agent, envs, args, own)
        expected = {name: value.shape for name, value in model.policy.state_dict().items()}
        found = {name: value.shape for name, value in state["policy"].items()}
        if expected != found:
            raise UserError(other_spaces(env_id, run.settings["env_id"], run.path))
        model.policy.load_state_dict(state["policy"])
        _load_statistics(envs, state["statistics"])
        yield Acting(model, made), model.policy, (made.observations, made.actions)
