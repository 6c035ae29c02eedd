"""A step that is written once, in eager PyTorch, and taken eagerly, replayed or compiled.

Replayed or compiled, a step is a record of the operations that the eager step takes. Replayed, the
results are bit for bit those of the eager step; compiled, they differ by rounding only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from hesrl.errors import one_line
from hesrl.losses.checks import without_value_checks
from hesrl.optim.base import CurvatureOptimizer
from hesrl.train_step.compilation import compiled
from hesrl.train_step.recording import Program, record, replayed, signature

COMPILE = ("auto", "on", "off")


def pays(compile: str, expected_steps: int, break_even: int) -> bool:
    """Return whether to compile: "on", or "auto" and there will be enough steps."""
    return compile == "on" or (compile == "auto" and expected_steps >= break_even)


class RecordedStep:
    """Steps of some optimizers in one call, eager, replayed, or compiled if that pays.

    The first step of a new optimizer is eager, with all checks, and makes its state. At the next
    one, also of an optimizer that was loaded, the operations are recorded (0.1 s) and, if that
    pays, compiled (2 to 3 s, or 0.2 s if an earlier process has left the result in
    `hesrl.train_step.compilation.cache_folder`); it and all later ones are replayed or compiled
    steps, so a run that is resumed goes on bit for bit. They check shapes, but no values.

    What the function decides or computes in Python is fixed with the record: what changes between
    steps must be a tensor that is passed or changed in place. Arguments of other shapes take eager
    steps. What cannot be compiled is replayed, what cannot be recorded is eager, and one line says
    why.

    Args:
        take: The eager step, from tensors to a tuple of tensors without gradient.
        optimizers: Of `hesrl.optim`; ``take`` steps them. Unless ``compile`` is "off", they become
            ``capturable`` and their learning rates tensors; ``group["lr"] = x`` and torch's
            schedulers work as before.
        compile: "on", "off" for eager steps, or "auto": compile if ``expected_steps`` is at least
            ``break_even``, else replay.
        expected_steps: How many steps the run will take, with those before it was resumed.
        break_even: Steps after which compiling has paid off.
        report: Takes the line that says why steps are eager or replayed; by default to stderr.

    Attributes:
        tier: How the last step was taken, but for its shapes: "eager", "replayed" or "compiled".

    Raises:
        ValueError: ``compile`` is impossible.
        TypeError: An optimizer is none of `hesrl.optim`.
    """

    def __init__(
        self,
        take: Callable[..., tuple[Tensor, ...]],
        optimizers: Sequence[CurvatureOptimizer],
        *,
        compile: str = "auto",
        expected_steps: int = 0,
        break_even: int = 0,
        report: Callable[[str], None] | None = None,
    ) -> None:
        if compile not in COMPILE:
            raise ValueError(f"compile must be one of {', '.join(COMPILE)}, not {compile!r}")
        others = [type(o).__name__ for o in optimizers if not isinstance(o, CurvatureOptimizer)]
        if others:
            raise TypeError(f"optimizer must be one of hesrl.optim, not a {others[0]}")
        self._take, self._optimizers = take, list(optimizers)
        self._report = report or (lambda line: print(line, file=sys.stderr))
        self.tier = "eager"
        self._run: Program | None = None
        self._last: Sequence[Tensor] = ()
        self._has_state = False
        self._learning_rates: list[Tensor] = []
        self._to_record = compile != "off"
        self._to_compile = pays(compile, expected_steps, break_even)
        if self._to_record:
            self._prepare()
            for optimizer in self._optimizers:
                optimizer.register_load_state_dict_post_hook(self._prepare)

    def __call__(self, *passed: Tensor) -> tuple[Tensor, ...]:
        """Take one step.

        Args:
            passed: What the eager step takes.

        Returns:
            What the eager step returns.
        """
        if not self._to_record:
            return self._take(*passed)
        self._keep_learning_rates()
        if not self._has_state:
            results = self._take(*passed)
            self._has_state = True
            return results
        if self._run is None:
            self._record(passed)
        elif self._settings != self._settings_now():
            self._give_up("a hyperparameter other than lr has changed since the record")
        if self._run is None or not self._fits(passed):
            return self._take(*passed)
        return tuple(self._run([*self._kept, *passed, *self._constants]))

    def _fits(self, passed: Sequence[Tensor]) -> bool:
        # A caller that fills the same tensors anew is checked once.
        if len(passed) == len(self._last) and all(map(is_, passed, self._last)):
            return True
        if signature(passed) != self._signature:
            return False
        self._last = passed
        return True

    def warm_up(self, *examples: Tensor) -> None:
        """Record the step, and compile it if that pays, before the first one is taken.

        Nothing of it is left in parameters, state and random numbers, and no step is eager then.
        Without a record, as with ``compile="off"``, nothing happens.

        Args:
            examples: Tensors like those of the steps to come; their values are of no matter.
        """
        if not self._to_record:
            return
        for optimizer in self._optimizers:
            optimizer.init_state()
        self._has_state = True
        self._record(examples)

    def _prepare(self, _: Any = None) -> None:
        """Make optimizers capturable that are new or have loaded a state."""
        if not self._to_record:
            return
        self._run, self.tier = None, "eager"
        for optimizer in self._optimizers:
            if not optimizer.recordable:
                self._give_up(f"{type(optimizer).__name__} does not do the same at each step")
                return
        for group in self._groups():
            device = group["params"][0].device
            if device.type != "cpu":
                self._give_up(f"the parameters are on {device}, not on the CPU")
                return
            if group["curvature_every"] > 1:
                self._give_up(f"curvature_every is {group['curvature_every']}, not 1")
                return
        self._learning_rates = []
        for group in self._groups():
            # In float64, so that it is the number that it was.
            lr = torch.tensor(float(group["lr"]), dtype=torch.float64)
            group["lr"], group["capturable"] = lr, True
            self._learning_rates.append(lr)
        self._has_state = all(optimizer.state for optimizer in self._optimizers)

    def _keep_learning_rates(self) -> None:
        groups = self._groups()
        if len(groups) != len(self._learning_rates):
            self._prepare()
        for group, lr in zip(groups, self._learning_rates, strict=True):
            if group["lr"] is not lr:
                lr.fill_(group["lr"])
                group["lr"] = lr

    def _record(self, passed: Sequence[Tensor]) -> None:
        """Record a step, put everything back, and make a program of what was recorded."""
        stepped = [set(optimizer.state) for optimizer in self._optimizers]
        kept = self._state()
        before, random = [t.detach().clone() for t in kept], torch.get_rng_state()
        failure: Exception | None = None
        try:
            with without_value_checks():
                step = record(lambda: self._take(*passed), [*kept, *passed])
            is_late = False
            for optimizer, known in zip(self._optimizers, stepped, strict=True):
                for param in optimizer.state.keys() - known:
                    del optimizer.state[param]
                    is_late = True
                optimizer.zero_grad()
            if is_late:
                raise RuntimeError("a parameter got its first gradient after the first step")
            inputs = [*kept, *passed, *step.constants]
            if self._to_compile:
                # Users change what lies behind a parameter, but not the optimizers' own tensors.
                params = sum(len(group["params"]) for group in self._groups())
                try:
                    program = compiled(step.graph, inputs, fixed=range(params, len(kept)))
                    program(inputs)  # whatever may be wrong with it shows here
                    self._run = program
                except Exception as error:  # of any type, as below
                    failure = error
            self.tier = "replayed" if self._run is None else "compiled"
            self._run = self._run or replayed(step.graph, inputs)
            self._kept, self._constants = kept, step.constants
            self._signature, self._last = signature(passed), ()
            self._settings = self._settings_now()
        # Of any type, as PyTorch has it. The eager step that follows raises what is its own.
        except Exception as error:
            failure = None
            self._give_up(_first_line(error))
        finally:
            for optimizer in self._optimizers:
                optimizer.zero_grad()
            with torch.no_grad():
                for tensor, value in zip(kept, before, strict=True):
                    tensor.copy_(value)
            torch.set_rng_state(random)
        if failure is not None:
            self._report(f"training steps are replayed, not compiled: {_first_line(failure)}")

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def _settings_now(self) -> list[Any]:
        """Return the hyperparameters that are fixed with the record."""
        return [
            group[name]
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for name in optimizer.defaults
            if name != "lr"
        ]

    def _state(self) -> list[Tensor]:
        """Return the tensors that a step changes, and the learning rates."""
        params = [p for group in self._groups() for p in group["params"]]
        states = [o.state[p] for o in self._optimizers for p in params if p in o.state]
        tensors = [t for state in states for t in state.values() if isinstance(t, Tensor)]
        return [*params, *tensors, *self._learning_rates]

    def _give_up(self, reason: str) -> None:
        self._to_record, self._run, self.tier = False, None, "eager"
        self._report(f"training steps are eager, not recorded: {reason}")


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return one_line(f"{type(error).__name__}: {text}")
