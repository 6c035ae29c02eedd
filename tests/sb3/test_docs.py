"""The examples of the page on Stable-Baselines3 run and print what it says."""

from __future__ import annotations

from tests.test_docs import ROOT, run_examples

ONE_THREAD = "```python\nimport torch\ntorch.set_num_threads(1)\n```\n"


def test_the_page_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "sb3.md").read_text()
    monkeypatch.chdir(tmp_path)
    lines = run_examples(ONE_THREAD + page, "", tmp_path)
    assert len(lines) == 3
    assert all(f"    {line}\n" in page for line in lines)
