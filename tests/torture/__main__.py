"""Try faults in great number and count what was survived: ``make torture``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.curvature.random_graphs.generator import LARGE
from tests.curvature.random_graphs.torture import failures
from tests.torture import cluster, damage, endurance, kills, surroundings
from tests.torture.faults import Fault, Part, read_counts, write_counts

SHOWN = 5
"""Faults of a part that are printed; all of them are counted."""


def graphs(rng: random.Random, count: int, folder: Path) -> Iterator[Fault]:
    """Differentiate random graphs beside an independent reference, in float64."""
    for _ in range(count):
        failed = failures([rng.randrange(10**9)], LARGE, Counter())
        yield Fault("".join(failed))


RESUMES = "resumed to the end, it equals an undisturbed run bit for bit"
ONE_LINE = "one line of error; the last checkpoint goes on"
PARTS = {
    part.name: part
    for part in (
        Part("graphs", "random graph", "curvature equal to 1e-12, or refused", 10_000, graphs),
        Part("training", "`kill -9` of PPO, A2C, streaming", RESUMES, 50, kills.training),
        Part("sweeping", "`kill -9` of a sweep of four runs", RESUMES, 50, kills.sweeping),
        Part("nodes", "node of a Ray cluster that dies or is not set up as the others are",
             "a bad one is named once; equal to a sweep on one machine bit for bit", 6,
             cluster.nodes),
        Part("saving", "`kill -9` while checkpoints are saved", "a whole one", 50, kills.saving),
        Part("exporting", "`kill -9` of an export", "whole files or none", 20, kills.exporting),
        Part(
            "checkpoints", "damaged or forged checkpoint", "refused in one line, no code runs",
            10_000, damage.checkpoints,
        ),
        Part(
            "yaml", "damaged or hostile settings and grids", "one line or read, no code runs",
            10_000, damage.yaml_files,
        ),
        Part(
            "packets", "damaged packet or command of the arm", "read, or refused by name",
            100_000, damage.packets,
        ),
        Part(
            "environments", "NaN, infinity, wrong shape, exception, no memory", ONE_LINE,
            70, surroundings.environments,
        ),
        Part("hanging", "environment that never answers", "Ctrl-C twice; goes on", 10,
             surroundings.hanging),
        Part("disk", "full disk in training", ONE_LINE, 20, surroundings.disks),
        Part("read-only", "folder that cannot be written", "one line", 10,
             surroundings.read_only),
        Part(
            "endurance", "step of a long run", "memory and open files stay", 2_000_000,
            endurance.long_runs,
        ),
    )
}  # fmt: skip


def try_part(part: Part, count: int, seed: int, folder: Path) -> dict[str, object]:
    """Try the faults of a part, print what was lost, and return its row of the table."""
    tried = lost = 0
    folder.mkdir()
    for fault in part.run(random.Random(seed), count, folder):
        tried += 1
        if fault.lost:
            lost += 1
            if lost <= SHOWN:
                print(f"{part.name}: {fault.lost}", flush=True)
    return {
        "part": part.name, "faults": part.faults, "survived_means": part.survived,
        "tried": tried, "survived": tried - lost, "lost": lost,
    }  # fmt: skip


def main() -> int:
    """Try the parts, write a row of the table after each, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="these parts")
    parser.add_argument("--share", type=float, default=1.0, help="of the faults of each part")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    parser.add_argument("--out", type=Path, help="table to write; other parts stay in it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = read_counts(args.out) if args.out else {}
    status = 0
    for name in args.only:
        begin, count = time.monotonic(), max(1, round(args.share * PARTS[name].count))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
            rows[name] = try_part(PARTS[name], count, args.seed, Path(scratch) / name)
        took = time.monotonic() - begin
        print(
            "{part}: {tried} tried, {lost} lost".format(**rows[name]),
            f"in {took:.0f} s",
            flush=True,
        )
        status |= bool(rows[name]["lost"])
        if args.out:
            write_counts(args.out, rows)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
