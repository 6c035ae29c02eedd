"""The optimizer among the settings of an agent: which ones are possible, and what each brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hesrl import optim
from hesrl.errors import UserError
from hesrl.presets import is_of_preset
from hesrl.settings import flag, require_between, require_positive

OptimizerDefaults = Mapping[str, float]
"""What one optimizer brings where nothing is given, by the name of the setting."""

OPTIONAL = ("learning_rate", "eps", "adam_bound", "delta", "max_grad_norm")
"""Settings that may be None."""

OF_CURVATURE = ("curvature_average", "damping")
"""Settings of optimizers that divide the step by an average of a curvature."""

KFAC_DEFAULTS = {"kfac": {"learning_rate": 1e-2, "delta": 1e-3, "max_grad_norm": math.inf}}
"""What K-FAC brings to the agents that let it observe their networks (`hesrl.rl.fisher`)."""


def defaults_of_optimizers(
    *,
    by_gradient: OptimizerDefaults,
    by_curvature: OptimizerDefaults,
    by_sample: OptimizerDefaults,
    adam_bound: float,
) -> dict[str, dict[str, float]]:
    """Return what each optimizer of an agent brings where nothing is given, by its name.

    Args:
        by_gradient: ``learning_rate``, ``eps`` and ``max_grad_norm`` of optimizers that divide the
            step by the gradient, or by nothing.
        by_curvature: The same of optimizers that divide the step by a curvature.
        by_sample: What of ``by_curvature`` is different with Hutchinson's estimate. Its root mean
            square contains off-diagonal terms of the Hessian.
        adam_bound: Of optimizers that divide the step by a curvature.
    """
    table = {}
    for name in optim.known():
        optimizer = optim.get(name)
        if optimizer.curvature == "ggn_mc":
            continue
        table[name] = dict(by_gradient)
        if not issubclass(optimizer, optim.Adaptive):
            del table[name]["eps"]
        elif issubclass(optimizer, optim.AdaptiveByCurvature):
            sampled = optimizer.curvature == "hutchinson"
            table[name] = {**by_curvature, **(by_sample if sampled else {})}
            table[name]["adam_bound"] = adam_bound
        if issubclass(optimizer, optim.Scaled):
            table[name] |= {"delta": 1e-8, "max_grad_norm": by_curvature["max_grad_norm"]}
    return table


def check_optimizer(args: Any, defaults: Mapping[str, OptimizerDefaults]) -> None:
    """Refuse an unknown optimizer, and settings that do not go with the optimizer.

    A preset's ε passes where the optimizer has none.

    Args:
        args: Settings of an agent with ``optimizer``, ``betas`` and what `OPTIONAL` and
            `OF_CURVATURE` name.
        defaults: What each optimizer of the agent brings, by its name.

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
    for name in OPTIONAL:
        given = getattr(args, name) is not None
        if given and name not in own and not is_of_preset(args, name):
            raise UserError(f"{flag(name)} does not go with --optimizer {args.optimizer}")
    require_positive(args, " ".join(own))
    # The others are bounds, and infinity is none.
    finite = " ".join(name for name in ("learning_rate", "eps", "delta") if name in own)
    require_between(args, finite, 0, math.inf)
    kind = optim.get(args.optimizer)
    for name in OF_CURVATURE:
        given = getattr(args, name) != getattr(type(args), name)
        if given and not issubclass(kind, optim.AdaptiveByCurvature):
            raise UserError(f"{flag(name)} does not go with --optimizer {args.optimizer}")
    require_between(args, "damping", 0, math.inf)
    bound = own.get("adam_bound") if args.adam_bound is None else args.adam_bound
    if args.curvature_average == "signed" and bound == math.inf:
        raise UserError(
            "--curvature-average signed: needs an --adam-bound, such as 3, since nothing else "
            "bounds the step where the curvature is negative"
        )
    if not all(0 <= beta < 1 for beta in args.betas):
        raise UserError(f"--betas {args.betas}: must be two numbers from 0 to below 1")
    if (
        not issubclass(kind, optim.Adaptive | optim.Scaled)
        and tuple(args.betas) != type(args).betas
    ):
        raise UserError(f"--betas does not go with --optimizer {args.optimizer}")


def fill_in_optimizer(args: Any, defaults: Mapping[str, OptimizerDefaults]) -> None:
    """Put in what the optimizer brings where nothing is given, and None where it has no such thing.

    Args:
        args: Settings that `check_optimizer` lets through.
        defaults: What each optimizer of the agent brings, by its name.
    """
    own = defaults[args.optimizer]
    for name in OPTIONAL:
        if getattr(args, name) is None or name not in own:
            setattr(args, name, own.get(name))


def hyperparameters(args: Any) -> dict[str, Any]:
    """Return the arguments of the optimizer's class, of settings that are filled in."""
    optimizer = optim.get(args.optimizer)
    settings: dict[str, Any] = {"lr": args.learning_rate}
    if issubclass(optimizer, optim.Adaptive):
        settings |= {"betas": tuple(args.betas), "eps": args.eps}
        if issubclass(optimizer, optim.AdaptiveByCurvature):
            settings["adam_bound"] = args.adam_bound
            settings |= {name: getattr(args, name) for name in OF_CURVATURE}
    elif optimizer.curvature is not None:
        settings["curvature_beta"] = args.betas[1]
    if issubclass(optimizer, optim.Scaled | optim.KFAC):
        settings["delta"] = args.delta
    return settings
