"""A whole training step in one call, eager, replayed or compiled.

`step` holds `TrainStep`, which writes the step down once, in eager PyTorch. `recording` records its
operations and replays them; `lowering` and `compilation` make a compiled program of the record.
"""

from hesrl.train_step.step import BREAK_EVEN, COMPILE, LossFunction, Metrics, TrainStep

__all__ = ["BREAK_EVEN", "COMPILE", "LossFunction", "Metrics", "TrainStep"]
