"""`hesrl example pruning`: saliencies, masks, and the command on a tiny setting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hesrl.errors import UserError
from hesrl.examples import pruning
from hesrl.examples.pruning import COLUMNS, Args, accuracies, by_curvature, main, prune, train
from tests.measuring.files import write_digits


def tiny(tmp_path, **settings):
    write_digits(tmp_path, 60)
    small = {"seeds": 2, "hidden": (8,), "rounds": 2, "epochs": 1, "batch_size": 16}
    return Args(mnist=tmp_path, **{**small, **settings})


def problem():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double(), (
        torch.randn(1500, 3).double(),
        torch.randint(2, (1500,)),
    )


def test_the_saliency_of_the_last_layer_is_what_deleting_a_weight_costs():
    """The loss is quadratic in these weights, so L(w = 0) − L(w) + g w = ½ h w² exactly."""
    model, (x, y) = problem()
    saliency = by_curvature(model, (x, y))[1]
    loss = pruning.loss_of(model, x, y)
    (gradient,) = torch.autograd.grad(loss, model[2].weight)
    for row, column in [(0, 0), (0, 3), (1, 2)]:
        weight = model[2].weight.detach()[row, column].item()
        with torch.no_grad():
            model[2].weight[row, column] = 0
            cost = pruning.loss_of(model, x, y) - loss + gradient[row, column] * weight
            model[2].weight[row, column] = weight
        torch.testing.assert_close(saliency[row, column], cost, rtol=1e-9, atol=1e-14)


def test_the_smallest_of_all_layers_are_deleted_and_stay_deleted_in_training():
    model, data = problem()
    saliencies = [
        torch.arange(12.0).view(4, 3),
        torch.tensor([[0.5, 20, 21, 22], [1.5, 2.5, 3, 4]]),
    ]
    kept = prune(model, saliencies, 0.5)
    assert kept[0].flatten().tolist() == [False] * 5 + [True] * 7
    assert kept[1].tolist() == [[False, True, True, True], [False] * 4]
    before = model[0].weight.clone()
    train(model, data, 1, Args(), kept)
    assert torch.equal(model[0].weight == 0, ~kept[0])
    assert not torch.equal(model[0].weight, before)


def test_without_pruning_and_training_every_way_has_the_accuracy_of_the_network(tmp_path):
    found = accuracies(tiny(tmp_path, sparsity=0.0, retrain=0), 1)
    assert {tuple(values) for values in found.values()} == {tuple(found["nothing"])}
    assert all(len(values) == len(COLUMNS) for values in found.values())


def test_the_command_prints_a_row_for_each_way_to_prune(tmp_path, capsys):
    assert main(tiny(tmp_path, seeds=1)) == 0
    printed = capsys.readouterr().out
    assert "0.95 of the weights deleted" in printed and "nan" not in printed
    rows = [line for line in printed.splitlines() if line.count("0.") == len(COLUMNS)]
    assert [row.split()[1].rstrip(",") for row in rows] == ["nothing", "magnitude", "curvature"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "--sparsity 1.0: must be from 0 to 0.9999"),
        ({"rounds": 0}, "--rounds 0: must be at least 1"),
        ({"hidden": (8, 0)}, r"--hidden \(8, 0\): must be greater than zero"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        main(tiny(tmp_path, **settings))
