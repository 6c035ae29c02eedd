"""Experiments over many runs: grids, their execution and their tables."""
