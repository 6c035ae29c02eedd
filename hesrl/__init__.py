"""Second-order optimizers for reinforcement learning, built on the HesScale curvature estimate."""

__version__ = "0.1.0"
