"""The benchmark of twenty architectures: all of them train, and the table has them."""

import csv
from pathlib import Path
from statistics import median

import pytest
import torch

from hesrl.bench import models
from hesrl.bench.model_zoo import MODELS
from hesrl.errors import UserError


@pytest.fixture(autouse=True)
def subnormal_numbers_as_before():
    yield
    torch.set_flush_denormal(False)


def test_there_are_twenty():
    assert len(MODELS) == 20


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_curvature(model):
    torch.manual_seed(0)
    net, loss = MODELS[model]()
    optimizer = models.CONTENDERS[models.CONTENDER](net, loss)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer()
    moved = [not torch.equal(p, was) for p, was in zip(net.parameters(), before, strict=True)]
    assert sum(moved) > len(moved) / 2  # the step size is below the rounding of some parameters
    for p in net.parameters():
        assert p.hess_diag.isfinite().all() and p.grad.any()


def test_the_table_and_the_file(tmp_path, capsys):
    file = tmp_path / "new" / "models.csv"
    args = models.Args(models=("vae", "ppo"), rounds=1, out=file)
    assert models.main(args) == 0
    out = capsys.readouterr().out
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["model"] for row in rows] == ["vae", "ppo"]
    for row in rows:
        assert float(row["time_ratio"]) > 1 and 1 < float(row["memory_ratio"]) < 2
    for name in ("time_ratio", "memory_ratio"):
        assert f"{median(float(row[name]) for row in rows):.2f}" in out


@pytest.mark.parametrize("settings", [{"models": ("alexnet",)}, {"models": ()}, {"rounds": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match="--models must be among mlp, vgg, resnet"):
        models.main(models.Args(**settings))


def test_the_page_has_the_numbers_of_the_file():
    docs = Path(__file__).parents[2] / "docs"
    with (docs / "models.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == list(MODELS)
    times = sorted(float(row["time_ratio"]) for row in rows)
    memory = median(float(row["memory_ratio"]) for row in rows)
    page = " ".join((docs / "curvature.md").read_text().split())
    assert f"the time ratios is {median(times):.2f}, from {times[0]:.2f} (" in page
    assert (
        f"to {times[-1]:.2f} (" in page and f"the median of the peak memory {memory:.2f}." in page
    )
