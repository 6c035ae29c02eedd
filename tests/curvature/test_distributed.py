"""Two ranks under `DistributedDataParallel`, against one process that has the data of both."""

from __future__ import annotations

import copy
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel as Parallel

from hesrl.curvature import arm, take_curvature
from hesrl.optim import AdaHesScale

RANKS, SECONDS = 2, 600


class Net(nn.Module):
    """Two layers and a branch that a forward pass may leave out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.branch, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.double()

    def forward(self, x: Tensor, with_branch: bool = True) -> Tensor:
        a = torch.tanh(self.first(x))
        return self.last(a * torch.sigmoid(self.branch(a)) if with_branch else a)


def data(*ranks: int) -> tuple[Tensor, Tensor]:
    """Inputs (4, 3) for each rank, one below the other, and targets (4, 2)."""
    torch.manual_seed(1)
    x, target = torch.randn(RANKS, 4, 3).double(), torch.randn(RANKS, 4, 2).double()
    return torch.cat([x[rank] for rank in ranks]), torch.cat([target[rank] for rank in ranks])


def loss_of(net: nn.Module, x: Tensor, target: Tensor, **options: Any) -> Tensor:
    return (net(x, **options) - target).square().mean().exp()


def kept(net: nn.Module) -> dict[str, Tensor | None]:
    """The curvature of every parameter, its value and its gradient."""
    net = net.module if isinstance(net, Parallel) else net
    return {
        f"{what} of {name}": None if value is None else value.detach().clone()
        for name, p in net.named_parameters()
        for what, value in (
            ("value", p),
            ("gradient", p.grad),
            ("h", take_curvature(p)),
        )
    }


def one_pass(net: nn.Module, rank: int, **options: Any) -> Any:
    loss_of(net, *data(rank), **options).backward()
    return kept(net)


def two_passes(net: nn.Module, rank: int) -> Any:
    one_pass(net, rank)
    net.zero_grad()
    return one_pass(net, rank)


def accumulated(net: Parallel, rank: int) -> Any:
    with net.no_sync():
        one_pass(net, rank)
    return one_pass(net, rank)


def only_local(net: Parallel, rank: int) -> Any:
    with net.no_sync():
        return one_pass(net, rank)


def branch_on_one_rank(net: nn.Module, rank: int) -> Any:
    return one_pass(net, rank, with_branch=rank == 0)


def steps(net: nn.Module, rank: int) -> Any:
    optimizer = AdaHesScale(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        one_pass(net, rank)
        optimizer.step()
    return kept(net)


def gradient_from_elsewhere(net: Parallel, rank: int) -> Any:
    optimizer = AdaHesScale(net.module.named_parameters())
    net.module.first.bias.grad = torch.ones(4).double()
    one_pass(net, rank)
    try:
        optimizer.step()
    except RuntimeError as error:
        return str(error), kept(net)


def two_modules(net: Parallel, rank: int) -> Any:
    """One backward pass through two modules; a forward pass before it led to none."""
    other = copy.deepcopy(net.module)
    arm(other.parameters())
    other = Parallel(other)
    x, target = data(rank)
    other(x)
    (loss_of(net, x, target) + loss_of(other, x, target)).backward()
    return kept(net), kept(other)


RUNS: dict[str, tuple[Callable[[Any, int], Any], dict[str, bool]]] = {
    "one pass": (one_pass, {}),
    "accumulated": (accumulated, {}),
    "views": (accumulated, {"gradient_as_bucket_view": True}),
    "static graph": (two_passes, {"static_graph": True}),
    "unused": (branch_on_one_rank, {"find_unused_parameters": True}),
    "unused, alone armed": (branch_on_one_rank, {"find_unused_parameters": True}),
    "only local": (only_local, {}),
    "steps": (steps, {}),
    "elsewhere": (gradient_from_elsewhere, {}),
    "two modules": (two_modules, {}),
}


def work(rank: int, folder: Path) -> None:
    """What one rank does: all runs, with its results in a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=SECONDS / 2),
    )
    results = {}
    for name, (run, options) in RUNS.items():
        net = Net()
        arm(net.branch.parameters() if name == "unused, alone armed" else net.parameters())
        results[name] = run(Parallel(net, **options), rank)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What every rank's runs returned; ranks that hang are ended, and fail the tests."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        ranks = start_processes(work, (folder,), RANKS, join=False, start_method="spawn")
    end = time.monotonic() + SECONDS
    try:
        while not ranks.join(timeout=1):
            assert time.monotonic() < end, "the ranks wait for each other"
    finally:
        for process in ranks.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def armed_net() -> Net:
    net = Net()
    arm(net.parameters())
    return net


def joint_loss(net: nn.Module) -> Tensor:
    """The mean of both ranks' losses, in one process."""
    return sum(loss_of(net, *data(rank)) for rank in range(RANKS)) / RANKS


def alone(passes: int = 1) -> dict[str, Tensor | None]:
    """What one process has after some passes."""
    net = armed_net()
    for _ in range(passes):
        joint_loss(net).backward()
    return kept(net)


def assert_close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "passes"), [("one pass", 1), ("accumulated", 2), ("views", 2), ("static graph", 1)]
)
def test_the_curvature_is_that_of_all_the_data(results, name, passes):
    expected = alone(passes=passes)
    assert all(h.count_nonzero() > 0 for h in expected.values())
    for of_rank in results:
        assert_close(of_rank[name], expected)


def test_without_synchronization_each_rank_has_its_own(results):
    for rank, of_rank in enumerate(results):
        assert_close(of_rank["only local"], one_pass(armed_net(), rank))


@pytest.mark.parametrize("name", ["unused", "unused, alone armed"])
def test_a_parameter_that_one_rank_uses(results, name):
    net = armed_net()
    (sum(loss_of(net, *data(k), with_branch=k == 0) for k in range(RANKS)) / RANKS).backward()
    armed = {key: h for key, h in kept(net).items() if name == "unused" or "branch" in key}
    for of_rank in results:
        assert_close({key: of_rank[name][key] for key in armed}, armed)


def test_ranks_step_alike(results):
    one, other = (of_rank["steps"] for of_rank in results)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    net = Net()
    optimizer = AdaHesScale(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        joint_loss(net).backward()
        optimizer.step()
    assert_close(one, kept(net))


def test_averaging_hides_no_missing_curvature(results):
    for of_rank in results:
        message, state = of_rank["elsewhere"]
        assert message.startswith("first.bias of shape (4,) has a gradient but no curvature")
        assert [key for key, value in state.items() if value is None] == ["h of first.bias"]


def test_two_modules_in_one_loss(results):
    for of_rank in results:
        for of_module in of_rank["two modules"]:
            assert_close(of_module, alone())
