"""The notebook runs from its first cell to its last."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_notebook_runs_and_shows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = "pip install -c constraints.txt -e '.[docs]' brings what runs notebooks"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's packages about each other
        nbformat = pytest.importorskip("nbformat", reason=needed)
        nbclient = pytest.importorskip("nbclient", reason=needed)
        pytest.importorskip("ipykernel", reason=needed)
        notebook = nbformat.read(DOCS / "curvature.ipynb", as_version=4)
        paths = [str(DOCS.parent), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        monkeypatch.setenv("IPYTHONDIR", os.devnull)
        monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in shown)
    assert "AddmmBackward0" in printed
    assert "relative error below 1e-5: True" in printed
    assert "image/png" in shown[-1]["data"]
