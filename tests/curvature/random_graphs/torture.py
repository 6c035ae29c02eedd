"""Random graphs by their seeds: ``python -m tests.curvature.random_graphs.torture --seed 0``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable

import torch

from tests.curvature.random_graphs.compare import verdict
from tests.curvature.random_graphs.generator import LARGE, SMALL, Size, random_program


def failures(seeds: Iterable[int], size: Size, counts: Counter[str]) -> list[str]:
    """Run the graphs of some seeds.

    Args:
        seeds: One per graph.
        size: How large they are.
        counts: Where the outcomes are counted, ``"equal"`` or ``"refused: …"``, by family.

    Returns:
        For each graph that fails its seed, what is wrong, and its code.
    """
    failed = []
    for seed in seeds:
        program = random_program(seed, size)
        outcome = verdict(program)
        if outcome == "equal" or outcome.startswith("refused: "):
            counts[f"{program.family}: {outcome}"] += 1
        else:
            counts[f"{program.family}: failed"] += 1
            failed.append(f"seed {seed}: {outcome}\n{program.code()}\n")
    return failed


def main() -> int:
    """Run graphs, print the failing ones and the counts, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="that of the first, then one by one")
    parser.add_argument("--small", action="store_true", help="of the size of the test suite's")
    parser.add_argument("--code", action="store_true", help="print each graph's code as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    size, counts, start = SMALL if args.small else LARGE, Counter[str](), time.monotonic()
    failed = 0
    for seed in range(args.seed, args.seed + args.graphs):
        if args.code:
            print(random_program(seed, size).code(), end="\n\n")
        for text in failures([seed], size, counts):
            failed += 1
            print(text, flush=True)
        done = seed - args.seed + 1
        if done % 1000 == 0:
            seconds = time.monotonic() - start
            print(f"{done} graphs in {seconds:.0f} s, {failed} failed", flush=True)
    for outcome, count in sorted(counts.items()):
        print(f"{count:6} {outcome}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
