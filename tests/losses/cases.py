"""Every loss, and the same loss written with torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F

from hesrl import losses
from tests.losses.data import (
    CHOICES,
    CLASSES,
    CLIP,
    LOGITS,
    OLD_VALUES,
    PROBABILITIES,
    RETURNS,
    VALUES,
    WEIGHT,
    Case,
    K,
    N,
    normal,
    plain_value_loss,
)
from tests.losses.policy_cases import POLICY_CASES


def _value_cases() -> list[Case]:
    huber = partial(F.huber_loss, reduction="none", delta=0.7)
    return [
        Case(
            "value",
            losses.ValueLoss,
            losses.value_loss,
            lambda v, r: 0.5 * (v - r) ** 2,
            (VALUES,),
            (RETURNS,),
        ),
        Case(
            "value clipped",
            partial(losses.ValueLoss, CLIP),
            partial(losses.value_loss, clip_coef=CLIP),
            plain_value_loss,
            (VALUES,),
            (RETURNS, OLD_VALUES),
        ),
        Case(
            "value huber",
            partial(losses.HuberValueLoss, 0.7),
            partial(losses.huber_value_loss, delta=0.7),
            huber,
            (VALUES,),
            (RETURNS,),
        ),
    ]


def _cross_entropy(targets: str, divided_by: float = N, **options: Any) -> Case:
    return Case(
        f"cross-entropy {targets} {', '.join(options)}",
        partial(losses.CrossEntropyLoss, **options),
        partial(losses.cross_entropy, **options),
        partial(F.cross_entropy, reduction="none", **options),
        (LOGITS,),
        ({"classes": CHOICES, "some": CLASSES, "soft": PROBABILITIES}[targets],),
        divided_by,
    )


def _supervised_cases() -> list[Case]:
    some = CLASSES[CLASSES >= 0]
    cases = [
        _cross_entropy("classes"),
        _cross_entropy("some", len(some)),
        _cross_entropy("some", WEIGHT[some].sum().item(), weight=WEIGHT, label_smoothing=0.3),
        _cross_entropy("classes", int((CHOICES != 1).sum()), ignore_index=1, label_smoothing=0.3),
        _cross_entropy("soft"),
        _cross_entropy("soft", weight=WEIGHT, label_smoothing=0.3),
    ]
    for shape in ((N,), (N, K), (N, 2, 2)):
        inputs, constants = (normal(*shape, seed=10),), (normal(*shape, seed=11),)
        plain = lambda y, t: (y - t).square().view(len(y), -1).sum(1)  # noqa: E731
        count = inputs[0].numel()
        cases.append(
            Case(f"mse {shape}", losses.MSELoss, losses.mse, plain, inputs, constants, count)
        )
    return cases


CASES = [
    *POLICY_CASES,
    *_value_cases(),
    *_supervised_cases(),
]
