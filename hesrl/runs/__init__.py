"""A training run on disk and on the screen: directory, checkpoint, metrics, progress, results."""

from hesrl.runs.checkpoint import (
    generator_state,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    set_generator_state,
    set_rng_state,
)
from hesrl.runs.directory import RunDirectory
from hesrl.runs.interrupts import StopRequest
from hesrl.runs.learning_curve import plot_learning_curve
from hesrl.runs.metrics import MetricsLog, read_metric
from hesrl.runs.progress import Progress
from hesrl.runs.session import Session
from hesrl.runs.summary import print_summary, write_summary

__all__ = [
    "MetricsLog",
    "Progress",
    "RunDirectory",
    "Session",
    "StopRequest",
    "generator_state",
    "load_checkpoint",
    "plot_learning_curve",
    "print_summary",
    "read_metric",
    "rng_state",
    "save_checkpoint",
    "set_generator_state",
    "set_rng_state",
    "write_summary",
]
