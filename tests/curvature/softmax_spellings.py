"""Losses of logits in which softmaxes are written in every way, as code that people run has them.

Each takes logits of shape (3, 4), actions or choices in the second dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Q = torch.tensor([[0.5, -1.0, 2.0, 0.3], [1.0, 0.2, -0.7, 0.1], [0.0, 1.5, 0.4, -2.0]]).double()
CHOICES = torch.tensor([1, 3, 0])
ONE_HOT = F.one_hot(CHOICES, 4).double()
MASK = torch.tensor([[True, True, False, True], [True] * 4, [True, False, True, True]])
ADVANTAGES = torch.tensor([1.5, -0.7, 0.4]).double()
OLD = torch.tensor([-1.2, -0.6, -2.1]).double()


def chosen(log_p: Tensor) -> Tensor:
    return log_p.gather(1, CHOICES[:, None]).squeeze(1)


def ppo(log_p: Tensor) -> Tensor:
    ratio = (log_p - OLD).exp()
    return -torch.min(ratio * ADVANTAGES, ratio.clamp(0.8, 1.2) * ADVANTAGES).mean()


def by_exp(z: Tensor) -> Tensor:
    return -(chosen(z - z.exp().sum(1, keepdim=True).log()) * ADVANTAGES).mean()


def by_exp_without_keepdim(z: Tensor) -> Tensor:
    return -chosen(z - z.exp().sum(1).log().unsqueeze(1)).mean()


def by_exp_restored_before_the_logarithm(z: Tensor) -> Tensor:
    return -chosen(z - z.exp().sum(1).unsqueeze(1).log()).mean()


def by_exp_of_the_shifted(z: Tensor) -> Tensor:
    u = z - z.max(1, keepdim=True).values
    return ppo(chosen(u - u.exp().sum(1, keepdim=True).log()))


def by_exp_of_the_shifted_by_a_constant(z: Tensor) -> Tensor:
    u = z - z.max(1, keepdim=True).values.detach()
    return ppo(chosen(u - u.exp().sum(1, keepdim=True).log()))


def by_logsumexp_without_keepdim(z: Tensor) -> Tensor:
    return ppo(chosen(z - z.logsumexp(1)[:, None]))


def by_logsumexp_written_out(z: Tensor) -> Tensor:
    m = z.amax(1, keepdim=True)
    return ppo(chosen(z - (m + (z - m).exp().sum(1, keepdim=True).log())))


def by_the_maximum_of_all(z: Tensor) -> Tensor:
    p = (z - z.max()).softmax(1)
    return (p * (p.log() - Q)).sum(1).mean()


def sum_of_squares_by_quotient(z: Tensor) -> Tensor:
    e = z.exp()
    return (e / e.sum(1, keepdim=True)).square().sum()


def baselines_entropy(z: Tensor) -> Tensor:
    a0 = z - z.max(1, keepdim=True).values
    ea0 = torch.exp(a0)
    z0 = ea0.sum(1, keepdim=True)
    p0 = ea0 / z0
    return (p0 * (torch.log(z0) - a0)).sum(1).mean()


def baselines_kl(z: Tensor) -> Tensor:
    a0, a1 = z - z.max(1, keepdim=True).values, Q - Q.max(1, keepdim=True).values
    ea0, ea1 = torch.exp(a0), torch.exp(a1)
    z0, z1 = ea0.sum(1, keepdim=True), ea1.sum(1, keepdim=True)
    p0 = ea0 / z0
    return (p0 * (a0 - torch.log(z0) - a1 + torch.log(z1))).sum(1).mean()


def baselines_neglogp(z: Tensor) -> Tensor:
    return -(ONE_HOT * F.log_softmax(z, -1)).sum(1).mean() - 0.1 * baselines_entropy(z)


def sac(z: Tensor) -> Tensor:
    return (F.softmax(z, 1) * (0.2 * F.log_softmax(z, 1) - Q)).sum(1).mean()


def log_of_softmax_called_twice(z: Tensor) -> Tensor:
    return (z.softmax(1) * z.softmax(1).log()).sum()


def two_softmaxes(z: Tensor) -> Tensor:
    return (z.softmax(1) * z.softmax(-1) * Q).sum()


def softmax_first(z: Tensor) -> Tensor:
    p = F.softmax(z, dim=1)
    return (p * F.log_softmax(z, dim=1)).sum()


def log_softmax_first(z: Tensor) -> Tensor:
    log_p = F.log_softmax(z, dim=1)
    return (F.softmax(z, dim=1) * log_p).sum()


def two_log_softmaxes(z: Tensor) -> Tensor:
    """Both are linear in the loss, so that no curvature but the gradient goes through them."""
    return -chosen(z.log_softmax(1)).sum() - (Q * z.log_softmax(1)).sum()


def cross_entropy_of_log_softmax(z: Tensor) -> Tensor:
    return F.cross_entropy(z.log_softmax(1), CHOICES)


def soft_cross_entropy_of_log_softmax(z: Tensor) -> Tensor:
    """Soft targets that do not sum to 1."""
    log_p = z.log_softmax(1)
    return F.cross_entropy(log_p, Q.exp()) + (log_p.exp() * Q).sum()


def kl_loss(z: Tensor) -> Tensor:
    return F.kl_div(z.log_softmax(1), Q.softmax(1), reduction="batchmean") + F.kl_div(
        Q.log_softmax(1), z.softmax(1), reduction="batchmean"
    )


def distillation(z: Tensor) -> Tensor:
    scaled = z / 2
    p, log_p = F.softmax(scaled, 1), F.log_softmax(scaled, 1)
    return (p * (log_p - F.log_softmax(Q, 1))).sum(1).mean()


def mellowmax(z: Tensor) -> Tensor:
    return (z.mul(3).logsumexp(1) - 1).div(3).sum()


def entropy_by_log(z: Tensor) -> Tensor:
    p = z.softmax(1)
    return -(p * p.log()).sum()


def entropy_by_log_of_more(z: Tensor) -> Tensor:
    p = z.softmax(1)
    return -(p * (p + 1e-8).log()).sum(1).mean()


def straight_through(z: Tensor) -> Tensor:
    p = z.softmax(1)
    sample = ONE_HOT + p - p.detach()
    return (sample * Q).square().sum() + (p * z.log_softmax(1)).sum()


def focal(z: Tensor) -> Tensor:
    p = z.softmax(1).gather(1, CHOICES[:, None])
    log_p = z.log_softmax(1).gather(1, CHOICES[:, None])
    return -((1 - p) ** 2 * log_p).mean()


def focal_of_cross_entropy(z: Tensor) -> Tensor:
    """As torchvision and others write it: p is the exponential of the cross-entropy."""
    cross_entropy = F.cross_entropy(z, CHOICES, reduction="none")
    return ((1 - (-cross_entropy).exp()) ** 2 * cross_entropy).mean()


def gathered_minus_logsumexp(z: Tensor) -> Tensor:
    return ppo(chosen(z) - z.logsumexp(1))


def chosen_apart(z: Tensor) -> Tensor:
    """Both of the chosen action, one picked by gather and one by a one-hot product."""
    p, log_p = (z.softmax(1) * ONE_HOT).sum(1), chosen(F.log_softmax(z, 1))
    return (p.detach() * log_p + p * log_p * ADVANTAGES).sum()


def three_deep(z: Tensor) -> Tensor:
    """Softmax of a log-softmax of a log-softmax, which is divided by its sum."""
    y = z.log_softmax(1)
    y2 = y - y.logsumexp(1, keepdim=True)
    p = y2.softmax(1)
    p2 = p / p.sum(1, keepdim=True)
    return (p2 * (y * Q + y2.exp()) + p * y2.square()).sum()


def shared_parts(z: Tensor) -> Tensor:
    """One exponential and one sum for a softmax, its logarithm and its negative logarithm."""
    u = z - z.amax(1, keepdim=True)
    e = u.exp()
    total = e.sum(1, keepdim=True)
    p, log_p = e / total, u - total.log()
    return (p * log_p * Q).sum() + ((total.log() - u) * p.square()).sum()


SPELLINGS = [
    value
    for value in list(vars().values())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and value.__name__ not in ("chosen", "ppo")
]
"""All of the above."""
