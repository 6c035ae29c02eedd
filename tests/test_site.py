"""The site: a strict build, links that also work in the repository, and computed pictures."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.bench.pictures import PICTURES, layer_diagonals, quadratic_path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CODE = re.compile(r"```.*?```", flags=re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", flags=re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page on GitHub."""
    titles = HEADING.findall(CODE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_in_the_repository(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.skipif(
    importlib.util.find_spec("material") is None
    or importlib.util.find_spec("mkdocstrings") is None,
    reason="needs mkdocs-material and mkdocstrings: pip install -c constraints.txt -e '.[docs]'",
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    run = subprocess.run(
        [*build, "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    home, reference = (
        (tmp_path / name).read_text() for name in ("index.html", "api/optim/index.html")
    )
    assert 'href="first_run/"' in home
    assert 'id="hesrl.optim.AdaHesScale"' in reference and "pictures" not in home
    assert "<code>configs/ppo-ur5.yaml</code>" in (tmp_path / "ur5" / "index.html").read_text()
    assert not list(tmp_path.rglob("*.py"))


def test_the_picture_of_the_paths_shows_what_the_page_says() -> None:
    sgd, adam, scaled = (quadratic_path(name) for name in ("sgd", "adam", "scaled-adahesscale"))
    assert sgd[-1, 0] > 0.5 and sgd[-1, 1].abs() < 1e-6
    assert adam.min() < -0.2
    assert scaled[-1].abs().max() < 1e-6 and scaled.min() > 0


def test_the_picture_of_the_layers_is_exact_in_the_last_one_only() -> None:
    *below, (estimate, exact) = layer_diagonals()
    torch.testing.assert_close(estimate, exact, rtol=1e-10, atol=1e-14)
    assert all((e - x).norm() > 0.1 * x.norm() for e, x in below)


def test_every_picture_is_there_and_used() -> None:
    page = (DOCS / "how_hesscale_works.md").read_text()
    assert all((DOCS / name).is_file() and f"]({name})" in page for name in PICTURES)
