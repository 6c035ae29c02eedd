"""Capturable steps: counts on the device, no number read back, the same when replayed."""

import copy

import pytest
import torch
from torch import nn

from hesrl.curvature import give_curvature
from hesrl.optim import SGD, AdaHesScale, Adam, ScaledAdaHesScale
from tests.optim.problems import EACH, assert_same_parameters, loss_of, network
from tests.optim.replay import Recorder


@EACH
def test_it_keeps_its_count_where_the_parameters_are_and_reads_no_number(optimizer_class):
    weight = nn.Parameter(torch.ones(3, device="meta"))
    optimizer = optimizer_class([weight], capturable=True, lr=torch.tensor(0.1))
    weight.grad = torch.ones(3, device="meta")
    if optimizer_class.curvature:
        give_curvature(weight, torch.ones(3, device="meta"))
    optimizer.step()  # a number that is read from a meta tensor is an error
    assert all(value.is_meta for value in optimizer.state[weight].values())


def update(model, optimizer, x):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(x), x[:, :2].sin()).backward()
    optimizer.step()


def batch(step):
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


@EACH
def test_a_recorded_update_goes_on_when_it_is_replayed(optimizer_class):
    """Forward and backward pass and step, with a step size that changes in between."""
    if optimizer_class.curvature == "ggn_mc":
        pytest.skip("its backward pass asks whether the likelihood has negative weights")
    model, other = network(), network()
    lr, x = torch.tensor(1e-2, dtype=torch.float64), batch(0)
    optimizer = optimizer_class(model.parameters(), lr=lr, capturable=True, weight_decay=0.1)
    plain = optimizer_class(other.parameters(), lr=1e-2, weight_decay=0.1)
    torch.manual_seed(0)
    update(model, optimizer, x)
    with Recorder() as recorder:
        update(model, optimizer, x)
    lr.fill_(2e-2)
    for step in range(2, 6):
        x.copy_(batch(step))
        recorder.replay()
    torch.manual_seed(0)
    for step in (0, 0, 2, 3, 4, 5):
        plain.param_groups[0]["lr"] = 2e-2 if step else 1e-2
        update(other, plain, batch(step))
    assert_same_parameters(model, other, 1e-12)
    counts = [state["step"].item() for state in optimizer.state.values() if "step" in state]
    assert set(counts) <= {6}


@EACH
def test_a_step_that_reads_a_number_cannot_be_recorded(optimizer_class):
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=torch.tensor(1e-2))
    loss_of(model, 0).backward()
    with pytest.raises(RuntimeError, match="a number is read"), Recorder():
        optimizer.step()


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_kept_and_the_step_is_the_same(optimizer_class, dtype):
    params, others = ([nn.Parameter(torch.linspace(-1, 1, 5).to(dtype))] for _ in range(2))
    capturable = optimizer_class(params, lr=torch.tensor(0.1), capturable=True, weight_decay=0.1)
    plain = optimizer_class(others, lr=0.1, weight_decay=0.1)
    for step in range(5):
        for (p,), optimizer in ((params, capturable), (others, plain)):
            p.grad = torch.full_like(p, 0.5 + step)
            if optimizer_class.curvature:
                give_curvature(p, torch.full_like(p, 2.0 - step))
            optimizer.step()
    assert params[0].dtype == dtype
    for name, value in capturable.state[params[0]].items():
        is_wide = name in ("step", "exp_hess_sq", "exp_grad_sq")
        assert value.dtype == (torch.float32 if is_wide else dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(params, others, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer_class", [AdaHesScale, ScaledAdaHesScale])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_lazy_run_that_becomes_capturable_keeps_its_count_of_curvatures(optimizer_class, dtype):
    model = network().to(dtype)
    optimizer = optimizer_class(model.parameters(), lr=1e-2, betas=(0.9, 0.99), curvature_every=3)
    for step in range(6):
        update(model, optimizer, batch(step).to(dtype))
    for state in optimizer.state.values():
        state["step"].fill_(3 * 257.0)
        state["hess_count"].fill_(257.0)  # no number of bfloat16
    other = copy.deepcopy(model)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0] |= {"curvature_every": 1, "capturable": True}
    capturable = optimizer_class(other.parameters())
    capturable.load_state_dict(state)
    optimizer.param_groups[0]["curvature_every"] = 1
    for m, opt in ((model, optimizer), (other, capturable)):
        for step in range(6, 9):
            update(m, opt, batch(step).to(dtype))
    for opt in (optimizer, capturable):
        assert {state["hess_count"].item() for state in opt.state.values()} == {260.0}
    assert_same_parameters(model, other, 1e-12 if dtype == torch.float64 else 1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer_class", [SGD, Adam, AdaHesScale, ScaledAdaHesScale])
def test_a_step_can_be_captured_in_a_cuda_graph(optimizer_class):
    model, other = (network().cuda() for _ in range(2))
    x = batch(0).cuda()
    optimizers = [
        optimizer_class(m.parameters(), lr=torch.tensor(1e-2, device="cuda"), capturable=True)
        for m in (model, other)
    ]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        update(model, optimizers[0], x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        update(model, optimizers[0], x)
    for _ in range(5):
        graph.replay()
    for _ in range(6):
        update(other, optimizers[1], x)
    assert_same_parameters(model, other, 1e-10)
