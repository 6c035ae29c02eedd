"""Grids of training runs, what runs them, and the store of their results."""
