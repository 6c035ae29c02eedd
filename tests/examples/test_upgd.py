"""`hesrl example upgd`: one step by hand, and the command on a tiny setting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hesrl.examples.upgd import UPGD, Args, main, online_accuracy
from tests.measuring.files import write_digits


def test_a_step_is_the_one_of_the_equation():
    """L = Σ (½ c w² − w): g = c w − 1, h = c, and the largest utility is that of all weights."""
    w, v = (nn.Parameter(torch.tensor(x).double()) for x in ([0.2, -2.0, 0.5], [3.0]))
    curvature = torch.tensor([2.0, 0.5, 4.0]).double()
    optimizer = UPGD([w, v], lr=0.1, beta=0.9, sigma=0.0)
    utility = {w: torch.zeros(3).double(), v: torch.zeros(1).double()}
    for step in (1, 2):
        loss = (0.5 * curvature * w**2 - w).sum() + (0.5 * v**2 - v).sum()
        optimizer.zero_grad()
        loss.backward()
        expected = {}
        for p, h in ((w, curvature), (v, torch.ones(1).double())):
            x = p.detach()
            utility[p] = 0.9 * utility[p] + 0.1 * (-(h * x - 1) * x + 0.5 * h * x**2)
        largest = max(u.max() for u in utility.values()) / (1 - 0.9**step)
        for p, h in ((w, curvature), (v, torch.ones(1).double())):
            x, u = p.detach(), utility[p] / (1 - 0.9**step)
            expected[p] = x - 0.1 * (h * x - 1) * (1 - torch.sigmoid(u / largest))
        optimizer.step()
        for p, value in expected.items():
            torch.testing.assert_close(p.detach(), value, rtol=1e-12, atol=0)


def test_the_perturbation_has_the_size_sigma():
    torch.manual_seed(0)
    w = nn.Parameter(torch.zeros(10_000))
    optimizer = UPGD([w], lr=1.0, sigma=0.5)
    (w * 0).sum().backward()
    optimizer.step()
    assert w.std().item() == pytest.approx(0.25, rel=0.03)  # half of it: no utility


def test_a_gradient_without_curvature_is_refused_and_nothing_changes():
    w = nn.Parameter(torch.ones(3))
    optimizer = UPGD([w])
    (w.grad,) = torch.autograd.grad(w.square().sum(), w)
    with pytest.raises(RuntimeError, match=r"shape \(3,\) has no gradient with curvature"):
        optimizer.step()
    assert torch.equal(w, torch.ones(3)) and not optimizer.state


@pytest.mark.parametrize("name", ["SGD", "UPGD"])
def test_it_learns_one_task_after_the_other(tmp_path, name):
    write_digits(tmp_path, 12)
    args = Args(mnist=tmp_path, tasks=2, task_steps=400)
    assert online_accuracy(args, 1, name, 0.1)[1] > 0.9
    assert online_accuracy(args, 1, name, 1e-9)[1] < 0.5


def test_the_command_has_a_row_for_each_optimizer_and_step_size(tmp_path, capsys):
    write_digits(tmp_path, 60)
    assert main(Args(mnist=tmp_path, seeds=2, tasks=2, task_steps=5)) == 0
    rows = [line.split()[1:4] for line in capsys.readouterr().out.splitlines() if "±" in line]
    assert [(name, rate) for name, _, rate in rows] == [
        (name, rate) for name in ("SGD", "UPGD") for rate in ("0.03", "0.1")
    ]
