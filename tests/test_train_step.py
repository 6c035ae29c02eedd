"""The compiled step is the eager step: recorded for every kind of network, compiled for two."""

import copy
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hesrl import optim, train_step
from hesrl.compilation import cache_folder, record
from hesrl.losses import CategoricalSurrogateLoss, GaussianNLLLoss, GaussianSurrogateLoss, ValueLoss
from hesrl.train_step import TrainStep

ROOT = Path(__file__).parents[1]
B, N = 24, 8
COMPILER = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)


def mlp(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 5), nn.Tanh(), nn.Linear(5, n_out))


class Separate(nn.Module):
    """Two networks and a log σ; what PPO does with continuous actions."""

    def __init__(self):
        super().__init__()
        self.actor, self.critic = mlp(4, 3), mlp(4, 1)
        self.logstd = nn.Parameter(torch.zeros(1, 3))
        self.surrogate, self.value_loss = GaussianSurrogateLoss(0.2), ValueLoss(0.2)

    def loss(self, obs, actions, logprobs, advantages, returns, values):
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        mean = self.actor(obs)
        pg_loss, log_ratio = self.surrogate(mean, self.logstd, actions, logprobs, advantages)
        v_loss = self.value_loss(self.critic(obs).squeeze(1), returns, values)
        loss = pg_loss - 0.01 * self.logstd.sum() + 0.5 * v_loss
        return loss, (pg_loss.detach(), log_ratio)

    def batch(self, dtype):
        data = [draw(B, 4), draw(B, 3), 0.1 * draw(B) - 4, draw(B), draw(B), draw(B)]
        return [x.to(dtype) for x in data]


class Shared(Separate):
    """A convolution below an actor of discrete actions and a critic."""

    def __init__(self):
        super().__init__()
        convolution = nn.Conv2d(1, 2, 2), nn.ELU(), nn.Flatten()
        self.trunk = nn.Sequential(*convolution, nn.Linear(8, 5), nn.Tanh())
        self.actor, self.critic = nn.Linear(5, 3), nn.Linear(5, 1)
        self.surrogate, self.logstd = CategoricalSurrogateLoss(0.2), None

    def loss(self, obs, actions, logprobs, advantages, returns, values):
        features = self.trunk(obs)
        pg_loss, log_ratio = self.surrogate(self.actor(features), actions, logprobs, advantages)
        v_loss = self.value_loss(self.critic(features).squeeze(1), returns, values)
        return pg_loss + 0.5 * v_loss, (pg_loss.detach(), log_ratio)

    def batch(self, dtype):
        data = [draw(B, 1, 3, 3), draw(B), 0.1 * draw(B) - 1, draw(B), draw(B), draw(B)]
        data = [x.to(dtype) for x in data]
        return [data[0], torch.arange(B) % 3, *data[2:]]


class VarianceNetwork(Separate):
    """A variance of its own for every sample, which the loss checks by value."""

    def __init__(self):
        super().__init__()
        self.actor, self.nll, self.logstd = mlp(4, 6), GaussianNLLLoss(scale="variance"), None

    def loss(self, obs, actions, *_):
        mean, spread = self.actor(obs).chunk(2, dim=1)
        loss = self.nll(mean, nn.functional.softplus(spread), actions)
        return loss, (loss.detach(),)


def draw(*shape):
    return torch.randn(*shape)


def make(network=Separate, name="adahesscale", dtype=torch.float64, seed=0, **settings):
    """Return a step, its network, and a batch; equal ones for equal arguments."""
    torch.manual_seed(seed)
    net = network().to(dtype)
    options = {name: settings.pop(name) for name in ("lr", "delta", "momentum") if name in settings}
    optimizer = optim.get(name)(net.parameters(), **{"lr": 0.01, **options})
    batch = net.batch(dtype)
    return TrainStep(net.loss, optimizer, **settings), optimizer, net, batch


