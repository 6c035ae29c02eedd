"""The learning curve as a picture."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.runs.figures import optimizer_color
from hesrl.runs.learning_curve import (
    EVALUATION_COLOR,
    mean_by_step,
    plot_learning_curve,
    running_mean,
)
from hesrl.runs.metrics import MetricsLog

PLOT = """
import sys
import hesrl.runs.directory
import hesrl.runs.learning_curve
assert not {"matplotlib", "tensorboard"} & set(sys.modules)
import matplotlib
matplotlib.use("svg")
run = hesrl.runs.directory.RunDirectory.open(sys.argv[1], read_only=True)
hesrl.runs.learning_curve.plot_learning_curve(run, "x")
assert matplotlib.get_backend() == "svg" and "matplotlib.pyplot" not in sys.modules
"""


def log_episodes(run, returns, evaluations=()):
    with MetricsLog(run) as log:
        for number, value in enumerate(returns, start=1):
            log.log(1000 * number, {"charts/episodic_return": value})
        for value in evaluations:
            log.log(1000 * len(returns), {"eval/episodic_return": value})


def has_color(pixels, color):
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(pixels[..., :3] - wanted).max(axis=-1) < 0.01).sum() > 20)


@pytest.mark.parametrize(
    ("returns", "evaluations"),
    [
        (np.arange(100.0), ()),
        (np.arange(100.0), np.arange(10.0)),
        ((), ()),
        ((), (1.0, 2.0)),
        ((1.0,), ()),
        ((1.0, 2.0), (3.0,)),
        ((1.0, np.nan, np.inf, 2.0), ()),
    ],
)
def test_what_there_is_is_drawn(run, returns, evaluations):
    log_episodes(run, returns, evaluations)
    plot_learning_curve(run, "PPO with AdaHesScale on HalfCheetah-v5")
    pixels = matplotlib.image.imread(run.learning_curve)
    assert pixels.shape == (750, 1200, 4)
    assert has_color(pixels, optimizer_color(run.settings["optimizer"])) or len(returns) < 100
    assert has_color(pixels, EVALUATION_COLOR) == (len(evaluations) > 0)


def test_running_mean_covers_the_window_or_what_there_is():
    values = np.array([1.0, 3.0, 5.0, 7.0])
    assert running_mean(values, 3).tolist() == [1.0, 2.0, 3.0, 5.0]
    assert running_mean(values[:0], 3).tolist() == []


def test_episodes_that_end_together_have_one_mean():
    steps, values = np.array([5, 5, 8, 9, 9]), np.array([1.0, 3.0, 5.0, 7.0, 9.0])
    unique, means = mean_by_step(steps, values, 3)
    assert (unique.tolist(), means.tolist()) == ([5, 8, 9], [2.0, 3.0, 7.0])
    assert [array.tolist() for array in mean_by_step(steps[:0], values[:0], 3)] == [[], []]


def test_no_metrics_is_a_clear_error(run):
    with pytest.raises(UserError, match=r"cannot read .*metrics\.csv"):
        plot_learning_curve(run, "none")


def test_matplotlib_is_imported_only_when_used_and_its_backend_is_left_alone(run, start):
    log_episodes(run, (1.0, 2.0, 3.0))
    with start(PLOT, run.path) as process:
        assert process.communicate() == ("", "") and process.returncode == 0
    assert run.learning_curve.exists()
