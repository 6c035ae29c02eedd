"""What each optimizer brings along, and what it is made of."""

import math

import pytest
import torch

from hesrl import optim
from hesrl.rl.optimizer_settings import (
    check_optimizer,
    defaults_of_optimizers,
    fill_in_optimizer,
    hyperparameters,
)

FIRST = {"learning_rate": 0.1, "eps": 0.2, "max_grad_norm": 0.3}
SECOND = {"learning_rate": 1.0, "eps": 2.0, "max_grad_norm": math.inf}
BOUNDED = {**SECOND, "adam_bound": 4.0}
TABLE = defaults_of_optimizers(
    by_gradient=FIRST, by_curvature=SECOND, by_sample={"learning_rate": 10.0}, adam_bound=4.0
)


class Args:
    betas = (0.5, 0.75)
    curvature_average = "rms"
    damping = 0.0

    def __init__(self, optimizer, **settings):
        self.optimizer = optimizer
        self.learning_rate = self.eps = self.delta = self.max_grad_norm = self.adam_bound = None
        vars(self).update(settings)


def test_only_optimizers_that_need_a_likelihood_are_left_out():
    assert set(optim.known()) - TABLE.keys() == {"adaggnmc", "scaled-adaggnmc"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", {"learning_rate": 0.1, "max_grad_norm": 0.3}),
        ("adam", FIRST),
        ("adahesscale", BOUNDED),
        ("adahessian", {**BOUNDED, "learning_rate": 10.0}),
        ("scaled-adahessian", {**BOUNDED, "learning_rate": 10.0, "delta": 1e-8}),
        ("adabl89", BOUNDED),
        ("scaled-sgd", {"learning_rate": 0.1, "max_grad_norm": math.inf, "delta": 1e-8}),
        ("scaled-adam", {**FIRST, "max_grad_norm": math.inf, "delta": 1e-8}),
        ("scaled-adahesscalegn", {**BOUNDED, "delta": 1e-8}),
    ],
)
def test_defaults_go_by_what_divides_the_step(name, expected):
    assert TABLE[name] == expected


@pytest.mark.parametrize("name", TABLE)
def test_what_is_filled_in_makes_the_optimizer(name):
    args = Args(name)
    check_optimizer(args, TABLE)
    assert args.learning_rate is None
    fill_in_optimizer(args, TABLE)
    (group,) = optim.get(name)([torch.zeros(2)], **hyperparameters(args)).param_groups
    own = TABLE[name]
    assert group["lr"] == own["learning_rate"] and args.max_grad_norm == own["max_grad_norm"]
    assert group.get("eps") == own.get("eps") and group.get("delta") == own.get("delta")
    assert group.get("adam_bound") == own.get("adam_bound")
    if "eps" in own:
        assert group["betas"] == (0.5, 0.75)
    elif name == "scaled-sgd":
        assert group["curvature_beta"] == 0.75


def test_what_is_given_stays():
    args = Args("scaled-adam", learning_rate=0.5, eps=0.6, delta=0.7, max_grad_norm=0.8)
    fill_in_optimizer(args, TABLE)
    assert hyperparameters(args) == {"lr": 0.5, "betas": (0.5, 0.75), "eps": 0.6, "delta": 0.7}
    assert args.max_grad_norm == 0.8
