"""The benchmark of exact diagonals, beside BackPACK or a stand-in, and the page's numbers."""

from __future__ import annotations

import csv
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hesrl.bench import exact
from hesrl.errors import UserError

DOCS = Path(__file__).parents[2] / "docs"
SMALL = "784-32-10 relu"


@pytest.fixture(autouse=True)
def one_quick_model(monkeypatch):
    monkeypatch.setattr(exact, "PROBLEMS", {SMALL: exact.PROBLEMS[SMALL]})
    monkeypatch.setattr(exact, "processor_seconds", lambda way: way() and 0.5)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("beside", [False, True])
def test_the_table_and_the_file(beside, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(exact.importlib.util, "find_spec", lambda name: beside or None)
    monkeypatch.setattr(exact, "_backpack", exact._ours)
    assert exact.main(exact.Args(rounds=1, out=tmp_path / "new" / "exact.csv")) == 0
    with (tmp_path / "new" / "exact.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["hessian", "ggn"]
    theirs = ("500.00", "1.00") if beside else ("", "")
    assert [(row["backpack_ms"], row["ratio"]) for row in rows] == [theirs] * 2
    assert (exact.INSTALL in capsys.readouterr().out.replace("\n", " ")) == (not beside)


def test_other_diagonals_are_an_error(monkeypatch):
    """Of a stand-in for BackPACK that says 0."""
    models = []

    @contextmanager
    def backpack(extension):
        yield
        for p in models[0].parameters():
            setattr(p, extension.savefield, torch.zeros_like(p))

    def extend(module):
        models.append(module)
        return module

    extensions = SimpleNamespace(DiagHessian=lambda: SimpleNamespace(savefield="diag_h"))
    monkeypatch.setitem(sys.modules, "backpack", SimpleNamespace(extend=extend, backpack=backpack))
    monkeypatch.setitem(sys.modules, "backpack.extensions", extensions)
    with pytest.raises(RuntimeError, match="relu, hessian: hesrl and BackPACK give other diag"):
        exact.compare(SMALL, "hessian", 1, beside=True)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="--rounds must be at least 1"):
        exact.main(exact.Args(rounds=0))


def test_the_page_has_the_numbers_of_the_file():
    page = (DOCS / "curvature.md").read_text()
    with (DOCS / "exact.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    for row in rows:
        cells = row["hesrl_ms"], row["backpack_ms"], row["ratio"]
        line = f"| {row['model']} | {row['method']} | {' | '.join(cells)} |"
        assert line in page
