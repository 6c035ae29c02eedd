"""The adaptive optimizers by name, each a choice of curvature and of step scaling.

All take the arguments and options of `hesrl.optim.Adaptive`, with the same defaults. Those that
divide by a curvature are bounded by Adam's step unless ``adam_bound=math.inf``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from hesrl.optim.adaptive import Adaptive, AdaptiveByCurvature, Scale
from hesrl.optim.scaled import Scaled
from hesrl.optim.states import State
from hesrl.optim.update import average_squares


class Adam(Adaptive):
    """Adam (Kingma and Ba, 2015): d is the gradient; with weight decay AdamW (Loshchilov, 2019).

    Step for step `torch.optim.AdamW`, which without weight decay is `torch.optim.Adam`.
    """

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = super()._state_names(group)
        return (*names[:2], "exp_avg_sq", *names[2:])

    def _scale(self, group: dict[str, Any], states: list[State], grads: list[Tensor]) -> Scale:
        averages = [state["exp_avg_sq"] for state in states]
        average_squares(averages, grads, group["betas"][1])
        return Scale(averages, 0.5, [state["step"] for state in states])


class AdaHesScale(AdaptiveByCurvature):
    """AdaHesScale (Elsayed et al., 2024): d is HesScale's Hessian diagonal.

    With ``adam_bound=math.inf`` it is Algorithm 2 of the paper.

    It arms its parameters: from then on ``loss.backward()`` also fills ``p.hess_diag``, which
    accumulates and is cleared as ``p.grad`` is. `torch.nn.utils.clip_grad_norm_` scales g, not h.
    """

    curvature = "hesscale"


class AdaHesScaleGN(AdaptiveByCurvature):
    """`AdaHesScale` with the Gauss-Newton form of HesScale, cheaper and without its last layers."""

    curvature = "hesscale_gn"


class AdaBL89(AdaptiveByCurvature):
    """`AdaHesScale` with the diagonal of Becker and LeCun (1989), inexact below a softmax."""

    curvature = "bl89"


class AdaGGNMC(AdaptiveByCurvature):
    """`AdaHesScale` with a sampled diagonal of the generalized Gauss-Newton matrix.

    Each backward pass draws targets from the model's likelihood.
    """

    curvature = "ggn_mc"


class AdaHessian(AdaptiveByCurvature):
    """AdaHessian (Yao et al., 2021): d is Hutchinson's z ∘ (H z) with random signs z.

    Each backward pass draws z; the user's ``backward()`` needs no ``create_graph``. As in the
    authors' code, |d| of a parameter with four dimensions, the kernels of a 2-d convolution, is
    replaced by its mean over the last two, and all other parameters keep theirs.

    Options beside the usual ones: ``hessian_power`` k in [0, 1], the power of √v̂ (default 1);
    ``spatial_averaging``, whether to average over kernels (default True).
    """

    curvature = "hutchinson"
    OPTIONS: ClassVar[dict[str, Any]] = {"hessian_power": 1.0, "spatial_averaging": True}

    def _curvatures(self, group: dict[str, Any], params: list[Tensor]) -> list[Any]:
        hessians = super()._curvatures(group, params)
        if not group["spatial_averaging"]:
            return hessians
        return [h if h is None or h.dim() != 4 else _mean_of_kernels(h) for h in hessians]


def _mean_of_kernels(hess: Tensor) -> Tensor:
    return hess.abs().mean((-2, -1), keepdim=True).expand_as(hess)


class ScaledAdam(Scaled, Adam):
    """`Adam` within a trust region, for which it keeps the average of HesScale's h² as well."""

    curvature = "hesscale"


class ScaledAdaHesScale(Scaled, AdaHesScale):
    """`AdaHesScale` within a trust region of its own curvature."""


class ScaledAdaHesScaleGN(Scaled, AdaHesScaleGN):
    """`AdaHesScaleGN` within a trust region of its own curvature."""


class ScaledAdaBL89(Scaled, AdaBL89):
    """`AdaBL89` within a trust region of its own curvature."""


class ScaledAdaGGNMC(Scaled, AdaGGNMC):
    """`AdaGGNMC` within a trust region of its own curvature."""


class ScaledAdaHessian(Scaled, AdaHessian):
    """`AdaHessian` within a trust region of its own curvature, which ``hessian_power`` spares."""
