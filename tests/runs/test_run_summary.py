"""The summary as JSON and on the screen."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from hesrl.runs.summary import print_summary, write_summary


def test_summary_is_strict_json(run):
    summary = {
        "steps": np.int64(200_000),
        "returns": (1.5, float("nan")),
        "best": {"return": np.float32(2.5), "loss": float("inf")},
        "note": None,
    }
    write_summary(run, summary)
    assert json.loads(run.summary.read_text()) == {
        "steps": 200_000,
        "returns": [1.5, None],
        "best": {"return": 2.5, "loss": None},
        "note": None,
    }


def test_a_summary_that_json_lacks_writes_nothing(run):
    with pytest.raises(TypeError, match="object"):
        write_summary(run, {"x": object()})
    assert not run.summary.exists()


def test_table_shows_results_and_the_tensorboard_command(run):
    console = Console(file=io.StringIO(), width=60)
    summary = {"evaluation return": 1132.123456, "loss": 0.00123456, "seed": 3, "path": "[red]x"}
    print_summary(run, summary | {"each": [1.0, 2.5]}, console)
    *table, command = console.file.getvalue().splitlines()
    rows = [[cell.strip() for cell in row.split("│")[1:3]] for row in table[1:-1]]
    assert rows == [
        ["evaluation return", "1132.1"],
        ["loss", "0.001235"],
        ["seed", "3"],
        ["path", "[red]x"],
        ["each", "1, 2.5"],
    ]
    assert command == f"tensorboard --logdir {run.path.parent}"
