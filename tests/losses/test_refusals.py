"""What the loss modules refuse, and what they say then; each in one line."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from hesrl import losses
from tests.losses.cases import CASES
from tests.losses.data import (
    BITS,
    CHOICES,
    CLIP,
    LOGITS,
    MANY_CHOICES,
    MANY_LOGITS,
    PROBABILITIES,
    SIZES,
    N,
)

by_id = {case.id: case for case in CASES}


def refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("clip_coef", [0, -0.2, float("nan")])
@pytest.mark.parametrize(
    "loss",
    [
        losses.GaussianSurrogateLoss,
        losses.CategoricalSurrogateLoss,
        losses.BernoulliSurrogateLoss,
        partial(losses.MultiCategoricalSurrogateLoss, [2, 3]),
        losses.SurrogateLoss,
        losses.ValueLoss,
    ],
)
def test_clip_coef_must_be_positive(loss, clip_coef):
    refused(lambda: loss(clip_coef), f"clip_coef must be above 0, not {clip_coef}")


def test_other_settings():
    refused(lambda: losses.HuberValueLoss(0.0), r"delta must be above 0, not 0\.0")
    refused(
        lambda: losses.CrossEntropyLoss(label_smoothing=1.5),
        r"label_smoothing must be from 0 to 1, not 1\.5",
    )
    for loss in (losses.GaussianNLLLoss, losses.GaussianEntropyBonus):
        refused(lambda loss=loss: loss(scale="std"), "scale must be 'log_std' or 'variance', not")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_unknown_reduction(case):
    message = "reduction must be one of mean, sum, none, not 'avg'"
    refused(lambda: case.module(reduction="avg"), message)


@pytest.mark.parametrize("coef", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "loss",
    [
        losses.CategoricalEntropyBonus,
        losses.GaussianEntropyBonus,
        losses.BernoulliEntropyBonus,
        partial(losses.MultiCategoricalEntropyBonus, [2, 3]),
    ],
)
def test_a_coefficient_must_be_finite(loss, coef):
    refused(lambda: loss(coef), f"coef must be a finite number, not {coef}")
    assert loss(-1.0).coef == -1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_mean_over_no_samples(case):
    inputs = [x[:0] if len(x) == N else x for x in case.inputs]
    constants = [x[:0] for x in case.constants]
    if any(len(x) == 0 for x in inputs):
        refused(
            lambda: case.module()(*inputs, *constants),
            "a loss has no mean over a batch without samples",
        )
        total = case.module(reduction="sum")(*inputs, *constants)
        assert (total[0] if isinstance(total, tuple) else total) == 0


SHAPES = [
    ("gaussian ppo (1, K)", 0, (N,), r"mean must have shape \(N, K\), not \(9,\)"),
    ("gaussian ppo (1, K)", 1, (N, 1), r"log_std .* \(9, 3\), \(1, 3\) or \(3,\) .* not \(9, 1\)"),
    ("gaussian ppo variance (1, K)", 1, (), r"variance must have shape .* not \(\)"),
    ("gaussian ppo (1, K)", 2, (1, 3), r"actions .* \(9, 3\) to go with mean, not \(1, 3\)"),
    ("gaussian ppo (1, K)", 3, (N, 1), r"old_logprobs .* \(9,\) to go with mean, not \(9, 1\)"),
    ("gaussian ppo (1, K)", 4, (1,), r"advantages .* \(9,\) to go with mean, not \(1,\)"),
    ("gaussian a2c (K,)", 3, (N, 1), r"advantages .* \(9,\) to go with mean, not \(9, 1\)"),
    ("gaussian nll (N, K)", 2, (1, 3), r"targets .* \(9, 3\) to go with mean, not \(1, 3\)"),
    ("categorical a2c", 0, (N,), r"logits must have shape \(N, K\), not \(9,\)"),
    ("categorical a2c", 1, (N, 1), r"actions .* \(9,\) to go with logits, not \(9, 1\)"),
    ("categorical a2c", 2, (N, 1), r"advantages .* \(9,\) to go with logits, not \(9, 1\)"),
    ("categorical ppo", 0, (N, 3, 1), r"logits must have shape \(N, K\), not \(9, 3, 1\)"),
    ("categorical ppo", 2, (1,), r"old_logprobs .* \(9,\) to go with logits, not \(1,\)"),
    ("categorical ppo", 3, (1,), r"advantages .* \(9,\) to go with logits, not \(1,\)"),
    ("ppo of log-probabilities", 0, (N, 1), r"logprobs must have shape \(N,\), not \(9, 1\)"),
    ("ppo of log-probabilities", 1, (1,), r"old_logprobs .* to go with logprobs, not \(1,\)"),
    ("ppo of log-probabilities", 2, (N, 1), r"advantages .* to go with logprobs, not \(9, 1\)"),
    ("multi-categorical a2c", 0, (N, 6), r"logits must have shape \(N, 7\) for .* not \(9, 6\)"),
    ("multi-categorical ppo", 0, (N,), r"logits must have shape \(N, 7\) for .* not \(9,\)"),
    ("multi-categorical ppo", 1, (N, 2), r"actions .* \(9, 3\) to go with logits, not \(9, 2\)"),
    ("multi-categorical ppo", 2, (1,), r"old_logprobs .* \(9,\) to go with logits, not \(1,\)"),
    ("multi-categorical entropy", 0, (N, 3), r"logits must have shape \(N, 7\) for .* \(9, 3\)"),
    ("bernoulli a2c", 0, (N,), r"logits must have shape \(N, K\), not \(9,\)"),
    ("bernoulli a2c", 1, (N, 1), r"actions .* \(9, 3\) to go with logits, not \(9, 1\)"),
    ("bernoulli ppo", 3, (N, 1), r"advantages .* \(9,\) to go with logits, not \(9, 1\)"),
    ("bernoulli entropy", 0, (3,), r"logits must have shape \(N, K\), not \(3,\)"),
    ("categorical entropy", 0, (3,), r"logits must have shape \(N, K\), not \(3,\)"),
    ("gaussian entropy (K,)", 0, (), r"log_std must have shape \(N, K\) or \(K,\), not \(\)"),
    ("value clipped", 0, (N, 1), r"values must have shape \(N,\), not \(9, 1\)"),
    ("value clipped", 1, (N, 1), r"returns .* \(9,\) to go with values, not \(9, 1\)"),
    ("value clipped", 2, (1,), r"old_values .* \(9,\) to go with values, not \(1,\)"),
    ("value huber", 0, (N, 1), r"values must have shape \(N,\), not \(9, 1\)"),
    ("value huber", 1, (N, 1), r"returns .* \(9,\) to go with values, not \(9, 1\)"),
    ("cross-entropy classes ", 0, (N,), r"logits must have shape \(N, K\), not \(9,\)"),
    ("cross-entropy soft ", 1, (N,), r"targets .* \(9, 3\) to go with logits, not \(9,\)"),
    ("mse (9, 3)", 0, (), r"predictions must have shape \(N, …\), not \(\)"),
    ("mse (9, 3)", 1, (N, 1), r"targets .* \(9, 3\) to go with predictions, not \(9, 1\)"),
]


@pytest.mark.parametrize(("name", "index", "shape", "message"), SHAPES)
def test_shapes_that_would_broadcast(name, index, shape, message):
    case = by_id[name]
    arguments = [*case.inputs, *case.constants]
    arguments[index] = torch.ones(shape, dtype=arguments[index].dtype)
    refused(lambda: case.module()(*arguments), message)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_constant_that_requires_a_gradient(case):
    for index, constant in enumerate(case.constants):
        if constant.is_floating_point():
            constants = list(case.constants)
            constants[index] = constant.clone().requires_grad_()
            refused(
                lambda constants=constants: case.module()(*case.inputs, *constants),
                r"(actions|targets|old_logprobs|advantages|returns|old_values) of shape .* "
                "requires a gradient, but the loss takes it as a constant: detach it",
            )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_nan_in_the_data(case):
    for index, constant in enumerate(case.constants):
        if constant.is_floating_point():
            constants = list(case.constants)
            constants[index] = constant.clone()
            constants[index][1] = float("nan")
            refused(
                lambda constants=constants: case.module()(*case.inputs, *constants),
                r"(actions|targets|old_logprobs|advantages|returns|old_values) of shape .* is NaN "
                r"at index \[1",
            )


def test_class_weights_of_another_shape_or_with_a_gradient():
    for weight, message in [
        (torch.ones(2), r"weight must have shape \(3,\) to go with logits, not \(2,\)"),
        (torch.ones(3, requires_grad=True), r"weight of shape \(3,\) requires a gradient"),
    ]:
        refused(lambda w=weight: losses.CrossEntropyLoss(w)(LOGITS, CHOICES), message)


@pytest.mark.parametrize("variance", [0.0, -0.1, float("nan")])
def test_a_variance_that_is_not_positive(variance):
    for name in ("gaussian nll variance (1, K)", "gaussian ppo variance (N, K)"):
        case = by_id[name]
        wrong = case.inputs[1].clone()
        wrong[0, 1] = variance
        refused(
            lambda case=case, wrong=wrong: case.module()(case.inputs[0], wrong, *case.constants),
            f"variance must be above 0, not {variance:g}",
        )
    bonus = losses.GaussianEntropyBonus(scale="variance")
    refused(lambda: bonus(torch.tensor([1.0, variance])), f"variance must be .* not {variance:g}")


@pytest.mark.parametrize("wrong", [3, -1, -100])
def test_an_action_out_of_range(wrong):
    actions = CHOICES.clone()
    actions[4] = wrong
    message = f"actions must be from 0 to 2 for logits of 3 columns, not {wrong}"
    data = torch.ones(N)
    refused(lambda: losses.CategoricalA2CLoss()(LOGITS, actions, data), message)
    refused(lambda: losses.CategoricalSurrogateLoss(CLIP)(LOGITS, actions, data, data), message)


def test_a_class_out_of_range_but_for_the_ignored_one():
    for wrong, ignore_index in [(3, -100), (-1, -100), (-100, 1)]:
        targets = CHOICES.clone()
        targets[4] = wrong
        loss = losses.CrossEntropyLoss(ignore_index=ignore_index)
        refused(
            lambda loss=loss, targets=targets: loss(LOGITS, targets),
            f"targets must be from 0 to 2 for logits of 3 columns, not {wrong}",
        )


def test_actions_that_are_not_integers():
    loss = losses.CategoricalA2CLoss()
    refused(
        lambda: loss(LOGITS, PROBABILITIES[:, 0], torch.ones(N)),
        r"actions must be integers, not of torch\.float64",
    )


@pytest.mark.parametrize(("column", "wrong", "largest"), [(0, 2, 1), (1, -1, 0), (2, 4, 3)])
def test_a_choice_out_of_range(column, wrong, largest):
    actions = MANY_CHOICES.clone()
    actions[4, column] = wrong
    message = f"actions must be from 0 to {largest} in column {column}, not {wrong}"
    data = torch.ones(N)
    a2c, ppo = losses.MultiCategoricalA2CLoss(SIZES), losses.MultiCategoricalSurrogateLoss(SIZES, 1)
    refused(lambda: a2c(MANY_LOGITS, actions, data), message)
    refused(lambda: ppo(MANY_LOGITS, actions, data, data), message)
    actions = actions.double()
    refused(lambda: a2c(MANY_LOGITS, actions, data), r"actions must be integers, not of torch\.fl")


@pytest.mark.parametrize("sizes", [(), (2, 0), (-1,)])
def test_choices_among_nothing(sizes):
    message = r"sizes must be numbers from 1, one for each choice, not \["
    refused(lambda: losses.MultiCategoricalA2CLoss(sizes), message)


@pytest.mark.parametrize("wrong", [2.0, -1.0, 0.5])
def test_a_bit_that_is_neither_0_nor_1(wrong):
    bits = BITS.double()
    bits[4, 1] = wrong
    data = torch.ones(N)
    for call in (
        lambda: losses.BernoulliA2CLoss()(LOGITS, bits, data),
        lambda: losses.BernoulliSurrogateLoss(CLIP)(LOGITS, bits, data, data),
    ):
        refused(call, f"actions must be 0 or 1, not {wrong:g}")
