"""What is not compiled or not recorded, and the line that says so."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hesrl import optim
from hesrl.train_step import BREAK_EVEN, TrainStep
from tests.train_step.steps import Separate, VarianceNetwork, assert_equal_state, draw, make, take

ROOT = Path(__file__).parents[2]


def test_what_cannot_be_recorded_goes_on_in_eager(interpreted):
    lines, ends = [], []
    for how in ("on", "auto", "off"):
        step, optimizer, net, batch = make(compile=how, report=lines.append)
        step._loss_fn = lambda *data, net=net: (net.loss(*data)[0] / data[0].norm().item(), ())
        take(step, batch, 3)
        ends.append(optimizer)
    for other in ends[1:]:
        assert_equal_state(ends[0], other, rtol=1e-12, atol=1e-12)
    assert len(lines) == 2
    assert all(line.startswith("training steps are eager, not recorded: Run") for line in lines)


def test_a_parameter_that_joins_late_is_not_recorded(interpreted):
    lines = []
    step, optimizer, net, batch = make(compile="on", report=lines.append)
    late = []
    step._loss_fn = lambda *minibatch: (
        net.loss(*minibatch)[0] if late else net.actor(minibatch[0]).square().mean(),
        (),
    )
    take(step, batch, 1)
    late.append(True)
    take(step, batch, 2)
    assert "first gradient after the first step" in lines[0]
    assert optimizer.state[net.critic[0].weight]["step"] == 2


def test_a_changed_hyperparameter_ends_the_compiled_steps(interpreted):
    lines = []
    step, optimizer, _, batch = make(compile="on", report=lines.append)
    take(step, batch, 2)
    assert step.is_compiled
    optimizer.param_groups[0]["eps"] = 1.0
    take(step, batch, 1)
    assert not step.is_compiled
    assert "hyperparameter" in lines[0]


def test_a_new_parameter_group_is_taken_on():
    step, optimizer, net, batch = make(compile="auto")
    critic = list(net.critic.parameters())
    optimizer.param_groups[0]["params"] = [*net.actor.parameters(), net.logstd]
    take(step, batch, 2)
    optimizer.add_param_group({"params": critic, "lr": 0.02})
    before = critic[0].clone()
    step._report = lambda line: None
    take(step, batch, 1)
    assert step.tier == "eager"
    assert not torch.equal(critic[0], before)


def test_lazy_curvature_is_not_recorded():
    net, lines = Separate(), []
    optimizer = optim.AdaHesScale(net.parameters(), curvature_every=2)
    step = TrainStep(net.loss, optimizer, compile="on", report=lines.append)
    take(step, net.batch(torch.float32), 4)
    assert lines == ["training steps are eager, not recorded: curvature_every is 2, not 1"]


@pytest.mark.parametrize(
    ("steps", "tier"), [(0, "replayed"), (BREAK_EVEN - 1, "replayed"), (BREAK_EVEN, "compiled")]
)
def test_auto_compiles_what_is_long_enough(interpreted, steps, tier):
    step, _, _, batch = make(compile="auto", expected_steps=steps)
    take(step, batch, 1)
    assert step.tier == "eager"
    take(step, batch, 1)
    assert step.tier == tier


def test_what_cannot_be_compiled_is_replayed(monkeypatch):
    def fail(graph, inputs, fixed):
        raise OSError("no compiler\nand more")

    monkeypatch.setattr("hesrl.train_step.recorded_step.compiled", fail)
    ends, lines = [], []
    for how in ("on", "auto"):
        step, optimizer, _, batch = make(compile=how, report=lines.append)
        take(step, batch, 5)
        ends.append(optimizer)
        assert step.tier == "replayed"
    assert_equal_state(*ends, rtol=0, atol=0)
    assert lines == ["training steps are replayed, not compiled: OSError: no compiler"]


def test_running_statistics_are_not_recorded_but_right():
    lines, ends = [], []
    for how in ("auto", "off"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        optimizer = optim.Adam(net.parameters())
        loss = lambda x, net=net: (net(x).square().mean(), ())  # noqa: E731
        take(TrainStep(loss, optimizer, compile=how, report=lines.append), [draw(24, 4)], 3)
        ends.append(net)
    torch.testing.assert_close(ends[0].state_dict(), ends[1].state_dict())
    (line,) = lines
    assert "changes a tensor of shape () that the optimizer does not hold, such as running" in line


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="compile must be one of auto, on, off, not 'yes'"):
        make(compile="yes")
    with pytest.raises(ValueError, match="max_grad_norm must be above 0, not 0"):
        make(max_grad_norm=0)
    with pytest.raises(TypeError, match=r"one of hesrl\.optim, not a SGD"):
        TrainStep(Separate().loss, torch.optim.SGD([torch.zeros(1)]))


def test_errors_of_the_step_are_its_own(interpreted):
    step, _, _, batch = make(VarianceNetwork, compile="on", report=lambda line: None)
    take(step, batch, 1)
    step._loss_fn = lambda obs, *_: (obs.sum(), ())
    with pytest.raises(RuntimeError, match="does not require grad"):
        take(step, batch, 1)


def test_without_a_compiler_one_line_says_so(tmp_path):
    script = (
        "from tests.train_step.steps import make, take; step, *_, batch = make(compile='on'); "
        "take(step, batch, 3); print(step.tier)"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": str(tmp_path), "CXX": "no-compiler"}
    environment |= {"HESRL_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )
    assert run.stdout == "replayed\n"
    compiling, line = run.stderr.splitlines()
    assert compiling.startswith("compiling the training step")
    assert line.startswith("training steps are replayed, not compiled: ")
    assert "compiler" in line