def take(step, batch, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [step(batch, torch.randperm(B, generator=generator)[:N]) for _ in range(count)][-1]


def assert_equal_state(one, other, **tolerance):
    """Gradient and curvature of the last step are compared by their moving averages."""
    for p, q in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(p, q, **tolerance)
        assert one.state[p].keys() == other.state[q].keys()
        for name, value in one.state[p].items():
            torch.testing.assert_close(value, other.state[q][name], **tolerance)


@pytest.fixture
def interpreted(monkeypatch):
    """Run what was recorded as it is, one operation of PyTorch after the other."""

    def interpret(graph, inputs):
        return torch.no_grad()(lambda tensors: graph(*tensors))

    monkeypatch.setattr(train_step, "compiled", interpret)


@pytest.mark.parametrize(
    ("network", "name", "clip"),
    [
        (Separate, "adam", 0.1),
        (Separate, "adahesscale", 0.1),
        (Separate, "adahesscalegn", math.inf),
        (Separate, "adahessian", math.inf),
        (Separate, "scaled-sgd", math.inf),
        (Shared, "adam", math.inf),
        (Shared, "scaled-adahesscale", 0.1),
        (VarianceNetwork, "adahesscale", math.inf),
    ],
)
def test_a_recorded_step_is_the_eager_one(interpreted, network, name, clip):
    ends = []
    for how in ("on", "off"):
        step, optimizer, _, batch = make(network, name, compile=how, max_grad_norm=clip)
        torch.manual_seed(1)
        ends.append((optimizer, take(step, batch, 3)))
        assert step.is_compiled == (how == "on")
    (recorded, metrics), (eager, expected) = ends
    torch.testing.assert_close(metrics, expected, rtol=1e-11, atol=1e-12)
    assert_equal_state(recorded, eager, rtol=1e-10, atol=1e-11)


def test_the_learning_rate_follows_schedules_and_assignments(interpreted):
    ends = []
    for how in ("on", "off"):
        step, optimizer, _, batch = make(compile=how)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            take(step, batch, 1)
            scheduler.step()
        optimizer.param_groups[0]["lr"] = 0.25
        take(step, batch, 1)
        assert step.is_compiled == (how == "on")
        ends.append(optimizer)
    assert_equal_state(*ends, rtol=1e-10, atol=1e-11)


def test_a_resumed_run_goes_on_bit_for_bit(interpreted):
    step, optimizer, net, batch = make(compile="on")
    take(step, batch, 3)
    resumed, other_optimizer, other_net, _ = make(compile="on", seed=1)
    other_net.load_state_dict(net.state_dict())
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in (step, resumed):
        take(one, batch, 2, seed=3)
    assert resumed.is_compiled
    assert_equal_state(optimizer, other_optimizer, rtol=0, atol=0)


def test_a_state_loaded_later_is_the_one_that_is_stepped(interpreted):
    step, optimizer, _, batch = make(compile="on")
    take(step, batch, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    params = [p.detach().clone() for p in step_params(optimizer)]
    take(step, batch, 2, seed=4)
    expected = [p.detach().clone() for p in step_params(optimizer)]
    optimizer.load_state_dict(saved)
    with torch.no_grad():
        torch._foreach_copy_(step_params(optimizer), params)
    take(step, batch, 2, seed=4)
    assert all(map(torch.equal, step_params(optimizer), expected))


def step_params(optimizer):
    return optimizer.param_groups[0]["params"]


def test_other_shapes_take_eager_steps(interpreted):
    step, _, net, batch = make(compile="on")
    take(step, batch, 2)
    before = net.logstd.clone()
    step(batch, torch.arange(3))
    assert step.is_compiled
    assert not torch.equal(net.logstd, before)
    with pytest.raises(ValueError, match="advantages must have shape"):
        step([*batch[:3], batch[3][:, None], *batch[4:]], torch.arange(N))


def test_tensors_of_the_loss_are_read_at_every_step(interpreted):
    step, _, net, batch = make(compile="on")
    scale = torch.ones((), dtype=torch.float64)
    step._loss_fn = lambda *minibatch: (net.loss(*minibatch)[0] * scale, (scale * 2,))
    take(step, batch, 2)
    scale.fill_(3)
    assert take(step, batch, 1)[0] == 6


def test_quantities_of_the_backward_pass_follow_the_metrics(interpreted):
    ends = []
    for how in ("on", "off"):
        step, _, net, batch = make(compile=how)
        step._after_backward = lambda net=net: (net.logstd.hess_diag.sum(),)
        ends.append(take(step, batch, 2))
        assert len(ends[-1]) == 3
    torch.testing.assert_close(*ends, rtol=1e-11, atol=1e-12)


def test_what_cannot_be_recorded_goes_on_in_eager(interpreted):
    lines, ends = [], []
    for how in ("on", "off"):
        step, optimizer, net, batch = make(compile=how, report=lines.append)
        step._loss_fn = lambda *data, net=net: (net.loss(*data)[0] / data[0].norm().item(), ())
        take(step, batch, 3)
        ends.append(optimizer)
    assert_equal_state(*ends, rtol=1e-12, atol=1e-12)
    (line,) = lines
    assert line.startswith("training steps are not compiled: RuntimeError: ")


def test_a_parameter_that_joins_late_is_not_compiled(interpreted):
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


def test_lazy_curvature_is_not_compiled():
    net, lines = Separate(), []
    optimizer = optim.AdaHesScale(net.parameters(), curvature_every=2)
    step = TrainStep(net.loss, optimizer, compile="on", report=lines.append)
    take(step, net.batch(torch.float32), 4)
    assert lines == ["training steps are not compiled: curvature_every is 2, not 1"]


@pytest.mark.parametrize(("steps", "is_compiled"), [(9_999, False), (10_000, True)])
def test_auto_compiles_what_is_long_enough(interpreted, steps, is_compiled):
    step, _, _, batch = make(compile="auto", expected_steps=steps)
    take(step, batch, 2)
    assert step.is_compiled == is_compiled


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


def test_a_record_has_the_constants_once():
    x, total = torch.ones(2), torch.zeros(2)
    step = record(lambda: (total.add_(x).add_(total),), [x])
    assert [id(t) for t in step.constants] == [id(total)]
    assert step.graph(x, total)[0].tolist() == [6.0, 6.0]


def test_a_cache_that_others_can_write_is_refused(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path))
    with pytest.raises(PermissionError, match="writable by you alone"):
        cache_folder()


@COMPILER
@pytest.mark.parametrize(
    ("network", "name", "dtype", "tolerance"),
    [
        (Separate, "adahesscale", torch.float32, {"rtol": 1e-4, "atol": 1e-6}),
        (Shared, "scaled-adahesscale", torch.float64, {"rtol": 1e-10, "atol": 1e-12}),
    ],
)
def test_a_compiled_step_is_the_eager_one(tmp_path, monkeypatch, network, name, dtype, tolerance):
    monkeypatch.setenv("HESRL_CACHE", str(tmp_path / "cache"))
    ends, settings = [], {"delta": 1e-3} if name.startswith("scaled") else {}
    # The second compiled one finds what the first has left, and needs no compiler.
    for how in ("on", "off", "on"):
        step, optimizer, _, batch = make(
            network, name, dtype, compile=how, max_grad_norm=0.1, **settings
        )
        ends.append((optimizer, take(step, batch, 2)))
        assert step.is_compiled == (how == "on")
        monkeypatch.setenv("CXX", "no-compiler")
    (compiled, metrics), (eager, expected), (found, _) = ends
    torch.testing.assert_close(metrics, expected, **tolerance)
    assert_equal_state(compiled, eager, **tolerance)
    assert_equal_state(compiled, found, rtol=0, atol=0)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()].count(".so") == 1


def test_without_a_compiler_one_line_says_so(tmp_path):
    script = (
        "from tests.test_train_step import make, take; step, *_, batch = make(compile='on'); "
        "take(step, batch, 3); print(step.is_compiled)"
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
    assert run.stdout == "False\n"
    (line,) = run.stderr.splitlines()
    assert line.startswith("training steps are not compiled: ")
    assert "compiler" in line
