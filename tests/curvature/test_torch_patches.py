"""What is changed in PyTorch while parameters are armed."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from hesrl.curvature import (
    arm,
    backward,
    disarm,
    give_curvature,
    patch_torch,
    take_curvature,
)
from hesrl.optim import AdaHesScale
from tests.curvature.nets import (
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
    plain_net,
)

pytestmark = pytest.mark.usefixtures("nothing_armed")

NATIVE = {
    "backward": (torch.autograd, "backward"),
    "forward": (DistributedDataParallel, "forward"),
    "unscale_": (GradScaler, "unscale_"),
    "hess_diag": (Tensor, "hess_diag"),
}


def attributes() -> dict[str, Any]:
    return {key: vars(owner).get(name) for key, (owner, name) in NATIVE.items()}


def test_only_armed_parameters_have_the_attribute():
    x, armed = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    assert not hasattr(armed, "hess_diag")
    arm([armed])
    assert armed.hess_diag is None
    assert not hasattr(x, "hess_diag") and not hasattr(x.sum(), "hess_diag")
    with pytest.raises(AttributeError, match=r"^'Tensor' object has no attribute 'hess_diag'$"):
        x.hess_diag  # noqa: B018


def test_torch_is_as_it_was_while_nothing_is_armed():
    before = attributes()
    assert before["hess_diag"] is None
    net = plain_net()
    optimizer = AdaHesScale(net.parameters())
    assert all(now is not before[key] for key, now in attributes().items())
    arm(net.parameters())
    del optimizer
    assert all(now is not before[key] for key, now in attributes().items())
    disarm(net.parameters())
    assert attributes() == before
    give_and_take = torch.ones(2, requires_grad=True)
    give_and_take.grad = torch.ones(2)
    give_curvature(give_and_take, torch.ones(2))
    assert attributes() != before
    del give_and_take
    assert attributes() == before


def test_parameters_that_are_gone_leave_torch_as_it_was():
    before, net = attributes(), make_net()
    loss_of(net).backward()
    assert attributes() != before
    del net
    gc.collect()
    assert attributes() == before


def test_what_others_have_put_over_ours_stays():
    native, calls = torch.autograd.backward, []
    net = make_net()
    ours = torch.autograd.backward

    def theirs(*args: Any, **kwargs: Any) -> None:
        calls.append(len(args))
        ours(*args, **kwargs)

    torch.autograd.backward = theirs
    try:
        loss_of(net).backward()
        assert_equal(curvatures(net), fresh_curvatures())
        disarm(net.parameters())
        assert torch.autograd.backward is theirs
        net.zero_grad()
        loss_of(net).backward()
        assert take_curvature(net.first.weight) is None
        net.zero_grad()
        arm(net.parameters())
        assert torch.autograd.backward is theirs
        loss_of(net).backward()
        once = curvatures(net)
        assert len(calls) > 2
    finally:
        torch.autograd.backward = ours
    assert_equal(once, fresh_curvatures())
    disarm(net.parameters())
    gc.collect()
    assert torch.autograd.backward is native


def test_the_function_needs_no_patch():
    before = attributes()
    patch_torch(False)
    net, other = plain_net(), plain_net()
    optimizer = AdaHesScale(net.parameters(), lr=0.1)
    assert attributes() == before
    for _ in range(3):
        optimizer.zero_grad()
        backward(loss_of(net))
        optimizer.step()
    net.zero_grad()
    loss_of(net).backward()
    assert take_curvature(net.first.weight) is None
    patch_torch(True)
    assert attributes() != before
    optimizer = AdaHesScale(other.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(other).backward()
        optimizer.step()
    assert_equal(list(net.parameters()), list(other.parameters()))


def test_threads_that_arm_and_disarm():
    before, errors = attributes(), []

    def work() -> None:
        for _ in range(30):
            net = plain_net()
            optimizer = AdaHesScale(net.parameters())
            backward(loss_of(net))
            try:
                optimizer.step()
            except RuntimeError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not errors
    assert attributes() == before
