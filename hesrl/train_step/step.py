"""One call per minibatch: gather, forward, loss, backward with curvature, clipping, optimizer.

The step is written once, in eager PyTorch. A record of its operations is replayed or compiled, so
the rules of `hesrl.curvature` and the losses are the same. A replayed step gives the results of the
eager step bit for bit; the results of a compiled step differ by rounding only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from hesrl.optim.base import CurvatureOptimizer
from hesrl.train_step.recorded_step import RecordedStep

BREAK_EVEN = 4_000
"""Steps after which 3 s of compiling have paid off: each saves a millisecond of one core."""

Metrics = tuple[Tensor, ...]
LossFunction = Callable[..., tuple[Tensor, Metrics]]


class TrainStep:
    """An optimizer's step on a minibatch, eager, replayed, or compiled if that pays.

    `RecordedStep` explains the three. NaN reaches the metrics of replayed and compiled steps.
    Minibatches of other shapes take eager steps.

    Args:
        loss_fn: From the tensors of a minibatch to the loss and a tuple of tensors without
            gradient. If it changes others, such as running statistics, all steps are eager.
        optimizer: Of `hesrl.optim`. Unless ``compile`` is "off", it becomes ``capturable`` and its
            learning rates tensors; ``group["lr"] = x`` and torch's schedulers work as before.
        max_grad_norm: Norm to which the gradient, but not the curvature, is clipped.
        compile: "on", "off" for eager steps, or "auto": compile if ``expected_steps`` is at least
            `BREAK_EVEN`, else replay.
        expected_steps: How many steps the run will take, with those before it was resumed.
        after_backward: Called between backward pass and clipping; its tensors, such as
            ``p.hess_diag`` or its norm, follow the metrics.
        report: Takes the line that says why steps are eager or replayed; by default to stderr.

    Attributes:
        optimizer: What steps.

    Raises:
        ValueError: ``compile`` or ``max_grad_norm`` is impossible.
        TypeError: The optimizer is none of `hesrl.optim`.
    """

    def __init__(
        self,
        loss_fn: LossFunction,
        optimizer: CurvatureOptimizer,
        *,
        max_grad_norm: float = math.inf,
        compile: str = "auto",
        expected_steps: int = 0,
        after_backward: Callable[[], Metrics] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        if not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be above 0, not {max_grad_norm!r}")
        self._loss_fn, self.optimizer, self._max_grad_norm = loss_fn, optimizer, max_grad_norm
        self._after_backward = after_backward
        self._step = RecordedStep(
            lambda *passed: self._eager(passed[:-1], passed[-1]),
            [optimizer],
            compile=compile,
            expected_steps=expected_steps,
            break_even=BREAK_EVEN,
            report=report,
        )

    @property
    def tier(self) -> str:
        """How the last step was taken, but for its shapes: "eager", "replayed" or "compiled"."""
        return self._step.tier

    @property
    def is_compiled(self) -> bool:
        """Whether the last step was, or could have been, a compiled one."""
        return self.tier == "compiled"

    def __call__(self, batch: Sequence[Tensor], inds: Tensor) -> Metrics:
        """Take one step on the minibatch ``tensor[inds]`` of every tensor of the batch.

        Args:
            batch: Tensors (B, …), in the order in which the loss function takes them.
            inds: Indices of the minibatch (N,), from 0 to B − 1.

        Returns:
            The loss function's tuple, computed before the step.

        Raises:
            RuntimeError: As the optimizer's ``step``.
            ValueError: As the losses.
        """
        return self._step(*batch, inds)

    def _eager(self, batch: Sequence[Tensor], inds: Tensor) -> Metrics:
        optimizer = self.optimizer
        optimizer.zero_grad()
        loss, metrics = self._loss_fn(*(tensor[inds] for tensor in batch))
        loss.backward()
        if self._after_backward is not None:
            metrics = (*metrics, *self._after_backward())
        if self._max_grad_norm < math.inf:
            params = [p for group in optimizer.param_groups for p in group["params"]]
            # The compiler has no code of its own for the norm of a list.
            clip_grad_norm_(params, self._max_grad_norm, foreach=False)
        optimizer.step()
        return tuple(metrics)
