"""One operation of the autograd graph from a loss whose derivatives are known in closed form.

A loss ``L = f(x)`` is given by a function, its *form*, that returns value, gradient and Hessian
diagonal at once. As one operation, with gradient g and curvature h at its output,

    g(x) = g ∂L/∂x,      h(x) = h (∂L/∂x)² + g ∂²L/∂x²

and the same for every sample if L is a vector of losses (N,), which shared inputs sum up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hesrl.curvature import register_rule
from hesrl.curvature.estimators.likelihood import LIKELIHOODS, Edges, Likelihood, Output, separable
from hesrl.losses.checks import require_curvature

Form = Callable[..., tuple[Tensor, ...]]
"""From inputs, constants (all tensors, or None) and settings, in this order, to L, further outputs
without gradient, ∂L/∂x of each input and ∂²L/∂x² of each input."""


class Terms(NamedTuple):
    """A loss of one tensor with its derivatives there."""

    loss: Tensor
    """L, a scalar, or (N,) without reduction."""
    grad: Tensor
    """∂L/∂x, of the shape of x."""
    hess: Tensor
    """∂²L/∂x², of the shape of x."""


REDUCTIONS = ("mean", "sum", "none")


def reduce(losses: Tensor, reduction: str) -> Tensor:
    """Return the mean or the sum of the losses of all samples, or with "none" the losses."""
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses


def divisor(samples: int, reduction: str) -> int:
    """Return what a reduction divides the loss of one sample by.

    Raises:
        ValueError: There is no sample to take a mean over.
    """
    if reduction != "mean":
        return 1
    if samples == 0:
        raise ValueError("a loss has no mean over a batch without samples")
    return samples


class _ClosedForm(torch.autograd.Function):
    """The operation; a subclass has the form, and the number of its inputs."""

    form: Form
    inputs: int

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        operation = ctx._forward_cls
        *tensors, ctx.settings = args
        terms = operation.form(*tensors, *ctx.settings)
        derivatives = -2 * operation.inputs
        ctx.save_for_backward(*tensors, *terms[derivatives:])
        outputs = terms[:derivatives]
        if len(outputs) == 1:
            return outputs[0]
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)  # saves the zeros for them in every backward pass
        return outputs

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        operation, terms = ctx._forward_cls, ctx.saved_tensors
        count, arguments = operation.inputs, len(ctx.needs_input_grad)
        if grad_loss is None:
            return (None,) * arguments
        if torch.is_grad_enabled():  # create_graph: the gradient is differentiated in turn
            terms = operation.form(*terms[: -2 * count], *ctx.settings)
        grads = [spread(grad_loss, grad) * grad for grad in terms[-2 * count : -count]]
        return *grads, *[None] * (arguments - count)


def spread(at_loss: Tensor, derivative: Tensor) -> Tensor:
    """Let a number per sample (N,) broadcast to a derivative (N, …); a scalar does so as it is."""
    while 0 < at_loss.dim() < derivative.dim():
        at_loss = at_loss.unsqueeze(-1)
    return at_loss


def _curvature(node: Any, grad_out: Any, hess_out: Any) -> tuple[Tensor | None, ...]:
    """``h(x) = h (∂L/∂x)² + g ∂²L/∂x²``, exact."""
    if isinstance(grad_out, tuple):
        grad_out, hess_out = grad_out[0], hess_out[0]
    count = node._forward_cls.inputs
    derivatives = node.saved_tensors[-2 * count :]
    hess_in: list[Tensor | None] = []
    for grad, hess in zip(derivatives[:count], derivatives[count:], strict=True):
        h = spread(grad_out, hess) * hess
        if hess_out is not None:
            h = torch.addcmul(h, grad * grad, spread(hess_out, grad))
        hess_in.append(h)
    return *hess_in, *[None] * (len(node.next_functions) - count)


def separable_terms(node: Any, edges: Edges, grad_out: Tensor) -> list[Output]:
    """The likelihood of a loss of one input whose Hessian is diagonal and has no negative entry."""
    hess = node.saved_tensors[-1]
    return separable(edges[0], spread(grad_out, hess) * hess)


def _operation(
    name: str, form: Form, inputs: int, likelihood: Likelihood | None
) -> Callable[..., Any]:
    """Return the function that puts a form into the graph as one node, with its curvature rule.

    It takes the form's tensors, and the settings as one tuple.
    """
    body = {"form": staticmethod(form), "inputs": inputs, "__module__": __name__}
    operation: Any = type(name, (_ClosedForm,), body)
    register_rule(operation)(_curvature)
    if likelihood is not None:
        LIKELIHOODS[operation] = likelihood
    return operation.apply


class ClosedFormLoss(nn.Module):
    """Base of the losses that are one operation of the autograd graph.

    A subclass names its form, and calls it by `operation` in its ``forward``:

        class ValueLoss(ClosedFormLoss, form=value_loss): …

    The form's docstring explains the arguments of both: the last ones, which are no tensors, are
    set when the loss is made, and ``forward`` takes the others. Only inputs take a gradient, not
    constants. A loss of a Gaussian has one setting more, ``scale``: "log_std" if its input is
    log σ, or "variance" if it is σ².

    Args:
        reduction: "mean" or "sum" over the samples, or "none" for a vector of their losses.

    Raises:
        ValueError: A setting is impossible. In ``forward``: shapes do not go together, or a
            constant is NaN, out of range or requires a gradient.
    """

    operation: Callable[..., Any]
    """From the form's tensors, and its settings as one tuple, to the outputs of the loss."""

    def __init_subclass__(
        cls,
        form: Form | None = None,
        inputs: int = 1,
        likelihood: Likelihood | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a loss of a form.

        Args:
            form: The loss with its derivatives.
            inputs: How many of the form's first arguments take a gradient.
            likelihood: What the Gauss-Newton methods need, see
                `hesrl.curvature.estimators.likelihood`.
            **kwargs: For other bases.
        """
        super().__init_subclass__(**kwargs)
        if form is not None:
            cls.operation = staticmethod(_operation(cls.__name__, form, inputs, likelihood))

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
        self.reduction = reduction


class PolicyLoss(ClosedFormLoss):
    """Base of the losses of a policy, whose curvature is that of the loss or of the policy.

    Args:
        reduction: As for `ClosedFormLoss`.
        curvature: "exact", the second derivatives of the loss, or "fisher", Fisher's diagonal of
            the policy in their place, which is positive whatever the data.

    Raises:
        ValueError: A setting is impossible.
    """

    def __init__(self, reduction: str = "mean", curvature: str = "exact") -> None:
        super().__init__(reduction)
        require_curvature(curvature)
        self.curvature = curvature
