"""`hesrl paper fig4` and `fig9`: whole commands on a small archive, training, and verdicts."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hesrl.errors import UserError
from hesrl.measuring.cifar import Images, write_small_archive
from hesrl.measuring.networks import all_cnn_c, three_c_three_d, xavier_init
from hesrl.paper import fig4, fig9
from hesrl.paper.cifar_runs import Runs
from hesrl.paper.cifar_training import Row, accuracy, augmented, normalized, split, train_run
from hesrl.settings import at_scale


def test_both_figures_run_in_seconds_and_share_their_runs(tmp_path: Path, capsys):
    args = at_scale(fig4.Args, "smoke", store=tmp_path / "store", out=tmp_path / "fig4")
    assert fig4.main(args) == 0
    assert "28 parts, 28 to do" in capsys.readouterr().out
    other = at_scale(fig9.Args, "smoke", store=tmp_path / "store", out=tmp_path / "fig9")
    assert fig9.main(other) == 0
    assert "28 parts, 0 to do" in capsys.readouterr().out
    for name, out in (("fig4", args.out), ("fig9", other.out)):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        with (out / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["epoch"] for row in rows} == {"1", "2"}
        assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
        assert "Images at random; 1 seed(s)" in (out / f"{name}.md").read_text()


def test_the_archive_has_to_be_named_and_official(tmp_path: Path):
    args = fig4.Args(store=tmp_path / "store", out=tmp_path / "fig4")
    with pytest.raises(UserError, match=r"^--cifar100: give cifar-100-binary"):
        fig4.main(args)
    write_small_archive(tmp_path / "c.tar.gz", 8, 4)
    with pytest.raises(UserError, match="not 03b5dce01913d631647c71ecec9e9cb8"):
        fig4.main(replace(args, cifar100=tmp_path / "c.tar.gz"))
    with pytest.raises(UserError, match=r"^--networks: give different ones of 3c3d, all-cnn-c"):
        fig4.main(replace(args, networks=("resnet",)))
    with pytest.raises(UserError, match=r"^--optimizers: give different ones of sgd, adam"):
        fig4.main(replace(args, optimizers=("adam", "adam")))
    with pytest.raises(UserError, match=r"^--epochs 0: must be greater"):
        fig4.main(replace(args, epochs=0))
    assert not args.out.exists()


def test_networks_have_the_sizes_of_deepobs():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    small, large = three_c_three_d(), all_cnn_c(padding=0)
    assert small(x).shape == large(x).shape == (2, 100)
    assert sum(p.numel() for p in small.parameters()) == 394_052
    assert sum(p.numel() for p in large.parameters()) == 1_387_108
    assert [p.shape[0] for p in small.parameters()][::2] == [64, 96, 128, 512, 256, 100]
    xavier_init(small, bias=0.1)
    assert all((p == 0.1).all() for p in small.parameters() if p.dim() == 1)
    limit = math.sqrt(6 / (512 + 256))
    assert 0.95 * limit < small[-3].weight.abs().max() <= limit


def test_images_are_moved_mirrored_and_changed_in_colour():
    torch.manual_seed(0)
    pixels = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    pixels[:, :, 10, 5] = 200
    black = normalized(torch.zeros(1, 3, 1, 1))
    places = [
        tuple(x) for x in ((augmented(pixels) - black).abs().sum(1) > 0.05).nonzero().tolist()
    ]
    found = {(row, column) for _, row, column in places if row > 0}
    moved = {(10 + i, 5 + j) for i in range(-2, 3) for j in range(-2, 3)}
    assert moved | {(row, 31 - column) for row, column in moved} <= found
    grey = torch.full((50, 3, 8, 8), 100, dtype=torch.uint8)
    deviation = torch.tensor((0.26733429, 0.25643846, 0.27615047)).view(1, 3, 1, 1)
    shades = (augmented(grey) * deviation + 0)[:, :, 4, 4]
    assert shades.std(0).min() > 0.03  # brightness differs from image to image
    assert (shades[:, 0] + 0.50707516 - shades[:, 1] - 0.48654887).abs().max() < 1e-5  # grey stays


def test_validation_images_are_apart_and_drawn_by_the_seed(tmp_path: Path):
    write_small_archive(tmp_path / "c.tar.gz", 20, 4)
    first, again, other = (split(tmp_path / "c.tar.gz", False, s, "cpu") for s in (1, 1, 2))
    assert len(first.train.labels) == 16 and len(first.valid.labels) == 4
    assert torch.equal(first.valid.pixels, again.valid.pixels)
    assert not torch.equal(first.valid.pixels, other.valid.pixels)
    assert not any(
        (first.train.pixels == image).all((1, 2, 3)).any() for image in first.valid.pixels
    )


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("sgd", 0.1), ("adam", 1e-3), ("adahesscale", 1e-4)]
)
def test_training_learns_what_the_images_show(tmp_path: Path, optimizer: str, rate: float):
    write_small_archive(tmp_path / "c.tar.gz", 60, 40, classes=2)
    data = split(tmp_path / "c.tar.gz", False, 1, "cpu")
    settings = {"epochs": 8, "batch_size": 8, "channels": 4}
    rows = train_run("3c3d", optimizer, rate, 1, data, **settings)
    assert [row.epoch for row in rows] == list(range(1, 9))
    assert rows[-1].test_accuracy > 0.9 and rows[-1].train_loss < rows[0].train_loss
    seconds = [row.seconds for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_a_run_that_diverges_ends_with_a_row_that_says_so(tmp_path: Path):
    write_small_archive(tmp_path / "c.tar.gz", 20, 4)
    data = split(tmp_path / "c.tar.gz", False, 1, "cpu")
    rows = train_run("3c3d", "sgd", 1e20, 1, data, epochs=3, batch_size=8, channels=2)
    assert len(rows) < 3 and math.isnan(rows[-1].train_loss)


def test_accuracy_counts_all_images():
    class Model(torch.nn.Module):
        def forward(self, x):
            return torch.eye(3)[(x[:, 0, 0, 0] > 0).long()]

    pixels = torch.zeros(2500, 3, 2, 2, dtype=torch.uint8)
    pixels[:1000] = 255
    assert accuracy(Model(), Images(pixels, torch.ones(2500, dtype=torch.int64))) == 0.4


def rows_of(network: str, name: str, rate: float, *accuracies: float, seconds: float = 10.0):
    return [
        Row(
            network,
            name,
            rate,
            seed,
            epoch,
            seconds * epoch,
            math.nan if math.isnan(x) else 1.0,
            x,
            x,
        )
        for seed, x in enumerate(accuracies, start=1)
        for epoch in (1, 2)
    ]


def test_the_step_size_is_the_best_on_validation_images_that_no_seed_diverges_with():
    runs = Runs(
        rows_of("3c3d", "adam", 1e-3, 0.3, 0.4)
        + rows_of("3c3d", "adam", 1e-2, 0.9, math.nan)
        + rows_of("3c3d", "sgd", 1e-2, math.nan, math.nan)
    )
    assert runs.best_rate("3c3d", "adam") == 1e-3 and runs.best_rate("3c3d", "sgd") is None
    assert runs.diverged("3c3d", "adam", 1e-2) == 1 and runs.rates("3c3d", "adam") == [1e-3, 1e-2]
    np.testing.assert_array_equal(runs.at_end("3c3d", "adam", 1e-2, "test_accuracy"), [0.9, 0])
    (claim,) = fig9.find_claims(runs)
    assert not claim.holds and claim.found == "at an edge: adam, sgd"


def test_verdicts_follow_from_the_accuracies():
    def verdicts(network: str, **scores: float) -> list[bool | None]:
        rows = []
        for name, score in scores.items():
            seconds = 30 if name == "adahessian" else 10
            rows += rows_of(network, name, 1e-3, score, score + 0.01, score + 0.02, seconds=seconds)
        return [claim.holds for claim in fig4.find_claims(Runs(rows))]

    order = {"adabl89": 0.1, "adahessian": 0.2, "adam": 0.4, "adahesscale": 0.7}
    assert verdicts("3c3d", **order, adahesscalegn=0.9) == [True, True, True]
    assert verdicts("3c3d", **order, adahesscalegn=0.6) == [True, False, True]
    assert verdicts("all-cnn-c", **order, adahesscalegn=0.6) == [True, True, True]
    assert verdicts("3c3d", **order, adahesscalegn=0.7) == [True, None, True]
    assert verdicts("3c3d", adam=0.4, adahesscalegn=0.1) == [False]
