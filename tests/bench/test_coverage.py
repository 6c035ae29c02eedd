"""Families of a library are run one by one, and each leaves a row, whatever happens to it."""

import pytest
import torch
from torch import nn

from hesrl.bench import coverage
from hesrl.bench.coverage import Args, Library, read_rows, run_families
from hesrl.bench.coverage_examine import examine
from hesrl.bench.coverage_inputs import case_of, loss_of, tensors_of
from hesrl.curvature import register_rule
from hesrl.errors import UserError
from hesrl.optim import AdaHesScale
from tests.bench import small_models

LOCAL = Library("local", ("torch",), small_models.families, small_models.find)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The rows of all families, and where they were written."""
    path = tmp_path_factory.mktemp("coverage") / "new" / "coverage.csv"
    args = Args(out=path, timeout=200.0, rounds=1, families=tuple(FOUND))
    return {row.family: row for row in run_families([LOCAL], args, [])}, path


FOUND = {"good": "ok", "missing": "missing", "crash": "crash", "broken": "no model"}


def test_each_family_has_a_row(table):
    rows, _ = table
    assert {family: row.result for family, row in rows.items()} == FOUND


def test_a_good_family_is_compared_and_timed(table):
    row = table[0]["good"]
    assert (row.library, row.model, row.parameters) == ("local", "Net good", "26")
    assert (row.gradient_equal, row.not_finite, row.detail) == ("True", "0", "")
    assert 0.1 < float(row.time_ratio) < 100 and 1 < float(row.memory_ratio) < 5


def test_all_missing_operations_are_named(table):
    assert table[0]["missing"].missing == "OtherBackward UnknownBackward"


def test_a_crash_is_a_row_with_its_exit_status(table):
    assert table[0]["crash"].detail == "exit status 7"


def test_what_a_model_says_of_its_own_failure_is_one_line(table):
    assert table[0]["broken"].detail == "ValueError: needs"


def test_the_table_has_all_rows(table):
    rows, path = table
    assert read_rows(path) == list(rows.values())


def test_a_family_that_takes_too_long_is_a_row(tmp_path):
    args = Args(out=tmp_path / "t.csv", timeout=0.5, rounds=0, families=("slow",))
    (row,) = run_families([LOCAL], args, [])
    assert (row.result, row.detail) == ("timeout", "more than 0.5 s")


def test_rows_are_written_one_by_one_and_kept_when_resumed(tmp_path):
    path = tmp_path / "t.csv"
    args = Args(out=path, rounds=0, families=("good", "missing"))
    rows = run_families([LOCAL], args, [])
    assert next(rows).family == "good"
    rows.close()  # stopped
    (before,) = read_rows(path)
    (after,) = run_families([LOCAL], args, [before])
    assert after.family == "missing"
    assert read_rows(path) == [before, after]


def test_the_first_attempt_that_runs_is_taken():
    row = examine("local", "good", small_models.find_second("good"), 0)
    assert (row.model, row.result) == ("Net good", "ok")


def test_a_gradient_that_differs_by_itself_counts_for_nothing():
    row = examine("local", "random", small_models.find("random"), 0)
    assert (row.result, row.detail) == ("no model", "the native gradient differs from run to run")


def test_a_wrong_gradient_is_an_error(monkeypatch):
    """Here a hook of a parameter stands for it that only an armed model has."""

    class Changing(AdaHesScale):
        def __init__(self, params, lr):
            super().__init__(params, lr)
            self.param_groups[0]["params"][0].register_hook(lambda g: g + 1)

    monkeypatch.setattr("hesrl.bench.coverage_examine.AdaHesScale", Changing)
    row = examine("local", "good", small_models.find("good"), 0)
    assert (row.result, row.gradient_equal) == ("error", "False")


def test_a_curvature_that_is_not_finite_is_counted():
    class Infinite(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    register_rule(Infinite)(lambda node, grad, hess: torch.full_like(hess, torch.inf))

    def build():
        torch.manual_seed(0)
        return case_of("net", small_models.Net(Infinite.apply), torch.randn(5, 3))

    row = examine("local", "infinite", [build], 0)
    assert (row.result, row.gradient_equal, row.not_finite) == ("error", "True", "16")


def test_losses_of_outputs():
    x = torch.ones(2, 3, requires_grad=True)
    assert loss_of({"loss": x.sum(), "logits": x}).item() == 6
    torch.testing.assert_close(loss_of(x), torch.tensor(3.0).log())
    assert loss_of((x[None], [3, None, x[0]])).item() == 2
    assert len(tensors_of({"a": [x, x], "b": (x[0],), "c": nn.Linear(1, 1)})) == 2
    with pytest.raises(RuntimeError, match="no gradient"):
        loss_of(x.detach())


def test_the_summary_counts_what_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coverage, "LIBRARIES", {"local": LOCAL, "absent": LOCAL})
    monkeypatch.setattr(coverage.importlib.util, "find_spec", lambda name: name == "local" or None)
    path = tmp_path / "t.csv"
    families = ("good", "missing", "broken")
    args = Args(libraries=("local", "absent"), families=families, out=path, rounds=0)
    assert coverage.main(args) == 0
    out = capsys.readouterr().out
    assert "absent is not installed and left out: pip install absent" in out
    assert "local missing: missing OtherBackward UnknownBackward" in out
    (line,) = (line for line in out.splitlines() if line.startswith("│ local"))
    assert line.split("│")[2:6] == [" 2        ", " 1  ", " 1       ", " 0     "]
    assert "│ UnknownBackward          │ 1        │" in out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"libraries": ("torchvison",)}, "--libraries torchvison: must be among torchvision"),
        ({"rounds": -1}, "--rounds -1: must be at least 0"),
        ({"timeout": 0.0}, "--timeout 0.0: must be greater than zero"),
        ({"libraries": ("local",), "families": ("goad",)}, "no family goad"),
    ],
)
def test_mistakes(settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr(coverage, "LIBRARIES", {**coverage.LIBRARIES, "local": LOCAL})
    monkeypatch.setattr(coverage.importlib.util, "find_spec", lambda name: name == "local" or None)
    with pytest.raises(UserError, match=message):
        coverage.main(Args(out=tmp_path / "t.csv", **settings))
    assert not (tmp_path / "t.csv").exists()


def test_another_table_is_not_overwritten(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a table of hesrl bench coverage"):
        read_rows(path)
