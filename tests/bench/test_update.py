"""The benchmarks of one update run all contenders and print a ratio for each."""

import csv
import re
from itertools import product

import pytest

from hesrl.bench import memory, update
from hesrl.errors import UserError
from tests.bench import pages


def rows(out: str) -> list[tuple[str, str]]:
    return re.findall(r"│ (\w+(?: \w+)?) +│.*?│ (\d+\.\d\d) +│", out)


def test_the_time_of_an_update(capsys, tmp_path):
    file = tmp_path / "new" / "update.csv"
    assert update.main(update.Args(tasks=("ppo", "ppo-fused"), rounds=1, out=file)) == 0
    found = rows(capsys.readouterr().out)
    with file.open() as table:
        ratios = [(row["optimizer"], float(row["ratio"])) for row in csv.DictReader(table)]
    assert [(name, f"{ratio:.2f}") for name, ratio in ratios] == found
    assert [name for name, _ in found] == [*update.contenders("ppo")] * 2
    assert {*update.contenders("ppo")} == {*update.CONTENDERS, update.BESIDE}
    assert [ratio for name, ratio in found if name == update.BASELINE] == ["1.00", "1.00"]


def test_the_memory_of_an_update(capsys, tmp_path):
    # What this process holds is not the contenders'.
    held = update.torch.ones(1 << 28, dtype=update.torch.uint8)
    assert memory.main(memory.Args(batch_size=2, updates=1, out=tmp_path / "m.csv")) == 0
    out = capsys.readouterr().out
    assert [name for name, _ in rows(out)] == [*update.CONTENDERS]
    peaks = [int(peak) for peak in re.findall(r"│ (\d+) +│", out)]
    assert min(peaks) > 10 and max(peaks) == peaks[-1]  # AdaHessian differentiates the gradient
    with (tmp_path / "m.csv").open() as table:
        written = [float(row["peak_mib"]) for row in csv.DictReader(table)]
    assert written == pytest.approx(peaks, abs=0.55)  # both are rounded, to tenths and to whole MiB
    assert held.all()


@pytest.fixture(autouse=True)
def subnormal_numbers_as_before():
    yield
    update.torch.set_flush_denormal(False)


@pytest.fixture
def interpreted(monkeypatch):
    """Run what would be compiled one operation after the other."""

    def interpret(graph, inputs, fixed):
        return update.torch.no_grad()(lambda tensors: graph(*tensors))

    monkeypatch.setattr("hesrl.train_step.recorded_step.compiled", interpret)


def test_compiled_contenders_stand_beside_the_others(interpreted, capsys):
    assert update.main(update.Args(tasks=("ppo-minibatch",), rounds=1)) == 0
    out = capsys.readouterr().out
    assert [name for name, _ in rows(out)] == [*update.contenders("ppo-minibatch")]
    assert re.search(r"compiled AdaHesScale / compiled Adam: \d+\.\d\d", out)


def test_a_step_that_is_not_compiled_is_not_reported_as_one(monkeypatch):
    def fail(graph, inputs, fixed):
        raise RuntimeError("no compiler")

    monkeypatch.setattr("hesrl.train_step.recorded_step.compiled", fail)
    with pytest.raises(UserError, match="RuntimeError: no compiler; leave out --tasks ppo-minib"):
        update.main(update.Args(tasks=("ppo-minibatch",), rounds=1))


@pytest.mark.parametrize(
    ("task", "name"),
    [
        *product(["ppo", "ppo-fused"], update.CONTENDERS),
        *product(["ppo-minibatch"], update.COMPILED),
    ],
)
def test_every_contender_lowers_the_loss(interpreted, name, task):
    update.torch.manual_seed(0)
    model, loss = update.TASKS[task]()
    step, before = update.contenders(task)[name](model, loss), loss().item()
    for _ in range(100):
        step()
    assert loss().item() < before - 0.01


@pytest.mark.parametrize("settings", [{"tasks": ("mnist",)}, {"tasks": ()}, {"rounds": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(
        UserError, match="--tasks must be among ppo, ppo-fused, ppo-minibatch, wide"
    ):
        update.main(update.Args(**settings))


def test_no_images_are_refused():
    with pytest.raises(UserError, match="--batch-size and --updates must be at least 1"):
        memory.main(memory.Args(batch_size=0))


@pytest.mark.parametrize("name", pages.TABLES)
def test_the_page_has_the_numbers_of_the_files(name):
    assert pages.TABLES[name]() in (pages.ROOT / name).read_text()
    page = (pages.ROOT / "docs" / "curvature.md").read_text()
    assert pages.unarmed_sentence() in " ".join(page.split())


def test_the_files_have_every_contender():
    expected = [(task, name) for task in update.TASKS for name in update.contenders(task)]
    assert [(row["task"], row["optimizer"]) for row in pages.read("update.csv")] == expected
    assert [row["optimizer"] for row in pages.read("memory.csv")] == [*update.CONTENDERS]


def test_the_table_of_a_page_is_replaced_and_nothing_else():
    page = "before\n\n| a | b |\n|---|---:|\n| x | 1 |\n\nafter\n\n| c | d |\n| y | 2 |\n"
    table = "| a | b |\n| --- | ---: |\n| x | 3 |\n"
    assert pages.written(page, table) == page.replace("|---|---:|\n| x | 1 |\n", table[10:])
    with pytest.raises(AssertionError, match="0 tables begin with"):
        pages.written("", table)
