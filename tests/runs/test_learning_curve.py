"""The learning curve as a picture."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.runs import MetricsLog, plot_learning_curve
from hesrl.runs.learning_curve import running_mean


def log_episodes(run, count, evaluations=0):
    rng = np.random.default_rng(0)
    with MetricsLog(run) as log:
        for step in range(1000, 1000 * count + 1, 1000):
            log.log(step, {"charts/episodic_return": rng.normal(step / 1000, 10)})
        for _ in range(evaluations):
            log.log(1000 * count, {"eval/episodic_return": rng.normal(count, 10)})


def has_color(path, color):
    pixels = matplotlib.image.imread(path)[..., :3]
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(pixels - wanted).max(axis=-1) < 0.01).sum() > 20)


@pytest.mark.parametrize("evaluations", [0, 10])
def test_curve_and_evaluation_are_drawn(run, evaluations):
    log_episodes(run, 100, evaluations)
    plot_learning_curve(run, "PPO with AdaHesScale on HalfCheetah-v5")
    assert matplotlib.image.imread(run.learning_curve).shape == (750, 1200, 4)
    assert has_color(run.learning_curve, "#1f5fa8")
    assert has_color(run.learning_curve, "#d1495b") == (evaluations > 0)


@pytest.mark.parametrize(("episodes", "evaluations"), [(0, 0), (0, 3), (1, 0), (2, 1)])
def test_few_episodes_give_a_picture_too(run, episodes, evaluations):
    log_episodes(run, episodes, evaluations)
    plot_learning_curve(run, "short")
    assert matplotlib.image.imread(run.learning_curve).shape == (750, 1200, 4)


def test_returns_that_are_not_finite_give_a_picture_too(run):
    with MetricsLog(run) as log:
        for step, value in enumerate([1.0, float("nan"), float("inf"), 2.0]):
            log.log(step, {"charts/episodic_return": value})
    plot_learning_curve(run, "not finite")
    assert run.learning_curve.stat().st_size > 1000


def test_running_mean_covers_the_window_or_what_there_is():
    values = np.array([1.0, 3.0, 5.0, 7.0])
    assert running_mean(values, 3).tolist() == [1.0, 2.0, 3.0, 5.0]
    assert running_mean(values[:0], 3).tolist() == []


def test_no_metrics_is_a_clear_error(run):
    with pytest.raises(UserError, match=r"cannot read .*metrics\.csv"):
        plot_learning_curve(run, "none")


def test_matplotlib_and_tensorboard_are_imported_only_when_used():
    code = (
        "import sys, hesrl.runs; sys.exit(bool({'matplotlib', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_users_backend_is_left_alone(run):
    log_episodes(run, 3)
    code = (
        "import matplotlib, sys; matplotlib.use('svg');"
        "from hesrl.runs import RunDirectory, plot_learning_curve;"
        "plot_learning_curve(RunDirectory.open(sys.argv[1], read_only=True), 'x');"
        "sys.exit(matplotlib.get_backend() != 'svg' or 'matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    assert subprocess.run(command, check=False).returncode == 0
    assert run.learning_curve.exists()
