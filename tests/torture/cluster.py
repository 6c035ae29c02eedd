"""Nodes of a Ray cluster of several hosts that die, or that are not set up as the others are."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

import hesrl
from hesrl.experiments.sweeps.store import Store
from tests.experiments.sweeps.test_sweep_kills import GRID, PATIENCE, wait_until
from tests.torture.faults import Fault
from tests.torture.hosts import PORT, Host, Network, missing
from tests.torture.kills import other_results, results_of

BAD = {
    "folder": "does not see {out} of the sweep's machine: give an --out on a file system that all",
    "code": "has code of hesrl ",
    "hesrl": "cannot run hesrl: ModuleNotFoundError: No module named 'hesrl",
}
"""What a node is, in which something is wrong, and what the sweep says of the node."""
HOW = ("raylet", "off", *BAD, "alone")
"""The node's Ray is killed, the node is switched off, a node joins that is not set up as the others
are, and such a node is there alone."""


def nodes(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Let a node fail or be badly set up, and another one join: the results are those without."""
    if reason := missing():
        print(f"nodes: skipped: {reason}", flush=True)
        return
    file = folder / "grid.yaml"
    file.write_text(yaml.safe_dump(GRID | {"test_seeds": [1, 2]}))
    undisturbed = results_of(file, folder / "undisturbed")
    for number in range(count):
        how, out = HOW[number % len(HOW)], folder / str(number) / "out"
        out.parent.mkdir()
        with Network() as network:
            head, node, other = (network.host(name, folder) for name in ("head", "node", "other"))
            head.head(cpus=0)
            if how == "alone":
                lost = _alone(head, node, other, file, out)
            elif how in BAD:
                lost = _badly_set_up(how, head, node, other, file, out)
            else:
                lost = _node_fails(how, head, node, other, file, out, rng.uniform(0, 2))
            lost = lost or _ended(_sweep(head, file, out), 0)
        if not lost:
            with Store.open(out, read_only=True) as store:
                lost = other_results(store.records(), undisturbed)
        yield Fault(lost and f"{how}: {lost}")


def _badly_set_up(how: str, head: Host, node: Host, bad: Host, file: Path, out: Path) -> str:
    """Let a bad node be there: it is named once, and the other node runs everything."""
    elsewhere = _spoil(how, bad, out)
    bad.join(head, cpus=2)
    node.join(head)
    line = f"left out: node {bad.address} of the cluster {BAD[how].format(out=out)}"
    lost = _ended(_sweep(head, file, out), 0, named=line)
    return lost or _written(elsewhere)


def _alone(head: Host, bad: Host, node: Host, file: Path, out: Path) -> str:
    """Let all nodes be bad: one line; with another node instead the same command goes on."""
    elsewhere = _spoil("folder", bad, out)
    bad.join(head, cpus=2)
    line = f"error: node {bad.address} of the cluster {BAD['folder'].format(out=out)}"
    lost = _ended(_sweep(head, file, out), 2, line)
    bad.run("pkill", "-KILL", "raylet")
    node.join(head)
    return lost or _written(elsewhere)


def _spoil(how: str, bad: Host, out: Path) -> Path:
    """Let a host see something else than the other hosts do, and return the folder with it."""
    package = Path(hesrl.__path__[0])
    elsewhere = out.parent.with_name(f"{out.parent.name}-elsewhere")
    elsewhere.mkdir()
    if how == "folder":
        (elsewhere / out.name).mkdir()
        bad.replace(out.parent, elsewhere)
    elif how == "code":
        (elsewhere / "errors.py").write_text((package / "errors.py").read_text() + "OTHER = True")
        bad.replace(package / "errors.py", elsewhere / "errors.py")
    else:
        bad.replace(package, elsewhere)
    return elsewhere


def _written(elsewhere: Path) -> str:
    """Return what is wrong with the folder that a bad node sees: runs."""
    runs = [path.name for path in elsewhere.rglob("runs")]
    return f"{elsewhere} has {runs}" if runs else ""


def _node_fails(
    how: str, head: Host, node: Host, late: Host, file: Path, out: Path, seconds: float
) -> str:
    """Let the node fail some seconds after the first checkpoint; another one does the rest."""
    node.join(head)
    sweep = _sweep(head, file, out)
    wait_until(lambda: [*out.glob("runs/*/*/checkpoint.pt")])
    time.sleep(seconds)
    if how == "off":
        node.off()
    else:
        node.run("pkill", "-KILL", "raylet")
        wait_until(lambda: not _runs(node))
    late.join(head)
    lost = _ended(sweep, 0)
    return lost or ("a run survives its sweep" if _runs(late) else "")


def _sweep(host: Host, file: Path, out: Path) -> subprocess.Popen[str]:
    return host.start(
        sys.executable, "-m", "hesrl.cli", "sweep", file, f"--out={out}",
        "--executor=ray", f"--address={host.address}:{PORT}",
    )  # fmt: skip


def _ended(sweep: subprocess.Popen[str], status: int, line: str = "", named: str = "") -> str:
    """Return what is wrong with the end of a sweep: its status, its error or what it says."""
    out, err = sweep.communicate(timeout=PATIENCE)
    one_line = err.startswith(line) and err.count("\n") == bool(line)
    said = [text for text in out.splitlines() if text.startswith("left out: ")]
    once = len(said) == bool(named) and all(text.startswith(named) for text in said)
    right = sweep.returncode == status and one_line and once
    return "" if right else f"{sweep.returncode}, {err!r}, {said}"


def _runs(host: Host) -> bool:
    """Return whether a host runs a trial."""
    return "multiprocessing.forkserver" in host.programs()
