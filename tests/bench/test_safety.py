"""`hesrl bench safety`: each network is a row, and the largest ratios are printed."""

import math

import pytest
import torch

from hesrl.bench import safety
from hesrl.bench.coverage import LIBRARIES, Library
from hesrl.bench.safety import Args, Row, compare, distances, main, unsafe
from hesrl.bench.safety_cases import all_cases
from hesrl.errors import UserError
from hesrl.measuring.tables import read_csv
from hesrl.optim import AdaHesScale
from tests.bench import small_models

TWO = {key: all_cases()[key] for key in [("linear", "L1"), ("tanh", "MSE")]}


def four():
    return ["good", "missing", "crash", "broken"]


def unbounded(params):
    return AdaHesScale(params, lr=1e-3, adam_bound=math.inf)


def test_each_network_and_loss_is_a_row(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(safety, "all_cases", lambda: TWO)
    assert main(Args(steps=10, out=tmp_path / "new" / "safety.csv")) == 0
    rows = [
        Row(*r) for r in read_csv(tmp_path / "new" / "safety.csv", dict.fromkeys(Row._fields, str))
    ]
    assert [(row.source, row.network, row.loss, row.result) for row in rows] == [
        ("hesrl", "linear", "L1", "ok"),
        ("hesrl", "tanh", "MSE", "ok"),
    ]
    assert all(0 < float(row.first) < 10 and 0 < float(row.all) < 10 for row in rows)
    assert "| hesrl | 2 |" in capsys.readouterr().out


def test_a_step_without_a_bound_is_far():
    row = compare(Row("hesrl", "linear", "L1"), [TWO["linear", "L1"]], unbounded, 1e-3, 6)
    assert row.result == "ok" and float(row.all) > 1000 and row.parameter in ("weight", "bias")
    assert [line[:20] for line in unsafe([row])] == ["hesrl, linear, L1: o"]


def test_families_of_libraries_are_rows(monkeypatch, tmp_path):
    local = Library("torch", ("torch",), four, small_models.find)
    monkeypatch.setitem(LIBRARIES, "torch", local)
    monkeypatch.setattr(safety, "all_cases", dict)
    args = Args(steps=2, libraries=("torch",), timeout=60.0, out=tmp_path / "safety.csv")
    main(args)
    rows = [Row(*r) for r in read_csv(tmp_path / "safety.csv", dict.fromkeys(Row._fields, str))]
    assert {row.network: row.result for row in rows} == {
        "good": "ok",
        "missing": "missing",
        "crash": "crash",
        "broken": "no model",
    }


def test_a_distance_is_the_largest_on_the_way():
    """And not the one at the end: a step forth and a step back."""
    case = TWO["linear", "L1"]()

    class Forth(torch.optim.SGD):
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data += 1.0 if self.state.setdefault(p, {"n": 0})["n"] % 2 == 0 else -1.0
                    self.state[p]["n"] += 1

    first, farthest = distances(case, Forth(case.model.parameters(), lr=1.0), 8)
    expected = [math.sqrt(p.numel()) for p in case.model.parameters()]
    torch.testing.assert_close(torch.tensor(first), torch.tensor(expected))
    assert first == farthest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "adamm"}, "--optimizer adamm: choose one of sgd, adam"),
        ({"optimizer": "kfac"}, "--optimizer kfac: choose one of"),
        ({"optimizer": "adaggnmc"}, "--optimizer adaggnmc: choose one of"),
        ({"steps": 0}, "--steps 0: must be from 1"),
        ({"adam_bound": -1.0}, r"--adam-bound -1.0: must be greater than zero"),
        ({"libraries": ("numpy",)}, "--libraries numpy: must be among torchvision"),
    ],
)
def test_bad_settings_are_refused(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        main(Args(**given, out=tmp_path / "safety.csv"))
    assert not list(tmp_path.iterdir())
