"""A training run on disk and on the screen: directory, checkpoint, metrics, progress, results."""
