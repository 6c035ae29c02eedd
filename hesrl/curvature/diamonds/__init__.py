"""Diamonds: elementwise operations between a fork of paths and the place where the paths meet."""
