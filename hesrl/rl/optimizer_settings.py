"""The optimizer among the settings of an agent: which are possible, and what each brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hesrl import optim
from hesrl.errors import UserError
from hesrl.settings import flag, is_of_preset, require_positive

Defaults = Mapping[str, float]
"""What one optimizer brings along, by the name of the setting."""


def defaults_of_optimizers(
    first: Defaults, second: Defaults, hutchinson: Defaults
) -> dict[str, dict[str, float]]:
    """Return what each optimizer of an agent brings along where nothing is given.

    Args:
        first: ``learning_rate``, ``eps`` and ``max_grad_norm`` if the gradient is the divisor.
        second: The same if a curvature is.
        hutchinson: What of ``second`` differs for Hutchinson's estimate, whose root mean square has
            the off-diagonal terms of the Hessian in it.
    """
    table = {}
    for name in optim.known():
        optimizer = optim.get(name)
        if optimizer.curvature == "ggn_mc":
            continue
        table[name] = dict(first)
        if not issubclass(optimizer, optim.Adaptive):
            del table[name]["eps"]
        elif optimizer.divisor == "exp_hess_sq":
            sampled = optimizer.curvature == "hutchinson"
            table[name] = {**second, **(hutchinson if sampled else {})}
        if issubclass(optimizer, optim.Scaled):
            table[name] |= {"delta": 1e-8, "max_grad_norm": second["max_grad_norm"]}
    return table


def fill_in_optimizer(args: Any, defaults: Mapping[str, Defaults]) -> None:
    """Put in what the optimizer brings along, and refuse what does not go with it.

    A preset's ε is left out where the optimizer has none.

    Args:
        args: Settings of an agent with ``optimizer``, ``learning_rate``, ``betas``, ``eps``,
            ``delta`` and ``max_grad_norm``, of which all numbers may be None.
        defaults: Those of the agent, by optimizer.

    Raises:
        UserError: The message names the setting.
    """
    if args.optimizer not in defaults:
        reason = "unknown"
        if args.optimizer in optim.known():
            reason = "samples from a likelihood, which a policy loss is not"
        raise UserError(
            f"--optimizer {args.optimizer}: {reason}; choose one of {', '.join(defaults)}"
        )
    own = defaults[args.optimizer]
    for name in ("learning_rate", "eps", "delta", "max_grad_norm"):
        if getattr(args, name) is None:
            setattr(args, name, own.get(name))
        elif name not in own and is_of_preset(args, name):
            setattr(args, name, None)
        elif name not in own:
            raise UserError(f"{flag(name)} does not go with --optimizer {args.optimizer}")
    require_positive(args, " ".join(own))
    if not all(0 <= beta < 1 for beta in args.betas):
        raise UserError(f"--betas {args.betas}: must be two numbers from 0 to below 1")
    averages = issubclass(optim.get(args.optimizer), optim.Adaptive | optim.Scaled)
    if not averages and tuple(args.betas) != type(args).betas:
        raise UserError(f"--betas does not go with --optimizer {args.optimizer}")


def hyperparameters(args: Any) -> dict[str, Any]:
    """Return the arguments of the optimizer's class, of settings that are filled in."""
    optimizer = optim.get(args.optimizer)
    settings: dict[str, Any] = {"lr": args.learning_rate}
    if issubclass(optimizer, optim.Adaptive):
        settings |= {"betas": tuple(args.betas), "eps": args.eps}
    elif optimizer.curvature is not None:
        settings["curvature_beta"] = args.betas[1]
    if issubclass(optimizer, optim.Scaled):
        settings["delta"] = args.delta
    return settings
