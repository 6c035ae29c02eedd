"""`hesrl bench convergence`: the problems, the search for a step size, and the report."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

from hesrl.bench.convergence import Args, find_claims, main
from hesrl.bench.convergence_problems import PROBLEMS, beale, rosenbrock
from hesrl.bench.convergence_runs import (
    OPTIMIZERS,
    Point,
    Training,
    Trial,
    best_of,
    step_size_at,
    to_trials,
    without_curve,
)
from hesrl.errors import UserError
from hesrl.optim import AdaHesScale
from tests.measuring.files import write_digits


@pytest.fixture
def args(tmp_path: Path) -> Args:
    write_digits(tmp_path, 60)
    return Args(mnist=tmp_path, seeds=2, steps=12, out=tmp_path / "out")


@pytest.mark.parametrize(("function", "minimum"), [(rosenbrock, (1.0, 1.0)), (beale, (3.0, 0.5))])
def test_the_minimum_is_where_it_should_be(function, minimum):
    point = torch.tensor(minimum, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(lambda p: function(*p), point)
    hessian = torch.autograd.functional.hessian(lambda p: function(*p), point)
    assert function(*point) == 0 and gradient.abs().max() == 0
    assert torch.linalg.eigvalsh(hessian).min() > 0.1


def test_what_the_report_says_about_the_valley_of_rosenbrock():
    minimum = torch.ones(2, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda p: rosenbrock(*p), minimum)
    scale = hessian.diagonal().rsqrt()
    assert torch.linalg.cond(hessian).item() == pytest.approx(2508, abs=0.5)
    assert torch.linalg.cond(scale[:, None] * hessian * scale).item() == pytest.approx(
        1602, abs=0.5
    )


@pytest.mark.parametrize("name", ["quadratic", "rotated"])
def test_the_quadratics_have_a_condition_number_of_a_million(name):
    instance = PROBLEMS[name].instance(1, None)
    assert instance.judged_loss().item() == pytest.approx(25)
    (gradient,) = torch.autograd.grad(instance.judged_loss(), instance.params, create_graph=True)
    rows = [torch.autograd.grad(g, instance.params, retain_graph=True)[0] for g in gradient]
    hessian = torch.stack(rows)
    assert torch.linalg.cond(hessian).item() == pytest.approx(1e6, rel=1e-6)
    is_diagonal = torch.allclose(hessian, hessian.diagonal().diag(), rtol=0, atol=1e-9)
    assert is_diagonal == (name == "quadratic")
    scale = hessian.diagonal().rsqrt()
    condition = torch.linalg.cond(scale[:, None] * hessian * scale).item()
    assert condition > 9e5 if name == "rotated" else condition == pytest.approx(1)


@pytest.mark.parametrize("name", ["quadratic", "rotated"])
def test_the_noise_has_mean_zero_and_the_size_that_is_stated(name):
    instance = PROBLEMS[name].instance(1, None)
    noises = [(instance.training_loss() - instance.judged_loss()).item() for _ in range(2000)]
    # Along each eigenvector 0.1 √λ n with the parameter at ±1/√λ: a sum of 50 of 0.1 n.
    size = 0.1 * math.sqrt(50)
    assert torch.tensor(noises).std().item() == pytest.approx(size, rel=0.05)
    assert abs(torch.tensor(noises).mean().item()) < 4 * size / math.sqrt(2000)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_seed_is_the_same_for_all_optimizers(name, args):
    runs = [Training(name, optimizer, 10, {}, args.mnist).run(1e-30, 3) for optimizer in OPTIMIZERS]
    assert all([p.loss for p in run] == [p.loss for p in runs[0]] for run in runs)
    other = Training(name, "adahesscale", 10, {}, args.mnist).run(1e-30, 4)
    alike = other[0].loss == runs[0][0].loss
    assert alike == (name in ("quadratic", "rotated"))  # whose loss starts at 25 with any seed


def test_a_run_says_when_it_first_reached_the_threshold_and_how_it_ended():
    run = Training("quadratic", "adahesscale", 40, {}, None).run(0.1, 1)
    instance = PROBLEMS["quadratic"].instance(1, None)
    optimizer = AdaHesScale(instance.params, lr=0.1)
    losses = [instance.judged_loss().item()]
    for _ in range(40):
        optimizer.zero_grad()
        instance.training_loss().backward()
        optimizer.step()
        losses.append(instance.judged_loss().item())
    first = next(step for step, loss in enumerate(losses) if loss <= 0.1)
    trial = Trial("quadratic", "adahesscale", 0.1, [run])
    assert trial.steps == first > 0 and run[-1].step == 40
    assert [p.loss for p in run] == pytest.approx([losses[p.step] for p in run], rel=1e-3)
    assert without_curve(run) == [run[[p.step for p in run].index(first)], run[-1]]


def test_a_run_that_diverges_ends_with_an_infinite_loss():
    run = Training("rosenbrock", "torch-adam", 40, {}, None).run(1e200, 1)
    assert run[-1].loss == math.inf and run[-1].step < 40


def test_the_search_goes_on_while_the_best_lies_at_the_edge(monkeypatch):
    def run(self: Training, step_size: float, seed: int) -> list[Point]:
        loss = 1 + abs(math.log10(step_size / self.options["best"]))
        return [Point("beale", "x", step_size, seed, 1, 0.1, loss)]

    monkeypatch.setattr(Training, "run", run)
    sizes = {
        best: [t.step_size for t in Training("beale", "x", 1, {"best": best}, None).search([1])]
        for best in (0.1, 10.0, 0.001, 1e9)
    }
    assert sizes[0.1] == [0.01, 0.03, 0.1, 0.3, 1.0]
    assert sizes[10.0] == [*sizes[0.1], 3.0, 10.0, 30.0]
    assert sizes[0.001] == [3e-4, 1e-3, 3e-3, *sizes[0.1]]
    assert sizes[1e9][-1] == step_size_at(6) == 1000  # where every search ends


def test_the_best_reaches_the_threshold_most_often_then_soonest_then_ends_lowest():
    def trial(step_size: float, *ends: tuple[int, float]) -> Trial:
        runs = [[Point("beale", "x", step_size, i, *end)] for i, end in enumerate(_timed(ends))]
        return Trial("beale", "x", step_size, runs)

    once, twice = trial(1, (5, 0.0), (9, 1.0)), trial(2, (90, 0.0), (80, 0.0))
    sooner, never = trial(3, (70, 0.0), (60, 0.0)), trial(4, (9, 0.5), (9, math.inf))
    assert best_of([once, twice]) is twice and best_of([twice, sooner]) is sooner
    assert sooner.steps == 65 and sooner.seconds == pytest.approx(0.65)
    assert best_of([never, trial(5, (9, 9.0), (9, 9.0))]).step_size == 5 and never.steps == math.inf


def _timed(ends):
    return [(step, step / 100, loss) for step, loss in ends]


def test_claims_follow_from_the_runs():
    def points(optimizer: str, step: int, seconds: float, loss: float) -> list[Point]:
        start = Point("rosenbrock", optimizer, 1.0, 1, 0, 0.0, 9.0)
        return [start, Point("rosenbrock", optimizer, 1.0, 1, step, seconds, loss)]

    ours = points("adahesscale", 20, 0.2, 0.0)
    rivals = points("torch-adam", 40, 0.1, 0.0), points("adahessian", 10, 0.1, 0.5)
    adam, hessian = find_claims(to_trials(ours + rivals[0] + rivals[1]))
    assert not adam.holds and adam.found == (
        "1 of 1 in 20 steps and 0.2 s against 1 of 1 in 40 steps and 0.1 s: ahead in steps, "
        "behind in seconds; a step takes 4.0 times as long"
    )
    assert hessian.holds and "never, loss 0.5 at the end" in hessian.found
    (behind,) = find_claims(to_trials(ours + points("torch-adam", 10, 0.1, 0.0)))
    assert behind.found.endswith(f"behind in seconds; {PROBLEMS['rosenbrock'].why_not_ahead}")


def test_the_report_has_the_numbers_of_the_data(args: Args, capsys: pytest.CaptureFixture[str]):
    args = replace(
        args, problems=("quadratic", "mnist"), steps=20, optimizers=("torch-adam", "adahesscale")
    )
    assert main(args) == 0
    assert (args.out / "convergence.png").read_bytes().startswith(b"\x89PNG")
    report = (args.out / "convergence.md").read_text()
    assert (
        f"    hesrl bench convergence --problems quadratic mnist --optimizers torch-adam "
        f"adahesscale --mnist {args.mnist} --seeds 2 --steps 20\n" in report
    )
    with (args.out / "convergence.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["problem"] == "quadratic"]
    size = report.split("| noisy quadratic | AdaHesScale | ")[1].split(" |")[0]
    ours = [
        r for r in rows if (r["optimizer"], float(r["step_size"])) == ("adahesscale", float(size))
    ]
    hits = [
        next(int(r["step"]) for r in ours if r["seed"] == seed and float(r["loss"]) <= 0.1)
        for seed in "12"
    ]
    final = median(float(r["loss"]) for r in ours if r["step"] == "20")
    line = report.split("| noisy quadratic | AdaHesScale | ")[1].split("\n")[0]
    assert f"| 2 of 2 | {median(hits):,.0f} | " in line and line.endswith(f"| {final:.2g} |")
    assert "| MNIST | torch Adam | " in report
    capsys.readouterr()
    main(args)
    assert "2 parts, 0 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"steps": 9}, "--steps 9: must be from 10 to"),
        ({"eps": 0.0}, "--eps 0.0: must be greater than zero"),
        ({"delta": -1.0}, "--delta -1.0: must be greater than zero"),
        ({"problems": ()}, "--problems must be different ones of rosenbrock, beale"),
        ({"problems": ("beale", "beale")}, "--problems must be different ones of"),
        ({"optimizers": ("adam",)}, "--optimizers must be different ones of torch-adam"),
        ({"mnist": Path("no-such-folder")}, "--mnist no-such-folder: there is no such"),
    ],
)
def test_impossible_settings_are_refused(args: Args, settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        main(replace(args, **settings))
    assert not args.out.exists()
