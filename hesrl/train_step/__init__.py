"""A whole training step in one call, eager, replayed or compiled.

`step` holds `TrainStep`, the step on a minibatch, written once in eager PyTorch. `recorded_step`
holds what takes any step of optimizers. `recording` records the operations and replays them;
`lowering` and `compilation` make a compiled program of the record.
"""

from hesrl.train_step.recorded_step import COMPILE, RecordedStep
from hesrl.train_step.step import BREAK_EVEN, LossFunction, Metrics, TrainStep

__all__ = ["BREAK_EVEN", "COMPILE", "LossFunction", "Metrics", "RecordedStep", "TrainStep"]
