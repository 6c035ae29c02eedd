"""Regions with reductions and broadcasting: rows that meet again are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hesrl.curvature import arm
from hesrl.curvature.plan import Plan
from tests import reference
from tests.curvature.test_regions import assert_exact, computed, normal

ROW = {
    name: torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for seed, (name, shape) in enumerate(
        {
            "actions": (5, 3),
            "advantages": (5,),
            "mean": (5, 3),
            "own": (5, 3),
            "shared": (3,),
        }.items()
    )
}
CHOSEN = torch.tensor([[2], [0], [1], [2], [2]])


def surrogate(log_prob: Tensor) -> Tensor:
    advantages, ratio = ROW["advantages"], (log_prob + 3).exp()
    return torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)).mean()


def gaussian_of_baselines(mean: Tensor, s: Tensor) -> Tensor:
    """Terms and log-deviations are summed over the actions apart."""
    return -0.5 * (((ROW["actions"] - mean) / s.exp()) ** 2).sum(1) - s.sum(-1)


def gaussian_expanded_once(mean: Tensor, s: Tensor) -> Tensor:
    u = (ROW["actions"] - mean) / s.exp().expand_as(mean)
    return (-0.5 * u**2 - s).sum(1)


def gaussian_with_a_new_dimension(mean: Tensor, s: Tensor) -> Tensor:
    deviation = s.exp()[None] if s.dim() == 1 else s.exp().unsqueeze(1).squeeze(1)
    return (-0.5 * ((ROW["actions"] - mean) / deviation) ** 2 - s).sum(1)


def gaussian_expanded_twice(mean: Tensor, s: Tensor) -> Tensor:
    u = (ROW["actions"] - mean) / s.exp().expand_as(mean)
    return (-0.5 * u**2).sum(-1) - s.expand_as(mean).sum(-1)


def gaussian_repeated_once(mean: Tensor, s: Tensor) -> Tensor:
    copies = (len(mean) // len(s), 1) if s.dim() == 2 else (len(mean), 1)
    return (-0.5 * ((ROW["actions"] - mean) / s.repeat(copies).exp()) ** 2 - s).sum(1)


@pytest.mark.parametrize(
    "log_density",
    [
        gaussian_of_baselines,
        gaussian_expanded_once,
        gaussian_with_a_new_dimension,
        gaussian_expanded_twice,
        gaussian_repeated_once,
    ],
)
@pytest.mark.parametrize("s", ["own", "shared", "one row"])
def test_log_densities_whose_branches_are_broadcast_and_summed_apart(log_density, s):
    s = ROW["shared"][None] if s == "one row" else ROW[s]
    assert_exact(lambda mean, s: surrogate(log_density(mean, 0.3 * s)), ROW["mean"], s)
    if s.shape == (3,):
        # The mean over the batch sums over the copies of s, too.
        assert_exact(
            lambda mean, s: (0.1 * log_density(mean, s).mean() + s.sum()).exp(), ROW["mean"], s
        )


ROW_FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    lambda z: surrogate(z.gather(1, CHOSEN).squeeze(1) - z.logsumexp(1)),
    lambda z: surrogate((z.gather(1, CHOSEN) - z.logsumexp(1, keepdim=True)).squeeze(-1)),
    lambda z: surrogate((z * torch.eye(3).double()[CHOSEN[:, 0]]).sum(1) - z.logsumexp(1)),
    lambda z: (z[:, 0] * z.exp().sum(1)).sin().sum(),
    lambda z: (z[:, 1:2] * z.exp().sum(1, keepdim=True)).sin().mean(),
    lambda z: (z.max(1).values * z.exp().sum(1)).sin().sum(),
    lambda z: (z.amin(1) * z.mean(1)).exp().sum(),
    lambda z: (z.norm(dim=1) * z.sin().sum(1) + z.var(1) * z.std(1)).tanh().sum(),
    lambda z: (z.prod(1) * z.sin().mean(1)).exp().sum(),
    lambda z: (z.sum(1).logsumexp(0) * z.sin().sum()).tanh(),
    lambda z: (z.sum(0) * z.square().sum(0)).sin().sum(),
    lambda z: (z.sum() * z.view(1, 5, 3, 1).exp().mean()).sin(),
    lambda z: (z.sum(1) * z.relu().sum(1)).sin().sum(),
    lambda z: (z[0] * z.exp()[0]).sin().sum() + (z.max() * z.min()).tanh(),
]


@pytest.mark.parametrize("number", range(len(ROW_FUNCTIONS)))
def test_paths_that_meet_after_reductions_are_exact(number):
    assert_exact(ROW_FUNCTIONS[number], ROW["own"])


@pytest.mark.parametrize(
    "function",
    [
        lambda z: (z - z.mean(1, keepdim=True)).sin().sum(),
        lambda z: (z * z.sum(1, keepdim=True)).sin().sum(),
        lambda z: (z.unsqueeze(1) * z.unsqueeze(2)).sin().sum(),
        lambda z: (z * z.sum()).sin().sum(),
        lambda z: (z.sum(1) * z.sum(0).sum()).sin().sum(),
        lambda z: (z.sum(1, keepdim=True) * ROW["mean"] + z.exp()).sin().sum(),
    ],
)
def test_entries_that_reach_one_another_are_estimates(function):
    z = ROW["own"]
    (actual,) = computed(function, z)
    (exact,) = reference.hess_diag(function, z)
    assert actual.isfinite().all()
    assert not torch.allclose(actual, exact, rtol=1e-3)


TERM_FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    lambda z: F.mse_loss(z.sum(1), (z**2).sum(1)),
    lambda z: F.mse_loss(z.sum(1), (z**2).sum(1)).sqrt(),
    lambda z: F.mse_loss(z.unsqueeze(0), z.exp().unsqueeze(0), reduction="sum").sin(),
    lambda z: F.huber_loss(z[:, 0], z[:, 0] * z[:, 1].exp()),
    lambda z: F.smooth_l1_loss(z.gather(1, CHOSEN).squeeze(1), 1 + 0.9 * z.max(1).values),
    lambda z: F.binary_cross_entropy_with_logits(z.sum(1), z.sum(1).sigmoid()),
    lambda z: (lambda loss: loss * loss.exp())(F.mse_loss(z.sum(1), (z**2).sum(1))),
    lambda z: 0.1 * z[0] @ z[0] + z[1].dot(z[1].exp()).sin() + torch.vdot(z[2], z[2].sin()),
    lambda z: (z[:, 0] @ (z[:, 0] * z[:, 1])).sqrt(),
    lambda z: torch.stack([row.exp() @ row for row in z]).square().sum(),
    lambda z: F.mse_loss(z[0].expand(5, 3).exp() * ROW["mean"], z[0] * ROW["mean"]).sqrt(),
]


@pytest.mark.parametrize("number", range(len(TERM_FUNCTIONS)))
def test_paths_that_meet_in_the_terms_of_a_loss_are_exact(number):
    """As in a Bellman residual whose two values come from one network."""
    assert_exact(TERM_FUNCTIONS[number], ROW["own"])


@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (5, 1), (1, 1)])
def test_terms_of_any_number(shape):
    assert_exact(TERM_FUNCTIONS[1], ROW["own"][: shape[0], : shape[1]])


def test_a_view_that_fits_after_one_that_did_not():
    """Which entries a view keeps follows from all sizes, not from those of 1."""
    function = lambda x: (x.exp().reshape(2, -1) * x.sin().reshape(2, -1)).sin().sum()  # noqa: E731
    arm([x := normal(3, 2).requires_grad_()])
    function(x).backward()
    assert_exact(function, normal(2, 2))


def test_a_region_that_ends_in_one_number_keeps_its_plan(monkeypatch):
    made, init = [], Plan.__init__
    monkeypatch.setattr(Plan, "__init__", lambda *args: made.append(1) or init(*args))
    for _ in range(3):
        arm([s := normal(3).requires_grad_()])
        ((0.3 * s.exp()).sum() + s.sum()).exp().backward()
    assert len(made) == 1


def test_a_graph_of_other_sizes_has_a_layout_of_its_own():
    """Size 1 is broadcast; a graph of the same operations is not known by them alone."""
    function = lambda a, z: ((a * z.exp()).sum(1) - z.sum(1)).exp().sum()  # noqa: E731
    for rows, columns in [(5, 3), (1, 3), (5, 1), (1, 1), (4, 3)]:
        torch.manual_seed(rows)
        assert_exact(function, 0.1 * normal(5 if rows == 1 else rows, 3), normal(rows, columns))
