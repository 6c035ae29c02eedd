"""Learning curves, statistics and reports of finished runs."""
