"""The optimizer of an agent, with a step size for each network, annealed or adapted."""

from __future__ import annotations

from torch.optim import Optimizer

from hesrl import optim
from hesrl.errors import UserError
from hesrl.rl.actor_critic import Agent
from hesrl.rl.actor_critic_settings import ActorCriticSettings
from hesrl.rl.fisher import check_layers, let_observe
from hesrl.rl.optimizer_settings import hyperparameters

INITIAL = "initial_lr"
"""What a parameter group began with, by the name that torch's schedulers use."""

_FAR, _FACTOR = 2.0, 1.5
_SMALLEST, _LARGEST = 0.01, 10.0


def make_optimizer(args: ActorCriticSettings, agent: Agent) -> optim.CurvatureOptimizer:
    """Return the optimizer that the settings name, ready to observe the agent if it is K-FAC.

    Raises:
        UserError: The agent has parameters that K-FAC does not take, or no variance.
    """
    kind = optim.get(args.optimizer)
    if issubclass(kind, optim.KFAC):
        check_layers(agent)
    own = {"variance": args.variance_learning_rate, "critic": args.critic_learning_rate}
    groups = agent.parameter_groups(own_variance=own["variance"] is not None)
    if own["variance"] is not None and "variance" not in (group["name"] for group in groups):
        raise UserError("--variance-learning-rate: discrete actions have no variance")
    for group in groups:
        lr = own.get(group["name"])
        group["lr"] = group[INITIAL] = args.learning_rate if lr is None else lr
    optimizer = kind(groups, **hyperparameters(args))
    let_observe(optimizer, agent)
    return optimizer


def anneal(optimizer: Optimizer, fraction: float) -> None:
    """Give each parameter group ``fraction`` of the step size that it began with."""
    for group in optimizer.param_groups:
        group["lr"] = fraction * group[INITIAL]


def adapt_to_kl(optimizer: Optimizer, approx_kl: float, desired_kl: float) -> None:
    """Adapt the step sizes to the divergence of the policy from the one that acted.

    As in rsl_rl (Rudin et al., 2022), all step sizes are divided by 1.5 where the divergence is
    above twice the desired one, and multiplied by 1.5 where it is below half of it. They stay
    between a hundredth and ten times of what they began with.

    Args:
        optimizer: Its groups know what they began with.
        approx_kl: The divergence (nats).
        desired_kl: What it shall be (nats).
    """
    if approx_kl > _FAR * desired_kl:
        factor = 1 / _FACTOR
    elif approx_kl < desired_kl / _FAR:
        factor = _FACTOR
    else:
        return
    for group in optimizer.param_groups:
        now, initial = float(group["lr"]), group[INITIAL]
        group["lr"] = min(max(factor * now, _SMALLEST * initial), _LARGEST * initial)
