"""The losses of a diagonal Gaussian as operations of the autograd graph, by log σ or by σ²."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hesrl.curvature.estimators.likelihood import Edges, Output, separable
from hesrl.losses.checks import (
    require_constant,
    require_positive,
    require_positive_variance,
    require_scale,
    require_scale_name,
    require_shape,
)
from hesrl.losses.gaussian import (
    gaussian_a2c,
    gaussian_nll,
    gaussian_surrogate,
    variance_derivatives,
)
from hesrl.losses.operation import ClosedFormLoss, Form, divisor, spread


def _by_scale(form: Form, mean: Tensor, scale: Tensor, *args: Any) -> tuple[Tensor, ...]:
    """Evaluate a form of log σ, by σ² if that is what the last argument says."""
    *args_of_form, name = args
    if name == "log_std":
        return form(mean, scale, *args_of_form)
    *outputs, grad_mean, grad, hess_mean, hess = form(mean, 0.5 * scale.log(), *args_of_form)
    grad, hess = variance_derivatives(scale, grad, hess)
    return *outputs, grad_mean, grad, hess_mean, hess


def _outputs_of_nll(node: Any, edges: Edges, grad_out: Tensor) -> list[Output]:
    """Mean and scale, with Fisher's 1/σ² and 2 by log σ, ½/v² by the variance v."""
    _, scale, _, _, _, hess_mean, _ = node.saved_tensors
    reduction, name = node.settings
    at_mean = spread(grad_out, hess_mean) * hess_mean
    count = divisor(len(hess_mean), reduction)
    at_scale = spread(grad_out, hess_mean) * torch.full_like(hess_mean, 2 / count)
    if name == "variance":
        at_scale = at_scale / (4 * scale * scale)
    shared = scale.shape != hess_mean.shape
    return [
        *separable(edges[0], at_mean),
        *separable(edges[1], at_scale.sum_to_size(scale.shape), shared),
    ]


class _GaussianLoss(ClosedFormLoss):
    """What the losses of a Gaussian have in common: two inputs, the second log σ or σ².

    Args:
        reduction: "mean", "sum" or "none".
        scale: "log_std" or "variance": what the second input is.

    Raises:
        ValueError: The reduction or the scale is unknown.
    """

    def __init_subclass__(cls, form: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        by_scale = form and partial(_by_scale, form)
        super().__init_subclass__(form=by_scale, inputs=2, **kwargs)

    def __init__(self, reduction: str = "mean", scale: str = "log_std") -> None:
        super().__init__(reduction)
        require_scale_name(scale)
        self.scale = scale

    def _check(self, mean: Tensor, scale: Tensor, name: str, x: Tensor) -> None:
        require_shape("mean", mean, "(N, K)")
        require_scale(self.scale, scale, mean.shape)
        if self.scale == "variance":
            require_positive_variance(scale)
        require_constant(name, x, "mean", mean.shape)


class GaussianNLLLoss(_GaussianLoss, form=gaussian_nll, likelihood=_outputs_of_nll):
    """`gaussian_nll` as one operation of the autograd graph.

    Args:
        reduction: "mean", "sum" or "none".
        scale: "log_std" or "variance": what the second input is.

    Raises:
        ValueError: The reduction or the scale is unknown.
    """

    def forward(self, mean: Tensor, scale: Tensor, targets: Tensor) -> Tensor:
        """Return the loss; the arguments are those of `gaussian_nll`, by log σ or σ².

        Raises:
            ValueError: Shapes do not go together, a variance is not above 0, or the targets
                require a gradient.
        """
        self._check(mean, scale, "targets", targets)
        loss: Tensor = self.operation(mean, scale, targets, (self.reduction, self.scale))
        return loss


class GaussianA2CLoss(_GaussianLoss, form=gaussian_a2c):
    """`gaussian_a2c` as one operation of the autograd graph.

    Args:
        reduction: "mean", "sum" or "none".
        scale: "log_std" or "variance": what the second input is.

    Raises:
        ValueError: The reduction or the scale is unknown.
    """

    def forward(self, mean: Tensor, scale: Tensor, actions: Tensor, advantages: Tensor) -> Tensor:
        """Return the loss; the arguments are those of `gaussian_a2c`, by log σ or σ².

        Raises:
            ValueError: Shapes do not go together, a variance is not above 0, or a constant
                requires a gradient.
        """
        self._check(mean, scale, "actions", actions)
        require_constant("advantages", advantages, "mean", mean.shape[:1])
        settings = self.reduction, self.scale
        loss: Tensor = self.operation(mean, scale, actions, advantages, settings)
        return loss


class GaussianSurrogateLoss(_GaussianLoss, form=gaussian_surrogate):
    """`gaussian_surrogate` as one operation of the autograd graph.

    Args:
        clip_coef: ε, the largest change of the probability ratio that is rewarded.
        reduction: "mean", "sum" or "none".
        scale: "log_std" or "variance": what the second input is.

    Raises:
        ValueError: ``clip_coef`` is not above 0, or the reduction or the scale is unknown.
    """

    def __init__(self, clip_coef: float, reduction: str = "mean", scale: str = "log_std") -> None:
        super().__init__(reduction, scale)
        require_positive("clip_coef", clip_coef)
        self.clip_coef = clip_coef

    def forward(
        self,
        mean: Tensor,
        scale: Tensor,
        actions: Tensor,
        old_logprobs: Tensor,
        advantages: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and, without gradient, the log-ratio (N,).

        The arguments are those of `gaussian_surrogate`, by log σ or σ²; only ``mean`` and
        ``scale`` take a gradient.

        Raises:
            ValueError: Shapes do not go together, a variance is not above 0, or a constant
                requires a gradient.
        """
        self._check(mean, scale, "actions", actions)
        require_constant("old_logprobs", old_logprobs, "mean", mean.shape[:1])
        require_constant("advantages", advantages, "mean", mean.shape[:1])
        settings = self.clip_coef, self.reduction, self.scale
        result: tuple[Tensor, Tensor] = self.operation(
            mean, scale, actions, old_logprobs, advantages, settings
        )
        return result
