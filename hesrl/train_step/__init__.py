"""A whole training step in one call, eager, replayed or compiled.

`step` holds `TrainStep`, the step on a minibatch, written once in eager PyTorch. `recorded_step`
holds what takes any step of optimizers. `recording` records the operations and replays them.

A compiled program of a record comes about in four parts: `translation` turns operations into
statements over entries (those of `expressions` and `composites`), `loops` joins them to loops,
`c_code` and `c_loop` write the loops in C, and `compilation` makes or finds the library, which
`compiled_step` calls.
"""

from hesrl.train_step.recorded_step import COMPILE, RecordedStep, pays
from hesrl.train_step.step import BREAK_EVEN, LossFunction, Metrics, TrainStep

__all__ = [
    "BREAK_EVEN", "COMPILE", "LossFunction", "Metrics", "RecordedStep", "TrainStep", "pays",
]  # fmt: skip
