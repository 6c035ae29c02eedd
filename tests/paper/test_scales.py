"""``--scale`` of the figures that need no grid: whole commands in small, and what it stands for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from hesrl.cli import main
from hesrl.settings import at_scale, defaults_for
from tests.measuring.files import write_digits

FIGURES = ("fig2", "table1", "fig7", "fig8")


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_runs_in_seconds(figure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    digits = []
    if figure in ("fig2", "table1"):
        write_digits(tmp_path, 60)
        digits = ["--mnist", str(tmp_path)]
    words = ["paper", figure, "--scale", "smoke", "--out", str(tmp_path / figure), *digits]
    assert main(words) == 0
    page = (tmp_path / figure / f"{figure}.md").read_text()
    assert f"    hesrl paper {figure} --scale smoke" in page
    assert "parts, " in capsys.readouterr().out


@pytest.mark.parametrize("figure", FIGURES)
def test_the_scale_of_the_paper_is_what_no_option_gives(figure: str):
    args_class = import_module(f"hesrl.paper.{figure}").Args
    assert at_scale(args_class, "paper") == args_class()
    assert at_scale(args_class, "small") != at_scale(args_class, "smoke") != args_class()
    assert defaults_for(args_class, ["--jobs", "2"]) is None
    for words in (["--scale", "small"], ["--scale=small"]):
        assert defaults_for(args_class, [*words, "--out", "x"]) == at_scale(args_class, "small")


def test_what_is_given_counts_more_than_the_scale(tmp_path: Path):
    out = tmp_path / "fig8"
    words = ["paper", "fig8", "--updates", "7", "--scale=smoke", "--out", str(out)]
    assert main(words) == 0
    page = (out / "fig8.md").read_text()
    assert "mean of 7 updates" in page and "64–8–K" in page


def test_an_unknown_scale_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["paper", "fig8", "--scale", "tiny"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: invalid choice 'tiny'") and err.count("\n") == 1
