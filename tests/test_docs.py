"""The examples of the documentation run, in the order in which they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "curvature.md").read_text()
CHECK = """
from tests import reference
y = theta.detach().cumprod(1).exp().flatten()
expected = reference.hesscale(lambda x: x.cumprod(1), [theta.detach()], 0, y, y)
(h,) = hess_diag(lambda: theta.cumprod(1).exp().sum(), [theta])
torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-12)
"""


def test_the_curvature_page_runs_and_prints_what_it_says(tmp_path):
    examples = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    script = tmp_path / "examples.py"
    script.write_text("\n".join([*examples, CHECK]))
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    _, *table = run.stdout.splitlines()
    assert len(table) == 10
    assert all(f"    {line}\n" in PAGE for line in table)
