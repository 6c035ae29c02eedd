"""One call per minibatch: gather, forward, loss, backward with curvature, clipping, optimizer.

The step is written once, in eager PyTorch. Replayed or compiled, it is a record of the operations
that the eager step takes, so the rules of `hesrl.curvature` and the losses are the same: replayed,
the results are bit for bit those of the eager step; compiled, they differ by rounding only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn.utils import clip_grad_norm_

from hesrl.errors import one_line
from hesrl.losses.checks import without_value_checks
from hesrl.optim.base import CurvatureOptimizer
from hesrl.train_step.compilation import compiled
from hesrl.train_step.recording import Program, record, replayed, signature

COMPILE = ("auto", "on", "off")
BREAK_EVEN = 40_000
"""Steps after which 17 s of compiling have paid off: each saves 0.4 ms of one core."""

Metrics = tuple[Tensor, ...]
LossFunction = Callable[..., tuple[Tensor, Metrics]]


class TrainStep:
    """An optimizer's step on a minibatch, eager, replayed, or compiled if that pays.

    The first step of a new optimizer is eager, with all checks, and makes its state. At the next
    one, also of an optimizer that was loaded, the operations are recorded (0.3 s) and, if that
    pays, compiled (15 to 20 s, or 0.5 s if an earlier process has left the result in
    `cache_folder()`). This step and all later ones are replayed or compiled, so a resumed run goes
    on bit for bit. They check shapes, but no values: NaN and what makes NaN reach the metrics.

    What the loss function decides or computes in Python is fixed with the record: what changes
    between steps must be a tensor that is passed or changed in place. Minibatches of other shapes
    take eager steps. What cannot be compiled is replayed, what cannot be recorded is eager, and one
    line says why.

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
        tier: How the last step was taken, but for its shapes: "eager", "replayed" or "compiled".

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
        if compile not in COMPILE:
            raise ValueError(f"compile must be one of {', '.join(COMPILE)}, not {compile!r}")
        if not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be above 0, not {max_grad_norm!r}")
        if not isinstance(optimizer, CurvatureOptimizer):
            raise TypeError(
                f"optimizer must be one of hesrl.optim, not a {type(optimizer).__name__}"
            )
        self._loss_fn, self._optimizer, self._max_grad_norm = loss_fn, optimizer, max_grad_norm
        self._after_backward = after_backward
        self._report = report or _to_stderr
        self.tier = "eager"
        self._run: Program | None = None
        self._has_state = False
        self._learning_rates: list[Tensor] = []
        self._to_record = compile != "off"
        self._to_compile = compile == "on" or (compile == "auto" and expected_steps >= BREAK_EVEN)
        if self._to_record:
            self._prepare(optimizer)
            optimizer.register_load_state_dict_post_hook(self._prepare)

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
        if not self._to_record:
            return self._eager(batch, inds)
        self._keep_learning_rates()
        if not self._has_state:
            metrics = self._eager(batch, inds)
            self._has_state = True
            return metrics
        if self._run is None:
            self._record(batch, inds)
        elif self._settings != _settings(self._optimizer):
            self._give_up("a hyperparameter other than lr has changed since the record")
        passed = [*batch, inds]
        if self._run is None or signature(passed) != self._signature:
            return self._eager(batch, inds)
        return tuple(self._run([*self._kept, *passed, *self._constants]))

    def _eager(self, batch: Sequence[Tensor], inds: Tensor) -> Metrics:
        optimizer = self._optimizer
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

    def _prepare(self, optimizer: Any) -> None:
        """Make an optimizer capturable that is new or has loaded a state."""
        if not self._to_record:
            return
        self._run, self.tier = None, "eager"
        for group in optimizer.param_groups:
            device = group["params"][0].device
            if device.type != "cpu":
                self._give_up(f"the parameters are on {device}, not on the CPU")
                return
            if group["curvature_every"] > 1:
                self._give_up(f"curvature_every is {group['curvature_every']}, not 1")
                return
        self._learning_rates = []
        for group in optimizer.param_groups:
            # In float64, so that it is the number that it was.
            lr = torch.tensor(float(group["lr"]), dtype=torch.float64)
            group["lr"], group["capturable"] = lr, True
            self._learning_rates.append(lr)
        self._has_state = bool(optimizer.state)

    def _keep_learning_rates(self) -> None:
        groups = self._optimizer.param_groups
        if len(groups) != len(self._learning_rates):
            self._prepare(self._optimizer)
        for group, lr in zip(groups, self._learning_rates, strict=True):
            if group["lr"] is not lr:
                lr.fill_(group["lr"])
                group["lr"] = lr

    def _record(self, batch: Sequence[Tensor], inds: Tensor) -> None:
        """Record a step, put everything back, and make a program of what was recorded."""
        stepped, kept, passed = set(self._optimizer.state), self._state(), [*batch, inds]
        before, random = [t.detach().clone() for t in kept], torch.get_rng_state()
        failure: Exception | None = None
        try:
            with without_value_checks():
                step = record(lambda: self._eager(batch, inds), [*kept, *passed])
            late = self._optimizer.state.keys() - stepped
            if late:
                for param in late:
                    del self._optimizer.state[param]
                raise RuntimeError("a parameter got its first gradient after the first step")
            self._optimizer.zero_grad()
            inputs = [*kept, *passed, *step.constants]
            if self._to_compile:
                self._run, failure = _compiled(step.graph, inputs)
            self.tier = "replayed" if self._run is None else "compiled"
            self._run = self._run or replayed(step.graph, inputs)
            self._kept, self._constants = kept, step.constants
            self._signature = signature(passed)
            self._settings = _settings(self._optimizer)
        # Of any type, as PyTorch has it. The eager step that follows raises what is its own.
        except Exception as error:
            failure = None
            self._give_up(_first_line(error))
        finally:
            self._optimizer.zero_grad()
            with torch.no_grad():
                for tensor, value in zip(kept, before, strict=True):
                    tensor.copy_(value)
            torch.set_rng_state(random)
        if failure is not None:
            self._report(f"training steps are replayed, not compiled: {_first_line(failure)}")

    def _state(self) -> list[Tensor]:
        """Return the tensors that a step changes, and the learning rates."""
        params = [p for group in self._optimizer.param_groups for p in group["params"]]
        states = [self._optimizer.state[p] for p in params if p in self._optimizer.state]
        tensors = [t for state in states for t in state.values() if isinstance(t, Tensor)]
        return [*params, *tensors, *self._learning_rates]

    def _give_up(self, reason: str) -> None:
        self._to_record, self._run, self.tier = False, None, "eager"
        self._report(f"training steps are eager, not recorded: {reason}")


def _compiled(graph: GraphModule, inputs: list[Tensor]) -> tuple[Program | None, Exception | None]:
    """Return a compiled program, which has run once, or what has prevented it."""
    try:
        program = compiled(graph, inputs)
        program(inputs)  # whatever may be wrong with it shows here
    except Exception as error:  # of any type, as above
        return None, error
    return program, None


def _settings(optimizer: CurvatureOptimizer) -> list[Any]:
    """Return the hyperparameters that are fixed with the record."""
    names = [name for name in optimizer.defaults if name != "lr"]
    return [group[name] for group in optimizer.param_groups for name in names]


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return one_line(f"{type(error).__name__}: {text}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
