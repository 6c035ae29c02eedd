"""Who has armed a parameter, and how long that lasts."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hesrl.curvature import (
    arm,
    disarm,
    is_armed,
)
from hesrl.curvature.arming import torch_patches
from hesrl.optim import AdaHesScale
from tests.curvature.nets import (
    X,
    assert_equal,
    curvatures,
    fresh_curvatures,
    loss_of,
    make_net,
    plain_net,
)

pytestmark = pytest.mark.usefixtures("nothing_armed")


def through_torch_save(thing: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "torch.save": through_torch_save,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("what", [lambda net: net, lambda net: list(net.parameters())])
def test_copies_and_files_are_not_armed(way, what):
    net = make_net()
    loss_of(net).backward()
    other = COPIES[way](what(net))
    params = list(other.parameters()) if isinstance(other, nn.Module) else other
    assert not any(is_armed(p) or hasattr(p, "hess_diag") for p in params)
    assert not any(p.__dict__ for p in (*params, *net.parameters()))
    assert_equal(curvatures(net), fresh_curvatures())


@pytest.mark.parametrize("way", COPIES)
def test_a_file_of_a_gradient_holds_no_curvature(way):
    net = make_net()
    loss_of(net).backward()
    assert b"hesrl" not in pickle.dumps(net.first.weight.grad)
    assert type(COPIES[way](net.first.weight.grad)) is Tensor
    leaf = torch.ones(2, requires_grad=True)
    arm([leaf])
    leaf.square().sum().backward()
    assert not is_armed(COPIES[way](leaf))


def test_an_optimizer_that_is_gone_leaves_nothing_armed():
    net = plain_net()
    optimizer = AdaHesScale(net.parameters())
    loss_of(net).backward()
    optimizer.step()
    del optimizer
    assert not any(is_armed(p) or hasattr(p, "hess_diag") for p in net.parameters())
    optimizer = torch.optim.Adam(net.parameters())
    optimizer.zero_grad()
    net.first(X).cumprod(1).sum().backward()  # has no rule
    optimizer.step()


def test_what_the_user_has_armed_stays_armed():
    net = make_net()
    optimizer = AdaHesScale(net.parameters())
    del optimizer
    assert all(is_armed(p) for p in net.parameters())
    optimizer = AdaHesScale(net.parameters())
    disarm(net.parameters())
    assert not any(is_armed(p) for p in net.parameters())
    loss_of(net).backward()
    with pytest.raises(RuntimeError, match="has a gradient but no curvature"):
        optimizer.step()


def test_owners_share_a_parameter():
    net = plain_net()
    first, second = AdaHesScale(net.parameters()), AdaHesScale(net.first.parameters())
    del first
    assert [is_armed(p) for p in net.parameters()] == [True, True, False, False, False, False]
    del second
    assert not any(is_armed(p) for p in net.parameters())


def test_an_owner_in_a_cycle_goes_with_it():
    net, holder = plain_net(), nn.Module()
    holder.optimizer, holder.itself = AdaHesScale(net.parameters()), [holder]
    del holder
    gc.collect()
    assert not any(is_armed(p) for p in net.parameters())


def test_a_lazy_optimizer_that_waits_leaves_the_parameters_of_others_armed():
    net = plain_net()
    lazy = AdaHesScale(net.parameters(), curvature_every=2)
    eager = AdaHesScale(net.first.parameters())
    loss_of(net).backward()
    lazy.step()
    assert [is_armed(p) for p in net.parameters()] == [True, True, False, False, False, False]
    del eager
    assert not any(is_armed(p) for p in net.parameters())
    lazy.zero_grad()
    loss_of(net).backward()
    lazy.step()
    assert all(is_armed(p) for p in net.parameters())


def test_an_object_may_arm_for_its_own_life():
    net, owner = plain_net(), nn.Module()
    arm(net.parameters(), owner=owner)
    loss_of(net).backward()
    assert_equal(curvatures(net), fresh_curvatures())
    del owner
    assert not any(is_armed(p) for p in net.parameters())


def test_an_unarmed_model_is_not_swept(monkeypatch):
    make = torch_patches.run_backward
    armed, net = make_net(), plain_net()
    monkeypatch.setattr("hesrl.curvature.backward_pass.Sweep", None)
    loss_of(net).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert make is torch_patches.run_backward
    assert all(is_armed(p) for p in armed.parameters())
