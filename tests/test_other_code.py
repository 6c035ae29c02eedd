"""The examples of docs/other_code.md: they run, and do what the page says."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from hesrl.bench.update_tasks import ppo_as_written
from hesrl.curvature import arm, hess_diag
from hesrl.optim import AdaHesScale
from tests.test_docs import ROOT, run_examples

PAGE = (ROOT / "docs" / "other_code.md").read_text()
CHECK = """
from hesrl.curvature import is_armed

assert F.mse_loss(model(x), y).item() < 0.5 * before
assert F.mse_loss(average(x), y).item() < 0.5 * before
assert all(is_armed(p) for p in model.parameters())
assert not any(is_armed(p) for p in average.parameters())
optimizer.zero_grad()
try:
    grads = torch.func.grad(
        lambda params: F.mse_loss(torch.func.functional_call(model, params, (x,)), y)
    )(params)
    for name, p in params.items():
        p.grad = grads[name].detach()
    optimizer.step()
except RuntimeError as error:
    print(error)
assert all((saliency >= 0).all() for saliency in saliencies)
for task in range(3):
    of_task = torch.tensor(errors[400 * task : 400 * (task + 1)])
    print(task, of_task[-100:].mean() < of_task[:100].mean())
"""


def block_of(section):
    """The indented example of a section that has one."""
    (text,) = re.findall(rf"## {section}\n(.*?)(?:\n## |\Z)", PAGE, flags=re.DOTALL)
    lines = re.findall(r"^(?:    .*)?\n", text, flags=re.MULTILINE)
    return textwrap.dedent("".join(lines))


def test_the_page_runs(tmp_path):
    refusal, *tasks = run_examples(PAGE, CHECK, tmp_path)
    assert "has a gradient but no curvature" in refusal
    assert tasks == [f"{task} tensor(True)" for task in range(3)]


def test_losses_with_a_backward_of_their_own_have_the_curvature_of_their_sum(tmp_path):
    first, several, *_ = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    found: dict = {}
    exec(first + several, found)
    model, x, y = found["model"], found["x"], found["y"]
    output = model(x)
    loss = F.mse_loss(output[:, 0], y[:, 0]) + F.smooth_l1_loss(output[:, 1], y[:, 1])
    for h, expected in zip(found["several"], hess_diag(loss, model.parameters()), strict=True):
        torch.testing.assert_close(h, expected, rtol=1e-4, atol=1e-6)


def test_cleanrls_loss_is_exact_in_log_std_and_the_last_layers():
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        agent, loss = ppo_as_written()
        arm(agent.parameters())
        loss().backward()
        params = [agent.actor_logstd, *agent.actor_mean[-1].parameters()]
        params += agent.critic[-1].parameters()
        for p, exact in zip(params, second_derivatives(loss, params), strict=True):
            torch.testing.assert_close(p.hess_diag, exact, rtol=1e-9, atol=1e-12)
    finally:
        torch.set_default_dtype(default)


def second_derivatives(loss, params):
    """The diagonal of the Hessian by differentiating every entry of the gradient once more."""
    grads = torch.autograd.grad(loss(), params, create_graph=True)
    for param, grad in zip(params, grads, strict=True):
        rows = [torch.autograd.grad(g, param, retain_graph=True)[0] for g in grad.flatten()]
        yield torch.stack(rows).flatten(1).diagonal().view_as(param)


@pytest.mark.filterwarnings("ignore")  # Lightning's own: of its imports and of idle cores
def test_lightning_ends_where_the_loop_written_out_does(tmp_path, monkeypatch):
    pytest.importorskip("lightning", reason="Lightning is not installed")
    monkeypatch.chdir(tmp_path)
    first, *_ = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    found: dict = {"CosineAnnealingLR": CosineAnnealingLR}
    exec(first + block_of("Lightning"), found)
    torch.manual_seed(0)
    torch.randn(512, 4)
    nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))  # the page's first model
    net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = AdaHesScale(net.parameters(), lr=0.01, eps=1e-3)
    scheduler = CosineAnnealingLR(optimizer, 5)
    for _ in range(5):
        for x, y in zip(found["x"].split(128), found["y"].split(128), strict=True):
            optimizer.zero_grad()
            F.mse_loss(net(x), y).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
        scheduler.step()
    for p, expected in zip(found["module"].net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(p, expected, rtol=1e-5, atol=1e-6)


def test_two_ranks_end_with_the_same_weights(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(block_of("Several processes"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    settings = {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    with ExitStack() as running:
        ranks = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, script],
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **meeting, **settings, "RANK": str(rank)},
                )
            )
            for rank in range(2)
        ]
        for rank in ranks:
            running.callback(rank.kill)
        one, other = (float(rank.communicate(timeout=300)[0]) for rank in ranks)
    assert one == other
