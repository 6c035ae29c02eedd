"""Nodes of a Ray cluster of several hosts that die, or that do not see the sweep's folder."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from hesrl.experiments.sweeps.store import Store
from tests.experiments.sweeps.test_sweep_kills import GRID, PATIENCE, wait_until
from tests.torture.faults import Fault
from tests.torture.hosts import PORT, Host, Network, missing
from tests.torture.kills import other_results, results_of

HOW = ("raylet", "off", "folder")
"""The node's Ray is killed, the node is switched off, a node joins that sees another folder."""


def nodes(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Let a node fail while it runs, and another one join late: the results are those without."""
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
            head, node, late = (network.host(name, folder) for name in ("head", "node", "late"))
            head.head(cpus=0)
            node.join(head)
            if how == "folder":
                lost = _another_folder(head, late, file, out)
                late.off()
            else:
                lost = _node_fails(how, head, node, late, file, out, rng.uniform(0, 2))
            lost = lost or _ended(_sweep(head, file, out), 0, "")
        if not lost:
            with Store.open(out, read_only=True) as store:
                lost = other_results(store.records(), undisturbed)
        yield Fault(lost and f"{how}: {lost}")


def _another_folder(head: Host, late: Host, file: Path, out: Path) -> str:
    """Let a node join that sees a folder of the same name: one line, and no run goes there."""
    elsewhere = out.parent.with_name(f"{out.parent.name}-elsewhere")
    (elsewhere / out.name).mkdir(parents=True)
    late.replace(out.parent, elsewhere)
    late.join(head)
    line = f"error: node {late.address} of the cluster does not see {out} of the sweep's machine"
    lost = _ended(_sweep(head, file, out), 2, line)
    written = [path.name for path in elsewhere.rglob("*") if path != elsewhere / out.name]
    return lost or (f"the other folder has {written}" if written else "")


def _node_fails(
    how: str, head: Host, node: Host, late: Host, file: Path, out: Path, seconds: float
) -> str:
    """Let the node fail some seconds after the first checkpoint; another one does the rest."""
    sweep = _sweep(head, file, out)
    wait_until(lambda: [*out.glob("runs/*/*/checkpoint.pt")])
    time.sleep(seconds)
    if how == "off":
        node.off()
    else:
        node.run("pkill", "-KILL", "raylet")
        wait_until(lambda: not _runs(node))
    late.join(head)
    lost = _ended(sweep, 0, "")
    return lost or ("a run survives its sweep" if _runs(late) else "")


def _sweep(host: Host, file: Path, out: Path) -> subprocess.Popen[str]:
    return host.start(
        sys.executable, "-m", "hesrl.cli", "sweep", file, f"--out={out}",
        "--executor=ray", f"--address={host.address}:{PORT}",
    )  # fmt: skip


def _ended(sweep: subprocess.Popen[str], status: int, line: str) -> str:
    """Return what is wrong with the end of a sweep."""
    _, err = sweep.communicate(timeout=PATIENCE)
    one_line = err.startswith(line) and err.count("\n") == bool(line)
    return "" if (sweep.returncode, one_line) == (status, True) else f"{sweep.returncode}, {err!r}"


def _runs(host: Host) -> bool:
    """Return whether a host runs a trial."""
    return "multiprocessing.forkserver" in host.programs()
