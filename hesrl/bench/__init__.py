"""Measurements that a user can repeat: contenders side by side, in one run."""
