"""The examples of the documentation run, in the order in which they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from hesrl import losses, optim
from hesrl.cli import parsed
from hesrl.commands import COMMANDS
from hesrl.experiments.sweeps.grid import make_grid

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "curvature.md").read_text()
OPTIMIZERS_PAGE = (ROOT / "docs" / "optimizers.md").read_text()
LOSSES_PAGE = (ROOT / "docs" / "losses.md").read_text()
CHECK = """
from tests import reference
y = (theta - theta.mean(0)).detach().exp().flatten()
expected = reference.hesscale(lambda x: x - x.mean(0), [theta.detach()], 0, y, y)
(h,) = hess_diag(lambda: Center.apply(theta).exp().sum(), [theta])
torch.testing.assert_close(h, expected, rtol=1e-10, atol=1e-12)
"""
LOSSES_CHECK = """
from tests import reference
from tests.losses.data import plain_surrogate


def plain(actor):
    logq = actor(obs).log_softmax(1)
    taken = logq.gather(1, actions[:, None])[:, 0]
    pg_loss = plain_surrogate(taken, old_logprobs, advantages).mean()
    return pg_loss + 0.01 * (logq.exp() * logq).sum(1).mean()


expected = reference.module_hess_diag(actor, plain)
torch.testing.assert_close(actor.weight.hess_diag, expected["weight"], rtol=1e-4, atol=1e-6)
torch.testing.assert_close(actor.bias.hess_diag, expected["bias"], rtol=1e-4, atol=1e-6)
"""


def run_examples(page, check, tmp_path):
    """Run the examples of a page as one script, with a check at the end; return what it prints."""
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    script = tmp_path / "examples.py"
    script.write_text("\n".join([*examples, check]))
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("name", ["your_model", "how_hesscale_works", "choosing", "adding_a_rule"])
def test_the_short_pages_run_and_print_what_they_say(name, capsys):
    page = (ROOT / "docs" / f"{name}.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    script = "\n".join([*examples, CHECK if name == "adding_a_rule" else ""])
    exec(compile(script, name, "exec"), {"__name__": name})
    lines = capsys.readouterr().out.splitlines()
    assert bool(lines) == ("print(" in page)
    assert all(f"    {line}\n" in page for line in lines)


def test_the_curvature_page_runs_and_prints_what_it_says(tmp_path):
    _, *table = run_examples(PAGE, "", tmp_path)
    assert len(table) == 13
    assert all(f"    {line}\n" in PAGE for line in table)


def test_the_optimizers_page_has_every_name():
    for name in optim.known():
        assert f"`{name.removeprefix('scaled-')}`" in OPTIMIZERS_PAGE


def test_the_losses_page_runs(tmp_path):
    (printed,) = run_examples(LOSSES_PAGE, LOSSES_CHECK, tmp_path)
    assert printed == "torch.Size([3, 4]) torch.Size([1, 4])"


def test_the_losses_page_has_every_loss():
    forms = {name for name in losses.__all__ if name.islower()} | {
        name for name in losses.__all__ if name.endswith(("Loss", "Bonus"))
    }
    assert {name for name in forms if f"`{name}`" not in LOSSES_PAGE} == {"ClosedFormLoss"}


def test_the_optimizers_page_runs_and_prints_what_it_says(tmp_path):
    page = (ROOT / "docs" / "optimizers.md").read_text()
    lines = run_examples(page, "", tmp_path)
    assert len(lines) == 5
    assert all(f"    {line}\n" in page for line in lines)


def test_the_train_step_page_runs_and_prints_what_it_says(tmp_path):
    page = (ROOT / "docs" / "train_step.md").read_text()
    (line,) = run_examples(page, "", tmp_path)
    assert f"    {line}\n" in page


def test_the_experiments_page_runs_and_prints_what_it_says(tmp_path):
    page = (ROOT / "docs" / "experiments.md").read_text()
    (content,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    grid = make_grid(yaml.safe_load(content))
    assert len(grid.trials()) == 2 * 2 * 2 * 3 * 5
    printed = run_examples(page, "", tmp_path)
    assert re.findall("^    (done .*)", page, flags=re.MULTILINE) == printed[-2:]


def commands_of(text):
    """Yield the words of each command of hesrl in a page, as the shell has them."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("    hesrl "):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_the_commands_of_a_page_are_commands_with_these_options(path):
    for words in commands_of(path.read_text()):
        name = next(n for n in (" ".join(words[:2]), words[0]) if n in COMMANDS)
        args_class = import_module(COMMANDS[name].module).Args
        _, unknown = parsed(args_class, words[len(name.split()) :])
        assert not unknown, words
