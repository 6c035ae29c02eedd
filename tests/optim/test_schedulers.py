"""The schedulers of PyTorch, which set step sizes and cycle betas, on our optimizers."""

import pytest
import torch
from torch.optim import lr_scheduler as schedulers

from hesrl.optim import SGD, AdaHesScale, Adam, Adaptive, ScaledSGD
from tests.optim.problems import EACH, assert_same_parameters, groups, network, train

SCHEDULERS = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
    "StepLR": lambda o: schedulers.StepLR(o, 2, 0.5),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 8),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, [0.02, 0.05], total_steps=9),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 1e-3, 1e-2, 2, cycle_momentum=True),
}


@pytest.mark.parametrize("optimizer_class", [SGD, Adam, AdaHesScale, ScaledSGD])
@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_sets_what_it_sets_in_torch(optimizer_class, name, tensor_lr):
    """The step size of two groups, as a number or a tensor, and where it cycles them the betas."""
    adaptive = issubclass(optimizer_class, Adaptive)
    settings = {"weight_decay": 0.0} if adaptive else {"momentum": 0.9}
    model, other = network(), network()
    optimizer = optimizer_class(groups(model), lr=1e-2, **settings)
    like = torch.optim.AdamW if adaptive else torch.optim.SGD
    theirs = like(groups(other), lr=1e-2, foreach=False, **settings)
    if tensor_lr:
        for group in (*optimizer.param_groups, *theirs.param_groups):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    ours, expected = SCHEDULERS[name](optimizer), SCHEDULERS[name](theirs)
    for step in range(8):
        train(model, optimizer, [step], ours)
        train(other, theirs, [step], expected)
        for group, twin in zip(optimizer.param_groups, theirs.param_groups, strict=True):
            assert isinstance(group["lr"], torch.Tensor) == tensor_lr
            assert float(group["lr"]) == pytest.approx(float(twin["lr"]), rel=1e-12)
            assert [group.get(kind) for kind in ("betas", "momentum")] == [
                twin.get(kind) for kind in ("betas", "momentum")
            ]
    if optimizer_class is Adam:
        assert_same_parameters(model, other, 1e-12)


@EACH
def test_a_plateau_lowers_the_step_size_and_its_scheduler_goes_through_a_state_dict(
    optimizer_class,
):
    optimizer = optimizer_class(network().parameters(), lr=1.0)
    plateau = schedulers.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    for _ in range(4):
        plateau.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 0.5
    fresh = optimizer_class(network().parameters(), lr=1.0)
    fresh.load_state_dict(optimizer.state_dict())
    other = schedulers.ReduceLROnPlateau(fresh, factor=0.5, patience=1)
    other.load_state_dict(plateau.state_dict())
    plateau.step(1.0)
    other.step(1.0)
    assert fresh.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == 0.25
