"""The README's example runs, and what it names exists."""

import re
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_example_runs_and_learns():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    first = torch.nn.functional.mse_loss(torch.zeros_like(names["y"]), names["y"])
    assert names["loss"] < 0.5 * first


def test_linked_files_and_folders_exist():
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link
    for folder in re.findall(r"^    (\w+/) ", README, flags=re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
