"""What imports what: no circles, one direction, an engine that needs PyTorch and NumPy only."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import hesrl

ROOT = Path(__file__).parents[1]

ENGINE = """
import re
import sys
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader


def with_requirements(*distributions):
    found = set()
    todo = list(distributions)
    while todo:
        name = re.sub("[-_.]+", "-", todo.pop()).lower()
        if name not in found:
            found.add(name)
            try:
                requirements = metadata.requires(name) or ()
            except metadata.PackageNotFoundError:
                continue
            todo += [re.match("[A-Za-z0-9_.-]+", r)[0] for r in requirements if "extra ==" not in r]
    return found


class Blocker(Loader, MetaPathFinder):
    allowed = with_requirements("torch", "numpy")
    owners = {}  # `metadata.packages_distributions` of Python 3.10 does not find all
    for distribution in metadata.distributions():
        for top in {file.parts[0].removesuffix(".py") for file in distribution.files or ()}:
            owners.setdefault(top, set()).add(distribution.name)

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        owners = {re.sub("[-_.]+", "-", owner).lower() for owner in self.owners.get(top, ())}
        if owners and top != "hesrl" and not owners & self.allowed:
            return spec_from_loader(name, self)  # PyTorch may ask whether a package is there
        return None

    def exec_module(self, module):
        raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)


sys.meta_path.insert(0, Blocker())
for name in ("gymnasium", "matplotlib", "stable_baselines3", "tyro", "yaml"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} is not blocked")

import torch
from torch import nn

import hesrl.curvature
import hesrl.losses
import hesrl.optim
import hesrl.train_step
from hesrl import AdaHesScale, TrainStep, explain, hess_diag
from hesrl.losses import ValueLoss

net, loss_of = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), ValueLoss()
batch = torch.randn(8, 3), torch.randn(8)


def loss_fn(obs, returns):
    loss = loss_of(net(obs)[:, 0], returns)
    return loss, (loss.detach(),)


hess_diag(loss_fn(*batch)[0], list(net.parameters()))
explain(loss_fn(*batch)[0], net)
step = TrainStep(loss_fn, AdaHesScale(net.parameters()))
for _ in range(3):
    step(batch, torch.arange(4))
print(step.tier)
"""


def imports() -> dict[str, set[str]]:
    """For each module of the project those that it imports, wherever in its code."""
    files = {}
    for folder, package in (("hesrl", "hesrl"), ("agents", "hesrl.agents"), ("envs", "hesrl.envs")):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            files[".".join((package, *parts))] = path
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= {name if name in files else str(node.module) for name in full}
        found[module] = named & files.keys()
    return found


def test_no_modules_import_each_other_in_a_circle():
    TopologicalSorter(imports()).prepare()


COMMANDS = {"bench", "examples", "experiments", "paper"}
"""Rooms of commands, which the rest of the library does not know."""

MAY_NOT_IMPORT = {
    "bench": COMMANDS - {"bench"},
    "examples": COMMANDS - {"examples"} | {"agents"},
    "experiments": COMMANDS - {"experiments"},
    "paper": COMMANDS - {"experiments", "paper"},
    "measuring": COMMANDS | {"agents", "curvature", "envs", "optim", "rl", "sb3"},
    "runs": COMMANDS | {"agents", "curvature", "envs", "measuring", "optim", "rl", "sb3"},
}


def room(module: str) -> str:
    """``paper`` for ``hesrl.paper.fig2``."""
    return module.split(".")[1] if "." in module else module


def test_commands_are_imported_in_one_direction():
    pairs = [(module, name) for module, names in imports().items() for name in names]
    assert ("hesrl.paper.fig7", "hesrl.experiments.sweeps.executors") in pairs
    wrong = [
        (module, name)
        for module, name in pairs
        if room(name) in MAY_NOT_IMPORT.get(room(module), COMMANDS)
    ]
    assert wrong == []


def test_the_engine_needs_pytorch_and_numpy_only():
    run = subprocess.run(
        [sys.executable, "-c", ENGINE], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "replayed"


def test_commands_that_learn_nothing_do_not_wait_for_pytorch():
    """Reports, curves and what moves or emulates an arm start in half a second, not in three."""
    code = """
import sys
from importlib import import_module
import hesrl.cli
from hesrl.commands import COMMANDS
for name, command in COMMANDS.items():
    if name in ("plot curves", "report") or name.startswith("ur5 ") and name != "ur5 timing":
        import_module(command.module)
        assert not {"torch", "scipy.stats", "matplotlib", "mujoco"} & sys.modules.keys(), name
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_hesrl_exports_the_names_of_the_readme_at_their_first_use():
    names = {name for name in hesrl.__all__ if getattr(hesrl, name) is not None}
    assert names >= {"AdaHesScale", "SGD", "TrainStep", "explain", "hess_diag", "__version__"}
    lazy = "import sys, hesrl; hesrl.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lazy], cwd=ROOT).returncode == 0
    assert not hasattr(hesrl, "no_such_name")
